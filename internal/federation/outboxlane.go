package federation

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
)

// batchesPerTurn is how many notifications a lane sends before others of the
// same peer get their turn.
const batchesPerTurn = 8

// submitAttempts is how often a pending message is offered to a hub that
// refuses it for a reason that may pass (we are suspended, the room is not
// there) before it is given up.
const submitAttempts = 20

// WelcomeBody returns the body of a RequestWelcome: a FanoutMessage to be
// sent after the event at position and before the next one.
func WelcomeBody(position uint64, fanout []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(fanout)), position), fanout...)
}

// SplitWelcome is the inverse of WelcomeBody.
func SplitWelcome(body []byte) (position uint64, fanout []byte, err error) {
	if len(body) <= 8 {
		return 0, nil, fmt.Errorf("federation: Welcome request of %d octets", len(body))
	}
	return binary.BigEndian.Uint64(body), body[8:], nil
}

// serve sends what a lane has, up to a turn's worth, and reports whether more
// is left.
func (o *Outbox) serve(c *courier, l *lane) (more bool, err error) {
	room, err := mimi.ParseURI(l.room)
	if err != nil {
		// It cannot have come from us; there is nobody to send it to.
		o.cfg.Peers.cfg.Log.Error("outbox: a lane without a room", "peer", c.domain, "room", l.room, "error", err)
		return false, nil
	}
	for range batchesPerTurn {
		if err := o.ctx.Err(); err != nil {
			return false, err
		}
		if room.Domain() == o.cfg.Peers.cfg.Domain {
			more, err = o.notify(c, l, room)
		} else {
			more, err = o.submit(c, l, room)
		}
		if err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// notify sends the next events and Welcomes of a room to a follower.
func (o *Outbox) notify(c *courier, l *lane, room mimi.URI) (more bool, err error) {
	st := o.cfg.Store
	cursors, err := st.PeerCursors(o.ctx, c.domain, justBefore(l.room), 1)
	if err != nil {
		return false, fmt.Errorf("federation: %w", err)
	}
	var events []store.Event
	var through uint64 // end of the window; 0: there is none
	if len(cursors) > 0 && cursors[0].Room == l.room {
		through = cursors[0].Through
		limit := o.cfg.BatchEvents
		if o.cautious(l) {
			limit = 1
		}
		if events, err = st.ReadLog(o.ctx, l.room, cursors[0].After, limit, o.cfg.BatchBytes); err != nil {
			return false, fmt.Errorf("federation: %w", err)
		}
		for len(events) > 0 && events[len(events)-1].Position > through {
			events = events[:len(events)-1]
		}
	}
	// Requests are loaded after the log is read: a Welcome is queued together
	// with its commit, so those of the events at hand are all seen.
	if err := o.load(c, false); err != nil {
		return false, err
	}
	last := uint64(1<<64 - 1) // without events all Welcomes are due
	if len(events) > 0 {
		last = events[len(events)-1].Position
	}
	welcomes, err := o.dueWelcomes(c, l, last)
	if err != nil {
		return false, err
	}
	items := assemble(events, welcomes)
	if len(items) == 0 {
		return false, nil
	}
	size := 0
	for _, it := range items {
		size += len(it.body)
	}
	body := make([]byte, 0, size)
	for _, it := range items {
		body = append(body, it.body...)
	}
	if _, err := o.cfg.Peers.Do(o.ctx, c.domain, mimi.EndpointNotify, room, body); err != nil {
		return false, err
	}
	var delivered uint64
	for _, it := range items {
		delivered = max(delivered, it.position)
	}
	if delivered > 0 {
		if err := st.AdvancePeer(o.ctx, c.domain, l.room, delivered); err != nil {
			return false, fmt.Errorf("federation: %w", err)
		}
	}
	for _, it := range items {
		if it.request != 0 {
			if err := o.done(l, it.request, nil); err != nil {
				return false, err
			}
		}
	}
	o.cfg.Peers.cfg.Metrics.Delivered(c.domain, len(items))
	return true, nil
}

// cautious reports whether a lane was refused last time: then it sends one
// event at a time, so that one that cannot be taken holds up only what follows
// it.
func (o *Outbox) cautious(l *lane) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return l.failures > 0
}

// dueWelcomes reads the Welcomes that belong at or before an event, as many as
// fit into one notification.
func (o *Outbox) dueWelcomes(c *courier, l *lane, last uint64) ([]store.Request, error) {
	o.mu.Lock()
	var ids []uint64
	for _, q := range l.queue {
		if q.kind == RequestWelcome && q.position <= last && len(ids) < mimi.MaxFanout/2 {
			ids = append(ids, q.id)
		}
	}
	o.mu.Unlock()
	var due []store.Request
	for _, id := range ids {
		r, err := o.read(c, l, id)
		if err != nil {
			return nil, err
		}
		if r != nil {
			due = append(due, *r)
		}
	}
	return due, nil
}

// An item is one FanoutMessage of a notification.
type item struct {
	body     []byte
	position uint64 // of an event; 0 for a Welcome
	request  uint64 // ID of a Welcome's request; 0 for an event
}

// assemble puts events and Welcomes into the order of their positions and cuts
// the list at what one notification may hold.
func assemble(events []store.Event, welcomes []store.Request) []item {
	var items []item
	for i := range events {
		for len(welcomes) > 0 {
			position, fanout, err := SplitWelcome(welcomes[0].Body)
			if err == nil && position >= events[i].Position {
				break
			}
			items = append(items, item{body: fanout, request: welcomes[0].ID})
			welcomes = welcomes[1:]
		}
		items = append(items, item{body: events[i].Body, position: events[i].Position})
	}
	for _, w := range welcomes {
		_, fanout, _ := SplitWelcome(w.Body)
		items = append(items, item{body: fanout, request: w.ID})
	}
	size := 0
	for i := range items {
		if size += len(items[i].body); i > 0 && (size > mimi.MaxNotifyRequest || i == mimi.MaxFanout) {
			return items[:i]
		}
	}
	return items
}

// read gives a request of a lane from the store; nil if it is gone, which the
// lane then forgets.
func (o *Outbox) read(c *courier, l *lane, id uint64) (*store.Request, error) {
	reqs, err := o.cfg.Store.Queued(o.ctx, c.domain, id-1, 1)
	if err != nil {
		return nil, fmt.Errorf("federation: %w", err)
	}
	if len(reqs) == 0 || reqs[0].ID != id {
		o.drop(l, id)
		return nil, nil
	}
	return &reqs[0], nil
}

func (o *Outbox) drop(l *lane, id uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l.queue = slices.DeleteFunc(l.queue, func(q queued) bool { return q.id == id })
}

// done removes a request from the store and the lane.
func (o *Outbox) done(l *lane, id uint64, mail []store.NewMail) error {
	_, err := o.cfg.Store.FinishRequest(o.ctx, id, mail)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("federation: %w", err)
	}
	o.drop(l, id)
	if err == nil && len(mail) > 0 {
		o.cfg.Answerer.Mailed(mail)
	}
	return nil
}

// submit offers the oldest pending message of a room to its hub.
func (o *Outbox) submit(c *courier, l *lane, room mimi.URI) (more bool, err error) {
	if err := o.load(c, false); err != nil {
		return false, err
	}
	o.mu.Lock()
	var id uint64
	if len(l.queue) > 0 {
		id = l.queue[0].id
	}
	refusals := l.failures + 1
	o.mu.Unlock()
	if id == 0 {
		return false, nil
	}
	req, err := o.read(c, l, id)
	if err != nil || req == nil {
		return err == nil, err
	}
	var answer []byte
	if req.Kind == RequestSubmit {
		answer, err = o.cfg.Peers.Do(o.ctx, c.domain, mimi.EndpointSubmitMessage, room, req.Body)
	} else {
		err = fmt.Errorf("federation: %w: request of kind %d", ErrMalformed, req.Kind)
	}
	if err != nil && !refusedForGood(err, refusals) {
		if o.ctx.Err() == nil && !errors.Is(err, ErrClosed) {
			next := o.cfg.Peers.cfg.Now().Add(max(RetryAfter(err), time.Second))
			if rerr := o.cfg.Store.RetryRequest(o.ctx, id, uint64(next.UnixMilli())); rerr != nil && !errors.Is(rerr, store.ErrNotFound) {
				return false, fmt.Errorf("federation: %w", rerr)
			}
		}
		return false, err
	}
	mail, err := o.cfg.Answerer.Answered(*req, answer, err)
	if err != nil {
		return false, err
	}
	return true, o.done(l, id, mail)
}

// refusedForGood reports whether repeating a request is of no use after so many
// refusals in a row.
func refusedForGood(err error, refusals int) bool {
	if errors.Is(err, ErrMalformed) || errors.Is(err, ErrTooLarge) {
		return true
	}
	if s, ok := errors.AsType[*StatusError](err); ok {
		switch s.Status {
		case http.StatusUnsupportedMediaType:
			return true
		case http.StatusNotFound, http.StatusForbidden, http.StatusGone:
			return refusals >= submitAttempts
		}
	}
	return false
}

// justBefore returns a name that sorts before room and after every other URI
// that does: URIs hold only characters below 0x7F.
func justBefore(room string) string {
	if room == "" {
		return ""
	}
	n := len(room) - 1
	return room[:n] + string(rune(room[n]-1)) + "\x7f"
}
