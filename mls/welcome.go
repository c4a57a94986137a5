package mls

import (
	"bytes"
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// Welcome brings the secrets of an epoch to new members (RFC 9420
// section 12.4.3.1):
//
//	struct {
//	    CipherSuite cipher_suite;
//	    EncryptedGroupSecrets secrets<V>;
//	    opaque encrypted_group_info<V>;
//	} Welcome;
type Welcome struct {
	CipherSuite        CipherSuite
	Secrets            []EncryptedGroupSecrets
	EncryptedGroupInfo []byte
}

// MarshalTLS implements tlspl.Marshaler.
func (m *Welcome) MarshalTLS(w *tlspl.Writer) {
	w.Uint16(uint16(m.CipherSuite))
	tlspl.WriteVector(w, m.Secrets, func(w *tlspl.Writer, s *EncryptedGroupSecrets) { s.MarshalTLS(w) })
	w.Opaque(m.EncryptedGroupInfo)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (m *Welcome) UnmarshalTLS(r *tlspl.Reader) {
	m.CipherSuite = CipherSuite(r.Uint16())
	m.Secrets = tlspl.ReadVector(r, 0, func(r *tlspl.Reader, s *EncryptedGroupSecrets) { s.UnmarshalTLS(r) })
	m.EncryptedGroupInfo = r.Opaque(0)
}

// Find returns the secrets for the KeyPackage named by ref, or nil.
func (m *Welcome) Find(ref KeyPackageRef) *EncryptedGroupSecrets {
	for i := range m.Secrets {
		if bytes.Equal(m.Secrets[i].NewMember, ref) {
			return &m.Secrets[i]
		}
	}
	return nil
}

// EncryptedGroupSecrets holds GroupSecrets encrypted to the init key of one
// KeyPackage (RFC 9420 section 12.4.3.1):
//
//	struct {
//	    KeyPackageRef new_member;
//	    HPKECiphertext encrypted_group_secrets;
//	} EncryptedGroupSecrets;
type EncryptedGroupSecrets struct {
	NewMember             KeyPackageRef
	EncryptedGroupSecrets HPKECiphertext
}

// MarshalTLS implements tlspl.Marshaler.
func (s *EncryptedGroupSecrets) MarshalTLS(w *tlspl.Writer) {
	w.Opaque(s.NewMember)
	s.EncryptedGroupSecrets.MarshalTLS(w)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (s *EncryptedGroupSecrets) UnmarshalTLS(r *tlspl.Reader) {
	s.NewMember = r.Opaque(maxHashSize)
	s.EncryptedGroupSecrets.UnmarshalTLS(r)
}

// GroupSecrets is what a new member needs to compute the keys of its first
// epoch (RFC 9420 section 12.4.3.1). All of it but PSKs is secret.
//
//	struct { opaque path_secret<V>; } PathSecret;
//
//	struct {
//	    opaque joiner_secret<V>;
//	    optional<PathSecret> path_secret;
//	    PreSharedKeyID psks<V>;
//	} GroupSecrets;
type GroupSecrets struct {
	JoinerSecret []byte
	PathSecret   []byte // nil: absent
	PSKs         []PreSharedKeyID
}

// MarshalTLS implements tlspl.Marshaler.
func (s *GroupSecrets) MarshalTLS(w *tlspl.Writer) {
	w.Opaque(s.JoinerSecret)
	w.Optional(s.PathSecret != nil, func(w *tlspl.Writer) { w.Opaque(s.PathSecret) })
	tlspl.WriteVector(w, s.PSKs, func(w *tlspl.Writer, id *PreSharedKeyID) { id.MarshalTLS(w) })
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (s *GroupSecrets) UnmarshalTLS(r *tlspl.Reader) {
	*s = GroupSecrets{JoinerSecret: r.Opaque(maxHashSize)}
	if r.Optional() {
		s.PathSecret = r.Opaque(maxHashSize)
		if s.PathSecret == nil {
			r.Failf("path secret is missing")
		}
	}
	s.PSKs = tlspl.ReadVector(r, maxCommitProposals, func(r *tlspl.Reader, id *PreSharedKeyID) { id.UnmarshalTLS(r) })
}

// welcomeLabel is the label under which GroupSecrets are encrypted (RFC 9420
// section 12.4.3.1).
const welcomeLabel = "Welcome"

// openSecrets decrypts the GroupSecrets for the KeyPackage named by ref.
func (m *Welcome) openSecrets(s *suite, ref KeyPackageRef, initPriv []byte) (*GroupSecrets, error) {
	e := m.Find(ref)
	if e == nil {
		return nil, fmt.Errorf("%w: it holds no secrets for this key package", ErrInvalidWelcome)
	}
	pt, err := DecryptWithLabel(s.id, initPriv, welcomeLabel, m.EncryptedGroupInfo, e.EncryptedGroupSecrets)
	if err != nil {
		return nil, fmt.Errorf("mls: group secrets of the Welcome: %w", err)
	}
	gs := new(GroupSecrets)
	if err := tlspl.Unmarshal(pt, gs); err != nil {
		wipe(pt)
		return nil, fmt.Errorf("mls: group secrets of the Welcome: %w", err)
	}
	return gs, nil
}

// wipe destroys the secrets.
func (s *GroupSecrets) wipe() { wipe(s.JoinerSecret, s.PathSecret) }
