package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/client/memstore"
	"github.com/comity-im/comity/internal/fleet"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
)

// badPatience bounds every wait of these tests.
const badPatience = 30 * time.Second

// A badWorld is a fleet of running providers, and what is known of them.
type badWorld struct {
	t     *testing.T
	fleet *fleet.Fleet
	pids  map[string]int
	base  string          // state before the case that runs
	more  []func() string // further parts of the state
}

// newBadWorld starts providers. They end with the test.
func newBadWorld(t *testing.T, binary, dir string, domains ...string) *badWorld {
	t.Helper()
	f, err := fleet.New(fleet.Config{Binary: binary, Dir: dir, Domains: domains, LogLevel: "info"})
	if err != nil {
		t.Fatal(err)
	}
	w := &badWorld{t: t, fleet: f}
	t.Cleanup(func() {
		if err := f.Stop(); err != nil {
			t.Error(err)
		}
	})
	w.start()
	return w
}

func (w *badWorld) start() {
	w.t.Helper()
	if err := w.fleet.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.pids = make(map[string]int)
	for _, p := range w.fleet.Providers {
		w.pids[p.Config.Domain] = p.PID()
	}
}

func (w *badWorld) provider(domain string) *fleet.Provider {
	p := w.fleet.Provider(domain)
	if p == nil {
		panic("no provider " + domain)
	}
	return p
}

// until polls until cond holds.
func badUntil(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(badPatience)
	defer end.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatalf("waited %v in vain: %s", badPatience, what)
		}
	}
}

// state describes all that the operator's sockets show: users, devices,
// rooms, and every event of them.
func (w *badWorld) state() string {
	w.t.Helper()
	ctx := w.t.Context()
	var b strings.Builder
	for _, p := range w.fleet.Providers {
		users, err := p.Admin().Users(ctx, "")
		if err != nil {
			w.t.Fatal(err)
		}
		for _, u := range users {
			fmt.Fprintf(&b, "%s user %s %v\n", p.Config.Domain, u.User, u.Devices)
		}
		rooms, err := p.Admin().Rooms(ctx, "")
		if err != nil {
			w.t.Fatal(err)
		}
		for _, r := range rooms {
			events, err := p.Admin().Events(ctx, r.Room, 0)
			if err != nil {
				w.t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s room %+v\n", p.Config.Domain, r)
			for _, e := range events {
				fmt.Fprintf(&b, "  %d %d %x %x\n", e.Position, e.Timestamp, e.Hash, sha256.Sum256(e.Body))
			}
		}
	}
	for _, f := range w.more {
		b.WriteString(f())
	}
	return b.String()
}

// settle waits until every replica has what its hub has, and remembers the
// state.
func (w *badWorld) settle() {
	w.t.Helper()
	badUntil(w.t, "replicas have what hubs have", func() bool {
		last := map[string]string{} // hash of the hub's last event by room
		for _, p := range w.fleet.Providers {
			rooms, err := p.Admin().Rooms(w.t.Context(), "")
			if err != nil {
				w.t.Fatal(err)
			}
			for _, r := range rooms {
				hash := ""
				if r.Head > 0 {
					events, err := p.Admin().Events(w.t.Context(), r.Room, r.Head-1)
					if err != nil || len(events) == 0 {
						w.t.Fatalf("%s: %d events: %v", r.Room, len(events), err)
					}
					hash = string(events[len(events)-1].Hash)
				}
				key := r.Room
				if have, ok := last[key]; ok && have != hash {
					return false
				}
				last[key] = hash
			}
		}
		return true
	})
	w.base = w.state()
}

// unchanged fails unless the state is what it was.
func (w *badWorld) unchanged(t *testing.T) {
	t.Helper()
	now := w.state()
	if now == w.base {
		return
	}
	before := strings.Split(w.base, "\n")
	for _, line := range strings.Split(now, "\n") {
		if !strings.Contains(w.base, line) {
			t.Errorf("new: %s", line)
		}
	}
	t.Errorf("the state has changed; it had %d lines", len(before))
	w.base = now
}

// healthy fails unless all processes are those that were started, and serve.
func (w *badWorld) healthy(t *testing.T) {
	t.Helper()
	for _, p := range w.fleet.Providers {
		if p.PID() == 0 || p.PID() != w.pids[p.Config.Domain] {
			t.Errorf("%s: process %d, was %d; the end of its log:\n%s", p.Config.Domain, p.PID(), w.pids[p.Config.Domain], p.LogTail(2000))
			continue
		}
		for _, path := range []string{"/healthz", "/readyz"} {
			resp, err := http.Get("http://" + p.Config.OpsListen + path)
			if err != nil {
				t.Errorf("%s%s: %v", p.Config.Domain, path, err)
				continue
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s%s: %s", p.Config.Domain, path, resp.Status)
			}
		}
	}
}

// A badAnswer is what came back.
type badAnswer struct {
	status int
	header http.Header
	body   []byte
	// code and says are the Problem of the client API, or what a test read out
	// of a MIMI answer.
	code, says string
}

// A badCase is a request that must be refused.
type badCase struct {
	name   string
	do     func(t *testing.T) badAnswer
	status int
	code   string // of the Problem, or the name of the MIMI response code
	says   string // what the message, or else the provider's log, says of it
	log    string // domain of the provider whose log says it; empty: the answer does
}

// refuse runs cases. None may change anything.
func (w *badWorld) refuse(t *testing.T, cases []badCase) {
	t.Helper()
	w.settle()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var at int64
			if c.log != "" {
				at = badSize(t, w.provider(c.log).LogFile)
			}
			got := c.do(t)
			t.Logf("%d %s %s", got.status, got.code, got.says)
			if got.status != c.status {
				t.Errorf("status %d, want %d (code %q, %q, body %.200q)", got.status, c.status, got.code, got.says, got.body)
			}
			if c.code != "" && got.code != c.code {
				t.Errorf("code %q, want %q (%q)", got.code, c.code, got.says)
			}
			switch {
			case c.log != "":
				badUntil(t, fmt.Sprintf("the log of %s says %q", c.log, c.says), func() bool {
					return strings.Contains(badLogSince(t, w.provider(c.log).LogFile, at), c.says)
				})
			case !strings.Contains(got.says, c.says):
				t.Errorf("it says %q; %q is not in it", got.says, c.says)
			}
			w.unchanged(t)
			w.healthy(t)
		})
	}
}

func badSize(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func badLogSince(t *testing.T, file string, at int64) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// badRequest is a request as it goes on the wire.
type badRequest struct {
	method, url string
	header      http.Header
	host        string
	body        []byte
	chunked     bool  // the length is not said
	length      int64 // said in place of the real one
}

// badDo sends a request with a client and reads the answer.
func badDo(t *testing.T, c *http.Client, q badRequest) badAnswer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), badPatience)
	defer cancel()
	var body io.Reader = bytes.NewReader(q.body)
	if q.chunked {
		body = io.MultiReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, q.method, q.url, body)
	if err != nil {
		t.Fatal(err)
	}
	if q.header != nil {
		r.Header = q.header
	}
	r.Host = q.host
	if q.length > 0 {
		r.ContentLength = q.length
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		t.Fatalf("no whole answer: %v", err)
	}
	return badAnswer{status: resp.StatusCode, header: resp.Header, body: b}
}

// badHTTP returns a client that finds a provider, whatever the URL's host is,
// at an address.
func (w *badWorld) badHTTP(address string, cert *tls.Certificate) *http.Client {
	config := &tls.Config{RootCAs: w.fleet.Roots, MinVersion: tls.VersionTLS13}
	if cert != nil {
		// Sent whatever authorities the server names.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	tr := &http.Transport{
		TLSClientConfig: config,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// problem reads the Problem of an answer of the client API.
func (a badAnswer) problem(t *testing.T) badAnswer {
	t.Helper()
	if a.status < 300 {
		return a
	}
	if ct := a.header.Get("Content-Type"); ct != local.MediaTypeJSON {
		t.Errorf("a refusal of type %q: %.200q", ct, a.body)
	}
	var p local.Problem
	if err := json.Unmarshal(a.body, &p); err != nil || p.Code == "" || p.Message == "" {
		t.Errorf("a refusal that is no Problem: %.200q (%v)", a.body, err)
	}
	a.code, a.says = p.Code, p.Message
	return a
}

// member enrols a user with a device of the SDK and sets it to work.
func (w *badWorld) member(user, domain string) *client.Client {
	w.t.Helper()
	t, ctx := w.t, w.t.Context()
	p := w.provider(domain)
	code, err := p.Admin().AddUser(ctx, user)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := client.NewHTTPTransport(client.HTTPConfig{URL: "https://" + domain, Address: p.Config.ClientListen, Roots: w.fleet.Roots})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Enrol(ctx, client.Config{
		Transport: tr, Store: memstore.New(), Roots: w.fleet.Roots, KeyPackages: 10,
		AutoCommit: 50 * time.Millisecond, RetryMin: 20 * time.Millisecond, RetryMax: 200 * time.Millisecond,
	}, code.Code, "sdk")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.PublishKeyPackages(ctx); err != nil {
		t.Fatal(err)
	}
	ran := make(chan struct{})
	go func() { defer close(ran); _ = c.Run(context.Background()) }()
	t.Cleanup(func() {
		_ = c.Close()
		<-ran
		tr.CloseIdle()
	})
	return c
}

// alive says something from each of the members and waits until each of them
// has seen it: nobody is frozen.
func badAlive(t *testing.T, uri mimi.URI, members ...*client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), badPatience)
	defer cancel()
	for _, from := range members {
		id, err := from.SendText(ctx, uri, "still here: "+t.Name())
		if err != nil {
			t.Fatalf("%v: %v", from.User(), err)
		}
		for _, to := range members {
			badUntil(t, fmt.Sprintf("%v sees the message of %v", to.User(), from.User()), func() bool {
				r, err := to.Room(uri)
				if err != nil {
					t.Fatalf("%v: %v", to.User(), err)
				}
				if r.Status != client.RoomActive || r.Frozen != nil {
					t.Fatalf("%v: the room is %v: %v", to.User(), r.Status, r.Frozen)
				}
				_, err = to.Message(ctx, uri, id)
				if err != nil && !errors.Is(err, client.ErrUnknownMessage) {
					t.Fatalf("%v: %v", to.User(), err)
				}
				return err == nil
			})
		}
	}
}

func badLines(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == '\n' })
}

// once fails unless members have the same messages in the same order, none of
// them twice, and nothing that did not verify.
func once(t *testing.T, uri mimi.URI, members ...*client.Client) {
	t.Helper()
	var first []string
	for i, c := range members {
		entries, err := c.History(t.Context(), uri, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		seen := map[string]bool{}
		for _, e := range entries {
			switch e.Kind {
			case client.EntryMessage:
				text := e.ID.String() + " " + e.User.String() + ": " + e.Text()
				if seen[text] {
					t.Errorf("%v has %q twice", c.User(), text)
				}
				seen[text] = true
				texts = append(texts, text)
			case client.EntryProblem:
				t.Errorf("%v refused something: %v", c.User(), e.Problem)
			}
		}
		if i == 0 {
			first = texts
		} else if !slices.Equal(first, texts) {
			t.Errorf("%v has %d messages that are not the %d of %v, or in another order:\n%q\n%q",
				c.User(), len(texts), len(first), members[0].User(), texts, first)
		}
	}
}
