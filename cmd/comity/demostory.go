package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/internal/fleet"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/room"
)

// The providers of the demo.
const (
	demoA = "a.example"
	demoB = "b.example"
	demoC = "c.example"
)

// play tells the whole story.
func (s *stage) play(ctx context.Context) error {
	s.line("Comity: three providers, each a process of its own, and their users' devices.")
	if err := s.providers(ctx); err != nil {
		return err
	}
	cast, err := s.cast(ctx)
	if err != nil {
		return err
	}
	club, err := s.clubhouse(ctx, cast)
	if err != nil {
		return err
	}
	lobby, err := s.lobby(ctx, cast)
	if err != nil {
		return err
	}
	if err := s.stored(ctx, club); err != nil {
		return err
	}
	if err := s.plaintexts(); err != nil {
		return err
	}
	return s.compare(ctx, club, lobby)
}

func (s *stage) providers(ctx context.Context) error {
	s.title("Three providers start")
	began := time.Now()
	var err error
	s.fleet, err = fleet.New(fleet.Config{Dir: filepath.Join(s.dir, "providers"), Domains: []string{demoA, demoB, demoC}})
	if err != nil {
		return err
	}
	if err := s.fleet.Start(ctx); err != nil {
		return err
	}
	for _, p := range s.fleet.Providers {
		s.row(p.Config.Domain, "process %-8d for providers %-16s for its users %s", p.PID(), p.Config.Listen, p.Config.ClientListen)
	}
	s.line("ready after %d ms; they know each other by mutual TLS alone", time.Since(began).Milliseconds())
	return nil
}

// A cast is everybody who plays.
type cast struct {
	alice, bob, carol, dave *actor
}

func (s *stage) cast(ctx context.Context) (*cast, error) {
	s.title("Users get devices; keys are made there and stay there")
	if err := os.MkdirAll(filepath.Join(s.dir, "homes"), 0o700); err != nil {
		return nil, err
	}
	var c cast
	var err error
	for _, one := range []struct {
		actor                **actor
		user, domain, device string
	}{
		{&c.alice, "alice", demoA, "phone"},
		{&c.bob, "bob", demoB, "phone"},
		{&c.carol, "carol", demoC, "laptop"},
		{&c.dave, "dave", demoB, "laptop"},
	} {
		if *one.actor, err = s.enrol(ctx, one.user, one.user, one.domain, one.device); err != nil {
			return nil, err
		}
		s.row(one.user, "%v", (*one.actor).c.Device())
	}
	return &c, nil
}

// clubhouse plays what happens in a room whose admin decides who is in.
func (s *stage) clubhouse(ctx context.Context, c *cast) (mimi.URI, error) {
	s.title("alice opens a room at %s and adds users of the other providers", demoA)
	uri, err := newRoomURI(demoA, "clubhouse")
	if err != nil {
		return uri, err
	}
	if err := c.alice.c.CreateRoom(ctx, client.NewRoom{URI: uri, Name: "Clubhouse", Template: room.TemplateGroup}); err != nil {
		return uri, err
	}
	s.row("alice", "created %v", uri)
	began := time.Now()
	if err := c.alice.c.AddUsers(ctx, uri, c.bob.c.User(), c.carol.c.User()); err != nil {
		return uri, err
	}
	three := []*actor{c.alice, c.bob, c.carol}
	for _, a := range three {
		if err := a.room(ctx, uri, "all three are in the room", func(r client.Room) bool { return r.Status == client.RoomActive && r.Users == 3 }); err != nil {
			return uri, err
		}
		a.plays = uri
	}
	s.row("alice", "added %s and %s; they are in after %d ms", who(c.bob.c.User()), who(c.carol.c.User()), time.Since(began).Milliseconds())

	s.title("They talk")
	hello, err := s.say(ctx, c.alice, uri, three, "Good evening from a.example. Who can read this?")
	if err != nil {
		return uri, err
	}
	if _, err := s.say(ctx, c.bob, uri, three, "I can, at b.example; my provider sees only ciphertext.", content.ReplyTo(hello.id)); err != nil {
		return uri, err
	}
	if _, err := s.say(ctx, c.carol, uri, three, "So can I, at c.example. Nobody had to change providers."); err != nil {
		return uri, err
	}
	if err := s.atOnce(ctx, uri, three); err != nil {
		return uri, err
	}
	tablet, err := s.secondDevice(ctx, uri, c)
	if err != nil {
		return uri, err
	}
	four := append(three, tablet)
	if _, err := s.say(ctx, tablet, uri, four, "bob's tablet here; what was said before I can't read."); err != nil {
		return uri, err
	}
	return uri, s.goodbye(ctx, uri, c, four)
}

// atOnce has everybody talk at the same time: the hub decides the order.
func (s *stage) atOnce(ctx context.Context, uri mimi.URI, all []*actor) error {
	const each = 3
	s.title("All talk at once; the hub decides the order")
	sent := make([][]*said, len(all))
	errs := make([]error, len(all))
	began := time.Now()
	var wg sync.WaitGroup
	for i, a := range all {
		wg.Go(func() {
			for n := range each {
				m, err := s.send(ctx, a, uri, all, fmt.Sprintf("%s speaks without waiting for the others, %d of %d", a.label, n+1, each))
				if err != nil {
					errs[i] = err
					return
				}
				sent[i] = append(sent[i], m)
			}
		})
	}
	wg.Wait()
	by := map[content.MessageID]*said{}
	for i := range all {
		if errs[i] != nil {
			return errs[i]
		}
		for _, m := range sent[i] {
			by[m.id] = m
			for _, a := range all {
				if err := a.sees(ctx, m); err != nil {
					return err
				}
			}
		}
	}
	took := time.Since(began)
	entries, err := history(ctx, all[0], uri)
	if err != nil {
		return err
	}
	for i := range entries {
		if m := by[entries[i].ID]; m != nil {
			s.said = append(s.said, m)
			s.row(m.by.label, "%s", m.text)
		}
	}
	s.line("%d messages, seen by all %d after %d ms", len(by), len(all), took.Milliseconds())
	return nil
}

// secondDevice brings a further device of bob in, by an external commit.
func (s *stage) secondDevice(ctx context.Context, uri mimi.URI, c *cast) (*actor, error) {
	s.title("bob gets a tablet; it comes in by itself, with an external commit")
	tablet, err := s.enrol(ctx, "bob's tablet", "bob", demoB, "tablet")
	if err != nil {
		return nil, err
	}
	s.row("bob's tablet", "%v", tablet.c.Device())
	began := time.Now()
	if err := tablet.c.JoinOwnDevice(ctx, uri); err != nil {
		return nil, fmt.Errorf("bob's tablet: %w", err)
	}
	for _, a := range []*actor{tablet, c.alice, c.bob, c.carol} {
		if err := a.room(ctx, uri, "bob's tablet is in the room", func(r client.Room) bool { return r.Status == client.RoomActive && r.Members == 4 }); err != nil {
			return nil, err
		}
	}
	tablet.plays = uri
	s.line("all devices have seen it come after %d ms; it was checked by each of them", time.Since(began).Milliseconds())
	return tablet, nil
}

// goodbye has carol leave.
func (s *stage) goodbye(ctx context.Context, uri mimi.URI, c *cast, four []*actor) error {
	s.title("carol leaves; the others change the keys")
	if _, err := s.say(ctx, c.carol, uri, four, "I have to go. Talk to you in the lobby."); err != nil {
		return err
	}
	began := time.Now()
	if err := c.carol.c.Leave(ctx, uri); err != nil {
		return fmt.Errorf("carol: %w", err)
	}
	if err := c.carol.room(ctx, uri, "carol is out", func(r client.Room) bool { return r.Status == client.RoomLeft }); err != nil {
		return err
	}
	var rest []*actor
	for _, a := range four {
		if a == c.carol {
			continue
		}
		rest = append(rest, a)
		if err := a.room(ctx, uri, "carol is out", func(r client.Room) bool { return r.Users == 2 && r.Pending == 0 }); err != nil {
			return err
		}
	}
	c.carol.plays = mimi.URI{}
	s.line("out after %d ms", time.Since(began).Milliseconds())
	_, err := s.say(ctx, c.bob, uri, rest, "Now we are two users, and carol can't read this any more.")
	return err
}

// lobby plays what happens in a room that anyone may join.
func (s *stage) lobby(ctx context.Context, c *cast) (mimi.URI, error) {
	s.title("carol opens a public room at %s; dave, a stranger, walks in", demoC)
	uri, err := newRoomURI(demoC, "lobby")
	if err != nil {
		return uri, err
	}
	if err := c.carol.c.CreateRoom(ctx, client.NewRoom{URI: uri, Name: "Lobby", Template: room.TemplateOpen}); err != nil {
		return uri, err
	}
	s.row("carol", "created %v", uri)
	if err := c.dave.c.JoinOpen(ctx, uri); err != nil {
		return uri, fmt.Errorf("dave: %w", err)
	}
	both := []*actor{c.carol, c.dave}
	for _, a := range both {
		if err := a.room(ctx, uri, "dave is in the room", func(r client.Room) bool { return r.Status == client.RoomActive && r.Users == 2 }); err != nil {
			return uri, err
		}
		a.plays = uri
	}
	s.row("dave", "joined; nobody had to add him")
	hello, err := s.say(ctx, c.dave, uri, both, "Hello from b.example. Is this where one waits?")
	if err != nil {
		return uri, err
	}
	_, err = s.say(ctx, c.carol, uri, both, "It is. Take a seat; the kettle is on.", content.ReplyTo(hello.id))
	return uri, err
}
