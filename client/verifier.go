package client

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi/local"
)

// NewVerifier returns the verifier that a client uses by default: anchors
// are fetched with fetch, verified against roots, pinned in pins, and cached.
// It can be shared by all devices of a process that trust the same roots.
func NewVerifier(fetch func(ctx context.Context, domain string) ([]byte, error), roots *x509.CertPool, pins identity.PinStore, now func() time.Time) *identity.Verifier {
	return &identity.Verifier{Anchors: &identity.CachedAnchors{
		Source: &identity.PinnedAnchors{
			Source: &identity.FetchedAnchors{Fetch: fetch, Roots: roots, Now: now},
			Store:  pins,
			Now:    now,
		},
		Now: now,
	}}
}

// FetchAnchor gets the anchor statement of a domain from the device's
// provider. The statement proves itself, so the provider need not be trusted.
func (c *Client) FetchAnchor(ctx context.Context, domain string) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unhook := context.AfterFunc(c.ctx, cancel) // the caller knows nothing of Close
	defer unhook()
	resp, err := c.session.do(ctx, Request{Method: http.MethodGet, Path: local.PathAnchors + url.PathEscape(domain)})
	var se *StatusError
	switch {
	case err == nil:
		return resp.Body, nil
	case errors.As(err, &se) && se.Status == http.StatusNotFound:
		return nil, fmt.Errorf("%w: %w", identity.ErrUnknownDomain, err)
	case temporary(err) && !errors.Is(err, ErrUnreachable):
		// Whoever waits for the anchor tells a passing failure by this.
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return nil, err
}

// storePins is an identity.PinStore in the device's own store. If that fails,
// a certificate cannot be judged now, which is no verdict on it: so its errors
// match ErrUnreachable, and whoever needs the verdict waits for it.
type storePins struct{ store Store }

func (p storePins) Pins(domain string) ([][]byte, error) {
	value, err := p.store.Get(context.Background(), bucketPins, domain)
	if errors.Is(err, ErrNoValue) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	var der [][]byte
	if err := json.Unmarshal(value, &der); err != nil {
		return nil, fmt.Errorf("client: stored pins of %s: %w", domain, err)
	}
	return der, nil
}

func (p storePins) SetPins(domain string, der [][]byte) error {
	value, err := json.Marshal(der)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	b := Batch{Durable: true}
	b.Set(bucketPins, domain, value)
	if err := p.store.Apply(context.Background(), b); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return nil
}
