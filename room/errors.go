package room

import (
	"errors"
	"fmt"

	"github.com/comity-im/comity/mls"
)

var (
	// ErrNotAllowed means that the room's policy does not permit a change or
	// a message.
	ErrNotAllowed = errors.New("room: not allowed")
	// ErrInvalidUpdate means that an update of a component breaks the rules
	// of its format, or conflicts with another one of the same commit.
	ErrInvalidUpdate = errors.New("room: invalid update")
	// ErrInvalidRoom means that a group is not a room that this package can
	// follow: its policy is missing, malformed or contradicts its members.
	ErrInvalidRoom = errors.New("room: not a valid room")
	// ErrWrongEpoch means that a message belongs to another epoch; see
	// [Error].
	ErrWrongEpoch = errors.New("room: message of another epoch")
)

// A Code is what a hub answers when it refuses an event.
type Code uint8

// The codes. They map one to one to the response codes of
// draft-ietf-mimi-protocol-06 sections 5.3 and 5.4.
const (
	CodeNotAllowed      Code = iota + 1
	CodeWrongEpoch           // Error.Epoch is the current one
	CodeInvalidProposal      // Error.Refs names the proposals where known
	CodeEpochTooOld          // application messages; Error.Epoch is the current one
)

// String returns the draft's name of the code.
func (c Code) String() string {
	switch c {
	case CodeNotAllowed:
		return "notAllowed"
	case CodeWrongEpoch:
		return "wrongEpoch"
	case CodeInvalidProposal:
		return "invalidProposal"
	case CodeEpochTooOld:
		return "epochTooOld"
	}
	return fmt.Sprintf("0x%02X", uint8(c))
}

// An Error is why [State.Apply] refuses an event.
type Error struct {
	Code  Code
	Epoch uint64            // current epoch, with CodeWrongEpoch and CodeEpochTooOld
	Refs  []mls.ProposalRef // with CodeInvalidProposal
	Err   error
}

// Error describes the refusal.
func (e *Error) Error() string { return fmt.Sprintf("room: %v: %v", e.Code, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of an error of this package; CodeNotAllowed for
// any other error.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeNotAllowed
}

func denied(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNotAllowed, fmt.Sprintf(format, args...))
}
