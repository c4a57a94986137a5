package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

// A phase sends a batch, or a part of it.
type phase struct {
	workers  int
	rate     float64 // open loop; 0: closed loop
	duration time.Duration
	progress func(done int)
}

// sent is what became of a phase.
type sent struct {
	messages int
	elapsed  time.Duration // from the first submission to the last delivery
	accepted histogram     // from submission to the provider's answer
	retries  int
	pending  int    // answers "pending": the hub was out of reach
	ended    string // what ended it
}

// What ends a phase.
const (
	endedTime        = "time"
	endedCount       = "count"
	endedInterrupted = "interrupted"
)

// lines are the connections over which messages are submitted, one for each
// worker, at each sender's provider.
func (r *run) lines(n int) ([][]*client.HTTPTransport, error) {
	lines := make([][]*client.HTTPTransport, n)
	for i, s := range r.servers {
		roots, err := rootsOf(s)
		if err != nil {
			return nil, err
		}
		if i >= len(r.room.senders) {
			break
		}
		for k := range lines {
			t, err := transportTo(s, roots)
			if err != nil {
				return nil, err
			}
			lines[k] = append(lines[k], t)
		}
	}
	return lines, nil
}

// send sends messages of b until the time is over, there are no more, or stop
// is closed, and waits until every member has every message that was sent.
func (r *run) send(ctx context.Context, b *batch, p phase, lines [][]*client.HTTPTransport, stop <-chan struct{}) (*sent, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-b.failed:
			cancel(b.problem)
		case <-ctx.Done():
		}
	}()
	// flight has a token for each message in flight: one that was submitted and
	// that not all members have.
	flight := make(chan struct{}, p.workers)
	if p.rate == 0 {
		b.complete = func(int) { <-flight }
	}
	for _, rd := range r.readers {
		if err := rd.expect(b); err != nil {
			return nil, err
		}
	}
	start := r.readers[0].start
	first := time.Now()
	deadline := time.NewTimer(p.duration)
	defer deadline.Stop()

	// next yields the messages to send.
	out := &sent{ended: endedCount}
	next := make(chan int)
	go func() {
		defer close(next)
		for i := range b.messages {
			if p.rate > 0 {
				due := first.Add(time.Duration(float64(i) / p.rate * float64(time.Second)))
				if !r.until(ctx, due, deadline.C, stop, out) {
					return
				}
				b.submitted[i].Store(due.Sub(start).Microseconds())
			} else {
				select {
				case flight <- struct{}{}:
				case <-deadline.C:
					out.ended = endedTime
					return
				case <-stop:
					out.ended = endedInterrupted
					return
				case <-ctx.Done():
					return
				}
			}
			select {
			case next <- i:
				out.messages++
			case <-ctx.Done():
				return
			}
		}
	}()

	var wg sync.WaitGroup
	var retries, pending, accepted atomic.Int64
	hists := make([]histogram, p.workers)
	for w := range p.workers {
		wg.Go(func() {
			for i := range next {
				if p.rate == 0 {
					b.submitted[i].Store(time.Since(start).Microseconds())
				}
				again, late, err := submit(ctx, b, i, lines[w][i%len(b.senders)])
				if err != nil {
					cancel(err)
					continue // drains next
				}
				retries.Add(int64(again))
				if late {
					pending.Add(1)
				}
				hists[w].add(time.Since(start) - time.Duration(b.submitted[i].Load())*time.Microsecond)
				if n := accepted.Add(1); p.progress != nil {
					p.progress(int(n))
				}
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	for i := range hists {
		out.accepted.merge(&hists[i])
	}
	out.retries, out.pending = int(retries.Load()), int(pending.Load())

	want := int64(out.messages) * int64(len(r.readers))
	timeout := time.NewTimer(drainTimeout)
	defer timeout.Stop()
	for b.delivered.Load() < want {
		select {
		case <-b.all:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-timeout.C:
			return nil, fmt.Errorf("%w: %d of %d deliveries are missing %v after the last message was accepted",
				ErrLost, want-b.delivered.Load(), want, drainTimeout)
		}
	}
	for _, rd := range r.readers {
		rd.mu.Lock()
		out.elapsed = max(out.elapsed, rd.start.Add(rd.last).Sub(first))
		rd.mu.Unlock()
	}
	return out, nil
}

// ErrLost: a message did not reach every member.
var ErrLost = errors.New("bench: messages were lost")

// until waits for due and reports whether to go on.
func (r *run) until(ctx context.Context, due time.Time, deadline <-chan time.Time, stop <-chan struct{}, out *sent) bool {
	var wait <-chan time.Time
	if d := time.Until(due); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		wait = t.C
	} else {
		now := make(chan time.Time, 1)
		now <- due
		wait = now
	}
	select { // an end that was reached comes first
	case <-deadline:
		out.ended = endedTime
		return false
	case <-stop:
		out.ended = endedInterrupted
		return false
	default:
	}
	select {
	case <-wait:
		return true
	case <-deadline:
		out.ended = endedTime
	case <-stop:
		out.ended = endedInterrupted
	case <-ctx.Done():
	}
	return false
}

// submit sends message i until the provider has it. A request that is
// repeated is the same message, so it does not matter whether the first one
// arrived.
func submit(ctx context.Context, b *batch, i int, line *client.HTTPTransport) (retries int, pending bool, err error) {
	s := b.senders[i%len(b.senders)]
	req := client.Request{Method: http.MethodPost, Path: local.PathSubmitMessage + b.room.PathSegment(),
		ContentType: local.MediaTypeTLS, Body: b.bodies[i], Token: s.token}
	for {
		resp, err := line.Do(ctx, req)
		if err == nil {
			err = refusal(resp)
		}
		var status *client.StatusError
		switch {
		case err == nil && resp.Status == http.StatusAccepted:
			return retries, true, nil
		case err == nil:
			var answer mimi.SubmitMessageResponse
			if err := mls.Unmarshal(resp.Body, &answer); err != nil {
				return retries, false, fmt.Errorf("bench: answer to a message: %w", err)
			}
			if answer.Code != mimi.SubmitAccepted {
				return retries, false, fmt.Errorf("bench: the hub answered %v to a message", answer.Code)
			}
			return retries, false, nil
		case ctx.Err() != nil:
			return retries, false, context.Cause(ctx)
		case errors.Is(err, client.ErrUnreachable), errors.As(err, &status) &&
			(status.Status == http.StatusServiceUnavailable || status.Status == http.StatusTooManyRequests):
			if retries == maxRetries {
				return retries, false, fmt.Errorf("bench: a message was refused %d times: %w", retries+1, err)
			}
			retries++
			select {
			case <-time.After(max(resp.RetryAfter, rand.N(50*time.Millisecond))):
			case <-ctx.Done():
			}
		default:
			return retries, false, fmt.Errorf("bench: submitting a message: %w", err)
		}
	}
}

// maxRetries bounds how often one message is repeated.
const maxRetries = 100

func closeLines(lines [][]*client.HTTPTransport) {
	for _, of := range lines {
		for _, t := range of {
			t.CloseIdle()
		}
	}
}
