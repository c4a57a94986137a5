package local

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
)

func roomURI(t testing.TB) mimi.URI {
	t.Helper()
	u, err := mimi.ParseURI("mimi://a.example/r/clubhouse")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func frames(t testing.TB) []Frame {
	room := roomURI(t)
	return []Frame{
		{Type: FrameSubscribe, Room: room, Position: 7},
		{Type: FrameUnsubscribe, Room: room},
		{Type: FrameAckMail, Mail: 1 << 40},
		{Type: FrameEvent, Room: room, Position: 8, Body: []byte("event")},
		{Type: FrameMail, Mail: 3, Kind: MailWelcome, Room: room, Position: 9, Body: []byte("welcome")},
		{Type: FrameCaughtUp, Room: room, Position: 10},
		{Type: FrameClosed, Room: room, Position: 11},
	}
}

func TestFrameRoundTrip(t *testing.T) {
	for _, want := range frames(t) {
		b, err := tlspl.Marshal(&want)
		if err != nil {
			t.Fatalf("%v: %v", want.Type, err)
		}
		var got Frame
		if err := tlspl.Unmarshal(b, &got); err != nil {
			t.Fatalf("%v: %v", want.Type, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got %+v, want %+v", want.Type, got, want)
		}
		if err := tlspl.Unmarshal(b[:len(b)-1], &got); err == nil {
			t.Errorf("%v: a truncated frame was accepted", want.Type)
		}
		if err := tlspl.Unmarshal(append(b, 0), &got); err == nil {
			t.Errorf("%v: a frame with a trailing octet was accepted", want.Type)
		}
	}
	if _, err := tlspl.Marshal(&Frame{Type: 99}); err == nil {
		t.Error("a frame of unknown type was encoded")
	}
}

func FuzzFrame(f *testing.F) {
	for _, frame := range frames(f) {
		b, err := tlspl.Marshal(&frame)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var frame Frame
		if tlspl.Unmarshal(b, &frame) != nil {
			return
		}
		again, err := tlspl.Marshal(&frame)
		if err != nil {
			t.Fatal(err)
		}
		var second Frame
		if err := tlspl.Unmarshal(again, &second); err != nil {
			t.Fatal(err)
		}
		third, _ := tlspl.Marshal(&second)
		if !bytes.Equal(again, third) {
			t.Fatalf("% x became % x", again, third)
		}
	})
}
