package room

import (
	"bytes"
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// Components returns the logic of the components that can change in a room:
// participant_list, room_metadata, roles_list and base_room_policy. Whether
// the sender may make a change is not their matter but that of [View].
func Components() mls.Components {
	return mls.Components{
		mimi.ComponentParticipantList: participantLogic{},
		mimi.ComponentRoomMetadata:    replaceLogic{func() tlspl.Unmarshaler { return new(RoomMetadata) }},
		mimi.ComponentRolesList:       replaceLogic{func() tlspl.Unmarshaler { return new(RoleData) }},
		mimi.ComponentBaseRoomPolicy:  replaceLogic{func() tlspl.Unmarshaler { return new(BaseRoomPolicy) }},
	}
}

// participantLogic applies deltas to the participant list.
type participantLogic struct{}

func (participantLogic) Update(old []byte, present bool, updates [][]byte) ([]byte, error) {
	if !present {
		return nil, fmt.Errorf("%w: the room has no participant list", ErrInvalidUpdate)
	}
	var list ParticipantList
	if err := tlspl.Unmarshal(old, &list); err != nil {
		return nil, fmt.Errorf("%w: participant list: %w", ErrInvalidUpdate, err)
	}
	deltas := make([]ParticipantListUpdate, len(updates))
	for i, b := range updates {
		if err := tlspl.Unmarshal(b, &deltas[i]); err != nil {
			return nil, fmt.Errorf("%w: participant list update: %w", ErrInvalidUpdate, err)
		}
	}
	next, err := list.Apply(deltas...)
	if err != nil {
		return nil, err
	}
	return tlspl.Marshal(next)
}

func (participantLogic) Remove([]byte) error { return errRemoval }

// replaceLogic is that of components whose update replaces the data; one
// update per commit.
type replaceLogic struct{ value func() tlspl.Unmarshaler }

func (l replaceLogic) Update(_ []byte, present bool, updates [][]byte) ([]byte, error) {
	if !present {
		return nil, fmt.Errorf("%w: the room does not have the component", ErrInvalidUpdate)
	}
	if len(updates) != 1 {
		return nil, fmt.Errorf("%w: %d updates in one commit, where one is allowed", ErrInvalidUpdate, len(updates))
	}
	if err := tlspl.Unmarshal(updates[0], l.value()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidUpdate, err)
	}
	return bytes.Clone(updates[0]), nil
}

func (replaceLogic) Remove([]byte) error { return errRemoval }

var errRemoval = fmt.Errorf("%w: a room cannot be without the component", ErrInvalidUpdate)
