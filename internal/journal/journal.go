// Package journal writes to the log of a room and tells who listens.
//
// [Append] is what hub and replica share: one durable write, then the hints for
// local delivery, in the order that delivery relies on. It decides nothing.
package journal

import (
	"context"
	"crypto/sha256"

	"github.com/comity-im/comity/internal/store"
)

// A Notifier hears of what was stored, for delivery to local devices. Its
// methods must not block. For one room they are called in the order of
// positions, because one goroutine owns the room.
type Notifier interface {
	// Appended: events are in the log of a room.
	Appended(room string, events []store.Event)
	// MembersChanged: the windows of devices changed; called before Appended is
	// called for any later event.
	MembersChanged(room string, devices []string)
	// MailArrived: there is mail for a device.
	MailArrived(device string)
}

// A Store appends to rooms.
type Store interface {
	Append(ctx context.Context, req store.Append) (store.AppendResult, error)
}

// Append writes req and notifies n. After an error or for a duplicate nothing
// was written and nobody is told.
func Append(ctx context.Context, s Store, n Notifier, req *store.Append) (store.AppendResult, error) {
	res, err := s.Append(ctx, *req)
	if err != nil || res.Duplicate {
		return res, err
	}
	events := make([]store.Event, len(req.Events))
	for i, e := range req.Events {
		events[i] = store.Event{Position: res.Events[i].Position, Timestamp: res.Events[i].Timestamp, Kind: e.Kind, Hash: e.Hash, Body: e.Body}
	}
	Tell(n, req.Room, events, req.Members, req.Mail)
	return res, nil
}

// Tell notifies n of what was written.
func Tell(n Notifier, room string, events []store.Event, members []store.MemberChange, mail []store.NewMail) {
	if len(members) > 0 {
		devices := make([]string, len(members))
		for i, m := range members {
			devices[i] = m.Device
		}
		n.MembersChanged(room, devices)
	}
	if len(events) > 0 {
		n.Appended(room, events)
	}
	for _, m := range mail {
		n.MailArrived(m.Device)
	}
}

// WelcomeID is the identity of a Welcome of a room, for mailboxes and queues. It
// depends on the room: whoever has seen a Welcome can pass it on as one of
// another room, and that must not make the real one a repetition.
func WelcomeID(room string, message store.Hash) store.Hash {
	b := append([]byte("welcome "+room+" "), message[:]...)
	return sha256.Sum256(b)
}
