package mls

import (
	"errors"
	"slices"
	"testing"
)

func TestCipherSuites(t *testing.T) {
	if got := UsableCipherSuites(); !slices.Equal(got, []CipherSuite{1, 2, 3, 4, 5, 6, 7}) {
		t.Errorf("usable suites are %v", got)
	}
	for i := range suites {
		id := suites[i].id
		if s := id.find(); s != &suites[i] {
			t.Errorf("%v is not found", id)
		}
		if want := i < 7; id.Usable() != want {
			t.Errorf("%v is usable: %v", id, !want)
		}
		if id.HashSize() != suites[i].kdf.hash.Size() || id.String() != suites[i].name {
			t.Errorf("%v has hashes of %d octets", id, id.HashSize())
		}
	}
	for _, id := range []CipherSuite{0, 8, 0xF000, 0xF002, 0xFFFF, 0x0A0A} {
		if id.Usable() || id.HashSize() != 0 || id.find() != nil {
			t.Errorf("%v is implemented", id)
		}
		if _, err := NewSigner(id, make([]byte, 32)); !errors.Is(err, ErrCipherSuite) {
			t.Errorf("%v has signers: %v", id, err)
		}
		// Listing a suite does not make it.
		cfg := worldConfig()
		cfg.CipherSuites = []CipherSuite{id}
		if _, err := CreateGroup(cfg, GroupParams{CipherSuite: id}); !errors.Is(err, ErrCipherSuite) {
			t.Errorf("%v has groups: %v", id, err)
		}
	}
}

// hybridConfig turns the hybrid suite on.
func hybridConfig() Config {
	cfg := worldConfig()
	cfg.CipherSuites = []CipherSuite{XWingAES256SHA384Ed25519}
	return cfg
}

// Groups of the hybrid suite live like others, once they are turned on.
func TestHybridGroupLife(t *testing.T) {
	w := newWorldWith(t, XWingAES256SHA384Ed25519, hybridConfig(), nil)
	groupLife(t, w)
	leaf, _ := w.groups["m0"].State().Member(w.groups["m0"].OwnLeaf())
	if len(leaf.EncryptionKey) != xwingKeySize {
		t.Errorf("encryption key of %d octets", len(leaf.EncryptionKey))
	}
	if !slices.Contains(leaf.Capabilities.CipherSuites, XWingAES256SHA384Ed25519) {
		t.Error("the leaf does not list its suite")
	}
}

// A suite for private use is refused at every door that is not told of it,
// for members and for others, and so is any suite that a list leaves out.
func TestSuitesAreRefusedUnlessListed(t *testing.T) {
	for _, id := range []CipherSuite{XWingAES256SHA384Ed25519, X25519AES128SHA256Ed25519} {
		t.Run(id.String(), func(t *testing.T) {
			on := worldConfig()
			on.CipherSuites = []CipherSuite{id}
			off := worldConfig()
			if id.Usable() {
				off.CipherSuites = []CipherSuite{}
			}
			w := newWorldWith(t, id, on, nil)
			w.stores = map[string]map[string][]byte{"m0": {}}
			w.reload("m0")
			w.add("m0", "m1")
			g := w.groups["m0"]

			refused := func(door string, err error) {
				t.Helper()
				if !errors.Is(err, ErrCipherSuite) {
					t.Errorf("%s: %v", door, err)
				}
			}
			signer, _, err := GenerateSigner(id, nil)
			noError(t, err)
			_, err = CreateGroup(off, GroupParams{CipherSuite: id, Signer: signer, Credential: BasicCredential([]byte("m9"))})
			refused("CreateGroup", err)

			d := w.device("m2")
			refused("KeyPackage.Verify", d.kp.Verify(&off))
			sc, err := g.Commit(CommitOptions{Proposals: []Proposal{AddProposal(d.kp)}})
			noError(t, err)
			_, err = JoinWelcome(off, sc.Welcome, nil, d.kp, d.priv, d.signer)
			refused("JoinWelcome", err)
			_, err = JoinWelcome(on, sc.Welcome, nil, d.kp, d.priv, d.signer)
			noError(t, err)

			gi, err := g.GroupInfo()
			noError(t, err)
			tree := g.State().RatchetTree()
			_, err = NewPublicGroup(off, gi, tree)
			refused("NewPublicGroup", err)
			hub, err := NewPublicGroup(on, gi, tree)
			noError(t, err)

			p := JoinParams{Signer: d.signer, Credential: BasicCredential([]byte("m2"))}
			_, _, err = JoinExternal(off, gi, tree, p)
			refused("JoinExternal", err)
			joined, external, err := JoinExternal(on, gi, tree, p)
			noError(t, err)
			followed, err := hub.StageCommit(w.wire(external.Message))
			noError(t, err)
			noError(t, hub.Merge(followed))
			noError(t, hub.VerifyGroupInfo(external.GroupInfo))
			staged, err := g.StageCommit(w.wire(external.Message))
			noError(t, err)
			noError(t, g.Merge(staged))
			a, err := g.EpochAuthenticator()
			noError(t, err)
			b, err := joined.EpochAuthenticator()
			noError(t, err)
			equal(t, "epoch authenticator", a, b)

			_, err = LoadGroup(off, w.stores["m1"], w.groups["m1"].signer)
			refused("LoadGroup", err)
			_, err = LoadGroup(on, w.stores["m1"], w.groups["m1"].signer)
			noError(t, err)
		})
	}
}

// The kem_output of an external commit has the size of the suite's KEM, for
// the hub, which cannot open it, too.
func TestExternalInitSizes(t *testing.T) {
	for _, id := range everySuite() {
		t.Run(id.String(), func(t *testing.T) {
			s := mustSuite(t, id)
			_, public, err := GenerateHPKEKey(id)
			noError(t, err)
			enc, _, err := s.externalInitSend(public)
			noError(t, err)
			st := &State{suite: s}
			check := func(b []byte) error {
				return st.checkProposalContent(testConfig(t), &QueuedProposal{Proposal: Proposal{Type: ProposalExternalInit, ExternalInit: &ExternalInit{KEMOutput: b}}})
			}
			noError(t, check(enc))
			for _, b := range [][]byte{nil, enc[1:], append(clone(enc), 0), make([]byte, len(enc))} {
				if err := check(b); !errors.Is(err, ErrInvalidProposal) {
					t.Errorf("kem_output of %d octets: %v", len(b), err)
				}
			}
			// For X-Wing, a key is no encapsulation.
			if err := check(public); (err == nil) == (id == XWingAES256SHA384Ed25519) {
				t.Errorf("kem_output that is a public key: %v", err)
			}
		})
	}
}
