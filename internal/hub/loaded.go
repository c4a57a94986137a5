package hub

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/comity-im/comity/internal/journal"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// State records of the hub itself, beside those of room.State.
const (
	keyEpochAt = "hub/epoch"   // position of the commit that began the epoch, 8 octets
	keyCreated = "hub/created" // SHA-256 of the request that made the room
)

// loaded is a room in memory. Only the room's owner touches it. It always
// equals what is stored; when that is in doubt it is dropped.
type loaded struct {
	name  string
	uri   mimi.URI
	state *room.State

	head          uint64
	lastTimestamp uint64
	epochAt       uint64                 // position of the commit that began the epoch
	pending       []mimi.PendingProposal // accepted in this epoch
	peers         map[string]bool        // followers
}

// load reads a room from the store.
func (h *Hub) load(ctx context.Context, name string) (*loaded, error) {
	records, info, err := h.cfg.Store.RoomState(ctx, name)
	if err != nil {
		return nil, err
	}
	if !info.IsHub {
		return nil, fmt.Errorf("hub: %s has another hub, %s: %w", name, info.Hub, store.ErrNoRoom)
	}
	r := &loaded{name: name, head: info.Head, lastTimestamp: info.LastTimestamp, peers: make(map[string]bool)}
	if r.uri, err = mimi.ParseURI(name); err != nil {
		return nil, fmt.Errorf("hub: %s: %w", name, err)
	}
	if r.state, err = room.Load(h.cfg.Room, records); err != nil {
		return nil, fmt.Errorf("hub: %s: %w", name, err)
	}
	if r.epochAt, err = parsePosition(records[keyEpochAt]); err != nil {
		return nil, fmt.Errorf("hub: %s: %w", name, err)
	}
	if err := h.loadPending(ctx, r); err != nil {
		return nil, err
	}
	domains, err := h.cfg.Store.RoomPeers(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, d := range domains {
		r.peers[d] = true
	}
	return r, nil
}

// loadPending finds the proposals of this epoch in the log, with the time at
// which they were accepted.
func (h *Hub) loadPending(ctx context.Context, r *loaded) error {
	after := r.epochAt
	for after < r.head {
		events, err := h.cfg.Store.ReadLog(ctx, r.name, after, 256, 1<<20)
		if err != nil {
			return err
		}
		if len(events) == 0 {
			return nil
		}
		for i := range events {
			after = events[i].Position
			if events[i].Kind != uint8(mimi.FanoutProposal) {
				continue
			}
			var f mimi.FanoutMessage
			if err := mls.Unmarshal(events[i].Body, &f); err != nil {
				return fmt.Errorf("hub: %s: event %d: %w", r.name, after, err)
			}
			r.addPending(&f)
		}
	}
	return nil
}

func (r *loaded) addPending(f *mimi.FanoutMessage) {
	r.pending = append(r.pending, mimi.PendingProposal{Proposal: f.Message, AcceptedTime: f.Timestamp})
	for i := range f.MoreProposals {
		r.pending = append(r.pending, mimi.PendingProposal{Proposal: f.MoreProposals[i], AcceptedTime: f.Timestamp})
	}
}

// append writes to the room's log and spreads the word. The request's room and
// expectations are filled in. With an error or a duplicate nothing has changed
// in memory.
func (h *Hub) append(ctx context.Context, r *loaded, req *store.Append) (store.AppendResult, error) {
	req.Room = r.name
	head, epoch := r.head, r.state.Epoch()
	req.ExpectHead, req.ExpectEpoch = &head, &epoch
	res, err := journal.Append(ctx, h.cfg.Store, h.cfg.Notifier, req)
	if err != nil || res.Duplicate {
		return res, err
	}
	r.head = res.Position
	r.lastTimestamp = max(r.lastTimestamp, res.Timestamp)
	wake := slices.Collect(maps.Keys(r.peers))
	for _, p := range req.Peers {
		if p.Active {
			wake = append(wake, p.Domain)
		}
	}
	if len(wake) > 0 {
		h.cfg.Outbox.Wake(r.name, wake...)
	}
	return res, nil
}
