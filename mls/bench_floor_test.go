package mls

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"testing"
)

// A floor does what cannot be avoided, for suite 0x0001 and on octets of no
// meaning, with the standard library alone.
type floor struct {
	b       *testing.B
	private ed25519.PrivateKey
	public  ed25519.PublicKey
	text    []byte
	sigs    map[int][]byte
	hpke    hpke.PrivateKey
	sealed  []byte
	secret  []byte
	info    []byte
	sums    [32]byte
}

func newFloor(b *testing.B) *floor {
	f := &floor{
		b: b, text: make([]byte, 8<<20), secret: make([]byte, 32), info: make([]byte, 150),
		sigs: make(map[int][]byte),
	}
	var err error
	f.public, f.private, err = ed25519.GenerateKey(rand.Reader)
	noError(b, err)
	for _, n := range []int{300, 400, 1100} { // before they are used by many at once
		f.sigs[n] = ed25519.Sign(f.private, f.text[:n])
	}
	f.hpke, err = hpke.DHKEM(ecdh.X25519()).GenerateKey()
	noError(b, err)
	f.sealed, err = hpke.Seal(f.hpke.PublicKey(), hpke.HKDFSHA256(), hpke.AES128GCM(), f.info, f.secret)
	noError(b, err)
	return f
}

func (f *floor) sign(n int) { ed25519.Sign(f.private, f.text[:n]) }

func (f *floor) verify(n int) {
	sig, ok := f.sigs[n]
	if !ok {
		sig = ed25519.Sign(f.private, f.text[:n])
		f.sigs[n] = sig
	}
	if !ed25519.Verify(f.public, f.text[:n], sig) {
		f.b.Error("signature")
	}
}

func (f *floor) aead(n int) {
	block, err := aes.NewCipher(f.secret[:16])
	noError(f.b, err)
	aead, err := cipher.NewGCM(block)
	noError(f.b, err)
	aead.Seal(nil, f.secret[:12], f.text[:n], nil)
}

func (f *floor) seal(n int) {
	_, err := hpke.Seal(f.hpke.PublicKey(), hpke.HKDFSHA256(), hpke.AES128GCM(), f.info, f.text[:n])
	noError(f.b, err)
}

func (f *floor) open() {
	_, err := hpke.Open(f.hpke, hpke.HKDFSHA256(), hpke.AES128GCM(), f.info, f.sealed)
	noError(f.b, err)
}

func (f *floor) keyPair() {
	_, err := hpke.DHKEM(ecdh.X25519()).DeriveKeyPair(f.secret)
	noError(f.b, err)
}

func (f *floor) derive(n int) {
	for range n {
		_, err := hkdf.Expand(sha256.New, f.secret, "MLS 1.0 label and context", 32)
		noError(f.b, err)
	}
}

func (f *floor) hash(n int) { f.sums = sha256.Sum256(f.text[:n]) }

func (f *floor) hashes(count, n int) {
	for range count {
		f.hash(n)
	}
}

func (f *floor) mac(n int) {
	m := hmac.New(sha256.New, f.secret)
	m.Write(f.text[:n])
	m.Sum(nil)
}
