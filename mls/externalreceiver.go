package mls

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
)

// ExternalReceiver may read the SemiPrivateMessages of a group without being
// a member (semiprivatemessage section 3):
//
//	struct {
//	    HPKEPublicKey external_receiver_public_key;
//	    Credential credential;
//	} ExternalReceiver;
type ExternalReceiver struct {
	PublicKey  []byte
	Credential Credential
}

// MarshalTLS implements tlspl.Marshaler.
func (e ExternalReceiver) MarshalTLS(w *tlspl.Writer) {
	w.Opaque(e.PublicKey)
	e.Credential.MarshalTLS(w)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (e *ExternalReceiver) UnmarshalTLS(r *tlspl.Reader) {
	e.PublicKey = r.Opaque(0)
	e.Credential.UnmarshalTLS(r)
}

// ref returns the hash by which a message names the receiver:
//
//	ExternalReceiverRef = hash(ExternalReceiver)
func (e *ExternalReceiver) ref(s *suite) ([]byte, error) {
	b, err := tlspl.Marshal(*e)
	if err != nil {
		return nil, err
	}
	return s.sum(b), nil
}

// ExternalReceivers is the content of the external_receivers extension,
// ExternalReceiver external_receivers<V>. The draft does not show the list;
// it "mirrors the syntax of the external_senders extension".
type ExternalReceivers []ExternalReceiver

// MarshalTLS implements tlspl.Marshaler.
func (l ExternalReceivers) MarshalTLS(w *tlspl.Writer) {
	tlspl.WriteVector(w, l, func(w *tlspl.Writer, e *ExternalReceiver) { e.MarshalTLS(w) })
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (l *ExternalReceivers) UnmarshalTLS(r *tlspl.Reader) {
	*l = tlspl.ReadVector(r, maxReceivers, func(r *tlspl.Reader, e *ExternalReceiver) { e.UnmarshalTLS(r) })
}

// maxReceivers bounds the external receivers of a group: each of them costs
// an HPKE encryption per handshake.
const maxReceivers = 64

// ExternalReceivers decodes the external_receivers extension of x, which is
// empty where there is none.
func (x Extensions) ExternalReceivers() (ExternalReceivers, error) {
	data, ok := x.Find(ExtensionExternalReceivers)
	if !ok {
		return nil, nil
	}
	var l ExternalReceivers
	if err := tlspl.Unmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("mls: external_receivers extension: %w", err)
	}
	return l, nil
}

// ExternalReceivers returns who may read the group's SemiPrivateMessages.
func (s *State) ExternalReceivers() ExternalReceivers { return s.params.receivers }

// usesSemiPrivate reports whether SemiPrivateMessages may be sent: the group
// requires the wire format and has external receivers (semiprivatemessage
// section 3).
func (s *State) usesSemiPrivate() bool {
	return len(s.params.receivers) > 0 && s.params.semiPrivate
}

// requireSemiPrivate is usesSemiPrivate as an error.
func (s *State) requireSemiPrivate() error {
	if !s.usesSemiPrivate() {
		return fmt.Errorf("%w: SemiPrivateMessage in a group that does not require this wire format or has no external receivers", ErrCapabilities)
	}
	return nil
}

// parseReceivers decodes what the extensions of a GroupContext say about
// SemiPrivateMessages.
func (p *groupParams) parseReceivers(x Extensions) (err error) {
	if p.receivers, err = x.ExternalReceivers(); err != nil {
		return err
	}
	data, ok := x.Find(ExtensionRequiredWireFormats)
	if !ok {
		return nil
	}
	var formats WireFormats
	if err := tlspl.Unmarshal(data, &formats); err != nil {
		return fmt.Errorf("mls: required_wire_formats extension: %w", err)
	}
	p.semiPrivate = slices.Contains(formats, WireSemiPrivateMessage)
	return nil
}

// checkReceivers verifies the external receivers of a GroupContext. Without
// Config.ExternalReceivers there must not be any; known ones were accepted
// before and are not judged again.
func (c *Config) checkReceivers(s *suite, p *groupParams, known bool) error {
	if _, ok := p.extensions.Find(ExtensionExternalReceivers); !ok {
		return nil
	}
	if c.ExternalReceivers == nil {
		return fmt.Errorf("%w: external receivers are refused: set Config.ExternalReceivers to allow them", ErrCapabilities)
	}
	if len(p.receivers) == 0 {
		return fmt.Errorf("%w: external_receivers without a receiver", ErrInvalidMessage)
	}
	for i := range p.receivers {
		e := &p.receivers[i]
		if err := s.checkHPKEKey(e.PublicKey); err != nil {
			return fmt.Errorf("external receiver %d: %w", i, err)
		}
		for j := range i {
			if bytes.Equal(p.receivers[j].PublicKey, e.PublicKey) {
				return fmt.Errorf("%w: external receivers %d and %d have the same key", ErrInvalidMessage, j, i)
			}
		}
		if known {
			continue
		}
		if err := c.ExternalReceivers(e); err != nil {
			return fmt.Errorf("%w: external receiver %d: %w", ErrCredential, i, err)
		}
	}
	return nil
}

// WithSemiPrivate returns a copy of x, the extensions of a GroupContext, by
// which SemiPrivateMessages go to the given receivers as well. All members
// must support it; see AdvertiseSemiPrivate.
func (x Extensions) WithSemiPrivate(receivers ...ExternalReceiver) (Extensions, error) {
	data, err := tlspl.Marshal(ExternalReceivers(receivers))
	if err != nil {
		return nil, err
	}
	out := x.Set(ExtensionExternalReceivers, data)
	return out.withFormat(ExtensionRequiredWireFormats)
}

// AdvertiseSemiPrivate returns the capabilities and the extensions of a leaf
// with the support of SemiPrivateMessages added.
func AdvertiseSemiPrivate(caps Capabilities, x Extensions) (Capabilities, Extensions, error) {
	caps.Extensions = slices.Clone(caps.Extensions)
	for _, t := range []ExtensionType{ExtensionSupportedWireFormats, ExtensionRequiredWireFormats, ExtensionExternalReceivers} {
		if !slices.Contains(caps.Extensions, t) {
			caps.Extensions = append(caps.Extensions, t)
		}
	}
	out, err := x.withFormat(ExtensionSupportedWireFormats)
	return caps, out, err
}

// withFormat adds the wire format to the list that the extension t holds.
func (x Extensions) withFormat(t ExtensionType) (Extensions, error) {
	var formats WireFormats
	if data, ok := x.Find(t); ok {
		if err := tlspl.Unmarshal(data, &formats); err != nil {
			return nil, fmt.Errorf("mls: extension %v: %w", t, err)
		}
	}
	if !slices.Contains(formats, WireSemiPrivateMessage) {
		formats = append(slices.Clone(formats), WireSemiPrivateMessage)
	}
	data, err := tlspl.Marshal(formats)
	if err != nil {
		return nil, err
	}
	return x.Set(t, data), nil
}
