package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/comity-im/comity/mimi"
)

const (
	caValidity = 10 * 365 * 24 * time.Hour
	// backdate lets verifiers whose clocks are behind accept a new
	// certificate. It is part of the validity.
	backdate = time.Hour
)

// A CA certifies the devices of one provider. It holds an ECDSA P-256 key in
// memory. It is immutable.
type CA struct {
	domain   string
	key      crypto.Signer
	cert     *x509.Certificate
	previous []retired // the one before first
}

// retired is an earlier CA whose devices are still accepted.
type retired struct {
	cert *x509.Certificate
	// scheme and endorsement are of this CA's key over the CA after it.
	scheme      tls.SignatureScheme
	endorsement []byte
}

// NewCA makes a CA for domain with a new key, valid for ten years. Save it
// before anything is issued with it.
func NewCA(domain string, now time.Time) (*CA, error) {
	if err := checkDomain(domain); err != nil {
		return nil, refuse(ErrCA, "%w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, refuse(ErrCA, "generate a key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, refuse(ErrCA, "encode the key: %w", err)
	}
	id := sha256.Sum256(spki)
	template := &x509.Certificate{
		SerialNumber: serial,
		// The key in the name keeps successive CAs of a domain apart.
		Subject:                     pkix.Name{CommonName: "MIMI device CA " + hex.EncodeToString(id[:8])},
		NotBefore:                   now.Add(-24 * time.Hour),
		NotAfter:                    now.Add(caValidity),
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLenZero:              true,
		SubjectKeyId:                id[:20],
		PermittedDNSDomainsCritical: true, // of the whole name constraint
		PermittedURIDomains:         []string{domain},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, refuse(ErrCA, "%w", err)
	}
	return newCA(domain, key, der, nil)
}

// newCA puts a CA together from parts that may be damaged.
func newCA(domain string, key crypto.Signer, der []byte, previous []retired) (*CA, error) {
	cert, err := parseCertificate(der)
	if err != nil {
		return nil, refuse(ErrCA, "%w", err)
	}
	if err := CheckCA(cert, domain); err != nil {
		return nil, refuse(ErrCA, "%w", err)
	}
	pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(key.Public()) {
		return nil, refuse(ErrCA, "the key is not that of the certificate")
	}
	newer := cert
	for _, r := range previous {
		if err := CheckCA(r.cert, domain); err != nil {
			return nil, refuse(ErrCA, "earlier CA: %w", err)
		}
		if err := verifyWith(r.cert.PublicKey, r.scheme, labelEndorsement, endorsementTBS(domain, newer.Raw), r.endorsement); err != nil {
			return nil, refuse(ErrCA, "endorsement by an earlier CA: %w", err)
		}
		newer = r.cert
	}
	return &CA{domain, key, cert, previous}, nil
}

// Rotate makes a CA with a new key that follows ca. The new one states ca
// among its predecessors, with ca's endorsement, so that pins move along and
// devices certified so far stay valid. At most MaxCAs are kept, the oldest is
// dropped. Once the new CA is saved, ca should be destroyed.
func (ca *CA) Rotate(now time.Time) (*CA, error) {
	next, err := NewCA(ca.domain, now)
	if err != nil {
		return nil, err
	}
	scheme, sig, err := signWith(ca.key, labelEndorsement, endorsementTBS(ca.domain, next.cert.Raw))
	if err != nil {
		return nil, err
	}
	next.previous = append([]retired{{ca.cert, scheme, sig}}, ca.previous...)
	if len(next.previous) > MaxCAs-1 {
		next.previous = next.previous[:MaxCAs-1]
	}
	return next, nil
}

// DropPrevious returns ca without its predecessors. Devices that they
// certified are no longer accepted by anyone who sees the next statement, and
// pins on them do not move along any more: wait until every peer had time to
// see the rotation, that is MaxDeviceValidity.
func (ca *CA) DropPrevious() *CA { return &CA{ca.domain, ca.key, ca.cert, nil} }

// Domain returns the provider's domain.
func (ca *CA) Domain() string { return ca.domain }

// Certificate returns the CA's certificate.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// Anchor returns the CA and its predecessors, for verifying the provider's own
// devices.
func (ca *CA) Anchor() *Anchor {
	a := &Anchor{Domain: ca.domain, Certificates: []*x509.Certificate{ca.cert}}
	for _, r := range ca.previous {
		a.endorsed = append(a.endorsed, true)
		a.Certificates = append(a.Certificates, r.cert)
	}
	a.endorsed = append(a.endorsed, false)
	return a
}

// stated returns the CAs for a statement, without those whose time is over.
func (ca *CA) stated(now time.Time) []StatedCA {
	list := []StatedCA{{Certificate: ca.cert.Raw}}
	for i, r := range ca.previous {
		if checkTime(r.cert, now) != nil {
			break
		}
		list[i].Scheme, list[i].Endorsement = r.scheme, r.endorsement
		list = append(list, StatedCA{Certificate: r.cert.Raw})
	}
	return list
}

// IssueDevice certifies that a device belongs to a user. Both URIs are of the
// CA's domain. pub is the device's MLS signature key (see [PublicKey]); the
// caller has checked that the device holds its private part and that it is
// the user's. The certificate is valid from an hour ago, for the given time in
// all: more than an hour, at most MaxDeviceValidity. It returns DER.
func (ca *CA) IssueDevice(user, device mimi.URI, pub crypto.PublicKey, validity time.Duration, now time.Time) ([]byte, error) {
	switch {
	case !user.Is(mimi.KindUser) || !device.Is(mimi.KindClient):
		return nil, refuse(ErrCA, "%q and %q are not a user and a device", user, device)
	case user.Domain() != ca.domain || device.Domain() != ca.domain:
		return nil, refuse(ErrCA, "%v and %v are not both of %s", user, device, ca.domain)
	case validity <= backdate || validity > MaxDeviceValidity:
		return nil, refuse(ErrCA, "validity of %v; choose more than %v, up to %v", validity, backdate, MaxDeviceValidity)
	}
	return ca.issue(pub, now.Add(-backdate), now.Add(validity-backdate), device.String(), user.String())
}

// IssueProvider certifies the signature key that the provider uses as external
// sender of groups. The certificate is valid as long as the CA, because rooms
// name it for as long as they exist. It returns DER.
func (ca *CA) IssueProvider(pub crypto.PublicKey, now time.Time) ([]byte, error) {
	uri, err := mimi.NewURI(mimi.KindProvider, ca.domain, "")
	if err != nil {
		return nil, refuse(ErrCA, "%w", err)
	}
	return ca.issue(pub, now.Add(-backdate), ca.cert.NotAfter, uri.String())
}

func (ca *CA) issue(pub crypto.PublicKey, notBefore, notAfter time.Time, uris ...string) ([]byte, error) {
	if _, err := rawKey(pub); err != nil {
		return nil, refuse(ErrCA, "%w", err)
	}
	if notBefore.Before(ca.cert.NotBefore) {
		notBefore = ca.cert.NotBefore
	}
	if notAfter.After(ca.cert.NotAfter) {
		notAfter = ca.cert.NotAfter
	}
	if !notBefore.Before(notAfter) {
		return nil, refuse(ErrCA, "the CA of %s expired at %s; rotate it", ca.domain, ca.cert.NotAfter.UTC().Format(time.RFC3339))
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	san, err := marshalSAN(uris)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		ExtraExtensions:       []pkix.Extension{{Id: oidSubjectAltName, Critical: true, Value: san}},
	}, ca.cert, pub, ca.key)
	if err != nil {
		return nil, refuse(ErrCA, "%w", err)
	}
	if len(der) > MaxCertificate {
		return nil, refuse(ErrCA, "certificate of %d octets; the limit is %d", len(der), MaxCertificate)
	}
	return der, nil
}

// marshalSAN encodes a subjectAltName of URIs. crypto/x509 would re-encode
// them by the rules of net/url.
func marshalSAN(uris []string) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, u := range uris {
			b.AddASN1(cbasn1.Tag(6).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(u)) })
		}
	})
	san, err := b.Bytes()
	if err != nil {
		return nil, refuse(ErrCA, "encode names: %w", err)
	}
	return san, nil
}

// newSerial returns a random serial number of 127 bits.
func newSerial() (*big.Int, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, refuse(ErrCA, "randomness: %w", err)
	}
	b[0] &= 0x7f
	b[15] |= 1 // never zero
	return new(big.Int).SetBytes(b[:]), nil
}
