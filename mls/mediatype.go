package mls

import (
	"github.com/comity-im/comity/internal/tlspl"
)

// MediaTypeParameter is a parameter of a media type; its value has no quotes
// and no escapes (mls-extensions section 6.2.2):
//
//	struct {
//	    opaque parameter_name<V>;
//	    opaque parameter_value<V>;
//	} Parameter;
type MediaTypeParameter struct {
	Name  string
	Value string
}

// MediaType is an IANA media type such as text/plain (mls-extensions
// section 6.2.2):
//
//	struct {
//	    opaque type<V>;
//	    Parameter parameters<V>;
//	} MediaType;
type MediaType struct {
	Type       string
	Parameters []MediaTypeParameter
}

// MarshalTLS implements tlspl.Marshaler.
func (m MediaType) MarshalTLS(w *tlspl.Writer) {
	w.Opaque([]byte(m.Type))
	tlspl.WriteVector(w, m.Parameters, func(w *tlspl.Writer, p *MediaTypeParameter) {
		w.Opaque([]byte(p.Name))
		w.Opaque([]byte(p.Value))
	})
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (m *MediaType) UnmarshalTLS(r *tlspl.Reader) {
	m.Type = string(r.Opaque(0))
	m.Parameters = tlspl.ReadVector(r, 0, func(r *tlspl.Reader, p *MediaTypeParameter) {
		p.Name = string(r.Opaque(0))
		p.Value = string(r.Opaque(0))
	})
}

// MediaTypeList is the content of the content_media_types component,
// MediaType media_type_list<V>; it is not empty (mls-extensions
// section 6.2.2).
type MediaTypeList []MediaType

// MarshalTLS implements tlspl.Marshaler.
func (l MediaTypeList) MarshalTLS(w *tlspl.Writer) {
	tlspl.WriteVector(w, l, func(w *tlspl.Writer, m *MediaType) { m.MarshalTLS(w) })
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (l *MediaTypeList) UnmarshalTLS(r *tlspl.Reader) {
	*l = tlspl.ReadVector(r, 0, func(r *tlspl.Reader, m *MediaType) { m.UnmarshalTLS(r) })
	if len(*l) == 0 {
		r.Failf("empty list of media types")
	}
}

// ApplicationFraming is the form of application data in groups that have the
// content_media_types component. An empty media type stands for the first
// one of the group's list (mls-extensions section 6.2.4).
//
//	struct {
//	    MediaType media_type;
//	    opaque inner_application_content<V>;
//	} ApplicationFraming;
type ApplicationFraming struct {
	MediaType MediaType
	Content   []byte
}

// MarshalTLS implements tlspl.Marshaler.
func (f ApplicationFraming) MarshalTLS(w *tlspl.Writer) {
	f.MediaType.MarshalTLS(w)
	w.Opaque(f.Content)
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (f *ApplicationFraming) UnmarshalTLS(r *tlspl.Reader) {
	f.MediaType.UnmarshalTLS(r)
	f.Content = r.Opaque(0)
}
