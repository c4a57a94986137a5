package room

import (
	"errors"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

func num(n uint32) *uint32 { return &n }

// TestNumbers: limits of roles and of the base policy, in both directions.
func TestNumbers(t *testing.T) {
	all := []uint32{RoleNone, RoleBanned, RoleMember, RoleAdmin, roleActor}
	carol, dave, frank := user("carol"), user("dave"), user("frank")
	addFrank := func(w *world) verdict {
		return w.by("bob/1", w.participants(nil, nil, []Participant{{frank, RoleMember}}))
	}
	addFrankActive := func(w *world) verdict {
		return w.commit("bob/1", mls.CommitOptions{Proposals: []mls.Proposal{
			w.participants(nil, nil, []Participant{{frank, RoleMember}})}}, w.keyPackage("frank/1"))
	}
	removeCarol := func(w *world) verdict {
		return w.by("bob/1", w.participants(nil, []mimi.URI{carol}, nil), w.remove("carol/1"))
	}
	removeDave := func(w *world) verdict {
		return w.by("bob/1", w.participants(nil, []mimi.URI{dave}, nil))
	}
	kickCarol := func(w *world) verdict { return w.by("bob/1", w.remove("carol/1")) }
	swap := func(w *world) verdict { // dave goes, frank comes
		return w.by("bob/1", w.participants(nil, []mimi.URI{dave}, []Participant{{frank, RoleMember}}))
	}
	member := func(set func(*Role)) func(*Template) { return func(t *Template) { set(&t.Roles[2]) } }
	base := func(set func(*BaseRoomPolicy)) func(*Template) { return func(t *Template) { set(&t.Base) } }
	for _, tt := range []struct {
		name string
		set  func(*Template)
		do   func(*world) verdict
		want error
	}{
		// carol is an active member, dave an inactive one.
		{"max 3, third", member(func(r *Role) { r.MaxParticipants = num(3) }), addFrank, nil},
		{"max 2, third", member(func(r *Role) { r.MaxParticipants = num(2) }), addFrank, ErrNotAllowed},
		{"max 2, swap", member(func(r *Role) { r.MaxParticipants = num(2) }), swap, nil},
		{"max active 1, inactive", member(func(r *Role) { r.MaxActive = num(1) }), addFrank, nil},
		{"max active 1, active", member(func(r *Role) { r.MaxActive = num(1) }), addFrankActive, ErrNotAllowed},
		{"max active 2, active", member(func(r *Role) { r.MaxActive = num(2) }), addFrankActive, nil},
		{"min 2, remove", member(func(r *Role) { r.MinParticipants = 2 }), removeDave, ErrNotAllowed},
		{"min 1, remove", member(func(r *Role) { r.MinParticipants = 1 }), removeDave, nil},
		{"min 2, swap", member(func(r *Role) { r.MinParticipants = 2 }), swap, nil},
		{"min 5 already broken, unrelated", member(func(r *Role) { r.MinParticipants = 5 }), kickCarol, nil},
		{"min active 1, kick", member(func(r *Role) { r.MinActive = 1 }), kickCarol, ErrNotAllowed},
		{"min active 1, remove", member(func(r *Role) { r.MinActive = 1 }), removeCarol, ErrNotAllowed},
		{"min active 1, inactive goes", member(func(r *Role) { r.MinActive = 1 }), removeDave, nil},
		{"clients 5, fifth", base(func(b *BaseRoomPolicy) { b.MaxClients = num(5) }), addFrankActive, nil},
		{"clients 4, fifth", base(func(b *BaseRoomPolicy) { b.MaxClients = num(4) }), addFrankActive, ErrNotAllowed},
		{"clients 4, fifth by external commit", base(func(b *BaseRoomPolicy) { b.MaxClients = num(4) }),
			func(w *world) verdict { return w.join("bob/3", nil) }, ErrNotAllowed},
		{"clients 4, replacement", base(func(b *BaseRoomPolicy) { b.MaxClients = num(4) }),
			func(w *world) verdict { return w.join("bob/2", nil, w.remove("bob/2")) }, nil},
		// Banned participants do not count as users.
		{"users 5, fifth", base(func(b *BaseRoomPolicy) { b.MaxUsers = num(5) }), addFrank, nil},
		{"users 4, fifth", base(func(b *BaseRoomPolicy) { b.MaxUsers = num(4) }), addFrank, ErrNotAllowed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tpl := actorTemplate(t, allCapabilities, nil, every(all))
			tt.set(tpl)
			w := stage(t, tpl)
			w.want(tt.do(w), tt.name, tt.want)
		})
	}
}

func TestSingleDevice(t *testing.T) {
	tpl := mustTemplate(t, TemplateGroup)
	tpl.Base.MultiDevice = false
	w := newWorld(t, tpl)
	w.want(w.join("alice/2", nil), "second client", ErrNotAllowed)
	w.want(w.commit("alice/1", mls.CommitOptions{}, w.keyPackage("alice/2")), "second client by Add", ErrNotAllowed)
	w.want(w.join("alice/1", nil, w.remove("alice/1")), "replacement", nil)
}

func TestFixedMembership(t *testing.T) {
	bob := user("bob@b.example")
	w := newWorld(t, mustTemplate(t, TemplateDirect), bob)
	w.want(w.commit("alice/1", mls.CommitOptions{}, w.keyPackage("bob@b.example/1")), "alice adds bob's client", ErrNotAllowed)
	w.want(w.join("bob@b.example/1", nil), "bob brings his client", nil)
	w.want(w.by("bob@b.example/1", w.participants(nil, nil, []Participant{{user("carol"), RoleMember}})), "third user", ErrNotAllowed)
	w.want(w.by("alice/1", w.participants(nil, []mimi.URI{bob}, nil), w.remove("bob@b.example/1")), "remove", ErrNotAllowed)
	err := w.propose("bob@b.example/1", mls.SelfRemoveProposal(), w.participants(nil, []mimi.URI{bob}, nil))
	if !errors.Is(err, ErrNotAllowed) {
		t.Fatalf("leave: %v", err)
	}
	// All clients may go, the participant stays.
	w = newWorld(t, mustTemplate(t, TemplateDirect), bob)
	w.want(w.join("bob@b.example/1", nil), "bob brings his client", nil)
	if err := w.propose("bob@b.example/1", mls.SelfRemoveProposal()); err != nil {
		t.Fatal(err)
	}
	w.want(w.commit("alice/1", mls.CommitOptions{}), "commit", nil)
	if w.hub.Committed().IsActive(bob) || !w.hub.Committed().Policy().IsParticipant(bob) {
		t.Fatal("bob must be an inactive participant")
	}
}

// TestLastAdmin: in a group the last admin cannot leave it without one.
func TestLastAdmin(t *testing.T) {
	w := newTestWorld(t, TemplateGroup)
	bob := user("bob")
	w.want(w.commit("alice/1", mls.CommitOptions{Proposals: []mls.Proposal{
		w.participants(nil, nil, []Participant{{bob, RoleMember}})}}, w.keyPackage("bob/1")), "add", nil)
	err := w.propose("alice/1", mls.SelfRemoveProposal(), w.participants(nil, []mimi.URI{user("alice")}, nil))
	if !errors.Is(err, ErrNotAllowed) {
		t.Fatalf("the last admin leaves: %v", err)
	}
	w = newTestWorld(t, TemplateGroup)
	w.want(w.commit("alice/1", mls.CommitOptions{Proposals: []mls.Proposal{
		w.participants(nil, nil, []Participant{{bob, RoleAdmin}})}}, w.keyPackage("bob/1")), "add", nil)
	if err := w.propose("alice/1", mls.SelfRemoveProposal(), w.participants(nil, []mimi.URI{user("alice")}, nil)); err != nil {
		t.Fatal(err)
	}
	w.want(w.commit("bob/1", mls.CommitOptions{}), "commit", nil)
}
