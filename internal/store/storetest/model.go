package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/comity-im/comity/internal/store"
)

// Model drives one room with random changes and compares who may read what, and
// who is to receive what, with a plain model: sets of positions.
func Model(t *testing.T, factory Factory) {
	rooms := 0
	clock := &clock{}
	clock.set(start)
	s := factory(t)(t, clock.now)
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	rapid.Check(t, func(t *rapid.T) {
		rooms++
		m := &model{
			ctx: context.Background(), s: s, room: fmt.Sprint("room", rooms), prefix: fmt.Sprint("c", rooms, "."),
			state: map[string]string{}, devices: map[string]*reader{}, domains: map[string]*reader{},
		}
		if _, err := s.CreateRoom(m.ctx, store.CreateRoom{Room: m.room, Hub: "h"}); err != nil {
			t.Fatal(err)
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": m.append,
			"repeat": m.repeat,
			"wrong":  m.wrong,
			"send":   m.send,
			"":       m.check,
		})
	})
}

type model struct {
	ctx    context.Context
	s      store.Store
	room   string
	prefix string // of devices and domains: there is one store for all runs

	events  []store.NewEvent
	epoch   uint64
	state   map[string]string
	devices map[string]*reader
	domains map[string]*reader
}

// reader is a device or a domain: the positions it may read or is to receive.
type reader struct {
	open   bool
	from   uint64 // of the open window
	past   map[uint64]bool
	behind uint64 // domains: what is up to here is received
}

func (r *reader) join(at uint64) {
	if !r.open {
		r.open, r.from = true, at
	}
}

func (r *reader) leave(at uint64) {
	if r.open {
		r.open = false
		r.add(at)
	}
}

// add puts the open window, up to a position, among the past ones.
func (r *reader) add(to uint64) {
	for p := r.from; p <= to; p++ {
		r.past[p] = true
	}
}

// all gives all positions, with those of the open window up to the head.
func (r *reader) all(head uint64) map[uint64]bool {
	set := maps.Clone(r.past)
	if r.open {
		for p := r.from; p <= head; p++ {
			set[p] = true
		}
	}
	return set
}

func (m *model) reader(set map[string]*reader, name string) *reader {
	if set[name] == nil {
		set[name] = &reader{past: map[uint64]bool{}}
	}
	return set[name]
}

func (m *model) append(t *rapid.T) {
	a := store.Append{Room: m.room}
	for range rapid.IntRange(0, 3).Draw(t, "events") {
		e := event(fmt.Sprint(m.room, " event ", len(m.events)+len(a.Events)))
		a.Events = append(a.Events, e)
	}
	head := uint64(len(m.events) + len(a.Events))
	opens := head
	if len(a.Events) == 0 {
		opens++
	}
	if rapid.Bool().Draw(t, "commit") {
		a.ExpectEpoch, a.NewEpoch = ptr(m.epoch), ptr(m.epoch+1)
		m.epoch++
	}
	if rapid.IntRange(0, 9).Draw(t, "clear") == 0 {
		a.State.Clear = true
		clear(m.state)
	}
	key := rapid.SampledFrom([]string{"a", "b", "c"})
	for range rapid.IntRange(0, 2).Draw(t, "deletes") {
		k := key.Draw(t, "delete")
		a.State.Delete = append(a.State.Delete, k)
		delete(m.state, k)
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "puts") {
		k, v := key.Draw(t, "put"), fmt.Sprint(head, " ", i)
		a.State.Put = append(a.State.Put, store.KV{Key: k, Value: []byte(v)})
		m.state[k] = v
	}
	for range rapid.IntRange(0, 3).Draw(t, "members") {
		d := m.prefix + rapid.SampledFrom([]string{"d1", "d2", "d3"}).Draw(t, "device")
		join := rapid.Bool().Draw(t, "join")
		a.Members = append(a.Members, store.MemberChange{Device: d, User: "u", Join: join})
		if join {
			m.reader(m.devices, d).join(opens)
		} else {
			m.reader(m.devices, d).leave(head)
		}
	}
	for range rapid.IntRange(0, 2).Draw(t, "peers") {
		d := m.prefix + rapid.SampledFrom([]string{"p1", "p2"}).Draw(t, "domain")
		active := rapid.Bool().Draw(t, "active")
		a.Peers = append(a.Peers, store.PeerChange{Domain: d, Active: active})
		if active {
			m.reader(m.domains, d).join(opens)
		} else {
			m.reader(m.domains, d).leave(head)
		}
	}
	res, err := m.s.Append(m.ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	if res.Duplicate || res.Position != head {
		t.Fatalf("got %+v, want position %d", res, head)
	}
	m.events = append(m.events, a.Events...)
}

// repeat sends again what is in the log: nothing changes.
func (m *model) repeat(t *rapid.T) {
	if len(m.events) == 0 {
		t.Skip("the log is empty")
	}
	i := rapid.IntRange(0, len(m.events)-1).Draw(t, "event")
	res, err := m.s.Append(m.ctx, store.Append{
		Room: m.room, ExpectEpoch: ptr(m.epoch + 9), Events: []store.NewEvent{{Hash: store.Hash{1}}, m.events[i]},
		State: store.Delta{Clear: true}, Members: []store.MemberChange{{Device: m.prefix + "d1", User: "u", Join: true}},
	})
	if err != nil || !res.Duplicate || res.Position != uint64(i+1) {
		t.Fatalf("got %+v, %v; want a duplicate of %d", res, err, i+1)
	}
}

// wrong expects another epoch: nothing changes.
func (m *model) wrong(t *rapid.T) {
	_, err := m.s.Append(m.ctx, store.Append{
		Room: m.room, ExpectEpoch: ptr(m.epoch + 1), Events: []store.NewEvent{event(m.room + " never")},
		State: store.Delta{Clear: true}, Peers: []store.PeerChange{{Domain: m.prefix + "p1", Active: true}},
	})
	if store.Code(err) != "STORE-WRONG-EPOCH" {
		t.Fatalf("got %v", err)
	}
}

// send delivers some of what a domain is to receive, as an outbox does: in order.
func (m *model) send(t *rapid.T) {
	if len(m.domains) == 0 {
		t.Skip("no one follows")
	}
	domain := rapid.SampledFrom(slices.Sorted(maps.Keys(m.domains))).Draw(t, "domain")
	cursors, err := m.s.PeerCursors(m.ctx, domain, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(cursors) == 0 {
		return
	}
	c := cursors[0]
	upTo := c.After + rapid.Uint64Range(0, c.Through-c.After).Draw(t, "received")
	if err := m.s.AdvancePeer(m.ctx, domain, m.room, upTo); err != nil {
		t.Fatal(err)
	}
	m.domains[domain].behind = max(m.domains[domain].behind, upTo)
}

func (m *model) check(t *rapid.T) {
	state, info, err := m.s.RoomState(m.ctx, m.room)
	if err != nil {
		t.Fatal(err)
	}
	head := uint64(len(m.events))
	if info.Head != head || info.Epoch != m.epoch {
		t.Fatalf("head %d and epoch %d, want %d and %d", info.Head, info.Epoch, head, m.epoch)
	}
	got := map[string]string{}
	for k, v := range state {
		got[k] = string(v)
	}
	same(t, "state", got, m.state)
	log, err := m.s.ReadLog(m.ctx, m.room, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var hashes, want []store.Hash
	for _, e := range log {
		hashes = append(hashes, e.Hash)
	}
	for _, e := range m.events {
		want = append(want, e.Hash)
	}
	same(t, "log", hashes, want)

	open := []string{}
	for device, r := range m.devices {
		windows, err := m.s.Memberships(m.ctx, device)
		if err != nil {
			t.Fatal(err)
		}
		may := map[uint64]bool{}
		for _, w := range windows {
			to := w.To
			if to == 0 {
				to = head
			}
			for p := w.From; p <= to; p++ {
				may[p] = true
			}
		}
		same(t, device+" may read", may, r.all(head))
		if r.open {
			open = append(open, device)
		}
	}
	slices.Sort(open)
	members, err := m.s.Members(m.ctx, m.room)
	if err != nil {
		t.Fatal(err)
	}
	in := []string{}
	for _, w := range members {
		in = append(in, w.Device)
	}
	same(t, "members", in, open)

	open = open[:0]
	for domain, r := range m.domains {
		cursors, err := m.s.PeerCursors(m.ctx, domain, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		owed := map[uint64]bool{}
		for _, c := range cursors {
			for p := c.After + 1; p <= c.Through; p++ {
				owed[p] = true
			}
		}
		due := r.all(head)
		maps.DeleteFunc(due, func(p uint64, _ bool) bool { return p <= r.behind })
		same(t, domain+" is to receive", owed, due)
		if r.open {
			open = append(open, domain)
		}
	}
	slices.Sort(open)
	peers, err := m.s.RoomPeers(m.ctx, m.room)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "peers", peers, open)
}

func same(t *rapid.T, what string, got, want any) {
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}
