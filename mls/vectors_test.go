package mls

import (
	"bytes"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/internal/vectors"
)

func mustSuite(t testing.TB, id CipherSuite) *suite {
	t.Helper()
	s, err := id.params()
	noError(t, err)
	return s
}

func equal(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("%s is %x; want %x", what, got, want)
	}
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func decode(t testing.TB, b []byte, v tlspl.Unmarshaler) {
	t.Helper()
	if err := Unmarshal(b, v); err != nil {
		t.Fatalf("decode %T: %v", v, err)
	}
}

func TestCryptoBasicsVectors(t *testing.T) {
	var cases []struct {
		CipherSuite CipherSuite `json:"cipher_suite"`
		RefHash     struct {
			Label string      `json:"label"`
			Value vectors.Hex `json:"value"`
			Out   vectors.Hex `json:"out"`
		} `json:"ref_hash"`
		ExpandWithLabel struct {
			Secret  vectors.Hex `json:"secret"`
			Label   string      `json:"label"`
			Context vectors.Hex `json:"context"`
			Length  int         `json:"length"`
			Out     vectors.Hex `json:"out"`
		} `json:"expand_with_label"`
		DeriveSecret struct {
			Secret vectors.Hex `json:"secret"`
			Label  string      `json:"label"`
			Out    vectors.Hex `json:"out"`
		} `json:"derive_secret"`
		DeriveTreeSecret struct {
			Secret     vectors.Hex `json:"secret"`
			Label      string      `json:"label"`
			Generation uint32      `json:"generation"`
			Length     int         `json:"length"`
			Out        vectors.Hex `json:"out"`
		} `json:"derive_tree_secret"`
		SignWithLabel struct {
			Priv      vectors.Hex `json:"priv"`
			Pub       vectors.Hex `json:"pub"`
			Content   vectors.Hex `json:"content"`
			Label     string      `json:"label"`
			Signature vectors.Hex `json:"signature"`
		} `json:"sign_with_label"`
		EncryptWithLabel struct {
			Priv       vectors.Hex `json:"priv"`
			Pub        vectors.Hex `json:"pub"`
			Label      string      `json:"label"`
			Context    vectors.Hex `json:"context"`
			Plaintext  vectors.Hex `json:"plaintext"`
			KEMOutput  vectors.Hex `json:"kem_output"`
			Ciphertext vectors.Hex `json:"ciphertext"`
		} `json:"encrypt_with_label"`
	}
	vectors.Load(t, "mls", "crypto-basics.json", &cases)
	for _, c := range cases {
		t.Run(c.CipherSuite.String(), func(t *testing.T) {
			s := mustSuite(t, c.CipherSuite)
			out, err := s.refHash(c.RefHash.Label, c.RefHash.Value)
			noError(t, err)
			equal(t, "ref_hash", out, c.RefHash.Out)

			e := c.ExpandWithLabel
			out, err = s.expandWithLabel(e.Secret, e.Label, e.Context, e.Length)
			noError(t, err)
			equal(t, "expand_with_label", out, e.Out)

			out, err = s.deriveSecret(c.DeriveSecret.Secret, c.DeriveSecret.Label)
			noError(t, err)
			equal(t, "derive_secret", out, c.DeriveSecret.Out)

			d := c.DeriveTreeSecret
			out, err = s.deriveTreeSecret(d.Secret, d.Label, d.Generation, d.Length)
			noError(t, err)
			equal(t, "derive_tree_secret", out, d.Out)

			g := c.SignWithLabel
			noError(t, VerifyWithLabel(s.id, g.Pub, g.Label, g.Content, g.Signature))
			signer, err := NewSigner(s.id, g.Priv)
			noError(t, err)
			equal(t, "signature key", signer.Public(), g.Pub)
			sig, err := SignWithLabel(signer, g.Label, g.Content)
			noError(t, err)
			noError(t, VerifyWithLabel(s.id, g.Pub, g.Label, g.Content, sig))
			if VerifyWithLabel(s.id, g.Pub, g.Label+"x", g.Content, sig) == nil {
				t.Error("signature verifies under another label")
			}

			h := c.EncryptWithLabel
			pt, err := DecryptWithLabel(s.id, h.Priv, h.Label, h.Context, HPKECiphertext{h.KEMOutput, h.Ciphertext})
			noError(t, err)
			equal(t, "plaintext", pt, h.Plaintext)
			pub, err := s.hpkePublic(h.Priv)
			noError(t, err)
			equal(t, "HPKE key", pub, h.Pub)
			ct, err := EncryptWithLabel(s.id, h.Pub, h.Label, h.Context, h.Plaintext)
			noError(t, err)
			pt, err = DecryptWithLabel(s.id, h.Priv, h.Label, h.Context, ct)
			noError(t, err)
			equal(t, "plaintext", pt, h.Plaintext)
		})
	}
}

func TestMessagesVectors(t *testing.T) {
	var cases []map[string]vectors.Hex
	vectors.Load(t, "mls", "messages.json", &cases)
	message := func(f WireFormat) func() wireValue {
		return func() wireValue { return &wantFormat{format: f} }
	}
	types := map[string]func() wireValue{
		"mls_welcome":                       message(WireWelcome),
		"mls_group_info":                    message(WireGroupInfo),
		"mls_key_package":                   message(WireKeyPackage),
		"private_message":                   message(WirePrivateMessage),
		"public_message_application":        message(WirePublicMessage),
		"public_message_proposal":           message(WirePublicMessage),
		"public_message_commit":             message(WirePublicMessage),
		"group_secrets":                     func() wireValue { return new(GroupSecrets) },
		"add_proposal":                      func() wireValue { return new(Add) },
		"update_proposal":                   func() wireValue { return new(Update) },
		"remove_proposal":                   func() wireValue { return new(Remove) },
		"pre_shared_key_proposal":           func() wireValue { return new(PreSharedKey) },
		"re_init_proposal":                  func() wireValue { return new(ReInit) },
		"external_init_proposal":            func() wireValue { return new(ExternalInit) },
		"group_context_extensions_proposal": func() wireValue { return new(GroupContextExtensions) },
		"commit":                            func() wireValue { return new(Commit) },
	}
	for i, c := range cases {
		for name, b := range c {
			if name == "ratchet_tree" {
				continue // see the tests of RatchetTree
			}
			newValue, ok := types[name]
			if !ok {
				t.Fatalf("case %d: unknown field %s", i, name)
			}
			v := newValue()
			if err := Unmarshal(b, v); err != nil {
				t.Fatalf("case %d: %s: %v", i, name, err)
			}
			out, err := Marshal(v)
			noError(t, err)
			equal(t, name, out, b)
			v = newValue()
			if len(b) > 0 && Unmarshal(b[:len(b)-1], v) == nil {
				t.Fatalf("case %d: truncated %s decodes", i, name)
			}
		}
	}
}

type wireValue interface {
	tlspl.Marshaler
	tlspl.Unmarshaler
}

// wantFormat is an MLSMessage that must have a certain wire format.
type wantFormat struct {
	MLSMessage
	format WireFormat
}

func (m *wantFormat) UnmarshalTLS(r *tlspl.Reader) {
	m.MLSMessage.UnmarshalTLS(r)
	if m.WireFormat != m.format {
		r.Failf("wire format %v; want %v", m.WireFormat, m.format)
	}
}

func TestDeserializationVectors(t *testing.T) {
	var cases []struct {
		Header vectors.Hex `json:"vlbytes_header"`
		Length int         `json:"length"`
	}
	vectors.Load(t, "mls", "deserialization.json", &cases)
	for _, c := range cases {
		r := tlspl.NewReader(c.Header)
		n := r.Varint()
		noError(t, r.Finish())
		if n != c.Length {
			t.Errorf("%x decodes to %d; want %d", []byte(c.Header), n, c.Length)
		}
	}
}
