package fedtest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comity-im/comity/internal/fedtest"
	"github.com/comity-im/comity/room"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A lossyNet carries requests between the providers of a world inside a bubble.
type lossyNet struct {
	mu        sync.Mutex
	rnd       *rand.Rand
	loss      float64
	providers map[string]*fedtest.Provider
	up        map[string]bool
}

func (n *lossyNet) draw() (before, after bool, delay time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rnd.Float64() < n.loss, n.rnd.Float64() < n.loss, time.Duration(n.rnd.IntN(200)) * time.Millisecond
}

func (n *lossyNet) find(domain string) *fedtest.Provider {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.up[domain] {
		return nil
	}
	return n.providers[domain]
}

type link struct {
	n        *lossyNet
	from, to string
}

func (l link) RoundTrip(r *http.Request) (*http.Response, error) {
	before, after, delay := l.n.draw()
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	src, dst := l.n.find(l.from), l.n.find(l.to)
	if before || src == nil || dst == nil {
		return nil, errors.New("request lost")
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	in := r.Clone(r.Context())
	in.TLS = src.Connection()
	in.Body = io.NopCloser(bytes.NewReader(body))
	in.RequestURI = r.URL.RequestURI()
	rec := httptest.NewRecorder()
	dst.Handler.ServeHTTP(rec, in)
	if after {
		return nil, errors.New("response lost")
	}
	return rec.Result(), nil
}

// A federation of three in a bubble: requests and responses are lost, providers
// stop and start, and still everyone reads the same.
func TestFederationInABubble(t *testing.T) {
	seeds := 4
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, uint64(seed)) })
		})
	}
}

func simulate(t *testing.T, seed uint64) {
	script := rand.New(rand.NewPCG(seed, 8)) // what happens; n.rnd is what goes wrong
	n := &lossyNet{rnd: rand.New(rand.NewPCG(seed, 7)), providers: make(map[string]*fedtest.Provider), up: make(map[string]bool)}
	w := fedtest.New(t, fedtest.Options{Transport: func(from, to string) http.RoundTripper { return link{n, from, to} }})
	domains := []string{"a.example", "b.example", "c.example"}
	begin := func(d string) {
		p := w.Start(d)
		n.mu.Lock()
		n.providers[d], n.up[d] = p, true
		n.mu.Unlock()
	}
	end := func(d string) {
		n.mu.Lock()
		n.up[d] = false
		n.mu.Unlock()
		n.providers[d].Stop()
	}
	for _, d := range domains {
		begin(d)
	}
	alice := n.providers["a.example"].Enrol("alice", "1")
	bob := n.providers["b.example"].Enrol("bob", "1")
	cathy := n.providers["c.example"].Enrol("cathy", "1")
	devices := []*fedtest.Device{alice, bob, cathy}
	uri := alice.Create("club", room.TemplateGroup)
	w.OK(alice.Add(uri, bob.User, cathy.User))
	w.Until("all join", func() bool { return bob.Rooms[uri] != nil && cathy.Rooms[uri] != nil }, devices...)

	n.mu.Lock()
	n.loss = 0.2
	n.mu.Unlock()
	sent := make(map[string]bool)
	for i := range 60 {
		d := devices[script.IntN(len(devices))]
		if n.find(d.P.Domain) != nil {
			text := fmt.Sprintf("%s: %d", d.User.Name(), i)
			req, err := d.Encrypt(uri, fmt.Sprint(i))
			w.OK(err)
			resp, pending, err := d.Submit(uri, req)
			switch {
			case err != nil:
				t.Fatalf("message %d: %v", i, err) // neither posted nor pending
			case pending, resp.Code == 0:
				sent[text] = true
			default:
				t.Fatalf("message %d: %v", i, resp.Code)
			}
		}
		if i%15 == 14 {
			down := domains[script.IntN(len(domains))]
			if n.find(down) != nil {
				end(down)
			} else {
				begin(down)
			}
		}
		time.Sleep(time.Duration(script.IntN(3000)) * time.Millisecond)
	}
	n.mu.Lock()
	n.loss = 0
	n.mu.Unlock()
	for _, d := range domains {
		if n.find(d) == nil {
			begin(d)
		}
	}
	time.Sleep(10 * time.Minute)
	for _, d := range devices {
		w.OK(d.Sync())
	}
	for _, d := range devices {
		m := d.Rooms[uri]
		if !slices.Equal(m.Texts, alice.Rooms[uri].Texts) {
			t.Errorf("seed %d: %s read %q, alice %q", seed, d.User, m.Texts, alice.Rooms[uri].Texts)
		}
		for text := range sent {
			if c := count(m.Texts, text); c != 1 {
				t.Errorf("seed %d: %s read %q %d times", seed, d.User, text, c)
			}
		}
		if c := d.P.Heard.Refusals("a.example"); c != 0 {
			t.Errorf("seed %d: %s could not verify %d notifications", seed, d.P.Domain, c)
		}
	}
}

func count(list []string, s string) int {
	n := 0
	for _, x := range list {
		if x == s {
			n++
		}
	}
	return n
}
