package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/comity-im/comity/e2e/harness/mlsclientpb"
	"github.com/comity-im/comity/mls"
)

// NewMemberAddProposal makes a client that proposes itself to a group. It
// joins by JoinGroup.
func (s *server) NewMemberAddProposal(_ context.Context, r *mlsclientpb.NewMemberAddProposalRequest) (*mlsclientpb.NewMemberAddProposalResponse, error) {
	msg, err := decode("group_info", r.GroupInfo, mls.WireGroupInfo)
	if err != nil {
		return nil, err
	}
	group := &msg.GroupInfo.GroupContext
	c, private, err := s.newClient(group.CipherSuite, r.Identity)
	if err != nil {
		return nil, err
	}
	j, err := newJoiner(c, group.CipherSuite)
	if err != nil {
		return nil, err
	}
	p, err := mls.NewMemberProposal(group.GroupID, group.Epoch, c.signer, j.kp, nil)
	if err != nil {
		return nil, err
	}
	b, err := mls.Marshal(p)
	if err != nil {
		return nil, err
	}
	id, err := s.keep(j)
	return &mlsclientpb.NewMemberAddProposalResponse{
		TransactionId: id, Proposal: b, SignaturePriv: private,
		InitPriv: bytes.Clone(j.private.InitKey), EncryptionPriv: bytes.Clone(j.private.EncryptionKey),
	}, err
}

// A signer is a client that sends proposals to groups from outside.
type signer struct {
	*client
	suite mls.CipherSuite
}

// CreateExternalSigner makes an external sender.
func (s *server) CreateExternalSigner(_ context.Context, r *mlsclientpb.CreateExternalSignerRequest) (*mlsclientpb.CreateExternalSignerResponse, error) {
	suite, err := decodeSuite(r.CipherSuite)
	if err != nil {
		return nil, err
	}
	c, _, err := s.newClient(suite, r.Identity)
	if err != nil {
		return nil, err
	}
	b, err := mls.Marshal(mls.ExternalSender{SignatureKey: c.signer.Public(), Credential: c.credential()})
	if err != nil {
		return nil, err
	}
	id, err := s.keep(&signer{c, suite})
	return &mlsclientpb.CreateExternalSignerResponse{SignerId: id, ExternalSender: b}, err
}

// AddExternalSigner proposes to append an external sender to those of the
// group.
func (s *server) AddExternalSigner(_ context.Context, r *mlsclientpb.AddExternalSignerRequest) (*mlsclientpb.ProposalResponse, error) {
	var sender mls.ExternalSender
	if err := mls.Unmarshal(r.ExternalSender, &sender); err != nil {
		return nil, fmt.Errorf("external_sender: %w", err)
	}
	return s.propose(r.StateId, func(st *mls.State) (mls.Proposal, error) {
		senders := append(mls.ExternalSenders(nil), st.ExternalSenders()...)
		data, err := mls.Marshal(append(senders, sender))
		return mls.GroupContextExtensionsProposal(st.Extensions().Set(mls.ExtensionExternalSenders, data)), err
	})
}

// ExternalSignerProposal makes a proposal of an external sender. Its place in
// the group's external_senders follows from its key; signer_index, which a
// runner may leave out, must agree unless it is 0.
func (s *server) ExternalSignerProposal(_ context.Context, r *mlsclientpb.ExternalSignerProposalRequest) (*mlsclientpb.ProposalResponse, error) {
	e, err := handle[*signer](s, r.SignerId, "signer")
	if err != nil {
		return nil, err
	}
	msg, err := decode("group_info", r.GroupInfo, mls.WireGroupInfo)
	if err != nil {
		return nil, err
	}
	tree, err := decodeTree(r.RatchetTree)
	if err != nil {
		return nil, err
	}
	g, err := mls.NewPublicGroup(e.config(), msg.GroupInfo, tree)
	if err != nil {
		return nil, err
	}
	st := g.State()
	if st.CipherSuite() != e.suite {
		return nil, fmt.Errorf("%w: the signer has a key for %v, the group uses %v", mls.ErrCipherSuite, e.suite, st.CipherSuite())
	}
	if i := r.SignerIndex; i != 0 {
		senders := st.ExternalSenders()
		if i >= uint32(len(senders)) || !bytes.Equal(senders[i].SignatureKey, e.client.signer.Public()) {
			return nil, fmt.Errorf("%w: external sender %d has another key", mls.ErrUnknownSender, i)
		}
	}
	p, err := describe(st, r.Description)
	if err != nil {
		return nil, err
	}
	m, err := st.NewExternalProposal(e.client.signer, p, nil)
	if err != nil {
		return nil, err
	}
	b, err := mls.Marshal(m)
	return &mlsclientpb.ProposalResponse{Proposal: b}, err
}
