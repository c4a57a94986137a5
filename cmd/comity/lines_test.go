package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/mimi"
)

var (
	testRoom  = mimi.MustParseURI("mimi://a.example/r/clubhouse")
	testAlice = mimi.MustParseURI("mimi://a.example/u/alice")
	testBob   = mimi.MustParseURI("mimi://b.example/u/bob")
)

// entry returns the entry of a message.
func entry(t *testing.T, seq uint64, m *content.Message, err error) *client.Entry {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	id, err := m.ID()
	if err != nil {
		t.Fatal(err)
	}
	return &client.Entry{
		Seq: seq, Position: seq, Time: time.Date(2026, 11, 21, 14, 3, 0, 0, time.UTC), Kind: client.EntryMessage, User: testAlice,
		ID: id, MediaType: content.MediaTypeContent, Content: data, Replaces: m.Replaces, InReplyTo: m.InReplyTo,
	}
}

func composer() *content.Composer {
	return &content.Composer{SenderURI: testAlice.String(), RoomURI: testRoom.String()}
}

func text(t *testing.T, seq uint64, s string, opts ...content.Option) *client.Entry {
	t.Helper()
	m, err := composer().Text(s, opts...)
	return entry(t, seq, m, err)
}

func TestLines(t *testing.T) {
	first := text(t, 7, "first")
	w := lineWriter{zone: time.UTC, find: func(id content.MessageID) (uint64, bool) { return 7, id == first.ID }}
	original, err := composer().Text("original")
	if err != nil {
		t.Fatal(err)
	}
	id, err := original.ID()
	if err != nil {
		t.Fatal(err)
	}
	made := func(m *content.Message, err error) *client.Entry { return entry(t, 8, m, err) }
	name := "Tea\nroom"
	at := time.Date(2026, 11, 21, 14, 3, 0, 0, time.UTC)
	tests := []struct {
		name  string
		entry *client.Entry
		want  string
	}{
		{"message", first, "    7 14:03 alice@a.example: first\n"},
		{"reply", text(t, 8, "second", content.ReplyTo(first.ID)), "    8 14:03 alice@a.example (to 7): second\n"},
		{"reply to something unknown", text(t, 8, "second", content.ReplyTo(id)), "    8 14:03 alice@a.example (to an earlier one): second\n"},
		{"reaction", made(composer().React(first.ID, "👍")), "    8 14:03 alice@a.example (reacts to 7): 👍\n"},
		{"edit", made(composer().Edit(first.ID, original, content.PlainText("better"))), "    8 14:03 alice@a.example (edits 7): better\n"},
		{"delete", made(composer().Delete(first.ID, original)), "    8 14:03 alice@a.example (deletes 7): \n"},
		{"doing", text(t, 8, "/me waves"), "    8 14:03 * alice@a.example waves\n"},
		{"two lines", text(t, 8, "one\ntwo"), "    8 14:03 alice@a.example: one\n            | two\n"},
		{"escape sequence", text(t, 8, "\x1b[2Jgone"), "    8 14:03 alice@a.example: ␛[2Jgone\n"},
		{"unknown type", &client.Entry{Seq: 8, Time: at, Kind: client.EntryMessage, User: testBob, MediaType: "text/x\x1b"}, "    8 14:03 bob@b.example: [text/x␛]\n"},
		{"problem", &client.Entry{Seq: 9, Time: at, Kind: client.EntryProblem, Problem: &client.Problem{Code: client.ProblemCommit, Text: "a\nb"}},
			"    9 14:03 !! refused (bad-commit): a b\n"},
		{"changes", &client.Entry{Seq: 9, Time: at, Kind: client.EntryChange, User: testAlice, Change: &client.Change{
			Created: true, Added: []mimi.URI{testBob}, Name: &name, Roles: []client.RoleChange{{User: testBob, Name: "admin"}}}},
			"    9 14:03 -- alice@a.example created the room\n" +
				"    9 14:03 -- alice@a.example added bob@b.example\n" +
				"    9 14:03 -- alice@a.example made bob@b.example admin\n" +
				"    9 14:03 -- the room's name is now \"Tea room\"\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := w.lines(tt.entry); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// Whatever is said, each line but the first is marked as a continuation, and
// the first names the one who said it.
func TestLinesCannotBeImitated(t *testing.T) {
	w := lineWriter{zone: time.UTC}
	head := regexp.MustCompile(`^    8 14:03 (alice@a\.example: |\* alice@a\.example )`)
	for _, said := range []string{
		"x\n    9 14:03 bob@b.example: I agree",
		"x\r    9 14:03 bob@b.example: I agree",
		"x\u2028    9 14:03 bob@b.example: I agree",
		"x\v\f\u0085    9 14:03 bob@b.example: I agree",
		"/me added bob@b.example\n    9 14:03 -- bob@b.example left",
		"\x1b[1A\x1b[2K    9 14:03 bob@b.example: I agree",
		"\u202e.eerga I :elpmaxe.b@bob",
		"\n\n\n",
	} {
		lines := strings.SplitAfter(w.lines(text(t, 8, said)), "\n")
		if !head.MatchString(lines[0]) {
			t.Errorf("%q begins with %q", said, lines[0])
		}
		for _, l := range lines[1:] {
			if l != "" && !strings.HasPrefix(l, "            | ") {
				t.Errorf("%q has the line %q", said, l)
			}
		}
		if all := strings.Join(lines, ""); strings.ContainsAny(all, "\x1b\r\v\f\u0085\u2028\u202e") {
			t.Errorf("%q is shown as %q", said, all)
		}
	}
}

func TestJSONLine(t *testing.T) {
	b, err := jsonLine(testRoom, text(t, 7, "one\ntwo"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "\n"); n != 1 || b[len(b)-1] != '\n' {
		t.Errorf("%d line feeds in %q", n, b)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"room": testRoom.String(), "kind": "message", "text": "one\ntwo", "seq": 7.0, "user": testAlice.String()} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
}

func TestNames(t *testing.T) {
	for uri, want := range map[string]string{
		"mimi://a.example/u/alice":          "alice@a.example",
		"mimi://a.example/d/alice/phone":    "alice/phone@a.example",
		"mimi://a.example/u/Zo%C3%AB":       "Zoë@a.example",
		"mimi://a.example/u/a%20b":          "a%20b@a.example",
		"mimi://a.example/u/a%E2%80%AEb":    "a%E2%80%AEb@a.example",
		"mimi://a.example/u/bob%40b.exampl": "bob%40b.exampl@a.example",
		"mimi://a.example":                  "a.example",
	} {
		u := mimi.MustParseURI(uri)
		got := who(u)
		if got != want {
			t.Errorf("who(%s) = %q, want %q", uri, got, want)
		}
		if u.Kind() != mimi.KindUser {
			continue
		}
		back, err := parseUser(got)
		if err != nil || back != u {
			t.Errorf("parseUser(%q) = %v, %v; want %v", got, back, err, u)
		}
	}
	if got := who(mimi.URI{}); got != "somebody" {
		t.Errorf("the zero URI is %q", got)
	}
	for _, bad := range []string{"", "bob", "@b.example", "bob@", "bob@b example", "mimi://b.example/r/room", "mimi://b.example"} {
		if u, err := parseUser(bad); err == nil {
			t.Errorf("parseUser(%q) = %v", bad, u)
		}
	}
	for _, bad := range []string{"", "room", "mimi://b.example/u/bob", "https://b.example/r/room"} {
		if u, err := parseRoom(bad); err == nil {
			t.Errorf("parseRoom(%q) = %v", bad, u)
		}
	}
}

func TestNewRoomURI(t *testing.T) {
	for name, want := range map[string]string{
		"Clubhouse":              `^mimi://a\.example/r/clubhouse-[a-z2-7]{8}$`,
		"Tea & Cake":             `^mimi://a\.example/r/tea-cake-[a-z2-7]{8}$`,
		"":                       `^mimi://a\.example/r/[a-z2-7]{8}$`,
		"茶":                      `^mimi://a\.example/r/[a-z2-7]{8}$`,
		"../..":                  `^mimi://a\.example/r/[a-z2-7]{8}$`,
		strings.Repeat("x", 500): `^mimi://a\.example/r/x{32}-[a-z2-7]{8}$`,
	} {
		a, err := newRoomURI("a.example", name)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(want).MatchString(a.String()) {
			t.Errorf("a room with the name %q is %v", name, a)
		}
		if b, err := newRoomURI("a.example", name); err != nil || a == b {
			t.Errorf("two rooms with the name %q are both %v (%v)", name, a, err)
		}
	}
}

func TestQuote(t *testing.T) {
	for s, want := range map[string]string{"/a/b-1_c.d": "/a/b-1_c.d", "a b": "'a b'", "it's": `'it'\''s'`, "$x": "'$x'"} {
		if got := quote(s); got != want {
			t.Errorf("quote(%q) = %q, want %q", s, got, want)
		}
	}
}

func TestDiff(t *testing.T) {
	for _, tt := range []struct{ want, got, diff string }{
		{"a b c", "a b c", ""},
		{"a b c", "a c b", "  a\n- b\n  c\n+ b\n"},
		{"a b", "a b c", "  a\n  b\n+ c\n"},
		{"a b", "b", "- a\n  b\n"},
		{"", "x", "+ x\n"},
	} {
		if got := diff(strings.Fields(tt.want), strings.Fields(tt.got)); got != tt.diff {
			t.Errorf("diff(%s, %s) =\n%swant\n%s", tt.want, tt.got, got, tt.diff)
		}
	}
}

func TestPieces(t *testing.T) {
	// A piece is found however a long enough text is split in two.
	const said = "this is a sentence of more than two pieces, as those of the demo are"
	for cut := range len(said) {
		found := false
		for _, p := range pieces(said) {
			found = found || strings.Contains(said[:cut], string(p)) || strings.Contains(said[cut:], string(p))
		}
		if !found {
			t.Errorf("split at %d, nothing is found", cut)
		}
	}
}

func TestCount(t *testing.T) {
	if got := fmt.Sprint(count(0, "user"), ", ", count(1, "user"), ", ", count(2, "user")); got != "0 users, 1 user, 2 users" {
		t.Error(got)
	}
}
