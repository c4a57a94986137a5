package federation_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/mimi"
)

// A network answers requests by functions.
type network struct {
	mu        sync.Mutex
	fetched   int      // directories
	posted    []string // URLs
	cache     string   // Cache-Control
	base      string
	directory func() (int, string) // overrides
	post      func(*http.Request) (*http.Response, error)
}

func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if r.Method == http.MethodGet {
		n.fetched++
		status, body := 200, fmt.Sprintf(`{"update":"%s/up/{roomId}","unknown":1}`, n.base)
		if n.directory != nil {
			status, body = n.directory()
		}
		if status == 0 {
			return nil, errors.New("no route")
		}
		return response(status, body, "Cache-Control", n.cache), nil
	}
	n.posted = append(n.posted, r.URL.String())
	if n.post != nil {
		return n.post(r)
	}
	return response(200, "ok"), nil
}

func response(status int, body string, header ...string) *http.Response {
	h := make(http.Header)
	for i := 0; i+1 < len(header); i += 2 {
		if header[i+1] != "" {
			h.Set(header[i], header[i+1])
		}
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1}
}

func simulated(t *testing.T, n *network) *federation.Peers {
	t.Helper()
	if n.base == "" {
		n.base = "https://mimi.b.example/x"
	}
	p, err := federation.New(federation.Config{
		Domain: "a.example", Open: true,
		Transport: func(string) http.RoundTripper { return n },
		Jitter:    func() float64 { return 1 },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestDirectoryIsCachedAsItSays(t *testing.T) {
	for _, tt := range []struct {
		cache string
		fresh time.Duration
	}{
		{"", time.Hour},
		{"public, max-age=600", 10 * time.Minute},
		{"max-age=1", time.Minute},
		{"max-age=99999999", 24 * time.Hour},
		{"no-store", time.Minute},
		{"max-age=x", time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := &network{cache: tt.cache}
			p := simulated(t, n)
			do := func(want int) {
				t.Helper()
				if _, err := p.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, nil); err != nil {
					t.Fatalf("%q: %v", tt.cache, err)
				}
				if n.fetched != want {
					t.Fatalf("%q: directory fetched %d times, want %d", tt.cache, n.fetched, want)
				}
			}
			do(1)
			time.Sleep(tt.fresh - time.Millisecond)
			do(1)
			time.Sleep(2 * time.Millisecond)
			do(2)
			want := "https://mimi.b.example/x/up/mimi%3A%2F%2Fb.example%2Fr%2Fa%252Fb%2520c%2Fd"
			if n.posted[0] != want {
				t.Errorf("posted to %s, want %s", n.posted[0], want)
			}
		})
	}
}

func TestDirectoryFetchIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{}
		p := simulated(t, n)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := p.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, nil); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n.fetched != 1 {
			t.Errorf("directory fetched %d times, want once", n.fetched)
		}
	})
}

func TestStaleDirectoryWhilePeerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{cache: "max-age=60"}
		p := simulated(t, n)
		do := func() error {
			_, err := p.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, nil)
			return err
		}
		if err := do(); err != nil {
			t.Fatal(err)
		}
		n.mu.Lock()
		n.directory = func() (int, string) { return 503, "" }
		n.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if err := do(); err != nil {
			t.Errorf("with a stale directory: %v", err)
		}
		time.Sleep(25 * time.Hour)
		if err := do(); !errors.Is(err, federation.ErrUnavailable) {
			t.Errorf("with a directory past use: %v, want ErrUnavailable", err)
		}
	})
}

func TestBadDirectories(t *testing.T) {
	for _, doc := range []string{
		"", "[]", "null", `{"update":"http://b.example/{roomId}"}`, `{"update":"https://b.example/"}`,
		`{"update":"https://u:p@b.example/{roomId}"}`, strings.Repeat(" ", mimi.MaxDirectory+1),
	} {
		synctest.Test(t, func(t *testing.T) {
			n := &network{directory: func() (int, string) { return 200, doc }}
			p := simulated(t, n)
			if _, err := p.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, nil); !errors.Is(err, federation.ErrBadPeer) {
				t.Errorf("%.40q: %v, want ErrBadPeer", doc, err)
			}
			if len(n.posted) != 0 {
				t.Errorf("%.40q: posted to %v", doc, n.posted)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		p := simulated(t, &network{})
		if _, err := p.Do(t.Context(), "b.example", mimi.EndpointGroupInfo, roomB, nil); !errors.Is(err, federation.ErrNoEndpoint) {
			t.Errorf("endpoint that is not offered: %v, want ErrNoEndpoint", err)
		}
	})
}

func TestMovedEndpointIsFoundAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{}
		p := simulated(t, n)
		n.post = func(r *http.Request) (*http.Response, error) {
			if strings.Contains(r.URL.Path, "/old/") {
				return response(404, ""), nil
			}
			return response(200, ""), nil
		}
		n.base = "https://b.example/old"
		if _, err := p.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, nil); !errors.Is(err, federation.ErrNotFound) {
			t.Fatalf("%v, want ErrNotFound", err)
		}
		n.base = "https://b.example/new"
		time.Sleep(2 * time.Minute)
		if _, err := p.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, nil); !errors.Is(err, federation.ErrNotFound) {
			t.Fatalf("%v, want ErrNotFound", err)
		}
		if _, err := p.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, nil); err != nil {
			t.Errorf("after it moved: %v", err)
		}
	})
}

func TestDownPeerFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{}
		p := simulated(t, n)
		dead := true
		n.post = func(*http.Request) (*http.Response, error) {
			if dead {
				return nil, errors.New("connection refused")
			}
			return response(200, ""), nil
		}
		do := func() error {
			_, err := p.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, nil)
			return err
		}
		for i, want := range []time.Duration{1, 2, 4, 8, 15, 15} {
			if err := do(); !errors.Is(err, federation.ErrUnreachable) {
				t.Fatalf("attempt %d: %v", i, err)
			}
			if len(n.posted) != i+1 {
				t.Fatalf("attempt %d was not made", i)
			}
			err := do()
			if !errors.Is(err, federation.ErrUnreachable) || federation.RetryAfter(err) != want*time.Second || !federation.Unreached(err) {
				t.Errorf("attempt %d: %v, want advice of %ds", i, err, want)
			}
			if len(n.posted) != i+1 {
				t.Errorf("attempt %d: a request was made while the peer is down", i)
			}
			time.Sleep(want * time.Second)
		}
		dead = false
		if err := do(); err != nil {
			t.Error(err)
		}
		if err := do(); err != nil {
			t.Error(err)
		}
	})
}

func TestCancelledRequestsDoNotCountAgainstThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{}
		p := simulated(t, n)
		if _, err := p.Directory(t.Context(), "b.example"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.Do(ctx, "b.example", mimi.EndpointUpdate, roomB, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want Canceled", err)
		}
		if _, err := p.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, nil); err != nil {
			t.Error(err)
		}
	})
}

func TestResponsesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{post: func(*http.Request) (*http.Response, error) {
			return response(200, strings.Repeat("x", mimi.MaxUpdateResponse+1)), nil
		}}
		p := simulated(t, n)
		if _, err := p.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, nil); !errors.Is(err, federation.ErrBadPeer) {
			t.Errorf("%v, want ErrBadPeer", err)
		}
	})
}

func TestRetryAfterForms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var field string
		n := &network{post: func(*http.Request) (*http.Response, error) { return response(503, "", "Retry-After", field), nil }}
		p := simulated(t, n)
		now := time.Now()
		for f, want := range map[string]time.Duration{
			"":         0,
			"30":       30 * time.Second,
			"x":        0,
			"-1":       0,
			"99999999": time.Hour,
			now.Add(90 * time.Second).UTC().Format(http.TimeFormat): 90 * time.Second,
			now.Add(-time.Hour).UTC().Format(http.TimeFormat):       0,
		} {
			field = f
			_, err := p.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, nil)
			if !errors.Is(err, federation.ErrUnavailable) || federation.RetryAfter(err) != want {
				t.Errorf("Retry-After %q: %v, advice %v, want %v", f, err, federation.RetryAfter(err), want)
			}
		}
	})
}
