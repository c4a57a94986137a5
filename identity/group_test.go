package identity

import (
	"errors"
	"testing"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A group of real devices: certificates are checked when a device comes in,
// and one that has expired since keeps nobody from joining.
func TestGroupOfDevices(t *testing.T) {
	const suite = mls.X25519AES128SHA256Ed25519
	ca, rogue := mustCA(t, "a.example"), mustCA(t, "a.example")
	now := testNow
	cfg := mls.Config{
		Credentials: &Verifier{Anchors: StaticAnchors{"a.example": ca.Anchor()}},
		Now:         func() time.Time { return now },
	}
	type device struct {
		signer mls.Signer
		cred   mls.Credential
	}
	newDevice := func(ca *CA, name string, validity time.Duration) device {
		t.Helper()
		signer, _, err := mls.GenerateSigner(suite, nil)
		if err != nil {
			t.Fatal(err)
		}
		pub, err := PublicKey(suite, signer.Public())
		if err != nil {
			t.Fatal(err)
		}
		der, err := ca.IssueDevice(mimi.MustParseURI("mimi://a.example/u/"+name), mimi.MustParseURI("mimi://a.example/d/"+name), pub, validity, now)
		if err != nil {
			t.Fatal(err)
		}
		return device{signer, mls.X509Credential(der)}
	}
	keyPackage := func(d device) *mls.KeyPackage {
		t.Helper()
		kp, _, err := mls.NewKeyPackage(mls.KeyPackageParams{CipherSuite: suite, Signer: d.signer, Credential: d.cred, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		return kp
	}

	a := newDevice(ca, "alice", MaxDeviceValidity)
	g, err := mls.CreateGroup(cfg, mls.GroupParams{CipherSuite: suite, Signer: a.signer, Credential: a.cred})
	if err != nil {
		t.Fatal(err)
	}
	add := func(kp *mls.KeyPackage) error {
		t.Helper()
		sc, err := g.Commit(mls.CommitOptions{Proposals: []mls.Proposal{mls.AddProposal(kp)}})
		if err != nil {
			return err
		}
		return g.Merge(sc)
	}
	// T-I1: a key package that someone made up in a user's name is refused.
	if err := add(keyPackage(newDevice(rogue, "bob", MaxDeviceValidity))); !errors.Is(err, ErrUntrusted) || !errors.Is(err, mls.ErrCredential) {
		t.Fatalf("a made-up device: %v", err)
	}
	bob := newDevice(ca, "bob", MaxDeviceValidity)
	stolen := bob
	stolen.signer, _, err = mls.GenerateSigner(suite, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := add(keyPackage(stolen)); !errors.Is(err, ErrKeyMismatch) {
		t.Fatalf("a certificate with another key: %v", err)
	}
	if err := add(keyPackage(bob)); err != nil {
		t.Fatal(err)
	}
	carol := keyPackage(newDevice(ca, "carol", 2*time.Hour))
	now = now.Add(90 * time.Minute)
	if err := carol.Verify(&cfg); !errors.Is(err, ErrExpired) {
		t.Fatalf("an expired device: %v", err)
	}
	if err := add(carol); !errors.Is(err, ErrExpired) {
		t.Fatalf("an expired device: %v", err)
	}
	late := cfg
	late.Credentials = AtAnyTime(cfg.Credentials)
	late.SkipLifetime = true
	if err := carol.Verify(&late); err != nil {
		t.Errorf("an expired device, seen by one who follows: %v", err)
	}
	if AtAnyTime(nil) != nil {
		t.Error("no verifier became one")
	}

	gi, err := g.GroupInfo()
	if err != nil {
		t.Fatal(err)
	}
	tree := g.State().RatchetTree()
	now = testNow.Add(MaxDeviceValidity) // an hour after all certificates ended
	if _, err := mls.NewPublicGroup(cfg, gi, tree); err != nil {
		t.Errorf("a group with expired members: %v", err)
	}
	other := cfg
	other.Credentials = &Verifier{Anchors: StaticAnchors{"a.example": rogue.Anchor()}}
	if _, err := mls.NewPublicGroup(other, gi, tree); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a group with members of another CA: %v", err)
	}
}
