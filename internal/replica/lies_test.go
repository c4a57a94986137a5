package replica_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/fedtest"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// fan encodes a notification.
func fan(t testing.TB, messages ...mimi.FanoutMessage) []byte {
	t.Helper()
	var body []byte
	for i := range messages {
		b, err := mls.Marshal(&messages[i])
		if err != nil {
			t.Fatal(err)
		}
		body = append(body, b...)
	}
	return body
}

func logOf(t testing.TB, p *fedtest.Provider, uri mimi.URI) []store.Event {
	t.Helper()
	events, err := p.Store.ReadLog(context.Background(), uri.String(), 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func TestNotificationsCanBeRepeated(t *testing.T) {
	w, a, b, alice, bob, uri := duo(t, quick)
	w.OK(alice.Say(uri, "one"))
	w.OK(alice.Commit(uri, commitPending))
	w.OK(alice.Sync())
	w.OK(alice.Say(uri, "two"))
	said(t, w, uri, []string{"alice: one", "alice: two"}, alice, bob)
	before := logOf(t, b, uri)
	var all []byte
	for _, e := range logOf(t, a, uri) {
		all = append(all, e.Body...)
		if err := b.Replica.Notify(t.Context(), "a.example", uri, e.Body); err != nil {
			t.Errorf("event %d again: %v", e.Position, err)
		}
	}
	for range 2 {
		if err := b.Replica.Notify(t.Context(), "a.example", uri, all); err != nil {
			t.Errorf("everything again: %v", err)
		}
	}
	if after := logOf(t, b, uri); len(after) != len(before) {
		t.Errorf("%d events, had %d", len(after), len(before))
	}
	// The copy holds the same bytes, in the same order, as the hub's log.
	if at, bt := logOf(t, a, uri), before; !slices.EqualFunc(at, bt, func(x, y store.Event) bool {
		return string(x.Body) == string(y.Body) && x.Hash == y.Hash && x.Timestamp == y.Timestamp && x.Kind == y.Kind
	}) {
		t.Error("the copy differs from the hub's log")
	}
	if err := b.Replica.Notify(t.Context(), "a.example", uri, fan(t, duplicateOf(t, logOf(t, a, uri)[len(before)-1]), duplicateOf(t, logOf(t, a, uri)[len(before)-1]))); err != nil {
		t.Errorf("an event twice in one notification: %v", err)
	}
}

func duplicateOf(t testing.TB, e store.Event) mimi.FanoutMessage {
	t.Helper()
	var f mimi.FanoutMessage
	if err := mls.Unmarshal(e.Body, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWhatCannotBeVerifiedIsRefused(t *testing.T) {
	w, a, b, alice, bob, uri := duo(t, quick)
	said := len(logOf(t, b, uri))
	sc, err := alice.Rooms[uri].Group.Commit(mls.CommitOptions{ForcePath: true, OmitTree: true})
	w.OK(err)
	forged := *sc.Message
	pm := *forged.PublicMessage
	pm.Auth.Signature = slices.Clone(pm.Auth.Signature)
	pm.Auth.Signature[0] ^= 1
	forged.PublicMessage = &pm
	msg, err := alice.Encrypt(uri, "x")
	w.OK(err)
	future := *msg.AppMessage.PrivateMessage
	future.Epoch++
	other := *msg.AppMessage.PrivateMessage
	other.GroupID = []byte("mimi://a.example/g/other")
	p, err := bob.Rooms[uri].Participants(nil, []mimi.URI{alice.User}, nil)
	w.OK(err)
	coup, err := bob.Rooms[uri].Group.Commit(mls.CommitOptions{OmitTree: true, Proposals: []mls.Proposal{p, mls.RemoveProposal(alice.Rooms[uri].Group.OwnLeaf())}})
	w.OK(err)
	old := duplicateOf(t, logOf(t, a, uri)[0])
	conflicting := *old.Message.PublicMessage
	conflicting.Auth.Signature = slices.Clone(conflicting.Auth.Signature)
	conflicting.Auth.Signature[0] ^= 1
	conflicting.Auth.ConfirmationTag = slices.Clone(conflicting.Auth.ConfirmationTag)
	conflicting.Auth.ConfirmationTag[0] ^= 1
	tests := []struct {
		name string
		m    mimi.FanoutMessage
	}{
		{"commit with a wrong signature", mimi.FanoutMessage{Message: forged}},
		{"commit that the room's policy forbids", mimi.FanoutMessage{Message: *coup.Message}},
		{"message of a coming epoch", mimi.FanoutMessage{Message: mls.MLSMessage{WireFormat: mls.WirePrivateMessage, PrivateMessage: &future}}},
		{"message of another group", mimi.FanoutMessage{Message: mls.MLSMessage{WireFormat: mls.WirePrivateMessage, PrivateMessage: &other}}},
		{"another commit into the anchor's epoch", mimi.FanoutMessage{Message: mls.MLSMessage{WireFormat: mls.WirePublicMessage, PublicMessage: &conflicting}}},
	}
	for i, tt := range tests {
		if err := b.Replica.Notify(t.Context(), "a.example", uri, fan(t, tt.m)); !errors.Is(err, federation.ErrForbidden) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if n := b.Heard.Refusals("a.example"); n != i+1 {
			t.Errorf("%s: the operator was told %d times, want %d", tt.name, n, i+1)
		}
		if n := len(logOf(t, b, uri)); n != said {
			t.Fatalf("%s: stored", tt.name)
		}
	}
	// The good part before a bad one is stored, what follows is not.
	good := mimi.FanoutMessage{Timestamp: 1, Message: msg.AppMessage}
	if err := b.Replica.Notify(t.Context(), "a.example", uri, fan(t, good, tests[0].m, good)); !errors.Is(err, federation.ErrForbidden) {
		t.Errorf("good and bad: %v", err)
	}
	if n := len(logOf(t, b, uri)); n != said+1 {
		t.Errorf("%d events, want %d", n, said+1)
	}
	// And the copy follows the hub as before.
	w.OK(alice.Say(uri, "on"))
	w.Until("on", func() bool { return slices.Contains(texts(bob.Rooms[uri]), "alice: on") }, bob)
}

func TestMalformedNotifications(t *testing.T) {
	w, a, b, alice, _, uri := duo(t, quick)
	w.OK(alice.Say(uri, "x"))
	good := logOf(t, a, uri)[1].Body
	before := len(logOf(t, b, uri))
	for _, body := range [][]byte{nil, {0}, good[:len(good)-1], append(slices.Clone(good), 0), append(slices.Clone(good), good[:9]...)} {
		if err := b.Replica.Notify(t.Context(), "a.example", uri, body); !errors.Is(err, federation.ErrMalformed) {
			t.Errorf("%d octets: %v", len(body), err)
		}
	}
	_ = before
	if err := b.Replica.Notify(t.Context(), "c.example", uri, good); !errors.Is(err, federation.ErrForbidden) {
		t.Errorf("by one who is not the hub: %v", err)
	}
	none := mimi.MustParseURI("mimi://a.example/r/none")
	if err := b.Replica.Notify(t.Context(), "a.example", none, good); !errors.Is(err, federation.ErrNotFound) {
		t.Errorf("of a room that does not concern us: %v", err)
	}
	if _, err := b.Store.Room(t.Context(), none.String()); !errors.Is(err, store.ErrNoRoom) {
		t.Errorf("a room was made: %v", err)
	}
}

// The hub goes on while the follower learns of the room.
func TestJoiningWhileTheRoomGoesOn(t *testing.T) {
	w := fedtest.New(t, quick)
	a, b := w.Start("a.example"), w.Start("b.example")
	alice, bob1, bob2 := a.Enrol("alice", "1"), b.Enrol("bob", "1"), b.Enrol("bob", "2")
	bert := b.Enrol("bert", "1")
	uri := alice.Create("club", room.TemplateGroup)
	claim := func(d *fedtest.Device) mls.Proposal {
		resp, err := alice.Claim(uri, d.User)
		w.OK(err)
		for i := range resp.Clients {
			if resp.Clients[i].Client == d.URI {
				return mls.AddProposal(resp.Clients[i].KeyPackage)
			}
		}
		t.Fatalf("no key package for %s", d.URI)
		return mls.Proposal{}
	}
	one, two, three := claim(bob1), claim(bob2), claim(bert)
	m := alice.Rooms[uri]
	step := func(o mls.CommitOptions) {
		t.Helper()
		w.OK(alice.Commit(uri, o))
		w.OK(alice.Sync())
	}
	// The CA of b is known before b goes.
	w.OK(a.Verifier.VerifyCredential(&bob1.Cred, bob1.Signer.Public(), time.Now()))
	b.Stop()
	addUser := func(u mimi.URI) mls.Proposal {
		p, err := m.Participants(nil, nil, []room.Participant{{User: u, Role: room.RoleMember}})
		w.OK(err)
		return p
	}
	step(mls.CommitOptions{Proposals: []mls.Proposal{addUser(bob1.User), one}})
	w.OK(alice.Say(uri, "for bob 1"))
	step(mls.CommitOptions{Proposals: []mls.Proposal{addUser(bert.User), three}})
	step(mls.CommitOptions{Proposals: []mls.Proposal{two}})
	w.OK(alice.Say(uri, "for all bobs and bert"))
	w.OK(alice.Remove(uri, bert.User)) // who never hears more
	w.OK(alice.Sync())
	w.OK(alice.Say(uri, "last"))
	w.Start("b.example")
	said(t, w, uri, []string{"alice: for all bobs and bert", "alice: last"}, bob1, bob2, alice)
	if got := texts(bob1.Rooms[uri]); !slices.Equal(got, []string{"alice: for bob 1", "alice: for all bobs and bert", "alice: last"}) {
		t.Errorf("bob's first device read %q", got)
	}
	if got := texts(bob2.Rooms[uri]); !slices.Equal(got, []string{"alice: for all bobs and bert", "alice: last"}) {
		t.Errorf("bob's second device read %q", got)
	}
	w.Until("bert is gone", func() bool { return bert.Rooms[uri] != nil && bert.Rooms[uri].Gone }, bert)
	if got := texts(bert.Rooms[uri]); !slices.Equal(got, []string{"alice: for all bobs and bert"}) {
		t.Errorf("bert read %q", got)
	}
	if n := b.Heard.Refusals("a.example"); n != 0 {
		t.Errorf("%d notifications could not be verified", n)
	}
	if at, bt := logOf(t, a, uri), logOf(t, b, uri); len(at) != len(bt) || string(at[len(at)-1].Body) != string(bt[len(bt)-1].Body) {
		t.Errorf("the copy holds %d events, the hub %d", len(bt), len(at))
	}
	w.OK(bob2.Say(uri, "hello"))
	said(t, w, uri, []string{"bob: hello"}, alice, bob1, bob2)
}

// Proposals that are pending at the anchor arrive again in their place.
func TestJoiningWithPendingProposals(t *testing.T) {
	w := fedtest.New(t, quick)
	a, b := w.Start("a.example"), w.Start("b.example")
	alice, anna1, anna2, bob := a.Enrol("alice", "1"), a.Enrol("anna", "1"), a.Enrol("anna", "2"), b.Enrol("bob", "1")
	uri := alice.Create("club", room.TemplateGroup)
	w.OK(alice.Add(uri, anna1.User))
	w.Until("anna joins", func() bool { return anna1.Rooms[uri] != nil && anna2.Rooms[uri] != nil }, alice, anna1, anna2)
	resp, err := alice.Claim(uri, bob.User)
	w.OK(err)
	w.OK(a.Verifier.VerifyCredential(&bob.Cred, bob.Signer.Public(), time.Now()))
	b.Stop()
	p, err := alice.Rooms[uri].Participants(nil, nil, []room.Participant{{User: bob.User, Role: room.RoleMember}})
	w.OK(err)
	w.OK(alice.Commit(uri, mls.CommitOptions{Proposals: []mls.Proposal{p, mls.AddProposal(resp.Clients[0].KeyPackage)}}))
	for _, d := range []*fedtest.Device{alice, anna1, anna2} {
		w.OK(d.Sync())
	}
	w.OK(anna1.Leave(uri))
	w.Start("b.example")
	w.Until("bob joins", func() bool { return bob.Rooms[uri] != nil && len(bob.Rooms[uri].Group.Pending()) == 3 }, alice, bob)
	w.OK(bob.Say(uri, "bye"))
	w.OK(alice.Sync())
	w.OK(alice.Commit(uri, commitPending))
	w.Until("anna is gone", func() bool { return anna1.Rooms[uri].Gone && anna2.Rooms[uri].Gone }, alice, anna1, anna2, bob)
	w.OK(bob.Say(uri, "just us"))
	said(t, w, uri, []string{"bob: bye", "bob: just us"}, alice, bob)
	if n := b.Heard.Refusals("a.example"); n != 0 {
		t.Errorf("%d notifications could not be verified", n)
	}
}

// A provider that lies is stopped at the door, on every endpoint.
func TestLyingProviders(t *testing.T) {
	w, a, b, alice, bob, uri := duo(t, quick)
	mallory := w.Certificate("mallory.example")
	msg, err := alice.Encrypt(uri, "x")
	w.OK(err)
	submit, err := mls.Marshal(msg)
	w.OK(err)
	post := func(to *fedtest.Provider, cert *tls.Certificate, from, endpoint string, key mimi.URI, body []byte) int {
		t.Helper()
		tr := &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: w.Roots(), ServerName: to.Domain, Certificates: []tls.Certificate{*cert}},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, to.Address())
			},
		}
		defer tr.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+to.Domain+"/v1/"+endpoint+"/"+key.PathSegment(), bytesReader(body))
		w.OK(err)
		req.Header.Set("From", "mimi@"+from)
		resp, err := tr.RoundTrip(req)
		w.OK(err)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	head := len(logOf(t, a, uri))
	copied := len(logOf(t, b, uri))
	for _, endpoint := range []string{"update", "submitMessage", "groupInfo"} {
		if got := post(a, mallory, "b.example", endpoint, uri, submit); got != 403 {
			t.Errorf("%s with the certificate of another domain: %d", endpoint, got)
		}
	}
	if got := post(b, mallory, "a.example", "notify", uri, submit); got != 403 {
		t.Errorf("notify with the certificate of another domain: %d", got)
	}
	if got := post(b, mallory, "mallory.example", "notify", uri, submit); got != 403 {
		t.Errorf("notify by one who is not the hub: %d", got)
	}
	if got := post(a, b.Cert, "b.example", "submitMessage", uri, submit); got != 200 {
		t.Errorf("a message of another provider's user is refused with %d, want an answer", got)
	}
	if got := post(a, b.Cert, "b.example", "submitMessage", uri, submit[1:]); got != 400 {
		t.Errorf("malformed submit: %d", got)
	}
	if got := post(a, b.Cert, "b.example", "update", uri, nil); got != 400 {
		t.Errorf("malformed update: %d", got)
	}
	if got := post(b, a.Cert, "a.example", "notify", uri, []byte("?")); got != 400 {
		t.Errorf("malformed notify: %d", got)
	}
	if got := post(a, b.Cert, "b.example", "submitMessage", mimi.MustParseURI("mimi://a.example/r/none"), submit); got != 404 {
		t.Errorf("unknown room: %d", got)
	}
	if len(logOf(t, a, uri)) != head || len(logOf(t, b, uri)) != copied {
		t.Error("a lie is in the log")
	}
	w.OK(bob.Say(uri, "still here"))
	said(t, w, uri, []string{"bob: still here"}, alice, bob)
}

// Another provider that has seen a Welcome, because it was for a client of its
// own as well, passes it on as one of its own rooms before the hub does. The
// hub's mail must not count as a repetition of that.
func TestWelcomeUnderAnotherName(t *testing.T) {
	w := fedtest.New(t, quick)
	a, b, m := w.Start("a.example"), w.Start("b.example"), w.Start("m.example")
	alice, bob, mallory := a.Enrol("alice", "1"), b.Enrol("bob", "1"), m.Enrol("mallory", "1")
	uri, trap := alice.Create("club", room.TemplateGroup), mallory.Create("trap", room.TemplateGroup)
	member := []room.Participant{{User: bob.User, Role: room.RoleMember}}
	bait, err := mallory.Rooms[trap].Participants(nil, nil, member)
	w.OK(err)
	w.OK(mallory.Commit(trap, mls.CommitOptions{Proposals: []mls.Proposal{bait}}))

	resp, err := alice.Claim(uri, bob.User)
	w.OK(err)
	p, err := alice.Rooms[uri].Participants(nil, nil, member)
	w.OK(err)
	sc, err := alice.Rooms[uri].Group.Commit(mls.CommitOptions{OmitTree: true,
		Proposals: []mls.Proposal{p, mls.AddProposal(resp.Clients[0].KeyPackage)}})
	w.OK(err)
	tree, err := mimi.FullTree(sc.After.RatchetTree())
	w.OK(err)
	stolen := fan(t, mimi.FanoutMessage{Timestamp: 1, Message: *mls.WelcomeMessage(sc.Welcome), RatchetTree: tree})
	w.OK(b.Replica.Notify(t.Context(), "m.example", trap, stolen))
	mail, err := b.Store.Mail(t.Context(), bob.URI.String(), 0, 0)
	w.OK(err)
	if len(mail) != 1 || mail[0].Room != trap.String() {
		t.Fatalf("the trap did not get as far as bob's mailbox: %+v", mail)
	}
	w.OK(b.Store.AckMail(t.Context(), bob.URI.String(), mail[0].ID)) // bob refuses it

	answer, err := alice.Update(uri, fedtest.CommitRequest(sc))
	w.OK(err)
	if answer.Code != mimi.UpdateSuccess {
		t.Fatalf("%v: %s", answer.Code, answer.ErrorDescription)
	}
	w.Until("bob joins", func() bool { return bob.Rooms[uri] != nil }, bob)
}
