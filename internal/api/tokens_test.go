package api

import (
	"errors"
	"testing"
	"time"

	"github.com/comity-im/comity/mimi"
)

func TestTokens(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	tokens := NewTokens([32]byte{1}, func() time.Time { return now })
	device, err := mimi.ParseURI("mimi://a.example/d/alice-phone")
	if err != nil {
		t.Fatal(err)
	}
	token, expires := tokens.Issue(device)
	if got, err := tokens.Device(token); err != nil || got != device {
		t.Fatalf("got %v, %v", got, err)
	}
	other := NewTokens([32]byte{2}, tokens.now)
	flipped := []byte(token)
	flipped[3] ^= 1
	for name, c := range map[string]struct {
		tokens *Tokens
		token  string
	}{
		"other key": {other, token}, "changed": {tokens, string(flipped)}, "empty": {tokens, ""},
		"cut": {tokens, token[:len(token)-1]}, "no base64": {tokens, "%%%"},
	} {
		if _, err := c.tokens.Device(c.token); !errors.Is(err, ErrToken) {
			t.Errorf("%s: %v; want ErrToken", name, err)
		}
	}
	now = expires
	if _, err := tokens.Device(token); !errors.Is(err, ErrToken) {
		t.Errorf("expired: %v; want ErrToken", err)
	}
}

func TestChallenges(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	tokens := NewTokens([32]byte{1}, func() time.Time { return now })
	c := tokens.Challenge()
	if err := tokens.UseChallenge(c); err != nil {
		t.Fatal(err)
	}
	if err := tokens.UseChallenge(c); !errors.Is(err, ErrChallenge) {
		t.Errorf("used twice: %v; want ErrChallenge", err)
	}
	late := tokens.Challenge()
	now = now.Add(ChallengeLife)
	if err := tokens.UseChallenge(late); !errors.Is(err, ErrChallenge) {
		t.Errorf("too late: %v; want ErrChallenge", err)
	}
	// A token is no challenge, although the same key authenticates both.
	device, _ := mimi.ParseURI("mimi://a.example/d/x")
	if err := tokens.UseChallenge(tokens.seal("token", now.Add(time.Hour), []byte(device.String()))); !errors.Is(err, ErrChallenge) {
		t.Errorf("a token as a challenge: %v; want ErrChallenge", err)
	}
}
