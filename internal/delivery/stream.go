package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
)

// Errors of a Stream.
var (
	// ErrFrame: the client sent something that makes no sense here.
	ErrFrame = errors.New("delivery: the client sent an unexpected frame")
	// ErrTooMany: more than local.MaxSubscriptions rooms.
	ErrTooMany = fmt.Errorf("delivery: more than %d rooms on one stream", local.MaxSubscriptions)
	// ErrClosed: the stream was closed by Close.
	ErrClosed = errors.New("delivery: the stream was closed")
)

// A Stream serves one connection of one device. Run does the work; Handle is
// called with what the client sends.
type Stream struct {
	d      *Delivery
	device string
	sink   Sink

	// mu guards what Run shares with those who wake it.
	mu       sync.Mutex
	rooms    map[string]*subscription
	dirty    map[string]struct{} // rooms with something to do
	stale    bool                // memberships are to be read again
	mail     bool                // there may be mail
	mailSent uint64              // last mail sent
	closed   bool
	wake     chan struct{} // holds one token if there is something to do
}

// A subscription is a room on a stream.
type subscription struct {
	uri      mimi.URI
	tail     *tail
	next     uint64 // guarded by Stream.mu: everything up to it was sent or is not the device's
	caughtUp bool   // the client was told so since it subscribed
	closed   bool   // the device may read nothing more, and was told
}

// Open registers a connection of a device. The caller runs Run, then Close.
func (d *Delivery) Open(device mimi.URI, sink Sink) *Stream {
	s := &Stream{
		d: d, device: device.String(), sink: sink,
		rooms: map[string]*subscription{}, dirty: map[string]struct{}{},
		stale: true, mail: true, wake: make(chan struct{}, 1),
	}
	s.wake <- struct{}{}
	d.mu.Lock()
	if d.devices[s.device] == nil {
		d.devices[s.device] = map[*Stream]struct{}{}
	}
	d.devices[s.device][s] = struct{}{}
	d.mu.Unlock()
	d.metrics.Streams(1)
	return s
}

// Close ends the stream: Run returns ErrClosed. It may be called often.
func (s *Stream) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	subs := s.rooms
	s.rooms = nil
	s.notify()
	s.mu.Unlock()

	for _, sub := range subs {
		s.d.unlisten(sub.tail, s)
	}
	s.d.mu.Lock()
	delete(s.d.devices[s.device], s)
	if len(s.d.devices[s.device]) == 0 {
		delete(s.d.devices, s.device)
	}
	s.d.mu.Unlock()
	s.d.metrics.Streams(-1)
}

// notify wakes Run. The caller holds mu.
func (s *Stream) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Stream) roomChanged(room string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty[room] = struct{}{}
	s.notify()
}

func (s *Stream) membersChanged(room string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = true
	s.dirty[room] = struct{}{}
	s.notify()
}

func (s *Stream) mailArrived() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mail = true
	s.notify()
}

// Handle acts on a frame of the client.
func (s *Stream) Handle(ctx context.Context, f *local.Frame) error {
	switch f.Type {
	case local.FrameSubscribe:
		return s.subscribe(f.Room, f.Position)
	case local.FrameUnsubscribe:
		s.unsubscribe(f.Room.String())
		return nil
	case local.FrameAckMail:
		s.mu.Lock()
		sent := s.mailSent
		s.mu.Unlock()
		if f.Mail > sent {
			return fmt.Errorf("%w: mail %d is acknowledged, the last one sent is %d", ErrFrame, f.Mail, sent)
		}
		return s.d.store.AckMail(ctx, s.device, f.Mail)
	}
	return fmt.Errorf("%w: %v", ErrFrame, f.Type)
}

// subscribe starts, or moves, the subscription of a room.
func (s *Stream) subscribe(room mimi.URI, after uint64) error {
	if room.Kind() != mimi.KindRoom {
		return fmt.Errorf("%w: %q is no room", ErrFrame, room)
	}
	name := room.String()
	t := s.d.listen(name, s)
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.rooms[name]
	if sub == nil {
		if s.closed || len(s.rooms) >= local.MaxSubscriptions {
			closed := s.closed
			s.mu.Unlock()
			s.d.unlisten(t, s)
			s.mu.Lock()
			if closed {
				return ErrClosed
			}
			return ErrTooMany
		}
		sub = &subscription{uri: room, tail: t}
		s.rooms[name] = sub
	}
	sub.next, sub.closed, sub.caughtUp = after, false, false
	s.dirty[name] = struct{}{}
	s.notify()
	return nil
}

func (s *Stream) unsubscribe(room string) {
	s.mu.Lock()
	sub := s.rooms[room]
	delete(s.rooms, room)
	s.mu.Unlock()
	if sub != nil {
		s.d.unlisten(sub.tail, s)
	}
}

// Run sends until ctx ends, the Sink or the store fails, or Close is called.
func (s *Stream) Run(ctx context.Context) error {
	windows := map[string][]store.Membership{}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return ErrClosed
		}
		dirty, stale, mail := s.dirty, s.stale, s.mail
		s.dirty, s.stale, s.mail = map[string]struct{}{}, false, false
		s.mu.Unlock()

		if stale {
			all, err := s.d.store.Memberships(ctx, s.device)
			if err != nil {
				return err
			}
			clear(windows)
			for _, w := range all {
				windows[w.Room] = append(windows[w.Room], w)
			}
		}
		if mail {
			if err := s.pumpMail(ctx); err != nil {
				return err
			}
		}
		for room := range dirty {
			if err := s.pump(ctx, room, windows[room]); err != nil {
				return err
			}
		}
	}
}

// pump sends what the device may read of a room and has not got. It stops
// after one helping, so that a long room does not starve the others, and puts
// the room back into dirty if there is more.
func (s *Stream) pump(ctx context.Context, room string, windows []store.Membership) error {
	s.mu.Lock()
	sub := s.rooms[room]
	if sub == nil {
		s.mu.Unlock()
		return nil
	}
	start := sub.next
	s.mu.Unlock()

	at, end, open := readable(windows, start)
	if end != 0 && at >= end { // nothing left in any window
		return s.close(ctx, sub, at, len(windows) > 0)
	}
	if !open && end == 0 { // not a member (yet)
		return nil
	}
	frames, ok := sub.tail.after(at)
	if !ok {
		events, err := s.d.store.ReadLog(ctx, room, at, readEvents, readBytes)
		if errors.Is(err, store.ErrNoRoom) {
			return nil
		}
		if err != nil {
			return err
		}
		for i := range events {
			frame, err := eventFrame(room, &events[i])
			if err != nil {
				return err
			}
			frames = append(frames, frame)
		}
	}
	s.mu.Lock()
	if s.stale {
		// The windows changed after they were read. One of these frames may be
		// beyond the end of one: look again first.
		s.dirty[room] = struct{}{}
		s.notify()
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	due := frames
	if end != 0 && end-at < uint64(len(due)) {
		due = due[:end-at]
	}
	for len(due) > 0 {
		n, octets := 1, len(due[0])
		for n < len(due) && octets+len(due[n]) <= sendBytes {
			octets += len(due[n])
			n++
		}
		if err := s.sink.Send(ctx, due[:n]); err != nil {
			return err
		}
		s.d.metrics.Delivered(n, octets)
		at += uint64(n)
		due = due[n:]
	}
	s.mu.Lock()
	if s.rooms[room] == sub && sub.next == start { // not moved by the client meanwhile
		sub.next = at
		if len(frames) > 0 {
			s.dirty[room] = struct{}{}
			s.notify()
		}
	}
	tell := len(frames) == 0 && !sub.caughtUp
	sub.caughtUp = sub.caughtUp || tell
	s.mu.Unlock()
	if tell {
		return s.send(ctx, &local.Frame{Type: local.FrameCaughtUp, Room: sub.uri, Position: at})
	}
	return nil
}

// close tells the device, once, that it may read nothing more of a room.
func (s *Stream) close(ctx context.Context, sub *subscription, at uint64, member bool) error {
	s.mu.Lock()
	tell := member && !sub.closed
	sub.closed = true
	sub.next = max(sub.next, at)
	s.mu.Unlock()
	if !tell {
		return nil
	}
	return s.send(ctx, &local.Frame{Type: local.FrameClosed, Room: sub.uri, Position: at})
}

// readable finds where a device that has everything up to after reads on: at
// is the position before the next event it may read, end the last one of that
// window (0: open). The windows are in order. Without a window that reaches
// beyond after, at and end are the end of the last one.
func readable(windows []store.Membership, after uint64) (at, end uint64, open bool) {
	for _, w := range windows {
		if w.To != 0 && w.To <= after {
			at, end = after, w.To
			continue
		}
		at = after
		if at+1 < w.From {
			at = w.From - 1
		}
		return at, w.To, w.To == 0
	}
	return at, end, false
}

// pumpMail sends the mail that was not yet sent on this stream.
func (s *Stream) pumpMail(ctx context.Context) error {
	for {
		s.mu.Lock()
		after := s.mailSent
		s.mu.Unlock()
		mail, err := s.d.store.Mail(ctx, s.device, after, mailAtOnce)
		if err != nil || len(mail) == 0 {
			return err
		}
		for _, m := range mail {
			room, err := mimi.ParseURI(m.Room)
			if err != nil {
				return fmt.Errorf("delivery: mail %d of %s: %w", m.ID, s.device, err)
			}
			// The number counts as sent before the client can acknowledge it.
			s.mu.Lock()
			s.mailSent = m.ID
			s.mu.Unlock()
			if err := s.send(ctx, &local.Frame{
				Type: local.FrameMail, Mail: m.ID, Kind: local.MailKind(m.Kind),
				Room: room, Position: m.Position, Body: m.Body,
			}); err != nil {
				return err
			}
		}
	}
}

func (s *Stream) send(ctx context.Context, f *local.Frame) error {
	b, err := tlspl.Marshal(f)
	if err != nil {
		return err
	}
	return s.sink.Send(ctx, [][]byte{b})
}
