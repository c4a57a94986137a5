package main

import (
	"strings"
	"testing"

	"github.com/comity-im/comity/internal/admin"
)

// logOf returns a log whose events have the letters of s as hashes.
func logOf(s string, first uint64) []admin.Event {
	var out []admin.Event
	for i, r := range s {
		out = append(out, admin.Event{Position: first + uint64(i), Timestamp: uint64(r), Hash: []byte(string(r))})
	}
	return out
}

func TestContained(t *testing.T) {
	for _, tt := range []struct{ replica, problem string }{
		{"abcd", ""},
		{"bc", ""},
		{"d", ""},
		{"", "no event"},
		{"bd", "is not event"},
		{"cb", "is not event"},
		{"x", "does not have"},
		{"cde", "more than the hub"},
	} {
		err := contained(logOf("abcd", 1), logOf(tt.replica, 1))
		if got := err == nil; got != (tt.problem == "") || err != nil && !strings.Contains(err.Error(), tt.problem) {
			t.Errorf("%q: %v, want %q", tt.replica, err, tt.problem)
		}
	}
	late := logOf("bc", 2)
	late[1].Timestamp++
	if contained(logOf("abcd", 1), late) == nil {
		t.Error("an event with another timestamp was taken for the same")
	}
}
