package content

import (
	"testing"
	"time"
)

func benchMessage(b *testing.B) *Message {
	b.Helper()
	m, err := composer(alice).Markdown("Hi everyone, we just shipped release 2.0. __Good  work__!")
	if err != nil {
		b.Fatal(err)
	}
	return m
}

func BenchmarkEncode(b *testing.B) {
	m := benchMessage(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	in := encode(b, benchMessage(b))
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReceive(b *testing.B) {
	in := encode(b, benchMessage(b))
	r := &Receiver{Now: func() time.Time { return now }}
	env := Envelope{SenderURI: alice, RoomURI: room, Accepted: now}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := r.Receive(in, env); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompose(b *testing.B) {
	c := composer(alice)
	c.Rand = nil
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Markdown("Hi everyone, we just shipped release 2.0. __Good  work__!"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkText(b *testing.B) {
	m := benchMessage(b)
	b.ReportAllocs()
	for b.Loop() {
		if m.Text() == "" {
			b.Fatal("no text")
		}
	}
}

func BenchmarkStatusReport500(b *testing.B) {
	s := make(StatusReport, 500)
	for i := range s {
		s[i] = MessageStatus{MessageID{1, byte(i >> 8), byte(i)}, StatusRead}
	}
	in, err := s.Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeStatusReport(in); err != nil {
			b.Fatal(err)
		}
	}
}
