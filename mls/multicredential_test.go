package mls

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"
)

// multiVerifier judges basic credentials as worldVerifier does, and the keys
// that belong to them; a successor of a multi-credential has the same first
// identity.
type multiVerifier struct {
	worldVerifier
	keys map[string][]byte // by identity; nil: any
}

func (v multiVerifier) VerifyCredential(c *Credential, key []byte, now time.Time) error {
	if want, ok := v.keys[string(c.Identity)]; ok && !bytes.Equal(want, key) {
		return errors.New("not the key of this identity")
	}
	if c.Type == 0xf001 {
		return nil
	}
	return v.worldVerifier.VerifyCredential(c, key, now)
}

func (v multiVerifier) VerifySuccessor(old, new *LeafNode) error {
	name := func(l *LeafNode) string {
		if m, err := l.Credential.Multi(); err == nil {
			return string(m[0].Credential.Identity)
		}
		return string(l.Credential.Identity)
	}
	if name(old) != name(new) {
		return errors.New("another identity")
	}
	return nil
}

func newTestSigner(t testing.TB, s CipherSuite) Signer {
	t.Helper()
	signer, _, err := GenerateSigner(s, nil)
	noError(t, err)
	return signer
}

func bind(t testing.TB, s CipherSuite, c Credential, signer Signer, leaf []byte) CredentialBinding {
	t.Helper()
	b, err := NewCredentialBinding(s, c, signer, leaf)
	noError(t, err)
	return b
}

// The signature of a binding, computed by hand.
func TestCredentialBindingGolden(t *testing.T) {
	seed := bytes.Repeat([]byte{3}, 32)
	signer, err := NewSigner(suite1, seed)
	noError(t, err)
	leaf := bytes.Repeat([]byte{9}, 32)
	b := bind(t, suite1, BasicCredential([]byte("alice")), signer, leaf)
	tbs := bytes.Join([][]byte{
		{0, 1}, {0, 1}, short(t, []byte("alice")), short(t, signer.Public()), short(t, leaf),
	}, nil)
	content := append(short(t, []byte("MLS 1.0 CredentialBindingTBS")), 0x40)
	content = append(binary.AppendUvarint(content, uint64(len(tbs))), tbs...) // 64 to 127: two octets
	equal(t, "signature", b.Signature, ed25519.Sign(ed25519.NewKeyFromSeed(seed), content))
	noError(t, b.VerifySignature(leaf))
	cred, err := MultiCredential{b}.Credential()
	noError(t, err)
	want := bytes.Join([][]byte{{0, 3, 0x40, byte(len(mustEncode(t, b)))}, mustEncode(t, b)}, nil)
	equal(t, "credential", mustEncode(t, cred), want)
}

func TestMultiCredentialCodec(t *testing.T) {
	signer := newTestSigner(t, suite1)
	b := bind(t, suite1, BasicCredential([]byte("a")), signer, signer.Public())
	one, err := MultiCredential{b}.Credential()
	noError(t, err)
	if _, err := NewCredentialBinding(suite1, one, signer, nil); !errors.Is(err, ErrCredential) {
		t.Errorf("a multi-credential is bound: %v", err)
	}
	if _, err := (MultiCredential{}).Credential(); err == nil {
		t.Error("a multi-credential without bindings is made")
	}
	many := make(MultiCredential, maxBindings+1)
	for i := range many {
		many[i] = b
	}
	if _, err := many.WeakCredential(); !errors.Is(err, ErrLimit) {
		t.Errorf("too many bindings: %v", err)
	}
	nested := bytes.Clone(mustEncode(t, CredentialBinding{CipherSuite: 1, Credential: one, CredentialKey: signer.Public()}))
	for name, opaque := range map[string][]byte{
		"empty": nil, "too many": bytes.Repeat(one.Opaque, maxBindings+1), "cut off": one.Opaque[:len(one.Opaque)-1], "nested": nested,
	} {
		c := Credential{Type: CredentialMulti, Opaque: opaque}
		if _, err := c.Multi(); !errors.Is(err, ErrCredential) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if m, err := (&Credential{Type: CredentialMulti, Opaque: bytes.Repeat(one.Opaque, maxBindings)}).Multi(); err != nil || len(m) != maxBindings {
		t.Errorf("as many as allowed: %v", err)
	}
}

// multiWorld is a group of two with a hub; its members' capabilities list the
// multi-credential types.
type multiWorld struct {
	*world
	public *PublicGroup
	caps   Capabilities
}

func newMultiWorld(t testing.TB, enabled []CredentialType, change ...func(c *Capabilities)) *multiWorld {
	cfg := worldConfig()
	cfg.Credentials = multiVerifier{}
	cfg.MultiCredentials = enabled
	caps := DefaultCapabilities(CredentialBasic, CredentialMulti, CredentialWeakMulti)
	caps.CipherSuites = []CipherSuite{1, 2}
	w := &multiWorld{world: &world{TB: t, suite: suite1, cfg: cfg, groups: map[string]*Group{}}, caps: caps}
	signer := newTestSigner(t, suite1)
	g, err := CreateGroup(cfg, GroupParams{
		CipherSuite: suite1, GroupID: []byte("room"), Signer: signer, Credential: BasicCredential([]byte("m0")), Capabilities: caps,
	})
	noError(t, err)
	w.join("m0", g)
	other := caps
	for _, f := range change {
		f(&other)
	}
	signer = newTestSigner(t, suite1)
	kp, priv, err := NewKeyPackage(KeyPackageParams{CipherSuite: suite1, Signer: signer, Credential: BasicCredential([]byte("m1")), Capabilities: other})
	noError(t, err)
	w.commit("m0", CommitOptions{Proposals: []Proposal{AddProposal(kp)}}, &device{"m1", signer, kp, priv})
	w.public = publicOf(t, w.world, "m0")
	return w
}

// add returns the errors of the committer, a member and the hub on adding a
// client with the credential.
func (w *multiWorld) add(cred func(leaf []byte) Credential) (errs [3]error) {
	w.Helper()
	signer := newTestSigner(w, suite1)
	kp, _, err := NewKeyPackage(KeyPackageParams{
		CipherSuite: suite1, Signer: signer, Credential: cred(signer.Public()), Capabilities: w.caps,
	})
	noError(w, err)
	sc, err := w.groups["m0"].Commit(CommitOptions{Proposals: []Proposal{AddProposal(kp)}})
	errs[0] = err
	m := forge(w, w.groups["m0"], byValue(AddProposal(kp)), nil)
	if err == nil {
		m = sc.Message
	}
	before := groupImage(w, w.groups["m1"])
	_, errs[1] = w.groups["m1"].StageCommit(w.wire(m))
	equal(w, "member", groupImage(w, w.groups["m1"]), before)
	_, errs[2] = w.public.StageCommit(w.wire(m))
	return errs
}

func TestMultiCredentials(t *testing.T) {
	type binding struct {
		suite CipherSuite
		kind  CredentialType
		flaw  string
	}
	ok := binding{suite1, CredentialBasic, ""}
	p256 := binding{2, CredentialBasic, ""}
	alien := binding{suite1, 0xf001, ""}       // of a type that nobody supports
	badSuite := binding{0xf0f0, 1, "unsigned"} // of a suite that nobody knows
	unusual := binding{3, CredentialBasic, ""} // of a suite that members do not list
	forged := binding{suite1, CredentialBasic, "signature"}
	moved := binding{suite1, CredentialBasic, "leaf"}
	evil := binding{suite1, CredentialBasic, "evil"}
	alienForged := binding{suite1, 0xf001, "signature"}
	for _, tt := range []struct {
		name        string
		bindings    []binding
		multi, weak error
	}{
		{"one", []binding{ok}, nil, nil},
		{"two of different suites", []binding{ok, p256}, nil, nil},
		{"bad signature", []binding{ok, forged}, ErrCredential, ErrCredential},
		{"bound to another leaf", []binding{moved}, ErrCredential, ErrCredential},
		{"refused by the application", []binding{ok, evil}, ErrCredential, ErrCredential},
		{"one that nobody supports", []binding{ok, alien}, ErrCredential, nil},
		{"one that nobody supports, forged", []binding{ok, alienForged}, ErrCredential, nil},
		{"one of an unknown suite", []binding{badSuite, ok}, ErrCredential, nil},
		{"only one that nobody supports", []binding{alien}, ErrCredential, ErrCredential},
		{"one that only this client supports", []binding{ok, unusual}, ErrCapabilities, nil},
		{"only one that only this client supports", []binding{unusual}, ErrCapabilities, ErrCapabilities},
	} {
		for _, weak := range []bool{false, true} {
			want := tt.multi
			if weak {
				want = tt.weak
			}
			t.Run(fmt.Sprintf("%s/weak=%v", tt.name, weak), func(t *testing.T) {
				w := newMultiWorld(t, []CredentialType{CredentialBasic})
				errs := w.add(func(leaf []byte) Credential {
					var m MultiCredential
					for i, b := range tt.bindings {
						c := BasicCredential([]byte(fmt.Sprintf("id%d", i)))
						if b.flaw == "evil" {
							c.Identity = []byte("evil")
						}
						if b.kind != CredentialBasic {
							c = Credential{Type: b.kind, Opaque: []byte("x")}
						}
						if b.flaw == "unsigned" {
							m = append(m, CredentialBinding{CipherSuite: b.suite, Credential: c, CredentialKey: leaf, Signature: []byte("x")})
							continue
						}
						to := leaf
						if b.flaw == "leaf" {
							to = bytes.Repeat([]byte{1}, 32)
						}
						made := bind(t, b.suite, c, newTestSigner(t, b.suite), to)
						if b.flaw == "signature" {
							made.Signature[0] ^= 1
						}
						m = append(m, made)
					}
					c, err := m.Credential()
					if weak {
						c, err = m.WeakCredential()
					}
					noError(t, err)
					return c
				})
				for i, who := range []string{"committer", "member", "PublicGroup"} {
					if !errors.Is(errs[i], want) {
						t.Errorf("%s: %v; want %v", who, errs[i], want)
					}
				}
			})
		}
	}
}

// Of a weak multi-credential each member needs to support some binding, not
// the same.
func TestWeakMultiCredentialPerMember(t *testing.T) {
	weak := func(suites ...CipherSuite) func(leaf []byte) Credential {
		return func(leaf []byte) Credential {
			var m MultiCredential
			for _, s := range suites {
				m = append(m, bind(t, s, BasicCredential([]byte("id")), newTestSigner(t, s), leaf))
			}
			c, err := m.WeakCredential()
			noError(t, err)
			return c
		}
	}
	// m0 lists suites 1 and 2, m1 lists 1 and 3.
	w := newMultiWorld(t, []CredentialType{CredentialBasic}, func(c *Capabilities) { c.CipherSuites = []CipherSuite{1, 3} })
	w.caps.CipherSuites = []CipherSuite{1, 2}
	for _, err := range w.add(weak(2, 3)) {
		if err != nil {
			t.Errorf("each member supports one of two: %v", err)
		}
	}
	for _, err := range w.add(weak(2)) {
		if !errors.Is(err, ErrCapabilities) {
			t.Errorf("m1 supports none: %v", err)
		}
	}
}

// Nothing of this works unless it is enabled and listed.
func TestMultiCredentialsOff(t *testing.T) {
	single := func(leaf []byte) Credential {
		c, err := MultiCredential{bind(t, suite1, BasicCredential([]byte("id")), newTestSigner(t, suite1), leaf)}.Credential()
		noError(t, err)
		return c
	}
	w := newMultiWorld(t, nil)
	for _, err := range w.add(single) {
		if !errors.Is(err, ErrCredential) {
			t.Errorf("not enabled: %v", err)
		}
	}
	w = newMultiWorld(t, []CredentialType{CredentialBasic}, func(c *Capabilities) { c.Credentials = []CredentialType{CredentialBasic} })
	for _, err := range w.add(single) {
		if !errors.Is(err, ErrCapabilities) {
			t.Errorf("a member does not list multi: %v", err)
		}
	}
	if c := DefaultCapabilities(); c.SupportsCredential(CredentialMulti) || c.SupportsCredential(CredentialWeakMulti) {
		t.Error("multi-credentials are on by default")
	}
}

// A group whose members have multi-credentials lives: join, update, store.
func TestMultiCredentialGroup(t *testing.T) {
	w := newMultiWorld(t, []CredentialType{CredentialBasic})
	signer, id := newTestSigner(t, suite1), newTestSigner(t, 2)
	cred, err := MultiCredential{bind(t, 2, BasicCredential([]byte("m2")), id, signer.Public())}.Credential()
	noError(t, err)
	kp, priv, err := NewKeyPackage(KeyPackageParams{CipherSuite: suite1, Signer: signer, Credential: cred, Capabilities: w.caps})
	noError(t, err)
	sc, err := w.groups["m0"].Commit(CommitOptions{Proposals: []Proposal{AddProposal(kp)}})
	noError(t, err)
	got, err := w.groups["m1"].StageCommit(w.wire(sc.Message))
	noError(t, err)
	noError(t, w.groups["m0"].Merge(sc))
	noError(t, w.groups["m1"].Merge(got))
	g, err := JoinWelcome(w.cfg, w.wire(WelcomeMessage(sc.Welcome)).Welcome, nil, kp, priv, signer)
	noError(t, err)
	follow := func(sc *StagedCommit) {
		for _, n := range w.names {
			got, err := w.groups[n].StageCommit(w.wire(sc.Message))
			noError(t, err)
			noError(t, w.groups[n].Merge(got))
		}
		noError(t, g.Merge(sc))
	}
	// With a new signature key the binding of the old one is worth nothing.
	next := newTestSigner(t, suite1)
	if _, err := g.Commit(CommitOptions{Leaf: &LeafParams{Signer: next}}); err == nil {
		sc, _ := g.Commit(CommitOptions{Leaf: &LeafParams{Signer: next}})
		w.refuses("m0", sc.Message, ErrCredential)
	}
	cred, err = MultiCredential{bind(t, 2, BasicCredential([]byte("m2")), id, next.Public())}.Credential()
	noError(t, err)
	sc, err = g.Commit(CommitOptions{Leaf: &LeafParams{Signer: next, Credential: &cred}})
	noError(t, err)
	follow(sc)
	records := map[string][]byte{}
	store(t, g, records)
	g, err = LoadGroup(w.cfg, records, next)
	noError(t, err)
	sc, err = g.Commit(CommitOptions{})
	noError(t, err)
	follow(sc)
	if _, err := NewPublicGroup(w.cfg, sc.GroupInfo, g.State().RatchetTree()); err != nil {
		t.Errorf("a hub starts to follow: %v", err)
	}
}

// FuzzMultiCredential decodes arbitrary credentials of both types: what
// decodes encodes to the same, within the bounds.
func FuzzMultiCredential(f *testing.F) {
	signer := newTestSigner(f, suite1)
	for _, n := range []int{1, 2, maxBindings} {
		var m MultiCredential
		for range n {
			m = append(m, bind(f, suite1, BasicCredential([]byte("id")), signer, signer.Public()))
		}
		c, err := m.Credential()
		noError(f, err)
		f.Add(c.Opaque, true)
	}
	f.Fuzz(func(t *testing.T, opaque []byte, weak bool) {
		c := Credential{Type: CredentialMulti, Opaque: opaque}
		if weak {
			c.Type = CredentialWeakMulti
		}
		m, err := c.Multi()
		if err != nil {
			if !errors.Is(err, ErrCredential) {
				t.Fatal(err)
			}
			return
		}
		if len(m) == 0 || len(m) > maxBindings {
			t.Fatalf("%d bindings", len(m))
		}
		again, err := m.credential(c.Type)
		if err != nil || !again.Equal(&c) {
			t.Fatalf("%x encodes to %x: %v", c.Opaque, again.Opaque, err)
		}
		supportOf(&LeafNode{Credential: c})
	})
}
