package federation

import (
	"sync"
	"time"
)

// A RateLimiter is a Limiter with one token bucket per peer. Its zero value
// refuses everything; use NewRateLimiter.
type RateLimiter struct {
	rate  float64 // tokens per second
	burst float64
	now   func() time.Time

	mu    sync.Mutex // guards peers
	peers map[string]*bucket
}

type bucket struct {
	tokens float64
	at     time.Time // when tokens was right
}

// maxBuckets bounds the peers that a RateLimiter remembers. Full buckets can be
// forgotten without loss.
const maxBuckets = 4096

// NewRateLimiter allows each peer rate requests per second on average, and
// burst at once. now is the clock; nil means time.Now.
func NewRateLimiter(rate float64, burst int, now func() time.Time) *RateLimiter {
	if now == nil {
		now = time.Now
	}
	return &RateLimiter{rate: rate, burst: float64(burst), now: now, peers: make(map[string]*bucket)}
}

// Allow implements Limiter.
func (l *RateLimiter) Allow(peer string, _ Endpoint) (ok bool, retryAfter time.Duration) {
	if l.rate <= 0 || l.burst < 1 {
		return false, maxRetryAfter
	}
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.peers[peer]
	if b == nil {
		if len(l.peers) >= maxBuckets {
			l.forget(now)
		}
		b = &bucket{tokens: l.burst, at: now}
		l.peers[peer] = b
	}
	b.tokens, b.at = l.filled(b, now), now
	if b.tokens >= 1 {
		b.tokens--
		return true, 0
	}
	return false, time.Duration((1 - b.tokens) / l.rate * float64(time.Second))
}

func (l *RateLimiter) filled(b *bucket, now time.Time) float64 {
	return min(l.burst, b.tokens+max(0, now.Sub(b.at).Seconds())*l.rate)
}

// forget drops full buckets, and all if none is full. The caller holds l.mu.
func (l *RateLimiter) forget(now time.Time) {
	for peer, b := range l.peers {
		if l.filled(b, now) >= l.burst {
			delete(l.peers, peer)
		}
	}
	if len(l.peers) >= maxBuckets {
		clear(l.peers)
	}
}
