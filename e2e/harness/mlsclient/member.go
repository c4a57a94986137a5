package main

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/comity-im/comity/e2e/harness/mlsclientpb"
	"github.com/comity-im/comity/mls"
)

// A client is who takes part in groups: an identity with a signature key and
// the pre-shared keys that it was given.
type client struct {
	identity []byte
	encrypt  bool // its handshakes are sent as PrivateMessage
	pad      bool // its messages are padded
	signer   mls.Signer
	psks     *pskStore
}

// newClient makes a client with a new signature key, which it returns too.
func (s *server) newClient(suite mls.CipherSuite, identity []byte) (*client, []byte, error) {
	signer, private, err := mls.GenerateSigner(suite, nil)
	if err != nil {
		return nil, nil, err
	}
	return &client{identity: bytes.Clone(identity), pad: s.pad, signer: signer, psks: newPSKStore()}, private, nil
}

func (c *client) credential() mls.Credential { return mls.BasicCredential(c.identity) }

// A member is a client in a group. Its handle stays the same from epoch to
// epoch.
type member struct {
	*client

	mu     sync.Mutex // guards what follows
	group  *mls.Group
	staged *mls.StagedCommit // by Commit, until HandlePendingCommit or another commit
	// known holds the references of this epoch's pending proposals by the
	// messages that brought them: a PrivateMessage opens only once, and one's
	// own never.
	known map[string]mls.ProposalRef
}

func newMember(c *client, g *mls.Group) *member {
	return &member{client: c, group: g, known: make(map[string]mls.ProposalRef)}
}

// member returns the member of a handle, locked: the caller unlocks it.
func (s *server) member(id uint32) (*member, error) {
	m, err := handle[*member](s, id, "state")
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	return m, nil
}

// merge puts a commit into effect and returns the new epoch's authenticator,
// which one who was removed by it does not know.
func (m *member) merge(sc *mls.StagedCommit) ([]byte, error) {
	if err := m.group.Merge(sc); err != nil {
		return nil, err
	}
	m.staged = nil
	clear(m.known)
	if !m.group.IsMember() {
		return nil, nil
	}
	return m.group.EpochAuthenticator()
}

// find returns the leaf of the member with an identity.
func find(s *mls.State, identity []byte) (mls.LeafIndex, error) {
	for l, leaf := range s.Members() {
		if bytes.Equal(leaf.Credential.Identity, identity) {
			return l, nil
		}
	}
	return 0, fmt.Errorf("%w: no member has the identity %q", mls.ErrUnknownSender, identity)
}

// GroupInfo returns a GroupInfo for those who join externally, and the
// ratchet tree in it or beside it.
func (s *server) GroupInfo(_ context.Context, r *mlsclientpb.GroupInfoRequest) (*mlsclientpb.GroupInfoResponse, error) {
	m, err := s.member(r.StateId)
	if err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	info := m.group.GroupInfoWithTree
	if r.ExternalTree {
		info = m.group.GroupInfo
	}
	gi, err := info()
	if err != nil {
		return nil, err
	}
	out := new(mlsclientpb.GroupInfoResponse)
	if out.GroupInfo, err = mls.Marshal(mls.GroupInfoMessage(gi)); err != nil {
		return nil, err
	}
	out.RatchetTree, err = encodeTree(m.group.State(), r.ExternalTree)
	return out, err
}

// StateAuth returns the epoch authenticator.
func (s *server) StateAuth(_ context.Context, r *mlsclientpb.StateAuthRequest) (*mlsclientpb.StateAuthResponse, error) {
	m, err := s.member(r.StateId)
	if err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	auth, err := m.group.EpochAuthenticator()
	return &mlsclientpb.StateAuthResponse{StateAuthSecret: auth}, err
}

// Export derives an exported secret.
func (s *server) Export(_ context.Context, r *mlsclientpb.ExportRequest) (*mlsclientpb.ExportResponse, error) {
	m, err := s.member(r.StateId)
	if err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	secret, err := m.group.Export(r.Label, r.Context, int(min(r.KeyLength, 1<<16))) // more is refused
	return &mlsclientpb.ExportResponse{ExportedSecret: secret}, err
}

// Protect encrypts an application message.
func (s *server) Protect(_ context.Context, r *mlsclientpb.ProtectRequest) (*mlsclientpb.ProtectResponse, error) {
	m, err := s.member(r.StateId)
	if err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	msg, err := m.group.Encrypt(r.Plaintext, r.AuthenticatedData)
	if err != nil {
		return nil, err
	}
	b, err := mls.Marshal(msg)
	return &mlsclientpb.ProtectResponse{Ciphertext: b}, err
}

// Unprotect decrypts an application message of this epoch or a recent one.
func (s *server) Unprotect(_ context.Context, r *mlsclientpb.UnprotectRequest) (*mlsclientpb.UnprotectResponse, error) {
	m, err := s.member(r.StateId)
	if err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	msg, err := decode("ciphertext", r.Ciphertext, mls.WirePrivateMessage)
	if err != nil {
		return nil, err
	}
	got, err := m.group.Decrypt(msg)
	if err != nil {
		return nil, err
	}
	return &mlsclientpb.UnprotectResponse{AuthenticatedData: got.AAD, Plaintext: got.Data}, nil
}

// StorePSK gives an external pre-shared key to a member, or to a client that
// is about to join.
func (s *server) StorePSK(_ context.Context, r *mlsclientpb.StorePSKRequest) (*mlsclientpb.StorePSKResponse, error) {
	v, err := handle[any](s, r.StateOrTransactionId, "state or transaction")
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case *member:
		v.psks.put(r.PskId, r.PskSecret)
	case *joiner:
		v.psks.put(r.PskId, r.PskSecret)
	default:
		return nil, status.Errorf(codes.NotFound, "handle %d is no state or transaction", r.StateOrTransactionId)
	}
	return new(mlsclientpb.StorePSKResponse), nil
}
