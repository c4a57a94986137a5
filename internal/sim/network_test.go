package sim

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// errNetwork is what a caller sees of a connection that breaks.
var errNetwork = errors.New("sim: the network lost it")

// A lie is a way to betray the providers, to see that the checks notice.
type lie int

const (
	honest        lie = iota
	lieDrop           // the network drops a notification of a message and acknowledges it
	lieSwap           // the network swaps two messages of a room and acknowledges both
	lieForgetful      // followers' stores do not recognise what they have already
	lieTimestamps     // the network changes when a message was accepted
	lieFrame          // a provider withholds a message from a device
)

// A network carries requests between providers. While it is calm it is
// perfect.
type network struct {
	w     *world
	links map[string]*link
	work  sync.WaitGroup
	ctx   context.Context
	stop  context.CancelFunc

	mu   sync.Mutex // guards what follows
	calm bool
	cut  map[string]bool // pairs of domains without connection
	held map[string][]byte
	lied int
	// withheld is what lieFrame keeps back.
	withheld string
}

func newNetwork(w *world) *network {
	n := &network{w: w, links: map[string]*link{}, calm: true, cut: map[string]bool{}, held: map[string][]byte{}}
	n.ctx, n.stop = context.WithCancel(context.Background())
	for _, from := range domains {
		for _, to := range domains {
			if from != to {
				n.links[from+" "+to] = &link{n: n, from: from, to: to, rng: w.sub("link " + from + " " + to)}
			}
		}
	}
	return n
}

func pair(a, b string) string { return min(a, b) + " " + max(a, b) }

// transport is the provider.Options.Transport of a domain.
func (n *network) transport(from string) func(to string) http.RoundTripper {
	return func(to string) http.RoundTripper { return n.links[from+" "+to] }
}

func (n *network) setCalm(calm bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calm = calm
	if calm {
		clear(n.cut)
	}
}

func (n *network) isCalm() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calm
}

func (n *network) setCut(a, b string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[pair(a, b)] = cut && !n.calm
}

// close ends what is on its way; wait returns when all of it has ended.
func (n *network) close() { n.stop() }
func (n *network) wait()  { n.work.Wait() }

// A link goes one way between two providers.
type link struct {
	n        *network
	from, to string

	mu    sync.Mutex // guards rng and count
	rng   *rand.Rand
	count int
}

// A fate is what happens to one request.
type fate struct {
	number         int
	cut            bool
	silent         bool // a loss is noticed only by a time-out
	before, after  time.Duration
	lost, answered bool // request; response arrives
	again          time.Duration
}

func (f fate) String() string {
	var s []string
	if f.cut {
		s = append(s, "cut")
	}
	if f.lost {
		s = append(s, "lost")
	}
	if !f.answered {
		s = append(s, "response lost")
	}
	if f.silent {
		s = append(s, "silently")
	}
	if f.again > 0 {
		s = append(s, fmt.Sprintf("again after %v", f.again))
	}
	s = append(s, fmt.Sprintf("%v+%v", f.before, f.after))
	return strings.Join(s, ", ")
}

// delay draws how long something is on its way: mostly short, sometimes long.
func delay(rng *rand.Rand) time.Duration {
	switch n := rng.IntN(100); {
	case n < 70:
		return time.Duration(rng.IntN(40)) * time.Millisecond
	case n < 97:
		return time.Duration(rng.IntN(2000)) * time.Millisecond
	}
	return time.Duration(rng.IntN(25)) * time.Second
}

// draw decides on the next request. What is drawn does not depend on what is
// under way otherwise, so that the fates of a link are those of the seed.
func (l *link) draw() fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	f := fate{number: l.count, before: delay(l.rng).Round(time.Millisecond), after: delay(l.rng).Round(time.Millisecond), answered: true}
	f.lost = l.rng.IntN(100) < 7
	f.answered = l.rng.IntN(100) >= 7
	f.silent = l.rng.IntN(100) < 30
	if again := time.Duration(1+l.rng.IntN(40_000)) * time.Millisecond; l.rng.IntN(100) < 15 {
		f.again = again
	}
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.n.calm {
		return fate{number: l.count, before: time.Millisecond, after: time.Millisecond, answered: true}
	}
	f.cut = l.n.cut[pair(l.from, l.to)]
	return f
}

// RoundTrip implements http.RoundTripper.
func (l *link) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		body, err = io.ReadAll(req.Body)
		_ = req.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	f := l.draw()
	what := fmt.Sprintf("%s → %s #%d %s", l.from, l.to, f.number, req.URL.Path)
	l.n.w.trace("%s: %v", what, f)
	ctx := req.Context()
	if err := pause(ctx, f.before); err != nil {
		return nil, err
	}
	if f.cut || f.lost {
		return nil, l.lose(ctx, f.silent)
	}
	if f.again > 0 {
		// The same bytes come a second time, perhaps after later requests.
		l.n.work.Go(func() {
			if pause(l.n.ctx, f.again) == nil {
				resp, err := l.deliver(l.n.ctx, req, body)
				if err == nil {
					l.n.w.trace("%s: repeated, answered %d", what, resp.StatusCode)
				}
			}
		})
	}
	type result struct {
		resp *http.Response
		err  error
	}
	done := make(chan result, 1)
	l.n.work.Go(func() {
		resp, err := l.deliver(ctx, req, body)
		done <- result{resp, err}
	})
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if r.err != nil {
		return nil, r.err
	}
	l.n.w.trace("%s: answered %d", what, r.resp.StatusCode)
	if err := pause(ctx, f.after); err != nil {
		return nil, err
	}
	if !f.answered {
		return nil, l.lose(ctx, f.silent)
	}
	return r.resp, nil
}

func (l *link) lose(ctx context.Context, silent bool) error {
	if silent {
		<-ctx.Done()
		return ctx.Err()
	}
	return errNetwork
}

// deliver has a request answered by the other provider, if it is up.
func (l *link) deliver(ctx context.Context, req *http.Request, body []byte) (*http.Response, error) {
	if req.Method == http.MethodPost && strings.Contains(req.URL.Path, "/notify/") {
		ack := false
		if body, ack = l.n.betray(l, req.URL.Path, body); ack {
			return (&recorder{header: http.Header{}, status: http.StatusCreated}).response(req), nil
		}
	}
	node := l.n.w.node(l.to)
	p, life, leave, ok := node.enter()
	if !ok {
		return nil, fmt.Errorf("sim: connection to %s refused", l.to)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(life, cancel)()
	r := req.Clone(ctx)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.RequestURI = req.URL.RequestURI()
	chain := l.n.w.node(l.from).chain
	r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: l.to, PeerCertificates: chain}
	rec := &recorder{header: http.Header{}}
	p.Federation().ServeHTTP(rec, r)
	if !leave() {
		return nil, errNetwork
	}
	return rec.response(req), nil
}

// lies notes that somebody has lied, and where; it reports whether it was the
// first time.
func (n *network) lies(format string, args ...any) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lied++
	n.w.trace("LIE: "+format, args...)
	return n.lied == 1
}

// betray plays the lies of a run. It returns what is to be delivered, or that
// it is acknowledged without being delivered.
func (n *network) betray(l *link, path string, body []byte) (_ []byte, ack bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	parts, err := mimi.SplitFanout(body)
	if err != nil || len(parts) == 0 {
		return body, false
	}
	only := len(parts) == 1
	for i := range parts {
		if kind, err := parts[i].Kind(); err != nil || kind != mimi.FanoutApplication {
			only = false
		}
	}
	lane := l.from + " " + l.to + " " + path
	switch n.w.opts.lie {
	case lieDrop:
		if only && n.lied < 1 {
			n.lied++
			n.w.trace("LIE: %s is dropped and acknowledged", lane)
			return nil, true
		}
	case lieSwap:
		if held, ok := n.held[lane]; ok && only && !bytes.Equal(held, body) {
			delete(n.held, lane)
			n.lied++
			n.w.trace("LIE: on %s a message that was held back follows this one", lane)
			return append(bytes.Clone(body), held...), false
		} else if !ok && only && n.lied < 1 {
			n.held[lane] = bytes.Clone(body)
			n.w.trace("LIE: on %s a message is held back", lane)
			return nil, true
		}
	case lieTimestamps:
		if only && n.lied < 1 {
			n.lied++
			m := parts[0].FanoutMessage
			m.Timestamp++
			if b, err := mls.Marshal(&m); err == nil {
				n.w.trace("LIE: on %s a message gets another timestamp", lane)
				return b, false
			}
		}
	}
	return body, false
}

func (w *world) node(domain string) *node {
	for _, n := range w.nodes {
		if n.domain == domain {
			return n
		}
	}
	return nil
}

// hubOf is the domain of a room.
func hubOf(room string) string {
	uri, err := mimi.ParseURI(room)
	if err != nil {
		return ""
	}
	return uri.Domain()
}

// pause sleeps unless the context ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A recorder takes an answer. Deadlines of connections are accepted and have
// no effect: the network has time-outs of its own.
type recorder struct {
	header http.Header
	sent   http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status, r.sent = status, r.header.Clone()
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(b)
}

func (r *recorder) SetReadDeadline(time.Time) error  { return nil }
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }

func (r *recorder) response(req *http.Request) *http.Response {
	r.WriteHeader(http.StatusOK)
	return &http.Response{
		Status: http.StatusText(r.status), StatusCode: r.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: r.sent, Body: io.NopCloser(&r.body), ContentLength: int64(r.body.Len()), Request: req,
	}
}
