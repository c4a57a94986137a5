package room

import "github.com/comity-im/comity/mimi"

// authorise checks a motion against the roles of a policy: the rule table of
// draft-ietf-mimi-room-policy-04 section 8. It looks only at who may do
// what; the limits on numbers and the invariants are checked on the outcome.
func (p *Policy) authorise(m *motion, meta *RoomMetadata) error {
	if m.joiner != nil {
		return p.authoriseJoin(m)
	}
	if !p.IsParticipant(m.user) {
		return denied("%q is not a participant, or is banned", m.user)
	}
	role := p.Role(m.user)
	for _, mv := range m.moves {
		if err := p.authoriseMove(m.user, role, mv); err != nil {
			return err
		}
	}
	for _, c := range m.added {
		if err := p.authoriseAdd(m, role, c); err != nil {
			return err
		}
	}
	for _, c := range m.removed {
		if err := p.authoriseRemoval(m, role, c); err != nil {
			return err
		}
	}
	if m.meta != nil {
		need, err := meta.changes(m.meta)
		if err != nil {
			return err
		}
		for _, c := range need {
			if !role.Can(c) {
				return denied("%q may not change this part of the room's metadata (capability %v)", m.user, c)
			}
		}
	}
	if m.roles != nil && !role.Can(CanChangeRoleDefinitions) {
		return denied("%q may not change role definitions", m.user)
	}
	if m.base != nil {
		if !role.Can(CanChangeRoomMembershipStyle) {
			return denied("%q may not change the base policy", m.user)
		}
		if m.base.ParentDependent {
			return denied("rooms that depend on a parent room are not supported")
		}
	}
	return nil
}

// authoriseMove is sections 8.1.1 to 8.1.3 for changes of the participant
// list. The holder's own role decides.
func (p *Policy) authoriseMove(holder mimi.URI, role *Role, mv roleMove) error {
	if p.RoleIndex(mv.user) != mv.from {
		return denied("the role of %q is changing already", mv.user)
	}
	if mv.to != RoleNone && p.Roles.Role(mv.to) == nil {
		return denied("role %d is not defined", mv.to)
	}
	if mv.from == mv.to {
		return denied("%q has role %d already", mv.user, mv.to)
	}
	listed := role.MayChange(mv.from, mv.to)
	banned := p.Roles.IsBanned
	switch {
	case mv.to == RoleNone && mv.user == holder: // leave
		if !p.Base.FixedMembership && role.Can(CanRemoveSelf) && listed {
			return nil
		}
	case mv.to == RoleNone: // remove
		if !p.Base.FixedMembership && role.Can(CanRemoveParticipant) && listed {
			return nil
		}
	case mv.user == holder:
		// canChangeOwnRole needs the preauth_list component.
	case banned(mv.to) && mv.from == RoleNone: // ban someone who is not here
		if role.Can(CanBan) && listed {
			return nil
		}
	case mv.from == RoleNone: // add
		if !p.Base.FixedMembership && role.Can(CanAddParticipant) && listed {
			return nil
		}
	case banned(mv.to):
		if (role.Can(CanBan) || role.Can(CanChangeUserRole)) && listed {
			return nil
		}
	case banned(mv.from):
		if (role.Can(CanUnban) || role.Can(CanChangeUserRole)) && listed {
			return nil
		}
	default:
		if role.Can(CanChangeUserRole) && listed {
			return nil
		}
	}
	return denied("%q may not move %q from role %d to role %d", holder, mv.user, mv.from, mv.to)
}

// authoriseAdd is section 8.1.1 for clients that a member adds.
func (p *Policy) authoriseAdd(m *motion, role *Role, c Client) error {
	if c.User == m.user {
		if role.Can(CanAddOwnClient) {
			return nil
		}
		return denied("%q may not add own clients", m.user)
	}
	target := p.RoleIndex(c.User)
	if mv, ok := m.moveOf(c.User); ok {
		if mv.from != RoleNone {
			return denied("client %q is added while the role of its user changes", c.Device)
		}
		return nil // the addition of the user was authorised with the move
	}
	// The user was added by an earlier commit: whoever may add a user in that
	// role may add its clients, too.
	if target != RoleNone && !p.Roles.IsBanned(target) && !p.Base.FixedMembership &&
		role.Can(CanAddParticipant) && role.MayChange(RoleNone, target) {
		return nil
	}
	return denied("%q may not add client %q of %q", m.user, c.Device, c.User)
}

// authoriseRemoval is section 8.1.2 for clients that a member removes.
func (p *Policy) authoriseRemoval(m *motion, role *Role, c Client) error {
	mv, moved := m.moveOf(c.User)
	switch {
	case c.User == m.user && moved && mv.to == RoleNone:
		return nil // leaves, authorised with the move
	case c.User == m.user && m.leaving && !p.Base.FixedMembership && role.Can(CanRemoveSelf):
		return nil // leaves by proposals that no member can commit
	case c.User == m.user && role.Can(CanRemoveOwnClient):
		return nil
	case c.User == m.user:
		return denied("%q may not remove own clients", m.user)
	case moved && mv.to == RoleNone:
		return nil // removal of the participant, authorised with the move
	case moved && p.Roles.IsBanned(mv.to) && role.Can(CanBan):
		return nil
	case role.Can(CanKick):
		return nil
	}
	return denied("%q may not remove client %q of %q", m.user, c.Device, c.User)
}

// authoriseJoin judges what the sender of an external commit does in its own
// name: come in as a new user (canOpenJoin), or bring a client of a user who
// is in already (canAddOwnClient), perhaps in place of an old one.
func (p *Policy) authoriseJoin(m *motion) error {
	j := m.joiner
	if p.IsBanned(j.User) {
		return denied("%q is banned", j.User)
	}
	if len(m.added) > 0 || m.meta != nil || m.roles != nil || m.base != nil {
		return denied("an external commit may do nothing but join")
	}
	if len(m.removed) > 1 {
		return denied("an external commit removes %d clients", len(m.removed))
	}
	for _, c := range m.removed {
		if c.Device != j.Device || c.User != j.User {
			return denied("%q joins and removes client %q, which is not its own old one", j.Device, c.Device)
		}
	}
	if p.RoleIndex(j.User) != RoleNone {
		if len(m.moves) > 0 {
			return denied("%q joins with a client and changes the participant list", j.User)
		}
		if !p.Role(j.User).Can(CanAddOwnClient) {
			return denied("%q may not add own clients", j.User)
		}
		return nil
	}
	none := p.Roles.Role(RoleNone)
	if len(m.moves) != 1 || m.moves[0].user != j.User || m.moves[0].from != RoleNone {
		return denied("%q joins, but the commit does not add exactly this user to the participant list", j.User)
	}
	to := m.moves[0].to
	if p.Base.FixedMembership || !none.Can(CanOpenJoin) || !none.MayChange(RoleNone, to) ||
		p.Roles.Role(to) == nil || p.Roles.IsBanned(to) {
		return denied("%q may not join this room with role %d; ask to be added", j.User, to)
	}
	return nil
}
