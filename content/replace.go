package content

import (
	"bytes"
	"errors"
	"slices"
)

// Errors about how messages refer to each other.
var (
	ErrReplyLoop     = errors.New("content: replies refer back to themselves")
	ErrReplaceLoop   = errors.New("content: edits refer back to themselves")
	ErrNotSender     = errors.New("content: only the original sender may edit or delete this message")
	ErrReplaceFields = errors.New("content: an edit may change nothing but the body")
)

// MaxChain is how many references [ReplyLoop] and [FirstInstance] follow.
const MaxChain = 4096

// ReplyLoop follows the chain of inReplyTo that begins at inReplyTo and
// reports ErrReplyLoop if it comes to id, or to any message twice (section
// 4.1). id is the ID of the message that has this inReplyTo; for a message
// that is not composed yet, pass the zero ID. lookup returns the inReplyTo of
// a message, and nil for one that is unknown or answers nothing. Chains are
// followed for MaxChain messages.
func ReplyLoop(id MessageID, inReplyTo *MessageID, lookup func(MessageID) *MessageID) error {
	_, loop := follow(id, inReplyTo, lookup)
	if loop {
		return ErrReplyLoop
	}
	return nil
}

// FirstInstance follows replaces from a message to the first instance of
// what it edits or deletes (section 5.5); an unknown message counts as one.
// lookup returns the replaces of a message and nil for one that is unknown or
// replaces nothing. It reports ErrReplaceLoop instead of following a loop.
func FirstInstance(id MessageID, lookup func(MessageID) *MessageID) (MessageID, error) {
	last, loop := follow(id, lookup(id), lookup)
	if loop {
		return MessageID{}, ErrReplaceLoop
	}
	return last, nil
}

func follow(id MessageID, next *MessageID, lookup func(MessageID) *MessageID) (last MessageID, loop bool) {
	seen := map[MessageID]bool{id: true}
	last = id
	for range MaxChain {
		if next == nil {
			return last, false
		}
		if seen[*next] {
			return last, true
		}
		last = *next
		seen[last] = true
		next = lookup(last)
	}
	return last, false
}

// Permissions is what the room's policy allows the sender of an edit or
// delete, by the capability that allows it. The zero value allows what the
// draft allows by itself: the body of one's own messages.
type Permissions struct {
	DeleteOthers bool // canDeleteOtherMessage or canDeleteOtherReaction: delete what someone else sent
	EditOthers   bool // replace the body of what someone else sent
	ChangeTopic  bool // canEditOwnTopic or canEditOtherTopic: change topicId
	ChangeFields bool // change inReplyTo, expires or extensions
}

// IsDelete reports whether m deletes a message.
func (m *Message) IsDelete() bool {
	_, null := m.Body.Part.(NullPart)
	return null && m.Replaces != nil
}

// CheckReplacement checks an edit or delete against the message that it
// replaces, the first instance or a later one (section 9.3). sameSender says
// whether both came from the same user, by their credentials and not by what
// the messages say. A failure is ErrNotSender or ErrReplaceFields, and then
// the replacement must not take effect.
//
// A delete need not repeat the fields of the message it deletes, since
// nothing of them remains. Extensions that describe a sending rather than a
// message, such as a sender's timestamp, may differ.
func CheckReplacement(original, replacement *Message, sameSender bool, allow Permissions) error {
	isDelete := replacement.IsDelete()
	switch {
	case replacement.Replaces == nil:
		return wrap(ErrReplaceFields, "the message replaces nothing")
	case !sameSender && isDelete && !allow.DeleteOthers,
		!sameSender && !isDelete && !allow.EditOthers:
		return ErrNotSender
	case isDelete:
		return nil
	case !allow.ChangeTopic && !bytes.Equal(original.TopicID, replacement.TopicID):
		return wrap(ErrReplaceFields, "topicId differs")
	case allow.ChangeFields:
		return nil
	case !equal(original.InReplyTo, replacement.InReplyTo):
		return wrap(ErrReplaceFields, "inReplyTo differs")
	case !equal(original.Expires, replacement.Expires):
		return wrap(ErrReplaceFields, "expires differs")
	case !sameExtensions(original.Extensions, replacement.Extensions, !sameSender):
		return wrap(ErrReplaceFields, "extensions differ")
	}
	return nil
}

func equal[T comparable](a, b *T) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

func sameExtensions(a, b Extensions, exceptSender bool) bool {
	skip := func(x Extension) bool {
		return perSending(x.Key) || exceptSender && x.Key == ExtSenderURI
	}
	a, b = slices.DeleteFunc(slices.Clone(a), skip), slices.DeleteFunc(slices.Clone(b), skip)
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		if v, ok := b.Raw(x.Key); !ok || !bytes.Equal(v, x.Value) {
			return false
		}
	}
	return true
}

// perSending reports whether the extension describes the sending of one
// version of a message.
func perSending(key ExtensionKey) bool {
	return key == ExtSenderTimestamp || key == ExtExternalMessageID || key == ExtLastSeen
}
