package client_test

import (
	"slices"
	"testing"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/room"
)

// heard checks that all peers have the same conversation and no problems.
func heard(t *testing.T, want []string, peers ...*peer) {
	t.Helper()
	for _, p := range peers {
		p.sync()
		if got := p.texts(); !slices.Equal(got, want) {
			t.Errorf("%v has %q, want %q", p.Device(), got, want)
		}
		if got := p.problems(); len(got) > 0 {
			t.Errorf("%v has problems %v", p.Device(), got)
		}
	}
}

func TestConversation(t *testing.T) {
	h := newTestHub(t)
	a, b, c := h.peer(alice, "phone"), h.peer(bob, "phone"), h.peer(carol, "phone")
	a.create(room.TemplateGroup)
	a.say("anyone?")
	a.must(a.AddUsers(a.ctx(), club, bob))
	b.active()
	a.say("hello bob")
	b.say("hello alice")
	a.must(a.AddUsers(a.ctx(), club, carol))
	c.active()
	c.say("hello all")
	heard(t, []string{"alice: anyone?", "alice: hello bob", "bob: hello alice", "carol: hello all"}, a)
	heard(t, []string{"alice: hello bob", "bob: hello alice", "carol: hello all"}, b)
	heard(t, []string{"carol: hello all"}, c)

	members, err := a.Members(a.ctx(), club)
	a.must(err)
	if len(members) != 3 || members[0].User != alice || members[0].RoleName != "admin" || len(members[1].Devices) != 1 {
		t.Errorf("members: %+v", members)
	}
	r, err := a.Room(club)
	a.must(err)
	if r.Status != client.RoomActive || r.Name != "Club" || r.Members != 3 || r.Users != 3 || r.Unposted != 0 || r.Position != h.position(club) {
		t.Errorf("room: %+v", r)
	}
}
