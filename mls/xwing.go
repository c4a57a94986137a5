package mls

import (
	"crypto/mlkem"
	"crypto/rand"
	"crypto/sha3"
	"encoding/binary"
	"fmt"
)

// xwing is the hybrid of ML-KEM-768 and X25519 (MLKEM768-X25519 of
// draft-ietf-hpke-pq, known as X-Wing): a shared secret stays secret while
// either of the two holds. A private key is a seed of 32 octets; a public key
// and an encapsulation are those of ML-KEM-768, then those of X25519.
type xwing struct{}

const (
	xwingID        = 0x647a
	xwingSeedSize  = 32
	xwingLabel     = `\./` + `/^\`
	xwingKeySize   = mlkem.EncapsulationKeySize768 + size25519
	xwingEncapSize = mlkem.CiphertextSize768 + size25519
)

func (xwing) id() uint16 { return xwingID }

// deriveKeyPair is the one-stage LabeledDerive of SHAKE256.
func (k xwing) deriveKeyPair(ikm []byte) (private, public []byte, err error) {
	const label = "DeriveKeyPair"
	h := sha3.NewSHAKE256()
	h.Write(ikm)
	b := append([]byte(hpkeVersion+"KEM"), xwingID>>8, xwingID&0xff)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(label))), label...)
	h.Write(binary.BigEndian.AppendUint16(b, xwingSeedSize))
	private = make([]byte, xwingSeedSize)
	h.Read(private)
	public, err = k.publicKey(private)
	return private, public, err
}

func (k xwing) generateKeyPair() (private, public []byte, err error) {
	private = make([]byte, xwingSeedSize)
	rand.Read(private)
	public, err = k.publicKey(private)
	return private, public, err
}

// expand returns the private keys that a seed stands for.
func (xwing) expand(seed []byte) (*mlkem.DecapsulationKey768, []byte, error) {
	if len(seed) != xwingSeedSize {
		return nil, nil, fmt.Errorf("%w of %d octets; want %d", errPrivateKey, len(seed), xwingSeedSize)
	}
	h := sha3.NewSHAKE256()
	h.Write(seed)
	var b [mlkem.SeedSize]byte
	defer wipe(b[:])
	h.Read(b[:])
	pq, err := mlkem.NewDecapsulationKey768(b[:])
	if err != nil {
		return nil, nil, fmt.Errorf("%w: ML-KEM-768 seed: %v", errPrivateKey, err)
	}
	x := make([]byte, size25519)
	h.Read(x)
	return pq, x, nil
}

func (k xwing) publicKey(private []byte) ([]byte, error) {
	pq, x, err := k.expand(private)
	if err != nil {
		return nil, err
	}
	defer wipe(x)
	return append(pq.EncapsulationKey().Bytes(), public25519(x)...), nil
}

func (k xwing) checkPublic(public []byte) error {
	_, err := k.parse(public)
	return err
}

// parse checks both parts of a public key.
func (xwing) parse(public []byte) (*mlkem.EncapsulationKey768, error) {
	if len(public) != xwingKeySize {
		return nil, fmt.Errorf("%w: HPKE public key of %d octets; want %d", ErrKey, len(public), xwingKeySize)
	}
	pq, err := mlkem.NewEncapsulationKey768(public[:mlkem.EncapsulationKeySize768])
	if err != nil {
		return nil, fmt.Errorf("%w: ML-KEM-768 public key: %v", ErrKey, err)
	}
	return pq, curve25519{}.checkPublic(public[mlkem.EncapsulationKeySize768:])
}

// checkOutput checks the length and the ephemeral key; every ciphertext of
// ML-KEM gives some secret.
func (xwing) checkOutput(enc []byte) error {
	if len(enc) != xwingEncapSize {
		return fmt.Errorf("%w: encapsulation of %d octets; want %d", ErrKey, len(enc), xwingEncapSize)
	}
	return curve25519{}.checkPublic(enc[mlkem.CiphertextSize768:])
}

func (k xwing) encap(public []byte) (shared, enc []byte, err error) {
	pq, err := k.parse(public)
	if err != nil {
		return nil, nil, err
	}
	to := public[mlkem.EncapsulationKeySize768:]
	ephemeral, dh, err := curve25519{}.ephemeral(to)
	if err != nil {
		return nil, nil, err
	}
	secret, ciphertext := pq.Encapsulate()
	return k.combine(secret, dh, ephemeral, to), append(ciphertext, ephemeral...), nil
}

func (k xwing) decap(private, public, enc []byte) ([]byte, error) {
	if len(enc) != xwingEncapSize {
		return nil, fmt.Errorf("%w: encapsulation of %d octets; want %d", ErrKey, len(enc), xwingEncapSize)
	}
	pq, x, err := k.expand(private)
	if err != nil {
		return nil, err
	}
	defer wipe(x)
	var own []byte
	if len(public) == xwingKeySize {
		own = public[mlkem.EncapsulationKeySize768:]
	}
	ephemeral := enc[mlkem.CiphertextSize768:]
	own, dh, err := curve25519{}.exchange(x, own, ephemeral)
	if err != nil {
		return nil, err
	}
	secret, err := pq.Decapsulate(enc[:mlkem.CiphertextSize768])
	if err != nil {
		return nil, fmt.Errorf("%w: ML-KEM-768 ciphertext: %v", ErrKey, err)
	}
	return k.combine(secret, dh, ephemeral, own), nil
}

// combine makes the shared secret of the two, which it wipes.
func (xwing) combine(secret, dh, ephemeral, to []byte) []byte {
	defer wipe(secret, dh)
	h := sha3.New256()
	h.Write(secret)
	h.Write(dh)
	h.Write(ephemeral)
	h.Write(to)
	h.Write([]byte(xwingLabel))
	return h.Sum(nil)
}
