package content

import "math"

// Limits of section 9.1 and 6.3.
const (
	MaxTopicID        = 4096 // octets
	MaxParts          = 1024 // in one message, of every kind
	MaxPartDepth      = 4    // levels of NestedPart
	MaxExtensionDepth = 4    // levels of tags, maps and arrays, the extensions map included
)

// DefaultMaxSize is how large an encoded message may be, in octets, unless
// the caller's policy says otherwise. Larger content belongs in an
// [ExternalPart].
const DefaultMaxSize = 1 << 20

// Decode reads a message of at most DefaultMaxSize octets. The result's byte
// slices alias b, which must not change while it is in use.
func Decode(b []byte) (*Message, error) { return DecodeMax(b, DefaultMaxSize) }

// DecodeMax is Decode with another maximum size in octets. It accepts
// exactly the messages that the CDDL and the limits of sections 6 and 9.1
// permit, in their only encoding. A failure is ErrSyntax, ErrTooLarge,
// ErrTooDeep, ErrTooManyParts, ErrTopicTooLong, ErrURITooLong or
// ErrPartSemantics.
func DecodeMax(b []byte, maxSize int) (*Message, error) {
	if len(b) > maxSize {
		return nil, wrap(ErrTooLarge, "%d octets, more than %d", len(b), maxSize)
	}
	r := &reader{b: b}
	m := readMessage(r)
	if err := r.finish(); err != nil {
		return nil, err
	}
	return m, nil
}

func readMessage(r *reader) *Message {
	m := new(Message)
	r.arrayOf(7, "message")
	salt := r.bytes("salt")
	if r.err == nil && len(salt) != SaltSize {
		r.fail(ErrSyntax, "salt of %d octets, want %d", len(salt), SaltSize)
	}
	copy(m.Salt[:], salt)
	m.Replaces = readOptionalID(r, "replaces")
	m.TopicID = r.bytes("topicId")
	if len(m.TopicID) > MaxTopicID {
		r.fail(ErrTopicTooLong, "%d octets, more than %d", len(m.TopicID), MaxTopicID)
	}
	if !r.null() {
		r.arrayOf(2, "expires")
		m.Expires = &Expiration{r.bool("expires.relative"), uint32(r.uint(math.MaxUint32, "expires.time"))}
	}
	m.InReplyTo = readOptionalID(r, "inReplyTo")
	m.Extensions = readExtensions(r)
	parts := 0
	readPart(r, &m.Body, MaxPartDepth, &parts)
	return m
}

func readID(r *reader, what string) (id MessageID) {
	b := r.bytes(what)
	if r.err == nil && len(b) != MessageIDSize {
		r.fail(ErrSyntax, "%s of %d octets, want %d", what, len(b), MessageIDSize)
	}
	copy(id[:], b)
	return id
}

func readOptionalID(r *reader, what string) *MessageID {
	if r.null() {
		return nil
	}
	id := readID(r, what)
	return &id
}

// Numbers of array items of the kinds of part.
const (
	itemsNull     = 3
	itemsSingle   = 5
	itemsExternal = 15
	itemsMulti    = 5
)

// minPart is the least number of octets that a part takes.
const minPart = 4

func readPart(r *reader, p *NestedPart, levels int, parts *int) {
	if r.err != nil {
		return
	}
	if levels == 0 {
		r.fail(ErrTooDeep, "more than %d levels of parts", MaxPartDepth)
		return
	}
	if *parts++; *parts > MaxParts {
		r.fail(ErrTooManyParts, "more than %d", MaxParts)
		return
	}
	items := r.array("part")
	p.Disposition = Disposition(r.uint(math.MaxUint8, "disposition"))
	p.Language = r.text("language")
	kind := r.uint(math.MaxUint64, "cardinality")
	if r.err != nil {
		return
	}
	expect := func(n uint64) {
		if items != n {
			r.fail(ErrSyntax, "part of cardinality %d has %d items, want %d", kind, items, n)
		}
	}
	switch kind {
	case uint64(CardinalityNull):
		expect(itemsNull)
		p.Part = NullPart{}
	case uint64(CardinalitySingle):
		expect(itemsSingle)
		p.Part = SinglePart{r.text("contentType"), r.bytes("content")}
	case uint64(CardinalityExternal):
		expect(itemsExternal)
		p.Part = ExternalPart{
			ContentType: r.text("contentType"),
			URL:         r.text("url"),
			Expires:     uint32(r.uint(math.MaxUint32, "expires")),
			Size:        r.uint(math.MaxUint64, "size"),
			EncAlg:      uint16(r.uint(math.MaxUint16, "encAlg")),
			Key:         r.bytes("key"),
			Nonce:       r.bytes("nonce"),
			AAD:         r.bytes("aad"),
			HashAlg:     uint8(r.uint(math.MaxUint8, "hashAlg")),
			ContentHash: r.bytes("contentHash"),
			Description: r.text("description"),
			Filename:    r.text("filename"),
		}
	case uint64(CardinalityMulti):
		expect(itemsMulti)
		s := r.uint(math.MaxUint64, "partSemantics")
		if r.err == nil && s > uint64(ProcessAll) {
			r.fail(ErrPartSemantics, "%d", s)
		}
		n := r.array("parts")
		switch {
		case r.err != nil:
			return
		case n < 2:
			r.fail(ErrSyntax, "%d parts in a multipart, want at least 2", n)
			return
		case levels == 1:
			r.fail(ErrTooDeep, "more than %d levels of parts", MaxPartDepth)
			return
		case n > uint64(MaxParts-*parts):
			r.fail(ErrTooManyParts, "more than %d", MaxParts)
			return
		case n > uint64(r.left()/minPart):
			r.fail(ErrSyntax, "%d parts in the last %d octets", n, r.left())
			return
		}
		multi := MultiPart{PartSemantics(s), make([]NestedPart, n)}
		for i := range multi.Parts {
			readPart(r, &multi.Parts[i], levels-1, parts)
		}
		p.Part = multi
	default:
		r.fail(ErrSyntax, "unknown cardinality %d", kind)
	}
}

// SenderURI returns the senderUri extension, or "".
func (m *Message) SenderURI() string { return m.Extensions.Text(ExtSenderURI) }

// RoomURI returns the roomUri extension, or "".
func (m *Message) RoomURI() string { return m.Extensions.Text(ExtRoomURI) }
