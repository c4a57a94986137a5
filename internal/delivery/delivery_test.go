package delivery

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// room is a log with windows and mail, as a store would answer.
type room struct {
	mu      sync.Mutex
	events  []store.Event
	windows []store.Membership
	mail    []store.Mail
	acked   uint64
	reads   int
}

func (r *room) ReadLog(_ context.Context, _ string, after uint64, n, _ int) ([]store.Event, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads++
	events := r.events[min(int(after), len(r.events)):]
	return events[:min(n, len(events))], nil
}

func (r *room) Memberships(context.Context, string) ([]store.Membership, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]store.Membership(nil), r.windows...), nil
}

func (r *room) Mail(_ context.Context, _ string, after uint64, _ int) (out []store.Mail, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.mail {
		if m.ID > after {
			out = append(out, m)
		}
	}
	return out, nil
}

func (r *room) AckMail(_ context.Context, _ string, upTo uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acked = upTo
	return nil
}

func (r *room) append(d *Delivery, n int) {
	r.mu.Lock()
	var added []store.Event
	for range n {
		e := store.Event{Position: uint64(len(r.events) + 1)}
		e.Body = fmt.Appendf(nil, "event %d", e.Position)
		r.events = append(r.events, e)
		added = append(added, e)
	}
	r.mu.Unlock()
	d.Appended(roomName, added)
}

func (r *room) member(d *Delivery, windows ...store.Membership) {
	r.mu.Lock()
	r.windows = windows
	for i := range r.windows {
		r.windows[i].Room = roomName
	}
	r.mu.Unlock()
	d.MembersChanged(roomName, []string{deviceName})
}

const (
	roomName   = "mimi://a.example/r/x"
	deviceName = "mimi://a.example/d/phone"
)

// recorder notes the frames that a device gets, in words.
type recorder struct {
	mu   sync.Mutex
	got  []string
	fail error
}

func (r *recorder) Send(_ context.Context, frames [][]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return r.fail
	}
	for _, frame := range frames {
		if err := r.note(frame); err != nil {
			return err
		}
	}
	return nil
}

// note is called with mu held.
func (r *recorder) note(frame []byte) error {
	var f local.Frame
	if err := tlspl.Unmarshal(frame, &f); err != nil {
		return err
	}
	switch f.Type {
	case local.FrameEvent:
		if want := fmt.Sprintf("event %d", f.Position); string(f.Body) != want {
			return fmt.Errorf("position %d carries %q", f.Position, f.Body)
		}
		r.got = append(r.got, fmt.Sprint(f.Position))
	case local.FrameMail:
		r.got = append(r.got, fmt.Sprintf("mail%d", f.Mail))
	default:
		r.got = append(r.got, fmt.Sprintf("%v@%d", f.Type, f.Position))
	}
	return nil
}

func (r *recorder) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := strings.Join(r.got, " ")
	r.got = nil
	return s
}

func uri(t *testing.T, s string) mimi.URI {
	t.Helper()
	u, err := mimi.ParseURI(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// connect runs a stream until the test ends.
func connect(t *testing.T, d *Delivery) (*Stream, *recorder) {
	sink := &recorder{}
	s := d.Open(uri(t, deviceName), sink)
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background()) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("Run: %v", err)
		}
	})
	return s, sink
}

func subscribe(t *testing.T, s *Stream, after uint64) {
	t.Helper()
	if err := s.Handle(t.Context(), &local.Frame{Type: local.FrameSubscribe, Room: uri(t, roomName), Position: after}); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, sink *recorder, want string) {
	t.Helper()
	synctest.Wait()
	if got := sink.take(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStreamFollowsWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &room{}
		d := New(r, nil)
		r.append(d, 3)
		s, sink := connect(t, d)
		subscribe(t, s, 0)
		expect(t, sink, "") // not a member yet
		r.append(d, 1)      // position 4 adds the device
		r.member(d, store.Membership{From: 4})
		expect(t, sink, "4 caughtUp@4")
		r.append(d, 2)
		expect(t, sink, "5 6")
		r.append(d, 1) // 7 removes it
		r.member(d, store.Membership{From: 4, To: 7})
		r.append(d, 2) // 8 and 9 are there before the stream looks again
		expect(t, sink, "7 closed@7")
		r.append(d, 2) // 10, 11
		r.member(d, store.Membership{From: 4, To: 7}, store.Membership{From: 11})
		expect(t, sink, "11")
	})
}

func TestStreamResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &room{}
		d := New(r, nil)
		r.append(d, 5)
		r.member(d, store.Membership{From: 1})
		s, sink := connect(t, d)
		subscribe(t, s, 3)
		expect(t, sink, "4 5 caughtUp@5")
		subscribe(t, s, 4) // the client went back
		expect(t, sink, "5 caughtUp@5")
		s.unsubscribe(roomName)
		r.append(d, 1)
		expect(t, sink, "")
		subscribe(t, s, 5)
		expect(t, sink, "6 caughtUp@6")
	})
}

func TestStreamClosesAfterRemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &room{}
		d := New(r, nil)
		r.append(d, 4)
		r.member(d, store.Membership{From: 2, To: 3})
		s, sink := connect(t, d)
		subscribe(t, s, 0)
		expect(t, sink, "2 3 closed@3")
		r.append(d, 1)
		expect(t, sink, "")
	})
}

func TestLiveEventsComeFromMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &room{}
		d := New(r, nil)
		r.append(d, 1)
		r.member(d, store.Membership{From: 1})
		s, sink := connect(t, d)
		subscribe(t, s, 0)
		expect(t, sink, "1 caughtUp@1")
		reads := r.reads
		var want []string
		for n := range 50 {
			r.append(d, 1)
			want = append(want, fmt.Sprint(n+2))
			synctest.Wait()
		}
		expect(t, sink, strings.Join(want, " "))
		if r.reads != reads {
			t.Errorf("%d reads of the store for live events", r.reads-reads)
		}
		r.append(d, 3*tailEvents) // more than memory holds, at once
		synctest.Wait()
		if got := len(strings.Fields(sink.take())); got != 3*tailEvents {
			t.Errorf("%d events, want %d", got, 3*tailEvents)
		}
	})
}

func TestMail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &room{mail: []store.Mail{{ID: 3, Kind: 1, Room: roomName}, {ID: 5, Kind: 1, Room: roomName}}}
		d := New(r, nil)
		s, sink := connect(t, d)
		expect(t, sink, "mail3 mail5")
		r.mu.Lock()
		r.mail = append(r.mail, store.Mail{ID: 6, Room: roomName})
		r.mu.Unlock()
		d.MailArrived(deviceName)
		expect(t, sink, "mail6")
		ack := func(n uint64) error {
			return s.Handle(t.Context(), &local.Frame{Type: local.FrameAckMail, Mail: n})
		}
		if err := ack(7); !errors.Is(err, ErrFrame) {
			t.Errorf("acknowledging mail that was not sent: %v; want ErrFrame", err)
		}
		if err := ack(6); err != nil || r.acked != 6 {
			t.Errorf("acknowledging: %v, acknowledged up to %d", err, r.acked)
		}
	})
}

func TestHandleRefuses(t *testing.T) {
	d := New(&room{}, nil)
	s := d.Open(uri(t, deviceName), &recorder{})
	defer s.Close()
	for _, f := range []*local.Frame{
		{Type: local.FrameEvent, Room: uri(t, roomName)},
		{Type: local.FrameSubscribe, Room: uri(t, deviceName)},
	} {
		if err := s.Handle(t.Context(), f); !errors.Is(err, ErrFrame) {
			t.Errorf("%v: %v; want ErrFrame", f.Type, err)
		}
	}
	for i := range local.MaxSubscriptions {
		if err := s.subscribe(uri(t, fmt.Sprintf("mimi://a.example/r/%d", i)), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.subscribe(uri(t, roomName), 0); !errors.Is(err, ErrTooMany) {
		t.Errorf("one room too many: %v; want ErrTooMany", err)
	}
	s.Close()
	if err := s.subscribe(uri(t, roomName), 0); !errors.Is(err, ErrClosed) {
		t.Errorf("subscribing to a closed stream: %v; want ErrClosed", err)
	}
	if len(d.tails) != 0 || len(d.devices) != 0 {
		t.Errorf("a closed stream left %d rooms and %d devices behind", len(d.tails), len(d.devices))
	}
}

func TestSinkErrorEndsTheStream(t *testing.T) {
	r := &room{mail: []store.Mail{{ID: 1, Room: roomName}}}
	d := New(r, nil)
	cut := errors.New("too slow")
	s := d.Open(uri(t, deviceName), &recorder{fail: cut})
	defer s.Close()
	if err := s.Run(t.Context()); !errors.Is(err, cut) {
		t.Errorf("Run: %v; want the sink's error", err)
	}
}

func TestReadable(t *testing.T) {
	windows := []store.Membership{{From: 3, To: 5}, {From: 8}}
	type answer struct {
		at, end uint64
		open    bool
	}
	for after, want := range map[uint64]answer{
		0: {2, 5, false}, 2: {2, 5, false}, 4: {4, 5, false}, 5: {7, 0, true}, 7: {7, 0, true}, 9: {9, 0, true},
	} {
		at, end, open := readable(windows, after)
		if got := (answer{at, end, open}); !reflect.DeepEqual(got, want) {
			t.Errorf("after %d: %+v, want %+v", after, got, want)
		}
	}
	if at, end, open := readable(windows[:1], 6); at != 6 || end != 5 || open {
		t.Errorf("past the last window: %d %d %v", at, end, open)
	}
}
