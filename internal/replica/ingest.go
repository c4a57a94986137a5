package replica

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/comity-im/comity/internal/journal"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// keyAnchor is the record of the anchor, beside those of room.State: its epoch
// (8 octets) and its confirmation tag.
const keyAnchor = "replica/anchor"

// A part is one FanoutMessage of a notification.
type part struct {
	mimi.RawFanout
	kind  mimi.FanoutKind
	hash  store.Hash
	group []byte
	epoch uint64
}

// split parses a notification, all or nothing.
func split(body []byte) ([]part, error) {
	raws, err := mimi.SplitFanout(body)
	if err != nil {
		return nil, err
	}
	parts := make([]part, len(raws))
	for i := range raws {
		x := &parts[i]
		x.RawFanout = raws[i]
		if x.kind, err = x.Kind(); err != nil {
			return nil, err
		}
		message, err := mls.Marshal(&x.Message)
		if err != nil {
			return nil, err
		}
		x.hash = sha256.Sum256(message)
		x.group, x.epoch, _ = x.Message.Epoch()
	}
	return parts, nil
}

// loaded is a copy in memory. Only the room's owner touches it. It always
// equals what is stored; when that is in doubt it is dropped.
type loaded struct {
	name   string
	uri    mimi.URI
	exists bool        // there is a log
	state  *room.State // nil: there is no copy, or one that nothing could begin; see unanchored
	head   uint64

	anchorEpoch uint64
	anchorTag   []byte
}

// load reads a copy from the store, or returns one without a state.
func (p *Replica) load(ctx context.Context, name string) (*loaded, error) {
	uri, err := mimi.ParseURI(name)
	if err != nil {
		return nil, fmt.Errorf("replica: %w", err)
	}
	r := &loaded{name: name, uri: uri}
	records, info, err := p.cfg.Store.RoomState(ctx, name)
	if errors.Is(err, store.ErrNoRoom) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if info.IsHub {
		return nil, fmt.Errorf("replica: we are the hub of %s", name)
	}
	r.exists, r.head = true, info.Head
	if len(records) == 0 {
		return r, nil
	}
	if r.state, err = room.Load(p.cfg.Room, records); err != nil {
		return nil, fmt.Errorf("replica: %s: %w", name, err)
	}
	anchor := records[keyAnchor]
	if len(anchor) <= 8 {
		return nil, fmt.Errorf("replica: %s: stored anchor of %d octets", name, len(anchor))
	}
	r.anchorEpoch, r.anchorTag = binary.BigEndian.Uint64(anchor), anchor[8:]
	return r, nil
}

func anchorRecord(s *room.State) store.KV {
	return store.KV{Key: keyAnchor, Value: append(binary.BigEndian.AppendUint64(nil, s.Epoch()), s.Group().ConfirmationTag()...)}
}

// ingest stores the parts of a notification in their order. An error leaves
// those before the failing one stored; the hub sends all of them again.
func (p *Replica) ingest(ctx context.Context, r *loaded, parts []part) error {
	if p.outOfTouch(r, parts) {
		fresh, err := p.fresh(ctx, r, parts)
		if err != nil {
			return err
		}
		err = errRefused
		if len(fresh) > 0 {
			err = p.anchor(ctx, r, fresh)
		}
		if errors.Is(err, errRefused) && r.exists {
			return p.unanchored(ctx, r, parts)
		}
		if err != nil {
			return err
		}
	}
	for len(parts) > 0 {
		n := 0
		for n < len(parts) && parts[n].kind == mimi.FanoutApplication {
			n++
		}
		var err error
		switch {
		case n > 0:
			err = p.messages(ctx, r, parts[:n])
		case parts[0].kind == mimi.FanoutWelcome:
			n, err = 1, p.welcome(ctx, r, &parts[0])
		default:
			n, err = 1, p.handshake(ctx, r, &parts[0])
		}
		if err != nil {
			return err
		}
		parts = parts[n:]
	}
	return nil
}

// append writes to the copy's log. The room and the expected head are filled in.
func (p *Replica) append(ctx context.Context, r *loaded, a *store.Append) (store.AppendResult, error) {
	head := r.head
	a.Room, a.ExpectHead = r.name, &head
	res, err := journal.Append(ctx, p.cfg.Store, p.cfg.Notifier, a)
	if err == nil && !res.Duplicate {
		r.head = res.Position
	}
	return res, err
}

func (x *part) event() store.NewEvent {
	return store.NewEvent{Kind: uint8(x.kind), Hash: x.hash, Timestamp: x.Timestamp, Body: x.Raw}
}

// messages stores application messages, together if none is there already.
func (p *Replica) messages(ctx context.Context, r *loaded, parts []part) error {
	a := new(store.Append)
	for i := range parts {
		x := &parts[i]
		if _, _, err := r.state.Apply(room.FanoutEvent(&x.FanoutMessage)); err != nil {
			return unverifiable("message: %w", err)
		}
		if x.epoch > r.state.Epoch() {
			return unverifiable("message of epoch %d in epoch %d", x.epoch, r.state.Epoch())
		}
		a.Events = append(a.Events, x.event())
	}
	res, err := p.appendDistinct(ctx, r, a)
	if err != nil {
		return err
	}
	if res.Duplicate {
		if len(parts) == 1 {
			return nil
		}
		for i := range parts {
			if err := p.messages(ctx, r, parts[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	p.cfg.Metrics.Stored(mimi.FanoutApplication.String(), len(parts))
	return nil
}

// appendDistinct is append for events of which two may be the same; that counts
// as a duplicate.
func (p *Replica) appendDistinct(ctx context.Context, r *loaded, a *store.Append) (store.AppendResult, error) {
	seen := make(map[store.Hash]bool, len(a.Events))
	for i := range a.Events {
		if seen[a.Events[i].Hash] {
			return store.AppendResult{Duplicate: true}, nil
		}
		seen[a.Events[i].Hash] = true
	}
	return p.append(ctx, r, a)
}

// handshake stores proposals or a commit.
func (p *Replica) handshake(ctx context.Context, r *loaded, x *part) error {
	if !bytes.Equal(x.group, r.state.Group().GroupID()) {
		return unverifiable("handshake of another group")
	}
	if have, err := p.have(ctx, r, x); err != nil || have {
		return err
	}
	if x.epoch < r.state.Epoch() {
		return p.early(ctx, r, x)
	}
	if x.kind == mimi.FanoutProposal && r.allPending(x) {
		// Proposals that came with the anchor and now in their place.
		return p.keep(ctx, r, x, nil, nil)
	}
	if len(x.ExternalProposals) > 0 {
		return unverifiable("a commit with external proposals, which no room of this version has")
	}
	next, effects, err := r.state.Apply(room.FanoutEvent(&x.FanoutMessage))
	if err != nil {
		return unverifiable("%v: %w", x.kind, err)
	}
	return p.keep(ctx, r, x, next, effects.Change)
}

// have reports whether an event is in the log.
func (p *Replica) have(ctx context.Context, r *loaded, x *part) (bool, error) {
	_, err := p.cfg.Store.FindEvent(ctx, r.name, x.hash)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// keep appends a handshake. next is the state it leads to, nil if that is the
// present one; change is what it does to the membership, nil if nothing.
func (p *Replica) keep(ctx context.Context, r *loaded, x *part, next *room.State, change *room.Change) error {
	a := &store.Append{Events: []store.NewEvent{x.event()}}
	if next != nil {
		delta, err := next.Records(r.state)
		if err != nil {
			return err
		}
		a.State.Delete = delta.Delete
		for _, kv := range delta.Put {
			a.State.Put = append(a.State.Put, store.KV{Key: kv.Key, Value: kv.Value})
		}
		expect, epoch := r.state.Epoch(), next.Epoch()
		a.ExpectEpoch = &expect
		if epoch != expect {
			a.NewEpoch = &epoch
		}
	}
	if change != nil {
		a.Members = append(p.windows(change.RemovedClients, false), p.windows(change.AddedClients, true)...)
	}
	res, err := p.append(ctx, r, a)
	if err != nil {
		return err
	}
	if res.Duplicate { // written by another process since we looked
		return &store.WrongHeadError{Current: res.Position}
	}
	if next != nil {
		r.state = next
	}
	p.cfg.Metrics.Stored(x.kind.String(), 1)
	return nil
}

// windows returns changes for those of the clients that are ours.
func (p *Replica) windows(clients []room.Client, join bool) []store.MemberChange {
	var changes []store.MemberChange
	for _, c := range clients {
		if c.User.Domain() == p.cfg.Domain {
			changes = append(changes, store.MemberChange{Device: c.Device.String(), User: c.User.String(), Join: join})
		}
	}
	return changes
}

// allPending reports whether all proposals of a part are pending in the state.
func (r *loaded) allPending(x *part) bool {
	pending := make(map[string]bool)
	for _, q := range r.state.Pending() {
		if b, err := mls.Marshal(q.Message); err == nil {
			pending[string(b)] = true
		}
	}
	for _, m := range append([]mls.MLSMessage{x.Message}, x.MoreProposals...) {
		b, err := mls.Marshal(&m)
		if err != nil || !pending[string(b)] {
			return false
		}
	}
	return true
}

// early stores a handshake from before the anchor, which cannot be verified
// here. The commit that leads to the anchor must be the one the anchor knows.
func (p *Replica) early(ctx context.Context, r *loaded, x *part) error {
	if x.epoch >= r.anchorEpoch {
		return unverifiable("%v of epoch %d, which has another one in the log", x.kind, x.epoch)
	}
	a := &store.Append{Events: []store.NewEvent{x.event()}}
	if x.kind == mimi.FanoutCommit && x.epoch+1 == r.anchorEpoch {
		if !bytes.Equal(x.Message.PublicMessage.Auth.ConfirmationTag, r.anchorTag) {
			return unverifiable("the commit into epoch %d is not the one of the GroupInfo", r.anchorEpoch)
		}
		// From here on the copy is complete. Those who came and went before may
		// read up to here.
		members, err := p.cfg.Store.Members(ctx, r.name)
		if err != nil {
			return err
		}
		for _, m := range members {
			device, err := mimi.ParseURI(m.Device)
			if err != nil {
				return err
			}
			if _, ok := r.state.Committed().Device(device); !ok {
				a.Members = append(a.Members, store.MemberChange{Device: m.Device, User: m.User})
			}
		}
	}
	res, err := p.append(ctx, r, a)
	if err == nil && !res.Duplicate {
		p.cfg.Metrics.Stored(x.kind.String(), 1)
	}
	return err
}

// welcome puts a Welcome into the mailboxes of those of our devices that it is
// for. The mailbox knows repetitions.
func (p *Replica) welcome(ctx context.Context, r *loaded, x *part) error {
	a := new(store.Append)
	for i := range x.Message.Welcome.Secrets {
		ref := x.Message.Welcome.Secrets[i].NewMember
		device, _, err := p.claimed(ctx, ref)
		if err != nil {
			return err
		}
		if device == "" {
			continue
		}
		a.Mail = append(a.Mail, store.NewMail{
			Device: device, Kind: uint8(local.MailWelcome), Room: r.name, Position: r.head,
			Hash: journal.WelcomeID(r.name, x.hash), Body: x.Raw, KeyPackageRef: ref,
		})
	}
	if len(a.Mail) == 0 {
		return nil
	}
	_, err := p.append(ctx, r, a)
	return err
}

// claimed returns the device of ours to which a KeyPackage leads; "" if it
// leads nowhere.
func (p *Replica) claimed(ctx context.Context, ref []byte) (device, user string, err error) {
	route, err := p.cfg.Store.Claim(ctx, ref)
	if errors.Is(err, store.ErrNotFound) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	d, err := p.cfg.Store.Device(ctx, route.Target)
	if errors.Is(err, store.ErrNotFound) { // a provider, or a device that is gone
		return "", "", nil
	}
	return d.URI, d.User, err
}
