package client_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/client/memstore"
	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/mimi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	alice = mimi.MustParseURI("mimi://a.example/u/alice")
	bob   = mimi.MustParseURI("mimi://b.example/u/bob")
	carol = mimi.MustParseURI("mimi://a.example/u/carol")
	dora  = mimi.MustParseURI("mimi://b.example/u/dora")

	club = mimi.MustParseURI("mimi://a.example/r/club")
)

// A peer is a device under test with its store and its line to the hub.
type peer struct {
	*client.Client
	t     testing.TB
	hub   *testHub
	tr    *transport
	store *memstore.Store
	cfg   client.Config
	stop  context.CancelFunc
	done  chan struct{}
}

func (h *testHub) peer(user mimi.URI, name string, opts ...func(*client.Config)) *peer {
	h.t.Helper()
	p := &peer{t: h.t, hub: h, tr: &transport{h: h}, store: memstore.NewCrashable()}
	p.cfg = client.Config{Transport: p.tr, Store: p.store, Credentials: h.verifier, KeyPackages: 5,
		AutoCommit: -1, RetryMin: time.Millisecond, RetryMax: 5 * time.Millisecond}
	if os.Getenv("CLIENT_TEST_LOG") != "" {
		p.cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("peer", user.Name()+"-"+name)
	}
	for _, o := range opts {
		o(&p.cfg)
	}
	c, err := client.Enrol(h.t.Context(), p.cfg, h.code(user.String()), name)
	if err != nil {
		h.t.Fatal(err)
	}
	p.Client = c
	p.tr.name = c.Device().String()
	p.run()
	h.t.Cleanup(p.close)
	return p
}

// run starts Run and waits until the device has KeyPackages out.
func (p *peer) run() {
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.done = stop, make(chan struct{})
	c, done := p.Client, p.done
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	device := c.Device().String()
	p.until("KeyPackages are published", func() bool {
		p.hub.mu.Lock()
		defer p.hub.mu.Unlock()
		return p.tr.isDown() || p.cfg.KeyPackages < 0 || len(p.hub.devices[device].known) > 0
	})
}

func (p *peer) close() {
	p.stop()
	_ = p.Client.Close()
	<-p.done
}

// crash ends the device as a power failure would, and starts it again with
// what is on the medium; keep batches that were not synced survive.
func (p *peer) crash(keep int) {
	p.t.Helper()
	store := p.store.Crash(keep)
	p.close()
	p.store = store
	p.cfg.Store = store
	p.open()
}

func (p *peer) open() {
	p.t.Helper()
	c, err := client.Open(p.t.Context(), p.cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	p.Client = c
	p.run()
}

// until waits for a condition that some goroutine will bring about.
func (p *peer) until(what string, ok func() bool) {
	p.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			p.t.Fatalf("%v: waited in vain until %s; rooms: %+v", p.Device(), what, p.Rooms())
		}
		time.Sleep(time.Millisecond)
	}
}

func (p *peer) ctx() context.Context {
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	p.t.Cleanup(cancel)
	return ctx
}

func (p *peer) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatalf("%v: %v", p.Device(), err)
	}
}

func (p *peer) create(template string) {
	p.t.Helper()
	p.must(p.CreateRoom(p.ctx(), client.NewRoom{URI: club, Template: template, Name: "Club"}))
}

// active waits until the device is a member.
func (p *peer) active() {
	p.t.Helper()
	_, err := p.WaitRoom(p.ctx(), club, func(r client.Room) bool { return r.Status == client.RoomActive })
	p.must(err)
}

func (p *peer) status(want client.RoomStatus) client.Room {
	p.t.Helper()
	r, err := p.WaitRoom(p.ctx(), club, func(r client.Room) bool { return r.Status == want })
	p.must(err)
	return r
}

// sync waits until the device has the whole log.
func (p *peer) sync() {
	p.t.Helper()
	head := p.hub.position(club)
	_, err := p.WaitRoom(p.ctx(), club, func(r client.Room) bool { return r.Position >= head })
	p.must(err)
}

// say sends text and waits until it is posted.
func (p *peer) say(text string) content.MessageID {
	p.t.Helper()
	id, err := p.SendText(p.ctx(), club, text)
	p.must(err)
	_, err = p.Wait(p.ctx(), club, id)
	p.must(err)
	return id
}

// history returns the whole history, read in pages.
func (p *peer) history() []client.Entry {
	p.t.Helper()
	var all []client.Entry
	for {
		after := uint64(0)
		if len(all) > 0 {
			after = all[len(all)-1].Seq
		}
		page, err := p.History(p.ctx(), club, after, 7)
		p.must(err)
		all = append(all, page...)
		if len(page) < 7 {
			break
		}
	}
	for i, e := range all {
		if e.Seq != uint64(i+1) {
			p.t.Fatalf("%v: entry %d has number %d", p.Device(), i+1, e.Seq)
		}
	}
	return all
}

// texts returns what was said, in order.
func (p *peer) texts() []string {
	p.t.Helper()
	var out []string
	for _, e := range p.history() {
		if e.Kind == client.EntryMessage {
			out = append(out, e.User.Name()+": "+e.Text())
		}
	}
	return out
}

// problems returns the codes of the problem entries.
func (p *peer) problems() []client.ProblemCode {
	p.t.Helper()
	var out []client.ProblemCode
	for _, e := range p.history() {
		if e.Kind == client.EntryProblem {
			out = append(out, e.Problem.Code)
		}
	}
	return out
}
