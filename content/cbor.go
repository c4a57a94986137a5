package content

import (
	"bytes"
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// CBOR major types (RFC 8949 section 3.1).
const (
	majorUint   = 0
	majorNegint = 1
	majorBytes  = 2
	majorText   = 3
	majorArray  = 4
	majorMap    = 5
	majorTag    = 6
	majorSimple = 7
)

const (
	cborFalse   = 0xf4
	cborTrue    = 0xf5
	cborNull    = 0xf6
	maxKeyInt   = 1<<53 - 1 // section 6.2: integer keys fit a double
	halfNaN     = 0x7e00    // section 6.2: the only NaN
	tagBignum   = 2
	tagNegBig   = 3
	maxItemBits = 64
)

// A reader reads deterministic CBOR (RFC 8949 section 4.2.1) and nothing
// else. It keeps its first error; after an error every method returns zero
// values. Byte strings alias the input.
//
// It is written by hand because the general decoder accepts longer forms
// of lengths and unsorted maps, skips tags and converts between types.
type reader struct {
	b   []byte
	off int
	err error
}

func (r *reader) fail(sentinel error, format string, args ...any) {
	if r.err == nil {
		r.err = wrap(sentinel, "octet %d: "+format, append([]any{r.off}, args...)...)
	}
}

func (r *reader) left() int { return len(r.b) - r.off }

// head reads an item's initial octet and argument, which is in its shortest
// form and definite. For major type 7 the argument of a float is its bits
// and info tells the width.
func (r *reader) head() (major, info byte, arg uint64) {
	if r.err != nil {
		return 0, 0, 0
	}
	if r.left() < 1 {
		r.fail(ErrSyntax, "message ends early")
		return 0, 0, 0
	}
	ib := r.b[r.off]
	major, info = ib>>5, ib&0x1f
	if info < 24 {
		r.off++
		return major, info, uint64(info)
	}
	if info == 31 {
		if major >= majorBytes && major <= majorMap {
			r.fail(ErrNotDeterministic, "indefinite length")
		} else {
			r.fail(ErrSyntax, "initial octet 0x%02X", ib)
		}
		return 0, 0, 0
	}
	if info > 27 {
		r.fail(ErrSyntax, "initial octet 0x%02X", ib)
		return 0, 0, 0
	}
	n := 1 << (info - 24)
	if r.left() < 1+n {
		r.fail(ErrSyntax, "message ends early")
		return 0, 0, 0
	}
	p := r.b[r.off+1:]
	var least uint64
	switch n {
	case 1:
		arg, least = uint64(p[0]), 24
	case 2:
		arg, least = uint64(binary.BigEndian.Uint16(p)), 1<<8
	case 4:
		arg, least = uint64(binary.BigEndian.Uint32(p)), 1<<16
	case 8:
		arg, least = binary.BigEndian.Uint64(p), 1<<32
	}
	if major != majorSimple && arg < least {
		r.fail(ErrNotDeterministic, "length or integer %d is not in its shortest form", arg)
		return 0, 0, 0
	}
	r.off += 1 + n
	return major, info, arg
}

// take returns the next n octets.
func (r *reader) take(n uint64) []byte {
	if r.err != nil {
		return nil
	}
	if n > uint64(r.left()) {
		r.fail(ErrSyntax, "string of %d octets in the last %d", n, r.left())
		return nil
	}
	b := r.b[r.off : r.off+int(n) : r.off+int(n)]
	r.off += int(n)
	return b
}

// want reads a head of the given major type and returns its argument.
func (r *reader) want(major byte, what string) uint64 {
	start := r.off
	m, _, arg := r.head()
	if r.err == nil && m != major {
		r.off = start
		r.fail(ErrSyntax, "%s has major type %d, want %d", what, m, major)
		return 0
	}
	return arg
}

func (r *reader) uint(max uint64, what string) uint64 {
	start := r.off
	v := r.want(majorUint, what)
	if r.err == nil && v > max {
		r.off = start
		r.fail(ErrSyntax, "%s is %d, more than %d", what, v, max)
		return 0
	}
	return v
}

func (r *reader) bytes(what string) []byte { return r.take(r.want(majorBytes, what)) }

func (r *reader) text(what string) string { return string(r.utf8(r.want(majorText, what), what)) }

func (r *reader) utf8(n uint64, what string) []byte {
	b := r.take(n)
	if r.err == nil && !utf8.Valid(b) {
		r.fail(ErrDataModel, "%s is not valid UTF-8", what)
		return nil
	}
	return b
}

func (r *reader) array(what string) uint64 {
	start := r.off
	n := r.want(majorArray, what)
	if r.err == nil && n > uint64(r.left()) { // an item takes at least one octet
		r.off = start
		r.fail(ErrSyntax, "%s has %d items in the last %d octets", what, n, r.left())
		return 0
	}
	return n
}

func (r *reader) arrayOf(n uint64, what string) {
	start := r.off
	if got := r.array(what); r.err == nil && got != n {
		r.off = start
		r.fail(ErrSyntax, "%s has %d items, want %d", what, got, n)
	}
}

// null reports whether the next item is null, and consumes it if so.
func (r *reader) null() bool {
	if r.err == nil && r.left() > 0 && r.b[r.off] == cborNull {
		r.off++
		return true
	}
	return false
}

func (r *reader) bool(what string) bool {
	if r.err != nil {
		return false
	}
	if r.left() > 0 {
		switch r.b[r.off] {
		case cborFalse, cborTrue:
			r.off++
			return r.b[r.off-1] == cborTrue
		}
	}
	r.fail(ErrSyntax, "%s is not a boolean", what)
	return false
}

// finish reports the first error, or trailing octets.
func (r *reader) finish() error {
	if r.err == nil && r.left() > 0 {
		r.fail(ErrSyntax, "%d octets after the message", r.left())
	}
	return r.err
}

// key reads the key of a map at any level: an integer within ±(2^53-1), a
// text string or a byte string (section 6.2).
func (r *reader) key() {
	major, _, arg := r.head()
	switch {
	case r.err != nil:
	case major == majorUint && arg <= maxKeyInt, major == majorNegint && arg < maxKeyInt:
	case major == majorUint || major == majorNegint:
		r.fail(ErrDataModel, "integer map key is beyond 2^53-1")
	case major == majorBytes:
		r.take(arg)
	case major == majorText:
		r.utf8(arg, "map key")
	default:
		r.fail(ErrDataModel, "map key of major type %d", major)
	}
}

// entries reads the n entries of a map in which every key must be bytewise
// greater than the one before (RFC 8949 section 4.2.1), so none is twice.
func (r *reader) entries(n uint64, key, value func()) {
	if r.err == nil && n > uint64(r.left())/2 {
		r.fail(ErrSyntax, "map of %d entries in the last %d octets", n, r.left())
	}
	var prev []byte
	for i := uint64(0); i < n && r.err == nil; i++ {
		start := r.off
		key()
		if r.err != nil {
			return
		}
		k := r.b[start:r.off]
		if c := bytes.Compare(prev, k); i > 0 && c >= 0 {
			r.off = start
			if c == 0 {
				r.fail(ErrSyntax, "map has the same key twice")
			} else {
				r.fail(ErrNotDeterministic, "map keys are not sorted")
			}
			return
		}
		prev = k
		value()
	}
}

// any reads one item of any type. levels is how many further levels of
// tags, maps and arrays it may use.
func (r *reader) any(levels int) {
	start := r.off
	major, info, arg := r.head()
	if r.err != nil {
		return
	}
	if levels < 1 && major >= majorArray && major <= majorTag {
		r.off = start
		r.fail(ErrTooDeep, "more than %d levels of tags, maps and arrays", MaxExtensionDepth)
		return
	}
	switch major {
	case majorBytes:
		r.take(arg)
	case majorText:
		r.utf8(arg, "text string")
	case majorArray:
		if arg > uint64(r.left()) {
			r.fail(ErrSyntax, "array of %d items in the last %d octets", arg, r.left())
		}
		for i := uint64(0); i < arg && r.err == nil; i++ {
			r.any(levels - 1)
		}
	case majorMap:
		r.entries(arg, r.key, func() { r.any(levels - 1) })
	case majorTag:
		if arg == tagBignum || arg == tagNegBig {
			r.bignum()
			return
		}
		r.any(levels - 1)
	case majorSimple:
		r.simple(info, arg)
	}
}

// bignum reads the content of a bignum tag, which must not have leading
// zeros nor fit a regular integer (RFC 8949 section 3.4.3).
func (r *reader) bignum() {
	b := r.bytes("bignum")
	if r.err == nil && (len(b) <= maxItemBits/8 || b[0] == 0) {
		r.fail(ErrNotDeterministic, "bignum is not in its shortest form")
	}
}

func (r *reader) simple(info byte, arg uint64) {
	switch info {
	case 24:
		if arg < 32 {
			r.fail(ErrSyntax, "simple value %d in two octets", arg)
		}
	case 25:
		if arg&0x7c00 == 0x7c00 && arg&0x3ff != 0 && arg != halfNaN {
			r.fail(ErrDataModel, "NaN other than 0xF97E00")
		}
	case 26:
		f := math.Float32frombits(uint32(arg))
		switch {
		case f != f:
			r.fail(ErrDataModel, "NaN other than 0xF97E00")
		case fitsHalf(uint32(arg)):
			r.fail(ErrNotDeterministic, "floating point value is not in its shortest form")
		}
	case 27:
		f := math.Float64frombits(arg)
		switch {
		case f != f:
			r.fail(ErrDataModel, "NaN other than 0xF97E00")
		case float64(float32(f)) == f:
			r.fail(ErrNotDeterministic, "floating point value is not in its shortest form")
		}
	}
}

// fitsHalf reports whether the single-precision number with these bits,
// which is not a NaN, is a half-precision number too.
func fitsHalf(bits uint32) bool {
	exp := int(bits>>23&0xff) - 127
	frac := bits & (1<<23 - 1)
	switch {
	case exp == 128: // infinity
		return true
	case exp == -127: // zero; a subnormal is far below half precision
		return frac == 0
	case exp > 15:
		return false
	case exp >= -14: // normal half: 10 bits of fraction
		return frac&(1<<13-1) == 0
	case exp >= -24: // subnormal half: the implied one moves into the fraction
		return (1<<23|frac)&(1<<(-exp-1)-1) == 0
	}
	return false
}

// appendHead appends an item's head in its shortest form.
func appendHead(b []byte, major byte, arg uint64) []byte {
	major <<= 5
	switch {
	case arg < 24:
		return append(b, major|byte(arg))
	case arg < 1<<8:
		return append(b, major|24, byte(arg))
	case arg < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(arg))
	case arg < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(arg))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), arg)
}

func appendUint(b []byte, v uint64) []byte { return appendHead(b, majorUint, v) }

func appendBytes(b, v []byte) []byte {
	return append(appendHead(b, majorBytes, uint64(len(v))), v...)
}

func appendText(b []byte, v string) []byte {
	return append(appendHead(b, majorText, uint64(len(v))), v...)
}
