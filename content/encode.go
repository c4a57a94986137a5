package content

import "unicode/utf8"

// Encode returns the deterministic encoding of m. It fails exactly when
// [DecodeMax], without a limit of size, would refuse the result.
func (m *Message) Encode() ([]byte, error) {
	b := make([]byte, 0, 256)
	b = append(b, 0x80|7)
	b = appendBytes(b, m.Salt[:])
	b = appendOptionalID(b, m.Replaces)
	if len(m.TopicID) > MaxTopicID {
		return nil, wrap(ErrTopicTooLong, "%d octets, more than %d", len(m.TopicID), MaxTopicID)
	}
	b = appendBytes(b, m.TopicID)
	if m.Expires == nil {
		b = append(b, cborNull)
	} else {
		relative := byte(cborFalse)
		if m.Expires.Relative {
			relative = cborTrue
		}
		b = appendUint(append(b, 0x80|2, relative), uint64(m.Expires.Time))
	}
	b = appendOptionalID(b, m.InReplyTo)

	b, err := m.Extensions.append(b)
	if err != nil {
		return nil, err
	}
	e := encoder{b: b}
	if err := e.part(&m.Body, MaxPartDepth); err != nil {
		return nil, err
	}
	return e.b, nil
}

// ID returns the message's ID, from its own sender and room URI. It fails if
// one of them is missing or the message cannot be encoded.
func (m *Message) ID() (MessageID, error) {
	sender, room := m.SenderURI(), m.RoomURI()
	if sender == "" || room == "" {
		return MessageID{}, wrap(ErrInvalid, "the message has no sender or room URI; set both extensions")
	}
	b, err := m.Encode()
	if err != nil {
		return MessageID{}, err
	}
	return ComputeID(sender, room, b)
}

func appendOptionalID(b []byte, id *MessageID) []byte {
	if id == nil {
		return append(b, cborNull)
	}
	return appendBytes(b, id[:])
}

type encoder struct {
	b     []byte
	parts int
}

func (e *encoder) text(v, what string) error {
	if !utf8.ValidString(v) {
		return wrap(ErrDataModel, "%s is not valid UTF-8", what)
	}
	e.b = appendText(e.b, v)
	return nil
}

func (e *encoder) part(p *NestedPart, levels int) error {
	if levels == 0 {
		return wrap(ErrTooDeep, "more than %d levels of parts", MaxPartDepth)
	}
	if e.parts++; e.parts > MaxParts {
		return wrap(ErrTooManyParts, "more than %d", MaxParts)
	}
	var items uint64
	switch p.Part.(type) {
	case NullPart:
		items = itemsNull
	case SinglePart:
		items = itemsSingle
	case ExternalPart:
		items = itemsExternal
	case MultiPart:
		items = itemsMulti
	default:
		return wrap(ErrSyntax, "part is %T; use NullPart for an empty body", p.Part)
	}
	e.b = appendHead(e.b, majorArray, items)
	e.b = appendUint(e.b, uint64(p.Disposition))
	if err := e.text(p.Language, "language"); err != nil {
		return err
	}
	e.b = appendUint(e.b, uint64(p.Part.Cardinality()))
	switch part := p.Part.(type) {
	case SinglePart:
		if err := e.text(part.ContentType, "contentType"); err != nil {
			return err
		}
		e.b = appendBytes(e.b, part.Content)
	case ExternalPart:
		return e.external(&part)
	case MultiPart:
		if part.Semantics > ProcessAll {
			return wrap(ErrPartSemantics, "%v", part.Semantics)
		}
		if len(part.Parts) < 2 {
			return wrap(ErrSyntax, "%d parts in a multipart, want at least 2", len(part.Parts))
		}
		e.b = appendUint(e.b, uint64(part.Semantics))
		e.b = appendHead(e.b, majorArray, uint64(len(part.Parts)))
		for i := range part.Parts {
			if err := e.part(&part.Parts[i], levels-1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *encoder) external(p *ExternalPart) error {
	for _, f := range [...]struct{ v, what string }{{p.ContentType, "contentType"}, {p.URL, "url"}} {
		if err := e.text(f.v, f.what); err != nil {
			return err
		}
	}
	e.b = appendUint(e.b, uint64(p.Expires))
	e.b = appendUint(e.b, p.Size)
	e.b = appendUint(e.b, uint64(p.EncAlg))
	e.b = appendBytes(e.b, p.Key)
	e.b = appendBytes(e.b, p.Nonce)
	e.b = appendBytes(e.b, p.AAD)
	e.b = appendUint(e.b, uint64(p.HashAlg))
	e.b = appendBytes(e.b, p.ContentHash)
	if err := e.text(p.Description, "description"); err != nil {
		return err
	}
	return e.text(p.Filename, "filename")
}
