// Package mls implements Messaging Layer Security (RFC 9420) and the MLS
// extensions that messaging providers need (draft-ietf-mls-extensions-10:
// application data in the group, SelfRemove, safe AAD, framing of
// application content, AppAck, application PSKs, safe labels and the safe
// exporter, last-resort KeyPackages and multi-credentials).
//
// [Group] comes first: a member's view of a group, which creates, sends and
// follows it. [PublicGroup] is the view of one who is not a member, such as
// a hub: it verifies all that can be verified without secrets. Both share
// [State], the immutable public state of one epoch, and [StagedCommit], a
// verified change that takes effect only when it is merged. [Config] brings
// what the package cannot know: who a credential belongs to, and the logic
// of application components.
//
// Nothing changes before Merge: an operation that fails leaves the group as
// it was. Every key is used once and wiped afterwards; what
// [Group.Records] hands out for storage holds no consumed key.
//
// Decoded values alias their input, except those of [Unmarshal], which
// copies it first. A LeafNode, KeyPackage, GroupInfo or message keeps the
// bytes in which it was received, since they are what was signed: to change
// one, build a new one.
//
// A group may be continued in another one with other parameters
// ([Group.Reinitialize], after a commit of a ReInit), or branch off from it
// ([Group.Branch]).
//
// All cipher suites of RFC 9420 are usable, and a hybrid post-quantum one,
// [XWingAES256SHA384Ed25519], where [Config.CipherSuites] lists it. HPKE is
// RFC 9180 in base mode, over crypto/ecdh, crypto/mlkem, X448 of
// cloudflare/circl, and X25519 over the field arithmetic and base point table
// of filippo.io/edwards25519, all constant time.
package mls

import (
	"bytes"

	"github.com/comity-im/comity/internal/tlspl"
)

// Marshal returns the encoding of v.
func Marshal(v tlspl.Marshaler) ([]byte, error) { return tlspl.Marshal(v) }

// Unmarshal decodes b into v and fails unless all of b is consumed. v does
// not alias b.
func Unmarshal(b []byte, v tlspl.Unmarshaler) error {
	return tlspl.Unmarshal(bytes.Clone(b), v)
}
