package mls

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/comity-im/comity/internal/tlspl"
)

// maxBindings bounds the bindings of one multi-credential: each costs a
// signature and a question to the application.
const maxBindings = 16

// CredentialBinding states, signed with the key of a credential, that the
// signature key of a leaf belongs to the holder of that credential
// (mls-extensions section 6.5):
//
//	struct {
//	    CipherSuite cipher_suite;
//	    Credential credential;
//	    SignaturePublicKey credential_key;
//	    opaque signature<V>; /* SignWithLabel(., "CredentialBindingTBS", CredentialBindingTBS) */
//	} CredentialBinding;
type CredentialBinding struct {
	CipherSuite   CipherSuite // of credential_key; need not be the group's
	Credential    Credential
	CredentialKey []byte
	Signature     []byte
}

const credentialBindingLabel = "CredentialBindingTBS"

// MarshalTLS implements tlspl.Marshaler.
func (b CredentialBinding) MarshalTLS(w *tlspl.Writer) {
	w.Uint16(uint16(b.CipherSuite))
	b.Credential.MarshalTLS(w)
	w.Opaque(b.CredentialKey)
	w.Opaque(b.Signature)
}

// UnmarshalTLS implements tlspl.Unmarshaler. It refuses a multi-credential
// within a multi-credential: nothing would bound the nesting.
func (b *CredentialBinding) UnmarshalTLS(r *tlspl.Reader) {
	b.CipherSuite = CipherSuite(r.Uint16())
	b.Credential.UnmarshalTLS(r)
	if r.Err() == nil && b.Credential.isMulti() {
		r.Failf("multi-credential in a multi-credential")
	}
	b.CredentialKey = r.Opaque(0)
	b.Signature = r.Opaque(0)
}

// signedContent returns what the holder of the credential signs:
//
//	struct {
//	    CipherSuite cipher_suite;
//	    Credential credential;
//	    SignaturePublicKey credential_key;
//	    SignaturePublicKey signature_key;
//	} CredentialBindingTBS;
func (b *CredentialBinding) signedContent(signatureKey []byte) ([]byte, error) {
	var w tlspl.Writer
	w.Uint16(uint16(b.CipherSuite))
	b.Credential.MarshalTLS(&w)
	w.Opaque(b.CredentialKey)
	w.Opaque(signatureKey)
	return w.Bytes()
}

// NewCredentialBinding binds signatureKey, the key of a leaf, to a credential
// whose key signer holds. s is the cipher suite of that key.
func NewCredentialBinding(s CipherSuite, c Credential, signer Signer, signatureKey []byte) (CredentialBinding, error) {
	if c.isMulti() {
		return CredentialBinding{}, fmt.Errorf("%w: a multi-credential cannot be bound to a key by another", ErrCredential)
	}
	b := CredentialBinding{CipherSuite: s, Credential: c, CredentialKey: bytes.Clone(signer.Public())}
	content, err := b.signedContent(signatureKey)
	if err != nil {
		return CredentialBinding{}, err
	}
	b.Signature, err = SignWithLabel(signer, credentialBindingLabel, content)
	return b, err
}

// VerifySignature checks that the holder of the credential's key bound it to
// signatureKey. Whether that key is the credential's is for a
// CredentialVerifier to say.
func (b *CredentialBinding) VerifySignature(signatureKey []byte) error {
	content, err := b.signedContent(signatureKey)
	if err != nil {
		return err
	}
	return VerifyWithLabel(b.CipherSuite, b.CredentialKey, credentialBindingLabel, content, b.Signature)
}

// MultiCredential is the content of a credential of type multi or weak-multi,
// CredentialBinding bindings<V> (mls-extensions section 6.5). It has at least
// one binding and at most 16.
type MultiCredential []CredentialBinding

// MarshalTLS implements tlspl.Marshaler.
func (m MultiCredential) MarshalTLS(w *tlspl.Writer) {
	w.Vector(m.marshalBindings)
}

func (m MultiCredential) marshalBindings(w *tlspl.Writer) {
	switch {
	case len(m) == 0:
		w.Fail(fmt.Errorf("%w: multi-credential without bindings", ErrCredential))
	case len(m) > maxBindings:
		w.Fail(fmt.Errorf("%w: multi-credential of %d bindings; the limit is %d", ErrLimit, len(m), maxBindings))
	}
	for i := range m {
		if m[i].Credential.isMulti() {
			w.Fail(fmt.Errorf("%w: multi-credential in a multi-credential", ErrCredential))
		}
		m[i].MarshalTLS(w)
	}
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (m *MultiCredential) UnmarshalTLS(r *tlspl.Reader) {
	*m = tlspl.ReadVector(r, maxBindings, func(r *tlspl.Reader, b *CredentialBinding) { b.UnmarshalTLS(r) })
	if len(*m) == 0 {
		r.Failf("multi-credential without bindings")
	}
}

// Credential returns a credential of type multi: whoever supports it verifies
// every binding.
func (m MultiCredential) Credential() (Credential, error) { return m.credential(CredentialMulti) }

// WeakCredential returns a credential of type weak-multi: everyone verifies
// the bindings that they support. It is worth no more than its weakest
// binding.
func (m MultiCredential) WeakCredential() (Credential, error) {
	return m.credential(CredentialWeakMulti)
}

func (m MultiCredential) credential(t CredentialType) (Credential, error) {
	var w tlspl.Writer
	m.marshalBindings(&w)
	b, err := w.Bytes()
	return Credential{Type: t, Opaque: b}, err
}

func (c *Credential) isMulti() bool {
	return c.Type == CredentialMulti || c.Type == CredentialWeakMulti
}

// Multi decodes a credential of type multi or weak-multi. The error of a
// credential that is malformed, or of another type, matches ErrCredential.
func (c *Credential) Multi() (MultiCredential, error) {
	if !c.isMulti() {
		return nil, fmt.Errorf("%w: type %v is not a multi-credential", ErrCredential, c.Type)
	}
	var m MultiCredential
	r := tlspl.NewReader(c.Opaque)
	for !r.Empty() {
		if len(m) == maxBindings {
			return nil, fmt.Errorf("%w: %w: more than %d bindings", ErrCredential, ErrLimit, maxBindings)
		}
		var b CredentialBinding
		b.UnmarshalTLS(r)
		m = append(m, b)
	}
	if err := r.Finish(); err != nil {
		return nil, fmt.Errorf("%w: multi-credential: %w", ErrCredential, err)
	}
	if len(m) == 0 {
		return nil, fmt.Errorf("%w: multi-credential without bindings", ErrCredential)
	}
	return m, nil
}

// verifyMulti verifies the bindings of a multi-credential for the key of the
// leaf that it is in: all of a multi, those that this client supports of a
// weak-multi (mls-extensions section 6.5). What other members support is
// checked on the whole tree (see checkMultiSupport).
func (c *Config) verifyMulti(cred *Credential, key []byte, now time.Time) error {
	if len(c.MultiCredentials) == 0 {
		return fmt.Errorf("%w: multi-credentials are not enabled: see Config.MultiCredentials", ErrCredential)
	}
	m, err := cred.Multi()
	if err != nil {
		return err
	}
	verified := 0
	for i := range m {
		b := &m[i]
		_, unusable := b.CipherSuite.params()
		if supported := unusable == nil && slices.Contains(c.MultiCredentials, b.Credential.Type); !supported {
			if cred.Type == CredentialWeakMulti {
				continue
			}
			return fmt.Errorf("%w: binding %d, of suite %v and credential type %v, is not supported", ErrCredential, i, b.CipherSuite, b.Credential.Type)
		}
		if err := b.VerifySignature(key); err != nil {
			return fmt.Errorf("%w: binding %d: %w", ErrCredential, i, err)
		}
		if err := c.Credentials.VerifyCredential(&b.Credential, b.CredentialKey, now); err != nil {
			return fmt.Errorf("%w: binding %d: %w", ErrCredential, i, err)
		}
		verified++
	}
	if verified == 0 {
		return fmt.Errorf("%w: no binding of the weak multi-credential is supported", ErrCredential)
	}
	return nil
}

// A bindingKind is what support for a binding depends on: its cipher suite
// and, in the lower half, its credential type.
type bindingKind uint32

func (k bindingKind) supportedBy(suites []CipherSuite, credentials []CredentialType) bool {
	return contains(suites, CipherSuite(k>>16)) && contains(credentials, CredentialType(k))
}

// kinds returns the kinds of the bindings, sorted.
func (m MultiCredential) kinds() []bindingKind {
	kinds := make([]bindingKind, len(m))
	for i := range m {
		kinds[i] = bindingKind(m[i].CipherSuite)<<16 | bindingKind(m[i].Credential.Type)
	}
	return sortedSet(kinds)
}

func encodeKinds(kinds []bindingKind) string {
	var b []byte
	for _, k := range kinds {
		b = binary.BigEndian.AppendUint32(b, uint32(k))
	}
	return string(b)
}

func decodeKinds(s string) []bindingKind {
	kinds := make([]bindingKind, 0, len(s)/4)
	for b := []byte(s); len(b) > 0; b = b[4:] {
		kinds = append(kinds, bindingKind(binary.BigEndian.Uint32(b)))
	}
	return kinds
}

// checkMultiSupport verifies what multi-credentials in use ask of the other
// members: every binding of a multi is supported by all of them, and at least
// one of a weak-multi by each.
func (t *tree) checkMultiSupport() error {
	all := t.root.support
	for _, k := range all.bindings {
		if !k.supportedBy(all.suites, all.credentials) {
			return fmt.Errorf("%w: a multi-credential has a binding of suite %v and credential type %v, which not every member supports",
				ErrCapabilities, CipherSuite(k>>16), CredentialType(k))
		}
	}
	for _, w := range all.weak {
		kinds := decodeKinds(w)
		some := func(s *support) bool {
			return slices.ContainsFunc(kinds, func(k bindingKind) bool { return k.supportedBy(s.suites, s.credentials) })
		}
		// Mostly there is a binding that all support. If not, a subtree whose
		// members have one in common needs no closer look.
		if l, ok := t.root.memberWithout(0, topGroup(t.depth), some); ok {
			return fmt.Errorf("%w: member %d supports no binding of a weak multi-credential in use", ErrCapabilities, l)
		}
	}
	return nil
}

// memberWithout returns the first member in p whose support does not satisfy
// f. What satisfies f must do so for every part of it. p is of the given group
// of levels, and its leaves begin at first.
func (p *page) memberWithout(first LeafIndex, group int, f func(*support) bool) (LeafIndex, bool) {
	if p == nil || p.members == 0 || f(p.support) {
		return 0, false
	}
	if p.leaves != nil {
		for i, e := range p.leaves {
			if e != nil && !f(e.support) {
				return first + LeafIndex(i), true
			}
		}
		return 0, false
	}
	for i, kid := range p.kids {
		if l, ok := kid.memberWithout(first+LeafIndex(i)<<(pageLevels*group), group-1, f); ok {
			return l, true
		}
	}
	return 0, false
}
