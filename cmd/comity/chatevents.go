package main

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/mimi"
)

// slowStart is after how long people are told that there is no connection.
const slowStart = 3 * time.Second

// rooms returns the rooms of the device.
func (v *conversation) rooms() iter.Seq[client.Room] { return slices.Values(v.c.Rooms()) }

// note tells people something, on standard error. The arguments that come from
// elsewhere are sanitised here, all at once.
func (v *conversation) note(format string, args ...any) {
	v.outMu.Lock()
	defer v.outMu.Unlock()
	fmt.Fprintln(v.errs, "--", content.SanitizeLine(fmt.Sprintf(format, args...)))
}

// follow acts on the events of the client until ctx ends.
func (v *conversation) follow(ctx context.Context, sub *client.Subscription, stop context.CancelFunc) {
	defer sub.Close()
	slow := time.AfterFunc(slowStart, func() {
		v.mu.Lock()
		connected := v.connected
		v.mu.Unlock()
		if !connected {
			v.note("The provider can't be reached yet. What you say is kept and sent later.")
		}
	})
	defer slow.Stop()
	for {
		e, err := sub.Next(ctx)
		if err != nil {
			return
		}
		v.event(ctx, e)
		v.mu.Lock()
		close(v.changed)
		v.changed = make(chan struct{})
		broken := v.broken
		v.mu.Unlock()
		if broken != nil {
			stop() // nobody reads any more
			return
		}
	}
}

func (v *conversation) event(ctx context.Context, e client.Event) {
	switch e.Kind {
	case client.EventEntry, client.EventLagged:
		v.arrived(e)
		v.show(ctx)
	case client.EventRoom:
		v.arrived(e)
	case client.EventOutgoing:
		v.outgoing(ctx, e)
	case client.EventConnected:
		v.mu.Lock()
		v.connected = true
		v.mu.Unlock()
	case client.EventDisconnected:
		v.mu.Lock()
		v.connected = false
		clear(v.caughtUp)
		v.mu.Unlock()
		if ctx.Err() == nil {
			v.note("The connection to the provider broke (%v). Trying again.", e.Err)
		}
	case client.EventCaughtUp:
		v.mu.Lock()
		v.caughtUp[e.Room] = true
		v.mu.Unlock()
	case client.EventProblem:
		v.note("%v", e.Err)
	}
}

// arrived announces what happens in rooms other than the present one, once
// until that room is shown. The first room of all becomes the present one.
func (v *conversation) arrived(e client.Event) {
	r, err := v.c.Room(e.Room)
	if err != nil || r.Status != client.RoomActive {
		return
	}
	v.mu.Lock()
	first := v.room.IsZero()
	if first {
		v.room = e.Room
	}
	announce := e.Room != v.room && e.Kind == client.EventEntry && !e.Entry.Own && !v.news[e.Room]
	if announce {
		v.news[e.Room] = true
	}
	v.mu.Unlock()
	if first {
		v.note("You are now in %q, %v.", r.Name, r.URI)
	}
	if announce {
		v.note("News in %q: /room %v", r.Name, e.Room)
	}
}

// outgoing tells what becomes of a message that is not simply posted.
func (v *conversation) outgoing(ctx context.Context, e client.Event) {
	switch e.Outgoing.Status {
	case client.OutgoingForwarding:
		v.note("The room's hub, %s, can't be reached. Your provider keeps the message and sends it later.", e.Room.Domain())
	case client.OutgoingRejected:
		v.rejected(ctx, e.Room, e.Outgoing)
		v.fail()
	}
}

// rejected reports a message that was refused, and forgets it.
func (v *conversation) rejected(ctx context.Context, room mimi.URI, o *client.Outgoing) {
	text := ""
	if m, err := content.Decode(o.Content); err == nil {
		text = m.Text()
	}
	v.note("Refused: %q: %s", shorten(text, 60), o.Reason)
	if err := v.c.Discard(ctx, room, o.ID); err != nil && ctx.Err() == nil {
		v.note("%v", err)
	}
}

// forgetRejected reports what was refused while nobody watched.
func (v *conversation) forgetRejected(ctx context.Context, r client.Room) {
	out, err := v.c.Unposted(ctx, r.URI)
	if err != nil {
		v.note("%v", err)
		return
	}
	for i := range out {
		if out[i].Status == client.OutgoingRejected {
			v.rejected(ctx, r.URI, &out[i])
		}
	}
}

func shorten(s string, n int) string {
	if runes := []rune(s); len(runes) > n {
		return string(runes[:n]) + "…"
	}
	return s
}

// show writes the entries of the present room that were not shown yet.
func (v *conversation) show(ctx context.Context) {
	v.showMu.Lock()
	defer v.showMu.Unlock()
	v.mu.Lock()
	room := v.room
	after := v.shown[room]
	delete(v.news, room)
	v.mu.Unlock()
	if room.IsZero() {
		return
	}
	for {
		const page = 200
		entries, err := v.c.History(ctx, room, after, page)
		if err != nil {
			if r, roomErr := v.c.Room(room); roomErr == nil && r.Status != client.RoomNone && ctx.Err() == nil {
				v.note("%v", err)
			}
			return
		}
		for i := range entries {
			after = entries[i].Seq
			if err := v.print(ctx, room, &entries[i]); err != nil {
				v.mu.Lock()
				v.broken = err
				v.mu.Unlock()
				return
			}
		}
		v.mu.Lock()
		v.shown[room] = after
		v.mu.Unlock()
		if len(entries) < page {
			return
		}
	}
}

// print writes one entry.
func (v *conversation) print(ctx context.Context, room mimi.URI, e *client.Entry) error {
	var text []byte
	if v.opts.json {
		var err error
		if text, err = jsonLine(room, e); err != nil {
			return err
		}
	} else {
		w := lineWriter{colour: v.opts.colour, zone: v.zone, find: func(id content.MessageID) (uint64, bool) {
			e, err := v.c.Message(ctx, room, id)
			return e.Seq, err == nil
		}}
		text = []byte(w.lines(e))
	}
	v.outMu.Lock()
	defer v.outMu.Unlock()
	if _, err := v.out.Write(text); err != nil {
		return err
	}
	return v.out.Flush()
}
