package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/journal"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// outOfTouch reports whether the copy cannot follow: there is none, or it was
// without clients of ours while the room went on.
func (p *Replica) outOfTouch(r *loaded, parts []part) bool {
	if r.state == nil {
		return true
	}
	if slices.Contains(r.state.Committed().Providers(), p.cfg.Domain) {
		return false
	}
	// Also in the epoch in which ours went: what was proposed since did not come
	// here, and the commit that brings ours back may refer to it.
	return slices.ContainsFunc(parts, func(x part) bool {
		return x.kind != mimi.FanoutWelcome && x.epoch >= r.state.Epoch()
	})
}

// A concern is why a notification of an unknown room is for us.
type concern struct {
	suite   mls.CipherSuite // of the room; 0: not known
	devices map[string]string
}

// concernOf looks for devices of ours in a notification.
func (p *Replica) concernOf(ctx context.Context, parts []part) (*concern, error) {
	c := &concern{devices: make(map[string]string)}
	for i := range parts {
		x := &parts[i]
		switch x.kind {
		case mimi.FanoutWelcome:
			w := x.Message.Welcome
			for j := range w.Secrets {
				device, user, err := p.claimed(ctx, w.Secrets[j].NewMember)
				if err != nil {
					return nil, err
				}
				if device != "" {
					c.devices[device] = user
					c.suite = w.CipherSuite
				}
			}
		case mimi.FanoutCommit:
			commit := x.Message.PublicMessage.Content.Commit
			if x.Message.PublicMessage.Content.Sender.Type == mls.SenderNewMemberCommit && commit.Path != nil {
				if err := p.concernLeaf(ctx, c, &commit.Path.LeafNode); err != nil {
					return nil, err
				}
			}
			for j := range commit.Proposals {
				prop := commit.Proposals[j].Proposal
				if prop == nil || prop.Add == nil {
					continue
				}
				if err := p.concernLeaf(ctx, c, &prop.Add.KeyPackage.LeafNode); err != nil {
					return nil, err
				}
				c.suite = prop.Add.KeyPackage.CipherSuite
			}
		}
	}
	return c, nil
}

// concernLeaf notes the device of a leaf if it is ours. The leaf is verified
// later; this only decides whether to look further.
func (p *Replica) concernLeaf(ctx context.Context, c *concern, leaf *mls.LeafNode) error {
	user, device, err := p.cfg.Room.ClientURIs(&leaf.Credential)
	if err != nil || user.Domain() != p.cfg.Domain {
		return nil
	}
	d, err := p.cfg.Store.Device(ctx, device.String())
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	c.devices[d.URI] = d.User
	return nil
}

// anchor begins the copy, or begins it anew, in the hub's present epoch.
func (p *Replica) anchor(ctx context.Context, r *loaded, parts []part) error {
	c, err := p.concernOf(ctx, parts)
	if err != nil {
		return err
	}
	open, err := p.open(ctx, r)
	if err != nil {
		return err
	}
	if len(c.devices) == 0 && len(open) == 0 {
		return fmt.Errorf("replica: %s is not known and the notification is about no device of ours: %w", r.name, federation.ErrNotFound)
	}
	state, err := p.fetch(ctx, r.uri, c.suite)
	if errors.Is(err, errRefused) {
		if uerr := p.await(ctx, r, c); uerr != nil {
			return uerr
		}
		return err
	}
	if err != nil {
		return err
	}
	full, err := state.Records(nil)
	if err != nil {
		return err
	}
	put := []store.KV{anchorRecord(state)}
	for _, kv := range full.Put {
		put = append(put, store.KV{Key: kv.Key, Value: kv.Value})
	}
	members := p.windows(state.Committed().Clients(), true)
	for device, user := range c.devices {
		// Those who are gone again by the anchor read up to it; see early.
		if !slices.ContainsFunc(members, func(m store.MemberChange) bool { return m.Device == device }) {
			members = append(members, store.MemberChange{Device: device, User: user, Join: true})
		}
	}
	slices.SortFunc(members, func(a, b store.MemberChange) int { return bytes.Compare([]byte(a.Device), []byte(b.Device)) })
	if !r.exists {
		err = p.create(ctx, r, state.Epoch(), put, members)
	} else {
		epoch := state.Epoch()
		_, err = p.append(ctx, r, &store.Append{State: store.Delta{Clear: true, Put: put}, NewEpoch: &epoch, Members: members})
	}
	if err != nil {
		return err
	}
	r.state, r.anchorEpoch, r.anchorTag = state, state.Epoch(), state.Group().ConfirmationTag()
	p.cfg.Log.Info("following a room", "room", r.name, "epoch", state.Epoch(), "clients", state.Committed().NumClients())
	return nil
}

// create makes the room in the store.
func (p *Replica) create(ctx context.Context, r *loaded, epoch uint64, state []store.KV, members []store.MemberChange) error {
	_, err := p.cfg.Store.CreateRoom(ctx, store.CreateRoom{
		Room: r.name, Hub: r.uri.Domain(), Epoch: epoch, State: state, Members: members,
	})
	if errors.Is(err, store.ErrExists) { // another process was first
		return &store.WrongHeadError{}
	}
	if err != nil {
		return err
	}
	r.exists = true
	journal.Tell(p.cfg.Notifier, r.name, nil, members, nil)
	return nil
}

// open returns the open windows of our devices.
func (p *Replica) open(ctx context.Context, r *loaded) ([]store.Membership, error) {
	if !r.exists {
		return nil, nil
	}
	return p.cfg.Store.Members(ctx, r.name)
}

// fresh returns the parts that are not in the log. Welcomes are not, and do
// not count by themselves.
func (p *Replica) fresh(ctx context.Context, r *loaded, parts []part) ([]part, error) {
	if !r.exists {
		return parts, nil
	}
	var fresh []part
	events := false
	for i := range parts {
		known := false
		if parts[i].kind != mimi.FanoutWelcome {
			var err error
			if known, err = p.have(ctx, r, &parts[i]); err != nil {
				return nil, err
			}
			events = events || !known
		}
		if !known {
			fresh = append(fresh, parts[i])
		}
	}
	if !events {
		return nil, nil
	}
	return fresh, nil
}

// await prepares for events of a room that the hub does not show us any more:
// our clients came in and were gone again before we could begin to follow. The
// windows of the devices concerned are opened, so that they learn of both.
func (p *Replica) await(ctx context.Context, r *loaded, c *concern) error {
	var members []store.MemberChange
	for _, device := range slices.Sorted(maps.Keys(c.devices)) {
		members = append(members, store.MemberChange{Device: device, User: c.devices[device], Join: true})
	}
	p.cfg.Log.Info("events of a room that its hub does not show us any more", "room", r.name, "devices", len(members))
	switch {
	case !r.exists:
		return p.create(ctx, r, 0, nil, members)
	case len(members) > 0:
		_, err := p.append(ctx, r, &store.Append{Members: members})
		return err
	}
	return nil
}

// unanchored stores events without a state to verify them by, as early does:
// the devices that read them verify them.
func (p *Replica) unanchored(ctx context.Context, r *loaded, parts []part) error {
	for i := range parts {
		x := &parts[i]
		if x.kind == mimi.FanoutWelcome {
			if err := p.welcome(ctx, r, x); err != nil {
				return err
			}
			continue
		}
		res, err := p.append(ctx, r, &store.Append{Events: []store.NewEvent{x.event()}})
		if err != nil {
			return err
		}
		if !res.Duplicate {
			p.cfg.Metrics.Stored(x.kind.String(), 1)
		}
	}
	return nil
}

// errRefused: the hub does not give us the GroupInfo of a room, because we have
// no participant in it.
var errRefused = errors.New("the hub does not show us the room")

// fetch asks the hub for the GroupInfo of a room and verifies it.
func (p *Replica) fetch(ctx context.Context, uri mimi.URI, suite mls.CipherSuite) (*room.State, error) {
	suites := p.cfg.Suites
	if suite != 0 {
		suites = []mls.CipherSuite{suite}
	}
	var state *room.State
	var err error
	for _, s := range suites {
		if state, err = p.fetchWith(ctx, uri, s); err == nil || !errors.Is(err, federation.ErrMalformed) {
			break
		}
	}
	return state, err
}

func (p *Replica) fetchWith(ctx context.Context, uri mimi.URI, suite mls.CipherSuite) (*room.State, error) {
	hub := uri.Domain()
	own, signer, err := p.cfg.Sender(suite)
	if err != nil {
		return nil, fmt.Errorf("replica: %w: suite %v: %w", federation.ErrMalformed, suite, err)
	}
	private, public, err := mls.GenerateHPKEKey(suite)
	if err != nil {
		return nil, fmt.Errorf("replica: %w", err)
	}
	defer clear(private)
	req := &mimi.GroupInfoRequest{Protocol: mimi.ProtocolMLS10, CipherSuite: suite, Credential: own.Credential, PublicKey: public}
	if err := req.Sign(signer); err != nil {
		return nil, fmt.Errorf("replica: %w", err)
	}
	body, err := mls.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("replica: %w", err)
	}
	answer, err := p.cfg.Peers.Do(ctx, hub, mimi.EndpointGroupInfo, uri, body)
	if err != nil {
		return nil, err
	}
	resp := new(mimi.GroupInfoResponse)
	if err := mls.Unmarshal(answer, resp); err != nil {
		return nil, unverifiable("group info: %w", err)
	}
	if resp.Status == mimi.GroupInfoNotAuthorized {
		return nil, fmt.Errorf("replica: %s: %w: %w", uri, errRefused, federation.ErrNotFound)
	}
	if resp.Status != mimi.GroupInfoSuccess {
		return nil, fmt.Errorf("replica: %s does not give us the group info of %s: %v: %w", hub, uri, resp.Status, federation.ErrNotFound)
	}
	content, err := resp.Open(req, uri, private)
	if err != nil {
		return nil, unverifiable("group info: %w", err)
	}
	names, err := p.cfg.Verifier.IdentifyProvider(&resp.HubSender.Credential, resp.HubSender.SignatureKey, p.cfg.Now())
	if err != nil {
		return nil, unverifiable("group info: credential of the hub: %w", err)
	}
	if names.Domain != hub {
		return nil, unverifiable("group info: signed by %s", names.Domain)
	}
	tree, err := content.RatchetTree.Nodes()
	if err != nil {
		return nil, unverifiable("group info: %w", err)
	}
	state, err := room.New(p.cfg.Room, &content.GroupInfo, tree)
	if err != nil {
		return nil, unverifiable("group info: %w", err)
	}
	if state.Room() != uri {
		return nil, unverifiable("group info: it is of room %s", state.Room())
	}
	if !slices.ContainsFunc(state.Group().ExternalSenders(), func(s mls.ExternalSender) bool {
		return bytes.Equal(s.SignatureKey, resp.HubSender.SignatureKey)
	}) {
		return nil, unverifiable("group info: its signer is not an external sender of the room")
	}
	return withPending(state, content.PendingProposals)
}

// withPending applies the proposals that the hub has accepted since the last
// commit. What was accepted together has one timestamp.
func withPending(state *room.State, pending []mimi.PendingProposal) (*room.State, error) {
	for len(pending) > 0 {
		n := 1
		for n < len(pending) && pending[n].AcceptedTime == pending[0].AcceptedTime {
			n++
		}
		e := room.Event{Message: pending[0].Proposal}
		for i := 1; i < n; i++ {
			e.MoreProposals = append(e.MoreProposals, pending[i].Proposal)
		}
		next, _, err := state.Apply(e)
		if err != nil {
			return nil, unverifiable("pending proposal: %w", err)
		}
		state, pending = next, pending[n:]
	}
	return state, nil
}
