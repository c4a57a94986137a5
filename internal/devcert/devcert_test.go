package devcert

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
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

// A certificate is for the further hosts that were asked for, and no others.
func TestFurtherHosts(t *testing.T) {
	now := time.Now()
	a, err := New(t.TempDir(), now)
	if err != nil {
		t.Fatal(err)
	}
	verify := func(file, host string) error {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(raw)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		_, err = cert.Verify(x509.VerifyOptions{Roots: a.Pool(), DNSName: host, CurrentTime: now})
		return err
	}
	file, _, err := a.Issue("a.example", append(Local(), "chat.a.example")...)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"a.example", "localhost", "127.0.0.1", "[::1]", "chat.a.example"} {
		if err := verify(file, host); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"b.example", "127.0.0.2", "x.a.example"} {
		if verify(file, host) == nil {
			t.Errorf("the certificate is good for %s", host)
		}
	}
	file, _, err = a.Issue("a.example") // replaces the first
	if err != nil {
		t.Fatal(err)
	}
	if verify(file, "localhost") == nil {
		t.Error("the certificate is good for localhost without being asked for it")
	}
	for _, bad := range []string{"", "not a host", "*.a.example", "127.0.0.1:443"} {
		if _, _, err := a.Issue("a.example", bad); err == nil {
			t.Errorf("host %q was accepted", bad)
		}
	}
}
