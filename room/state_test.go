package room

import (
	"errors"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

func TestLifeOfARoom(t *testing.T) {
	w := newTestWorld(t, TemplateGroup)
	// Alice adds Bob of another provider with two clients (flow F2).
	b1, b2 := w.keyPackage("bob@b.example/1"), w.keyPackage("bob@b.example/2")
	bob := user("bob@b.example")
	w.want(w.commit("alice/1", mls.CommitOptions{Proposals: []mls.Proposal{
		w.participants(nil, nil, []Participant{{bob, RoleMember}})}}, b1, b2), "add bob", nil)
	if !w.hub.Committed().IsActive(bob) || len(w.hub.Committed().ClientsOf(bob)) != 2 {
		t.Fatal("bob is not active")
	}
	if err := w.hub.Committed().AuthoriseSend(bob); err != nil {
		t.Fatal(err)
	}
	// Another client of Alice joins by itself (flow F6).
	w.want(w.join("alice/2", nil), "alice/2 joins", nil)
	// The new client replaces itself.
	w.want(w.join("alice/2", nil, w.remove("alice/2")), "alice/2 joins anew", nil)
	// Bob leaves (flow F5): all or nothing, then someone commits.
	err := w.propose("bob@b.example/1", mls.SelfRemoveProposal(), w.remove("bob@b.example/2"),
		w.participants(nil, []mimi.URI{bob}, nil))
	if err != nil {
		t.Fatal(err)
	}
	if w.hub.Effective().Policy().IsParticipant(bob) || !w.hub.Committed().Policy().IsParticipant(bob) {
		t.Fatal("the leave must show in the effective state only")
	}
	// From now on Bob can neither send nor commit (HUB-9 to HUB-11).
	msg, err := w.members["bob@b.example/2"].group.Encrypt([]byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = w.hub.Apply(Event{Source: Source{Provider: "b.example", User: bob}, Message: w.wire(msg)})
	if CodeOf(err) != CodeNotAllowed || err == nil {
		t.Fatalf("bob sends after leaving: %v", err)
	}
	v := w.commit("bob@b.example/2", mls.CommitOptions{ForcePath: true})
	if !errors.Is(v.hub, ErrNotAllowed) {
		t.Fatalf("bob commits while leaving: %v", v.hub)
	}
	// Pending proposals keep external joiners out until a member commits.
	if v := w.join("alice/3", nil); !errors.Is(v.hub, ErrNotAllowed) {
		t.Fatalf("external join over pending proposals: %v", v.hub)
	}
	// A commit that leaves them out is refused by the hub.
	if v := w.commit("alice/1", mls.CommitOptions{SkipPending: true, ForcePath: true}); !errors.Is(v.hub, ErrNotAllowed) {
		t.Fatalf("commit without the pending proposals: %v", v.hub)
	}
	w.want(w.commit("alice/1", mls.CommitOptions{}), "commit the leave", nil)
	if w.hub.Committed().Policy().RoleIndex(bob) != RoleNone || w.hub.Committed().NumClients() != 2 {
		t.Fatal("bob is still there")
	}
	if got := w.hub.Committed().Providers(); len(got) != 1 || got[0] != "a.example" {
		t.Fatalf("providers %v", got)
	}
}

func TestOpenRoom(t *testing.T) {
	w := newTestWorld(t, TemplateOpen)
	carol := user("carol@c.example")
	w.want(w.join("carol@c.example/1", nil, w.participants(nil, nil, []Participant{{carol, RoleAdmin}})), "join as admin", ErrNotAllowed)
	w.want(w.join("carol@c.example/1", nil), "join without the list", ErrNotAllowed)
	w.want(w.join("carol@c.example/1", nil, w.participants(nil, nil, []Participant{{user("dave"), RoleMember}})), "add another user", ErrNotAllowed)
	w.want(w.join("carol@c.example/1", nil, w.participants(nil, nil, []Participant{{carol, RoleMember}, {user("dave"), RoleMember}})), "bring a friend", ErrNotAllowed)
	w.want(w.join("carol@c.example/1", nil, w.participants(nil, []mimi.URI{user("alice")}, []Participant{{carol, RoleMember}})), "throw out alice", ErrNotAllowed)
	w.want(w.join("carol@c.example/1", nil, w.participants(nil, nil, []Participant{{carol, RoleMember}}), w.remove("alice/1")), "remove alice's client", ErrNotAllowed)
	w.want(w.join("carol@c.example/1", nil, w.participants(nil, nil, []Participant{{carol, RoleMember}})), "join", nil)
	w.want(w.join("carol@c.example/1", nil), "the same client twice", ErrNotAllowed)
	w.want(w.join("carol@c.example/2", nil), "second client", nil)

	// Alice bans Carol: out with all clients, and no way back.
	w.want(w.commit("alice/1", mls.CommitOptions{Proposals: []mls.Proposal{
		w.participants([]Participant{{carol, RoleBanned}}, nil, nil), w.remove("carol@c.example/1")}}),
		"ban with a client left behind", ErrNotAllowed)
	w.want(w.commit("alice/1", mls.CommitOptions{Proposals: []mls.Proposal{
		w.participants([]Participant{{carol, RoleBanned}}, nil, nil), w.remove("carol@c.example/1"), w.remove("carol@c.example/2")}}),
		"ban", nil)
	w.want(w.join("carol@c.example/1", nil), "banned user joins", ErrNotAllowed)
	w.want(w.commit("alice/1", mls.CommitOptions{}, w.keyPackage("carol@c.example/3")), "add the client of a banned user", ErrNotAllowed)
	w.want(w.commit("alice/1", mls.CommitOptions{}, w.keyPackage("mallory/1")), "add a client of a stranger", ErrNotAllowed)
}

// TestDepartureInExternalCommit is the profile's rule that an external commit
// may carry the list removal of users who leave by SelfRemove.
func TestDepartureInExternalCommit(t *testing.T) {
	w := newTestWorld(t, TemplateOpen)
	carol, dave, erin := user("carol@c.example"), user("dave@d.example"), user("erin@e.example")
	w.want(w.join("carol@c.example/1", nil, w.participants(nil, nil, []Participant{{carol, RoleMember}})), "carol", nil)
	w.want(w.join("dave@d.example/1", nil, w.participants(nil, nil, []Participant{{dave, RoleMember}})), "dave", nil)
	if err := w.propose("carol@c.example/1", mls.SelfRemoveProposal(), w.participants(nil, []mimi.URI{carol}, nil)); err != nil {
		t.Fatal(err)
	}
	var leaves []*mls.MLSMessage
	for _, q := range w.hub.Pending() {
		if q.Proposal.Type == mls.ProposalSelfRemove {
			leaves = append(leaves, q.Message)
		}
	}
	add := []Participant{{erin, RoleMember}}
	// Dave did not propose to leave: nobody may take him along.
	v := w.join("erin@e.example/1", leaves, w.participants(nil, []mimi.URI{carol, dave}, add))
	if !errors.Is(v.member, ErrNotAllowed) || !errors.Is(v.hub, ErrNotAllowed) {
		t.Fatalf("took dave along: %+v", v)
	}
	if v := w.join("erin@e.example/1", leaves, w.participants(nil, nil, add)); !errors.Is(v.hub, ErrNotAllowed) {
		t.Fatalf("carol's leave was dropped: %+v", v)
	}
	if v := w.join("erin@e.example/1", nil, w.participants(nil, nil, add)); !errors.Is(v.hub, ErrNotAllowed) {
		t.Fatalf("carol's SelfRemove was dropped: %+v", v)
	}
	w.want(w.join("erin@e.example/1", leaves, w.participants(nil, []mimi.URI{carol}, add)), "erin joins, carol leaves", nil)
	if w.hub.Committed().Policy().RoleIndex(carol) != RoleNone || !w.hub.Committed().IsActive(erin) || !w.hub.Committed().IsActive(dave) {
		t.Fatalf("%v", w.hub.Committed().Policy().Participants)
	}
}

// TestLogoutIsNoDeparture: a user who only removes its client stays in the
// list, and no joiner may strike it out.
func TestLogoutIsNoDeparture(t *testing.T) {
	w := newTestWorld(t, TemplateOpen)
	carol, erin := user("carol@c.example"), user("erin@e.example")
	w.want(w.join("carol@c.example/1", nil, w.participants(nil, nil, []Participant{{carol, RoleMember}})), "carol", nil)
	w.ok(w.propose("carol@c.example/1", mls.SelfRemoveProposal()))
	leave := []*mls.MLSMessage{w.hub.Pending()[0].Message}
	add := []Participant{{erin, RoleMember}}
	w.want(w.join("erin@e.example/1", leave, w.participants(nil, []mimi.URI{carol}, add)), "erin strikes carol out", ErrNotAllowed)
	w.want(w.join("erin@e.example/1", leave, w.participants(nil, nil, add)), "erin joins", nil)
	if v := w.hub.Committed(); v.IsActive(carol) || !v.Policy().IsParticipant(carol) {
		t.Fatal("carol must be an inactive participant")
	}
}
