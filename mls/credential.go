package mls

import (
	"bytes"

	"github.com/comity-im/comity/internal/tlspl"
)

// Credential binds a signature key to an identity (RFC 9420 section 5.3).
// This package does not judge it; [CredentialVerifier] does.
//
//	struct { opaque cert_data<V>; } Certificate;
//
//	struct {
//	    CredentialType credential_type;
//	    select (Credential.credential_type) {
//	        case basic: opaque identity<V>;
//	        case x509:  Certificate certificates<V>;
//	    };
//	} Credential;
//
// A credential of another type is taken to be one vector, as those of
// mls-extensions section 6.5 are.
type Credential struct {
	Type         CredentialType
	Identity     []byte   // basic
	Certificates [][]byte // x509: DER, the leaf's first
	Opaque       []byte   // other types: the content of the vector
}

// BasicCredential returns a basic credential.
func BasicCredential(identity []byte) Credential {
	return Credential{Type: CredentialBasic, Identity: identity}
}

// X509Credential returns a credential of a certificate chain in DER, the
// leaf's certificate first.
func X509Credential(chain ...[]byte) Credential {
	return Credential{Type: CredentialX509, Certificates: chain}
}

// Equal reports whether both credentials have the same encoding.
func (c *Credential) Equal(o *Credential) bool {
	a, errA := tlspl.Marshal(*c)
	b, errB := tlspl.Marshal(*o)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// MarshalTLS implements tlspl.Marshaler.
func (c Credential) MarshalTLS(w *tlspl.Writer) {
	w.Uint16(uint16(c.Type))
	switch c.Type {
	case CredentialBasic:
		w.Opaque(c.Identity)
	case CredentialX509:
		tlspl.WriteVector(w, c.Certificates, func(w *tlspl.Writer, b *[]byte) { w.Opaque(*b) })
	default:
		w.Opaque(c.Opaque)
	}
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (c *Credential) UnmarshalTLS(r *tlspl.Reader) {
	*c = Credential{Type: CredentialType(r.Uint16())}
	switch c.Type {
	case CredentialBasic:
		c.Identity = r.Opaque(0)
	case CredentialX509:
		c.Certificates = tlspl.ReadVector(r, maxCertificates, func(r *tlspl.Reader, b *[]byte) { *b = r.Opaque(0) })
	default:
		c.Opaque = r.Opaque(0)
	}
}
