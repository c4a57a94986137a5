package mls

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a [Group] or [PublicGroup] needs from outside. Its functions
// and interfaces may be called from any goroutine that uses a group, and
// never change a group themselves.
type Config struct {
	// Credentials judges whether a credential is genuine and whose it is.
	// Required.
	Credentials CredentialVerifier
	// Components holds the logic of application components. A proposal for
	// a component that is not in it is invalid.
	Components Components
	// Now returns the time; nil means time.Now.
	Now func() time.Time
	// CipherSuites lists the suites that groups and KeyPackages may have; nil
	// means UsableCipherSuites. It is the only way to turn on a suite with a
	// code point for private use.
	CipherSuites []CipherSuite
	// Limits bounds what is accepted; its zero value means the defaults.
	Limits Limits
	// PSK returns the external, application or resumption key of another
	// group that id names (RFC 9420 section 8.4); nil means that there is
	// none. The nonce does not matter for finding the key.
	PSK func(id *PreSharedKeyID) ([]byte, error)
	// MultiCredentials lists the credential types that this client supports
	// within multi-credentials (mls-extensions section 6.5). Credentials is
	// asked about each of them with the key of its binding; its
	// VerifySuccessor meets leaves whose credential is of type multi or
	// weak-multi. Nil refuses multi-credentials.
	MultiCredentials []CredentialType
	// SkipLifetime accepts leaves outside of their lifetime. RFC 9420
	// section 7.3 leaves the check to the receiver, since a message may be
	// processed long after it was sent: set it for a party that must follow
	// what others decided (a member, a replica), not for one that decides
	// (a hub, a committer).
	SkipLifetime bool
	// ExternalProposals decides about a proposal of the external sender with
	// the given index in the external_senders extension. An error refuses
	// it; nil refuses all.
	ExternalProposals func(s *State, p *Proposal, sender uint32) error
	// NewMemberProposals decides about a client that proposes its own Add.
	// An error refuses it; nil refuses all.
	NewMemberProposals func(s *State, kp *KeyPackage) error
	// HandshakeFormat is the wire format in which Group sends proposals and
	// commits: WirePublicMessage, which zero means, or WirePrivateMessage,
	// which hides from others than members what changes (RFC 9420
	// section 16.1); a PublicGroup cannot follow it. A SelfRemove and what
	// comes from outside of the group is always a PublicMessage. Both are
	// received, whatever is set.
	//
	// WireSemiPrivateMessage lets the external receivers of the group read
	// as well. It needs ExternalReceivers, and sending fails while the group
	// does not use it (see Extensions.WithSemiPrivate), rather than being
	// more public than was asked for.
	HandshakeFormat WireFormat
	// ExternalReceivers turns SemiPrivateMessages on
	// (draft-mahy-mls-semiprivatemessage-07, under private code points). It
	// decides about each external receiver when one creates or joins a group
	// that has it, or when it is proposed: the receiver will read the group's
	// handshakes. An error refuses it. nil refuses all, and so any group that
	// has the external_receivers extension.
	ExternalReceivers func(r *ExternalReceiver) error
	// ReceiverKey is the HPKE private key with which a PublicGroup opens
	// SemiPrivateMessages, as an external receiver of the group; nil: none.
	ReceiverKey []byte
	// Padding returns the size to which the plaintext of a PrivateMessage of
	// size octets is padded; one that is not larger means no padding. It must
	// depend on nothing but size. nil means the Padmé scheme with at least 64
	// octets, which adds 12 % at most (RFC 9420 section 15.1).
	Padding func(size int) int
}

// A CredentialVerifier is the application's authentication service (RFC 9420
// section 5.3.1). It must be safe for concurrent use. Its errors are wrapped
// in errors that match ErrCredential.
type CredentialVerifier interface {
	// VerifyCredential reports whether c is genuine at the given time and
	// entitles the holder of signatureKey. It is called for every leaf that
	// comes into a tree and for every external sender. A zero time means
	// that only the time of admission mattered, which is past: a credential
	// that has expired since is still genuine (RFC 9420 section 5.3.2).
	VerifyCredential(c *Credential, signatureKey []byte, now time.Time) error
	// VerifySuccessor reports whether new may take the place of old: both
	// must stand for the same client. It is called when a member's leaf is
	// replaced, and when an external commit removes an old leaf of its
	// sender.
	VerifySuccessor(old, new *LeafNode) error
}

// Components maps the components of an application to their logic.
type Components map[ComponentID]Component

// A Component interprets AppDataUpdate proposals (mls-extensions
// section 4.7). Its functions are pure: every member must come to the same
// result.
type Component interface {
	// Update returns the new data of the component after the updates of one
	// commit, in their order. present tells whether there is old data. An
	// error makes the proposal list invalid.
	Update(old []byte, present bool, updates [][]byte) (new []byte, err error)
	// Remove returns an error unless the data may be removed.
	Remove(old []byte) error
}

// An EphemeralComponent is a Component that accepts AppEphemeral proposals,
// too (mls-extensions section 4.8).
type EphemeralComponent interface {
	Component
	// Ephemeral returns an error if data is not valid.
	Ephemeral(data []byte) error
}

var errNoCredentials = errors.New("mls: Config.Credentials is nil: set a CredentialVerifier")

// withDefaults returns a copy of c with every zero field replaced.
func (c Config) withDefaults() (*Config, error) {
	if c.Credentials == nil {
		return nil, errNoCredentials
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.CipherSuites == nil {
		c.CipherSuites = UsableCipherSuites()
	}
	c.Limits = c.Limits.withDefaults()
	if c.HandshakeFormat == 0 {
		c.HandshakeFormat = WirePublicMessage
	}
	if err := c.checkHandshakeFormat(); err != nil {
		return nil, err
	}
	if c.Padding == nil {
		c.Padding = paddedSize
	}
	return &c, nil
}

// verifyCredential asks the application about a credential that comes in now.
func (c *Config) verifyCredential(cred *Credential, key []byte) error {
	return c.verifyCredentialAt(cred, key, c.Now())
}

// verifyAdmitted asks about a credential that the group admitted earlier: one
// that has expired since must not keep everyone else from joining.
func (c *Config) verifyAdmitted(cred *Credential, key []byte) error {
	return c.verifyCredentialAt(cred, key, time.Time{})
}

func (c *Config) verifyCredentialAt(cred *Credential, key []byte, now time.Time) error {
	if cred.isMulti() {
		return c.verifyMulti(cred, key, now)
	}
	if err := c.Credentials.VerifyCredential(cred, key, now); err != nil {
		return fmt.Errorf("%w: %w", ErrCredential, err)
	}
	return nil
}

// verifySuccessor asks the application whether a leaf may replace another.
func (c *Config) verifySuccessor(old, new *LeafNode) error {
	if err := c.Credentials.VerifySuccessor(old, new); err != nil {
		return fmt.Errorf("%w: %w", ErrCredential, err)
	}
	return nil
}

// parallel calls f for 0 to n-1 on as many goroutines as there are
// processors and returns the error of the lowest index that failed, or nil.
// Fewer calls than a goroutine is worth run in the caller's.
func parallel(n int, f func(i int) error) error {
	workers := min(runtime.GOMAXPROCS(0), n/4)
	if workers < 2 {
		for i := range n {
			if err := f(i); err != nil {
				return err
			}
		}
		return nil
	}
	var (
		next   atomic.Int64
		mu     sync.Mutex
		failed = n
		first  error
		wg     sync.WaitGroup
	)
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(i); err != nil {
					mu.Lock()
					if i < failed {
						failed, first = i, err
					}
					mu.Unlock()
					next.Store(int64(n)) // later ones do not matter
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}
