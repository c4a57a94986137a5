package identity

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/comity-im/comity/mls"
)

// DefaultCacheSize is how many verified credentials a [Verifier] remembers
// unless told otherwise. An entry takes about half a kilobyte.
const DefaultCacheSize = 8192

// A Verifier decides whether a credential is genuine. It implements
// mls.CredentialVerifier. Its fields must not change after first use. It
// remembers what it verified, under a hash of the whole chain and key; an
// entry counts only inside the validity of every certificate of its chain and
// as long as the domain still has the CA that it was verified with.
type Verifier struct {
	// Anchors knows the CAs of domains. Required.
	Anchors Anchors
	// CacheSize is the number of verified credentials to remember; 0 means
	// DefaultCacheSize, a negative number means none.
	CacheSize int

	mu    sync.Mutex
	cache map[[32]byte]*list.Element // of *verified
	order list.List                  // most recently used first
}

// verified is one credential that was found genuine.
type verified struct {
	key                 [32]byte
	names               Names
	notBefore, notAfter time.Time         // when all of the chain is valid
	ca                  *x509.Certificate // the CA at its end
}

// VerifyCredential reports whether the credential of a member or of an
// external sender is genuine at the time now: its certificate fits the
// profile, is for signatureKey, and chains to a CA of the domain that it
// names. It does not say whether that user or provider may be where it is;
// that needs the names, see [Verifier.Identify].
//
// A zero now leaves the time out of it: the chain must have been valid at some
// time. That is for leaves that are in a group already, whose admission was
// judged when they came (RFC 9420 section 5.3.2).
func (v *Verifier) VerifyCredential(c *mls.Credential, signatureKey []byte, now time.Time) error {
	_, err := v.Identify(c, signatureKey, now)
	return err
}

// VerifySuccessor reports whether the identity in a member's new leaf may
// replace that in its old one: it must name the same user and device. It
// verifies no certificate.
func (v *Verifier) VerifySuccessor(old, new *mls.LeafNode) error {
	if old == nil || new == nil {
		return refuse(ErrSuccessor, "a leaf is missing")
	}
	oldUser, oldDevice, err := ClientURIs(&old.Credential)
	if err != nil {
		return refuse(ErrSuccessor, "old leaf: %w", err)
	}
	newUser, newDevice, err := ClientURIs(&new.Credential)
	if err != nil {
		return refuse(ErrSuccessor, "new leaf: %w", err)
	}
	if oldUser != newUser || oldDevice != newDevice {
		return refuse(ErrSuccessor, "user %v, device %v instead of user %v, device %v", newUser, newDevice, oldUser, oldDevice)
	}
	return nil
}

// Identify is VerifyCredential and returns the names that the credential
// proves.
func (v *Verifier) Identify(c *mls.Credential, signatureKey []byte, now time.Time) (Names, error) {
	if err := checkChainSize(c); err != nil {
		return Names{}, err
	}
	key := cacheKey(c.Certificates, signatureKey)
	if names, ok := v.cached(key, now); ok {
		return names, nil
	}
	found, err := v.verify(c, signatureKey, now)
	if err != nil {
		return Names{}, err
	}
	found.key = key
	v.remember(found)
	return found.names, nil
}

// IdentifyClient is Identify for a client; it refuses a provider's credential.
func (v *Verifier) IdentifyClient(c *mls.Credential, signatureKey []byte, now time.Time) (Names, error) {
	names, err := v.Identify(c, signatureKey, now)
	if err == nil && !names.IsClient() {
		return Names{}, refuse(ErrNames, "credential of provider %s where a client's is needed", names.Domain)
	}
	return names, err
}

// IdentifyProvider is Identify for a provider; it refuses a client's
// credential.
func (v *Verifier) IdentifyProvider(c *mls.Credential, signatureKey []byte, now time.Time) (Names, error) {
	names, err := v.Identify(c, signatureKey, now)
	if err == nil && names.IsClient() {
		return Names{}, refuse(ErrNames, "credential of client %v where a provider's is needed", names.Device)
	}
	return names, err
}

func (v *Verifier) verify(c *mls.Credential, signatureKey []byte, now time.Time) (*verified, error) {
	names, err := presented(c)
	if err != nil {
		return nil, err
	}
	chain := make([]*x509.Certificate, len(c.Certificates))
	for i, der := range c.Certificates {
		if chain[i], err = parseCertificate(der); err != nil {
			return nil, err
		}
	}
	leaf := chain[0]
	if err := checkLeaf(leaf, names); err != nil {
		return nil, err
	}
	raw, err := rawKey(leaf.PublicKey)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(raw, signatureKey) {
		return nil, refuse(ErrKeyMismatch, "the certificate's key is not the signature key")
	}
	for _, c := range chain[1:] {
		if err := checkIssuer(c); err != nil {
			return nil, err
		}
	}
	at := now
	if now.IsZero() {
		for _, c := range chain {
			if c.NotBefore.After(at) {
				at = c.NotBefore
			}
		}
	}
	// The leaf's time is checked before the network is asked for a CA.
	if err := checkTime(leaf, at); err != nil {
		return nil, err
	}
	anchor, err := v.anchor(names.Domain)
	if err != nil {
		return nil, err
	}
	ca, err := chainTo(chain, anchor.Certificates, at)
	if err != nil {
		return nil, errors.Join(err, anchor.refused)
	}
	found := &verified{names: names, notBefore: ca.NotBefore, notAfter: ca.NotAfter, ca: ca}
	for _, c := range chain {
		if c.NotBefore.After(found.notBefore) {
			found.notBefore = c.NotBefore
		}
		if c.NotAfter.Before(found.notAfter) {
			found.notAfter = c.NotAfter
		}
	}
	return found, nil
}

// AtAnyTime returns v without regard to the time, for a party that follows what
// others decided, perhaps long after: a credential that has expired since was
// genuine then. It must not be used by one that decides whom to let in.
func AtAnyTime(v mls.CredentialVerifier) mls.CredentialVerifier {
	if v == nil {
		return nil
	}
	return anyTime{v}
}

type anyTime struct{ mls.CredentialVerifier }

func (v anyTime) VerifyCredential(c *mls.Credential, key []byte, _ time.Time) error {
	return v.CredentialVerifier.VerifyCredential(c, key, time.Time{})
}

// anchor returns the CAs of domain after checking that they are for it.
func (v *Verifier) anchor(domain string) (*Anchor, error) {
	if v.Anchors == nil {
		return nil, refuse(ErrUnknownDomain, "the verifier has no Anchors")
	}
	a, err := v.Anchors.Anchor(domain)
	if err != nil {
		return nil, err
	}
	if a == nil || a.Domain != domain {
		return nil, refuse(ErrAnchor, "the anchor is not for %s", domain)
	}
	return a, nil
}

// cacheKey hashes the whole input of a verification, with lengths.
func cacheKey(chain [][]byte, signatureKey []byte) [32]byte {
	h := sha256.New()
	var n [4]byte
	field := func(b []byte) {
		binary.BigEndian.PutUint32(n[:], uint32(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	field(signatureKey)
	for _, der := range chain {
		field(der)
	}
	return [32]byte(h.Sum(nil))
}

// cached returns the names of a remembered credential that still counts.
func (v *Verifier) cached(key [32]byte, now time.Time) (Names, bool) {
	v.mu.Lock()
	e, ok := v.cache[key]
	if !ok {
		v.mu.Unlock()
		return Names{}, false
	}
	v.order.MoveToFront(e)
	found := e.Value.(*verified) // immutable once stored
	v.mu.Unlock()
	if !now.IsZero() && (now.Before(found.notBefore) || now.After(found.notAfter)) {
		return Names{}, false
	}
	// The lock is not held here: Anchors may ask the network.
	a, err := v.anchor(found.names.Domain)
	if err != nil || !slices.ContainsFunc(a.Certificates, found.ca.Equal) {
		return Names{}, false
	}
	return found.names, true
}

func (v *Verifier) remember(found *verified) {
	size := v.CacheSize
	if size == 0 {
		size = DefaultCacheSize
	}
	if size < 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cache == nil {
		v.cache = make(map[[32]byte]*list.Element)
	}
	if e, ok := v.cache[found.key]; ok {
		e.Value = found
		v.order.MoveToFront(e)
		return
	}
	for len(v.cache) >= size {
		oldest := v.order.Back()
		v.order.Remove(oldest)
		delete(v.cache, oldest.Value.(*verified).key)
	}
	v.cache[found.key] = v.order.PushFront(found)
}
