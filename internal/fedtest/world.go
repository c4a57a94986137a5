// Package fedtest runs a federation inside a test: providers with real stores,
// mutual TLS, hubs and replicas, and devices with real MLS groups. Only tests
// import it.
//
// [New] makes a [World]; [World.Start] adds a provider, which can be stopped and
// started again with its store; [Provider.Enrol] adds a [Device]. Devices write
// through their provider as the client API does and read their log and mail
// from its store.
package fedtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/hub"
	"github.com/comity-im/comity/internal/keys"
	"github.com/comity-im/comity/internal/replica"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/internal/store/sqlite"
	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// Suite is the cipher suite of all groups.
const Suite mls.CipherSuite = 0x0001

// Options changes how providers run.
type Options struct {
	// Transport, if set, gives the connections from one provider to another in
	// place of TLS on loopback. It may call Provider.Serve with requests that
	// carry Provider.Connection of the sender.
	Transport func(from, to string) http.RoundTripper
	// Outbox changes the configuration of outboxes.
	Outbox func(*federation.OutboxConfig)
	// Federation changes the configuration of peers.
	Federation func(*federation.Config)
	Log        *slog.Logger
}

// A World is a federation and the authority that issues its TLS certificates.
type World struct {
	T    testing.TB
	opts Options
	root *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool

	mu        sync.Mutex
	addresses map[string]string
	providers map[string]*Provider
}

// New returns a world without providers. All that runs in it is stopped at the
// end of the test.
func New(t testing.TB, opts Options) *World {
	t.Helper()
	w := &World{T: t, opts: opts, addresses: make(map[string]string), providers: make(map[string]*Provider), pool: x509.NewCertPool()}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.OK(err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fedtest"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	w.OK(err)
	w.root, err = x509.ParseCertificate(der)
	w.OK(err)
	w.key = key
	w.pool.AddCert(w.root)
	t.Cleanup(func() {
		for _, p := range w.providers {
			p.Stop()
		}
	})
	return w
}

// OK fails the test on an error.
func (w *World) OK(err error) {
	if err != nil {
		w.T.Helper()
		w.T.Fatal(err)
	}
}

// Certificate issues a TLS certificate.
func (w *World) Certificate(names ...string) *tls.Certificate {
	w.T.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.OK(err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	w.OK(err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(364 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, w.root, key.Public(), w.key)
	w.OK(err)
	leaf, err := x509.ParseCertificate(der)
	w.OK(err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// Roots are the authority's.
func (w *World) Roots() *x509.CertPool { return w.pool }

// A Provider is one provider of a World.
type Provider struct {
	w      *World
	Domain string
	Cert   *tls.Certificate
	CA     *identity.CA
	dir    string
	signer mls.Signer
	sender mls.ExternalSender

	// What runs while the provider is started.
	Store    store.Store
	Peers    *federation.Peers
	Outbox   *federation.Outbox
	Hub      *hub.Hub
	Replica  *replica.Replica
	Keys     *keys.Keys
	Verifier *identity.Verifier
	Handler  *federation.Handler
	Heard    *Ear
	running  bool
	stop     []func()
}

// An Ear is a Notifier that remembers.
type Ear struct {
	mu           sync.Mutex
	Events       map[string][]store.Event
	Mail         map[string]int
	unverifiable map[string]int
}

func newEar() *Ear {
	return &Ear{Events: make(map[string][]store.Event), Mail: make(map[string]int), unverifiable: make(map[string]int)}
}

func (e *Ear) tell(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

func (e *Ear) Appended(room string, events []store.Event) {
	e.tell(func() { e.Events[room] = append(e.Events[room], events...) })
}
func (e *Ear) MembersChanged(string, []string) { e.tell(func() {}) }
func (e *Ear) MailArrived(device string)       { e.tell(func() { e.Mail[device]++ }) }

// counters makes the Ear the replica's Metrics.
type counters struct{ e *Ear }

func (c counters) Stored(string, int) {}
func (c counters) Pending(string)     { c.e.tell(func() {}) }
func (c counters) Unverifiable(hub string) {
	c.e.tell(func() { c.e.unverifiable[hub]++ })
}

// Refusals returns how many notifications of a hub could not be verified.
func (e *Ear) Refusals(hub string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.unverifiable[hub]
}

// Start adds a provider, or starts one that was stopped.
func (w *World) Start(domain string) *Provider {
	w.T.Helper()
	w.mu.Lock()
	p := w.providers[domain]
	w.mu.Unlock()
	if p == nil {
		p = &Provider{w: w, Domain: domain, Cert: w.Certificate(domain), dir: w.T.TempDir(), Heard: newEar()}
		var err error
		p.CA, err = identity.NewCA(domain, time.Now())
		w.OK(err)
		p.signer, _, err = mls.GenerateSigner(Suite, rand.Reader)
		w.OK(err)
		pub, err := identity.PublicKey(Suite, p.signer.Public())
		w.OK(err)
		der, err := p.CA.IssueProvider(pub, time.Now())
		w.OK(err)
		p.sender = mls.ExternalSender{SignatureKey: p.signer.Public(), Credential: mls.X509Credential(der)}
		w.mu.Lock()
		w.providers[domain] = p
		w.mu.Unlock()
	}
	p.start()
	return p
}

func (p *Provider) start() {
	p.w.T.Helper()
	if p.running {
		return
	}
	p.running = true
	w := p.w
	ctx, cancel := context.WithCancel(context.Background())
	st, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(p.dir, "store.db")})
	w.OK(err)
	p.Store = st
	cfg := federation.Config{
		Domain:      p.Domain,
		Certificate: func() (*tls.Certificate, error) { return p.Cert, nil },
		Roots:       w.pool, Open: true, Anchor: p.anchor, Statements: st, Log: w.opts.Log,
		Dial: w.dial,
	}
	if w.opts.Transport != nil {
		cfg.Transport = func(to string) http.RoundTripper { return w.opts.Transport(p.Domain, to) }
	}
	if w.opts.Federation != nil {
		w.opts.Federation(&cfg)
	}
	p.Peers, err = federation.New(cfg)
	w.OK(err)
	p.Verifier = &identity.Verifier{Anchors: p.Peers.Anchors(p.CA.Anchor())}
	groups := p.GroupConfig()
	p.Keys = keys.New(keys.Config{
		Store:  st,
		Verify: func(kp *mls.KeyPackage) error { return kp.Verify(&groups) },
		Identify: func(c *mls.Credential, key []byte) (mimi.URI, mimi.URI, error) {
			n, err := p.Verifier.IdentifyClient(c, key, time.Now())
			return n.User, n.Device, err
		},
	})
	rooms := p.RoomConfig()
	p.Replica = replica.New(replica.Config{
		Domain: p.Domain, Store: st, Room: rooms, Verifier: p.Verifier, Sender: p.Sender,
		Peers: p.Peers, Notifier: p.Heard, Metrics: counters{p.Heard}, Log: w.opts.Log,
	})
	out := federation.OutboxConfig{Peers: p.Peers, Store: st, Answerer: p.Replica}
	if w.opts.Outbox != nil {
		w.opts.Outbox(&out)
	}
	p.Outbox = federation.NewOutbox(out)
	p.Replica.UseOutbox(p.Outbox)
	p.Hub = hub.New(hub.Config{
		Domain: p.Domain, Store: st, Room: rooms, Verifier: p.Verifier, Sender: p.Sender,
		Peers: p.Peers, Keys: p.Keys, Outbox: p.Outbox, Notifier: p.Heard, Log: w.opts.Log,
	})
	p.Handler = federation.NewHandler(p.Peers, (*backend)(p))
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Outbox.Run(ctx) })
	serverDone := func() {}
	if w.opts.Transport == nil {
		serverDone = p.listen()
	}
	p.stop = []func(){serverDone, cancel, wg.Wait, p.Replica.Close, p.Hub.Close, func() { _ = p.Peers.Close() }, func() { _ = st.Close() }}
}

// listen serves on loopback.
func (p *Provider) listen() (done func()) {
	w := p.w
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	w.OK(err)
	w.mu.Lock()
	w.addresses[p.Domain] = ln.Addr().String()
	w.mu.Unlock()
	srv := &http.Server{Handler: p.Handler, ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.Serve(tls.NewListener(ln, p.Peers.ServerTLS()))
	}()
	return func() {
		w.mu.Lock()
		delete(w.addresses, p.Domain)
		w.mu.Unlock()
		_ = srv.Close()
		<-ended
	}
}

// dial connects to a provider by its domain; one that is stopped refuses.
func (w *World) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	to, ok := w.addresses[host]
	w.mu.Unlock()
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.AddrError{Err: "connection refused", Addr: address}}
	}
	return (&net.Dialer{}).DialContext(ctx, network, to)
}

// Address returns where a provider listens.
func (p *Provider) Address() string {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.w.addresses[p.Domain]
}

// Stop ends all work of the provider. Its store stays on disk.
func (p *Provider) Stop() {
	if !p.running {
		return
	}
	p.running = false
	for _, f := range p.stop {
		f()
	}
}

// Connection is what a server sees of the provider's TLS connection; for
// Options.Transport.
func (p *Provider) Connection() *tls.ConnectionState {
	return &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{p.Cert.Leaf}}
}

// Sender returns the provider's external sender and its key.
func (p *Provider) Sender(mls.CipherSuite) (mls.ExternalSender, mls.Signer, error) {
	return p.sender, p.signer, nil
}

// GroupConfig is the mls.Config of the provider and its devices.
func (p *Provider) GroupConfig() mls.Config {
	return mls.Config{Credentials: p.Verifier, Components: room.Components()}
}

// RoomConfig is the room.Config of the provider and its devices.
func (p *Provider) RoomConfig() room.Config {
	return room.Config{ClientURIs: identity.ClientURIs, ProviderDomain: identity.ProviderDomain, MLS: p.GroupConfig()}
}

func (p *Provider) anchor() ([]byte, error) {
	s, err := identity.SignAnchor(*p.Cert, p.CA, time.Now(), 0)
	if err != nil {
		return nil, err
	}
	return tlspl.Marshal(s)
}

// backend answers other providers.
type backend Provider

func (b *backend) KeyMaterial(ctx context.Context, peer string, u mimi.URI, body []byte) ([]byte, error) {
	return b.Hub.KeyMaterial(ctx, peer, u, body)
}
func (b *backend) Update(ctx context.Context, peer string, u mimi.URI, body []byte) ([]byte, error) {
	return b.Hub.Update(ctx, room.Source{Provider: peer}, u, body)
}
func (b *backend) Submit(ctx context.Context, peer string, u mimi.URI, body []byte) ([]byte, error) {
	return b.Hub.Submit(ctx, room.Source{Provider: peer}, u, body)
}
func (b *backend) Notify(ctx context.Context, peer string, u mimi.URI, body []byte) error {
	return b.Replica.Notify(ctx, peer, u, body)
}
func (b *backend) GroupInfo(ctx context.Context, peer string, u mimi.URI, body []byte) ([]byte, error) {
	return b.Hub.GroupInfo(ctx, peer, u, body)
}
