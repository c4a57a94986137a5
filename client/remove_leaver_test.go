package client_test

import (
	"testing"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/room"
)

// Removing somebody who has just asked to leave is no contradiction: what is
// pending is committed first.
func TestRemoveWhoLeaves(t *testing.T) {
	h := newTestHub(t)
	a, b := h.peer(alice, "phone"), h.peer(bob, "phone")
	a.create(room.TemplateGroup)
	a.must(a.AddUsers(a.ctx(), club, bob))
	b.active()
	b.must(b.Leave(b.ctx(), club))
	a.until("the wish to leave is known", func() bool {
		r, err := a.Room(club)
		return err == nil && r.Pending > 0
	})
	a.must(a.RemoveUser(a.ctx(), club, bob))
	b.status(client.RoomLeft)
	wantChanges(a, "bob added by alice", "bob left by alice")
}
