package mls

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// Frame returns content in the form in which the group takes application
// data: an ApplicationFraming if the GroupContext has content_media_types,
// whose media type is left out if it is the first of the list; or as it is
// (mls-extensions section 6.2.4). The error matches ErrInvalidMessage if t is
// no media type.
func (s *State) Frame(t MediaType, content []byte) ([]byte, error) {
	types := s.params.requires.MediaTypes
	if len(types) == 0 {
		return content, nil
	}
	if err := t.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidMessage, err)
	}
	if t.Equal(&types[0]) {
		t = MediaType{}
	}
	return tlspl.Marshal(ApplicationFraming{t, content})
}

// Unframe is the opposite of Frame, for application data of the epoch s; for
// a message that may be of an earlier one, use ApplicationMessage.Unframe. The
// media type is empty if the group does not frame application data. content
// aliases data. The error matches ErrInvalidMessage.
func (s *State) Unframe(data []byte) (t MediaType, content []byte, err error) {
	return s.params.requires.MediaTypes.unframe(data)
}

func (l MediaTypeList) unframe(data []byte) (t MediaType, content []byte, err error) {
	if len(l) == 0 {
		return MediaType{}, data, nil
	}
	var f ApplicationFraming
	if err := tlspl.Unmarshal(data, &f); err != nil {
		return MediaType{}, nil, fmt.Errorf("%w: application data is not an ApplicationFraming, which this group requires: %w", ErrInvalidMessage, err)
	}
	if f.MediaType.Type == "" {
		f.MediaType = l[0]
	}
	return f.MediaType, f.Content, nil
}

// Unframe returns the media type and the content of the message, as the group
// framed application data in the epoch of the message; see State.Unframe.
func (m *ApplicationMessage) Unframe() (t MediaType, content []byte, err error) {
	if m.state != nil {
		return m.state.Unframe(m.Data)
	}
	if m.context == nil {
		return MediaType{}, nil, fmt.Errorf("%w: not a message that Decrypt returned", ErrInvalidMessage)
	}
	var c GroupContext
	if err := tlspl.Unmarshal(m.context, &c); err != nil {
		return MediaType{}, nil, err
	}
	r, err := c.Extensions.Requirements()
	if err != nil {
		return MediaType{}, nil, err
	}
	return r.MediaTypes.unframe(m.Data)
}
