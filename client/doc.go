// Package client is the SDK of a device: it holds the device's keys, takes
// part in rooms, and keeps what was said. The command line, the terminal and
// the web client are built on it.
//
// It speaks draft-ietf-mimi-protocol-06 and RFC 9420 to its own provider (see
// package mimi/local) over a [Transport], and remembers everything in a
// [Store]. Start with [Enrol] for a new device or [Open] for an existing one,
// then call [Client.Run], which keeps the device in step until its context
// ends. All other methods may be called at any time and from any goroutine.
//
// What it promises:
//
//   - It believes no server. Every certificate is checked against the anchor
//     of its domain, every commit against the room's policy, and every member
//     of a group must belong to a participant of the room. A KeyPackage that
//     was swapped, a device that nobody added and a commit that the policy
//     forbids are refused. A room whose log can't be followed any further is
//     frozen with a [Problem] that says why; it never diverges silently.
//   - A crash at any instant loses nothing and repeats nothing. What a batch
//     of events changes is stored in one step together with the position up
//     to which they were applied. Whatever precedes a sending — a used key, a
//     message, a commit — is on the medium before the bytes leave.
//   - A message that is sent is shown as posted only once it was seen in the
//     room's log. Until then it is pending, and sent again byte for byte until
//     the hub has answered. It is encrypted anew, under the same message ID,
//     only after a definite refusal because of its epoch; receivers drop
//     message IDs that they have seen.
//   - Others' proposals are committed before anything is sent (RFC 9420
//     section 12.4).
//
// What it does not do: it does not download attachments, and it does not renew
// the device's certificate.
package client
