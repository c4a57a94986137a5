package mls

import (
	"fmt"
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
)

// Capabilities lists what a client supports (RFC 9420 section 7.2). Unknown
// values are kept. Default proposals and extensions are not listed.
//
//	struct {
//	    ProtocolVersion versions<V>;
//	    CipherSuite cipher_suites<V>;
//	    ExtensionType extensions<V>;
//	    ProposalType proposals<V>;
//	    CredentialType credentials<V>;
//	} Capabilities;
type Capabilities struct {
	Versions     []ProtocolVersion
	CipherSuites []CipherSuite
	Extensions   []ExtensionType
	Proposals    []ProposalType
	Credentials  []CredentialType
}

// MarshalTLS implements tlspl.Marshaler.
func (c Capabilities) MarshalTLS(w *tlspl.Writer) {
	writeUint16s(w, c.Versions)
	writeUint16s(w, c.CipherSuites)
	writeUint16s(w, c.Extensions)
	writeUint16s(w, c.Proposals)
	writeUint16s(w, c.Credentials)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (c *Capabilities) UnmarshalTLS(r *tlspl.Reader) {
	c.Versions = readUint16s[ProtocolVersion](r)
	c.CipherSuites = readUint16s[CipherSuite](r)
	c.Extensions = readUint16s[ExtensionType](r)
	c.Proposals = readUint16s[ProposalType](r)
	c.Credentials = readUint16s[CredentialType](r)
}

// SupportsExtension reports whether t is a default or listed.
func (c *Capabilities) SupportsExtension(t ExtensionType) bool {
	return t.isDefault() || slices.Contains(c.Extensions, t)
}

// SupportsProposal reports whether t is a default or listed.
func (c *Capabilities) SupportsProposal(t ProposalType) bool {
	return t.isDefault() || slices.Contains(c.Proposals, t)
}

// SupportsCredential reports whether t is listed.
func (c *Capabilities) SupportsCredential(t CredentialType) bool {
	return slices.Contains(c.Credentials, t)
}

// Supports reports, as an error that matches ErrCapabilities, what rc
// requires and c lacks.
func (c *Capabilities) Supports(rc *RequiredCapabilities) error {
	for _, t := range rc.Extensions {
		if !c.SupportsExtension(t) {
			return fmt.Errorf("%w: extension %v is required by the group", ErrCapabilities, t)
		}
	}
	for _, t := range rc.Proposals {
		if !c.SupportsProposal(t) {
			return fmt.Errorf("%w: proposal %v is required by the group", ErrCapabilities, t)
		}
	}
	for _, t := range rc.Credentials {
		if !c.SupportsCredential(t) {
			return fmt.Errorf("%w: credential %v is required by the group", ErrCapabilities, t)
		}
	}
	return nil
}

// RequiredCapabilities is the content of the required_capabilities
// extension: what every member must support (RFC 9420 section 11.1).
//
//	struct {
//	    ExtensionType extension_types<V>;
//	    ProposalType proposal_types<V>;
//	    CredentialType credential_types<V>;
//	} RequiredCapabilities;
type RequiredCapabilities struct {
	Extensions  []ExtensionType
	Proposals   []ProposalType
	Credentials []CredentialType
}

// MarshalTLS implements tlspl.Marshaler.
func (c RequiredCapabilities) MarshalTLS(w *tlspl.Writer) {
	writeUint16s(w, c.Extensions)
	writeUint16s(w, c.Proposals)
	writeUint16s(w, c.Credentials)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (c *RequiredCapabilities) UnmarshalTLS(r *tlspl.Reader) {
	c.Extensions = readUint16s[ExtensionType](r)
	c.Proposals = readUint16s[ProposalType](r)
	c.Credentials = readUint16s[CredentialType](r)
}

// Lifetime bounds the validity of a LeafNode in a KeyPackage, in seconds
// since the Unix epoch (RFC 9420 section 7.2).
//
//	struct {
//	    uint64 not_before;
//	    uint64 not_after;
//	} Lifetime;
type Lifetime struct {
	NotBefore uint64
	NotAfter  uint64
}

// MarshalTLS implements tlspl.Marshaler.
func (l Lifetime) MarshalTLS(w *tlspl.Writer) {
	w.Uint64(l.NotBefore)
	w.Uint64(l.NotAfter)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (l *Lifetime) UnmarshalTLS(r *tlspl.Reader) {
	l.NotBefore = r.Uint64()
	l.NotAfter = r.Uint64()
}
