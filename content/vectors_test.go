package content

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/comity-im/comity/internal/vectors"
)

// examples are the messages of the draft.
var examples = []string{
	"original", "reply", "reaction", "mention", "mention-html", "edit", "delete", "unlike", "expiring",
	"attachment", "conferencing", "multipart-1", "multipart-2", "multipart-3",
}

func readVector(t testing.TB, sub, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectors.Dir(t, sub), name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ednHex returns the hexadecimal digits of the first byte string after
// prefix; they may go over lines of comments.
func ednHex(t testing.TB, edn, prefix string) string {
	t.Helper()
	_, rest, ok := strings.Cut(edn, prefix+"h'")
	if !ok {
		t.Fatalf("no %q", prefix)
	}
	digits, _, ok := strings.Cut(rest, "'")
	if !ok {
		t.Fatalf("byte string after %q does not end", prefix)
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("0123456789abcdef", r) {
			return r
		}
		return -1
	}, digits)
}

func exampleID(t testing.TB, name string) MessageID {
	t.Helper()
	id, err := ParseMessageID(ednHex(t, string(readVector(t, "content", name+".edn")), "message ID = "))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func example(t testing.TB, name string) *Message {
	t.Helper()
	m, err := Decode(readVector(t, "content", name+".cbor"))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return m
}

func TestExamples(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(vectors.Dir(t, "content"), "*.cbor"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(examples)+1 { // and implied-original
		t.Errorf("%d vectors, the test knows %d", len(files), len(examples)+1)
	}
	for _, name := range examples {
		t.Run(name, func(t *testing.T) {
			b := readVector(t, "content", name+".cbor")
			m := example(t, name)
			again, err := m.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again, b) {
				t.Errorf("re-encoded\n%x, want\n%x", again, b)
			}
			want := exampleID(t, name)
			if got, err := m.ID(); err != nil || got != want {
				t.Errorf("ID %v, %v, want %v", got, err, want)
			}
			if got, err := ComputeID(m.SenderURI(), m.RoomURI(), b); err != nil || got != want {
				t.Errorf("ComputeID %v, %v, want %v", got, err, want)
			}
			edn := string(readVector(t, "content", name+".edn"))
			if salt := ednHex(t, edn, "\n[\n  "); hex.EncodeToString(m.Salt[:]) != salt {
				t.Errorf("salt %x, want %s", m.Salt, salt)
			}
		})
	}
}

// The examples refer to each other.
func TestExampleReferences(t *testing.T) {
	for _, tt := range []struct{ name, replaces, inReplyTo string }{
		{"original", "", ""},
		{"reply", "", "original"},
		{"reaction", "", "original"},
		{"mention", "", "original"},
		{"edit", "reply", "original"},
		{"delete", "reply", "original"},
		{"unlike", "reaction", "original"},
	} {
		m := example(t, tt.name)
		for _, ref := range []struct {
			what string
			got  *MessageID
			want string
		}{{"replaces", m.Replaces, tt.replaces}, {"inReplyTo", m.InReplyTo, tt.inReplyTo}} {
			switch {
			case ref.want == "" && ref.got != nil:
				t.Errorf("%s: %s is %v, want null", tt.name, ref.what, ref.got)
			case ref.want != "" && (ref.got == nil || *ref.got != exampleID(t, ref.want)):
				t.Errorf("%s: %s is %v, want the ID of %s", tt.name, ref.what, ref.got, ref.want)
			}
		}
	}
}

func TestExampleFields(t *testing.T) {
	m := example(t, "expiring")
	if m.Expires == nil || *m.Expires != (Expiration{Relative: false, Time: 1644390004}) {
		t.Errorf("expires = %v", m.Expires)
	}
	m = example(t, "conferencing")
	if string(m.TopicID) != "Foo 118" || m.Body.Disposition != Session {
		t.Errorf("topic %q, disposition %v", m.TopicID, m.Body.Disposition)
	}
	p, ok := example(t, "attachment").Body.Part.(ExternalPart)
	if !ok {
		t.Fatal("attachment is not external")
	}
	if p.ContentType != "video/mp4" || p.URL != "https://example.com/storage/8ksB4bSrrRE.mp4" || p.Expires != 0 ||
		p.Size != 708234961 || p.EncAlg != AEADAES128GCM || len(p.Key) != 16 || len(p.Nonce) != 12 || len(p.AAD) != 0 ||
		p.HashAlg != HashSHA256 || len(p.ContentHash) != 32 || p.Description != "2 hours of key signing video" ||
		p.Filename != "bigfile.mp4" {
		t.Errorf("attachment = %+v", p)
	}
	if m := example(t, "delete"); !m.IsDelete() || m.Body.Disposition != Render {
		t.Errorf("delete = %+v", m.Body)
	}
	if m := example(t, "unlike"); !m.IsDelete() || m.Body.Disposition != Reaction {
		t.Errorf("unlike = %+v", m.Body)
	}
}

// The part indexes that the comments of multipart-3.edn tell.
func TestPartIndex(t *testing.T) {
	m := example(t, "multipart-3")
	var got []string
	for i, p := range m.Body.Parts() {
		if q, ok := m.Body.ByIndex(i); !ok || q != p {
			t.Errorf("ByIndex(%d) = %p, want %p", i, q, p)
		}
		switch part := p.Part.(type) {
		case SinglePart:
			got = append(got, part.ContentType+p.Language)
		case MultiPart:
			got = append(got, part.Semantics.String())
		}
	}
	want := "chooseOne processAll chooseOne text/html;charset=utf-8en text/html;charset=utf-8fr image/gif " +
		"processAll chooseOne text/html;charset=utf-8en text/html;charset=utf-8fr image/png"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("parts are %s, want %s", s, want)
	}
	if _, ok := m.Body.ByIndex(11); ok {
		t.Error("there is a part 11")
	}
	for range m.Body.Parts() {
		break // must not go on
	}
}

// implied-original.cbor has the message ID of an older draft, whose input
// had no lengths; implied-original.edn has the right one.
func TestDerivedValuesExample(t *testing.T) {
	b := readVector(t, "content", "implied-original.cbor")
	d, err := DecodeDerivedValues(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := d.Encode()
	if err != nil || !bytes.Equal(again, b) {
		t.Errorf("re-encoded %x, %v, want %x", again, err, b)
	}
	const stale = "01b0084467273cc43d6f0ebeac13eb84229c4fffe8f6c3594c905f47779e5a79"
	if d.MessageID.String() != stale {
		t.Errorf("message ID %v, want %s", d.MessageID, stale)
	}
	if want := exampleID(t, "original"); d.MessageID == want {
		t.Error("the file is right now: compare it with the ID of original")
	}
	edn := string(readVector(t, "content", "implied-original.edn"))
	if got := ednHex(t, edn, "/ messageId = Original message /\n  "); got != exampleID(t, "original").String() {
		t.Errorf("the diagnostic file has ID %s", got)
	}
	if got := ednHex(t, edn, "/ mlsGroupId /\n  "); got != hex.EncodeToString(d.MLSGroupID) {
		t.Errorf("group ID %x, want %s", d.MLSGroupID, got)
	}
	at, ok := d.Accepted.Time()
	if !ok || at.UnixMilli() != 1644387225019 {
		t.Errorf("accepted %v, %v", at, ok)
	}
	if d.SenderLeafIndex != 4 || d.SenderClientURL != "mimi://example.com/d/3b52249d-68f9-45ce-8bf5-c799f3cad7ec/0003" ||
		d.SenderUserURL != "mimi://example.com/u/alice-smith" || d.RoomURL != "mimi://example.com/r/engineering_team" {
		t.Errorf("derived values = %+v", d)
	}
}

func TestStatusExample(t *testing.T) {
	b := readVector(t, "status", "status.cbor")
	got, err := DecodeStatusReport(b)
	if err != nil {
		t.Fatal(err)
	}
	want := StatusReport{
		{exampleID(t, "original"), StatusRead},
		{exampleID(t, "reply"), StatusRead},
		{exampleID(t, "mention"), StatusUnread},
		{exampleID(t, "expiring"), StatusExpired},
	}
	if len(got) != len(want) {
		t.Fatalf("%d statuses, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("status %d is %v, want %v", i, got[i], want[i])
		}
	}
	again, err := want.Encode()
	if err != nil || !bytes.Equal(again, b) {
		t.Errorf("encoded %x, %v, want %x", again, err, b)
	}
}
