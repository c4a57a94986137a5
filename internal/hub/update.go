package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/journal"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// update accepts or refuses proposals or a commit and answers the job. The
// error is that of submits.
func (h *Hub) update(ctx context.Context, r *loaded, j *job) error {
	message, err := mls.Marshal(&j.update.Message)
	if err != nil {
		j.answer(nil, fmt.Errorf("hub: update: %w: %w", federation.ErrMalformed, err))
		return nil
	}
	hash := sha256.Sum256(message)
	switch have, err := h.cfg.Store.FindEvent(ctx, r.name, hash); {
	case err == nil && !sameBundle(&have, j.update):
		j.answer(h.refuse(r.uri, j.source, &room.Error{Code: room.CodeInvalidProposal,
			Err: errors.New("the first proposal was accepted before, with others or without")}))
		return nil
	case err == nil:
		j.answer(succeeded(have.Timestamp))
		return nil
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	timestamp, err := h.change(ctx, r, j, hash)
	if federation.Unreached(err) {
		// A provider whose CA is needed is down: that is nobody's fault here.
		j.answer(nil, fmt.Errorf("hub: update: %w: %w", federation.ErrUnavailable, err))
		return nil
	}
	if _, ok := errors.AsType[*room.Error](err); ok {
		j.answer(h.refuse(r.uri, j.source, err))
		return nil
	}
	if err != nil {
		return err
	}
	j.answer(succeeded(timestamp))
	return nil
}

// sameBundle reports whether an event holds the very messages of a request.
func sameBundle(e *store.Event, req *mimi.UpdateRequest) bool {
	var f mimi.FanoutMessage
	if err := mls.Unmarshal(e.Body, &f); err != nil {
		return false
	}
	return slices.EqualFunc(f.MoreProposals, req.MoreProposals, func(a, b mls.MLSMessage) bool {
		x, errX := mls.Marshal(&a)
		y, errY := mls.Marshal(&b)
		return errX == nil && errY == nil && bytes.Equal(x, y)
	})
}

func succeeded(timestamp uint64) ([]byte, error) {
	return mls.Marshal(&mimi.UpdateRoomResponse{Code: mimi.UpdateSuccess, AcceptedTimestamp: timestamp})
}

// refuse answers with the refusal that err is.
func (h *Hub) refuse(roomURI mimi.URI, source room.Source, err error) ([]byte, error) {
	refused, ok := errors.AsType[*room.Error](err)
	if !ok {
		return nil, err
	}
	resp := refusal(refused)
	h.cfg.Metrics.Refused(mimi.EndpointUpdate, resp.Code.String())
	h.cfg.Log.Info("update refused", "room", roomURI, "source", source.Provider, "code", resp.Code, "error", refused.Err)
	return mls.Marshal(resp)
}

func refusal(e *room.Error) *mimi.UpdateRoomResponse {
	resp := &mimi.UpdateRoomResponse{Code: mimi.UpdateNotAllowed, ErrorDescription: e.Err.Error()}
	switch e.Code {
	case room.CodeWrongEpoch:
		resp.Code, resp.CurrentEpoch = mimi.UpdateWrongEpoch, e.Epoch
	case room.CodeInvalidProposal:
		resp.Code, resp.InvalidProposals = mimi.UpdateInvalidProposal, e.Refs
	}
	return resp
}

// change verifies a request, stores what it does and returns when it was
// accepted. Refusals are *room.Error.
func (h *Hub) change(ctx context.Context, r *loaded, j *job, hash store.Hash) (uint64, error) {
	req := j.update
	next, effects, err := r.state.Apply(room.UpdateEvent(j.source, req))
	if err != nil {
		return 0, err
	}
	f := &mimi.FanoutMessage{Timestamp: max(h.nowMilli(), r.lastTimestamp+1), Message: req.Message}
	a := new(store.Append)
	if a.State, err = records(next, r.state); err != nil {
		return 0, err
	}
	if effects.Change == nil {
		f.MoreProposals = req.MoreProposals
		if err := h.log(ctx, r, a, f, hash, mimi.FanoutProposal); err != nil {
			return 0, err
		}
		r.state = next
		r.addPending(f)
		return f.Timestamp, nil
	}
	a.State.Put = append(a.State.Put, store.KV{Key: keyEpochAt, Value: position(r.head + 1)})
	a.NewEpoch = &effects.Epoch
	a.Members = h.memberChanges(effects.Change)
	a.Peers = h.peerChanges(r, next)
	if err := h.welcome(r, next, req, f.Timestamp, a); err != nil {
		return 0, err
	}
	if err := h.log(ctx, r, a, f, hash, mimi.FanoutCommit); err != nil {
		return 0, err
	}
	r.state, r.epochAt, r.pending = next, r.head, nil
	for _, p := range a.Peers {
		if p.Active {
			r.peers[p.Domain] = true
		} else {
			delete(r.peers, p.Domain)
		}
	}
	return f.Timestamp, nil
}

// log appends one handshake event.
func (h *Hub) log(ctx context.Context, r *loaded, a *store.Append, f *mimi.FanoutMessage, hash store.Hash, kind mimi.FanoutKind) error {
	body, err := mls.Marshal(f)
	if err != nil {
		return fmt.Errorf("hub: fan-out of a %v: %w", kind, err)
	}
	if err := deliverable(kind, body); err != nil {
		return err
	}
	a.Events = []store.NewEvent{{Kind: uint8(kind), Hash: hash, Timestamp: f.Timestamp, Body: body}}
	res, err := h.append(ctx, r, a)
	if err != nil {
		return err
	}
	if res.Duplicate {
		// Somebody else stored it after we looked.
		return fmt.Errorf("hub: %s: %w", r.name, &store.WrongHeadError{Current: res.Position})
	}
	h.cfg.Metrics.Accepted(kind.String(), 1)
	return nil
}

// deliverable refuses what is too large for a notification: followers would
// never get beyond it.
func deliverable(kind mimi.FanoutKind, body []byte) error {
	if len(body) <= mimi.MaxNotifyRequest {
		return nil
	}
	return &room.Error{Code: room.CodeNotAllowed, Err: fmt.Errorf("%v of %d octets with what goes with it; the limit is %d", kind, len(body), mimi.MaxNotifyRequest)}
}

// memberChanges returns the windows that a commit closes and opens for devices
// of ours.
func (h *Hub) memberChanges(change *room.Change) []store.MemberChange {
	var changes []store.MemberChange
	add := func(clients []room.Client, join bool) {
		for _, c := range clients {
			if c.User.Domain() == h.cfg.Domain {
				changes = append(changes, store.MemberChange{Device: c.Device.String(), User: c.User.String(), Join: join})
			}
		}
	}
	// A device that is removed and added anew goes on reading.
	add(change.RemovedClients, false)
	add(change.AddedClients, true)
	return changes
}

// peerChanges returns which providers begin and cease to follow the room.
func (h *Hub) peerChanges(r *loaded, next *room.State) []store.PeerChange {
	var changes []store.PeerChange
	now := make(map[string]bool)
	for _, d := range next.Committed().Providers() {
		if d == h.cfg.Domain {
			continue
		}
		now[d] = true
		if !r.peers[d] {
			changes = append(changes, store.PeerChange{Domain: d, Active: true})
		}
	}
	for _, d := range slices.Sorted(maps.Keys(r.peers)) {
		if !now[d] {
			changes = append(changes, store.PeerChange{Domain: d})
		}
	}
	return changes
}

// welcome addresses the Welcome of a commit, which package room has found to be
// for exactly the clients that it adds: to the mailboxes of our devices, and to
// each other provider that has clients among them.
func (h *Hub) welcome(r *loaded, next *room.State, req *mimi.UpdateRequest, timestamp uint64, a *store.Append) error {
	// The tree is as large as the group: it is touched only if somebody needs it.
	if req.RatchetTree.Representation == mimi.TreeFull {
		have, err := mimi.FullTree(next.Group().RatchetTree())
		if err != nil {
			return fmt.Errorf("hub: %w", err)
		}
		if !bytes.Equal(req.RatchetTree.Tree, have.Tree) {
			return &room.Error{Code: room.CodeNotAllowed, Err: errors.New("the ratchet tree is not that of the new epoch")}
		}
	}
	if req.Welcome == nil {
		return nil
	}
	message := mls.WelcomeMessage(req.Welcome)
	encoded, err := mls.Marshal(message)
	if err != nil {
		return fmt.Errorf("hub: Welcome: %w", err)
	}
	id := journal.WelcomeID(r.name, sha256.Sum256(encoded))
	tree, err := mimi.FullTree(next.Group().RatchetTree())
	if err != nil {
		return fmt.Errorf("hub: Welcome: %w", err)
	}
	body, err := mls.Marshal(&mimi.FanoutMessage{Timestamp: timestamp, Message: *message, RatchetTree: tree})
	if err != nil {
		return fmt.Errorf("hub: Welcome: %w", err)
	}
	if err := deliverable(mimi.FanoutWelcome, body); err != nil {
		return err
	}
	domains := make(map[string]bool)
	for _, kp := range addedKeyPackages(req.Message.PublicMessage.Content.Commit, r.state.Pending()) {
		user, device, err := h.cfg.Room.ClientURIs(&kp.LeafNode.Credential)
		if err != nil {
			return fmt.Errorf("hub: Welcome: %w", err)
		}
		if user.Domain() != h.cfg.Domain {
			domains[user.Domain()] = true
			continue
		}
		ref, err := kp.Ref()
		if err != nil {
			return fmt.Errorf("hub: Welcome: %w", err)
		}
		a.Mail = append(a.Mail, store.NewMail{
			Device: device.String(), Kind: uint8(local.MailWelcome), Room: r.name, Position: r.head + 1,
			Hash: id, Body: body, KeyPackageRef: ref,
		})
	}
	for _, d := range slices.Sorted(maps.Keys(domains)) {
		a.Requests = append(a.Requests, store.NewRequest{
			Domain: d, Room: r.name, Kind: federation.RequestWelcome, Hash: id, Body: federation.WelcomeBody(r.head+1, body),
		})
	}
	return nil
}

// addedKeyPackages returns the key packages that a commit adds, by value or by
// reference to a pending proposal.
func addedKeyPackages(c *mls.Commit, pending []mls.QueuedProposal) []*mls.KeyPackage {
	var kps []*mls.KeyPackage
	for i := range c.Proposals {
		p := c.Proposals[i].Proposal
		for j := range pending {
			if p == nil && bytes.Equal(pending[j].Ref, c.Proposals[i].Reference) {
				p = &pending[j].Proposal
			}
		}
		if p != nil && p.Add != nil {
			kps = append(kps, &p.Add.KeyPackage)
		}
	}
	return kps
}
