package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A badScene is who takes part. The hub of the room is a.example.
type badScene struct {
	w    *badWorld
	room mimi.URI

	root    *badDevice     // at a, made the room and may do everything in it
	anna    *client.Client // at a, a member
	bob     *client.Client // at b, a member
	dave    *badDevice     // at b, a member who does as he is told
	mallory *badDevice     // at b, was a member and is removed
	carol   *badDevice     // at c, never was in the room
	erin    *badDevice     // at a, never was in the room, has KeyPackages
	late    *badDevice     // at a, has one KeyPackage that is about to expire

	stale   []byte                     // a commit that mallory made while she was a member
	removed *mimi.SubmitMessageRequest // a message that she made then
	farOld  *mimi.SubmitMessageRequest // a message of dave, many epochs old
}

// TestBadInput sends real providers what they must refuse. Each refusal has a
// status, a stable code, and a text that says what was wrong; none changes
// anything, ends a process or keeps the members from going on.
func TestBadInput(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real processes")
	}
	bin := binary(t)
	t.Run("configuration", func(t *testing.T) { testConfig(t, bin) })
	t.Run("occupied", func(t *testing.T) { testOccupied(t, bin) })
	t.Run("damaged", func(t *testing.T) { testDamage(t, bin) })
	t.Run("running", func(t *testing.T) {
		s := newBadScene(t, bin)
		for _, part := range []struct {
			name string
			run  func(t *testing.T)
		}{
			{"peers", s.testFederationPeers},
			{"bodies", s.testFederationBodies},
			{"tokens", s.testClientTokens},
			{"client bodies", s.testClientBodies},
			{"updates", s.testUpdates},
			{"messages", s.testMessages},
			{"KeyPackages", s.testKeyPackages},
			{"group info", s.testGroupInfo},
			{"notifications", s.testNotifications},
			{"repeats", s.testRepeats},
			{"accounts", s.testAccounts},
			{"stream", s.testStream},
			{"wire", s.testWire},
		} {
			began := time.Now()
			t.Run(part.name, part.run)
			badAlive(t, s.room, s.anna, s.bob)
			once(t, s.room, s.anna, s.bob)
			for _, p := range s.w.fleet.Providers { // bad input is no failure of the provider
				log := badLogSince(t, p.LogFile, 0)
				for _, failure := range []string{"panic", "request failed", "stream failed", "status=500", "DATA RACE"} {
					if at := strings.Index(log, failure); at >= 0 {
						t.Fatalf("%s: the log of %s: %.500s", part.name, p.Config.Domain, log[max(0, at-100):])
					}
				}
			}
			t.Logf("%s: %v", part.name, time.Since(began).Round(time.Millisecond))
		}
		t.Run("a removed user", s.testRemovedSpeaks)
		t.Run("restart", s.testRestart)
		t.Run("a room that is not shown", s.testUnshownRoom)
	})
}

// newBadScene starts three providers and lets the story come to the point
// where mallory is removed.
func newBadScene(t *testing.T, bin string) *badScene {
	t.Helper()
	w := newBadWorld(t, bin, shortDir(t), "a.example", "b.example", "c.example")
	s := &badScene{w: w}
	s.root, s.erin = w.device("root", "a.example"), w.device("erin", "a.example")
	s.dave, s.mallory = w.device("dave", "b.example"), w.device("mallory", "b.example")
	s.carol = w.device("carol", "c.example")
	s.anna, s.bob = w.member("anna", "a.example"), w.member("bob", "b.example")
	s.room = s.root.create(t, "club", "group")
	s.late = w.device("late", "a.example")
	if a := s.late.publish(t, badKP(t, s.late, validity{-24 * time.Hour, 30 * time.Minute})); a.status >= 300 {
		t.Fatalf("publishing: %d %s", a.status, a.says)
	}

	s.root.add(t, s.room, s.anna.User(), s.bob.User())
	for _, d := range []*badDevice{s.dave, s.mallory} {
		kp, private := d.keyPackage(t, badValid)
		if a := d.publish(t, kp); a.status >= 300 {
			t.Fatalf("publishing: %d %s", a.status, a.says)
		}
		d.join(t, s.room, s.root, s.root.add(t, s.room, d.user), kp, private)
	}
	s.dave.follow(t, s.room)
	s.farOld = s.dave.message(t, s.room, "from long ago")
	// The epoch goes on.
	for range 8 {
		s.root.must(t, s.room, s.root.commit(t, s.room, mls.CommitOptions{ForcePath: true}))
	}
	badUntil(t, "b has mallory's last epoch", func() bool {
		s.mallory.follow(t, s.room)
		return s.mallory.groups[s.room].State().Epoch() == s.root.groups[s.room].State().Epoch()
	})
	s.stale = updateBody(t, s.mallory.commit(t, s.room, mls.CommitOptions{ForcePath: true}))
	s.removed = s.mallory.message(t, s.room, "from beyond")
	s.root.remove(t, s.room, s.mallory.user)
	badUntil(t, "dave and the others are in the last epoch", func() bool {
		s.dave.follow(t, s.room)
		epoch := s.root.groups[s.room].State().Epoch()
		return s.dave.groups[s.room].State().Epoch() == epoch &&
			!slices.ContainsFunc([]*client.Client{s.anna, s.bob}, func(c *client.Client) bool {
				r, err := c.Room(s.room)
				return err != nil || r.Epoch != epoch
			})
	})
	badAlive(t, s.room, s.anna, s.bob)
	return s
}
