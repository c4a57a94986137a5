package api

import (
	"crypto/rand"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

func FuzzKeyPackages(f *testing.F) {
	f.Add([]byte{0})
	signer, _, err := mls.GenerateSigner(1, rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	kp, _, err := mls.NewKeyPackage(mls.KeyPackageParams{
		CipherSuite: 1, Signer: signer, Credential: mls.Credential{Type: mls.CredentialBasic, Identity: []byte("alice")},
	})
	if err != nil {
		f.Fatal(err)
	}
	var w tlspl.Writer
	w.Vector(func(w *tlspl.Writer) { w.Value(kp) })
	seed, err := w.Bytes()
	if err != nil {
		f.Fatal(err)
	}
	var kps keyPackages
	if err := tlspl.Unmarshal(seed, &kps); err != nil || len(kps) != 1 {
		f.Fatalf("the seed holds %d KeyPackages: %v", len(kps), err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		var kps keyPackages
		if tlspl.Unmarshal(b, &kps) == nil && len(kps) > local.MaxKeyPackages {
			t.Fatalf("%d KeyPackages at once", len(kps))
		}
	})
}
