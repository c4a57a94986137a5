package e2e

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/devcert"
	"github.com/comity-im/comity/mimi"
)

// A badPeer speaks to a provider as another one would.
type badPeer struct {
	http *http.Client
	to   string
	from []string // From fields
	host string   // Host field, if not to
}

// peer speaks to a provider with the certificate of a domain in the fleet.
func (w *badWorld) peer(from, to string) *badPeer {
	w.t.Helper()
	c := w.provider(from).Config.TLS
	cert, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
	ok(w.t, err)
	return w.peerWith(from, to, &cert)
}

func (w *badWorld) peerWith(from, to string, cert *tls.Certificate) *badPeer {
	return &badPeer{http: w.badHTTP(w.provider(to).Config.Listen, cert), from: []string{"mimi@" + from}, to: to}
}

// post sends a body to an endpoint; key is an escaped path segment.
func (p *badPeer) post(t *testing.T, endpoint mimi.Endpoint, key string, body []byte) badAnswer {
	t.Helper()
	return p.send(t, badRequest{method: http.MethodPost, url: "/v1/" + string(endpoint) + "/" + key, body: body,
		header: http.Header{"Content-Type": {mimi.MediaType}}})
}

func (p *badPeer) send(t *testing.T, q badRequest) badAnswer {
	t.Helper()
	q.url, q.host = "https://"+p.to+q.url, p.host
	if q.header == nil {
		q.header = http.Header{}
	}
	if p.from != nil {
		q.header["From"] = p.from
	}
	a := badDo(t, p.http, q)
	if a.status >= 300 && len(a.body) > 0 {
		t.Errorf("a refusal with a body: %.200q; why is for the log", a.body)
	}
	if a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable {
		t.Errorf("status %d: a bad request must not look like one that may be repeated", a.status)
	}
	return a
}

// issuer makes certificates of the fleet's authority at another time, in a
// folder of its own.
func (w *badWorld) issuer(t *testing.T, at time.Time) *devcert.Authority {
	t.Helper()
	dir := t.TempDir()
	from := filepath.Dir(w.fleet.RootsFile)
	ok(t, os.CopyFS(dir, os.DirFS(from)))
	a, err := devcert.New(dir, at)
	ok(t, err)
	return a
}

func certificate(t *testing.T, a *devcert.Authority, domain string, also ...string) *tls.Certificate {
	t.Helper()
	certFile, keyFile, err := a.Issue(domain, also...)
	ok(t, err)
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	ok(t, err)
	return &cert
}

// endpoint is what a MIMI endpoint wants.
type endpoint struct {
	name  mimi.Endpoint
	key   string // escaped
	wrong string // a key of another kind, escaped
	limit int
	good  []byte // a body that would be accepted, or refused for what it says
}

// badEndpoints returns the endpoints of a.example as b.example uses them, and
// for notify as the hub of a room that no device of a is in.
func (s *badScene) endpoints(t *testing.T) []endpoint {
	t.Helper()
	users, rooms := s.anna.User().PathSegment(), s.room.PathSegment()
	info, _, _ := s.mallory.groupInfoBody(t)
	own := mimi.MustParseURI("mimi://b.example/r/unheard-of").PathSegment()
	events, err := s.w.provider("a.example").Admin().Events(t.Context(), s.room.String(), 0)
	ok(t, err)
	return []endpoint{
		{mimi.EndpointKeyMaterial, users, rooms, mimi.MaxKeyMaterialRequest, s.mallory.claimBody(t, mimi.URI{}, s.anna.User())},
		{mimi.EndpointUpdate, rooms, users, mimi.MaxUpdateRequest, s.stale},
		{mimi.EndpointSubmitMessage, rooms, users, mimi.MaxSubmitRequest, encode(t, s.removed)},
		{mimi.EndpointNotify, own, users, mimi.MaxNotifyRequest, events[len(events)-1].Body},
		{mimi.EndpointGroupInfo, rooms, users, mimi.MaxGroupInfoRequest, info},
	}
}

// testFederationPeers: who is not who it says is refused before its body is
// read, at every endpoint.
func (s *badScene) testFederationPeers(t *testing.T) {
	w := s.w
	now := w.issuer(t, time.Now())
	stranger, err := devcert.New(t.TempDir(), time.Now())
	ok(t, err)
	b := w.peer("b.example", "a.example")
	with := func(cert *tls.Certificate, from ...string) *badPeer {
		p := w.peerWith("b.example", "a.example", cert)
		p.from = from
		return p
	}
	from := func(fields ...string) *badPeer { return &badPeer{http: b.http, from: fields, to: b.to} }
	peers := []struct {
		name   string
		peer   *badPeer
		status int
		says   string
	}{
		{"no certificate", with(nil, "mimi@b.example"), http.StatusUnauthorized, "no client certificate"},
		{"certificate of an unknown authority", with(certificate(t, stranger, "b.example"), "mimi@b.example"), http.StatusUnauthorized, "unknown authority"},
		{"expired certificate", with(certificate(t, w.issuer(t, time.Now().Add(-2*devcert.Life)), "b.example"), "mimi@b.example"), http.StatusUnauthorized, "expired"},
		{"certificate that is not valid yet", with(certificate(t, w.issuer(t, time.Now().Add(48*time.Hour)), "b.example"), "mimi@b.example"), http.StatusUnauthorized, "not yet valid"},
		{"certificate of another domain", with(certificate(t, now, "e.example"), "mimi@b.example"), http.StatusForbidden, `the certificate is for [\"e.example\"], not for b.example`},
		{"certificate of a subdomain", with(certificate(t, now, "sub.b.example"), "mimi@b.example"), http.StatusForbidden, "not for b.example"},
		{"another peer's name", from("mimi@c.example"), http.StatusForbidden, "not for c.example"},
		{"the provider's own name", from("mimi@a.example"), http.StatusForbidden, "not for a.example"},
		{"the provider's own certificate", with(certificate(t, now, "a.example"), "mimi@a.example"), http.StatusForbidden, "not on the allowlist"},
		{"domain that is not on the list", with(certificate(t, now, "e.example"), "mimi@e.example"), http.StatusForbidden, "not on the allowlist"},
		{"no From", from(), http.StatusForbidden, "0 From fields"},
		{"two Froms", from("mimi@b.example", "mimi@b.example"), http.StatusForbidden, "2 From fields"},
		{"From of another form", from("b.example"), http.StatusForbidden, "From is not mimi@<domain>"},
		{"empty From", from(""), http.StatusForbidden, "From is not mimi@<domain>"},
		{"From with more than a domain", from("mimi@b.example, mimi@c.example"), http.StatusForbidden, "not for b.example, mimi@c.example"},
		{"Host of another provider", &badPeer{http: b.http, to: b.to, from: b.from, host: "b.example"}, http.StatusMisdirectedRequest, `Host is \"b.example\"`},
		{"Host that is an address", &badPeer{http: b.http, to: b.to, from: b.from, host: "127.0.0.1"}, http.StatusMisdirectedRequest, `Host is \"127.0.0.1\"`},
	}
	var cases []badCase
	for _, e := range s.endpoints(t) {
		for _, p := range peers {
			cases = append(cases, badCase{
				name: string(e.name) + "/" + p.name, status: p.status, says: p.says, log: "a.example",
				do: func(t *testing.T) badAnswer {
					return p.peer.post(t, e.name, e.key, e.good)
				},
			})
		}
	}
	w.refuse(t, cases)
}

// testFederationBodies: an authenticated peer sends what can't be parsed.
func (s *badScene) testFederationBodies(t *testing.T) {
	b := s.w.peer("b.example", "a.example")
	var cases []badCase
	add := func(e endpoint, name string, status int, says string, q badRequest) {
		if q.method == "" {
			q.method = http.MethodPost
		}
		if q.url == "" {
			q.url = "/v1/" + string(e.name) + "/" + e.key
		}
		if q.header == nil {
			q.header = http.Header{"Content-Type": {mimi.MediaType}}
		}
		cases = append(cases, badCase{name: string(e.name) + "/" + name, status: status, says: says, log: "a.example",
			do: func(t *testing.T) badAnswer { q.header = q.header.Clone(); return b.send(t, q) }})
	}
	malformed := "malformed"
	for _, e := range s.endpoints(t) {
		add(e, "empty body", http.StatusBadRequest, malformed, badRequest{})
		add(e, "zeros", http.StatusBadRequest, malformed, badRequest{body: make([]byte, 100)})
		add(e, "ones", http.StatusBadRequest, malformed, badRequest{body: bytes.Repeat([]byte{0xff}, 100)})
		add(e, "JSON", http.StatusBadRequest, malformed, badRequest{body: []byte(`{"protocol":"mls10"}`)})
		add(e, "cut in the middle", http.StatusBadRequest, malformed, badRequest{body: e.good[:len(e.good)/2]})
		add(e, "last octet missing", http.StatusBadRequest, malformed, badRequest{body: e.good[:len(e.good)-1]})
		add(e, "an octet too many", http.StatusBadRequest, malformed, badRequest{body: append(bytes.Clone(e.good), 0)})
		add(e, "unknown version", http.StatusBadRequest, malformed, badRequest{body: append([]byte{0xfa, 0xfa, 0xfa}, e.good...)})
		add(e, "larger than allowed, as it says", http.StatusRequestEntityTooLarge, fmt.Sprintf("the limit of %s is %d", e.name, e.limit),
			badRequest{body: make([]byte, e.limit+1)})
		add(e, "larger than allowed, without saying so", http.StatusRequestEntityTooLarge, fmt.Sprintf("more than %d octets", e.limit),
			badRequest{body: make([]byte, e.limit+1), chunked: true})
		add(e, "wrong media type", http.StatusUnsupportedMediaType, "text/plain", badRequest{body: e.good, header: http.Header{"Content-Type": {"text/plain"}}})
		add(e, "broken media type", http.StatusUnsupportedMediaType, "media type", badRequest{body: e.good, header: http.Header{"Content-Type": {"/;;"}}})
		add(e, "compressed", http.StatusUnsupportedMediaType, "gzip",
			badRequest{body: e.good, header: http.Header{"Content-Type": {mimi.MediaType}, "Content-Encoding": {"gzip"}}})
		add(e, "GET", http.StatusMethodNotAllowed, "method not allowed", badRequest{method: http.MethodGet})
		add(e, "key of another kind", http.StatusBadRequest, "wants a", badRequest{body: e.good, url: "/v1/" + string(e.name) + "/" + e.wrong})
		add(e, "no key", http.StatusBadRequest, malformed, badRequest{body: e.good, url: "/v1/" + string(e.name) + "/"})
		add(e, "key that is no URI", http.StatusBadRequest, malformed, badRequest{body: e.good, url: "/v1/" + string(e.name) + "/%00%ff%20"})
		add(e, "key of dots", http.StatusBadRequest, malformed, badRequest{body: e.good, url: "/v1/" + string(e.name) + "/..%2F..%2Fetc"})
		add(e, "longest key", http.StatusBadRequest, malformed,
			badRequest{body: e.good, url: "/v1/" + string(e.name) + "/mimi%3A%2F%2Fa.example%2Fr%2F" + string(bytes.Repeat([]byte{'x'}, 8000))})
	}
	e := endpoint{name: "paths"}
	add(e, "unknown endpoint", http.StatusNotFound, "no such resource", badRequest{url: "/v1/nothing/x"})
	add(e, "endpoint that is not offered", http.StatusNotFound, "no such resource", badRequest{url: "/v1/reportAbuse/" + s.room.PathSegment()})
	add(e, "endpoint without a key", http.StatusNotFound, "no such resource", badRequest{url: "/v1/update"})
	add(e, "other version", http.StatusNotFound, "no such resource", badRequest{url: "/v2/update/" + s.room.PathSegment()})
	add(e, "client API", http.StatusNotFound, "no such resource", badRequest{url: "/v1/enrol"})
	add(e, "directory by POST", http.StatusMethodNotAllowed, "method not allowed", badRequest{url: mimi.DirectoryPath})
	s.w.refuse(t, cases)
}
