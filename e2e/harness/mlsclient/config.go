package main

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/comity-im/comity/mls"
)

// pskStore holds the external pre-shared keys that one client was given.
type pskStore struct {
	mu   sync.Mutex
	keys map[string][]byte
}

func newPSKStore() *pskStore { return &pskStore{keys: make(map[string][]byte)} }

func (p *pskStore) put(id, secret []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys[string(id)] = bytes.Clone(secret)
}

// putAll adds the keys of o, another store.
func (p *pskStore) putAll(o *pskStore) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, secret := range o.keys {
		p.put([]byte(id), secret)
	}
}

// get is an mls.Config.PSK.
func (p *pskStore) get(id *mls.PreSharedKeyID) ([]byte, error) {
	if id.Type != mls.PSKExternal {
		return nil, fmt.Errorf("a key of type %d is not kept here", id.Type)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key, ok := p.keys[string(id.ID)]
	if !ok {
		return nil, fmt.Errorf("no key %x: call StorePSK first", id.ID)
	}
	return key, nil
}

// authority is the authentication service of the harness: every basic
// credential is genuine, and stands for the client of its identity.
type authority struct{}

func (authority) VerifyCredential(c *mls.Credential, _ []byte, _ time.Time) error {
	if c.Type != mls.CredentialBasic {
		return fmt.Errorf("credential of type %v; the harness uses basic ones", c.Type)
	}
	return nil
}

func (authority) VerifySuccessor(old, new *mls.LeafNode) error {
	if !bytes.Equal(old.Credential.Identity, new.Credential.Identity) {
		return errors.New("the new leaf has another identity")
	}
	return nil
}

// config is what every client under test accepts: all that the RFC leaves to
// the application is allowed.
func (c *client) config() mls.Config {
	cfg := mls.Config{
		Credentials:        authority{},
		PSK:                c.psks.get,
		ExternalProposals:  func(*mls.State, *mls.Proposal, uint32) error { return nil },
		NewMemberProposals: func(*mls.State, *mls.KeyPackage) error { return nil },
		Limits: mls.Limits{
			MaxLifetime: -1, // some stacks give leaves a lifetime without end
			PastEpochs:  64, // scripts go back to messages and resumption keys of old epochs
		},
	}
	if c.encrypt {
		cfg.HandshakeFormat = mls.WirePrivateMessage
	}
	if !c.pad {
		cfg.Padding = func(int) int { return 0 }
	}
	return cfg
}
