package identity

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A PinStore keeps the pinned CAs of domains. It must be safe for concurrent
// use.
type PinStore interface {
	// Pins returns the pinned CA certificates of domain in DER, in the order
	// in which they were stored; none and no error if nothing is pinned.
	Pins(domain string) ([][]byte, error)
	// SetPins replaces the pinned certificates of domain. They are on durable
	// storage when it returns.
	SetPins(domain string, der [][]byte) error
}

// MemoryPins is a PinStore that forgets at the end of the program. The zero
// value is ready.
type MemoryPins struct {
	mu   sync.Mutex
	pins map[string][][]byte
}

// Pins implements [PinStore].
func (m *MemoryPins) Pins(domain string) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.pins[domain]), nil
}

// SetPins implements [PinStore].
func (m *MemoryPins) SetPins(domain string, der [][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pins == nil {
		m.pins = make(map[string][][]byte)
	}
	m.pins[domain] = slices.Clone(der)
	return nil
}

// PinnedAnchors trusts the first answer of its source for a domain and pins
// the keys of its CAs. Of a later answer it accepts
//
//   - a CA with a pinned key (a renewed certificate), and
//   - newer CAs that lead to a pinned one by an unbroken line of
//     endorsements (see [StatedCA]).
//
// If no CA of an answer is acceptable, nothing changes: devices certified by
// the pinned CAs stay verifiable, others fail with an error that matches
// ErrAnchorChanged until [PinnedAnchors.Accept]. When the source fails, the
// pinned CAs are used. Every call asks the source: put a [CachedAnchors] in
// front. Its fields must not change after first use.
type PinnedAnchors struct {
	Source Anchors          // required
	Store  PinStore         // required
	Now    func() time.Time // nil means time.Now

	mu sync.Mutex // serialises reading, deciding and storing of pins
}

// Anchor implements [Anchors].
func (p *PinnedAnchors) Anchor(domain string) (*Anchor, error) {
	offered, sourceErr := p.Source.Anchor(domain) // not under the lock: may be slow
	p.mu.Lock()
	defer p.mu.Unlock()
	pinned, err := p.pinned(domain)
	if err != nil {
		return nil, err
	}
	if sourceErr != nil {
		if usable := p.valid(pinned); len(usable) > 0 {
			return &Anchor{Domain: domain, Certificates: usable}, nil
		}
		return nil, sourceErr
	}
	if offered.Domain != domain {
		return nil, refuse(ErrAnchor, "asked for %s, got the CAs of %q", domain, offered.Domain)
	}
	if len(pinned) == 0 {
		if err := p.store(domain, offered.Certificates, nil); err != nil {
			return nil, err
		}
		return offered, nil
	}
	accepted := accept(offered, pinned)
	if len(accepted) == 0 {
		changed := refuse(ErrAnchorChanged, "%s has CA %s, which no CA known so far endorsed",
			domain, Fingerprint(offered.Certificates[0]))
		usable := p.valid(pinned)
		if len(usable) == 0 {
			return nil, changed
		}
		return &Anchor{Domain: domain, Certificates: usable, refused: changed}, nil
	}
	if err := p.store(domain, accepted, pinned); err != nil {
		return nil, err
	}
	return &Anchor{Domain: domain, Certificates: accepted, NotAfter: offered.NotAfter}, nil
}

// Accept pins the source's present answer for domain in place of what was
// pinned: the user compared the fingerprint of the CA with the provider by
// other means. It fails with ErrAnchorChanged if the source's current CA has
// another fingerprint. A CachedAnchors in front must then Forget the domain.
func (p *PinnedAnchors) Accept(domain, fingerprint string) error {
	offered, err := p.Source.Anchor(domain)
	if err != nil {
		return err
	}
	if offered.Domain != domain {
		return refuse(ErrAnchor, "asked for %s, got the CAs of %q", domain, offered.Domain)
	}
	if got := Fingerprint(offered.Certificates[0]); got != fingerprint {
		return refuse(ErrAnchorChanged, "%s has CA %s, not %s", domain, got, fingerprint)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.store(domain, offered.Certificates, nil)
}

// accept returns the CAs of offered that follow from the pinned ones.
func accept(offered *Anchor, pinned []*x509.Certificate) []*x509.Certificate {
	isPinned := func(c *x509.Certificate) bool {
		return slices.ContainsFunc(pinned, func(p *x509.Certificate) bool {
			return bytes.Equal(p.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo)
		})
	}
	first := slices.IndexFunc(offered.Certificates, isPinned)
	if first < 0 {
		return nil
	}
	for i := range first {
		if i >= len(offered.endorsed) || !offered.endorsed[i] {
			return nil
		}
	}
	// An older CA proves nothing by being listed or by endorsing: whoever
	// holds only the TLS key could make one.
	accepted := slices.Clone(offered.Certificates[:first+1])
	for _, c := range offered.Certificates[first+1:] {
		if isPinned(c) {
			accepted = append(accepted, c)
		}
	}
	return accepted
}

// pinned returns the pinned CAs of domain, also those whose time is over.
func (p *PinnedAnchors) pinned(domain string) ([]*x509.Certificate, error) {
	ders, err := p.Store.Pins(domain)
	if err != nil {
		return nil, fmt.Errorf("identity: read the pinned CAs of %s: %w", domain, err)
	}
	var cas []*x509.Certificate
	for _, der := range ders {
		ca, err := parseCertificate(der)
		if err == nil {
			err = CheckCA(ca, domain)
		}
		if err != nil {
			return nil, fmt.Errorf("identity: the pinned CAs of %s are damaged: %w", domain, err)
		}
		cas = append(cas, ca)
	}
	return cas, nil
}

func (p *PinnedAnchors) valid(cas []*x509.Certificate) []*x509.Certificate {
	now := clock(p.Now)
	return slices.DeleteFunc(slices.Clone(cas), func(c *x509.Certificate) bool { return checkTime(c, now) != nil })
}

// store pins cas unless they are pinned already.
func (p *PinnedAnchors) store(domain string, cas, pinned []*x509.Certificate) error {
	if slices.EqualFunc(cas, pinned, (*x509.Certificate).Equal) {
		return nil
	}
	ders := make([][]byte, len(cas))
	for i, c := range cas {
		ders[i] = c.Raw
	}
	if err := p.Store.SetPins(domain, ders); err != nil {
		return fmt.Errorf("identity: pin the CAs of %s: %w", domain, err)
	}
	return nil
}
