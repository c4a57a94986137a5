package content

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

const (
	alice = "mimi://example.com/u/alice-smith"
	bob   = "mimi://example.com/u/bob-jones"
	room  = "mimi://example.com/r/engineering_team"
)

var now = time.Date(2026, time.November, 21, 12, 0, 0, 0, time.UTC)

// A counter is a random source that is easy to predict.
type counter byte

func (c *counter) Read(b []byte) (int, error) {
	for i := range b {
		*c++
		b[i] = byte(*c)
	}
	return len(b), nil
}

func composer(sender string) *Composer {
	return &Composer{SenderURI: sender, RoomURI: room, Rand: new(counter), Now: func() time.Time { return now }}
}

func encode(t testing.TB, m *Message) []byte {
	t.Helper()
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReceive(t *testing.T) {
	text, err := composer(alice).Text("hello")
	if err != nil {
		t.Fatal(err)
	}
	id, err := text.ID()
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(*Message)) []byte {
		m := *text
		m.Extensions = append(Extensions(nil), text.Extensions...)
		f(&m)
		return encode(t, &m)
	}
	sound := Envelope{SenderURI: alice, RoomURI: room, Accepted: now}
	with := func(f func(*Envelope)) Envelope {
		e := sound
		f(&e)
		return e
	}
	expires := func(relative bool, seconds int64) []byte {
		if seconds < 0 || seconds > math.MaxUint32 {
			t.Fatalf("%d seconds", seconds)
		}
		return change(func(m *Message) { m.Expires = &Expiration{relative, uint32(seconds)} })
	}
	year := int64(MaxExpiry / time.Second)
	other := MessageID{0x02, 1}
	known := MessageID{0x01, 1}
	for _, tt := range []struct {
		name string
		b    []byte
		env  Envelope
		want error
	}{
		{"sound", encode(t, text), sound, nil},
		{"no sender", encode(t, text), with(func(e *Envelope) { e.SenderURI = "" }), ErrNotMember},
		{"other sender", encode(t, text), with(func(e *Envelope) { e.SenderURI = bob }), ErrSenderURI},
		{"empty sender", change(func(m *Message) { m.Extensions.SetText(ExtSenderURI, "") }), sound, ErrSenderURI},
		{"other room", encode(t, text), with(func(e *Envelope) { e.RoomURI = room + "2" }), ErrRoomURI},
		{"no room", encode(t, text), with(func(e *Envelope) { e.RoomURI = "" }), ErrRoomURI},
		{"empty room", change(func(m *Message) { m.Extensions.SetText(ExtRoomURI, "") }), sound, ErrRoomURI},
		{"malformed", []byte{0x87}, sound, ErrSyntax},
		{"no timestamp", encode(t, text), with(func(e *Envelope) { e.Accepted = time.Time{} }), ErrTimestamp},
		{"a little early", encode(t, text), with(func(e *Envelope) { e.Accepted = now.Add(MaxClockSkew) }), nil},
		{"in the future", encode(t, text), with(func(e *Envelope) { e.Accepted = now.Add(MaxClockSkew + time.Millisecond) }), ErrTimestamp},
		{"before the format", encode(t, text), with(func(e *Envelope) { e.Accepted = earliest.Add(-time.Millisecond) }), ErrTimestamp},
		{"years ago", encode(t, text), with(func(e *Envelope) { e.Accepted = earliest }), nil},
		{"as old as the room", encode(t, text), with(func(e *Envelope) { e.RoomCreated = now }), nil},
		{"before the room", encode(t, text), with(func(e *Envelope) { e.RoomCreated = now.Add(time.Millisecond) }), ErrTimestamp},
		{"expires in a year", expires(false, now.Unix()+year), sound, nil},
		{"expires later", expires(false, now.Unix()+year+1), sound, ErrExpiry},
		{"expired a year ago", expires(false, now.Unix()-year), sound, nil},
		{"expired before", expires(false, now.Unix()-year-1), sound, ErrExpiry},
		{"expired at the epoch", expires(false, 0), sound, ErrExpiry},
		{"expires in 2106", expires(false, math.MaxUint32), sound, ErrExpiry},
		{"expires a year after reading", expires(true, year), sound, nil},
		{"expires later after reading", expires(true, year+1), sound, ErrExpiry},
		{"expires never after reading", expires(true, math.MaxUint32), sound, ErrExpiry},
		{"sent two years ago to expire at once", expires(false, now.AddDate(-2, 0, 0).Unix()), with(func(e *Envelope) { e.Accepted = now.AddDate(-2, 0, 0) }), nil},
		{"replies to an unknown algorithm", change(func(m *Message) { m.InReplyTo = &other }), sound, ErrHashAlgorithm},
		{"replaces an unknown algorithm", change(func(m *Message) { m.Replaces = &other }), sound, ErrHashAlgorithm},
		{"refers to unknown messages", change(func(m *Message) { m.InReplyTo, m.Replaces = &known, &known }), sound, nil},
		{"unknown disposition", change(func(m *Message) { m.Body.Disposition = 99 }), sound, nil},
		{"unknown type and language", change(func(m *Message) {
			m.Body = NestedPart{Language: "xx-nowhere", Part: SinglePart{"application/x-unknown", nil}}
		}), sound, nil},
		{"large", change(func(m *Message) { m.Body = PlainText(strings.Repeat("a", 1000)) }), sound, ErrTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Receiver{Now: func() time.Time { return now }, MaxSize: 1000}
			m, id, err := r.Receive(tt.b, tt.env)
			if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err != nil {
				if m != nil || !id.IsZero() {
					t.Error("got a message and an error")
				}
				return
			}
			if want, err := m.ID(); err != nil || id != want {
				t.Errorf("ID %v, want %v, %v", id, want, err)
			}
		})
	}

	t.Run("duplicate", func(t *testing.T) {
		seen := map[MessageID]bool{}
		r := &Receiver{Now: func() time.Time { return now }, Seen: func(id MessageID) bool { return seen[id] }}
		_, got, err := r.Receive(encode(t, text), sound)
		if err != nil || got != id {
			t.Fatalf("got %v, %v", got, err)
		}
		seen[got] = true
		m, got, err := r.Receive(encode(t, text), sound)
		if !errors.Is(err, ErrDuplicate) || got != id || m == nil {
			t.Errorf("got %v, %v, %v, want the message with ErrDuplicate", m, got, err)
		}
	})

	t.Run("URIs left out", func(t *testing.T) {
		b := change(func(m *Message) { m.Extensions = nil })
		r := &Receiver{Now: func() time.Time { return now }}
		_, got, err := r.Receive(b, sound)
		want, err2 := ComputeID(alice, room, b)
		if err != nil || err2 != nil || got != want {
			t.Errorf("got %v, %v, want %v, %v", got, err, want, err2)
		}
	})

	t.Run("URI in another form", func(t *testing.T) {
		r := &Receiver{Now: func() time.Time { return now }, SameURI: strings.EqualFold}
		_, got, err := r.Receive(encode(t, text), Envelope{SenderURI: strings.ToUpper(alice), RoomURI: strings.ToUpper(room), Accepted: now})
		if err != nil || got != id {
			t.Errorf("got %v, %v, want %v: the ID is over the URI in the message", got, err, id)
		}
	})

	t.Run("default clock", func(t *testing.T) {
		if _, _, err := Receive(encode(t, text), Envelope{SenderURI: alice, RoomURI: room, Accepted: time.Now()}); err != nil {
			t.Error(err)
		}
		if _, _, err := Receive(encode(t, text), Envelope{SenderURI: alice, RoomURI: room, Accepted: time.Now().Add(time.Hour)}); !errors.Is(err, ErrTimestamp) {
			t.Errorf("got %v, want ErrTimestamp", err)
		}
	})
}

// The formula of section 3.3, written out, with lengths in octets: the URIs
// have characters of several octets.
func TestComputeID(t *testing.T) {
	sender, room := "mimi://example.com/u/ålice", strings.Repeat("é", 300)
	b := encode(t, &Message{Salt: [16]byte{1, 2, 3}, Body: PlainText("x")})
	var in bytes.Buffer
	in.Write(binary.BigEndian.AppendUint16(nil, 27))
	in.WriteString(sender)
	in.Write([]byte{0x02, 0x58}) // 600
	in.WriteString(room)
	in.Write(b)
	in.Write([]byte{1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	sum := sha256.Sum256(in.Bytes())
	got, err := ComputeID(sender, room, b)
	if err != nil {
		t.Fatal(err)
	}
	if got[0] != 1 || !bytes.Equal(got[1:], sum[:31]) {
		t.Errorf("ID %v, want 01%x", got, sum[:31])
	}

	if _, err := ComputeID(strings.Repeat("a", 65535), strings.Repeat("a", 65535), b); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct {
		sender, room string
		b            []byte
		want         error
	}{
		{strings.Repeat("a", 65536), room, b, ErrURITooLong},
		{sender, strings.Repeat("a", 65536), b, ErrURITooLong},
		{sender, room, nil, ErrSyntax},
		{sender, room, b[:17], ErrSyntax},
		{sender, room, append([]byte{0x88}, b[1:]...), ErrSyntax},
		{sender, room, append([]byte{0x87, 0x51}, b[2:]...), ErrSyntax},
	} {
		if _, err := ComputeID(tt.sender, tt.room, tt.b); !errors.Is(err, tt.want) {
			t.Errorf("got %v, want %v", err, tt.want)
		}
	}
	if _, err := (&Message{Body: PlainText("x")}).ID(); !errors.Is(err, ErrInvalid) {
		t.Errorf("ID without URIs: %v, want ErrInvalid", err)
	}
}

func TestMessageIDText(t *testing.T) {
	id := MessageID{1, 0xab, 31: 0xff}
	got, err := ParseMessageID(id.String())
	if err != nil || got != id {
		t.Errorf("got %v, %v", got, err)
	}
	text, err := id.MarshalText()
	if err != nil || string(text) != id.String() {
		t.Errorf("MarshalText: %s, %v", text, err)
	}
	for _, s := range []string{"", "01", id.String() + "00", id.String()[1:] + "g"} {
		if got, err := ParseMessageID(s); err == nil || !got.IsZero() {
			t.Errorf("ParseMessageID(%q) = %v, %v", s, got, err)
		}
	}
	if id.Compare(MessageID{2}) >= 0 || id.Compare(id) != 0 || (MessageID{2}).Compare(id) <= 0 {
		t.Error("Compare")
	}
	if !id.KnownAlgorithm() || (MessageID{}).KnownAlgorithm() {
		t.Error("KnownAlgorithm")
	}
}

func TestDeadline(t *testing.T) {
	shown := time.Unix(1000, 0)
	for _, tt := range []struct {
		e     *Expiration
		shown time.Time
		want  int64
		ok    bool
	}{
		{nil, shown, 0, false},
		{&Expiration{true, 60}, time.Time{}, 0, false},
		{&Expiration{true, 60}, shown, 1060, true},
		{&Expiration{false, 5}, time.Time{}, 5, true},
		{&Expiration{false, math.MaxUint32}, shown, math.MaxUint32, true},
	} {
		got, ok := tt.e.Deadline(tt.shown)
		if ok != tt.ok || ok && got.Unix() != tt.want {
			t.Errorf("%v shown %v: %v, %v", tt.e, tt.shown, got, ok)
		}
	}
}
