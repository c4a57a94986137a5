package client

import (
	"context"
	"sync"
)

// maxQueuedEvents is how many events wait for one subscriber.
const maxQueuedEvents = 1 << 14

// A Subscription receives the events of a client. A subscriber that is too
// slow gets one EventLagged in place of what was dropped; nothing is lost,
// since all of it can be read from the history.
type Subscription struct {
	feed   *feed
	mu     sync.Mutex
	queue  []Event
	lagged bool
	closed bool
	wake   chan struct{}
}

// feed hands events to subscriptions.
type feed struct {
	mu   sync.Mutex
	subs map[*Subscription]struct{}
	done bool
}

func (f *feed) subscribe() *Subscription {
	s := &Subscription{feed: f, wake: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		s.closed = true
		return s
	}
	if f.subs == nil {
		f.subs = map[*Subscription]struct{}{}
	}
	f.subs[s] = struct{}{}
	return s
}

func (f *feed) publish(events ...Event) {
	if len(events) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.subs {
		s.push(events)
	}
}

// close ends all subscriptions; what is queued can still be read.
func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = true
	for s := range f.subs {
		s.end()
	}
	f.subs = nil
}

func (s *Subscription) push(events []Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		switch {
		case len(s.queue) < maxQueuedEvents:
			s.queue = append(s.queue, e)
			s.lagged = false
		case !s.lagged:
			s.queue = append(s.queue, Event{Kind: EventLagged})
			s.lagged = true
		}
	}
	s.signal()
}

func (s *Subscription) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.signal()
}

func (s *Subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Next returns the next event and waits for it if there is none. It fails
// with ErrClosed after Close, once everything was read. One goroutine at a
// time may call it.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			e := s.queue[0]
			s.queue[0] = Event{}
			s.queue = s.queue[1:]
			s.mu.Unlock()
			return e, nil
		}
		closed := s.closed
		s.mu.Unlock()
		if closed {
			return Event{}, ErrClosed
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.feed.mu.Lock()
	delete(s.feed.subs, s)
	s.feed.mu.Unlock()
	s.end()
}
