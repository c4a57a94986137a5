// Package room is the room: who takes part in it, what each role may do, and
// how proposals and commits change it. It implements
// draft-ietf-mimi-room-policy-04 and section 7 of
// draft-ietf-mimi-protocol-06.
//
// [View] comes first: the policy and the membership of one epoch, derived
// from the public state of the room's MLS group. It judges commits,
// proposals and messages. A client keeps a View beside its mls.Group; hub
// and replica keep a [State], which adds the group's public state and the
// proposals that were accepted but not committed yet. The code is the same in
// all three places, so they cannot disagree, and a hub that cheats is caught
// by every client.
//
// The package promises, for every commit that it accepts:
//   - every client in the group belongs to a user in the participant list,
//     and that user's role is not the banned role;
//   - no client of a user who leaves, is removed or is banned stays;
//   - every change was authorised for the user who proposed it, by the roles
//     in force before the commit;
//   - a change that no rule allows is refused, be it a proposal type, a
//     component or a field that this version does not know.
//
// It has no input or output, no clock, no randomness and no goroutines.
// Credentials are verified by the mls.CredentialVerifier in mls.Config; this
// package only reads the names in them, through [Config].
//
// Not offered yet: pre-authorised users and joining codes (their
// capabilities grant nothing), proposals by external senders, ReInit, PSK and
// GroupContextExtensions proposals, changes to policy components other than
// those in [Components].
package room

// DraftRoomPolicy names the version of the room policy that this package
// implements.
const DraftRoomPolicy = "draft-ietf-mimi-room-policy-04"
