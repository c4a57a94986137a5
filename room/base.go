package room

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// maxComponentIDs bounds the list in a BaseRoomPolicy.
const maxComponentIDs = 256

// A BaseRoomPolicy is the data of the base_room_policy component; an update
// has the same form and replaces it.
//
//	struct {                     draft-ietf-mimi-room-policy-04 section 5
//	  bool fixed_membership;
//	  bool parent_dependant;
//	  Uri parent_room<V>;                  /* none or one */
//	  bool multi_device;
//	  optional<uint32> max_clients;
//	  optional<uint32> max_users;
//	  bool pseudonyms_allowed;
//	  bool persistent_room;
//	  bool discoverable;
//	  ComponentID policy_component_ids<V>;
//	} BaseRoomPolicy;
type BaseRoomPolicy struct {
	FixedMembership   bool
	ParentDependent   bool
	ParentRoom        mimi.URI // zero unless ParentDependent
	MultiDevice       bool
	MaxClients        *uint32 // clients in the MLS group
	MaxUsers          *uint32 // participants that are not banned
	PseudonymsAllowed bool
	PersistentRoom    bool
	Discoverable      bool
	PolicyComponents  []mls.ComponentID
}

// MarshalTLS writes p.
func (p *BaseRoomPolicy) MarshalTLS(w *tlspl.Writer) {
	if p.ParentDependent != p.ParentRoom.Is(mimi.KindRoom) {
		w.Fail(fmt.Errorf("room: parent room %q does not fit parent_dependent %v", p.ParentRoom, p.ParentDependent))
	}
	w.Bool(p.FixedMembership)
	w.Bool(p.ParentDependent)
	w.Vector(func(w *tlspl.Writer) {
		if !p.ParentRoom.IsZero() {
			w.Value(p.ParentRoom)
		}
	})
	w.Bool(p.MultiDevice)
	writeOptional32(w, p.MaxClients)
	writeOptional32(w, p.MaxUsers)
	w.Bool(p.PseudonymsAllowed)
	w.Bool(p.PersistentRoom)
	w.Bool(p.Discoverable)
	tlspl.WriteVector(w, p.PolicyComponents, func(w *tlspl.Writer, id *mls.ComponentID) { w.Uint16(uint16(*id)) })
}

// UnmarshalTLS reads p.
func (p *BaseRoomPolicy) UnmarshalTLS(r *tlspl.Reader) {
	*p = BaseRoomPolicy{}
	p.FixedMembership = r.Bool()
	p.ParentDependent = r.Bool()
	for _, u := range tlspl.ReadVector(r, 1, func(r *tlspl.Reader, u *mimi.URI) { r.Value(u) }) {
		p.ParentRoom = u
	}
	if r.Err() == nil && p.ParentDependent != p.ParentRoom.Is(mimi.KindRoom) {
		r.Failf("parent room %q does not fit parent_dependent %v", p.ParentRoom, p.ParentDependent)
	}
	if r.Err() == nil && !p.ParentDependent && !p.ParentRoom.IsZero() {
		r.Failf("parent room %q in a room that depends on none", p.ParentRoom)
	}
	p.MultiDevice = r.Bool()
	p.MaxClients = readOptional32(r)
	p.MaxUsers = readOptional32(r)
	p.PseudonymsAllowed = r.Bool()
	p.PersistentRoom = r.Bool()
	p.Discoverable = r.Bool()
	p.PolicyComponents = tlspl.ReadVector(r, maxComponentIDs, func(r *tlspl.Reader, id *mls.ComponentID) {
		*id = mls.ComponentID(r.Uint16())
	})
}
