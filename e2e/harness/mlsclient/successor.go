package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/comity-im/comity/e2e/harness/mlsclientpb"
	"github.com/comity-im/comity/mls"
)

// A successor is a member of a group that a ReInit closed, with a KeyPackage
// for the new group. It continues there by welcoming the others, or by the
// Welcome of another.
type successor struct {
	old    *member
	joiner *joiner
}

// in returns c as it takes part in another group, with another signature key.
// Both know the same pre-shared keys.
func (c *client) in(signer mls.Signer) *client {
	return &client{identity: c.identity, encrypt: c.encrypt, pad: c.pad, signer: signer, psks: c.psks}
}

// decodeKeyPackages parses the KeyPackages of the other members.
func decodeKeyPackages(list [][]byte) ([]*mls.KeyPackage, error) {
	kps := make([]*mls.KeyPackage, 0, len(list))
	for i, b := range list {
		m, err := decode(fmt.Sprintf("key_package %d", i), b, mls.WireKeyPackage)
		if err != nil {
			return nil, err
		}
		kps = append(kps, m.KeyPackage)
	}
	return kps, nil
}

// ReInitCommit makes a commit that closes the group.
func (s *server) ReInitCommit(ctx context.Context, r *mlsclientpb.CommitRequest) (*mlsclientpb.CommitResponse, error) {
	return s.commit(r, mustClose)
}

// HandlePendingReInitCommit puts the commit of ReInitCommit into effect.
func (s *server) HandlePendingReInitCommit(_ context.Context, r *mlsclientpb.HandlePendingCommitRequest) (*mlsclientpb.HandleReInitCommitResponse, error) {
	m, err := s.member(r.StateId)
	if err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	return s.closed(m, func() ([]byte, error) { return m.mergeStaged(mustClose) })
}

// HandleReInitCommit follows a commit that closes the group.
func (s *server) HandleReInitCommit(_ context.Context, r *mlsclientpb.HandleCommitRequest) (*mlsclientpb.HandleReInitCommitResponse, error) {
	m, err := s.member(r.StateId)
	if err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	return s.closed(m, func() ([]byte, error) { return m.follow(r, mustClose) })
}

// closed closes m's group by merge and makes a KeyPackage for the new one.
func (s *server) closed(m *member, merge func() ([]byte, error)) (*mlsclientpb.HandleReInitCommitResponse, error) {
	auth, err := merge()
	if err != nil {
		return nil, err
	}
	suite := m.group.State().ReInit().CipherSuite
	signer, _, err := mls.GenerateSigner(suite, nil)
	if err != nil {
		return nil, err
	}
	j, err := newJoiner(m.in(signer), suite)
	if err != nil {
		return nil, err
	}
	b, err := mls.Marshal(mls.KeyPackageMessage(j.kp))
	if err != nil {
		return nil, err
	}
	id, err := s.keep(&successor{m, j})
	return &mlsclientpb.HandleReInitCommitResponse{ReinitId: id, KeyPackage: b, EpochAuthenticator: auth}, err
}

// ReInitWelcome creates the group that continues the closed one.
func (s *server) ReInitWelcome(_ context.Context, r *mlsclientpb.ReInitWelcomeRequest) (*mlsclientpb.CreateSubgroupResponse, error) {
	x, err := handle[*successor](s, r.ReinitId, "reinitialization")
	if err != nil {
		return nil, err
	}
	kps, err := decodeKeyPackages(r.KeyPackage)
	if err != nil {
		return nil, err
	}
	x.old.mu.Lock()
	defer x.old.mu.Unlock()
	c := x.joiner.client
	g, sc, err := x.old.group.Reinitialize(mls.SuccessorParams{
		Signer: c.signer, Credential: c.credential(), KeyPackages: kps, OmitTree: r.ExternalTree, ForcePath: r.ForcePath,
	})
	if err != nil {
		return nil, err
	}
	out, err := s.founded(newMember(c, g), sc, r.ExternalTree)
	if err == nil {
		s.forget(r.ReinitId)
	}
	return out, err
}

// founded answers with a new group in which m is.
func (s *server) founded(m *member, sc *mls.StagedCommit, externalTree bool) (*mlsclientpb.CreateSubgroupResponse, error) {
	out := new(mlsclientpb.CreateSubgroupResponse)
	var err error
	if out.Welcome, err = encodeWelcome(sc.Welcome); err != nil {
		return nil, err
	}
	if out.RatchetTree, err = encodeTree(sc.After, externalTree); err != nil {
		return nil, err
	}
	out.StateId, out.EpochAuthenticator, err = s.keepMember(m)
	return out, err
}

// HandleReInitWelcome joins the group that continues the closed one.
func (s *server) HandleReInitWelcome(_ context.Context, r *mlsclientpb.HandleReInitWelcomeRequest) (*mlsclientpb.JoinGroupResponse, error) {
	x, err := handle[*successor](s, r.ReinitId, "reinitialization")
	if err != nil {
		return nil, err
	}
	w, tree, err := welcome(r.Welcome, r.RatchetTree)
	if err != nil {
		return nil, err
	}
	x.old.mu.Lock()
	defer x.old.mu.Unlock()
	g, err := x.joiner.join(func(kp *mls.KeyPackage, private *mls.KeyPackagePrivate) (*mls.Group, error) {
		return x.old.group.JoinReinitialized(w, tree, kp, private, x.joiner.signer)
	})
	if err != nil {
		return nil, err
	}
	s.forget(r.ReinitId)
	id, auth, err := s.keepMember(newMember(x.joiner.client, g))
	return &mlsclientpb.JoinGroupResponse{StateId: id, EpochAuthenticator: auth}, err
}

// CreateBranch creates a subgroup of a group.
func (s *server) CreateBranch(_ context.Context, r *mlsclientpb.CreateBranchRequest) (*mlsclientpb.CreateSubgroupResponse, error) {
	kps, err := decodeKeyPackages(r.KeyPackages)
	if err != nil {
		return nil, err
	}
	x, err := decodeExtensions(r.Extensions)
	if err != nil {
		return nil, err
	}
	m, err := s.member(r.StateId)
	if err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	g, sc, err := m.group.Branch(mls.SuccessorParams{
		Signer: m.signer, Credential: m.credential(), KeyPackages: kps, GroupID: bytes.Clone(r.GroupId), Extensions: x,
		OmitTree: r.ExternalTree, ForcePath: r.ForcePath,
	})
	if err != nil {
		return nil, err
	}
	return s.founded(newMember(m.client, g), sc, r.ExternalTree)
}

// HandleBranch joins a subgroup of a group.
func (s *server) HandleBranch(_ context.Context, r *mlsclientpb.HandleBranchRequest) (*mlsclientpb.HandleBranchResponse, error) {
	j, err := handle[*joiner](s, r.TransactionId, "transaction")
	if err != nil {
		return nil, err
	}
	w, tree, err := welcome(r.Welcome, r.RatchetTree)
	if err != nil {
		return nil, err
	}
	m, err := s.member(r.StateId)
	if err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	m.psks.putAll(j.psks)
	g, err := j.join(func(kp *mls.KeyPackage, private *mls.KeyPackagePrivate) (*mls.Group, error) {
		return m.group.JoinBranch(w, tree, kp, private, j.signer)
	})
	if err != nil {
		return nil, err
	}
	s.forget(r.TransactionId)
	id, auth, err := s.keepMember(newMember(m.in(j.signer), g))
	return &mlsclientpb.HandleBranchResponse{StateId: id, EpochAuthenticator: auth}, err
}
