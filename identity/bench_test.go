package identity

import (
	"testing"

	"github.com/comity-im/comity/mls"
)

func BenchmarkVerify(b *testing.B) {
	ca := mustCA(b, "a.example")
	anchors := StaticAnchors{"a.example": ca.Anchor()}
	c, key := issue(b, ca, aliceDevice, mls.X25519AES128SHA256Ed25519)
	for name, v := range map[string]*Verifier{
		"cold":   {Anchors: anchors, CacheSize: -1},
		"cached": {Anchors: anchors},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := v.VerifyCredential(&c, key, testNow); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkClientURIs(b *testing.B) {
	c, _ := issue(b, mustCA(b, "a.example"), aliceDevice, mls.X25519AES128SHA256Ed25519)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ClientURIs(&c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIssueDevice(b *testing.B) {
	ca := mustCA(b, "a.example")
	_, pub := newDeviceKey(b, mls.X25519AES128SHA256Ed25519)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ca.IssueDevice(alice, aliceDevice, pub, MaxDeviceValidity, testNow); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStatementVerify(b *testing.B) {
	web := newWebPKI(b)
	s := mustSign(b, web.certificate(b, "a.example", nil, nil), mustCA(b, "a.example"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Verify(web.roots, testNow); err != nil {
			b.Fatal(err)
		}
	}
}
