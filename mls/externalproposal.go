package mls

import (
	"bytes"
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// NewExternalProposal signs a proposal of an external sender: the one at
// position sender in the external_senders extension of the group, whose key
// signer holds (RFC 9420 section 12.1.8). It holds for one epoch of one
// group. What may be proposed is Add, Remove, PreSharedKey, ReInit,
// GroupContextExtensions, AppDataUpdate and AppEphemeral; everything else is
// refused with ErrInvalidProposal. In a group that has the safe_aad
// component, aad must be a SafeAAD.
//
// One who follows the group rather uses [State.NewExternalProposal], which
// finds these parameters and checks them.
func NewExternalProposal(groupID []byte, epoch Epoch, sender uint32, signer Signer, p Proposal, aad []byte) (*MLSMessage, error) {
	return proposeFromOutside(groupID, epoch, Sender{Type: SenderExternal, Index: sender}, signer, p, aad)
}

// NewMemberProposal signs the proposal of a client to add it to a group, which
// is not a member yet: an Add of its own key package, signed with the key of
// that (RFC 9420 section 12.1.8). It holds for one epoch of one group. In a
// group that has the safe_aad component, aad must be a SafeAAD.
func NewMemberProposal(groupID []byte, epoch Epoch, signer Signer, kp *KeyPackage, aad []byte) (*MLSMessage, error) {
	if signer == nil || !bytes.Equal(signer.Public(), kp.LeafNode.SignatureKey) {
		return nil, fmt.Errorf("%w: the signer is not that of the key package", ErrKey)
	}
	return proposeFromOutside(groupID, epoch, Sender{Type: SenderNewMemberProposal}, signer, AddProposal(kp), aad)
}

// NewExternalProposal signs a proposal of the external sender whose key signer
// holds for this epoch. It fails if the group has no such external sender. aad
// nil stands for an empty SafeAAD where one is required. Whether the proposal
// is valid in this epoch is for those to find out who receive it; pass it to
// [PublicGroup.Proposal] first.
func (s *State) NewExternalProposal(signer Signer, p Proposal, aad []byte) (*MLSMessage, error) {
	aad, err := s.fillAAD(aad)
	if err != nil {
		return nil, err
	}
	if signer == nil {
		return nil, fmt.Errorf("%w: no signer for the proposal", ErrKey)
	}
	for i := range s.params.senders {
		if bytes.Equal(s.params.senders[i].SignatureKey, signer.Public()) {
			return NewExternalProposal(s.GroupID(), s.Epoch(), uint32(i), signer, p, aad)
		}
	}
	return nil, fmt.Errorf("%w: the signer is none of the group's %d external senders", ErrUnknownSender, len(s.params.senders))
}

// NewMemberProposal signs the proposal to add the client of kp, which is not a
// member yet, in this epoch. aad nil stands for an empty SafeAAD where one is
// required.
func (s *State) NewMemberProposal(signer Signer, kp *KeyPackage, aad []byte) (*MLSMessage, error) {
	aad, err := s.fillAAD(aad)
	if err != nil {
		return nil, err
	}
	if kp.CipherSuite != s.CipherSuite() {
		return nil, fmt.Errorf("%w: key package for %v in a group of %v", ErrCipherSuite, kp.CipherSuite, s.CipherSuite())
	}
	return NewMemberProposal(s.GroupID(), s.Epoch(), signer, kp, aad)
}

// fillAAD returns the authenticated data to send: nil stands for an empty
// SafeAAD where one is required.
func (s *State) fillAAD(aad []byte) ([]byte, error) {
	safe := s.usesSafeAAD()
	if safe && aad == nil {
		return tlspl.Marshal(SafeAAD{})
	}
	return aad, checkAAD(safe, aad)
}

// proposeFromOutside signs a proposal of one who is not a member. The
// signature does not cover the GroupContext, which the sender need not know
// (RFC 9420 section 6.1), but the group's ID and the epoch.
func proposeFromOutside(groupID []byte, epoch Epoch, sender Sender, signer Signer, p Proposal, aad []byte) (*MLSMessage, error) {
	if signer == nil {
		return nil, fmt.Errorf("%w: no signer for the proposal", ErrKey)
	}
	if err := checkProposalSender(&QueuedProposal{Proposal: p, Sender: sender}); err != nil {
		return nil, err
	}
	a := &AuthenticatedContent{
		WireFormat: WirePublicMessage,
		Content: FramedContent{
			GroupID: groupID, Epoch: epoch, Sender: sender, AuthenticatedData: aad,
			ContentType: ContentProposal, Proposal: &p,
		},
	}
	if err := a.sign(signer, nil); err != nil {
		return nil, err
	}
	m, err := a.public(nil, nil, nil)
	if err != nil {
		return nil, err
	}
	return &MLSMessage{WireFormat: WirePublicMessage, PublicMessage: m}, nil
}
