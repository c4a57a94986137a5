// Package owner gives every room one goroutine that owns it.
//
// A [Pool] loads the state of a room when the first job for it arrives, hands
// jobs to the room's goroutine in the order in which they came, and forgets the
// state after a time without jobs. Jobs that arrive while others are being
// done are handed over together, so that a hub can append them as one.
//
// It promises that at most one goroutine works on a room, that jobs of
// different rooms never wait for each other, and that every job that was
// accepted is either handed over or failed. It stores nothing.
package owner

import (
	"context"
	"errors"
	"sync"
	"time"
)

var (
	// ErrBusy: the room has too many jobs waiting.
	ErrBusy = errors.New("owner: the room is busy")
	// ErrClosed: the pool was closed.
	ErrClosed = errors.New("owner: closed")
)

// Config configures a Pool of rooms with state S and jobs J.
type Config[S, J any] struct {
	// Load makes the state of a room. Its error goes to the jobs that wait.
	Load func(ctx context.Context, room string) (S, error)
	// Handle does jobs, in order, and answers each of them. It may change s.
	// With keep false the state is dropped and loaded again for the next job.
	// The context ends when the pool closes.
	Handle func(ctx context.Context, room string, s *S, jobs []J) (keep bool)
	// Fail answers a job that is not handed over.
	Fail func(job J, err error)
	// Waiting bounds the jobs that wait for one room; 256.
	Waiting int
	// Batch bounds the jobs handed over together; 64.
	Batch int
	// Idle is how long the state of a room is kept without jobs; 5 minutes.
	Idle time.Duration
}

// A Pool owns rooms.
type Pool[S, J any] struct {
	cfg    Config[S, J]
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup // added to under mu while not closed

	mu     sync.Mutex // guards closed, rooms and what is in them
	closed bool
	rooms  map[string]*room[J]
}

type room[J any] struct {
	jobs []J
	wake chan struct{} // holds one token while jobs wait
}

// New returns an empty pool.
func New[S, J any](cfg Config[S, J]) *Pool[S, J] {
	if cfg.Waiting <= 0 {
		cfg.Waiting = 256
	}
	if cfg.Batch <= 0 {
		cfg.Batch = 64
	}
	if cfg.Idle <= 0 {
		cfg.Idle = 5 * time.Minute
	}
	p := &Pool[S, J]{cfg: cfg, rooms: make(map[string]*room[J])}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Do queues a job for a room. A nil result means that the job will be answered
// by Handle or Fail; it does not wait for that.
func (p *Pool[S, J]) Do(name string, job J) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	r := p.rooms[name]
	if r == nil {
		r = &room[J]{wake: make(chan struct{}, 1)}
		p.rooms[name] = r
		p.work.Go(func() { p.own(name, r) })
	}
	if len(r.jobs) >= p.cfg.Waiting {
		return ErrBusy
	}
	r.jobs = append(r.jobs, job)
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return nil
}

// Loaded returns how many rooms are in memory.
func (p *Pool[S, J]) Loaded() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.rooms)
}

// Close fails the jobs that wait and returns after those under way.
func (p *Pool[S, J]) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.work.Wait()
}

// own is the goroutine of a room.
func (p *Pool[S, J]) own(name string, r *room[J]) {
	var s S
	loaded := false
	idle := time.NewTimer(p.cfg.Idle)
	defer idle.Stop()
	for {
		select {
		case <-r.wake:
		case <-idle.C:
			if p.leave(name, r, false) {
				return
			}
			continue
		case <-p.ctx.Done():
			p.leave(name, r, true)
			return
		}
		for {
			jobs := p.take(r)
			if len(jobs) == 0 {
				break
			}
			if p.ctx.Err() != nil {
				p.fail(jobs, ErrClosed)
				continue
			}
			if !loaded {
				var err error
				if s, err = p.cfg.Load(p.ctx, name); err != nil {
					p.fail(jobs, err)
					// A room that does not load is not kept: names that nobody
					// knows must not fill the memory.
					if p.leave(name, r, false) {
						return
					}
					continue
				}
				loaded = true
			}
			if loaded = p.cfg.Handle(p.ctx, name, &s, jobs); !loaded {
				var zero S
				s = zero
			}
		}
		if !loaded && p.leave(name, r, false) {
			return
		}
		idle.Reset(p.cfg.Idle)
	}
}

// take removes the next batch.
func (p *Pool[S, J]) take(r *room[J]) []J {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(r.jobs), p.cfg.Batch)
	jobs := r.jobs[:n:n]
	r.jobs = r.jobs[n:]
	if len(r.jobs) == 0 {
		r.jobs = nil
	}
	return jobs
}

func (p *Pool[S, J]) fail(jobs []J, err error) {
	for _, j := range jobs {
		p.cfg.Fail(j, err)
	}
}

// leave removes the room unless jobs wait; with force it fails those.
func (p *Pool[S, J]) leave(name string, r *room[J], force bool) bool {
	p.mu.Lock()
	jobs := r.jobs
	if len(jobs) > 0 && !force {
		p.mu.Unlock()
		return false
	}
	r.jobs = nil
	delete(p.rooms, name)
	p.mu.Unlock()
	p.fail(jobs, ErrClosed)
	return true
}
