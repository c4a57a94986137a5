package room

import (
	"bytes"
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A Policy is what the components of a room say in one epoch: who takes part
// and what each role may do. It is immutable.
type Policy struct {
	Participants ParticipantList
	Roles        RoleData
	Base         BaseRoomPolicy
	Meta         RoomMetadata

	index map[mimi.URI]uint32 // role of each participant
}

// PolicyOf decodes the components of a room. All four must be there, and
// every participant's role must be defined.
func PolicyOf(d mls.AppDataDictionary) (*Policy, error) {
	return (&Policy{}).follow(nil, d)
}

// follow returns the policy of next, given that p is that of old; what did
// not change is shared.
func (p *Policy) follow(old, next mls.AppDataDictionary) (*Policy, error) {
	q := *p
	changed := false
	decode := func(id mls.ComponentID, name string, v tlspl.Unmarshaler) error {
		data, ok := next.Get(id)
		if !ok {
			return fmt.Errorf("%w: no %s", ErrInvalidRoom, name)
		}
		if before, ok := old.Get(id); ok && bytes.Equal(before, data) {
			return nil
		}
		changed = true
		// The policy outlives the buffer that data belongs to.
		if err := mls.Unmarshal(data, v); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrInvalidRoom, name, err)
		}
		return nil
	}
	if err := decode(mimi.ComponentParticipantList, "participant_list", &q.Participants); err != nil {
		return nil, err
	}
	if err := decode(mimi.ComponentRoomMetadata, "room_metadata", &q.Meta); err != nil {
		return nil, err
	}
	if err := decode(mimi.ComponentRolesList, "roles_list", &q.Roles); err != nil {
		return nil, err
	}
	if err := decode(mimi.ComponentBaseRoomPolicy, "base_room_policy", &q.Base); err != nil {
		return nil, err
	}
	if !changed {
		return p, nil
	}
	return &q, q.finish()
}

// finish builds the index and checks that the parts fit together.
func (p *Policy) finish() error {
	p.index = make(map[mimi.URI]uint32, len(p.Participants))
	defined := make(map[uint32]bool, len(p.Roles))
	for i := range p.Roles {
		defined[p.Roles[i].Index] = true
	}
	for _, q := range p.Participants {
		if q.Role == RoleNone || !defined[q.Role] {
			return fmt.Errorf("%w: participant %q has the undefined role %d", ErrInvalidRoom, q.User, q.Role)
		}
		p.index[q.User] = q.Role
	}
	return nil
}

// Room returns the room's URI.
func (p *Policy) Room() mimi.URI { return p.Meta.Room }

// RoleIndex returns the role of a user; RoleNone for one who is not in the
// participant list.
func (p *Policy) RoleIndex(user mimi.URI) uint32 { return p.index[user] }

// Role returns the definition of a user's role, or nil if it has none.
func (p *Policy) Role(user mimi.URI) *Role { return p.Roles.Role(p.RoleIndex(user)) }

// IsBanned reports whether a user is in the list with the banned role.
func (p *Policy) IsBanned(user mimi.URI) bool { return p.Roles.IsBanned(p.RoleIndex(user)) }

// IsParticipant reports whether a user is in the list and not banned: only
// then may the group hold clients of the user.
func (p *Policy) IsParticipant(user mimi.URI) bool {
	r := p.RoleIndex(user)
	return r != RoleNone && !p.Roles.IsBanned(r)
}

// Can reports whether a participant has a capability. It is false for those
// who are banned or not in the list, whatever their role says.
func (p *Policy) Can(user mimi.URI, c Capability) bool {
	return p.IsParticipant(user) && p.Role(user).Can(c)
}

// numUsers counts the participants that are not banned.
func (p *Policy) numUsers() int {
	n := 0
	for _, q := range p.Participants {
		if !p.Roles.IsBanned(q.Role) {
			n++
		}
	}
	return n
}
