package tlspl

import (
	"encoding/binary"
	"fmt"
)

// A Writer appends encoded values to a buffer. The zero value is ready.
type Writer struct {
	buf []byte
	err error
}

// NewWriter returns a Writer that appends to buf.
func NewWriter(buf []byte) *Writer { return &Writer{buf: buf} }

// Bytes returns what was written, or the first error.
func (w *Writer) Bytes() ([]byte, error) {
	if w.err != nil {
		return nil, w.err
	}
	return w.buf, nil
}

// Fail records err unless an earlier one is recorded. A Marshaler calls it
// for a value that has no encoding.
func (w *Writer) Fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// Uint8 appends v.
func (w *Writer) Uint8(v uint8) { w.buf = append(w.buf, v) }

// Uint16 appends v.
func (w *Writer) Uint16(v uint16) { w.buf = binary.BigEndian.AppendUint16(w.buf, v) }

// Uint32 appends v.
func (w *Writer) Uint32(v uint32) { w.buf = binary.BigEndian.AppendUint32(w.buf, v) }

// Uint64 appends v.
func (w *Writer) Uint64(v uint64) { w.buf = binary.BigEndian.AppendUint64(w.buf, v) }

// Bool appends 1 or 0 as one octet.
func (w *Writer) Bool(v bool) {
	if v {
		w.Uint8(1)
	} else {
		w.Uint8(0)
	}
}

// Raw appends b without a length: a fixed-size array, or bytes that are
// already encoded.
func (w *Writer) Raw(b []byte) { w.buf = append(w.buf, b...) }

// RawString is Raw for octets that are kept as a string.
func (w *Writer) RawString(s string) { w.buf = append(w.buf, s...) }

// Varint appends the shortest form of n (RFC 9420 section 2.1.2).
func (w *Writer) Varint(n int) {
	switch {
	case n < 0 || n > MaxVector:
		w.Fail(fmt.Errorf("tlspl: vector of %d octets; the limit is %d", n, MaxVector))
	case n < 1<<6:
		w.buf = append(w.buf, byte(n))
	case n < 1<<14:
		w.buf = binary.BigEndian.AppendUint16(w.buf, 1<<14|uint16(n))
	default:
		w.buf = binary.BigEndian.AppendUint32(w.buf, 2<<30|uint32(n))
	}
}

// Opaque appends b as opaque<V>.
func (w *Writer) Opaque(b []byte) {
	w.Varint(len(b))
	w.Raw(b)
}

// Vector appends what f writes as a vector <V>.
func (w *Writer) Vector(f func(w *Writer)) {
	start := len(w.buf)
	// One octet is reserved for the length; a longer vector is moved once.
	w.buf = append(w.buf, 0)
	f(w)
	if w.err != nil {
		return
	}
	n := len(w.buf) - start - 1
	if n > MaxVector {
		w.Varint(n) // records the error
		return
	}
	if extra := varintLen(n) - 1; extra > 0 {
		w.buf = append(w.buf, make([]byte, extra)...)
		copy(w.buf[start+1+extra:], w.buf[start+1:len(w.buf)-extra])
	}
	body := w.buf
	w.buf = w.buf[:start]
	w.Varint(n)
	w.buf = body
}

// Value appends v.
func (w *Writer) Value(v Marshaler) { v.MarshalTLS(w) }

// Optional appends the presence octet and, if present, what f writes
// (RFC 9420 section 2.1.1).
func (w *Writer) Optional(present bool, f func(w *Writer)) {
	w.Bool(present)
	if present {
		f(w)
	}
}

// WriteVector appends the items as a vector <V>.
func WriteVector[T any](w *Writer, items []T, f func(w *Writer, item *T)) {
	w.Vector(func(w *Writer) {
		for i := range items {
			f(w, &items[i])
		}
	})
}
