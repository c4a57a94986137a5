package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/tlspl"
)

func mustSign(t testing.TB, cert tls.Certificate, ca *CA) *AnchorStatement {
	t.Helper()
	s, err := SignAnchor(cert, ca, testNow, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func encode(t testing.TB, s *AnchorStatement) []byte {
	t.Helper()
	b, err := tlspl.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustRotate(t testing.TB, ca *CA) *CA {
	t.Helper()
	next, err := ca.Rotate(testNow)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// A statement goes over the wire and is believed, whatever kind of key the
// provider's TLS certificate has.
func TestStatement(t *testing.T) {
	web := newWebPKI(t)
	ca := mustCA(t, "a.example")
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for scheme, key := range map[tls.SignatureScheme]crypto.Signer{
		tls.Ed25519: ed, tls.ECDSAWithP256AndSHA256: newKey(t), tls.ECDSAWithP384AndSHA384: p384,
		tls.ECDSAWithP521AndSHA512: p521, tls.PSSWithSHA256: rsaKey,
	} {
		b := encode(t, mustSign(t, web.certificate(t, "a.example", key, nil), ca))
		s, err := ParseAnchorStatement(b)
		if err != nil {
			t.Fatalf("%v: %v", scheme, err)
		}
		if s.Scheme != scheme {
			t.Errorf("scheme %v, want %v", s.Scheme, scheme)
		}
		a, err := s.Verify(web.roots, testNow)
		if err != nil {
			t.Fatalf("%v: %v", scheme, err)
		}
		if a.Domain != "a.example" || len(a.Certificates) != 1 || !a.Certificates[0].Equal(ca.Certificate()) {
			t.Errorf("%v: anchor %+v", scheme, a)
		}
		if want := testNow.Add(DefaultStatementValidity); !a.NotAfter.Equal(want) {
			t.Errorf("%v: until %v, want %v", scheme, a.NotAfter, want)
		}
		// The value that was signed and not yet encoded is good, too.
		if _, err := mustSign(t, web.certificate(t, "a.example", key, nil), ca).Verify(web.roots, testNow); err != nil {
			t.Errorf("%v: before encoding: %v", scheme, err)
		}
	}
}

// Every altered octet of a statement is noticed.
func TestStatementAltered(t *testing.T) {
	web := newWebPKI(t)
	b := encode(t, mustSign(t, web.certificate(t, "a.example", nil, nil), mustRotate(t, mustCA(t, "a.example"))))
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 0x01
		s, err := ParseAnchorStatement(bad)
		if err == nil {
			_, err = s.Verify(web.roots, testNow)
		}
		if !errors.Is(err, ErrAnchor) {
			t.Fatalf("octet %d of %d altered: got %v, want ErrAnchor", i, len(b), err)
		}
	}
	for i := range b {
		if _, err := ParseAnchorStatement(b[:i]); !errors.Is(err, ErrAnchor) {
			t.Fatalf("cut to %d octets: got %v, want ErrAnchor", i, err)
		}
	}
	if _, err := ParseAnchorStatement(append(bytes.Clone(b), 0)); !errors.Is(err, ErrAnchor) {
		t.Errorf("longer: got %v, want ErrAnchor", err)
	}
	if _, err := ParseAnchorStatement(make([]byte, MaxStatement+1)); !errors.Is(err, ErrAnchor) {
		t.Errorf("too large: got %v, want ErrAnchor", err)
	}
}

// resign replaces the signature of a statement after change, with key.
func resign(t *testing.T, s *AnchorStatement, key crypto.Signer, change func(*AnchorStatement)) *AnchorStatement {
	t.Helper()
	changed := *s
	changed.tbs = nil
	change(&changed)
	var w tlspl.Writer
	changed.marshalTBS(&w)
	tbs, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if _, changed.Signature, err = signWith(key, labelAnchor, tbs); err != nil {
		t.Fatal(err)
	}
	return &changed
}

func TestStatementRefused(t *testing.T) {
	web, otherWeb := newWebPKI(t), newWebPKI(t)
	ca, otherCA := mustCA(t, "a.example"), mustCA(t, "b.example")
	key := newKey(t)
	good := web.certificate(t, "a.example", key, nil)
	s := mustSign(t, good, ca)
	refused := func(name string, s *AnchorStatement, now time.Time) {
		t.Helper()
		if _, err := s.Verify(web.roots, now); !errors.Is(err, ErrAnchor) {
			t.Errorf("%s: got %v, want ErrAnchor", name, err)
		}
	}
	if _, err := resign(t, s, key, func(*AnchorStatement) {}).Verify(web.roots, testNow); err != nil {
		t.Fatalf("signed again without a change: %v", err)
	}

	refused("too early", s, testNow.Add(-statementSkew-time.Second))
	refused("too late", s, testNow.Add(DefaultStatementValidity+time.Second))
	refused("TLS root of others", mustSign(t, otherWeb.certificate(t, "a.example", nil, nil), ca), testNow)
	refused("signed by another key", resign(t, s, newKey(t), func(*AnchorStatement) {}), testNow)
	refused("valid too long", resign(t, s, key, func(s *AnchorStatement) {
		s.NotAfter = s.NotBefore + uint64(MaxStatementValidity/time.Second) + 1
	}), testNow)
	refused("ends before it starts", resign(t, s, key, func(s *AnchorStatement) { s.NotAfter = s.NotBefore - 1 }), testNow)
	refused("times that overflow", resign(t, s, key, func(s *AnchorStatement) { s.NotBefore, s.NotAfter = 1<<63, 1<<63+1 }), testNow)
	refused("no CA", resign(t, s, key, func(s *AnchorStatement) { s.CAs = nil }), testNow)
	refused("too many CAs", resign(t, s, key, func(s *AnchorStatement) {
		s.CAs = []StatedCA{s.CAs[0], s.CAs[0], s.CAs[0], s.CAs[0], s.CAs[0]}
	}), testNow)
	refused("CA of another domain", resign(t, s, key, func(s *AnchorStatement) {
		s.CAs = []StatedCA{{Certificate: otherCA.Certificate().Raw}}
	}), testNow)
	refused("CA that is none", resign(t, s, key, func(s *AnchorStatement) {
		s.CAs = []StatedCA{{Certificate: good.Certificate[0]}}
	}), testNow)
	refused("malformed CA", resign(t, s, key, func(s *AnchorStatement) { s.CAs = []StatedCA{{Certificate: []byte{0x30}}} }), testNow)
	refused("another domain than the certificate's", resign(t, s, key, func(s *AnchorStatement) {
		s.Domain, s.CAs = "b.example", []StatedCA{{Certificate: otherCA.Certificate().Raw}}
	}), testNow)
	refused("domain in upper case", resign(t, s, key, func(s *AnchorStatement) { s.Domain = "A.example" }), testNow)
	refused("no TLS chain", resign(t, s, key, func(s *AnchorStatement) { s.Chain = nil }), testNow)
	refused("malformed TLS chain", resign(t, s, key, func(s *AnchorStatement) { s.Chain = [][]byte{{0x30}} }), testNow)
	refused("scheme of another key", resign(t, s, key, func(s *AnchorStatement) { s.Scheme = tls.Ed25519 }), testNow)

	for name, change := range map[string]func(*x509.Certificate){
		"TLS certificate for clients": func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} },
		"TLS certificate expired":     func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Second) },
		"TLS certificate of others":   func(c *x509.Certificate) { c.DNSNames = []string{"evil.example"} },
		"TLS key not for signatures":  func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment },
		"TLS certificate is a CA":     func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true },
	} {
		cert := web.certificate(t, "a.example", key, change)
		refused(name, resign(t, s, key, func(s *AnchorStatement) { s.Chain = cert.Certificate }), testNow)
	}

	// Endorsements are checked even where nobody needs them.
	rotated := mustSign(t, good, mustRotate(t, ca))
	refused("altered endorsement", resign(t, rotated, key, func(s *AnchorStatement) {
		s.CAs = bytesCloneCAs(s.CAs)
		s.CAs[0].Endorsement[8] ^= 1
	}), testNow)
	refused("endorsement of another CA", resign(t, rotated, key, func(s *AnchorStatement) {
		s.CAs = bytesCloneCAs(s.CAs)
		s.CAs[0].Certificate = mustCA(t, "a.example").Certificate().Raw
	}), testNow)
}

func bytesCloneCAs(cas []StatedCA) []StatedCA {
	var out []StatedCA
	for _, c := range cas {
		c.Endorsement = bytes.Clone(c.Endorsement)
		out = append(out, c)
	}
	return out
}

func TestSignAnchorRefuses(t *testing.T) {
	web := newWebPKI(t)
	ca := mustCA(t, "a.example")
	good := web.certificate(t, "a.example", nil, nil)
	for name, f := range map[string]func() error{
		"certificate of another domain": func() error {
			_, err := SignAnchor(web.certificate(t, "b.example", nil, nil), ca, testNow, 0)
			return err
		},
		"no certificate": func() error { _, err := SignAnchor(tls.Certificate{}, ca, testNow, 0); return err },
		"too long":       func() error { _, err := SignAnchor(good, ca, testNow, MaxStatementValidity+1); return err },
		"negative":       func() error { _, err := SignAnchor(good, ca, testNow, -time.Hour); return err },
		"certificate expired": func() error {
			_, err := SignAnchor(good, ca, testNow.Add(61*24*time.Hour), 0)
			return err
		},
	} {
		if f() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// A statement does not outlive the certificate under it.
	s, err := SignAnchor(good, ca, testNow.Add(59*24*time.Hour), 0)
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64(testNow.Add(60 * 24 * time.Hour).Unix()); s.NotAfter != want {
		t.Errorf("ends at %d, want %d", s.NotAfter, want)
	}
}

// A statement of a rotated CA carries both, and devices of both are genuine.
func TestStatementAfterRotation(t *testing.T) {
	web := newWebPKI(t)
	old := mustCA(t, "a.example")
	current := mustRotate(t, mustRotate(t, old))
	s, err := ParseAnchorStatement(encode(t, mustSign(t, web.certificate(t, "a.example", nil, nil), current)))
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Verify(web.roots, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Certificates) != 3 || !a.endorsed[0] || !a.endorsed[1] || a.endorsed[2] {
		t.Fatalf("%d CAs, endorsed %v", len(a.Certificates), a.endorsed)
	}
	v := &Verifier{Anchors: StaticAnchors{"a.example": a}}
	for _, ca := range []*CA{old, current} {
		c, key := issue(t, ca, aliceDevice, 1)
		if err := v.VerifyCredential(&c, key, testNow); err != nil {
			t.Error(err)
		}
	}
	// Five rotations later the first one is gone.
	for range 3 {
		current = mustRotate(t, current)
	}
	if n := len(current.Anchor().Certificates); n != MaxCAs {
		t.Errorf("%d CAs, want %d", n, MaxCAs)
	}
	if _, err := mustSign(t, web.certificate(t, "a.example", nil, nil), current).Verify(web.roots, testNow); err != nil {
		t.Error(err)
	}
	if n := len(current.DropPrevious().Anchor().Certificates); n != 1 {
		t.Errorf("%d CAs after DropPrevious, want 1", n)
	}
	// A predecessor whose time is over is not stated.
	if n := len(current.stated(testNow.Add(caValidity + time.Hour))); n != 1 {
		t.Errorf("%d CAs stated after their time, want 1", n)
	}
}
