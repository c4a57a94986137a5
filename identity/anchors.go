package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"
)

// An Anchor says which CAs may certify the devices of a domain. It must not be
// changed once it was handed out.
type Anchor struct {
	Domain string
	// Certificates are the CAs, the one that issues now first, then earlier
	// ones whose certificates are still in use.
	Certificates []*x509.Certificate
	// NotAfter is when the statement ends that this came from; zero if it
	// came from elsewhere and does not end.
	NotAfter time.Time

	// endorsed[i] tells that the key of Certificates[i+1] signed for
	// Certificates[i].
	endorsed []bool
	// refused is why newer CAs of the domain are not in here.
	refused error
}

// Anchors knows the CAs of domains. Anchor may ask the network if it bounds
// the time for that; it returns an error that matches ErrUnknownDomain for a
// domain that has no CA. It must be safe for concurrent use.
type Anchors interface {
	Anchor(domain string) (*Anchor, error)
}

// StaticAnchors are CAs that an administrator configured, by domain. The map
// must not change while it is in use.
type StaticAnchors map[string]*Anchor

// Anchor implements [Anchors].
func (s StaticAnchors) Anchor(domain string) (*Anchor, error) {
	if a := s[domain]; a != nil {
		return a, nil
	}
	return nil, refuse(ErrUnknownDomain, "%s is not configured", domain)
}

// NewAnchor returns an Anchor of CAs that the caller trusts for domain by its
// own judgement, the current one first. The error matches ErrAnchor.
func NewAnchor(domain string, cas ...*x509.Certificate) (*Anchor, error) {
	if len(cas) == 0 || len(cas) > MaxCAs {
		return nil, refuse(ErrAnchor, "%d CAs for %s; 1 to %d are possible", len(cas), domain, MaxCAs)
	}
	for _, ca := range cas {
		if err := CheckCA(ca, domain); err != nil {
			return nil, err
		}
	}
	return &Anchor{Domain: domain, Certificates: cas}, nil
}

// FirstAnchors asks several sources in turn and returns the first answer that
// is not ErrUnknownDomain.
type FirstAnchors []Anchors

// Anchor implements [Anchors].
func (f FirstAnchors) Anchor(domain string) (*Anchor, error) {
	var err error
	for _, source := range f {
		var a *Anchor
		if a, err = source.Anchor(domain); err == nil || !errors.Is(err, ErrUnknownDomain) {
			return a, err
		}
	}
	if err == nil {
		err = refuse(ErrUnknownDomain, "no source for %s", domain)
	}
	return nil, err
}

// FetchedAnchors gets the anchor statement of a domain and verifies it. Every
// call fetches: put a [CachedAnchors] in front. Its fields must not change
// after first use.
type FetchedAnchors struct {
	// Fetch returns the encoded statement of a domain, from the domain's
	// provider or from anyone else who has it. Its error should match
	// ErrUnknownDomain if there is none. It should read at most
	// MaxStatement octets. Required.
	Fetch func(ctx context.Context, domain string) ([]byte, error)
	// Roots are the TLS roots that authenticate providers; nil means the
	// system's.
	Roots *x509.CertPool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Timeout bounds one fetch; 0 means 10 seconds.
	Timeout time.Duration
}

// Anchor implements [Anchors].
func (f *FetchedAnchors) Anchor(domain string) (*Anchor, error) {
	if err := checkDomain(domain); err != nil {
		return nil, refuse(ErrUnknownDomain, "%w", err)
	}
	timeout := f.Timeout
	if timeout <= 0 {
		timeout = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	b, err := f.Fetch(ctx, domain)
	if err != nil {
		return nil, fmt.Errorf("identity: fetch the anchor statement of %s: %w", domain, err)
	}
	s, err := ParseAnchorStatement(b)
	if err != nil {
		return nil, err
	}
	if s.Domain != domain {
		return nil, refuse(ErrAnchor, "asked for the statement of %s, got that of %q", domain, s.Domain)
	}
	return s.Verify(f.Roots, clock(f.Now))
}

// CachedAnchors remembers the answers of a source. Concurrent questions about
// one domain ask the source once. While an answer is being renewed, and when
// renewing fails, the old one is used until its NotAfter. Its fields must not
// change after first use.
type CachedAnchors struct {
	// Source is what is remembered. Required.
	Source Anchors
	// TTL is how long an answer is used before the source is asked again; 0
	// means an hour.
	TTL time.Duration
	// Retry is how long after a failure the source is not asked again; 0
	// means 10 seconds.
	Retry time.Duration
	// Size is how many domains are remembered; 0 means 4096.
	Size int
	// Now is the clock; nil means time.Now.
	Now func() time.Time

	mu      sync.Mutex
	domains map[string]*cachedAnchor
}

// cachedAnchor is guarded by CachedAnchors.mu.
type cachedAnchor struct {
	anchor *Anchor       // last good answer
	err    error         // of the last question
	until  time.Time     // when to ask again
	busy   chan struct{} // closed when the question under way is answered
}

// usable reports whether the last good answer still counts.
func (e *cachedAnchor) usable(now time.Time) bool {
	return e.anchor != nil && (e.anchor.NotAfter.IsZero() || !now.After(e.anchor.NotAfter))
}

// Anchor implements [Anchors].
func (c *CachedAnchors) Anchor(domain string) (*Anchor, error) {
	c.mu.Lock()
	now := clock(c.Now)
	e := c.entry(domain, now)
	for e.busy != nil && !e.usable(now) {
		busy := e.busy
		c.mu.Unlock()
		<-busy
		c.mu.Lock()
		now = clock(c.Now)
	}
	if e.busy != nil || now.Before(e.until) {
		defer c.mu.Unlock()
		if e.usable(now) {
			return e.anchor, nil
		}
		if e.err != nil {
			return nil, e.err
		}
	}
	busy := make(chan struct{})
	e.busy = busy
	c.mu.Unlock()

	defer func() { // also if the source panics, so that nobody waits for ever
		c.mu.Lock()
		e.busy = nil
		close(busy)
		c.mu.Unlock()
	}()
	a, err := c.Source.Anchor(domain)
	if err == nil && a == nil {
		err = refuse(ErrUnknownDomain, "no answer about %s", domain)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	now = clock(c.Now)
	e.err = err
	if err != nil {
		e.until = now.Add(orDefault(c.Retry, 10*time.Second))
		if e.usable(now) {
			return e.anchor, nil
		}
		return nil, err
	}
	e.anchor = a
	e.until = now.Add(orDefault(c.TTL, time.Hour))
	return a, nil
}

// Forget drops what is remembered about a domain.
func (c *CachedAnchors) Forget(domain string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.domains, domain)
}

// entry returns the entry of domain. It makes room by dropping one that is not
// in use, preferring one whose time is over.
func (c *CachedAnchors) entry(domain string, now time.Time) *cachedAnchor {
	if e := c.domains[domain]; e != nil {
		return e
	}
	size := c.Size
	if size <= 0 {
		size = 4096
	}
	if c.domains == nil {
		c.domains = make(map[string]*cachedAnchor)
	}
	if len(c.domains) >= size {
		victim, looked := "", 0
		for d, e := range c.domains {
			if e.busy != nil {
				continue
			}
			if victim = d; !now.Before(e.until) {
				break
			}
			if looked++; looked == 16 {
				break
			}
		}
		delete(c.domains, victim)
	}
	e := &cachedAnchor{}
	c.domains[domain] = e
	return e
}

func clock(now func() time.Time) time.Time {
	if now == nil {
		return time.Now()
	}
	return now()
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}
