package mimi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// DirectoryPath is where a provider serves its [Directory]
// (draft-ietf-mimi-protocol-06 section 5.1).
const DirectoryPath = "/.well-known/mimi-protocol-directory"

// MaxDirectory is the largest directory document in octets.
const MaxDirectory = 64 << 10

// ProfileComity1 in [Directory.Profiles] says that the provider follows
// version 1 of the Comity wire profile.
const ProfileComity1 = "comity-1"

var (
	// ErrDirectory is matched by errors about a malformed directory.
	ErrDirectory = errors.New("mimi: invalid directory document")
	// ErrNoEndpoint says that a provider does not offer an endpoint.
	ErrNoEndpoint = errors.New("mimi: the provider's directory does not list the endpoint")
)

// An Endpoint is a key of the directory.
type Endpoint string

// The endpoints of draft-ietf-mimi-protocol-06 section 5.1.
const (
	EndpointKeyMaterial     Endpoint = "keyMaterial"
	EndpointUpdate          Endpoint = "update"
	EndpointNotify          Endpoint = "notify"
	EndpointSubmitMessage   Endpoint = "submitMessage"
	EndpointGroupInfo       Endpoint = "groupInfo"
	EndpointRequestConsent  Endpoint = "requestConsent"
	EndpointUpdateConsent   Endpoint = "updateConsent"
	EndpointIdentifierQuery Endpoint = "identifierQuery"
	EndpointReportAbuse     Endpoint = "reportAbuse"
	EndpointProxyDownload   Endpoint = "proxyDownload"
)

// endpointVariables lists the template variables that each endpoint may
// use; the first is the one we write. The draft names those of the consent
// endpoints differently in two places; the value is a domain in both.
var endpointVariables = map[Endpoint][]string{
	EndpointKeyMaterial:     {"targetUser"},
	EndpointUpdate:          {"roomId"},
	EndpointNotify:          {"roomId"},
	EndpointSubmitMessage:   {"roomId"},
	EndpointGroupInfo:       {"roomId"},
	EndpointRequestConsent:  {"targetDomain", "targetUser"},
	EndpointUpdateConsent:   {"requesterDomain", "requesterUser"},
	EndpointIdentifierQuery: {"domain"},
	EndpointReportAbuse:     {"roomId"},
	EndpointProxyDownload:   {"downloadUrl"},
}

// A Directory says where a provider's endpoints are. Each endpoint is an
// https URI template with exactly one variable (RFC 6570 level 1).
type Directory struct {
	Endpoints map[Endpoint]string
	// Profiles lists wire profiles that the provider follows besides the
	// draft (private key x-mimi-profile).
	Profiles []string
	// Anchor is the URL of the provider's anchor statement, or empty
	// (private key x-mimi-anchor).
	Anchor string
}

const (
	keyProfile = "x-mimi-profile"
	keyAnchor  = "x-mimi-anchor"
)

// NewDirectory returns a directory that places the given endpoints below
// base, for example https://mimi.example.com/v1.
func NewDirectory(base string, endpoints ...Endpoint) (*Directory, error) {
	d := &Directory{Endpoints: make(map[Endpoint]string), Profiles: []string{ProfileComity1}}
	base = strings.TrimSuffix(base, "/")
	for _, e := range endpoints {
		names, ok := endpointVariables[e]
		if !ok {
			return nil, fmt.Errorf("%w: unknown endpoint %q", ErrDirectory, e)
		}
		t := base + "/" + string(e) + "/{" + names[0] + "}"
		if _, _, err := splitTemplate(e, t); err != nil {
			return nil, err
		}
		d.Endpoints[e] = t
	}
	return d, nil
}

// ParseDirectory parses a directory document. It ignores unknown keys, so a
// later version of the protocol can add some, and refuses endpoints that are
// not https, that have credentials, a query or a fragment, or whose template
// does not hold exactly the endpoint's variable.
func ParseDirectory(b []byte) (*Directory, error) {
	if len(b) > MaxDirectory {
		return nil, fmt.Errorf("%w: %d octets; the limit is %d", ErrDirectory, len(b), MaxDirectory)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(b, &keys); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	if keys == nil {
		return nil, fmt.Errorf("%w: not an object", ErrDirectory)
	}
	d := &Directory{Endpoints: make(map[Endpoint]string)}
	for e := range endpointVariables {
		raw, ok := keys[string(e)]
		if !ok {
			continue
		}
		var t string
		if err := json.Unmarshal(raw, &t); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrDirectory, e, err)
		}
		if _, _, err := splitTemplate(e, t); err != nil {
			return nil, err
		}
		d.Endpoints[e] = t
	}
	if raw, ok := keys[keyProfile]; ok {
		if err := json.Unmarshal(raw, &d.Profiles); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrDirectory, keyProfile, err)
		}
	}
	if raw, ok := keys[keyAnchor]; ok {
		if err := json.Unmarshal(raw, &d.Anchor); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrDirectory, keyAnchor, err)
		}
		if d.Anchor != "" {
			if err := checkHTTPS(d.Anchor); err != nil {
				return nil, fmt.Errorf("%w: %s: %w", ErrDirectory, keyAnchor, err)
			}
		}
	}
	return d, nil
}

// MarshalJSON returns the document with its keys in a stable order.
func (d *Directory) MarshalJSON() ([]byte, error) {
	m := make(map[string]any, len(d.Endpoints)+2)
	for e, t := range d.Endpoints {
		m[string(e)] = t
	}
	if len(d.Profiles) > 0 {
		m[keyProfile] = d.Profiles
	}
	if d.Anchor != "" {
		m[keyAnchor] = d.Anchor
	}
	return json.Marshal(m)
}

// UnmarshalJSON is ParseDirectory.
func (d *Directory) UnmarshalJSON(b []byte) error {
	v, err := ParseDirectory(b)
	if err != nil {
		return err
	}
	*d = *v
	return nil
}

// HasProfile reports whether the provider advertises a wire profile.
func (d *Directory) HasProfile(name string) bool { return slices.Contains(d.Profiles, name) }

// Expand returns the URL of an endpoint for a key: a room or user URI, a
// domain, or the URL of an asset, not yet escaped. The error matches
// ErrNoEndpoint if the directory does not list the endpoint.
func (d *Directory) Expand(e Endpoint, key string) (string, error) {
	t, ok := d.Endpoints[e]
	if !ok {
		return "", fmt.Errorf("%w: %s", ErrNoEndpoint, e)
	}
	if key == "" {
		return "", fmt.Errorf("mimi: no key for endpoint %s", e)
	}
	before, after, err := splitTemplate(e, t)
	if err != nil {
		return "", err
	}
	return before + EscapeName(key) + after, nil
}

// ExpandURI is Expand for a key that is an identifier URI. For the consent
// endpoints and the identifier query the key is the URI's domain.
func (d *Directory) ExpandURI(e Endpoint, u URI) (string, error) {
	if u.IsZero() {
		return "", fmt.Errorf("mimi: no key for endpoint %s", e)
	}
	switch e {
	case EndpointRequestConsent, EndpointUpdateConsent, EndpointIdentifierQuery:
		return d.Expand(e, u.Domain())
	}
	return d.Expand(e, u.String())
}

// splitTemplate checks a template and returns what stands before and after
// its variable.
func splitTemplate(e Endpoint, t string) (before, after string, err error) {
	before, rest, ok := strings.Cut(t, "{")
	name, after, ok2 := strings.Cut(rest, "}")
	if !ok || !ok2 || strings.ContainsAny(after, "{}") || strings.Contains(before, "}") {
		return "", "", fmt.Errorf("%w: %s: %q needs exactly one variable", ErrDirectory, e, t)
	}
	if !slices.Contains(endpointVariables[e], name) {
		return "", "", fmt.Errorf("%w: %s: unknown variable {%s}", ErrDirectory, e, name)
	}
	if err := checkHTTPS(before + "x" + after); err != nil {
		return "", "", fmt.Errorf("%w: %s: %w", ErrDirectory, e, err)
	}
	// The variable must not be part of the authority.
	if i := strings.IndexByte(strings.TrimPrefix(before, "https://"), '/'); i < 0 {
		return "", "", fmt.Errorf("%w: %s: the variable of %q is not in the path", ErrDirectory, e, t)
	}
	return before, after, nil
}

func checkHTTPS(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return err
	}
	if u.Scheme != "https" || !strings.HasPrefix(s, "https://") || u.Host == "" || u.Opaque != "" {
		return fmt.Errorf("%q is not an https URL", s)
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(s, "#") {
		return fmt.Errorf("%q has credentials, a query or a fragment", s)
	}
	return nil
}
