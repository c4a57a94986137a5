package mls

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

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

// UnmarshalTLS implements tlspl.Unmarshaler. It refuses what is no type and
// subtype, but for an empty type without parameters; see ApplicationFraming.
func (m *MediaType) UnmarshalTLS(r *tlspl.Reader) {
	m.Type = string(r.Opaque(maxMediaTypeSize))
	m.Parameters = tlspl.ReadVector(r, maxMediaParameters, func(r *tlspl.Reader, p *MediaTypeParameter) {
		p.Name = string(r.Opaque(maxMediaTypeSize))
		p.Value = string(r.Opaque(0))
	})
	if r.Err() != nil {
		return
	}
	if err := m.validate(); err != nil {
		r.Failf("%v", err)
	}
}

// Bounds of media types. RFC 6838 section 4.2 allows 127 characters for a
// type and for a subtype.
const (
	maxMediaTypeSize   = 255
	maxMediaParameters = 64
	maxMediaTypes      = 256
)

// validate reports what is wrong with the form of m.
func (m *MediaType) validate() error {
	if m.Type == "" {
		if len(m.Parameters) > 0 {
			return fmt.Errorf("parameters of no media type")
		}
		return nil
	}
	top, sub, ok := strings.Cut(m.Type, "/")
	if !ok || !isToken(top) || !isToken(sub) {
		return fmt.Errorf("%q is not a media type", m.Type)
	}
	for i, p := range m.Parameters {
		if !isToken(p.Name) {
			return fmt.Errorf("parameter name %q of media type %s", p.Name, m.Type)
		}
		for _, o := range m.Parameters[:i] {
			if strings.EqualFold(o.Name, p.Name) {
				return fmt.Errorf("parameter %s of media type %s occurs twice", p.Name, m.Type)
			}
		}
	}
	return nil
}

// isToken reports whether s is a token of RFC 2045 section 5.1, of which the
// names of RFC 6838 are a part.
func isToken(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte("()<>@,;:\\\"/[]?=", s[i]) >= 0 {
			return false
		}
	}
	return s != ""
}

// Equal reports whether both are the same type: upper and lower case of a
// type, subtype or parameter name do not differ, nor does the order of
// parameters matter (RFC 6838 sections 4.2 and 4.3).
func (m *MediaType) Equal(o *MediaType) bool { return m.canonical() == o.canonical() }

// canonical returns text that is the same for equal types only.
func (m *MediaType) canonical() string {
	if len(m.Parameters) == 0 {
		return strings.ToLower(m.Type)
	}
	params := slices.Clone(m.Parameters)
	for i := range params {
		params[i].Name = strings.ToLower(params[i].Name)
	}
	slices.SortFunc(params, func(a, b MediaTypeParameter) int { return cmp.Compare(a.Name, b.Name) })
	c := MediaType{strings.ToLower(m.Type), params}
	return c.String()
}

// String returns m as in a header field, such as text/plain;charset="UTF-8".
func (m MediaType) String() string {
	var b strings.Builder
	b.WriteString(m.Type)
	for _, p := range m.Parameters {
		fmt.Fprintf(&b, ";%s=%q", p.Name, p.Value)
	}
	return b.String()
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
	*l = tlspl.ReadVector(r, maxMediaTypes, func(r *tlspl.Reader, m *MediaType) {
		m.UnmarshalTLS(r)
		if r.Err() == nil && m.Type == "" {
			r.Failf("empty media type in a list")
		}
	})
	if len(*l) == 0 {
		r.Failf("empty list of media types")
	}
}

// Contains reports whether l lists a type equal to m.
func (l MediaTypeList) Contains(m *MediaType) bool {
	return slices.ContainsFunc(l, func(o MediaType) bool { return o.Equal(m) })
}

// canonical returns the canonical texts of all types, sorted.
func (l MediaTypeList) canonical() []string {
	out := make([]string, len(l))
	for i := range l {
		out[i] = l[i].canonical()
	}
	return sortedSet(out)
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
