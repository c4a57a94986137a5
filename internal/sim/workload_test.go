package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/client/memstore"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/room"
)

// maxRooms bounds the rooms of a run.
const maxRooms = 4

// A place is a room that the workload knows of.
type place struct {
	uri  mimi.URI
	open bool
}

// script is what the workload draws from: each kind of step as often as it is
// to happen, relative to the others.
var script = []struct {
	weight int
	step   func(w *world, s *stage)
}{
	{40, (*world).stepSend},
	{8, (*world).stepCreate},
	{14, (*world).stepAdd},
	{12, (*world).stepJoin},
	{5, (*world).stepLeave},
	{4, (*world).stepRemove},
	{5, (*world).stepUpdateKeys},
	{2, (*world).stepDescribe},
	{4, (*world).stepProvider},
	{4, (*world).stepDevice},
	{5, (*world).stepCut},
}

// A stage is what the workload remembers between steps.
type stage struct {
	rooms []place
	said  int
	// later are things to undo: what is down comes up, what is cut heals.
	later []deferred
}

type deferred struct {
	at   time.Time
	what func() error
}

// play does the steps of a run, and checks after each.
func (w *world) play() error {
	s := new(stage)
	total := 0
	for _, k := range script {
		total += k.weight
	}
	// There is something to talk about, before anything can go wrong.
	alice, bob, carol, dave := w.devs[0], w.devs[1], w.devs[3], w.devs[4]
	w.create(s, alice, false)
	w.create(s, carol, true)
	w.settle(2 * time.Second)
	w.add(alice, s.rooms[0].uri, bob.user, dave.user)
	w.join(bob, s.rooms[1])
	w.join(alice, s.rooms[1])
	w.settle(10 * time.Second)
	for n := range w.opts.steps {
		if n == 1 {
			w.net.setCalm(false)
			w.trace("the network is rough from here on")
		}
		for range 1 + w.rng.IntN(3) {
			k, draw := 0, w.rng.IntN(total)
			for draw >= script[k].weight {
				draw -= script[k].weight
				k++
			}
			script[k].step(w, s)
		}
		w.settle(time.Duration(1+w.rng.IntN(6000)) * time.Millisecond)
		if err := w.undo(s, time.Now()); err != nil {
			return err
		}
		if err := w.oracle.checkInvariants(); err != nil {
			return fmt.Errorf("after step %d: %w", n+1, err)
		}
	}
	return w.heal(s)
}

// settle lets time pass until everything stands still at its end.
func (w *world) settle(d time.Duration) {
	time.Sleep(d)
	quiet()
}

// undo does what is due.
func (w *world) undo(s *stage, now time.Time) error {
	var left []deferred
	for _, d := range s.later {
		if d.at.After(now) {
			left = append(left, d)
			continue
		}
		if err := d.what(); err != nil {
			return err
		}
	}
	s.later = left
	return nil
}

// patience is how long, in the bubble's time, everything may take to come to
// rest once the network has healed.
const patience = 20 * time.Minute

// heal ends all faults, waits until everything has come to rest, has everyone
// say a last word that everybody must hear, and checks that all agree.
func (w *world) heal(s *stage) error {
	w.trace("everything heals")
	w.net.setCalm(true)
	if err := w.undo(s, time.Now().Add(24*time.Hour)); err != nil {
		return err
	}
	w.ops.Wait()
	if err := w.rest(); err != nil {
		return fmt.Errorf("after healing: %w", err)
	}
	for _, d := range w.devs {
		for _, r := range d.c.Rooms() {
			if r.Status == client.RoomActive {
				w.say(s, d, r.URI, 1)
			}
		}
	}
	w.ops.Wait()
	if err := w.rest(); err != nil {
		return fmt.Errorf("after the last words: %w", err)
	}
	return w.oracle.checkAgreement()
}

// rest waits until everything has come to rest.
func (w *world) rest() error {
	for start := time.Now(); ; {
		w.settle(5 * time.Second)
		if err := w.oracle.checkInvariants(); err != nil {
			return err
		}
		err := w.oracle.settled()
		if err == nil {
			return nil
		}
		if time.Since(start) > patience {
			return fmt.Errorf("not at rest after %v: %w", patience, err)
		}
	}
}

// passing reports whether an operation may fail so in a run in which nobody
// cheats: others were faster, something was out of reach, or the rules of the
// room forbid it.
func passing(err error) bool {
	for _, ok := range []error{
		client.ErrUnreachable, client.ErrClosed, client.ErrNoRoom, client.ErrNotMember, client.ErrMember,
		client.ErrNotAllowed, client.ErrConflict, client.ErrNoKeyMaterial, client.ErrRejected,
		context.DeadlineExceeded, context.Canceled, memstore.ErrClosed, errNetwork,
	} {
		if errors.Is(err, ok) {
			return true
		}
	}
	// Another provider, or the device's own, is out of reach.
	if s, ok := errors.AsType[*client.StatusError](err); ok {
		return s.Status >= 500 || s.Status == 429 || s.Status == 404
	}
	return false
}

// operate starts an operation of a device, which has a time limit.
func (w *world) operate(d *device, limit time.Duration, what string, f func(ctx context.Context, c *client.Client) error) {
	c := d.c
	if c == nil {
		return
	}
	w.trace("%s: %s", d.name, what)
	w.ops.Go(func() {
		ctx, cancel := context.WithTimeout(w.ctx, limit)
		defer cancel()
		err := f(ctx, c)
		// Whoever wants something tries again when it was out of reach.
		for wait := time.Second; err != nil && unreached(err) && pause(ctx, wait) == nil; wait *= 2 {
			err = f(ctx, c)
		}
		switch {
		case err == nil:
			w.trace("%s: %s: done", d.name, what)
		case passing(err):
			w.trace("%s: %s: %v", d.name, what, err)
		default:
			w.fault("%s: %s: %v", d.name, what, err)
		}
	})
}

// unreached reports whether an operation failed because somebody was out of
// reach.
func unreached(err error) bool {
	s, ok := errors.AsType[*client.StatusError](err)
	return errors.Is(err, client.ErrUnreachable) || ok && s.Status >= 500
}

// pick draws one of a list.
func pick[T any](w *world, list []T) T { return list[w.rng.IntN(len(list))] }

// member draws a device and a room in which it is.
func (w *world) member() (*device, mimi.URI, bool) {
	type at struct {
		d *device
		r mimi.URI
	}
	var all []at
	for _, d := range w.devs {
		if d.c == nil {
			continue
		}
		for _, r := range d.c.Rooms() {
			if r.Status == client.RoomActive {
				all = append(all, at{d, r.URI})
			}
		}
	}
	if len(all) == 0 {
		return nil, mimi.URI{}, false
	}
	x := pick(w, all)
	return x.d, x.r, true
}

func (w *world) stepSend(s *stage) {
	if d, uri, ok := w.member(); ok {
		w.say(s, d, uri, 1+w.rng.IntN(4))
	}
}

// say has a device send messages, one after the other.
func (w *world) say(s *stage, d *device, uri mimi.URI, count int) {
	texts := make([]string, count)
	for i := range texts {
		s.said++
		texts[i] = fmt.Sprintf("%s says %d", d.name, s.said)
	}
	w.operate(d, time.Minute, fmt.Sprintf("send %q to %v", texts, uri), func(ctx context.Context, c *client.Client) error {
		for ; len(texts) > 0; texts = texts[1:] {
			text := texts[0]
			m, err := c.Composer(uri).Text(text)
			if err != nil {
				return err
			}
			id, err := m.ID()
			if err != nil {
				return err
			}
			// It may be seen in the log before Send returns; and it may be stored
			// although Send fails, if the device crashes meanwhile.
			w.oracle.composed(id, &sending{device: d, room: uri, text: text})
			if _, err := c.Send(ctx, uri, m); err != nil {
				return err
			}
			w.oracle.promised(id)
		}
		return nil
	})
}

func (w *world) stepCreate(s *stage) {
	if d := pick(w, w.devs); len(s.rooms) < maxRooms && d.c != nil {
		w.create(s, d, w.rng.IntN(2) == 0)
	}
}

func (w *world) create(s *stage, d *device, open bool) {
	uri, err := mimi.NewURI(mimi.KindRoom, d.user.Domain(), fmt.Sprintf("room-%d", len(s.rooms)+1))
	if err != nil {
		w.fault("%v", err)
		return
	}
	template := room.TemplateGroup
	if open {
		template = room.TemplateOpen
	}
	s.rooms = append(s.rooms, place{uri, open})
	w.operate(d, 2*time.Minute, fmt.Sprintf("create %v (%s)", uri, template), func(ctx context.Context, c *client.Client) error {
		return c.CreateRoom(ctx, client.NewRoom{URI: uri, Template: template, Name: uri.Name()})
	})
}

func (w *world) stepAdd(*stage) {
	d, uri, ok := w.member()
	if !ok {
		return
	}
	var users []mimi.URI
	for range 1 + w.rng.IntN(2) {
		if u := pick(w, w.devs).user; u != d.user && !slices.Contains(users, u) {
			users = append(users, u)
		}
	}
	w.add(d, uri, users...)
}

func (w *world) add(d *device, uri mimi.URI, users ...mimi.URI) {
	w.operate(d, 2*time.Minute, fmt.Sprintf("add %v to %v", users, uri), func(ctx context.Context, c *client.Client) error {
		return c.AddUsers(ctx, uri, users...)
	})
}

// stepJoin joins an open room, or one in which the user is with another device.
func (w *world) stepJoin(s *stage) {
	w.join(pick(w, w.devs), pick(w, s.rooms))
}

func (w *world) join(d *device, p place) {
	w.operate(d, 2*time.Minute, fmt.Sprintf("join %v", p.uri), func(ctx context.Context, c *client.Client) error {
		if p.open {
			return c.JoinOpen(ctx, p.uri)
		}
		return c.JoinOwnDevice(ctx, p.uri)
	})
}

func (w *world) stepLeave(*stage) {
	if d, uri, ok := w.member(); ok {
		w.operate(d, time.Minute, fmt.Sprintf("leave %v", uri), func(ctx context.Context, c *client.Client) error {
			return c.Leave(ctx, uri)
		})
	}
}

func (w *world) stepRemove(*stage) {
	d, uri, ok := w.member()
	if u := pick(w, w.devs).user; ok && u != d.user {
		w.operate(d, time.Minute, fmt.Sprintf("remove %v from %v", u, uri), func(ctx context.Context, c *client.Client) error {
			return c.RemoveUser(ctx, uri, u)
		})
	}
}

func (w *world) stepUpdateKeys(*stage) {
	if d, uri, ok := w.member(); ok {
		w.operate(d, time.Minute, fmt.Sprintf("update keys in %v", uri), func(ctx context.Context, c *client.Client) error {
			return c.UpdateKeys(ctx, uri)
		})
	}
}

func (w *world) stepDescribe(s *stage) {
	d, uri, ok := w.member()
	subject := fmt.Sprintf("subject %d", s.said)
	if ok {
		w.operate(d, time.Minute, fmt.Sprintf("describe %v", uri), func(ctx context.Context, c *client.Client) error {
			return c.SetDescription(ctx, uri, nil, &subject)
		})
	}
}

// stepProvider takes a provider down for a while, in order or by a crash.
func (w *world) stepProvider(s *stage) {
	n, crash := pick(w, w.nodes), w.rng.IntN(2) == 0
	pause := time.Duration(w.rng.IntN(15_000)) * time.Millisecond
	if _, up := n.store(); !up || w.net.isCalm() {
		return
	}
	w.trace("%s goes down for %v (crash: %t)", n.domain, pause, crash)
	if err := n.halt(crash); err != nil {
		w.fault("%s does not stop: %v", n.domain, err)
	}
	s.later = append(s.later, deferred{time.Now().Add(pause), func() error {
		w.trace("%s comes up", n.domain)
		return n.start()
	}})
}

// stepDevice turns a device off for a while.
func (w *world) stepDevice(s *stage) {
	d, crash := pick(w, w.devs), w.rng.IntN(2) == 0
	pause := time.Duration(w.rng.IntN(30_000)) * time.Millisecond
	if d.c == nil || w.net.isCalm() {
		return
	}
	w.trace("%s goes off for %v (crash: %t)", d.name, pause, crash)
	d.stop(crash)
	s.later = append(s.later, deferred{time.Now().Add(pause), func() error {
		w.trace("%s goes on", d.name)
		return d.open()
	}})
}

// stepCut parts two providers for a while.
func (w *world) stepCut(s *stage) {
	i := w.rng.IntN(len(domains))
	a, b := domains[i], domains[(i+1)%len(domains)]
	pause := time.Duration(w.rng.IntN(60_000)) * time.Millisecond
	w.trace("%s and %s are parted for %v", a, b, pause)
	w.net.setCut(a, b, true)
	s.later = append(s.later, deferred{time.Now().Add(pause), func() error {
		w.trace("%s and %s are together again", a, b)
		w.net.setCut(a, b, false)
		return nil
	}})
}
