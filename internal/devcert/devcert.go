// Package devcert makes throwaway TLS certificates for demonstrations, tests
// and private trials: a root authority in a folder, and a certificate per
// provider that authenticates its domain as server and as client.
//
// It is not for production, because the key of the root lies beside it: whoever
// reads the folder can be any provider to everyone who trusts the root. Never
// put such a root into the trust store of a system or a browser for longer than
// a trial, and delete the folder afterwards. Nothing is renewed, revoked or
// logged.
//
// In production a provider needs a certificate that
//
//   - has its provider domain (the host of its mimi: URIs) as dNSName, whatever
//     host its directory points at;
//   - may be used by servers and by clients (extended key usages serverAuth and
//     clientAuth), since providers authenticate to each other in both roles.
//     Some public authorities no longer issue clientAuth: ask before you choose
//     one;
//   - comes from an authority that the peers trust: a public one, by ACME, or
//     one that the members of a federation agreed on and configured as roots;
//   - has a key of its own that never leaves the machine, in a file that only
//     the server's user can read, and is replaced before it expires.
//
// That certificate also signs the provider's anchor statement, which tells
// others which authority certifies the devices of its users (package identity).
// So it must be renewed with care: losing its key lets someone else speak for
// the domain.
package devcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/comity-im/comity/mimi"
)

// Life is how long the certificates are valid.
const Life = 30 * 24 * time.Hour

// names of the files of the root
const (
	rootFile = "root.pem"
	rootKey  = "root.key"
)

// An Authority signs throwaway certificates.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	now  time.Time
}

// New opens the authority in dir, and makes the folder and the authority if
// they are not there.
func New(dir string, now time.Time) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("devcert: %w", err)
	}
	a := &Authority{dir: dir, now: now}
	err := a.load()
	if errors.Is(err, fs.ErrNotExist) {
		err = a.create()
	}
	if err != nil {
		return nil, fmt.Errorf("devcert: %w", err)
	}
	return a, nil
}

// RootFile is the PEM file of the root, for those who should trust it.
func (a *Authority) RootFile() string { return filepath.Join(a.dir, rootFile) }

// Pool returns a pool that holds the root alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Local are the names under which a machine knows itself, for Issue.
func Local() []string { return []string{"localhost", "127.0.0.1", "::1"} }

// Issue makes a certificate for a provider's domain and returns the PEM files
// of the certificate and of its key. The certificate is for the hosts in also,
// too, which are domain names or addresses (see Local): a client that connects
// by such a name can then check it. An earlier certificate of the domain is
// replaced.
func (a *Authority) Issue(domain string, also ...string) (certFile, keyFile string, err error) {
	domain, err = mimi.ParseDomain(domain)
	if err != nil {
		return "", "", fmt.Errorf("devcert: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("devcert: %w", err)
	}
	template := a.template(domain)
	template.DNSNames = []string{domain}
	for _, host := range also {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		name, err := mimi.ParseDomain(host)
		if err != nil {
			return "", "", fmt.Errorf("devcert: %w", err)
		}
		template.DNSNames = append(template.DNSNames, name)
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return "", "", fmt.Errorf("devcert: %w", err)
	}
	certFile, keyFile = filepath.Join(a.dir, domain+".pem"), filepath.Join(a.dir, domain+".key")
	if err := write(certFile, keyFile, der, key); err != nil {
		return "", "", fmt.Errorf("devcert: %w", err)
	}
	return certFile, keyFile, nil
}

func (a *Authority) template(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: []string{"Comity throwaway"}},
		NotBefore:    a.now.Add(-time.Hour), NotAfter: a.now.Add(Life),
		BasicConstraintsValid: true,
	}
}

func (a *Authority) create() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := a.template("Comity throwaway root")
	template.IsCA = true
	template.MaxPathLenZero = true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if err := write(a.RootFile(), filepath.Join(a.dir, rootKey), der, key); err != nil {
		return err
	}
	return a.load()
}

func (a *Authority) load() error {
	cert, err := block(a.RootFile(), "CERTIFICATE")
	if err != nil {
		return err
	}
	der, err := block(filepath.Join(a.dir, rootKey), "PRIVATE KEY")
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(cert); err != nil {
		return fmt.Errorf("%s: %w", a.RootFile(), err)
	}
	if !a.now.Before(a.cert.NotAfter) {
		return fmt.Errorf("%s has expired; delete the folder to start anew", a.RootFile())
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || !ec.PublicKey.Equal(a.cert.PublicKey) {
		return fmt.Errorf("%s is not the key of %s", rootKey, rootFile)
	}
	a.key = ec
	return nil
}

func block(file, kind string) ([]byte, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	b, _ := pem.Decode(raw)
	if b == nil || b.Type != kind {
		return nil, fmt.Errorf("%s holds no %s", file, kind)
	}
	return b.Bytes, nil
}

// write writes a certificate and its key. The key's file is created with its
// mode, so that at no time others can read it.
func write(certFile, keyFile string, der []byte, key *ecdsa.PrivateKey) error {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.Remove(keyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}
