package identity

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/comity-im/comity/internal/tlspl"
)

// Limits on an anchor statement.
const (
	// MaxStatement is the largest encoding in octets.
	MaxStatement = 128 << 10
	// MaxCAs is the largest number of CAs of one domain.
	MaxCAs = 4
	// MaxStatementValidity is the longest time a statement may be used.
	MaxStatementValidity = 30 * 24 * time.Hour
	// DefaultStatementValidity is a good lifetime: short enough that a CA which
	// was dropped is soon forgotten, long enough to survive an outage.
	DefaultStatementValidity = 7 * 24 * time.Hour

	maxTLSChain       = 8
	maxTLSCertificate = 16 << 10
	maxSignature      = 1024
	statementSkew     = 5 * time.Minute // how wrong a verifier's clock may be
)

// The labels under which statements are signed.
const (
	labelAnchor      = "Comity Anchor"
	labelEndorsement = "Comity Anchor Endorsement"
)

// anchorVersion is the version of the statement's form.
const anchorVersion = 1

// A StatedCA is a CA in an anchor statement, with the endorsement of the key
// of the CA that follows it, which is the one that issued before:
//
//	struct {
//	    opaque certificate<V>;             DER
//	    optional<Endorsement> endorsement;
//	} StatedCA;
//
//	struct {
//	    SignatureScheme scheme;            RFC 8446 section 4.2.3
//	    opaque signature<V>;               over EndorsementTBS
//	} Endorsement;
//
//	struct {
//	    opaque domain<V>;
//	    opaque certificate<V>;             of the endorsed CA
//	} EndorsementTBS;                      label "Comity Anchor Endorsement"
type StatedCA struct {
	Certificate []byte
	Scheme      tls.SignatureScheme // 0 if there is no endorsement
	Endorsement []byte
}

// MarshalTLS implements tlspl.Marshaler.
func (c StatedCA) MarshalTLS(w *tlspl.Writer) {
	w.Opaque(c.Certificate)
	w.Optional(c.Scheme != 0, func(w *tlspl.Writer) {
		w.Uint16(uint16(c.Scheme))
		w.Opaque(c.Endorsement)
	})
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (c *StatedCA) UnmarshalTLS(r *tlspl.Reader) {
	*c = StatedCA{Certificate: r.Opaque(MaxCertificate)}
	if r.Optional() {
		c.Scheme = tls.SignatureScheme(r.Uint16())
		if c.Scheme == 0 {
			r.Failf("signature scheme 0")
		}
		c.Endorsement = r.Opaque(maxSignature)
	}
}

func endorsementTBS(domain string, certificate []byte) []byte {
	w := tlspl.NewWriter(make([]byte, 0, len(domain)+len(certificate)+8))
	w.Opaque([]byte(domain))
	w.Opaque(certificate)
	b, err := w.Bytes()
	if err != nil { // both are far below the limit of a vector
		panic(err)
	}
	return b
}

// An AnchorStatement says which CAs certify the devices of a domain. The
// provider signs it with the key of its TLS certificate, so whoever can tell
// that a TLS server is the provider's can tell that the statement is.
//
//	struct {
//	    uint16 version = 1;
//	    opaque domain<V>;
//	    StatedCA cas<V>;                   the current one first
//	    uint64 not_before;                 seconds since 1970
//	    uint64 not_after;
//	    opaque certificate<V> tls_chain<V>;  DER, leaf first
//	    SignatureScheme scheme;            RFC 8446 section 4.2.3
//	} AnchorTBS;                           label "Comity Anchor"
//
//	struct {
//	    AnchorTBS tbs;
//	    opaque signature<V>;
//	} AnchorStatement;
//
// A signature covers 64 spaces, the label, a zero octet and the encoded
// structure, as in RFC 8446 section 4.4.3. What a statement says is not
// believed before [AnchorStatement.Verify].
type AnchorStatement struct {
	Domain              string
	CAs                 []StatedCA
	NotBefore, NotAfter uint64
	Chain               [][]byte
	Scheme              tls.SignatureScheme
	Signature           []byte

	tbs []byte // as received or signed
}

// MarshalTLS implements tlspl.Marshaler. A statement that was signed or
// received is written as it was.
func (s *AnchorStatement) MarshalTLS(w *tlspl.Writer) {
	if s.tbs != nil {
		w.Raw(s.tbs)
	} else {
		s.marshalTBS(w)
	}
	w.Opaque(s.Signature)
}

func (s *AnchorStatement) marshalTBS(w *tlspl.Writer) {
	w.Uint16(anchorVersion)
	w.Opaque([]byte(s.Domain))
	tlspl.WriteVector(w, s.CAs, func(w *tlspl.Writer, c *StatedCA) { c.MarshalTLS(w) })
	w.Uint64(s.NotBefore)
	w.Uint64(s.NotAfter)
	tlspl.WriteVector(w, s.Chain, func(w *tlspl.Writer, b *[]byte) { w.Opaque(*b) })
	w.Uint16(uint16(s.Scheme))
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (s *AnchorStatement) UnmarshalTLS(r *tlspl.Reader) {
	*s = AnchorStatement{}
	start := r.Offset()
	if v := r.Uint16(); r.Err() == nil && v != anchorVersion {
		r.Failf("anchor statement of version %d; this program knows %d", v, anchorVersion)
	}
	s.Domain = string(r.Opaque(253))
	s.CAs = tlspl.ReadVector(r, MaxCAs, func(r *tlspl.Reader, c *StatedCA) { c.UnmarshalTLS(r) })
	s.NotBefore = r.Uint64()
	s.NotAfter = r.Uint64()
	s.Chain = tlspl.ReadVector(r, maxTLSChain, func(r *tlspl.Reader, b *[]byte) { *b = r.Opaque(maxTLSCertificate) })
	s.Scheme = tls.SignatureScheme(r.Uint16())
	s.tbs = r.Since(start)
	s.Signature = r.Opaque(maxSignature)
}

// ParseAnchorStatement decodes a statement of at most MaxStatement octets. The
// error matches ErrAnchor.
func ParseAnchorStatement(b []byte) (*AnchorStatement, error) {
	if len(b) > MaxStatement {
		return nil, refuse(ErrAnchor, "statement of %d octets; the limit is %d", len(b), MaxStatement)
	}
	s := new(AnchorStatement)
	if err := tlspl.Unmarshal(bytes.Clone(b), s); err != nil {
		return nil, refuse(ErrAnchor, "%w", err)
	}
	return s, nil
}

// SignAnchor states the CAs of ca's domain, signed with the key of the
// provider's TLS certificate. The statement is valid from now for the given
// time, at most MaxStatementValidity (0: DefaultStatementValidity), but not
// longer than that certificate. It fails if the certificate is not for the
// domain; whether others trust its issuer is for them to say.
func SignAnchor(cert tls.Certificate, ca *CA, now time.Time, validity time.Duration) (*AnchorStatement, error) {
	if validity == 0 {
		validity = DefaultStatementValidity
	}
	if validity < time.Minute || validity > MaxStatementValidity {
		return nil, fmt.Errorf("identity: anchor statement for %v; choose up to %v", validity, MaxStatementValidity)
	}
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok || len(cert.Certificate) == 0 {
		return nil, fmt.Errorf("identity: the TLS certificate has no signing key or no chain")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("identity: TLS certificate: %w", err)
	}
	if err := leaf.VerifyHostname(ca.domain); err != nil {
		return nil, fmt.Errorf("identity: the TLS certificate is not for the provider domain %s; get one that is: %w", ca.domain, err)
	}
	end := now.Add(validity)
	if leaf.NotAfter.Before(end) {
		end = leaf.NotAfter
	}
	if !now.Before(end) {
		return nil, fmt.Errorf("identity: the TLS certificate of %s expired at %s; renew it", ca.domain, leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	s := &AnchorStatement{
		Domain:    ca.domain,
		CAs:       ca.stated(now),
		NotBefore: uint64(now.Unix()),
		NotAfter:  uint64(end.Unix()),
		Chain:     cert.Certificate,
	}
	if s.Scheme, _, err = schemeOf(key.Public()); err != nil {
		return nil, err
	}
	var w tlspl.Writer
	s.marshalTBS(&w)
	tbs, err := w.Bytes()
	if err != nil {
		return nil, fmt.Errorf("identity: encode anchor statement: %w", err)
	}
	if _, s.Signature, err = signWith(key, labelAnchor, tbs); err != nil {
		return nil, err
	}
	s.tbs = bytes.Clone(tbs)
	return s, nil
}

// Verify checks the statement at the time now: that the TLS chain
// authenticates the domain under roots (nil: the system's), that its key
// signed the statement, and that the CAs fit the profile. The returned Anchor
// holds those CAs that are valid now. The error matches ErrAnchor.
//
// The caller compares the domain with the one it asked for.
func (s *AnchorStatement) Verify(roots *x509.CertPool, now time.Time) (*Anchor, error) {
	if err := checkDomain(s.Domain); err != nil {
		return nil, refuse(ErrAnchor, "%w", err)
	}
	if err := s.checkTime(now); err != nil {
		return nil, err
	}
	leaf, err := s.verifyTLS(roots, now)
	if err != nil {
		return nil, err
	}
	tbs := s.tbs
	if tbs == nil {
		var w tlspl.Writer
		s.marshalTBS(&w)
		if tbs, err = w.Bytes(); err != nil {
			return nil, refuse(ErrAnchor, "%w", err)
		}
	}
	if err := verifyWith(leaf.PublicKey, s.Scheme, labelAnchor, tbs, s.Signature); err != nil {
		return nil, refuse(ErrAnchor, "statement of %s: %w", s.Domain, err)
	}
	return s.anchor(now)
}

// checkTime checks the statement's own validity.
func (s *AnchorStatement) checkTime(now time.Time) error {
	// Bounded, so that the arithmetic below cannot overflow: the year 9999.
	const max = 253402300799
	if s.NotBefore > s.NotAfter || s.NotAfter > max ||
		s.NotAfter-s.NotBefore > uint64(MaxStatementValidity/time.Second) {
		return refuse(ErrAnchor, "statement of %s has no proper validity", s.Domain)
	}
	from, to := time.Unix(int64(s.NotBefore), 0), time.Unix(int64(s.NotAfter), 0)
	if now.Add(statementSkew).Before(from) || now.After(to) {
		return refuse(ErrAnchor, "statement of %s is valid from %s to %s only; fetch a new one, or set the clock",
			s.Domain, from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339))
	}
	return nil
}

// verifyTLS checks that the TLS chain authenticates the domain as a server and
// returns its leaf.
func (s *AnchorStatement) verifyTLS(roots *x509.CertPool, now time.Time) (*x509.Certificate, error) {
	if len(s.Chain) == 0 || len(s.Chain) > maxTLSChain {
		return nil, refuse(ErrAnchor, "statement of %s with %d TLS certificates", s.Domain, len(s.Chain))
	}
	intermediates := x509.NewCertPool()
	var leaf *x509.Certificate
	for i, der := range s.Chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, refuse(ErrAnchor, "TLS chain of %s: %w", s.Domain, err)
		}
		if i == 0 {
			leaf = cert
		} else {
			intermediates.AddCert(cert)
		}
	}
	if leaf.IsCA || leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, refuse(ErrAnchor, "TLS certificate of %s is not for signatures", s.Domain)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		DNSName:       s.Domain,
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}); err != nil {
		return nil, refuse(ErrAnchor, "TLS certificate of %s: %w", s.Domain, err)
	}
	return leaf, nil
}

// anchor returns what a verified statement says. CAs whose time is over are
// left out, with those before them in time.
func (s *AnchorStatement) anchor(now time.Time) (*Anchor, error) {
	if len(s.CAs) == 0 || len(s.CAs) > MaxCAs {
		return nil, refuse(ErrAnchor, "statement of %s with %d CAs", s.Domain, len(s.CAs))
	}
	a := &Anchor{Domain: s.Domain, NotAfter: time.Unix(int64(s.NotAfter), 0)}
	for i, stated := range s.CAs {
		ca, err := parseCertificate(stated.Certificate)
		if err != nil {
			return nil, refuse(ErrAnchor, "%w", err)
		}
		if err := CheckCA(ca, s.Domain); err != nil {
			return nil, err
		}
		if err := checkTime(ca, now); err != nil {
			if i == 0 {
				return nil, refuse(ErrAnchor, "CA of %s: %w", s.Domain, err)
			}
			break
		}
		if i > 0 {
			newer := s.CAs[i-1]
			ok := newer.Scheme != 0
			if ok {
				if err := verifyWith(ca.PublicKey, newer.Scheme, labelEndorsement,
					endorsementTBS(s.Domain, newer.Certificate), newer.Endorsement); err != nil {
					return nil, refuse(ErrAnchor, "endorsement in the statement of %s: %w", s.Domain, err)
				}
			}
			a.endorsed[i-1] = ok
		}
		a.Certificates = append(a.Certificates, ca)
		a.endorsed = append(a.endorsed, false)
	}
	return a, nil
}
