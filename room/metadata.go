package room

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
)

// Limits on room metadata in octets, except MaxDescriptions.
const (
	MaxRoomText     = 4096 // name, subject, mood
	MaxDescription  = 64 << 10
	MaxDescriptions = 64
	maxLabel        = 256 // media type, language tag
)

// A RichDescription is one form of a room's description.
//
//	struct {                       draft-ietf-mimi-protocol-06 section 7.6
//	  opaque media_type<V>;     /* empty: text/plain;charset=utf-8 */
//	  opaque language_tag<V>;
//	  opaque description_content<V>;
//	} RichDescription;
type RichDescription struct {
	MediaType   string
	LanguageTag string
	Content     string
}

// RoomMetadata is the data of the room_metadata component; an update has the
// same form and replaces it. The room's URI never changes.
//
//	struct {                       draft-ietf-mimi-protocol-06 section 7.6
//	  Uri room_uri;
//	  UTF8String room_name;
//	  RichDescription room_descriptions<V>;
//	  Uri room_avatar;                     /* https, or empty */
//	  UTF8String room_subject;
//	  UTF8String room_mood;
//	} RoomMetaData;
type RoomMetadata struct {
	Room         mimi.URI
	Name         string
	Descriptions []RichDescription
	Avatar       string
	Subject      string
	Mood         string
}

// MarshalTLS writes m.
func (m *RoomMetadata) MarshalTLS(w *tlspl.Writer) {
	if err := m.check(); err != nil {
		w.Fail(err)
	}
	w.Value(m.Room)
	w.Opaque([]byte(m.Name))
	tlspl.WriteVector(w, m.Descriptions, func(w *tlspl.Writer, d *RichDescription) {
		w.Opaque([]byte(d.MediaType))
		w.Opaque([]byte(d.LanguageTag))
		w.Opaque([]byte(d.Content))
	})
	w.Opaque([]byte(m.Avatar))
	w.Opaque([]byte(m.Subject))
	w.Opaque([]byte(m.Mood))
}

// UnmarshalTLS reads m.
func (m *RoomMetadata) UnmarshalTLS(r *tlspl.Reader) {
	*m = RoomMetadata{}
	r.Value(&m.Room)
	m.Name = readText(r, MaxRoomText)
	m.Descriptions = tlspl.ReadVector(r, MaxDescriptions, func(r *tlspl.Reader, d *RichDescription) {
		d.MediaType = readText(r, maxLabel)
		d.LanguageTag = readText(r, maxLabel)
		d.Content = string(r.Opaque(MaxDescription))
	})
	m.Avatar = readText(r, mimi.MaxURI)
	m.Subject = readText(r, MaxRoomText)
	m.Mood = readText(r, MaxRoomText)
	if r.Err() == nil {
		if err := m.check(); err != nil {
			r.Fail(fmt.Errorf("%w: %w", tlspl.ErrSyntax, err))
		}
	}
}

func (m *RoomMetadata) check() error {
	if !m.Room.Is(mimi.KindRoom) {
		return fmt.Errorf("room: metadata names %q, which is not a room", m.Room)
	}
	for _, f := range []struct{ name, text string }{{"name", m.Name}, {"subject", m.Subject}, {"mood", m.Mood}} {
		if len(f.text) > MaxRoomText {
			return fmt.Errorf("room: %s of %d octets; the limit is %d", f.name, len(f.text), MaxRoomText)
		}
		if !isText(f.text) {
			return fmt.Errorf("room: the %s is not UTF-8 text without NUL", f.name)
		}
	}
	if len(m.Descriptions) > MaxDescriptions {
		return fmt.Errorf("room: %d descriptions; the limit is %d", len(m.Descriptions), MaxDescriptions)
	}
	for _, d := range m.Descriptions {
		if len(d.Content) > MaxDescription || len(d.MediaType) > maxLabel || len(d.LanguageTag) > maxLabel {
			return fmt.Errorf("room: a description is too long")
		}
	}
	if m.Avatar != "" {
		u, err := url.Parse(m.Avatar)
		if err != nil || u.Scheme != "https" || u.Host == "" || len(m.Avatar) > mimi.MaxURI {
			return fmt.Errorf("room: avatar %q is not an https URL", m.Avatar)
		}
	}
	return nil
}

// changes returns the capabilities that changing m to next needs, or an
// error if nobody may do so.
func (m *RoomMetadata) changes(next *RoomMetadata) ([]Capability, error) {
	if m.Room != next.Room {
		return nil, fmt.Errorf("%w: the room's URI cannot change from %q to %q", ErrNotAllowed, m.Room, next.Room)
	}
	var need []Capability
	if m.Name != next.Name {
		need = append(need, CanChangeRoomName)
	}
	if !slices.Equal(m.Descriptions, next.Descriptions) {
		need = append(need, CanChangeRoomDescription)
	}
	if m.Avatar != next.Avatar {
		need = append(need, CanChangeRoomAvatar)
	}
	if m.Subject != next.Subject {
		need = append(need, CanChangeRoomSubject)
	}
	if m.Mood != next.Mood {
		need = append(need, CanChangeRoomMood)
	}
	if len(need) == 0 {
		return nil, fmt.Errorf("%w: the metadata update changes nothing", ErrInvalidUpdate)
	}
	return need, nil
}

// isText reports whether s is "a sequence of valid UTF8 without nulls".
func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// readText reads opaque<V> that is text.
func readText(r *tlspl.Reader, max int) string {
	s := string(r.Opaque(max))
	if r.Err() == nil && !isText(s) {
		r.Failf("a text field is not UTF-8 without NUL")
	}
	return s
}

func writeOptional32(w *tlspl.Writer, v *uint32) {
	w.Optional(v != nil, func(w *tlspl.Writer) { w.Uint32(*v) })
}

func readOptional32(r *tlspl.Reader) *uint32 {
	if !r.Optional() {
		return nil
	}
	v := r.Uint32()
	return &v
}
