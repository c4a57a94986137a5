package mls

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"io"

	"github.com/cloudflare/circl/sign/ed448"
)

// A signatureScheme is the signature algorithm of a cipher suite (RFC 9420
// section 5.1.1). Errors match ErrKey.
type signatureScheme interface {
	// generate makes a private key with randomness from random.
	generate(random io.Reader) ([]byte, error)
	// signer returns the Signer of a private key.
	signer(private []byte) (Signer, error)
	// checkPublic returns an error unless public has the form of a key.
	checkPublic(public []byte) error
	// verify reports whether sig is a signature of message.
	verify(public, message, sig []byte) (bool, error)
}

// ed25519Scheme is Ed25519 (RFC 8032). A private key is the 32-octet seed.
type ed25519Scheme struct{}

func (ed25519Scheme) generate(random io.Reader) ([]byte, error) {
	return randomSeed(random, ed25519.SeedSize)
}

func randomSeed(random io.Reader, n int) ([]byte, error) {
	seed := make([]byte, n)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, fmt.Errorf("mls: randomness for a signature key: %w", err)
	}
	return seed, nil
}

func (ed25519Scheme) signer(private []byte) (Signer, error) {
	if len(private) != ed25519.SeedSize {
		return nil, fmt.Errorf("%w: Ed25519 private key of %d octets; want %d", ErrKey, len(private), ed25519.SeedSize)
	}
	return ed25519Signer(ed25519.NewKeyFromSeed(private)), nil
}

func (ed25519Scheme) checkPublic(public []byte) error {
	if len(public) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: Ed25519 public key of %d octets", ErrKey, len(public))
	}
	return nil
}

func (k ed25519Scheme) verify(public, message, sig []byte) (bool, error) {
	if err := k.checkPublic(public); err != nil {
		return false, err
	}
	return ed25519.Verify(public, message, sig), nil
}

type ed25519Signer ed25519.PrivateKey

func (k ed25519Signer) Public() []byte {
	return ed25519.PrivateKey(k).Public().(ed25519.PublicKey)
}

func (k ed25519Signer) Sign(message []byte) ([]byte, error) {
	return ed25519.Sign(ed25519.PrivateKey(k), message), nil
}

// ed448Scheme is Ed448 without a context (RFC 8032). A private key is the
// 57-octet seed.
type ed448Scheme struct{}

func (ed448Scheme) generate(random io.Reader) ([]byte, error) {
	return randomSeed(random, ed448.SeedSize)
}

func (ed448Scheme) signer(private []byte) (Signer, error) {
	if len(private) != ed448.SeedSize {
		return nil, fmt.Errorf("%w: Ed448 private key of %d octets; want %d", ErrKey, len(private), ed448.SeedSize)
	}
	return ed448Signer(ed448.NewKeyFromSeed(private)), nil
}

func (ed448Scheme) checkPublic(public []byte) error {
	if len(public) != ed448.PublicKeySize {
		return fmt.Errorf("%w: Ed448 public key of %d octets", ErrKey, len(public))
	}
	return nil
}

func (k ed448Scheme) verify(public, message, sig []byte) (bool, error) {
	if err := k.checkPublic(public); err != nil {
		return false, err
	}
	return ed448.Verify(public, message, sig, ""), nil
}

type ed448Signer ed448.PrivateKey

func (k ed448Signer) Public() []byte {
	return ed448.PrivateKey(k).Public().(ed448.PublicKey)
}

func (k ed448Signer) Sign(message []byte) ([]byte, error) {
	return ed448.Sign(ed448.PrivateKey(k), message, ""), nil
}

// An ecdsaScheme is ECDSA with the suite's hash, in DER. A private key is the
// big-endian scalar, a public key the uncompressed point.
type ecdsaScheme struct {
	curve elliptic.Curve
	hash  *kdf
}

var (
	ecdsaP256 = ecdsaScheme{elliptic.P256(), hkdfSHA256}
	ecdsaP384 = ecdsaScheme{elliptic.P384(), hkdfSHA384}
	ecdsaP521 = ecdsaScheme{elliptic.P521(), hkdfSHA512}
)

func (s ecdsaScheme) generate(random io.Reader) ([]byte, error) {
	key, err := ecdsa.GenerateKey(s.curve, random)
	if err != nil {
		return nil, fmt.Errorf("mls: generate signature key: %w", err)
	}
	private, err := key.Bytes()
	if err != nil {
		return nil, fmt.Errorf("mls: encode signature key: %w", err)
	}
	return private, nil
}

func (s ecdsaScheme) signer(private []byte) (Signer, error) {
	// Some encoders drop leading zeros.
	if size := (s.curve.Params().BitSize + 7) / 8; len(private) > 0 && len(private) < size {
		private = append(make([]byte, size-len(private)), private...)
	}
	key, err := ecdsa.ParseRawPrivateKey(s.curve, private)
	if err != nil {
		return nil, fmt.Errorf("%w: ECDSA private key is not a scalar of the curve", ErrKey)
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("%w: ECDSA public key: %v", ErrKey, err)
	}
	return &ecdsaSigner{key, public, s.hash}, nil
}

func (s ecdsaScheme) checkPublic(public []byte) error {
	_, err := s.point(public)
	return err
}

func (s ecdsaScheme) point(public []byte) (*ecdsa.PublicKey, error) {
	key, err := ecdsa.ParseUncompressedPublicKey(s.curve, public)
	if err != nil {
		return nil, fmt.Errorf("%w: ECDSA public key is not a point of the curve", ErrKey)
	}
	return key, nil
}

func (s ecdsaScheme) verify(public, message, sig []byte) (bool, error) {
	key, err := s.point(public)
	if err != nil {
		return false, err
	}
	return ecdsa.VerifyASN1(key, s.hash.sum(message), sig), nil
}

type ecdsaSigner struct {
	key    *ecdsa.PrivateKey
	public []byte
	hash   *kdf
}

func (k *ecdsaSigner) Public() []byte { return k.public }

func (k *ecdsaSigner) Sign(message []byte) ([]byte, error) {
	return ecdsa.SignASN1(rand.Reader, k.key, k.hash.sum(message))
}
