package federation_test

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/internal/tlspl"
)

// settings keeps values in memory.
type settings struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (s *settings) Setting(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.m[key]; ok {
		return v, nil
	}
	return nil, store.ErrNotFound
}

func (s *settings) PutSetting(_ context.Context, key string, v []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[key] = v
	return nil
}

func (s *settings) InitSetting(context.Context, string, []byte) ([]byte, error) { panic("unused") }
func (s *settings) DeleteSetting(context.Context, string) error                 { panic("unused") }

func statement(t testing.TB, cert *tls.Certificate, domain string) (*identity.CA, func() ([]byte, error)) {
	t.Helper()
	ca, err := identity.NewCA(domain, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, err := identity.SignAnchor(*cert, ca, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return ca, func() ([]byte, error) { return tlspl.Marshal(s) }
}

func TestAnchorsOfPeers(t *testing.T) {
	a := newAuthority(t)
	addrs := make(map[string]string)
	kept := &settings{m: make(map[string][]byte)}
	certB, certC := a.issue(t, nil, "b.example"), a.issue(t, nil, "c.example")
	caB, sayB := statement(t, certB, "b.example")
	// c passes the statement of b off as its own.
	start(t, a, certB, addrs, "b.example", func(c *federation.Config) { c.Anchor = sayB })
	start(t, a, certC, addrs, "c.example", func(c *federation.Config) { c.Anchor = sayB })
	start(t, a, a.issue(t, nil, "d.example"), addrs, "d.example", nil)
	certA := a.issue(t, nil, "a.example")
	caA, _ := statement(t, certA, "a.example")
	pa := start(t, a, certA, addrs, "a.example", func(c *federation.Config) { c.Statements = kept })
	anchors := pa.Anchors(caA.Anchor())
	for domain, ca := range map[string]*identity.CA{"a.example": caA, "b.example": caB} {
		got, err := anchors.Anchor(domain)
		if err != nil {
			t.Fatalf("%s: %v", domain, err)
		}
		if !got.Certificates[0].Equal(ca.Certificate()) {
			t.Errorf("%s: another CA", domain)
		}
	}
	if _, err := anchors.Anchor("c.example"); !errors.Is(err, identity.ErrAnchor) {
		t.Errorf("statement for another domain: %v", err)
	}
	if _, err := anchors.Anchor("d.example"); !errors.Is(err, identity.ErrUnknownDomain) {
		t.Errorf("no statement: %v", err)
	}

	// After a restart while b is down, what it said last still counts.
	addrs["b.example"] = "127.0.0.1:1"
	again := start(t, a, certA, addrs, "a.example", func(c *federation.Config) { c.Statements = kept })
	got, err := again.Anchors(caA.Anchor()).Anchor("b.example")
	if err != nil || !got.Certificates[0].Equal(caB.Certificate()) {
		t.Errorf("kept statement: %v, %v", got, err)
	}
	forgetful := start(t, a, certA, addrs, "a.example", nil)
	if _, err := forgetful.Anchors(caA.Anchor()).Anchor("b.example"); !errors.Is(err, federation.ErrUnreachable) {
		t.Errorf("without memory: %v, want ErrUnreachable", err)
	}
	closed := start(t, a, certA, addrs, "a.example", func(c *federation.Config) { c.Open = false })
	if _, err := closed.Anchors(caA.Anchor()).Anchor("b.example"); !errors.Is(err, identity.ErrUnknownDomain) {
		t.Errorf("no peer: %v, want ErrUnknownDomain", err)
	}
}
