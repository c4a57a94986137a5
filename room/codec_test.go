package room

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

type codec interface {
	tlspl.Marshaler
	tlspl.Unmarshaler
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// alice and bob in hexadecimal, each with its length of 24 or 22.
const (
	hexAlice = "18 6d696d693a2f2f612e6578616d706c652f752f616c696365"
	hexBob   = "16 6d696d693a2f2f622e6578616d706c652f752f626f62"
	hexRoom  = "16 6d696d693a2f2f612e6578616d706c652f722f636c75"
)

// TestGolden pins the bytes of every component; they were written by hand
// from the structs in the drafts.
func TestGolden(t *testing.T) {
	alice, bob := user("alice"), user("bob@b.example")
	room := mimi.MustParseURI("mimi://a.example/r/clu")
	five := uint32(5)
	for name, tt := range map[string]struct {
		v    codec
		into codec
		hex  string
	}{
		"empty list": {&ParticipantList{}, new(ParticipantList), "00"},
		"participant list": {&ParticipantList{{alice, 3}, {bob, 2}}, new(ParticipantList),
			// 29 + 27 = 56 octets
			"38" + hexAlice + "00000003" + hexBob + "00000002"},
		"participant list update": {&ParticipantListUpdate{
			Changed: []RoleChange{{1, 3}}, Removed: []uint32{4, 2}, Added: []Participant{{bob, 2}}}, new(ParticipantListUpdate),
			"08 00000001 00000003" + "08 00000004 00000002" + "1b" + hexBob + "00000002"},
		"empty update": {&ParticipantListUpdate{}, new(ParticipantListUpdate), "00 00 00"},
		"metadata": {&RoomMetadata{Room: room, Name: "Club", Descriptions: []RichDescription{{"text/html", "en", "<b>"}},
			Avatar: "https://a/b", Subject: "s", Mood: "m"}, new(RoomMetadata),
			hexRoom + "04 436c7562" +
				"11 09 746578742f68746d6c 02 656e 03 3c623e" +
				"0b 68747470733a2f2f612f62" + "01 73" + "01 6d"},
		"bare metadata": {&RoomMetadata{Room: room}, new(RoomMetadata), hexRoom + "00 00 00 00 00"},
		"roles": {&RoleData{{Index: 2, Name: "ab", Description: "c", Capabilities: []Capability{CanSendMessage, CanRemoveSelf},
			MinParticipants: 1, MaxParticipants: &five, MinActive: 0, MaxActive: nil,
			Changes: []RoleTargets{{0, []uint32{2, 3}}, {2, nil}}}}, new(RoleData),
			"2f" + "00000002" + "02 6162" + "01 63" + "04 0100 0006" +
				"00000001" + "01 00000005" + "00000000" + "00" +
				"12" + "00000000 08 00000002 00000003" + "00000002 00"},
		"base policy": {&BaseRoomPolicy{MultiDevice: true, MaxClients: &five, PersistentRoom: true,
			PolicyComponents: []mls.ComponentID{0x25, 0x26}}, new(BaseRoomPolicy),
			"00 00 00 01 01 00000005 00 00 01 00 04 0025 0026"},
		"dependent base policy": {&BaseRoomPolicy{FixedMembership: true, ParentDependent: true, ParentRoom: room,
			MaxUsers: &five, PseudonymsAllowed: true, Discoverable: true}, new(BaseRoomPolicy),
			"01 01 17" + hexRoom + "00 00 01 00000005 01 00 01 00"},
	} {
		t.Run(name, func(t *testing.T) {
			want := unhex(t, tt.hex)
			got, err := tlspl.Marshal(tt.v)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("got  %x\nwant %x", got, want)
			}
			if err := tlspl.Unmarshal(want, tt.into); err != nil {
				t.Fatal(err)
			}
			again, err := tlspl.Marshal(tt.into)
			if err != nil || !bytes.Equal(again, want) {
				t.Fatalf("decoded and encoded again: %x, %v", again, err)
			}
			for i := range want {
				if err := tlspl.Unmarshal(want[:i], tt.into); err == nil && i > 0 {
					t.Fatalf("the first %d octets alone were accepted", i)
				}
			}
			if err := tlspl.Unmarshal(append(want, 0), tt.into); err == nil {
				t.Fatal("a trailing octet was accepted")
			}
		})
	}
}

func TestDecodersRefuse(t *testing.T) {
	upper := strings.Replace(hexAlice, "612e6578", "412e6578", 1) // A.example
	for name, tt := range map[string]struct {
		into codec
		hex  string
	}{
		"participant twice":            {new(ParticipantList), "3a" + hexAlice + "00000003" + hexAlice + "00000002"},
		"participant is a room":        {new(ParticipantList), "1b" + hexRoom + "00000002"},
		"participant is empty":         {new(ParticipantList), "05 00 00000002"},
		"participant is not canonical": {new(ParticipantList), "1d" + upper + "00000002"},
		"participant is no URI":        {new(ParticipantList), "06 01 41 00000002"},
		"control":                      {new(RoleData), "12 00000002 00 00 00 00000000 00 00000000 00 00"},
		"role twice": {new(RoleData), "24" +
			"00000002 00 00 00 00000000 00 00000000 00 00" + "00000002 00 00 00 00000000 00 00000000 00 00"},
		"open join on role 2":     {new(RoleData), "14 00000002 00 00 02 0004 00000000 00 00000000 00 00"},
		"half a capability":       {new(RoleData), "13 00000002 00 00 01 00 00000000 00 00000000 00 00"},
		"optional is 2":           {new(RoleData), "12 00000002 00 00 00 00000000 02 00000000 00 00"},
		"name with NUL":           {new(RoomMetadata), hexRoom + "01 00" + "00 00 00 00"},
		"name is not UTF-8":       {new(RoomMetadata), hexRoom + "01 ff" + "00 00 00 00"},
		"avatar over http":        {new(RoomMetadata), hexRoom + "00 00 0a 687474703a2f2f612f62 00 00"},
		"metadata of a user":      {new(RoomMetadata), hexAlice + "00 00 00 00 00"},
		"metadata of nothing":     {new(RoomMetadata), "00 00 00 00 00 00"},
		"bool is 2":               {new(BaseRoomPolicy), "02 00 00 01 00 00 00 00 00 00"},
		"parent without the flag": {new(BaseRoomPolicy), "00 00 17" + hexRoom + "01 00 00 00 00 00 00"},
		"flag without the parent": {new(BaseRoomPolicy), "00 01 00 01 00 00 00 00 00 00"},
		"two parents":             {new(BaseRoomPolicy), "00 01 2e" + hexRoom + hexRoom + "01 00 00 00 00 00 00"},
		"parent is a user":        {new(BaseRoomPolicy), "00 01 19" + hexAlice + "01 00 00 00 00 00 00"},
	} {
		if name == "control" {
			if err := tlspl.Unmarshal(unhex(t, tt.hex), tt.into); err != nil {
				t.Errorf("the control: %v", err)
			}
			continue
		}
		if err := tlspl.Unmarshal(unhex(t, tt.hex), tt.into); err == nil {
			t.Errorf("%s: accepted as %+v", name, tt.into)
		} else if !errors.Is(err, tlspl.ErrSyntax) && !errors.Is(err, mimi.ErrURI) {
			t.Errorf("%s: error %v is not about syntax", name, err)
		}
	}
}

// TestApply: indexes refer to the list before the commit; a user is touched
// once (draft-ietf-mimi-protocol-06 section 7.5).
func TestApply(t *testing.T) {
	a, b, c, d, e := user("a"), user("b"), user("c"), user("d"), user("e")
	list := ParticipantList{{a, 3}, {b, 2}, {c, 2}, {d, 2}}
	before := append(ParticipantList(nil), list...)
	type up = ParticipantListUpdate
	for name, tt := range map[string]struct {
		updates []up
		want    ParticipantList // nil: refused
	}{
		"add":                {[]up{{Added: []Participant{{e, 2}}}}, ParticipantList{{a, 3}, {b, 2}, {c, 2}, {d, 2}, {e, 2}}},
		"change":             {[]up{{Changed: []RoleChange{{1, 3}}}}, ParticipantList{{a, 3}, {b, 3}, {c, 2}, {d, 2}}},
		"remove first":       {[]up{{Removed: []uint32{0}}}, ParticipantList{{b, 2}, {c, 2}, {d, 2}}},
		"remove descending":  {[]up{{Removed: []uint32{3, 1}}}, ParticipantList{{a, 3}, {c, 2}}},
		"remove ascending":   {[]up{{Removed: []uint32{1, 3}}}, ParticipantList{{a, 3}, {c, 2}}},
		"all at once":        {[]up{{[]RoleChange{{3, 3}}, []uint32{0, 2}, []Participant{{e, 2}}}}, ParticipantList{{b, 2}, {d, 3}, {e, 2}}},
		"two who leave":      {[]up{{Removed: []uint32{1}}, {Removed: []uint32{2}}}, ParticipantList{{a, 3}, {d, 2}}},
		"two updates":        {[]up{{Removed: []uint32{0}}, {Changed: []RoleChange{{3, 3}}}}, ParticipantList{{b, 2}, {c, 2}, {d, 3}}},
		"everybody":          {[]up{{Removed: []uint32{0, 1, 2, 3}}}, ParticipantList{}},
		"index too high":     {[]up{{Removed: []uint32{4}}}, nil},
		"change too high":    {[]up{{Changed: []RoleChange{{4, 2}}}}, nil},
		"huge index":         {[]up{{Removed: []uint32{1<<32 - 1}}}, nil},
		"removed twice":      {[]up{{Removed: []uint32{1, 1}}}, nil},
		"removed twice (2)":  {[]up{{Removed: []uint32{1}}, {Removed: []uint32{1}}}, nil},
		"changed twice":      {[]up{{Changed: []RoleChange{{1, 3}, {1, 2}}}}, nil},
		"changed, removed":   {[]up{{Changed: []RoleChange{{1, 3}}, Removed: []uint32{1}}}, nil},
		"removed, added":     {[]up{{Removed: []uint32{1}, Added: []Participant{{b, 3}}}}, nil},
		"removed, added (2)": {[]up{{Removed: []uint32{1}}, {Added: []Participant{{b, 3}}}}, nil},
		"added twice":        {[]up{{Added: []Participant{{e, 2}, {e, 2}}}}, nil},
		"added twice (2)":    {[]up{{Added: []Participant{{e, 2}}}, {Added: []Participant{{e, 2}}}}, nil},
		"added, is there":    {[]up{{Added: []Participant{{a, 2}}}}, nil},
		"added as role 0":    {[]up{{Added: []Participant{{e, 0}}}}, nil},
		"changed to role 0":  {[]up{{Changed: []RoleChange{{1, 0}}}}, nil},
		"nothing":            {[]up{{}}, nil},
		"something, nothing": {[]up{{Removed: []uint32{1}}, {}}, nil},
	} {
		got, err := list.Apply(tt.updates...)
		if tt.want == nil {
			if !errors.Is(err, ErrInvalidUpdate) {
				t.Errorf("%s: %v, %v; want ErrInvalidUpdate", name, got, err)
			}
			continue
		}
		if err != nil || len(got) != len(tt.want) || len(got) > 0 && !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, tt.want)
		}
		if !reflect.DeepEqual(list, before) {
			t.Fatalf("%s: Apply changed its receiver", name)
		}
		// The component logic comes to the same bytes.
		old, err := tlspl.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		var raw [][]byte
		for i := range tt.updates {
			b, err := tlspl.Marshal(&tt.updates[i])
			if err != nil {
				t.Fatal(err)
			}
			raw = append(raw, b)
		}
		data, err := Components()[mimi.ComponentParticipantList].Update(old, true, raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if want, err := tlspl.Marshal(tt.want); err != nil || !bytes.Equal(data, want) {
			t.Errorf("%s: component data %x, want %x", name, data, want)
		}
	}
}

func TestUpdateOf(t *testing.T) {
	list := ParticipantList{{user("a"), 3}, {user("b"), 2}, {user("c"), 2}}
	u, err := list.Update([]Participant{{user("b"), 3}}, []mimi.URI{user("a"), user("c")}, []Participant{{user("d"), 2}})
	if err != nil {
		t.Fatal(err)
	}
	want := &ParticipantListUpdate{[]RoleChange{{1, 3}}, []uint32{2, 0}, []Participant{{user("d"), 2}}}
	if !reflect.DeepEqual(u, want) {
		t.Errorf("got %v, want %v", u, want)
	}
	if _, err := list.Update(nil, []mimi.URI{user("x")}, nil); !errors.Is(err, ErrInvalidUpdate) {
		t.Errorf("removal of a stranger: %v", err)
	}
	if _, err := list.Update([]Participant{{user("x"), 2}}, nil, nil); !errors.Is(err, ErrInvalidUpdate) {
		t.Errorf("role of a stranger: %v", err)
	}
}

func TestComponentsRefuse(t *testing.T) {
	meta, err := tlspl.Marshal(&RoomMetadata{Room: mimi.MustParseURI("mimi://a.example/r/x")})
	if err != nil {
		t.Fatal(err)
	}
	for id, c := range Components() {
		if c.Remove(meta) == nil {
			t.Errorf("component %v can be removed", id)
		}
		if _, err := c.Update(nil, false, [][]byte{meta}); !errors.Is(err, ErrInvalidUpdate) {
			t.Errorf("component %v can be created by an update: %v", id, err)
		}
	}
	c := Components()[mimi.ComponentRoomMetadata]
	if got, err := c.Update(meta, true, [][]byte{meta}); err != nil || !bytes.Equal(got, meta) {
		t.Errorf("replacement: %x, %v", got, err)
	}
	if _, err := c.Update(meta, true, [][]byte{meta, meta}); !errors.Is(err, ErrInvalidUpdate) {
		t.Errorf("two metadata updates in a commit: %v", err)
	}
	if _, err := c.Update(meta, true, [][]byte{{1, 2, 3}}); !errors.Is(err, ErrInvalidUpdate) {
		t.Errorf("malformed metadata: %v", err)
	}
}

func TestTemplates(t *testing.T) {
	for _, name := range []string{TemplateGroup, TemplateOpen, TemplateDirect} {
		tpl := mustTemplate(t, name)
		if !tpl.Roles.IsBanned(RoleBanned) || tpl.Roles.Role(tpl.Creator) == nil || tpl.Roles.Role(tpl.Member) == nil {
			t.Errorf("%s: roles are missing", name)
		}
		if err := tpl.Roles.check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if open := tpl.Roles.Role(RoleNone).Can(CanOpenJoin); open != (name == TemplateOpen) {
			t.Errorf("%s: open join is %v", name, open)
		}
		if len(tpl.Roles.Role(RoleBanned).Capabilities) > 0 {
			t.Errorf("%s: the banned role has capabilities", name)
		}
		for _, r := range tpl.Roles {
			for _, c := range r.Changes {
				for _, to := range append(c.Targets, c.From) {
					if tpl.Roles.Role(to) == nil {
						t.Errorf("%s: role %q refers to the undefined role %d", name, r.Name, to)
					}
				}
			}
		}
	}
	if _, err := NewTemplate("x"); err == nil {
		t.Error("unknown template")
	}
}

func fuzzCodec[T any, P interface {
	*T
	codec
}](f *testing.F, seeds ...codec) {
	for _, s := range seeds {
		b, err := tlspl.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v := P(new(T))
		if tlspl.Unmarshal(b, v) != nil {
			return
		}
		first, err := tlspl.Marshal(v)
		if err != nil {
			t.Fatalf("decoded %x, but cannot encode it: %v", b, err)
		}
		again := P(new(T))
		if err := tlspl.Unmarshal(first, again); err != nil {
			t.Fatalf("%x: %v", first, err)
		}
		second, err := tlspl.Marshal(again)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%x is not stable: %x, %v", first, second, err)
		}
	})
}

func FuzzParticipantList(f *testing.F) {
	fuzzCodec[ParticipantList](f, &ParticipantList{}, &ParticipantList{{user("a"), 2}, {user("b"), 3}})
}

func FuzzParticipantListUpdate(f *testing.F) {
	fuzzCodec[ParticipantListUpdate](f, &ParticipantListUpdate{}, &ParticipantListUpdate{
		[]RoleChange{{1, 2}}, []uint32{3}, []Participant{{user("a"), 2}}})
}

func FuzzRoomMetadata(f *testing.F) {
	fuzzCodec[RoomMetadata](f, &RoomMetadata{Room: mimi.MustParseURI("mimi://a.example/r/x"), Name: "x", Avatar: "https://a/b",
		Descriptions: []RichDescription{{"", "en", "x"}}})
}

func FuzzRoleData(f *testing.F) {
	for _, name := range []string{TemplateGroup, TemplateOpen, TemplateDirect} {
		tpl, err := NewTemplate(name)
		if err != nil {
			f.Fatal(err)
		}
		b, err := tlspl.Marshal(tpl.Roles)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	fuzzCodec[RoleData](f)
}

func FuzzBaseRoomPolicy(f *testing.F) {
	fuzzCodec[BaseRoomPolicy](f, &BaseRoomPolicy{}, &BaseRoomPolicy{ParentDependent: true,
		ParentRoom: mimi.MustParseURI("mimi://a.example/r/x"), MaxClients: num(3), PolicyComponents: []mls.ComponentID{1}})
}
