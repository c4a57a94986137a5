package federation_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/mimi"
)

func TestRateLimiter(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := federation.NewRateLimiter(2, 3, func() time.Time { return now })
	take := func(peer string, want bool, wait time.Duration) {
		t.Helper()
		ok, after := l.Allow(peer, mimi.EndpointUpdate)
		if ok != want || after != wait {
			t.Errorf("%s: %v, wait %v; want %v, %v", peer, ok, after, want, wait)
		}
	}
	for range 3 {
		take("b.example", true, 0)
	}
	take("b.example", false, 500*time.Millisecond)
	take("c.example", true, 0)
	now = now.Add(500 * time.Millisecond)
	take("b.example", true, 0)
	take("b.example", false, 500*time.Millisecond)
	now = now.Add(time.Hour)
	for range 3 {
		take("b.example", true, 0)
	}
	take("b.example", false, 500*time.Millisecond)
	// Many peers do not make it grow, nor do they refill a bucket.
	for i := range 10_000 {
		take(fmt.Sprint(i), true, 0)
	}
	if ok, _ := federation.NewRateLimiter(0, 1, nil).Allow("b.example", mimi.EndpointUpdate); ok {
		t.Error("no rate allows requests")
	}
}

func TestPeerThatAsksTooOftenIsToldSo(t *testing.T) {
	now := time.Unix(1e9, 0)
	_, pa, pb := pair(t, func(c *federation.Config) {
		c.Limiter = federation.NewRateLimiter(0.1, 1, func() time.Time { return now })
	})
	if _, err := pa.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, nil); err != nil {
		t.Fatal(err)
	}
	_, err := pa.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, nil)
	if !errors.Is(err, federation.ErrRateLimited) || federation.RetryAfter(err) != 10*time.Second || len(pb.backend.called()) != 1 {
		t.Errorf("%v, advice %v", err, federation.RetryAfter(err))
	}
}
