package mimi

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/comity-im/comity/internal/tlspl"
)

// MaxURI is the longest identifier URI in octets.
const MaxURI = 1024

// ErrURI is matched by every error about a malformed identifier URI.
var ErrURI = errors.New("mimi: invalid identifier URI")

// A Kind says what a URI names. Its value is the letter of the first path
// segment.
type Kind byte

// The kinds of identifiers: draft-ietf-mimi-protocol-06 section 1.1 and, for
// pseudonyms and teams, draft-mahy-mimi-identity-05.
const (
	KindProvider  Kind = 0   // mimi://a.example
	KindUser      Kind = 'u' // mimi://a.example/u/alice
	KindClient    Kind = 'd' // mimi://a.example/d/ClientA1
	KindRoom      Kind = 'r' // mimi://a.example/r/clubhouse
	KindGroup     Kind = 'g' // mimi://a.example/g/clubhouse
	KindPseudonym Kind = 'p' // mimi://a.example/p/3fa9
	KindTeam      Kind = 't' // mimi://a.example/t/engineering
)

// String returns a word for error messages.
func (k Kind) String() string {
	switch k {
	case KindProvider:
		return "provider"
	case KindUser:
		return "user"
	case KindClient:
		return "client"
	case KindRoom:
		return "room"
	case KindGroup:
		return "group"
	case KindPseudonym:
		return "pseudonym"
	case KindTeam:
		return "team"
	}
	return fmt.Sprintf("kind %q", byte(k))
}

// scheme is what every canonical URI starts with.
const scheme = "mimi://"

// A URI is an identifier URI in canonical form. Two URIs name the same thing
// exactly if they are equal with ==, so a URI can be a map key. The zero URI
// names nothing and is encoded as an empty field.
//
// Canonical means: scheme and host in lower case, percent-encoded octets that
// need no encoding decoded, the hexadecimal digits of the others in upper
// case (RFC 3986 section 6.2.2). The rest of the path is case-sensitive.
type URI struct{ s string }

// ParseURI parses s and returns it in canonical form. It refuses user
// information, ports, queries, fragments, empty and dot segments, unknown
// kinds, hosts that are not domain names in ASCII (an internationalised name
// is written with its xn-- labels), and encoded control characters.
func ParseURI(s string) (URI, error) {
	if len(s) > MaxURI {
		return URI{}, fmt.Errorf("%w: %d octets; the limit is %d", ErrURI, len(s), MaxURI)
	}
	if len(s) < len(scheme) || !strings.EqualFold(s[:len(scheme)], scheme) {
		return URI{}, fmt.Errorf("%w: %q does not start with mimi://", ErrURI, s)
	}
	host, path, hasPath := strings.Cut(s[len(scheme):], "/")
	domain, err := ParseDomain(host)
	if err != nil {
		return URI{}, fmt.Errorf("%w: %q: %w", ErrURI, s, err)
	}
	if !hasPath {
		return URI{scheme + domain}, nil
	}
	kind, name, hasName := strings.Cut(path, "/")
	if len(kind) != 1 || !knownKind(Kind(kind[0])) {
		return URI{}, fmt.Errorf("%w: %q: unknown kind %q; one of u, d, r, g, p, t is expected", ErrURI, s, kind)
	}
	if !hasName {
		return URI{}, fmt.Errorf("%w: %q has no name after /%s/", ErrURI, s, kind)
	}
	name, err = normalisePath(name)
	if err != nil {
		return URI{}, fmt.Errorf("%w: %q: %w", ErrURI, s, err)
	}
	return URI{scheme + domain + "/" + kind + "/" + name}, nil
}

// MustParseURI is ParseURI for constants; it panics on an invalid URI.
func MustParseURI(s string) URI {
	u, err := ParseURI(s)
	if err != nil {
		panic(err)
	}
	return u
}

// NewURI returns the URI of the given kind and name in a provider's domain.
// The name is written as in a URI, that is percent-encoded where needed
// (see [EscapeName]); for KindProvider it is empty.
func NewURI(kind Kind, domain, name string) (URI, error) {
	if kind == KindProvider {
		if name != "" {
			return URI{}, fmt.Errorf("%w: a provider has no name besides its domain, got %q", ErrURI, name)
		}
		return ParseURI(scheme + domain)
	}
	// The domain is checked alone, so that it cannot bring a path along.
	if _, err := ParseDomain(domain); err != nil {
		return URI{}, fmt.Errorf("%w: %w", ErrURI, err)
	}
	return ParseURI(scheme + domain + "/" + string(rune(kind)) + "/" + name)
}

// EscapeName percent-encodes text, such as a user's handle, for use as the
// name in NewURI. A slash in text becomes %2F.
func EscapeName(text string) string {
	return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
}

func knownKind(k Kind) bool {
	return k != KindProvider && strings.IndexByte("udrgpt", byte(k)) >= 0
}

// String returns the canonical form, or "" for the zero URI.
func (u URI) String() string { return u.s }

// IsZero reports whether u is the zero URI.
func (u URI) IsZero() bool { return u.s == "" }

// Domain returns the provider's domain in lower case.
func (u URI) Domain() string {
	domain, _, _ := u.split()
	return domain
}

// Kind returns what u names. The zero URI has KindProvider; test IsZero
// first where that matters.
func (u URI) Kind() Kind {
	_, kind, _ := u.split()
	return kind
}

// Name returns what follows the kind, percent-encoded; "" for a provider.
func (u URI) Name() string {
	_, _, name := u.split()
	return name
}

// Provider returns the URI of the provider in whose domain u is.
func (u URI) Provider() URI {
	if u.IsZero() {
		return URI{}
	}
	return URI{scheme + u.Domain()}
}

// Is reports whether u is a URI of the given kind; the zero URI is of none.
func (u URI) Is(kind Kind) bool { return !u.IsZero() && u.Kind() == kind }

func (u URI) split() (domain string, kind Kind, name string) {
	if u.IsZero() {
		return "", KindProvider, ""
	}
	domain, path, ok := strings.Cut(u.s[len(scheme):], "/")
	if !ok {
		return domain, KindProvider, ""
	}
	return domain, Kind(path[0]), path[2:]
}

// PathSegment returns u as one percent-encoded path segment, for example
// mimi%3A%2F%2Fa.example%2Fr%2Fclubhouse.
func (u URI) PathSegment() string { return url.QueryEscape(u.s) }

// ParsePathSegment parses what [URI.PathSegment] returned. The argument is
// the escaped path after the endpoint's prefix. The short form of the draft's
// figures, a.example/r/clubhouse, is accepted too.
func ParsePathSegment(escaped string) (URI, error) {
	if len(escaped) > 3*MaxURI {
		return URI{}, fmt.Errorf("%w: path of %d octets", ErrURI, len(escaped))
	}
	if strings.Contains(escaped, "/") {
		if len(escaped) >= len(scheme) && strings.EqualFold(escaped[:len(scheme)], scheme) {
			return ParseURI(escaped)
		}
		return ParseURI(scheme + escaped)
	}
	s, err := url.PathUnescape(escaped)
	if err != nil {
		return URI{}, fmt.Errorf("%w: %w", ErrURI, err)
	}
	if len(s) < len(scheme) || !strings.EqualFold(s[:len(scheme)], scheme) {
		s = scheme + s
	}
	return ParseURI(s)
}

// MarshalText returns the canonical form.
func (u URI) MarshalText() ([]byte, error) { return []byte(u.s), nil }

// UnmarshalText parses b; empty text gives the zero URI.
func (u *URI) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*u = URI{}
		return nil
	}
	v, err := ParseURI(string(b))
	if err != nil {
		return err
	}
	*u = v
	return nil
}

// MarshalTLS writes u in canonical form; the zero URI is an empty vector.
//
//	struct { opaque uri<V>; } IdentifierUri;     section 5.2
func (u URI) MarshalTLS(w *tlspl.Writer) { w.Opaque([]byte(u.s)) }

// UnmarshalTLS reads a URI in any form that ParseURI accepts; an empty vector
// gives the zero URI.
func (u *URI) UnmarshalTLS(r *tlspl.Reader) {
	b := r.Opaque(MaxURI)
	if r.Err() != nil {
		return
	}
	if err := u.UnmarshalText(b); err != nil {
		r.Fail(err)
	}
}

// ParseDomain checks that s is a domain name in ASCII (letters, digits and
// hyphens; no port, no trailing dot, no address literal) and returns it in
// lower case.
func ParseDomain(s string) (string, error) {
	if s == "" {
		return "", errors.New("mimi: empty domain")
	}
	if len(s) > 253 {
		return "", fmt.Errorf("mimi: domain of %d octets; the limit is 253", len(s))
	}
	s = strings.ToLower(s)
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return "", fmt.Errorf("mimi: domain %q has an empty or over-long label", s)
		}
		if label[0] == '-' || label[len(label)-1] == '-' {
			return "", fmt.Errorf("mimi: a label of domain %q starts or ends with a hyphen", s)
		}
		for i := range len(label) {
			if c := label[i]; !isAlphaNum(c) && c != '-' {
				return "", fmt.Errorf("mimi: domain %q holds %q; write it in letters, digits and hyphens (xn-- form) without a port", s, c)
			}
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" {
		return "", fmt.Errorf("mimi: %q is an address, not a domain name", s)
	}
	return s, nil
}

// normalisePath checks the name part of a path and returns its canonical
// form.
func normalisePath(s string) (string, error) {
	var b strings.Builder
	var decoded []byte // what the name says, to check that it is UTF-8
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '%':
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return "", errors.New("mimi: incomplete percent-encoding")
			}
			v := unhex(s[i+1])<<4 | unhex(s[i+2])
			if v < 0x20 || v == 0x7f {
				return "", fmt.Errorf("mimi: encoded control character %%%02X", v)
			}
			if isUnreserved(v) {
				b.WriteByte(v)
			} else {
				fmt.Fprintf(&b, "%%%02X", v)
			}
			decoded = append(decoded, v)
			i += 2
		case c == '/' || isUnreserved(c) || strings.IndexByte("!$&'()*+,;=:@", c) >= 0:
			b.WriteByte(c)
			decoded = append(decoded, c)
		default:
			return "", fmt.Errorf("mimi: %q is not allowed in a name; percent-encode it", c)
		}
	}
	if !utf8.Valid(decoded) {
		return "", errors.New("mimi: the name is not UTF-8 after percent-decoding")
	}
	name := b.String()
	for segment := range strings.SplitSeq(name, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return "", fmt.Errorf("mimi: empty or dot segment in %q", name)
		}
	}
	return name, nil
}

func isAlphaNum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// isUnreserved is RFC 3986 section 2.3.
func isUnreserved(c byte) bool {
	return isAlphaNum(c) || c == '-' || c == '.' || c == '_' || c == '~'
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}
