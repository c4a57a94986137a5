package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// Members returns the participants of a room with their devices, in the order
// of the participant list.
func (c *Client) Members(ctx context.Context, uri mimi.URI) ([]Member, error) {
	r, err := c.chat(uri, false)
	if err != nil {
		return nil, err
	}
	var view *room.View
	err = r.do(ctx, func(*turn) error {
		if r.view == nil {
			return fmt.Errorf("%w: %v", ErrNotMember, uri)
		}
		view = r.view
		return nil
	})
	if err != nil {
		return nil, err
	}
	policy := view.Policy()
	members := make([]Member, len(policy.Participants))
	for i, p := range policy.Participants {
		members[i] = Member{User: p.User, Role: p.Role}
		if role := policy.Roles.Role(p.Role); role != nil {
			members[i].RoleName = role.Name
		}
		for _, d := range view.ClientsOf(p.User) {
			members[i].Devices = append(members[i].Devices, d.Device)
		}
	}
	return members, nil
}

// View returns the room's policy and membership in the present epoch. It is
// immutable.
func (c *Client) View(ctx context.Context, uri mimi.URI) (*room.View, error) {
	r, err := c.chat(uri, false)
	if err != nil {
		return nil, err
	}
	var view *room.View
	err = r.do(ctx, func(*turn) error {
		if r.view == nil {
			return fmt.Errorf("%w: %v", ErrNotMember, uri)
		}
		view = r.view
		return nil
	})
	return view, err
}

// AddUsers adds users to a room, each with all devices for which there is a
// KeyPackage. It is done when it is in the room's log. A user who is a
// participant already is given the devices that are missing.
//
// Nobody is added if a KeyPackage is not what it should be: ErrRefused. If a
// user has no usable KeyPackage at all it is ErrNoKeyMaterial; those of the
// other users are then used up in vain.
func (c *Client) AddUsers(ctx context.Context, uri mimi.URI, users ...mimi.URI) error {
	r, err := c.chat(uri, false)
	if err != nil {
		return err
	}
	if len(users) == 0 {
		return nil
	}
	var required mls.RequiredCapabilities
	err = r.do(ctx, func(*turn) error {
		if err := r.active(); err != nil {
			return err
		}
		required = *r.group.State().RequiredCapabilities()
		return nil
	})
	if err != nil {
		return err
	}
	users = slices.Clone(users)
	slices.SortFunc(users, func(a, b mimi.URI) int { return strings.Compare(a.String(), b.String()) })
	users = slices.Compact(users)
	material := make(map[mimi.URI][]*mls.KeyPackage, len(users))
	for _, user := range users {
		if !user.Is(mimi.KindUser) {
			return fmt.Errorf("client: %q is not a user", user)
		}
		if material[user], err = r.keyMaterial(ctx, user, required); err != nil {
			return err
		}
	}
	return r.commitChange(ctx, func() (*mls.CommitOptions, error) {
		opts := new(mls.CommitOptions)
		var added []room.Participant
		policy := r.view.Policy()
		for _, user := range users {
			fresh := false
			for _, kp := range material[user] {
				_, device, err := identity.ClientURIs(&kp.LeafNode.Credential)
				if err != nil {
					return nil, fmt.Errorf("%w: %w", ErrRefused, err)
				}
				if _, present := r.view.Device(device); !present {
					opts.Proposals = append(opts.Proposals, mls.AddProposal(kp))
					fresh = true
				}
			}
			if policy.RoleIndex(user) == room.RoleNone && fresh {
				added = append(added, room.Participant{User: user, Role: memberRole(policy, c.id.User)})
			}
		}
		if len(added) > 0 {
			slices.SortFunc(added, func(a, b room.Participant) int {
				return slices.Compare([]byte(a.User.String()), []byte(b.User.String()))
			})
			update, err := policy.Participants.Update(nil, nil, added)
			if err != nil {
				return nil, fmt.Errorf("client: add users: %w", err)
			}
			opts.Proposals = append(opts.Proposals, mls.AppDataUpdateProposal(mimi.ComponentParticipantList, encoded(update)))
		}
		if len(opts.Proposals) == 0 {
			return nil, nil
		}
		return opts, nil
	})
}

// memberRole returns the role in which this user adds others: that of
// ordinary members, or else the first one that the policy lets it give.
func memberRole(policy *room.Policy, self mimi.URI) uint32 {
	if role := policy.Role(self); role != nil {
		if role.MayChange(room.RoleNone, room.RoleMember) {
			return room.RoleMember
		}
		for _, c := range role.Changes {
			if c.From != room.RoleNone {
				continue
			}
			for _, to := range c.Targets {
				if !policy.Roles.IsBanned(to) {
					return to
				}
			}
		}
	}
	return room.RoleMember
}

// keyMaterial claims KeyPackages of a user through the room's hub and checks
// that they are that user's.
func (r *chat) keyMaterial(ctx context.Context, user mimi.URI, required mls.RequiredCapabilities) ([]*mls.KeyPackage, error) {
	req := mimi.KeyMaterialRequest{
		Protocol: mimi.ProtocolMLS10, RequestingUser: r.c.id.User, TargetUser: user, Room: r.uri,
		CipherSuites: []mls.CipherSuite{r.c.id.Suite}, RequiredCapabilities: required, Credential: r.c.cred}
	if err := req.Sign(r.c.signer); err != nil {
		return nil, err
	}
	body, err := mls.Marshal(&req)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	resp, err := r.c.session.do(ctx, Request{
		Method: http.MethodPost, Path: local.PathKeyMaterial + user.PathSegment(), ContentType: local.MediaTypeTLS, Body: body})
	if err != nil {
		return nil, fmt.Errorf("client: key material of %v: %w", user, err)
	}
	var answer mimi.KeyMaterialResponse
	if err := mls.Unmarshal(resp.Body, &answer); err != nil {
		return nil, fmt.Errorf("%w: key material of %v: %w", ErrRefused, user, err)
	}
	if answer.User != user {
		return nil, fmt.Errorf("%w: asked for key material of %v, got that of %v", ErrRefused, user, answer.User)
	}
	if answer.UserStatus != mimi.KeyMaterialSuccess && answer.UserStatus != mimi.KeyMaterialPartialSuccess {
		return nil, fmt.Errorf("%w: %v: %v", ErrNoKeyMaterial, user, answer.UserStatus)
	}
	cfg := mls.Config{Credentials: r.c.creds, Components: room.Components(), Now: r.c.cfg.Now, Limits: r.c.cfg.Limits}
	var kps []*mls.KeyPackage
	seen := map[mimi.URI]bool{}
	for i := range answer.Clients {
		m := &answer.Clients[i]
		if m.Status != mimi.ClientSuccess {
			r.c.cfg.Log.Info("device can't be added", "user", user, "device", m.Client, "status", m.Status)
			continue
		}
		if err := checkKeyPackage(&cfg, m, user, r.c.id.Suite, &required); err != nil {
			return nil, err
		}
		if seen[m.Client] {
			return nil, fmt.Errorf("%w: two KeyPackages of %v", ErrRefused, m.Client)
		}
		seen[m.Client] = true
		kps = append(kps, m.KeyPackage)
	}
	if len(kps) == 0 {
		return nil, fmt.Errorf("%w: no device of %v has a KeyPackage", ErrNoKeyMaterial, user)
	}
	return kps, nil
}

// checkKeyPackage refuses a KeyPackage that is not good, or not that of the
// device and user for which it was given out.
func checkKeyPackage(cfg *mls.Config, m *mimi.ClientKeyMaterial, user mimi.URI, suite mls.CipherSuite, required *mls.RequiredCapabilities) error {
	kp := m.KeyPackage
	if err := kp.Verify(cfg); err != nil {
		return fmt.Errorf("KeyPackage of %v: %w", m.Client, refused(err))
	}
	kpUser, kpDevice, err := identity.ClientURIs(&kp.LeafNode.Credential)
	switch {
	case err != nil:
		return fmt.Errorf("%w: KeyPackage of %v: %w", ErrRefused, m.Client, err)
	case kpUser != user:
		return fmt.Errorf("%w: asked for a KeyPackage of %v, got one of %v", ErrRefused, user, kpUser)
	case kpDevice != m.Client:
		return fmt.Errorf("%w: the KeyPackage of %v is that of %v", ErrRefused, m.Client, kpDevice)
	case kp.CipherSuite != suite:
		return fmt.Errorf("%w: KeyPackage of %v for cipher suite %v", ErrRefused, m.Client, kp.CipherSuite)
	}
	if err := kp.LeafNode.Capabilities.Supports(required); err != nil {
		return fmt.Errorf("%w: KeyPackage of %v: %w", ErrNoKeyMaterial, m.Client, err)
	}
	return nil
}

// RemoveUser removes a user and all its devices from a room.
func (c *Client) RemoveUser(ctx context.Context, uri, user mimi.URI) error {
	if user == c.id.User {
		return errors.New("client: to go yourself, leave the room")
	}
	return c.changeRoom(ctx, uri, func(r *chat) (*mls.CommitOptions, error) {
		policy := r.view.Policy()
		if policy.RoleIndex(user) == room.RoleNone {
			return nil, nil
		}
		update, err := policy.Participants.Update(nil, []mimi.URI{user}, nil)
		if err != nil {
			return nil, fmt.Errorf("client: remove user: %w", err)
		}
		return r.withoutDevices(user, mls.AppDataUpdateProposal(mimi.ComponentParticipantList, encoded(update))), nil
	})
}

// withoutDevices returns a commit that removes a user's devices, besides a
// further proposal.
func (r *chat) withoutDevices(user mimi.URI, p mls.Proposal) *mls.CommitOptions {
	opts := new(mls.CommitOptions)
	leaving := map[mls.LeafIndex]bool{} // by a proposal that is pending
	for _, q := range r.group.Pending() {
		if q.Proposal.Type == mls.ProposalSelfRemove {
			leaving[q.Sender.Leaf] = true
		}
	}
	for _, d := range r.view.ClientsOf(user) {
		if !leaving[d.Leaf] {
			opts.Proposals = append(opts.Proposals, mls.RemoveProposal(d.Leaf))
		}
	}
	opts.Proposals = append(opts.Proposals, p)
	return opts
}

// SetRole gives a participant another role. The role of the banned,
// room.RoleBanned, takes the user's devices out of the room and keeps them
// out.
func (c *Client) SetRole(ctx context.Context, uri, user mimi.URI, role uint32) error {
	return c.changeRoom(ctx, uri, func(r *chat) (*mls.CommitOptions, error) {
		policy := r.view.Policy()
		if policy.RoleIndex(user) == role {
			return nil, nil
		}
		var changed, added []room.Participant
		if policy.RoleIndex(user) == room.RoleNone {
			added = []room.Participant{{User: user, Role: role}}
		} else {
			changed = []room.Participant{{User: user, Role: role}}
		}
		update, err := policy.Participants.Update(changed, nil, added)
		if err != nil {
			return nil, fmt.Errorf("client: set role: %w", err)
		}
		p := mls.AppDataUpdateProposal(mimi.ComponentParticipantList, encoded(update))
		if policy.Roles.IsBanned(role) {
			return r.withoutDevices(user, p), nil
		}
		return &mls.CommitOptions{Proposals: []mls.Proposal{p}}, nil
	})
}

// SetDescription changes a room's name and subject; nil leaves one as it is.
func (c *Client) SetDescription(ctx context.Context, uri mimi.URI, name, subject *string) error {
	return c.changeRoom(ctx, uri, func(r *chat) (*mls.CommitOptions, error) {
		meta := r.view.Policy().Meta
		if name != nil {
			meta.Name = *name
		}
		if subject != nil {
			meta.Subject = *subject
		}
		b, err := mls.Marshal(&meta)
		if err != nil {
			return nil, fmt.Errorf("client: describe room: %w", err)
		}
		return &mls.CommitOptions{Proposals: []mls.Proposal{mls.AppDataUpdateProposal(mimi.ComponentRoomMetadata, b)}}, nil
	})
}

// UpdateKeys replaces this device's keys in a room, and commits what others
// have proposed: after it, who learned an earlier state of this device can no
// longer read along.
func (c *Client) UpdateKeys(ctx context.Context, uri mimi.URI) error {
	return c.changeRoom(ctx, uri, func(*chat) (*mls.CommitOptions, error) {
		return &mls.CommitOptions{ForcePath: true}, nil
	})
}

func (c *Client) changeRoom(ctx context.Context, uri mimi.URI, build func(*chat) (*mls.CommitOptions, error)) error {
	r, err := c.chat(uri, false)
	if err != nil {
		return err
	}
	return r.commitChange(ctx, func() (*mls.CommitOptions, error) { return build(r) })
}

// WaitRoom waits until what Room says about a room satisfies ok.
func (c *Client) WaitRoom(ctx context.Context, uri mimi.URI, ok func(Room) bool) (Room, error) {
	r, err := c.chat(uri, true)
	if err != nil {
		return Room{}, err
	}
	for {
		var changed chan struct{}
		if err := r.do(ctx, func(*turn) error { changed = r.changed(); return nil }); err != nil {
			return Room{}, err
		}
		if v := r.glance(); ok(v) {
			return v, nil
		}
		if err := c.await(ctx, changed); err != nil {
			return Room{}, err
		}
	}
}

// Forget deletes a room that the device has left, or that is frozen, with its
// history.
func (c *Client) Forget(ctx context.Context, uri mimi.URI) error {
	r, err := c.chat(uri, false)
	if err != nil {
		return err
	}
	return r.do(ctx, func(t *turn) error {
		if r.rec.Status != RoomLeft && r.rec.Status != RoomFrozen {
			return fmt.Errorf("client: %v is %v; leave it first", uri, r.rec.Status)
		}
		if r.joining != nil || r.staged != nil || !t.batch.Empty() {
			return errBusy
		}
		for _, o := range r.outbox {
			o.settled.Store(true)
		}
		// What identifies the group stays, so that the room can't be replaced
		// by another one under the same name.
		r.rec = chatRecord{GroupID: r.rec.GroupID, Epoch: r.rec.Epoch, Cursor: r.rec.Cursor, LastTime: r.rec.LastTime}
		r.group, r.view, r.dirty, r.outbox = nil, nil, false, nil
		t.batch.Clear(bucketGroup(uri), bucketOutbox(uri), bucketHistory(uri), bucketIDs(uri),
			bucketStaged(uri), bucketJoining(uri), bucketWelcomes(uri))
		return nil
	})
}
