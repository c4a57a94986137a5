package replica_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/fedtest"
	"github.com/comity-im/comity/internal/replica"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// quick retries fast, so that tests need not wait.
var quick = fedtest.Options{Outbox: func(c *federation.OutboxConfig) {
	c.RetryMin, c.RetryMax, c.Poll = 5*time.Millisecond, 20*time.Millisecond, 50*time.Millisecond
}}

// duo is a room of a.example with alice, and bob of b.example.
func duo(t *testing.T, opts fedtest.Options) (w *fedtest.World, a, b *fedtest.Provider, alice, bob *fedtest.Device, uri mimi.URI) {
	t.Helper()
	w = fedtest.New(t, opts)
	a, b = w.Start("a.example"), w.Start("b.example")
	alice, bob = a.Enrol("alice", "1"), b.Enrol("bob", "1")
	uri = alice.Create("club", room.TemplateGroup)
	w.OK(alice.Add(uri, bob.User))
	w.Until("bob joins", func() bool { return bob.Rooms[uri] != nil }, alice, bob)
	return
}

func count(list []string, s string) int {
	n := 0
	for _, x := range list {
		if x == s {
			n++
		}
	}
	return n
}

func TestMessagesWaitForTheHub(t *testing.T) {
	w, a, b, alice, bob, uri := duo(t, quick)
	w.OK(bob.Say(uri, "before"))
	a.Stop()
	var want []string
	for i := range 5 {
		req, err := bob.Encrypt(uri, fmt.Sprint(i))
		w.OK(err)
		for range 2 { // the client repeats itself
			resp, pending, err := bob.Submit(uri, req)
			if err != nil || !pending {
				t.Fatalf("message %d: %v, pending %v, %v", i, resp, pending, err)
			}
		}
		want = append(want, fmt.Sprintf("bob: %d", i))
	}
	w.OK(bob.Sync())
	if got := texts(bob.Rooms[uri]); slices.Contains(got, "bob: 0") {
		t.Fatal("a pending message shows as posted")
	}
	// The replica's provider restarts as well, and knows what is pending.
	b.Stop()
	w.Start("b.example")
	req, err := bob.Encrypt(uri, "5")
	w.OK(err)
	if _, pending, err := bob.Submit(uri, req); err != nil || !pending {
		t.Fatalf("after a restart: pending %v, %v", pending, err)
	}
	want = append(want, "bob: 5")
	w.Start("a.example")
	said(t, w, uri, append([]string{"bob: before"}, want...), bob, alice)
	for _, s := range want {
		if n := count(texts(alice.Rooms[uri]), s); n != 1 {
			t.Errorf("%q was posted %d times", s, n)
		}
	}
	// Once nothing is pending, answers come at once again.
	w.Until("the queue is empty", func() bool {
		reqs, err := b.Store.Queued(t.Context(), "a.example", 0, 0)
		return err == nil && len(reqs) == 0
	}, bob)
	w.OK(bob.Say(uri, "after"))
	said(t, w, uri, []string{"bob: after"}, bob, alice)
}

func TestPendingMessageThatIsRefusedComesBackAsMail(t *testing.T) {
	w, a, _, alice, bob, uri := duo(t, quick)
	req, err := bob.Encrypt(uri, "too late")
	w.OK(err)
	w.OK(alice.Remove(uri, bob.User))
	a.Stop()
	if _, pending, err := bob.Submit(uri, req); err != nil || !pending {
		t.Fatalf("pending %v, %v", pending, err)
	}
	w.Start("a.example")
	w.Until("the refusal", func() bool { return len(bob.Rejected) == 1 }, bob)
}

// Only messages for rooms that we follow wait, and not without limit: a client
// must not fill the disk with what no hub will ever take.
func TestWhatDoesNotWait(t *testing.T) {
	w, a, b, _, bob, uri := duo(t, quick)
	req, err := bob.Encrypt(uri, "x")
	w.OK(err)
	body, err := mls.Marshal(req)
	w.OK(err)
	a.Stop()
	for _, other := range []string{"mimi://a.example/r/none", "mimi://nowhere.example/r/none"} {
		_, pending, err := b.Replica.Submit(t.Context(), bob.User, bob.URI, mimi.MustParseURI(other), body)
		if pending || !federation.Unreached(err) {
			t.Errorf("%s: pending %v, %v", other, pending, err)
		}
	}
	if reqs, err := b.Store.Queued(t.Context(), "nowhere.example", 0, 0); err != nil || len(reqs) != 0 {
		t.Errorf("%d requests are queued, %v", len(reqs), err)
	}
	for i := 0; ; i++ {
		req.AppMessage.PrivateMessage.Ciphertext = fmt.Append(nil, i)
		body, err := mls.Marshal(req)
		w.OK(err)
		_, pending, err := b.Replica.Submit(t.Context(), bob.User, bob.URI, uri, body)
		if pending {
			if i > replica.MaxWaiting {
				t.Fatalf("%d messages wait", i)
			}
			continue
		}
		if i != replica.MaxWaiting || !federation.Unreached(err) {
			t.Errorf("message %d: %v", i, err)
		}
		break
	}
}

func TestUpdatesDoNotWait(t *testing.T) {
	w, a, _, _, bob, uri := duo(t, quick)
	a.Stop()
	if err := bob.Commit(uri, commitPending); !federation.Unreached(err) {
		t.Errorf("commit while the hub is down: %v", err)
	}
	if _, err := bob.GroupInfo(uri); !federation.Unreached(err) {
		t.Errorf("group info while the hub is down: %v", err)
	}
	w.Start("a.example")
}

func TestEventsWaitForTheFollower(t *testing.T) {
	w, a, b, alice, bob, uri := duo(t, quick)
	cathy := w.Start("c.example").Enrol("cathy", "1")
	w.OK(alice.Sync())
	w.OK(alice.Add(uri, cathy.User))
	w.Until("cathy joins", func() bool { return cathy.Rooms[uri] != nil }, alice, cathy, bob)
	b.Stop()
	var want []string
	for i := range 20 {
		w.OK(alice.Say(uri, fmt.Sprint(i)))
		want = append(want, fmt.Sprintf("alice: %d", i))
		if i%5 == 0 {
			w.OK(alice.Commit(uri, commitPending))
			w.OK(alice.Sync())
		}
	}
	// A dead follower costs the others nothing.
	said(t, w, uri, want, alice, cathy)
	// The hub restarts before the follower is back.
	a.Stop()
	w.Start("a.example")
	w.Start("b.example")
	said(t, w, uri, want, alice, cathy, bob)
	for i, h := range bob.Rooms[uri].Log {
		_ = i
		if !slices.Contains(alice.Rooms[uri].Log, h) && i > 0 {
			t.Error("bob read what alice did not")
		}
	}
}
