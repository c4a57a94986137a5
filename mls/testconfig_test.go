package mls

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// testVerifier accepts every credential but those that say "refused", and
// replacements that keep the credential.
type testVerifier struct{}

func (testVerifier) VerifyCredential(c *Credential, _ []byte, _ time.Time) error {
	if bytes.HasPrefix(c.Identity, []byte("refused")) {
		return errors.New("refused by the test")
	}
	return nil
}

func (testVerifier) VerifySuccessor(old, new *LeafNode) error {
	if !old.Credential.Equal(&new.Credential) {
		return errors.New("another identity")
	}
	return nil
}

func testConfig(t testing.TB) *Config {
	t.Helper()
	cfg, err := Config{Credentials: testVerifier{}}.withDefaults()
	noError(t, err)
	return cfg
}
