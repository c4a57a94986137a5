package mls

import (
	"crypto/hkdf"
	"crypto/hmac"
	"fmt"
	"runtime"

	"github.com/comity-im/comity/internal/tlspl"
)

// expandWithLabel derives n octets (RFC 9420 section 8):
//
//	struct {
//	    uint16 length;
//	    opaque label<V> = "MLS 1.0 " + Label;
//	    opaque context<V>;
//	} KDFLabel;
func (s *suite) expandWithLabel(secret []byte, label string, context []byte, n int) ([]byte, error) {
	if n < 0 || n > 255*s.nh() || n > 0xffff {
		return nil, fmt.Errorf("%w: %d octets of key material wanted", ErrLimit, n)
	}
	if n > s.nh() {
		info, err := appendKDFLabel(nil, label, context, n)
		if err != nil {
			return nil, err
		}
		return hkdf.Expand(s.kdf.hash.New, secret, string(info), n)
	}
	m := s.kdf.get()
	defer s.kdf.put(m)
	m.begin(secret)
	info, err := appendKDFLabel(m.message(), label, context, n)
	if err != nil {
		return nil, err
	}
	m.write(append(info, firstBlock...))
	return clone(m.finish()[:n]), nil
}

func appendKDFLabel(b []byte, label string, context []byte, n int) ([]byte, error) {
	w := tlspl.NewWriter(b)
	w.Uint16(uint16(n))
	w.Varint(len(labelPrefix) + len(label))
	w.Raw([]byte(labelPrefix))
	w.Raw([]byte(label))
	w.Opaque(context)
	return w.Bytes()
}

// extract is KDF.Extract.
func (s *suite) extract(salt, ikm []byte) []byte { return s.kdf.mac(salt, ikm) }

// deriveSecret is DeriveSecret (RFC 9420 section 8).
func (s *suite) deriveSecret(secret []byte, label string) ([]byte, error) {
	return s.expandWithLabel(secret, label, nil, s.nh())
}

// deriveTreeSecret is DeriveTreeSecret (RFC 9420 section 9).
func (s *suite) deriveTreeSecret(secret []byte, label string, generation uint32, n int) ([]byte, error) {
	g := [4]byte{byte(generation >> 24), byte(generation >> 16), byte(generation >> 8), byte(generation)}
	return s.expandWithLabel(secret, label, g[:], n)
}

// refHash is RefHash (RFC 9420 section 5.2):
//
//	struct {
//	    opaque label<V>;
//	    opaque value<V>;
//	} RefHashInput;
func (s *suite) refHash(label string, value []byte) ([]byte, error) {
	w := tlspl.NewWriter(make([]byte, 0, len(label)+len(value)+8))
	w.Opaque([]byte(label))
	w.Opaque(value)
	input, err := w.Bytes()
	if err != nil {
		return nil, err
	}
	return s.sum(input), nil
}

// The labels of references (RFC 9420 section 5.2).
const (
	keyPackageRefLabel = "MLS 1.0 KeyPackage Reference"
	proposalRefLabel   = "MLS 1.0 Proposal Reference"
)

// mac is the MAC of the suite, HMAC with its hash (RFC 9420 section 5.1).
func (s *suite) mac(key []byte, parts ...[]byte) []byte {
	return s.kdf.mac(key, parts...)
}

// macEqual compares MACs in constant time. Values of different length are
// different.
func macEqual(a, b []byte) bool { return len(a) > 0 && hmac.Equal(a, b) }

// wipe overwrites a secret that is no longer needed. Copies that the runtime
// or a library made are out of its reach.
func wipe(secrets ...[]byte) {
	for _, b := range secrets {
		clear(b)
		runtime.KeepAlive(b)
	}
}
