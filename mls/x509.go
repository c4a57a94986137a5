package mls

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// An X509Verifier is a [CredentialVerifier] for x509 credentials (RFC 9420
// section 5.3): the chain leads to one of the roots, and the certificate of
// the leaf is for the signature key. It leaves to the application which roots
// there are, who may be in a group, and revocation (Check). Its fields must not
// change after first use.
//
// Certificates may be signed with Ed25519, ECDSA and RSA with at least 2048
// bits, with SHA-256 or better; a chain may mix them. The member's own key is
// Ed25519, or ECDSA on P-256, P-384 or P-521, as its cipher suite wants it.
type X509Verifier struct {
	// Roots are trusted. Required.
	Roots *x509.CertPool
	// Intermediates are known besides those in the credential's chain, which may
	// leave them and the root out. What it holds must be in order and lead from
	// the leaf towards the root.
	Intermediates *x509.CertPool
	// MaxChain is the number of certificates of one credential that are looked
	// at; zero means 4. More are refused before any is parsed.
	MaxChain int
	// MaxSize is the size in octets of one certificate; zero means 16 KiB.
	MaxSize int
	// KeyUsages are extended key usages of which the leaf must have one; nil
	// means any.
	KeyUsages []x509.ExtKeyUsage
	// Identity returns which client a leaf certificate stands for. Certificates
	// for which it fails are refused; two with the same identity may succeed
	// one another. nil means URIIdentity.
	Identity func(leaf *x509.Certificate) (string, error)
	// Check, if set, refuses a chain that is valid otherwise, for example since
	// a certificate was revoked. The chain goes from the leaf to the root.
	Check func(chain []*x509.Certificate, now time.Time) error
}

const (
	defaultMaxChain = 4
	defaultMaxSize  = 16 << 10
	minRSABits      = 2048
)

// URIIdentity returns the only URI among the subject alternative names of a
// certificate, which is the identity of its client.
func URIIdentity(leaf *x509.Certificate) (string, error) {
	if len(leaf.URIs) != 1 {
		return "", fmt.Errorf("certificate with %d URIs among its names; want 1", len(leaf.URIs))
	}
	return leaf.URIs[0].String(), nil
}

// VerifyCredential implements [CredentialVerifier]. At the zero time the chain
// must have been valid at some time.
func (v *X509Verifier) VerifyCredential(c *Credential, signatureKey []byte, now time.Time) error {
	chain, err := v.parse(c)
	if err != nil {
		return err
	}
	if err := checkEndEntity(chain[0], signatureKey); err != nil {
		return err
	}
	if _, err := v.identity(chain[0]); err != nil {
		return err
	}
	times := []time.Time{now}
	if now.IsZero() {
		if times, err = validity(chain); err != nil {
			return err
		}
	}
	var failed error
	for _, at := range times {
		if failed = v.verifyAt(chain, at, now); failed == nil {
			return nil
		}
	}
	return failed
}

// verifyAt verifies a chain that was checked by itself at one time.
func (v *X509Verifier) verifyAt(chain []*x509.Certificate, at, now time.Time) error {
	if v.Roots == nil {
		return errors.New("X509Verifier.Roots is nil: set the trusted roots")
	}
	for i, c := range chain {
		if at.Before(c.NotBefore) || at.After(c.NotAfter) {
			return fmt.Errorf("certificate %d of the chain is valid from %v to %v, not at %v", i, c.NotBefore.UTC(), c.NotAfter.UTC(), at.UTC())
		}
	}
	intermediates := x509.NewCertPool()
	if v.Intermediates != nil {
		intermediates = v.Intermediates.Clone()
	}
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	usages := v.KeyUsages
	if usages == nil {
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	}
	paths, err := chain[0].Verify(x509.VerifyOptions{
		Roots: v.Roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: usages,
	})
	if err != nil {
		return fmt.Errorf("certificate chain: %w", err)
	}
	// One good path to a root is enough.
	for _, path := range paths {
		if err = v.checkPath(path, chain, now); err == nil {
			return nil
		}
	}
	return err
}

// checkPath verifies a path from the leaf to a root that the given chain led
// to.
func (v *X509Verifier) checkPath(path, chain []*x509.Certificate, now time.Time) error {
	given := 0
	for _, c := range path {
		if given < len(chain) && chain[given].Equal(c) {
			given++
		}
	}
	if given < len(chain) {
		return fmt.Errorf("certificate %d of the chain is out of order, or not on the way to the root", given)
	}
	for _, c := range path {
		if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < minRSABits {
			return fmt.Errorf("RSA key of %d bits in the certificate chain; want at least %d", k.N.BitLen(), minRSABits)
		}
	}
	if v.Check == nil {
		return nil
	}
	return v.Check(path, now)
}

// VerifySuccessor implements [CredentialVerifier]: both certificates must have
// the same identity. It verifies no chain.
func (v *X509Verifier) VerifySuccessor(old, new *LeafNode) error {
	var ids [2]string
	for i, leaf := range []*LeafNode{old, new} {
		c, err := v.parseLeaf(&leaf.Credential)
		if err != nil {
			return err
		}
		if ids[i], err = v.identity(c); err != nil {
			return err
		}
	}
	if ids[0] != ids[1] {
		return fmt.Errorf("certificate of %q in place of %q", ids[1], ids[0])
	}
	return nil
}

func (v *X509Verifier) identity(leaf *x509.Certificate) (string, error) {
	if v.Identity == nil {
		return URIIdentity(leaf)
	}
	return v.Identity(leaf)
}

// parse returns the chain of a credential, after checking its size.
func (v *X509Verifier) parse(c *Credential) ([]*x509.Certificate, error) {
	most := v.MaxChain
	if most == 0 {
		most = defaultMaxChain
	}
	switch n := len(c.Certificates); {
	case c.Type != CredentialX509:
		return nil, fmt.Errorf("credential of type %v; want x509", c.Type)
	case n == 0:
		return nil, errors.New("x509 credential without certificates")
	case n > most:
		return nil, fmt.Errorf("x509 credential of %d certificates; the limit is %d", n, most)
	}
	chain := make([]*x509.Certificate, len(c.Certificates))
	for i, der := range c.Certificates {
		var err error
		if chain[i], err = v.parseOne(der); err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i, err)
		}
	}
	return chain, nil
}

func (v *X509Verifier) parseOne(der []byte) (*x509.Certificate, error) {
	most := v.MaxSize
	if most == 0 {
		most = defaultMaxSize
	}
	if len(der) > most {
		return nil, fmt.Errorf("%d octets; the limit is %d", len(der), most)
	}
	return x509.ParseCertificate(der)
}

func (v *X509Verifier) parseLeaf(c *Credential) (*x509.Certificate, error) {
	if c.Type != CredentialX509 || len(c.Certificates) == 0 {
		return nil, fmt.Errorf("credential of type %v with %d certificates; want x509", c.Type, len(c.Certificates))
	}
	return v.parseOne(c.Certificates[0])
}

// checkEndEntity verifies that a certificate is one of a member, and for its
// signature key.
func checkEndEntity(leaf *x509.Certificate, signatureKey []byte) error {
	var public []byte
	switch k := leaf.PublicKey.(type) {
	case ed25519.PublicKey:
		public = k
	case *ecdsa.PublicKey:
		var err error
		if public, err = k.Bytes(); err != nil {
			return fmt.Errorf("key of the certificate: %w", err)
		}
	default:
		return fmt.Errorf("certificate for a key of algorithm %v; want Ed25519 or ECDSA", leaf.PublicKeyAlgorithm)
	}
	if !bytes.Equal(public, signatureKey) {
		return errors.New("the certificate is not for the signature key")
	}
	if leaf.IsCA {
		return errors.New("certificate of a CA in place of a member's")
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return errors.New("the key of the certificate is not for signatures")
	}
	return nil
}

// validity returns the first and the last time at which all certificates of a
// chain were valid. The root is not known yet; it was valid at one of them.
func validity(chain []*x509.Certificate) ([]time.Time, error) {
	first := slices.MaxFunc(chain, func(a, b *x509.Certificate) int { return a.NotBefore.Compare(b.NotBefore) }).NotBefore
	last := slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter
	if last.Before(first) {
		return nil, errors.New("the certificates of the chain were never valid together")
	}
	return []time.Time{first, last}, nil
}
