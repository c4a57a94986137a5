package hub

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
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

// A Store is the part of the store that a Hub uses.
type Store interface {
	store.Rooms
	RoomPeers(ctx context.Context, room string) ([]string, error)
}

// Peers sends requests to other providers; *federation.Peers does.
type Peers interface {
	Do(ctx context.Context, domain string, endpoint mimi.Endpoint, key mimi.URI, body []byte) ([]byte, error)
}

// Keys hands out the key packages of local users; *keys.Keys does.
type Keys interface {
	Claim(ctx context.Context, peer string, req *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error)
}

// A Waker is told which followers have something to receive;
// *federation.Outbox is one.
type Waker interface {
	Wake(room string, domains ...string)
}

// Metrics receives what an operator wants to count. Calls are concurrent and
// must not block.
type Metrics interface {
	// Accepted counts events of a kind ("application", "proposal", "commit").
	Accepted(kind string, events int)
	// Refused counts requests by endpoint and response code.
	Refused(endpoint mimi.Endpoint, code string)
}

// NoMetrics counts nothing.
type NoMetrics struct{}

func (NoMetrics) Accepted(string, int)          {}
func (NoMetrics) Refused(mimi.Endpoint, string) {}

// Config is what a Hub needs. Fields without a default are required.
type Config struct {
	Domain   string
	Store    Store
	Room     room.Config // Hub is set by New
	Verifier *identity.Verifier
	// Sender returns our external sender for a cipher suite and its key.
	Sender   func(mls.CipherSuite) (mls.ExternalSender, mls.Signer, error)
	Peers    Peers
	Keys     Keys
	Outbox   Waker
	Notifier journal.Notifier

	Idle    time.Duration    // how long an unused room stays in memory; 5 minutes
	Now     func() time.Time // default time.Now
	Log     *slog.Logger     // default: discard
	Metrics Metrics          // default: none
}

// A Hub owns rooms. It is safe for concurrent use. Sources are authenticated by
// the caller: of a peer the provider is known, of a local client the provider,
// which is our own, and the user.
type Hub struct {
	cfg  Config
	pool *owner.Pool[*loaded, *job]
}

// New returns a Hub. Close it before its store.
func New(cfg Config) *Hub {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NoMetrics{}
	}
	cfg.Room.Hub = true
	h := &Hub{cfg: cfg}
	h.pool = owner.New(owner.Config[*loaded, *job]{
		Load:   h.load,
		Handle: h.handle,
		Fail:   func(j *job, err error) { j.answer(nil, err) },
		Idle:   cfg.Idle,
	})
	return h
}

// Close waits for requests under way and fails those that wait.
func (h *Hub) Close() { h.pool.Close() }

// A job is a request for the owner of a room.
type job struct {
	source room.Source
	update *mimi.UpdateRequest
	submit *submission
	read   func(ctx context.Context, r *loaded) ([]byte, error)
	reply  chan answer // buffered
	done   bool        // answered; only the owner of the room looks
}

type answer struct {
	body []byte
	err  error
}

// answer answers the job, once.
func (j *job) answer(body []byte, err error) {
	if !j.done {
		j.done = true
		j.reply <- answer{body, err}
	}
}

// Update answers an UpdateRequest for a room of ours. Refusals are answers;
// errors are for [federation.Status].
func (h *Hub) Update(ctx context.Context, source room.Source, roomURI mimi.URI, body []byte) ([]byte, error) {
	req := new(mimi.UpdateRequest)
	if err := mls.Unmarshal(body, req); err != nil {
		return nil, fmt.Errorf("hub: update: %w: %w", federation.ErrMalformed, err)
	}
	if roomURI.Domain() == h.cfg.Domain {
		if err := h.acquaint(req); err != nil {
			return h.refuse(roomURI, source, err)
		}
	}
	return h.do(ctx, roomURI, &job{source: source, update: req})
}

// Submit answers a SubmitMessageRequest.
func (h *Hub) Submit(ctx context.Context, source room.Source, roomURI mimi.URI, body []byte) ([]byte, error) {
	s := new(submission)
	if err := mls.Unmarshal(body, &s.req); err != nil {
		return nil, fmt.Errorf("hub: submit: %w: %w", federation.ErrMalformed, err)
	}
	message, err := mls.Marshal(&s.req.AppMessage)
	if err != nil {
		return nil, fmt.Errorf("hub: submit: %w: %w", federation.ErrMalformed, err)
	}
	s.hash = sha256.Sum256(message)
	return h.do(ctx, roomURI, &job{source: source, submit: s})
}

// do has a job done by the owner of its room.
func (h *Hub) do(ctx context.Context, roomURI mimi.URI, j *job) ([]byte, error) {
	if !roomURI.Is(mimi.KindRoom) || roomURI.Domain() != h.cfg.Domain {
		return nil, fmt.Errorf("hub: %s is not a room of ours: %w", roomURI, federation.ErrNotFound)
	}
	j.reply = make(chan answer, 1)
	if err := h.pool.Do(roomURI.String(), j); err != nil {
		return nil, h.failure(err)
	}
	select {
	case a := <-j.reply:
		return a.body, h.failure(a.err)
	case <-ctx.Done():
		// It may still be done; whoever asks again gets that answer.
		return nil, fmt.Errorf("hub: %w", ctx.Err())
	}
}

// failure gives errors of the layers below their meaning for a peer.
func (h *Hub) failure(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNoRoom):
		return fmt.Errorf("hub: %w: %w", federation.ErrNotFound, err)
	case errors.Is(err, owner.ErrBusy):
		return federation.Delay(fmt.Errorf("hub: %w: %w", federation.ErrUnavailable, err), time.Second)
	case errors.Is(err, owner.ErrClosed), errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrFull), errors.Is(err, store.ErrBroken):
		return fmt.Errorf("hub: %w: %w", federation.ErrUnavailable, err)
	}
	return err
}

// handle does the jobs of one room. Messages that follow each other are
// appended together.
func (h *Hub) handle(ctx context.Context, name string, r **loaded, jobs []*job) (keep bool) {
	for len(jobs) > 0 {
		n := 0
		for n < len(jobs) && jobs[n].submit != nil {
			n++
		}
		var err error
		switch j := jobs[0]; {
		case n > 0:
			err = h.again(ctx, name, r, func() error { return h.submits(ctx, *r, jobs[:n]) })
		case j.update != nil:
			n = 1
			err = h.again(ctx, name, r, func() error { return h.update(ctx, *r, j) })
		default:
			n = 1
			body, rerr := j.read(ctx, *r)
			j.answer(body, rerr)
		}
		if err != nil {
			// What is in memory may not be what is stored. Start afresh.
			for _, j := range jobs {
				j.answer(nil, err)
			}
			return false
		}
		jobs = jobs[n:]
	}
	return true
}

// attempts is how often a write is tried when another process got ahead of us.
const attempts = 3

// again calls f, and calls it again with the state of the store after someone
// else wrote to the room.
func (h *Hub) again(ctx context.Context, name string, r **loaded, f func() error) error {
	for i := 1; ; i++ {
		err := f()
		if err == nil || i == attempts || !errors.Is(err, store.ErrWrongHead) && !errors.Is(err, store.ErrWrongEpoch) {
			return err
		}
		fresh, lerr := h.load(ctx, name)
		if lerr != nil {
			return lerr
		}
		*r = fresh
	}
}

func (h *Hub) nowMilli() uint64 { return uint64(h.cfg.Now().UnixMilli()) }
