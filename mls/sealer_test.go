package mls

import (
	"bytes"
	"errors"
	"testing"
)

// What a sealer makes opens under its info only; each has a key of its own.
func TestSealer(t *testing.T) {
	for _, id := range everySuite() {
		t.Run(id.String(), func(t *testing.T) {
			s := mustSuite(t, id)
			private, public, err := GenerateHPKEKey(id)
			noError(t, err)
			info := bytes.Repeat([]byte("info"), 1000)
			x := s.newSealer(info)
			var last HPKECiphertext
			for n := range 40 {
				pt := bytes.Repeat([]byte{byte(n)}, n)
				ct, err := x.seal(public, pt)
				noError(t, err)
				got, err := s.open(private, info, ct)
				noError(t, err)
				equal(t, "plaintext", got, pt)
				if bytes.Equal(ct.KEMOutput, last.KEMOutput) {
					t.Fatal("an ephemeral key is used twice")
				}
				last = ct
			}
			if _, err := s.open(private, info[1:], last); !errors.Is(err, ErrDecrypt) {
				t.Errorf("opens under another info: %v", err)
			}
			if _, err := x.seal(public[1:], nil); !errors.Is(err, ErrKey) {
				t.Errorf("seals to a malformed key: %v", err)
			}
		})
	}
	s := mustSuite(t, suite1)
	if _, err := s.newSealer(nil).seal(make([]byte, 32), nil); !errors.Is(err, ErrKey) {
		t.Errorf("seals to a point of low order: %v", err)
	}
}
