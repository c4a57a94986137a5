// Package tlspl encodes and decodes the TLS presentation language as MLS
// uses it (RFC 9420 section 2.1): big-endian integers, vectors whose length
// is a variable-size integer in its shortest form, and optional values with
// a presence octet.
//
// A type that appears on the wire implements [Marshaler] and [Unmarshaler]
// beside its definition. Both [Writer] and [Reader] keep their first error,
// so a struct is written field by field and checked once. Nothing is
// allocated for a length that the input does not hold, and opaque fields of
// a decoded value alias the input: whoever keeps a value longer than its
// input, or changes either, copies first (see [Reader.OpaqueCopy]).
package tlspl

import (
	"errors"
	"fmt"
)

// MaxVector is the largest length that a variable-size integer can carry
// (RFC 9420 section 2.1.2).
const MaxVector = 1<<30 - 1

// ErrSyntax is matched by every error of a [Reader].
var ErrSyntax = errors.New("tlspl: malformed encoding")

// A Marshaler writes itself to a Writer.
type Marshaler interface{ MarshalTLS(w *Writer) }

// An Unmarshaler reads itself from a Reader. It reports failure through the
// Reader's error and leaves trailing input alone.
type Unmarshaler interface{ UnmarshalTLS(r *Reader) }

// Marshal returns the encoding of v.
func Marshal(v Marshaler) ([]byte, error) {
	var w Writer
	v.MarshalTLS(&w)
	return w.Bytes()
}

// Unmarshal decodes b into v and fails unless all of b is consumed.
func Unmarshal(b []byte, v Unmarshaler) error {
	r := NewReader(b)
	v.UnmarshalTLS(r)
	return r.Finish()
}

func syntax(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSyntax, fmt.Sprintf(format, args...))
}

// varintLen returns how many octets the shortest form of n takes.
func varintLen(n int) int {
	switch {
	case n < 1<<6:
		return 1
	case n < 1<<14:
		return 2
	default:
		return 4
	}
}
