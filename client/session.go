package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

// A session makes authenticated requests in the name of one device. It holds
// a bearer token and replaces it when it is about to expire or is refused.
type session struct {
	transport Transport
	device    string
	signer    mls.Signer
	now       func() time.Time

	// turn holds one token while nobody looks at the fields below. Who asks
	// for a new bearer token keeps it meanwhile, so that there is one request
	// at a time; the others wait no longer than their contexts.
	turn    chan struct{}
	token   string
	expires time.Time
}

func newSession(t Transport, device string, signer mls.Signer, now func() time.Time) *session {
	s := &session{transport: t, device: device, signer: signer, now: now, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

// tokenMargin is how long before its end a token is replaced.
const tokenMargin = time.Minute

// bearer returns a token other than the refused one.
func (s *session) bearer(ctx context.Context, refused string) (string, error) {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return "", fmt.Errorf("%w: %w", ErrUnreachable, ctx.Err())
	}
	defer func() { s.turn <- struct{}{} }()
	if s.token != "" && s.token != refused && s.now().Before(s.expires.Add(-tokenMargin)) {
		return s.token, nil
	}
	var challenge local.ChallengeResponse
	if err := s.exchange(ctx, local.PathChallenge, nil, &challenge); err != nil {
		return "", err
	}
	if len(challenge.Challenge) == 0 || len(challenge.Challenge) > local.MaxChallenge {
		return "", fmt.Errorf("client: challenge of %d octets", len(challenge.Challenge))
	}
	sig, err := mls.SignWithLabel(s.signer, local.LabelToken, challenge.Challenge)
	if err != nil {
		return "", fmt.Errorf("client: sign challenge: %w", err)
	}
	var token local.TokenResponse
	err = s.exchange(ctx, local.PathToken, local.TokenRequest{Device: s.device, Challenge: challenge.Challenge, Signature: sig}, &token)
	if err != nil {
		return "", err
	}
	if token.Token == "" {
		return "", errors.New("client: provider gave an empty token")
	}
	s.token, s.expires = token.Token, time.Unix(token.Expires, 0)
	// A token that seems to end at once is used all the same: the device's
	// clock may be wrong. It is then asked for again when it is refused.
	if min := s.now().Add(2 * tokenMargin); s.expires.Before(min) {
		s.expires = min
	}
	return s.token, nil
}

// exchange posts JSON without a token and decodes the answer.
func (s *session) exchange(ctx context.Context, path string, body, into any) error {
	return exchangeJSON(ctx, s.transport, path, body, into)
}

func exchangeJSON(ctx context.Context, t Transport, path string, body, into any) error {
	req := Request{Method: http.MethodPost, Path: path}
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("client: %w", err)
		}
		req.Body, req.ContentType = b, local.MediaTypeJSON
	}
	resp, err := t.Do(ctx, req)
	if err != nil {
		return err
	}
	if err := statusError(resp); err != nil {
		return err
	}
	if err := json.Unmarshal(resp.Body, into); err != nil {
		return fmt.Errorf("client: answer to %s: %w", path, err)
	}
	return nil
}

// do makes a request with a token and returns the answer if its status is
// 2xx, and a *StatusError otherwise.
func (s *session) do(ctx context.Context, req Request) (Response, error) {
	refused := ""
	for {
		token, err := s.bearer(ctx, refused)
		if err != nil {
			return Response{}, err
		}
		req.Token = token
		resp, err := s.transport.Do(ctx, req)
		if err != nil {
			return Response{}, err
		}
		if resp.Status == http.StatusUnauthorized && refused == "" {
			refused = token
			continue
		}
		return resp, statusError(resp)
	}
}

// stream opens the stream with a token.
func (s *session) stream(ctx context.Context) (Stream, error) {
	refused := ""
	for {
		token, err := s.bearer(ctx, refused)
		if err != nil {
			return nil, err
		}
		st, err := s.transport.Stream(ctx, token)
		var se *StatusError
		if errors.As(err, &se) && se.Status == http.StatusUnauthorized && refused == "" {
			refused = token
			continue
		}
		return st, err
	}
}

// statusError returns nil for a 2xx status.
func statusError(resp Response) error {
	if resp.Status >= 200 && resp.Status < 300 {
		return nil
	}
	e := &StatusError{Status: resp.Status, RetryAfter: resp.RetryAfter}
	var p local.Problem
	if json.Unmarshal(resp.Body, &p) == nil {
		e.Code, e.Detail = p.Code, p.Message
	}
	return e
}

// temporary reports whether the same request may succeed later: nobody
// answered, or a server said that it can't at the moment. A refused token is
// temporary, too: a device that is locked out keeps what it wants to send.
func temporary(err error) bool {
	if errors.Is(err, ErrUnreachable) {
		return true
	}
	var se *StatusError
	if !errors.As(err, &se) {
		return false
	}
	return se.Status >= 500 || se.Status == http.StatusTooManyRequests ||
		se.Status == http.StatusRequestTimeout || se.Status == http.StatusUnauthorized
}

// A backoff yields growing, random delays.
type backoff struct {
	min, max time.Duration
	next     time.Duration
}

func (b *backoff) reset() { b.next = 0 }

// delay returns how long to wait before the next attempt, given the error of
// the last one.
func (b *backoff) delay(err error) time.Duration {
	if b.next == 0 {
		b.next = b.min
	}
	d := b.next/2 + rand.N(b.next/2+1)
	b.next = min(2*b.next, b.max)
	var se *StatusError
	if errors.As(err, &se) && se.RetryAfter > d {
		d = se.RetryAfter
	}
	return d
}

// sleep waits, or fails when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
