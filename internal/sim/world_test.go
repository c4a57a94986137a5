package sim

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/client/memstore"
	"github.com/comity-im/comity/internal/devcert"
	"github.com/comity-im/comity/internal/provider"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/internal/store/sqlite"
	"github.com/comity-im/comity/mimi"
)

// epoch is when every run begins. The clock of a bubble begins in 2000 (package
// synctest), before the formats under test were made; it is put forward.
var epoch = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

var domains = []string{"a.example", "b.example", "c.example"}

// certificates are made once for all seeds: the clock of every bubble starts
// anew.
var certificates = sync.OnceValues(func() (*devcert.Authority, error) {
	dir, err := os.MkdirTemp("", "comity-sim-")
	if err != nil {
		return nil, err
	}
	a, err := devcert.New(dir, epoch)
	if err != nil {
		return nil, err
	}
	for _, d := range domains {
		if _, _, err := a.Issue(d); err != nil {
			return nil, err
		}
	}
	return a, nil
})

// options is what a run is about, besides its seed.
type options struct {
	steps int
	lie   lie // how the network, or a store, betrays; none by default
}

// A world is one run.
type world struct {
	t    testing.TB
	seed uint64
	opts options
	dir  string
	root *devcert.Authority

	rng   *rand.Rand // of the workload; only the main goroutine uses it
	net   *network
	nodes []*node
	devs  []*device

	ctx    context.Context
	cancel context.CancelFunc
	ops    sync.WaitGroup // operations under way

	oracle *oracle

	mu     sync.Mutex // guards what follows
	lines  []string   // the trace
	faults []string   // what is wrong, found outside of a check
}

// sub returns a source of random numbers for one purpose, so that what one
// part draws does not change what another gets.
func (w *world) sub(purpose string) *rand.Rand {
	h := fnv.New64a()
	_, _ = io.WriteString(h, purpose)
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

// trace notes a decision, or something that happened.
func (w *world) trace(format string, args ...any) {
	line := fmt.Sprintf("%10.3fs  ", time.Since(epoch).Seconds()) + fmt.Sprintf(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, line)
}

// fault notes something that must not happen; the next check fails.
func (w *world) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.trace("FAULT: %s", text)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, text)
}

// logTo puts what a part logs into the trace.
func (w *world) logTo(name string) *slog.Logger {
	if os.Getenv("COMITY_SIM_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(traceWriter{w, name}, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		},
	}))
}

type traceWriter struct {
	w    *world
	name string
}

func (t traceWriter) Write(b []byte) (int, error) {
	t.w.trace("    %s: %s", t.name, strings.TrimSpace(string(b)))
	return len(b), nil
}

// A node is a provider, over all its restarts.
type node struct {
	w      *world
	domain string
	cfg    *provider.Config
	chain  []*x509.Certificate

	// Guarded by mu. While the node is down p is nil.
	mu    sync.Mutex
	p     *provider.Provider
	db    *disk
	life  context.Context // ends when the node goes down
	stop  context.CancelFunc
	calls sync.WaitGroup // handlers under way; added to under mu while up
	run   chan error
}

func newNode(w *world, domain string) (*node, error) {
	base := filepath.Dir(w.root.RootFile())
	n := &node{w: w, domain: domain}
	n.cfg = &provider.Config{
		Domain: domain, DataDir: filepath.Join(w.dir, domain), PublicURL: "https://" + domain,
		TLS: provider.TLSConfig{
			Certificate: filepath.Join(base, domain+".pem"), Key: filepath.Join(base, domain+".key"), Roots: w.root.RootFile(),
		},
		Federation: provider.FederationConfig{Policy: "list", Peers: domains},
	}
	raw, err := os.ReadFile(n.cfg.TLS.Certificate)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		n.chain = append(n.chain, c)
	}
	return n, os.MkdirAll(n.cfg.DataDir, 0o700)
}

// start opens the store and the provider.
func (n *node) start() error {
	ctx := context.Background()
	path := filepath.Join(n.cfg.DataDir, "comity.db")
	log := n.w.logTo(n.domain)
	db, err := sqlite.Open(ctx, sqlite.Config{Path: path, Log: log, Readers: 2})
	if err != nil {
		return err
	}
	d := &disk{Store: db, w: n.w, domain: n.domain}
	p, err := provider.New(ctx, n.cfg, provider.Options{
		Store: d, Version: "sim", Log: log, Transport: n.w.net.transport(n.domain),
	})
	if err != nil {
		_ = db.Close()
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.p, n.db = p, d
	n.life, n.stop = context.WithCancel(ctx)
	n.run = make(chan error, 1)
	life, run := n.life, n.run
	go func() { run <- p.Run(life) }()
	return nil
}

// halt takes the node down. With crash nothing that it would still write
// reaches the disk, and no answer that it would still give gets out.
func (n *node) halt(crash bool) error {
	n.mu.Lock()
	p, db := n.p, n.db
	n.p = nil
	if crash && db != nil {
		db.dead.Store(true)
	}
	n.mu.Unlock()
	if p == nil {
		return nil
	}
	n.stop()
	err := <-n.run
	if cerr := p.Close(); err == nil {
		err = cerr
	}
	n.calls.Wait()
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	return err
}

// enter begins a call of the node's handlers. The context ends when the node
// goes down; leave reports whether an answer can still get out.
func (n *node) enter() (p *provider.Provider, ctx context.Context, leave func() bool, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.p == nil {
		return nil, nil, nil, false
	}
	n.calls.Add(1)
	p, db := n.p, n.db
	return p, n.life, func() bool {
		n.calls.Done()
		return !db.dead.Load()
	}, true
}

// store returns the store while the node is up.
func (n *node) store() (store.Store, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.p == nil {
		return nil, false
	}
	return n.db.Store, true
}

// A device is a client with its store, over all its restarts.
type device struct {
	w    *world
	name string
	node *node
	user mimi.URI
	uri  mimi.URI
	line *line

	// c is nil while the device is off. Only the main goroutine uses these;
	// operations get the client they are for.
	c     *client.Client
	store *memstore.Store
	run   chan error
	sub   chan struct{}
}

func (d *device) config() client.Config {
	return client.Config{
		Transport: d.line, Store: d.store, Roots: d.w.root.Pool(),
		KeyPackages: 8, RetryMax: 20 * time.Second, Log: d.w.logTo(d.name),
	}
}

// enrol makes an account, if there is none of that name, and a device of it.
func (w *world) enrol(n *node, user, name string) (*device, error) {
	ctx := context.Background()
	db, _ := n.store()
	uri, err := mimi.NewURI(mimi.KindUser, n.domain, user)
	if err != nil {
		return nil, err
	}
	now := uint64(time.Now().UnixMilli())
	if err := db.PutUser(ctx, store.User{URI: uri.String(), Name: user, Created: now}); err != nil {
		return nil, err
	}
	code := "code of " + name
	err = db.PutEnrolment(ctx, store.Enrolment{CodeHash: sha256.Sum256([]byte(code)), User: uri.String(), Expires: now + 3_600_000})
	if err != nil {
		return nil, err
	}
	d := &device{w: w, name: name, node: n, user: uri, store: memstore.NewCrashable()}
	d.line = &line{w: w, d: d, rng: w.sub("line " + name)}
	if d.c, err = client.Enrol(ctx, d.config(), code, name); err != nil {
		return nil, err
	}
	d.uri = d.c.Device()
	d.start()
	w.devs = append(w.devs, d)
	return d, nil
}

// start lets an open client run, and watches what it reports.
func (d *device) start() {
	c := d.c
	run, sub := make(chan error, 1), make(chan struct{})
	d.run, d.sub = run, sub
	events := c.Subscribe()
	go func() { run <- c.Run(context.Background()) }()
	go func() {
		defer close(sub)
		for {
			e, err := events.Next(context.Background())
			if err != nil {
				return
			}
			d.observe(e)
		}
	}()
}

// observe looks at what the client reports of itself.
func (d *device) observe(e client.Event) {
	switch e.Kind {
	case client.EventProblem:
		if !passing(e.Err) {
			d.w.fault("%s reports: %v", d.name, e.Err)
		}
	case client.EventEntry:
		// Whether a sender was rightly refused is for checkEntry to judge.
		if e.Entry.Kind == client.EntryProblem && e.Entry.Problem.Code != client.ProblemSender {
			d.w.fault("%s in %v, position %d: %v", d.name, e.Room, e.Entry.Position, e.Entry.Problem)
		}
	}
}

// stop turns the device off. With crash nothing is written from this very
// moment on, and what was not durable may be lost.
func (d *device) stop(crash bool) {
	if d.c == nil {
		return
	}
	next := d.store
	if crash {
		next = d.store.Crash(d.store.Unsynced() / 2)
	}
	_ = d.c.Close()
	<-d.run
	<-d.sub
	d.c, d.store = nil, next
}

// open turns the device on again.
func (d *device) open() error {
	c, err := client.Open(context.Background(), d.config())
	if err != nil {
		return err
	}
	d.c = c
	d.start()
	return nil
}

// newWorld starts providers and devices with a network that works.
func newWorld(t testing.TB, seed uint64, opts options, dir string) (*world, error) {
	root, err := certificates()
	if err != nil {
		return nil, err
	}
	time.Sleep(time.Until(epoch))
	w := &world{t: t, seed: seed, opts: opts, dir: dir, root: root}
	w.rng = w.sub("workload")
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.net = newNetwork(w)
	w.oracle = newOracle(w)
	for _, domain := range domains {
		n, err := newNode(w, domain)
		if err != nil {
			return nil, err
		}
		if err := n.start(); err != nil {
			return nil, err
		}
		w.nodes = append(w.nodes, n)
	}
	for _, who := range []struct {
		at         int
		user, name string
	}{
		{0, "alice", "alice"}, {1, "bob", "bob"}, {1, "bob", "bob-2"}, {2, "carol", "carol"}, {2, "dave", "dave"}, {0, "erin", "erin"},
	} {
		if _, err := w.enrol(w.nodes[who.at], who.user, who.name); err != nil {
			return w, fmt.Errorf("enrolling %s: %w", who.name, err)
		}
	}
	return w, nil
}

// close stops everything.
func (w *world) close() error {
	w.cancel()
	w.ops.Wait()
	for _, d := range w.devs {
		d.stop(false)
	}
	w.net.close()
	var err error
	for _, n := range w.nodes {
		if herr := n.halt(false); err == nil {
			err = herr
		}
	}
	w.net.wait()
	return err
}

// scratch is a folder for databases: in memory if the system has such a place,
// since what is tested here is not the disk.
func scratch(t testing.TB) string {
	if dir, err := os.MkdirTemp("/dev/shm", "comity-sim-"); err == nil {
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		return dir
	}
	return t.TempDir()
}
