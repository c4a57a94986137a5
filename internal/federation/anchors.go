package federation

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/internal/store"
)

// anchorKey is the setting under which the last statement of a domain is kept.
const anchorKey = "federation/anchor/"

// FetchAnchor gets the anchor statement of a peer from the URL in its
// directory. With Config.Statements set, the last statement is kept, and given
// out while the peer cannot be reached: a restart then does not depend on
// everybody else being up. The statement is not verified here; it is small,
// comes from a peer that proved its domain, and says itself until when it may
// be used.
//
// The error matches identity.ErrUnknownDomain if the domain is no peer of ours
// or offers no statement.
func (p *Peers) FetchAnchor(ctx context.Context, domain string) ([]byte, error) {
	statement, err := p.fetchAnchor(ctx, domain)
	if errors.Is(err, identity.ErrUnknownDomain) || p.cfg.Statements == nil {
		return statement, err
	}
	kept, kerr := p.cfg.Statements.Setting(ctx, anchorKey+domain)
	if kerr != nil && !errors.Is(kerr, store.ErrNotFound) {
		return nil, fmt.Errorf("federation: statement of %s: %w", domain, kerr)
	}
	if err != nil {
		if kerr == nil {
			return kept, nil
		}
		return nil, err
	}
	if kerr != nil || !bytes.Equal(kept, statement) {
		if err := p.cfg.Statements.PutSetting(ctx, anchorKey+domain, statement); err != nil {
			return nil, fmt.Errorf("federation: statement of %s: %w", domain, err)
		}
	}
	return statement, nil
}

func (p *Peers) fetchAnchor(ctx context.Context, domain string) ([]byte, error) {
	q, err := p.peer(domain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", identity.ErrUnknownDomain, err)
	}
	if err := p.up(q); err != nil {
		return nil, err
	}
	d, err := p.directory(ctx, q)
	if err != nil {
		return nil, err
	}
	if d.Anchor == "" {
		return nil, fmt.Errorf("%w: the directory of %s names no anchor statement", identity.ErrUnknownDomain, domain)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	body, _, err := p.get(ctx, q, d.Anchor, endpointAnchor)
	return body, err
}

// Anchors returns a source of trust anchors: ours from own, those of peers from
// their statements, verified against the TLS roots and cached.
func (p *Peers) Anchors(own *identity.Anchor) identity.Anchors {
	return identity.FirstAnchors{
		identity.StaticAnchors{p.cfg.Domain: own},
		&identity.CachedAnchors{
			Source: &identity.FetchedAnchors{Fetch: p.FetchAnchor, Roots: p.cfg.Roots, Now: p.cfg.Now, Timeout: fetchTimeout},
			Now:    p.cfg.Now,
		},
	}
}
