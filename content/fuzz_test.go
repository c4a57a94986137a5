package content

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// seedMessages adds messages to a corpus: small ones of every kind, and the
// examples where they are at hand.
func seedMessages(f *testing.F) {
	for _, s := range []string{
		body(hexNull), body(hexText), body(multi(2, multi(2, multi(2, hexNull)))),
		body(external("60 60 00 00 01 40 40 40 01 40 60 60")),
		"87 " + hexSalt + "58 20 " + hexID + "41 61 82 f5 18 3c 58 20 " + hexID + "a2 01 61 61 02 61 62 " + hexText,
		ext("a5 01 61 61 18 18 82 f9 7e00 fb 3ff3333333333333 20 a2 18 18 f6 61 61 d8 20 40 61 61 c2 49 010000000000000000 61 62 f8 20"),
	} {
		f.Add(unhex(f, s))
	}
	root := os.Getenv("COMITY_VECTORS")
	if root == "" {
		root = filepath.Join("..", "..", "shared", "vectors")
	}
	files, err := filepath.Glob(filepath.Join(root, "content", "*.cbor"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

func FuzzDecode(f *testing.F) {
	seedMessages(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatalf("decoded, but does not encode: %v", err)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("re-encoded %x, want %x", again, b)
		}
		m2, err := Decode(again)
		if err != nil || !reflect.DeepEqual(m, m2) {
			t.Fatalf("decoded again to %+v, %v, want %+v", m2, err, m)
		}
		checkOracle(t, b)
		checkTerminal(t, m.Text())
	})
}

func FuzzDecodeStatusReport(f *testing.F) {
	for _, s := range []string{"80", "81 82 58 20 " + hexID + "02", "82 82 58 20 " + hexID + "18 ff 82 58 20 " + hexID + "00"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeStatusReport(b)
		if err != nil {
			return
		}
		if again, err := s.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("re-encoded %x, %v, want %x", again, err, b)
		}
	})
}

func FuzzDecodeDerivedValues(f *testing.F) {
	f.Add(unhex(f, "87 58 20 "+hexID+"1b 0000017edd1dcdbb 41 01 04 61 61 61 62 61 63"))
	f.Add(unhex(f, "87 58 20 "+hexID+"d9 03e9 a2 01 1a 62036674 22 18 63 41 01 04 60 60 60"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := DecodeDerivedValues(b)
		if err != nil {
			return
		}
		if again, err := d.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("re-encoded %x, %v, want %x", again, err, b)
		}
	})
}

func FuzzEscapeHTML(f *testing.F) {
	for _, tt := range escapeTable {
		f.Add(tt.in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := EscapeHTML(s)
		if hasHTML([]byte(out)) {
			t.Fatalf("EscapeHTML(%q) = %q has HTML", s, out)
		}
		if again := EscapeHTML(out); again != out {
			t.Fatalf("EscapeHTML(%q) = %q is not a fixed point: %q", s, out, again)
		}
		normal := strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
		if strings.ReplaceAll(out, "&lt;", "<") != strings.ReplaceAll(normal, "&lt;", "<") {
			t.Fatalf("EscapeHTML(%q) = %q changed more than brackets", s, out)
		}
	})
}

func FuzzSanitize(f *testing.F) {
	for _, tt := range sanitizeTable {
		f.Add(tt.in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := SanitizeText(s)
		checkTerminal(t, out)
		if again := SanitizeText(out); again != out {
			t.Fatalf("SanitizeText(%q) = %q is not a fixed point: %q", s, out, again)
		}
		line := SanitizeLine(s)
		checkTerminal(t, line)
		if strings.ContainsAny(line, "\n\t") {
			t.Fatalf("SanitizeLine(%q) = %q is more than a line", s, line)
		}
	})
}

func FuzzHTMLText(f *testing.F) {
	for _, tt := range htmlTable {
		f.Add([]byte(tt.in))
	}
	f.Fuzz(func(t *testing.T, b []byte) { checkTerminal(t, SanitizeText(htmlText(b))) })
}

// checkTerminal asserts that nothing in s can drive a terminal.
func checkTerminal(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Fatalf("%q is not UTF-8", s)
	}
	for _, r := range s {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			t.Fatalf("%q has the control character %U", s, r)
		}
		if r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			t.Fatalf("%q has the bidirectional control %U", s, r)
		}
	}
}
