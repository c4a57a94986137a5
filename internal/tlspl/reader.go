package tlspl

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// A Reader consumes encoded values from a byte slice. After its first error
// it yields zero values.
type Reader struct {
	b   []byte
	off int
	err error
}

// NewReader returns a Reader over b.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Err returns the first error.
func (r *Reader) Err() error { return r.err }

// Finish returns the first error, or one if input is left over.
func (r *Reader) Finish() error {
	if r.err == nil && r.off != len(r.b) {
		r.Fail(syntax("%d octets follow the value", len(r.b)-r.off))
	}
	return r.err
}

// Fail records err unless an earlier one is recorded. Errors that do not
// match ErrSyntax are kept as they are.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Failf records a syntax error unless an earlier error is recorded.
func (r *Reader) Failf(format string, args ...any) {
	if r.err == nil {
		r.err = syntax(format, args...)
	}
}

// Empty reports whether nothing is left, or an error stopped the Reader; a
// loop over the items of a vector ends on it.
func (r *Reader) Empty() bool { return r.err != nil || r.off == len(r.b) }

// Len returns how many octets are left.
func (r *Reader) Len() int { return len(r.b) - r.off }

// Offset returns how many octets were consumed; with Since it gives the
// received bytes of a value.
func (r *Reader) Offset() int { return r.off }

// Since returns the octets consumed since Offset returned off. They alias
// the input.
func (r *Reader) Since(off int) []byte {
	if r.err != nil || off < 0 || off > r.off {
		return nil
	}
	return r.b[off:r.off:r.off]
}

// Raw consumes n octets, which alias the input.
func (r *Reader) Raw(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.b)-r.off {
		r.Failf("%d octets wanted, %d left", n, len(r.b)-r.off)
		return nil
	}
	v := r.b[r.off : r.off+n : r.off+n]
	r.off += n
	return v
}

// Uint8 consumes one octet.
func (r *Reader) Uint8() uint8 {
	if b := r.Raw(1); b != nil {
		return b[0]
	}
	return 0
}

// Uint16 consumes two octets.
func (r *Reader) Uint16() uint16 {
	if b := r.Raw(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// Uint32 consumes four octets.
func (r *Reader) Uint32() uint32 {
	if b := r.Raw(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// Uint64 consumes eight octets.
func (r *Reader) Uint64() uint64 {
	if b := r.Raw(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Bool consumes one octet, which must be 0 or 1.
func (r *Reader) Bool() bool {
	v := r.Uint8()
	if v > 1 {
		r.Failf("octet 0x%02x where 0 or 1 is expected", v)
		return false
	}
	return v == 1
}

// Varint consumes a variable-size integer, which must be in its shortest
// form (RFC 9420 section 2.1.2).
func (r *Reader) Varint() int {
	first := r.Uint8()
	if r.err != nil {
		return 0
	}
	n := int(first & 0x3f)
	var size int
	switch first >> 6 {
	case 0:
		return n
	case 1:
		size = 2
	case 2:
		size = 4
	default:
		r.Failf("variable-size integer with prefix 0b11")
		return 0
	}
	for _, b := range r.Raw(size - 1) {
		n = n<<8 | int(b)
	}
	if r.err == nil && varintLen(n) != size {
		r.Failf("variable-size integer %d is not in its shortest form", n)
	}
	if r.err != nil {
		return 0
	}
	return n
}

// Opaque consumes opaque<V> of at most max octets (0: no limit but the
// input's). The result aliases the input.
func (r *Reader) Opaque(max int) []byte {
	n := r.Varint()
	if r.err == nil && max > 0 && n > max {
		r.Failf("field of %d octets; the limit is %d", n, max)
	}
	return r.Raw(n)
}

// OpaqueCopy is Opaque with a result that does not alias the input.
func (r *Reader) OpaqueCopy(max int) []byte { return bytes.Clone(r.Opaque(max)) }

// Vector consumes a vector <V>, hands f a Reader over its content, and fails
// unless f consumes all of it.
func (r *Reader) Vector(f func(r *Reader)) {
	body := r.Opaque(0)
	if r.err != nil {
		return
	}
	sub := Reader{b: body}
	f(&sub)
	if err := sub.Finish(); err != nil {
		r.Fail(err)
	}
}

// Value consumes v.
func (r *Reader) Value(v Unmarshaler) {
	if r.err == nil {
		v.UnmarshalTLS(r)
	}
}

// Optional consumes the presence octet and reports it (RFC 9420
// section 2.1.1).
func (r *Reader) Optional() bool { return r.Bool() }

// maxGuess bounds for how many items ReadVector makes room before it has seen
// them.
const maxGuess = 1 << 14

// ReadVector consumes a vector <V> of items, of which there may be at most
// max (0: as many as the input holds; each item must consume at least one
// octet).
func ReadVector[T any](r *Reader, max int, f func(r *Reader, item *T)) []T {
	var items []T
	r.Vector(func(r *Reader) {
		for !r.Empty() {
			if max > 0 && len(items) == max {
				r.Failf("more than %d items in a vector", max)
				return
			}
			before := r.off
			items = append(items, *new(T))
			f(r, &items[len(items)-1])
			if r.err == nil && r.off == before {
				r.Failf("empty item in a vector")
			}
			if r.err != nil {
				return
			}
			if len(items) == 1 {
				// Most items are as long as the first.
				items = slices.Grow(items, min(r.Len()/(r.off-before), maxGuess))
			}
		}
	})
	if r.err != nil {
		return nil
	}
	return items
}
