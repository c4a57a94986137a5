package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

// A reader is a member's stream. It takes note of what arrives and when.
type reader struct {
	device  *device
	room    mimi.URI
	stream  client.Stream
	prefix  []byte // of every event frame of the room, up to the position
	start   time.Time
	current atomic.Pointer[batch]

	welcome chan []byte // the first Welcome
	ended   chan struct{}
	err     error // why, once ended

	// mu guards the rest: what the reader saw of the current batch.
	mu       sync.Mutex
	batch    *batch
	position uint64
	seen     []uint64 // bit set by message
	count    int
	octets   int // of frames
	latency  histogram
	last     time.Duration // when the last one arrived, since start
}

// connect opens the members' streams. They subscribe before they are members.
func (r *run) connect(ctx context.Context) error {
	start := time.Now()
	prefix, err := mls.Marshal(&local.Frame{Type: local.FrameEvent, Room: r.room.uri})
	if err != nil {
		return err
	}
	prefix = prefix[:len(prefix)-9] // uint64 position, empty body
	r.readers = make([]*reader, len(r.room.members))
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(8)
	for i, d := range r.room.members {
		work.Go(func() error {
			s, err := d.transport.Stream(ctx, d.token)
			if err != nil {
				return fmt.Errorf("bench: stream of %s: %w", d.uri, err)
			}
			rd := &reader{device: d, room: r.room.uri, stream: s, prefix: prefix, start: start,
				welcome: make(chan []byte, 1), ended: make(chan struct{})}
			go rd.run()
			r.readers[i] = rd
			return rd.send(ctx, &local.Frame{Type: local.FrameSubscribe, Room: rd.room})
		})
	}
	return work.Wait()
}

// close ends the streams.
func (r *run) close() {
	for _, rd := range r.readers {
		if rd != nil {
			_ = rd.stream.Close()
			<-rd.ended
		}
	}
	if r.room != nil {
		for _, d := range r.room.members {
			d.transport.CloseIdle()
		}
	}
}

func (rd *reader) send(ctx context.Context, f *local.Frame) error {
	b, err := mls.Marshal(f)
	if err != nil {
		return err
	}
	return rd.stream.Write(ctx, b)
}

func (rd *reader) run() {
	ctx := context.Background() // Close ends it
	for {
		frame, err := rd.stream.Read(ctx)
		if err == nil {
			err = rd.frame(ctx, frame)
		}
		if err != nil {
			rd.err = fmt.Errorf("bench: stream of %s: %w", rd.device.uri, err)
			close(rd.ended)
			if b := rd.current.Load(); b != nil {
				b.fail(rd.err)
			}
			_ = rd.stream.Close()
			return
		}
	}
}

// frame acts on a frame. Events of the room are the ones that count, so they
// are read without decoding the room's name each time.
func (rd *reader) frame(ctx context.Context, frame []byte) error {
	if len(frame) > len(rd.prefix) && string(frame[:len(rd.prefix)]) == string(rd.prefix) {
		in := tlspl.NewReader(frame[len(rd.prefix):])
		position := in.Uint64()
		body := in.Opaque(0)
		if err := in.Finish(); err != nil {
			return err
		}
		return rd.event(position, body, len(frame))
	}
	var f local.Frame
	if err := mls.Unmarshal(frame, &f); err != nil {
		return err
	}
	switch f.Type {
	case local.FrameMail:
		if f.Kind != local.MailWelcome {
			return fmt.Errorf("mail of kind %d", f.Kind)
		}
		select {
		case rd.welcome <- f.Body:
		default:
		}
		return rd.send(ctx, &local.Frame{Type: local.FrameAckMail, Mail: f.Mail})
	case local.FrameCaughtUp:
		return nil
	}
	return fmt.Errorf("unexpected frame %v", f.Type)
}

// Errors of delivery. A run that meets one fails.
var (
	ErrOrder     = errors.New("an event is out of order, or was left out")
	ErrDuplicate = errors.New("a message was delivered twice")
	ErrForeign   = errors.New("a message was delivered that was not sent, or not like this")
)

func (rd *reader) event(position uint64, body []byte, octets int) error {
	now := time.Since(rd.start)
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if rd.position != 0 && position != rd.position+1 {
		return fmt.Errorf("%w: position %d after %d", ErrOrder, position, rd.position)
	}
	rd.position = position
	if !isApplication(body) {
		return nil
	}
	b := rd.batch
	if b == nil {
		return ErrForeign
	}
	i, ok := b.find(body)
	if !ok {
		return fmt.Errorf("%w: position %d", ErrForeign, position)
	}
	if rd.seen[i/64]&(1<<(i%64)) != 0 {
		return fmt.Errorf("%w: position %d", ErrDuplicate, position)
	}
	rd.seen[i/64] |= 1 << (i % 64)
	rd.count++
	rd.octets += octets
	rd.latency.add(now - time.Duration(b.submitted[i].Load())*time.Microsecond)
	rd.last = now
	b.got(i)
	return nil
}

// expect makes b the batch whose messages arrive from now on.
func (rd *reader) expect(b *batch) error {
	rd.mu.Lock()
	rd.batch = b
	rd.seen = make([]uint64, len(b.messages)/64+1)
	rd.count, rd.octets, rd.latency, rd.last = 0, 0, histogram{}, 0
	rd.mu.Unlock()
	rd.current.Store(b)
	select {
	case <-rd.ended:
		return rd.err
	default:
		return nil
	}
}
