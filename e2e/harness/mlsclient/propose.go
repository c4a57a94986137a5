package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/comity-im/comity/e2e/harness/mlsclientpb"
	"github.com/comity-im/comity/mls"
)

// externalPSK proposes to mix in an external pre-shared key.
func externalPSK(suite mls.CipherSuite, id []byte) (mls.Proposal, error) {
	nonce, err := mls.NewPSKNonce(suite)
	return mls.PreSharedKeyProposal(mls.PreSharedKeyID{Type: mls.PSKExternal, ID: bytes.Clone(id), Nonce: nonce}), err
}

// resumptionPSK proposes to mix in the resumption key of one of the group's
// own epochs.
func resumptionPSK(s *mls.State, e mls.Epoch) (mls.Proposal, error) {
	nonce, err := mls.NewPSKNonce(s.CipherSuite())
	return mls.PreSharedKeyProposal(mls.PreSharedKeyID{
		Type: mls.PSKResumption, Usage: mls.ResumptionApplication, GroupID: s.GroupID(), Epoch: e, Nonce: nonce,
	}), err
}

func add(keyPackage []byte) (mls.Proposal, error) {
	msg, err := decode("key_package", keyPackage, mls.WireKeyPackage)
	if err != nil {
		return mls.Proposal{}, err
	}
	return mls.AddProposal(msg.KeyPackage), nil
}

func remove(s *mls.State, identity []byte) (mls.Proposal, error) {
	leaf, err := find(s, identity)
	return mls.RemoveProposal(leaf), err
}

func groupContextExtensions(list []*mlsclientpb.Extension) (mls.Proposal, error) {
	x, err := decodeExtensions(list)
	return mls.GroupContextExtensionsProposal(x), err
}

func reInit(groupID []byte, suite uint32, list []*mlsclientpb.Extension) (mls.Proposal, error) {
	s, err := decodeSuite(suite)
	if err != nil {
		return mls.Proposal{}, err
	}
	x, err := decodeExtensions(list)
	return mls.ReInitProposal(mls.ReInit{GroupID: bytes.Clone(groupID), Version: mls.MLS10, CipherSuite: s, Extensions: x}), err
}

// describe returns the proposal of a description in the epoch s.
func describe(s *mls.State, d *mlsclientpb.ProposalDescription) (mls.Proposal, error) {
	switch kind := string(d.GetProposalType()); kind {
	case "add":
		return add(d.KeyPackage)
	case "remove":
		return remove(s, d.RemovedId)
	case "externalPSK":
		return externalPSK(s.CipherSuite(), d.PskId)
	case "resumptionPSK":
		return resumptionPSK(s, d.EpochId)
	case "groupContextExtensions":
		return groupContextExtensions(d.Extensions)
	case "reinit":
		return reInit(d.GroupId, d.CipherSuite, d.Extensions)
	default:
		return mls.Proposal{}, fmt.Errorf("%w: proposal_type %q is not one of the harness", mls.ErrInvalidProposal, kind)
	}
}

// propose lets the member of a handle send what proposal returns.
func (s *server) propose(id uint32, proposal func(*mls.State) (mls.Proposal, error)) (*mlsclientpb.ProposalResponse, error) {
	return s.proposeMessage(id, func(m *member) (*mls.MLSMessage, error) {
		p, err := proposal(m.group.State())
		if err != nil {
			return nil, err
		}
		return m.group.Propose(p, nil)
	})
}

// proposeMessage lets the member of a handle send what send returns, and
// remembers it as its own.
func (s *server) proposeMessage(id uint32, send func(*member) (*mls.MLSMessage, error)) (*mlsclientpb.ProposalResponse, error) {
	m, err := s.member(id)
	if err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	msg, err := send(m)
	if err != nil {
		return nil, err
	}
	b, err := mls.Marshal(msg)
	if err != nil {
		return nil, err
	}
	pending := m.group.Pending()
	m.known[string(b)] = pending[len(pending)-1].Ref
	return &mlsclientpb.ProposalResponse{Proposal: b}, nil
}

// AddProposal proposes to add the client of a KeyPackage.
func (s *server) AddProposal(_ context.Context, r *mlsclientpb.AddProposalRequest) (*mlsclientpb.ProposalResponse, error) {
	return s.propose(r.StateId, func(*mls.State) (mls.Proposal, error) { return add(r.KeyPackage) })
}

// UpdateProposal proposes a new leaf for the member itself.
func (s *server) UpdateProposal(_ context.Context, r *mlsclientpb.UpdateProposalRequest) (*mlsclientpb.ProposalResponse, error) {
	return s.proposeMessage(r.StateId, func(m *member) (*mls.MLSMessage, error) {
		return m.group.ProposeUpdate(mls.LeafParams{}, nil)
	})
}

// RemoveProposal proposes to remove the member of an identity.
func (s *server) RemoveProposal(_ context.Context, r *mlsclientpb.RemoveProposalRequest) (*mlsclientpb.ProposalResponse, error) {
	return s.propose(r.StateId, func(st *mls.State) (mls.Proposal, error) { return remove(st, r.RemovedId) })
}

// ExternalPSKProposal proposes to mix in an external pre-shared key.
func (s *server) ExternalPSKProposal(_ context.Context, r *mlsclientpb.ExternalPSKProposalRequest) (*mlsclientpb.ProposalResponse, error) {
	return s.propose(r.StateId, func(st *mls.State) (mls.Proposal, error) { return externalPSK(st.CipherSuite(), r.PskId) })
}

// ResumptionPSKProposal proposes to mix in the resumption key of an epoch.
func (s *server) ResumptionPSKProposal(_ context.Context, r *mlsclientpb.ResumptionPSKProposalRequest) (*mlsclientpb.ProposalResponse, error) {
	return s.propose(r.StateId, func(st *mls.State) (mls.Proposal, error) { return resumptionPSK(st, r.EpochId) })
}

// GroupContextExtensionsProposal proposes new extensions of the GroupContext.
func (s *server) GroupContextExtensionsProposal(_ context.Context, r *mlsclientpb.GroupContextExtensionsProposalRequest) (*mlsclientpb.ProposalResponse, error) {
	return s.propose(r.StateId, func(*mls.State) (mls.Proposal, error) { return groupContextExtensions(r.Extensions) })
}

// ReInitProposal proposes to continue in a new group.
func (s *server) ReInitProposal(_ context.Context, r *mlsclientpb.ReInitProposalRequest) (*mlsclientpb.ProposalResponse, error) {
	return s.propose(r.StateId, func(*mls.State) (mls.Proposal, error) { return reInit(r.GroupId, r.CipherSuite, r.Extensions) })
}
