package store

import "context"

// Rooms keeps the rooms of this provider: those it is the hub of and its replicas
// of others. A room is a log of events, a map of state records that is written as
// deltas, the windows in which local devices were members, and the windows in
// which other providers follow it.
type Rooms interface {
	// CreateRoom makes a room with its first state and events. ErrExists if there
	// is one of that name: nothing changes then.
	CreateRoom(ctx context.Context, req CreateRoom) (AppendResult, error)

	// Append changes a room. The checks are made in this order:
	//
	//  1. The room is known, else ErrNoRoom.
	//  2. If Dedup, or the Hash of any of Events, was seen in this room before,
	//     nothing is written and the result has Duplicate set and the position and
	//     timestamp of then. Dedup goes first, then the events in order. So a
	//     request that is repeated gets its first answer, even in a later epoch.
	//  3. ExpectEpoch, if given, is the room's epoch, else *WrongEpochError.
	//  4. ExpectHead, if given, is the room's head, else *WrongHeadError.
	//
	// Then everything is written as one: events, epoch, state, windows, mail,
	// requests. Two events with one Hash in a single Append are ErrInvalid.
	Append(ctx context.Context, req Append) (AppendResult, error)

	// Room describes a room; ErrNoRoom.
	Room(ctx context.Context, room string) (RoomInfo, error)
	// Rooms lists rooms by name, those greater than after, at most limit.
	Rooms(ctx context.Context, after string, limit int) ([]RoomInfo, error)
	// RoomState gives all state records of a room; ErrNoRoom. Info is the room at
	// the same moment, so that state and head agree.
	RoomState(ctx context.Context, room string) (state map[string][]byte, info RoomInfo, err error)

	// ReadLog gives the events of a room after a position, in order, at most
	// maxEvents and about maxBytes of bodies, but one event at least if there is
	// any. Zero means no limit. ErrNoRoom.
	ReadLog(ctx context.Context, room string, after uint64, maxEvents, maxBytes int) ([]Event, error)
	// FindEvent gives the event with a hash; ErrNoRoom, ErrNotFound.
	FindEvent(ctx context.Context, room string, hash Hash) (Event, error)

	// Memberships gives all windows of a device, past and present, in order of
	// room and From.
	Memberships(ctx context.Context, device string) ([]Membership, error)
	// Members gives the open windows of a room in order of device; ErrNoRoom.
	Members(ctx context.Context, room string) ([]Membership, error)
}

// NewEvent is an event to be appended.
type NewEvent struct {
	// Kind is the caller's.
	Kind uint8
	// Hash is the identity of the event in its room, by which repetitions are
	// found: SHA-256 of the MLSMessage. The zero Hash is never a repetition.
	Hash Hash
	// Timestamp is the hub's acceptance time. 0: the store assigns
	// max(now, last+1), so that assigned timestamps strictly increase in a room.
	// A timestamp that is given is kept as it is; one that is part of a signature
	// or of the body is made by the caller, who guards it with ExpectHead.
	Timestamp uint64
	// Body is opaque to the store.
	Body []byte
}

// Event is an event in the log of a room.
type Event struct {
	Position  uint64
	Timestamp uint64
	Kind      uint8
	Hash      Hash
	Body      []byte
}

// Delta changes the state records of a room: first Clear, then Delete, then Put.
type Delta struct {
	Clear  bool // forget all records first
	Delete []string
	Put    []KV
}

// MemberChange opens or closes the window of a local device in a room.
//
// A window opened by an Append starts at the position of the last event of that
// Append (the next position if it has none); a window that is closed ends at the
// same event, included. To join while a window is open, or to leave while none is,
// changes nothing. Changes are made in the order given.
type MemberChange struct {
	Device string
	User   string
	Join   bool // false: leave
}

// PeerChange opens or closes the window in which a provider follows a room. The
// positions are those of MemberChange. When a window is closed, what it covers is
// still delivered.
type PeerChange struct {
	Domain string
	Active bool
}

// CreateRoom is the request of Rooms.CreateRoom.
type CreateRoom struct {
	Room  string // URI
	Hub   string // domain of the hub
	IsHub bool   // this provider is the hub
	Epoch uint64

	Events   []NewEvent
	State    []KV
	Members  []MemberChange
	Peers    []PeerChange
	Mail     []NewMail
	Requests []NewRequest
}

// Append is the request of Rooms.Append. Every field but Room may be absent.
type Append struct {
	Room        string
	ExpectEpoch *uint64
	ExpectHead  *uint64
	NewEpoch    *uint64
	// Dedup is the identity of the whole request, if its events do not give one.
	Dedup Hash

	Events   []NewEvent
	State    Delta
	Members  []MemberChange
	Peers    []PeerChange
	Mail     []NewMail // with Room and Position filled in where they are absent
	Requests []NewRequest
}

// AppendResult is what became of an Append.
type AppendResult struct {
	// Duplicate: nothing was written; the rest describes the event found.
	Duplicate bool
	// Position and Timestamp of the last event; without events, of the room.
	Position  uint64
	Timestamp uint64
	// Events gives position and timestamp of each event. Empty for a duplicate.
	Events []Placed
	// MailIDs are those of Append.Mail, in its order. Empty for a duplicate.
	MailIDs []uint64
}

// Placed is where an event was put.
type Placed struct {
	Position  uint64
	Timestamp uint64
}

// RoomInfo describes a room.
type RoomInfo struct {
	Room          string
	Hub           string
	IsHub         bool
	Epoch         uint64
	Head          uint64 // last position, 0 if there is none
	LastTimestamp uint64 // greatest timestamp in the log
}

// Membership is a window of positions that a device may read.
type Membership struct {
	Room   string
	Device string
	User   string
	From   uint64 // first position, included
	To     uint64 // last position, included; 0 while the window is open
}
