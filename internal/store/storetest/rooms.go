package storetest

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"sync"

	"github.com/comity-im/comity/internal/store"
)

func testRooms(e *env) {
	_, err := e.Room(e.ctx, roomA)
	e.is(err, store.ErrNoRoom)
	e.is(err, store.ErrNotFound)
	_, err = e.ReadLog(e.ctx, roomA, 0, 0, 0)
	e.is(err, store.ErrNoRoom)
	_, _, err = e.RoomState(e.ctx, roomA)
	e.is(err, store.ErrNoRoom)
	_, err = e.Members(e.ctx, roomA)
	e.is(err, store.ErrNoRoom)
	_, err = e.RoomPeers(e.ctx, roomA)
	e.is(err, store.ErrNoRoom)
	_, err = e.FindEvent(e.ctx, roomA, store.Hash{1})
	e.is(err, store.ErrNoRoom)
	_, err = e.Append(e.ctx, store.Append{Room: roomA, Events: []store.NewEvent{event("x")}})
	e.is(err, store.ErrNoRoom)

	res, err := e.CreateRoom(e.ctx, store.CreateRoom{
		Room: roomB, Hub: "other.example", Epoch: math.MaxUint64,
		Events: []store.NewEvent{event("one"), event("two")},
		State:  []store.KV{{Key: "k", Value: []byte("v")}},
	})
	e.ok(err)
	e.eq(res, store.AppendResult{Position: 2, Timestamp: start + 1, Events: []store.Placed{{Position: 1, Timestamp: start}, {Position: 2, Timestamp: start + 1}}})
	e.room(roomA)
	_, err = e.CreateRoom(e.ctx, store.CreateRoom{Room: roomB, Hub: "hub.example", Events: []store.NewEvent{event("three")}})
	e.is(err, store.ErrExists)

	e.reopen()
	a := store.RoomInfo{Room: roomA, Hub: "hub.example", IsHub: true}
	b := store.RoomInfo{Room: roomB, Hub: "other.example", Epoch: math.MaxUint64, Head: 2, LastTimestamp: start + 1}
	got, err := e.Room(e.ctx, roomB)
	e.ok(err)
	e.eq(got, b)
	list, err := e.Rooms(e.ctx, "", 0)
	e.ok(err)
	e.eq(list, []store.RoomInfo{a, b})
	list, err = e.Rooms(e.ctx, "", 1)
	e.ok(err)
	e.eq(list, []store.RoomInfo{a})
	list, err = e.Rooms(e.ctx, roomA, 5)
	e.ok(err)
	e.eq(list, []store.RoomInfo{b})

	events, err := e.ReadLog(e.ctx, roomB, 0, 0, 0)
	e.ok(err)
	one, two := event("one"), event("two")
	e.eq(events, []store.Event{
		{Position: 1, Timestamp: start, Kind: 1, Hash: one.Hash, Body: one.Body},
		{Position: 2, Timestamp: start + 1, Kind: 1, Hash: two.Hash, Body: two.Body},
	})
	found, err := e.FindEvent(e.ctx, roomB, two.Hash)
	e.ok(err)
	e.eq(found, events[1])
	_, err = e.FindEvent(e.ctx, roomB, store.Hash{1})
	e.is(err, store.ErrNotFound)
	_, err = e.FindEvent(e.ctx, roomA, two.Hash) // hashes are per room
	e.is(err, store.ErrNotFound)
}

func testTimestamps(e *env) {
	e.room(roomA)
	place := func(ts uint64, body string) uint64 {
		e.Helper()
		ev := event(body)
		ev.Timestamp = ts
		res, err := e.Append(e.ctx, store.Append{Room: roomA, Events: []store.NewEvent{ev}})
		e.ok(err)
		return res.Timestamp
	}
	e.eq(place(0, "a"), uint64(start))
	e.eq(place(0, "b"), uint64(start+1)) // the clock stands: one more
	e.clock.set(start - 1000)
	e.eq(place(0, "c"), uint64(start+2)) // it went back: one more
	e.clock.set(start + 1000)
	e.eq(place(0, "d"), uint64(start+1000))
	e.eq(place(start+5000, "e"), uint64(start+5000)) // given: kept
	e.eq(place(start+10, "f"), uint64(start+10))     // even if it is older
	e.eq(place(0, "g"), uint64(start+5001))          // after the greatest
	info, err := e.Room(e.ctx, roomA)
	e.ok(err)
	e.eq(info.LastTimestamp, uint64(start+5001))

	// Numbers that only a hostile hub sends are kept too.
	e.eq(place(math.MaxUint64, "h"), uint64(math.MaxUint64))
	e.reopen()
	found, err := e.FindEvent(e.ctx, roomA, event("h").Hash)
	e.ok(err)
	e.eq(found.Timestamp, uint64(math.MaxUint64))
	_, err = e.Append(e.ctx, store.Append{Room: roomA, Events: []store.NewEvent{event("i")}})
	e.is(err, store.ErrInvalid) // none is left to assign
	e.eq(len(e.bodies(roomA)), 8)
}

func testEpoch(e *env) {
	e.room(roomA)
	commit := func(expect, next uint64, body string) error {
		_, err := e.Append(e.ctx, store.Append{
			Room: roomA, ExpectEpoch: &expect, NewEpoch: &next, Events: []store.NewEvent{event(body)},
			State: store.Delta{Put: []store.KV{{Key: "who", Value: []byte(body)}}},
		})
		return err
	}
	e.ok(commit(0, 1, "one"))
	err := commit(0, 1, "late")
	e.is(err, store.ErrWrongEpoch)
	var wrong *store.WrongEpochError
	if !errors.As(err, &wrong) || wrong.Current != 1 {
		e.Fatalf("got %v, want current epoch 1", err)
	}
	e.is(commit(2, 3, "early"), store.ErrWrongEpoch)
	state, info, err := e.RoomState(e.ctx, roomA)
	e.ok(err)
	e.eq(string(state["who"]), "one") // a refused Append leaves nothing
	e.eq(info.Epoch, uint64(1))
	e.eq(info.Head, uint64(1))
	e.ok(commit(1, math.MaxUint64, "far"))
	e.reopen()
	err = commit(1, 2, "again")
	if !errors.As(err, &wrong) || wrong.Current != math.MaxUint64 {
		e.Fatalf("got %v, want current epoch 2^64-1", err)
	}
	e.say(roomA, "messages need no epoch")
	e.eq(e.bodies(roomA), []string{"one", "far", "messages need no epoch"})
}

func testHead(e *env) {
	e.room(roomA)
	put := func(expect uint64, body string) error {
		_, err := e.Append(e.ctx, store.Append{Room: roomA, ExpectHead: &expect, Events: []store.NewEvent{event(body)}})
		return err
	}
	e.ok(put(0, "one"))
	err := put(0, "two")
	e.is(err, store.ErrWrongHead)
	var wrong *store.WrongHeadError
	if !errors.As(err, &wrong) || wrong.Current != 1 {
		e.Fatalf("got %v, want current head 1", err)
	}
	e.ok(put(1, "two"))
	// The epoch is compared first.
	_, err = e.Append(e.ctx, store.Append{Room: roomA, ExpectHead: ptr(7), ExpectEpoch: ptr(7)})
	e.is(err, store.ErrWrongEpoch)
}

func testDuplicates(e *env) {
	e.room(roomA)
	e.room(roomB)
	req := store.Append{Room: roomA, ExpectEpoch: ptr(0), NewEpoch: ptr(1), Events: []store.NewEvent{event("one")},
		Mail: []store.NewMail{{Device: phone, Kind: 1, Body: []byte("welcome")}}}
	first, err := e.Append(e.ctx, req)
	e.ok(err)
	e.clock.set(start + 9999)
	e.reopen()
	// Same answer, though the epoch has moved on; and no second mail.
	again, err := e.Append(e.ctx, req)
	e.ok(err)
	e.eq(again, store.AppendResult{Duplicate: true, Position: first.Position, Timestamp: first.Timestamp})
	mail, err := e.Mail(e.ctx, phone, 0, 0)
	e.ok(err)
	e.eq(len(mail), 1)

	// One known event is enough, and nothing of the rest is written.
	e.say(roomA, "two")
	res, err := e.Append(e.ctx, store.Append{Room: roomA, Events: []store.NewEvent{event("new"), event("two"), event("one")}})
	e.ok(err)
	e.eq(res.Duplicate, true)
	e.eq(res.Position, uint64(2))
	e.eq(e.bodies(roomA), []string{"one", "two"})

	// The same event in another room is another event.
	e.say(roomB, "one")

	// Events without a hash are never the same.
	blank := store.NewEvent{Kind: 9, Body: []byte("blank")}
	for range 2 {
		res, err = e.Append(e.ctx, store.Append{Room: roomB, Events: []store.NewEvent{blank, blank}})
		e.ok(err)
		e.eq(res.Duplicate, false)
	}
	e.eq(res.Position, uint64(5))

	// A request can be known as a whole.
	whole := store.Append{Room: roomB, Dedup: store.Hash{7}, Events: []store.NewEvent{blank}}
	first, err = e.Append(e.ctx, whole)
	e.ok(err)
	again, err = e.Append(e.ctx, whole)
	e.ok(err)
	e.eq(again, store.AppendResult{Duplicate: true, Position: first.Position, Timestamp: first.Timestamp})
	whole.Room = roomA
	res, err = e.Append(e.ctx, whole)
	e.ok(err)
	e.eq(res.Duplicate, false)

	// Many at once that say the same: one is written, all get the same answer.
	var wg sync.WaitGroup
	results := make([]store.AppendResult, 64)
	for i := range results {
		wg.Go(func() {
			res, err := e.Append(e.ctx, store.Append{Room: roomA, Events: []store.NewEvent{event("storm")}})
			if err != nil {
				e.Error(err)
			}
			results[i] = res
		})
	}
	wg.Wait()
	fresh := 0
	for _, r := range results {
		if !r.Duplicate {
			fresh++
		}
		e.eq(r.Position, results[0].Position)
		e.eq(r.Timestamp, results[0].Timestamp)
	}
	e.eq(fresh, 1)
}

func testState(e *env) {
	_, err := e.CreateRoom(e.ctx, store.CreateRoom{Room: roomA, Hub: "hub.example", State: []store.KV{
		{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("2")}, {Key: "c", Value: nil},
	}})
	e.ok(err)
	e.room(roomB)
	change := func(d store.Delta) {
		e.Helper()
		_, err := e.Append(e.ctx, store.Append{Room: roomA, State: d})
		e.ok(err)
	}
	want := func(m map[string]string) {
		e.Helper()
		state, _, err := e.RoomState(e.ctx, roomA)
		e.ok(err)
		got := map[string]string{}
		for k, v := range state {
			got[k] = string(v)
		}
		e.eq(got, m)
	}
	want(map[string]string{"a": "1", "b": "2", "c": ""})
	change(store.Delta{Delete: []string{"a", "nothing"}, Put: []store.KV{{Key: "b", Value: []byte("3")}, {Key: "d", Value: []byte("4")}}})
	e.reopen()
	want(map[string]string{"b": "3", "c": "", "d": "4"})
	// Delete goes before Put.
	change(store.Delta{Delete: []string{"b"}, Put: []store.KV{{Key: "b", Value: []byte("5")}}})
	want(map[string]string{"b": "5", "c": "", "d": "4"})
	big := strings.Repeat("x", 300_000)
	change(store.Delta{Clear: true, Put: []store.KV{{Key: "big", Value: []byte(big)}}})
	want(map[string]string{"big": big})
	state, info, err := e.RoomState(e.ctx, roomB)
	e.ok(err)
	e.eq(len(state), 0)
	e.eq(info.Room, roomB)
}

func testLogPaging(e *env) {
	e.room(roomA)
	e.room(roomB)
	for i := range 10 {
		e.say(roomA, fmt.Sprintf("%d%s", i, strings.Repeat(".", 99)))
		e.say(roomB, fmt.Sprint("other", i))
	}
	positions := func(after uint64, maxEvents, maxBytes int) []uint64 {
		e.Helper()
		events, err := e.ReadLog(e.ctx, roomA, after, maxEvents, maxBytes)
		e.ok(err)
		list := []uint64{}
		for _, ev := range events {
			list = append(list, ev.Position)
		}
		return list
	}
	e.eq(positions(0, 3, 0), []uint64{1, 2, 3})
	e.eq(positions(3, 3, 0), []uint64{4, 5, 6})
	e.eq(positions(8, 0, 0), []uint64{9, 10})
	e.eq(positions(10, 0, 0), []uint64{})
	e.eq(positions(math.MaxUint64, 0, 0), []uint64{})
	e.eq(positions(0, 0, 250), []uint64{1, 2})
	e.eq(positions(0, 0, 1), []uint64{1}) // one at least
	e.eq(positions(4, 1, 1), []uint64{5})
}

func testMembers(e *env) {
	e.room(roomA)
	e.room(roomB)
	change := func(body string, ms ...store.MemberChange) {
		e.Helper()
		a := store.Append{Room: roomA, Members: ms}
		if body != "" {
			a.Events = []store.NewEvent{event(body + " proposal"), event(body)}
		}
		_, err := e.Append(e.ctx, a)
		e.ok(err)
	}
	join := func(d string) store.MemberChange { return store.MemberChange{Device: d, User: alice, Join: true} }
	leave := func(d string) store.MemberChange { return store.MemberChange{Device: d, User: alice} }
	want := func(device string, ws ...[2]uint64) {
		e.Helper()
		got, err := e.Memberships(e.ctx, device)
		e.ok(err)
		list := [][2]uint64{}
		for _, m := range got {
			if m.Room == roomA {
				e.eq(m.User, alice)
				e.eq(m.Device, device)
				list = append(list, [2]uint64{m.From, m.To})
			}
		}
		e.eq(list, append([][2]uint64{}, ws...))
	}
	want(phone)
	change("", join(phone)) // before the first event
	want(phone, [2]uint64{1, 0})
	change("add tablet", join(tab), join(phone)) // 1, 2; phone is in already
	want(phone, [2]uint64{1, 0})
	want(tab, [2]uint64{2, 0})
	change("remove phone", leave(phone)) // 3, 4
	want(phone, [2]uint64{1, 4})
	change("nothing", leave(phone)) // 5, 6
	want(phone, [2]uint64{1, 4})
	change("add phone", join(phone)) // 7, 8
	e.reopen()
	want(phone, [2]uint64{1, 4}, [2]uint64{8, 0})
	change("rejoin", leave(phone), join(phone)) // 9, 10
	want(phone, [2]uint64{1, 4}, [2]uint64{8, 10}, [2]uint64{10, 0})
	got, err := e.Members(e.ctx, roomA)
	e.ok(err)
	e.eq(got, []store.Membership{
		{Room: roomA, Device: phone, User: alice, From: 10},
		{Room: roomA, Device: tab, User: alice, From: 2},
	})
	// In and out without an event: it never saw anything.
	change("", join("mimi://hub.example/d/bob/x"))
	change("", leave("mimi://hub.example/d/bob/x"))
	want("mimi://hub.example/d/bob/x")
	// In, out and in again at one event.
	change("flicker", join("y"), leave("y"), join("y")) // 11, 12
	want("y", [2]uint64{12, 0})

	_, err = e.Append(e.ctx, store.Append{Room: roomB, Members: []store.MemberChange{join(tab)}})
	e.ok(err)
	all, err := e.Memberships(e.ctx, tab)
	e.ok(err)
	e.eq(all, []store.Membership{
		{Room: roomA, Device: tab, User: alice, From: 2},
		{Room: roomB, Device: tab, User: alice, From: 1},
	})
}

func testAppendIsOne(e *env) {
	e.room(roomA)
	res, err := e.Append(e.ctx, store.Append{
		Room: roomA, NewEpoch: ptr(1), Events: []store.NewEvent{event("add"), event("commit")},
		State:    store.Delta{Put: []store.KV{{Key: "k", Value: []byte("v")}}},
		Members:  []store.MemberChange{{Device: phone, User: alice, Join: true}},
		Peers:    []store.PeerChange{{Domain: "b.example", Active: true}},
		Mail:     []store.NewMail{{Device: phone, Kind: 1, Body: []byte("w1")}, {Device: tab, Kind: 2, Room: roomB, Position: 77, Body: []byte("w2")}},
		Requests: []store.NewRequest{{Domain: "c.example", Room: roomA, Kind: 3, Body: []byte("w3")}},
	})
	e.ok(err)
	e.reopen()
	e.eq(len(res.MailIDs), 2)
	mail, err := e.Mail(e.ctx, phone, 0, 0)
	e.ok(err)
	e.eq(mail, []store.Mail{{ID: res.MailIDs[0], Kind: 1, Room: roomA, Position: 2, Body: []byte("w1")}})
	mail, err = e.Mail(e.ctx, tab, 0, 0)
	e.ok(err)
	e.eq(mail, []store.Mail{{ID: res.MailIDs[1], Kind: 2, Room: roomB, Position: 77, Body: []byte("w2")}})
	lag, err := e.Lagging(e.ctx, start)
	e.ok(err)
	e.eq(lag, []string{"b.example", "c.example"})

	// What is refused leaves none of it.
	_, err = e.Append(e.ctx, store.Append{
		Room: roomA, ExpectEpoch: ptr(0), NewEpoch: ptr(2), Events: []store.NewEvent{event("no")},
		State:    store.Delta{Clear: true},
		Members:  []store.MemberChange{{Device: phone, User: alice}},
		Peers:    []store.PeerChange{{Domain: "d.example", Active: true}},
		Mail:     []store.NewMail{{Device: phone, Kind: 1, Body: []byte("no")}},
		Requests: []store.NewRequest{{Domain: "e.example", Body: []byte("no")}},
	})
	e.is(err, store.ErrWrongEpoch)
	lag, err = e.Lagging(e.ctx, start)
	e.ok(err)
	e.eq(lag, []string{"b.example", "c.example"})
	state, info, err := e.RoomState(e.ctx, roomA)
	e.ok(err)
	e.eq(maps.Collect(maps.All(state)), map[string][]byte{"k": []byte("v")})
	e.eq(info.Head, uint64(2))
	mail, err = e.Mail(e.ctx, phone, 0, 0)
	e.ok(err)
	e.eq(len(mail), 1)
	members, err := e.Members(e.ctx, roomA)
	e.ok(err)
	e.eq(len(members), 1)
}

func testInvalid(e *env) {
	e.room(roomA)
	long := strings.Repeat("x", store.MaxName+1)
	huge := make([]byte, store.MaxValue+1)
	for name, a := range map[string]store.Append{
		"no room":        {},
		"long room":      {Room: long},
		"not text":       {Room: "a\xffb"},
		"NUL":            {Room: "a\x00b"},
		"one hash twice": {Room: roomA, Events: []store.NewEvent{event("x"), event("x")}},
		"huge body":      {Room: roomA, Events: []store.NewEvent{{Body: huge}}},
		"huge record":    {Room: roomA, State: store.Delta{Put: []store.KV{{Key: "k", Value: huge}}}},
		"no key":         {Room: roomA, State: store.Delta{Put: []store.KV{{}}}},
		"no deleted key": {Room: roomA, State: store.Delta{Delete: []string{""}}},
		"no device":      {Room: roomA, Members: []store.MemberChange{{User: alice, Join: true}}},
		"no domain":      {Room: roomA, Peers: []store.PeerChange{{Active: true}}},
		"no mailbox":     {Room: roomA, Mail: []store.NewMail{{Body: []byte("x")}}},
		"no peer":        {Room: roomA, Requests: []store.NewRequest{{Body: []byte("x")}}},
		"too many":       {Room: roomA, Events: make([]store.NewEvent, store.MaxItems+1)},
	} {
		if _, err := e.Append(e.ctx, a); !errors.Is(err, store.ErrInvalid) {
			e.Errorf("%s: got error %v, want ErrInvalid", name, err)
		}
	}
	_, err := e.CreateRoom(e.ctx, store.CreateRoom{Room: roomB})
	e.is(err, store.ErrInvalid)
	info, err := e.Room(e.ctx, roomA)
	e.ok(err)
	e.eq(info.Head, uint64(0))
	// The largest body goes.
	_, err = e.Append(e.ctx, store.Append{Room: roomA, Events: []store.NewEvent{{Body: huge[:store.MaxValue]}}})
	e.ok(err)
}

// testContention has many writers on few rooms. Positions have no gaps, every
// event is there once, timestamps strictly increase, and readers see no holes.
func testContention(e *env) {
	const writers, each, rooms = 32, 40, 3
	for r := range rooms {
		e.room(fmt.Sprint("room", r))
	}
	var readers, wg sync.WaitGroup
	stop := make(chan struct{})
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			events, err := e.ReadLog(e.ctx, "room0", 0, 0, 0)
			if err != nil {
				e.Error(err)
				return
			}
			for i, ev := range events {
				if ev.Position != uint64(i+1) {
					e.Errorf("a reader saw position %d at place %d", ev.Position, i+1)
					return
				}
			}
		}
	})
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				room, body := fmt.Sprint("room", (w+i)%rooms), fmt.Sprint(w, " ", i)
				res, err := e.Append(e.ctx, store.Append{Room: room, Events: []store.NewEvent{event(body)}})
				if err != nil {
					e.Error(err)
					return
				}
				// A write that returned is seen.
				found, err := e.FindEvent(e.ctx, room, event(body).Hash)
				if err != nil || found.Position != res.Position || found.Timestamp != res.Timestamp {
					e.Errorf("wrote at %d, found at %d, error %v", res.Position, found.Position, err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	readers.Wait()
	e.reopen()
	seen := map[string]bool{}
	for r := range rooms {
		events, err := e.ReadLog(e.ctx, fmt.Sprint("room", r), 0, 0, 0)
		e.ok(err)
		last := uint64(0)
		for i, ev := range events {
			e.eq(ev.Position, uint64(i+1))
			if ev.Timestamp <= last {
				e.Fatalf("timestamp %d after %d", ev.Timestamp, last)
			}
			last = ev.Timestamp
			if seen[string(ev.Body)] {
				e.Fatalf("event %q is there twice", ev.Body)
			}
			seen[string(ev.Body)] = true
		}
	}
	e.eq(len(seen), writers*each)
}

// testEpochContention has many committers that race for each epoch: one wins.
func testEpochContention(e *env) {
	const committers, epochs = 16, 20
	e.room(roomA)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := map[uint64]int{}
	for c := range committers {
		wg.Go(func() {
			epoch := uint64(0)
			for epoch < epochs {
				next := epoch + 1
				_, err := e.Append(e.ctx, store.Append{Room: roomA, ExpectEpoch: &epoch, NewEpoch: &next,
					Events: []store.NewEvent{event(fmt.Sprint(c, " ", epoch))}})
				var wrong *store.WrongEpochError
				switch {
				case err == nil:
					mu.Lock()
					won[epoch]++
					mu.Unlock()
					epoch = next
				case errors.As(err, &wrong) && wrong.Current > epoch:
					epoch = wrong.Current
				default:
					e.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for i := range uint64(epochs) {
		e.eq(won[i], 1)
	}
	info, err := e.Room(e.ctx, roomA)
	e.ok(err)
	e.eq(info.Epoch, uint64(epochs))
	e.eq(info.Head, uint64(epochs))
}
