package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of the signature schemes
	_ "crypto/sha512"
	"crypto/tls"
	"fmt"

	"github.com/comity-im/comity/mls"
)

// PublicKey returns the signature key of cipher suite s from its MLS encoding
// (RFC 9420 section 5.1.1), in the form that crypto/x509 takes.
func PublicKey(s mls.CipherSuite, raw []byte) (crypto.PublicKey, error) {
	var curve elliptic.Curve
	switch s {
	case mls.X25519AES128SHA256Ed25519, mls.X25519ChaCha20SHA256Ed25519:
		if len(raw) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("identity: Ed25519 public key of %d octets; want %d", len(raw), ed25519.PublicKeySize)
		}
		return ed25519.PublicKey(raw), nil
	case mls.P256AES128SHA256P256:
		curve = elliptic.P256()
	case mls.P384AES256SHA384P384:
		curve = elliptic.P384()
	case mls.P521AES256SHA512P521:
		curve = elliptic.P521()
	default:
		return nil, fmt.Errorf("identity: no certificates for keys of cipher suite %v", s)
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, raw)
	if err != nil {
		return nil, fmt.Errorf("identity: public key is not a point of curve %s", curve.Params().Name)
	}
	return pub, nil
}

// rawKey returns the MLS encoding of a signature key. The encodings of
// different algorithms differ in length, so an equal encoding is an equal key.
func rawKey(pub crypto.PublicKey) ([]byte, error) {
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		return pub, nil
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return pub.Bytes()
		}
		return nil, refuse(ErrProfile, "key on curve %s, which no cipher suite uses", pub.Curve.Params().Name)
	}
	return nil, refuse(ErrProfile, "key of type %T, which no cipher suite uses", pub)
}

// checkIssuerKey reports whether an issuer's key is strong enough, and cheap
// enough to verify with.
func checkIssuerKey(pub crypto.PublicKey) error {
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		if pub.Curve.Params().BitSize >= 256 {
			return nil
		}
	case *rsa.PublicKey:
		if n := pub.N.BitLen(); n >= 2048 && n <= 4096 {
			return nil
		}
	}
	return refuse(ErrProfile, "issuer key is not ECDSA (P-256 or larger), Ed25519, or RSA of 2048 to 4096 bits")
}

// schemeOf returns the one signature scheme this package uses with a key, from
// the registry of TLS 1.3 (RFC 8446 section 4.2.3), and its hash.
func schemeOf(pub crypto.PublicKey) (tls.SignatureScheme, crypto.Hash, error) {
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		return tls.Ed25519, 0, nil
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			return tls.ECDSAWithP256AndSHA256, crypto.SHA256, nil
		case elliptic.P384():
			return tls.ECDSAWithP384AndSHA384, crypto.SHA384, nil
		case elliptic.P521():
			return tls.ECDSAWithP521AndSHA512, crypto.SHA512, nil
		}
	case *rsa.PublicKey:
		if checkIssuerKey(pub) == nil {
			return tls.PSSWithSHA256, crypto.SHA256, nil
		}
	}
	return 0, 0, fmt.Errorf("identity: no signature scheme for a key of type %T", pub)
}

// domainSeparated returns what is signed with a key that has other uses too:
// 64 spaces, the label and a zero octet precede the content, as in TLS 1.3
// (RFC 8446 section 4.4.3), so that no TLS message and no certificate can be
// taken for it.
func domainSeparated(label string, content []byte) []byte {
	const pad = 64
	b := make([]byte, 0, pad+len(label)+1+len(content))
	for range pad {
		b = append(b, ' ')
	}
	b = append(b, label...)
	b = append(b, 0)
	return append(b, content...)
}

// signWith signs content under label.
func signWith(key crypto.Signer, label string, content []byte) (tls.SignatureScheme, []byte, error) {
	scheme, hash, err := schemeOf(key.Public())
	if err != nil {
		return 0, nil, err
	}
	input := domainSeparated(label, content)
	var opts crypto.SignerOpts = hash
	if hash != 0 {
		h := hash.New()
		h.Write(input)
		input = h.Sum(nil)
	}
	if scheme == tls.PSSWithSHA256 {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	sig, err := key.Sign(rand.Reader, input, opts)
	if err != nil {
		return 0, nil, fmt.Errorf("identity: sign %s: %w", label, err)
	}
	return scheme, sig, nil
}

// verifyWith checks a signature of signWith. The scheme must be the one of
// the key.
func verifyWith(pub crypto.PublicKey, scheme tls.SignatureScheme, label string, content, sig []byte) error {
	want, hash, err := schemeOf(pub)
	if err != nil {
		return err
	}
	if scheme != want {
		return fmt.Errorf("identity: signature scheme 0x%04X does not fit the key; want 0x%04X", uint16(scheme), uint16(want))
	}
	input := domainSeparated(label, content)
	if hash != 0 {
		h := hash.New()
		h.Write(input)
		input = h.Sum(nil)
	}
	ok := false
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		ok = ed25519.Verify(pub, input, sig)
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(pub, input, sig)
	case *rsa.PublicKey:
		ok = rsa.VerifyPSS(pub, hash, input, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	}
	if !ok {
		return fmt.Errorf("identity: invalid signature on %s", label)
	}
	return nil
}
