package room

import (
	"fmt"
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
)

// MaxParticipants bounds the participant list.
const MaxParticipants = 100_000

// A Participant is a user in the participant list.
//
//	struct { opaque user<V>; uint32 role_index; } UserRolePair;
//	                               draft-ietf-mimi-protocol-06 section 7.5
//
// The user is a canonical MIMI URI: any other spelling is refused, so that
// all implementations hold the same bytes.
type Participant struct {
	User mimi.URI
	Role uint32
}

func (p Participant) marshal(w *tlspl.Writer) {
	if !isUser(p.User) {
		w.Fail(fmt.Errorf("room: participant %q is not a user", p.User))
	}
	w.Value(p.User)
	w.Uint32(p.Role)
}

func (p *Participant) unmarshal(r *tlspl.Reader) {
	b := r.Opaque(mimi.MaxURI)
	if r.Err() != nil {
		return
	}
	u, err := mimi.ParseURI(string(b))
	switch {
	case err != nil:
		r.Fail(fmt.Errorf("%w: participant: %w", tlspl.ErrSyntax, err))
	case !isUser(u):
		r.Failf("participant %q is not a user", u)
	case u.String() != string(b):
		r.Failf("participant %q is not in canonical form", b)
	}
	p.User = u
	p.Role = r.Uint32()
}

// isUser reports whether u can stand in the participant list.
func isUser(u mimi.URI) bool { return u.Is(mimi.KindUser) || u.Is(mimi.KindPseudonym) }

// A ParticipantList is the data of the participant_list component. Users are
// unique. Treat it as immutable.
//
//	struct { UserRolePair participants<V>; } ParticipantListData;
type ParticipantList []Participant

// MarshalTLS writes l.
func (l ParticipantList) MarshalTLS(w *tlspl.Writer) {
	tlspl.WriteVector(w, l, func(w *tlspl.Writer, p *Participant) { p.marshal(w) })
}

// UnmarshalTLS reads l and refuses a user that occurs twice.
func (l *ParticipantList) UnmarshalTLS(r *tlspl.Reader) {
	list := tlspl.ReadVector(r, MaxParticipants, func(r *tlspl.Reader, p *Participant) { p.unmarshal(r) })
	if r.Err() != nil {
		return
	}
	seen := make(map[mimi.URI]struct{}, len(list))
	for _, p := range list {
		if _, dup := seen[p.User]; dup {
			r.Failf("participant %q is listed twice", p.User)
			return
		}
		seen[p.User] = struct{}{}
	}
	*l = list
}

// Index returns the position of a user, or -1.
func (l ParticipantList) Index(user mimi.URI) int {
	return slices.IndexFunc(l, func(p Participant) bool { return p.User == user })
}

// A RoleChange gives the participant at an index another role.
//
//	struct { uint32 user_index; uint32 role_index; } UserindexRolePair;
type RoleChange struct {
	UserIndex uint32
	Role      uint32
}

// A ParticipantListUpdate is an update of the participant_list component.
// Indexes refer to the list as it stood before the commit, in all updates of
// one commit: they were written by members who could not know of each other.
//
//	struct {                       draft-ietf-mimi-protocol-06 section 7.5
//	  UserindexRolePair changedRoleParticipants<V>;
//	  uint32 removedIndices<V>;
//	  UserRolePair addedParticipants<V>;
//	} ParticipantListUpdate;
type ParticipantListUpdate struct {
	Changed []RoleChange
	Removed []uint32
	Added   []Participant
}

// MarshalTLS writes u.
func (u *ParticipantListUpdate) MarshalTLS(w *tlspl.Writer) {
	tlspl.WriteVector(w, u.Changed, func(w *tlspl.Writer, c *RoleChange) {
		w.Uint32(c.UserIndex)
		w.Uint32(c.Role)
	})
	tlspl.WriteVector(w, u.Removed, func(w *tlspl.Writer, i *uint32) { w.Uint32(*i) })
	tlspl.WriteVector(w, u.Added, func(w *tlspl.Writer, p *Participant) { p.marshal(w) })
}

// UnmarshalTLS reads u.
func (u *ParticipantListUpdate) UnmarshalTLS(r *tlspl.Reader) {
	u.Changed = tlspl.ReadVector(r, MaxParticipants, func(r *tlspl.Reader, c *RoleChange) {
		c.UserIndex = r.Uint32()
		c.Role = r.Uint32()
	})
	u.Removed = tlspl.ReadVector(r, MaxParticipants, func(r *tlspl.Reader, i *uint32) { *i = r.Uint32() })
	u.Added = tlspl.ReadVector(r, MaxParticipants, func(r *tlspl.Reader, p *Participant) { p.unmarshal(r) })
}

// Apply returns the list after the updates of one commit: first all role
// changes, then all removals, then the additions in order. It refuses an
// index outside the list, an update that does nothing, and any user that is
// touched more than once, counting all updates (section 7.5).
func (l ParticipantList) Apply(updates ...ParticipantListUpdate) (ParticipantList, error) {
	index := make(map[mimi.URI]uint32, len(l))
	for _, p := range l {
		index[p.User] = p.Role
	}
	touched := make(map[mimi.URI]bool)
	next := slices.Clone(l)
	gone := make(map[uint32]bool)
	for i := range updates {
		u := &updates[i]
		if _, err := l.moves(u, index, touched); err != nil {
			return nil, err
		}
		for _, c := range u.Changed {
			next[c.UserIndex].Role = c.Role
		}
		for _, i := range u.Removed {
			gone[i] = true
		}
	}
	kept := next[:0]
	for i, p := range next {
		if !gone[uint32(i)] {
			kept = append(kept, p)
		}
	}
	next = kept
	for i := range updates {
		next = append(next, updates[i].Added...)
	}
	if len(next) > MaxParticipants {
		return nil, fmt.Errorf("%w: %d participants; the limit is %d", ErrInvalidUpdate, len(next), MaxParticipants)
	}
	return next, nil
}

// A roleMove is a change of the participant list for one user. RoleNone
// stands for not being in the list.
type roleMove struct {
	user     mimi.URI
	from, to uint32
}

// moves says what an update of l means for each user. index holds the roles
// of l's users; touched collects the users of all updates of the commit.
func (l ParticipantList) moves(u *ParticipantListUpdate, index map[mimi.URI]uint32, touched map[mimi.URI]bool) ([]roleMove, error) {
	if len(u.Changed)+len(u.Removed)+len(u.Added) == 0 {
		return nil, fmt.Errorf("%w: a participant list update changes nothing", ErrInvalidUpdate)
	}
	var moves []roleMove
	move := func(user mimi.URI, from, to uint32) error {
		if touched[user] {
			return fmt.Errorf("%w: the commit changes participant %q more than once", ErrInvalidUpdate, user)
		}
		touched[user] = true
		moves = append(moves, roleMove{user, from, to})
		return nil
	}
	at := func(i, to uint32) error {
		if uint64(i) >= uint64(len(l)) {
			return fmt.Errorf("%w: index %d in a list of %d participants", ErrInvalidUpdate, i, len(l))
		}
		return move(l[i].User, l[i].Role, to)
	}
	for _, c := range u.Changed {
		if c.Role == RoleNone {
			return nil, fmt.Errorf("%w: role 0 means not in the list; remove the participant instead", ErrInvalidUpdate)
		}
		if err := at(c.UserIndex, c.Role); err != nil {
			return nil, err
		}
	}
	for _, i := range u.Removed {
		if err := at(i, RoleNone); err != nil {
			return nil, err
		}
	}
	for _, p := range u.Added {
		if _, ok := index[p.User]; ok {
			return nil, fmt.Errorf("%w: %q is a participant already", ErrInvalidUpdate, p.User)
		}
		if p.Role == RoleNone {
			return nil, fmt.Errorf("%w: role 0 means not in the list", ErrInvalidUpdate)
		}
		if err := move(p.User, RoleNone, p.Role); err != nil {
			return nil, err
		}
	}
	return moves, nil
}

// Update returns the update that changes, removes and adds the given users.
func (l ParticipantList) Update(changed []Participant, removed []mimi.URI, added []Participant) (*ParticipantListUpdate, error) {
	u := &ParticipantListUpdate{Added: slices.Clone(added)}
	for _, c := range changed {
		i := l.Index(c.User)
		if i < 0 {
			return nil, fmt.Errorf("%w: %q is not a participant", ErrInvalidUpdate, c.User)
		}
		u.Changed = append(u.Changed, RoleChange{uint32(i), c.Role})
	}
	for _, user := range removed {
		i := l.Index(user)
		if i < 0 {
			return nil, fmt.Errorf("%w: %q is not a participant", ErrInvalidUpdate, user)
		}
		u.Removed = append(u.Removed, uint32(i))
	}
	// Descending, so that a receiver that removes one by one is right too.
	slices.Sort(u.Removed)
	slices.Reverse(u.Removed)
	if _, err := l.Apply(*u); err != nil {
		return nil, err
	}
	return u, nil
}
