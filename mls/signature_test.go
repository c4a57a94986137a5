package mls

import (
	"bytes"
	"errors"
	"testing"
)

// RFC 8032 section 7.4, the empty message.
func TestEd448Vector(t *testing.T) {
	seed := unhex(t, "6c82a562cb808d10d632be89c8513ebf6c929f34ddfa8c9f63c9960ef6e348a3528c8a3fcc2f044e39a3fc5b94492f8f032e7549a20098f95b")
	signer, err := NewSigner(X448AES256SHA512Ed448, seed)
	noError(t, err)
	equal(t, "public key", signer.Public(), unhex(t, "5fd7449b59b461fd2ce787ec616ad46a1da1342485a70e1f8a0ea75d80e96778edf124769b46c7061bd6783df1e50f6cd1fa1abeafe8256180"))
	sig, err := signer.Sign(nil)
	noError(t, err)
	equal(t, "signature", sig, unhex(t, "533a37f6bbe457251f023c0d88f976ae2dfb504a843e34d2074fd823d41a591f2b233f034f628281f2fd7a22ddd47d7828c59bd0a21bfd3980ff0d2028d4b18a9df63e006c5d1c2d345b925d8dc00b4104852db99ac5c7cdda8530a113a0f4dbb61149f05a7363268c71d95808ff2e652600"))
}

// Every scheme verifies what it signed and nothing else, and refuses keys of
// another form.
func TestSignatureSchemes(t *testing.T) {
	for _, id := range everySuite() {
		t.Run(id.String(), func(t *testing.T) {
			s := mustSuite(t, id)
			signer, private, err := GenerateSigner(id, nil)
			noError(t, err)
			again, err := NewSigner(id, private)
			noError(t, err)
			equal(t, "public key", again.Public(), signer.Public())
			public := signer.Public()
			noError(t, s.checkSignatureKey(public))
			sig, err := SignWithLabel(signer, "Label", []byte("content"))
			noError(t, err)
			noError(t, VerifyWithLabel(id, public, "Label", []byte("content"), sig))
			if err := VerifyWithLabel(id, public, "Label", []byte("other"), sig); !errors.Is(err, ErrInvalidSignature) {
				t.Errorf("another content: %v", err)
			}
			for i := range sig {
				bad := bytes.Clone(sig)
				bad[i] ^= 1
				if err := VerifyWithLabel(id, public, "Label", []byte("content"), bad); !errors.Is(err, ErrInvalidSignature) {
					t.Errorf("signature with octet %d changed: %v", i, err)
				}
			}
			for _, bad := range [][]byte{nil, sig[1:], sig[:len(sig)-1], append(bytes.Clone(sig), 0)} {
				if err := VerifyWithLabel(id, public, "Label", []byte("content"), bad); !errors.Is(err, ErrInvalidSignature) {
					t.Errorf("signature of %d octets: %v", len(bad), err)
				}
			}
			for _, bad := range [][]byte{nil, public[1:], append(bytes.Clone(public), 0)} {
				if err := s.checkSignatureKey(bad); !errors.Is(err, ErrKey) {
					t.Errorf("public key of %d octets: %v", len(bad), err)
				}
				if err := VerifyWithLabel(id, bad, "Label", []byte("content"), sig); !errors.Is(err, ErrKey) {
					t.Errorf("verifies with a public key of %d octets: %v", len(bad), err)
				}
			}
			for _, bad := range [][]byte{nil, append([]byte{1}, private...)} {
				if _, err := NewSigner(id, bad); !errors.Is(err, ErrKey) {
					t.Errorf("private key of %d octets: %v", len(bad), err)
				}
			}
		})
	}
}

// S of an EdDSA signature is below the order: adding the order to it makes
// another encoding, which is refused (RFC 8032 sections 5.1.7 and 5.2.7).
func TestEdDSAIsNotMalleable(t *testing.T) {
	for _, c := range []struct {
		suite CipherSuite
		order string // little-endian, as long as S
	}{
		{X25519AES128SHA256Ed25519, "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010"},
		{X448AES256SHA512Ed448, "f34458ab92c27823558fc58d72c26c219036d6ae49db4ec4e923ca7cffffffffffffffffffffffffffffffffffffffffffffffffffffff3f00"},
	} {
		signer, _, err := GenerateSigner(c.suite, seeded(uint64(c.suite)))
		noError(t, err)
		sig, err := SignWithLabel(signer, "Label", nil)
		noError(t, err)
		noError(t, VerifyWithLabel(c.suite, signer.Public(), "Label", nil, sig))
		order := unhex(t, c.order)
		s, carry := sig[len(sig)-len(order):], 0
		for i := range order {
			carry += int(s[i]) + int(order[i])
			s[i], carry = byte(carry), carry>>8
		}
		if err := VerifyWithLabel(c.suite, signer.Public(), "Label", nil, sig); !errors.Is(err, ErrInvalidSignature) {
			t.Errorf("%v: %v", c.suite, err)
		}
	}
}
