package room

import (
	"fmt"
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
)

// Limits on role definitions.
const (
	MaxRoles               = 256
	MaxCapabilities        = 1024 // of one role
	MaxRoleName            = 256  // octets
	MaxRoleText            = 4096 // octets of a role's description
	maxRoleChanges         = MaxRoles + 1
	bannedRoleName         = "banned"
	RoleNone        uint32 = 0 // whoever is not in the participant list
	// RoleBanned is the banned role in rooms whose role 1 is named "banned".
	RoleBanned uint32 = 1
)

// RoleTargets lists the roles to which a holder may move a user from one
// role.
//
//	struct {                     draft-ietf-mimi-room-policy-04 section 3
//	  uint32 from_role_index;
//	  uint32 target_role_indexes<V>;
//	} SingleSourceRoleChangeTargets;
type RoleTargets struct {
	From    uint32
	Targets []uint32
}

// A Role says what its holders may do and how many there may be. Active
// participants are those with a client in the MLS group. A maximum of nil
// means none, a minimum of 0 none.
//
//	struct {                     draft-ietf-mimi-room-policy-04 section 3
//	  uint32 role_index;
//	  opaque role_name<V>;
//	  opaque role_description<V>;
//	  CapabilityType role_capabilities<V>;
//	  uint32 minimum_participants_constraint;
//	  optional<uint32> maximum_participants_constraint;
//	  uint32 minimum_active_participants_constraint;
//	  optional<uint32> maximum_active_participants_constraint;
//	  SingleSourceRoleChangeTargets authorized_role_changes<V>;
//	} Role;
type Role struct {
	Index           uint32
	Name            string
	Description     string
	Capabilities    []Capability
	MinParticipants uint32
	MaxParticipants *uint32
	MinActive       uint32
	MaxActive       *uint32
	Changes         []RoleTargets
}

// Can reports whether the role has a capability. A nil role has none.
func (r *Role) Can(c Capability) bool { return r != nil && slices.Contains(r.Capabilities, c) }

// MayChange reports whether the role authorises the transition of a user
// between two roles; 0 stands for being outside the participant list.
func (r *Role) MayChange(from, to uint32) bool {
	if r == nil {
		return false
	}
	return slices.ContainsFunc(r.Changes, func(c RoleTargets) bool {
		return c.From == from && slices.Contains(c.Targets, to)
	})
}

// isBanned reports whether r is the banned role.
func (r *Role) isBanned() bool {
	return r != nil && r.Index == RoleBanned && r.Name == bannedRoleName
}

// MarshalTLS writes r.
func (r *Role) MarshalTLS(w *tlspl.Writer) {
	w.Uint32(r.Index)
	w.Opaque([]byte(r.Name))
	w.Opaque([]byte(r.Description))
	tlspl.WriteVector(w, r.Capabilities, func(w *tlspl.Writer, c *Capability) { w.Uint16(uint16(*c)) })
	w.Uint32(r.MinParticipants)
	writeOptional32(w, r.MaxParticipants)
	w.Uint32(r.MinActive)
	writeOptional32(w, r.MaxActive)
	tlspl.WriteVector(w, r.Changes, func(w *tlspl.Writer, c *RoleTargets) {
		w.Uint32(c.From)
		tlspl.WriteVector(w, c.Targets, func(w *tlspl.Writer, t *uint32) { w.Uint32(*t) })
	})
}

// UnmarshalTLS reads r.
func (r *Role) UnmarshalTLS(rd *tlspl.Reader) {
	r.Index = rd.Uint32()
	r.Name = readText(rd, MaxRoleName)
	r.Description = readText(rd, MaxRoleText)
	r.Capabilities = tlspl.ReadVector(rd, MaxCapabilities, func(rd *tlspl.Reader, c *Capability) {
		*c = Capability(rd.Uint16())
	})
	r.MinParticipants = rd.Uint32()
	r.MaxParticipants = readOptional32(rd)
	r.MinActive = rd.Uint32()
	r.MaxActive = readOptional32(rd)
	r.Changes = tlspl.ReadVector(rd, maxRoleChanges, func(rd *tlspl.Reader, c *RoleTargets) {
		c.From = rd.Uint32()
		c.Targets = tlspl.ReadVector(rd, maxRoleChanges, func(rd *tlspl.Reader, t *uint32) { *t = rd.Uint32() })
	})
}

// RoleData is the data of the roles_list component; an update has the same
// form and replaces it. Treat it as immutable.
//
//	struct { Role roles<V>; } RoleData;
type RoleData []Role

// MarshalTLS writes d.
func (d RoleData) MarshalTLS(w *tlspl.Writer) {
	tlspl.WriteVector(w, d, func(w *tlspl.Writer, r *Role) { w.Value(r) })
}

// UnmarshalTLS reads d and checks what must hold for every room: unique
// indexes, and canOpenJoin on no role but 0.
func (d *RoleData) UnmarshalTLS(r *tlspl.Reader) {
	roles := RoleData(tlspl.ReadVector(r, MaxRoles, func(rd *tlspl.Reader, role *Role) { rd.Value(role) }))
	if r.Err() != nil {
		return
	}
	if err := roles.check(); err != nil {
		r.Fail(fmt.Errorf("%w: %w", tlspl.ErrSyntax, err))
		return
	}
	*d = roles
}

func (d RoleData) check() error {
	for i := range d {
		for j := range i {
			if d[i].Index == d[j].Index {
				return fmt.Errorf("room: role %d is defined twice", d[i].Index)
			}
		}
		if d[i].Index != RoleNone && d[i].Can(CanOpenJoin) {
			return fmt.Errorf("room: role %d has canOpenJoin, which only role 0 may have", d[i].Index)
		}
	}
	return nil
}

// Role returns the role of an index, or nil.
func (d RoleData) Role(index uint32) *Role {
	for i := range d {
		if d[i].Index == index {
			return &d[i]
		}
	}
	return nil
}

// ByName returns the role of a name, or nil.
func (d RoleData) ByName(name string) *Role {
	for i := range d {
		if d[i].Name == name {
			return &d[i]
		}
	}
	return nil
}

// IsBanned reports whether an index is that of the banned role.
func (d RoleData) IsBanned(index uint32) bool {
	return index == RoleBanned && d.Role(index).isBanned()
}
