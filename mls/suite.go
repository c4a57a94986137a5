package mls

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/hpke"
	_ "crypto/sha256" // the hashes of the suites
	_ "crypto/sha512"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// CipherSuite names the algorithms of a group (RFC 9420 section 17.1).
type CipherSuite uint16

// The cipher suites of RFC 9420. Those with Curve448 are known but not
// usable; Usable tells.
const (
	X25519AES128SHA256Ed25519   CipherSuite = 0x0001
	P256AES128SHA256P256        CipherSuite = 0x0002
	X25519ChaCha20SHA256Ed25519 CipherSuite = 0x0003
	X448AES256SHA512Ed448       CipherSuite = 0x0004
	P521AES256SHA512P521        CipherSuite = 0x0005
	X448ChaCha20SHA512Ed448     CipherSuite = 0x0006
	P384AES256SHA384P384        CipherSuite = 0x0007
)

// suite holds the parameters of a cipher suite. kem is nil for one that is
// not usable.
type suite struct {
	id       CipherSuite
	name     string
	kem      hpke.KEM
	ecdh     ecdh.Curve // of kem
	kdf      hpke.KDF
	hpkeAEAD hpke.AEAD
	hash     crypto.Hash
	keySize  int // octets of an AEAD key
	newAEAD  func(key []byte) (cipher.AEAD, error)
	curve    elliptic.Curve // of ECDSA; nil for Ed25519
}

// nonceSize is the nonce length of every AEAD of the table.
const nonceSize = 12

// suites is indexed by CipherSuite - 1 (RFC 9420 section 17.1).
var suites = [...]suite{
	{1, "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519", hpke.DHKEM(ecdh.X25519()), ecdh.X25519(), hpke.HKDFSHA256(), hpke.AES128GCM(), crypto.SHA256, 16, newGCM, nil},
	{2, "MLS_128_DHKEMP256_AES128GCM_SHA256_P256", hpke.DHKEM(ecdh.P256()), ecdh.P256(), hpke.HKDFSHA256(), hpke.AES128GCM(), crypto.SHA256, 16, newGCM, elliptic.P256()},
	{3, "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519", hpke.DHKEM(ecdh.X25519()), ecdh.X25519(), hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), crypto.SHA256, 32, chacha20poly1305.New, nil},
	{4, "MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448", nil, nil, hpke.HKDFSHA512(), hpke.AES256GCM(), crypto.SHA512, 32, newGCM, nil},
	{5, "MLS_256_DHKEMP521_AES256GCM_SHA512_P521", hpke.DHKEM(ecdh.P521()), ecdh.P521(), hpke.HKDFSHA512(), hpke.AES256GCM(), crypto.SHA512, 32, newGCM, elliptic.P521()},
	{6, "MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_Ed448", nil, nil, hpke.HKDFSHA512(), hpke.ChaCha20Poly1305(), crypto.SHA512, 32, chacha20poly1305.New, nil},
	{7, "MLS_256_DHKEMP384_AES256GCM_SHA384_P384", hpke.DHKEM(ecdh.P384()), ecdh.P384(), hpke.HKDFSHA384(), hpke.AES256GCM(), crypto.SHA384, 32, newGCM, elliptic.P384()},
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// params returns the parameters of s, or an error if s is not usable.
func (s CipherSuite) params() (*suite, error) {
	if !s.Usable() {
		return nil, fmt.Errorf("%w: %v is not supported", ErrCipherSuite, s)
	}
	return &suites[s-1], nil
}

// Usable reports whether groups can use s.
func (s CipherSuite) Usable() bool {
	return s >= 1 && int(s) <= len(suites) && suites[s-1].kem != nil
}

// HashSize returns the length in octets of hashes, MACs and secrets of s, or
// 0 if s is not usable.
func (s CipherSuite) HashSize() int {
	if !s.Usable() {
		return 0
	}
	return suites[s-1].nh()
}

// String returns the registered name, or the code point.
func (s CipherSuite) String() string {
	if s >= 1 && int(s) <= len(suites) {
		return suites[s-1].name
	}
	return fmt.Sprintf("0x%04X", uint16(s))
}

// UsableCipherSuites lists the suites that groups can use.
func UsableCipherSuites() []CipherSuite {
	var ids []CipherSuite
	for i := range suites {
		if suites[i].kem != nil {
			ids = append(ids, suites[i].id)
		}
	}
	return ids
}

// nh is the output length of the suite's hash, KDF.Nh.
func (s *suite) nh() int { return s.hash.Size() }

// sum hashes the concatenation of parts.
func (s *suite) sum(parts ...[]byte) []byte {
	h := s.hash.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}
