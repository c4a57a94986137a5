package main

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/comity-im/comity/e2e/harness/mlsclientpb"
	"github.com/comity-im/comity/mls"
)

// A joiner is a client with a KeyPackage that waits for a Welcome.
type joiner struct {
	*client
	mu      sync.Mutex // guards what follows
	kp      *mls.KeyPackage
	private *mls.KeyPackagePrivate
	joined  bool
}

// newJoiner makes a KeyPackage for c.
func newJoiner(c *client, suite mls.CipherSuite) (*joiner, error) {
	kp, private, err := mls.NewKeyPackage(mls.KeyPackageParams{CipherSuite: suite, Signer: c.signer, Credential: c.credential()})
	if err != nil {
		return nil, err
	}
	return &joiner{client: c, kp: kp, private: private}, nil
}

// join lets the joiner become a member by what join does with its keys,
// which are destroyed afterwards. If it fails, the joiner still waits.
func (j *joiner) join(join func(*mls.KeyPackage, *mls.KeyPackagePrivate) (*mls.Group, error)) (*mls.Group, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.joined {
		return nil, fmt.Errorf("%w: the key package was used", mls.ErrInvalidWelcome)
	}
	g, err := join(j.kp, j.private)
	if err != nil {
		return nil, err
	}
	j.joined = true
	j.private.Wipe()
	return g, nil
}

// keepMember returns a handle for m and its epoch authenticator.
func (s *server) keepMember(m *member) (id uint32, auth []byte, err error) {
	if auth, err = m.group.EpochAuthenticator(); err != nil {
		return 0, nil, err
	}
	id, err = s.keep(m)
	return id, auth, err
}

// CreateGroup starts a group of one member.
func (s *server) CreateGroup(_ context.Context, r *mlsclientpb.CreateGroupRequest) (*mlsclientpb.CreateGroupResponse, error) {
	suite, err := decodeSuite(r.CipherSuite)
	if err != nil {
		return nil, err
	}
	c, _, err := s.newClient(suite, r.Identity)
	if err != nil {
		return nil, err
	}
	c.encrypt = r.EncryptHandshake
	g, err := mls.CreateGroup(c.config(), mls.GroupParams{
		CipherSuite: suite, GroupID: bytes.Clone(r.GroupId), Signer: c.signer, Credential: c.credential(),
	})
	if err != nil {
		return nil, err
	}
	id, err := s.keep(newMember(c, g))
	return &mlsclientpb.CreateGroupResponse{StateId: id}, err
}

// CreateKeyPackage makes a client that can be added to a group.
func (s *server) CreateKeyPackage(_ context.Context, r *mlsclientpb.CreateKeyPackageRequest) (*mlsclientpb.CreateKeyPackageResponse, error) {
	suite, err := decodeSuite(r.CipherSuite)
	if err != nil {
		return nil, err
	}
	c, private, err := s.newClient(suite, r.Identity)
	if err != nil {
		return nil, err
	}
	j, err := newJoiner(c, suite)
	if err != nil {
		return nil, err
	}
	b, err := mls.Marshal(mls.KeyPackageMessage(j.kp))
	if err != nil {
		return nil, err
	}
	id, err := s.keep(j)
	return &mlsclientpb.CreateKeyPackageResponse{
		TransactionId: id, KeyPackage: b, SignaturePriv: private,
		InitPriv: bytes.Clone(j.private.InitKey), EncryptionPriv: bytes.Clone(j.private.EncryptionKey),
	}, err
}

// welcome decodes what a joiner gets.
func welcome(message, tree []byte) (*mls.Welcome, mls.RatchetTree, error) {
	m, err := decode("welcome", message, mls.WireWelcome)
	if err != nil {
		return nil, nil, err
	}
	nodes, err := decodeTree(tree)
	return m.Welcome, nodes, err
}

// JoinGroup joins by a Welcome.
func (s *server) JoinGroup(_ context.Context, r *mlsclientpb.JoinGroupRequest) (*mlsclientpb.JoinGroupResponse, error) {
	j, err := handle[*joiner](s, r.TransactionId, "transaction")
	if err != nil {
		return nil, err
	}
	w, tree, err := welcome(r.Welcome, r.RatchetTree)
	if err != nil {
		return nil, err
	}
	c := j.in(j.signer)
	c.encrypt = r.EncryptHandshake
	g, err := j.join(func(kp *mls.KeyPackage, private *mls.KeyPackagePrivate) (*mls.Group, error) {
		if len(r.Identity) > 0 && !bytes.Equal(r.Identity, j.identity) {
			return nil, fmt.Errorf("%w: the key package is of %q, not of %q", mls.ErrInvalidKeyPackage, j.identity, r.Identity)
		}
		return mls.JoinWelcome(c.config(), w, tree, kp, private, c.signer)
	})
	if err != nil {
		return nil, err
	}
	s.forget(r.TransactionId)
	id, auth, err := s.keepMember(newMember(c, g))
	return &mlsclientpb.JoinGroupResponse{StateId: id, EpochAuthenticator: auth}, err
}

// ExternalJoin joins by an external commit.
func (s *server) ExternalJoin(_ context.Context, r *mlsclientpb.ExternalJoinRequest) (*mlsclientpb.ExternalJoinResponse, error) {
	msg, err := decode("group_info", r.GroupInfo, mls.WireGroupInfo)
	if err != nil {
		return nil, err
	}
	tree, err := decodeTree(r.RatchetTree)
	if err != nil {
		return nil, err
	}
	suite := msg.GroupInfo.GroupContext.CipherSuite
	c, _, err := s.newClient(suite, r.Identity)
	if err != nil {
		return nil, err
	}
	c.encrypt = r.EncryptHandshake
	p := mls.JoinParams{Signer: c.signer, Credential: c.credential()}
	if r.RemovePrior {
		prior, err := mls.NewPublicGroup(c.config(), msg.GroupInfo, tree)
		if err != nil {
			return nil, err
		}
		leaf, err := find(prior.State(), r.Identity)
		if err != nil {
			return nil, err
		}
		p.ByValue = append(p.ByValue, mls.RemoveProposal(leaf))
	}
	for _, psk := range r.Psks {
		c.psks.put(psk.GetPskId(), psk.GetPskSecret())
		proposal, err := externalPSK(suite, psk.GetPskId())
		if err != nil {
			return nil, err
		}
		p.ByValue = append(p.ByValue, proposal)
	}
	g, sc, err := mls.JoinExternal(c.config(), msg.GroupInfo, tree, p)
	if err != nil {
		return nil, err
	}
	out := new(mlsclientpb.ExternalJoinResponse)
	if out.Commit, err = mls.Marshal(sc.Message); err != nil {
		return nil, err
	}
	out.StateId, out.EpochAuthenticator, err = s.keepMember(newMember(c, g))
	return out, err
}
