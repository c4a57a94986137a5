package content

import (
	"fmt"
	"math"
)

// A Status is what became of a message at one recipient
// (draft-mahy-mimi-message-status-01). Values that are not listed are kept.
type Status uint8

// Statuses.
const (
	StatusUnread    Status = 0 // the user has marked it as not read
	StatusDelivered Status = 1
	StatusRead      Status = 2
	StatusExpired   Status = 3
	StatusDeleted   Status = 4
	StatusHidden    Status = 5
	StatusError     Status = 6
)

var statusNames = [...]string{"unread", "delivered", "read", "expired", "deleted", "hidden", "error"}

func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("0x%02X", uint8(s))
}

// A StatusReport tells the status of any number of messages:
//
//	MessageStatusReport = [ * PerMessageStatus ]
type StatusReport []MessageStatus

// A MessageStatus is the status of one message:
//
//	PerMessageStatus = [
//	    messageId: MessageId,
//	    status: baseStatus / $extStatus / unknownStatus  ; 0..255
//	]
type MessageStatus struct {
	ID     MessageID
	Status Status
}

// MaxStatuses is how many statuses one report may hold. The draft has no
// limit.
const MaxStatuses = 8192

// minStatus is the least number of octets that a MessageStatus takes.
const minStatus = 1 + 2 + MessageIDSize + 1

// Encode returns the deterministic encoding of s.
func (s StatusReport) Encode() ([]byte, error) {
	if len(s) > MaxStatuses {
		return nil, wrap(ErrTooLarge, "%d statuses, more than %d; send several reports", len(s), MaxStatuses)
	}
	b := make([]byte, 0, 3+len(s)*(minStatus+1))
	b = appendHead(b, majorArray, uint64(len(s)))
	for i := range s {
		b = appendBytes(append(b, 0x80|2), s[i].ID[:])
		b = appendUint(b, uint64(s[i].Status))
	}
	return b, nil
}

// DecodeStatusReport reads a report in deterministic encoding. A failure is
// ErrSyntax, ErrTooLarge, or ErrHashAlgorithm for an ID that cannot be the
// ID of any message. If a report names a message twice, the later entry
// counts.
func DecodeStatusReport(b []byte) (StatusReport, error) {
	r := &reader{b: b}
	n := r.array("status report")
	if n > MaxStatuses {
		r.fail(ErrTooLarge, "%d statuses, more than %d", n, MaxStatuses)
	}
	if r.err == nil && n > uint64(r.left()/minStatus) {
		r.fail(ErrSyntax, "%d statuses in the last %d octets", n, r.left())
	}
	if r.err != nil {
		return nil, r.err
	}
	s := make(StatusReport, n)
	for i := range s {
		r.arrayOf(2, "status")
		s[i].ID = readID(r, "messageId")
		if r.err == nil && !s[i].ID.KnownAlgorithm() {
			r.fail(ErrHashAlgorithm, "0x%02X", s[i].ID[0])
		}
		s[i].Status = Status(r.uint(math.MaxUint8, "status"))
	}
	if err := r.finish(); err != nil {
		return nil, err
	}
	return s, nil
}

// Next returns the status of a message after a report of update, where s is
// the status that reports before it, in the order of the hub's timestamps,
// left. The last report counts, with two exceptions: nothing follows deleted,
// and delivered, which a further client of the same user reports, takes
// nothing back.
func (s Status) Next(update Status) Status {
	switch {
	case s == StatusDeleted:
		return s
	case update == StatusDelivered && (s == StatusRead || s == StatusExpired || s == StatusHidden):
		return s
	}
	return update
}
