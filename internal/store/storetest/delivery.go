package storetest

import (
	"fmt"
	"math"
	"sync"

	"github.com/comity-im/comity/internal/store"
)

func testPeers(e *env) {
	const b, c = "b.example", "c.example"
	e.room(roomA)
	e.room(roomB)
	change := func(room, body string, ps ...store.PeerChange) {
		e.Helper()
		a := store.Append{Room: room, Peers: ps}
		if body != "" {
			a.Events = []store.NewEvent{event(body)}
		}
		_, err := e.Append(e.ctx, a)
		e.ok(err)
	}
	cursors := func(domain string, want ...store.PeerCursor) {
		e.Helper()
		got, err := e.PeerCursors(e.ctx, domain, "", 0)
		e.ok(err)
		e.eq(append([]store.PeerCursor{}, got...), append([]store.PeerCursor{}, want...))
	}
	lagging := func(want ...string) {
		e.Helper()
		got, err := e.Lagging(e.ctx, start)
		e.ok(err)
		e.eq(append([]string{}, got...), append([]string{}, want...))
	}
	e.say(roomA, "one") // 1: before anyone follows
	lagging()
	change(roomA, "add b", store.PeerChange{Domain: b, Active: true}) // 2
	cursors(b, store.PeerCursor{Room: roomA, After: 1, Through: 2})
	e.say(roomA, "three") // 3
	e.reopen()
	cursors(b, store.PeerCursor{Room: roomA, After: 1, Through: 3})
	lagging(b)
	cursors(c)

	e.ok(e.AdvancePeer(e.ctx, b, roomA, 2))
	cursors(b, store.PeerCursor{Room: roomA, After: 2, Through: 3})
	e.ok(e.AdvancePeer(e.ctx, b, roomA, 1)) // never back
	cursors(b, store.PeerCursor{Room: roomA, After: 2, Through: 3})
	e.ok(e.AdvancePeer(e.ctx, b, roomA, math.MaxUint64)) // never past the head
	lagging()
	e.say(roomA, "four") // 4
	cursors(b, store.PeerCursor{Room: roomA, After: 3, Through: 4})
	e.ok(e.AdvancePeer(e.ctx, b, "no such room", 9))
	e.ok(e.AdvancePeer(e.ctx, "no such peer", roomA, 9))

	// It leaves while it lags: what the window covers is still delivered, but no more.
	change(roomA, "remove b", store.PeerChange{Domain: b}) // 5
	e.say(roomA, "six")                                    // 6
	cursors(b, store.PeerCursor{Room: roomA, After: 3, Through: 5})
	peers, err := e.RoomPeers(e.ctx, roomA)
	e.ok(err)
	e.eq(len(peers), 0)
	// It returns while it still lags: nothing of between.
	change(roomA, "add b again", store.PeerChange{Domain: b, Active: true}, store.PeerChange{Domain: c, Active: true}) // 7
	e.say(roomA, "eight")                                                                                              // 8
	cursors(b, store.PeerCursor{Room: roomA, After: 3, Through: 5}, store.PeerCursor{Room: roomA, After: 6, Through: 8})
	peers, err = e.RoomPeers(e.ctx, roomA)
	e.ok(err)
	e.eq(peers, []string{b, c})
	lagging(b, c)
	e.ok(e.AdvancePeer(e.ctx, b, roomA, 5))
	cursors(b, store.PeerCursor{Room: roomA, After: 6, Through: 8})
	e.ok(e.AdvancePeer(e.ctx, b, roomA, 8))
	cursors(b)
	lagging(c)

	// Removed when it has everything: there is still the removal itself to receive.
	change(roomA, "remove b again", store.PeerChange{Domain: b}) // 9
	cursors(b, store.PeerCursor{Room: roomA, After: 8, Through: 9})
	e.ok(e.AdvancePeer(e.ctx, b, roomA, 9))
	lagging(c)
	// Removed without an event: nothing is left.
	change(roomA, "", store.PeerChange{Domain: b, Active: true})
	change(roomA, "", store.PeerChange{Domain: b})
	e.say(roomA, "ten")
	cursors(b)

	// Pages go by rooms.
	change(roomB, "add c", store.PeerChange{Domain: c, Active: true})
	cursors(c, store.PeerCursor{Room: roomA, After: 6, Through: 10}, store.PeerCursor{Room: roomB, After: 0, Through: 1})
	page, err := e.PeerCursors(e.ctx, c, "", 1)
	e.ok(err)
	e.eq(page, []store.PeerCursor{{Room: roomA, After: 6, Through: 10}})
	page, err = e.PeerCursors(e.ctx, c, roomA, 1)
	e.ok(err)
	e.eq(page, []store.PeerCursor{{Room: roomB, After: 0, Through: 1}})
}

func testRequests(e *env) {
	const b = "b.example"
	one := store.NewRequest{Domain: b, Room: roomA, Kind: 1, Device: phone, Hash: store.Hash{1}, Body: []byte("one")}
	two := store.NewRequest{Domain: b, Kind: 2, NotBefore: start + 500, Body: []byte("two")}
	other := store.NewRequest{Domain: "c.example", Kind: 2, Hash: store.Hash{1}, NotBefore: start + 1000, Body: nil}
	ids, err := e.Enqueue(e.ctx, []store.NewRequest{one, two, other, one})
	e.ok(err)
	e.eq(len(ids), 4)
	e.eq(ids[3], ids[0]) // the same again
	if ids[0] >= ids[1] {
		e.Fatalf("ids %v do not increase", ids)
	}
	e.reopen()
	got, err := e.Queued(e.ctx, b, 0, 0)
	e.ok(err)
	e.eq(got, []store.Request{{ID: ids[0], NewRequest: one}, {ID: ids[1], NewRequest: two}})
	got, err = e.Queued(e.ctx, b, 0, 1)
	e.ok(err)
	e.eq(len(got), 1)
	got, err = e.Queued(e.ctx, b, ids[0], 0)
	e.ok(err)
	e.eq(len(got), 1)
	lag, err := e.Lagging(e.ctx, start)
	e.ok(err)
	e.eq(lag, []string{b})

	e.ok(e.RetryRequest(e.ctx, ids[0], start+700))
	e.ok(e.RetryRequest(e.ctx, ids[0], start+800))
	got, err = e.Queued(e.ctx, b, 0, 1)
	e.ok(err)
	e.eq(got[0].Attempts, 2)
	e.eq(got[0].NotBefore, uint64(start+800))
	lag, err = e.Lagging(e.ctx, start)
	e.ok(err)
	e.eq(len(lag), 0)
	lag, err = e.Lagging(e.ctx, start+1000)
	e.ok(err)
	e.eq(lag, []string{b, "c.example"})

	mailIDs, err := e.FinishRequest(e.ctx, ids[0], []store.NewMail{{Device: phone, Kind: 2, Room: roomA, Body: []byte("rejected")}})
	e.ok(err)
	_, err = e.FinishRequest(e.ctx, ids[0], []store.NewMail{{Device: phone, Kind: 2, Body: []byte("twice")}})
	e.is(err, store.ErrNotFound)
	e.is(e.RetryRequest(e.ctx, ids[0], 0), store.ErrNotFound)
	mail, err := e.Mail(e.ctx, phone, 0, 0)
	e.ok(err)
	e.eq(mail, []store.Mail{{ID: mailIDs[0], Kind: 2, Room: roomA, Body: []byte("rejected")}})
	// Once done, the same is a new request, at the end of the queue.
	again, err := e.Enqueue(e.ctx, []store.NewRequest{one})
	e.ok(err)
	if again[0] <= ids[2] {
		e.Fatalf("the id %d of a new request is not greater than %d", again[0], ids[2])
	}
}

func testMail(e *env) {
	put := func(body string, hash store.Hash) uint64 {
		e.Helper()
		ids, err := e.PutMail(e.ctx, []store.NewMail{{Device: phone, Kind: 1, Room: roomA, Position: 3, Hash: hash, Body: []byte(body)}})
		e.ok(err)
		return ids[0]
	}
	bodies := func(after uint64, max int) []string {
		e.Helper()
		mail, err := e.Mail(e.ctx, phone, after, max)
		e.ok(err)
		list := []string{}
		last := after
		for _, m := range mail {
			if m.ID <= last {
				e.Fatalf("id %d after %d", m.ID, last)
			}
			last = m.ID
			list = append(list, string(m.Body))
		}
		return list
	}
	one := put("one", store.Hash{1})
	two := put("two", store.Hash{})
	e.eq(put("one again", store.Hash{1}), one)
	three := put("three", store.Hash{})
	ids, err := e.PutMail(e.ctx, []store.NewMail{{Device: tab, Kind: 1, Hash: store.Hash{1}, Body: []byte("other box")}})
	e.ok(err)
	if ids[0] == one {
		e.Fatal("mail for another device is not the same mail")
	}
	e.reopen()
	e.eq(bodies(0, 0), []string{"one", "two", "three"})
	e.eq(bodies(0, 2), []string{"one", "two"})
	e.eq(bodies(two, 0), []string{"three"})
	e.ok(e.AckMail(e.ctx, phone, two))
	e.eq(bodies(0, 0), []string{"three"})
	e.ok(e.AckMail(e.ctx, phone, math.MaxUint64))
	e.eq(bodies(0, 0), []string{})
	// The last id is not used again, or a cursor would hide the new mail.
	e.reopen()
	if four := put("four", store.Hash{}); four <= three {
		e.Fatalf("id %d after %d", four, three)
	}
	// What was acknowledged does not come back, until it is forgotten.
	e.eq(put("one again", store.Hash{1}), one)
	e.eq(bodies(0, 0), []string{"four"})
	e.clock.set(start + store.MailMemory)
	put("one anew", store.Hash{1})
	e.eq(bodies(0, 0), []string{"four", "one anew"})
	mail, err := e.Mail(e.ctx, tab, 0, 0)
	e.ok(err)
	e.eq(len(mail), 1)
	none, err := e.PutMail(e.ctx, nil)
	e.ok(err)
	e.eq(len(none), 0)

	// Many at once into one box: all there, once.
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if _, err := e.PutMail(e.ctx, []store.NewMail{{Device: "box", Hash: store.Hash{byte(i % 25), 1}, Body: fmt.Append(nil, i%25)}}); err != nil {
				e.Error(err)
			}
		})
	}
	wg.Wait()
	mail, err = e.Mail(e.ctx, "box", 0, 0)
	e.ok(err)
	e.eq(len(mail), 25)
}
