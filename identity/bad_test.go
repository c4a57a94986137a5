package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/mls"
)

// badEnv is what the cases of the table of bad certificates work with.
type badEnv struct {
	t         *testing.T
	root      *testCA // the CA of a.example
	otherRoot *testCA // the CA of b.example
	key       []byte  // the signature key
	spec      *leafSpec
}

// chain mints the leaf and puts certificates after it.
func (e *badEnv) chain(rest ...*testCA) mls.Credential {
	ders := [][]byte{e.spec.mint(e.t)}
	for _, r := range rest {
		ders = append(ders, r.cert.Raw)
	}
	return mls.X509Credential(ders...)
}

// intermediate makes an intermediate CA below the CA of a.example, and lets it
// issue the leaf.
func (e *badEnv) intermediate(change func(*x509.Certificate)) *testCA {
	template := caTemplate("intermediate", "a.example")
	template.MaxPathLen, template.MaxPathLenZero = 0, true
	if change != nil {
		change(template)
	}
	ca := newTestCA(e.t, template, e.root, nil)
	e.spec.issuer = ca
	return ca
}

// badCertificates is test T-I2: every case starts from a good certificate.
var badCertificates = []struct {
	name string
	want error
	make func(e *badEnv) mls.Credential
}{
	{"expired", ErrExpired, func(e *badEnv) mls.Credential {
		e.spec.template.NotBefore = testNow.Add(-10 * 24 * time.Hour)
		e.spec.template.NotAfter = testNow.Add(-time.Second)
		return e.chain()
	}},
	{"not yet valid", ErrExpired, func(e *badEnv) mls.Credential {
		e.spec.template.NotBefore = testNow.Add(time.Second)
		return e.chain()
	}},
	{"valid too long", ErrProfile, func(e *badEnv) mls.Credential {
		e.spec.template.NotAfter = e.spec.template.NotBefore.Add(MaxDeviceValidity + time.Second)
		return e.chain()
	}},
	{"leaf is a CA", ErrProfile, func(e *badEnv) mls.Credential {
		e.spec.template.IsCA = true
		return e.chain()
	}},
	{"usage serverAuth", ErrProfile, func(e *badEnv) mls.Credential {
		e.spec.template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		return e.chain()
	}},
	{"usage clientAuth and serverAuth", ErrProfile, func(e *badEnv) mls.Credential {
		e.spec.template.ExtKeyUsage = append(e.spec.template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		return e.chain()
	}},
	{"usage any", ErrProfile, func(e *badEnv) mls.Credential {
		e.spec.template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
		return e.chain()
	}},
	{"usage clientAuth and an unknown one", ErrProfile, func(e *badEnv) mls.Credential {
		e.spec.template.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 99999, 1}}
		return e.chain()
	}},
	{"no extended usage", ErrProfile, func(e *badEnv) mls.Credential {
		e.spec.template.ExtKeyUsage = nil
		return e.chain()
	}},
	{"no digitalSignature", ErrProfile, func(e *badEnv) mls.Credential {
		e.spec.template.KeyUsage = x509.KeyUsageKeyAgreement
		return e.chain()
	}},
	{"no key usage", ErrProfile, func(e *badEnv) mls.Credential {
		e.spec.template.KeyUsage = 0
		return e.chain()
	}},
	{"usage keyCertSign", ErrProfile, func(e *badEnv) mls.Credential {
		e.spec.template.KeyUsage |= x509.KeyUsageCertSign
		return e.chain()
	}},
	{"unknown critical extension", ErrProfile, func(e *badEnv) mls.Credential {
		e.spec.template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 2}, Critical: true, Value: []byte{5, 0}}}
		return e.chain()
	}},
	{"no names", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = nil
		e.spec.template.Subject.CommonName = alice.String()
		return e.chain()
	}},
	{"empty list of names", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = []generalName{}
		return e.chain()
	}},
	{"names not critical", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.critical = false
		return e.chain()
	}},
	{"names twice", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.template.ExtraExtensions = []pkix.Extension{sanExtension(e.t, true, e.spec.names)}
		return e.chain()
	}},
	{"user only", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = uris("mimi://a.example/u/alice")
		return e.chain()
	}},
	{"device only", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = uris("mimi://a.example/d/alice/1")
		return e.chain()
	}},
	{"two users", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = uris("mimi://a.example/u/alice", "mimi://a.example/u/bob")
		return e.chain()
	}},
	{"two users and a device", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = uris("mimi://a.example/u/alice", "mimi://a.example/u/bob", "mimi://a.example/d/1")
		return e.chain()
	}},
	{"two devices", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = uris("mimi://a.example/d/1", "mimi://a.example/d/2")
		return e.chain()
	}},
	{"the same user twice", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = uris("mimi://a.example/u/alice", "mimi://a.example/u/alice")
		return e.chain()
	}},
	{"device of another domain", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = uris("mimi://b.example/d/alice/1", "mimi://a.example/u/alice")
		return e.chain()
	}},
	{"user of another domain", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = uris("mimi://a.example/d/alice/1", "mimi://b.example/u/alice")
		return e.chain()
	}},
	{"user and room", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = uris("mimi://a.example/r/alice", "mimi://a.example/u/alice")
		return e.chain()
	}},
	{"provider and device", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = uris("mimi://a.example", "mimi://a.example/d/alice/1")
		return e.chain()
	}},
	{"another scheme", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = uris("https://a.example/d/alice/1", "mimi://a.example/u/alice")
		return e.chain()
	}},
	{"host in upper case", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = uris("mimi://A.example/d/alice/1", "mimi://A.example/u/alice")
		return e.chain()
	}},
	{"needless percent-encoding", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = uris("mimi://a.example/d/alice/1", "mimi://a.example/u/%61lice")
		return e.chain()
	}},
	{"URI too long", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = uris("mimi://a.example/d/alice/1", "mimi://a.example/u/"+strings.Repeat("a", 1024))
		return e.chain()
	}},
	{"a dNSName too", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = append(e.spec.names, generalName{2, "a.example"})
		return e.chain()
	}},
	{"a dNSName instead of the device", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names[0] = generalName{2, "a.example"}
		return e.chain()
	}},
	{"an address of mail instead of the device", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names[0] = generalName{1, "alice@a.example"}
		return e.chain()
	}},
	{"a dNSName that reads like a device", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names[0].tag = 2
		return e.chain()
	}},
	{"two providers", ErrNames, func(e *badEnv) mls.Credential {
		e.spec.names = uris("mimi://b.example", "mimi://a.example")
		return e.chain()
	}},
	{"unknown CA", ErrUntrusted, func(e *badEnv) mls.Credential {
		e.spec.issuer = newTestCA(e.t, caTemplate("unknown", "a.example"), nil, nil)
		return e.chain()
	}},
	{"unknown CA sent along", ErrUntrusted, func(e *badEnv) mls.Credential {
		e.spec.issuer = newTestCA(e.t, caTemplate("unknown", "a.example"), nil, nil)
		return e.chain(e.spec.issuer)
	}},
	{"unknown CA with the name of the right one", ErrUntrusted, func(e *badEnv) mls.Credential {
		e.spec.issuer = newTestCA(e.t, caTemplate("root of a", "a.example"), nil, nil)
		return e.chain()
	}},
	{"CA of another domain", ErrUntrusted, func(e *badEnv) mls.Credential {
		e.spec.issuer = e.otherRoot
		return e.chain()
	}},
	{"names of another domain than the CA's", ErrUntrusted, func(e *badEnv) mls.Credential {
		e.spec.names = uris("mimi://b.example/d/bob/1", "mimi://b.example/u/bob")
		return e.chain()
	}},
	{"domain without a CA", ErrUnknownDomain, func(e *badEnv) mls.Credential {
		e.spec.names = uris("mimi://c.example/d/bob/1", "mimi://c.example/u/bob")
		return e.chain()
	}},
	{"subdomain of the CA's domain", ErrUnknownDomain, func(e *badEnv) mls.Credential {
		e.spec.names = uris("mimi://x.a.example/d/bob/1", "mimi://x.a.example/u/bob")
		return e.chain()
	}},
	{"self-signed leaf", ErrUntrusted, func(e *badEnv) mls.Credential {
		key := newKey(e.t)
		template := *e.spec.template
		template.ExtraExtensions = []pkix.Extension{sanExtension(e.t, true, e.spec.names)}
		der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
		if err != nil {
			e.t.Fatal(err)
		}
		e.key, err = key.PublicKey.Bytes()
		if err != nil {
			e.t.Fatal(err)
		}
		return mls.X509Credential(der)
	}},
	{"the CA as leaf", ErrNames, func(e *badEnv) mls.Credential {
		return mls.X509Credential(e.root.cert.Raw)
	}},
	{"intermediate constrained to another domain", ErrUntrusted, func(e *badEnv) mls.Credential {
		ca := e.intermediate(func(c *x509.Certificate) { c.PermittedURIDomains = []string{"b.example"} })
		return e.chain(ca)
	}},
	{"intermediate that excludes the domain", ErrUntrusted, func(e *badEnv) mls.Credential {
		ca := e.intermediate(func(c *x509.Certificate) {
			c.PermittedURIDomains, c.ExcludedURIDomains = nil, []string{"a.example"}
		})
		return e.chain(ca)
	}},
	{"intermediate is no CA", ErrUntrusted, func(e *badEnv) mls.Credential {
		ca := e.intermediate(func(c *x509.Certificate) {
			c.IsCA, c.MaxPathLen, c.MaxPathLenZero = false, 0, false
			c.PermittedURIDomains, c.PermittedDNSDomainsCritical = nil, false
		})
		return e.chain(ca)
	}},
	{"intermediate may not certify", ErrUntrusted, func(e *badEnv) mls.Credential {
		ca := e.intermediate(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
		return e.chain(ca)
	}},
	{"intermediate expired", ErrExpired, func(e *badEnv) mls.Credential {
		ca := e.intermediate(func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Second) })
		return e.chain(ca)
	}},
	{"intermediate for servers only", ErrUntrusted, func(e *badEnv) mls.Credential {
		ca := e.intermediate(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
		return e.chain(ca)
	}},
	{"intermediate with an unknown critical extension", ErrProfile, func(e *badEnv) mls.Credential {
		ca := e.intermediate(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 2}, Critical: true, Value: []byte{5, 0}}}
		})
		return e.chain(ca)
	}},
	{"intermediate on a small curve", ErrProfile, func(e *badEnv) mls.Credential {
		key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
		if err != nil {
			e.t.Fatal(err)
		}
		e.spec.issuer = newTestCA(e.t, caTemplate("intermediate", "a.example"), e.root, key)
		return e.chain(e.spec.issuer)
	}},
	{"path longer than the CA allows", ErrUntrusted, func(e *badEnv) mls.Credential {
		first := e.intermediate(nil)
		second := newTestCA(e.t, caTemplate("second", "a.example"), first, nil)
		e.spec.issuer = second
		return e.chain(second, first)
	}},
	{"intermediate not sent", ErrUntrusted, func(e *badEnv) mls.Credential {
		e.intermediate(nil)
		return e.chain()
	}},
	{"chain out of order", ErrUntrusted, func(e *badEnv) mls.Credential {
		ca := e.intermediate(nil)
		return e.chain(e.root, ca)
	}},
	{"unrelated certificate in the chain", ErrUntrusted, func(e *badEnv) mls.Credential {
		return e.chain(e.otherRoot)
	}},
	{"chain too long", ErrCredential, func(e *badEnv) mls.Credential {
		return e.chain(e.root, e.root, e.root, e.root)
	}},
	{"the CA twice", ErrUntrusted, func(e *badEnv) mls.Credential {
		return e.chain(e.root, e.root)
	}},
	{"certificate too large", ErrCredential, func(e *badEnv) mls.Credential {
		e.spec.template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 3}, Value: make([]byte, MaxCertificate)}}
		return e.chain()
	}},
	{"certificate for another key", ErrKeyMismatch, func(e *badEnv) mls.Credential {
		_, e.spec.pub = newDeviceKey(e.t, mls.X25519AES128SHA256Ed25519)
		return e.chain()
	}},
	{"certificate for a key of another suite", ErrKeyMismatch, func(e *badEnv) mls.Credential {
		_, e.spec.pub = newDeviceKey(e.t, mls.P256AES128SHA256P256)
		return e.chain()
	}},
	{"no signature key", ErrKeyMismatch, func(e *badEnv) mls.Credential {
		e.key = nil
		return e.chain()
	}},
	{"RSA key", ErrProfile, func(e *badEnv) mls.Credential {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			e.t.Fatal(err)
		}
		e.spec.pub = key.Public()
		return e.chain()
	}},
	{"key on a curve of no suite", ErrProfile, func(e *badEnv) mls.Credential {
		key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
		if err != nil {
			e.t.Fatal(err)
		}
		e.spec.pub = key.Public()
		return e.chain()
	}},
	{"signature altered", ErrUntrusted, func(e *badEnv) mls.Credential {
		c := e.chain()
		der := c.Certificates[0]
		der[len(der)-1] ^= 1
		return c
	}},
	{"name altered", ErrUntrusted, func(e *badEnv) mls.Credential {
		c := e.chain()
		c.Certificates[0] = bytes.Replace(c.Certificates[0], []byte("u/alice"), []byte("u/malic"), 1)
		return c
	}},
	{"bytes after the certificate", ErrCredential, func(e *badEnv) mls.Credential {
		c := e.chain()
		c.Certificates[0] = append(c.Certificates[0], 0)
		return c
	}},
	{"certificate cut short", ErrCredential, func(e *badEnv) mls.Credential {
		c := e.chain()
		c.Certificates[0] = c.Certificates[0][:100]
		return c
	}},
	{"issuer cut short", ErrCredential, func(e *badEnv) mls.Credential {
		c := e.chain(e.root)
		c.Certificates[1] = c.Certificates[1][:100]
		return c
	}},
	{"empty chain", ErrCredential, func(e *badEnv) mls.Credential { return mls.X509Credential() }},
	{"basic credential", ErrCredential, func(e *badEnv) mls.Credential {
		return mls.BasicCredential([]byte(alice.String()))
	}},
	{"unknown credential", ErrCredential, func(e *badEnv) mls.Credential {
		c := e.chain()
		c.Type = 0xF0F0
		return c
	}},
}

// TestBadCertificates is T-I2 of the acceptance tests.
func TestBadCertificates(t *testing.T) {
	root := newTestCA(t, caTemplate("root of a", "a.example"), nil, nil)
	otherRoot := newTestCA(t, caTemplate("root of b", "b.example"), nil, nil)
	a, err := NewAnchor("a.example", root.cert)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewAnchor("b.example", otherRoot.cert)
	if err != nil {
		t.Fatal(err)
	}
	v := &Verifier{Anchors: StaticAnchors{"a.example": a, "b.example": b}}
	newEnv := func(t *testing.T) *badEnv {
		key, pub := newDeviceKey(t, mls.X25519AES128SHA256Ed25519)
		return &badEnv{t, root, otherRoot, key, goodLeaf(root, pub)}
	}

	// What the cases start from is good, alone, with the CA, and below an
	// intermediate; otherwise a case could fail for another reason.
	for _, good := range []func(e *badEnv) mls.Credential{
		func(e *badEnv) mls.Credential { return e.chain() },
		func(e *badEnv) mls.Credential { return e.chain(e.root) },
		func(e *badEnv) mls.Credential { return e.chain(e.intermediate(nil)) },
		func(e *badEnv) mls.Credential { return e.chain(e.intermediate(nil), e.root) },
		func(e *badEnv) mls.Credential {
			e.spec.template.KeyUsage |= x509.KeyUsageKeyAgreement // as in the draft's example
			return e.chain()
		},
		func(e *badEnv) mls.Credential {
			e.spec.template.NotAfter = e.spec.template.NotBefore.Add(MaxDeviceValidity)
			return e.chain()
		},
		func(e *badEnv) mls.Credential { // the order of names is free
			e.spec.names[0], e.spec.names[1] = e.spec.names[1], e.spec.names[0]
			return e.chain()
		},
	} {
		e := newEnv(t)
		c := good(e)
		names, err := v.Identify(&c, e.key, testNow)
		if err != nil {
			t.Fatal(err)
		}
		if want := (Names{"a.example", alice, aliceDevice}); names != want {
			t.Fatalf("names %v, want %v", names, want)
		}
	}

	for _, test := range badCertificates {
		t.Run(test.name, func(t *testing.T) {
			e := newEnv(t)
			c := test.make(e)
			for range 2 { // the second time, a cache must not answer
				err := v.VerifyCredential(&c, e.key, testNow)
				if !errors.Is(err, test.want) {
					t.Fatalf("got %v, want %v", err, test.want)
				}
			}
			// Without a time, everything else is still refused.
			if err := v.VerifyCredential(&c, e.key, time.Time{}); test.want != ErrExpired && !errors.Is(err, test.want) {
				t.Fatalf("without a time: got %v, want %v", err, test.want)
			}
		})
	}
	if len(badCertificates) < 25 {
		t.Errorf("%d cases, want at least 25", len(badCertificates))
	}
}

// Two intermediates must come in their order.
func TestChainOrder(t *testing.T) {
	ca := func(name string, pathLen int, parent *testCA) *testCA {
		template := caTemplate(name, "a.example")
		template.MaxPathLen, template.MaxPathLenZero = pathLen, pathLen == 0
		return newTestCA(t, template, parent, nil)
	}
	root := ca("root", 2, nil)
	first := ca("first", 1, root)
	second := ca("second", 0, first)
	key, pub := newDeviceKey(t, mls.X25519AES128SHA256Ed25519)
	leaf := goodLeaf(second, pub).mint(t)
	v := &Verifier{Anchors: StaticAnchors{"a.example": {Domain: "a.example", Certificates: []*x509.Certificate{root.cert}}}}
	good := mls.X509Credential(leaf, second.cert.Raw, first.cert.Raw)
	if err := v.VerifyCredential(&good, key, testNow); err != nil {
		t.Error(err)
	}
	bad := mls.X509Credential(leaf, first.cert.Raw, second.cert.Raw)
	if err := v.VerifyCredential(&bad, key, testNow); !errors.Is(err, ErrUntrusted) {
		t.Errorf("got %v, want ErrUntrusted", err)
	}
}

// A CA that an administrator put under a wrong domain by going around
// NewAnchor is stopped by its name constraint.
func TestNameConstraintHolds(t *testing.T) {
	root := newTestCA(t, caTemplate("root of a", "a.example"), nil, nil)
	key, pub := newDeviceKey(t, mls.X25519AES128SHA256Ed25519)
	spec := goodLeaf(root, pub)
	spec.names = uris("mimi://b.example/d/bob", "mimi://b.example/u/bob")
	c := mls.X509Credential(spec.mint(t))
	v := &Verifier{Anchors: StaticAnchors{"b.example": {Domain: "b.example", Certificates: []*x509.Certificate{root.cert}}}}
	if err := v.VerifyCredential(&c, key, testNow); !errors.Is(err, ErrUntrusted) {
		t.Fatalf("got %v, want ErrUntrusted", err)
	}
	if _, err := NewAnchor("b.example", root.cert); !errors.Is(err, ErrAnchor) {
		t.Fatalf("NewAnchor: got %v, want ErrAnchor", err)
	}
}

// What cannot be the CA of a domain.
func TestCheckCA(t *testing.T) {
	if err := CheckCA(newTestCA(t, caTemplate("good", "a.example"), nil, nil).cert, "a.example"); err != nil {
		t.Fatal(err)
	}
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*x509.Certificate){
		"no CA": func(c *x509.Certificate) {
			c.IsCA, c.MaxPathLen = false, 0
		},
		"may not certify":         func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature },
		"no name constraint":      func(c *x509.Certificate) { c.PermittedURIDomains = nil },
		"constraint not critical": func(c *x509.Certificate) { c.PermittedDNSDomainsCritical = false },
		"another domain":          func(c *x509.Certificate) { c.PermittedURIDomains = []string{"b.example"} },
		"subdomains":              func(c *x509.Certificate) { c.PermittedURIDomains = []string{".a.example"} },
		"two domains":             func(c *x509.Certificate) { c.PermittedURIDomains = []string{"a.example", "b.example"} },
		"valid too long":          func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(MaxCAValidity + time.Hour) },
		"unknown critical extension": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 2}, Critical: true, Value: []byte{5, 0}}}
		},
		"too large": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 3}, Value: make([]byte, MaxCertificate)}}
		},
	} {
		template := caTemplate(name, "a.example")
		template.SerialNumber = big.NewInt(9)
		change(template)
		ca := newTestCA(t, template, nil, nil)
		if err := CheckCA(ca.cert, "a.example"); !errors.Is(err, ErrAnchor) {
			t.Errorf("%s: got %v, want ErrAnchor", name, err)
		}
	}
	if err := CheckCA(newTestCA(t, caTemplate("small", "a.example"), nil, small).cert, "a.example"); !errors.Is(err, ErrAnchor) {
		t.Errorf("small curve: got %v, want ErrAnchor", err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckCA(newTestCA(t, caTemplate("short", "a.example"), nil, short).cert, "a.example"); !errors.Is(err, ErrAnchor) {
		t.Errorf("RSA of 1024 bits: got %v, want ErrAnchor", err)
	}
	for _, domain := range []string{"", "A.example", "a.example.", "127.0.0.1", "a.example:8443"} {
		ca := newTestCA(t, caTemplate("good", "a.example"), nil, nil)
		if err := CheckCA(ca.cert, domain); !errors.Is(err, ErrAnchor) {
			t.Errorf("domain %q: got %v, want ErrAnchor", domain, err)
		}
	}
}
