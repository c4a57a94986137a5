package content

import (
	"strings"
	"time"
)

// Bounds of section 9.1 that the draft leaves to us or tells in words.
const (
	// MaxClockSkew is "a few minutes".
	MaxClockSkew = 5 * time.Minute
	// MaxExpiry is "a year", one leap day included.
	MaxExpiry = 366 * 24 * time.Hour
)

// earliest is when the first concrete syntax was published, in
// draft-ietf-mimi-content-03; no message is older (section 9.1).
var earliest = time.Date(2024, time.March, 1, 0, 0, 0, 0, time.UTC)

// An Envelope is what the receiver knows about a message other than from its
// content.
type Envelope struct {
	// SenderURI is the user URI in the credential of the leaf that sent the
	// message (section 4.6). Empty means that there is none, and the message
	// is refused.
	SenderURI string
	// RoomURI is the room whose group the message came in. Required.
	RoomURI string
	// Accepted is the hub's accepted timestamp. Required.
	Accepted time.Time
	// RoomCreated is when the room was created; zero means not known.
	RoomCreated time.Time
}

// A Receiver checks what arrives. The zero value is ready to use.
type Receiver struct {
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// MaxSize is the largest encoded message in octets; 0 means
	// DefaultMaxSize.
	MaxSize int
	// Seen reports whether a message with this ID was received before; nil
	// means that the caller drops duplicates itself.
	Seen func(MessageID) bool
	// SameURI compares URIs; nil compares octets.
	SameURI func(a, b string) bool
}

// Receive decodes and checks one message as [Receiver.Receive] does.
func Receive(b []byte, env Envelope) (*Message, MessageID, error) {
	return new(Receiver).Receive(b, env)
}

// Receive decodes a message, computes its ID and applies the discard rules of
// section 9.1. The ID is over b as received. A URI that the message carries
// must match the one in env and goes into the ID as the message has it; one
// that it lacks is taken from env. The message's byte slices alias b.
//
// A message that fails is to be logged, without its content, and discarded.
// ErrDuplicate is the ordinary result of a repeated delivery; the message and
// its ID are returned with it.
//
// As section 9.1 says, an unknown disposition, media type, language or
// referenced message is no failure. References whose ID has an unknown hash
// algorithm are.
func (r *Receiver) Receive(b []byte, env Envelope) (*Message, MessageID, error) {
	if env.SenderURI == "" {
		return nil, MessageID{}, ErrNotMember
	}
	if env.RoomURI == "" {
		return nil, MessageID{}, wrap(ErrRoomURI, "the room is not known")
	}
	maxSize := r.MaxSize
	if maxSize == 0 {
		maxSize = DefaultMaxSize
	}
	m, err := DecodeMax(b, maxSize)
	if err != nil {
		return nil, MessageID{}, err
	}
	same := r.SameURI
	if same == nil {
		same = func(a, b string) bool { return a == b }
	}
	sender, room := env.SenderURI, env.RoomURI
	if _, ok := m.Extensions.Raw(ExtSenderURI); ok {
		if sender = m.SenderURI(); !same(sender, env.SenderURI) {
			return nil, MessageID{}, ErrSenderURI
		}
	}
	if _, ok := m.Extensions.Raw(ExtRoomURI); ok {
		if room = m.RoomURI(); !same(room, env.RoomURI) {
			return nil, MessageID{}, ErrRoomURI
		}
	}
	for _, ref := range []*MessageID{m.Replaces, m.InReplyTo} {
		if ref != nil && !ref.KnownAlgorithm() {
			return nil, MessageID{}, wrap(ErrHashAlgorithm, "0x%02X", ref[0])
		}
	}
	now := time.Now
	if r.Now != nil {
		now = r.Now
	}
	if err := env.checkTime(now()); err != nil {
		return nil, MessageID{}, err
	}
	if err := m.checkExpiry(env.Accepted); err != nil {
		return nil, MessageID{}, err
	}
	id, err := ComputeID(sender, room, b)
	if err != nil {
		return nil, MessageID{}, err
	}
	if r.Seen != nil && r.Seen(id) {
		return m, id, ErrDuplicate
	}
	return m, id, nil
}

func (env *Envelope) checkTime(now time.Time) error {
	switch t := env.Accepted; {
	case t.After(now.Add(MaxClockSkew)):
		return wrap(ErrTimestamp, "it is in the future")
	case t.Before(earliest):
		return wrap(ErrTimestamp, "it is older than the format")
	case !env.RoomCreated.IsZero() && t.Before(env.RoomCreated):
		return wrap(ErrTimestamp, "it is older than the room")
	}
	return nil
}

// checkExpiry measures from the time at which the message was accepted
// rather than from now, or a client that returns after a year would discard
// messages that were sound when sent.
func (m *Message) checkExpiry(accepted time.Time) error {
	if m.Expires == nil {
		return nil
	}
	if m.Expires.Relative {
		if m.Expires.duration() > MaxExpiry {
			return wrap(ErrExpiry, "%v after reading", m.Expires.duration())
		}
		return nil
	}
	if d := time.Unix(int64(m.Expires.Time), 0).Sub(accepted); d > MaxExpiry || d < -MaxExpiry {
		return wrap(ErrExpiry, "%v from the accepted time", d)
	}
	return nil
}

func (e *Expiration) duration() time.Duration { return time.Duration(e.Time) * time.Second }

// Deadline returns when the message is to be deleted. shown is when this
// client first showed it; while that is zero, a relative expiration has not
// begun and ok is false. It is false for a nil e too.
func (e *Expiration) Deadline(shown time.Time) (t time.Time, ok bool) {
	switch {
	case e == nil || e.Relative && shown.IsZero():
		return time.Time{}, false
	case e.Relative:
		return shown.Add(e.duration()), true
	}
	return time.Unix(int64(e.Time), 0), true
}

// CheckOutgoing applies the rules for senders: the discard rules that
// receivers will apply, both URIs present, a salt, no cid: reference to
// anything but a single or external part, no HTML tag in GFM-MIMI Markdown,
// no key for content that is not encrypted, an empty body only to delete.
// now is the time of sending. Errors match ErrInvalid.
func (m *Message) CheckOutgoing(now time.Time) error {
	b, err := m.Encode()
	if err != nil {
		return wrap(ErrInvalid, "%w", err)
	}
	if len(b) > DefaultMaxSize {
		return wrap(ErrInvalid, "%w: %d octets, more than %d; send large content as an external part", ErrTooLarge, len(b), DefaultMaxSize)
	}
	if err := m.checkExpiry(now); err != nil {
		return wrap(ErrInvalid, "%w", err)
	}
	if m.Salt == [SaltSize]byte{} {
		return wrap(ErrInvalid, "the salt is all zeros; fill it from a random source")
	}
	if m.SenderURI() == "" || m.RoomURI() == "" {
		return wrap(ErrInvalid, "the sender or room URI is missing")
	}
	for _, ref := range []*MessageID{m.Replaces, m.InReplyTo} {
		if ref != nil && !ref.KnownAlgorithm() {
			return wrap(ErrInvalid, "%w 0x%02X", ErrHashAlgorithm, ref[0])
		}
	}
	if _, ok := m.Body.Part.(NullPart); ok && m.Replaces == nil {
		return wrap(ErrInvalid, "the body is empty but nothing is deleted")
	}
	for i, p := range m.Body.Parts() {
		if err := checkOutgoingPart(&m.Body, p); err != nil {
			return wrap(ErrInvalid, "part %d: %w", i, err)
		}
	}
	return nil
}

func checkOutgoingPart(root, p *NestedPart) error {
	switch part := p.Part.(type) {
	case SinglePart:
		refs := contentIDs(part)
		if _, multi := root.Part.(MultiPart); !multi {
			refs = nil // there is nothing to refer to: it is prose
		}
		for _, index := range refs {
			target, ok := root.ByIndex(index)
			if !ok {
				return wrap(ErrInvalid, "it refers to part %d, which does not exist", index)
			}
			if c := target.Part.Cardinality(); c != CardinalitySingle && c != CardinalityExternal {
				return wrap(ErrInvalid, "it refers to part %d, which has no content", index)
			}
		}
		if isGFM(part.ContentType) && hasHTML(part.Content) {
			return wrap(ErrInvalid, "Markdown contains an HTML tag; use EscapeHTML")
		}
	case ExternalPart:
		if part.EncAlg == 0 && len(part.Key)+len(part.Nonce)+len(part.AAD) > 0 {
			return wrap(ErrInvalid, "external content is not encrypted but has a key, nonce or additional data")
		}
		if scheme, _, ok := strings.Cut(part.URL, ":"); !ok || scheme == "" {
			return wrap(ErrInvalid, "external content has no absolute URL")
		}
	}
	return nil
}
