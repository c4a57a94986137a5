package client

import (
	"fmt"

	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// capabilities are what the device supports of MLS.
func capabilities() mls.Capabilities { return mls.DefaultCapabilities(mls.CredentialX509) }

// encoded is the encoding of a value that is known to have one.
func encoded(v tlspl.Marshaler) []byte {
	b, err := mls.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("client: %T without encoding: %v", v, err))
	}
	return b
}

func mediaType(name string) mls.MediaType { return mls.MediaType{Type: name} }

// viewOf derives the room's policy and members from a group, and refuses a
// group that is no room, or holds a device whose user is not a participant.
func viewOf(s *mls.State) (*room.View, error) {
	v, err := room.NewView(room.Config{ClientURIs: identity.ClientURIs, ProviderDomain: identity.ProviderDomain}, s)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return v, nil
}

// frame wraps content for the group: in ApplicationFraming if the group has
// media types (mls-extensions section 6.2.4; CLI-9).
func frame(s *mls.State, mediaTypeName string, data []byte) ([]byte, error) {
	return s.Frame(mediaType(mediaTypeName), data)
}

// unframe is the opposite of frame.
func unframe(m *mls.ApplicationMessage) (mediaTypeName string, inner []byte, err error) {
	t, inner, err := m.Unframe()
	if err != nil {
		return "", nil, err
	}
	if t.Type == "" {
		return content.MediaTypeContent, inner, nil // the group does not frame
	}
	name := t.Type
	for _, p := range t.Parameters {
		name += ";" + p.Name + "=" + p.Value
	}
	return name, inner, nil
}
