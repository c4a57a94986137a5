package keys_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/internal/keys"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/internal/store/sqlite"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// suite is that of all devices here.
const suite = mls.X25519AES128SHA256Ed25519

// world is a provider with its CA and its store.
type world struct {
	*testing.T
	now  time.Time
	ca   *identity.CA
	db   *sqlite.Store
	keys *keys.Keys
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, now: time.Unix(1_800_000_000, 0)}
	clock := func() time.Time { return w.now }
	var err error
	if w.ca, err = identity.NewCA("a.example", w.now); err != nil {
		t.Fatal(err)
	}
	if w.db, err = sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "db"), Now: clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.db.Close() })
	verifier := &identity.Verifier{Anchors: identity.StaticAnchors{"a.example": w.ca.Anchor()}}
	config := mls.Config{Credentials: verifier, Now: clock}
	w.keys = keys.New(keys.Config{
		Store:  w.db,
		Verify: func(kp *mls.KeyPackage) error { return kp.Verify(&config) },
		Identify: func(c *mls.Credential, key []byte) (user, device mimi.URI, err error) {
			names, err := verifier.IdentifyClient(c, key, w.now)
			return names.User, names.Device, err
		},
		Now: clock,
	})
	return w
}

// device is a certified client.
type device struct {
	user, uri  mimi.URI
	signer     mls.Signer
	credential mls.Credential
}

func (w *world) device(user, name string) *device {
	w.Helper()
	d := &device{}
	var err error
	if d.user, err = mimi.NewURI(mimi.KindUser, "a.example", user); err != nil {
		w.Fatal(err)
	}
	if d.uri, err = mimi.NewURI(mimi.KindClient, "a.example", user+"/"+name); err != nil {
		w.Fatal(err)
	}
	if d.signer, _, err = mls.GenerateSigner(suite, rand.Reader); err != nil {
		w.Fatal(err)
	}
	der, err := w.ca.IssueDevice(d.user, d.uri, ed25519.PublicKey(d.signer.Public()), 90*24*time.Hour, w.now)
	if err != nil {
		w.Fatal(err)
	}
	d.credential = mls.X509Credential(der)
	code := sha256.Sum256([]byte(d.uri.String()))
	if err := w.db.PutUser(w.Context(), store.User{URI: d.user.String()}); err != nil {
		w.Fatal(err)
	}
	if err := w.db.PutEnrolment(w.Context(), store.Enrolment{CodeHash: code, User: d.user.String(), Expires: 1 << 60}); err != nil {
		w.Fatal(err)
	}
	if err := w.db.UseEnrolment(w.Context(), code, store.Device{URI: d.uri.String(), User: d.user.String(), PublicKey: d.signer.Public(), CipherSuite: uint16(suite)}, 1); err != nil {
		w.Fatal(err)
	}
	return d
}

func (w *world) keyPackages(d *device, n int, change func(*mls.KeyPackageParams)) []mls.KeyPackage {
	w.Helper()
	leaf, err := room.LeafExtensions()
	if err != nil {
		w.Fatal(err)
	}
	var out []mls.KeyPackage
	for range n {
		p := mls.KeyPackageParams{
			CipherSuite: suite, Signer: d.signer, Credential: d.credential, LeafExtensions: leaf,
			Capabilities: room.Capabilities([]mls.CipherSuite{suite}, mls.CredentialX509),
			Now:          w.now, Lifetime: 30 * 24 * time.Hour,
		}
		if change != nil {
			change(&p)
		}
		kp, _, err := mls.NewKeyPackage(p)
		if err != nil {
			w.Fatal(err)
		}
		out = append(out, *kp)
	}
	return out
}

func (w *world) publish(d *device, n int) {
	w.Helper()
	if err := w.keys.Publish(w.Context(), d.uri, w.keyPackages(d, n, nil)); err != nil {
		w.Fatal(err)
	}
}

// ask returns a signed request by d; nonce makes it differ from others.
func (w *world) ask(d *device, target mimi.URI, nonce string) *mimi.KeyMaterialRequest {
	w.Helper()
	uri, err := mimi.NewURI(mimi.KindRoom, "a.example", nonce)
	if err != nil {
		w.Fatal(err)
	}
	req := &mimi.KeyMaterialRequest{
		Protocol: mimi.ProtocolMLS10, RequestingUser: d.user, TargetUser: target, Room: uri,
		CipherSuites: []mls.CipherSuite{suite}, Credential: d.credential,
	}
	if err := req.Sign(d.signer); err != nil {
		w.Fatal(err)
	}
	return req
}

func (w *world) claim(req *mimi.KeyMaterialRequest, want mimi.KeyMaterialUserCode) []mimi.ClientKeyMaterial {
	w.Helper()
	resp, err := w.keys.Claim(w.Context(), "a.example", req)
	if err != nil {
		w.Fatal(err)
	}
	if resp.UserStatus != want || resp.User != req.TargetUser {
		w.Errorf("got %v for %v, want %v", resp.UserStatus, resp.User, want)
	}
	return resp.Clients
}

func TestEachKeyPackageIsHandedOutOnce(t *testing.T) {
	w := newWorld(t)
	alice, phone, tablet := w.device("alice", "phone"), w.device("bob", "phone"), w.device("bob", "tablet")
	w.publish(phone, 2)
	w.publish(tablet, 1)
	seen := map[string]bool{}
	note := func(clients []mimi.ClientKeyMaterial) {
		t.Helper()
		for _, c := range clients {
			if c.Status != mimi.ClientSuccess {
				continue
			}
			ref, err := c.KeyPackage.Ref()
			if err != nil {
				t.Fatal(err)
			}
			if seen[string(ref)] {
				t.Errorf("a KeyPackage of %v was handed out twice", c.Client)
			}
			seen[string(ref)] = true
		}
	}
	first := w.ask(alice, phone.user, "1")
	answer := w.claim(first, mimi.KeyMaterialSuccess)
	note(answer)
	repeated := w.claim(first, mimi.KeyMaterialSuccess)
	for i := range answer {
		a, _ := mls.Marshal(&answer[i])
		b, _ := mls.Marshal(&repeated[i])
		if !bytes.Equal(a, b) {
			t.Error("the same request got another answer")
		}
	}
	note(w.claim(w.ask(alice, phone.user, "2"), mimi.KeyMaterialPartialSuccess))
	note(w.claim(w.ask(alice, phone.user, "3"), mimi.KeyMaterialNoCompatibleMaterial))
	if len(seen) != 3 {
		t.Errorf("%d KeyPackages were handed out, want 3", len(seen))
	}
	if n, err := w.keys.Count(t.Context(), phone.uri); err != nil || n != 0 {
		t.Errorf("%d KeyPackages left, %v", n, err)
	}
}

func TestExpiredKeyPackagesStay(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.device("alice", "phone"), w.device("bob", "phone")
	w.publish(bob, 1)
	w.now = w.now.Add(30*24*time.Hour - 90*time.Minute)
	clients := w.claim(w.ask(alice, bob.user, "1"), mimi.KeyMaterialNoCompatibleMaterial)
	if len(clients) != 1 || clients[0].Status == mimi.ClientSuccess {
		t.Errorf("material that is about to expire was handed out: %+v", clients)
	}
}

func TestClaimRefuses(t *testing.T) {
	w := newWorld(t)
	alice, bob, eve := w.device("alice", "phone"), w.device("bob", "phone"), w.device("eve", "phone")
	w.publish(bob, 1)
	forged := w.ask(alice, bob.user, "1")
	forged.Signature[3] ^= 1
	posing := w.ask(eve, bob.user, "1")
	posing.RequestingUser = alice.user
	if err := posing.Sign(eve.signer); err != nil {
		t.Fatal(err)
	}
	stolen := w.ask(alice, bob.user, "1")
	if err := stolen.Sign(eve.signer); err != nil { // alice's certificate, eve's key
		t.Fatal(err)
	}
	for name, req := range map[string]*mimi.KeyMaterialRequest{"forged": forged, "in another's name": posing, "with another's certificate": stolen} {
		if _, err := w.keys.Claim(t.Context(), "a.example", req); !errors.Is(err, keys.ErrRequester) {
			t.Errorf("%s: %v; want ErrRequester", name, err)
		}
	}
	nobody, _ := mimi.NewURI(mimi.KindUser, "a.example", "nobody")
	w.claim(w.ask(alice, nobody, "1"), mimi.KeyMaterialUserUnknown)
	picky := w.ask(alice, bob.user, "1")
	picky.RequiredCapabilities.Extensions = []mls.ExtensionType{0xF0F0}
	if err := picky.Sign(alice.signer); err != nil {
		t.Fatal(err)
	}
	clients := w.claim(picky, mimi.KeyMaterialNoCompatibleMaterial)
	if len(clients) != 1 || clients[0].Status != mimi.ClientNothingCompatible || clients[0].Capabilities == nil {
		t.Errorf("capabilities that nobody has: %+v", clients)
	}
}

func TestPublishRefuses(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.device("alice", "phone"), w.device("bob", "phone")
	lastResort := mls.AppDataDictionary{{ComponentID: mls.ComponentLastResortKeyPackage}}
	data, err := mls.Marshal(lastResort)
	if err != nil {
		t.Fatal(err)
	}
	forged := w.keyPackages(alice, 1, nil)
	forged[0].Signature = bytes.Clone(forged[0].Signature)
	forged[0].Signature[0] ^= 1
	for name, kps := range map[string][]mls.KeyPackage{
		"of another device": w.keyPackages(bob, 1, nil),
		"one bad of two":    append(w.keyPackages(alice, 1, nil), w.keyPackages(bob, 1, nil)...),
		"forged":            forged,
		"expired":           w.keyPackages(alice, 1, func(p *mls.KeyPackageParams) { p.Now = w.now.Add(-60 * 24 * time.Hour) }),
		"not yet valid":     w.keyPackages(alice, 1, func(p *mls.KeyPackageParams) { p.Now = w.now.Add(60 * 24 * time.Hour) }),
		"last resort": w.keyPackages(alice, 1, func(p *mls.KeyPackageParams) {
			p.Extensions = mls.Extensions{{Type: mls.ExtensionAppDataDictionary, Data: data}}
		}),
		"too many": make([]mls.KeyPackage, 101),
	} {
		if err := w.keys.Publish(t.Context(), alice.uri, kps); !errors.Is(err, keys.ErrKeyPackage) {
			t.Errorf("%s: %v; want ErrKeyPackage", name, err)
		}
	}
	if n, err := w.keys.Count(t.Context(), alice.uri); err != nil || n != 0 {
		t.Errorf("%d KeyPackages were published, %v", n, err)
	}
	kps := w.keyPackages(alice, 100, nil)
	for range 2 { // the same ones again change nothing
		if err := w.keys.Publish(t.Context(), alice.uri, kps); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := w.keys.Count(t.Context(), alice.uri); err != nil || n != 100 {
		t.Errorf("%d KeyPackages, %v; want 100", n, err)
	}
	if err := w.keys.Publish(t.Context(), alice.uri, w.keyPackages(alice, 100, nil)); err != nil {
		t.Fatal(err)
	}
	if err := w.keys.Publish(t.Context(), alice.uri, w.keyPackages(alice, 1, nil)); !errors.Is(err, keys.ErrPoolFull) {
		t.Errorf("one too many: %v; want ErrPoolFull", err)
	}
}
