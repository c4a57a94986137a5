package identity

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stated returns what a verifier of a fresh statement about ca gets.
func stated(t testing.TB, web *webPKI, ca *CA) *Anchor {
	t.Helper()
	a, err := mustSign(t, web.certificate(t, ca.Domain(), nil, nil), ca).Verify(web.roots, testNow)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestFetchedAnchors(t *testing.T) {
	web := newWebPKI(t)
	ca := mustCA(t, "a.example")
	statement := encode(t, mustSign(t, web.certificate(t, "a.example", nil, nil), ca))
	down := errors.New("connection refused")
	f := &FetchedAnchors{
		Fetch: func(ctx context.Context, domain string) ([]byte, error) {
			if _, ok := ctx.Deadline(); !ok {
				t.Error("a fetch without a deadline")
			}
			switch domain {
			case "a.example", "b.example": // b.example answers with the statement of a.example
				return statement, nil
			case "broken.example":
				return statement[1:], nil
			case "none.example":
				return nil, ErrUnknownDomain
			}
			return nil, down
		},
		Roots: web.roots,
		Now:   func() time.Time { return testNow },
	}
	a, err := f.Anchor("a.example")
	if err != nil || a.Domain != "a.example" || !a.Certificates[0].Equal(ca.Certificate()) {
		t.Fatalf("%+v, %v", a, err)
	}
	for domain, want := range map[string]error{
		"b.example": ErrAnchor, "broken.example": ErrAnchor, "none.example": ErrUnknownDomain,
		"down.example": down, "127.0.0.1": ErrUnknownDomain, "A.example": ErrUnknownDomain, "": ErrUnknownDomain,
	} {
		if _, err := f.Anchor(domain); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", domain, err, want)
		}
	}

	known := StaticAnchors{"static.example": {Domain: "static.example"}}
	first := FirstAnchors{known, f}
	if a, err := first.Anchor("a.example"); err != nil || a.Domain != "a.example" {
		t.Errorf("first: %v", err)
	}
	if a, err := first.Anchor("static.example"); err != nil || a != known["static.example"] {
		t.Errorf("first: %v", err)
	}
	if _, err := (FirstAnchors{f, known}).Anchor("broken.example"); !errors.Is(err, ErrAnchor) {
		t.Errorf("an answer that is refused must end the search: %v", err)
	}
	if _, err := (FirstAnchors{}).Anchor("a.example"); !errors.Is(err, ErrUnknownDomain) {
		t.Errorf("no sources: %v", err)
	}
}

func TestPins(t *testing.T) {
	web := newWebPKI(t)
	first := mustCA(t, "a.example")
	source := new(switchAnchors)
	store := new(MemoryPins)
	now := testNow
	p := &PinnedAnchors{Source: source, Store: store, Now: func() time.Time { return now }}
	v := &Verifier{Anchors: p}
	expect := func(what string, want ...*CA) {
		t.Helper()
		a, err := p.Anchor("a.example")
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		same := len(a.Certificates) == len(want)
		for i := 0; same && i < len(want); i++ {
			same = a.Certificates[i].Equal(want[i].Certificate())
		}
		if !same {
			t.Fatalf("%s: %d CAs, or other ones than the %d expected", what, len(a.Certificates), len(want))
		}
	}
	device := func(ca *CA, want error) {
		t.Helper()
		c, key := issue(t, ca, aliceDevice, 1)
		if err := v.VerifyCredential(&c, key, now); !errors.Is(err, want) {
			t.Fatalf("a device: got %v, want %v", err, want)
		}
	}

	down := errors.New("down")
	source.set(func(string) (*Anchor, error) { return nil, down })
	if _, err := p.Anchor("a.example"); !errors.Is(err, down) {
		t.Fatalf("nothing pinned and the source down: %v", err)
	}
	source.setAnchor(mustCA(t, "b.example").Anchor())
	if _, err := p.Anchor("a.example"); !errors.Is(err, ErrAnchor) {
		t.Fatalf("answer about another domain: %v", err)
	}

	source.setAnchor(stated(t, web, first))
	expect("first use", first)
	device(first, nil)
	source.set(func(string) (*Anchor, error) { return nil, down })
	expect("source down", first)

	// Someone with the TLS key alone cannot bring in a CA: not alone, ...
	rogue := mustCA(t, "a.example")
	source.setAnchor(stated(t, web, rogue))
	expect("rogue CA", first)
	device(first, nil)
	device(rogue, ErrAnchorChanged)
	device(rogue, ErrUntrusted)
	// ... not next to the pinned one, ...
	cert := web.certificate(t, "a.example", nil, nil)
	s := mustSign(t, cert, rogue)
	s = resign(t, s, cert.PrivateKey.(crypto.Signer), func(s *AnchorStatement) {
		s.CAs = append(slices.Clone(s.CAs), StatedCA{Certificate: first.Certificate().Raw})
	})
	a, err := s.Verify(web.roots, testNow)
	if err != nil {
		t.Fatal(err)
	}
	source.setAnchor(a)
	expect("rogue CA before the pinned one", first)
	device(rogue, ErrAnchorChanged)
	// ... and not as a predecessor that endorses the pinned one.
	scheme, endorsement, err := signWith(rogue.key, labelEndorsement, endorsementTBS("a.example", first.Certificate().Raw))
	if err != nil {
		t.Fatal(err)
	}
	forged := &CA{"a.example", first.key, first.cert, []retired{{rogue.cert, scheme, endorsement}}}
	source.setAnchor(stated(t, web, forged))
	expect("rogue predecessor", first)
	device(rogue, ErrUntrusted)

	// The CA itself can: two rotations at once are followed.
	third := mustRotate(t, mustRotate(t, first))
	second := &CA{"a.example", nil, third.previous[0].cert, nil}
	source.setAnchor(stated(t, web, third))
	expect("rotated twice", third, second, first)
	device(third, nil)
	device(first, nil)
	source.set(func(string) (*Anchor, error) { return nil, down })
	expect("source down after rotation", third, second, first)
	source.setAnchor(stated(t, web, third.DropPrevious()))
	expect("predecessors dropped", third)
	device(first, ErrUntrusted)
	// No way back to one that was dropped.
	source.setAnchor(stated(t, web, first))
	expect("rolled back", third)

	// A renewed certificate of the pinned key is the same CA.
	template := caTemplate("renewed", "a.example")
	renewed := newTestCA(t, template, nil, third.key)
	source.setAnchor(&Anchor{Domain: "a.example", Certificates: []*x509.Certificate{renewed.cert}})
	a, err = p.Anchor("a.example")
	if err != nil || !a.Certificates[0].Equal(renewed.cert) {
		t.Fatalf("renewed certificate: %v", err)
	}

	// What a user accepts by hand replaces the pin.
	source.setAnchor(stated(t, web, rogue))
	if err := p.Accept("a.example", Fingerprint(third.Certificate())); !errors.Is(err, ErrAnchorChanged) {
		t.Fatalf("accept with a wrong fingerprint: %v", err)
	}
	if err := p.Accept("a.example", Fingerprint(rogue.Certificate())); err != nil {
		t.Fatal(err)
	}
	expect("accepted by hand", rogue)
	source.setAnchor(stated(t, web, third))
	expect("the one before", rogue)

	// Pins whose time is over are not used, but still pin.
	now = testNow.Add(caValidity + time.Hour)
	if _, err := p.Anchor("a.example"); !errors.Is(err, ErrAnchorChanged) {
		t.Fatalf("after the end of the pinned CA: %v", err)
	}
	source.set(func(string) (*Anchor, error) { return nil, down })
	if _, err := p.Anchor("a.example"); !errors.Is(err, down) {
		t.Fatalf("after the end of the pinned CA, source down: %v", err)
	}
	if err := p.Accept("a.example", ""); !errors.Is(err, down) {
		t.Fatalf("accept with the source down: %v", err)
	}
}

// brokenPins fails at one of its methods.
type brokenPins struct {
	MemoryPins
	load [][]byte
	err  error
}

func (b *brokenPins) Pins(string) ([][]byte, error)  { return b.load, nil }
func (b *brokenPins) SetPins(string, [][]byte) error { return b.err }

// Without its store, a pinned domain is not trusted anew.
func TestPinStoreFails(t *testing.T) {
	full := errors.New("disk full")
	ca := mustCA(t, "a.example")
	source := StaticAnchors{"a.example": ca.Anchor()}
	if a, err := (&PinnedAnchors{Source: source, Store: &brokenPins{err: full}}).Anchor("a.example"); a != nil || !errors.Is(err, full) {
		t.Errorf("cannot store: %v, %v", a, err)
	}
	damaged := &brokenPins{load: [][]byte{{0x30}}}
	if a, err := (&PinnedAnchors{Source: source, Store: damaged}).Anchor("a.example"); a != nil || err == nil {
		t.Errorf("damaged pins: %v, %v", a, err)
	}
	other := &brokenPins{load: [][]byte{mustCA(t, "b.example").Certificate().Raw}}
	if a, err := (&PinnedAnchors{Source: source, Store: other}).Anchor("a.example"); a != nil || !errors.Is(err, ErrAnchor) {
		t.Errorf("pin of another domain: %v, %v", a, err)
	}
}

func TestCachedAnchors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := new(switchAnchors)
		c := &CachedAnchors{Source: source}
		down := errors.New("down")
		expect := func(what string, calls int64, want error) {
			t.Helper()
			before := source.calls.Load()
			if _, err := c.Anchor("a.example"); !errors.Is(err, want) {
				t.Fatalf("%s: got %v, want %v", what, err, want)
			}
			if got := source.calls.Load() - before; got != calls {
				t.Fatalf("%s: the source was asked %d times, want %d", what, got, calls)
			}
		}
		source.set(func(string) (*Anchor, error) { return nil, down })
		expect("first", 1, down)
		expect("a failure is remembered", 0, down)
		time.Sleep(11 * time.Second)
		expect("but not for long", 1, down)
		time.Sleep(11 * time.Second)
		source.set(func(domain string) (*Anchor, error) {
			return &Anchor{Domain: domain, NotAfter: time.Now().Add(90 * time.Minute)}, nil
		})
		expect("up", 1, nil)
		expect("remembered", 0, nil)
		time.Sleep(time.Hour + time.Second)
		source.set(func(string) (*Anchor, error) { return nil, down })
		expect("down, old answer used", 1, nil)
		expect("and used again without asking", 0, nil)
		time.Sleep(30 * time.Minute)
		expect("the old answer ended", 1, down)
		source.set(func(string) (*Anchor, error) { return nil, nil })
		c.Forget("a.example")
		expect("no answer", 1, ErrUnknownDomain)

		// Many questions at once make one call.
		c.Forget("a.example")
		release := make(chan struct{})
		source.set(func(domain string) (*Anchor, error) {
			<-release
			return &Anchor{Domain: domain}, nil
		})
		before := source.calls.Load()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if a, err := c.Anchor("a.example"); err != nil || a.Domain != "a.example" {
					t.Error(a, err)
				}
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		if got := source.calls.Load() - before; got != 1 {
			t.Fatalf("the source was asked %d times, want once", got)
		}

		// While an answer is renewed, the old one is given at once.
		time.Sleep(time.Hour + time.Second)
		release = make(chan struct{})
		wg.Go(func() { c.Anchor("a.example") })
		synctest.Wait()
		if a, err := c.Anchor("a.example"); err != nil || a == nil {
			t.Fatalf("while renewing: %v", err)
		}
		close(release)
		wg.Wait()

		// A source that panics leaves nobody waiting.
		c.Forget("a.example")
		source.set(func(string) (*Anchor, error) { panic("source") })
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			c.Anchor("a.example")
		}()
		source.set(func(domain string) (*Anchor, error) { return &Anchor{Domain: domain}, nil })
		expect("after a panic", 1, nil)
	})
}

func TestCachedAnchorsAreBounded(t *testing.T) {
	source := new(switchAnchors)
	source.set(func(domain string) (*Anchor, error) { return &Anchor{Domain: domain}, nil })
	c := &CachedAnchors{Source: source, Size: 20}
	for i := range 100 {
		domain := fmt.Sprintf("d%d.example", i)
		if a, err := c.Anchor(domain); err != nil || a.Domain != domain {
			t.Fatal(a, err)
		}
		if len(c.domains) > 20 {
			t.Fatalf("%d domains remembered, want at most 20", len(c.domains))
		}
	}
	if len(c.domains) != 20 {
		t.Errorf("%d domains remembered, want 20", len(c.domains))
	}
}
