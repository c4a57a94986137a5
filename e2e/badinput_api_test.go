package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
)

// An apiCall is one call of the client API.
type apiCall struct {
	name, method, path string
	limit              int
	public, json       bool
	keyed              string // path without the key, where a key ends it
	wrong              string // key of another kind
	good               []byte // a body that can be parsed
}

// apiCalls lists all calls of the client API at b.example, for dave.
func (s *badScene) apiCalls(t *testing.T) []apiCall {
	t.Helper()
	room, user := s.room.PathSegment(), s.anna.User().PathSegment()
	kp, _ := s.dave.keyPackage(t, badValid)
	_, create := s.dave.newGroup(t, mimi.MustParseURI("mimi://b.example/r/never"), "group")
	info, _, _ := s.dave.groupInfoBody(t)
	var kps bytes.Buffer
	body := encode(t, kp)
	// A vector of at most 16,383 octets has its length in two.
	kps.Write([]byte{0x40 | byte(len(body)>>8), byte(len(body))})
	kps.Write(body)
	toJSON := func(v any) []byte {
		b, err := json.Marshal(v)
		ok(t, err)
		return b
	}
	const small = 16 << 10
	return []apiCall{
		{name: "enrol", method: http.MethodPost, path: local.PathEnrol, limit: small, public: true, json: true,
			good: toJSON(s.dave.enrolment(t, "AAAAA-AAAAA-AAAAA-AAAAA-AAAAA", "x"))},
		{name: "token", method: http.MethodPost, path: local.PathToken, limit: small, public: true, json: true, good: toJSON(s.dave.proof(t))},
		{name: "publish", method: http.MethodPut, path: local.PathKeyPackages, limit: 2 << 20, good: kps.Bytes()},
		{name: "rooms", method: http.MethodPost, path: local.PathRooms, limit: mimi.MaxUpdateRequest, good: create},
		{name: "update", method: http.MethodPost, path: local.PathUpdate + room, keyed: local.PathUpdate, wrong: user,
			limit: mimi.MaxUpdateRequest, good: s.stale},
		{name: "submitMessage", method: http.MethodPost, path: local.PathSubmitMessage + room, keyed: local.PathSubmitMessage, wrong: user,
			limit: mimi.MaxSubmitRequest, good: encode(t, s.farOld)},
		{name: "groupInfo", method: http.MethodPost, path: local.PathGroupInfo + room, keyed: local.PathGroupInfo, wrong: user,
			limit: mimi.MaxGroupInfoRequest, good: info},
		{name: "keyMaterial", method: http.MethodPost, path: local.PathKeyMaterial + user, keyed: local.PathKeyMaterial, wrong: room,
			limit: mimi.MaxKeyMaterialRequest, good: s.dave.claimBody(t, s.room, s.anna.User())},
		{name: "count", method: http.MethodGet, path: local.PathKeyPackages},
		{name: "anchors", method: http.MethodGet, path: local.PathAnchors + "a.example"},
		{name: "stream", method: http.MethodGet, path: local.PathStream},
	}
}

func (c *apiCall) media() string {
	if c.json {
		return local.MediaTypeJSON
	}
	return local.MediaTypeTLS
}

// testClientTokens: no call but the public ones is answered without a token of
// a device of this provider.
func (s *badScene) testClientTokens(t *testing.T) {
	d := s.dave
	atA := s.root.token // a token, but of another provider
	challenge := s.dave.proof(t).Challenge
	tokens := []struct{ name, header string }{
		{"no token", ""}, {"empty token", "Bearer "}, {"no token at all", "Bearer"}, {"another scheme", "Basic ZGF2ZTpkYXZl"},
		{"junk", "Bearer junk"}, {"not base64", "Bearer %%%"}, {"token of another provider", "Bearer " + atA},
		{"changed token", "Bearer " + string(flip([]byte(d.token), len(d.token)/2))},
		{"cut token", "Bearer " + d.token[:len(d.token)-2]},
		{"token twice", "Bearer " + d.token + d.token}, {"huge token", "Bearer " + strings.Repeat("A", 60_000)},
		{"a challenge", "Bearer " + base64.RawURLEncoding.EncodeToString(challenge)},
	}
	var cases []badCase
	for _, c := range s.apiCalls(t) {
		if c.public {
			continue
		}
		for _, tok := range tokens {
			cases = append(cases, badCase{
				name: c.name + "/" + tok.name, status: http.StatusUnauthorized, code: local.CodeUnauthenticated, says: "token",
				do: func(t *testing.T) badAnswer {
					h := http.Header{"Content-Type": {c.media()}}
					if tok.header != "" {
						h["Authorization"] = []string{tok.header}
					}
					return d.send(t, badRequest{method: c.method, url: c.path, body: c.good, header: h})
				},
			})
		}
	}
	s.w.refuse(t, cases)
}

// testClientBodies: what can't be parsed, or is too large.
func (s *badScene) testClientBodies(t *testing.T) {
	d := s.dave
	var cases []badCase
	add := func(c apiCall, name string, status int, code, says string, q badRequest) {
		if q.method == "" {
			q.method = c.method
		}
		if q.url == "" {
			q.url = c.path
		}
		if q.header == nil {
			q.header = http.Header{"Content-Type": {c.media()}}
		}
		q.header["Authorization"] = []string{"Bearer " + d.token}
		cases = append(cases, badCase{name: c.name + "/" + name, status: status, code: code, says: says,
			do: func(t *testing.T) badAnswer { q.header = q.header.Clone(); return d.send(t, q) }})
	}
	for _, c := range s.apiCalls(t) {
		if c.good == nil {
			continue
		}
		const bad = http.StatusBadRequest
		says := "malformed"
		if c.json {
			says = "(body)"
		}
		add(c, "empty body", bad, local.CodeMalformed, "request body is required", badRequest{})
		add(c, "zeros", bad, local.CodeMalformed, says, badRequest{body: make([]byte, 100)})
		add(c, "ones", bad, local.CodeMalformed, says, badRequest{body: bytes.Repeat([]byte{0xff}, 100)})
		add(c, "cut in the middle", bad, local.CodeMalformed, says, badRequest{body: c.good[:len(c.good)/2]})
		add(c, "last octet missing", bad, local.CodeMalformed, says, badRequest{body: c.good[:len(c.good)-1]})
		add(c, "too much", bad, local.CodeMalformed, says, badRequest{body: append(bytes.Clone(c.good), "x"...)})
		large := http.StatusRequestEntityTooLarge
		add(c, "larger than allowed, as it says", large, local.CodeTooLarge, "large", badRequest{body: make([]byte, c.limit+1)})
		add(c, "larger than allowed, without saying so", large, local.CodeTooLarge, "large", badRequest{body: make([]byte, c.limit+1), chunked: true})
		add(c, "wrong media type", http.StatusUnsupportedMediaType, local.CodeMediaType, "type", badRequest{body: c.good, header: http.Header{"Content-Type": {"text/plain"}}})
		add(c, "broken media type", http.StatusUnsupportedMediaType, local.CodeMediaType, "type", badRequest{body: c.good, header: http.Header{"Content-Type": {"/;;"}}})
		add(c, "wrong method", http.StatusMethodNotAllowed, local.CodeMethod, "method", badRequest{method: http.MethodPatch, body: c.good})
		if c.keyed == "" {
			continue
		}
		add(c, "key of another kind", bad, local.CodeMalformed, "does not name a", badRequest{body: c.good, url: c.keyed + c.wrong})
		add(c, "key that is no URI", bad, local.CodeMalformed, says, badRequest{body: c.good, url: c.keyed + "%00%ff%20"})
		add(c, "no key", http.StatusNotFound, local.CodeNotFound, "no such thing", badRequest{body: c.good, url: c.keyed})
		add(c, "key that is too long", bad, local.CodeMalformed, "(path.uri)", badRequest{body: c.good,
			url: c.keyed + mimi.MustParseURI("mimi://a.example/r/x").PathSegment() + strings.Repeat("x", 4000)})
	}
	anchors := apiCall{name: "anchors", method: http.MethodGet}
	add(anchors, "no domain", http.StatusNotFound, local.CodeNotFound, "no such thing", badRequest{url: local.PathAnchors})
	add(anchors, "no domain name", http.StatusBadRequest, local.CodeMalformed, "domain", badRequest{url: local.PathAnchors + "a%20b"})
	add(anchors, "an address", http.StatusBadRequest, local.CodeMalformed, "domain", badRequest{url: local.PathAnchors + "127.0.0.1"})
	add(anchors, "provider that is no peer", http.StatusForbidden, local.CodeForbidden, "allowlist", badRequest{url: local.PathAnchors + "e.example"})
	add(anchors, "long domain", http.StatusBadRequest, local.CodeMalformed, "domain", badRequest{url: local.PathAnchors + strings.Repeat("a.", 500) + "example"})
	paths := apiCall{name: "paths", method: http.MethodGet}
	add(paths, "root", http.StatusNotFound, local.CodeNotFound, "no such thing", badRequest{url: "/"})
	add(paths, "unknown", http.StatusNotFound, local.CodeNotFound, "no such thing", badRequest{url: "/v1/nothing"})
	add(paths, "other version", http.StatusNotFound, local.CodeNotFound, "no such thing", badRequest{url: "/v2/rooms"})
	add(paths, "dots", http.StatusNotFound, local.CodeNotFound, "no such thing", badRequest{url: "/v1/anchors/%2e%2e/%2e%2e/etc/passwd"})
	add(paths, "GET of a POST", http.StatusMethodNotAllowed, local.CodeMethod, "method", badRequest{url: local.PathRooms})
	s.w.refuse(t, cases)
}
