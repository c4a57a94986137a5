package mls

import (
	"errors"
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// PublicMessage is signed but not encrypted content (RFC 9420 section 6.2):
//
//	struct {
//	    FramedContent content;
//	    FramedContentAuthData auth;
//	    select (PublicMessage.content.sender.sender_type) {
//	        case member: MAC membership_tag;
//	        case external, new_member_commit, new_member_proposal: struct{};
//	    };
//	} PublicMessage;
type PublicMessage struct {
	Content       FramedContent
	Auth          FramedContentAuthData
	MembershipTag []byte // member
}

// MarshalTLS implements tlspl.Marshaler.
func (m *PublicMessage) MarshalTLS(w *tlspl.Writer) {
	m.Content.MarshalTLS(w)
	m.Auth.marshal(w, m.Content.ContentType)
	if m.Content.Sender.Type == SenderMember {
		w.Opaque(m.MembershipTag)
	}
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (m *PublicMessage) UnmarshalTLS(r *tlspl.Reader) {
	*m = PublicMessage{}
	m.Content.UnmarshalTLS(r)
	m.Auth.unmarshal(r, m.Content.ContentType)
	if m.Content.Sender.Type == SenderMember {
		m.MembershipTag = r.Opaque(maxHashSize)
	}
}

// authenticated returns the content with its proof.
func (m *PublicMessage) authenticated() *AuthenticatedContent {
	return &AuthenticatedContent{WireFormat: WirePublicMessage, Content: m.Content, Auth: m.Auth}
}

// checkSender refuses combinations of sender and content that RFC 9420
// section 6.1 does not allow in a PublicMessage. Application data is never
// public (section 6).
func (m *PublicMessage) checkSender() error {
	c := &m.Content
	switch c.ContentType {
	case ContentProposal:
		switch c.Sender.Type {
		case SenderMember:
			return nil
		case SenderExternal:
			switch c.Proposal.Type {
			case ProposalAdd, ProposalRemove, ProposalPreSharedKey, ProposalReInit,
				ProposalGroupContextExtensions, ProposalAppDataUpdate, ProposalAppEphemeral:
				return nil
			}
			return fmt.Errorf("%w: external sender may not propose %v", ErrInvalidProposal, c.Proposal.Type)
		case SenderNewMemberProposal:
			if c.Proposal.Type == ProposalAdd {
				return nil
			}
			return fmt.Errorf("%w: new member may not propose %v", ErrInvalidProposal, c.Proposal.Type)
		}
	case ContentCommit:
		if c.Sender.Type == SenderMember || c.Sender.Type == SenderNewMemberCommit {
			return nil
		}
	}
	return fmt.Errorf("%w: content type %d from sender type %d in a PublicMessage", ErrInvalidMessage, c.ContentType, c.Sender.Type)
}

// isSelfRemove reports whether m proposes a SelfRemove.
func (m *PublicMessage) isSelfRemove() bool {
	return m != nil && m.Content.Proposal != nil && m.Content.Proposal.Type == ProposalSelfRemove
}

// membershipTag computes the MAC by which a member proves membership
// (RFC 9420 section 6.2):
//
//	struct {
//	    FramedContentTBS content_tbs;
//	    FramedContentAuthData auth;
//	} AuthenticatedContentTBM;
func (a *AuthenticatedContent) membershipTag(s *suite, membershipKey, context []byte) ([]byte, error) {
	parts, err := a.tbsParts(context)
	if err != nil {
		return nil, err
	}
	var w tlspl.Writer
	a.Auth.marshal(&w, a.Content.ContentType)
	auth, err := w.Bytes()
	if err != nil {
		return nil, err
	}
	return s.mac(membershipKey, append(parts, auth)...), nil
}

// public protects signed content as a PublicMessage.
func (a *AuthenticatedContent) public(s *suite, membershipKey, context []byte) (*PublicMessage, error) {
	if a.WireFormat != WirePublicMessage {
		return nil, fmt.Errorf("%w: content was signed for wire format %v", ErrInvalidMessage, a.WireFormat)
	}
	m := &PublicMessage{Content: a.Content, Auth: a.Auth}
	if a.Content.ContentType == ContentApplication {
		return nil, fmt.Errorf("%w: application data is never sent as a PublicMessage", ErrInvalidMessage)
	}
	if err := m.checkSender(); err != nil {
		return nil, err
	}
	if a.Content.Sender.Type == SenderMember {
		var err error
		if m.MembershipTag, err = a.membershipTag(s, membershipKey, context); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// verifyMembership checks the membership tag of a member's message.
func (m *PublicMessage) verifyMembership(s *suite, membershipKey, context []byte) error {
	if m.Content.Sender.Type != SenderMember {
		return nil
	}
	tag, err := m.authenticated().membershipTag(s, membershipKey, context)
	if err != nil {
		return err
	}
	if !macEqual(tag, m.MembershipTag) {
		return fmt.Errorf("%w: %w", ErrInvalidMessage, errMembershipTag)
	}
	return nil
}

var errMembershipTag = errors.New("membership tag does not verify")
