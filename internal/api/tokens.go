package api

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/comity-im/comity/mimi"
)

// Lifetimes of what this package hands out.
const (
	TokenLife     = time.Hour
	ChallengeLife = 2 * time.Minute
	// maxUsed bounds the challenges remembered as used. Beyond it new ones are
	// refused until old ones expire.
	maxUsed = 100_000
)

// Errors of tokens and challenges.
var (
	ErrToken     = errors.New("api: the token is not valid or has expired; get a new one with the device's key")
	ErrChallenge = errors.New("api: the challenge is not valid, has expired or was used; ask for another")
	ErrBusy      = errors.New("api: too many logins at the moment; try again in a minute")
)

// Tokens makes and checks challenges and bearer tokens. Both are
// authenticated with a key that all of a provider's processes share and carry
// their own expiry, so nothing is stored for them; a challenge is good once
// per process. Safe for concurrent use.
type Tokens struct {
	key [32]byte
	now func() time.Time

	mu   sync.Mutex
	used map[string]time.Time // challenge → expiry
}

// NewTokens returns Tokens under the given secret.
func NewTokens(key [32]byte, now func() time.Time) *Tokens {
	return &Tokens{key: key, now: now, used: map[string]time.Time{}}
}

func (t *Tokens) mac(purpose string, body []byte) []byte {
	h := hmac.New(sha256.New, t.key[:])
	h.Write([]byte(purpose))
	h.Write([]byte{0})
	h.Write(body)
	return h.Sum(nil)
}

// open checks the MAC and the expiry of what seal made, and returns the body.
func (t *Tokens) open(purpose string, b []byte) ([]byte, bool) {
	if len(b) < 8+sha256.Size {
		return nil, false
	}
	body, mac := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if !hmac.Equal(mac, t.mac(purpose, body)) {
		return nil, false
	}
	if t.now().Unix() >= int64(binary.BigEndian.Uint64(body)) {
		return nil, false
	}
	return body[8:], true
}

func (t *Tokens) seal(purpose string, expires time.Time, content []byte) []byte {
	body := binary.BigEndian.AppendUint64(nil, uint64(expires.Unix()))
	body = append(body, content...)
	return append(body, t.mac(purpose, body)...)
}

// Challenge returns a fresh challenge, good once and for ChallengeLife.
func (t *Tokens) Challenge() []byte {
	var nonce [16]byte
	rand.Read(nonce[:])
	return t.seal("challenge", t.now().Add(ChallengeLife), nonce[:])
}

// CheckChallenge reports whether b is a challenge of Challenge that can still be
// used, as far as can be said without remembering anything.
func (t *Tokens) CheckChallenge(b []byte) error {
	if _, ok := t.open("challenge", b); !ok {
		return ErrChallenge
	}
	return nil
}

// UseChallenge accepts a challenge of Challenge, once. Call it last: a use is
// remembered.
func (t *Tokens) UseChallenge(b []byte) error {
	if err := t.CheckChallenge(b); err != nil {
		return err
	}
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.used) >= maxUsed {
		for c, expiry := range t.used {
			if !expiry.After(now) {
				delete(t.used, c)
			}
		}
		if len(t.used) >= maxUsed {
			return ErrBusy
		}
	}
	if _, again := t.used[string(b)]; again {
		return ErrChallenge
	}
	t.used[string(b)] = now.Add(ChallengeLife)
	return nil
}

// Issue returns a bearer token for a device, good for TokenLife.
func (t *Tokens) Issue(device mimi.URI) (token string, expires time.Time) {
	expires = t.now().Add(TokenLife)
	return base64.RawURLEncoding.EncodeToString(t.seal("token", expires, []byte(device.String()))), expires
}

// Device returns the device that a token was issued to.
func (t *Tokens) Device(token string) (mimi.URI, error) {
	if len(token) > 2*mimi.MaxURI {
		return mimi.URI{}, ErrToken
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return mimi.URI{}, ErrToken
	}
	body, ok := t.open("token", raw)
	if !ok {
		return mimi.URI{}, ErrToken
	}
	device, err := mimi.ParseURI(string(body))
	if err != nil {
		return mimi.URI{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	return device, nil
}
