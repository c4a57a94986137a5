package mls

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// A BasicVerifier is a [CredentialVerifier] for basic credentials, which prove
// nothing by themselves: Accept is what the application knows of who has
// which key. Clients with the same identity may succeed one another.
type BasicVerifier struct {
	// Accept returns an error unless the client that is called identity has
	// the signature key at the given time. A zero time means that it was
	// admitted earlier and may have expired since. nil refuses all.
	Accept func(identity, signatureKey []byte, now time.Time) error
}

// VerifyCredential implements [CredentialVerifier].
func (v BasicVerifier) VerifyCredential(c *Credential, signatureKey []byte, now time.Time) error {
	if c.Type != CredentialBasic {
		return fmt.Errorf("credential of type %v; want basic", c.Type)
	}
	if v.Accept == nil {
		return errors.New("basic credentials are not accepted")
	}
	return v.Accept(c.Identity, signatureKey, now)
}

// VerifySuccessor implements [CredentialVerifier].
func (v BasicVerifier) VerifySuccessor(old, new *LeafNode) error {
	for _, leaf := range []*LeafNode{old, new} {
		if leaf.Credential.Type != CredentialBasic {
			return fmt.Errorf("credential of type %v; want basic", leaf.Credential.Type)
		}
	}
	if !bytes.Equal(old.Credential.Identity, new.Credential.Identity) {
		return errors.New("another identity")
	}
	return nil
}

// Verifiers is a [CredentialVerifier] that asks the one of the credential's
// type; types without one are refused. A client keeps the type of its
// credential, since no verifier can compare two types.
type Verifiers map[CredentialType]CredentialVerifier

// VerifyCredential implements [CredentialVerifier].
func (v Verifiers) VerifyCredential(c *Credential, signatureKey []byte, now time.Time) error {
	one := v[c.Type]
	if one == nil {
		return fmt.Errorf("credentials of type %v are not accepted", c.Type)
	}
	return one.VerifyCredential(c, signatureKey, now)
}

// VerifySuccessor implements [CredentialVerifier].
func (v Verifiers) VerifySuccessor(old, new *LeafNode) error {
	t := old.Credential.Type
	if new.Credential.Type != t {
		return fmt.Errorf("credential of type %v in place of one of type %v", new.Credential.Type, t)
	}
	one := v[t]
	if one == nil {
		return fmt.Errorf("credentials of type %v are not accepted", t)
	}
	return one.VerifySuccessor(old, new)
}
