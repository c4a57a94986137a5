package mls

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// A sealer encrypts to many HPKE keys under one info, in the base mode of
// RFC 9180. The standard library hashes info anew for every receiver, and
// that of a Welcome holds the whole tree: adding N members would hash
// O(N²) octets. Everything is opened with the standard library, so that a
// deviation cannot go unnoticed.
//
// It is safe for concurrent use.
type sealer struct {
	suite *suite
	curve ecdh.Curve
	kemID []byte // suite_id of the KEM
	id    []byte // suite_id of HPKE
	ctx   []byte // key_schedule_context
}

// newSealer returns a sealer for info.
func (s *suite) newSealer(info []byte) *sealer {
	x := &sealer{suite: s, curve: s.ecdh}
	x.kemID = binary.BigEndian.AppendUint16([]byte("KEM"), s.kem.ID())
	x.id = binary.BigEndian.AppendUint16([]byte("HPKE"), s.kem.ID())
	x.id = binary.BigEndian.AppendUint16(x.id, s.kdf.ID())
	x.id = binary.BigEndian.AppendUint16(x.id, s.hpkeAEAD.ID())
	// key_schedule_context = mode_base || psk_id_hash || info_hash
	x.ctx = append([]byte{0}, x.labeledExtract(x.id, nil, "psk_id_hash", nil)...)
	x.ctx = append(x.ctx, x.labeledExtract(x.id, nil, "info_hash", info)...)
	return x
}

// labeledExtract is LabeledExtract (RFC 9180 section 4).
func (x *sealer) labeledExtract(id, salt []byte, label string, ikm []byte) []byte {
	return x.suite.mac(salt, []byte("HPKE-v1"), id, []byte(label), ikm)
}

// labeledExpand is LabeledExpand (RFC 9180 section 4).
func (x *sealer) labeledExpand(id, prk []byte, label string, info []byte, n int) ([]byte, error) {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 2+7+len(id)+len(label)+len(info)), uint16(n))
	b = append(b, "HPKE-v1"...)
	b = append(b, id...)
	b = append(b, label...)
	b = append(b, info...)
	return x.suite.expand(prk, b, n)
}

// seal encrypts plaintext to one receiver (RFC 9180 sections 4.1 and 6.1).
func (x *sealer) seal(public, plaintext []byte) (HPKECiphertext, error) {
	to, err := x.curve.NewPublicKey(public)
	if err != nil {
		return HPKECiphertext{}, fmt.Errorf("%w: HPKE public key: %v", ErrKey, err)
	}
	ephemeral, err := x.curve.GenerateKey(rand.Reader)
	if err != nil {
		return HPKECiphertext{}, fmt.Errorf("mls: generate HPKE key: %w", err)
	}
	// ECDH refuses keys that give the all-zero value (RFC 9180 section 7.1.4).
	dh, err := ephemeral.ECDH(to)
	if err != nil {
		return HPKECiphertext{}, fmt.Errorf("%w: HPKE encapsulation: %v", ErrKey, err)
	}
	enc := ephemeral.PublicKey().Bytes()
	prk := x.labeledExtract(x.kemID, nil, "eae_prk", dh)
	kemContext := append(append(make([]byte, 0, len(enc)+len(public)), enc...), public...)
	shared, err := x.labeledExpand(x.kemID, prk, "shared_secret", kemContext, x.suite.nh())
	if err != nil {
		return HPKECiphertext{}, err
	}
	secret := x.labeledExtract(x.id, shared, "secret", nil)
	key, err := x.labeledExpand(x.id, secret, "key", x.ctx, x.suite.keySize)
	if err != nil {
		return HPKECiphertext{}, err
	}
	nonce, err := x.labeledExpand(x.id, secret, "base_nonce", x.ctx, nonceSize)
	if err != nil {
		return HPKECiphertext{}, err
	}
	defer wipe(dh, prk, shared, secret, key, nonce)
	aead, err := x.suite.newAEAD(key)
	if err != nil {
		return HPKECiphertext{}, fmt.Errorf("mls: HPKE key: %w", err)
	}
	return HPKECiphertext{enc, aead.Seal(nil, nonce, plaintext, nil)}, nil
}
