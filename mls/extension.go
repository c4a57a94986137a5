package mls

import (
	"fmt"
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
)

// Extension is a typed field that its container does not know (RFC 9420
// section 7.2).
//
//	struct {
//	    ExtensionType extension_type;
//	    opaque extension_data<V>;
//	} Extension;
type Extension struct {
	Type ExtensionType
	Data []byte
}

// MarshalTLS implements tlspl.Marshaler.
func (e Extension) MarshalTLS(w *tlspl.Writer) {
	w.Uint16(uint16(e.Type))
	w.Opaque(e.Data)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (e *Extension) UnmarshalTLS(r *tlspl.Reader) {
	e.Type = ExtensionType(r.Uint16())
	e.Data = r.Opaque(0)
}

// Extensions is a list of extensions in the order of the wire,
// Extension extensions<V>. A valid list has each type at most once; see
// Validate.
type Extensions []Extension

// MarshalTLS implements tlspl.Marshaler.
func (x Extensions) MarshalTLS(w *tlspl.Writer) {
	tlspl.WriteVector(w, x, func(w *tlspl.Writer, e *Extension) { e.MarshalTLS(w) })
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (x *Extensions) UnmarshalTLS(r *tlspl.Reader) {
	*x = tlspl.ReadVector(r, maxExtensions, func(r *tlspl.Reader, e *Extension) { e.UnmarshalTLS(r) })
}

// Find returns the data of the extension of type t.
func (x Extensions) Find(t ExtensionType) ([]byte, bool) {
	for i := range x {
		if x[i].Type == t {
			return x[i].Data, true
		}
	}
	return nil, false
}

// Set returns a copy of x in which the extension of type t has the given
// data; it keeps its place, or is added at the end.
func (x Extensions) Set(t ExtensionType, data []byte) Extensions {
	out := slices.Clone(x)
	for i := range out {
		if out[i].Type == t {
			out[i].Data = data
			return out
		}
	}
	return append(out, Extension{t, data})
}

// Without returns a copy of x that lacks the extension of type t.
func (x Extensions) Without(t ExtensionType) Extensions {
	return slices.DeleteFunc(slices.Clone(x), func(e Extension) bool { return e.Type == t })
}

// Validate reports a type that occurs twice (RFC 9420 section 13.4).
func (x Extensions) Validate() error {
	if len(x) <= 8 {
		for i := range x {
			for j := range i {
				if x[i].Type == x[j].Type {
					return fmt.Errorf("%w: extension %v occurs twice", ErrInvalidMessage, x[i].Type)
				}
			}
		}
		return nil
	}
	seen := make(map[ExtensionType]bool, len(x))
	for i := range x {
		if seen[x[i].Type] {
			return fmt.Errorf("%w: extension %v occurs twice", ErrInvalidMessage, x[i].Type)
		}
		seen[x[i].Type] = true
	}
	return nil
}

// Dictionary decodes the app_data_dictionary extension of x; it is empty
// where there is none.
func (x Extensions) Dictionary() (AppDataDictionary, error) {
	data, ok := x.Find(ExtensionAppDataDictionary)
	if !ok {
		return nil, nil
	}
	var d AppDataDictionary
	if err := tlspl.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("mls: app_data_dictionary extension: %w", err)
	}
	return d, nil
}

// RequiredCapabilities decodes the required_capabilities extension of x; it
// is empty where there is none.
func (x Extensions) RequiredCapabilities() (RequiredCapabilities, error) {
	var rc RequiredCapabilities
	data, ok := x.Find(ExtensionRequiredCapabilities)
	if !ok {
		return rc, nil
	}
	if err := tlspl.Unmarshal(data, &rc); err != nil {
		return rc, fmt.Errorf("mls: required_capabilities extension: %w", err)
	}
	return rc, nil
}

// ExternalSenders decodes the external_senders extension of x.
func (x Extensions) ExternalSenders() (ExternalSenders, error) {
	data, ok := x.Find(ExtensionExternalSenders)
	if !ok {
		return nil, nil
	}
	var s ExternalSenders
	if err := tlspl.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("mls: external_senders extension: %w", err)
	}
	return s, nil
}

// ExternalPub decodes the external_pub extension of x, the key for external
// commits (RFC 9420 section 12.4.3.2):
//
//	struct { HPKEPublicKey external_pub; } ExternalPub;
func (x Extensions) ExternalPub() ([]byte, bool, error) {
	data, ok := x.Find(ExtensionExternalPub)
	if !ok {
		return nil, false, nil
	}
	r := tlspl.NewReader(data)
	key := r.Opaque(0)
	if err := r.Finish(); err != nil {
		return nil, true, fmt.Errorf("mls: external_pub extension: %w", err)
	}
	return key, true, nil
}

// ExternalSender may send proposals without being a member (RFC 9420
// section 12.1.8.1):
//
//	struct {
//	    SignaturePublicKey signature_key;
//	    Credential credential;
//	} ExternalSender;
type ExternalSender struct {
	SignatureKey []byte
	Credential   Credential
}

// MarshalTLS implements tlspl.Marshaler.
func (s ExternalSender) MarshalTLS(w *tlspl.Writer) {
	w.Opaque(s.SignatureKey)
	s.Credential.MarshalTLS(w)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (s *ExternalSender) UnmarshalTLS(r *tlspl.Reader) {
	s.SignatureKey = r.Opaque(0)
	s.Credential.UnmarshalTLS(r)
}

// ExternalSenders is the content of the external_senders extension,
// ExternalSender external_senders<V>.
type ExternalSenders []ExternalSender

// MarshalTLS implements tlspl.Marshaler.
func (s ExternalSenders) MarshalTLS(w *tlspl.Writer) {
	tlspl.WriteVector(w, s, func(w *tlspl.Writer, e *ExternalSender) { e.MarshalTLS(w) })
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (s *ExternalSenders) UnmarshalTLS(r *tlspl.Reader) {
	*s = tlspl.ReadVector(r, maxExtensions, func(r *tlspl.Reader, e *ExternalSender) { e.UnmarshalTLS(r) })
}

// WireFormats is the content of the supported_wire_formats and
// required_wire_formats extensions (mls-extensions section 5),
// WireFormat wire_formats<V>.
type WireFormats []WireFormat

// MarshalTLS implements tlspl.Marshaler.
func (f WireFormats) MarshalTLS(w *tlspl.Writer) { writeUint16s(w, f) }

// UnmarshalTLS implements tlspl.Unmarshaler.
func (f *WireFormats) UnmarshalTLS(r *tlspl.Reader) { *f = readUint16s[WireFormat](r) }

func writeUint16s[T ~uint16](w *tlspl.Writer, v []T) {
	w.Varint(2 * len(v))
	for _, x := range v {
		w.Uint16(uint16(x))
	}
}

func readUint16s[T ~uint16](r *tlspl.Reader) []T {
	b := r.Opaque(0)
	if len(b)%2 != 0 {
		r.Failf("vector of 16-bit values has %d octets", len(b))
		return nil
	}
	if len(b) == 0 {
		return nil
	}
	v := make([]T, len(b)/2)
	for i := range v {
		v[i] = T(b[2*i])<<8 | T(b[2*i+1])
	}
	return v
}
