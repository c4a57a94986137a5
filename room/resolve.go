package room

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// Config is what a room needs from outside. ClientURIs and ProviderDomain are
// required and must be pure; package identity has them.
type Config struct {
	// ClientURIs returns the user and the client that a credential names.
	ClientURIs func(*mls.Credential) (user, device mimi.URI, err error)
	// ProviderDomain returns the domain that the credential of an external
	// sender names.
	ProviderDomain func(*mls.Credential) (string, error)

	// MLS configures the group of a State; Components is set by this package.
	// A View does not use it.
	MLS mls.Config
	// Hub says that a State decides which events are accepted. Otherwise it
	// follows the decisions of the room's hub, and checks them as every
	// member does.
	Hub bool
}

func (c *Config) client(leaf *mls.LeafNode, index mls.LeafIndex) (Client, error) {
	user, device, err := c.ClientURIs(&leaf.Credential)
	if err != nil {
		return Client{}, fmt.Errorf("room: credential of leaf %d: %w", index, err)
	}
	if !isUser(user) || !device.Is(mimi.KindClient) || user.Domain() != device.Domain() {
		return Client{}, fmt.Errorf("room: leaf %d names user %q and client %q, which do not belong together", index, user, device)
	}
	return Client{User: user, Device: device, Leaf: index}, nil
}

// A motion is everything that the proposals of one user ask for. It is what
// the rules judge: a removal, for example, is several proposals.
type motion struct {
	user   mimi.URI
	joiner *Client // set for the sender of an external commit

	leaving bool // the user's own removal from the list is pending, and a commit removes its client without naming that

	moves   []roleMove
	added   []Client // clients to add; Leaf is not known yet
	removed []Client
	meta    *RoomMetadata
	roles   RoleData
	base    *BaseRoomPolicy
}

// moveOf returns the list change of a user in the motion.
func (m *motion) moveOf(user mimi.URI) (roleMove, bool) {
	for _, v := range m.moves {
		if v.user == user {
			return v, true
		}
	}
	return roleMove{}, false
}

// A docket is a list of proposals of one epoch, resolved against the view of
// that epoch.
type docket struct {
	motions []*motion
	updates []ParticipantListUpdate // in order
	touched map[mimi.URI]bool       // users in updates
	removed map[mls.LeafIndex]Client
	added   []Client
	meta    *RoomMetadata
	roles   RoleData
	base    *BaseRoomPolicy
}

func (d *docket) motion(user mimi.URI) *motion {
	for _, m := range d.motions {
		if m.user == user && m.joiner == nil {
			return m
		}
	}
	m := &motion{user: user}
	d.motions = append(d.motions, m)
	return m
}

// resolve says what proposals mean, and refuses all that no rule can allow.
// joiner is the sender of an external commit, or nil. pending are the
// proposals that wait in this epoch; only who leaves is looked up there: in an
// external commit the user whose clients remove themselves (see departures), in
// a member's the client that it removes by value, although that has proposed a
// SelfRemove.
func (v *View) resolve(qs []mls.QueuedProposal, joiner *Client, pending []mls.QueuedProposal) (*docket, error) {
	d := &docket{removed: make(map[mls.LeafIndex]Client), touched: make(map[mimi.URI]bool)}
	var join *motion
	if joiner != nil {
		join = &motion{user: joiner.User, joiner: joiner}
		d.motions = append(d.motions, join)
	}
	superseded := selfRemoved(qs)
	var leaving map[mls.LeafIndex]bool
	if joiner == nil {
		leaving = selfRemoved(pending)
	}
	for i := range qs {
		q := &qs[i]
		var m *motion
		switch q.Sender.Type {
		case mls.SenderMember:
			c, ok := v.roster.leaves.get(q.Sender.Leaf)
			if !ok {
				return nil, denied("proposal of leaf %d, which is no member", q.Sender.Leaf)
			}
			m = d.motion(c.User)
			if r := q.Proposal.Remove; q.Proposal.Type == mls.ProposalRemove && q.Ref == nil && leaving[r.Removed] {
				// Its own wish, which the committer carries out without naming
				// it: the membership tag of its SelfRemove was spoilt.
				if c, ok := v.roster.leaves.get(r.Removed); ok {
					m = d.motion(c.User)
					m.leaving = v.leaves(c.User, pending)
				}
			}
		case mls.SenderNewMemberCommit:
			if join == nil {
				return nil, denied("proposal of a new member outside of an external commit")
			}
			m = join
		default:
			return nil, denied("proposals by senders outside of the group are not accepted")
		}
		if err := v.resolveOne(d, m, q, superseded); err != nil {
			return nil, err
		}
	}
	if join != nil {
		v.departures(d, join, pending)
	}
	return d, nil
}

// selfRemoved returns the leaves that remove themselves.
func selfRemoved(qs []mls.QueuedProposal) map[mls.LeafIndex]bool {
	leaves := make(map[mls.LeafIndex]bool)
	for i := range qs {
		if qs[i].Proposal.Type == mls.ProposalSelfRemove {
			leaves[qs[i].Sender.Leaf] = true
		}
	}
	return leaves
}

func (v *View) resolveOne(d *docket, m *motion, q *mls.QueuedProposal, superseded map[mls.LeafIndex]bool) error {
	p := &q.Proposal
	switch p.Type {
	case mls.ProposalAdd:
		c, err := v.cfg.client(&p.Add.KeyPackage.LeafNode, 0)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotAllowed, err)
		}
		if err := v.checkSupport(&p.Add.KeyPackage.LeafNode); err != nil {
			return err
		}
		m.added = append(m.added, c)
		d.added = append(d.added, c)
	case mls.ProposalUpdate:
		return v.checkReplacement(q.Sender.Leaf, &p.Update.LeafNode)
	case mls.ProposalRemove:
		if superseded[p.Remove.Removed] && q.Ref != nil {
			return nil // SelfRemove prevails (mls-extensions section 6.3)
		}
		return v.resolveRemoval(d, m, p.Remove.Removed)
	case mls.ProposalSelfRemove:
		return v.resolveRemoval(d, m, q.Sender.Leaf)
	case mls.ProposalExternalInit:
		if m.joiner == nil {
			return denied("external_init in a member's commit")
		}
	case mls.ProposalAppDataUpdate:
		return v.resolveAppData(d, m, p.AppDataUpdate)
	default:
		return denied("proposals of type %v are not accepted in rooms", p.Type)
	}
	return nil
}

func (v *View) resolveRemoval(d *docket, m *motion, leaf mls.LeafIndex) error {
	c, ok := v.roster.leaves.get(leaf)
	if !ok {
		return denied("leaf %d is no member", leaf)
	}
	if _, dup := d.removed[leaf]; dup {
		return fmt.Errorf("%w: client %q is removed twice", ErrInvalidUpdate, c.Device)
	}
	d.removed[leaf] = c
	m.removed = append(m.removed, c)
	return nil
}

func (v *View) resolveAppData(d *docket, m *motion, u *mls.AppDataUpdate) error {
	if u.Op != mls.AppDataOpUpdate {
		return denied("component %v cannot be removed from a room", u.ComponentID)
	}
	// once refuses a second update of a component whose update replaces the
	// data.
	once := func(set bool, to tlspl.Unmarshaler) error {
		if set {
			return fmt.Errorf("%w: component %v is updated twice", ErrInvalidUpdate, u.ComponentID)
		}
		if err := mls.Unmarshal(u.Update, to); err != nil {
			return fmt.Errorf("%w: component %v: %w", ErrInvalidUpdate, u.ComponentID, err)
		}
		return nil
	}
	switch u.ComponentID {
	case mimi.ComponentParticipantList:
		return v.resolveParticipants(d, m, u.Update)
	case mimi.ComponentRoomMetadata:
		meta := new(RoomMetadata)
		if err := once(d.meta != nil, meta); err != nil {
			return err
		}
		d.meta, m.meta = meta, meta
	case mimi.ComponentRolesList:
		roles := RoleData{}
		if err := once(d.roles != nil, &roles); err != nil {
			return err
		}
		if roles == nil {
			roles = RoleData{}
		}
		d.roles, m.roles = roles, roles
	case mimi.ComponentBaseRoomPolicy:
		base := new(BaseRoomPolicy)
		if err := once(d.base != nil, base); err != nil {
			return err
		}
		d.base, m.base = base, base
	default:
		return denied("component %v cannot be changed", u.ComponentID)
	}
	return nil
}

func (v *View) resolveParticipants(d *docket, m *motion, b []byte) error {
	var u ParticipantListUpdate
	if err := mls.Unmarshal(b, &u); err != nil {
		return fmt.Errorf("%w: participant list: %w", ErrInvalidUpdate, err)
	}
	moves, err := v.policy.Participants.moves(&u, v.policy.index, d.touched)
	if err != nil {
		return err
	}
	d.updates = append(d.updates, u)
	m.moves = append(m.moves, moves...)
	return nil
}

// departures attributes removals from the participant list that an external
// commit carries to the users who leave: an external commit can refer to
// their SelfRemoves but not to their AppDataUpdate, so it repeats that by
// value. It may do so only for a user whose own removal from the list is
// pending in this epoch.
func (v *View) departures(d *docket, join *motion, pending []mls.QueuedProposal) {
	kept := join.moves[:0:0]
	for _, mv := range join.moves {
		if mv.to == RoleNone && mv.user != join.user && v.leaves(mv.user, pending) {
			m := d.motion(mv.user)
			m.moves = append(m.moves, mv)
			continue
		}
		kept = append(kept, mv)
	}
	join.moves = kept
}

// leaves reports whether a user has proposed its own removal from the
// participant list.
func (v *View) leaves(user mimi.URI, pending []mls.QueuedProposal) bool {
	for i := range pending {
		q := &pending[i]
		if q.Sender.Type != mls.SenderMember || q.Proposal.Type != mls.ProposalAppDataUpdate {
			continue
		}
		c, ok := v.roster.leaves.get(q.Sender.Leaf)
		if !ok || c.User != user {
			continue
		}
		for _, mv := range v.movesOf(&q.Proposal) {
			if mv.user == user && mv.to == RoleNone {
				return true
			}
		}
	}
	return false
}

// movesOf returns the list changes of a proposal, none if it is not a valid
// participant list update.
func (v *View) movesOf(p *mls.Proposal) []roleMove {
	if p.Type != mls.ProposalAppDataUpdate || p.AppDataUpdate.ComponentID != mimi.ComponentParticipantList ||
		p.AppDataUpdate.Op != mls.AppDataOpUpdate {
		return nil
	}
	var u ParticipantListUpdate
	if tlspl.Unmarshal(p.AppDataUpdate.Update, &u) != nil {
		return nil
	}
	moves, err := v.policy.Participants.moves(&u, v.policy.index, make(map[mimi.URI]bool))
	if err != nil {
		return nil
	}
	return moves
}
