package mls

import (
	"crypto"
	"encoding/binary"
	"hash"
	"sync"
)

// A kdf is HKDF, and the HMAC below it, with one hash (RFC 2104, RFC 5869).
// An MLS message takes a dozen short HMACs, and crypto/hmac makes two hashes
// and two pads for each: here one hash and its buffers serve all of them, so
// that nothing is allocated but the result. It is safe for concurrent use.
type kdf struct {
	hash crypto.Hash
	pool sync.Pool // of *macState
}

// The KDFs of the suites, by their identifiers in HPKE (RFC 9180 section 7.2).
var (
	hkdfSHA256 = newKDF(crypto.SHA256)
	hkdfSHA384 = newKDF(crypto.SHA384)
	hkdfSHA512 = newKDF(crypto.SHA512)
)

// id is the identifier of the KDF in HPKE.
func (k *kdf) id() uint16 {
	switch k.hash {
	case crypto.SHA256:
		return 0x0001
	case crypto.SHA384:
		return 0x0002
	default: // SHA512; see newKDF
		return 0x0003
	}
}

func newKDF(h crypto.Hash) *kdf {
	k := &kdf{hash: h}
	k.pool.New = func() any { return &macState{h: h.New()} }
	return k
}

// maxBlockSize is the block size of SHA-384 and SHA-512, and maxScratch the
// largest buffer that is kept.
const (
	maxBlockSize = 128
	maxScratch   = 4096
)

// A macState computes one HMAC or hash after the other.
type macState struct {
	h       hash.Hash
	pad     [maxBlockSize]byte // the key, combined with ipad or opad
	digest  [maxHashSize]byte
	scratch []byte // for a message to put together
	used    int    // octets of scratch that may hold a secret
}

func (k *kdf) get() *macState { return k.pool.Get().(*macState) }

// put returns m to the pool without the secrets that it has seen.
func (k *kdf) put(m *macState) {
	wipe(m.pad[:], m.digest[:], m.scratch[:m.used])
	m.used = 0
	if cap(m.scratch) > maxScratch {
		m.scratch = nil
	}
	// A hash keeps the start of its last block, which these zeros overwrite.
	m.h.Reset()
	m.h.Write(m.pad[:m.h.BlockSize()-1])
	m.h.Reset()
	k.pool.Put(m)
}

// message hands out the scratch buffer; write passes it on when it is filled.
func (m *macState) message() []byte { return m.scratch[:0] }

// write hashes a message that was built in the scratch buffer.
func (m *macState) write(message []byte) {
	m.h.Write(message)
	m.scratch, m.used = message, max(m.used, len(message))
}

// begin starts an HMAC under key.
func (m *macState) begin(key []byte) {
	m.h.Reset()
	if len(key) > m.h.BlockSize() {
		m.h.Write(key)
		key = m.h.Sum(m.digest[:0])
		m.h.Reset()
	}
	clear(m.pad[copy(m.pad[:], key):])
	for i := range m.pad {
		m.pad[i] ^= 0x36
	}
	m.h.Write(m.pad[:m.h.BlockSize()])
}

// finish ends an HMAC. Its result is valid until m is used again.
func (m *macState) finish() []byte {
	inner := m.h.Sum(m.digest[:0])
	for i := range m.pad {
		m.pad[i] ^= 0x36 ^ 0x5c
	}
	m.h.Reset()
	m.h.Write(m.pad[:m.h.BlockSize()])
	m.h.Write(inner)
	return m.h.Sum(m.digest[:0])
}

// mac is HMAC of the concatenation of parts.
func (k *kdf) mac(key []byte, parts ...[]byte) []byte {
	m := k.get()
	defer k.put(m)
	m.begin(key)
	for _, p := range parts {
		m.h.Write(p)
	}
	return clone(m.finish())
}

// sum hashes the concatenation of parts.
func (k *kdf) sum(parts ...[]byte) []byte {
	m := k.get()
	defer k.put(m)
	for _, p := range parts {
		m.h.Write(p)
	}
	return clone(m.h.Sum(m.digest[:0]))
}

// firstBlock is the number of the first block of HKDF-Expand, most often the
// only one.
var firstBlock = []byte{1}

// labeledExtract is LabeledExtract (RFC 9180 section 4). It appends to out.
func (k *kdf) labeledExtract(out, suiteID, salt []byte, label string, ikm []byte) []byte {
	m := k.get()
	defer k.put(m)
	m.begin(salt)
	b := append(m.message(), hpkeVersion...)
	b = append(b, suiteID...)
	m.write(append(b, label...))
	m.h.Write(ikm)
	return append(out, m.finish()...)
}

// labeledExpand is LabeledExpand (RFC 9180 section 4). It appends n octets to
// out.
func (k *kdf) labeledExpand(out, suiteID, prk []byte, label string, info []byte, n int) []byte {
	m := k.get()
	defer k.put(m)
	b := binary.BigEndian.AppendUint16(m.message(), uint16(n))
	b = append(b, hpkeVersion...)
	b = append(b, suiteID...)
	b = append(b, label...)
	b = append(b, info...)
	b = append(b, firstBlock...)
	var block []byte
	for n > 0 {
		m.begin(prk)
		m.h.Write(block)
		m.write(b)
		block = m.finish()
		out = append(out, block[:min(n, len(block))]...)
		n -= len(block)
		b[len(b)-1]++
	}
	return out
}

// hpkeVersion starts every labelled input of HPKE.
const hpkeVersion = "HPKE-v1"

// clone copies b into memory of exactly its size.
func clone(b []byte) []byte {
	c := make([]byte, len(b))
	copy(c, b)
	return c
}
