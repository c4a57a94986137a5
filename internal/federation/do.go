package federation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/comity-im/comity/mimi"
)

// How long requests to a peer fail at once after it could not be reached:
// doubling from downFirst to downMax.
const (
	downFirst = time.Second
	downMax   = 15 * time.Second
)

// Do sends body to an endpoint of a peer, for the room or user that key names,
// and returns the body of its 2xx answer.
//
// Errors match ErrNotPeer (we do not federate with it), ErrNoEndpoint,
// ErrUnreachable (nothing is known to have arrived), ErrBadPeer (the answer
// makes no sense), or are a *StatusError. After a failure to connect, requests
// to this peer fail at once for a while, with advice when to try again
// ([RetryAfter]); one dead peer so never holds up those who wait for it.
func (p *Peers) Do(ctx context.Context, domain string, endpoint Endpoint, key mimi.URI, body []byte) ([]byte, error) {
	q, err := p.peer(domain)
	if err != nil {
		return nil, err
	}
	if p.ctx.Err() != nil {
		return nil, fmt.Errorf("federation: %s: %w", domain, ErrClosed)
	}
	// up is asked before the directory, so that a peer that is down costs
	// nothing even when its directory has expired.
	if err := p.up(q); err != nil {
		return nil, err
	}
	d, err := p.directory(ctx, q)
	if err != nil {
		return nil, err
	}
	url, err := d.ExpandURI(endpoint, key)
	if err != nil {
		return nil, fmt.Errorf("federation: %s: %w: %w", domain, ErrNoEndpoint, err)
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Limits.RequestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("federation: %s: %w: %w", domain, ErrBadPeer, err)
	}
	req.Header.Set("Content-Type", mimi.MediaType)
	req.Header.Set("Accept", mimi.MediaType+", "+mimi.MediaTypeOctet)
	limit := p.cfg.Limits.Response[endpoint]
	answer, _, err := p.roundTrip(q, req, endpoint, len(body), limit)
	if s, ok := errors.AsType[*StatusError](err); ok && (s.Status == http.StatusNotFound || s.Status == http.StatusMisdirectedRequest ||
		s.Status == http.StatusGone || s.Status >= 300 && s.Status < 400) {
		// The endpoint may have moved.
		p.forgetDirectory(q)
	}
	return answer, err
}

// up returns an error while the peer is taken to be down.
func (p *Peers) up(q *peer) error {
	now := p.cfg.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failures == 0 || !now.Before(q.downUntil) {
		return nil
	}
	return Delay(fmt.Errorf("federation: %s: %w", q.domain, ErrUnreachable), q.downUntil.Sub(now))
}

func (p *Peers) connected(q *peer) {
	q.mu.Lock()
	was := q.failures
	q.failures = 0
	q.mu.Unlock()
	if was > 0 {
		p.cfg.Metrics.Failing(q.domain, 0)
		p.cfg.Log.Info("peer can be reached again", "peer", q.domain, "failures", was)
		p.alive(q)
	}
}

func (p *Peers) disconnected(q *peer) {
	now := p.cfg.Now()
	q.mu.Lock()
	q.failures++
	n := q.failures
	// At half to full length, so that many of us do not return together.
	d := backoff(n, downFirst, downMax)
	q.downUntil = now.Add(d/2 + time.Duration(p.cfg.Jitter()*float64(d/2)))
	q.mu.Unlock()
	p.cfg.Metrics.Failing(q.domain, n)
}

// backoff returns first doubled n-1 times, at most limit.
func backoff(n int, first, limit time.Duration) time.Duration {
	d := first
	for ; n > 1 && d < limit; n-- {
		d *= 2
	}
	return min(d, limit)
}
