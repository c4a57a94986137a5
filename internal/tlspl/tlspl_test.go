package tlspl

import (
	"bytes"
	"errors"
	"testing"
)

func TestVarint(t *testing.T) {
	for _, c := range []struct {
		n    int
		wire []byte
	}{
		{0, []byte{0}}, {63, []byte{0x3f}}, {64, []byte{0x40, 0x40}}, {16383, []byte{0x7f, 0xff}},
		{16384, []byte{0x80, 0, 0x40, 0}}, {MaxVector, []byte{0xbf, 0xff, 0xff, 0xff}},
	} {
		var w Writer
		w.Varint(c.n)
		if b, err := w.Bytes(); err != nil || !bytes.Equal(b, c.wire) {
			t.Errorf("Varint(%d) = % x, %v; want % x", c.n, b, err, c.wire)
		}
		r := NewReader(c.wire)
		if n := r.Varint(); n != c.n || r.Finish() != nil {
			t.Errorf("reading % x: %d, %v; want %d", c.wire, n, r.Err(), c.n)
		}
	}
	for _, bad := range [][]byte{nil, {0x40}, {0x40, 0x3f}, {0x80, 0, 0x3f, 0xff}, {0xc0, 0, 0, 0}, {0x80, 0, 0}} {
		r := NewReader(bad)
		if n := r.Varint(); !errors.Is(r.Err(), ErrSyntax) {
			t.Errorf("reading % x: %d, %v; want ErrSyntax", bad, n, r.Err())
		}
	}
	for _, n := range []int{-1, MaxVector + 1} {
		var w Writer
		if w.Varint(n); w.err == nil {
			t.Errorf("Varint(%d) was written", n)
		}
	}
}

func TestVectorOfEverySize(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 65, 16383, 16384, 70000} {
		body := bytes.Repeat([]byte{0xab}, n)
		var direct, nested Writer
		direct.Opaque(body)
		nested.Uint8(9)
		nested.Vector(func(w *Writer) { w.Raw(body) })
		nested.Uint8(9)
		want := append(append([]byte{9}, direct.buf...), 9)
		if !bytes.Equal(nested.buf, want) {
			t.Errorf("a vector of %d octets is not opaque<V>", n)
		}
		r := NewReader(direct.buf)
		r.Vector(func(r *Reader) { r.Raw(n) })
		if err := r.Finish(); err != nil {
			t.Errorf("reading a vector of %d octets: %v", n, err)
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	item := func(r *Reader, v *uint16) { *v = r.Uint16() }
	for name, f := range map[string]func(r *Reader){
		"length past the end":        func(r *Reader) { r.Opaque(0) },
		"opaque over its limit":      func(r *Reader) { r.b = []byte{2, 0, 0}; r.Opaque(1) },
		"bool 2":                     func(r *Reader) { r.b = []byte{2}; r.Bool() },
		"trailing octet":             func(r *Reader) { r.b = []byte{1, 2}; r.Uint8() },
		"vector not consumed":        func(r *Reader) { r.b = []byte{2, 0, 0}; r.Vector(func(r *Reader) { r.Uint8() }) },
		"item past a vector's end":   func(r *Reader) { r.b = []byte{3, 0, 0, 0}; ReadVector(r, 0, item) },
		"too many items":             func(r *Reader) { r.b = []byte{4, 0, 0, 0, 0}; ReadVector(r, 1, item) },
		"items that consume nothing": func(r *Reader) { r.b = []byte{1, 0}; ReadVector(r, 0, func(*Reader, *uint16) {}) },
	} {
		r := NewReader([]byte{0x3f, 1})
		f(r)
		if err := r.Finish(); !errors.Is(err, ErrSyntax) {
			t.Errorf("%s: %v; want ErrSyntax", name, err)
		}
	}
}

func TestFirstErrorStays(t *testing.T) {
	r := NewReader([]byte{1})
	r.Uint64()
	first := r.Err()
	if r.Uint8() != 0 || r.Opaque(0) != nil || r.Err() != first || !r.Empty() {
		t.Errorf("after %v the Reader yielded values or another error: %v", first, r.Err())
	}
	mine := errors.New("mine")
	var w Writer
	w.Fail(mine)
	w.Varint(-1)
	if _, err := w.Bytes(); err != mine {
		t.Errorf("the Writer returned %v; want its first error", err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte{0x40, 0x40, 1, 2, 3})
	f.Add([]byte{4, 1, 2, 1, 3, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(b)
		items := ReadVector(r, 0, func(r *Reader, v *[]byte) { *v = r.Opaque(0) })
		present := r.Optional()
		if r.Finish() != nil {
			return
		}
		var w Writer
		WriteVector(&w, items, func(w *Writer, v *[]byte) { w.Opaque(*v) })
		w.Bool(present)
		if got, err := w.Bytes(); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("% x became % x, %v: the encoding is not canonical", b, got, err)
		}
	})
}
