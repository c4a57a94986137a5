package mls

import (
	"crypto/aes"
	"crypto/cipher"
	_ "crypto/sha256" // the hashes of the suites
	_ "crypto/sha512"
	"fmt"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

// CipherSuite names the algorithms of a group (RFC 9420 section 17.1).
type CipherSuite uint16

// The cipher suites of RFC 9420.
const (
	X25519AES128SHA256Ed25519   CipherSuite = 0x0001
	P256AES128SHA256P256        CipherSuite = 0x0002
	X25519ChaCha20SHA256Ed25519 CipherSuite = 0x0003
	X448AES256SHA512Ed448       CipherSuite = 0x0004
	P521AES256SHA512P521        CipherSuite = 0x0005
	X448ChaCha20SHA512Ed448     CipherSuite = 0x0006
	P384AES256SHA384P384        CipherSuite = 0x0007
)

// XWingAES256SHA384Ed25519 is the hybrid post-quantum suite
// MLS_128_MLKEM768X25519_AES256GCM_SHA384_Ed25519 of
// draft-ietf-mls-pq-ciphersuites: what is encrypted now stays secret if
// either ML-KEM-768 or X25519 is broken later; signatures are not
// post-quantum. It has no code point yet, so this is one for private use, and
// groups of it are refused unless [Config.CipherSuites] lists it. Its keys
// are of 1 216 octets, and the path of a commit is accordingly larger.
const XWingAES256SHA384Ed25519 CipherSuite = 0xF001

// suite holds the parameters of a cipher suite.
type suite struct {
	id        CipherSuite
	name      string
	kem       kem
	kdf       *kdf
	aead      uint16 // identifier in HPKE (RFC 9180 section 7.3)
	keySize   int    // octets of an AEAD key
	newAEAD   func(key []byte) (cipher.AEAD, error)
	signature signatureScheme
}

// nonceSize is the nonce length of every AEAD of the table.
const nonceSize = 12

// The identifiers of AEADs in HPKE.
const (
	aes128GCM        = 0x0001
	aes256GCM        = 0x0002
	chacha20Poly1305 = 0x0003
)

// suites is the table of RFC 9420 section 17.1, indexed by CipherSuite - 1,
// and then what is for private use.
var suites = [...]suite{
	{0x0001, "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519", kemX25519, hkdfSHA256, aes128GCM, 16, newGCM, ed25519Scheme{}},
	{0x0002, "MLS_128_DHKEMP256_AES128GCM_SHA256_P256", kemP256, hkdfSHA256, aes128GCM, 16, newGCM, ecdsaP256},
	{0x0003, "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519", kemX25519, hkdfSHA256, chacha20Poly1305, 32, chacha20poly1305.New, ed25519Scheme{}},
	{0x0004, "MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448", kemX448, hkdfSHA512, aes256GCM, 32, newGCM, ed448Scheme{}},
	{0x0005, "MLS_256_DHKEMP521_AES256GCM_SHA512_P521", kemP521, hkdfSHA512, aes256GCM, 32, newGCM, ecdsaP521},
	{0x0006, "MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_Ed448", kemX448, hkdfSHA512, chacha20Poly1305, 32, chacha20poly1305.New, ed448Scheme{}},
	{0x0007, "MLS_256_DHKEMP384_AES256GCM_SHA384_P384", kemP384, hkdfSHA384, aes256GCM, 32, newGCM, ecdsaP384},
	{XWingAES256SHA384Ed25519, "MLS_128_MLKEM768X25519_AES256GCM_SHA384_Ed25519", xwing{}, hkdfSHA384, aes256GCM, 32, newGCM, ed25519Scheme{}},
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// find returns the parameters of s, or nil if it is not implemented.
func (s CipherSuite) find() *suite {
	if s.Usable() {
		return &suites[s-1]
	}
	if s == XWingAES256SHA384Ed25519 {
		return &suites[len(suites)-1]
	}
	return nil
}

// params returns the parameters of s, or an error if s is not implemented.
// Whether a group may have s is for Config.suite to say.
func (s CipherSuite) params() (*suite, error) {
	if p := s.find(); p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%w: %v is not supported", ErrCipherSuite, s)
}

// Usable reports whether groups can use s unless [Config.CipherSuites] says
// otherwise.
func (s CipherSuite) Usable() bool {
	return s >= X25519AES128SHA256Ed25519 && s <= P384AES256SHA384P384
}

// HashSize returns the length in octets of hashes, MACs and secrets of s, or
// 0 if s is not implemented.
func (s CipherSuite) HashSize() int {
	if p := s.find(); p != nil {
		return p.nh()
	}
	return 0
}

// String returns the registered name, or the code point.
func (s CipherSuite) String() string {
	if p := s.find(); p != nil {
		return p.name
	}
	return fmt.Sprintf("0x%04X", uint16(s))
}

// UsableCipherSuites lists the suites that groups can use unless
// [Config.CipherSuites] says otherwise: those of RFC 9420.
func UsableCipherSuites() []CipherSuite {
	var ids []CipherSuite
	for i := range suites {
		if suites[i].id.Usable() {
			ids = append(ids, suites[i].id)
		}
	}
	return ids
}

// suite returns the parameters of s, or an error unless groups may have it.
func (c *Config) suite(s CipherSuite) (*suite, error) {
	if !slices.Contains(c.CipherSuites, s) {
		if s.find() != nil {
			return nil, fmt.Errorf("%w: %v is not in Config.CipherSuites", ErrCipherSuite, s)
		}
		return nil, fmt.Errorf("%w: %v is not supported", ErrCipherSuite, s)
	}
	return s.params()
}

// nh is the output length of the suite's hash, KDF.Nh.
func (s *suite) nh() int { return s.kdf.hash.Size() }

// sum hashes the concatenation of parts.
func (s *suite) sum(parts ...[]byte) []byte { return s.kdf.sum(parts...) }
