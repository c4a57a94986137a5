// Package replica keeps copies of rooms that other providers own
// (draft-ietf-mimi-protocol-06, sections 5.2 to 5.6), and carries the writes of
// local clients to the hubs of those rooms.
//
// [Replica] comes first. A hub's notification goes to the one goroutine that
// owns the room's copy ([owner.Pool]). Every event is verified by package room,
// the same code that the hub and the clients run, and appended to the copy's
// log in the order in which the hub sent it; only then is the notification
// answered with success.
//
// Promises:
//
//   - A notification is parsed whole before any of it is looked at. Events that
//     are in the log already are passed over, so a notification can be repeated.
//   - What cannot be verified is not stored and not served: the notification is
//     refused, the hub tries again, and the operator sees it. A hub that sends
//     what its own rules forbid is so found out.
//   - Nothing of a local write is stored while the hub answers. A message for a
//     hub that cannot be reached is queued durably before the client is told
//     "pending"; it reaches the hub once, in its place among the other pending
//     messages of the room, and the refusal of one is mailed to its device.
//
// How a copy begins: a hub tells a provider of a room as soon as a client of that
// provider is in the group. A notification of an unknown room is looked into
// only if a message in it concerns a device of ours: a Welcome for a KeyPackage
// that was claimed from us, a commit that adds one of our devices, or an
// external commit by one. Then the GroupInfo is fetched from the hub under our
// provider credential and verified, and the copy begins in the epoch it
// describes, its anchor. The hub may be epochs ahead of the notification by then.
// Commits from before the anchor cannot be verified here; they are kept for
// clients, who can, and the one that leads into the anchor's epoch must carry
// the anchor's confirmation tag. A copy that went without local clients, and so
// was no longer told of what happened, is anchored anew in the same way.
//
// All providers in a room must be peers of ours: what a client of another one
// signs can be verified only with that provider's anchor.
//
// Choices where the draft is silent: a device that the anchor's group holds may
// read all that the copy's log holds from the beginning of the copy; timestamps
// are stored as the hub sends them.
package replica
