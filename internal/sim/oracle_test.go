package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// An oracle knows what everyone must see. It follows the log of each hub with
// a room.State of its own, from the records with which the hub began, so it
// knows for each event who was in the room; and it remembers what it has seen
// of all others.
type oracle struct {
	w *world

	mu      sync.Mutex // guards genesis, sent and seen by checks and operations
	genesis map[string]*store.CreateRoom
	sent    map[content.MessageID]*sending

	rooms map[string]*track // only the main goroutine uses it, in checks
}

// A sending is a message that was given to a client.
type sending struct {
	device   *device
	room     mimi.URI
	text     string
	promised bool // Send has returned without an error
}

// A track is one room.
type track struct {
	uri    mimi.URI
	state  *room.State
	joined map[string]uint64 // device → epoch in which its membership began
	// lastOut is the epoch that began without some device of the one before.
	lastOut uint64
	events  []event // of the hub's log; events[i] has position i+1
	hashes  map[store.Hash]int
	// follows lists for each provider the events that belong into its log,
	// as indices of events; checked says how many of them it has.
	follows map[string][]int
	checked map[string]int
	// histories are what devices showed so far, by name.
	histories map[string]*history
	// said are the messages as the devices decrypted them, by index of the
	// event, and back.
	said map[int]*client.Entry
	ids  map[content.MessageID]int
}

// An event is a hub's event and what follows from it.
type event struct {
	store.Event
	kind    mimi.FanoutKind
	epoch   uint64          // of the message
	readers map[string]bool // with an application message: devices that can read it
	// spared are the readers that need not have it: they have entered the room
	// anew since, by an external commit in place of their own leaf, and so given
	// up what they had not read.
	spared map[string]bool
	// refusable: it was encrypted before some device was removed, and may be that
	// device's. refused: it was, as a device that refused it says.
	refusable, refused bool
}

// A history is the messages that a device has, up to entry seq.
type history struct {
	seq  uint64
	at   []int64 // milliseconds: a message's identity in a room
	seen map[content.MessageID]bool
}

func newOracle(w *world) *oracle {
	return &oracle{w: w, genesis: map[string]*store.CreateRoom{}, sent: map[content.MessageID]*sending{}, rooms: map[string]*track{}}
}

// created is told that a hub is about to make a room.
func (o *oracle) created(req *store.CreateRoom) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, again := o.genesis[req.Room]; !again {
		o.genesis[req.Room] = req
	}
}

// composed is told of a message before it is sent.
func (o *oracle) composed(id content.MessageID, s *sending) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent[id] = s
}

// promised is told that Send has returned without an error.
func (o *oracle) promised(id content.MessageID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent[id].promised = true
}

// trusting accepts every credential: who may certify whom is not what is
// tested here, and the parties under test do judge it.
type trusting struct{}

func (trusting) VerifyCredential(*mls.Credential, []byte, time.Time) error { return nil }
func (trusting) VerifySuccessor(_, _ *mls.LeafNode) error                  { return nil }

func roomConfig() room.Config {
	return room.Config{
		ClientURIs: identity.ClientURIs, ProviderDomain: identity.ProviderDomain,
		MLS: mls.Config{Credentials: trusting{}, SkipLifetime: true},
	}
}

func loadRoom(records map[string][]byte) (*room.State, error) {
	return room.Load(roomConfig(), records)
}

// checkInvariants compares what everyone has stored. It is called when nothing
// moves without time passing. What belongs to a provider that is down is left
// for later.
//
//   - A hub's log: positions from 1 without gaps, accepted timestamps that
//     strictly increase, no message twice, every handshake valid for a follower
//     that starts from nothing.
//   - A follower's log: exactly the hub's events from while the provider had
//     clients in the room, from the first on without gaps, in the hub's order,
//     with the hub's bytes and timestamps. Its epoch is never ahead of the hub's.
//   - A device's history: exactly the messages in the part of its provider's log
//     that it has applied and that were encrypted to it, in that order, each
//     once, with the content that was sent. Nothing that did not verify, and no
//     frozen room.
func (o *oracle) checkInvariants() error {
	o.w.mu.Lock()
	faults := slices.Clone(o.w.faults)
	o.w.mu.Unlock()
	if len(faults) > 0 {
		return errors.New(faults[0])
	}
	o.mu.Lock()
	genesis := maps.Clone(o.genesis)
	o.mu.Unlock()
	for _, uri := range slices.Sorted(maps.Keys(genesis)) {
		if err := o.checkRoom(uri, genesis[uri]); err != nil {
			return fmt.Errorf("%s: %w", uri, err)
		}
	}
	return nil
}

func (o *oracle) checkRoom(uri string, genesis *store.CreateRoom) error {
	hub, up := o.w.node(hubOf(uri)).store()
	if up {
		if err := o.checkHub(uri, genesis, hub); errors.Is(err, store.ErrNoRoom) {
			return nil // its creation failed, or is under way
		} else if err != nil {
			return fmt.Errorf("log of the hub: %w", err)
		}
	}
	tr := o.rooms[uri]
	if tr == nil {
		return nil
	}
	for _, n := range o.w.nodes {
		db, nup := n.store()
		if !nup {
			continue
		}
		if n.domain != hubOf(uri) {
			if err := o.checkFollower(tr, n.domain, db, up); err != nil {
				return fmt.Errorf("log of %s: %w", n.domain, err)
			}
		}
		if !up {
			continue
		}
		for _, d := range o.w.devs {
			if d.node == n && d.c != nil {
				if err := o.checkDevice(tr, d); err != nil {
					return fmt.Errorf("device %s: %w", d.name, err)
				}
			}
		}
	}
	return nil
}

func (o *oracle) checkHub(uri string, genesis *store.CreateRoom, db store.Store) error {
	ctx := context.Background()
	info, err := db.Room(ctx, uri)
	if err != nil {
		return err
	}
	tr := o.rooms[uri]
	if tr == nil {
		if tr, err = newTrack(genesis); err != nil {
			return err
		}
		o.rooms[uri] = tr
	}
	events, err := db.ReadLog(ctx, uri, uint64(len(tr.events)), 0, 0)
	if err != nil {
		return err
	}
	for i := range events {
		if err := tr.add(&events[i]); err != nil {
			return fmt.Errorf("position %d: %w", events[i].Position, err)
		}
	}
	switch {
	case info.Head != uint64(len(tr.events)):
		return fmt.Errorf("head %d with %d events", info.Head, len(tr.events))
	case info.Epoch != tr.state.Epoch():
		return fmt.Errorf("epoch %d; the log leads to %d", info.Epoch, tr.state.Epoch())
	}
	return nil
}

func newTrack(genesis *store.CreateRoom) (*track, error) {
	records := map[string][]byte{}
	for _, kv := range genesis.State {
		records[kv.Key] = kv.Value
	}
	state, err := loadRoom(records)
	if err != nil {
		return nil, err
	}
	tr := &track{
		uri: state.Room(), state: state, joined: map[string]uint64{}, hashes: map[store.Hash]int{},
		follows: map[string][]int{}, checked: map[string]int{}, histories: map[string]*history{},
		said: map[int]*client.Entry{}, ids: map[content.MessageID]int{},
	}
	for _, c := range state.Committed().Clients() {
		tr.joined[c.Device.String()] = state.Epoch()
	}
	return tr, nil
}

// add takes the next event of the hub's log.
func (tr *track) add(e *store.Event) error {
	n := len(tr.events)
	var f mimi.FanoutMessage
	if err := mls.Unmarshal(e.Body, &f); err != nil {
		return err
	}
	kind, err := f.Kind()
	if err != nil {
		return err
	}
	message, err := mls.Marshal(&f.Message)
	if err != nil {
		return err
	}
	hash := store.Hash(sha256.Sum256(message))
	before, again := tr.hashes[hash]
	switch {
	case e.Position != uint64(n+1):
		return fmt.Errorf("it follows position %d", n)
	case n > 0 && e.Timestamp <= tr.events[n-1].Timestamp:
		return fmt.Errorf("accepted at %d, the one before at %d", e.Timestamp, tr.events[n-1].Timestamp)
	case f.Timestamp != e.Timestamp:
		return fmt.Errorf("accepted at %d, it says %d", e.Timestamp, f.Timestamp)
	case hash != e.Hash:
		return errors.New("its hash is not that of its message")
	case again:
		return fmt.Errorf("it is at position %d already", before+1)
	}
	next, effects, err := tr.state.Apply(room.FanoutEvent(&f))
	if err != nil {
		return fmt.Errorf("a follower refuses it: %w", err)
	}
	x := event{Event: *e, kind: kind}
	_, x.epoch, _ = f.Message.Epoch()
	if c := effects.Change; c != nil {
		for _, d := range c.RemovedClients {
			delete(tr.joined, d.Device.String())
			tr.lastOut = c.Epoch
			if d.Device == c.Committer.Device {
				tr.spare(d.Device.String())
			}
		}
		for _, d := range c.AddedClients {
			tr.joined[d.Device.String()] = c.Epoch
		}
	}
	if kind == mimi.FanoutApplication {
		x.refusable = x.epoch < tr.lastOut
		x.readers = map[string]bool{}
		for d, since := range tr.joined {
			if since <= x.epoch {
				x.readers[d] = true
			}
		}
	}
	for _, d := range effects.Notify {
		tr.follows[d] = append(tr.follows[d], n)
	}
	if hub := tr.uri.Domain(); !slices.Contains(effects.Notify, hub) {
		tr.follows[hub] = append(tr.follows[hub], n)
	}
	tr.checked[tr.uri.Domain()] = n + 1
	tr.hashes[hash], tr.events, tr.state = n, append(tr.events, x), next
	return nil
}

// spare notes that a device gives up what it has not read.
func (tr *track) spare(device string) {
	for i := range tr.events {
		if x := &tr.events[i]; x.readers[device] {
			if x.spared == nil {
				x.spared = map[string]bool{}
			}
			x.spared[device] = true
		}
	}
}

func (o *oracle) checkFollower(tr *track, domain string, db store.Store, hubUp bool) error {
	ctx := context.Background()
	info, err := db.Room(ctx, tr.uri.String())
	if errors.Is(err, store.ErrNoRoom) {
		if tr.checked[domain] > 0 {
			return errors.New("it is gone")
		}
		return nil
	}
	if err != nil {
		return err
	}
	if hubUp && info.Epoch > tr.state.Epoch() {
		return fmt.Errorf("epoch %d, the hub is in %d", info.Epoch, tr.state.Epoch())
	}
	have := tr.checked[domain]
	events, err := db.ReadLog(ctx, tr.uri.String(), uint64(have), 0, 0)
	if err != nil {
		return err
	}
	if err := tr.compare(domain, have, events, hubUp); err != nil {
		return err
	}
	if hubUp && info.Head != uint64(tr.checked[domain]) {
		return fmt.Errorf("head %d with %d events", info.Head, tr.checked[domain])
	}
	return nil
}

// compare compares events of a provider's log, those after the first have ones,
// with what belongs there.
func (tr *track) compare(domain string, have int, events []store.Event, hubUp bool) error {
	for i := range events {
		e := &events[i]
		if e.Position != uint64(have+1) {
			return fmt.Errorf("position %d follows %d", e.Position, have)
		}
		if have >= len(tr.follows[domain]) {
			if !hubUp {
				return nil // the hub accepted more before it went down: later
			}
			if n, known := tr.hashes[e.Hash]; known {
				return fmt.Errorf("position %d: event %d of the hub a second time, or out of turn", e.Position, n+1)
			}
			return fmt.Errorf("position %d: an event that the hub does not have", e.Position)
		}
		want := &tr.events[tr.follows[domain][have]]
		switch {
		case !bytes.Equal(e.Body, want.Body):
			if n := slices.IndexFunc(tr.events, func(x event) bool { return bytes.Equal(x.Body, e.Body) }); n >= 0 {
				return fmt.Errorf("position %d: event %d of the hub, where %d belongs", e.Position, n+1, want.Position)
			}
			return fmt.Errorf("position %d: not the bytes of event %d of the hub", e.Position, want.Position)
		case e.Hash != want.Hash || e.Timestamp != want.Timestamp || e.Kind != want.Kind:
			return fmt.Errorf("position %d: hash, timestamp or kind are not those of event %d of the hub", e.Position, want.Position)
		}
		have++
		tr.checked[domain] = max(tr.checked[domain], have)
	}
	return nil
}

func (o *oracle) checkDevice(tr *track, d *device) error {
	ctx := context.Background()
	r, err := d.c.Room(tr.uri)
	if errors.Is(err, client.ErrNoRoom) {
		return nil
	}
	if err != nil {
		return err
	}
	if r.Status == client.RoomFrozen {
		return fmt.Errorf("frozen: %v", r.Frozen)
	}
	log := tr.follows[d.node.domain]
	if int(r.Position) > tr.checked[d.node.domain] {
		return fmt.Errorf("it has applied position %d of %d", r.Position, tr.checked[d.node.domain])
	}
	h := tr.histories[d.name]
	if h == nil || r.LastSeq < h.seq { // a crash may undo the last entries
		h = &history{seen: map[content.MessageID]bool{}}
		tr.histories[d.name] = h
	}
	for h.seq < r.LastSeq {
		entries, err := d.c.History(ctx, tr.uri, h.seq, 500)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return fmt.Errorf("no entry after %d of %d", h.seq, r.LastSeq)
		}
		for i := range entries {
			if err := o.checkEntry(tr, d, h, &entries[i]); err != nil {
				return fmt.Errorf("entry %d: %w", entries[i].Seq, err)
			}
		}
	}
	i := 0
	for _, n := range log[:r.Position] {
		x := &tr.events[n]
		if x.kind != mimi.FanoutApplication {
			continue
		}
		have := i < len(h.at) && h.at[i] == int64(x.Timestamp)
		switch reader := x.readers[d.uri.String()]; {
		case have && x.refused:
			return fmt.Errorf("it took the message at position %d of the hub, which another device refused", n+1)
		case have && !reader && tr.said[n].Device != d.uri:
			// Its own it knows anyway, also from an earlier membership.
			return fmt.Errorf("the message at position %d of the hub was not for it", n+1)
		case !have && reader && !x.refused && !x.spared[d.uri.String()]:
			return fmt.Errorf("the message at position %d of the hub is missing; it has applied %d of its provider, and has %d messages",
				n+1, r.Position, len(h.at))
		}
		if have {
			i++
		}
	}
	if i < len(h.at) {
		return fmt.Errorf("%d of its %d messages are out of order, or not in what it has applied", len(h.at)-i, len(h.at))
	}
	return nil
}

func (o *oracle) checkEntry(tr *track, d *device, h *history, e *client.Entry) error {
	if e.Seq != h.seq+1 {
		return fmt.Errorf("it follows %d", h.seq)
	}
	h.seq = e.Seq
	if e.Kind == client.EntryChange {
		return nil
	}
	ms := e.Time.UnixMilli()
	n, found := slices.BinarySearchFunc(tr.events, uint64(ms), func(x event, t uint64) int {
		if x.Timestamp < t {
			return -1
		} else if x.Timestamp > t {
			return 1
		}
		return 0
	})
	if e.Kind == client.EntryProblem {
		// A hub can't tell which of a user's devices sent a message. One that was
		// on its way while its device was removed is refused, by all.
		if !found || e.Problem.Code != client.ProblemSender || !tr.events[n].refusable {
			return e.Problem
		}
		tr.events[n].refused = true
		return nil
	}
	if !found {
		return fmt.Errorf("a message of %v, when the hub accepted nothing", e.Time)
	}
	if h.seen[e.ID] {
		return fmt.Errorf("message %v a second time", e.ID)
	}
	h.seen[e.ID] = true
	h.at = append(h.at, ms)
	if other, again := tr.ids[e.ID]; again && other != n {
		return fmt.Errorf("message %v is at positions %d and %d of the hub", e.ID, other+1, n+1)
	}
	tr.ids[e.ID] = n
	if first := tr.said[n]; first == nil {
		tr.said[n] = e
	} else if first.ID != e.ID || first.User != e.User || first.Device != e.Device || !bytes.Equal(first.Content, e.Content) {
		return fmt.Errorf("position %d of the hub is %v of %v; another device has %v of %v", n+1, e.ID, e.Device, first.ID, first.Device)
	}
	o.mu.Lock()
	s := o.sent[e.ID]
	o.mu.Unlock()
	switch {
	case s == nil:
		return fmt.Errorf("message %v, which nobody sent", e.ID)
	case s.device.uri != e.Device || s.room != tr.uri || s.text != e.Text():
		return fmt.Errorf("message %v of %v says %q; %s sent %q to %v", e.ID, e.Device, e.Text(), s.device.name, s.text, s.room)
	}
	return nil
}

// dump describes the rooms for the report of a failure.
func (o *oracle) dump() string {
	var b strings.Builder
	for _, uri := range slices.Sorted(maps.Keys(o.rooms)) {
		tr := o.rooms[uri]
		fmt.Fprintf(&b, "%s: epoch %d, %d proposals, clients", uri, tr.state.Epoch(), len(tr.state.Pending()))
		for _, c := range tr.state.Committed().Clients() {
			fmt.Fprintf(&b, " %s (since %d)", c.Device.Name(), tr.joined[c.Device.String()])
		}
		b.WriteString("\n")
		for i := range tr.events {
			e := &tr.events[i]
			fmt.Fprintf(&b, "  %3d %10.3fs %-11v in %d, for", e.Position, time.UnixMilli(int64(e.Timestamp)).Sub(epoch).Seconds(), e.kind, e.epoch)
			for _, d := range domains {
				if n := slices.Index(tr.follows[d], i); n >= 0 {
					fmt.Fprintf(&b, " %s %d", d, n+1)
					if n >= tr.checked[d] {
						b.WriteString(" (not there)")
					}
				}
			}
			if said := tr.said[i]; said != nil {
				fmt.Fprintf(&b, ": %q", said.Text())
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// mailboxes describes what providers keep for devices.
func (o *oracle) mailboxes() string {
	var b strings.Builder
	for _, d := range o.w.devs {
		db, up := d.node.store()
		if !up {
			continue
		}
		mail, err := db.Mail(context.Background(), d.uri.String(), 0, 100)
		for _, m := range mail {
			fmt.Fprintf(&b, "  mail %d for %s: kind %d, room %s, position %d\n", m.ID, d.name, m.Kind, m.Room, m.Position)
		}
		if err != nil {
			fmt.Fprintf(&b, "  mail for %s: %v\n", d.name, err)
		}
	}
	return b.String()
}

// settled reports what is still under way, once the network has healed; nil if
// everything has come to rest.
func (o *oracle) settled() error {
	for _, uri := range slices.Sorted(maps.Keys(o.rooms)) {
		if err := o.roomSettled(o.rooms[uri]); err != nil {
			return fmt.Errorf("%s: %w", uri, err)
		}
	}
	return nil
}

func (o *oracle) roomSettled(tr *track) error {
	for domain, log := range tr.follows {
		if tr.checked[domain] != len(log) {
			return fmt.Errorf("%s has %d events of %d", domain, tr.checked[domain], len(log))
		}
	}
	view := tr.state.Committed()
	if n := len(tr.state.Pending()); n > 0 && len(remaining(tr.state)) > 0 {
		return fmt.Errorf("%d proposals wait for a commit", n)
	}
	for _, d := range o.w.devs {
		r, err := d.c.Room(tr.uri)
		_, member := view.Device(d.uri)
		switch {
		case errors.Is(err, client.ErrNoRoom):
			if member {
				return fmt.Errorf("%s is a member and does not know it", d.name)
			}
			continue
		case err != nil:
			return err
		case !member && r.Status != client.RoomLeft:
			return fmt.Errorf("%s is not a member, but %v", d.name, r.Status)
		case !member:
			continue
		case r.Status != client.RoomActive && r.Status != client.RoomLeaving:
			return fmt.Errorf("%s is a member, but %v", d.name, r.Status)
		case int(r.Position) != len(tr.follows[d.node.domain]):
			return fmt.Errorf("%s has applied %d events of %d", d.name, r.Position, len(tr.follows[d.node.domain]))
		case r.Epoch != tr.state.Epoch():
			return fmt.Errorf("%s is in epoch %d, the hub in %d", d.name, r.Epoch, tr.state.Epoch())
		case r.Unposted > 0 && r.Status == client.RoomActive && len(tr.state.Pending()) == 0:
			// (Nothing is sent while proposals are pending, even if nobody is left to
			// commit them.)
			return fmt.Errorf("%s has %d messages that are not posted", d.name, r.Unposted)
		}
	}
	return nil
}

// remaining returns the clients that would still be there after the pending
// proposals: those who can commit them.
func remaining(s *room.State) []room.Client {
	leaving := map[mimi.URI]bool{}
	for _, q := range s.Pending() {
		if q.Sender.Type == mls.SenderMember && q.Proposal.Type == mls.ProposalSelfRemove {
			if c, ok := s.Committed().Client(q.Sender.Leaf); ok {
				leaving[c.User] = true
			}
		}
	}
	return slices.DeleteFunc(s.Committed().Clients(), func(c room.Client) bool { return leaving[c.User] })
}

// checkAgreement is the final check, when everything has come to rest: all
// logs are read once more from their beginnings, all copies of a room's state
// are the same to the last byte, and every message that was promised was
// posted, or its sender was told that it was not.
func (o *oracle) checkAgreement() error {
	ctx := context.Background()
	for _, uri := range slices.Sorted(maps.Keys(o.rooms)) {
		tr := o.rooms[uri]
		want := tr.state.Group()
		providers := tr.state.Committed().Providers()
		for _, n := range o.w.nodes {
			db, _ := n.store()
			if len(tr.follows[n.domain]) == 0 && n.domain != tr.uri.Domain() {
				continue
			}
			events, err := db.ReadLog(ctx, uri, 0, 0, 0)
			if err == nil {
				err = tr.compare(n.domain, 0, events, true)
			}
			if err == nil && len(events) != len(tr.follows[n.domain]) {
				err = fmt.Errorf("%d events of %d", len(events), len(tr.follows[n.domain]))
			}
			if err != nil {
				return fmt.Errorf("%s: log of %s, read again: %w", uri, n.domain, err)
			}
			if !slices.Contains(providers, n.domain) && n.domain != tr.uri.Domain() {
				continue
			}
			records, info, err := db.RoomState(ctx, uri)
			if err != nil {
				return err
			}
			state, err := loadRoom(records)
			if err != nil {
				return fmt.Errorf("%s: state of %s: %w", uri, n.domain, err)
			}
			if info.Epoch != want.Epoch() || len(state.Pending()) != len(tr.state.Pending()) {
				return fmt.Errorf("%s: %s is in epoch %d with %d proposals; the hub in %d with %d", uri, n.domain,
					info.Epoch, len(state.Pending()), want.Epoch(), len(tr.state.Pending()))
			}
			if err := sameGroup(state.Group(), want); err != nil {
				return fmt.Errorf("%s: state of %s: %w", uri, n.domain, err)
			}
		}
		for _, d := range o.w.devs {
			if _, member := tr.state.Committed().Device(d.uri); !member {
				continue
			}
			g, err := d.group(tr.uri)
			if err != nil {
				return fmt.Errorf("%s: group of %s: %w", uri, d.name, err)
			}
			if err := sameGroup(g.State(), want); err != nil {
				return fmt.Errorf("%s: group of %s: %w", uri, d.name, err)
			}
			view, err := d.c.View(ctx, tr.uri)
			if err != nil {
				return err
			}
			if a, b := view.Policy().Participants, tr.state.Committed().Policy().Participants; !slices.Equal(a, b) {
				return fmt.Errorf("%s: %s has participants %v; the hub has %v", uri, d.name, a, b)
			}
		}
	}
	for id, s := range o.sent {
		if !s.promised {
			continue
		}
		tr := o.rooms[s.room.String()]
		if tr == nil {
			return fmt.Errorf("message %v of %s was promised for %v, which does not exist", id, s.device.name, s.room)
		}
		_, posted := tr.ids[id]
		unposted, err := s.device.c.Unposted(ctx, s.room)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(unposted, func(x client.Outgoing) bool { return x.ID == id })
		switch {
		case posted && i >= 0:
			return fmt.Errorf("message %v of %s is posted, and %v at its sender (%s)", id, s.device.name, unposted[i].Status, unposted[i].Reason)
		case posted:
		case i < 0:
			return fmt.Errorf("message %v (%q) of %s in %v is lost", id, s.text, s.device.name, s.room)
		case unposted[i].Status != client.OutgoingRejected:
			if len(tr.state.Pending()) == 0 {
				return fmt.Errorf("message %v of %s is %v for ever", id, s.device.name, unposted[i].Status)
			}
		default:
			o.w.trace("message %v of %s in %v was rejected: %s", id, s.device.name, s.room, unposted[i].Reason)
		}
	}
	return nil
}

// sameGroup compares two views of an epoch: everything that is public of an
// epoch is in its GroupContext and its confirmation tag.
func sameGroup(a, b *mls.State) error {
	have, err := mls.Marshal(a.GroupContext())
	if err != nil {
		return err
	}
	want, err := mls.Marshal(b.GroupContext())
	if err != nil {
		return err
	}
	switch {
	case !bytes.Equal(have, want):
		return fmt.Errorf("its GroupContext of epoch %d is not the hub's of epoch %d", a.Epoch(), b.Epoch())
	case !bytes.Equal(a.ConfirmationTag(), b.ConfirmationTag()):
		return fmt.Errorf("its confirmation tag of epoch %d is not the hub's", a.Epoch())
	}
	return nil
}

// group loads a device's group from what the device has stored.
func (d *device) group(uri mimi.URI) (*mls.Group, error) {
	ctx := context.Background()
	raw, err := d.store.Get(ctx, "device", "identity")
	if err != nil {
		return nil, err
	}
	var id struct {
		Suite   mls.CipherSuite `json:"suite"`
		Private []byte          `json:"private"`
	}
	if err := json.Unmarshal(raw, &id); err != nil {
		return nil, err
	}
	signer, err := mls.NewSigner(id.Suite, id.Private)
	if err != nil {
		return nil, err
	}
	rows, err := d.store.Bucket(ctx, "group "+uri.String())
	if err != nil {
		return nil, err
	}
	return mls.LoadGroup(mls.Config{Credentials: trusting{}, Components: room.Components(), SkipLifetime: true}, rows, signer)
}
