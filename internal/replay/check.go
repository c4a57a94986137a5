package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/internal/admin"
	"github.com/comity-im/comity/internal/irclog"
)

// ErrDiffers is matched by every finding that someone did not see what the log
// says.
var ErrDiffers = errors.New("the replay differs from the log")

func differs(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDiffers, fmt.Sprintf(format, args...))
}

// catchUp waits until everyone has seen the last thing that they should.
func (r *replay) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.StepTimeout)
	defer cancel()
	seen := r.cfg.Plan.Seen()
	for i, p := range r.people {
		here := r.cfg.Plan.People[i].Initial
		for _, n := range seen[i] {
			if s := r.cfg.Plan.Steps[n]; s.Person == i {
				here = s.Kind != irclog.Leave
			}
		}
		last, some := r.last(seen[i])
		if err := r.caughtUp(ctx, p, here, last, some); err != nil {
			return err
		}
		r.cfg.Progress("catching up", i+1, len(r.people))
	}
	return nil
}

// last returns the ID of the last message among the steps.
func (r *replay) last(steps []int) (id content.MessageID, ok bool) {
	for _, n := range slices.Backward(steps) {
		if r.ids[n] != (content.MessageID{}) {
			return r.ids[n], true
		}
	}
	return id, false
}

// caughtUp waits until p has left, or is in the last epoch, and has the last
// message.
func (r *replay) caughtUp(ctx context.Context, p *person, here bool, last content.MessageID, some bool) error {
	sub := p.c.Subscribe()
	defer sub.Close()
	for {
		v, err := p.c.Room(r.room)
		if err == nil && v.Frozen != nil {
			return differs("the room is frozen for %s: %v", p.name, v.Frozen)
		}
		done := err == nil && (!here && v.Status == client.RoomLeft || here && v.Epoch == r.epoch)
		if done && some {
			_, err := p.c.Message(ctx, r.room, last)
			done = err == nil
		}
		if done {
			return nil
		}
		if _, err := sub.Next(ctx); err != nil {
			return differs("%s (%v, epoch %d of %d) has not caught up: %v", p.name, v.Status, v.Epoch, r.epoch, err)
		}
	}
}

// line is what a person sees: a message, or who came and went since the one
// before.
type line struct {
	id           content.MessageID
	user, text   string
	answer       content.MessageID
	joined, left []string // sorted; before the message
}

// compareHistories compares everyone's history with the log and returns how
// many messages were read.
func (r *replay) compareHistories(ctx context.Context) (read int, err error) {
	seen := r.cfg.Plan.Seen()
	for i, p := range r.people {
		windows, err := r.history(ctx, p)
		if err != nil {
			return read, err
		}
		expected := r.expected(i, seen[i])
		if len(windows) != len(expected) {
			return read, differs("%s was there %d times, the log says %d", p.name, len(windows), len(expected))
		}
		for w := range expected {
			if err := compare(p.name, windows[w], expected[w]); err != nil {
				return read, err
			}
			for _, l := range expected[w] {
				if l.id != (content.MessageID{}) {
					read++
				}
			}
		}
		r.cfg.Progress("comparing", i+1, len(r.people))
	}
	return read, nil
}

// expected returns what person i should have seen, by the times that it was
// there.
func (r *replay) expected(i int, seen []int) [][]line {
	var windows [][]line
	var now line
	var window []line
	open := false
	if r.cfg.Plan.People[i].Initial {
		open = true
	}
	flush := func() {
		if open {
			windows = append(windows, append(window, now))
		}
		window, now = nil, line{}
	}
	for _, n := range seen {
		s := &r.cfg.Plan.Steps[n]
		user := r.people[s.Person].c.User().String()
		switch s.Kind {
		case irclog.Join:
			if s.Person == i {
				open = true
				window, now = nil, line{}
			}
			now.joined = append(now.joined, user)
		case irclog.Leave:
			now.left = append(now.left, user)
			if s.Person == i {
				flush()
				open = false
			}
		default:
			now.id, now.user, now.text = r.ids[n], user, r.shown(s)
			if s.Answer >= 0 {
				now.answer = r.ids[s.Answer]
			}
			window, now = append(window, now), line{}
		}
	}
	flush()
	return windows
}

// shown is the text that a step's message must have in the end.
func (r *replay) shown(s *irclog.Step) string {
	if s.Kind == irclog.Rename {
		return s.Text
	}
	return content.EscapeHTML(said(s))
}

// history returns what a person saw, by the times that it was there.
func (r *replay) history(ctx context.Context, p *person) ([][]line, error) {
	var windows [][]line
	var window []line
	var now line
	open := false
	for after := uint64(0); ; {
		entries, err := p.c.History(ctx, r.room, after, 500)
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 {
			break
		}
		for i := range entries {
			e := &entries[i]
			after = e.Seq
			switch e.Kind {
			case client.EntryProblem:
				return nil, differs("%s has a problem at position %d: %v", p.name, e.Position, e.Problem)
			case client.EntryMessage:
				m, err := e.Message()
				if err != nil {
					return nil, differs("%s, entry %d: %v", p.name, e.Seq, err)
				}
				part, ok := m.Body.Part.(content.SinglePart)
				if !ok {
					return nil, differs("%s, entry %d has no single part", p.name, e.Seq)
				}
				now.id, now.user, now.text = e.ID, e.User.String(), string(part.Content)
				if e.InReplyTo != nil {
					now.answer = *e.InReplyTo
				}
				window, now = append(window, now), line{}
			case client.EntryChange:
				came := e.Change.Self && !open
				went := e.Change.Self && open
				if came {
					open, window, now = true, nil, line{}
				}
				for _, u := range e.Change.Joined {
					now.joined = append(now.joined, u.String())
				}
				for _, u := range e.Change.Left {
					now.left = append(now.left, u.String())
				}
				if went {
					windows = append(windows, append(window, now))
					open, window, now = false, nil, line{}
				}
			}
		}
	}
	if open {
		windows = append(windows, append(window, now))
	}
	return windows, nil
}

// compare compares one time that a person was there. A leave takes effect with
// the commit that whoever acts next makes, so the order of who came and went
// between two messages does not count.
func compare(name string, got, want []line) error {
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) {
			return differs("%s saw %d messages, the log has %d; first: got %+v, want %+v", name, len(got)-1, len(want)-1, at(got, i), at(want, i))
		}
		g, w := got[i], want[i]
		if g.id != w.id || g.user != w.user || g.text != w.text || g.answer != w.answer {
			return differs("%s, message %d: got %x of %s %q answering %x, want %x of %s %q answering %x",
				name, i, g.id, g.user, g.text, g.answer, w.id, w.user, w.text, w.answer)
		}
		first, last := i == 0, i == len(want)-1
		if !agree(g.joined, w.joined, first, last) || !agree(g.left, w.left, first, last) {
			return differs("%s, before message %d: got joined %v left %v, want joined %v left %v", name, i, g.joined, g.left, w.joined, w.left)
		}
	}
	return nil
}

func at(lines []line, i int) any {
	if i < len(lines) {
		return lines[i]
	}
	return "nothing"
}

// agree reports whether the same people came, or went, between two messages.
// Before the first message, some of what the log has may have happened before
// the person was in. After the last one, others may come and go before the
// person's own leave is committed.
func agree(got, want []string, first, last bool) bool {
	within := func(a, b []string) bool {
		return !slices.ContainsFunc(a, func(u string) bool { return !slices.Contains(b, u) })
	}
	return (last || within(got, want)) && (first || within(want, got))
}

// compareProviders checks that what each follower stored is the hub's log in
// the hub's order. It may lack what happened before it had anybody in the room,
// and where it had nobody for a while, and nothing else.
func (r *replay) compareProviders(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.StepTimeout)
	defer cancel()
	hub, err := r.log(ctx, 0)
	if err != nil {
		return err
	}
	for i := 1; i < len(r.fleet.Providers); i++ {
		if !r.followed(i) {
			continue
		}
		if err := r.compareFollower(ctx, hub, i); err != nil {
			return fmt.Errorf("%s: %w", r.fleet.Providers[i].Config.Domain, err)
		}
	}
	return nil
}

func (r *replay) compareFollower(ctx context.Context, hub []admin.Event, i int) error {
	here, absences := r.presence(i)
	for {
		log, err := r.log(ctx, i)
		if err != nil {
			return err
		}
		// The last events may be on their way to one that still follows.
		if here && (len(log) == 0 || !bytes.Equal(log[len(log)-1].Hash, hub[len(hub)-1].Hash)) {
			select {
			case <-ctx.Done():
				return differs("%d events, and not the last one of the hub", len(log))
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		gaps, next := -1, 0
		for n := range log {
			skipped := slices.IndexFunc(hub[next:], func(e admin.Event) bool { return bytes.Equal(e.Hash, log[n].Hash) })
			if skipped < 0 {
				return differs("position %d is not in the hub's log after what comes before it", log[n].Position)
			}
			if skipped > 0 || n == 0 {
				gaps++
			}
			h := hub[next+skipped]
			if h.Timestamp != log[n].Timestamp || !bytes.Equal(h.Body, log[n].Body) {
				return differs("position %d is not the hub's position %d", log[n].Position, h.Position)
			}
			next += skipped + 1
		}
		if gaps > absences {
			return differs("%d gaps in its log, but it had nobody in the room only %d times", gaps, absences)
		}
		return nil
	}
}

// followed reports whether a provider ever had anybody in the room.
func (r *replay) followed(i int) bool {
	for n, p := range r.cfg.Plan.People {
		joins := slices.ContainsFunc(r.cfg.Plan.Steps, func(s irclog.Step) bool { return s.Person == n && s.Kind == irclog.Join })
		if n%len(r.fleet.Providers) == i && (p.Initial || joins) {
			return true
		}
	}
	return false
}

// presence returns whether a provider has somebody in the room at the end, and
// how many times it had nobody in between.
func (r *replay) presence(i int) (here bool, absences int) {
	people := 0
	for n, p := range r.cfg.Plan.People {
		if n%len(r.fleet.Providers) == i && p.Initial {
			people++
		}
	}
	before := people > 0
	for _, s := range r.cfg.Plan.Steps {
		if s.Person%len(r.fleet.Providers) != i {
			continue
		}
		switch s.Kind {
		case irclog.Join:
			if people == 0 && before {
				absences++
			}
			before = true
			people++
		case irclog.Leave:
			people--
		}
	}
	return people > 0, absences
}

// log reads all that a provider stores of the room.
func (r *replay) log(ctx context.Context, i int) ([]admin.Event, error) {
	var all []admin.Event
	for after := uint64(0); ; {
		events, err := r.fleet.Providers[i].Admin().Events(ctx, r.room.String(), after)
		if err != nil {
			return nil, err
		}
		if len(events) == 0 {
			return all, nil
		}
		for _, e := range events {
			if e.Position != after+1 {
				return nil, differs("%s has a gap in its log before position %d", r.fleet.Providers[i].Config.Domain, e.Position)
			}
			after = e.Position
		}
		all = append(all, events...)
	}
}
