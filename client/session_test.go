package client_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/client/memstore"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/room"
)

// A token that is refused is replaced, once, and the request made again.
func TestTokenRefresh(t *testing.T) {
	h := newTestHub(t)
	a := h.peer(alice, "phone")
	var mu sync.Mutex
	tokens, refusals := 0, 1
	h.hook(func() {
		h.instead = func(_ string, req client.Request) *client.Response {
			mu.Lock()
			defer mu.Unlock()
			if req.Path == local.PathToken {
				tokens++
			}
			if req.Path == local.PathRooms && refusals > 0 {
				refusals--
				status, body := problem(401, local.CodeUnauthenticated, "expired")
				return &client.Response{Status: status, Body: body}
			}
			return nil
		}
	})
	a.create(room.TemplateGroup)
	mu.Lock()
	defer mu.Unlock()
	if tokens != 1 {
		t.Errorf("%d new tokens, want 1", tokens)
	}
}

// An enrolment whose answer is lost can be made again with the same key.
func TestEnrolAgain(t *testing.T) {
	h := newTestHub(t)
	tr := &transport{h: h}
	cfg := client.Config{Transport: tr, Store: memstore.New(), Credentials: h.verifier}
	if _, err := client.Open(t.Context(), cfg); !errors.Is(err, client.ErrNotEnrolled) {
		t.Errorf("Open before Enrol: %v", err)
	}
	code := h.code(alice.String())
	var keys []string
	h.hook(func() {
		h.after = func(_ string, req client.Request, resp client.Response) (client.Response, error) {
			if req.Path == local.PathEnrol {
				keys = append(keys, string(h.devices["mimi://a.example/d/alice-phone"].key))
				if len(keys) == 1 {
					return client.Response{}, errCut
				}
			}
			return resp, nil
		}
	})
	if _, err := client.Enrol(t.Context(), cfg, code, "phone"); !errors.Is(err, client.ErrUnreachable) {
		t.Fatalf("Enrol: %v, want ErrUnreachable", err)
	}
	c, err := client.Enrol(t.Context(), cfg, code, "phone")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if len(keys) != 2 || keys[0] != keys[1] {
		t.Error("the second attempt had another key")
	}
	if c.User() != alice {
		t.Errorf("enrolled as %v", c.User())
	}
	if _, err := client.Enrol(t.Context(), cfg, code, "phone"); !errors.Is(err, client.ErrEnrolled) {
		t.Errorf("a third Enrol: %v", err)
	}
}

// KeyPackages are used up and come again; the private keys of used ones are
// gone.
func TestKeyPackagePool(t *testing.T) {
	h := newTestHub(t)
	a, b := h.peer(alice, "phone"), h.peer(bob, "phone")
	a.create(room.TemplateGroup)
	for range 6 {
		a.must(a.AddUsers(a.ctx(), club, bob))
		b.active()
		a.must(a.RemoveUser(a.ctx(), club, bob))
		b.status(client.RoomLeft)
	}
	b.until("the pool is full enough", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.devices[b.tr.name].packages) >= 4
	})
	b.until("used keys are gone", func() bool {
		rows, err := b.store.Bucket(t.Context(), "keyPackages")
		h.mu.Lock()
		defer h.mu.Unlock()
		return err == nil && len(rows) == len(h.devices[b.tr.name].packages)
	})
}

func TestEvents(t *testing.T) {
	h := newTestHub(t)
	a := h.peer(alice, "phone")
	sub := a.Subscribe()
	a.create(room.TemplateGroup)
	id := a.say("hello")
	var entry, posted bool
	for !entry || !posted {
		e, err := sub.Next(a.ctx())
		a.must(err)
		entry = entry || e.Kind == client.EventEntry && e.Entry.ID == id && e.Entry.Text() == "hello"
		posted = posted || e.Kind == client.EventOutgoing && e.Outgoing.ID == id && e.Outgoing.Status == client.OutgoingPosted
	}
	a.must(a.Client.Close())
	for {
		if _, err := sub.Next(a.ctx()); err != nil {
			if !errors.Is(err, client.ErrClosed) {
				t.Errorf("Next after Close: %v", err)
			}
			break
		}
	}
	if _, err := a.SendText(a.ctx(), club, "x"); !errors.Is(err, client.ErrClosed) {
		t.Errorf("Send after Close: %v", err)
	}
	if _, err := a.Subscribe().Next(a.ctx()); !errors.Is(err, client.ErrClosed) {
		t.Errorf("Subscribe after Close: %v", err)
	}
}
