package devcert

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certificates")
	now := time.Now()
	a, err := New(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := a.Issue("a.example")
	if err != nil {
		t.Fatal(err)
	}
	again, err := New(dir, now) // the same root
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		opts := x509.VerifyOptions{Roots: again.Pool(), DNSName: "a.example", CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}
		if _, err := pair.Leaf.Verify(opts); err != nil {
			t.Errorf("usage %v: %v", usage, err)
		}
		opts.DNSName = "b.example"
		if _, err := pair.Leaf.Verify(opts); err == nil {
			t.Error("the certificate is good for another domain")
		}
	}
	for _, f := range []string{keyFile, filepath.Join(dir, rootKey)} {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v; want 0600", f, info.Mode(), err)
		}
	}
	if _, _, err := a.Issue("../x"); err == nil {
		t.Error("a path was taken for a domain")
	}
	if _, err := New(dir, now.Add(Life)); err == nil {
		t.Error("an expired root was opened")
	}
}
