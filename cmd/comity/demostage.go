package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/internal/fleet"
	"github.com/comity-im/comity/mimi"
)

// patience bounds each wait of the demo. Nothing takes that long unless it
// has failed.
const patience = 20 * time.Second

// A stage is where the demo plays.
type stage struct {
	dir    string
	out    io.Writer
	colour palette
	fleet  *fleet.Fleet
	actors []*actor
	said   []*said
	step   int
}

// An actor is one device.
type actor struct {
	label string // as the story calls it
	dir   string
	plays mimi.URI // the room to go on in; zero: none
	home  *home
	c     *client.Client
	sub   *client.Subscription
	stop  context.CancelFunc
	ran   chan error // result of Run
}

// What was said, and who had to see it.
type said struct {
	by   *actor
	room mimi.URI
	id   content.MessageID
	text string
	to   []*actor // all of them, with by
}

func newStage(dir string, out io.Writer) *stage {
	return &stage{dir: dir, out: out, colour: paletteFor(out)}
}

// title begins a step of the story.
func (s *stage) title(format string, args ...any) {
	s.step++
	fmt.Fprintf(s.out, "\n%s\n", s.colour.paint(bold, fmt.Sprintf(format, args...)))
}

// line tells something.
func (s *stage) line(format string, args ...any) {
	text := strings.TrimRight("  "+fmt.Sprintf(format, args...), " ")
	fmt.Fprintln(s.out, text)
}

// row tells something about somebody.
func (s *stage) row(name, format string, args ...any) {
	s.line("%s %s", s.colour.name(fmt.Sprintf("%-16s", name)), fmt.Sprintf(format, args...))
}

// enrol gives a user a device and sets it to work.
func (s *stage) enrol(ctx context.Context, label, user, domain, device string) (*actor, error) {
	p := s.fleet.Provider(domain)
	code, err := p.Admin().AddUser(ctx, user)
	if err != nil {
		return nil, err
	}
	e := enrolment{
		profile:   profile{Provider: "https://" + domain, Address: p.Config.ClientListen},
		rootsFile: s.fleet.RootsFile, code: code.Code, device: device,
	}
	a := &actor{label: label, dir: filepath.Join(s.dir, "homes", user+"-"+device)}
	c, h, err := e.enrol(ctx, a.dir)
	if err != nil {
		return nil, err
	}
	// The device is opened again as every program would, but does not wait
	// long before it commits what others propose.
	if err := c.Close(); err != nil {
		return nil, err
	}
	a.home = h
	cfg := h.config()
	cfg.AutoCommit = 200 * time.Millisecond
	if a.c, err = client.Open(ctx, cfg); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	s.actors = append(s.actors, a)
	if err := a.c.PublishKeyPackages(ctx); err != nil {
		return nil, err
	}
	a.sub = a.c.Subscribe()
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	a.stop, a.ran = stop, make(chan error, 1)
	go func() { a.ran <- a.c.Run(run) }()
	return a, nil
}

// dismiss closes all devices; their homes remain.
func (s *stage) dismiss() error {
	var errs []error
	for _, a := range s.actors {
		if a.c == nil {
			continue
		}
		if a.stop != nil {
			a.stop()
			<-a.ran
		}
		errs = append(errs, a.c.Close(), a.home.Close())
		a.c = nil
	}
	return errors.Join(errs...)
}

// close ends everything.
func (s *stage) close() error {
	err := s.dismiss()
	if s.fleet != nil {
		err = errors.Join(err, s.fleet.Stop())
	}
	return err
}

// until waits for events of a device until ok.
func (a *actor) until(ctx context.Context, what string, ok func() (bool, error)) error {
	deadline, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var trouble error
	for {
		done, err := ok()
		if err != nil {
			return fmt.Errorf("%s: %s: %w", a.label, what, err)
		}
		if done {
			return nil
		}
		e, err := a.sub.Next(deadline)
		switch {
		case err != nil && ctx.Err() == nil:
			return fmt.Errorf("%s waited %v in vain until %s: %w", a.label, patience, what, errors.Join(err, trouble))
		case err != nil:
			return err
		case e.Err != nil:
			trouble = e.Err
		}
	}
}

// room waits until what a device says about a room is ok.
func (a *actor) room(ctx context.Context, uri mimi.URI, what string, ok func(client.Room) bool) error {
	return a.until(ctx, what, func() (bool, error) {
		r, err := a.c.Room(uri)
		if errors.Is(err, client.ErrNoRoom) {
			return false, nil
		}
		if err == nil && r.Frozen != nil {
			err = r.Frozen
		}
		return err == nil && ok(r), err
	})
}

// sees waits until a device has a message in its history.
func (a *actor) sees(ctx context.Context, m *said) error {
	return a.until(ctx, fmt.Sprintf("%q arrives", m.text), func() (bool, error) {
		_, err := a.c.Message(ctx, m.room, m.id)
		if errors.Is(err, client.ErrUnknownMessage) || errors.Is(err, client.ErrNoRoom) {
			return false, nil
		}
		return err == nil, err
	})
}

// send has a device send something, which is then under way.
func (s *stage) send(ctx context.Context, by *actor, room mimi.URI, to []*actor, text string, opts ...content.Option) (*said, error) {
	id, err := by.c.SendText(ctx, room, text, opts...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", by.label, err)
	}
	return &said{by: by, room: room, id: id, text: text, to: to}, nil
}

// say has a device say something and waits until everybody has seen it.
func (s *stage) say(ctx context.Context, by *actor, room mimi.URI, to []*actor, text string, opts ...content.Option) (*said, error) {
	began := time.Now()
	m, err := s.send(ctx, by, room, to, text, opts...)
	if err != nil {
		return nil, err
	}
	for _, a := range to {
		if err := a.sees(ctx, m); err != nil {
			return nil, err
		}
	}
	s.said = append(s.said, m)
	shown := text
	if len(opts) > 0 { // an answer: the only option in this story
		shown = "↳ " + text
	}
	s.row(by.label, "%-62s %s", shown, s.colour.paint(dim, fmt.Sprintf("seen by all %d after %d ms", len(to), time.Since(began).Milliseconds())))
	return m, nil
}
