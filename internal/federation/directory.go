package federation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
)

// How long a directory is believed.
const (
	directoryDefault = time.Hour        // without Cache-Control
	directoryMin     = time.Minute      // whatever Cache-Control says
	directoryMax     = 24 * time.Hour   // whatever Cache-Control says
	directoryStale   = 24 * time.Hour   // longer, while the peer does not answer
	directoryRetry   = 2 * time.Second  // after a failed fetch
	directoryServed  = "max-age=3600"   // what we say of ours
	anchorServed     = "max-age=3600"   // what we say of our anchor statement
	fetchTimeout     = 15 * time.Second // one fetch
)

// ownEndpoints are those that Handler answers.
var ownEndpoints = []Endpoint{
	mimi.EndpointKeyMaterial, mimi.EndpointUpdate, mimi.EndpointNotify,
	mimi.EndpointSubmitMessage, mimi.EndpointGroupInfo,
}

// anchorName is the last segment of the URL of our anchor statement.
const anchorName = "x-mimi-anchor"

// OwnDirectory returns the document that we serve.
func (p *Peers) OwnDirectory() (*mimi.Directory, error) {
	d, err := mimi.NewDirectory(p.cfg.BaseURL, ownEndpoints...)
	if err != nil {
		return nil, err
	}
	if p.cfg.Anchor != nil {
		d.Anchor = p.cfg.BaseURL + "/" + anchorName
	}
	return d, nil
}

// Directory returns the directory of a peer, from the cache while it is fresh.
// Concurrent callers share one fetch. While the peer does not answer, a stale
// document is used for a day.
func (p *Peers) Directory(ctx context.Context, domain string) (*mimi.Directory, error) {
	q, err := p.peer(domain)
	if err != nil {
		return nil, err
	}
	return p.directory(ctx, q)
}

func (p *Peers) directory(ctx context.Context, q *peer) (*mimi.Directory, error) {
	for {
		now := p.cfg.Now()
		q.mu.Lock()
		switch {
		case q.dir != nil && now.Before(q.dirUntil):
			d := q.dir
			q.mu.Unlock()
			return d, nil
		case q.dirErr != nil && now.Before(q.dirErrAt.Add(directoryRetry)):
			d, err := q.dir, q.dirErr
			usable := d != nil && now.Before(q.dirStale)
			q.mu.Unlock()
			if usable {
				return d, nil
			}
			return nil, err
		case q.dirFetch == nil:
			done := make(chan struct{})
			// The fetch serves all who wait, so it does not end with this caller.
			if !p.start(func() { p.fetchDirectory(q, done) }) {
				q.mu.Unlock()
				return nil, fmt.Errorf("federation: %s: %w", q.domain, ErrClosed)
			}
			q.dirFetch = done
		}
		wait := q.dirFetch
		q.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (p *Peers) fetchDirectory(q *peer, done chan struct{}) {
	ctx, cancel := context.WithTimeout(p.ctx, fetchTimeout)
	defer cancel()
	d, fresh, err := p.getDirectory(ctx, q)
	now := p.cfg.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	defer close(done)
	q.dirFetch = nil
	q.dirErr, q.dirErrAt = err, now
	if err != nil {
		p.cfg.Log.Warn("directory of peer not available", "peer", q.domain, "error", err)
		return
	}
	q.dir, q.dirUntil, q.dirStale = d, now.Add(fresh), now.Add(fresh+directoryStale)
}

func (p *Peers) getDirectory(ctx context.Context, q *peer) (*mimi.Directory, time.Duration, error) {
	body, header, err := p.get(ctx, q, "https://"+q.domain+mimi.DirectoryPath, endpointDirectory)
	if err != nil {
		return nil, 0, err
	}
	d, err := mimi.ParseDirectory(body)
	if err != nil {
		return nil, 0, fmt.Errorf("federation: %s: %w: %w", q.domain, ErrBadPeer, err)
	}
	return d, freshness(header), nil
}

// forgetDirectory makes the next request fetch the directory again, at most
// once per directoryMin.
func (p *Peers) forgetDirectory(q *peer) {
	now := p.cfg.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dir != nil && now.Sub(q.dirErrAt) >= directoryMin {
		q.dirUntil = now
	}
}

// freshness reads Cache-Control (RFC 9111 section 5.2.2).
func freshness(h http.Header) time.Duration {
	for _, field := range h.Values("Cache-Control") {
		for directive := range strings.SplitSeq(field, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
			switch strings.ToLower(name) {
			case "no-store", "no-cache":
				return directoryMin
			case "max-age":
				n, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
				if err != nil {
					return directoryMin
				}
				return min(max(time.Duration(n)*time.Second, directoryMin), directoryMax)
			}
		}
	}
	return directoryDefault
}

// get fetches a small public document of a peer.
func (p *Peers) get(ctx context.Context, q *peer, url string, what Endpoint) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("federation: %s: %w: %w", q.domain, ErrBadPeer, err)
	}
	limit := p.cfg.Limits.Directory
	if what == endpointAnchor {
		limit = identity.MaxStatement
	}
	return p.roundTrip(q, req, what, 0, limit)
}

// roundTrip sends req to q and returns the body of a 2xx response.
func (p *Peers) roundTrip(q *peer, req *http.Request, what Endpoint, size int, limit int64) (_ []byte, _ http.Header, err error) {
	start := p.cfg.Now()
	status := 0
	defer func() {
		p.cfg.Metrics.Outbound(q.domain, what, status, size, p.cfg.Now().Sub(start))
	}()
	if err := p.up(q); err != nil {
		return nil, nil, err
	}
	req.Host = q.domain
	req.Header.Set("From", "mimi@"+p.cfg.Domain)
	req.Header.Set("User-Agent", userAgent)
	resp, err := q.rt.RoundTrip(req)
	if err == nil {
		defer resp.Body.Close()
		status = resp.StatusCode
		p.connected(q)
		return readResponse(q.domain, what, resp, limit, start)
	}
	if ctxErr := req.Context().Err(); ctxErr != nil && !errors.Is(ctxErr, context.DeadlineExceeded) {
		return nil, nil, fmt.Errorf("federation: %s: %w", q.domain, ctxErr)
	}
	p.disconnected(q)
	return nil, nil, fmt.Errorf("federation: %s: %w: %w", q.domain, ErrUnreachable, err)
}

func readResponse(domain string, what Endpoint, resp *http.Response, limit int64, now time.Time) ([]byte, http.Header, error) {
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		// Some of the body is read so that the connection can be used again.
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
		return nil, nil, &StatusError{
			Domain: domain, Endpoint: what, Status: resp.StatusCode,
			RetryAfter: parseRetryAfter(resp.Header.Get("Retry-After"), now),
		}
	}
	if resp.ContentLength > limit {
		return nil, nil, fmt.Errorf("federation: %s: %w: response of %d octets; the limit is %d", domain, ErrBadPeer, resp.ContentLength, limit)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, nil, fmt.Errorf("federation: %s: %w: reading the response: %w", domain, ErrUnreachable, err)
	}
	if int64(len(body)) > limit {
		return nil, nil, fmt.Errorf("federation: %s: %w: response of more than %d octets", domain, ErrBadPeer, limit)
	}
	return body, resp.Header, nil
}

func marshalDirectory(d *mimi.Directory) ([]byte, error) {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}
