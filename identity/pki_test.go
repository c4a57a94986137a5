package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

var _ mls.CredentialVerifier = (*Verifier)(nil)

// testNow is the time at which the tests take place.
var testNow = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

var (
	alice       = mimi.MustParseURI("mimi://a.example/u/alice")
	aliceDevice = mimi.MustParseURI("mimi://a.example/d/alice/1")
)

// A testCA can issue certificates that CA would not.
type testCA struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// caTemplate is a CA for domain that allows one intermediate CA.
func caTemplate(name, domain string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:                big.NewInt(1),
		Subject:                     pkix.Name{CommonName: name},
		NotBefore:                   testNow.Add(-24 * time.Hour),
		NotAfter:                    testNow.Add(5 * 365 * 24 * time.Hour),
		KeyUsage:                    x509.KeyUsageCertSign,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLen:                  1,
		PermittedDNSDomainsCritical: true,
		PermittedURIDomains:         []string{domain},
	}
}

// newTestCA makes a CA from a template, certified by parent (nil: itself).
func newTestCA(t testing.TB, template *x509.Certificate, parent *testCA, key crypto.Signer) *testCA {
	t.Helper()
	if key == nil {
		key = newKey(t)
	}
	issuer, issuerKey := template, key
	if parent != nil {
		issuer, issuerKey = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	return &testCA{key, parse(t, der)}
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// A generalName is one name of a subjectAltName; tag 6 is a URI, 2 a dNSName.
type generalName struct {
	tag   uint8
	value string
}

func uris(list ...string) []generalName {
	var names []generalName
	for _, u := range list {
		names = append(names, generalName{6, u})
	}
	return names
}

func sanExtension(t testing.TB, critical bool, names []generalName) pkix.Extension {
	t.Helper()
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, n := range names {
			b.AddASN1(cbasn1.Tag(n.tag).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(n.value)) })
		}
	})
	value, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oidSubjectAltName, Critical: critical, Value: value}
}

// A leafSpec says what certificate to make; goodLeaf is a good one.
type leafSpec struct {
	template *x509.Certificate
	names    []generalName
	critical bool
	pub      crypto.PublicKey
	issuer   *testCA
}

func goodLeaf(issuer *testCA, pub crypto.PublicKey) *leafSpec {
	return &leafSpec{
		template: &x509.Certificate{
			SerialNumber:          big.NewInt(2),
			NotBefore:             testNow.Add(-time.Hour),
			NotAfter:              testNow.Add(30 * 24 * time.Hour),
			KeyUsage:              x509.KeyUsageDigitalSignature,
			ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			BasicConstraintsValid: true,
		},
		names:    uris(aliceDevice.String(), alice.String()),
		critical: true,
		pub:      pub,
		issuer:   issuer,
	}
}

func (s *leafSpec) mint(t testing.TB) []byte {
	t.Helper()
	template := *s.template
	if s.names != nil {
		template.ExtraExtensions = append(template.ExtraExtensions, sanExtension(t, s.critical, s.names))
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, s.issuer.cert, s.pub, s.issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// newDeviceKey returns an MLS signature key in both forms.
func newDeviceKey(t testing.TB, s mls.CipherSuite) (raw []byte, pub crypto.PublicKey) {
	t.Helper()
	signer, _, err := mls.GenerateSigner(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if pub, err = PublicKey(s, signer.Public()); err != nil {
		t.Fatal(err)
	}
	return signer.Public(), pub
}

func mustCA(t testing.TB, domain string) *CA {
	t.Helper()
	ca, err := NewCA(domain, testNow)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// A webPKI is a TLS root and what it certifies.
type webPKI struct {
	ca    *testCA
	roots *x509.CertPool
}

func newWebPKI(t testing.TB) *webPKI {
	t.Helper()
	ca := newTestCA(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "TLS root"},
		NotBefore: testNow.Add(-time.Hour), NotAfter: testNow.Add(365 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}, nil, nil)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	return &webPKI{ca, roots}
}

// certificate issues a TLS certificate for domain; change may alter it.
func (w *webPKI) certificate(t testing.TB, domain string, key crypto.Signer, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	if key == nil {
		key = newKey(t)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(3),
		NotBefore:    testNow.Add(-time.Hour), NotAfter: testNow.Add(60 * 24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{domain},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, w.ca.cert, key.Public(), w.ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
