package content

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The composer writes the draft's examples octet for octet.
func TestComposeExamples(t *testing.T) {
	original, reply, reaction := example(t, "original"), example(t, "reply"), example(t, "reaction")
	id := func(name string) MessageID { return exampleID(t, name) }
	for _, tt := range []struct {
		name string
		make func(*Composer) (*Message, error)
	}{
		{"original", func(c *Composer) (*Message, error) {
			return c.Markdown("Hi everyone, we just shipped release 2.0. __Good  work__!")
		}},
		{"reply", func(c *Composer) (*Message, error) {
			return c.Reply(id("original"), Markdown("Right on! _Congratulations_ 'all!"))
		}},
		{"reaction", func(c *Composer) (*Message, error) { return c.React(id("original"), "❤") }},
		{"edit", func(c *Composer) (*Message, error) {
			return c.Edit(id("reply"), reply, Markdown("Right on! _Congratulations_ y'all!"))
		}},
		{"delete", func(c *Composer) (*Message, error) { return c.Delete(id("reply"), reply) }},
		{"unlike", func(c *Composer) (*Message, error) { return c.Delete(id("reaction"), reaction) }},
		{"expiring", func(c *Composer) (*Message, error) {
			return c.Markdown("__*VPN GOING DOWN*__ I'm rebooting the VPN in ten minutes unless anyone objects.",
				ExpiresAt(time.Unix(1644390004, 999)))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := example(t, tt.name)
			c := &Composer{
				SenderURI: want.SenderURI(), RoomURI: want.RoomURI(), Rand: bytes.NewReader(want.Salt[:]),
				Now: func() time.Time { return time.UnixMilli(1644387225019) },
			}
			m, err := tt.make(c)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := encode(t, m), readVector(t, "content", tt.name+".cbor"); !bytes.Equal(got, want) {
				t.Errorf("got\n%x, want\n%x", got, want)
			}
		})
	}
	if original.IsDelete() {
		t.Error("original is a delete")
	}
}

func TestComposeMultipleReactions(t *testing.T) {
	m, err := composer(alice).React(MessageID{1}, "❤", "🥳", "🤞")
	if err != nil {
		t.Fatal(err)
	}
	if want := example(t, "multipart-2").Body; !reflect.DeepEqual(m.Body, want) {
		t.Errorf("body %+v, want %+v", m.Body, want)
	}
	for _, reactions := range [][]string{nil, {""}, {"a", ""}} {
		if _, err := composer(alice).React(MessageID{1}, reactions...); !errors.Is(err, ErrInvalid) {
			t.Errorf("React(%q): %v, want ErrInvalid", reactions, err)
		}
	}
}

func TestComposeOptions(t *testing.T) {
	topic := []byte("topic")
	m, err := composer(alice).Text("x", InTopic(topic), ReplyTo(MessageID{1, 2}), ExpiresAfter(1500*time.Millisecond),
		InLanguage("en"), WithExtension(TextKey("comity.ping"), []byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	topic[0] = 'X'
	if string(m.TopicID) != "topic" || *m.InReplyTo != (MessageID{1, 2}) || *m.Expires != (Expiration{true, 2}) || m.Body.Language != "en" {
		t.Errorf("message %+v", m)
	}
	if raw, ok := m.Extensions.Raw(TextKey("comity.ping")); !ok || !bytes.Equal(raw, []byte{1}) {
		t.Errorf("extension %x, %v", raw, ok)
	}
	if m.Salt != [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16} {
		t.Errorf("salt %x", m.Salt)
	}
	c := composer(alice)
	c.Rand, c.Now = nil, nil
	a, err := c.Text("x")
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Text("x")
	if err != nil || a.Salt == b.Salt {
		t.Errorf("two salts are %x and %x, %v", a.Salt, b.Salt, err)
	}
}

func TestComposeRefuses(t *testing.T) {
	multi := func(parts ...NestedPart) NestedPart { return NestedPart{Part: MultiPart{ProcessAll, parts}} }
	refers := NestedPart{Part: SinglePart{MediaTypeHTML, []byte(`<img src="cid:0@local.invalid">`)}}
	missing := NestedPart{Part: SinglePart{MediaTypeHTML, []byte(`<img src="cid:7@local.invalid">`)}}
	for name, tt := range map[string]struct {
		body NestedPart
		opts []Option
		want error
	}{
		"nothing":              {NestedPart{}, nil, ErrSyntax},
		"empty body":           {NestedPart{Part: NullPart{}}, nil, ErrInvalid},
		"large":                {PlainText(strings.Repeat("a", DefaultMaxSize)), nil, ErrTooLarge},
		"late expiry":          {PlainText("x"), []Option{ExpiresAfter(2 * MaxExpiry)}, ErrExpiry},
		"latest expiry":        {PlainText("x"), []Option{ExpiresAfter(1<<63 - 1 - time.Second)}, ErrExpiry},
		"early expiry":         {PlainText("x"), []Option{ExpiresAt(time.Unix(-1, 0))}, ErrExpiry},
		"unknown algorithm":    {PlainText("x"), []Option{ReplyTo(MessageID{2})}, ErrHashAlgorithm},
		"long topic":           {PlainText("x"), []Option{InTopic(make([]byte, 4097))}, ErrTopicTooLong},
		"HTML in Markdown":     {NestedPart{Part: SinglePart{MediaTypeMarkdown, []byte("<b>x</b>")}}, nil, ErrInvalid},
		"HTML inside":          {multi(PlainText("x"), NestedPart{Part: SinglePart{`text/Markdown; variant="gfm-mimi"`, []byte("<b>")}}), nil, ErrInvalid},
		"reference to a multi": {multi(refers, PlainText("x")), nil, ErrInvalid},
		"reference to nothing": {multi(missing, PlainText("x")), nil, ErrInvalid},
		"key without AEAD":     {NestedPart{Part: ExternalPart{URL: "https://a.example", Key: []byte{1}}}, nil, ErrInvalid},
		"no URL":               {NestedPart{Part: ExternalPart{}}, nil, ErrInvalid},
		"no salt":              {PlainText("x"), []Option{func(m *Message) { m.Salt = [16]byte{} }}, ErrInvalid},
		"no sender":            {PlainText("x"), []Option{func(m *Message) { m.Extensions.Delete(ExtSenderURI) }}, ErrInvalid},
		"no room":              {PlainText("x"), []Option{func(m *Message) { m.Extensions.Delete(ExtRoomURI) }}, ErrInvalid},
	} {
		m, err := composer(alice).New(tt.body, tt.opts...)
		if !errors.Is(err, tt.want) || !errors.Is(err, ErrInvalid) || m != nil {
			t.Errorf("%s: got %v, want %v and ErrInvalid", name, err, tt.want)
		}
	}
	if _, err := (&Composer{RoomURI: room}).Text("x"); !errors.Is(err, ErrInvalid) {
		t.Errorf("no sender: %v", err)
	}
	c := composer(alice)
	c.Rand = bytes.NewReader(make([]byte, 15))
	if _, err := c.Text("x"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short random source: %v", err)
	}
	good := multi(NestedPart{Part: SinglePart{MediaTypeHTML, []byte(`<img src="cid:2@local.invalid">`)}},
		NestedPart{Part: ExternalPart{URL: "https://a.example/x", EncAlg: 1, Key: make([]byte, 16), Nonce: make([]byte, 12)}})
	if _, err := composer(alice).New(good); err != nil {
		t.Errorf("sound message: %v", err)
	}
	if _, err := composer(alice).Markdown("what does cid:7@local.invalid mean?"); err != nil {
		t.Errorf("prose: %v", err)
	}
}

func TestComposeEscapes(t *testing.T) {
	m, err := composer(alice).Markdown("<script>x</script> `<b>`")
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Text(); got != "&lt;script>x&lt;/script> `<b>`" {
		t.Errorf("text %q", got)
	}
}

// What is composed is received.
func TestComposeReceive(t *testing.T) {
	c := composer(bob)
	original, err := c.Markdown("hello, <b>world</b>", InTopic([]byte("t")), ExpiresAfter(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	first, err := original.ID()
	if err != nil {
		t.Fatal(err)
	}
	r := &Receiver{Now: c.Now}
	env := Envelope{SenderURI: bob, RoomURI: room, Accepted: now}
	for name, make := range map[string]func() (*Message, error){
		"original": func() (*Message, error) { return original, nil },
		"reaction": func() (*Message, error) { return c.React(first, "👍") },
		"edit":     func() (*Message, error) { return c.Edit(first, original, PlainText("y")) },
		"delete":   func() (*Message, error) { return c.Delete(first, original) },
	} {
		m, err := make()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, id, err := r.Receive(encode(t, m), env)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if want, _ := m.ID(); id != want || got.Text() != m.Text() {
			t.Errorf("%s: received %v %q, want %v %q", name, id, got.Text(), want, m.Text())
		}
	}
}

func TestCheckReplacement(t *testing.T) {
	c := composer(bob)
	first := MessageID{1, 7}
	original, err := c.Reply(MessageID{1, 3}, PlainText("x"), InTopic([]byte("t")), ExpiresAfter(time.Hour), WithExtension(IntKey(300), []byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	original.Extensions.SetRaw(ExtSenderTimestamp, []byte{1})
	edit := func(opts ...Option) *Message {
		t.Helper()
		m, err := c.Edit(first, original, PlainText("y"), opts...)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	del, err := c.Delete(first, original)
	if err != nil {
		t.Fatal(err)
	}
	bareDelete := &Message{Replaces: &first, Body: NestedPart{Part: NullPart{}}}
	plain, err := c.Text("z")
	if err != nil {
		t.Fatal(err)
	}
	byAlice, err := composer(alice).Edit(first, original, PlainText("y"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		m     *Message
		same  bool
		allow Permissions
		want  error
	}{
		{"own edit", edit(), true, Permissions{}, nil},
		{"own delete", del, true, Permissions{}, nil},
		{"own bare delete", bareDelete, true, Permissions{}, nil},
		{"not a replacement", plain, true, Permissions{true, true, true, true}, ErrReplaceFields},
		{"other's edit", byAlice, false, Permissions{}, ErrNotSender},
		{"other's edit, may delete", byAlice, false, Permissions{DeleteOthers: true}, ErrNotSender},
		{"other's edit, may", byAlice, false, Permissions{EditOthers: true}, nil},
		{"other's delete", del, false, Permissions{}, ErrNotSender},
		{"other's delete, may edit", del, false, Permissions{EditOthers: true, ChangeTopic: true, ChangeFields: true}, ErrNotSender},
		{"other's delete, may", del, false, Permissions{DeleteOthers: true}, nil},
		{"topic", edit(InTopic([]byte("u"))), true, Permissions{}, ErrReplaceFields},
		{"topic, may fields", edit(InTopic([]byte("u"))), true, Permissions{ChangeFields: true}, ErrReplaceFields},
		{"topic, may", edit(InTopic([]byte("u"))), true, Permissions{ChangeTopic: true}, nil},
		{"reply", edit(ReplyTo(first)), true, Permissions{}, ErrReplaceFields},
		{"reply, may topic", edit(ReplyTo(first)), true, Permissions{ChangeTopic: true}, ErrReplaceFields},
		{"reply, may", edit(ReplyTo(first)), true, Permissions{ChangeFields: true}, nil},
		{"no reply", edit(func(m *Message) { m.InReplyTo = nil }), true, Permissions{}, ErrReplaceFields},
		{"expiry", edit(ExpiresAfter(2 * time.Hour)), true, Permissions{}, ErrReplaceFields},
		{"extension", edit(WithExtension(IntKey(300), []byte{2})), true, Permissions{}, ErrReplaceFields},
		{"new extension", edit(WithExtension(IntKey(301), []byte{2})), true, Permissions{}, ErrReplaceFields},
		{"extension in place of another", edit(func(m *Message) {
			m.Extensions.Delete(IntKey(300))
			m.Extensions.SetRaw(IntKey(301), []byte{1})
		}), true, Permissions{}, ErrReplaceFields},
		{"new timestamp", edit(WithExtension(ExtSenderTimestamp, []byte{2})), true, Permissions{}, nil},
		{"sender changed", byAlice, true, Permissions{}, ErrReplaceFields},
	} {
		if err := CheckReplacement(original, tt.m, tt.same, tt.allow); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	if _, ok := edit().Extensions.Raw(ExtSenderTimestamp); ok {
		t.Error("an edit keeps the timestamp of the original")
	}
}

func TestChains(t *testing.T) {
	id := func(n byte) MessageID { return MessageID{1, n} }
	chain := func(pairs ...byte) func(MessageID) *MessageID {
		return func(from MessageID) *MessageID {
			for i := 0; i < len(pairs); i += 2 {
				if from == id(pairs[i]) {
					to := id(pairs[i+1])
					return &to
				}
			}
			return nil
		}
	}
	for _, tt := range []struct {
		name  string
		chain []byte
		loop  bool
		first byte
	}{
		{"alone", nil, false, 1},
		{"one", []byte{1, 2}, false, 2},
		{"three", []byte{1, 2, 2, 3, 3, 4}, false, 4},
		{"itself", []byte{1, 1}, true, 0},
		{"back to the start", []byte{1, 2, 2, 3, 3, 1}, true, 0},
		{"back to the middle", []byte{1, 2, 2, 3, 3, 2}, true, 0},
	} {
		lookup := chain(tt.chain...)
		if err := ReplyLoop(id(1), lookup(id(1)), lookup); errors.Is(err, ErrReplyLoop) != tt.loop || !tt.loop && err != nil {
			t.Errorf("%s: ReplyLoop = %v", tt.name, err)
		}
		first, err := FirstInstance(id(1), lookup)
		if errors.Is(err, ErrReplaceLoop) != tt.loop || !tt.loop && (err != nil || first != id(tt.first)) {
			t.Errorf("%s: FirstInstance = %v, %v", tt.name, first, err)
		}
	}
	// A message that is not composed yet cannot be in the loop itself.
	lookup := chain(2, 3, 3, 2)
	start := id(2)
	if err := ReplyLoop(MessageID{}, &start, lookup); !errors.Is(err, ErrReplyLoop) {
		t.Errorf("got %v, want ErrReplyLoop", err)
	}
	// A chain without end is not followed for ever.
	calls := 0
	endless := func(from MessageID) *MessageID {
		calls++
		from[30], from[31] = byte(calls>>8), byte(calls)
		return &from
	}
	if err := ReplyLoop(MessageID{}, &start, endless); err != nil || calls > MaxChain {
		t.Errorf("%v after %d look-ups", err, calls)
	}
}
