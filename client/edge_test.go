package client_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// Removed and added again while it was away, a device gets the invitation
// before the commit that removed it.
func TestInvitedAgain(t *testing.T) {
	_, a, b := pair(t)
	a.say("before")
	b.sync()
	b.tr.setDown(true)
	a.must(a.RemoveUser(a.ctx(), club, bob))
	a.say("unheard")
	a.must(a.AddUsers(a.ctx(), club, bob))
	a.say("after")
	b.crash(0)
	b.tr.setDown(false)
	b.until("bob hears again", func() bool { return slices.Contains(b.texts(), "alice: after") })
	b.say("back")
	heard(t, []string{"alice: before", "alice: after", "bob: back"}, b)
}

// A wish to leave that comes too late for its epoch is repeated in the next.
func TestLeaveAgain(t *testing.T) {
	h, a, b := pair(t)
	var once sync.Once
	h.hook(func() {
		h.before = func(device string, req client.Request) error {
			if device == b.tr.name && strings.HasPrefix(req.Path, local.PathUpdate) {
				once.Do(func() { a.must(a.UpdateKeys(a.ctx(), club)) })
			}
			return nil
		}
	})
	b.must(b.Leave(b.ctx(), club))
	a.sync()
	a.say("bye")
	b.status(client.RoomLeft)
	if got := b.problems(); len(got) > 0 {
		t.Errorf("problems %v", got)
	}
}

// A device that has asked to leave goes on asking after a crash.
func TestLeaveCrash(t *testing.T) {
	h, a, b := pair(t)
	asked := make(chan struct{})
	var once sync.Once
	h.hook(func() {
		h.before = func(device string, req client.Request) error {
			if device == b.tr.name && strings.HasPrefix(req.Path, local.PathUpdate) {
				once.Do(func() { close(asked) })
				return errCut
			}
			return nil
		}
	})
	go func() { _ = b.Leave(b.ctx(), club) }()
	<-asked
	b.crash(0)
	h.hook(func() { h.before = nil })
	a.until("the hub knows", func() bool {
		r, err := a.Room(club)
		return err == nil && r.Pending > 0
	})
	a.say("bye")
	b.status(client.RoomLeft)
}

// The power fails between a join, or the creation of a room, and the answer.
func TestCrashWhileJoining(t *testing.T) {
	for _, what := range []string{"create", "join"} {
		t.Run(what, func(t *testing.T) {
			h := newTestHub(t)
			a, b := h.peer(alice, "phone"), h.peer(bob, "phone")
			reached := make(chan struct{})
			var once sync.Once
			cut := func(p *peer, path string) {
				h.hook(func() {
					h.after = func(device string, req client.Request, resp client.Response) (client.Response, error) {
						if device == p.tr.name && strings.HasPrefix(req.Path, path) {
							once.Do(func() { close(reached) })
							return client.Response{}, errCut
						}
						return resp, nil
					}
					h.forge = func(device, _ string, _ uint64, body []byte) []byte {
						if device == p.tr.name {
							return nil
						}
						return body
					}
				})
			}
			p := a
			if what == "create" {
				cut(a, local.PathRooms)
				go func() { _ = a.CreateRoom(a.ctx(), client.NewRoom{URI: club, Template: room.TemplateOpen}) }()
			} else {
				a.create(room.TemplateOpen)
				p = b
				cut(b, local.PathUpdate)
				go func() { _ = b.JoinOpen(b.ctx(), club) }()
			}
			<-reached
			p.crash(0)
			h.hook(func() { h.after, h.forge = nil, nil })
			p.active()
			p.say("here")
			a.sync()
			heard(t, []string{p.User().Name() + ": here"}, a)
			if c := changes(a); what == "join" && !slices.Equal(c, []string{"bob joined by bob"}) {
				t.Errorf("alice saw %q", c)
			}
		})
	}
}

// A commit that leaves out a proposal which the hub has just accepted is
// refused, and made again with it.
func TestMissedProposal(t *testing.T) {
	h := newTestHub(t)
	a, b, c := h.peer(alice, "phone"), h.peer(bob, "phone"), h.peer(carol, "phone")
	a.create(room.TemplateOpen)
	b.must(b.JoinOpen(b.ctx(), club))
	c.must(c.JoinOpen(c.ctx(), club))
	b.sync()
	var once sync.Once
	h.hook(func() {
		h.before = func(device string, req client.Request) error {
			if device == b.tr.name && strings.HasPrefix(req.Path, local.PathUpdate) {
				once.Do(func() { c.must(c.Leave(c.ctx(), club)) })
			}
			return nil
		}
	})
	b.must(b.UpdateKeys(b.ctx(), club))
	c.status(client.RoomLeft)
	a.sync()
	if got := changes(a); got[len(got)-1] != "carol left by bob" {
		t.Errorf("alice saw %q", got)
	}
}

// A user with two devices is leaving: that can't be carried by who joins, so
// the joiner waits until a member has committed it.
func TestJoinCrowded(t *testing.T) {
	h := newTestHub(t)
	a := h.peer(alice, "phone", func(c *client.Config) { c.AutoCommit = 20 * time.Millisecond })
	b1, b2, c := h.peer(bob, "phone"), h.peer(bob, "laptop"), h.peer(carol, "phone")
	a.create(room.TemplateOpen)
	b1.must(b1.JoinOpen(b1.ctx(), club))
	b2.must(b2.JoinOwnDevice(b2.ctx(), club))
	b1.sync()
	b1.must(b1.Leave(b1.ctx(), club))
	c.must(c.JoinOpen(c.ctx(), club))
	b1.status(client.RoomLeft)
	b2.status(client.RoomLeft)
	c.say("hi")
	heard(t, []string{"carol: hi"}, a, c)
}

// An authority that can't be reached holds a room up, but does not freeze it.
func TestAnchorUnreachable(t *testing.T) {
	h := newTestHub(t)
	v := &moodyVerifier{Verifier: &identity.Verifier{Anchors: h.verifier.Anchors}}
	a, b := h.peer(alice, "phone"), h.peer(bob, "phone", func(c *client.Config) { c.Credentials = v })
	c := h.peer(carol, "phone")
	a.create(room.TemplateGroup)
	v.down.Store(true)
	a.must(a.AddUsers(a.ctx(), club, bob))
	v.until(t)
	if r, err := b.Room(club); err == nil {
		t.Errorf("bob is in a room that it can't verify: %+v", r)
	}
	v.down.Store(false)
	b.active()
	v.down.Store(true)
	a.must(a.AddUsers(a.ctx(), club, carol))
	c.active()
	c.say("can you see me?")
	v.until(t)
	if r, err := b.Room(club); err != nil || r.Status != client.RoomActive {
		t.Errorf("bob's room: %+v, %v", r, err)
	}
	v.down.Store(false)
	heard(t, []string{"carol: can you see me?"}, b)
}

// moodyVerifier fails at times as one does whose network is down.
type moodyVerifier struct {
	*identity.Verifier
	down  atomic.Bool
	tried atomic.Int64
}

func (v *moodyVerifier) VerifyCredential(c *mls.Credential, key []byte, now time.Time) error {
	if v.down.Load() {
		v.tried.Add(1)
		return fmt.Errorf("no network: %w", client.ErrUnreachable)
	}
	return v.Verifier.VerifyCredential(c, key, now)
}

// until waits until the verifier was asked in vain a few times more.
func (v *moodyVerifier) until(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for n := v.tried.Load(); v.tried.Load() < n+3; {
		if time.Now().After(deadline) {
			t.Fatal("nobody asks for credentials")
		}
		time.Sleep(time.Millisecond)
	}
}

// No number that a hub can write is too much.
func TestAnyTimestamp(t *testing.T) {
	h, a, b := pair(t)
	b.sync()
	for _, ts := range []uint64{0, 1, 1 << 40, 1 << 52, 1 << 63, ^uint64(0)} {
		h.hook(func() {
			h.forge = func(device, _ string, _ uint64, body []byte) []byte {
				var fm mimi.FanoutMessage
				if device != b.tr.name || mls.Unmarshal(body, &fm) != nil {
					return body
				}
				fm.Timestamp = ts
				out, err := mls.Marshal(&fm)
				if err != nil {
					t.Error(err)
				}
				return out
			}
		})
		a.say(fmt.Sprint(ts))
		b.sync()
		a.must(a.UpdateKeys(a.ctx(), club))
		b.sync()
	}
	h.hook(func() { h.forge = nil })
	a.say("now")
	b.sync()
	if got := b.texts(); !slices.Equal(got, []string{"alice: now"}) {
		t.Errorf("bob has %q", got)
	}
}
