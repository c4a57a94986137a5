package federation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
)

// Kinds of queued requests (store.NewRequest.Kind).
const (
	// RequestWelcome goes to a follower with the events of its room: Body is a
	// FanoutMessage, preceded by the position (8 octets, big-endian) of the event
	// after which it is sent; see WelcomeBody.
	RequestWelcome uint8 = 1
	// RequestSubmit is a pending SubmitMessageRequest for the hub of Room.
	RequestSubmit uint8 = 2
)

// An OutboxStore is the part of the store that the Outbox reads and advances.
type OutboxStore interface {
	store.Peers
	store.Requests
	ReadLog(ctx context.Context, room string, after uint64, maxEvents, maxBytes int) ([]store.Event, error)
}

// An Answerer takes what became of queued requests that wait for an answer
// (RequestSubmit).
type Answerer interface {
	// Answered is given the hub's answer, or the error with which the request was
	// refused for good. The mail it returns is stored with the removal of the
	// request, as one. It may be called again for a request after a crash. An
	// error keeps the request in the queue.
	Answered(req store.Request, answer []byte, refused error) ([]store.NewMail, error)
	// Mailed says that mail returned by Answered was stored.
	Mailed(mail []store.NewMail)
}

// OutboxConfig configures an Outbox.
type OutboxConfig struct {
	Peers    *Peers
	Store    OutboxStore
	Answerer Answerer
	// Lanes is how many rooms of one peer are served at the same time; 4.
	Lanes int
	// BatchEvents and BatchBytes bound one notification, which holds one event at
	// least; 256 and 1 MiB.
	BatchEvents, BatchBytes int
	// Poll is how often the store is searched for work that no hint announced;
	// one minute.
	Poll time.Duration
	// RetryMin and RetryMax bound the pause after a failure, which doubles from
	// one to the other; 1 s and 5 min for a room, at most 1 min for a peer.
	RetryMin, RetryMax time.Duration
}

// An Outbox brings each follower the events of the rooms it follows, and each
// hub the messages that are pending for it.
//
// Work is divided into lanes, one per peer and room. A lane has one request
// under way at most, so what it carries stays in order; it pauses alone when
// the peer refuses it. A peer pauses with all its lanes when it cannot be
// reached or asks for less. Nothing waits for another peer. All progress is in
// the store.
type Outbox struct {
	cfg OutboxConfig

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup // added to under mu while not closed

	mu       sync.Mutex // guards what follows, and couriers and lanes
	closed   bool
	couriers map[string]*courier
}

// A courier serves one peer.
type courier struct {
	domain   string
	lanes    map[string]*lane
	ready    []*lane // in the order they became ready
	running  int
	failures int // of the peer, in a row
	paused   *time.Timer
	scanning bool
	rescan   bool
	lastID   uint64 // of the last request that was loaded
}

type laneState uint8

const (
	laneIdle laneState = iota
	laneReady
	laneRunning
	lanePaused
)

// A lane serves one room of a peer.
type lane struct {
	room     string
	state    laneState
	dirty    bool // hinted at while it ran
	failures int  // in a row
	timer    *time.Timer
	queue    []queued // requests in order of ID
}

// queued is what is remembered of a request; the body stays in the store.
type queued struct {
	id       uint64
	kind     uint8
	position uint64 // RequestWelcome: after which event
}

// NewOutbox returns an Outbox; Run makes it work.
func NewOutbox(cfg OutboxConfig) *Outbox {
	if cfg.Lanes <= 0 {
		cfg.Lanes = 4
	}
	if cfg.BatchEvents <= 0 {
		cfg.BatchEvents = 256
	}
	cfg.BatchEvents = min(cfg.BatchEvents, mimi.MaxFanout/2)
	if cfg.BatchBytes <= 0 {
		cfg.BatchBytes = 1 << 20
	}
	if cfg.Poll <= 0 {
		cfg.Poll = time.Minute
	}
	if cfg.RetryMin <= 0 {
		cfg.RetryMin = time.Second
	}
	if cfg.RetryMax <= 0 {
		cfg.RetryMax = 5 * time.Minute
	}
	o := &Outbox{cfg: cfg, couriers: make(map[string]*courier)}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	cfg.Peers.onHeard(o.heard)
	return o
}

// Run searches the store for work until ctx ends, then stops all lanes and
// returns.
func (o *Outbox) Run(ctx context.Context) error {
	defer o.Close()
	tick := time.NewTicker(o.cfg.Poll)
	defer tick.Stop()
	for {
		domains, err := o.cfg.Store.Lagging(ctx, o.nowMilli())
		if err != nil && ctx.Err() == nil {
			o.cfg.Peers.cfg.Log.Error("outbox: searching for work failed", "error", err)
		}
		for _, d := range domains {
			o.mu.Lock()
			o.scan(o.courier(d))
			o.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Close stops all lanes and waits for them. Requests under way are given up;
// they are repeated after the next start.
func (o *Outbox) Close() {
	o.mu.Lock()
	o.closed = true
	for _, c := range o.couriers {
		if c.paused != nil {
			c.paused.Stop()
		}
		for _, l := range c.lanes {
			if l.timer != nil {
				l.timer.Stop()
			}
		}
	}
	o.mu.Unlock()
	o.cancel()
	o.work.Wait()
}

// Wake says that a room has something for the given peers. It never blocks,
// and losing the hint costs no more than the time until the next poll.
func (o *Outbox) Wake(room string, domains ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, d := range domains {
		if d == o.cfg.Peers.cfg.Domain {
			continue
		}
		c := o.courier(d)
		o.ready(c, o.lane(c, room))
		o.schedule(c)
	}
}

// WakeRequests says that a request was queued for a peer.
func (o *Outbox) WakeRequests(domain string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.scan(o.courier(domain))
}

// heard ends the pause of a peer that shows signs of life.
func (o *Outbox) heard(domain string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.couriers[domain]; c != nil && c.paused != nil && c.paused.Stop() {
		c.paused = nil
		o.schedule(c)
	}
}

func (o *Outbox) nowMilli() uint64 { return uint64(o.cfg.Peers.cfg.Now().UnixMilli()) }

// The functions from here to pause are called with o.mu held.

func (o *Outbox) courier(domain string) *courier {
	c := o.couriers[domain]
	if c == nil {
		c = &courier{domain: domain, lanes: make(map[string]*lane)}
		o.couriers[domain] = c
	}
	return c
}

func (o *Outbox) lane(c *courier, room string) *lane {
	l := c.lanes[room]
	if l == nil {
		l = &lane{room: room}
		c.lanes[room] = l
	}
	return l
}

// ready notes that a lane may have work.
func (o *Outbox) ready(c *courier, l *lane) {
	switch l.state {
	case laneIdle:
		l.state = laneReady
		c.ready = append(c.ready, l)
	case laneRunning:
		l.dirty = true
	case laneReady, lanePaused:
	}
}

// schedule starts as many ready lanes as may run, one only while it is not
// known whether the peer is back.
func (o *Outbox) schedule(c *courier) {
	if o.closed {
		return
	}
	limit := o.cfg.Lanes
	if c.failures > 0 {
		limit = 1
	}
	for c.paused == nil && c.running < limit && len(c.ready) > 0 {
		l := c.ready[0]
		c.ready = slices.Delete(c.ready, 0, 1)
		l.state = laneRunning
		l.dirty = false
		c.running++
		o.work.Go(func() { o.run(c, l) })
	}
	if c.running == 0 && !c.scanning && len(c.lanes) == 0 && c.paused == nil {
		delete(o.couriers, c.domain)
	}
}

// scan looks through the store for all that a peer has to get.
func (o *Outbox) scan(c *courier) {
	if o.closed {
		return
	}
	if c.scanning {
		c.rescan = true
		return
	}
	c.scanning = true
	o.work.Go(func() {
		err := o.search(c)
		o.mu.Lock()
		defer o.mu.Unlock()
		c.scanning = false
		if err != nil && o.ctx.Err() == nil {
			o.cfg.Peers.cfg.Log.Error("outbox: reading the queue of a peer failed", "peer", c.domain, "error", err)
		}
		if c.rescan {
			c.rescan = false
			o.scan(c)
		}
		o.schedule(c)
	})
}

// finish puts a lane back after it ran.
func (o *Outbox) finish(c *courier, l *lane, more bool, err error) {
	c.running--
	l.state = laneIdle
	now := o.cfg.Peers.cfg.Now()
	switch {
	case o.closed:
		return
	case err == nil:
		l.failures = 0
		c.failures = 0
		if more || l.dirty {
			o.ready(c, l)
		} else if len(l.queue) == 0 {
			delete(c.lanes, l.room)
		}
	case peerFault(err):
		// Others of this peer would fail alike. The lane goes first when it is back.
		if c.paused == nil { // lanes that fail together count once
			c.failures++
		}
		l.state = laneReady
		c.ready = slices.Insert(c.ready, 0, l)
		d := RetryAfter(err)
		if d <= 0 {
			d = o.jitter(backoff(c.failures, o.cfg.RetryMin, min(o.cfg.RetryMax, time.Minute)))
		}
		o.pausePeer(c, d)
	default:
		l.failures++
		d := max(RetryAfter(err), o.jitter(backoff(l.failures, o.cfg.RetryMin, o.cfg.RetryMax)))
		c.failures = 0
		o.pauseLane(c, l, d)
		o.cfg.Peers.cfg.Log.Warn("outbox: peer does not take a room's events", "peer", c.domain, "room", l.room,
			"attempts", l.failures, "again", now.Add(d), "error", err)
	}
	o.schedule(c)
}

func (o *Outbox) jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(o.cfg.Peers.cfg.Jitter()*float64(d/2))
}

func (o *Outbox) pausePeer(c *courier, d time.Duration) {
	if c.paused != nil {
		c.paused.Stop()
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if c.paused == t {
			c.paused = nil
			o.schedule(c)
		}
	})
	c.paused = t
}

func (o *Outbox) pauseLane(c *courier, l *lane, d time.Duration) {
	l.state = lanePaused
	l.timer = time.AfterFunc(d, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if l.state == lanePaused {
			l.state = laneIdle
			o.ready(c, l)
			o.schedule(c)
		}
	})
}

// peerFault reports whether an error is about the peer and not about what was
// sent to it.
func peerFault(err error) bool {
	if s, ok := errors.AsType[*StatusError](err); ok {
		return s.Status == 429 || s.Status == 401 || s.Endpoint == endpointDirectory
	}
	return errors.Is(err, ErrUnreachable) || errors.Is(err, ErrNotPeer) || errors.Is(err, ErrClosed) ||
		errors.Is(err, ErrNoEndpoint) || errors.Is(err, ErrBadPeer) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// run serves a lane once.
func (o *Outbox) run(c *courier, l *lane) {
	more, err := o.serve(c, l)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.finish(c, l, more, err)
}

// search marks all lanes of a peer that have work.
func (o *Outbox) search(c *courier) error {
	if err := o.load(c, true); err != nil {
		return err
	}
	after := ""
	for {
		const page = 256
		cursors, err := o.cfg.Store.PeerCursors(o.ctx, c.domain, after, page)
		if err != nil {
			return fmt.Errorf("federation: %w", err)
		}
		o.mu.Lock()
		for _, cur := range cursors {
			o.ready(c, o.lane(c, cur.Room))
			after = cur.Room
		}
		o.schedule(c)
		o.mu.Unlock()
		if len(cursors) < page {
			return nil
		}
	}
}

// load notes requests that were queued since the last time, or all that are
// not noted.
func (o *Outbox) load(c *courier, all bool) error {
	o.mu.Lock()
	after := c.lastID
	o.mu.Unlock()
	if all {
		after = 0
	}
	for {
		const page = 64
		reqs, err := o.cfg.Store.Queued(o.ctx, c.domain, after, page)
		if err != nil {
			return fmt.Errorf("federation: %w", err)
		}
		o.mu.Lock()
		for i := range reqs {
			r := &reqs[i]
			after = r.ID
			c.lastID = max(c.lastID, r.ID)
			l := o.lane(c, r.Room)
			at, known := slices.BinarySearchFunc(l.queue, r.ID, func(q queued, id uint64) int {
				if q.id < id {
					return -1
				} else if q.id > id {
					return 1
				}
				return 0
			})
			if known {
				continue
			}
			q := queued{id: r.ID, kind: r.Kind}
			if r.Kind == RequestWelcome {
				q.position, _, err = SplitWelcome(r.Body)
				if err != nil {
					o.cfg.Peers.cfg.Log.Error("outbox: damaged request", "peer", c.domain, "id", r.ID, "error", err)
					continue
				}
			}
			l.queue = slices.Insert(l.queue, at, q)
			o.ready(c, l)
		}
		o.mu.Unlock()
		if len(reqs) < page {
			return nil
		}
	}
}
