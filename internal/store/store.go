// Package store is the contract between a provider and its database.
//
// Start with Store. It is made of small interfaces, one per noun; a consumer
// should ask for the ones it uses. The engines are in sub-packages; every one
// passes the suite in storetest.
//
// # Promises that hold for every method
//
//   - A method is one transaction. It happens whole or not at all, and it
//     touches one partition: a room, a device, a user or a peer domain. (What an
//     Append says about mail and requests is written with it.)
//   - When a writing method returns nil, the change is on stable storage: it
//     survives a crash of the process and a power cut.
//   - When it returns the error of its context, or ErrBroken, the outcome is
//     unknown: the change may have been made or still be made. With any other error
//     nothing was written. Every write that matters can be repeated; each method
//     says how it recognises the repetition.
//   - A method sees every write that returned before it was called.
//   - All methods may be called from many goroutines.
//   - Slices handed in are not changed, and not kept once the method has returned;
//     only after the error of its context they may still be read. Slices handed out
//     belong to the caller.
//
// # Units
//
// Times are milliseconds since the Unix epoch, as on the MIMI wire. A position is
// a place in the log of one room: 1, 2, 3 … without gaps. 0 means "before the
// first". Cursors are (room, position) and nothing else.
//
// # Errors
//
// The sentinels below are matched with errors.Is. Anything else that a method
// returns is a fault of the engine.
package store

import (
	"context"
	"errors"
	"fmt"
)

// Store is everything a provider keeps.
type Store interface {
	Rooms
	Directory
	KeyPackages
	Mailboxes
	Peers
	Requests
	Settings

	// Expire forgets what is of no more use at the time now: KeyPackages and
	// claim routes past their NotAfter, claim answers past RepeatUntil, enrolment
	// codes past their Expires, and mail hashes that are older than MailMemory.
	// Losing its effect in a crash is harmless.
	Expire(ctx context.Context, now uint64) error

	// Check reads through the whole store and reports the first damage it finds
	// as ErrCorrupt. It may take minutes on a large store.
	Check(ctx context.Context) error

	// Close waits for writes under way, then releases the store. Calls that come
	// later get ErrClosed.
	Close() error
}

// Errors of every engine.
var (
	// ErrNotFound: the thing asked for is not there.
	ErrNotFound = errors.New("store: not found")
	// ErrNoRoom: the room is not known. It is also an ErrNotFound.
	ErrNoRoom = fmt.Errorf("%w: no such room", ErrNotFound)
	// ErrExists: the thing to be created is there already.
	ErrExists = errors.New("store: exists already")
	// ErrWrongEpoch is matched by *WrongEpochError.
	ErrWrongEpoch = errors.New("store: wrong epoch")
	// ErrWrongHead is matched by *WrongHeadError.
	ErrWrongHead = errors.New("store: wrong head")
	// ErrInvalid: the request makes no sense (an empty name, a value over its limit).
	ErrInvalid = errors.New("store: invalid request")
	// ErrFull: the disk is full. Nothing was written; the store can be used again
	// as soon as there is space.
	ErrFull = errors.New("store: the disk is full; free some space, then retry")
	// ErrBroken: an earlier write or flush failed, so what is on disk is no longer
	// known. Every later call fails with it until the process starts anew.
	ErrBroken = errors.New("store: a write to disk failed; check the disk, then restart the server")
	// ErrCorrupt: the database on disk is damaged.
	ErrCorrupt = errors.New("store: the database is damaged; restore it from a backup")
	// ErrLocked: another process uses the database.
	ErrLocked = errors.New("store: the database is in use by another process; stop it first")
	// ErrTooNew: the database was written by a newer version of this program.
	ErrTooNew = errors.New("store: the database was written by a newer version; upgrade this program")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store: closed")
)

// WrongEpochError says that a room is not in the epoch that the caller expected.
type WrongEpochError struct {
	Current uint64 // the epoch of the room now
}

func (e *WrongEpochError) Error() string {
	return fmt.Sprintf("store: wrong epoch: the room is in epoch %d", e.Current)
}

// Is makes errors.Is(err, ErrWrongEpoch) true.
func (e *WrongEpochError) Is(target error) bool { return target == ErrWrongEpoch }

// WrongHeadError says that the log of a room does not end where the caller expected.
type WrongHeadError struct {
	Current uint64 // the last position of the room now
}

func (e *WrongHeadError) Error() string {
	return fmt.Sprintf("store: wrong head: the room is at position %d", e.Current)
}

// Is makes errors.Is(err, ErrWrongHead) true.
func (e *WrongHeadError) Is(target error) bool { return target == ErrWrongHead }

// Code is the stable word for an error of this package, for logs and for the
// operator's documentation: "STORE-FULL" and the like. Other errors give "".
func Code(err error) string {
	for _, c := range []struct {
		err  error
		code string
	}{
		{ErrFull, "STORE-FULL"},
		{ErrCorrupt, "STORE-CORRUPT"},
		{ErrLocked, "STORE-LOCKED"},
		{ErrTooNew, "STORE-TOO-NEW"},
		{ErrBroken, "STORE-BROKEN"},
		{ErrClosed, "STORE-CLOSED"},
		{ErrInvalid, "STORE-INVALID"},
		{ErrWrongEpoch, "STORE-WRONG-EPOCH"},
		{ErrWrongHead, "STORE-WRONG-HEAD"},
		{ErrExists, "STORE-EXISTS"},
		{ErrNotFound, "STORE-NOT-FOUND"},
	} {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return ""
}

// Limits that every engine keeps; what is over them is ErrInvalid.
const (
	MaxName  = 4096     // bytes in a URI, domain or key
	MaxValue = 16 << 20 // bytes in a body or value
	MaxItems = 1 << 16  // entries in any list of one request

	// MailMemory is how long, in milliseconds, a mailbox knows the hash of mail
	// that was put into it: 7 days.
	MailMemory = 7 * 24 * 3600 * 1000
)

// Hash is a SHA-256 value. The zero Hash means none.
type Hash = [32]byte

// KV is a small record.
type KV struct {
	Key   string
	Value []byte
}

// Settings are the provider's own keys and other small blobs.
type Settings interface {
	// Setting gives the value of a key, or ErrNotFound.
	Setting(ctx context.Context, key string) ([]byte, error)
	// PutSetting sets a value, whatever was there.
	PutSetting(ctx context.Context, key string, value []byte) error
	// InitSetting sets the value if the key has none, and gives the value that is
	// there afterwards: of several callers one wins and all see its value.
	InitSetting(ctx context.Context, key string, value []byte) ([]byte, error)
	// DeleteSetting forgets a key. It is no error if there is none.
	DeleteSetting(ctx context.Context, key string) error
}
