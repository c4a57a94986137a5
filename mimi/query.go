package mimi

import (
	"fmt"
	"unicode/utf8"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mls"
)

// Limits of identifier queries.
const (
	MaxQueryElements = 64
	MaxQueryText     = 1024 // octets of a name or search value
	MaxProfiles      = 256  // in an answer
	MaxProfileFields = 256
	MaxFieldValue    = 64 << 10
)

// SearchIdentifierType says what a QueryElement searches for.
type SearchIdentifierType uint8

// The types of section 5.8.
const (
	SearchHandle       SearchIdentifierType = 1
	SearchNick         SearchIdentifierType = 2
	SearchEmail        SearchIdentifierType = 3
	SearchPhone        SearchIdentifierType = 4
	SearchPartialName  SearchIdentifierType = 5
	SearchWholeProfile SearchIdentifierType = 6
	SearchOIDCStdClaim SearchIdentifierType = 7
	SearchVCardField   SearchIdentifierType = 8
)

// named reports whether a value of the type names a claim or property too.
func (t SearchIdentifierType) named() bool { return t == SearchOIDCStdClaim || t == SearchVCardField }

// A QueryElement is one condition; all conditions of a query must hold.
//
//	struct {                                            section 5.8
//	  SearchIdentifierType searchType;
//	  select (searchType) {
//	    case oidcStdClaim: opaque claimName<V>;
//	    case vcardField:   opaque propertyName<V>;
//	  };
//	  opaque searchValue<V>;                   /* UTF-8 */
//	} QueryElement;
type QueryElement struct {
	Type  SearchIdentifierType
	Name  string // of the claim or property, with SearchOIDCStdClaim and SearchVCardField
	Value string
}

// MarshalTLS writes m.
func (m *QueryElement) MarshalTLS(w *tlspl.Writer) {
	if m.Type == 0 {
		w.Fail(fmt.Errorf("%w: query for the reserved type", ErrMalformed))
	}
	w.Uint8(uint8(m.Type))
	if m.Type.named() {
		w.Opaque([]byte(m.Name))
	}
	w.Opaque([]byte(m.Value))
}

// UnmarshalTLS reads m.
func (m *QueryElement) UnmarshalTLS(r *tlspl.Reader) {
	*m = QueryElement{Type: SearchIdentifierType(r.Uint8())}
	if r.Err() == nil && m.Type == 0 {
		malformed(r, "query for the reserved type")
	}
	if m.Type.named() {
		m.Name = readText(r, MaxQueryText)
	}
	m.Value = readText(r, MaxQueryText)
}

// An IdentifierRequest looks for users at a provider.
//
//	struct { QueryElement query_elements<V>; AppDataDictionary id_request_extensions; } IdentifierRequest;
type IdentifierRequest struct {
	Elements   []QueryElement // never empty
	Extensions mls.AppDataDictionary
}

// MarshalTLS writes m.
func (m *IdentifierRequest) MarshalTLS(w *tlspl.Writer) {
	if len(m.Elements) == 0 {
		w.Fail(fmt.Errorf("%w: empty query", ErrMalformed))
	}
	tlspl.WriteVector(w, m.Elements, func(w *tlspl.Writer, e *QueryElement) { w.Value(e) })
	w.Value(m.Extensions)
}

// UnmarshalTLS reads m.
func (m *IdentifierRequest) UnmarshalTLS(r *tlspl.Reader) {
	*m = IdentifierRequest{}
	m.Elements = tlspl.ReadVector(r, MaxQueryElements, func(r *tlspl.Reader, e *QueryElement) { r.Value(e) })
	if r.Err() == nil && len(m.Elements) == 0 {
		malformed(r, "empty query")
	}
	r.Value(&m.Extensions)
}

// IdentifierQueryCode is the outcome of a query.
type IdentifierQueryCode uint8

// The codes of section 5.8.
const (
	QuerySuccess          IdentifierQueryCode = 0
	QueryNotFound         IdentifierQueryCode = 1
	QueryAmbiguous        IdentifierQueryCode = 2
	QueryForbidden        IdentifierQueryCode = 3
	QueryUnsupportedField IdentifierQueryCode = 4
)

// FieldSource says where the name of a ProfileField is defined.
type FieldSource uint8

// The sources of section 5.8.
const (
	FieldOIDCStdClaim FieldSource = 7
	FieldVCard        FieldSource = 8
)

// A ProfileField is one thing that a profile says.
//
//	struct { FieldSource fieldSource; string fieldName; opaque fieldValue<V>; } ProfileField;
type ProfileField struct {
	Source FieldSource
	Name   string
	Value  []byte
}

// A UserProfile is a user that a query found.
//
//	struct { IdentifierUri stableUri; ProfileField fields<V>; } UserProfile;
type UserProfile struct {
	User   URI
	Fields []ProfileField
}

// MarshalTLS writes m.
func (m *UserProfile) MarshalTLS(w *tlspl.Writer) {
	w.Value(m.User)
	tlspl.WriteVector(w, m.Fields, func(w *tlspl.Writer, f *ProfileField) {
		w.Uint8(uint8(f.Source))
		w.Opaque([]byte(f.Name))
		w.Opaque(f.Value)
	})
}

// UnmarshalTLS reads m.
func (m *UserProfile) UnmarshalTLS(r *tlspl.Reader) {
	*m = UserProfile{}
	r.Value(&m.User)
	required(r, "stableUri", m.User, KindUser)
	m.Fields = tlspl.ReadVector(r, MaxProfileFields, func(r *tlspl.Reader, f *ProfileField) {
		f.Source = FieldSource(r.Uint8())
		f.Name = readText(r, MaxQueryText)
		f.Value = r.Opaque(MaxFieldValue)
	})
}

// An IdentifierResponse answers an IdentifierRequest.
//
//	struct {                                            section 5.8
//	  IdentifierQueryCode responseCode;
//	  IdentifierUri uri<V>;
//	  UserProfile foundProfiles<V>;
//	  AppDataDictionary id_response_extensions;
//	} IdentifierResponse;
type IdentifierResponse struct {
	Code       IdentifierQueryCode
	URIs       []URI // of the profiles, in the same order, or empty
	Profiles   []UserProfile
	Extensions mls.AppDataDictionary
}

// MarshalTLS writes m.
func (m *IdentifierResponse) MarshalTLS(w *tlspl.Writer) {
	w.Uint8(uint8(m.Code))
	tlspl.WriteVector(w, m.URIs, func(w *tlspl.Writer, u *URI) { w.Value(*u) })
	tlspl.WriteVector(w, m.Profiles, func(w *tlspl.Writer, p *UserProfile) { w.Value(p) })
	w.Value(m.Extensions)
}

// UnmarshalTLS reads m.
func (m *IdentifierResponse) UnmarshalTLS(r *tlspl.Reader) {
	*m = IdentifierResponse{Code: IdentifierQueryCode(r.Uint8())}
	m.URIs = tlspl.ReadVector(r, MaxProfiles, func(r *tlspl.Reader, u *URI) {
		r.Value(u)
		required(r, "uri", *u, KindUser)
	})
	m.Profiles = tlspl.ReadVector(r, MaxProfiles, func(r *tlspl.Reader, p *UserProfile) { r.Value(p) })
	r.Value(&m.Extensions)
}

// readText reads opaque<V> that is UTF-8.
func readText(r *tlspl.Reader, max int) string {
	b := r.Opaque(max)
	if r.Err() == nil && !utf8.Valid(b) {
		malformed(r, "a text is not UTF-8")
	}
	return string(b)
}
