package mls

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A sealer encrypts to HPKE keys and decrypts under one info, in the base
// mode of RFC 9180, one message to an encapsulation. It hashes info once for
// all receivers: that of a Welcome holds the whole tree, and adding N members
// would hash O(N²) octets otherwise.
//
// It is safe for concurrent use.
type sealer struct {
	suite *suite
	id    []byte // suite_id of HPKE
	ctx   []byte // key_schedule_context
}

// newSealer returns a sealer for info.
func (s *suite) newSealer(info []byte) *sealer {
	id := binary.BigEndian.AppendUint16([]byte("HPKE"), s.kem.id())
	id = binary.BigEndian.AppendUint16(id, s.kdf.id())
	id = binary.BigEndian.AppendUint16(id, s.aead)
	// key_schedule_context = mode_base || psk_id_hash || info_hash
	ctx := make([]byte, 1, 1+2*maxHashSize)
	ctx = s.kdf.labeledExtract(ctx, id, nil, "psk_id_hash", nil)
	ctx = s.kdf.labeledExtract(ctx, id, nil, "info_hash", info)
	return &sealer{suite: s, id: id, ctx: ctx}
}

// hpkeKeys are the secrets of one context (RFC 9180 section 5.1).
type hpkeKeys struct {
	key, nonce []byte
	secret     []byte // for the exporter secret
}

func (k *hpkeKeys) wipe() { wipe(k.key, k.nonce, k.secret) }

// schedule is KeySchedule for a shared secret, which it wipes.
func (x *sealer) schedule(shared []byte) *hpkeKeys {
	k := x.suite.kdf
	defer wipe(shared)
	secret := k.labeledExtract(make([]byte, 0, maxHashSize), x.id, shared, "secret", nil)
	return &hpkeKeys{
		key:    k.labeledExpand(make([]byte, 0, maxHashSize), x.id, secret, "key", x.ctx, x.suite.keySize),
		nonce:  k.labeledExpand(make([]byte, 0, maxHashSize), x.id, secret, "base_nonce", x.ctx, nonceSize),
		secret: secret,
	}
}

// export is Context.Export for n octets.
func (x *sealer) export(keys *hpkeKeys, context []byte, n int) []byte {
	k := x.suite.kdf
	exporter := k.labeledExpand(nil, x.id, keys.secret, "exp", x.ctx, k.hash.Size())
	defer wipe(exporter)
	return k.labeledExpand(nil, x.id, exporter, "sec", context, n)
}

// seal encrypts plaintext to one receiver (RFC 9180 section 6.1). Its error
// matches ErrKey.
func (x *sealer) seal(public, plaintext []byte) (HPKECiphertext, error) {
	shared, enc, err := x.suite.kem.encap(public)
	if err != nil {
		return HPKECiphertext{}, fmt.Errorf("HPKE encapsulation: %w", err)
	}
	keys := x.schedule(shared)
	defer keys.wipe()
	aead, err := x.suite.newAEAD(keys.key)
	if err != nil {
		return HPKECiphertext{}, fmt.Errorf("mls: HPKE key: %w", err)
	}
	return HPKECiphertext{enc, aead.Seal(nil, keys.nonce, plaintext, nil)}, nil
}

// open decrypts what seal made for a private key. public belongs to it; nil
// means that it has to be computed. The error matches ErrDecrypt, or ErrKey if
// it is the private key that is malformed.
func (x *sealer) open(private, public []byte, ct HPKECiphertext) ([]byte, error) {
	keys, err := x.receive(private, public, ct.KEMOutput)
	if err != nil {
		return nil, err
	}
	defer keys.wipe()
	aead, err := x.suite.newAEAD(keys.key)
	if err != nil {
		return nil, fmt.Errorf("mls: HPKE key: %w", err)
	}
	pt, err := aead.Open(nil, keys.nonce, ct.Ciphertext, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: HPKE ciphertext does not fit key and context", ErrDecrypt)
	}
	return pt, nil
}

// receive decapsulates.
func (x *sealer) receive(private, public, enc []byte) (*hpkeKeys, error) {
	shared, err := x.suite.kem.decap(private, public, enc)
	switch {
	case errors.Is(err, errPrivateKey):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: HPKE decapsulation: %v", ErrDecrypt, err)
	}
	return x.schedule(shared), nil
}
