package mls

import (
	"bytes"
	"fmt"
	"iter"

	"github.com/comity-im/comity/internal/tlspl"
)

// A State is the public state of one epoch of a group: the ratchet tree, the
// GroupContext and the transcript hash (RFC 9420 sections 7 and 8). It is
// immutable and safe for concurrent use. States of one group share what did
// not change between them, so that keeping old ones is cheap.
//
// What its methods return belongs to the State and must not be changed.
type State struct {
	suite   *suite
	tree    *tree // frozen
	context GroupContext
	encoded []byte // encoding of context
	params  groupParams

	confirmationTag []byte
	interim         []byte // interim transcript hash

	inline bool    // it was loaded from a record that holds all extensions, whatever their size
	reInit *ReInit // of the commit that began this epoch: the group is closed
}

// groupParams is what the extensions of a GroupContext say.
type groupParams struct {
	extensions Extensions
	requires   Requirements
	senders    ExternalSenders
	receivers  ExternalReceivers
	dictionary AppDataDictionary

	semiPrivate bool // SemiPrivateMessage is a required wire format
}

// parseParams decodes the extensions that this package knows.
func parseParams(x Extensions) (groupParams, error) {
	p := groupParams{extensions: x}
	err := x.validIn(inGroupContext)
	if err == nil {
		p.senders, err = x.ExternalSenders()
	}
	if err == nil {
		p.dictionary, err = x.Dictionary()
	}
	if err == nil {
		err = p.parseReceivers(x)
	}
	if err == nil {
		p.requires, err = x.requirements(p.dictionary)
	}
	return p, err
}

// newState makes a state of a frozen tree, an encoded GroupContext that it
// keeps and whose tree hash is the tree's, and the epoch's confirmation tag.
func newState(s *suite, t *tree, context, tag []byte) (*State, error) {
	st := &State{suite: s, tree: t, encoded: context}
	err := tlspl.Unmarshal(context, &st.context)
	if err == nil {
		st.params, err = parseParams(st.context.Extensions)
	}
	if err != nil {
		return nil, err
	}
	return st.withTag(tag), nil
}

// withTag returns s with another confirmation tag and the interim transcript
// hash that follows from it (section 8.2).
func (s *State) withTag(tag []byte) *State {
	c := *s
	c.confirmationTag = bytes.Clone(tag)
	interim, err := s.suite.interimTranscriptHash(s.context.ConfirmedTranscriptHash, tag)
	if err != nil {
		panic("mls: confirmation tag without encoding: " + err.Error()) // its length was checked
	}
	c.interim = interim
	return &c
}

// initialState returns the state of a new group of one member, in epoch 0
// (section 11). Its confirmation tag is to be set by withTag.
func initialState(cfg *Config, s *suite, groupID []byte, x Extensions, leaf *LeafNode) (*State, error) {
	t := blankTree(s, 0)
	if err := t.setLeaf(0, leaf); err != nil {
		return nil, err
	}
	t.freeze()
	context, err := tlspl.Marshal(&GroupContext{
		Version: MLS10, CipherSuite: s.id, GroupID: groupID, TreeHash: t.treeHash(), Extensions: x,
	})
	if err != nil {
		return nil, err
	}
	st, err := newState(s, t, context, nil)
	if err != nil {
		return nil, err
	}
	if err := checkParams(&st.params, cfg.verifyCredential); err != nil {
		return nil, err
	}
	if err := cfg.checkReceivers(s, &st.params, false); err != nil {
		return nil, err
	}
	return st, t.checkSupport(&st.params)
}

// joinState verifies a GroupInfo and the tree that belongs to it, as one who
// is about to join or to follow the group must (section 12.4.3.1), and
// returns the state they describe. tree may be nil if the GroupInfo carries
// it.
func joinState(cfg *Config, gi *GroupInfo, nodes RatchetTree) (*State, error) {
	c := gi.GroupContext
	if c.Version != MLS10 {
		return nil, fmt.Errorf("%w: protocol version %v", ErrInvalidWelcome, c.Version)
	}
	s, err := cfg.suite(c.CipherSuite)
	if err != nil {
		return nil, err
	}
	if err := gi.Extensions.validIn(inGroupInfo); err != nil {
		return nil, err
	}
	if _, err := gi.Dictionary(); err != nil {
		return nil, fmt.Errorf("%w: GroupInfo: %w", ErrInvalidWelcome, err)
	}
	if nodes == nil {
		data, ok := gi.Extensions.Find(ExtensionRatchetTree)
		if !ok {
			return nil, fmt.Errorf("%w: GroupInfo without ratchet_tree: fetch the tree and pass it", ErrInvalidWelcome)
		}
		if err := tlspl.Unmarshal(data, &nodes); err != nil {
			return nil, fmt.Errorf("%w: ratchet_tree extension: %w", ErrInvalidWelcome, err)
		}
	}
	if len(nodes) > 4*cfg.Limits.MaxMembers {
		return nil, fmt.Errorf("%w: ratchet tree of %d nodes; the limit is %d members", ErrLimit, len(nodes), cfg.Limits.MaxMembers)
	}
	t, err := nodes.buildTree(s)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidTree, err)
	}
	t.freeze()
	if !bytes.Equal(t.treeHash(), c.TreeHash) {
		return nil, fmt.Errorf("%w: its hash is not that of the GroupContext", ErrInvalidTree)
	}
	signer := t.leaf(gi.Signer)
	if signer == nil {
		return nil, fmt.Errorf("%w: GroupInfo signed by the blank leaf %d", ErrUnknownSender, gi.Signer)
	}
	if err := gi.VerifySignature(signer.SignatureKey); err != nil {
		return nil, err
	}
	if len(gi.ConfirmationTag) != s.nh() {
		return nil, fmt.Errorf("%w: confirmation tag of %d octets", ErrInvalidWelcome, len(gi.ConfirmationTag))
	}
	// The confirmed transcript hash is empty in epoch 0 only.
	if n := len(c.ConfirmedTranscriptHash); n != s.nh() && (n != 0 || c.Epoch != 0) {
		return nil, fmt.Errorf("%w: confirmed transcript hash of %d octets", ErrInvalidWelcome, n)
	}
	context, err := tlspl.Marshal(&c)
	if err != nil {
		return nil, err
	}
	st, err := newState(s, t, context, gi.ConfirmationTag)
	if err != nil {
		return nil, err
	}
	if err := checkParams(&st.params, cfg.verifyAdmitted); err != nil {
		return nil, err
	}
	if err := cfg.checkReceivers(s, &st.params, false); err != nil {
		return nil, err
	}
	if err := cfg.verifyTree(t, c.GroupID, &st.params); err != nil {
		return nil, err
	}
	return st, nil
}

// mustMarshal encodes a value that was decoded, or encoded before.
func mustMarshal(v tlspl.Marshaler) []byte {
	b, err := tlspl.Marshal(v)
	if err != nil {
		panic("mls: value without encoding: " + err.Error())
	}
	return b
}

// GroupID returns the group's identifier.
func (s *State) GroupID() []byte { return s.context.GroupID }

// Epoch returns the number of the epoch.
func (s *State) Epoch() uint64 { return s.context.Epoch }

// CipherSuite returns the suite of the group.
func (s *State) CipherSuite() CipherSuite { return s.context.CipherSuite }

// GroupContext returns the GroupContext of the epoch.
func (s *State) GroupContext() *GroupContext { return &s.context }

// contextBytes returns the encoding of the GroupContext.
func (s *State) contextBytes() []byte { return s.encoded }

// Extensions returns the extensions of the GroupContext.
func (s *State) Extensions() Extensions { return s.context.Extensions }

// Dictionary returns the application data of the group.
func (s *State) Dictionary() AppDataDictionary { return s.params.dictionary }

// RequiredCapabilities returns what every member must list in its
// capabilities; Requirements holds more.
func (s *State) RequiredCapabilities() *RequiredCapabilities { return &s.params.requires.Capabilities }

// ExternalSenders returns who may send proposals from outside.
func (s *State) ExternalSenders() ExternalSenders { return s.params.senders }

// Member returns the leaf of a member; ok is false for a blank leaf.
func (s *State) Member(l LeafIndex) (leaf *LeafNode, ok bool) {
	leaf = s.tree.leaf(l)
	return leaf, leaf != nil
}

// Members yields the members from left to right.
func (s *State) Members() iter.Seq2[LeafIndex, *LeafNode] { return s.tree.members() }

// NumMembers returns how many members there are.
func (s *State) NumMembers() int { return s.tree.size() }

// FindSignatureKey returns the member that has the signature key.
func (s *State) FindSignatureKey(key []byte) (LeafIndex, bool) {
	return s.tree.findSignatureKey(key)
}

// RatchetTree returns the public content of the tree.
func (s *State) RatchetTree() RatchetTree { return s.tree.ratchetTree() }

// ConfirmationTag returns the tag of the commit that began the epoch.
func (s *State) ConfirmationTag() []byte { return s.confirmationTag }

// ReInit returns the ReInit proposal that closed the group, or nil. A closed
// group takes no more messages (section 11.2).
func (s *State) ReInit() *ReInit { return s.reInit }

// SupportsProposal reports whether every member supports a proposal type.
func (s *State) SupportsProposal(t ProposalType) bool { return s.tree.supported().proposal(t) }

// SupportsExtension reports whether every member supports an extension type.
func (s *State) SupportsExtension(t ExtensionType) bool { return s.tree.supported().extension(t) }

// SupportsCredential reports whether every member supports a credential type.
func (s *State) SupportsCredential(t CredentialType) bool { return s.tree.supported().credential(t) }
