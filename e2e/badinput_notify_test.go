package e2e

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

// fanout encodes a notification.
func fanout(t *testing.T, messages ...mimi.FanoutMessage) []byte {
	t.Helper()
	var body []byte
	for i := range messages {
		body = append(body, encode(t, &messages[i])...)
	}
	return body
}

// testNotifications: a peer that lies about what happened in a room.
func (s *badScene) testNotifications(t *testing.T) {
	w, uri := s.w, s.room
	l := &caseList{s: s}
	events, err := w.provider("a.example").Admin().Events(t.Context(), uri.String(), 0)
	ok(t, err)
	last := events[len(events)-1].Body
	notify := func(name, from, to string, room mimi.URI, status int, says string, body []byte) {
		peer := w.peer(from, to)
		l.logged(name, to, status, "", says, func(t *testing.T) badAnswer {
			return peer.post(t, mimi.EndpointNotify, room.PathSegment(), body)
		})
	}
	message := s.root.message(t, uri, "made up")
	made := mimi.FanoutMessage{Timestamp: 1, Message: message.AppMessage}
	// Who is not the hub.
	notify("another provider than the hub, to a follower", "c.example", "b.example", uri, http.StatusForbidden, "c.example is not the hub of", fanout(t, made))
	notify("another provider than the hub, a true event", "c.example", "b.example", uri, http.StatusForbidden, "is not the hub of", last)
	notify("a follower to the hub", "b.example", "a.example", uri, http.StatusForbidden, "b.example is not the hub of", fanout(t, made))
	notify("a provider that has nothing to do with it, to the hub", "c.example", "a.example", uri, http.StatusForbidden, "is not the hub of", last)
	// Rooms of which nobody here is a member.
	own := mimi.MustParseURI("mimi://c.example/r/trap")
	notify("a room of nobody here", "c.example", "b.example", own, http.StatusNotFound, "about no device of ours", fanout(t, made))
	// The hub itself lies.
	commit := s.root.commit(t, uri, mls.CommitOptions{ForcePath: true})
	notify("the hub: commit with a changed signature", "a.example", "b.example", uri, http.StatusForbidden, "signature",
		fanout(t, mimi.FanoutMessage{Message: wire(t, badSigned(commit.Message, flip))}))
	coup := s.dave.commit(t, uri, mls.CommitOptions{Proposals: []mls.Proposal{
		s.dave.participants(t, uri, []mimi.URI{s.bob.User()}), mls.RemoveProposal(s.dave.leafOf(t, uri, s.bob.User()))}})
	notify("the hub: commit that the policy forbids", "a.example", "b.example", uri, http.StatusForbidden, "may not",
		fanout(t, mimi.FanoutMessage{Message: wire(t, coup.Message)}))
	stale, err := mimi.ParseFanout(events[2].Body)
	ok(t, err)
	forged := *badSigned(&stale[0].Message, flip)
	notify("the hub: another commit of an epoch that is over", "a.example", "b.example", uri, http.StatusForbidden, "epoch",
		fanout(t, mimi.FanoutMessage{Timestamp: 1, Message: wire(t, &forged)}))
	private := *message.AppMessage.PrivateMessage
	private.Epoch += 5
	notify("the hub: message of a coming epoch", "a.example", "b.example", uri, http.StatusForbidden, "epoch",
		fanout(t, mimi.FanoutMessage{Message: mls.MLSMessage{WireFormat: mls.WirePrivateMessage, PrivateMessage: &private}}))
	other := *message.AppMessage.PrivateMessage
	other.GroupID = flip(other.GroupID, 2)
	notify("the hub: message of another group", "a.example", "b.example", uri, http.StatusForbidden, "group",
		fanout(t, mimi.FanoutMessage{Message: mls.MLSMessage{WireFormat: mls.WirePrivateMessage, PrivateMessage: &other}}))
	notify("the hub: more events than the limit", "a.example", "b.example", uri, http.StatusBadRequest, "malformed", bytes.Repeat(last, mimi.MaxFanout+1)[:min(mimi.MaxNotifyRequest, len(last)*(mimi.MaxFanout+1))])
	w.refuse(t, l.cases)
}

// testUnshownRoom: a hub says that a user came into a room, but does not show
// the room. The follower keeps such events for the device, which judges them:
// without a Welcome that fits them it is in no room.
func (s *badScene) testUnshownRoom(t *testing.T) {
	trap := s.carol.create(t, "trap", "group")
	claimed := s.carol.claim(t, mimi.URI{}, s.bob.User())
	o := mls.CommitOptions{Proposals: []mls.Proposal{s.carol.participants(t, trap, nil, s.bob.User())}}
	for _, c := range claimed.Clients {
		o.Proposals = append(o.Proposals, mls.AddProposal(c.KeyPackage))
	}
	sc := s.carol.commit(t, trap, o)
	welcome := *sc.Welcome
	welcome.EncryptedGroupInfo = flip(welcome.EncryptedGroupInfo, 20)
	tree, err := mimi.FullTree(s.carol.groups[trap].State().RatchetTree())
	ok(t, err)
	c := s.w.peer("c.example", "b.example")
	for _, f := range []mimi.FanoutMessage{
		{Timestamp: 1, Message: wire(t, sc.Message)},
		{Timestamp: 2, Message: *mls.WelcomeMessage(&welcome), RatchetTree: tree},
		{Timestamp: 3, Message: s.carol.message(t, trap, "come in").AppMessage},
	} {
		if a := c.post(t, mimi.EndpointNotify, trap.PathSegment(), fanout(t, f)); a.status >= 500 {
			t.Errorf("status %d", a.status)
		}
	}
	badAlive(t, s.room, s.anna, s.bob)
	if r, err := s.bob.Room(trap); err == nil && r.Status != client.RoomNone {
		t.Errorf("bob is in a room that its hub does not show: %v", r.Status)
	}
	s.w.healthy(t)
}

// testRepeats: what is repeated gets the first answer, and happens once.
func (s *badScene) testRepeats(t *testing.T) {
	w, uri := s.w, s.room
	s.nextEpoch(t)
	sc := s.root.commit(t, uri, mls.CommitOptions{ForcePath: true})
	body := updateBody(t, sc)
	first := s.root.tls(t, http.MethodPost, local.PathUpdate+uri.PathSegment(), body)
	if c := first.verdict(t).code; c != mimi.UpdateSuccess.String() {
		t.Fatalf("commit: %s", c)
	}
	ok(t, s.root.groups[uri].Merge(sc))
	badUntil(t, "dave follows", func() bool {
		s.dave.follow(t, uri)
		return s.dave.groups[uri].State().Epoch() == s.root.groups[uri].State().Epoch()
	})
	message := encode(t, s.dave.message(t, uri, "once"))
	said := s.dave.tls(t, http.MethodPost, local.PathSubmitMessage+uri.PathSegment(), message)
	if c := said.submitted(t).code; c != mimi.SubmitAccepted.String() {
		t.Fatalf("message: %s", c)
	}
	uriB := mimi.MustParseURI("mimi://a.example/r/again")
	_, create := s.root.newGroup(t, uriB, "group")
	if a := s.root.tls(t, http.MethodPost, local.PathRooms, create); a.status != http.StatusCreated {
		t.Fatalf("creating: %d %s", a.status, a.says)
	}
	claim := s.dave.claimBody(t, mimi.URI{}, s.erin.user)
	claimed := s.dave.tls(t, http.MethodPost, local.PathKeyMaterial+s.erin.user.PathSegment(), claim)
	if claimed.material(t).code != mimi.KeyMaterialSuccess.String() {
		t.Fatalf("claim: %d %s", claimed.status, claimed.says)
	}
	w.settle()
	hub, err := w.provider("a.example").Admin().Events(t.Context(), uri.String(), 0)
	ok(t, err)
	peer, follower := w.peer("b.example", "a.example"), w.peer("a.example", "b.example")
	repeats := []struct {
		name  string
		do    func(t *testing.T) badAnswer
		first badAnswer
	}{
		{"commit", func(t *testing.T) badAnswer {
			return s.root.tls(t, http.MethodPost, local.PathUpdate+uri.PathSegment(), body)
		}, first},
		{"message", func(t *testing.T) badAnswer {
			return s.dave.tls(t, http.MethodPost, local.PathSubmitMessage+uri.PathSegment(), message)
		}, said},
		{"message, by the provider", func(t *testing.T) badAnswer {
			return peer.post(t, mimi.EndpointSubmitMessage, uri.PathSegment(), message)
		}, said},
		{"claim", func(t *testing.T) badAnswer {
			return s.dave.tls(t, http.MethodPost, local.PathKeyMaterial+s.erin.user.PathSegment(), claim)
		}, claimed},
		{"claim, by the provider", func(t *testing.T) badAnswer {
			return peer.post(t, mimi.EndpointKeyMaterial, s.erin.user.PathSegment(), claim)
		}, claimed},
		{"room", func(t *testing.T) badAnswer { return s.root.tls(t, http.MethodPost, local.PathRooms, create) }, badAnswer{status: http.StatusCreated}},
		{"all events of the hub", func(t *testing.T) badAnswer {
			var all []byte
			for _, e := range hub {
				all = append(all, e.Body...)
			}
			return follower.post(t, mimi.EndpointNotify, uri.PathSegment(), all)
		}, badAnswer{status: http.StatusCreated}},
		{"the last event, twice", func(t *testing.T) badAnswer {
			return follower.post(t, mimi.EndpointNotify, uri.PathSegment(), bytes.Repeat(hub[len(hub)-1].Body, 2))
		}, badAnswer{status: http.StatusCreated}},
	}
	for _, r := range repeats {
		t.Run(r.name, func(t *testing.T) {
			for range 3 {
				got := r.do(t)
				if got.status != r.first.status || !bytes.Equal(got.body, r.first.body) {
					t.Errorf("%d %.80x, the first answer was %d %.80x (%s)", got.status, got.body, r.first.status, r.first.body, got.says)
				}
			}
			w.unchanged(t)
			w.healthy(t)
		})
	}
}
