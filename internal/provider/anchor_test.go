package provider

import (
	"bytes"
	"testing"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/internal/devcert"
)

// The anchor statement is public: asking for it must not cost a signature each
// time. It is made anew before it gets old, and with a new certificate.
func TestAnchorStatementIsKept(t *testing.T) {
	now := time.Now()
	authority, err := devcert.New(t.TempDir(), now)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := authority.Issue("a.example")
	if err != nil {
		t.Fatal(err)
	}
	p := &Provider{now: func() time.Time { return now }}
	if p.tls, err = loadCertificate(cert, key); err != nil {
		t.Fatal(err)
	}
	if p.ca, err = identity.NewCA("a.example", now); err != nil {
		t.Fatal(err)
	}
	statement := func() []byte {
		t.Helper()
		b, err := p.anchorStatement()
		if err != nil {
			t.Fatal(err)
		}
		s, err := identity.ParseAnchorStatement(b)
		if err == nil {
			_, err = s.Verify(authority.Pool(), now)
		}
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := statement()
	if !bytes.Equal(first, statement()) {
		t.Error("asked twice, it was signed twice")
	}
	now = now.Add(2 * anchorKept)
	second := statement()
	if bytes.Equal(first, second) {
		t.Error("it is not renewed")
	}
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(second, statement()) {
		t.Error("it is not that of the new certificate")
	}
}
