package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// switchAnchors is an Anchors whose answers a test changes.
type switchAnchors struct {
	calls  atomic.Int64
	mu     sync.Mutex
	answer func(domain string) (*Anchor, error)
}

func (s *switchAnchors) set(f func(domain string) (*Anchor, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

func (s *switchAnchors) setAnchor(a *Anchor) {
	s.set(func(string) (*Anchor, error) { return a, nil })
}

func (s *switchAnchors) Anchor(domain string) (*Anchor, error) {
	s.calls.Add(1)
	s.mu.Lock()
	f := s.answer
	s.mu.Unlock()
	return f(domain)
}

func issue(t testing.TB, ca *CA, device mimi.URI, suite mls.CipherSuite) (mls.Credential, []byte) {
	t.Helper()
	raw, pub := newDeviceKey(t, suite)
	der, err := ca.IssueDevice(alice, device, pub, MaxDeviceValidity, testNow)
	if err != nil {
		t.Fatal(err)
	}
	return mls.X509Credential(der), raw
}

// What CA issues, Verifier accepts, for every suite whose keys fit X.509.
func TestIssuedIsGenuine(t *testing.T) {
	ca := mustCA(t, "a.example")
	v := &Verifier{Anchors: StaticAnchors{"a.example": ca.Anchor()}}
	for _, suite := range mls.UsableCipherSuites() {
		if suite == mls.X448AES256SHA512Ed448 || suite == mls.X448ChaCha20SHA512Ed448 {
			// crypto/x509 has no Ed448.
			if _, err := PublicKey(suite, make([]byte, 57)); err == nil {
				t.Errorf("%v has certificates", suite)
			}
			continue
		}
		c, key := issue(t, ca, aliceDevice, suite)
		names, err := v.IdentifyClient(&c, key, testNow)
		if err != nil {
			t.Fatalf("%v: %v", suite, err)
		}
		if names != (Names{"a.example", alice, aliceDevice}) {
			t.Errorf("%v: names %v", suite, names)
		}
		user, device, err := ClientURIs(&c)
		if err != nil || user != alice || device != aliceDevice {
			t.Errorf("%v: ClientURIs: %v %v %v", suite, user, device, err)
		}
		if _, err := ProviderDomain(&c); !errors.Is(err, ErrNames) {
			t.Errorf("%v: ProviderDomain of a client: %v", suite, err)
		}
		if _, err := v.IdentifyProvider(&c, key, testNow); !errors.Is(err, ErrNames) {
			t.Errorf("%v: IdentifyProvider of a client: %v", suite, err)
		}

		raw, pub := newDeviceKey(t, suite)
		der, err := ca.IssueProvider(pub, testNow)
		if err != nil {
			t.Fatal(err)
		}
		p := mls.X509Credential(der)
		names, err = v.IdentifyProvider(&p, raw, testNow.Add(9*365*24*time.Hour))
		if err != nil || names != (Names{Domain: "a.example"}) {
			t.Errorf("%v: provider: %v, %v", suite, names, err)
		}
		if domain, err := ProviderDomain(&p); err != nil || domain != "a.example" {
			t.Errorf("%v: ProviderDomain: %q, %v", suite, domain, err)
		}
		if _, _, err := ClientURIs(&p); !errors.Is(err, ErrNames) {
			t.Errorf("%v: ClientURIs of a provider: %v", suite, err)
		}
		if _, err := v.IdentifyClient(&p, raw, testNow); !errors.Is(err, ErrNames) {
			t.Errorf("%v: IdentifyClient of a provider: %v", suite, err)
		}
	}
}

func TestSuccessor(t *testing.T) {
	ca := mustCA(t, "a.example")
	v := &Verifier{Anchors: StaticAnchors{"a.example": ca.Anchor()}}
	leaf := func(user, device string) *mls.LeafNode {
		_, pub := newDeviceKey(t, mls.P256AES128SHA256P256)
		der, err := ca.IssueDevice(mimi.MustParseURI(user), mimi.MustParseURI(device), pub, MaxDeviceValidity, testNow)
		if err != nil {
			t.Fatal(err)
		}
		return &mls.LeafNode{Credential: mls.X509Credential(der)}
	}
	old := leaf("mimi://a.example/u/alice", "mimi://a.example/d/1")
	if err := v.VerifySuccessor(old, leaf("mimi://a.example/u/alice", "mimi://a.example/d/1")); err != nil {
		t.Error(err)
	}
	_, pub := newDeviceKey(t, mls.P256AES128SHA256P256)
	der, err := ca.IssueProvider(pub, testNow)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]*mls.LeafNode{
		"other user":   leaf("mimi://a.example/u/bob", "mimi://a.example/d/1"),
		"other device": leaf("mimi://a.example/u/alice", "mimi://a.example/d/2"),
		"provider":     {Credential: mls.X509Credential(der)},
		"basic":        {Credential: mls.BasicCredential([]byte("mimi://a.example/u/alice"))},
		"none":         nil,
	} {
		if err := v.VerifySuccessor(old, bad); !errors.Is(err, ErrSuccessor) {
			t.Errorf("%s: got %v, want ErrSuccessor", name, err)
		}
		if err := v.VerifySuccessor(bad, old); !errors.Is(err, ErrSuccessor) {
			t.Errorf("%s replaced: got %v, want ErrSuccessor", name, err)
		}
	}
}

// A remembered credential stops counting when its time is over, when the
// domain's CA is gone, and for another key.
func TestCacheDoesNotOutliveTrust(t *testing.T) {
	ca := mustCA(t, "a.example")
	c, key := issue(t, ca, aliceDevice, mls.P256AES128SHA256P256)
	source := new(switchAnchors)
	source.setAnchor(ca.Anchor())
	v := &Verifier{Anchors: source}
	check := func(what string, key []byte, now time.Time, want error) {
		t.Helper()
		if err := v.VerifyCredential(&c, key, now); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	check("first", key, testNow, nil)
	if len(v.cache) != 1 {
		t.Fatalf("%d entries in the cache, want 1", len(v.cache))
	}
	check("again", key, testNow, nil)
	check("after the end", key, testNow.Add(MaxDeviceValidity), ErrExpired)
	check("before the start", key, testNow.Add(-2*time.Hour), ErrExpired)
	check("without a time", key, time.Time{}, nil)
	check("for another key", append([]byte{0}, key...), testNow, ErrKeyMismatch)

	source.set(func(string) (*Anchor, error) { return nil, ErrUnknownDomain })
	check("CA unknown", key, testNow, ErrUnknownDomain)
	source.setAnchor(mustCA(t, "a.example").Anchor())
	check("another CA", key, testNow, ErrUntrusted)
	source.setAnchor(mustCA(t, "b.example").Anchor())
	check("anchor of another domain", key, testNow, ErrAnchor)
	source.setAnchor(nil)
	check("no answer", key, testNow, ErrAnchor)
	source.setAnchor(ca.Anchor())
	check("the CA again", key, testNow, nil)

	if err := new(Verifier).VerifyCredential(&c, key, testNow); !errors.Is(err, ErrUnknownDomain) {
		t.Errorf("no Anchors: %v", err)
	}
	if err := v.VerifyCredential(nil, key, testNow); !errors.Is(err, ErrCredential) {
		t.Errorf("no credential: %v", err)
	}
}

// A CA whose own time is over certifies nothing.
func TestExpiredCA(t *testing.T) {
	template := caTemplate("old", "a.example")
	template.NotAfter = testNow.Add(-time.Second)
	root := newTestCA(t, template, nil, nil)
	key, pub := newDeviceKey(t, mls.X25519AES128SHA256Ed25519)
	c := mls.X509Credential(goodLeaf(root, pub).mint(t))
	v := &Verifier{Anchors: StaticAnchors{"a.example": {Domain: "a.example", Certificates: []*x509.Certificate{root.cert}}}}
	if err := v.VerifyCredential(&c, key, testNow); !errors.Is(err, ErrExpired) {
		t.Errorf("got %v, want ErrExpired", err)
	}
	if err := v.VerifyCredential(&c, key, testNow.Add(-time.Minute)); err != nil {
		t.Errorf("while it was valid: %v", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	ca := mustCA(t, "a.example")
	v := &Verifier{Anchors: StaticAnchors{"a.example": ca.Anchor()}, CacheSize: 3}
	none := &Verifier{Anchors: v.Anchors, CacheSize: -1}
	var first [32]byte
	for i := range 5 {
		c, key := issue(t, ca, mimi.MustParseURI(fmt.Sprintf("mimi://a.example/d/%d", i)), mls.X25519AES128SHA256Ed25519)
		if i == 0 {
			first = cacheKey(c.Certificates, key)
		}
		for range 2 {
			for _, v := range []*Verifier{v, none} {
				if err := v.VerifyCredential(&c, key, testNow); err != nil {
					t.Fatal(err)
				}
			}
		}
		if want := min(i+1, 3); len(v.cache) != want || v.order.Len() != want {
			t.Fatalf("%d entries, %d in order, want %d", len(v.cache), v.order.Len(), want)
		}
	}
	if _, ok := v.cache[first]; ok {
		t.Error("the oldest entry is still there")
	}
	if len(none.cache) != 0 {
		t.Error("a cache that is switched off holds entries")
	}
}

// Many goroutines use one verifier, whose cache is too small for all; run with
// -race.
func TestVerifierConcurrently(t *testing.T) {
	ca, other := mustCA(t, "a.example"), mustCA(t, "a.example")
	cached := &CachedAnchors{Source: StaticAnchors{"a.example": ca.Anchor()}, Now: func() time.Time { return testNow }}
	v := &Verifier{Anchors: cached, CacheSize: 2}
	type device struct {
		c    mls.Credential
		key  []byte
		want error
	}
	var devices []device
	for i := range 4 {
		uri := mimi.MustParseURI(fmt.Sprintf("mimi://a.example/d/%d", i))
		c, key := issue(t, ca, uri, mls.P256AES128SHA256P256)
		devices = append(devices, device{c, key, nil})
		c, key = issue(t, other, uri, mls.P256AES128SHA256P256)
		devices = append(devices, device{c, key, ErrUntrusted})
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				d := devices[(g+i)%len(devices)]
				if err := v.VerifyCredential(&d.c, d.key, testNow); !errors.Is(err, d.want) {
					t.Errorf("got %v, want %v", err, d.want)
				}
				if i%10 == 0 {
					cached.Forget("a.example")
				}
			}
		})
	}
	wg.Wait()
	if len(v.cache) > 2 {
		t.Errorf("%d entries, want at most 2", len(v.cache))
	}
}
