package mls

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"testing"
)

// short encodes opaque<V> of less than 64 octets by hand.
func short(t testing.TB, parts ...[]byte) []byte {
	t.Helper()
	b := bytes.Join(parts, nil)
	if len(b) >= 64 {
		t.Fatalf("%d octets need a longer length", len(b))
	}
	return append([]byte{byte(len(b))}, b...)
}

// naiveOperation encodes SignContent (or EncryptContext) over a
// ComponentOperationLabel by hand, from the text of the drafts.
func naiveOperation(t testing.TB, id uint16, label, content string) []byte {
	operation := bytes.Join([][]byte{
		short(t, []byte("MLS Component")), binary.BigEndian.AppendUint16(nil, id), short(t, []byte(label)),
	}, nil)
	return append(short(t, []byte("MLS 1.0 "), operation), short(t, []byte(content))...)
}

func TestComponentOperationLabelGolden(t *testing.T) {
	const want = "0d" + "4d4c5320436f6d706f6e656e74" + "8001" + "05" + "6c6162656c"
	if got := hex.EncodeToString([]byte(ComponentOperationLabel(0x8001, "label"))); got != want {
		t.Errorf("ComponentOperationLabel is %s, want %s", got, want)
	}
}

func TestSafeSignGolden(t *testing.T) {
	seed := bytes.Repeat([]byte{7}, 32)
	signer, err := NewSigner(suite1, seed)
	noError(t, err)
	got, err := SafeSignWithLabel(signer, 0x8001, "label", []byte("content"))
	noError(t, err)
	private := ed25519.NewKeyFromSeed(seed)
	equal(t, "signature", got, ed25519.Sign(private, naiveOperation(t, 0x8001, "label", "content")))
	noError(t, SafeVerifyWithLabel(suite1, signer.Public(), 0x8001, "label", []byte("content"), got))
}

// A signature verifies in its own component, under its own label, for its own
// content and nowhere else.
func TestSafeSignSeparation(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1")
	g := w.groups["m1"]
	sig, err := g.SafeSign(0x8001, "label", []byte("content"))
	noError(t, err)
	for _, st := range []*State{w.groups["m0"].State(), publicOf(t, w, "m0").State()} {
		noError(t, st.SafeVerify(g.OwnLeaf(), 0x8001, "label", []byte("content"), sig))
		for name, err := range map[string]error{
			"another component": st.SafeVerify(g.OwnLeaf(), 0x8002, "label", []byte("content"), sig),
			"another label":     st.SafeVerify(g.OwnLeaf(), 0x8001, "labe", []byte("content"), sig),
			"another content":   st.SafeVerify(g.OwnLeaf(), 0x8001, "label", []byte("contents"), sig),
			"another member":    st.SafeVerify(0, 0x8001, "label", []byte("content"), sig),
		} {
			if !errors.Is(err, ErrInvalidSignature) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := st.SafeVerify(5, 0x8001, "label", []byte("content"), sig); !errors.Is(err, ErrUnknownSender) {
			t.Errorf("blank leaf: %v", err)
		}
	}
	leaf, _ := g.State().Member(g.OwnLeaf())
	if err := VerifyWithLabel(suite1, leaf.SignatureKey, "label", []byte("content"), sig); err == nil {
		t.Error("the signature verifies without its component")
	}
	// What MLS itself signed is worth nothing to a component.
	tbs, err := leaf.signedContent(g.State().GroupID(), g.OwnLeaf())
	noError(t, err)
	if err := g.State().SafeVerify(g.OwnLeaf(), 0x8001, leafNodeLabel, tbs, leaf.Signature); err == nil {
		t.Error("the signature of a leaf verifies as a component's")
	}
}

// publicOf returns what one who is no member sees of the group.
func publicOf(t testing.TB, w *world, name string) *PublicGroup {
	t.Helper()
	gi, err := w.groups[name].GroupInfo()
	noError(t, err)
	p, err := NewPublicGroup(w.cfg, gi, w.groups[name].State().RatchetTree())
	noError(t, err)
	return p
}

func TestSafeEncryptGolden(t *testing.T) {
	kem := hpke.DHKEM(ecdh.X25519())
	key, err := kem.GenerateKey()
	noError(t, err)
	ct, err := SafeEncryptWithLabel(suite1, key.PublicKey().Bytes(), 0x8001, "label", []byte("context"), []byte("plaintext"))
	noError(t, err)
	r, err := hpke.NewRecipient(ct.KEMOutput, key, hpke.HKDFSHA256(), hpke.AES128GCM(), naiveOperation(t, 0x8001, "label", "context"))
	noError(t, err)
	pt, err := r.Open(nil, ct.Ciphertext)
	noError(t, err)
	equal(t, "plaintext", pt, []byte("plaintext"))
	// And the other way round.
	enc, s, err := hpke.NewSender(key.PublicKey(), hpke.HKDFSHA256(), hpke.AES128GCM(), naiveOperation(t, 0x8001, "label", "context"))
	noError(t, err)
	sealed, err := s.Seal(nil, []byte("reply"))
	noError(t, err)
	private, err := key.Bytes()
	noError(t, err)
	pt, err = SafeDecryptWithLabel(suite1, private, 0x8001, "label", []byte("context"), HPKECiphertext{enc, sealed})
	noError(t, err)
	equal(t, "reply", pt, []byte("reply"))
}

func TestSafeEncrypt(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2", "m3")
	for _, n := range []string{"m0", "m1", "m2", "m3"} {
		w.commit(n, CommitOptions{})
	}
	g := w.groups["m1"]
	st := publicOf(t, w, "m0").State()
	leaf, _ := st.Member(g.OwnLeaf())
	tree := st.RatchetTree()
	open := func(name string, public []byte, ct HPKECiphertext) error {
		pt, err := w.groups[name].SafeDecrypt(public, 0x8001, "label", nil, ct)
		if err == nil && string(pt) != "secret" {
			t.Errorf("%s decrypts %q", name, pt)
		}
		return err
	}
	// To one member.
	ct, err := st.SafeEncrypt(leaf.EncryptionKey, 0x8001, "label", nil, []byte("secret"))
	noError(t, err)
	noError(t, open("m1", leaf.EncryptionKey, ct))
	if err := open("m0", leaf.EncryptionKey, ct); !errors.Is(err, ErrKey) {
		t.Errorf("m0 opens what is for m1: %v", err)
	}
	// To the subtree of the first two members: node 1.
	if tree[1].Parent == nil || tree[3].Parent == nil {
		t.Fatal("the tree has blank parents")
	}
	pair := tree[1].Parent.EncryptionKey
	ct, err = st.SafeEncrypt(pair, 0x8001, "label", nil, []byte("secret"))
	noError(t, err)
	noError(t, open("m0", pair, ct))
	noError(t, open("m1", pair, ct))
	if err := open("m2", pair, ct); !errors.Is(err, ErrKey) {
		t.Errorf("m2 opens what is for the other subtree: %v", err)
	}
	// To all.
	external, err := w.groups["m2"].ExternalPublicKey()
	noError(t, err)
	gi, err := g.GroupInfo()
	noError(t, err)
	published, _, err := gi.Extensions.ExternalPub()
	noError(t, err)
	equal(t, "external_pub", external, published)
	ct, err = SafeEncryptWithLabel(suite1, external, 0x8001, "label", nil, []byte("secret"))
	noError(t, err)
	for _, n := range w.names {
		noError(t, open(n, external, ct))
	}
	// The root is refused for both directions (CLI-14), and so are strangers.
	root := tree[3].Parent.EncryptionKey
	if _, err := st.SafeEncrypt(root, 0x8001, "label", nil, nil); !errors.Is(err, ErrKey) {
		t.Errorf("encryption to the root: %v", err)
	}
	direct, err := SafeEncryptWithLabel(suite1, root, 0x8001, "label", nil, []byte("secret"))
	noError(t, err)
	if err := open("m0", root, direct); !errors.Is(err, ErrKey) {
		t.Errorf("decryption by the root: %v", err)
	}
	if _, err := st.SafeEncrypt(external, 0x8001, "label", nil, nil); !errors.Is(err, ErrKey) {
		t.Errorf("a key that is not of the tree: %v", err)
	}
	// Another component, label or context opens nothing, nor does MLS.
	for _, c := range []struct {
		id      ComponentID
		label   string
		context string
	}{{0x8002, "label", ""}, {0x8001, "other", ""}, {0x8001, "label", "x"}} {
		if _, err := g.SafeDecrypt(external, c.id, c.label, []byte(c.context), ct); !errors.Is(err, ErrDecrypt) {
			t.Errorf("as %v: %v", c, err)
		}
	}
	private := g.keys[leafPosition(g.OwnLeaf())]
	ct, err = EncryptWithLabel(suite1, leaf.EncryptionKey, "UpdatePathNode", nil, []byte("secret"))
	noError(t, err)
	if _, err := SafeDecryptWithLabel(suite1, private, 0x8001, "UpdatePathNode", nil, ct); !errors.Is(err, ErrDecrypt) {
		t.Errorf("a component opens what is for MLS: %v", err)
	}
	// The next epoch has another external key.
	w.commit("m0", CommitOptions{})
	if err := open("m2", external, ct); !errors.Is(err, ErrKey) {
		t.Errorf("external key of the last epoch: %v", err)
	}
}

// A group of one has its leaf as root; the leaf's key is fine.
func TestSafeEncryptAlone(t *testing.T) {
	w := newWorld(t, suite1)
	g := w.groups["m0"]
	leaf, _ := g.State().Member(0)
	ct, err := g.State().SafeEncrypt(leaf.EncryptionKey, 1, "l", nil, []byte("x"))
	noError(t, err)
	pt, err := g.SafeDecrypt(leaf.EncryptionKey, 1, "l", nil, ct)
	noError(t, err)
	equal(t, "plaintext", pt, []byte("x"))
}
