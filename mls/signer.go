package mls

import (
	"crypto/rand"
	"fmt"
	"io"
	"slices"

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
	// Ed25519, Ed448 without a context, or ECDSA in DER over the suite's hash of message.
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
	private, err := p.signature.generate(random)
	if err != nil {
		return nil, nil, err
	}
	signer, err := p.signature.signer(private)
	return signer, private, err
}

// NewSigner returns the Signer of a private key in memory: the seed of
// Ed25519 (32 octets) or Ed448 (57 octets), or the big-endian ECDSA scalar.
func NewSigner(s CipherSuite, private []byte) (Signer, error) {
	p, err := s.params()
	if err != nil {
		return nil, err
	}
	return p.signature.signer(private)
}

// SignWithLabel signs content, given in one or several parts, under label (RFC 9420 section 5.1.2).
func SignWithLabel(signer Signer, label string, content ...[]byte) ([]byte, error) {
	input, err := labelled(label, content...)
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
	return verifyWithLabel(s, public, label, sig, content)
}

// verifyWithLabel is VerifyWithLabel for content in parts.
func verifyWithLabel(s CipherSuite, public []byte, label string, sig []byte, content ...[]byte) error {
	p, err := s.params()
	if err != nil {
		return err
	}
	input, err := labelled(label, content...)
	if err != nil {
		return err
	}
	ok, err := p.signature.verify(public, input, sig)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w on %s", ErrInvalidSignature, label)
	}
	return nil
}

// checkSignatureKey reports whether public is a well-formed key of the suite.
func (s *suite) checkSignatureKey(public []byte) error { return s.signature.checkPublic(public) }

// labelled encodes SignContent and EncryptContext, which have one form
// (RFC 9420 sections 5.1.2 and 5.1.3):
//
//	struct {
//	    opaque label<V> = "MLS 1.0 " + Label;
//	    opaque content<V>;
//	} SignContent;
func labelled(label string, content ...[]byte) ([]byte, error) {
	n := 0
	for _, part := range content {
		n += len(part)
	}
	w := tlspl.NewWriter(make([]byte, 0, len(labelPrefix)+len(label)+min(n, 1<<10)+8))
	w.Varint(len(labelPrefix) + len(label))
	w.RawString(labelPrefix)
	w.RawString(label)
	w.Varint(n)
	if n < 1<<10 {
		for _, part := range content {
			w.Raw(part)
		}
		return w.Bytes()
	}
	head, err := w.Bytes()
	// Concat does not clear the memory first.
	return slices.Concat(append([][]byte{head}, content...)...), err
}

// labelPrefix separates the uses of MLS 1.0 keys from all others.
const labelPrefix = "MLS 1.0 "
