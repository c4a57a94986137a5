package mls

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"testing"
)

// The benchmarks come in pairs: an operation of a Group, and its floor, the
// signatures, HPKE operations, key derivations and hashes that it cannot do
// without, made with the same primitives and no protocol around them.

// benchVerifier costs nothing.
type benchVerifier = anyone

// warm returns the last two members of a group of n in which every member
// has committed, so that paths are short.
func warm(b *testing.B, n int) (*Group, *Group) {
	b.Helper()
	cfg := Config{Credentials: benchVerifier{}}
	signer, _, err := GenerateSigner(suite1, nil)
	noError(b, err)
	g, err := CreateGroup(cfg, GroupParams{CipherSuite: suite1, GroupID: []byte("bench"), Signer: signer, Credential: BasicCredential([]byte("m0"))})
	noError(b, err)
	var last *Group
	for i := 1; i < n; i++ {
		signer, _, err := GenerateSigner(suite1, nil)
		noError(b, err)
		kp, priv, err := NewKeyPackage(KeyPackageParams{CipherSuite: suite1, Signer: signer, Credential: BasicCredential(fmt.Appendf(nil, "m%d", i))})
		noError(b, err)
		sc, err := g.Commit(CommitOptions{Proposals: []Proposal{AddProposal(kp)}, OmitTree: true})
		noError(b, err)
		noError(b, g.Merge(sc))
		joined, err := JoinWelcome(cfg, sc.Welcome, g.State().RatchetTree(), kp, priv, signer)
		noError(b, err)
		sc, err = joined.Commit(CommitOptions{})
		noError(b, err)
		if i == n-1 {
			got, err := g.StageCommit(sc.Message)
			noError(b, err)
			noError(b, g.Merge(got))
		}
		noError(b, joined.Merge(sc))
		last, g = g, joined
	}
	return last, g
}

// cold returns the creator of a group of n, which it made in one commit, and
// what the newcomers need.
func cold(b *testing.B, n int) (*Group, *StagedCommit, []*device) {
	b.Helper()
	cfg := Config{Credentials: benchVerifier{}, Limits: Limits{MaxProposals: n}}
	signer, _, err := GenerateSigner(suite1, nil)
	noError(b, err)
	g, err := CreateGroup(cfg, GroupParams{CipherSuite: suite1, GroupID: []byte("bench"), Signer: signer, Credential: BasicCredential([]byte("m0"))})
	noError(b, err)
	var o CommitOptions
	var ds []*device
	for i := 1; i < n; i++ {
		signer, _, err := GenerateSigner(suite1, nil)
		noError(b, err)
		kp, priv, err := NewKeyPackage(KeyPackageParams{CipherSuite: suite1, Signer: signer, Credential: BasicCredential(fmt.Appendf(nil, "m%d", i))})
		noError(b, err)
		ds = append(ds, &device{"", signer, kp, priv})
		o.Proposals = append(o.Proposals, AddProposal(kp))
	}
	sc, err := g.Commit(o)
	noError(b, err)
	return g, sc, ds
}

var sizes = []int{10, 100, 1000}

func BenchmarkEncrypt1K(b *testing.B) {
	for _, n := range sizes {
		g, sc, _ := cold(b, n)
		noError(b, g.Merge(sc))
		data := make([]byte, 1024)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.Encrypt(data, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("floor", func(b *testing.B) {
		f := newFloor(b)
		for b.Loop() {
			f.sign()
			f.aead()
			f.derive(7) // key, nonce, ratchet step; sender data key and nonce
		}
	})
}

func BenchmarkDecrypt1K(b *testing.B) {
	for _, n := range sizes {
		from, sc, ds := cold(b, n)
		noError(b, from.Merge(sc))
		to, err := JoinWelcome(*from.cfg, sc.Welcome, nil, ds[0].kp, ds[0].priv, ds[0].signer)
		noError(b, err)
		data := make([]byte, 1024)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				m, err := from.Encrypt(data, nil)
				noError(b, err)
				b.StartTimer()
				if _, err := to.Decrypt(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("floor", func(b *testing.B) {
		f := newFloor(b)
		for b.Loop() {
			f.verify()
			f.aead()
			f.derive(7)
		}
	})
}

func BenchmarkCommitCreate(b *testing.B) {
	for _, n := range sizes {
		_, g := warm(b, n)
		b.Run(fmt.Sprintf("warm/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.Commit(CommitOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("warm/%d/floor", n), func(b *testing.B) {
			f, d := newFloor(b), len(g.state.tree.filteredPath(g.own))
			for b.Loop() {
				for range d {
					f.seal()
				}
				for range d + 2 { // path, leaf, external key
					f.keyPair()
				}
				for range 3 { // leaf, commit, GroupInfo
					f.sign()
				}
				f.derive(2*d + 20)
			}
		})
	}
}

func BenchmarkCommitProcess(b *testing.B) {
	for _, n := range sizes {
		to, g := warm(b, n)
		sc, err := g.Commit(CommitOptions{})
		noError(b, err)
		m, err := Marshal(sc.Message)
		noError(b, err)
		b.Run(fmt.Sprintf("warm/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var in MLSMessage
				noError(b, Unmarshal(m, &in))
				if _, err := to.StageCommit(&in); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("warm/%d/floor", n), func(b *testing.B) {
			f, d := newFloor(b), len(g.state.tree.filteredPath(g.own))
			for b.Loop() {
				f.verify()
				f.verify()
				f.open()
				for range d { // the benchmark's receiver is the nearest one
					f.keyPair()
				}
				f.derive(2*d + 20)
			}
		})
	}
}

func BenchmarkCreate(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			g, sc, _ := cold(b, n)
			var o CommitOptions
			for i := range sc.Proposals {
				o.Proposals = append(o.Proposals, sc.Proposals[i].Proposal)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.Commit(o); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%d/floor", n), func(b *testing.B) {
			f := newFloor(b)
			for b.Loop() {
				noError(b, parallel(n-1, func(int) error { f.verify(); f.verify(); f.seal(); return nil }))
				f.sign()
				f.sign()
			}
		})
	}
}

func BenchmarkJoin(b *testing.B) {
	for _, n := range sizes {
		g, sc, ds := cold(b, n)
		d := ds[n/2-1]
		welcome, err := Marshal(sc.Welcome)
		noError(b, err)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var in Welcome
				noError(b, Unmarshal(welcome, &in))
				if _, err := JoinWelcome(*g.cfg, &in, nil, d.kp, d.priv, d.signer); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%d/floor", n), func(b *testing.B) {
			f := newFloor(b)
			for b.Loop() {
				noError(b, parallel(n+1, func(int) error { f.verify(); return nil }))
				f.open()
				f.derive(20)
			}
		})
	}
}

// floor holds the primitives.
type floor struct {
	b       *testing.B
	s       *suite
	private ed25519.PrivateKey
	public  ed25519.PublicKey
	text    []byte
	sig     []byte
	hpke    []byte
	hpkePub []byte
	ct      HPKECiphertext
	secret  []byte
}

func newFloor(b *testing.B) *floor {
	f := &floor{b: b, s: mustSuite(b, suite1), text: make([]byte, 1024), secret: make([]byte, 32)}
	var err error
	f.public, f.private, err = ed25519.GenerateKey(rand.Reader)
	noError(b, err)
	f.sig = ed25519.Sign(f.private, f.text)
	f.hpke, f.hpkePub, err = GenerateHPKEKey(suite1)
	noError(b, err)
	f.ct, err = f.s.seal(f.hpkePub, nil, f.secret)
	noError(b, err)
	return f
}

func (f *floor) sign() { ed25519.Sign(f.private, f.text) }

func (f *floor) verify() {
	if !ed25519.Verify(f.public, f.text, f.sig) {
		f.b.Error("signature")
	}
}

func (f *floor) aead() {
	aead, err := f.s.newAEAD(f.secret[:f.s.keySize])
	noError(f.b, err)
	aead.Seal(nil, f.secret[:nonceSize], f.text, nil)
	aead.Seal(nil, f.secret[:nonceSize], f.text[:12], nil)
}

func (f *floor) seal() {
	_, err := f.s.seal(f.hpkePub, nil, f.secret)
	noError(f.b, err)
}

func (f *floor) open() {
	_, err := f.s.open(f.hpke, nil, f.ct)
	noError(f.b, err)
}

func (f *floor) keyPair() {
	_, _, err := f.s.deriveKeyPair(f.secret)
	noError(f.b, err)
}

func (f *floor) derive(n int) {
	for range n {
		_, err := f.s.deriveSecret(f.secret, "x")
		noError(f.b, err)
	}
}
