// Package storetest is the suite that every storage engine passes.
//
// An engine's test calls Run with a Factory, and Crash from a test binary whose
// TestMain calls Child first. The suite knows nothing of how an engine works: what
// it asks for is what package store promises.
package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/comity-im/comity/internal/store"
)

// Open opens a database, which may have been opened and closed before.
type Open func(tb testing.TB, now func() time.Time) store.Store

// Factory makes a database that is new and empty.
type Factory func(tb testing.TB) Open

// Run runs the suite.
func Run(t *testing.T, factory Factory) {
	for _, c := range []struct {
		name string
		test func(*env)
	}{
		{"rooms", testRooms},
		{"timestamps", testTimestamps},
		{"epoch", testEpoch},
		{"head", testHead},
		{"duplicates", testDuplicates},
		{"state", testState},
		{"log paging", testLogPaging},
		{"members", testMembers},
		{"append is one", testAppendIsOne},
		{"invalid", testInvalid},
		{"contention", testContention},
		{"epoch contention", testEpochContention},
		{"peers", testPeers},
		{"requests", testRequests},
		{"mail", testMail},
		{"users", testUsers},
		{"enrolment", testEnrolment},
		{"devices", testDevices},
		{"key packages", testKeyPackages},
		{"claim once", testClaimOnce},
		{"claim again", testClaimAgain},
		{"claim routes", testClaimRoutes},
		{"settings", testSettings},
		{"expire", testExpire},
		{"context", testContext},
		{"close", testClose},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := &clock{at: time.UnixMilli(start)}
			e := &env{T: t, ctx: t.Context(), clock: clock, open: factory(t)}
			e.Store = e.open(t, clock.now)
			t.Cleanup(func() {
				if err := e.Store.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			c.test(e)
			if err := e.Store.Check(context.Background()); err != nil && !errors.Is(err, store.ErrClosed) {
				t.Errorf("check: %v", err)
			}
		})
	}
}

// start is the time at which tests begin, in ms.
const start = 1_800_000_000_000

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) set(ms int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = time.UnixMilli(ms)
}

// env is a store under test.
type env struct {
	*testing.T
	store.Store
	ctx   context.Context
	clock *clock
	open  Open
}

// reopen closes the store and opens it again: what was written must be there.
func (e *env) reopen() {
	e.Helper()
	e.ok(e.Store.Close())
	e.Store = e.open(e.T, e.clock.now)
}

// ok fails the test on an error.
func (e *env) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// is fails the test if the error is not the one that is wanted.
func (e *env) is(err, want error) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Fatalf("got error %v, want %v", err, want)
	}
}

// eq compares. Empty and nil slices are the same to it.
func (e *env) eq(got, want any) {
	e.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		e.Fatalf("not as wanted (-want +got):\n%s", d)
	}
}

const (
	roomA = "mimi://hub.example/r/a"
	roomB = "mimi://hub.example/r/b"
	alice = "mimi://hub.example/u/alice"
	bob   = "mimi://hub.example/u/bob"
	phone = "mimi://hub.example/d/alice/phone"
	tab   = "mimi://hub.example/d/alice/tablet"
)

// room creates a room without events in epoch 0.
func (e *env) room(uri string) {
	e.Helper()
	_, err := e.CreateRoom(e.ctx, store.CreateRoom{Room: uri, Hub: "hub.example", IsHub: true})
	e.ok(err)
}

// event is an event whose hash is that of its body.
func event(body string) store.NewEvent {
	return store.NewEvent{Kind: 1, Hash: sha256.Sum256([]byte(body)), Body: []byte(body)}
}

// say appends one event and gives its position.
func (e *env) say(room, body string) uint64 {
	e.Helper()
	res, err := e.Append(e.ctx, store.Append{Room: room, Events: []store.NewEvent{event(body)}})
	e.ok(err)
	if res.Duplicate {
		e.Fatalf("%q is a duplicate", body)
	}
	return res.Position
}

// bodies gives the bodies of a log.
func (e *env) bodies(room string) []string {
	e.Helper()
	events, err := e.ReadLog(e.ctx, room, 0, 0, 0)
	e.ok(err)
	list := []string{}
	for _, ev := range events {
		list = append(list, string(ev.Body))
	}
	return list
}

func ptr(n uint64) *uint64 { return &n }

func testSettings(e *env) {
	_, err := e.Setting(e.ctx, "k")
	e.is(err, store.ErrNotFound)
	got, err := e.InitSetting(e.ctx, "k", []byte("one"))
	e.ok(err)
	e.eq(string(got), "one")
	got, err = e.InitSetting(e.ctx, "k", []byte("two"))
	e.ok(err)
	e.eq(string(got), "one")
	e.ok(e.PutSetting(e.ctx, "k", []byte("three")))
	e.ok(e.PutSetting(e.ctx, "empty", nil))
	e.reopen()
	got, err = e.Setting(e.ctx, "k")
	e.ok(err)
	e.eq(string(got), "three")
	got, err = e.Setting(e.ctx, "empty")
	e.ok(err)
	e.eq(len(got), 0)
	e.ok(e.DeleteSetting(e.ctx, "k"))
	e.ok(e.DeleteSetting(e.ctx, "k"))
	_, err = e.Setting(e.ctx, "k")
	e.is(err, store.ErrNotFound)
	e.is(e.PutSetting(e.ctx, "", nil), store.ErrInvalid)

	// Of many that initialise a key, one wins and all see it.
	var wg sync.WaitGroup
	values := make([][]byte, 32)
	for i := range values {
		wg.Go(func() {
			v, err := e.InitSetting(e.ctx, "race", fmt.Append(nil, i))
			if err != nil {
				e.Error(err)
			}
			values[i] = v
		})
	}
	wg.Wait()
	for _, v := range values {
		if !bytes.Equal(v, values[0]) {
			e.Fatalf("two saw %q and %q", v, values[0])
		}
	}
}

func testContext(e *env) {
	e.room(roomA)
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	_, err := e.Append(ctx, store.Append{Room: roomA, Events: []store.NewEvent{event("late")}})
	e.is(err, context.Canceled)
	_, err = e.ReadLog(ctx, roomA, 0, 0, 0)
	e.is(err, context.Canceled)
	// The outcome is unknown; to repeat it settles that.
	_, err = e.Append(e.ctx, store.Append{Room: roomA, Events: []store.NewEvent{event("late")}})
	e.ok(err)
	e.eq(e.bodies(roomA), []string{"late"})
}

func testClose(e *env) {
	e.room(roomA)
	e.say(roomA, "one")
	s := e.Store
	e.ok(s.Close())
	e.ok(s.Close())
	_, err := s.Append(e.ctx, store.Append{Room: roomA, Events: []store.NewEvent{event("two")}})
	e.is(err, store.ErrClosed)
	_, err = s.ReadLog(e.ctx, roomA, 0, 0, 0)
	e.is(err, store.ErrClosed)
	_, _, err = s.RoomState(e.ctx, roomA)
	e.is(err, store.ErrClosed)
	e.is(s.Check(e.ctx), store.ErrClosed)
	e.Store = e.open(e.T, e.clock.now)
	e.eq(e.bodies(roomA), []string{"one"})
}
