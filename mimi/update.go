package mimi

import (
	"fmt"
	"unicode/utf8"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mls"
)

// An UpdateRequest asks the hub to accept proposals or a commit.
//
//	struct {                                            section 5.3
//	  select (room.protocol) { case mls10: HandshakeBundle bundle; };
//	} UpdateRequest;
//
//	struct {
//	  MLSMessage proposalOrCommit;
//	  select (content_type of proposalOrCommit) {
//	    case commit:
//	      optional<Welcome> welcome;
//	      GroupInfoOption groupInfoOption;
//	      RatchetTreeOption ratchetTreeOption;
//	    case proposal:
//	      MLSMessage moreProposals<V>;
//	  };
//	} HandshakeBundle;
type UpdateRequest struct {
	Message mls.MLSMessage // a PublicMessage with a proposal or a commit

	// With a commit:
	Welcome     *mls.Welcome // nil: nobody is added
	GroupInfo   GroupInfoOption
	RatchetTree RatchetTreeOption

	// With a proposal: further proposals, accepted together or not at all.
	MoreProposals []mls.MLSMessage
}

// ContentType returns whether the request carries a commit or a proposal.
func (m *UpdateRequest) ContentType() (mls.ContentType, error) {
	t, err := kindOf(&m.Message)
	if err == nil && t == mls.ContentApplication {
		err = fmt.Errorf("%w: an application message in an update request", ErrMalformed)
	}
	return t, err
}

// IsCommit reports whether the request carries a commit.
func (m *UpdateRequest) IsCommit() bool {
	t, err := m.ContentType()
	return err == nil && t == mls.ContentCommit
}

// MarshalTLS writes m.
func (m *UpdateRequest) MarshalTLS(w *tlspl.Writer) {
	t, err := m.ContentType()
	if err != nil {
		w.Fail(err)
		return
	}
	w.Value(&m.Message)
	if t == mls.ContentProposal {
		writeMessages(w, m.MoreProposals)
		return
	}
	w.Optional(m.Welcome != nil, func(w *tlspl.Writer) { w.Value(m.Welcome) })
	w.Value(&m.GroupInfo)
	w.Value(&m.RatchetTree)
}

// UnmarshalTLS reads m.
func (m *UpdateRequest) UnmarshalTLS(r *tlspl.Reader) {
	*m = UpdateRequest{}
	r.Value(&m.Message)
	if r.Err() != nil {
		return
	}
	t, err := m.ContentType()
	if err != nil {
		r.Fail(err)
		return
	}
	if t == mls.ContentProposal {
		m.MoreProposals = readProposals(r)
		return
	}
	if r.Optional() {
		m.Welcome = new(mls.Welcome)
		r.Value(m.Welcome)
	}
	r.Value(&m.GroupInfo)
	r.Value(&m.RatchetTree)
}

// GroupInfoRepresentation says which form a GroupInfoOption has.
type GroupInfoRepresentation uint8

// The representations of section 5.3.
const (
	GroupInfoFull    GroupInfoRepresentation = 1
	GroupInfoPartial GroupInfoRepresentation = 2
)

// A GroupInfoOption gives the hub the GroupInfo of the new epoch.
//
//	enum { reserved(0), full(1), partial(2), (255) } GroupInfoRepresentation;
//	struct {                                            section 5.3
//	  GroupInfoRepresentation representation;
//	  select (representation) {
//	    case full:    GroupInfo groupInfo;
//	    case partial: PartialGroupInfo partialGroupInfo;
//	  };
//	} GroupInfoOption;
//
// Exactly one field is set.
type GroupInfoOption struct {
	Full    *mls.GroupInfo
	Partial *PartialGroupInfo
}

// MarshalTLS writes m.
func (m *GroupInfoOption) MarshalTLS(w *tlspl.Writer) {
	switch {
	case m.Full != nil && m.Partial == nil:
		w.Uint8(uint8(GroupInfoFull))
		w.Value(m.Full)
	case m.Partial != nil && m.Full == nil:
		w.Uint8(uint8(GroupInfoPartial))
		w.Value(m.Partial)
	default:
		w.Fail(fmt.Errorf("%w: a GroupInfoOption needs exactly one form", ErrMalformed))
	}
}

// UnmarshalTLS reads m.
func (m *GroupInfoOption) UnmarshalTLS(r *tlspl.Reader) {
	*m = GroupInfoOption{}
	switch rep := GroupInfoRepresentation(r.Uint8()); rep {
	case GroupInfoFull:
		m.Full = new(mls.GroupInfo)
		r.Value(m.Full)
	case GroupInfoPartial:
		m.Partial = new(PartialGroupInfo)
		r.Value(m.Partial)
	default:
		malformed(r, "GroupInfo representation %d", rep)
	}
}

// RatchetTreePresence says what became of the ratchet_tree extension of a
// GroupInfo.
type RatchetTreePresence uint8

// The values of draft-mahy-mls-ratchet-tree-options-03.
const (
	TreeAbsent  RatchetTreePresence = 0 // no_ratchet_tree
	TreePresent RatchetTreePresence = 1 // present
	TreeRemoved RatchetTreePresence = 2 // removed
	TreeAdded   RatchetTreePresence = 3 // added
)

// A PartialGroupInfo is what of a GroupInfo the receiver of the commit cannot
// compute itself.
//
//	enum { no_ratchet_tree(0), present(1), removed(2), added(3), (255) } RatchetTreePresence;
//	struct {                     draft-mahy-mls-ratchet-tree-options-03
//	  RatchetTreePresence ratchet_tree_presence;
//	  Extension group_info_extensions<V>;
//	  opaque signature<V>;
//	} PartialGroupInfo;
type PartialGroupInfo struct {
	TreePresence RatchetTreePresence
	Extensions   mls.Extensions
	Signature    []byte
}

// MarshalTLS writes m.
func (m *PartialGroupInfo) MarshalTLS(w *tlspl.Writer) {
	w.Uint8(uint8(m.TreePresence))
	w.Value(&m.Extensions)
	w.Opaque(m.Signature)
}

// UnmarshalTLS reads m.
func (m *PartialGroupInfo) UnmarshalTLS(r *tlspl.Reader) {
	*m = PartialGroupInfo{TreePresence: RatchetTreePresence(r.Uint8())}
	if m.TreePresence > TreeAdded {
		malformed(r, "ratchet_tree_presence %d", m.TreePresence)
	}
	r.Value(&m.Extensions)
	m.Signature = r.Opaque(0)
}

// RatchetTreeRepresentation says how a ratchet tree is obtained.
type RatchetTreeRepresentation uint8

// The representations of draft-mahy-mls-ratchet-tree-options-03. Those that
// let a sender choose a URL are refused by this package.
const (
	TreeFull                RatchetTreeRepresentation = 1
	TreeHTTPSURI            RatchetTreeRepresentation = 2
	TreeOutOfBand           RatchetTreeRepresentation = 3
	TreeDistributionService RatchetTreeRepresentation = 4
)

// A RatchetTreeOption gives a ratchet tree or says that the hub has it.
//
//	struct {                     draft-mahy-mls-ratchet-tree-options-03
//	  RatchetTreeRepresentation representation;
//	  select (representation) {
//	    case full: optional<Node> ratchet_tree<V>;
//	    case distributionService: struct {};
//	  };
//	} RatchetTreeOption;
//
// The draft writes Node without optional; a tree with blanks has no such
// encoding, so the form is that of the ratchet_tree extension (RFC 9420
// section 12.4.3.3).
type RatchetTreeOption struct {
	Representation RatchetTreeRepresentation
	// Tree is, with TreeFull, the data of a ratchet_tree extension, its
	// vector length included. It is not parsed here.
	Tree []byte
}

// FullTree returns the option that carries a ratchet tree.
func FullTree(tree mls.RatchetTree) (RatchetTreeOption, error) {
	b, err := tlspl.Marshal(tree)
	if err != nil {
		return RatchetTreeOption{}, fmt.Errorf("mimi: ratchet tree: %w", err)
	}
	return RatchetTreeOption{Representation: TreeFull, Tree: b}, nil
}

// Nodes returns the ratchet tree of an option that carries it. It shares no
// memory with m.
func (m *RatchetTreeOption) Nodes() (mls.RatchetTree, error) {
	if m.Representation != TreeFull {
		return nil, fmt.Errorf("%w: the option does not carry the ratchet tree", ErrMalformed)
	}
	var tree mls.RatchetTree
	if err := mls.Unmarshal(m.Tree, &tree); err != nil {
		return nil, fmt.Errorf("mimi: ratchet tree: %w", err)
	}
	return tree, nil
}

// HubTree returns the option that refers to the tree the hub keeps.
func HubTree() RatchetTreeOption {
	return RatchetTreeOption{Representation: TreeDistributionService}
}

// MarshalTLS writes m.
func (m *RatchetTreeOption) MarshalTLS(w *tlspl.Writer) {
	w.Uint8(uint8(m.Representation))
	switch m.Representation {
	case TreeFull:
		// Tree is a vector with its length; nothing may follow it.
		r := tlspl.NewReader(m.Tree)
		r.Opaque(0)
		if err := r.Finish(); err != nil {
			w.Fail(fmt.Errorf("%w: ratchet tree: %w", ErrMalformed, err))
			return
		}
		w.Raw(m.Tree)
	case TreeDistributionService:
	default:
		w.Fail(fmt.Errorf("%w: ratchet tree representation %d", ErrMalformed, m.Representation))
	}
}

// UnmarshalTLS reads m.
func (m *RatchetTreeOption) UnmarshalTLS(r *tlspl.Reader) {
	*m = RatchetTreeOption{Representation: RatchetTreeRepresentation(r.Uint8())}
	switch m.Representation {
	case TreeFull:
		start := r.Offset()
		r.Opaque(0)
		m.Tree = r.Since(start)
	case TreeDistributionService:
	default:
		malformed(r, "ratchet tree representation %d is not supported; use full or distributionService", m.Representation)
	}
}

// UpdateResponseCode is the hub's verdict on an update.
type UpdateResponseCode uint8

// The codes of section 5.3.
const (
	UpdateSuccess         UpdateResponseCode = 0
	UpdateWrongEpoch      UpdateResponseCode = 1
	UpdateNotAllowed      UpdateResponseCode = 2
	UpdateInvalidProposal UpdateResponseCode = 3
)

// String returns the draft's name of the code.
func (c UpdateResponseCode) String() string {
	names := [...]string{"success", "wrongEpoch", "notAllowed", "invalidProposal"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("0x%02X", uint8(c))
}

// An UpdateRoomResponse answers an UpdateRequest.
//
//	struct {                                            section 5.3
//	  UpdateResponseCode responseCode;
//	  string errorDescription;                  /* opaque<V>, UTF-8 */
//	  select (responseCode) {
//	    case success:         uint64 accepted_timestamp;
//	    case wrongEpoch:      uint64 currentEpoch;
//	    case invalidProposal: ProposalRef invalidProposals<V>;
//	  };
//	} UpdateRoomResponse;
type UpdateRoomResponse struct {
	Code              UpdateResponseCode
	ErrorDescription  string
	AcceptedTimestamp uint64 // milliseconds since the Unix epoch, with success
	CurrentEpoch      uint64 // with wrongEpoch
	InvalidProposals  []mls.ProposalRef
}

// MarshalTLS writes m. A description that is too long or not UTF-8 is cut
// and repaired.
func (m *UpdateRoomResponse) MarshalTLS(w *tlspl.Writer) {
	w.Uint8(uint8(m.Code))
	w.Opaque([]byte(cutUTF8(m.ErrorDescription, MaxErrorDescription)))
	switch m.Code {
	case UpdateSuccess:
		w.Uint64(m.AcceptedTimestamp)
	case UpdateWrongEpoch:
		w.Uint64(m.CurrentEpoch)
	case UpdateInvalidProposal:
		tlspl.WriteVector(w, m.InvalidProposals, func(w *tlspl.Writer, ref *mls.ProposalRef) { w.Opaque(*ref) })
	}
}

// UnmarshalTLS reads m.
func (m *UpdateRoomResponse) UnmarshalTLS(r *tlspl.Reader) {
	*m = UpdateRoomResponse{Code: UpdateResponseCode(r.Uint8())}
	description := r.Opaque(MaxErrorDescription)
	if !utf8.Valid(description) {
		malformed(r, "the error description is not UTF-8")
	}
	m.ErrorDescription = string(description)
	switch m.Code {
	case UpdateSuccess:
		m.AcceptedTimestamp = r.Uint64()
	case UpdateWrongEpoch:
		m.CurrentEpoch = r.Uint64()
	case UpdateInvalidProposal:
		m.InvalidProposals = tlspl.ReadVector(r, MaxMoreProposals+1, func(r *tlspl.Reader, ref *mls.ProposalRef) {
			*ref = r.OpaqueCopy(0)
		})
	}
}

// cutUTF8 returns valid UTF-8 of at most n octets that starts like s.
func cutUTF8(s string, n int) string {
	if !utf8.ValidString(s) {
		s = string([]rune(s))
	}
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
