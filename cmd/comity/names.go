package main

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/comity-im/comity/mimi"
)

// who returns the short form of a user's or device's URI, name@domain. The
// name has no spaces, so that it can't pass for two, and stays
// percent-encoded unless it consists of letters and digits.
func who(u mimi.URI) string {
	if u.IsZero() {
		return "somebody"
	}
	if u.Kind() == mimi.KindProvider {
		return u.Domain()
	}
	return plainName(u.Name()) + "@" + u.Domain()
}

func plainName(escaped string) string {
	if !strings.Contains(escaped, "%") {
		return escaped
	}
	s, err := url.PathUnescape(escaped)
	if err != nil || !utf8.ValidString(s) {
		return escaped
	}
	for _, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-._~", r) {
			return escaped
		}
	}
	return s
}

// parseUser parses a user's URI or its short form, name@domain.
func parseUser(s string) (mimi.URI, error) {
	if strings.Contains(s, "://") {
		u, err := mimi.ParseURI(s)
		if err == nil && u.Kind() != mimi.KindUser {
			err = fmt.Errorf("%v is a %v, not a user", u, u.Kind())
		}
		return u, err
	}
	name, domain, ok := cutLast(s, "@")
	if !ok || name == "" {
		return mimi.URI{}, fmt.Errorf("%q is not a user: write mimi://a.example/u/alice or alice@a.example", s)
	}
	if !strings.Contains(name, "%") {
		name = mimi.EscapeName(name)
	}
	return mimi.NewURI(mimi.KindUser, domain, name)
}

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// parseRoom parses a room's URI.
func parseRoom(s string) (mimi.URI, error) {
	u, err := mimi.ParseURI(s)
	if err == nil && u.Kind() != mimi.KindRoom {
		err = fmt.Errorf("%v is a %v, not a room; a room is written mimi://a.example/r/name", u, u.Kind())
	}
	return u, err
}

// newRoomURI makes up the URI of a new room: its name as far as a URI can show
// it, and enough chance that nobody has the same.
func newRoomURI(domain, name string) (mimi.URI, error) {
	var slug strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case slug.Len() >= 32:
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			slug.WriteRune(r)
		case slug.Len() > 0 && !strings.HasSuffix(slug.String(), "-"):
			slug.WriteByte('-')
		}
	}
	var chance [5]byte
	rand.Read(chance[:])
	tail := strings.ToLower(base32.StdEncoding.EncodeToString(chance[:]))
	return mimi.NewURI(mimi.KindRoom, domain, strings.TrimLeft(strings.TrimRight(slug.String(), "-")+"-"+tail, "-"))
}

// count words a number of things.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
