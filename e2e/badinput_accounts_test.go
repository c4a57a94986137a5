package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

// testAccounts: enrolment, login and the creation of rooms with what does not
// fit.
func (s *badScene) testAccounts(t *testing.T) {
	w, d := s.w, s.erin
	l := &caseList{s: s}
	code, err := w.provider("a.example").Admin().AddUser(t.Context(), "newcomer")
	ok(t, err)
	signer, _, err := mls.GenerateSigner(badSuite, rand.Reader)
	ok(t, err)
	fresh := &badDevice{w: w, domain: "a.example", http: d.http, signer: signer}
	enrol := func(name string, status int, stable, says string, change func(*local.EnrolRequest)) {
		req := fresh.enrolment(t, code.Code, "phone")
		change(&req)
		l.one("enrol/"+name, status, stable, says, func(t *testing.T) badAnswer { return d.json(t, local.PathEnrol, req) })
	}
	resign := func(r *local.EnrolRequest) { *r = fresh.enrolment(t, r.Code, r.DeviceName) }
	const ask = "ask your provider for a new code"
	forbidden, malformed := http.StatusForbidden, http.StatusBadRequest
	enrol("unknown code", forbidden, local.CodeForbidden, ask, func(r *local.EnrolRequest) { r.Code = "AAAAA-AAAAA"; resign(r) })
	enrol("code of another provider", forbidden, local.CodeForbidden, ask, func(r *local.EnrolRequest) {
		other, err := w.provider("b.example").Admin().AddUser(t.Context(), "newcomer")
		ok(t, err)
		r.Code = other.Code
		resign(r)
	})
	enrol("changed signature", forbidden, local.CodeForbidden, ask, func(r *local.EnrolRequest) { r.Signature = flip(r.Signature, 3) })
	enrol("signature for another name", forbidden, local.CodeForbidden, ask, func(r *local.EnrolRequest) { r.DeviceName = "tablet" })
	enrol("no signature", malformed, local.CodeMalformed, "(body.signature)", func(r *local.EnrolRequest) { r.Signature = nil })
	enrol("key of another suite", forbidden, local.CodeForbidden, ask, func(r *local.EnrolRequest) { r.CipherSuite = 2 })
	enrol("unknown suite", forbidden, local.CodeForbidden, ask, func(r *local.EnrolRequest) { r.CipherSuite = 0xfafa })
	enrol("no key", malformed, local.CodeMalformed, "(body.public_key)", func(r *local.EnrolRequest) { r.PublicKey = nil })
	for name, device := range map[string]string{"no name": "", "name with a slash": "a/b", "name with a blank": "a b", "name with NUL": "a\x00"} {
		enrol(name, malformed, local.CodeMalformed, "device name", func(r *local.EnrolRequest) { r.DeviceName = device; resign(r) })
	}
	enrol("dots", malformed, local.CodeMalformed, "dot segment", func(r *local.EnrolRequest) { r.DeviceName = ".."; resign(r) })
	enrol("long name", malformed, local.CodeMalformed, "too long", func(r *local.EnrolRequest) { r.DeviceName = strings.Repeat("x", local.MaxDeviceName+1); resign(r) })
	enrol("long code", malformed, local.CodeMalformed, "too long", func(r *local.EnrolRequest) { r.Code = strings.Repeat("x", local.MaxEnrolmentCode+1); resign(r) })

	token := func(name string, status int, stable, says string, change func(*local.TokenRequest)) {
		l.one("token/"+name, status, stable, says, func(t *testing.T) badAnswer {
			req := d.proof(t)
			change(&req)
			return d.json(t, local.PathToken, req)
		})
	}
	no := http.StatusUnauthorized
	token("changed signature", no, local.CodeUnauthenticated, "the signature does not fit", func(r *local.TokenRequest) { r.Signature = flip(r.Signature, 3) })
	token("another device", no, local.CodeUnauthenticated, "the signature does not fit", func(r *local.TokenRequest) { r.Device = s.root.uri.String() })
	token("unknown device", no, local.CodeUnauthenticated, "the device is unknown", func(r *local.TokenRequest) { r.Device = "mimi://a.example/d/none/x" })
	token("device of another provider", no, local.CodeUnauthenticated, "the device is unknown", func(r *local.TokenRequest) { r.Device = s.dave.uri.String() })
	token("user in place of a device", malformed, local.CodeMalformed, "does not name a", func(r *local.TokenRequest) { r.Device = d.user.String() })
	token("no device", malformed, local.CodeMalformed, "", func(r *local.TokenRequest) { r.Device = "" })
	token("changed challenge", no, local.CodeUnauthenticated, "ask for another", func(r *local.TokenRequest) { r.Challenge = flip(r.Challenge, 9) })
	token("no challenge", malformed, local.CodeMalformed, "(body.challenge)", func(r *local.TokenRequest) { r.Challenge = nil })
	token("challenge of another provider", no, local.CodeUnauthenticated, "ask for another", func(r *local.TokenRequest) { r.Challenge = s.dave.proof(t).Challenge })
	used := d.proof(t)
	if a := d.json(t, local.PathToken, used); a.status != http.StatusOK {
		t.Fatalf("token: %d %s", a.status, a.says)
	}
	l.one("token/challenge that was used", no, local.CodeUnauthenticated, "was used", func(t *testing.T) badAnswer { return d.json(t, local.PathToken, used) })

	at := func(uri string, by *badDevice) []byte {
		_, body := by.newGroup(t, mimi.MustParseURI(uri), "group")
		return body
	}
	create := func(name string, status int, stable, says string, body []byte) {
		l.one("room/"+name, status, stable, says, func(t *testing.T) badAnswer { return d.tls(t, http.MethodPost, local.PathRooms, body) })
	}
	create("of another provider", malformed, local.CodeMalformed, "the hub is of a.example, the room of b.example", at("mimi://b.example/r/x", d))
	create("of another user", malformed, local.CodeMalformed, "", at("mimi://a.example/r/new", s.root))
	create("that exists", http.StatusConflict, local.CodeConflict, "exists", at(s.room.String(), d))
	create("with another hub's key", malformed, local.CodeMalformed, "the hub is of b.example",
		at("mimi://a.example/r/new", &badDevice{user: d.user, signer: d.signer, cred: d.cred, hub: s.dave.hub}))
	create("with another's certificate", malformed, local.CodeMalformed, "credential",
		at("mimi://a.example/r/new", &badDevice{user: d.user, signer: s.mallory.signer, cred: d.cred, hub: d.hub}))
	good := at("mimi://a.example/r/new", d)
	create("with a changed GroupInfo", malformed, local.CodeMalformed, "", flip(good, len(good)/3))
	g, body := d.newGroup(t, mimi.MustParseURI("mimi://a.example/r/new"), "group")
	sc, err := g.Commit(mls.CommitOptions{ForcePath: true, OmitTree: true})
	ok(t, err)
	ok(t, g.Merge(sc))
	gi, err := g.GroupInfo()
	ok(t, err)
	tree, err := mimi.FullTree(g.State().RatchetTree())
	ok(t, err)
	create("in a later epoch", malformed, local.CodeMalformed, "epoch 0", encode(t, &local.CreateRoomRequest{GroupInfo: *gi, RatchetTree: tree}))
	var before local.CreateRoomRequest
	ok(t, mls.Unmarshal(body, &before))
	create("with the tree of another epoch", malformed, local.CodeMalformed, "tree", encode(t, &local.CreateRoomRequest{GroupInfo: *gi, RatchetTree: before.RatchetTree}))
	create("without a tree", malformed, local.CodeMalformed, "tree", encode(t, &local.CreateRoomRequest{GroupInfo: *gi, RatchetTree: mimi.HubTree()}))
	w.refuse(t, l.cases)

	// The code was not spent by any of these.
	a := d.json(t, local.PathEnrol, fresh.enrolment(t, code.Code, "phone"))
	var resp local.EnrolResponse
	if err := json.Unmarshal(a.body, &resp); err != nil || a.status != http.StatusOK || resp.User != code.User {
		t.Errorf("enrolling at last: %d %s %v", a.status, a.says, err)
	}
	// It is now.
	l = &caseList{s: s}
	enrol("used code", forbidden, local.CodeForbidden, ask, func(r *local.EnrolRequest) { r.DeviceName = "second"; resign(r) })
	w.refuse(t, l.cases)
}

// stream opens a device's stream.
func (d *badDevice) stream(t *testing.T) *websocket.Conn {
	t.Helper()
	d.login(t)
	conn, _, err := websocket.Dial(t.Context(), "https://"+d.domain+local.PathStream, &websocket.DialOptions{
		HTTPClient: d.http, HTTPHeader: http.Header{"Authorization": {"Bearer " + d.token}}})
	ok(t, err)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

// testStream: frames that make no sense end the stream, with a reason.
func (s *badScene) testStream(t *testing.T) {
	d := s.dave
	frame := func(f local.Frame) []byte { return encode(t, &f) }
	sub := frame(local.Frame{Type: local.FrameSubscribe, Room: s.room})
	var noRoom tlspl.Writer
	noRoom.Uint8(uint8(local.FrameSubscribe))
	noRoom.Opaque([]byte("no uri"))
	noRoom.Uint64(0)
	bad, err := noRoom.Bytes()
	ok(t, err)
	text := websocket.MessageText
	var many [][]byte
	for i := range local.MaxSubscriptions + 1 {
		many = append(many, frame(local.Frame{Type: local.FrameSubscribe,
			Room: mimi.MustParseURI("mimi://a.example/r/" + strings.Repeat("r", i%60+1) + string(rune('a'+i/60%26)) + string(rune('a'+i/1560)))}))
	}
	var cases []badCase
	add := func(name string, code websocket.StatusCode, says string, kind websocket.MessageType, frames ...[]byte) {
		cases = append(cases, badCase{name: name, status: int(code), says: says, do: func(t *testing.T) badAnswer {
			conn := d.stream(t)
			ctx, cancel := context.WithTimeout(t.Context(), badPatience)
			defer cancel()
			for _, f := range frames {
				if err := conn.Write(ctx, kind, f); err != nil {
					break // it is closed already
				}
			}
			for {
				if _, _, err := conn.Read(ctx); err != nil {
					return badAnswer{status: int(websocket.CloseStatus(err)), says: err.Error()}
				}
			}
		}})
	}
	policy, binary := websocket.StatusPolicyViolation, websocket.MessageBinary
	add("text frame", policy, "unexpected frame", text, sub)
	add("empty frame", policy, "malformed", binary, nil)
	add("zeros", policy, "unknown frame type", binary, make([]byte, 64))
	add("cut frame", policy, "malformed", binary, sub[:len(sub)-3])
	add("frame with more behind it", policy, "malformed", binary, append([]byte(nil), append(sub, 1)...))
	add("unknown type", policy, "unknown frame type", binary, []byte{0xee})
	for _, f := range []local.FrameType{local.FrameEvent, local.FrameMail, local.FrameCaughtUp, local.FrameClosed} {
		add("the provider's own frame "+f.String(), policy, f.String(), binary, frame(local.Frame{Type: f, Room: s.room, Kind: local.MailWelcome}))
	}
	add("what is no URI", policy, "URI", binary, bad)
	add("subscribing to a user", policy, "is no room", binary, frame(local.Frame{Type: local.FrameSubscribe, Room: d.user}))
	add("acknowledging mail that was not sent", policy, "is acknowledged", binary, frame(local.Frame{Type: local.FrameAckMail, Mail: 1 << 60}))
	add("too large", websocket.StatusMessageTooBig, "limit", binary, make([]byte, local.MaxClientFrame+1))
	add("too many rooms", policy, "more than", binary, many...)
	s.w.refuse(t, cases)

	// A stream is open to none but members: an outsider, and one who was
	// removed, get nothing of what they may not read.
	for _, x := range []*badDevice{s.erin, s.root} {
		conn := x.stream(t)
		ok(t, conn.Write(t.Context(), binary, sub))
		ctx, cancel := context.WithTimeout(t.Context(), badPatience)
		events := 0
		for x == s.root {
			_, b, err := conn.Read(ctx)
			ok(t, err)
			var f local.Frame
			ok(t, mls.Unmarshal(b, &f))
			if f.Type == local.FrameEvent {
				events++
			}
			if f.Type == local.FrameCaughtUp {
				break
			}
		}
		cancel()
		if x == s.root && events == 0 {
			t.Error("the founder gets no events: the comparison means nothing")
		}
		if x == s.erin {
			// What the provider answers to something else comes next.
			ctx, cancel := context.WithTimeout(t.Context(), badPatience)
			ok(t, conn.Write(ctx, binary, []byte{0xee}))
			for {
				_, b, err := conn.Read(ctx)
				if err != nil {
					break
				}
				var f local.Frame
				ok(t, mls.Unmarshal(b, &f))
				if f.Type == local.FrameEvent {
					t.Errorf("an outsider gets event %d", f.Position)
				}
			}
			cancel()
		}
	}
}
