package client_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// pair returns two members of one room.
func pair(t *testing.T) (h *testHub, a, b *peer) {
	t.Helper()
	h = newTestHub(t)
	a, b = h.peer(alice, "phone"), h.peer(bob, "phone")
	a.create(room.TemplateGroup)
	a.must(a.AddUsers(a.ctx(), club, bob))
	b.active()
	b.sync()
	a.sync()
	return h, a, b
}

// The hub's answer to a message gets lost: the message is sent again, byte
// for byte, and posted once.
func TestLostAnswer(t *testing.T) {
	h, a, b := pair(t)
	var bodies [][]byte
	h.hook(func() {
		h.after = func(_ string, req client.Request, resp client.Response) (client.Response, error) {
			if !strings.HasPrefix(req.Path, local.PathSubmitMessage) {
				return resp, nil
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			bodies = append(bodies, req.Body)
			if len(bodies) < 3 {
				return client.Response{}, errCut
			}
			return resp, nil
		}
		// Without the log, the device can't know that the first was accepted.
		h.forge = func(device, _ string, _ uint64, body []byte) []byte {
			if device == a.tr.name && len(bodies) < 3 {
				return nil
			}
			return body
		}
	})
	id, err := a.SendText(a.ctx(), club, "once")
	a.must(err)
	a.until("the hub has answered", func() bool {
		out, err := a.Unposted(a.ctx(), club)
		return err == nil && len(out) == 1 && out[0].Status == client.OutgoingAccepted
	})
	a.tr.setDown(true)
	a.tr.setDown(false)
	_, err = a.Wait(a.ctx(), club, id)
	a.must(err)
	heard(t, []string{"alice: once"}, a, b)
	if len(bodies) != 3 {
		t.Fatalf("%d attempts, want 3", len(bodies))
	}
	for _, body := range bodies[1:] {
		if string(body) != string(bodies[0]) {
			t.Error("the second attempt differs from the first")
		}
	}
}

// The provider can't be reached while messages are written: they wait, and
// are posted once, in order, when it is back.
func TestOffline(t *testing.T) {
	_, a, b := pair(t)
	a.tr.setDown(true)
	var ids []content.MessageID
	for i := range 5 {
		id, err := a.SendText(a.ctx(), club, fmt.Sprint(i))
		a.must(err)
		ids = append(ids, id)
	}
	out, err := a.Unposted(a.ctx(), club)
	a.must(err)
	if len(out) != 5 || out[0].ID != ids[0] || out[0].Status > client.OutgoingPending || out[4].Status != client.OutgoingQueued {
		t.Errorf("unposted: %+v", out)
	}
	a.crash(0)
	if out, err = a.Unposted(a.ctx(), club); err != nil || len(out) != 5 {
		t.Errorf("unposted after a crash: %+v, %v", out, err)
	}
	a.tr.setDown(false)
	for _, id := range ids {
		_, err := a.Wait(a.ctx(), club, id)
		a.must(err)
	}
	heard(t, []string{"alice: 0", "alice: 1", "alice: 2", "alice: 3", "alice: 4"}, a, b)
}

// While a device was away the epochs went on: the hub refuses its message, and
// the same content is encrypted again under the same ID.
func TestEpochTooOld(t *testing.T) {
	h, a, b := pair(t)
	var refused atomic.Int32
	// A message gets to the hub only after three epochs have passed.
	var once sync.Once
	h.hook(func() {
		h.before = func(device string, req client.Request) error {
			if device == a.tr.name && strings.HasPrefix(req.Path, local.PathSubmitMessage) {
				once.Do(func() {
					for range 3 {
						b.must(b.UpdateKeys(b.ctx(), club))
					}
				})
			}
			return nil
		}
		h.after = func(device string, req client.Request, resp client.Response) (client.Response, error) {
			var r mimi.SubmitMessageResponse
			if strings.HasPrefix(req.Path, local.PathSubmitMessage) && mls.Unmarshal(resp.Body, &r) == nil && r.Code == mimi.SubmitEpochTooOld {
				refused.Add(1)
			}
			return resp, nil
		}
	})
	id, err := a.SendText(a.ctx(), club, "late")
	a.must(err)
	e, err := a.Wait(a.ctx(), club, id)
	a.must(err)
	if refused.Load() != 1 {
		t.Fatalf("the hub refused %d messages, want 1", refused.Load())
	}
	if e.ID != id {
		t.Errorf("posted as %v, sent as %v", e.ID, id)
	}
	heard(t, []string{"alice: late"}, a, b)
}

// A hub that accepts both encryptions of a message shows it once.
func TestDuplicateID(t *testing.T) {
	h, a, b := pair(t)
	h.hook(func() {
		first := true
		h.after = func(_ string, req client.Request, resp client.Response) (client.Response, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			if !strings.HasPrefix(req.Path, local.PathSubmitMessage) || !first {
				return resp, nil
			}
			first = false
			_, body := answerTLS(&mimi.SubmitMessageResponse{Protocol: mimi.ProtocolMLS10, Code: mimi.SubmitEpochTooOld, CurrentEpoch: 2})
			return client.Response{Status: 200, Body: body}, nil
		}
		// Alice does not see her first message, so she believes the refusal.
		h.forge = func(device, _ string, _ uint64, body []byte) []byte {
			if device == a.tr.name {
				return nil
			}
			return body
		}
	})
	id, err := a.SendText(a.ctx(), club, "twice")
	a.must(err)
	b.must(b.UpdateKeys(b.ctx(), club))
	a.until("she queues it again", func() bool {
		out, err := a.Unposted(a.ctx(), club)
		return err == nil && len(out) == 1 && out[0].Status == client.OutgoingQueued
	})
	// Now she sees the log again, and sends.
	h.hook(func() { h.forge = nil })
	a.tr.setDown(true)
	a.tr.setDown(false)
	_, err = a.Wait(a.ctx(), club, id)
	a.must(err)
	b.say("end")
	heard(t, []string{"alice: twice", "bob: end"}, b)
	a.sync()
	if got := a.texts(); !slices.Equal(got, []string{"alice: twice", "bob: end"}) {
		t.Errorf("alice has %q", a.texts())
	}
}

// Status 202: the own provider keeps the message. Its fate comes on the
// stream.
func TestForwarding(t *testing.T) {
	h, a, b := pair(t)
	var kept []byte
	h.hook(func() {
		h.instead = func(_ string, req client.Request) *client.Response {
			if !strings.HasPrefix(req.Path, local.PathSubmitMessage) || kept != nil {
				return nil
			}
			kept = req.Body
			return &client.Response{Status: 202, Body: []byte(`{"hub":"a.example"}`)}
		}
	})
	id, err := a.SendText(a.ctx(), club, "by proxy")
	a.must(err)
	a.until("it is forwarding", func() bool {
		out, err := a.Unposted(a.ctx(), club)
		return err == nil && len(out) == 1 && out[0].Status == client.OutgoingForwarding
	})
	var req mimi.SubmitMessageRequest
	a.must(mls.Unmarshal(kept, &req))
	raw, err := mls.Marshal(&req.AppMessage)
	a.must(err)
	hash := sha256.Sum256(raw)
	// It is refused because of its epoch, and so sent again.
	b.must(b.UpdateKeys(b.ctx(), club))
	_, notice := answerTLS(&mimi.SubmitMessageResponse{Protocol: mimi.ProtocolMLS10, Code: mimi.SubmitEpochTooOld, CurrentEpoch: 2})
	h.hook(func() {
		h.mail(h.devices[a.tr.name], local.Frame{Type: local.FrameMail, Kind: local.MailRejected, Room: club, Body: append(hash[:], notice...)})
		h.pump()
	})
	_, err = a.Wait(a.ctx(), club, id)
	a.must(err)
	heard(t, []string{"alice: by proxy"}, a, b)
	a.until("the notice is confirmed", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.devices[a.tr.name].mail) == 0
	})
}

// A message that the hub refuses for good is kept as rejected.
func TestRejected(t *testing.T) {
	h, a, _ := pair(t)
	h.hook(func() {
		h.after = func(_ string, req client.Request, resp client.Response) (client.Response, error) {
			if strings.HasPrefix(req.Path, local.PathSubmitMessage) {
				_, resp.Body = answerTLS(&mimi.SubmitMessageResponse{Protocol: mimi.ProtocolMLS10, Code: mimi.SubmitNotAllowed})
			}
			return resp, nil
		}
		h.forge = func(string, string, uint64, []byte) []byte { return nil }
	})
	id, err := a.SendText(a.ctx(), club, "no")
	a.must(err)
	if _, err := a.Wait(a.ctx(), club, id); !errors.Is(err, client.ErrRejected) {
		t.Errorf("Wait: %v, want ErrRejected", err)
	}
	if out, err := a.Unposted(a.ctx(), club); err != nil || len(out) != 1 || out[0].Status != client.OutgoingRejected {
		t.Errorf("unposted: %+v, %v", out, err)
	}
	a.must(a.Discard(a.ctx(), club, id))
	if out, err := a.Unposted(a.ctx(), club); err != nil || len(out) != 0 {
		t.Errorf("unposted: %+v, %v", out, err)
	}
}

// The answer to a commit gets lost and the device crashes: the log tells what
// became of it.
func TestCrashAfterCommit(t *testing.T) {
	for _, reached := range []bool{true, false} {
		t.Run(fmt.Sprintf("reached=%v", reached), func(t *testing.T) {
			h, a, b := pair(t)
			var mu sync.Mutex
			tries, dead := 0, true
			cut := func(device string, req client.Request) error {
				mu.Lock()
				defer mu.Unlock()
				if device == a.tr.name && strings.HasPrefix(req.Path, local.PathUpdate) {
					tries++
					if dead {
						return errCut
					}
				}
				return nil
			}
			h.hook(func() {
				h.forge = func(device, _ string, _ uint64, body []byte) []byte {
					if device == a.tr.name {
						mu.Lock()
						defer mu.Unlock()
						if dead {
							return nil
						}
					}
					return body
				}
				if reached {
					h.after = func(device string, req client.Request, resp client.Response) (client.Response, error) {
						return resp, cut(device, req)
					}
				} else {
					h.before = cut
				}
			})
			go func() { _ = a.UpdateKeys(a.ctx(), club) }()
			a.until("the commit was sent", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return tries > 0
			})
			a.tr.setDown(true)
			a.crash(0)
			mu.Lock()
			dead = false
			mu.Unlock()
			if !reached {
				// Somebody else's commit comes first.
				b.must(b.UpdateKeys(b.ctx(), club))
			}
			a.tr.setDown(false)
			a.say("alive")
			a.until("nothing is staged", func() bool {
				rows, err := a.store.Bucket(t.Context(), "staged "+club.String())
				return err == nil && len(rows) == 0
			})
			heard(t, []string{"alice: alive"}, a, b)
		})
	}
}

// The device loses power again and again, at random moments, and so does its
// line. Every message is posted exactly once, in the order in which it was
// sent, and everybody has the same history.
func TestCrashes(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { crashes(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func crashes(t *testing.T, rnd *rand.Rand) {
	h := newTestHub(t)
	a, b := h.peer(alice, "phone"), h.peer(bob, "phone")
	a.create(room.TemplateOpen)
	b.must(b.JoinOpen(b.ctx(), club))
	a.sync() // what is encrypted before that is not for bob
	var mu sync.Mutex
	lose := func(string, client.Request) error {
		mu.Lock()
		defer mu.Unlock()
		if rnd.IntN(5) == 0 {
			return errCut
		}
		return nil
	}
	h.hook(func() {
		h.before = lose
		h.after = func(device string, req client.Request, resp client.Response) (client.Response, error) {
			return resp, lose(device, req)
		}
	})
	var want []string
	n := 0
	roll := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return rnd.IntN(n)
	}
	for range 60 {
		p, name := a, "alice: "
		if roll(2) == 0 {
			p, name = b, "bob: "
		}
		switch roll(8) {
		case 0, 1, 2, 3:
			n++
			text := fmt.Sprint(n)
			if _, err := p.SendText(p.ctx(), club, text); err != nil {
				t.Fatal(err)
			}
			want = append(want, name+text)
		case 4:
			go func(c *client.Client) { _ = c.UpdateKeys(t.Context(), club) }(p.Client)
		case 5:
			p.tr.setDown(true)
			p.tr.setDown(false)
		default:
			p.crash(roll(3))
		}
	}
	h.hook(func() { h.before, h.after = nil, nil })
	for _, p := range []*peer{a, b} {
		_, err := p.WaitRoom(p.ctx(), club, func(r client.Room) bool { return r.Unposted == 0 })
		p.must(err)
	}
	a.sync()
	b.sync()
	got := a.texts()
	if !slices.Equal(got, b.texts()) {
		t.Errorf("alice has %q, bob has %q", got, b.texts())
	}
	for _, who := range []string{"alice: ", "bob: "} {
		other := func(s string) bool { return !strings.HasPrefix(s, who) }
		w, g := slices.DeleteFunc(slices.Clone(want), other), slices.DeleteFunc(slices.Clone(got), other)
		if !slices.Equal(w, g) {
			t.Errorf("%ssent %q, posted was %q", who, w, g)
		}
	}
	if p := append(a.problems(), b.problems()...); len(p) > 0 {
		t.Errorf("problems: %v", p)
	}
}

// A store that fails does not lose or repeat anything.
func TestFullDisk(t *testing.T) {
	_, a, b := pair(t)
	full := errors.New("disk full")
	b.store.Fail(full)
	a.say("while bob's disk is full")
	if _, err := b.SendText(b.ctx(), club, "x"); !errors.Is(err, full) {
		t.Errorf("sent without a store: %v", err)
	}
	b.store.Fail(nil)
	b.say("back")
	heard(t, []string{"alice: while bob's disk is full", "bob: back"}, a, b)
}
