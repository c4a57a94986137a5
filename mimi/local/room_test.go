package local

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// anyone takes every credential: what is tested here is the encoding.
type anyone struct{}

func (anyone) VerifyCredential(*mls.Credential, []byte, time.Time) error { return nil }
func (anyone) VerifySuccessor(_, _ *mls.LeafNode) error                  { return nil }

// created returns the request for a group of one.
func created(t testing.TB) []byte {
	t.Helper()
	signer, _, err := mls.GenerateSigner(mls.X25519AES128SHA256Ed25519, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	g, err := mls.CreateGroup(mls.Config{Credentials: anyone{}}, mls.GroupParams{
		CipherSuite: mls.X25519AES128SHA256Ed25519, Signer: signer,
		Credential: mls.Credential{Type: mls.CredentialBasic, Identity: []byte("alice")},
	})
	if err != nil {
		t.Fatal(err)
	}
	gi, err := g.GroupInfo()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := mimi.FullTree(g.State().RatchetTree())
	if err != nil {
		t.Fatal(err)
	}
	b, err := tlspl.Marshal(&CreateRoomRequest{GroupInfo: *gi, RatchetTree: tree})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCreateRoomRequest(t *testing.T) {
	b := created(t)
	var req CreateRoomRequest
	if err := tlspl.Unmarshal(b, &req); err != nil {
		t.Fatal(err)
	}
	if again, err := tlspl.Marshal(&req); err != nil || !bytes.Equal(again, b) {
		t.Errorf("the request became another one, %v", err)
	}
	for _, bad := range [][]byte{nil, b[:len(b)-1], append(bytes.Clone(b), 0)} {
		if tlspl.Unmarshal(bad, &req) == nil {
			t.Errorf("%d of %d octets were accepted", len(bad), len(b))
		}
	}
}

func FuzzCreateRoomRequest(f *testing.F) {
	f.Add(created(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		var req CreateRoomRequest
		if tlspl.Unmarshal(b, &req) != nil {
			return
		}
		again, err := tlspl.Marshal(&req)
		if err != nil {
			t.Fatal(err)
		}
		var second CreateRoomRequest
		if err := tlspl.Unmarshal(again, &second); err != nil {
			t.Fatalf("what was encoded can't be decoded: %v", err)
		}
	})
}
