package identity

import (
	"crypto/x509"
	"errors"
	"time"
)

// The longest validity of certificates.
const (
	// MaxDeviceValidity is that of a device's certificate.
	MaxDeviceValidity = 90 * 24 * time.Hour
	// MaxCAValidity is that of a CA, and so of a provider's certificate.
	MaxCAValidity = 20 * 366 * 24 * time.Hour
)

// parseCertificate parses one certificate of at most MaxCertificate octets.
func parseCertificate(der []byte) (*x509.Certificate, error) {
	if len(der) > MaxCertificate {
		return nil, refuse(ErrCredential, "certificate of %d octets; the limit is %d", len(der), MaxCertificate)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, refuse(ErrCredential, "malformed certificate: %w", err)
	}
	return cert, nil
}

// checkLeaf checks the rules of the profile that concern the leaf alone, but
// not its names.
func checkLeaf(cert *x509.Certificate, names Names) error {
	limit := MaxCAValidity
	if names.IsClient() {
		limit = MaxDeviceValidity
	}
	switch {
	case cert.Version != 3:
		return refuse(ErrProfile, "certificate version %d; want 3", cert.Version)
	case cert.IsCA:
		return refuse(ErrProfile, "the leaf is a CA")
	case cert.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return refuse(ErrProfile, "key usage lacks digitalSignature")
	case cert.KeyUsage&^(x509.KeyUsageDigitalSignature|x509.KeyUsageKeyAgreement) != 0:
		return refuse(ErrProfile, "key usage allows more than digitalSignature and keyAgreement")
	case len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || len(cert.UnknownExtKeyUsage) != 0:
		return refuse(ErrProfile, "extended key usage is not exactly clientAuth")
	case len(cert.UnhandledCriticalExtensions) != 0:
		return refuse(ErrProfile, "unknown critical extension %v", cert.UnhandledCriticalExtensions[0])
	case cert.NotAfter.Before(cert.NotBefore):
		return refuse(ErrProfile, "the validity ends before it starts")
	case cert.NotAfter.Sub(cert.NotBefore) > limit:
		return refuse(ErrProfile, "valid for %v; the limit is %v", cert.NotAfter.Sub(cert.NotBefore), limit)
	}
	return nil
}

// checkIssuer checks an intermediate's or CA's key and extensions. Whether it
// may certify is checked by crypto/x509 when it builds the chain.
func checkIssuer(cert *x509.Certificate) error {
	if err := checkIssuerKey(cert.PublicKey); err != nil {
		return err
	}
	if len(cert.UnhandledCriticalExtensions) != 0 {
		return refuse(ErrProfile, "unknown critical extension %v in an issuer", cert.UnhandledCriticalExtensions[0])
	}
	return nil
}

// CheckCA reports whether cert can be the CA of domain: a CA certificate with
// a critical name constraint that permits the URIs of that domain only. It
// does not look at the time, nor at who vouches for the certificate. The error
// matches ErrAnchor.
func CheckCA(cert *x509.Certificate, domain string) error {
	if err := checkDomain(domain); err != nil {
		return refuse(ErrAnchor, "%w", err)
	}
	if err := checkIssuer(cert); err != nil {
		return refuse(ErrAnchor, "%w", err)
	}
	switch {
	case len(cert.Raw) > MaxCertificate:
		return refuse(ErrAnchor, "CA certificate of %d octets; the limit is %d", len(cert.Raw), MaxCertificate)
	case cert.Version != 3 || !cert.BasicConstraintsValid || !cert.IsCA:
		return refuse(ErrAnchor, "not a CA certificate")
	case cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return refuse(ErrAnchor, "key usage of the CA lacks keyCertSign")
	case cert.NotAfter.Sub(cert.NotBefore) > MaxCAValidity:
		return refuse(ErrAnchor, "CA is valid for %v; the limit is %v", cert.NotAfter.Sub(cert.NotBefore), MaxCAValidity)
	case !cert.PermittedDNSDomainsCritical || len(cert.PermittedURIDomains) == 0:
		return refuse(ErrAnchor, "CA has no critical name constraint that permits URIs of %s", domain)
	}
	for _, d := range cert.PermittedURIDomains {
		if d != domain {
			return refuse(ErrAnchor, "name constraint of the CA permits URIs of %s, not of %s alone", d, domain)
		}
	}
	return nil
}

// checkTime checks the validity of cert.
func checkTime(cert *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(cert.NotBefore):
		return refuse(ErrExpired, "not valid before %s", cert.NotBefore.UTC().Format(time.RFC3339))
	case now.After(cert.NotAfter):
		return refuse(ErrExpired, "not valid after %s", cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// chainTo checks that chain (leaf first) is certified, in the order given, by
// one of the CAs at the time now, and returns that CA.
func chainTo(chain, cas []*x509.Certificate, now time.Time) (*x509.Certificate, error) {
	last := chain[len(chain)-1]
	var firstErr error
	for _, ca := range cas {
		sent := chain
		if len(chain) > 1 && last.Equal(ca) {
			sent = chain[:len(chain)-1] // the CA itself was sent along
		}
		err := chainToOne(sent, ca, now)
		if err == nil {
			return ca, nil
		}
		// The answer of the CA that the chain claims tells most.
		if firstErr == nil || string(sent[len(sent)-1].RawIssuer) == string(ca.RawSubject) {
			firstErr = err
		}
	}
	if firstErr == nil {
		firstErr = refuse(ErrUntrusted, "the domain has no CA")
	}
	return nil, firstErr
}

func chainToOne(chain []*x509.Certificate, ca *x509.Certificate, now time.Time) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(ca)
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	found, err := chain[0].Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
			return refuse(ErrExpired, "an issuer: %w", err)
		}
		return refuse(ErrUntrusted, "%w", err)
	}
	for _, path := range found {
		if len(path) != len(chain)+1 {
			continue
		}
		same := true
		for i, c := range chain {
			same = same && path[i].Equal(c)
		}
		if same {
			return nil
		}
	}
	return refuse(ErrUntrusted, "the chain is not in order, or holds certificates that do not belong to it")
}
