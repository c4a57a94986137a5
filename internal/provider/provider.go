package provider

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/internal/admin"
	"github.com/comity-im/comity/internal/api"
	"github.com/comity-im/comity/internal/delivery"
	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/hub"
	"github.com/comity-im/comity/internal/keys"
	"github.com/comity-im/comity/internal/replica"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// Lifetimes of what a provider issues.
const (
	deviceValidity = 90 * 24 * time.Hour
	anchorValidity = 7 * 24 * time.Hour
	anchorKept     = time.Hour // how long one statement is given out
	expireEvery    = 10 * time.Minute
)

// Options are what a provider takes from outside of its configuration. Only
// Store is required.
type Options struct {
	// Store is opened by the caller, and closed by the caller after Close.
	Store store.Store
	// Version is what the metrics say.
	Version string
	Log     *slog.Logger     // default: discarded
	Now     func() time.Time // default time.Now
	// Transport, if set, carries requests to other providers in place of TLS
	// connections (see federation.Config).
	Transport func(domain string) http.RoundTripper
}

// A Provider is a messaging provider without its listeners.
type Provider struct {
	cfg     *Config
	store   store.Store
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics

	ca         *identity.CA
	tls        *certificate
	peers      *federation.Peers
	federation *federation.Handler
	outbox     *federation.Outbox
	hub        *hub.Hub
	replica    *replica.Replica
	delivery   *delivery.Delivery
	api        *api.API
	admin      *admin.Server

	stated statement
}

// A statement is our anchor statement as it is given out.
type statement struct {
	mu    sync.Mutex // guards what follows
	bytes []byte
	cert  *tls.Certificate // with which it was signed
	until time.Time
}

// New assembles a provider. Its CA and keys are made when they are not in the
// data directory and the store.
func New(ctx context.Context, cfg *Config, opts Options) (*Provider, error) {
	p := &Provider{cfg: cfg, store: opts.Store, log: opts.Log, now: opts.Now, metrics: newMetrics(opts.Version)}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.now == nil {
		p.now = time.Now
	}
	var err error
	if p.ca, err = openCA(filepath.Join(cfg.DataDir, "ca.pem"), cfg.Domain, p.now()); err != nil {
		return nil, err
	}
	if p.tls, err = loadCertificate(cfg.TLS.Certificate, cfg.TLS.Key); err != nil {
		return nil, err
	}
	if err := p.tls.check(cfg.Domain, p.now()); err != nil {
		return nil, err
	}
	roots, err := loadRoots(cfg.TLS.Roots)
	if err != nil {
		return nil, err
	}
	signer, sender, err := p.externalSender(ctx)
	if err != nil {
		return nil, err
	}
	senderOf := func(s mls.CipherSuite) (mls.ExternalSender, mls.Signer, error) {
		if s != mls.X25519AES128SHA256Ed25519 && s != mls.X25519ChaCha20SHA256Ed25519 {
			return mls.ExternalSender{}, nil, fmt.Errorf("provider: no key as a hub for cipher suite %v", s)
		}
		return *sender, signer, nil
	}
	senderBytes, err := mls.Marshal(sender)
	if err != nil {
		return nil, err
	}
	tokenKey := make([]byte, 32)
	rand.Read(tokenKey)
	if tokenKey, err = p.store.InitSetting(ctx, "token-key", tokenKey); err != nil {
		return nil, err
	}

	p.peers, err = federation.New(federation.Config{
		Domain: cfg.Domain, BaseURL: cfg.PublicURL + "/v1",
		Certificate: p.tls.get, Roots: roots,
		Allow: cfg.Federation.Peers, Open: cfg.Federation.Policy == "open", Resolve: cfg.Federation.Resolve,
		Transport: opts.Transport, Anchor: p.anchorStatement, Statements: p.store,
		Now: p.now, Log: p.log.With("part", "federation"), Metrics: p.metrics,
	})
	if err != nil {
		return nil, err
	}
	verifier := &identity.Verifier{Anchors: p.peers.Anchors(p.ca.Anchor())}
	groups := mls.Config{Credentials: verifier, Now: p.now}
	pool := keys.New(keys.Config{
		Store:  p.store,
		Verify: func(kp *mls.KeyPackage) error { return kp.Verify(&groups) },
		Identify: func(c *mls.Credential, key []byte) (user, device mimi.URI, err error) {
			names, err := verifier.IdentifyClient(c, key, p.now())
			return names.User, names.Device, err
		},
		Now: p.now,
	})
	p.delivery = delivery.New(p.store, clients{p.metrics})
	p.wire(verifier, pool, p.delivery, senderOf)
	p.api = api.New(api.Config{
		Domain: cfg.Domain, Directory: p.store, Tokens: api.NewTokens([32]byte(tokenKey), p.now),
		Keys: pool, Rooms: (*rooms)(p), Delivery: p.delivery,
		Issue: p.issue, Anchor: p.anchor, ExternalSender: senderBytes,
		Now: p.now, Log: p.log.With("part", "api"), Observe: p.metrics.request,
	})
	p.admin = admin.NewServer(cfg.Domain, p.store, p.now)
	return p, nil
}

// Run does what has to be done without being asked, until ctx ends.
func (p *Provider) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		tick := time.NewTicker(expireEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := p.store.Expire(ctx, uint64(p.now().UnixMilli())); err != nil && ctx.Err() == nil {
					p.log.ErrorContext(ctx, "expiring old records failed", "error", err)
				}
			}
		}
	})
	return p.outbox.Run(ctx)
}

// Close stops all work. The store is left to its owner.
func (p *Provider) Close() error {
	p.delivery.Close()
	p.outbox.Close()
	p.replica.Close()
	p.hub.Close()
	return p.peers.Close()
}

// Ready reports why the provider can't serve, if so.
func (p *Provider) Ready(ctx context.Context) error {
	_, err := p.store.Setting(ctx, "token-key")
	return err
}

// Clients is the handler of the client API, Admin that of the operator's
// socket.
func (p *Provider) Clients() http.Handler { return p.api }

// Admin is the handler of the operator's socket.
func (p *Provider) Admin() http.Handler { return p.admin }

// OpenAPI describes the client API, as JSON.
func (p *Provider) OpenAPI() ([]byte, error) { return p.api.OpenAPI() }

// Reload reads the TLS certificate again.
func (p *Provider) Reload() error {
	return p.tls.load()
}

func (p *Provider) issue(user, device mimi.URI, suite mls.CipherSuite, key []byte) ([]byte, error) {
	pub, err := identity.PublicKey(suite, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", api.ErrMalformed, err)
	}
	return p.ca.IssueDevice(user, device, pub, deviceValidity, p.now())
}

// anchorStatement vouches for our CA with our TLS key. The statement is kept for
// a while: anyone may ask for it, and a signature each time would be dear.
func (p *Provider) anchorStatement() ([]byte, error) {
	cert, err := p.tls.get()
	if err != nil {
		return nil, err
	}
	p.stated.mu.Lock()
	defer p.stated.mu.Unlock()
	now := p.now()
	if p.stated.cert == cert && now.Before(p.stated.until) {
		return p.stated.bytes, nil
	}
	s, err := identity.SignAnchor(*cert, p.ca, now, anchorValidity)
	if err != nil {
		return nil, err
	}
	b, err := mls.Marshal(s)
	if err != nil {
		return nil, err
	}
	p.stated.bytes, p.stated.cert = b, cert
	p.stated.until = now.Add(min(anchorKept, time.Unix(int64(s.NotAfter), 0).Sub(now)/2))
	return b, nil
}

// anchor returns the statement of any domain that we may talk to.
func (p *Provider) anchor(ctx context.Context, domain string) ([]byte, error) {
	if domain == p.cfg.Domain {
		return p.anchorStatement()
	}
	return p.peers.FetchAnchor(ctx, domain)
}

// openCA loads the provider's CA, or makes it.
func openCA(path, domain string, now time.Time) (*identity.CA, error) {
	ca, err := identity.LoadCA(path)
	if errors.Is(err, os.ErrNotExist) {
		if ca, err = identity.NewCA(domain, now); err == nil {
			err = ca.Save(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("provider: the CA of devices: %w", err)
	}
	if ca.Domain() != domain {
		return nil, fmt.Errorf("provider: %s is the CA of %s, not of %s", path, ca.Domain(), domain)
	}
	return ca, nil
}

// externalSender returns the key with which this provider, as a hub, signs in
// its rooms, and its credential. Rooms name both for as long as they exist.
func (p *Provider) externalSender(ctx context.Context) (mls.Signer, *mls.ExternalSender, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	seed, err := p.store.InitSetting(ctx, "hub-key", private.Seed())
	if err != nil {
		return nil, nil, err
	}
	signer, err := mls.NewSigner(mls.X25519AES128SHA256Ed25519, seed)
	if err != nil {
		return nil, nil, fmt.Errorf("provider: the hub's key: %w", err)
	}
	der, err := p.ca.IssueProvider(ed25519.PublicKey(signer.Public()), p.now())
	if err != nil {
		return nil, nil, err
	}
	if der, err = p.store.InitSetting(ctx, "hub-certificate", der); err != nil {
		return nil, nil, err
	}
	return signer, &mls.ExternalSender{
		SignatureKey: signer.Public(),
		Credential:   mls.Credential{Type: mls.CredentialX509, Certificates: [][]byte{der}},
	}, nil
}

// certificate is the TLS certificate, which can be read again while it is in
// use.
type certificate struct {
	certFile, keyFile string

	mu   sync.RWMutex
	cert *tls.Certificate
}

func loadCertificate(certFile, keyFile string) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	return c, c.load()
}

func (c *certificate) load() error {
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("%w: TLS certificate %s with the key %s: %w", ErrConfig, c.certFile, c.keyFile, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cert = &cert
	return nil
}

// check reports why the certificate can't authenticate a domain, if so. Who
// trusts its issuer is for others to say.
func (c *certificate) check(domain string, now time.Time) error {
	cert, err := c.get()
	if err != nil {
		return err
	}
	leaf := cert.Leaf
	switch {
	case leaf.VerifyHostname(domain) != nil || !slices.Contains(leaf.DNSNames, domain):
		return fmt.Errorf("provider: %s is for %v, not for %s", c.certFile, leaf.DNSNames, domain)
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("provider: %s is not valid before %s; is the clock right?", c.certFile, leaf.NotBefore.UTC().Format(time.RFC3339))
	case now.After(leaf.NotAfter):
		return fmt.Errorf("provider: %s expired at %s; renew it", c.certFile, leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

func (c *certificate) get() (*tls.Certificate, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.cert, nil
}

// loadRoots reads a PEM file; no file means the system's roots (nil).
func loadRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: tls.roots: %w", ErrConfig, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: tls.roots: %s holds no certificate", ErrConfig, path)
	}
	return pool, nil
}

func decode(b []byte, v tlspl.Unmarshaler) error {
	if err := tlspl.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", api.ErrMalformed, err)
	}
	return nil
}
