package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/journal"
	"github.com/comity-im/comity/internal/owner"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// A Store is the part of the store that a Replica uses.
type Store interface {
	store.Rooms
	Claim(ctx context.Context, ref []byte) (store.ClaimRoute, error)
	Device(ctx context.Context, uri string) (store.Device, error)
	Enqueue(ctx context.Context, reqs []store.NewRequest) ([]uint64, error)
	Queued(ctx context.Context, domain string, after uint64, limit int) ([]store.Request, error)
}

// Peers sends requests to other providers; *federation.Peers does.
type Peers interface {
	Do(ctx context.Context, domain string, endpoint mimi.Endpoint, key mimi.URI, body []byte) ([]byte, error)
}

// A Waker is told that a request was queued for a peer; *federation.Outbox is
// one.
type Waker interface {
	WakeRequests(domain string)
}

// Metrics receives what an operator wants to count. Calls are concurrent and
// must not block.
type Metrics interface {
	// Stored counts events by kind ("application", "proposal", "commit").
	Stored(kind string, events int)
	// Unverifiable counts notifications of a hub that were refused because an
	// event in them could not be verified. It should be zero: look at the log.
	Unverifiable(hub string)
	// Pending counts messages that were queued for a hub out of reach.
	Pending(hub string)
}

// NoMetrics counts nothing.
type NoMetrics struct{}

func (NoMetrics) Stored(string, int)  {}
func (NoMetrics) Unverifiable(string) {}
func (NoMetrics) Pending(string)      {}

// Config is what a Replica needs. Fields without a default are required.
type Config struct {
	Domain   string
	Store    Store
	Room     room.Config // Hub and MLS.SkipLifetime are set by New, MLS.Credentials wrapped
	Verifier *identity.Verifier
	// Sender returns our provider credential and its key for a cipher suite, by
	// which we ask hubs for GroupInfo.
	Sender func(mls.CipherSuite) (mls.ExternalSender, mls.Signer, error)
	// Suites are the cipher suites to try where the room's is not known; default
	// the mandatory one, 0x0001.
	Suites   []mls.CipherSuite
	Peers    Peers
	Notifier journal.Notifier

	Idle    time.Duration    // how long an unused room stays in memory; 5 minutes
	Now     func() time.Time // default time.Now
	Log     *slog.Logger     // default: discard
	Metrics Metrics          // default: none
}

// A Replica follows rooms. It is safe for concurrent use.
type Replica struct {
	cfg  Config
	pool *owner.Pool[*loaded, *job]

	mu      sync.Mutex // guards what follows
	outbox  Waker
	pending map[string]*hubQueue // by hub
}

// New returns a Replica. Close it before its store.
func New(cfg Config) *Replica {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NoMetrics{}
	}
	if len(cfg.Suites) == 0 {
		cfg.Suites = []mls.CipherSuite{0x0001}
	}
	cfg.Room.Hub = false
	// A replica follows what the hub decided, perhaps long after.
	cfg.Room.MLS.SkipLifetime = true
	cfg.Room.MLS.Credentials = identity.AtAnyTime(cfg.Room.MLS.Credentials)
	p := &Replica{cfg: cfg, pending: make(map[string]*hubQueue)}
	p.pool = owner.New(owner.Config[*loaded, *job]{
		Load:   p.load,
		Handle: p.handle,
		Fail:   func(j *job, err error) { j.answer(err) },
		Idle:   cfg.Idle,
	})
	return p
}

// UseOutbox sets who is told of pending messages; the Outbox needs the Replica
// as its Answerer, so it comes later.
func (p *Replica) UseOutbox(w Waker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outbox = w
}

// Close waits for notifications under way and fails those that wait.
func (p *Replica) Close() { p.pool.Close() }

// A job is a notification for the owner of a room.
type job struct {
	parts []part
	reply chan error // buffered
	done  bool       // answered; only the owner of the room looks
}

// answer answers the job, once.
func (j *job) answer(err error) {
	if !j.done {
		j.done = true
		j.reply <- err
	}
}

// Notify takes a notification of the hub peer. It returns nil once all of its
// events are stored.
func (p *Replica) Notify(ctx context.Context, peer string, roomURI mimi.URI, body []byte) error {
	if !roomURI.Is(mimi.KindRoom) || roomURI.Domain() != peer || peer == p.cfg.Domain {
		return fmt.Errorf("replica: %w: %s is not the hub of %s", federation.ErrForbidden, peer, roomURI)
	}
	parts, err := split(body)
	if err != nil {
		return fmt.Errorf("replica: notify: %w: %w", federation.ErrMalformed, err)
	}
	j := &job{parts: parts, reply: make(chan error, 1)}
	if err := p.pool.Do(roomURI.String(), j); err != nil {
		return failure(err)
	}
	select {
	case err := <-j.reply:
		return failure(err)
	case <-ctx.Done():
		return fmt.Errorf("replica: %w", ctx.Err())
	}
}

// errUnverifiable is matched by the refusal of an event.
var errUnverifiable = errors.New("event cannot be verified")

// unverifiable returns the refusal of an event for a reason.
func unverifiable(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errUnverifiable, fmt.Errorf(format, args...))
}

// failure gives errors of the layers below their meaning for a peer.
func failure(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, owner.ErrBusy):
		return federation.Delay(fmt.Errorf("replica: %w: %w", federation.ErrUnavailable, err), time.Second)
	case errors.Is(err, owner.ErrClosed), errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrFull), errors.Is(err, store.ErrBroken):
		return fmt.Errorf("replica: %w: %w", federation.ErrUnavailable, err)
	case federation.Unreached(err):
		return fmt.Errorf("replica: %w: %w", federation.ErrUnavailable, err)
	case errors.Is(err, errUnverifiable):
		return fmt.Errorf("replica: %w: %w", federation.ErrForbidden, err)
	}
	return fmt.Errorf("replica: %w", err)
}

// handle takes notifications in their order.
func (p *Replica) handle(ctx context.Context, name string, r **loaded, jobs []*job) (keep bool) {
	for _, j := range jobs {
		err := p.ingest(ctx, *r, j.parts)
		if errors.Is(err, store.ErrWrongHead) || errors.Is(err, store.ErrWrongEpoch) {
			// Another process wrote to the copy. Look again, once.
			if *r, err = p.load(ctx, name); err == nil {
				err = p.ingest(ctx, *r, j.parts)
			}
		}
		if errors.Is(err, errUnverifiable) && !federation.Unreached(err) {
			p.cfg.Metrics.Unverifiable((*r).uri.Domain())
			p.cfg.Log.Error("notification refused: an event of the hub cannot be verified", "room", name, "error", err)
		}
		j.answer(err)
		if err != nil && !errors.Is(err, errUnverifiable) && !errors.Is(err, federation.ErrNotFound) {
			// What is in memory may not be what is stored. Start afresh.
			if *r, err = p.load(ctx, name); err != nil {
				for _, j := range jobs {
					j.answer(err)
				}
				return false
			}
		}
	}
	// Rooms that nobody of us is in are not worth memory.
	return (*r).state != nil
}
