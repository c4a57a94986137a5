package hub

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// Create makes a room of which we are the hub, for a device of ours. body is a
// local.CreateRoomRequest. The group must be in epoch 0 with the device as its
// only member. The same request again is answered like the first; another one
// for a room that exists gets store.ErrExists. A request that makes no valid
// room is ErrMalformed, one for a room that is not the device's to make is
// ErrForbidden.
func (h *Hub) Create(ctx context.Context, user, device mimi.URI, body []byte) (mimi.URI, error) {
	req := new(local.CreateRoomRequest)
	if err := mls.Unmarshal(body, req); err != nil {
		return mimi.URI{}, fmt.Errorf("hub: create: %w: %w", federation.ErrMalformed, err)
	}
	tree, err := req.RatchetTree.Nodes()
	if err != nil {
		return mimi.URI{}, fmt.Errorf("hub: create: %w: %w", federation.ErrMalformed, err)
	}
	state, err := room.New(h.cfg.Room, &req.GroupInfo, tree)
	if err != nil {
		return mimi.URI{}, fmt.Errorf("hub: create: %w: %w", federation.ErrMalformed, err)
	}
	uri := state.Room()
	if err := h.ownRoom(state, user, device); err != nil {
		return mimi.URI{}, err
	}
	delta, err := records(state, nil)
	if err != nil {
		return mimi.URI{}, err
	}
	sum := sha256.Sum256(body)
	put := append(delta.Put,
		store.KV{Key: keyEpochAt, Value: position(0)},
		store.KV{Key: keyCreated, Value: sum[:]})
	_, err = h.cfg.Store.CreateRoom(ctx, store.CreateRoom{
		Room: uri.String(), Hub: h.cfg.Domain, IsHub: true, Epoch: state.Epoch(), State: put,
		Members: []store.MemberChange{{Device: device.String(), User: user.String(), Join: true}},
	})
	if errors.Is(err, store.ErrExists) {
		have, _, serr := h.cfg.Store.RoomState(ctx, uri.String())
		if serr != nil {
			return mimi.URI{}, h.failure(serr)
		}
		if string(have[keyCreated]) == string(sum[:]) {
			return uri, nil
		}
		return mimi.URI{}, fmt.Errorf("hub: create: %w", err)
	}
	if err != nil {
		return mimi.URI{}, h.failure(err)
	}
	h.cfg.Notifier.MembersChanged(uri.String(), []string{device.String()})
	return uri, nil
}

// ownRoom checks that a new room is ours and the device's.
func (h *Hub) ownRoom(state *room.State, user, device mimi.URI) error {
	uri := state.Room()
	if !uri.Is(mimi.KindRoom) || uri.Domain() != h.cfg.Domain {
		return fmt.Errorf("hub: create: %w: %s is not in %s", federation.ErrForbidden, uri, h.cfg.Domain)
	}
	sender, _, err := h.cfg.Sender(state.Group().CipherSuite())
	if err != nil {
		return fmt.Errorf("hub: create: %w: %w", federation.ErrMalformed, err)
	}
	if err := state.CheckNew(uri, sender, user); err != nil {
		return fmt.Errorf("hub: create: %w: %w", federation.ErrMalformed, err)
	}
	if c, ok := state.Committed().Device(device); !ok || c.User != user {
		return fmt.Errorf("hub: create: %w: the group must have its creator's device as the only member", federation.ErrForbidden)
	}
	return nil
}

// records returns what to store to go from since to next.
func records(next, since *room.State) (store.Delta, error) {
	r, err := next.Records(since)
	if err != nil {
		return store.Delta{}, fmt.Errorf("hub: %w", err)
	}
	d := store.Delta{Delete: r.Delete}
	for _, p := range r.Put {
		d.Put = append(d.Put, store.KV{Key: p.Key, Value: p.Value})
	}
	return d, nil
}

func position(p uint64) []byte { return binary.BigEndian.AppendUint64(nil, p) }

func parsePosition(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("stored position of %d octets", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}
