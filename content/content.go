// Package content is the MIMI content format of draft-ietf-mimi-content-09:
// what a message says, as the CBOR that travels inside an application
// message, and the message status reports of
// draft-mahy-mimi-message-status-01. It knows nothing of MLS or of the
// transport and is usable without them.
//
// Start with [Composer] to write messages, [Receive] to read them and
// [Renderer] to show them. [Message] is the container itself, with [Decode]
// and [Message.Encode].
//
// What it promises: Decode accepts only the deterministic encoding of RFC
// 8949 section 4.2.1 within the data model of section 6 of the draft, so
// encoding a decoded message gives the same octets; it allocates nothing for
// a length that the input does not hold; and unknown dispositions, extensions
// and media types are kept. Receive adds the discard rules of section 9.1.
// Text for a terminal never contains a control character.
//
// What it does not do: it stores nothing, downloads nothing, and decides
// nothing about capabilities; a caller passes what the room's policy allows
// as [Permissions].
package content

import "fmt"

// Drafts that this package implements.
const (
	Draft       = "draft-ietf-mimi-content-09"
	DraftStatus = "draft-mahy-mimi-message-status-01"
)

// Media types (sections 7.1 and 8.1). A client must be able to receive the
// first three.
const (
	MediaTypeContent    = "application/mimi-content"
	MediaTypePlain      = "text/plain;charset=utf-8"
	MediaTypeMarkdown   = "text/markdown;variant=GFM-MIMI"
	MediaTypeCommonMark = "text/markdown;variant=CommonMark"
	MediaTypeHTML       = "text/html;charset=utf-8"
	MediaTypeStatus     = "application/mimi-message-status"
)

// SaltSize is the length in octets of the salt of every message.
const SaltSize = 16

// A Message is the MIMI content container (section 4.1):
//
//	mimiContent = [
//	  salt: bstr .size 16,
//	  replaces: null / MessageId,
//	  topicId: bstr,
//	  expires: null / Expiration,
//	  inReplyTo: null / MessageId,
//	  mimiExtensions: extensions,
//	  nestedPart: NestedPart
//	]
type Message struct {
	Salt       [SaltSize]byte
	Replaces   *MessageID  // first instance of the message that this one edits or deletes
	TopicID    []byte      // messages with equal, non-empty topics belong together
	Expires    *Expiration // a hint; nil means never
	InReplyTo  *MessageID  // the very version of the message that this one answers
	Extensions Extensions
	Body       NestedPart
}

// An Expiration says when receivers should delete a message (section 4.1):
//
//	Expiration = [ relative: bool, time: uint .size 4 ]
type Expiration struct {
	Relative bool   // Time counts from the moment the receiver has read the message
	Time     uint32 // seconds; when absolute, since the start of the UNIX epoch
}

// A Disposition is the intended use of a part (section 8.2.2). Values that
// are not listed are kept and treated as [Render].
type Disposition uint8

// Dispositions (section 8.2.2).
const (
	Unspecified Disposition = 0
	Render      Disposition = 1
	Reaction    Disposition = 2
	Profile     Disposition = 3
	Inline      Disposition = 4
	Icon        Disposition = 5
	Attachment  Disposition = 6
	Session     Disposition = 7
	Preview     Disposition = 8
)

var dispositionNames = [...]string{
	"unspecified", "render", "reaction", "profile", "inline", "icon", "attachment", "session", "preview",
}

// Known reports whether d is in the registry of the draft.
func (d Disposition) Known() bool { return int(d) < len(dispositionNames) }

// Effective returns d, or Render when d is unknown (section 9.1).
func (d Disposition) Effective() Disposition {
	if d.Known() {
		return d
	}
	return Render
}

func (d Disposition) String() string {
	if d.Known() {
		return dispositionNames[d]
	}
	return fmt.Sprintf("0x%02X", uint8(d))
}

// A Cardinality tells the four kinds of part apart (section 4.4).
type Cardinality uint8

// Cardinalities (section 4.4).
const (
	CardinalityNull     Cardinality = 0
	CardinalitySingle   Cardinality = 1
	CardinalityExternal Cardinality = 2
	CardinalityMulti    Cardinality = 3
)

// PartSemantics says how the parts of a [MultiPart] belong together
// (section 4.4). A message with any other value is refused.
type PartSemantics uint8

// Part semantics (section 4.4).
const (
	ChooseOne  PartSemantics = 0 // the receiver picks exactly one part to process
	SingleUnit PartSemantics = 1 // all parts are one unit: all are processed or none
	ProcessAll PartSemantics = 2 // as many parts as possible are processed, one by one
)

func (s PartSemantics) String() string {
	switch s {
	case ChooseOne:
		return "chooseOne"
	case SingleUnit:
		return "singleUnit"
	case ProcessAll:
		return "processAll"
	}
	return fmt.Sprintf("0x%02X", uint8(s))
}
