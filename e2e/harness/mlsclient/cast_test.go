package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/comity-im/comity/e2e/harness/mlsclientpb"
	"github.com/comity-im/comity/mls"
)

// A stage is servers of their own, one for each actor, and the methods that
// were called.
type stage struct {
	actors map[string]mlsclientpb.MLSClientClient

	mu     sync.Mutex
	called map[string]bool
}

// newStage starts a server on loopback for each name. Only ben does not pad.
func newStage(t *testing.T, names ...string) *stage {
	t.Helper()
	s := &stage{actors: map[string]mlsclientpb.MLSClientClient{}, called: map[string]bool{}}
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		noError(t, err)
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- serve(ctx, l, newServer(name != "ben")) }()
		conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUnaryInterceptor(s.note))
		noError(t, err)
		t.Cleanup(func() {
			conn.Close()
			stop()
			if err := <-done; err != nil {
				t.Errorf("the server of %s: %v", name, err)
			}
		})
		s.actors[name] = mlsclientpb.NewMLSClientClient(conn)
	}
	return s
}

func (s *stage) note(ctx context.Context, method string, r, v any, conn *grpc.ClientConn, call grpc.UnaryInvoker, o ...grpc.CallOption) error {
	s.mu.Lock()
	s.called[method[strings.LastIndexByte(method, '/')+1:]] = true
	s.mu.Unlock()
	return call(ctx, method, r, v, conn, o...)
}

// A play is a scenario: actors with the handles that they have in it.
type play struct {
	*testing.T
	*stage
	suite   mls.CipherSuite
	encrypt bool
	states  map[string]uint32 // of members
	waiting map[string]uint32 // transactions of those who are to join
}

// must calls a method and ends the test if it fails.
func must[Q, R any](p *play, call func(context.Context, *Q, ...grpc.CallOption) (*R, error), r *Q) *R {
	p.Helper()
	v, err := call(p.Context(), r)
	if err != nil {
		p.Fatalf("%T: %v", r, err)
	}
	return v
}

func (p *play) as(name string) mlsclientpb.MLSClientClient {
	p.Helper()
	a, ok := p.actors[name]
	if !ok {
		p.Fatalf("nobody is called %s", name)
	}
	return a
}

// create lets founder make a group.
func (p *play) create(founder string) {
	p.Helper()
	p.states[founder] = must(p, p.as(founder).CreateGroup, &mlsclientpb.CreateGroupRequest{
		GroupId: []byte("the group of " + p.Name()), CipherSuite: uint32(p.suite), EncryptHandshake: p.encrypt, Identity: []byte(founder),
	}).StateId
}

// group lets founder make a group and add the others.
func (p *play) group(founder string, others ...string) {
	p.Helper()
	p.create(founder)
	var c commit
	for _, o := range others {
		c.values = append(c.values, &mlsclientpb.ProposalDescription{ProposalType: []byte("add"), KeyPackage: p.keyPackage(o)})
	}
	c.join = others
	p.commit(founder, c)
}

// keyPackage lets name wait for a Welcome.
func (p *play) keyPackage(name string) []byte {
	p.Helper()
	r := must(p, p.as(name).CreateKeyPackage, &mlsclientpb.CreateKeyPackageRequest{CipherSuite: uint32(p.suite), Identity: []byte(name)})
	p.checkKeys(r.KeyPackage, r.InitPriv, r.EncryptionPriv, r.SignaturePriv)
	p.waiting[name] = r.TransactionId
	return r.KeyPackage
}

// checkKeys verifies that the private keys are those of a KeyPackage.
func (p *play) checkKeys(keyPackage, initKey, encryptionKey, signatureKey []byte) {
	p.Helper()
	msg, err := decode("key_package", keyPackage, mls.WireKeyPackage)
	noError(p, err)
	signer, err := mls.NewSigner(p.suite, signatureKey)
	noError(p, err)
	if !bytes.Equal(signer.Public(), msg.KeyPackage.LeafNode.SignatureKey) {
		p.Fatal("signature_priv is not the key of the key package")
	}
	for _, k := range []struct {
		name            string
		private, public []byte
	}{{"init_priv", initKey, msg.KeyPackage.InitKey}, {"encryption_priv", encryptionKey, msg.KeyPackage.LeafNode.EncryptionKey}} {
		ct, err := mls.EncryptWithLabel(p.suite, k.public, "test", nil, []byte("a test"))
		noError(p, err)
		if got, err := mls.DecryptWithLabel(p.suite, k.private, "test", nil, ct); err != nil || string(got) != "a test" {
			p.Fatalf("%s is not the key of the key package: %v", k.name, err)
		}
	}
}

// commit says what a commit holds and who takes part in it.
type commit struct {
	refs         [][]byte // proposals by reference
	values       []*mlsclientpb.ProposalDescription
	path         bool
	externalTree bool
	gone         []string // removed by the commit
	join         []string // added by it
}

// commit lets by commit, and all other members follow.
func (p *play) commit(by string, c commit) {
	p.Helper()
	r := must(p, p.as(by).Commit, &mlsclientpb.CommitRequest{
		StateId: p.states[by], ByReference: c.refs, ByValue: c.values, ForcePath: c.path, ExternalTree: c.externalTree,
	})
	if (len(r.Welcome) > 0) != (len(c.join) > 0) || (len(r.RatchetTree) > 0) != c.externalTree {
		p.Fatalf("a commit that adds %v has a Welcome of %d octets and a tree of %d", c.join, len(r.Welcome), len(r.RatchetTree))
	}
	auth := must(p, p.as(by).HandlePendingCommit, &mlsclientpb.HandlePendingCommitRequest{StateId: p.states[by]}).EpochAuthenticator
	for name, state := range p.states {
		if name == by {
			continue
		}
		got := must(p, p.as(name).HandleCommit, &mlsclientpb.HandleCommitRequest{StateId: state, Proposal: c.refs, Commit: r.Commit})
		if want := auth; contains(c.gone, name) {
			if len(got.EpochAuthenticator) != 0 {
				p.Fatalf("%s was removed and knows the new epoch", name)
			}
			must(p, p.as(name).Free, &mlsclientpb.FreeRequest{StateId: state})
			delete(p.states, name)
		} else if !bytes.Equal(got.EpochAuthenticator, want) {
			p.Fatalf("%s follows %s into another epoch", name, by)
		} else {
			p.states[name] = got.StateId
		}
	}
	for _, name := range c.join {
		got := must(p, p.as(name).JoinGroup, &mlsclientpb.JoinGroupRequest{
			TransactionId: p.waiting[name], Welcome: r.Welcome, RatchetTree: r.RatchetTree, EncryptHandshake: p.encrypt, Identity: []byte(name),
		})
		if !bytes.Equal(got.EpochAuthenticator, auth) {
			p.Fatalf("%s joins another epoch than that of %s", name, by)
		}
		p.states[name] = got.StateId
		delete(p.waiting, name)
	}
	p.agree()
}

// agree verifies that all members know the same secrets and understand each
// other.
func (p *play) agree() {
	p.Helper()
	var auth, secret []byte
	for name, state := range p.states {
		a := must(p, p.as(name).StateAuth, &mlsclientpb.StateAuthRequest{StateId: state}).StateAuthSecret
		e := must(p, p.as(name).Export, &mlsclientpb.ExportRequest{StateId: state, Label: "a test", Context: []byte("context"), KeyLength: 70}).ExportedSecret
		if len(e) != 70 {
			p.Fatalf("%s exports %d octets; want 70", name, len(e))
		}
		if auth == nil {
			auth, secret = a, e
		}
		if !bytes.Equal(a, auth) || !bytes.Equal(e, secret) {
			p.Fatalf("%s knows other secrets than the rest", name)
		}
	}
	for name := range p.states {
		text := fmt.Sprintf("hello from %s", name)
		ciphertext := p.protect(name, text)
		for other := range p.states {
			if other != name {
				p.unprotect(other, ciphertext, text)
			}
		}
	}
}

// protect lets name say text, with "about " and the text as authenticated
// data.
func (p *play) protect(name, text string) []byte {
	p.Helper()
	return must(p, p.as(name).Protect, &mlsclientpb.ProtectRequest{
		StateId: p.states[name], AuthenticatedData: []byte("about " + text), Plaintext: []byte(text),
	}).Ciphertext
}

// unprotect verifies that name reads what protect made of text.
func (p *play) unprotect(name string, ciphertext []byte, text string) {
	p.Helper()
	r := must(p, p.as(name).Unprotect, &mlsclientpb.UnprotectRequest{StateId: p.states[name], Ciphertext: ciphertext})
	if string(r.Plaintext) != text || string(r.AuthenticatedData) != "about "+text {
		p.Fatalf("%s reads %q about %q; want %q", name, r.Plaintext, r.AuthenticatedData, text)
	}
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
