package mls

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// HPKECiphertext is a ciphertext of EncryptWithLabel (RFC 9420 section 7.6):
//
//	struct {
//	    opaque kem_output<V>;
//	    opaque ciphertext<V>;
//	} HPKECiphertext;
type HPKECiphertext struct {
	KEMOutput  []byte
	Ciphertext []byte
}

// MarshalTLS implements tlspl.Marshaler.
func (c HPKECiphertext) MarshalTLS(w *tlspl.Writer) {
	w.Opaque(c.KEMOutput)
	w.Opaque(c.Ciphertext)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (c *HPKECiphertext) UnmarshalTLS(r *tlspl.Reader) {
	c.KEMOutput = r.Opaque(0)
	c.Ciphertext = r.Opaque(0)
}

// GenerateHPKEKey makes an HPKE key pair for suite s.
func GenerateHPKEKey(s CipherSuite) (private, public []byte, err error) {
	p, err := s.params()
	if err != nil {
		return nil, nil, err
	}
	return p.kem.generateKeyPair()
}

// deriveKeyPair is KEM.DeriveKeyPair (RFC 9180 section 4).
func (s *suite) deriveKeyPair(ikm []byte) (private, public []byte, err error) {
	return s.kem.deriveKeyPair(ikm)
}

// hpkePublic returns the public key of an HPKE private key.
func (s *suite) hpkePublic(private []byte) ([]byte, error) { return s.kem.publicKey(private) }

// checkHPKEKey returns an error unless public is a key of the suite to which
// can be encrypted.
func (s *suite) checkHPKEKey(public []byte) error { return s.kem.checkPublic(public) }

// checkKEMOutput returns an error unless enc can be an encapsulation of the
// suite's KEM.
func (s *suite) checkKEMOutput(enc []byte) error { return s.kem.checkOutput(enc) }

// EncryptWithLabel encrypts plaintext to an HPKE public key (RFC 9420
// section 5.1.3).
func EncryptWithLabel(s CipherSuite, public []byte, label string, context, plaintext []byte) (HPKECiphertext, error) {
	p, err := s.params()
	if err != nil {
		return HPKECiphertext{}, err
	}
	info, err := labelled(label, context)
	if err != nil {
		return HPKECiphertext{}, err
	}
	return p.seal(public, info, plaintext)
}

func (s *suite) seal(public, info, plaintext []byte) (HPKECiphertext, error) {
	return s.newSealer(info).seal(public, plaintext)
}

// DecryptWithLabel opens a ciphertext of EncryptWithLabel. It returns an
// error that matches ErrDecrypt or ErrKey.
func DecryptWithLabel(s CipherSuite, private []byte, label string, context []byte, ct HPKECiphertext) ([]byte, error) {
	p, err := s.params()
	if err != nil {
		return nil, err
	}
	info, err := labelled(label, context)
	if err != nil {
		return nil, err
	}
	return p.open(private, info, ct)
}

func (s *suite) open(private, info []byte, ct HPKECiphertext) ([]byte, error) {
	return s.newSealer(info).open(private, nil, ct)
}

// externalInitLabel is the exporter context of an ExternalInit (RFC 9420
// section 8.3).
const externalInitLabel = "MLS 1.0 external init secret"

// externalInitSend encapsulates a new init secret to external_pub.
func (s *suite) externalInitSend(externalPub []byte) (kemOutput, initSecret []byte, err error) {
	shared, enc, err := s.kem.encap(externalPub)
	if err != nil {
		return nil, nil, fmt.Errorf("external_pub: %w", err)
	}
	x := s.newSealer(nil)
	keys := x.schedule(shared)
	defer keys.wipe()
	return enc, x.export(keys, []byte(externalInitLabel), s.nh()), nil
}

// externalInitReceive opens what externalInitSend made.
func (s *suite) externalInitReceive(externalPriv, kemOutput []byte) ([]byte, error) {
	x := s.newSealer(nil)
	keys, err := x.receive(externalPriv, nil, kemOutput)
	if err != nil {
		return nil, fmt.Errorf("kem_output of ExternalInit: %w", err)
	}
	defer keys.wipe()
	return x.export(keys, []byte(externalInitLabel), s.nh()), nil
}
