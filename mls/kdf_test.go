package mls

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"fmt"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
)

// HMAC, hash and HKDF are those of the standard library, for keys and
// messages of all lengths about the block size.
func TestKDFAgreesWithStandard(t *testing.T) {
	for _, k := range []*kdf{hkdfSHA256, hkdfSHA384, hkdfSHA512} {
		t.Run(k.hash.String(), func(t *testing.T) {
			r := seeded(uint64(k.hash))
			for n := range 300 {
				key, a, b := octets(r, n), octets(r, 299-n), octets(r, n/3)
				want := hmac.New(k.hash.New, key)
				want.Write(a)
				want.Write(b)
				equal(t, "HMAC", k.mac(key, a, b), want.Sum(nil))

				h := k.hash.New()
				h.Write(a)
				h.Write(b)
				equal(t, "hash", k.sum(a, b), h.Sum(nil))
			}
		})
	}
}

// expandWithLabel is HKDF-Expand of the KDFLabel, for all lengths.
func TestExpandWithLabelAgreesWithStandard(t *testing.T) {
	for _, id := range []CipherSuite{1, 5, 7} {
		s := mustSuite(t, id)
		r := seeded(uint64(id))
		for n := range 3 * s.nh() {
			secret, label, context := octets(r, s.nh()), fmt.Sprint("label ", n), octets(r, 40*n)
			var w tlspl.Writer
			w.Uint16(uint16(n))
			w.Opaque([]byte("MLS 1.0 " + label))
			w.Opaque(context)
			info, err := w.Bytes()
			noError(t, err)
			want, err := hkdf.Expand(s.kdf.hash.New, secret, string(info), n)
			noError(t, err)
			got, err := s.expandWithLabel(secret, label, context, n)
			noError(t, err)
			equal(t, fmt.Sprintf("%d octets", n), got, want)
			if cap(got) != n && n <= s.nh() {
				t.Errorf("%d octets in memory for %d", n, cap(got))
			}
		}
	}
}

// A state that returns to the pool keeps nothing of its last use.
func TestPooledStateIsWiped(t *testing.T) {
	key, text := bytes.Repeat([]byte{0xa7}, 32), bytes.Repeat([]byte{0xb3}, 50)
	m := hkdfSHA256.get()
	m.begin(key)
	m.write(append(m.message(), text...))
	m.finish()
	hkdfSHA256.put(m)
	// The race detector makes pools forget: look at the state itself.
	for name, b := range map[string][]byte{"pad": m.pad[:], "digest": m.digest[:], "scratch": m.scratch[:cap(m.scratch)]} {
		if len(bytes.Trim(b, "\x00")) != 0 {
			t.Errorf("%s holds %x", name, b)
		}
	}
	if m.used != 0 {
		t.Errorf("%d octets are in use", m.used)
	}
}

// Many goroutines derive at once: no state serves two of them.
func TestKDFIsConcurrent(t *testing.T) {
	s := mustSuite(t, suite1)
	secret := bytes.Repeat([]byte{7}, 32)
	want := make([][]byte, 64)
	for i := range want {
		var err error
		want[i], err = s.deriveTreeSecret(secret, "secret", uint32(i), 32)
		noError(t, err)
	}
	noError(t, parallel(64*64, func(i int) error {
		got, err := s.deriveTreeSecret(secret, "secret", uint32(i%64), 32)
		if err == nil && !bytes.Equal(got, want[i%64]) {
			err = fmt.Errorf("generation %d gives %x; want %x", i%64, got, want[i%64])
		}
		return err
	}))
}
