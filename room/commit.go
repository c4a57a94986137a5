package room

import (
	"fmt"
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A Change is what a commit did to the room.
type Change struct {
	Epoch     uint64 // the new one
	External  bool
	Committer Client

	AddedClients   []Client // with the sender of an external commit
	RemovedClients []Client
	AddedUsers     []Participant
	RemovedUsers   []Participant // with their last role
	RoleChanges    []UserRoleChange
	Metadata       bool // the room's name, description … changed
	Roles          bool // the role definitions changed
	BasePolicy     bool
}

// A UserRoleChange is a participant's move between roles.
type UserRoleChange struct {
	User     mimi.URI
	From, To uint32
}

// Commit judges a staged commit and returns the view of the epoch that it
// begins. pending are the proposals that are known in the epoch before, as
// mls.Group.Pending or mls.PublicGroup.Pending returns them. The error
// matches ErrNotAllowed or ErrInvalidUpdate; a commit that was refused must
// not be merged.
func (v *View) Commit(sc *mls.StagedCommit, pending []mls.QueuedProposal) (*View, *Change, error) {
	d, joiner, err := v.docketOf(sc, pending)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range d.motions {
		if err := v.policy.authorise(m, &v.policy.Meta); err != nil {
			return nil, nil, err
		}
	}
	policy, err := v.policy.follow(v.dict, sc.After.Dictionary())
	if err != nil {
		return nil, nil, err
	}
	next := &View{cfg: v.cfg, groupID: v.groupID, epoch: sc.After.Epoch(), dict: sc.After.Dictionary(),
		policy: policy, requires: v.requires, safeAAD: v.safeAAD}
	removed, err := matchRemoved(sc, d)
	if err != nil {
		return nil, nil, err
	}
	added, err := v.matchAdded(sc, d, joiner)
	if err != nil {
		return nil, nil, err
	}
	if err := v.outcome(next, d, removed, added); err != nil {
		return nil, nil, err
	}
	committer, ok := next.roster.leaves.get(sc.Committer)
	if !ok {
		return nil, nil, denied("the committer is not in the new epoch")
	}
	change := &Change{Epoch: next.epoch, External: sc.External, Committer: committer,
		AddedClients: added, RemovedClients: removed,
		Metadata: d.meta != nil, Roles: d.roles != nil, BasePolicy: d.base != nil}
	for _, m := range d.motions {
		for _, mv := range m.moves {
			switch {
			case mv.from == RoleNone:
				change.AddedUsers = append(change.AddedUsers, Participant{mv.user, mv.to})
			case mv.to == RoleNone:
				change.RemovedUsers = append(change.RemovedUsers, Participant{mv.user, mv.from})
			default:
				change.RoleChanges = append(change.RoleChanges, UserRoleChange{mv.user, mv.from, mv.to})
			}
		}
	}
	return next, change, nil
}

// docketOf resolves the proposals of a commit, after checking its sender.
func (v *View) docketOf(sc *mls.StagedCommit, pending []mls.QueuedProposal) (*docket, *Client, error) {
	if err := v.sameGroup(sc.Before); err != nil {
		return nil, nil, err
	}
	if sc.After.Epoch() != v.epoch+1 {
		return nil, nil, fmt.Errorf("%w: a commit from epoch %d to %d", ErrWrongEpoch, v.epoch, sc.After.Epoch())
	}
	if err := v.checkAAD(sc.AAD); err != nil {
		return nil, nil, err
	}
	if sc.After.ReInit() != nil {
		return nil, nil, denied("ReInit is not accepted in rooms")
	}
	leaf, ok := sc.After.Member(sc.Committer)
	if !ok {
		return nil, nil, denied("the committer is not in the new epoch")
	}
	if !sc.External {
		if sc.Sender.Type != mls.SenderMember || sc.Sender.Leaf != sc.Committer {
			return nil, nil, denied("a commit whose sender is not its committer")
		}
		// The committer's path may bring a new leaf.
		if err := v.checkReplacement(sc.Committer, leaf); err != nil {
			return nil, nil, err
		}
		c, _ := v.roster.leaves.get(sc.Committer)
		if !v.policy.IsParticipant(c.User) {
			return nil, nil, denied("%q is not a participant, or is banned", c.User)
		}
		d, err := v.resolve(sc.Proposals, nil, pending)
		return d, nil, err
	}
	joiner, err := v.cfg.client(leaf, sc.Committer)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrNotAllowed, err)
	}
	if err := v.checkSupport(leaf); err != nil {
		return nil, nil, err
	}
	d, err := v.resolve(sc.Proposals, &joiner, pending)
	return d, &joiner, err
}

// matchRemoved checks that exactly the clients named in proposals left the
// tree, and returns them in the order of their leaves.
func matchRemoved(sc *mls.StagedCommit, d *docket) ([]Client, error) {
	if len(sc.Removed) != len(d.removed) {
		return nil, denied("the commit removes %d clients, its proposals %d", len(sc.Removed), len(d.removed))
	}
	var removed []Client
	for _, r := range sc.Removed {
		c, ok := d.removed[r.Index]
		if !ok {
			return nil, denied("the commit removes leaf %d without a proposal", r.Index)
		}
		removed = append(removed, c)
	}
	slices.SortFunc(removed, func(a, b Client) int { return int(int64(a.Leaf) - int64(b.Leaf)) })
	return removed, nil
}

// matchAdded checks that exactly the clients named in proposals, and the
// sender of an external commit, came into the tree, and returns them with
// their leaves.
func (v *View) matchAdded(sc *mls.StagedCommit, d *docket, joiner *Client) ([]Client, error) {
	expected := make(map[Client]bool, len(d.added))
	for _, c := range d.added {
		expected[c] = true
	}
	want := len(d.added)
	if joiner != nil {
		expected[Client{User: joiner.User, Device: joiner.Device}] = true
		want++
	}
	if len(sc.Added) != want || len(expected) != want {
		return nil, denied("the commit adds %d clients, its proposals name %d different ones", len(sc.Added), len(expected))
	}
	var added []Client
	for _, index := range sc.Added {
		leaf, ok := sc.After.Member(index)
		if !ok {
			return nil, denied("added leaf %d is blank", index)
		}
		c, err := v.cfg.client(leaf, index)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotAllowed, err)
		}
		key := Client{User: c.User, Device: c.Device}
		if !expected[key] {
			return nil, denied("the commit adds client %q without a proposal", c.Device)
		}
		delete(expected, key)
		added = append(added, c)
	}
	return added, nil
}

// project returns the view that would follow if a member committed exactly
// these proposals, which are of this epoch. Leaves of added clients are made
// up.
func (v *View) project(qs []mls.QueuedProposal) (*View, error) {
	d, err := v.resolve(qs, nil, nil)
	if err != nil {
		return nil, err
	}
	policy := *v.policy
	if len(d.updates) > 0 {
		if policy.Participants, err = policy.Participants.Apply(d.updates...); err != nil {
			return nil, err
		}
	}
	if d.meta != nil {
		policy.Meta = *d.meta
	}
	if d.roles != nil {
		policy.Roles = d.roles
	}
	if d.base != nil {
		policy.Base = *d.base
	}
	if err := policy.finish(); err != nil {
		return nil, err
	}
	next := &View{cfg: v.cfg, groupID: v.groupID, epoch: v.epoch, dict: v.dict,
		policy: &policy, requires: v.requires, safeAAD: v.safeAAD}
	var removed []Client
	for _, c := range d.removed {
		removed = append(removed, c)
	}
	added := slices.Clone(d.added)
	for i := range added {
		added[i].Leaf = ^mls.LeafIndex(i)
	}
	return next, v.outcome(next, d, removed, added)
}

// A tally counts the participants of a role.
type tally struct{ participants, active int }

// outcome gives next its roster and checks everything that depends on the
// state after the commit: the invariants and the limits on numbers.
func (v *View) outcome(next *View, d *docket, removed, added []Client) error {
	if d.roles != nil && len(d.updates) > 0 {
		return fmt.Errorf("%w: role definitions and the participant list change in one commit", ErrInvalidUpdate)
	}
	r := v.roster.edit()
	for _, c := range removed {
		r.remove(c)
	}
	for _, c := range added {
		if err := v.admit(next.policy, r, c); err != nil {
			return err
		}
		r.add(c)
	}
	next.roster = r
	affected := make(map[mimi.URI]bool)
	for _, c := range removed {
		affected[c.User] = true
	}
	for _, c := range added {
		affected[c.User] = true
	}
	for _, m := range d.motions {
		for _, mv := range m.moves {
			affected[mv.user] = true
		}
	}
	if d.roles != nil {
		// Another role may be the banned one now.
		for _, p := range next.policy.Participants {
			affected[p.User] = true
		}
	}
	next.tallies = make(map[uint32]tally, len(v.tallies))
	for role, t := range v.tallies {
		next.tallies[role] = t
	}
	for user := range affected {
		clients := len(r.clientsOf(user))
		if clients > 0 && !next.policy.IsParticipant(user) {
			return denied("%q is removed or banned, but keeps %d clients in the group", user, clients)
		}
		count(next.tallies, v.policy.RoleIndex(user), len(v.roster.clientsOf(user)) > 0, -1)
		count(next.tallies, next.policy.RoleIndex(user), clients > 0, 1)
	}
	return v.checkNumbers(next, affected)
}

func count(tallies map[uint32]tally, role uint32, active bool, by int) {
	if role == RoleNone {
		return
	}
	t := tallies[role]
	t.participants += by
	if active {
		t.active += by
	}
	if t == (tally{}) {
		delete(tallies, role)
		return
	}
	tallies[role] = t
}

// checkNumbers enforces the limits of roles and of the base policy. A limit
// that is broken already blocks only what makes it worse.
func (v *View) checkNumbers(next *View, affected map[mimi.URI]bool) error {
	for i := range next.policy.Roles {
		role := &next.policy.Roles[i]
		if role.Index == RoleNone {
			continue
		}
		was, is := v.tallies[role.Index], next.tallies[role.Index]
		switch {
		case role.MaxParticipants != nil && is.participants > was.participants && is.participants > int(*role.MaxParticipants):
			return denied("role %q may have %d participants at most", role.Name, *role.MaxParticipants)
		case role.MaxActive != nil && is.active > was.active && is.active > int(*role.MaxActive):
			return denied("role %q may have %d participants with clients at most", role.Name, *role.MaxActive)
		case is.participants < was.participants && is.participants < int(role.MinParticipants):
			return denied("role %q must have %d participants at least; give the role to someone else first", role.Name, role.MinParticipants)
		case is.active < was.active && is.active < int(role.MinActive):
			return denied("role %q must have %d participants with clients at least", role.Name, role.MinActive)
		}
	}
	base := &next.policy.Base
	if base.MaxClients != nil && next.roster.n > v.roster.n && next.roster.n > int(*base.MaxClients) {
		return denied("the room may have %d clients at most", *base.MaxClients)
	}
	if base.MaxUsers != nil {
		was, is := v.policy.numUsers(), next.policy.numUsers()
		if is > was && is > int(*base.MaxUsers) {
			return denied("the room may have %d users at most", *base.MaxUsers)
		}
	}
	if !base.MultiDevice {
		for user := range affected {
			was, is := len(v.roster.clientsOf(user)), len(next.roster.clientsOf(user))
			if is > was && is > 1 {
				return denied("%q may have one client in this room", user)
			}
		}
	}
	return nil
}
