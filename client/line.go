package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

// A line is the device's stream to its provider, over any number of
// connections. One goroutine reads, one writes.
type line struct {
	c *Client

	// mu guards the rest. frames wait for the writer; they are dropped when
	// the connection ends, because a new one begins with fresh subscriptions.
	mu     sync.Mutex
	open   bool
	count  uint64 // connections so far
	frames []local.Frame
	wake   chan struct{}
	cut    context.CancelFunc // ends the present connection
	// mails are those of the present connection that are not confirmed, in
	// order. A confirmation covers all mail before it, so a later one that is
	// done waits for the earlier ones.
	mails []pendingMail
}

type pendingMail struct {
	id   uint64
	done bool
}

func newLine(c *Client) *line { return &line{c: c, wake: make(chan struct{}, 1)} }

// send queues a frame for the present connection. Without one it does
// nothing: the next connection subscribes to all rooms, and mail that was not
// acknowledged comes again.
func (l *line) send(f local.Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		return
	}
	l.frames = append(l.frames, f)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// subscribe asks for the events of a room after a position.
func (l *line) subscribe(room mimi.URI, after uint64) {
	l.send(local.Frame{Type: local.FrameSubscribe, Room: room, Position: after})
}

func (l *line) unsubscribe(room mimi.URI) {
	l.send(local.Frame{Type: local.FrameUnsubscribe, Room: room})
}

// mailDone confirms a piece of mail as soon as all mail before it is done.
func (l *line) mailDone(id uint64) {
	l.mu.Lock()
	for i := range l.mails {
		if l.mails[i].id == id {
			l.mails[i].done = true
		}
	}
	var last uint64
	for len(l.mails) > 0 && l.mails[0].done {
		last = l.mails[0].id
		l.mails = l.mails[1:]
	}
	l.mu.Unlock()
	if last > 0 {
		l.send(local.Frame{Type: local.FrameAckMail, Mail: last})
	}
}

// last returns the number of the latest connection, open or not.
func (l *line) last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// reconnect ends the present connection if its number is at most upTo; run
// opens another one after a delay.
func (l *line) reconnect(upTo uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut != nil && l.count <= upTo {
		l.cut()
	}
}

// connection returns the number of the present connection, or 0.
func (l *line) connection() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		return 0
	}
	return l.count
}

// run keeps a connection open until ctx ends.
func (l *line) run(ctx context.Context) error {
	retry := backoff{min: l.c.cfg.RetryMin, max: l.c.cfg.RetryMax}
	for {
		stream, err := l.c.session.stream(ctx)
		if err == nil {
			retry.reset()
			l.c.cfg.Log.Debug("stream open")
			l.c.feed.publish(Event{Kind: EventConnected})
			err = l.serve(ctx, stream)
			l.c.feed.publish(Event{Kind: EventDisconnected, Err: err})
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d := retry.delay(err)
		l.c.cfg.Log.Info("no stream; will try again", "err", err, "delay", d)
		if err := sleep(ctx, d); err != nil {
			return err
		}
	}
}

// serve uses one connection until it breaks.
func (l *line) serve(ctx context.Context, stream Stream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.mu.Lock()
	l.open, l.frames, l.mails, l.cut = true, nil, nil, cancel
	l.count++
	l.mu.Unlock()
	for _, r := range l.c.known() {
		r.connected()
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.write(ctx, stream); err != nil {
			_ = stream.Close() // makes Read fail
		}
	})
	err := l.read(ctx, stream)
	l.mu.Lock()
	l.open, l.frames, l.mails, l.cut = false, nil, nil, nil
	l.mu.Unlock()
	cancel()
	_ = stream.Close()
	wg.Wait()
	return err
}

func (l *line) write(ctx context.Context, stream Stream) error {
	for {
		l.mu.Lock()
		frames := l.frames
		l.frames = nil
		l.mu.Unlock()
		for i := range frames {
			b, err := mls.Marshal(&frames[i])
			if err != nil {
				return fmt.Errorf("client: %w", err)
			}
			if err := stream.Write(ctx, b); err != nil {
				return err
			}
		}
		if len(frames) > 0 {
			continue
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *line) read(ctx context.Context, stream Stream) error {
	for {
		b, err := stream.Read(ctx)
		if err != nil {
			return err
		}
		var f local.Frame
		if err := mls.Unmarshal(b, &f); err != nil {
			return fmt.Errorf("client: frame from the provider: %w", err)
		}
		if err := l.dispatch(ctx, &f); err != nil {
			return err
		}
	}
}

// dispatch hands a frame to the room it is for, and waits if the room has
// much to do: the provider then waits, too.
func (l *line) dispatch(ctx context.Context, f *local.Frame) error {
	switch f.Type {
	case local.FrameEvent, local.FrameCaughtUp, local.FrameClosed:
		r, err := l.c.chat(f.Room, false)
		if errors.Is(err, ErrNoRoom) {
			return nil // of a room that was forgotten meanwhile
		}
		if err != nil {
			return err
		}
		connection := l.connection()
		return r.enqueue(ctx, func(t *turn) {
			switch f.Type {
			case local.FrameEvent:
				r.event(t, connection, f.Position, f.Body)
			case local.FrameCaughtUp:
				r.caughtUp(t, connection)
			case local.FrameClosed:
				r.shut(f.Position)
			}
		})
	case local.FrameMail:
		l.mu.Lock()
		l.mails = append(l.mails, pendingMail{id: f.Mail})
		l.mu.Unlock()
		r, err := l.c.chat(f.Room, true)
		if errors.Is(err, ErrNoRoom) {
			l.c.problem(fmt.Errorf("client: mail for %q, which is not a room", f.Room))
			l.mailDone(f.Mail)
			return nil
		}
		if err != nil {
			return err
		}
		return r.enqueue(ctx, func(t *turn) { r.mail(t, f.Mail, f.Kind, f.Position, f.Body) })
	}
	return fmt.Errorf("client: the provider sent a frame of type %v", f.Type)
}
