package mls

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/cloudflare/circl/dh/x448"

	"github.com/comity-im/comity/internal/vectors"
)

// everySuite lists all that is implemented.
func everySuite() []CipherSuite { return append(UsableCipherSuites(), XWingAES256SHA384Ed25519) }

// seeded returns repeatable octets.
func seeded(seed uint64) *rand.ChaCha8 {
	return rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
}

func octets(r *rand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	r.Read(b)
	return b
}

// stdHPKE returns the algorithms of s in crypto/hpke; kem is nil for X448.
func stdHPKE(t testing.TB, s *suite) (kem hpke.KEM, kdf hpke.KDF, aead hpke.AEAD) {
	t.Helper()
	kdf, err := hpke.NewKDF(s.kdf.id())
	noError(t, err)
	aead, err = hpke.NewAEAD(s.aead)
	noError(t, err)
	if s.kem.id() == kemX448.kemID {
		return nil, kdf, aead
	}
	kem, err = hpke.NewKEM(s.kem.id())
	noError(t, err)
	return kem, kdf, aead
}

// The vectors of RFC 9180 (base mode, of the working group's complete list,
// which has X448) and, for X-Wing, of draft-ietf-hpke-pq.
func TestHPKEVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/hpke.json")
	noError(t, err)
	var cases []struct {
		KEM             uint16      `json:"kem_id"`
		KDF             uint16      `json:"kdf_id"`
		AEAD            uint16      `json:"aead_id"`
		Info            vectors.Hex `json:"info"`
		IKM             vectors.Hex `json:"ikm"`
		Private         vectors.Hex `json:"private"`
		Public          vectors.Hex `json:"public"`
		Enc             vectors.Hex `json:"enc"`
		SharedSecret    vectors.Hex `json:"shared_secret"`
		Key             vectors.Hex `json:"key"`
		BaseNonce       vectors.Hex `json:"base_nonce"`
		AAD             vectors.Hex `json:"aad"`
		Ciphertext      vectors.Hex `json:"ciphertext"`
		Plaintext       vectors.Hex `json:"plaintext"`
		ExporterContext vectors.Hex `json:"exporter_context"`
		ExportedLength  int         `json:"exported_length"`
		Exported        vectors.Hex `json:"exported"`
	}
	noError(t, json.Unmarshal(b, &cases))
	for _, c := range cases {
		t.Run(fmt.Sprintf("%#x,%d,%d", c.KEM, c.KDF, c.AEAD), func(t *testing.T) {
			var s suite
			for i := range suites {
				if suites[i].kem.id() == c.KEM {
					s.kem = suites[i].kem
				}
				if suites[i].kdf.id() == c.KDF {
					s.kdf = suites[i].kdf
				}
				if suites[i].aead == c.AEAD {
					s.aead, s.keySize, s.newAEAD = c.AEAD, suites[i].keySize, suites[i].newAEAD
				}
			}
			private, public, err := s.deriveKeyPair(c.IKM)
			noError(t, err)
			equal(t, "public key", public, c.Public)
			// Vectors of X448 and X25519 are not clamped.
			public, err = s.hpkePublic(c.Private)
			noError(t, err)
			equal(t, "public key", public, c.Public)
			noError(t, s.checkHPKEKey(c.Public))
			noError(t, s.checkKEMOutput(c.Enc))
			for _, key := range [][]byte{private, c.Private} {
				for _, public := range [][]byte{nil, c.Public} {
					shared, err := s.kem.decap(key, public, c.Enc)
					noError(t, err)
					equal(t, "shared secret", shared, c.SharedSecret)
				}
			}
			x := s.newSealer(c.Info)
			keys, err := x.receive(private, public, c.Enc)
			noError(t, err)
			equal(t, "key", keys.key, c.Key)
			equal(t, "base nonce", keys.nonce, c.BaseNonce)
			equal(t, "export", x.export(keys, c.ExporterContext, c.ExportedLength), c.Exported)
			aead, err := s.newAEAD(keys.key)
			noError(t, err)
			pt, err := aead.Open(nil, keys.nonce, c.Ciphertext, c.AAD)
			noError(t, err)
			equal(t, "plaintext", pt, c.Plaintext)
		})
	}
	if len(cases) < 7 {
		t.Fatalf("%d vectors", len(cases))
	}
}

// Keys, ciphertexts and exports are those of crypto/hpke.
func TestAgreesWithStandardHPKE(t *testing.T) {
	for _, id := range everySuite() {
		s := mustSuite(t, id)
		kem, kdf, aead := stdHPKE(t, s)
		if kem == nil {
			continue
		}
		t.Run(id.String(), func(t *testing.T) {
			n := 40
			if id == P521AES256SHA512P521 || id == P384AES256SHA384P384 {
				n = 10
			}
			r := seeded(uint64(id))
			for i := range n {
				ikm := octets(r, s.nh())
				want, err := kem.DeriveKeyPair(ikm)
				noError(t, err)
				wantPrivate, err := want.Bytes()
				noError(t, err)
				private, public, err := s.deriveKeyPair(ikm)
				noError(t, err)
				equal(t, "private key", private, wantPrivate)
				equal(t, "public key", public, want.PublicKey().Bytes())
				if i%2 == 1 {
					private, public, err = GenerateHPKEKey(id)
					noError(t, err)
					want, err = kem.NewPrivateKey(private)
					noError(t, err)
					equal(t, "generated public key", public, want.PublicKey().Bytes())
				}

				info, text := octets(r, i), octets(r, 2*i)
				ct, err := s.seal(public, info, text)
				noError(t, err)
				recipient, err := hpke.NewRecipient(ct.KEMOutput, want, kdf, aead, info)
				noError(t, err)
				got, err := recipient.Open(nil, ct.Ciphertext)
				noError(t, err)
				equal(t, "what crypto/hpke opens", got, text)

				enc, sender, err := hpke.NewSender(want.PublicKey(), kdf, aead, info)
				noError(t, err)
				sealed, err := sender.Seal(nil, text)
				noError(t, err)
				x := s.newSealer(info)
				for _, known := range [][]byte{nil, public} {
					got, err = x.open(private, known, HPKECiphertext{enc, sealed})
					noError(t, err)
					equal(t, "what crypto/hpke sealed", got, text)
				}

				enc, secret, err := s.externalInitSend(public)
				noError(t, err)
				recipient, err = hpke.NewRecipient(enc, want, kdf, aead, nil)
				noError(t, err)
				again, err := recipient.Export(externalInitLabel, s.nh())
				noError(t, err)
				equal(t, "exported init secret", secret, again)
				again, err = s.externalInitReceive(private, enc)
				noError(t, err)
				equal(t, "received init secret", secret, again)
			}
		})
	}
}

// The Edwards table and the ladder give what crypto/ecdh gives, on and off
// the curve.
func TestX25519AgreesWithStandard(t *testing.T) {
	r := seeded(1)
	peers := [][]byte{bytes.Repeat([]byte{0xff}, 32), append(bytes.Repeat([]byte{0xff}, 31), 0x7f), {31: 0x80, 0: 2}}
	for i := range 3000 {
		private := octets(r, 32)
		switch i {
		case 0:
			clear(private)
		case 1:
			private = bytes.Repeat([]byte{0xff}, 32)
		}
		want, err := ecdh.X25519().NewPrivateKey(private)
		noError(t, err)
		equal(t, "public key", public25519(private), want.PublicKey().Bytes())
		peer := octets(r, 32) // about half of these lie on the twist
		if i < len(peers) {
			peer = peers[i]
		}
		p, err := ecdh.X25519().NewPublicKey(peer)
		noError(t, err)
		dh, err := want.ECDH(p)
		noError(t, err)
		equal(t, "Diffie-Hellman value", x25519(private, peer), dh)
	}
}

// RFC 7748 section 5.2.
func TestRFC7748Vectors(t *testing.T) {
	mult448 := func(k, u []byte) []byte {
		key, point, out := x448.Key(k), x448.Key(u), x448.Key{}
		x448.Shared(&out, &key, &point)
		return out[:]
	}
	for _, c := range []struct {
		f       func(k, u []byte) []byte
		k, u, r string
	}{
		{x25519, "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4", "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c", "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"},
		{x25519, "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d", "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493", "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"},
		{mult448, "3d262fddf9ec8e88495266fea19a34d28882acef045104d0d1aae121700a779c984c24f8cdd78fbff44943eba368f54b29259a4f1c600ad3", "06fce640fa3487bfda5f6cf2d5263f8aad88334cbd07437f020f08f9814dc031ddbdc38c19c6da2583fa5429db94ada18aa7a7fb4ef8a086", "ce3e4ff95a60dc6697da1db1d85e6afbdf79b50a2412d7546d5f239fe14fbaadeb445fc66a01b0779d98223961111e21766282f73dd96b6f"},
		{mult448, "203d494428b8399352665ddca42f9de8fef600908e0d461cb021f8c538345dd77c3e4806e25f46d3315c44e0a5b4371282dd2c8d5be3095f", "0fbcc2f993cd56d3305b0b7d9e55d4c1a8fb5dbb52f8e9a1e9b6201b165d015894e56c4d3570bee52fe205e28a78b91cdfbde71ce8d157db", "884a02576239ff7a2f2f63b2db6a9ff37047ac13568e1e30fe63c4a7ad1b3ee3a5700df34321d62077e63633c575c1c954514e99da7c179d"},
	} {
		equal(t, "product", c.f(unhex(t, c.k), unhex(t, c.u)), unhex(t, c.r))
	}
	for _, c := range []struct {
		f           func(k, u []byte) []byte
		base        byte
		size        int
		one, thousd string
	}{
		{x25519, 9, 32, "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079", "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"},
		{mult448, 5, 56, "3f482c8a9f19b01e6c46ee9711d9dc14fd4bf67af30765c2ae2b846a4d23a8cd0db897086239492caf350b51f833868b9bc2b3bca9cf4113", "aa3b4749d55b9daf1e5b00288826c467274ce3ebbdd5c17b975e09d4af6c67cf10d087202db88286e2b79fceea3ec353ef54faa26e219f38"},
	} {
		k := make([]byte, c.size)
		k[0] = c.base
		u := bytes.Clone(k)
		for i := range 1000 {
			k, u = c.f(k, u), k
			if i == 0 {
				equal(t, "after one iteration", k, unhex(t, c.one))
			}
		}
		equal(t, "after 1000 iterations", k, unhex(t, c.thousd))
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	noError(t, err)
	return b
}

// Keys of low order give no secret. They are refused wherever they appear.
func TestLowOrderKeys(t *testing.T) {
	for _, id := range everySuite() {
		s := mustSuite(t, id)
		var lists [][]byte
		switch s.kem.id() {
		case 0x0020, xwingID:
			for _, u := range lowOrder25519 {
				high := bytes.Clone(u)
				high[31] |= 0x80
				lists = append(lists, u, high)
			}
		case 0x0021:
			lists = lowOrder448
		default:
			continue
		}
		t.Run(id.String(), func(t *testing.T) {
			private, public, err := GenerateHPKEKey(id)
			noError(t, err)
			ct, err := s.seal(public, nil, []byte("text"))
			noError(t, err)
			for _, u := range lists {
				bad := append(bytes.Clone(public[:len(public)-len(u)]), u...)
				if err := s.checkHPKEKey(bad); !errors.Is(err, ErrKey) {
					t.Errorf("%x is a key: %v", u, err)
				}
				if _, err := s.seal(bad, nil, nil); !errors.Is(err, ErrKey) {
					t.Errorf("seals to %x: %v", u, err)
				}
				if _, _, err := s.externalInitSend(bad); !errors.Is(err, ErrKey) {
					t.Errorf("encapsulates to %x: %v", u, err)
				}
				enc := append(bytes.Clone(ct.KEMOutput[:len(ct.KEMOutput)-len(u)]), u...)
				if err := s.checkKEMOutput(enc); !errors.Is(err, ErrKey) {
					t.Errorf("%x is an encapsulation: %v", u, err)
				}
				if _, err := s.open(private, nil, HPKECiphertext{enc, ct.Ciphertext}); !errors.Is(err, ErrDecrypt) {
					t.Errorf("opens with %x: %v", u, err)
				}
				if _, err := s.externalInitReceive(private, enc); !errors.Is(err, ErrDecrypt) {
					t.Errorf("receives %x: %v", u, err)
				}
			}
		})
	}
	// The lists are complete and right: the group itself must say so too.
	for _, u := range lowOrder25519 {
		if _, _, err := (curve25519{}).exchange(octets(seeded(2), 32), nil, u); !errors.Is(err, errLowOrder) {
			t.Errorf("X25519 with %x: %v", u, err)
		}
	}
	for _, u := range lowOrder448 {
		if _, _, err := (curve448{}).exchange(octets(seeded(2), 56), nil, u); !errors.Is(err, errLowOrder) {
			t.Errorf("X448 with %x: %v", u, err)
		}
	}
}

// Keys and encapsulations of another length are refused, in every place.
func TestKeyLengths(t *testing.T) {
	sizes := map[CipherSuite][3]int{ // private, public, encapsulation
		1: {32, 32, 32}, 2: {32, 65, 65}, 3: {32, 32, 32}, 4: {56, 56, 56}, 5: {66, 133, 133}, 6: {56, 56, 56}, 7: {48, 97, 97},
		XWingAES256SHA384Ed25519: {32, 1216, 1120},
	}
	for _, id := range everySuite() {
		t.Run(id.String(), func(t *testing.T) {
			s := mustSuite(t, id)
			private, public, err := GenerateHPKEKey(id)
			noError(t, err)
			ct, err := s.seal(public, nil, []byte("text"))
			noError(t, err)
			if got := [3]int{len(private), len(public), len(ct.KEMOutput)}; got != sizes[id] {
				t.Fatalf("sizes are %v; want %v", got, sizes[id])
			}
			harm := func(b []byte) [][]byte {
				return [][]byte{nil, b[1:], b[:len(b)-1], append([]byte{0}, b...), append(clone(b), 0)}
			}
			for _, b := range harm(private) {
				if _, err := s.hpkePublic(b); !errors.Is(err, ErrKey) {
					t.Errorf("public key of a private key of %d octets: %v", len(b), err)
				}
				if _, err := s.open(b, nil, ct); !errors.Is(err, ErrKey) {
					t.Errorf("opens with a private key of %d octets: %v", len(b), err)
				}
			}
			for _, b := range harm(public) {
				if err := s.checkHPKEKey(b); !errors.Is(err, ErrKey) {
					t.Errorf("public key of %d octets: %v", len(b), err)
				}
				if _, err := s.seal(b, nil, nil); !errors.Is(err, ErrKey) {
					t.Errorf("seals to a public key of %d octets: %v", len(b), err)
				}
			}
			for _, b := range harm(ct.KEMOutput) {
				if err := s.checkKEMOutput(b); !errors.Is(err, ErrKey) {
					t.Errorf("encapsulation of %d octets: %v", len(b), err)
				}
				if _, err := s.open(private, nil, HPKECiphertext{b, ct.Ciphertext}); !errors.Is(err, ErrDecrypt) {
					t.Errorf("opens an encapsulation of %d octets: %v", len(b), err)
				}
			}
			// A public key that is not the private key's opens nothing.
			_, other, err := GenerateHPKEKey(id)
			noError(t, err)
			if _, err := s.newSealer(nil).open(private, other, ct); err == nil && s.kem.id() != 0x0010 && s.kem.id() != 0x0011 && s.kem.id() != 0x0012 {
				t.Error("opens under another public key")
			}
		})
	}
	// An ML-KEM key has coefficients below q.
	s := mustSuite(t, XWingAES256SHA384Ed25519)
	_, public, err := GenerateHPKEKey(s.id)
	noError(t, err)
	public[0], public[1] = 0xff, 0xff
	if err := s.checkHPKEKey(public); !errors.Is(err, ErrKey) {
		t.Errorf("coefficient beyond the modulus: %v", err)
	}
	// A scalar lies below the order of its curve, and is not zero.
	for _, id := range []CipherSuite{2, 5, 7} {
		s := mustSuite(t, id)
		private, _, err := GenerateHPKEKey(id)
		noError(t, err)
		for _, v := range []byte{0, 0xff} {
			if _, err := s.hpkePublic(bytes.Repeat([]byte{v}, len(private))); !errors.Is(err, ErrKey) {
				t.Errorf("%v: private key of %x octets: %v", id, v, err)
			}
		}
	}
}

// FuzzHPKE feeds foreign keys, encapsulations and ciphertexts: a key that is
// accepted can be encrypted to, and nothing that was not encrypted opens.
func FuzzHPKE(f *testing.F) {
	for i, id := range everySuite() {
		s := mustSuite(f, id)
		_, public, err := s.deriveKeyPair([]byte("the seed of the fuzz target"))
		noError(f, err)
		enc := public
		if id == XWingAES256SHA384Ed25519 {
			enc = append(make([]byte, 1088), public[1184:]...)
		}
		f.Add(byte(i), public, enc, []byte("ciphertext of no key at all"))
	}
	f.Fuzz(func(t *testing.T, at byte, public, enc, ciphertext []byte) {
		ids := everySuite()
		s := mustSuite(t, ids[int(at)%len(ids)])
		err := s.checkHPKEKey(public)
		_, sealErr := s.seal(public, nil, []byte("text"))
		if (err == nil) != (sealErr == nil) {
			t.Fatalf("check says %v, sealing %v", err, sealErr)
		}
		private, _, err := s.deriveKeyPair([]byte("the seed of the fuzz target"))
		noError(t, err)
		if pt, err := s.open(private, nil, HPKECiphertext{enc, ciphertext}); err == nil {
			t.Fatalf("opens to %x", pt)
		}
		_, err = s.externalInitReceive(private, enc)
		if (err == nil) != (s.checkKEMOutput(enc) == nil) {
			t.Fatalf("check of the encapsulation says %v, decapsulation %v", s.checkKEMOutput(enc), err)
		}
	})
}
