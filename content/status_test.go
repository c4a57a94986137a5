package content

import (
	"bytes"
	"errors"
	"testing"
)

func TestStatusReportRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     error
	}{
		{"nothing", "", ErrSyntax},
		{"map", "a0", ErrSyntax},
		{"trailing octet", "80 00", ErrSyntax},
		{"long array", "98 01 82 58 20 " + hexID + "02", ErrNotDeterministic},
		{"indefinite", "9f ff", ErrNotDeterministic},
		{"longer than input", "9a 00001000", ErrSyntax},
		{"cut in the head", "19 01", ErrSyntax},
		{"three items", "81 83 58 20 " + hexID + "02 02", ErrSyntax},
		{"short ID", "81 82 58 1f " + repeat(31, "01") + "02 00", ErrSyntax},
		{"ID of an unknown algorithm", "81 82 58 20 " + repeat(32, "02") + "02", ErrHashAlgorithm},
		{"status 256", "81 82 58 20 " + hexID + "19 0100", ErrSyntax},
		{"long status", "81 82 58 20 " + hexID + "18 02", ErrNotDeterministic},
		{"negative status", "81 82 58 20 " + hexID + "20", ErrSyntax},
	} {
		if s, err := DecodeStatusReport(unhex(t, tt.in)); !errors.Is(err, tt.want) || s != nil {
			t.Errorf("%s: got %v, %v, want %v", tt.name, s, err, tt.want)
		}
	}
	many := make(StatusReport, MaxStatuses+1)
	if _, err := many.Encode(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	b := appendHead(nil, majorArray, MaxStatuses+1)
	b = append(b, bytes.Repeat(unhex(t, "82 58 20 "+hexID+"02"), MaxStatuses+1)...)
	if _, err := DecodeStatusReport(b); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
}

// A batch of 500 and unknown statuses survive.
func TestStatusReportRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 23, 24, 500, MaxStatuses} {
		s := make(StatusReport, n)
		for i := range s {
			s[i] = MessageStatus{MessageID{1, byte(i >> 8), byte(i)}, Status(i)}
		}
		b, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeStatusReport(b)
		if err != nil || len(got) != n {
			t.Fatalf("%d statuses: %d, %v", n, len(got), err)
		}
		for i := range s {
			if got[i] != s[i] {
				t.Fatalf("status %d is %v, want %v", i, got[i], s[i])
			}
		}
	}
}

func TestStatusNext(t *testing.T) {
	for _, tt := range []struct{ s, update, want Status }{
		{StatusDelivered, StatusRead, StatusRead},
		{StatusRead, StatusUnread, StatusUnread},
		{StatusUnread, StatusExpired, StatusExpired},
		{StatusUnread, StatusDelivered, StatusDelivered},
		{StatusError, StatusDelivered, StatusDelivered},
		{StatusRead, StatusDelivered, StatusRead},
		{StatusExpired, StatusDelivered, StatusExpired},
		{StatusHidden, StatusDelivered, StatusHidden},
		{StatusDeleted, StatusDelivered, StatusDeleted},
		{StatusDeleted, StatusUnread, StatusDeleted},
		{StatusRead, StatusDeleted, StatusDeleted},
		{StatusRead, Status(99), Status(99)},
	} {
		if got := tt.s.Next(tt.update); got != tt.want {
			t.Errorf("%v, then %v: %v, want %v", tt.s, tt.update, got, tt.want)
		}
	}
}

func TestDerivedValues(t *testing.T) {
	const head, tail = "87 58 20 " + hexID, " 41 01 04 60 60 60"
	b := unhex(t, head+"d9 03e9 a2 01 1a 62036674 22 18 63"+tail)
	d, err := DecodeDerivedValues(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := d.Accepted.Time(); ok || d.Accepted.Extended == nil {
		t.Errorf("timestamp %+v", d.Accepted)
	}
	if again, err := d.Encode(); err != nil || !bytes.Equal(again, b) {
		t.Errorf("re-encoded %x, %v, want %x", again, err, b)
	}
	if _, ok := (Timestamp{Milliseconds: 1 << 63}).Time(); ok {
		t.Error("a timestamp beyond 63 bits is a time")
	}
	for _, tt := range []struct {
		name, in string
		want     error
	}{
		{"other tag", head + "c1 01" + tail, ErrSyntax},
		{"tag of an array", head + "d9 03e9 80" + tail, ErrSyntax},
		{"byte string key", head + "d9 03e9 a1 41 01 00" + tail, ErrDataModel},
		{"unsorted", head + "d9 03e9 a2 02 00 01 00" + tail, ErrNotDeterministic},
		{"negative time", head + "20" + tail, ErrSyntax},
		{"leaf of 33 bits", head + "01 41 01 1b 0000000100000000 60 60 60", ErrSyntax},
		{"six items", "86 58 20 " + hexID + "01 41 01 04 60 60", ErrSyntax},
		{"short ID", "87 41 01 01 41 01 04 60 60 60", ErrSyntax},
		{"trailing octet", head + "01" + tail + "00", ErrSyntax},
	} {
		if d, err := DecodeDerivedValues(unhex(t, tt.in)); !errors.Is(err, tt.want) || d != nil {
			t.Errorf("%s: got %v, %v, want %v", tt.name, d, err, tt.want)
		}
	}
	for _, d := range []DerivedValues{
		{RoomURL: "\xff"},
		{Accepted: Timestamp{Extended: []byte{}}},
		{Accepted: Timestamp{Extended: unhex(t, "d9 03e9 a0 00")}},
	} {
		if _, err := d.Encode(); !errors.Is(err, ErrSyntax) {
			t.Errorf("%+v: got %v, want ErrSyntax", d, err)
		}
	}
}

func TestExternalContent(t *testing.T) {
	for _, plaintext := range [][]byte{nil, []byte("a"), bytes.Repeat([]byte("film"), 1<<16)} {
		stored, p, err := SealExternal(new(counter), plaintext)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(stored, []byte("film")) || len(stored) != len(plaintext)+16 || p.Size != uint64(len(stored)) {
			t.Errorf("%d octets stored as %d", len(plaintext), len(stored))
		}
		got, err := p.Open(stored)
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("got %d octets, %v", len(got), err)
		}
	}
	stored, sealed, err := SealExternal(nil, []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	if _, other, err := SealExternal(nil, []byte("content")); err != nil || bytes.Equal(other.Key, sealed.Key) || bytes.Equal(other.Nonce, sealed.Nonce) {
		t.Errorf("a key or nonce was used again, %v", err)
	}
	if _, _, err := SealExternal(bytes.NewReader(make([]byte, 27)), nil); err == nil {
		t.Error("sealed with a short random source")
	}
	for _, tt := range []struct {
		name string
		f    func(*ExternalPart, []byte) []byte
		want error
	}{
		{"as it was", func(p *ExternalPart, b []byte) []byte { return b }, nil},
		{"size of the content", func(p *ExternalPart, b []byte) []byte { p.Size -= 16; return b }, nil},
		{"no size", func(p *ExternalPart, b []byte) []byte { p.Size = 0; return b }, nil},
		{"no hash", func(p *ExternalPart, b []byte) []byte { p.HashAlg = 0; return b }, nil},
		{"changed", func(p *ExternalPart, b []byte) []byte { b[0] ^= 1; return b }, ErrContentHash},
		{"changed, no hash", func(p *ExternalPart, b []byte) []byte { p.HashAlg = 0; b[0] ^= 1; return b }, ErrContentKey},
		{"cut, no hash", func(p *ExternalPart, b []byte) []byte { p.HashAlg = 0; return b[:3] }, ErrContentKey},
		{"empty hash", func(p *ExternalPart, b []byte) []byte { p.ContentHash = nil; return b }, ErrContentHash},
		{"unknown hash", func(p *ExternalPart, b []byte) []byte { p.HashAlg = 9; return b }, ErrUnsupportedAlgorithm},
		{"unknown AEAD", func(p *ExternalPart, b []byte) []byte { p.EncAlg = 99; return b }, ErrUnsupportedAlgorithm},
		{"wrong key", func(p *ExternalPart, b []byte) []byte { p.Key = make([]byte, 16); return b }, ErrContentKey},
		{"long key", func(p *ExternalPart, b []byte) []byte { p.Key = make([]byte, 32); return b }, ErrContentKey},
		{"short key", func(p *ExternalPart, b []byte) []byte { p.EncAlg = AEADAES256GCM; return b }, ErrContentKey},
		{"short nonce", func(p *ExternalPart, b []byte) []byte { p.Nonce = p.Nonce[:11]; return b }, ErrContentKey},
		{"other nonce", func(p *ExternalPart, b []byte) []byte { p.Nonce = make([]byte, 12); return b }, ErrContentKey},
		{"other AAD", func(p *ExternalPart, b []byte) []byte { p.AAD = []byte{1}; return b }, ErrContentKey},
		{"wrong size", func(p *ExternalPart, b []byte) []byte { p.Size++; return b }, ErrContentSize},
	} {
		p := sealed
		got, err := p.Open(tt.f(&p, bytes.Clone(stored)))
		if !errors.Is(err, tt.want) || tt.want == nil && (err != nil || string(got) != "content") {
			t.Errorf("%s: got %q, %v, want %v", tt.name, got, err, tt.want)
		}
		if err != nil && got != nil {
			t.Errorf("%s: content and error", tt.name)
		}
	}
	public := ExternalPart{URL: "https://a.example"}
	if got, err := public.Open([]byte("page")); err != nil || string(got) != "page" {
		t.Errorf("public content: %q, %v", got, err)
	}
}
