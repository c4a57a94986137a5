package mls

import (
	"crypto/hpke"
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
	key, err := p.kem.GenerateKey()
	if err != nil {
		return nil, nil, fmt.Errorf("mls: generate HPKE key: %w", err)
	}
	return hpkeKeyBytes(key)
}

// deriveKeyPair is KEM.DeriveKeyPair (RFC 9180 section 4).
func (s *suite) deriveKeyPair(ikm []byte) (private, public []byte, err error) {
	key, err := s.kem.DeriveKeyPair(ikm)
	if err != nil {
		return nil, nil, fmt.Errorf("mls: derive HPKE key: %w", err)
	}
	return hpkeKeyBytes(key)
}

// hpkePublic returns the public key of an HPKE private key.
func (s *suite) hpkePublic(private []byte) ([]byte, error) {
	key, err := s.kem.NewPrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("%w: HPKE private key", ErrKey)
	}
	return key.PublicKey().Bytes(), nil
}

// checkHPKEKey reports whether public is a well-formed key of the suite.
func (s *suite) checkHPKEKey(public []byte) error {
	if _, err := s.kem.NewPublicKey(public); err != nil {
		return fmt.Errorf("%w: HPKE public key: %v", ErrKey, err)
	}
	return nil
}

func hpkeKeyBytes(key hpke.PrivateKey) (private, public []byte, err error) {
	private, err = key.Bytes()
	if err != nil {
		return nil, nil, fmt.Errorf("mls: encode HPKE key: %w", err)
	}
	return private, key.PublicKey().Bytes(), nil
}

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
	key, err := s.kem.NewPublicKey(public)
	if err != nil {
		return HPKECiphertext{}, fmt.Errorf("%w: HPKE public key: %v", ErrKey, err)
	}
	enc, sender, err := hpke.NewSender(key, s.kdf, s.hpkeAEAD, info)
	if err != nil {
		return HPKECiphertext{}, fmt.Errorf("%w: HPKE encapsulation: %v", ErrKey, err)
	}
	ct, err := sender.Seal(nil, plaintext)
	if err != nil {
		return HPKECiphertext{}, fmt.Errorf("mls: HPKE seal: %w", err)
	}
	return HPKECiphertext{enc, ct}, nil
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
	key, err := s.kem.NewPrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("%w: HPKE private key", ErrKey)
	}
	recipient, err := hpke.NewRecipient(ct.KEMOutput, key, s.kdf, s.hpkeAEAD, info)
	if err != nil {
		return nil, fmt.Errorf("%w: HPKE decapsulation failed", ErrDecrypt)
	}
	pt, err := recipient.Open(nil, ct.Ciphertext)
	if err != nil {
		return nil, fmt.Errorf("%w: HPKE ciphertext does not fit key and context", ErrDecrypt)
	}
	return pt, nil
}

// externalInitLabel is the exporter context of an ExternalInit (RFC 9420
// section 8.3).
const externalInitLabel = "MLS 1.0 external init secret"

// externalInitSend encapsulates a new init secret to external_pub.
func (s *suite) externalInitSend(externalPub []byte) (kemOutput, initSecret []byte, err error) {
	key, err := s.kem.NewPublicKey(externalPub)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: external_pub: %v", ErrKey, err)
	}
	enc, sender, err := hpke.NewSender(key, s.kdf, s.hpkeAEAD, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: external_pub: %v", ErrKey, err)
	}
	secret, err := sender.Export(externalInitLabel, s.nh())
	if err != nil {
		return nil, nil, fmt.Errorf("mls: HPKE export: %w", err)
	}
	return enc, secret, nil
}

// externalInitReceive opens what externalInitSend made.
func (s *suite) externalInitReceive(externalPriv, kemOutput []byte) ([]byte, error) {
	key, err := s.kem.NewPrivateKey(externalPriv)
	if err != nil {
		return nil, fmt.Errorf("%w: external private key", ErrKey)
	}
	recipient, err := hpke.NewRecipient(kemOutput, key, s.kdf, s.hpkeAEAD, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: kem_output of ExternalInit", ErrDecrypt)
	}
	secret, err := recipient.Export(externalInitLabel, s.nh())
	if err != nil {
		return nil, fmt.Errorf("mls: HPKE export: %w", err)
	}
	return secret, nil
}
