package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
)

// Fingerprint returns the SHA-256 of a certificate's public key
// (SubjectPublicKeyInfo) in hexadecimal, for comparing CAs by other means. It
// stays the same when a certificate is renewed with its key.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// SafetyNumber returns 60 digits, in twelve groups of five, that two people
// compare to be sure that no key of user was put there by someone else. It
// covers the CA of the user's domain, the user, and the signature keys of all
// of the user's devices in their MLS encoding, in any order; so it changes
// when a device comes or goes.
//
//	struct {
//	    opaque label<V> = "Comity Safety Number 1";
//	    opaque ca_spki<V>;      DER
//	    opaque user<V>;
//	    opaque key<V> keys<V>;  sorted, without duplicates
//	} SafetyNumber;             its SHA-256, modulo 10^60
func SafetyNumber(ca *x509.Certificate, user mimi.URI, keys [][]byte) (string, error) {
	if !user.Is(mimi.KindUser) || len(keys) == 0 {
		return "", fmt.Errorf("identity: a safety number needs a user and at least one key")
	}
	sorted := slices.Clone(keys)
	slices.SortFunc(sorted, bytes.Compare)
	sorted = slices.CompactFunc(sorted, bytes.Equal)
	var w tlspl.Writer
	w.Opaque([]byte("Comity Safety Number 1"))
	w.Opaque(ca.RawSubjectPublicKeyInfo)
	w.Value(user)
	tlspl.WriteVector(&w, sorted, func(w *tlspl.Writer, b *[]byte) { w.Opaque(*b) })
	input, err := w.Bytes()
	if err != nil {
		return "", fmt.Errorf("identity: safety number: %w", err)
	}
	sum := sha256.Sum256(input)
	n := new(big.Int).SetBytes(sum[:])
	n.Mod(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(60), nil))
	digits := fmt.Sprintf("%060d", n)
	var groups []string
	for i := 0; i < len(digits); i += 5 {
		groups = append(groups, digits[i:i+5])
	}
	return strings.Join(groups, " "), nil
}
