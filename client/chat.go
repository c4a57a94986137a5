package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// A chatRecord is the part of a room that is stored with every batch of
// events, and read for all rooms when the client opens.
type chatRecord struct {
	Status RoomStatus `json:"status"`
	// Cursor is the position up to which the log was applied.
	Cursor uint64 `json:"cursor"`
	// LastSeq is the number of the latest history entry.
	LastSeq uint64 `json:"last_seq"`
	// NextOut numbers outgoing messages.
	NextOut uint64 `json:"next_out"`
	// GroupID is that of the room's group; it never changes once known.
	GroupID []byte `json:"group_id,omitempty"`
	Epoch   uint64 `json:"epoch"`
	// JoinEpoch is the epoch in which this membership began, JoinTag its
	// confirmation tag until the commit that began it was seen.
	JoinEpoch uint64 `json:"join_epoch"`
	JoinTag   []byte `json:"join_tag,omitempty"`
	// Exact is set if Cursor is in this membership, so that the next event is
	// at Cursor+1; after an external commit it is not known where that is.
	Exact bool `json:"exact,omitempty"`
	// LastTime is the timestamp of the latest event.
	LastTime uint64   `json:"last_time"`
	Name     string   `json:"name,omitempty"`
	Subject  string   `json:"subject,omitempty"`
	Members  int      `json:"members"`
	Users    int      `json:"users"`
	Unposted int      `json:"unposted"`
	Pending  int      `json:"pending"`
	Staged   bool     `json:"staged"`
	Frozen   *Problem `json:"frozen,omitempty"`
	// Leaving is set while the device asks to leave.
	Leaving bool `json:"leaving,omitempty"`
}

// Buckets of one room.
func bucketGroup(room mimi.URI) string   { return "group " + room.String() }
func bucketOutbox(room mimi.URI) string  { return "outbox " + room.String() }
func bucketHistory(room mimi.URI) string { return "history " + room.String() }
func bucketIDs(room mimi.URI) string     { return "ids " + room.String() }
func bucketStaged(room mimi.URI) string  { return "staged " + room.String() }
func bucketJoining(room mimi.URI) string { return "joining " + room.String() }

// chatQueue is how many pieces of work wait for one room before those who
// bring more have to wait; turnLimit is how many are done in one turn.
const (
	chatQueue = 256
	turnLimit = 128
)

// A chat is a room as this device takes part in it. One goroutine, started
// when there is work, owns everything below the first block.
type chat struct {
	c    *Client
	uri  mimi.URI
	work chan func(*turn)
	// op serialises operations that change the group's membership or policy.
	op chan struct{}

	startOnce sync.Once
	snap      atomic.Pointer[chatRecord] // last stored record

	rec     chatRecord
	loaded  bool
	broken  error // the last attempt to load failed
	group   *mls.Group
	view    *room.View
	dirty   bool      // the group has changed since the last turn
	at      time.Time // when the hub accepted the event under way; zero: none
	outbox  []*outgoing
	staged  *staged
	joining *joining
	sending bool // a message is under way to the hub
	// caughtUpOn is the connection on which the whole log was received.
	caughtUpOn uint64
	timer      *time.Timer
	timerOn    bool
	// hold is until when the device does not commit others' proposals by
	// itself, because the hub refused the last attempt.
	hold    time.Time
	holdFor time.Duration
	waiting []chan struct{} // closed after a turn that changed something
	leaving *leaving
	anchors backoff // delays while certificates can't be verified
	gaps    int     // how often in a row events were missing before one
	parked  bool    // waits for such a delay; events are dropped and come again
	stale   uint64  // connection on which events were dropped; nothing of it counts
}

func newChat(c *Client, uri mimi.URI) *chat {
	r := &chat{
		c: c, uri: uri,
		work:    make(chan func(*turn), chatQueue),
		op:      make(chan struct{}, 1),
		anchors: backoff{min: c.cfg.RetryMin, max: c.cfg.RetryMax},
	}
	r.snap.Store(&chatRecord{})
	return r
}

func (r *chat) setRecord(rec *chatRecord) { r.snap.Store(rec) }
func (r *chat) record() *chatRecord       { return r.snap.Load() }

// glance returns the room's summary.
func (r *chat) glance() Room {
	rec := r.record()
	status := rec.Status
	if status == RoomActive && rec.Leaving {
		status = RoomLeaving
	}
	return Room{
		URI: r.uri, Status: status, Name: rec.Name, Subject: rec.Subject, Epoch: rec.Epoch,
		Members: rec.Members, Users: rec.Users, Position: rec.Cursor, LastSeq: rec.LastSeq,
		Unposted: rec.Unposted, Frozen: rec.Frozen, Pending: rec.Pending,
	}
}

// start starts the owner.
func (r *chat) start() {
	r.startOnce.Do(func() { r.c.goroutine(r.run) })
}

// enqueue gives the owner something to do, and waits while it has too much.
func (r *chat) enqueue(ctx context.Context, f func(*turn)) error {
	r.start()
	select {
	case r.work <- f:
		return nil
	default:
	}
	select {
	case r.work <- f:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-r.c.ctx.Done():
		return ErrClosed
	}
}

// post is enqueue for goroutines of the client itself.
func (r *chat) post(f func(*turn)) { _ = r.enqueue(r.c.ctx, f) }

// do has the owner call f and waits until what f changed is stored. If it
// can't be stored, do returns that error and nothing has changed.
func (r *chat) do(ctx context.Context, f func(t *turn) error) error {
	done := make(chan error, 1)
	err := r.enqueue(ctx, func(t *turn) {
		if r.broken != nil {
			done <- r.broken
			return
		}
		if err := f(t); err != nil {
			done <- err
			return
		}
		t.after = append(t.after, func() { done <- nil })
		t.failed = append(t.failed, func(err error) { done <- err })
	})
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-r.c.ctx.Done():
		return ErrClosed
	}
}

// A turn is what the owner does between two stores: it collects changes, and
// what to do once they are stored.
type turn struct {
	batch  Batch
	events []Event
	after  []func()
	failed []func(error)
	// ids are the messages of this turn and their senders.
	ids map[content.MessageID]mimi.URI
	// abort is why nothing of this turn may be kept: something went wrong
	// after the group in memory had changed.
	abort error
}

func (t *turn) publish(e Event) { t.events = append(t.events, e) }

// run is the owner's goroutine.
func (r *chat) run() {
	defer func() {
		if r.timer != nil {
			r.timer.Stop()
		}
	}()
	for {
		var f func(*turn)
		select {
		case f = <-r.work:
		case <-r.c.ctx.Done():
			return
		}
		if !r.loaded {
			r.load()
		}
		t := new(turn)
		f(t)
	more:
		for range turnLimit {
			select {
			case f := <-r.work:
				f(t)
			default:
				break more
			}
			if t.abort != nil {
				break
			}
		}
		if r.broken == nil && t.abort == nil {
			r.settle(t)
		}
		r.finish(t)
	}
}

// finish stores a turn and then makes it known.
func (r *chat) finish(t *turn) {
	if r.broken != nil {
		for _, f := range t.failed {
			f(r.broken)
		}
		r.again() // events may have been dropped
		return
	}
	rec, err := r.store(t)
	if err != nil {
		// Memory is ahead of the store: start again from what is stored.
		r.loaded, r.group, r.view, r.dirty = false, nil, nil, false
		r.c.problem(fmt.Errorf("client: room %v: %w", r.uri, err))
		for _, f := range t.failed {
			f(err)
		}
		r.wakeWaiting()
		r.again()
		return
	}
	was := r.record()
	r.snap.Store(rec)
	if was.Status != rec.Status || was.Name != rec.Name || was.Subject != rec.Subject || was.Epoch != rec.Epoch || was.Leaving != rec.Leaving ||
		was.Unposted != rec.Unposted || was.Pending != rec.Pending || was.Members != rec.Members || was.Users != rec.Users {
		t.publish(Event{Kind: EventRoom, Room: r.uri})
	}
	r.c.feed.publish(t.events...)
	for _, f := range t.after {
		f()
	}
	if !t.batch.Empty() {
		r.wakeWaiting()
	}
}

func (r *chat) wakeWaiting() {
	for _, ch := range r.waiting {
		close(ch)
	}
	r.waiting = nil
}

// store writes what a turn changed, in one step.
func (r *chat) store(t *turn) (*chatRecord, error) {
	if t.abort != nil {
		return nil, t.abort
	}
	if r.dirty && r.group != nil {
		recs := r.group.Records()
		for _, p := range recs.Put {
			t.batch.Set(bucketGroup(r.uri), p.Key, p.Value)
		}
		for _, key := range recs.Delete {
			t.batch.Delete = append(t.batch.Delete, Key{bucketGroup(r.uri), key})
		}
		r.dirty = false
	}
	r.summarise()
	rec := r.rec
	value, err := json.Marshal(&rec)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if old, err := json.Marshal(r.record()); err != nil || string(old) != string(value) {
		t.batch.Set(bucketRooms, r.uri.String(), value)
	}
	if t.batch.Empty() {
		return &rec, nil
	}
	return &rec, r.c.cfg.Store.Apply(context.WithoutCancel(r.c.ctx), t.batch)
}

// summarise copies what others want to know at a glance into the record.
func (r *chat) summarise() {
	r.rec.Unposted, r.rec.Staged = 0, r.staged != nil
	for _, o := range r.outbox {
		if o.Status != OutgoingRejected {
			r.rec.Unposted++
		}
	}
	if r.group == nil {
		r.rec.Members, r.rec.Users, r.rec.Pending = 0, 0, 0
		return
	}
	st := r.group.State()
	r.rec.Epoch, r.rec.Members, r.rec.Pending = st.Epoch(), st.NumMembers(), len(r.group.Pending())
	if r.view != nil {
		p := r.view.Policy()
		r.rec.Name, r.rec.Subject, r.rec.Users = p.Meta.Name, p.Meta.Subject, len(p.Participants)
	}
}

// again has the provider repeat the log from where the store is, after a
// delay: memory and store differ, or certificates can't be verified now. It
// takes a new connection to be sure that nothing of the old one, on which
// events were dropped, is taken for what follows.
func (r *chat) again() {
	r.stale, r.caughtUpOn = max(r.stale, r.c.line.last()), 0
	if r.parked {
		return
	}
	r.parked = true
	d := r.anchors.delay(nil)
	r.c.goroutine(func() {
		if sleep(r.c.ctx, d) != nil {
			return
		}
		r.post(func(*turn) {
			r.parked = false
			// If there is a newer connection, it has begun at the store's
			// cursor and nothing of it was dropped.
			r.c.line.reconnect(r.stale)
		})
	})
}

// subscribe asks for the events that follow the cursor.
func (r *chat) subscribe() {
	if rec := r.record(); rec.Status == RoomActive {
		r.c.line.subscribe(r.uri, rec.Cursor)
	}
}

// connected is called when a stream has opened.
func (r *chat) connected() {
	rec := r.record()
	if rec.Status == RoomActive {
		r.c.line.subscribe(r.uri, rec.Cursor)
	}
}

// config returns the configuration of the room's group.
func (r *chat) config() mls.Config {
	return mls.Config{
		Credentials:  r.c.creds,
		Components:   room.Components(),
		Now:          r.now,
		Limits:       r.c.cfg.Limits,
		SkipLifetime: true, // whoever committed a KeyPackage judged its lifetime
	}
}

// now is the time by which certificates are judged: while the log is read,
// when the hub accepted what is read, so that a device that was away for long
// comes to the same result as those that were not. A hub can't use that to
// revive old certificates, since timestamps never go back.
func (r *chat) now() time.Time {
	now := r.c.cfg.Now()
	if !r.at.IsZero() && r.at.Before(now) {
		return r.at
	}
	return now
}

// load reads the room from the store.
func (r *chat) load() {
	r.broken = r.read()
	r.loaded = r.broken == nil
	if r.broken != nil {
		r.c.problem(fmt.Errorf("client: room %v: %w", r.uri, r.broken))
	}
}

func (r *chat) read() error {
	ctx := context.WithoutCancel(r.c.ctx)
	s := r.c.cfg.Store
	rec := chatRecord{}
	value, err := s.Get(ctx, bucketRooms, r.uri.String())
	switch {
	case errors.Is(err, ErrNoValue):
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(value, &rec); err != nil {
			return fmt.Errorf("client: stored room: %w", err)
		}
	}
	r.rec, r.group, r.view, r.dirty = rec, nil, nil, false
	if rec.Status == RoomActive || rec.Status == RoomFrozen {
		if err := r.readGroup(ctx); err != nil {
			return err
		}
	}
	if err := r.readOutbox(ctx); err != nil {
		return err
	}
	if err := r.readStaged(ctx); err != nil {
		return err
	}
	if err := r.readLeaving(ctx); err != nil {
		return err
	}
	return r.readJoining(ctx)
}

func (r *chat) readGroup(ctx context.Context) error {
	rows, err := r.c.cfg.Store.Bucket(ctx, bucketGroup(r.uri))
	if err != nil {
		return err
	}
	g, err := mls.LoadGroup(r.config(), rows, r.c.signer)
	if err != nil {
		return fmt.Errorf("client: stored group: %w", err)
	}
	v, err := viewOf(g.State())
	if err != nil {
		return err
	}
	r.group, r.view = g, v
	return nil
}

// active returns an error unless the device is a member that can act.
func (r *chat) active() error {
	switch {
	case r.broken != nil:
		return r.broken
	case r.rec.Status == RoomFrozen:
		return fmt.Errorf("%w: %w", ErrFrozen, r.rec.Frozen)
	case r.rec.Status != RoomActive || r.group == nil:
		return fmt.Errorf("%w: %v", ErrNotMember, r.uri)
	}
	return nil
}
