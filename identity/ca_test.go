package identity

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A certificate says exactly what the profile asks for.
func TestIssuedCertificate(t *testing.T) {
	ca := mustCA(t, "a.example")
	_, pub := newDeviceKey(t, mls.X25519AES128SHA256Ed25519)
	der, err := ca.IssueDevice(alice, aliceDevice, pub, 30*24*time.Hour, testNow)
	if err != nil {
		t.Fatal(err)
	}
	cert := parse(t, der)
	if got := cert.NotAfter.Sub(cert.NotBefore); got != 30*24*time.Hour {
		t.Errorf("valid for %v, want 30 days", got)
	}
	if !cert.NotBefore.Equal(testNow.Add(-backdate)) {
		t.Errorf("valid from %v", cert.NotBefore)
	}
	if cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage != x509.KeyUsageDigitalSignature ||
		!slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
		t.Error("wrong constraints or usage")
	}
	if len(cert.URIs) != 2 || cert.URIs[0].String() != aliceDevice.String() || cert.URIs[1].String() != alice.String() ||
		len(cert.DNSNames)+len(cert.EmailAddresses)+len(cert.IPAddresses) != 0 {
		t.Errorf("names %v", cert.URIs)
	}
	again, err := ca.IssueDevice(alice, aliceDevice, pub, 30*24*time.Hour, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if parse(t, again).SerialNumber.Cmp(cert.SerialNumber) == 0 {
		t.Error("a serial number was used twice")
	}
	if ca.Domain() != "a.example" || !ca.Certificate().MaxPathLenZero {
		t.Error("the CA is of another domain or may have CAs below it")
	}
}

func TestIssueRefuses(t *testing.T) {
	ca := mustCA(t, "a.example")
	_, pub := newDeviceKey(t, mls.X25519AES128SHA256Ed25519)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	u := mimi.MustParseURI
	for name, f := range map[string]func() ([]byte, error){
		"other domain": func() ([]byte, error) {
			return ca.IssueDevice(u("mimi://b.example/u/a"), u("mimi://b.example/d/1"), pub, time.Hour*2, testNow)
		},
		"device elsewhere": func() ([]byte, error) {
			return ca.IssueDevice(alice, u("mimi://b.example/d/1"), pub, time.Hour*2, testNow)
		},
		"subdomain": func() ([]byte, error) {
			return ca.IssueDevice(alice, u("mimi://x.a.example/d/1"), pub, time.Hour*2, testNow)
		},
		"arguments exchanged": func() ([]byte, error) { return ca.IssueDevice(aliceDevice, alice, pub, time.Hour*2, testNow) },
		"no names":            func() ([]byte, error) { return ca.IssueDevice(mimi.URI{}, mimi.URI{}, pub, time.Hour*2, testNow) },
		"too long":            func() ([]byte, error) { return ca.IssueDevice(alice, aliceDevice, pub, MaxDeviceValidity+1, testNow) },
		"over at once":        func() ([]byte, error) { return ca.IssueDevice(alice, aliceDevice, pub, backdate, testNow) },
		"RSA key": func() ([]byte, error) {
			return ca.IssueDevice(alice, aliceDevice, rsaKey.Public(), time.Hour*2, testNow)
		},
		"no key": func() ([]byte, error) { return ca.IssueDevice(alice, aliceDevice, nil, time.Hour*2, testNow) },
		"expired CA": func() ([]byte, error) {
			return ca.IssueDevice(alice, aliceDevice, pub, time.Hour*2, testNow.Add(caValidity+2*time.Hour))
		},
		"provider RSA key":    func() ([]byte, error) { return ca.IssueProvider(rsaKey.Public(), testNow) },
		"provider expired CA": func() ([]byte, error) { return ca.IssueProvider(pub, testNow.Add(caValidity+2*time.Hour)) },
	} {
		if der, err := f(); der != nil || !errors.Is(err, ErrCA) {
			t.Errorf("%s: got %v, want ErrCA", name, err)
		}
	}
	for _, domain := range []string{"", "A.example", "127.0.0.1", "a.example/u/x"} {
		if _, err := NewCA(domain, testNow); !errors.Is(err, ErrCA) {
			t.Errorf("domain %q: got %v, want ErrCA", domain, err)
		}
	}
	// A certificate ends with its CA.
	der, err := ca.IssueDevice(alice, aliceDevice, pub, MaxDeviceValidity, testNow.Add(caValidity-24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if got := parse(t, der).NotAfter; !got.Equal(ca.Certificate().NotAfter) {
		t.Errorf("ends at %v, the CA at %v", got, ca.Certificate().NotAfter)
	}
}

func TestPublicKeyRefuses(t *testing.T) {
	good, _ := newDeviceKey(t, mls.P256AES128SHA256P256)
	for name, f := range map[string]func() (crypto.PublicKey, error){
		"Ed25519 key too short": func() (crypto.PublicKey, error) { return PublicKey(1, make([]byte, 31)) },
		"P-256 key as Ed25519":  func() (crypto.PublicKey, error) { return PublicKey(1, good) },
		"P-256 key as P-384":    func() (crypto.PublicKey, error) { return PublicKey(7, good) },
		"not on the curve":      func() (crypto.PublicKey, error) { return PublicKey(2, append(good[:64:64], good[64]^1)) },
		"Ed448":                 func() (crypto.PublicKey, error) { return PublicKey(4, make([]byte, 57)) },
	} {
		if pub, err := f(); pub != nil || err == nil {
			t.Errorf("%s: got %v", name, pub)
		}
	}
}

func TestCAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.pem")
	ca := mustRotate(t, mustRotate(t, mustCA(t, "a.example")))
	for range 2 { // the second time replaces the file
		if err := ca.Save(path); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %04o, want 0600", info.Mode().Perm())
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("%d files in the directory, want one; %v", len(entries), err)
	}
	loaded, err := LoadCA(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := ca.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := loaded.MarshalPEM(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("loaded another CA than was saved; %v", err)
	}
	c, key := issue(t, loaded, aliceDevice, 1)
	v := &Verifier{Anchors: StaticAnchors{"a.example": ca.Anchor()}}
	if err := v.VerifyCredential(&c, key, testNow); err != nil {
		t.Error(err)
	}

	if runtime.GOOS != "windows" {
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadCA(path); !errors.Is(err, ErrCA) || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("open to others: %v", err)
		}
	}
	if _, err := LoadCA(path + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := ca.Save(filepath.Join(path, "below")); !errors.Is(err, ErrCA) {
		t.Errorf("saved below a file: %v", err)
	}
}

func TestParseCARefuses(t *testing.T) {
	text := func(ca *CA) string {
		b, err := ca.MarshalPEM()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	split := func(s string) []string { // one string per PEM block
		return regexp.MustCompile(`(?s)-----BEGIN.*?-----END [^\n]*\n`).FindAllString(s, -1)
	}
	one := split(text(mustRotate(t, mustCA(t, "a.example"))))
	two := split(text(mustRotate(t, mustCA(t, "a.example"))))
	if len(one) != 4 {
		t.Fatalf("%d blocks, want 4", len(one))
	}
	if _, err := ParseCA([]byte(strings.Join(one, ""))); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCA([]byte(strings.Join(one[:2], ""))); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]string{
		"empty":                      "",
		"no certificate":             one[0],
		"no key":                     one[1] + one[0],
		"key of another":             two[0] + one[1],
		"endorsement missing":        one[0] + one[1] + one[2],
		"endorsement of another":     one[0] + one[1] + one[2] + two[3],
		"predecessor of another":     one[0] + one[1] + two[2] + two[3],
		"order of the predecessors":  one[0] + one[1] + one[3] + one[2],
		"rubbish at the end":         strings.Join(one, "") + "rubbish",
		"scheme missing":             one[0] + one[1] + one[2] + regexp.MustCompile(`Scheme: .*\n`).ReplaceAllString(one[3], ""),
		"another scheme":             one[0] + one[1] + one[2] + regexp.MustCompile(`Scheme: .*\n`).ReplaceAllString(one[3], "Scheme: 0x0807\n"),
		"certificate twice for keys": one[1] + one[1],
		"too large":                  strings.Repeat(" ", maxCAFile+1),
	} {
		if _, err := ParseCA([]byte(s)); !errors.Is(err, ErrCA) {
			t.Errorf("%s: got %v, want ErrCA", name, err)
		}
	}
}

func TestSafetyNumber(t *testing.T) {
	ca := &x509.Certificate{RawSubjectPublicKeyInfo: []byte("spki")}
	k1, k2 := []byte("key 1"), []byte("key 2")
	got, err := SafetyNumber(ca, alice, [][]byte{k2, k1, k2})
	if err != nil {
		t.Fatal(err)
	}
	// Computed by an independent program from the structure in the comment.
	const want = "66927 17573 57699 92588 64882 12575 41899 43653 05705 93644 29686 23076"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for name, f := range map[string]func() (string, error){
		"a device less": func() (string, error) { return SafetyNumber(ca, alice, [][]byte{k1}) },
		"another user": func() (string, error) {
			return SafetyNumber(ca, mimi.MustParseURI("mimi://a.example/u/bob"), [][]byte{k1, k2})
		},
		"another CA": func() (string, error) {
			return SafetyNumber(&x509.Certificate{RawSubjectPublicKeyInfo: []byte("other")}, alice, [][]byte{k1, k2})
		},
		"keys run together": func() (string, error) { return SafetyNumber(ca, alice, [][]byte{append(k1, k2...)}) },
	} {
		other, err := f()
		if err != nil {
			t.Fatal(err)
		}
		if other == got || len(other) != len(got) {
			t.Errorf("%s: %s", name, other)
		}
	}
	if _, err := SafetyNumber(ca, aliceDevice, [][]byte{k1}); err == nil {
		t.Error("a device has a safety number")
	}
	if _, err := SafetyNumber(ca, alice, nil); err == nil {
		t.Error("a user without keys has a safety number")
	}
	if got := Fingerprint(ca); got != "6feecc8c16c5551d9feb3eb5f77e2da773bf68bd9ef9c52927ceb2c86e56892b" {
		t.Errorf("fingerprint %s", got)
	}
}
