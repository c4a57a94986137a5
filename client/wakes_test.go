package client_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/room"
)

// A device that loses power in the middle of a join takes it up again by
// itself, although no event of the room comes to wake it.
func TestWakesToJoin(t *testing.T) {
	h := newTestHub(t)
	a, b := h.peer(alice, "phone"), h.peer(bob, "phone")
	a.create(room.TemplateOpen)
	var mu sync.Mutex
	tries, dead := 0, true
	h.hook(func() {
		h.before = func(device string, req client.Request) error {
			mu.Lock()
			defer mu.Unlock()
			if device == b.tr.name && strings.HasPrefix(req.Path, local.PathUpdate) && dead {
				tries++
				return errCut
			}
			return nil
		}
	})
	go func() { _ = b.JoinOpen(b.ctx(), club) }()
	b.until("the join was sent", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return tries > 0
	})
	b.crash(0)
	mu.Lock()
	dead = false
	mu.Unlock()
	b.until("the device is in", func() bool {
		r, err := b.Room(club)
		return err == nil && r.Status == client.RoomActive
	})
}
