package mimi

import (
	"errors"
	"strings"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
)

// TestURITable is T-N1: forty spellings, what they canonicalise to, or that
// they are refused.
func TestURITable(t *testing.T) {
	long := strings.Repeat("a", MaxURI)
	label := strings.Repeat("b", 64)
	tests := []struct {
		in   string
		want string // empty: refused
		kind Kind
		dom  string
		name string
	}{
		{"mimi://a.example", "mimi://a.example", KindProvider, "a.example", ""},
		{"mimi://a.example/u/alice", "mimi://a.example/u/alice", KindUser, "a.example", "alice"},
		{"mimi://a.example/d/ClientA1", "mimi://a.example/d/ClientA1", KindClient, "a.example", "ClientA1"},
		{"mimi://a.example/d/alice/ClientA1", "mimi://a.example/d/alice/ClientA1", KindClient, "a.example", "alice/ClientA1"},
		{"mimi://a.example/r/clubhouse", "mimi://a.example/r/clubhouse", KindRoom, "a.example", "clubhouse"},
		{"mimi://a.example/g/clubhouse", "mimi://a.example/g/clubhouse", KindGroup, "a.example", "clubhouse"},
		{"mimi://a.example/p/3fa9", "mimi://a.example/p/3fa9", KindPseudonym, "a.example", "3fa9"},
		{"mimi://a.example/t/eng", "mimi://a.example/t/eng", KindTeam, "a.example", "eng"},
		{"MIMI://A.Example/u/Alice", "mimi://a.example/u/Alice", KindUser, "a.example", "Alice"},
		{"mimi://xn--bcher-kva.example/u/a", "mimi://xn--bcher-kva.example/u/a", KindUser, "xn--bcher-kva.example", "a"},
		{"mimi://XN--BCHER-KVA.example/u/a", "mimi://xn--bcher-kva.example/u/a", KindUser, "xn--bcher-kva.example", "a"},
		{"mimi://localhost/u/a", "mimi://localhost/u/a", KindUser, "localhost", "a"},
		{"mimi://a.example/u/%61lice", "mimi://a.example/u/alice", KindUser, "a.example", "alice"},
		{"mimi://a.example/u/a%2fb", "mimi://a.example/u/a%2Fb", KindUser, "a.example", "a%2Fb"},
		{"mimi://a.example/u/a%2Fb", "mimi://a.example/u/a%2Fb", KindUser, "a.example", "a%2Fb"},
		{"mimi://a.example/u/%c3%a9", "mimi://a.example/u/%C3%A9", KindUser, "a.example", "%C3%A9"},
		{"mimi://a.example/u/a%7Eb_c-d", "mimi://a.example/u/a~b_c-d", KindUser, "a.example", "a~b_c-d"},
		{"mimi://a.example/u/a@b:c!$&'()*+,;=", "mimi://a.example/u/a@b:c!$&'()*+,;=", KindUser, "a.example", "a@b:c!$&'()*+,;="},
		{"mimi://a.example/u/a%40b", "mimi://a.example/u/a%40b", KindUser, "a.example", "a%40b"},
		{"mimi://a.example/r/...", "mimi://a.example/r/...", KindRoom, "a.example", "..."},
		{"mimi://bücher.example/u/a", "", 0, "", ""},
		{"mimi://a.example/b/bob", "", 0, "", ""},
		{"mimi://a.example/", "", 0, "", ""},
		{"mimi://a.example/u", "", 0, "", ""},
		{"mimi://a.example/u/", "", 0, "", ""},
		{"mimi://a.example//u/a", "", 0, "", ""},
		{"mimi://a.example/u//a", "", 0, "", ""},
		{"mimi://a.example/u/a/", "", 0, "", ""},
		{"mimi://a.example/u/..", "", 0, "", ""},
		{"mimi://a.example/u/a/../b", "", 0, "", ""},
		{"mimi://a.example/u/%2e%2E", "", 0, "", ""},
		{"mimi://a.example/u/a?x=1", "", 0, "", ""},
		{"mimi://a.example/u/a#f", "", 0, "", ""},
		{"mimi://bob@a.example/u/a", "", 0, "", ""},
		{"mimi://a.example:443/u/a", "", 0, "", ""},
		{"mimi://192.0.2.1/u/a", "", 0, "", ""},
		{"mimi://[2001:db8::1]/u/a", "", 0, "", ""},
		{"mimi://a..example/u/a", "", 0, "", ""},
		{"mimi://a.example./u/a", "", 0, "", ""},
		{"mimi://-a.example/u/a", "", 0, "", ""},
		{"mimi://" + label + ".example/u/a", "", 0, "", ""},
		{"mimi:///u/a", "", 0, "", ""},
		{"https://a.example/u/a", "", 0, "", ""},
		{"mimi:a.example/u/a", "", 0, "", ""},
		{"", "", 0, "", ""},
		{"mimi://a.example/u/é", "", 0, "", ""},
		{"mimi://a.example/u/a b", "", 0, "", ""},
		{"mimi://a.example/u/%", "", 0, "", ""},
		{"mimi://a.example/u/%zz", "", 0, "", ""},
		{"mimi://a.example/u/a%00b", "", 0, "", ""},
		{"mimi://a.example/u/a%7f", "", 0, "", ""},
		{"mimi://a.example/u/%ff", "", 0, "", ""},
		{"mimi://a.example/uu/a", "", 0, "", ""},
		{"mimi://a.example/U/a", "", 0, "", ""},
		{"mimi://a.example/u/" + long, "", 0, "", ""},
	}
	if len(tests) < 40 {
		t.Fatalf("only %d cases", len(tests))
	}
	for _, tt := range tests {
		u, err := ParseURI(tt.in)
		if tt.want == "" {
			if !errors.Is(err, ErrURI) {
				t.Errorf("ParseURI(%q) = %q, %v; want ErrURI", tt.in, u, err)
			}
			if !u.IsZero() {
				t.Errorf("ParseURI(%q) failed but returned %q", tt.in, u)
			}
			continue
		}
		if err != nil {
			t.Errorf("ParseURI(%q): %v", tt.in, err)
			continue
		}
		if u.String() != tt.want || u.Kind() != tt.kind || u.Domain() != tt.dom || u.Name() != tt.name {
			t.Errorf("ParseURI(%q) = %q kind %v domain %q name %q", tt.in, u, u.Kind(), u.Domain(), u.Name())
		}
		again, err := ParseURI(u.String())
		if err != nil || again != u {
			t.Errorf("canonical form %q is not stable: %q, %v", u, again, err)
		}
		b, err := tlspl.Marshal(u)
		if err != nil {
			t.Fatal(err)
		}
		var back URI
		if err := tlspl.Unmarshal(b, &back); err != nil || back != u {
			t.Errorf("%q does not survive its encoding: %q, %v", u, back, err)
		}
		for _, seg := range []string{u.PathSegment(), strings.TrimPrefix(u.String(), scheme)} {
			if got, err := ParsePathSegment(seg); err != nil || got != u {
				// The short form of a provider has no slash and is read as escaped text.
				t.Errorf("ParsePathSegment(%q) = %q, %v; want %q", seg, got, err, u)
			}
		}
		if nu, err := NewURI(u.Kind(), u.Domain(), u.Name()); err != nil || nu != u {
			t.Errorf("NewURI of the parts of %q = %q, %v", u, nu, err)
		}
	}
}

func TestURIEqualityByMap(t *testing.T) {
	m := map[URI]int{MustParseURI("MIMI://A.example/u/%61"): 1}
	if m[MustParseURI("mimi://a.example/u/a")] != 1 {
		t.Error("two spellings of one URI are different map keys")
	}
	if m[MustParseURI("mimi://a.example/u/A")] != 0 {
		t.Error("names that differ in case are the same map key")
	}
}

func TestURIBytes(t *testing.T) {
	b, err := tlspl.Marshal(MustParseURI("mimi://a.example/u/alice"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "\x18mimi://a.example/u/alice"; string(b) != want {
		t.Errorf("got %q, want %q", b, want)
	}
	b, err = tlspl.Marshal(URI{})
	if err != nil || string(b) != "\x00" {
		t.Errorf("zero URI encodes as %q, %v", b, err)
	}
	var u URI
	if err := tlspl.Unmarshal([]byte{0}, &u); err != nil || !u.IsZero() {
		t.Errorf("empty vector decodes as %q, %v", u, err)
	}
}

func TestPathSegment(t *testing.T) {
	u := MustParseURI("mimi://a.example/r/a%2Fb")
	if got, want := u.PathSegment(), "mimi%3A%2F%2Fa.example%2Fr%2Fa%252Fb"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, bad := range []string{"", "%", "a.example/x/y", "mimi%3A%2F%2F", strings.Repeat("a", 4*MaxURI)} {
		if u, err := ParsePathSegment(bad); err == nil {
			t.Errorf("ParsePathSegment(%q) = %q", bad, u)
		}
	}
}

func TestNewURIRefusesInjection(t *testing.T) {
	for _, tt := range []struct{ domain, name string }{
		{"a.example/u/mallory", "x"}, {"a.example", "x?y"}, {"a.example", ""}, {"a.example", "../r/x"}, {"x@a.example", "a"},
	} {
		if u, err := NewURI(KindUser, tt.domain, tt.name); err == nil {
			t.Errorf("NewURI(%q, %q) = %q", tt.domain, tt.name, u)
		}
	}
	if _, err := NewURI(KindProvider, "a.example", "x"); err == nil {
		t.Error("a provider URI with a name was accepted")
	}
	u, err := NewURI(KindUser, "a.example", EscapeName("Zoë / 1+1"))
	if err != nil || u.Name() != "Zo%C3%AB%20%2F%201%2B1" {
		t.Errorf("got %q, %v", u, err)
	}
}

func FuzzParseURI(f *testing.F) {
	for _, s := range []string{"mimi://a.example/u/alice", "MIMI://A.b/r/%61%2f", "mimi://x", "mimi://a.example/d/a/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURI(s)
		if err != nil {
			return
		}
		again, err := ParseURI(u.String())
		if err != nil || again != u {
			t.Fatalf("%q -> %q -> %q, %v", s, u, again, err)
		}
		seg, err := ParsePathSegment(u.PathSegment())
		if err != nil || seg != u {
			t.Fatalf("%q: path segment %q -> %q, %v", u, u.PathSegment(), seg, err)
		}
		if u.Domain() == "" || u.Kind() != KindProvider && u.Name() == "" {
			t.Fatalf("%q has empty parts", u)
		}
	})
}
