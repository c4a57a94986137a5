package sqlitestore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"
)

// dataKeySize is the size of the random data key in octets.
const dataKeySize = 32

// A sealer turns names into MACs and values into ciphertexts.
type sealer struct {
	aead cipher.AEAD
	// macs are keyed HMAC states; keying one costs as much as using it.
	macs   sync.Pool
	macKey []byte
}

// newSealer derives the keys for values and names from the data key, which
// it wipes.
func newSealer(data []byte) (*sealer, error) {
	defer clear(data)
	valueKey, err := hkdf.Expand(sha256.New, data, "comity sqlitestore value", 32)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: %w", err)
	}
	defer clear(valueKey)
	macKey, err := hkdf.Expand(sha256.New, data, "comity sqlitestore name", 32)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: %w", err)
	}
	aead, err := newGCM(valueKey)
	if err != nil {
		return nil, err
	}
	s := &sealer{aead: aead, macKey: macKey}
	s.macs.New = func() any { return hmac.New(sha256.New, s.macKey) }
	return s, nil
}

// newGCM returns AES-256-GCM with a random nonce in front of the ciphertext.
// A data key may seal 2^32 values (NIST SP 800-38D section 8.3); a device
// that writes ten rows per second reaches that after thirteen years.
func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: %w", err)
	}
	return aead, nil
}

// bucket returns the stored name of a bucket, 16 octets.
func (s *sealer) bucket(bucket string) []byte {
	m := s.macs.Get().(hash.Hash)
	defer s.macs.Put(m)
	m.Reset()
	m.Write([]byte{0})
	m.Write([]byte(bucket))
	return m.Sum(nil)[:16]
}

// key returns the stored name of a row within its bucket, 16 octets.
func (s *sealer) key(bucket, key string) []byte {
	m := s.macs.Get().(hash.Hash)
	defer s.macs.Put(m)
	m.Reset()
	m.Write([]byte{1})
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(bucket)))
	m.Write(n[:])
	m.Write([]byte(bucket))
	m.Write([]byte(key))
	return m.Sum(nil)[:16]
}

// seal returns the stored form of a value. The name is inside, so that all
// rows of a bucket can be listed, and its MACs are authenticated.
func (s *sealer) seal(bucketMAC, keyMAC []byte, key string, value []byte) []byte {
	plain := make([]byte, 0, binary.MaxVarintLen64+len(key)+len(value))
	plain = binary.AppendUvarint(plain, uint64(len(key)))
	plain = append(plain, key...)
	plain = append(plain, value...)
	sealed := s.aead.Seal(nil, nil, plain, rowAAD(bucketMAC, keyMAC))
	clear(plain)
	return sealed
}

func (s *sealer) open(bucketMAC, keyMAC, sealed []byte) (key string, value []byte, err error) {
	plain, err := s.aead.Open(nil, nil, sealed, rowAAD(bucketMAC, keyMAC))
	if err != nil {
		return "", nil, ErrCorrupt
	}
	n, used := binary.Uvarint(plain)
	if used <= 0 || n > uint64(len(plain)-used) {
		return "", nil, ErrCorrupt
	}
	plain = plain[used:]
	return string(plain[:n]), plain[n:len(plain):len(plain)], nil
}

func rowAAD(bucketMAC, keyMAC []byte) []byte {
	aad := make([]byte, 0, 36)
	aad = append(aad, "row\x01"...)
	aad = append(aad, bucketMAC...)
	return append(aad, keyMAC...)
}

func (s *sealer) wipe() { clear(s.macKey) }
