package content

import (
	"errors"
	"fmt"
)

// Errors of [Decode] and [Receive]. A message that causes one of them is to
// be logged, without its content, and discarded.
var (
	// ErrSyntax: the octets are not the CDDL of the draft.
	ErrSyntax = errors.New("content: malformed message")
	// ErrNotDeterministic: well-formed, but not in the encoding of section
	// 6.1. An error that is ErrNotDeterministic is ErrSyntax too.
	ErrNotDeterministic = fmt.Errorf("%w: not in deterministic encoding", ErrSyntax)
	// ErrDataModel: a value that section 6.2 does not permit. An error that
	// is ErrDataModel is ErrSyntax too.
	ErrDataModel = fmt.Errorf("%w: outside the data model", ErrSyntax)

	ErrTooLarge      = errors.New("content: message is too large")
	ErrTooDeep       = errors.New("content: nested too deeply")
	ErrTooManyParts  = errors.New("content: too many body parts")
	ErrTopicTooLong  = errors.New("content: topic ID is too long")
	ErrPartSemantics = errors.New("content: unknown part semantics")
	ErrURITooLong    = errors.New("content: URI is longer than 65535 octets")

	ErrNotMember     = errors.New("content: sender is not a member of the group")
	ErrSenderURI     = errors.New("content: sender URI does not match the sender's credential")
	ErrRoomURI       = errors.New("content: room URI does not match the room")
	ErrDuplicate     = errors.New("content: message ID was already seen")
	ErrHashAlgorithm = errors.New("content: message ID has an unknown hash algorithm")
	ErrTimestamp     = errors.New("content: accepted timestamp is not plausible")
	ErrExpiry        = errors.New("content: expiry is more than a year away")
)

// ErrInvalid is matched by errors about a message that this side composed
// and that must not be sent.
var ErrInvalid = errors.New("content: message must not be sent")

// wrap returns an error that is sentinel. args may hold another error for %w.
func wrap(sentinel error, format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{sentinel}, args...)...)
}
