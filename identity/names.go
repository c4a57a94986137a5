package identity

import (
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// Limits on what a credential may hold. They are checked before parsing.
const (
	// MaxCertificate is the largest certificate in octets.
	MaxCertificate = 8 << 10
	// MaxChain is the largest number of certificates in a credential, with
	// the leaf and, if it is sent, the CA.
	MaxChain = 4
)

// Names are the identifiers that a certificate presents.
type Names struct {
	// Domain is the provider's domain.
	Domain string
	// User and Device are the URIs of a client; both are zero for a provider.
	User, Device mimi.URI
}

// IsClient reports whether n names a client, and not a provider.
func (n Names) IsClient() bool { return !n.Device.IsZero() }

// ClientURIs returns the user and device that a client's credential presents.
// It reads the names and verifies nothing: use it on credentials that a
// [Verifier] has accepted. It returns an error that matches ErrCredential or
// ErrNames, among others for a provider's credential.
func ClientURIs(cred *mls.Credential) (user, device mimi.URI, err error) {
	n, err := presented(cred)
	if err != nil {
		return mimi.URI{}, mimi.URI{}, err
	}
	if !n.IsClient() {
		return mimi.URI{}, mimi.URI{}, refuse(ErrNames, "credential of provider %s where a client's is needed", n.Domain)
	}
	return n.User, n.Device, nil
}

// ProviderDomain returns the domain that a provider's credential presents,
// under the conditions of [ClientURIs].
func ProviderDomain(cred *mls.Credential) (string, error) {
	n, err := presented(cred)
	if err != nil {
		return "", err
	}
	if n.IsClient() {
		return "", refuse(ErrNames, "credential of client %v where a provider's is needed", n.Device)
	}
	return n.Domain, nil
}

// presented returns the names in the leaf of cred.
func presented(cred *mls.Credential) (Names, error) {
	if err := checkChainSize(cred); err != nil {
		return Names{}, err
	}
	san, err := findSAN(cred.Certificates[0])
	if err != nil {
		return Names{}, err
	}
	return parseNames(san)
}

// checkChainSize checks the type of cred and the limits on its chain.
func checkChainSize(cred *mls.Credential) error {
	switch {
	case cred == nil:
		return refuse(ErrCredential, "no credential")
	case cred.Type != mls.CredentialX509:
		return refuse(ErrCredential, "type %v; only x509 is accepted", cred.Type)
	case len(cred.Certificates) == 0:
		return refuse(ErrCredential, "empty certificate chain")
	case len(cred.Certificates) > MaxChain:
		return refuse(ErrCredential, "chain of %d certificates; the limit is %d", len(cred.Certificates), MaxChain)
	}
	for _, der := range cred.Certificates {
		if len(der) > MaxCertificate {
			return refuse(ErrCredential, "certificate of %d octets; the limit is %d", len(der), MaxCertificate)
		}
	}
	return nil
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// findSAN returns the value of the critical subjectAltName extension of a
// certificate in DER. It looks at the outer structure only; crypto/x509 checks
// the rest where a certificate is verified.
//
//	Certificate  ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signature }
//	TBSCertificate ::= SEQUENCE { [0] version, serialNumber, signature, issuer,
//	    validity, subject, subjectPublicKeyInfo, [1] .. OPTIONAL, [2] .. OPTIONAL,
//	    [3] extensions }                              (RFC 5280 section 4.1)
func findSAN(der []byte) ([]byte, error) {
	malformed := func(what string) ([]byte, error) {
		return nil, refuse(ErrCredential, "malformed certificate (%s)", what)
	}
	in := cryptobyte.String(der)
	var cert, tbs, wrapped, exts cryptobyte.String
	if !in.ReadASN1(&cert, cbasn1.SEQUENCE) || !in.Empty() || !cert.ReadASN1(&tbs, cbasn1.SEQUENCE) {
		return malformed("outer structure")
	}
	if !tbs.SkipASN1(cbasn1.Tag(0).ContextSpecific().Constructed()) || // version
		!tbs.SkipASN1(cbasn1.INTEGER) || // serialNumber
		!tbs.SkipASN1(cbasn1.SEQUENCE) || // signature
		!tbs.SkipASN1(cbasn1.SEQUENCE) || // issuer
		!tbs.SkipASN1(cbasn1.SEQUENCE) || // validity
		!tbs.SkipASN1(cbasn1.SEQUENCE) || // subject
		!tbs.SkipASN1(cbasn1.SEQUENCE) || // subjectPublicKeyInfo
		!tbs.SkipOptionalASN1(cbasn1.Tag(1).ContextSpecific()) ||
		!tbs.SkipOptionalASN1(cbasn1.Tag(2).ContextSpecific()) {
		return malformed("fields")
	}
	var present bool
	if !tbs.ReadOptionalASN1(&wrapped, &present, cbasn1.Tag(3).ContextSpecific().Constructed()) || !tbs.Empty() {
		return malformed("fields")
	}
	if !present {
		return nil, refuse(ErrNames, "no subjectAltName")
	}
	if !wrapped.ReadASN1(&exts, cbasn1.SEQUENCE) || !wrapped.Empty() {
		return malformed("extensions")
	}
	var san []byte
	for !exts.Empty() {
		var ext, value cryptobyte.String
		var id asn1.ObjectIdentifier
		var critical bool
		if !exts.ReadASN1(&ext, cbasn1.SEQUENCE) || !ext.ReadASN1ObjectIdentifier(&id) {
			return malformed("extensions")
		}
		if ext.PeekASN1Tag(cbasn1.BOOLEAN) && !ext.ReadASN1Boolean(&critical) {
			return malformed("extensions")
		}
		if !ext.ReadASN1(&value, cbasn1.OCTET_STRING) || !ext.Empty() {
			return malformed("extensions")
		}
		if !id.Equal(oidSubjectAltName) {
			continue
		}
		if san != nil {
			return nil, refuse(ErrNames, "two subjectAltName extensions")
		}
		if !critical {
			return nil, refuse(ErrNames, "subjectAltName is not critical")
		}
		san = value
	}
	if san == nil {
		return nil, refuse(ErrNames, "no subjectAltName")
	}
	return san, nil
}

// parseNames reads a subjectAltName value (RFC 5280 section 4.2.1.6). It holds
// one provider URI, or one user and one device URI of one domain, and no name
// of another kind.
func parseNames(san []byte) (Names, error) {
	in := cryptobyte.String(san)
	var list cryptobyte.String
	if !in.ReadASN1(&list, cbasn1.SEQUENCE) || !in.Empty() {
		return Names{}, refuse(ErrNames, "malformed subjectAltName")
	}
	var user, device, provider mimi.URI
	for count := 0; !list.Empty(); count++ {
		if count == 2 {
			return Names{}, refuse(ErrNames, "more than two names in subjectAltName")
		}
		var name cryptobyte.String
		var tag cbasn1.Tag
		if !list.ReadAnyASN1(&name, &tag) {
			return Names{}, refuse(ErrNames, "malformed subjectAltName")
		}
		if tag != cbasn1.Tag(6).ContextSpecific() {
			return Names{}, refuse(ErrNames, "a name in subjectAltName is not a URI")
		}
		uri, err := parseCanonical(name)
		if err != nil {
			return Names{}, err
		}
		slot := &provider
		switch uri.Kind() {
		case mimi.KindUser:
			slot = &user
		case mimi.KindClient:
			slot = &device
		case mimi.KindProvider:
		default:
			return Names{}, refuse(ErrNames, "%v names neither a user, a device nor a provider", uri)
		}
		if !slot.IsZero() {
			return Names{}, refuse(ErrNames, "%v and %v in one certificate", *slot, uri)
		}
		*slot = uri
	}
	switch {
	case !provider.IsZero() && user.IsZero() && device.IsZero():
		return Names{Domain: provider.Domain()}, nil
	case !provider.IsZero():
		return Names{}, refuse(ErrNames, "a provider and a client in one certificate")
	case user.IsZero() || device.IsZero():
		return Names{}, refuse(ErrNames, "one user (/u/) and one device (/d/) URI are needed")
	case user.Domain() != device.Domain():
		return Names{}, refuse(ErrNames, "user %v and device %v are of different domains", user, device)
	}
	return Names{Domain: user.Domain(), User: user, Device: device}, nil
}

// parseCanonical parses a name, which must be in canonical form so that no
// other reader of the certificate can understand it differently.
func parseCanonical(name []byte) (mimi.URI, error) {
	if len(name) > mimi.MaxURI {
		return mimi.URI{}, refuse(ErrNames, "URI of %d octets; the limit is %d", len(name), mimi.MaxURI)
	}
	uri, err := mimi.ParseURI(string(name))
	if err != nil {
		return mimi.URI{}, refuse(ErrNames, "%q is not a MIMI URI: %w", name, err)
	}
	if uri.String() != string(name) {
		return mimi.URI{}, refuse(ErrNames, "%q is not in canonical form; want %q", name, uri)
	}
	return uri, nil
}

// checkDomain reports whether domain is a provider domain in canonical form.
func checkDomain(domain string) error {
	canonical, err := mimi.ParseDomain(domain)
	if err != nil {
		return err
	}
	if canonical != domain {
		return fmt.Errorf("provider domain %q is not in canonical form; use %q", domain, canonical)
	}
	return nil
}
