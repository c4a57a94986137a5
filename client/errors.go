package client

import "errors"

// The errors that callers tell apart with errors.Is, besides ErrUnreachable
// and ErrNoValue.
var (
	// ErrNotEnrolled: the store holds no device; use Enrol.
	ErrNotEnrolled = errors.New("client: this store holds no device; enrol one")
	// ErrEnrolled: the store holds a device already.
	ErrEnrolled = errors.New("client: this store holds a device already; open it")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("client: closed")
	// ErrNoRoom: the device knows no such room.
	ErrNoRoom = errors.New("client: no such room")
	// ErrNotMember: the device is not, or no longer, a member of the room.
	ErrNotMember = errors.New("client: not a member of the room")
	// ErrMember: the device is a member of the room already.
	ErrMember = errors.New("client: already a member of the room")
	// ErrFrozen: the room's log could not be verified; see Room.Frozen.
	ErrFrozen = errors.New("client: the room is frozen because its log can't be verified")
	// ErrNotAllowed: the room's policy, or the hub, does not permit it.
	ErrNotAllowed = errors.New("client: not allowed in this room")
	// ErrConflict: others kept changing the room at the same time; try again.
	ErrConflict = errors.New("client: the room kept changing; try again")
	// ErrRefused: a server presented something that does not verify, such as
	// a KeyPackage of somebody else. It was not used.
	ErrRefused = errors.New("client: refused what does not verify")
	// ErrNoKeyMaterial: a user can't be added, because none of its devices
	// has a usable KeyPackage, or there is no such user, or it does not want
	// to be added.
	ErrNoKeyMaterial = errors.New("client: no key material")
	// ErrRejected: a message was refused for good and will not be posted.
	ErrRejected = errors.New("client: message was rejected")
	// ErrUnknownMessage: no message with this ID.
	ErrUnknownMessage = errors.New("client: unknown message")
)
