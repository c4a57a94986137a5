package mls

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/vectors"
)

// anyone accepts every credential: those of the vectors are arbitrary.
type anyone struct{}

func (anyone) VerifyCredential(*Credential, []byte, time.Time) error { return nil }
func (anyone) VerifySuccessor(_, _ *LeafNode) error                  { return nil }

func TestPassiveClientVectors(t *testing.T) {
	vectors.Dir(t, "mls") // skips the whole test, not only its parts
	for _, file := range []string{"passive-client-welcome.json", "passive-client-handling-commit.json"} {
		t.Run(file, func(t *testing.T) { testPassiveClient(t, file, len(UsableCipherSuites())) })
	}
}

// TestPassiveClientRandomVectors follows long random sessions, of suite 1.
// Many copies of the official vectors lack them.
func TestPassiveClientRandomVectors(t *testing.T) {
	file := filepath.Join(vectors.Dir(t, "mls"), "passive-client-random.json")
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("MISSING VECTORS: no file %s", file)
	}
	testPassiveClient(t, "passive-client-random.json", 1)
}

func testPassiveClient(t *testing.T, file string, suites int) {
	var cases []struct {
		CipherSuite  CipherSuite `json:"cipher_suite"`
		ExternalPSKs []struct {
			ID  vectors.Hex `json:"psk_id"`
			PSK vectors.Hex `json:"psk"`
		} `json:"external_psks"`
		KeyPackage     vectors.Hex `json:"key_package"`
		SignaturePriv  vectors.Hex `json:"signature_priv"`
		EncryptionPriv vectors.Hex `json:"encryption_priv"`
		InitPriv       vectors.Hex `json:"init_priv"`
		Welcome        vectors.Hex `json:"welcome"`
		RatchetTree    vectors.Hex `json:"ratchet_tree"`
		Authenticator  vectors.Hex `json:"initial_epoch_authenticator"`
		Epochs         []struct {
			Proposals     []vectors.Hex `json:"proposals"`
			Commit        vectors.Hex   `json:"commit"`
			Authenticator vectors.Hex   `json:"epoch_authenticator"`
		} `json:"epochs"`
	}
	vectors.Load(t, "mls", file, &cases)
	seen := map[CipherSuite]bool{}
	for i, c := range cases {
		seen[c.CipherSuite] = true
		cfg := Config{
			Credentials: anyone{}, SkipLifetime: true,
			PSK: func(id *PreSharedKeyID) ([]byte, error) {
				for _, p := range c.ExternalPSKs {
					if id.Type == PSKExternal && bytes.Equal(p.ID, id.ID) {
						return p.PSK, nil
					}
				}
				return nil, errors.New("no such key")
			},
		}
		var kp, wm MLSMessage
		decode(t, c.KeyPackage, &kp)
		decode(t, c.Welcome, &wm)
		var tree RatchetTree
		if c.RatchetTree != nil {
			decode(t, c.RatchetTree, &tree)
		}
		signer, err := NewSigner(c.CipherSuite, c.SignaturePriv)
		noError(t, err)
		g, err := JoinWelcome(cfg, wm.Welcome, tree, kp.KeyPackage, &KeyPackagePrivate{scalar(c.CipherSuite, c.InitPriv), scalar(c.CipherSuite, c.EncryptionPriv)}, signer)
		if err != nil {
			t.Fatalf("case %d (%v): join: %v", i, c.CipherSuite, err)
		}
		a, err := g.EpochAuthenticator()
		noError(t, err)
		equal(t, "initial epoch authenticator", a, c.Authenticator)
		for j, e := range c.Epochs {
			for _, b := range e.Proposals {
				var m MLSMessage
				decode(t, b, &m)
				q, err := g.Proposal(&m)
				if err != nil {
					t.Fatalf("case %d epoch %d: proposal: %v", i, j, err)
				}
				noError(t, g.Enqueue(q))
			}
			var m MLSMessage
			decode(t, e.Commit, &m)
			sc, err := g.StageCommit(&m)
			if err != nil {
				t.Fatalf("case %d epoch %d: commit: %v", i, j, err)
			}
			noError(t, g.Merge(sc))
			a, err := g.EpochAuthenticator()
			noError(t, err)
			equal(t, "epoch authenticator", a, e.Authenticator)
		}
	}
	if len(seen) != suites {
		t.Fatalf("vectors of %d suites; want %d", len(seen), suites)
	}
}

// scalar restores the leading zeros that the vectors drop from P-521 keys.
func scalar(s CipherSuite, private []byte) []byte {
	if s == P521AES256SHA512P521 && len(private) < 66 {
		return append(make([]byte, 66-len(private)), private...)
	}
	return private
}
