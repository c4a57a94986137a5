package federation

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
)

// Config says who we are and whom we talk to.
type Config struct {
	// Domain is our provider domain. Required.
	Domain string
	// BaseURL is where peers reach our endpoints: https, a path prefix, no
	// trailing slash. Default https://<Domain>/v1. Its certificate must carry
	// Domain whatever its host is.
	BaseURL string
	// Certificate returns the current certificate for both roles; it is asked at
	// every handshake, so a renewal needs no restart. Required unless Transport
	// and a server of one's own are used.
	Certificate func() (*tls.Certificate, error)
	// Roots authenticate peers; nil means the system's.
	Roots *x509.CertPool
	// Allow lists the provider domains that may federate with us.
	Allow []string
	// Open lets every provider that authenticates itself federate with us.
	Open bool
	// Resolve maps a domain to the host:port to connect to instead of what DNS
	// says. TLS still verifies the domain.
	Resolve map[string]string
	// PrivateNetworks permits connections to loopback, private and link-local
	// addresses that DNS names. Addresses in Resolve are always permitted.
	PrivateNetworks bool
	// Dial opens connections; default a net.Dialer. With Dial set, address
	// checks are the caller's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Transport, if set, replaces TLS and connections towards a peer. What it
	// connects to must have proved to be the domain.
	Transport func(domain string) http.RoundTripper
	// Anchor returns our current anchor statement; nil: none is served.
	Anchor func() ([]byte, error)
	// Statements keeps the anchor statements of peers across restarts; nil:
	// nowhere.
	Statements store.Settings

	Limiter Limiter          // nil: no limit by rate
	Limits  Limits           // zero: defaults
	Now     func() time.Time // default time.Now
	Jitter  func() float64   // uniform in [0,1); default math/rand/v2
	Log     *slog.Logger     // default: discard
	Metrics Metrics          // default: none
}

// Peers knows the providers we talk to. It is safe for concurrent use.
type Peers struct {
	cfg   Config
	base  *url.URL
	allow map[string]bool

	mu    sync.Mutex       // guards peers and chain; taken before a peer's
	peers map[string]*peer // by domain; every key passed Allowed
	chain map[[32]byte]verifiedChain

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	heard atomic.Pointer[func(domain string)] // told of signs of life

	life   sync.Mutex // guards closed, and work against Close; taken last
	closed bool
	work   sync.WaitGroup // fetches under way
}

// A peer is what we remember of one provider. All of it can be forgotten.
type peer struct {
	domain string
	rt     http.RoundTripper

	mu        sync.Mutex // guards what follows
	lastUse   time.Time
	inFlight  int // inbound requests being answered
	dir       *mimi.Directory
	dirUntil  time.Time     // fresh until
	dirStale  time.Time     // usable while the peer does not answer, until
	dirFetch  chan struct{} // non-nil while a fetch is under way; closed after it
	dirErr    error         // of the last fetch
	dirErrAt  time.Time
	failures  int       // connection failures in a row
	downUntil time.Time // requests fail at once until then
}

// New checks cfg and returns Peers. Close releases connections.
func New(cfg Config) (*Peers, error) {
	domain, err := mimi.ParseDomain(cfg.Domain)
	if err != nil {
		return nil, fmt.Errorf("federation: own domain: %w", err)
	}
	cfg.Domain = domain
	cfg = cfg.withDefaults()
	base, err := url.Parse(cfg.BaseURL)
	if err != nil || base.Scheme != "https" || base.Host == "" || base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return nil, fmt.Errorf("federation: base URL %q must be https://host/prefix", cfg.BaseURL)
	}
	cfg.BaseURL = strings.TrimSuffix(cfg.BaseURL, "/")
	if cfg.Certificate == nil && cfg.Transport == nil {
		return nil, errors.New("federation: no certificate is configured; peers could not authenticate us")
	}
	p := &Peers{
		cfg:   cfg,
		base:  base,
		allow: make(map[string]bool),
		peers: make(map[string]*peer),
		chain: make(map[[32]byte]verifiedChain),
	}
	for _, d := range cfg.Allow {
		domain, err := mimi.ParseDomain(d)
		if err != nil {
			return nil, fmt.Errorf("federation: allowlist: %w", err)
		}
		p.allow[domain] = true
	}
	resolve := make(map[string]string, len(cfg.Resolve))
	for d, addr := range cfg.Resolve {
		domain, err := mimi.ParseDomain(d)
		if err != nil {
			return nil, fmt.Errorf("federation: static map: %w", err)
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return nil, fmt.Errorf("federation: static map: %s needs host:port, got %q: %w", domain, addr, err)
		}
		resolve[domain] = addr
	}
	p.cfg.Resolve = resolve
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// Close makes later requests fail, waits for fetches under way and closes idle
// connections.
func (p *Peers) Close() error {
	p.life.Lock()
	p.closed = true
	p.life.Unlock()
	p.cancel()
	p.work.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.peers {
		closeIdle(q.rt)
	}
	return nil
}

// start runs f in a goroutine that Close waits for; false after Close.
func (p *Peers) start(f func()) bool {
	p.life.Lock()
	defer p.life.Unlock()
	if !p.closed {
		p.work.Go(f)
	}
	return !p.closed
}

// onHeard sets the function that is told when a peer shows signs of life.
func (p *Peers) onHeard(f func(domain string)) { p.heard.Store(&f) }

// alive notes that a peer is there. It must not be called with locks held.
func (p *Peers) alive(q *peer) {
	q.mu.Lock()
	q.downUntil = time.Time{}
	q.mu.Unlock()
	if f := p.heard.Load(); f != nil {
		(*f)(q.domain)
	}
}

// Domain returns our own provider domain.
func (p *Peers) Domain() string { return p.cfg.Domain }

// Allowed reports whether we federate with domain. Our own domain is never a
// peer.
func (p *Peers) Allowed(domain string) bool {
	return domain != p.cfg.Domain && (p.cfg.Open || p.allow[domain])
}

// peer returns what we know of domain, or ErrNotPeer.
func (p *Peers) peer(domain string) (*peer, error) {
	if !p.Allowed(domain) {
		return nil, fmt.Errorf("federation: %s: %w", domain, ErrNotPeer)
	}
	now := p.cfg.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.peers[domain]
	if q == nil {
		if _, err := mimi.ParseDomain(domain); err != nil {
			return nil, fmt.Errorf("federation: %w: %w", ErrNotPeer, err)
		}
		if len(p.peers) >= p.cfg.Limits.Peers {
			p.forget(now)
		}
		q = &peer{domain: domain, rt: p.transport(domain)}
		p.peers[domain] = q
	}
	q.mu.Lock()
	q.lastUse = now
	q.mu.Unlock()
	return q, nil
}

// forget drops idle peers, the least recently used first, until a quarter of
// the table is free or only busy ones remain. The caller holds p.mu.
func (p *Peers) forget(now time.Time) {
	for _, age := range []time.Duration{time.Hour, time.Minute, 0} {
		for domain, q := range p.peers {
			q.mu.Lock()
			idle := q.inFlight == 0 && q.dirFetch == nil && now.Sub(q.lastUse) >= age
			q.mu.Unlock()
			if idle {
				closeIdle(q.rt)
				delete(p.peers, domain)
			}
			if len(p.peers) <= p.cfg.Limits.Peers*3/4 {
				return
			}
		}
	}
}

func closeIdle(rt http.RoundTripper) {
	if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
