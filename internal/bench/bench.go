// Package bench measures running providers: messages and deliveries per
// second, latency, and what they cost the servers.
//
// [Run] starts providers (package fleet) or attaches to running ones, fills a
// room with members spread over them, and sends encrypted messages for a
// bounded time or number. Everything goes the way it goes in earnest: devices
// are enrolled over the client API, the room is an MLS group, messages are
// real PrivateMessages submitted over HTTPS by a device at each provider, and
// every member is a device with a stream of its own. Each frame that arrives
// is compared with what was sent: every message must reach every member
// exactly once, byte for byte, in one order without gaps.
//
// What the clients would do is left out, because this machine has to do it
// too: the messages of a run are encrypted before it begins, and members do
// not decrypt. What remains of the generator's work is measured and reported.
package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/comity-im/comity/internal/fleet"
	"github.com/comity-im/comity/internal/provider"
)

// Bounds of a run.
const (
	MaxMembers  = 5_000
	MaxInFlight = 1_024
	MaxSize     = 16_384
	MaxMessages = 200_000
	MaxDuration = 10 * time.Minute
	MaxRate     = 100_000
	// setupTimeout bounds everything before the first message; drainTimeout
	// how long the last messages may take to arrive.
	setupTimeout = 10 * time.Minute
	drainTimeout = 60 * time.Second
	// Before the run the providers are warmed up; how fast they are then says
	// how many messages to prepare.
	warmUpTime     = time.Second
	warmUpMessages = 2_000
)

// Config says what to run.
type Config struct {
	// Providers are the configurations of running providers, on this machine.
	// Empty: Domains are started.
	Providers []*provider.Config
	Domains   []string // one or two; the first is the hub
	Binary    string   // comity, to start; default: the running executable
	Dir       string   // for everything that is stored

	Members  int           // of the room, spread over the providers
	InFlight int           // closed loop: messages submitted and not yet delivered to all; open loop: connections
	Rate     float64       // open loop: messages per second; 0: closed loop
	Duration time.Duration // of sending
	Messages int           // send this many and then stop; 0: as many as fit into Duration
	Size     int           // octets of a text
	Link     bool          // count the octets between two started providers

	// Progress, if set, is told how much of a stage is done.
	Progress func(stage string, done, total int)
}

// ErrConfig is matched by errors about a Config.
var ErrConfig = errors.New("bench: not possible")

// ErrInterrupted: the context ended before messages were sent.
var ErrInterrupted = errors.New("bench: interrupted before there was anything to tell")

func (c *Config) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
	}
	n := len(c.Domains)
	if len(c.Providers) > 0 {
		n = len(c.Providers)
	}
	switch {
	case n < 1 || n > 2:
		return bad("%d providers; one or two can be measured", n)
	case c.Members < max(2, n) || c.Members > MaxMembers:
		return bad("%d members, not between 2 and %d", c.Members, MaxMembers)
	case c.InFlight < 1 || c.InFlight > MaxInFlight:
		return bad("%d messages in flight, not between 1 and %d", c.InFlight, MaxInFlight)
	case c.Size < 1 || c.Size > MaxSize:
		return bad("texts of %d octets, not between 1 and %d", c.Size, MaxSize)
	case c.Messages < 0 || c.Messages > MaxMessages:
		return bad("%d messages, not between 0 and %d", c.Messages, MaxMessages)
	case c.Duration < 100*time.Millisecond || c.Duration > MaxDuration:
		return bad("a duration of %v, not between 100 ms and %v", c.Duration, MaxDuration)
	case !(c.Rate >= 0 && c.Rate <= MaxRate):
		return bad("%g messages per second, not between 0 and %d", c.Rate, MaxRate)
	case c.Link && (len(c.Providers) > 0 || n != 2):
		return bad("the link is measured between two providers that are started for it")
	}
	for _, p := range c.Providers {
		host, _, err := net.SplitHostPort(p.ClientListen)
		ip := net.ParseIP(host)
		if err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback() && !ip.IsUnspecified()) {
			return bad("%s serves its clients at %q, which is not this machine", p.Domain, p.ClientListen)
		}
	}
	return nil
}

// A server is a provider that is measured.
type server struct {
	cfg     *provider.Config
	address string // of its client API, on loopback
	pid     int    // 0: not known
	why     string // it is not known
}

// run is a run under way.
type run struct {
	cfg     Config
	tag     string // in the names of users and of the room
	servers []*server
	relays  []*relay
	room    *group
	readers []*reader
}

// Run measures. When ctx ends while messages are sent, it sends no more and
// returns the result so far; when it ends before, it fails.
func Run(ctx context.Context, cfg Config) (res *Result, err error) {
	if cfg.Progress == nil {
		cfg.Progress = func(string, int, int) {}
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			err = ErrInterrupted
		}
	}()
	began := time.Now()
	r := &run{cfg: cfg, tag: "bench-" + strings.ToLower(rand.Text()[:10])}
	defer func() {
		for _, l := range r.relays {
			l.close()
		}
	}()
	if len(cfg.Providers) > 0 {
		r.attach()
	} else {
		f, err := r.start(ctx)
		if err != nil {
			return nil, err
		}
		defer func() {
			if e := f.Stop(); e != nil {
				res, err = nil, errors.Join(err, e)
			}
		}()
	}
	defer r.close()

	setup, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	if err := r.assemble(setup); err != nil {
		return nil, err
	}
	rate, err := r.warmUp(setup)
	if err != nil {
		return nil, err
	}
	b, err := r.prepare(setup, r.howMany(rate))
	if err != nil {
		return nil, err
	}
	ready := time.Since(began)
	if res, err = r.measure(ctx, b); err != nil {
		return nil, err
	}
	res.Setup = ready.Seconds()
	return res, nil
}

// attach takes the providers as they run.
func (r *run) attach() {
	for _, c := range r.cfg.Providers {
		s := &server{cfg: c, address: c.ClientListen}
		if host, port, err := net.SplitHostPort(c.ClientListen); err == nil {
			if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
				s.address = net.JoinHostPort("localhost", port)
			}
		}
		var err error
		if s.pid, err = pidOf(c.DataDir); err != nil {
			s.why = err.Error()
		}
		r.servers = append(r.servers, s)
	}
}

// start starts the providers.
func (r *run) start(ctx context.Context) (*fleet.Fleet, error) {
	f, err := fleet.New(fleet.Config{Binary: r.cfg.Binary, Dir: filepath.Join(r.cfg.Dir, "providers"), Domains: r.cfg.Domains})
	if err != nil {
		return nil, err
	}
	if r.cfg.Link {
		// Each reaches the other through a relay that counts.
		for i, p := range f.Providers {
			other := f.Providers[1-i].Config
			l, err := newRelay(other.Listen)
			if err != nil {
				return nil, err
			}
			r.relays = append(r.relays, l)
			p.Config.Federation.Resolve[other.Domain] = l.address()
			if err := p.Config.Write(p.ConfigFile); err != nil {
				return nil, err
			}
		}
	}
	if err := f.Start(ctx); err != nil {
		return nil, errors.Join(err, f.Stop())
	}
	for _, p := range f.Providers {
		r.servers = append(r.servers, &server{cfg: p.Config, address: p.Config.ClientListen, pid: p.PID()})
	}
	return f, nil
}

// howMany messages to prepare, given how fast the warm-up went.
func (r *run) howMany(rate float64) int {
	n := float64(r.cfg.Messages)
	if n == 0 && r.cfg.Rate > 0 {
		n = r.cfg.Rate*r.cfg.Duration.Seconds() + 1
	} else if n == 0 {
		n = 1.5*rate*r.cfg.Duration.Seconds() + float64(2*r.cfg.InFlight)
	}
	return int(min(n, MaxMessages))
}
