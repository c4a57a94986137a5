package mls

import (
	"bytes"
	"fmt"
	"time"

	"github.com/comity-im/comity/internal/tlspl"
)

// KeyPackageParams describes a KeyPackage to make.
type KeyPackageParams struct {
	CipherSuite    CipherSuite
	Signer         Signer
	Credential     Credential
	Capabilities   Capabilities // zero: DefaultCapabilities of the credential's type, and GREASE here and in Extensions
	LeafExtensions Extensions
	Extensions     Extensions // of the KeyPackage itself
	LastResort     bool       // mark it so that it may be used more than once

	NotBefore time.Time     // zero: an hour before now
	Lifetime  time.Duration // zero: 90 days
	Now       time.Time     // zero: time.Now()
}

// KeyPackagePrivate holds the private keys of a KeyPackage. It is needed to
// join by a Welcome and destroyed afterwards; whoever stores its encoding
// encrypts it.
//
//	struct {
//	    opaque init_private_key<V>;
//	    opaque encryption_private_key<V>;
//	} KeyPackagePrivate;
type KeyPackagePrivate struct {
	InitKey       []byte
	EncryptionKey []byte
}

// MarshalTLS implements tlspl.Marshaler.
func (p *KeyPackagePrivate) MarshalTLS(w *tlspl.Writer) {
	w.Opaque(p.InitKey)
	w.Opaque(p.EncryptionKey)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (p *KeyPackagePrivate) UnmarshalTLS(r *tlspl.Reader) {
	p.InitKey = r.OpaqueCopy(0)
	p.EncryptionKey = r.OpaqueCopy(0)
}

// Wipe destroys the keys.
func (p *KeyPackagePrivate) Wipe() { wipe(p.InitKey, p.EncryptionKey) }

// check verifies that the keys are those of kp.
func (p *KeyPackagePrivate) check(s *suite, kp *KeyPackage) error {
	for _, k := range []struct {
		what            string
		private, public []byte
	}{
		{"init key", p.InitKey, kp.InitKey},
		{"encryption key", p.EncryptionKey, kp.LeafNode.EncryptionKey},
	} {
		public, err := s.hpkePublic(k.private)
		if err != nil {
			return err
		}
		if !bytes.Equal(public, k.public) {
			return fmt.Errorf("%w: the private %s is not that of the key package", ErrKey, k.what)
		}
	}
	return nil
}

// DefaultCapabilities lists what this package supports: MLS 1.0, the usable
// cipher suites, the proposals and extensions of mls-extensions that it
// implements, and the given credential types (basic and x509 if none).
func DefaultCapabilities(credentials ...CredentialType) Capabilities {
	if len(credentials) == 0 {
		credentials = []CredentialType{CredentialBasic, CredentialX509}
	}
	return Capabilities{
		Versions:     []ProtocolVersion{MLS10},
		CipherSuites: UsableCipherSuites(),
		Extensions:   []ExtensionType{ExtensionAppDataDictionary, ExtensionRequiredWireFormats},
		Proposals:    []ProposalType{ProposalAppDataUpdate, ProposalAppEphemeral, ProposalSelfRemove},
		Credentials:  credentials,
	}
}

// defaultCapabilities are DefaultCapabilities for a leaf of the suite with the
// extensions x, which is to list both.
func (s *suite) defaultCapabilities(cred CredentialType, x Extensions) Capabilities {
	caps := DefaultCapabilities(cred)
	if !s.id.Usable() {
		caps.CipherSuites = append(caps.CipherSuites, s.id)
	}
	if _, ok := x.Find(ExtensionSupportedWireFormats); ok {
		caps.Extensions = append(caps.Extensions, ExtensionSupportedWireFormats)
	}
	return caps
}

// isZero reports whether nothing is listed.
func (c *Capabilities) isZero() bool {
	return c.Versions == nil && c.CipherSuites == nil && c.Extensions == nil && c.Proposals == nil && c.Credentials == nil
}

// newLeaf makes a signed leaf of source key_package with a new key.
func newLeaf(s *suite, signer Signer, cred Credential, caps Capabilities, x Extensions, life Lifetime) (leaf LeafNode, private []byte, err error) {
	if caps, err = caps.orDefault(s, &cred, x); err != nil {
		return LeafNode{}, nil, err
	}
	if x, err = advertised(&caps, x); err != nil {
		return LeafNode{}, nil, err
	}
	private, public, err := GenerateHPKEKey(s.id)
	if err != nil {
		return LeafNode{}, nil, err
	}
	leaf = LeafNode{
		EncryptionKey: public,
		SignatureKey:  bytes.Clone(signer.Public()),
		Credential:    cred,
		Capabilities:  caps,
		Source:        LeafSourceKeyPackage,
		Lifetime:      life,
		Extensions:    x,
	}
	if err := checkLeafStatic(s, &leaf); err != nil {
		return LeafNode{}, nil, err
	}
	return leaf, private, leaf.sign(signer, nil, 0)
}

// lifetimeFrom returns a lifetime that begins a little in the past, so that
// clocks may differ.
func lifetimeFrom(notBefore, now time.Time, d time.Duration) Lifetime {
	if now.IsZero() {
		now = time.Now()
	}
	if notBefore.IsZero() {
		notBefore = now.Add(-time.Hour)
	}
	if d == 0 {
		d = 90 * 24 * time.Hour
	}
	return Lifetime{NotBefore: uint64(max(notBefore.Unix(), 0)), NotAfter: uint64(max(notBefore.Add(d).Unix(), 0))}
}

// NewKeyPackage makes a KeyPackage with new keys. It may be used for one
// group only, unless it is marked as a last resort (mls-extensions
// section 6.4).
func NewKeyPackage(p KeyPackageParams) (*KeyPackage, *KeyPackagePrivate, error) {
	s, err := p.CipherSuite.params()
	if err != nil {
		return nil, nil, err
	}
	if p.Signer == nil {
		return nil, nil, fmt.Errorf("%w: no signer for the key package", ErrKey)
	}
	if p.LastResort {
		if p.Extensions, err = p.Extensions.withLastResort(); err != nil {
			return nil, nil, err
		}
	}
	if err := p.Extensions.validIn(inKeyPackage); err != nil {
		return nil, nil, err
	}
	leaf, private, err := newLeaf(s, p.Signer, p.Credential, p.Capabilities, p.LeafExtensions, lifetimeFrom(p.NotBefore, p.Now, p.Lifetime))
	if err != nil {
		return nil, nil, err
	}
	initPrivate, initPublic, err := GenerateHPKEKey(s.id)
	if err != nil {
		return nil, nil, err
	}
	x := p.Extensions
	if p.Capabilities.isZero() {
		if x, err = x.withGREASE(); err != nil {
			return nil, nil, err
		}
	}
	kp := &KeyPackage{
		Version:     MLS10,
		CipherSuite: s.id,
		InitKey:     initPublic,
		LeafNode:    leaf,
		Extensions:  x,
	}
	if err := kp.sign(p.Signer); err != nil {
		return nil, nil, err
	}
	return kp, &KeyPackagePrivate{InitKey: initPrivate, EncryptionKey: private}, nil
}

// Verify checks a KeyPackage before it is handed out or added (RFC 9420
// section 10.1): version, keys, capabilities, lifetime, signatures and
// credential.
func (kp *KeyPackage) Verify(cfg *Config) error {
	c, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	s, err := c.suite(kp.CipherSuite)
	if err != nil {
		return err
	}
	return c.checkKeyPackage(s, kp)
}
