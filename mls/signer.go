package mls

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"

	"github.com/comity-im/comity/internal/tlspl"
)

// A Signer holds a signature key of one member. It may be backed by a device
// that does not reveal the key. It must be safe for use by one goroutine at
// a time.
type Signer interface {
	// Public returns the SignaturePublicKey in the encoding of RFC 9420
	// section 5.1.1.
	Public() []byte
	// Sign returns the signature of message under the suite's scheme:
	// Ed25519, or ECDSA in DER over the suite's hash of message.
	Sign(message []byte) ([]byte, error)
}

// GenerateSigner makes a signature key for suite s, with randomness from
// random (nil: the system's). It returns the private key too, in the form
// that NewSigner takes.
func GenerateSigner(s CipherSuite, random io.Reader) (Signer, []byte, error) {
	p, err := s.params()
	if err != nil {
		return nil, nil, err
	}
	if random == nil {
		random = rand.Reader
	}
	if p.curve == nil {
		seed := make([]byte, ed25519.SeedSize)
		if _, err := io.ReadFull(random, seed); err != nil {
			return nil, nil, fmt.Errorf("mls: randomness for a signature key: %w", err)
		}
		signer, err := NewSigner(s, seed)
		return signer, seed, err
	}
	key, err := ecdsa.GenerateKey(p.curve, random)
	if err != nil {
		return nil, nil, fmt.Errorf("mls: generate signature key: %w", err)
	}
	private, err := key.Bytes()
	if err != nil {
		return nil, nil, fmt.Errorf("mls: encode signature key: %w", err)
	}
	signer, err := NewSigner(s, private)
	return signer, private, err
}

// NewSigner returns the Signer of a private key in memory: the 32-octet
// Ed25519 seed, or the big-endian ECDSA scalar.
func NewSigner(s CipherSuite, private []byte) (Signer, error) {
	p, err := s.params()
	if err != nil {
		return nil, err
	}
	if p.curve == nil {
		if len(private) != ed25519.SeedSize {
			return nil, fmt.Errorf("%w: Ed25519 private key of %d octets; want %d", ErrKey, len(private), ed25519.SeedSize)
		}
		return ed25519Signer(ed25519.NewKeyFromSeed(private)), nil
	}
	// Some encoders drop leading zeros.
	if size := (p.curve.Params().BitSize + 7) / 8; len(private) > 0 && len(private) < size {
		private = append(make([]byte, size-len(private)), private...)
	}
	key, err := ecdsa.ParseRawPrivateKey(p.curve, private)
	if err != nil {
		return nil, fmt.Errorf("%w: ECDSA private key is not a scalar of the curve", ErrKey)
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("%w: ECDSA public key: %v", ErrKey, err)
	}
	return &ecdsaSigner{key, public, p}, nil
}

type ed25519Signer ed25519.PrivateKey

func (k ed25519Signer) Public() []byte {
	return ed25519.PrivateKey(k).Public().(ed25519.PublicKey)
}

func (k ed25519Signer) Sign(message []byte) ([]byte, error) {
	return ed25519.Sign(ed25519.PrivateKey(k), message), nil
}

type ecdsaSigner struct {
	key    *ecdsa.PrivateKey
	public []byte
	suite  *suite
}

func (k *ecdsaSigner) Public() []byte { return k.public }

func (k *ecdsaSigner) Sign(message []byte) ([]byte, error) {
	return ecdsa.SignASN1(rand.Reader, k.key, k.suite.sum(message))
}

// SignWithLabel signs content under label (RFC 9420 section 5.1.2).
func SignWithLabel(signer Signer, label string, content []byte) ([]byte, error) {
	input, err := labelled(label, content)
	if err != nil {
		return nil, err
	}
	sig, err := signer.Sign(input)
	if err != nil {
		return nil, fmt.Errorf("mls: sign %s: %w", label, err)
	}
	return sig, nil
}

// VerifyWithLabel checks a signature of SignWithLabel. It returns an error
// that matches ErrInvalidSignature or ErrKey.
func VerifyWithLabel(s CipherSuite, public []byte, label string, content, sig []byte) error {
	p, err := s.params()
	if err != nil {
		return err
	}
	input, err := labelled(label, content)
	if err != nil {
		return err
	}
	if p.curve == nil {
		if len(public) != ed25519.PublicKeySize {
			return fmt.Errorf("%w: Ed25519 public key of %d octets", ErrKey, len(public))
		}
		if !ed25519.Verify(public, input, sig) {
			return fmt.Errorf("%w on %s", ErrInvalidSignature, label)
		}
		return nil
	}
	key, err := ecdsa.ParseUncompressedPublicKey(p.curve, public)
	if err != nil {
		return fmt.Errorf("%w: ECDSA public key is not a point of the curve", ErrKey)
	}
	if !ecdsa.VerifyASN1(key, p.sum(input), sig) {
		return fmt.Errorf("%w on %s", ErrInvalidSignature, label)
	}
	return nil
}

// checkSignatureKey reports whether public is a well-formed key of the suite.
func (s *suite) checkSignatureKey(public []byte) error {
	if s.curve == nil {
		if len(public) != ed25519.PublicKeySize {
			return fmt.Errorf("%w: Ed25519 public key of %d octets", ErrKey, len(public))
		}
		return nil
	}
	if _, err := ecdsa.ParseUncompressedPublicKey(s.curve, public); err != nil {
		return fmt.Errorf("%w: ECDSA public key is not a point of the curve", ErrKey)
	}
	return nil
}

// labelled encodes SignContent and EncryptContext, which have one form
// (RFC 9420 sections 5.1.2 and 5.1.3):
//
//	struct {
//	    opaque label<V> = "MLS 1.0 " + Label;
//	    opaque content<V>;
//	} SignContent;
func labelled(label string, content []byte) ([]byte, error) {
	w := tlspl.NewWriter(make([]byte, 0, len(labelPrefix)+len(label)+len(content)+5))
	w.Varint(len(labelPrefix) + len(label))
	w.Raw([]byte(labelPrefix))
	w.Raw([]byte(label))
	w.Opaque(content)
	return w.Bytes()
}

// labelPrefix separates the uses of MLS 1.0 keys from all others.
const labelPrefix = "MLS 1.0 "
