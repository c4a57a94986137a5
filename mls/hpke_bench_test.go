package mls

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/hpke"
	"testing"
)

// The benchmarks below run each primitive beside the one of the standard
// library; X448 is not in it.

func BenchmarkHPKESeal(b *testing.B) {
	eachHPKE(b, func(b *testing.B, s *suite, kem hpke.KEM, kdf hpke.KDF, aead hpke.AEAD) {
		_, public, err := GenerateHPKEKey(s.id)
		noError(b, err)
		info, text := make([]byte, 300), make([]byte, s.nh())
		b.Run("ours", func(b *testing.B) {
			x := s.newSealer(info)
			b.ReportAllocs()
			for b.Loop() {
				_, err := x.seal(public, text)
				noError(b, err)
			}
		})
		if kem == nil {
			return
		}
		b.Run("std", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				key, err := kem.NewPublicKey(public)
				noError(b, err)
				_, sender, err := hpke.NewSender(key, kdf, aead, info)
				noError(b, err)
				_, err = sender.Seal(nil, text)
				noError(b, err)
			}
		})
	})
}

func BenchmarkHPKEOpen(b *testing.B) {
	eachHPKE(b, func(b *testing.B, s *suite, kem hpke.KEM, kdf hpke.KDF, aead hpke.AEAD) {
		private, public, err := GenerateHPKEKey(s.id)
		noError(b, err)
		info := make([]byte, 300)
		ct, err := s.seal(public, info, make([]byte, s.nh()))
		noError(b, err)
		b.Run("ours", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := s.newSealer(info).open(private, public, ct)
				noError(b, err)
			}
		})
		if kem == nil {
			return
		}
		b.Run("std", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				key, err := kem.NewPrivateKey(private)
				noError(b, err)
				recipient, err := hpke.NewRecipient(ct.KEMOutput, key, kdf, aead, info)
				noError(b, err)
				_, err = recipient.Open(nil, ct.Ciphertext)
				noError(b, err)
			}
		})
	})
}

func BenchmarkDeriveKeyPair(b *testing.B) {
	eachHPKE(b, func(b *testing.B, s *suite, kem hpke.KEM, _ hpke.KDF, _ hpke.AEAD) {
		ikm := make([]byte, s.nh())
		b.Run("ours", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _, err := s.deriveKeyPair(ikm)
				noError(b, err)
			}
		})
		if kem == nil {
			return
		}
		b.Run("std", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				key, err := kem.DeriveKeyPair(ikm)
				noError(b, err)
				_, err = key.Bytes()
				noError(b, err)
				key.PublicKey().Bytes()
			}
		})
	})
}

func eachHPKE(b *testing.B, f func(b *testing.B, s *suite, kem hpke.KEM, kdf hpke.KDF, aead hpke.AEAD)) {
	for _, id := range everySuite() {
		if id == X25519ChaCha20SHA256Ed25519 || id == X448ChaCha20SHA512Ed448 {
			continue // the same KEMs again
		}
		s := mustSuite(b, id)
		kem, kdf, aead := stdHPKE(b, s)
		b.Run(id.String(), func(b *testing.B) { f(b, s, kem, kdf, aead) })
	}
}

func BenchmarkX25519PublicKey(b *testing.B) {
	private := octets(seeded(3), 32)
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			public25519(private)
		}
	})
	b.Run("std", func(b *testing.B) {
		for b.Loop() {
			_, err := ecdh.X25519().NewPrivateKey(private)
			noError(b, err)
		}
	})
}

func BenchmarkExpandWithLabel(b *testing.B) {
	s := mustSuite(b, suite1)
	secret, context := make([]byte, 32), make([]byte, 4)
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := s.expandWithLabel(secret, "secret", context, 32)
			noError(b, err)
		}
	})
	b.Run("std", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			info, err := appendKDFLabel(nil, "secret", context, 32)
			noError(b, err)
			_, err = hkdf.Expand(s.kdf.hash.New, secret, string(info), 32)
			noError(b, err)
		}
	})
}

func BenchmarkMAC(b *testing.B) {
	s := mustSuite(b, suite1)
	key, text := make([]byte, 32), make([]byte, 300)
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.mac(key, text)
		}
	})
	b.Run("std", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m := hmac.New(s.kdf.hash.New, key)
			m.Write(text)
			m.Sum(nil)
		}
	})
}
