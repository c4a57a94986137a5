package client_test

import (
	"sync"
	"testing"

	"github.com/comity-im/comity/room"
)

// An event that the provider leaves out once is asked for again, and not
// passed over.
func TestSkippedEvent(t *testing.T) {
	h := newTestHub(t)
	a, b := h.peer(alice, "phone"), h.peer(bob, "phone")
	a.create(room.TemplateOpen)
	b.must(b.JoinOpen(b.ctx(), club))
	a.sync()
	a.say("one")
	b.sync()
	var mu sync.Mutex
	left := 0
	h.hook(func() {
		h.forge = func(device, _ string, _ uint64, body []byte) []byte {
			mu.Lock()
			defer mu.Unlock()
			if device == b.tr.name && left == 0 {
				left++
				return nil
			}
			return body
		}
	})
	a.say("two")
	a.say("three")
	heard(t, []string{"alice: one", "alice: two", "alice: three"}, b)
	if left != 1 {
		t.Errorf("%d events were left out, want 1", left)
	}
}
