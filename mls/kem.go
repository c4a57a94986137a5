package mls

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// A kem is a key encapsulation mechanism of HPKE (RFC 9180 section 4) over
// encoded keys. crypto/hpke has no X448, hashes the info of HPKE anew for
// every receiver, and computes public keys that are known or that a table
// gives faster; so the KEMs are here, and the tests compare them with it.
//
// Errors match ErrKey.
type kem interface {
	// id is the identifier of the KEM (RFC 9180 section 7.1).
	id() uint16
	// deriveKeyPair is DeriveKeyPair: ikm has the entropy of a private key.
	deriveKeyPair(ikm []byte) (private, public []byte, err error)
	// generateKeyPair is GenerateKeyPair.
	generateKeyPair() (private, public []byte, err error)
	// publicKey returns the public key of a private key.
	publicKey(private []byte) ([]byte, error)
	// checkPublic returns an error unless encap can encapsulate to a key.
	checkPublic(public []byte) error
	// checkOutput returns an error if no private key can decapsulate enc.
	checkOutput(enc []byte) error
	// encap makes a shared secret and its encapsulation.
	encap(public []byte) (shared, enc []byte, err error)
	// decap returns the shared secret in enc. public belongs to private; nil
	// means that it is not known.
	decap(private, public, enc []byte) (shared []byte, err error)
}

// errPrivateKey says that it is the own key that cannot be used.
var errPrivateKey = fmt.Errorf("%w: HPKE private key", ErrKey)

// A dhGroup is the Diffie-Hellman group of a dhkem. Errors match ErrKey.
type dhGroup interface {
	// newPrivateKey makes a key pair of octets that were drawn at random or
	// derived, and that it takes over. It fails if they are not a private
	// key of the group.
	newPrivateKey(octets []byte) (private, public []byte, err error)
	// checkPublic returns an error unless public is a key with which exchange
	// succeeds.
	checkPublic(public []byte) error
	// ephemeral makes a key pair for one exchange with the public key to.
	ephemeral(to []byte) (public, dh []byte, err error)
	// exchange returns the Diffie-Hellman value with the key from, and the
	// public key of private, which it computes if it is nil. It refuses a
	// value of zero only (RFC 9180 section 7.1.4).
	exchange(private, public, from []byte) (own, dh []byte, err error)
}

// A dhkem is DHKEM(group, kdf) (RFC 9180 section 4.1).
type dhkem struct {
	kemID   uint16
	suiteID []byte
	group   dhGroup
	kdf     *kdf
	size    int  // octets of a private key, Nsk
	mask    byte // for the first octet of a candidate (section 7.1.3); 0: every octet string is a key
}

func newDHKEM(id uint16, g dhGroup, k *kdf, size int, mask byte) *dhkem {
	return &dhkem{id, binary.BigEndian.AppendUint16([]byte("KEM"), id), g, k, size, mask}
}

// The KEMs with Diffie-Hellman groups (RFC 9180 section 7.1).
var (
	kemP256   = newDHKEM(0x0010, nistP256, hkdfSHA256, 32, 0xff)
	kemP384   = newDHKEM(0x0011, nistP384, hkdfSHA384, 48, 0xff)
	kemP521   = newDHKEM(0x0012, nistP521, hkdfSHA512, 66, 0x01)
	kemX25519 = newDHKEM(0x0020, curve25519{}, hkdfSHA256, 32, 0)
	kemX448   = newDHKEM(0x0021, curve448{}, hkdfSHA512, 56, 0)
)

func (k *dhkem) id() uint16 { return k.kemID }

func (k *dhkem) deriveKeyPair(ikm []byte) (private, public []byte, err error) {
	var buf [maxHashSize]byte
	prk := k.kdf.labeledExtract(buf[:0], k.suiteID, nil, "dkp_prk", ikm)
	defer wipe(prk)
	if k.mask == 0 {
		return k.group.newPrivateKey(k.expand(prk, "sk", nil))
	}
	// A candidate is no key with a probability of at most 2^-32.
	for counter := range 256 {
		candidate := k.expand(prk, "candidate", []byte{byte(counter)})
		candidate[0] &= k.mask
		if private, public, err = k.group.newPrivateKey(candidate); err == nil {
			return private, public, nil
		}
	}
	return nil, nil, fmt.Errorf("derive an HPKE key: %w", err)
}

// expand is LabeledExpand to a private key.
func (k *dhkem) expand(prk []byte, label string, info []byte) []byte {
	out := make([]byte, 0, k.size)
	return k.kdf.labeledExpand(out, k.suiteID, prk, label, info, k.size)
}

func (k *dhkem) generateKeyPair() (private, public []byte, err error) {
	for range 256 {
		octets := make([]byte, k.size)
		rand.Read(octets)
		if k.mask != 0 {
			octets[0] &= k.mask
		}
		if private, public, err = k.group.newPrivateKey(octets); err == nil {
			return private, public, nil
		}
	}
	return nil, nil, err
}

func (k *dhkem) publicKey(private []byte) ([]byte, error) {
	if len(private) != k.size {
		return nil, fmt.Errorf("%w of %d octets; want %d", errPrivateKey, len(private), k.size)
	}
	octets := clone(private)
	_, public, err := k.group.newPrivateKey(octets)
	wipe(octets)
	return public, err
}

func (k *dhkem) checkPublic(public []byte) error { return k.group.checkPublic(public) }

// checkOutput checks an ephemeral public key.
func (k *dhkem) checkOutput(enc []byte) error { return k.group.checkPublic(enc) }

func (k *dhkem) encap(public []byte) (shared, enc []byte, err error) {
	enc, dh, err := k.group.ephemeral(public)
	if err != nil {
		return nil, nil, err
	}
	return k.shared(dh, enc, public), enc, nil
}

func (k *dhkem) decap(private, public, enc []byte) ([]byte, error) {
	if len(private) != k.size {
		return nil, fmt.Errorf("%w of %d octets; want %d", errPrivateKey, len(private), k.size)
	}
	own, dh, err := k.group.exchange(private, public, enc)
	if err != nil {
		return nil, err
	}
	return k.shared(dh, enc, own), nil
}

// shared is ExtractAndExpand of a Diffie-Hellman value, which it wipes.
func (k *dhkem) shared(dh, enc, public []byte) []byte {
	var prkBuf [maxHashSize]byte
	var contextBuf [2 * maxPointSize]byte
	prk := k.kdf.labeledExtract(prkBuf[:0], k.suiteID, nil, "eae_prk", dh)
	context := append(append(contextBuf[:0], enc...), public...)
	n := k.kdf.hash.Size()
	shared := k.kdf.labeledExpand(make([]byte, 0, n), k.suiteID, prk, "shared_secret", context, n)
	wipe(prk, dh)
	return shared
}

// maxPointSize is the length of an uncompressed point of P-521.
const maxPointSize = 133
