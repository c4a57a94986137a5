// Package hub decides for the rooms that this provider owns: it is the single
// arbiter of what happens in them and in which order
// (draft-ietf-mimi-protocol-06, sections 5.2 to 5.6 and 7).
//
// [Hub] comes first. Every request about a room goes to the one goroutine that
// owns the room ([owner.Pool]), which holds the room's state in memory. A
// request is verified by package room, the same code that replicas and clients
// run; what is accepted is appended to the room's log, and only then is it
// answered and distributed.
//
// Promises:
//
//   - An answer "success" or "accepted" means that the event is on stable
//     storage, together with the state it leads to, the windows in which local
//     devices may read, the Welcomes that go with it and the set of followers.
//   - A request is recognised by the SHA-256 of its (first) MLSMessage, for as
//     long as the log is kept: whoever repeats it gets the first answer.
//   - Of one epoch, one commit is accepted. Its GroupInfo is kept only if it
//     describes exactly the new epoch; otherwise the commit is refused, since
//     nobody could join from outside any more.
//   - Timestamps strictly increase within a room, in milliseconds.
//   - A follower is a provider with at least one client in the group. One that
//     loses its last client still gets the commit by which it does.
//
// Choices where the drafts are silent: messages up to [EpochTolerance] epochs
// old are accepted, since their senders may not have seen the last commits;
// a Welcome goes whole to each provider that has clients among the added, after
// the commit and before the next event, with the full tree; which those are
// follows from the verified credentials in the commit, so that no memory of
// claimed key packages is needed; the requester of
// key material for a room must be a participant who may add others, else the
// answer is noConsent; GroupInfo is given to participants, to those
// who may join an open room, and to the provider itself of a participant, for
// its replica.
//
// What it does not do yet: franking, joining codes, proposals of its own as an
// external sender.
package hub
