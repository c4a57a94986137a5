package identity

import (
	"bytes"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mls"
)

// Whatever is parsed encodes to what was read.
func FuzzAnchorStatement(f *testing.F) {
	web := newWebPKI(f)
	ca := mustCA(f, "a.example")
	for _, ca := range []*CA{ca, mustRotate(f, mustRotate(f, ca))} {
		f.Add(encode(f, mustSign(f, web.certificate(f, "a.example", nil, nil), ca)))
	}
	f.Add([]byte{})
	f.Add([]byte{0, 1, 9, 'a', '.', 'e', 'x', 'a', 'm', 'p', 'l', 'e', 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseAnchorStatement(b)
		if err != nil {
			if !errors.Is(err, ErrAnchor) {
				t.Fatalf("error %v does not match ErrAnchor", err)
			}
			return
		}
		if again := encode(t, s); !bytes.Equal(again, b) {
			t.Fatalf("encodes to %x", again)
		}
		s.tbs = nil // now from the fields
		if again := encode(t, s); !bytes.Equal(again, b) {
			t.Fatalf("fields encode to %x", again)
		}
		if _, err := s.Verify(web.roots, testNow); err != nil && !errors.Is(err, ErrAnchor) {
			t.Fatalf("error %v does not match ErrAnchor", err)
		}
	})
}

// The reader of names agrees with crypto/x509, and what it accepts is
// canonical.
func FuzzNames(f *testing.F) {
	root := newTestCA(f, caTemplate("root", "a.example"), nil, nil)
	_, pub := newDeviceKey(f, mls.X25519AES128SHA256Ed25519)
	for _, names := range [][]generalName{
		uris("mimi://a.example/u/alice", "mimi://a.example/d/1"),
		uris("mimi://a.example"),
		uris("mimi://a.example/u/alice", "mimi://b.example/d/1"),
		{{2, "a.example"}, {6, "mimi://a.example"}},
		nil,
	} {
		spec := goodLeaf(root, pub)
		spec.names = names
		f.Add(spec.mint(f))
	}
	f.Add(root.cert.Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		c := mls.X509Credential(der)
		names, err := presented(&c)
		cert, parseErr := x509.ParseCertificate(der)
		if err != nil || parseErr != nil {
			return
		}
		var san []byte
		for _, e := range cert.Extensions {
			if e.Id.Equal(oidSubjectAltName) {
				san = e.Value
				if !e.Critical {
					t.Fatal("accepted names that are not critical")
				}
			}
		}
		if found, err := findSAN(der); err != nil || !bytes.Equal(found, san) {
			t.Fatalf("found %x, crypto/x509 %x", found, san)
		}
		if len(cert.DNSNames)+len(cert.EmailAddresses)+len(cert.IPAddresses) != 0 || len(cert.URIs) == 0 || len(cert.URIs) > 2 {
			t.Fatalf("accepted names that the profile does not allow")
		}
		if names.IsClient() != (len(cert.URIs) == 2) {
			t.Fatalf("%v from %v", names, cert.URIs)
		}
		for _, u := range cert.URIs {
			if u.Host != names.Domain {
				t.Fatalf("domain %s, crypto/x509 reads %s", names.Domain, u.Host)
			}
		}
	})
}

// The reader of subjectAltName values never accepts more than the profile.
func FuzzSubjectAltName(f *testing.F) {
	for _, names := range [][]generalName{
		uris("mimi://a.example/u/alice", "mimi://a.example/d/1"),
		uris("mimi://a.example"),
		uris("mimi://a.example/u/alice", "mimi://a.example/u/alice"),
		{{0, "x"}, {6, "mimi://a.example"}},
	} {
		f.Add(sanExtension(f, true, names).Value)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		n, err := parseNames(value)
		if err != nil {
			if !errors.Is(err, ErrNames) {
				t.Fatalf("error %v does not match ErrNames", err)
			}
			return
		}
		if n.IsClient() && (n.User.Domain() != n.Domain || n.Device.Domain() != n.Domain) || n.Domain == "" {
			t.Fatalf("names %v", n)
		}
		one := uris(n.Device.String(), n.User.String())
		two := uris(n.User.String(), n.Device.String())
		if !n.IsClient() {
			one = uris("mimi://" + n.Domain)
			two = one
		}
		if !bytes.Equal(value, sanExtension(t, true, one).Value) && !bytes.Equal(value, sanExtension(t, true, two).Value) {
			t.Fatalf("%x is not the encoding of %v", value, n)
		}
	})
}

// A stored CA that is accepted can be stored again.
func FuzzParseCA(f *testing.F) {
	ca := mustCA(f, "a.example")
	for _, ca := range []*CA{ca, mustRotate(f, ca)} {
		text, err := ca.MarshalPEM()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		ca, err := ParseCA(text)
		if err != nil {
			if !errors.Is(err, ErrCA) {
				t.Fatalf("error %v does not match ErrCA", err)
			}
			return
		}
		first, err := ca.MarshalPEM()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseCA(first)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := again.MarshalPEM(); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("not stable; %v", err)
		}
	})
}

var _ tlspl.Unmarshaler = (*AnchorStatement)(nil)
