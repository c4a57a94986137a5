package client

import (
	"fmt"
	"time"

	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/mimi"
)

// EntryKind says what an Entry tells.
type EntryKind uint8

// Kinds of entries.
const (
	EntryMessage EntryKind = 1 // someone said something
	EntryChange  EntryKind = 2 // members, roles or the room's description changed
	EntryProblem EntryKind = 3 // something did not verify and was not applied
)

// String returns a word for the kind.
func (k EntryKind) String() string {
	switch k {
	case EntryMessage:
		return "message"
	case EntryChange:
		return "change"
	case EntryProblem:
		return "problem"
	}
	return fmt.Sprintf("0x%02X", uint8(k))
}

// An Entry is one line of a room's history, in the order of the room's log.
type Entry struct {
	// Seq numbers the entries of this device's history of the room from 1,
	// without gaps.
	Seq uint64 `json:"seq"`
	// Position is the place in the hub's log. Several entries can stem from
	// one position.
	Position uint64 `json:"position"`
	// Time is when the hub accepted it.
	Time time.Time `json:"time"`
	Kind EntryKind `json:"kind"`
	// User and Device are who did it: the sender of a message, the committer
	// of a change. They are zero in a problem whose author is not proven.
	User   mimi.URI `json:"user,omitzero"`
	Device mimi.URI `json:"device,omitzero"`
	// Own is set if this very device did it.
	Own bool `json:"own,omitempty"`

	// With EntryMessage: the ID, the media type, and the content as it was
	// sent. Replaces and InReplyTo are those of the content.
	ID        content.MessageID  `json:"id,omitzero"`
	MediaType string             `json:"type,omitempty"`
	Content   []byte             `json:"content,omitempty"`
	Replaces  *content.MessageID `json:"replaces,omitempty"`
	InReplyTo *content.MessageID `json:"reply,omitempty"`

	Change  *Change  `json:"change,omitempty"`  // with EntryChange
	Problem *Problem `json:"problem,omitempty"` // with EntryProblem
}

// Message decodes the content of a message entry.
func (e *Entry) Message() (*content.Message, error) {
	if e.Kind != EntryMessage || e.MediaType != content.MediaTypeContent {
		return nil, fmt.Errorf("client: entry %d is not a MIMI message", e.Seq)
	}
	return content.DecodeMax(e.Content, maxContent)
}

// Text returns a message as text for a terminal, without control characters;
// it is empty for other entries.
func (e *Entry) Text() string {
	m, err := e.Message()
	if err != nil {
		return ""
	}
	return m.Text()
}

// maxContent is the largest content that is sent or received, in octets. It
// leaves room for the framing in mimi.MaxSubmitRequest.
const maxContent = 1000 << 10

// A Change tells how one commit changed a room.
type Change struct {
	Created bool       `json:"created,omitempty"` // the room was created
	Self    bool       `json:"self,omitempty"`    // this device became a member, or ceased to be one
	Joined  []mimi.URI `json:"joined,omitempty"`  // users who came in by themselves
	Added   []mimi.URI `json:"added,omitempty"`   // users who were added by Entry.User
	Left    []mimi.URI `json:"left,omitempty"`    // users who left
	Removed []mimi.URI `json:"removed,omitempty"` // users who were removed by Entry.User
	Banned  []mimi.URI `json:"banned,omitempty"`
	// Roles are changes of users who stay.
	Roles []RoleChange `json:"roles,omitempty"`
	// NewDevices and LostDevices belong to users who were and stay
	// participants. A new device can read what is said from now on.
	NewDevices  []mimi.URI `json:"new_devices,omitempty"`
	LostDevices []mimi.URI `json:"lost_devices,omitempty"`
	Name        *string    `json:"name,omitempty"`    // the new name
	Subject     *string    `json:"subject,omitempty"` // the new subject
	Policy      bool       `json:"policy,omitempty"`  // roles or base policy changed
	Epoch       uint64     `json:"epoch"`             // after the change
}

// Empty reports whether nothing that people notice has changed.
func (c *Change) Empty() bool {
	return !c.Created && !c.Self && !c.Policy && c.Name == nil && c.Subject == nil &&
		len(c.Joined)+len(c.Added)+len(c.Left)+len(c.Removed)+len(c.Banned)+len(c.Roles)+len(c.NewDevices)+len(c.LostDevices) == 0
}

// A RoleChange gives a participant another role.
type RoleChange struct {
	User mimi.URI `json:"user"`
	Role uint32   `json:"role"`
	Name string   `json:"name"`
}

// A ProblemCode names a kind of problem.
type ProblemCode string

// Problem codes.
const (
	ProblemMalformed   ProblemCode = "malformed"     // not parsable
	ProblemDecrypt     ProblemCode = "undecryptable" // no key fits, or the key was used
	ProblemContent     ProblemCode = "bad-content"   // decrypted, but to be discarded
	ProblemSender      ProblemCode = "bad-sender"    // the sender may not send
	ProblemEdit        ProblemCode = "bad-edit"      // an edit of somebody else's message
	ProblemProposal    ProblemCode = "bad-proposal"  // a proposal does not verify
	ProblemCommit      ProblemCode = "bad-commit"    // a commit does not verify: the room is frozen
	ProblemGap         ProblemCode = "gap"           // a commit is missing: the room is frozen
	ProblemStale       ProblemCode = "stale"         // a handshake message of an epoch that is over
	ProblemCloned      ProblemCode = "cloned"        // a message in this device's name that it did not send
	ProblemWelcome     ProblemCode = "bad-welcome"   // an invitation does not verify
	ProblemUnsupported ProblemCode = "unsupported"   // a kind of message that this version does not know
)

// A Problem is something that did not verify. It was not applied.
type Problem struct {
	Code ProblemCode `json:"code"`
	Text string      `json:"text"`
}

func (p *Problem) Error() string { return fmt.Sprintf("client: %s: %s", p.Code, p.Text) }

// RoomStatus says how the device stands to a room.
type RoomStatus uint8

// Room statuses.
const (
	RoomNone    RoomStatus = 0 // not known
	RoomJoining RoomStatus = 1 // a join is under way
	RoomActive  RoomStatus = 2 // a member
	RoomLeaving RoomStatus = 3 // asked to leave; others have to commit it
	RoomLeft    RoomStatus = 4 // was a member
	RoomFrozen  RoomStatus = 5 // the log can't be verified
)

// String returns a word for the status.
func (s RoomStatus) String() string {
	names := [...]string{"none", "joining", "active", "leaving", "left", "frozen"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("0x%02X", uint8(s))
}

// A Room is what a device knows about a room at a glance.
type Room struct {
	URI     mimi.URI
	Status  RoomStatus
	Name    string
	Subject string
	Epoch   uint64
	Members int // devices
	Users   int // participants
	// Position is up to where the log was applied, LastSeq the number of
	// the latest history entry.
	Position uint64
	LastSeq  uint64
	Unposted int      // messages of this device that are not in the log
	Frozen   *Problem // with RoomFrozen
	Pending  int      // proposals that wait for a commit
}

// A Member is a participant of a room with its devices in the group.
type Member struct {
	User     mimi.URI
	Role     uint32
	RoleName string
	Devices  []mimi.URI
}

// OutgoingStatus says how far a message of this device has come.
type OutgoingStatus uint8

// Outgoing statuses.
const (
	// OutgoingQueued: it waits until it may be encrypted, because the device
	// has not seen the whole log or proposals have to be committed first.
	OutgoingQueued OutgoingStatus = 1
	// OutgoingPending: encrypted; it is unknown whether the hub has it.
	OutgoingPending OutgoingStatus = 2
	// OutgoingForwarding: the own provider keeps it until the hub can be
	// reached.
	OutgoingForwarding OutgoingStatus = 3
	// OutgoingAccepted: the hub has it; it will appear in the log.
	OutgoingAccepted OutgoingStatus = 4
	// OutgoingPosted: it is in the log; its entry is in the history.
	OutgoingPosted OutgoingStatus = 5
	// OutgoingRejected: it was refused for good.
	OutgoingRejected OutgoingStatus = 6
)

// String returns a word for the status.
func (s OutgoingStatus) String() string {
	names := [...]string{"", "queued", "pending", "forwarding", "accepted", "posted", "rejected"}
	if s > 0 && int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("0x%02X", uint8(s))
}

// An Outgoing is a message of this device that is not in the log.
type Outgoing struct {
	ID      content.MessageID
	Status  OutgoingStatus
	Created time.Time
	Content []byte
	Reason  string // with OutgoingRejected
}

// EventKind says what an Event tells.
type EventKind uint8

// Kinds of events.
const (
	EventEntry        EventKind = 1 // Entry was added to the history of Room
	EventOutgoing     EventKind = 2 // Outgoing of Room has a new status
	EventRoom         EventKind = 3 // what Client.Room says about Room has changed
	EventConnected    EventKind = 4 // the stream is open
	EventDisconnected EventKind = 5 // the stream is closed; Err says why
	EventCaughtUp     EventKind = 6 // the device has the whole log of Room
	EventProblem      EventKind = 7 // something outside of a room failed; Err says what
	EventLagged       EventKind = 8 // events were dropped: read the history
)

// String returns a word for the kind.
func (k EventKind) String() string {
	names := [...]string{"", "entry", "outgoing", "room", "connected", "disconnected", "caught-up", "problem", "lagged"}
	if k > 0 && int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("0x%02X", uint8(k))
}

// An Event tells that something has changed, after the change was stored.
type Event struct {
	Kind     EventKind
	Room     mimi.URI
	Entry    *Entry    // shared; do not change it
	Outgoing *Outgoing // shared; do not change it
	Err      error
}
