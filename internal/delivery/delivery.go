// Package delivery brings room events and mail to a provider's own clients.
//
// [Delivery] is told what was appended to which room; a [Stream] is one
// connected device. A message is encoded once and the same bytes go to every
// connection; what a device missed is read from the store by cursor. A client
// that is away costs nothing. A client that is too slow is cut off by its
// [Sink] and resumes where it was: only the client knows its cursor.
//
// What a device may read of a room is the windows in which it was a member
// (see store.Membership), from the event that added it to the one that
// removed it, both included.
package delivery

import (
	"context"
	"sync"

	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
)

// Limits of what is kept in memory for a room and read from the store at once.
const (
	tailEvents = 256
	tailBytes  = 1 << 20
	readEvents = 256
	readBytes  = 1 << 20
	mailAtOnce = 64
	// sendBytes bounds the frames that are given to a Sink at once, unless a
	// single one is larger: a slow client must be able to take them in time.
	sendBytes = 32 << 10
)

// A Reader is what delivery needs of the store.
type Reader interface {
	ReadLog(ctx context.Context, room string, after uint64, maxEvents, maxBytes int) ([]store.Event, error)
	Memberships(ctx context.Context, device string) ([]store.Membership, error)
	Mail(ctx context.Context, device string, after uint64, max int) ([]store.Mail, error)
	AckMail(ctx context.Context, device string, upTo uint64) error
}

// A Sink takes the frames of one connection, some at a time. It must not keep
// or change the frame. An error ends the stream.
type Sink interface {
	Send(ctx context.Context, frames [][]byte) error
}

// Metrics receives what an operator wants to count. Calls are concurrent and
// must not block.
type Metrics interface {
	Streams(delta int)
	Delivered(frames, octets int)
}

// NoMetrics counts nothing.
type NoMetrics struct{}

func (NoMetrics) Streams(int)        {}
func (NoMetrics) Delivered(int, int) {}

// A Delivery knows the connected devices of a provider. Safe for concurrent
// use.
type Delivery struct {
	store   Reader
	metrics Metrics

	// mu guards the maps; a tail and a stream have locks of their own, taken
	// after this one, never before it.
	mu      sync.Mutex
	tails   map[string]*tail
	devices map[string]map[*Stream]struct{}
}

// New returns a Delivery that reads from s. A nil m counts nothing.
func New(s Reader, m Metrics) *Delivery {
	if m == nil {
		m = NoMetrics{}
	}
	return &Delivery{store: s, metrics: m, tails: map[string]*tail{}, devices: map[string]map[*Stream]struct{}{}}
}

// Appended is called after events of a room are durable, in the order of
// their positions for each room.
func (d *Delivery) Appended(room string, events []store.Event) {
	d.mu.Lock()
	t := d.tails[room]
	d.mu.Unlock()
	if t != nil { // nobody listens: the store has it
		t.add(events)
	}
}

// MembersChanged is called after the windows of devices in a room changed,
// and before Appended is called with any later event: so a removed device never
// gets an event after the one that removed it.
func (d *Delivery) MembersChanged(room string, devices []string) {
	for _, device := range devices {
		d.each(device, func(s *Stream) { s.membersChanged(room) })
	}
}

// MailArrived is called after mail for a device is durable.
func (d *Delivery) MailArrived(device string) {
	d.each(device, (*Stream).mailArrived)
}

func (d *Delivery) each(device string, f func(*Stream)) {
	d.mu.Lock()
	streams := make([]*Stream, 0, len(d.devices[device]))
	for s := range d.devices[device] {
		streams = append(streams, s)
	}
	d.mu.Unlock()
	for _, s := range streams {
		f(s)
	}
}

// Disconnect ends the streams of a device, whose account or key is gone.
func (d *Delivery) Disconnect(device string) {
	d.each(device, (*Stream).Close)
}

// Close ends all streams, for the provider's shutdown.
func (d *Delivery) Close() {
	d.mu.Lock()
	var streams []*Stream
	for _, of := range d.devices {
		for s := range of {
			streams = append(streams, s)
		}
	}
	d.mu.Unlock()
	for _, s := range streams {
		s.Close()
	}
}

// listen makes the stream hear of new events in the room.
func (d *Delivery) listen(room string, s *Stream) *tail {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.tails[room]
	if t == nil {
		t = &tail{room: room, streams: map[*Stream]struct{}{}}
		d.tails[room] = t
	}
	t.mu.Lock()
	t.streams[s] = struct{}{}
	t.mu.Unlock()
	return t
}

// unlisten undoes listen; the last one to go takes the tail along.
func (d *Delivery) unlisten(t *tail, s *Stream) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.streams, s)
	if len(t.streams) == 0 {
		delete(d.tails, t.room)
	}
}

// A tail is the newest events of a room that somebody listens to, framed.
type tail struct {
	room string

	mu      sync.Mutex
	streams map[*Stream]struct{}
	first   uint64   // position of frames[0]
	frames  [][]byte // of consecutive positions
	size    int
}

func (t *tail) add(events []store.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range events {
		frame, err := eventFrame(t.room, &events[i])
		if err != nil || (len(t.frames) > 0 && events[i].Position != t.first+uint64(len(t.frames))) {
			t.frames, t.size = nil, 0 // a gap: streams read from the store
		}
		if err != nil {
			continue
		}
		if len(t.frames) == 0 {
			t.first = events[i].Position
		}
		t.frames = append(t.frames, frame)
		t.size += len(frame)
	}
	drop := 0
	for len(t.frames)-drop > 1 && (len(t.frames)-drop > tailEvents || t.size > tailBytes) {
		t.size -= len(t.frames[drop])
		drop++
	}
	if drop > 0 {
		t.frames = append([][]byte(nil), t.frames[drop:]...)
		t.first += uint64(drop)
	}
	for s := range t.streams {
		s.roomChanged(t.room)
	}
}

// after returns the frames from position after+1 on, of which there may be
// none, or ok=false if the tail does not reach back that far.
func (t *tail) after(after uint64) (frames [][]byte, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.frames) == 0 || after+1 < t.first || after+1 > t.first+uint64(len(t.frames)) {
		return nil, false
	}
	return t.frames[after+1-t.first:], true
}

func eventFrame(room string, e *store.Event) ([]byte, error) {
	uri, err := mimi.ParseURI(room)
	if err != nil {
		return nil, err
	}
	return tlspl.Marshal(&local.Frame{Type: local.FrameEvent, Room: uri, Position: e.Position, Body: e.Body})
}
