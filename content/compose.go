package content

import (
	"crypto/rand"
	"fmt"
	"io"
	"slices"
	"time"
)

// A Composer writes the messages of one sender to one room. SenderURI and
// RoomURI are required.
type Composer struct {
	SenderURI string           // the user URI in the sender's credential
	RoomURI   string           // the room's URI
	Rand      io.Reader        // salts; nil means crypto/rand
	Now       func() time.Time // for the range of expirations; nil means time.Now
}

// An Option sets a field of a new message.
type Option func(*Message)

// InTopic puts a message into the topic with this ID.
func InTopic(id []byte) Option { return func(m *Message) { m.TopicID = slices.Clone(id) } }

// ReplyTo makes a message an answer to the message with this ID, which
// should be the current version (section 4.1). See [ReplyLoop].
func ReplyTo(id MessageID) Option { return func(m *Message) { m.InReplyTo = &id } }

// ExpiresAt asks receivers to delete a message at t, which is rounded down to
// a second.
func ExpiresAt(t time.Time) Option {
	return func(m *Message) { m.Expires = &Expiration{Time: uint32(min(max(t.Unix(), 0), 1<<32-1))} }
}

// ExpiresAfter asks receivers to delete a message when d has passed since
// they read it. d is rounded up to a second.
func ExpiresAfter(d time.Duration) Option {
	return func(m *Message) {
		s := (max(d, 0) + time.Second - 1) / time.Second
		m.Expires = &Expiration{Relative: true, Time: uint32(min(s, 1<<32-1))}
	}
}

// InLanguage sets the language of the body, a comma-separated list of RFC
// 5646 tags.
func InLanguage(tags string) Option { return func(m *Message) { m.Body.Language = tags } }

// WithExtension sets an extension to a value that is already CBOR.
func WithExtension(key ExtensionKey, value []byte) Option {
	return func(m *Message) { m.Extensions.SetRaw(key, value) }
}

// PlainText returns a part to be rendered as it is.
func PlainText(text string) NestedPart {
	return NestedPart{Disposition: Render, Part: SinglePart{MediaTypePlain, []byte(text)}}
}

// Markdown returns a part with GFM-MIMI Markdown, in which HTML tags are
// escaped as the draft demands (see [EscapeHTML]).
func Markdown(text string) NestedPart {
	return NestedPart{Disposition: Render, Part: SinglePart{MediaTypeMarkdown, []byte(EscapeHTML(text))}}
}

// New returns a message with a fresh salt and the given body. It is checked
// by [Message.CheckOutgoing].
func (c *Composer) New(body NestedPart, opts ...Option) (*Message, error) {
	m := &Message{Body: body}
	m.Extensions.SetText(ExtSenderURI, c.SenderURI)
	m.Extensions.SetText(ExtRoomURI, c.RoomURI)
	return c.finish(m, opts)
}

// Text returns a message of plain text.
func (c *Composer) Text(text string, opts ...Option) (*Message, error) {
	return c.New(PlainText(text), opts...)
}

// Markdown returns a message of GFM-MIMI Markdown; HTML tags are escaped.
func (c *Composer) Markdown(text string, opts ...Option) (*Message, error) {
	return c.New(Markdown(text), opts...)
}

// Reply returns an answer to the message with the ID to.
func (c *Composer) Reply(to MessageID, body NestedPart, opts ...Option) (*Message, error) {
	return c.New(body, append([]Option{ReplyTo(to)}, opts...)...)
}

// React returns a reaction to the message with the ID to. More than one
// reaction become parts of one message, since one text must not hold two
// (section 5.3); each element is one, for example one emoji.
func (c *Composer) React(to MessageID, reactions ...string) (*Message, error) {
	parts := make([]NestedPart, len(reactions))
	for i, text := range reactions {
		if text == "" {
			return nil, wrap(ErrInvalid, "a reaction is empty; use Delete to withdraw one")
		}
		parts[i] = PlainText(text)
		parts[i].Disposition = Reaction
	}
	switch len(parts) {
	case 0:
		return nil, wrap(ErrInvalid, "there is no reaction; use Delete to withdraw one")
	case 1:
		return c.Reply(to, parts[0])
	}
	return c.Reply(to, NestedPart{Disposition: Reaction, Part: MultiPart{ProcessAll, parts}})
}

// Edit returns a message that replaces original with body. first is the ID
// of the first instance of the message, which is not that of original if
// original is itself an edit (see [FirstInstance]). Everything but the body
// stays as it was, because the sender may change nothing else without a
// policy that permits it (section 9.3); opts may, where there is one.
func (c *Composer) Edit(first MessageID, original *Message, body NestedPart, opts ...Option) (*Message, error) {
	m := &Message{
		Replaces:  &first,
		TopicID:   slices.Clone(original.TopicID),
		InReplyTo: original.InReplyTo,
		Expires:   original.Expires,
		Body:      body,
	}
	for _, x := range original.Extensions {
		if !perSending(x.Key) {
			m.Extensions = append(m.Extensions, Extension{x.Key, slices.Clone(x.Value)})
		}
	}
	m.Extensions.SetText(ExtSenderURI, c.SenderURI)
	m.Extensions.SetText(ExtRoomURI, c.RoomURI)
	return c.finish(m, opts)
}

// Delete returns a message that retracts original, or withdraws it if it is
// a reaction. first is as for [Composer.Edit].
func (c *Composer) Delete(first MessageID, original *Message, opts ...Option) (*Message, error) {
	return c.Edit(first, original, NestedPart{Disposition: original.Body.Disposition, Part: NullPart{}}, opts...)
}

func (c *Composer) finish(m *Message, opts []Option) (*Message, error) {
	random, now := c.Rand, c.Now
	if random == nil {
		random = rand.Reader
	}
	if now == nil {
		now = time.Now
	}
	if _, err := io.ReadFull(random, m.Salt[:]); err != nil {
		return nil, fmt.Errorf("content: read a random salt: %w", err)
	}
	for _, opt := range opts {
		opt(m)
	}
	if err := m.CheckOutgoing(now()); err != nil {
		return nil, err
	}
	return m, nil
}
