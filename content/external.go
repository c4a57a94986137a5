package content

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
)

// Algorithms for external content: IANA AEAD numbers and named information
// hash algorithms.
const (
	AEADNone      = 0x0000
	AEADAES128GCM = 0x0001 // mandatory (section 4.5)
	AEADAES256GCM = 0x0002
	HashNone      = 0x00
)

const (
	aes128KeySize = 16
	aes256KeySize = 32
	gcmNonceSize  = 12
	gcmTagSize    = 16
)

// Errors of [ExternalPart.Open].
var (
	ErrUnsupportedAlgorithm = errors.New("content: external content uses an unsupported algorithm")
	ErrContentHash          = errors.New("content: external content does not have the announced hash")
	ErrContentSize          = errors.New("content: external content does not have the announced size")
	ErrContentKey           = errors.New("content: external content cannot be decrypted with the announced key")
)

// SealExternal encrypts content with AES-128-GCM and a fresh key and nonce
// from random; nil means crypto/rand. It returns what to upload and a part
// with everything but the URL, names, type and expiry filled in. Size and
// ContentHash are of what is uploaded.
func SealExternal(random io.Reader, plaintext []byte) (stored []byte, p ExternalPart, err error) {
	if random == nil {
		random = rand.Reader
	}
	secret := make([]byte, aes128KeySize+gcmNonceSize)
	if _, err := io.ReadFull(random, secret); err != nil {
		return nil, ExternalPart{}, fmt.Errorf("content: read a random key: %w", err)
	}
	p.EncAlg = AEADAES128GCM
	p.Key, p.Nonce = secret[:aes128KeySize:aes128KeySize], secret[aes128KeySize:]
	aead, err := p.aead()
	if err != nil {
		return nil, ExternalPart{}, err
	}
	stored = aead.Seal(make([]byte, 0, len(plaintext)+gcmTagSize), p.Nonce, plaintext, nil)
	sum := sha256.Sum256(stored)
	p.Size, p.HashAlg, p.ContentHash = uint64(len(stored)), HashSHA256, sum[:]
	return stored, p, nil
}

func (p *ExternalPart) aead() (cipher.AEAD, error) {
	size := aes128KeySize
	switch p.EncAlg {
	case AEADAES128GCM:
	case AEADAES256GCM:
		size = aes256KeySize
	default:
		return nil, wrap(ErrUnsupportedAlgorithm, "AEAD 0x%04X", p.EncAlg)
	}
	if len(p.Key) != size || len(p.Nonce) != gcmNonceSize {
		return nil, wrap(ErrContentKey, "key of %d and nonce of %d octets, want %d and %d", len(p.Key), len(p.Nonce), size, gcmNonceSize)
	}
	block, err := aes.NewCipher(p.Key)
	if err != nil {
		return nil, wrap(ErrContentKey, "%w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, wrap(ErrContentKey, "%w", err)
	}
	return aead, nil
}

// Open checks what was downloaded from p.URL and returns the content. The
// hash is of the stored octets. A sender may give the size of the content or
// of the stored octets; the draft does not say which. Content that is neither
// encrypted nor hashed is returned as it is.
func (p *ExternalPart) Open(stored []byte) ([]byte, error) {
	switch p.HashAlg {
	case HashNone:
	case HashSHA256:
		sum := sha256.Sum256(stored)
		if subtle.ConstantTimeCompare(sum[:], p.ContentHash) != 1 {
			return nil, ErrContentHash
		}
	default:
		return nil, wrap(ErrUnsupportedAlgorithm, "hash 0x%02X", p.HashAlg)
	}
	plaintext := stored
	if p.EncAlg != AEADNone {
		aead, err := p.aead()
		if err != nil {
			return nil, err
		}
		if plaintext, err = aead.Open(nil, p.Nonce, stored, p.AAD); err != nil {
			return nil, ErrContentKey
		}
	}
	if p.Size != 0 && p.Size != uint64(len(stored)) && p.Size != uint64(len(plaintext)) {
		return nil, wrap(ErrContentSize, "%d octets", len(stored))
	}
	return plaintext, nil
}
