package client_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/room"
)

// changes returns the change entries of a peer as short texts.
func changes(p *peer) []string {
	p.t.Helper()
	var out []string
	for _, e := range p.history() {
		c := e.Change
		if c == nil {
			continue
		}
		for _, group := range []struct {
			what  string
			users []mimi.URI
		}{{"joined", c.Joined}, {"added", c.Added}, {"left", c.Left}, {"removed", c.Removed},
			{"banned", c.Banned}, {"new device", c.NewDevices}, {"lost device", c.LostDevices}} {
			for _, u := range group.users {
				out = append(out, fmt.Sprintf("%s %s by %s", u.Name(), group.what, e.User.Name()))
			}
		}
		for _, r := range c.Roles {
			out = append(out, fmt.Sprintf("%s is %s by %s", r.User.Name(), r.Name, e.User.Name()))
		}
		if c.Name != nil {
			out = append(out, "name "+*c.Name)
		}
	}
	return out
}

func wantChanges(p *peer, want ...string) {
	p.t.Helper()
	if r, err := p.Room(club); err == nil && r.Status == client.RoomActive {
		p.sync()
	}
	if got := changes(p); !slices.Equal(got, want) {
		p.t.Errorf("%v saw %q, want %q", p.Device(), got, want)
	}
}

func TestOpenRoom(t *testing.T) {
	h := newTestHub(t)
	a, b, c := h.peer(alice, "phone"), h.peer(bob, "phone"), h.peer(carol, "phone")
	a.create(room.TemplateOpen)
	b.must(b.JoinOpen(b.ctx(), club))
	if err := b.JoinOpen(b.ctx(), club); !errors.Is(err, client.ErrMember) {
		t.Errorf("joined twice: %v", err)
	}
	c.must(c.JoinOpen(c.ctx(), club))
	b.say("one")
	c.say("two")
	wantChanges(a, "bob joined by bob", "carol joined by carol")
	wantChanges(b, "bob joined by bob", "carol joined by carol")
	wantChanges(c, "carol joined by carol")

	// Bob leaves; the next one to speak commits that.
	b.must(b.Leave(b.ctx(), club))
	b.status(client.RoomLeaving)
	a.sync()
	a.say("three")
	b.status(client.RoomLeft)
	c.sync()
	if _, err := b.SendText(b.ctx(), club, "still here?"); !errors.Is(err, client.ErrNotMember) {
		t.Errorf("sent after leaving: %v", err)
	}
	wantChanges(a, "bob joined by bob", "carol joined by carol", "bob left by alice")

	// And comes back, with the history it had.
	c.say("bob is away")
	b.must(b.JoinOpen(b.ctx(), club))
	b.say("four")
	heard(t, []string{"bob: one", "carol: two", "alice: three", "carol: bob is away", "bob: four"}, a)
	heard(t, []string{"bob: one", "carol: two", "bob: four"}, b)
}

// A leave that is pending does not keep others from joining: the joiner lets
// the leaver go.
func TestJoinWhileLeaving(t *testing.T) {
	h := newTestHub(t)
	a, b, c := h.peer(alice, "phone"), h.peer(bob, "phone"), h.peer(carol, "phone")
	a.create(room.TemplateOpen)
	b.must(b.JoinOpen(b.ctx(), club))
	a.sync()
	b.must(b.Leave(b.ctx(), club))
	c.must(c.JoinOpen(c.ctx(), club))
	b.status(client.RoomLeft)
	c.say("hi")
	wantChanges(a, "bob joined by bob", "carol joined by carol", "bob left by carol")
	heard(t, []string{"carol: hi"}, a, c)
}

func TestRemoveAndRoles(t *testing.T) {
	h := newTestHub(t)
	a, b, c := h.peer(alice, "phone"), h.peer(bob, "phone"), h.peer(carol, "phone")
	a.create(room.TemplateGroup)
	a.must(a.AddUsers(a.ctx(), club, bob, carol))
	b.active()
	c.active()
	if err := b.RemoveUser(b.ctx(), club, carol); !errors.Is(err, client.ErrNotAllowed) {
		t.Errorf("a member removed another one: %v", err)
	}
	if err := b.JoinOpen(b.ctx(), mimi.MustParseURI("mimi://a.example/r/none")); err == nil {
		t.Error("joined a room that does not exist")
	}
	name := "Salon"
	a.must(a.SetDescription(a.ctx(), club, &name, nil))
	a.must(a.SetRole(a.ctx(), club, bob, room.RoleAdmin))
	b.sync()
	b.must(b.RemoveUser(b.ctx(), club, carol))
	c.status(client.RoomLeft)
	a.must(a.UpdateKeys(a.ctx(), club))
	a.sync()
	wantChanges(a, "carol added by alice", "bob added by alice", "name Salon", "bob is admin by alice", "carol removed by bob")
	wantChanges(c, "carol added by alice", "name Salon", "bob is admin by alice", "carol removed by bob")
	if r, _ := b.Room(club); r.Name != "Salon" {
		t.Errorf("the room's name is %q", r.Name)
	}
	// Added again, she reads on.
	a.must(a.AddUsers(a.ctx(), club, carol))
	c.active()
	a.say("welcome back")
	heard(t, []string{"alice: welcome back"}, c)
	a.must(a.SetRole(a.ctx(), club, carol, room.RoleBanned))
	c.status(client.RoomLeft)
	if err := c.JoinOwnDevice(c.ctx(), club); !errors.Is(err, client.ErrNotAllowed) {
		t.Errorf("a banned user came back: %v", err)
	}
}

// Two devices of one user: both are added, each sees what the other sends.
func TestTwoDevices(t *testing.T) {
	h := newTestHub(t)
	a, b1, b2 := h.peer(alice, "phone"), h.peer(bob, "phone"), h.peer(bob, "laptop")
	a.create(room.TemplateGroup)
	a.must(a.AddUsers(a.ctx(), club, bob))
	b1.active()
	b2.active()
	b1.say("from the phone")
	b2.say("from the laptop")
	heard(t, []string{"bob: from the phone", "bob: from the laptop"}, a, b1, b2)
	for _, e := range b2.history() {
		if e.Kind == client.EntryMessage && e.Own != (e.Text() == "from the laptop") {
			t.Errorf("%q: own is %v", e.Text(), e.Own)
		}
	}
	// A third device comes in by itself.
	b3 := h.peer(bob, "tablet")
	b3.must(b3.JoinOwnDevice(b3.ctx(), club))
	b3.say("from the tablet")
	heard(t, []string{"bob: from the tablet"}, b3)
	a.sync()
	if got := changes(a); got[len(got)-1] != "bob-tablet new device by bob" {
		t.Errorf("alice saw %q", got)
	}
	// One device leaves for all of them.
	b2.sync()
	b2.must(b2.Leave(b2.ctx(), club))
	a.sync()
	a.say("bye")
	for _, p := range []*peer{b1, b2, b3} {
		p.status(client.RoomLeft)
	}
	if got := changes(a); !slices.Equal(got[len(got)-1:], []string{"bob left by alice"}) {
		t.Errorf("alice saw %q", got)
	}
}

// Members with nothing to say commit others' proposals after a while.
func TestAutoCommit(t *testing.T) {
	h := newTestHub(t)
	soon := func(c *client.Config) { c.AutoCommit = 2 * time.Millisecond }
	a, b, c := h.peer(alice, "phone", soon), h.peer(bob, "phone", soon), h.peer(carol, "phone", soon)
	a.create(room.TemplateOpen)
	b.must(b.JoinOpen(b.ctx(), club))
	c.must(c.JoinOpen(c.ctx(), club))
	b.must(b.Leave(b.ctx(), club))
	b.status(client.RoomLeft)
	a.sync()
	c.sync()
	if got := append(a.problems(), c.problems()...); len(got) > 0 {
		t.Errorf("problems %v", got)
	}
}

// Everybody changes the room and talks at the same time.
func TestRace(t *testing.T) {
	h := newTestHub(t)
	a := h.peer(alice, "phone")
	a.create(room.TemplateOpen)
	peers := []*peer{a}
	for i := range 5 {
		peers = append(peers, h.peer(mimi.MustParseURI(fmt.Sprintf("mimi://b.example/u/user%d", i)), "phone"))
	}
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() {
			if i > 0 {
				if err := p.JoinOpen(p.ctx(), club); err != nil {
					t.Errorf("%v joins: %v", p.Device(), err)
					return
				}
			}
			for n := range 8 {
				if n%3 == 0 {
					if err := p.UpdateKeys(p.ctx(), club); err != nil {
						t.Errorf("%v updates: %v", p.Device(), err)
					}
				}
				id, err := p.SendText(p.ctx(), club, fmt.Sprint(n))
				if err == nil {
					_, err = p.Wait(p.ctx(), club, id)
				}
				if err != nil {
					t.Errorf("%v sends: %v", p.Device(), err)
				}
			}
		})
	}
	wg.Wait()
	for _, p := range peers {
		p.sync()
		if got := p.problems(); len(got) > 0 {
			t.Errorf("%v has problems %v", p.Device(), got)
		}
	}
	want := a.texts()
	if len(want) != 8*len(peers) {
		t.Errorf("%d messages, want %d", len(want), 8*len(peers))
	}
	for _, p := range peers[1:] {
		// Each has what it could read since it came, in the same order: a
		// message that was encrypted before and accepted after is not for it.
		got, at := p.texts(), 0
		own := 0
		for _, text := range got {
			if i := slices.Index(want[at:], text); i < 0 {
				t.Fatalf("%v has %q, which is out of order; all of it is %q", p.Device(), text, want)
			} else {
				at += i + 1
			}
			if strings.HasPrefix(text, p.User().Name()+":") {
				own++
			}
		}
		if own != 8 || at != len(want) {
			t.Errorf("%v has %d of its own messages and the log up to %d of %d", p.Device(), own, at, len(want))
		}
	}
}

func TestForget(t *testing.T) {
	h := newTestHub(t)
	a, b := h.peer(alice, "phone"), h.peer(bob, "phone")
	a.create(room.TemplateGroup)
	a.must(a.AddUsers(a.ctx(), club, bob))
	b.active()
	b.say("hi")
	if err := b.Forget(b.ctx(), club); err == nil {
		t.Error("forgot a room without leaving it")
	}
	a.sync()
	a.must(a.RemoveUser(a.ctx(), club, bob))
	b.status(client.RoomLeft)
	b.must(b.Forget(b.ctx(), club))
	if got := b.Rooms(); len(got) != 0 {
		t.Errorf("rooms after Forget: %+v", got)
	}
	if rows, err := b.store.Bucket(t.Context(), "history "+club.String()); err != nil || len(rows) != 0 {
		t.Errorf("%d rows of history are left, %v", len(rows), err)
	}
	a.must(a.AddUsers(a.ctx(), club, bob))
	b.active()
	b.say("again")
	heard(t, []string{"bob: again"}, b)
}
