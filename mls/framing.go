package mls

import (
	"bytes"
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// Sender says who sent a message (RFC 9420 section 6):
//
//	struct {
//	    SenderType sender_type;
//	    select (Sender.sender_type) {
//	        case member:              uint32 leaf_index;
//	        case external:            uint32 sender_index;
//	        case new_member_commit:   struct{};
//	        case new_member_proposal: struct{};
//	    };
//	} Sender;
type Sender struct {
	Type  SenderType
	Leaf  LeafIndex // member
	Index uint32    // external: position in external_senders
}

// MemberSender returns the Sender of a member.
func MemberSender(leaf LeafIndex) Sender { return Sender{Type: SenderMember, Leaf: leaf} }

// MarshalTLS implements tlspl.Marshaler.
func (s Sender) MarshalTLS(w *tlspl.Writer) {
	w.Uint8(uint8(s.Type))
	switch s.Type {
	case SenderMember:
		w.Uint32(uint32(s.Leaf))
	case SenderExternal:
		w.Uint32(s.Index)
	case SenderNewMemberProposal, SenderNewMemberCommit:
	default:
		w.Fail(fmt.Errorf("mls: sender type %d has no encoding", s.Type))
	}
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (s *Sender) UnmarshalTLS(r *tlspl.Reader) {
	*s = Sender{Type: SenderType(r.Uint8())}
	switch s.Type {
	case SenderMember:
		s.Leaf = LeafIndex(r.Uint32())
	case SenderExternal:
		s.Index = r.Uint32()
	case SenderNewMemberProposal, SenderNewMemberCommit:
	default:
		r.Failf("sender type %d", s.Type)
	}
}

// FramedContent is what a sender says (RFC 9420 section 6). Exactly one of
// Application, Proposal and Commit is used, as ContentType says.
//
//	struct {
//	    opaque group_id<V>;
//	    uint64 epoch;
//	    Sender sender;
//	    opaque authenticated_data<V>;
//	    ContentType content_type;
//	    select (FramedContent.content_type) {
//	        case application: opaque application_data<V>;
//	        case proposal:    Proposal proposal;
//	        case commit:      Commit commit;
//	    };
//	} FramedContent;
type FramedContent struct {
	GroupID           []byte
	Epoch             Epoch
	Sender            Sender
	AuthenticatedData []byte
	ContentType       ContentType
	Application       []byte
	Proposal          *Proposal
	Commit            *Commit

	raw []byte // the encoding as received or signed
}

// MarshalTLS implements tlspl.Marshaler. Content that was decoded or signed
// is written as it was.
func (c *FramedContent) MarshalTLS(w *tlspl.Writer) {
	if c.raw != nil {
		w.Raw(c.raw)
		return
	}
	w.Opaque(c.GroupID)
	w.Uint64(c.Epoch)
	c.Sender.MarshalTLS(w)
	w.Opaque(c.AuthenticatedData)
	w.Uint8(uint8(c.ContentType))
	c.marshalBody(w)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (c *FramedContent) UnmarshalTLS(r *tlspl.Reader) {
	*c = FramedContent{}
	start := r.Offset()
	c.GroupID = r.Opaque(0)
	c.Epoch = r.Uint64()
	c.Sender.UnmarshalTLS(r)
	c.AuthenticatedData = r.Opaque(0)
	c.ContentType = ContentType(r.Uint8())
	c.unmarshalBody(r)
	c.raw = r.Since(start)
}

func (c *FramedContent) marshalBody(w *tlspl.Writer) {
	switch {
	case c.ContentType == ContentApplication:
		w.Opaque(c.Application)
	case c.ContentType == ContentProposal && c.Proposal != nil:
		c.Proposal.MarshalTLS(w)
	case c.ContentType == ContentCommit && c.Commit != nil:
		c.Commit.MarshalTLS(w)
	default:
		w.Fail(fmt.Errorf("%w: content of type %d is missing or unknown", ErrInvalidMessage, c.ContentType))
	}
}

func (c *FramedContent) unmarshalBody(r *tlspl.Reader) {
	switch c.ContentType {
	case ContentApplication:
		c.Application = r.Opaque(0)
	case ContentProposal:
		c.Proposal = new(Proposal)
		c.Proposal.UnmarshalTLS(r)
	case ContentCommit:
		c.Commit = new(Commit)
		c.Commit.UnmarshalTLS(r)
	default:
		r.Failf("content type %d", c.ContentType)
	}
}

// FramedContentAuthData authenticates content (RFC 9420 section 6.1):
//
//	struct {
//	    opaque signature<V>; /* SignWithLabel(., "FramedContentTBS", FramedContentTBS) */
//	    select (FramedContent.content_type) {
//	        case commit: MAC confirmation_tag;
//	        case application, proposal: struct{};
//	    };
//	} FramedContentAuthData;
type FramedContentAuthData struct {
	Signature       []byte
	ConfirmationTag []byte // commit
}

func (a *FramedContentAuthData) marshal(w *tlspl.Writer, t ContentType) {
	w.Opaque(a.Signature)
	if t == ContentCommit {
		w.Opaque(a.ConfirmationTag)
	}
}

func (a *FramedContentAuthData) unmarshal(r *tlspl.Reader, t ContentType) {
	*a = FramedContentAuthData{Signature: r.Opaque(0)}
	if t == ContentCommit {
		a.ConfirmationTag = r.Opaque(maxHashSize)
	}
}

// AuthenticatedContent is content with its proof, independent of how it was
// protected on its way (RFC 9420 section 6):
//
//	struct {
//	    WireFormat wire_format;
//	    FramedContent content;
//	    FramedContentAuthData auth;
//	} AuthenticatedContent;
type AuthenticatedContent struct {
	WireFormat WireFormat
	Content    FramedContent
	Auth       FramedContentAuthData
}

// MarshalTLS implements tlspl.Marshaler.
func (a *AuthenticatedContent) MarshalTLS(w *tlspl.Writer) {
	w.Uint16(uint16(a.WireFormat))
	a.Content.MarshalTLS(w)
	a.Auth.marshal(w, a.Content.ContentType)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (a *AuthenticatedContent) UnmarshalTLS(r *tlspl.Reader) {
	a.WireFormat = WireFormat(r.Uint16())
	a.Content.UnmarshalTLS(r)
	a.Auth.unmarshal(r, a.Content.ContentType)
}

const framedContentLabel = "FramedContentTBS"

// tbs returns FramedContentTBS; context is the encoded GroupContext, which
// is covered for member and new_member_commit senders (RFC 9420
// section 6.1):
//
//	struct {
//	    ProtocolVersion version = mls10;
//	    WireFormat wire_format;
//	    FramedContent content;
//	    select (FramedContentTBS.content.sender.sender_type) {
//	        case member, new_member_commit: GroupContext context;
//	        case external, new_member_proposal: struct{};
//	    };
//	} FramedContentTBS;
func (a *AuthenticatedContent) tbs(context []byte) ([]byte, error) {
	parts, err := a.tbsParts(context)
	return bytes.Join(parts, nil), err
}

// tbsParts returns FramedContentTBS in parts. A commit to a large group is
// long: it is hashed where it lies.
func (a *AuthenticatedContent) tbsParts(context []byte) ([][]byte, error) {
	content := a.Content.raw
	if content == nil {
		var err error
		if content, err = tlspl.Marshal(&a.Content); err != nil {
			return nil, err
		}
	}
	w := tlspl.NewWriter(make([]byte, 0, 4))
	w.Uint16(uint16(MLS10))
	w.Uint16(uint16(a.WireFormat))
	head, err := w.Bytes()
	parts := [][]byte{head, content}
	switch a.Content.Sender.Type {
	case SenderMember, SenderNewMemberCommit:
		parts = append(parts, context)
	}
	return parts, err
}

// sign fixes the content's encoding and sets the signature.
func (a *AuthenticatedContent) sign(signer Signer, context []byte) error {
	a.Content.raw = nil
	raw, err := tlspl.Marshal(&a.Content)
	if err != nil {
		return err
	}
	a.Content.raw = raw
	parts, err := a.tbsParts(context)
	if err != nil {
		return err
	}
	a.Auth.Signature, err = SignWithLabel(signer, framedContentLabel, parts...)
	return err
}

// verify checks the signature with the sender's key.
func (a *AuthenticatedContent) verify(s CipherSuite, signatureKey, context []byte) error {
	parts, err := a.tbsParts(context)
	if err != nil {
		return err
	}
	return verifyWithLabel(s, signatureKey, framedContentLabel, a.Auth.Signature, parts...)
}

// proposalRef returns the reference by which a commit names this proposal
// (RFC 9420 section 5.2).
func (a *AuthenticatedContent) proposalRef(s *suite) (ProposalRef, error) {
	b, err := tlspl.Marshal(a)
	if err != nil {
		return nil, err
	}
	return s.refHash(proposalRefLabel, b)
}
