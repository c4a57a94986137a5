package federation_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/internal/store/sqlite"
	"github.com/comity-im/comity/mimi"
)

// A far side is all peers of a test: it takes notifications apart, whose events
// are 8 octets each, and can fail as told.
type farSide struct {
	mu       sync.Mutex
	got      map[string][]uint64 // by peer and room, in order of arrival
	requests map[string]int
	largest  int
	at       map[string][]time.Time // of requests, by peer
	// fail decides about a request: before it is processed with 1, after it with
	// 2, or an HTTP status; 0 lets it pass.
	fail   func(peer, room string) (int, string)
	answer func(peer string, body []byte) string
	reject func(event uint64) bool // refuses the notification that holds it
}

func (f *farSide) transport(peer string) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodGet {
			return response(200, fmt.Sprintf(`{"notify":"https://%s/n/{roomId}","submitMessage":"https://%s/s/{roomId}"}`, peer, peer)), nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		room, err := mimi.ParsePathSegment(r.URL.EscapedPath()[3:])
		if err != nil {
			return nil, err
		}
		f.requests[peer]++
		f.at[peer] = append(f.at[peer], time.Now())
		how, retry := 0, ""
		if f.fail != nil {
			how, retry = f.fail(peer, room.String())
		}
		if how == 1 {
			return nil, errors.New("connection refused")
		}
		if how >= 300 {
			return response(how, "", "Retry-After", retry), nil
		}
		key := peer + " " + room.String()
		if strings.HasPrefix(r.URL.Path, "/n/") {
			for b := body; f.reject != nil && len(b) >= 8; b = b[8:] {
				if f.reject(binary.BigEndian.Uint64(b)) {
					return response(403, ""), nil
				}
			}
			f.largest = max(f.largest, len(body)/8)
			for b := body; len(b) >= 8; b = b[8:] {
				f.got[key] = append(f.got[key], binary.BigEndian.Uint64(b))
			}
		} else {
			f.got[key] = append(f.got[key], uint64(len(body)))
		}
		if how == 2 {
			return nil, errors.New("connection reset")
		}
		if f.answer != nil {
			return response(200, f.answer(peer, body)), nil
		}
		return response(201, ""), nil
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type answers struct {
	mu   sync.Mutex
	seen []string
}

func (a *answers) Answered(req store.Request, answer []byte, refused error) ([]store.NewMail, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = append(a.seen, fmt.Sprintf("%s %s %v", req.Body, answer, refused != nil))
	return []store.NewMail{{Device: req.Device, Kind: 1, Body: answer}}, nil
}
func (a *answers) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.seen)
}
func (a *answers) Mailed([]store.NewMail) {}

// A post is an Outbox with a real store.
type post struct {
	t      *testing.T
	dir    string
	far    *farSide
	store  store.Store
	peers  *federation.Peers
	outbox *federation.Outbox
	ans    *answers
	stop   func()
	change func(*federation.OutboxConfig)
}

func newPost(t *testing.T, change func(*federation.OutboxConfig)) *post {
	p := &post{t: t, dir: t.TempDir(), change: change, ans: new(answers), far: &farSide{
		got: make(map[string][]uint64), requests: make(map[string]int), at: make(map[string][]time.Time),
	}}
	p.start()
	return p
}

func (p *post) ok(err error) {
	if err != nil {
		p.t.Helper()
		p.t.Fatal(err)
	}
}

func (p *post) start() {
	var err error
	p.store, err = sqlite.Open(context.Background(), sqlite.Config{Path: filepath.Join(p.dir, "db")})
	p.ok(err)
	p.peers, err = federation.New(federation.Config{Domain: "a.example", Open: true, Transport: p.far.transport, Jitter: func() float64 { return 1 }})
	p.ok(err)
	cfg := federation.OutboxConfig{Peers: p.peers, Store: p.store, Answerer: p.ans}
	if p.change != nil {
		p.change(&cfg)
	}
	p.outbox = federation.NewOutbox(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.ok(p.outbox.Run(ctx))
	}()
	p.stop = func() {
		cancel()
		<-done
		p.ok(p.peers.Close())
		p.ok(p.store.Close())
	}
}

func roomName(i int) string { return fmt.Sprintf("mimi://a.example/r/room%d", i) }

// room makes a room that the peers follow from its first event on.
func (p *post) room(i int, peers ...string) {
	p.t.Helper()
	req := store.CreateRoom{Room: roomName(i), Hub: "a.example", IsHub: true}
	for _, d := range peers {
		req.Peers = append(req.Peers, store.PeerChange{Domain: d, Active: true})
	}
	_, err := p.store.CreateRoom(context.Background(), req)
	p.ok(err)
}

// add appends events n to m-1, whose positions are one more.
func (p *post) add(i, n, m int) {
	p.t.Helper()
	for ; n < m; n++ {
		_, err := p.store.Append(context.Background(), store.Append{Room: roomName(i),
			Events: []store.NewEvent{{Kind: 1, Body: binary.BigEndian.AppendUint64(nil, uint64(n))}}})
		p.ok(err)
	}
}

func (f *farSide) received(peer string, i int) []uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got[peer+" "+roomName(i)])
}

func (f *farSide) count(peer string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[peer]
}

func upTo(n int) []uint64 {
	list := make([]uint64, n)
	for i := range list {
		list[i] = uint64(i)
	}
	return list
}

// first drops repetitions.
func first(list []uint64) []uint64 {
	var out []uint64
	for _, x := range list {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

func (p *post) lagging() []string {
	list, err := p.store.Lagging(context.Background(), uint64(time.Now().UnixMilli()))
	p.ok(err)
	return list
}

func TestOutboxDeliversInOrderInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPost(t, func(c *federation.OutboxConfig) { c.BatchEvents = 50 })
		p.room(1, "b.example", "c.example")
		p.add(1, 0, 500)
		p.outbox.Wake(roomName(1), "b.example", "c.example", "a.example")
		synctest.Wait()
		time.Sleep(time.Second)
		for _, d := range []string{"b.example", "c.example"} {
			if got := p.far.received(d, 1); !slices.Equal(got, upTo(500)) {
				t.Errorf("%s received %d events: %v…", d, len(got), got[:min(10, len(got))])
			}
			if n := p.far.count(d); n > 12 {
				t.Errorf("%s: %d requests", d, n)
			}
		}
		p.far.mu.Lock()
		defer p.far.mu.Unlock()
		if p.far.largest > 50 {
			t.Errorf("a notification of %d events", p.far.largest)
		}
		if l := p.lagging(); len(l) != 0 {
			t.Errorf("lagging: %v", l)
		}
		p.stop()
	})
}

func TestOutboxFindsWorkThatNobodyAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPost(t, nil)
		p.room(1, "b.example")
		p.add(1, 0, 3)
		time.Sleep(61 * time.Second) // the next poll
		if got := p.far.received("b.example", 1); !slices.Equal(got, upTo(3)) {
			t.Errorf("after a poll: %v", got)
		}
		p.add(1, 3, 5)
		p.stop()
		p.start() // what is left is found at the start
		time.Sleep(time.Second)
		if got := p.far.received("b.example", 1); !slices.Equal(got, upTo(5)) {
			t.Errorf("after a restart: %v", got)
		}
		p.stop()
	})
}

func TestDeadPeerCostsOthersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPost(t, nil)
		p.far.fail = func(peer, _ string) (int, string) {
			if peer == "dead.example" {
				return 1, ""
			}
			return 0, ""
		}
		for i := range 20 {
			p.room(i, "dead.example", "b.example")
			p.add(i, 0, 10)
			p.outbox.Wake(roomName(i), "dead.example", "b.example")
		}
		synctest.Wait()
		time.Sleep(time.Millisecond)
		for i := range 20 {
			if got := p.far.received("b.example", i); !slices.Equal(got, upTo(10)) {
				t.Errorf("room %d: %v", i, got)
			}
		}
		time.Sleep(time.Hour)
		n := p.far.count("dead.example")
		if n < 30 || n > 400 {
			t.Errorf("%d requests to the dead peer in an hour", n)
		}
		p.far.mu.Lock()
		p.far.fail = nil
		p.far.mu.Unlock()
		time.Sleep(2 * time.Minute)
		for i := range 20 {
			if got := p.far.received("dead.example", i); !slices.Equal(got, upTo(10)) {
				t.Errorf("room %d, back from the dead: %v", i, got)
			}
		}
		p.stop()
	})
}

func TestRefusedRoomPausesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPost(t, nil)
		p.far.fail = func(_, room string) (int, string) {
			if room == roomName(1) {
				return 403, ""
			}
			return 0, ""
		}
		p.room(1, "b.example")
		p.room(2, "b.example")
		p.add(1, 0, 5)
		p.outbox.Wake(roomName(1), "b.example")
		time.Sleep(time.Minute)
		p.add(2, 0, 5)
		p.outbox.Wake(roomName(2), "b.example")
		time.Sleep(time.Millisecond)
		if got := p.far.received("b.example", 2); !slices.Equal(got, upTo(5)) {
			t.Errorf("the other room: %v", got)
		}
		time.Sleep(time.Hour)
		if n := p.far.count("b.example"); n > 40 {
			t.Errorf("%d requests", n)
		}
		if got := p.lagging(); !slices.Equal(got, []string{"b.example"}) {
			t.Errorf("lagging: %v", got)
		}
		p.stop()
	})
}

func TestOneBadEventHoldsUpOnlyWhatFollowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPost(t, nil)
		p.far.reject = func(event uint64) bool { return event == 3 }
		p.room(1, "b.example")
		p.add(1, 0, 6)
		p.outbox.Wake(roomName(1), "b.example")
		time.Sleep(time.Hour)
		if got := p.far.received("b.example", 1); !slices.Equal(got, upTo(3)) {
			t.Errorf("received %v", got)
		}
		p.stop()
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	for _, status := range []int{429, 503} {
		synctest.Test(t, func(t *testing.T) {
			p := newPost(t, nil)
			p.far.fail = func(string, string) (int, string) { return status, "100" }
			p.room(1, "b.example")
			p.add(1, 0, 1)
			p.outbox.Wake(roomName(1), "b.example")
			time.Sleep(250 * time.Second)
			p.far.mu.Lock()
			at := slices.Clone(p.far.at["b.example"])
			p.far.mu.Unlock()
			if len(at) != 3 {
				t.Fatalf("%d: %d requests in 250 s", status, len(at))
			}
			for i := 1; i < len(at); i++ {
				if d := at[i].Sub(at[i-1]); d < 100*time.Second {
					t.Errorf("%d: again after %v", status, d)
				}
			}
			p.stop()
		})
	}
}

func TestSignOfLifeEndsThePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPost(t, func(c *federation.OutboxConfig) { c.RetryMin = 50 * time.Second })
		dead := true
		p.far.fail = func(string, string) (int, string) {
			if dead {
				return 429, "3000"
			}
			return 0, ""
		}
		p.room(1, "b.example")
		p.add(1, 0, 1)
		p.outbox.Wake(roomName(1), "b.example")
		time.Sleep(10 * time.Second)
		p.far.mu.Lock() // fail is called with it held
		dead = false
		p.far.mu.Unlock()
		p.peers.Alive("b.example")
		time.Sleep(time.Second)
		if got := p.far.received("b.example", 1); !slices.Equal(got, upTo(1)) {
			t.Errorf("received %v", got)
		}
		p.stop()
	})
}

func TestWelcomeComesBetweenItsCommitAndTheNextEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPost(t, func(c *federation.OutboxConfig) { c.BatchEvents = 2 })
		p.far.fail = func(string, string) (int, string) { return 1, "" } // so that all is there at once
		p.room(1, "b.example")
		welcome := func(after int, id uint64) {
			body := federation.WelcomeBody(uint64(after), binary.BigEndian.AppendUint64(nil, id))
			_, err := p.store.Append(t.Context(), store.Append{Room: roomName(1), Requests: []store.NewRequest{{
				Domain: "b.example", Room: roomName(1), Kind: federation.RequestWelcome, Hash: store.Hash{byte(id)}, Body: body}}})
			p.ok(err)
		}
		p.add(1, 0, 3)
		welcome(3, 100) // event 2 has position 3
		p.add(1, 3, 4)
		welcome(4, 101)
		welcome(4, 102)
		p.add(1, 4, 6)
		welcome(6, 103)
		p.outbox.Wake(roomName(1), "b.example")
		time.Sleep(time.Second)
		p.far.mu.Lock()
		p.far.fail = nil
		p.far.mu.Unlock()
		time.Sleep(time.Minute)
		want := []uint64{0, 1, 2, 100, 3, 101, 102, 4, 5, 103}
		if got := p.far.received("b.example", 1); !slices.Equal(got, want) {
			t.Errorf("received %v, want %v", got, want)
		}
		if reqs, err := p.store.Queued(t.Context(), "b.example", 0, 0); err != nil || len(reqs) != 0 {
			t.Errorf("%d requests left, %v", len(reqs), err)
		}
		p.stop()
	})
}

func TestQueuedSubmitsGoInOrderPerRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPost(t, nil)
		p.far.answer = func(_ string, body []byte) string { return "answer to " + string(body) }
		p.far.fail = func(_, room string) (int, string) {
			if strings.HasSuffix(room, "/slow") {
				return 503, "20"
			}
			return 0, ""
		}
		var reqs []store.NewRequest
		for i := range 10 {
			for _, room := range []string{"mimi://b.example/r/slow", "mimi://b.example/r/fast"} {
				reqs = append(reqs, store.NewRequest{Domain: "b.example", Room: room, Kind: federation.RequestSubmit, Device: "d",
					Hash: store.Hash{byte(i), room[len(room)-1]}, Body: fmt.Appendf(nil, "%s %d", room[len(room)-4:], i)})
			}
		}
		_, err := p.store.Enqueue(t.Context(), reqs)
		p.ok(err)
		p.outbox.WakeRequests("b.example")
		time.Sleep(time.Second)
		var want []string
		for i := range 10 {
			want = append(want, fmt.Sprintf("fast %d answer to fast %d false", i, i))
		}
		if !slices.Equal(p.ans.all(), want) {
			t.Errorf("answers %q", p.ans.all())
		}
		p.far.mu.Lock()
		p.far.fail = func(string, string) (int, string) { return 0, "" }
		p.far.mu.Unlock()
		time.Sleep(time.Minute)
		for i := range 10 {
			want = append(want, fmt.Sprintf("slow %d answer to slow %d false", i, i))
		}
		if !slices.Equal(p.ans.all(), want) {
			t.Errorf("answers %q", p.ans.all())
		}
		mail, err := p.store.Mail(t.Context(), "d", 0, 0)
		if err != nil || len(mail) != 20 || !bytes.Equal(mail[19].Body, []byte("answer to slow 9")) {
			t.Errorf("%d pieces of mail, %v", len(mail), err)
		}
		p.stop()
	})
}

func TestQueuedSubmitsAreRefusedForGood(t *testing.T) {
	for status, after := range map[int]time.Duration{400: time.Second, 413: time.Second, 415: time.Second, 404: 3 * time.Hour, 403: 3 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			p := newPost(t, nil)
			p.far.fail = func(string, string) (int, string) { return status, "" }
			_, err := p.store.Enqueue(t.Context(), []store.NewRequest{{Domain: "b.example", Room: "mimi://b.example/r/x", Kind: federation.RequestSubmit, Device: "d", Body: []byte("m")}})
			p.ok(err)
			p.outbox.WakeRequests("b.example")
			time.Sleep(time.Second / 2)
			if after > time.Second && len(p.ans.all()) != 0 {
				t.Errorf("%d: refused at once", status)
			}
			time.Sleep(after)
			if !slices.Equal(p.ans.all(), []string{"m  true"}) {
				t.Errorf("%d: %q", status, p.ans.all())
			}
			if reqs, err := p.store.Queued(t.Context(), "b.example", 0, 0); err != nil || len(reqs) != 0 {
				t.Errorf("%d: %d requests left, %v", status, len(reqs), err)
			}
			p.stop()
		})
	}
}

// With requests lost before and after they are processed, refusals and
// restarts, every event arrives, and in order.
func TestOutboxUnderFire(t *testing.T) {
	for seed := range uint64(12) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex
			p := newPost(t, func(c *federation.OutboxConfig) { c.BatchEvents, c.RetryMax = 7, 20*time.Second })
			p.far.fail = func(string, string) (int, string) {
				mu.Lock()
				defer mu.Unlock()
				return []int{0, 0, 1, 2, 503, 429, 500, 413}[rnd.IntN(8)], ""
			}
			peers := []string{"b.example", "c.example"}
			const rooms, events = 3, 60
			for i := range rooms {
				p.room(i, peers...)
			}
			for n := range events {
				for i := range rooms {
					p.add(i, n, n+1)
					mu.Lock()
					hint, sleep, restart := rnd.IntN(3) > 0, time.Duration(rnd.IntN(400))*time.Millisecond, rnd.IntN(60) == 0
					mu.Unlock()
					if hint {
						p.outbox.Wake(roomName(i), peers...)
					}
					time.Sleep(sleep)
					if restart {
						p.stop()
						p.start()
					}
				}
			}
			time.Sleep(time.Hour)
			for _, d := range peers {
				for i := range rooms {
					if got := first(p.far.received(d, i)); !slices.Equal(got, upTo(events)) {
						t.Errorf("seed %d: %s room %d received %v", seed, d, i, got)
					}
				}
			}
			if l := p.lagging(); len(l) != 0 {
				t.Errorf("seed %d: lagging %v", seed, l)
			}
			p.stop()
		})
	}
}
