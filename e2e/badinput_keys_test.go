package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

// count returns how many KeyPackages of a device can be claimed.
func (d *badDevice) count(t *testing.T) int {
	t.Helper()
	a := d.tls(t, http.MethodGet, local.PathKeyPackages, nil)
	var n local.KeyPackageCount
	if err := json.Unmarshal(a.body, &n); err != nil || a.status != http.StatusOK {
		t.Fatalf("counting KeyPackages: %d %s %v", a.status, a.says, err)
	}
	return n.Count
}

// status reads the code of a KeyMaterialResponse.
func (a badAnswer) material(t *testing.T) badAnswer {
	t.Helper()
	if a.status != http.StatusOK {
		return a
	}
	var resp mimi.KeyMaterialResponse
	ok(t, mls.Unmarshal(a.body, &resp))
	a.code = resp.UserStatus.String()
	for _, c := range resp.Clients {
		a.says += c.Status.String()
	}
	return a
}

// information reads the code of a GroupInfoResponse.
func (a badAnswer) information(t *testing.T) badAnswer {
	t.Helper()
	if a.status != http.StatusOK {
		return a
	}
	var resp mimi.GroupInfoResponse
	ok(t, mls.Unmarshal(a.body, &resp))
	a.code = resp.Status.String()
	return a
}

// testKeyPackages: what can't be published, and what can't be claimed. No
// refusal costs a KeyPackage.
func (s *badScene) testKeyPackages(t *testing.T) {
	w, erin := s.w, s.erin
	l := &caseList{s: s}
	day := 24 * time.Hour
	publish := func(name string, says string, kps ...*mls.KeyPackage) {
		l.one("publish/"+name, http.StatusBadRequest, local.CodeMalformed, says, func(t *testing.T) badAnswer { return erin.publish(t, kps...) })
	}
	good := badKP(t, erin, badValid)
	publish("one that has expired", "number 1: mls: outside of its lifetime: lifetime ended", badKP(t, erin, validity{-10 * day, -3 * time.Hour}))
	publish("one that is not valid yet", "lifetime begins", badKP(t, erin, validity{2 * day, 9 * day}))
	publish("one that is valid for too long", "the limit is", badKP(t, erin, validity{-time.Hour, 3650 * day}))
	publish("a good one and one that has expired", "number 2", good, badKP(t, erin, validity{-10 * day, -3 * time.Hour}))
	publish("one of another device", "it is for mimi://b.example/d/dave/raw", badKP(t, s.dave, badValid))
	publish("one with another's certificate", "another key", badKP(t, &badDevice{signer: s.mallory.signer, cred: erin.cred}, badValid))
	damaged := badKP(t, erin, badValid)
	raw := encode(t, damaged)
	var changed mls.KeyPackage
	ok(t, mls.Unmarshal(flip(raw, -5), &changed))
	publish("one with a changed signature", "signature", &changed)
	many := make([]*mls.KeyPackage, local.MaxKeyPackages+1)
	for i := range many {
		many[i] = good
	}
	publish("more than the limit", "malformed", many...)

	if a := erin.publish(t, badKP(t, erin, badValid), badKP(t, erin, badValid)); a.status >= 300 {
		t.Fatalf("publishing good ones: %d %s", a.status, a.says)
	}
	if a := erin.publish(t, badKP(t, erin, badValid)); a.status >= 300 {
		t.Fatalf("publishing: %d %s", a.status, a.says)
	}
	have := erin.count(t)
	if have != 3 {
		t.Fatalf("%d KeyPackages, want 3", have)
	}
	w.more = append(w.more, func() string { return fmt.Sprintf("erin has %d KeyPackages\n", erin.count(w.t)) })

	claim := func(name string, d *badDevice, target mimi.URI, body []byte, c badCase) {
		l.both("claim/"+name, d, local.PathKeyMaterial, mimi.EndpointKeyMaterial, target, body, badAnswer.material, c)
	}
	request := func(d *badDevice, change func(*mimi.KeyMaterialRequest)) []byte {
		req := &mimi.KeyMaterialRequest{Protocol: mimi.ProtocolMLS10, RequestingUser: d.user, TargetUser: erin.user,
			CipherSuites: []mls.CipherSuite{badSuite}, Credential: d.cred}
		change(req)
		ok(t, req.Sign(d.signer))
		return encode(t, req)
	}
	none := func(*mimi.KeyMaterialRequest) {}
	dave := s.dave
	peer := func(from string) *badPeer { return w.peer(from, "a.example") }
	atPeer := func(name, from, says string, status int, body []byte) {
		l.logged("claim/"+name, "a.example", status, "", says, func(t *testing.T) badAnswer {
			return peer(from).post(t, mimi.EndpointKeyMaterial, erin.user.PathSegment(), body)
		})
	}
	atPeer("with a changed signature", "b.example", "signature", http.StatusForbidden, flip(request(dave, none), -5))
	atPeer("with another's credential", "b.example", "another key", http.StatusForbidden,
		request(&badDevice{user: dave.user, signer: s.mallory.signer, cred: dave.cred}, none))
	atPeer("in another user's name", "b.example", "the credential is that of", http.StatusForbidden,
		request(dave, func(r *mimi.KeyMaterialRequest) { r.RequestingUser = s.bob.User() }))
	atPeer("for another provider's user", "c.example", "asks where", http.StatusForbidden, request(dave, none))
	atPeer("for a room of a third provider", "b.example", "asks where", http.StatusForbidden,
		request(dave, func(r *mimi.KeyMaterialRequest) { r.Room = mimi.MustParseURI("mimi://c.example/r/x") }))
	atPeer("of somebody else than the path says", "b.example", "the path names", http.StatusBadRequest,
		request(dave, func(r *mimi.KeyMaterialRequest) { r.TargetUser = s.anna.User() }))
	l.one("claim/in another user's name, at the own provider", http.StatusForbidden, local.CodeForbidden, "the device is that of", func(t *testing.T) badAnswer {
		return dave.tls(t, http.MethodPost, local.PathKeyMaterial+erin.user.PathSegment(), request(dave, func(r *mimi.KeyMaterialRequest) { r.RequestingUser = s.bob.User() }))
	})
	code := func(c mimi.KeyMaterialUserCode, says string) badCase {
		return badCase{status: http.StatusOK, code: c.String(), says: says}
	}
	inRoom := func(r *mimi.KeyMaterialRequest) { r.Room = s.room }
	claim("for a room, by a member who may not add", dave, erin.user, request(dave, inRoom), code(mimi.KeyMaterialNoConsent, ""))
	claim("for a room, by a removed user", s.mallory, erin.user, request(s.mallory, inRoom), code(mimi.KeyMaterialNoConsent, ""))
	claim("for a room, by somebody who never was in it", s.carol, erin.user, request(s.carol, inRoom), code(mimi.KeyMaterialNoConsent, ""))
	claim("for an unknown room", dave, erin.user,
		request(dave, func(r *mimi.KeyMaterialRequest) { r.Room = mimi.MustParseURI("mimi://a.example/r/unheard-of") }), code(mimi.KeyMaterialNoConsent, ""))
	nobody := mimi.MustParseURI("mimi://a.example/u/nobody")
	claim("of an unknown user", dave, nobody, request(dave, func(r *mimi.KeyMaterialRequest) { r.TargetUser = nobody }), code(mimi.KeyMaterialUserUnknown, ""))
	claim("of another cipher suite", dave, erin.user,
		request(dave, func(r *mimi.KeyMaterialRequest) { r.CipherSuites = []mls.CipherSuite{mls.X25519ChaCha20SHA256Ed25519} }), code(mimi.KeyMaterialNoCompatibleMaterial, "nothingCompatible"))
	claim("of a user with a KeyPackage that is about to expire", dave, s.late.user, request(dave, func(r *mimi.KeyMaterialRequest) { r.TargetUser = s.late.user }),
		code(mimi.KeyMaterialNoCompatibleMaterial, "keyMaterialExhausted"))
	s.w.refuse(t, l.cases)
}

// testGroupInfo: who may not have the GroupInfo of a room gets the answer that
// also a room gets that does not exist.
func (s *badScene) testGroupInfo(t *testing.T) {
	l := &caseList{s: s}
	no := badCase{status: http.StatusOK, code: mimi.GroupInfoNotAuthorized.String(), log: "a.example"}
	ask := func(name string, d *badDevice, uri mimi.URI, body []byte, says string) {
		c := no
		c.says = says
		l.both(name, d, local.PathGroupInfo, mimi.EndpointGroupInfo, uri, body, badAnswer.information, c)
	}
	body := func(d *badDevice) []byte { b, _, _ := d.groupInfoBody(t); return b }
	ask("by a removed user", s.mallory, s.room, body(s.mallory), "not a participant")
	ask("by somebody who never was in the room", s.carol, s.room, body(s.carol), "not a participant")
	ask("by a device of the hub's own that is not in the room", s.erin, s.room, body(s.erin), "not a participant")
	ask("of an unknown room", s.dave, mimi.MustParseURI("mimi://a.example/r/unheard-of"), body(s.dave), "no such room")
	ask("with a changed signature", s.dave, s.room, flip(body(s.dave), -5), "reason=signature")
	ask("with another's key", s.dave, s.room, body(&badDevice{signer: s.mallory.signer, cred: s.dave.cred}), "credential")
	c := s.w.peer("c.example", "a.example")
	l.logged("of a user of another provider", "a.example", http.StatusOK, no.code, "credential of another provider", func(t *testing.T) badAnswer {
		return c.post(t, mimi.EndpointGroupInfo, s.room.PathSegment(), body(s.dave)).information(t)
	})
	s.w.refuse(t, l.cases)
}
