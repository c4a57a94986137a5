package provider

import (
	"context"
	"net/http"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/internal/delivery"
	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/hub"
	"github.com/comity-im/comity/internal/keys"
	"github.com/comity-im/comity/internal/replica"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// wire connects hub, replica and outbox.
func (p *Provider) wire(verifier *identity.Verifier, pool *keys.Keys, streams *delivery.Delivery,
	sender func(mls.CipherSuite) (mls.ExternalSender, mls.Signer, error)) {
	rooms := room.Config{
		ClientURIs: identity.ClientURIs, ProviderDomain: identity.ProviderDomain,
		MLS: mls.Config{Credentials: verifier, Now: p.now},
	}
	p.replica = replica.New(replica.Config{
		Domain: p.cfg.Domain, Store: p.store, Room: rooms, Verifier: verifier, Sender: sender,
		Peers: p.peers, Notifier: streams, Now: p.now, Log: p.log.With("part", "replica"), Metrics: p.metrics,
	})
	p.outbox = federation.NewOutbox(federation.OutboxConfig{Peers: p.peers, Store: p.store, Answerer: p.replica})
	p.replica.UseOutbox(p.outbox)
	p.hub = hub.New(hub.Config{
		Domain: p.cfg.Domain, Store: p.store, Room: rooms, Verifier: verifier, Sender: sender,
		Peers: p.peers, Keys: pool, Outbox: p.outbox, Notifier: streams,
		Now: p.now, Log: p.log.With("part", "hub"), Metrics: p.metrics,
	})
	p.federation = federation.NewHandler(p.peers, (*backend)(p))
}

// Federation is the handler of what other providers ask. It needs the peer's
// certificate in the request, so it is served with the provider's TLS.
func (p *Provider) Federation() http.Handler { return p.federation }

// backend answers other providers.
type backend Provider

func (b *backend) KeyMaterial(ctx context.Context, peer string, user mimi.URI, body []byte) ([]byte, error) {
	return b.hub.KeyMaterial(ctx, peer, user, body)
}

func (b *backend) Update(ctx context.Context, peer string, uri mimi.URI, body []byte) ([]byte, error) {
	return b.hub.Update(ctx, room.Source{Provider: peer}, uri, body)
}

func (b *backend) Submit(ctx context.Context, peer string, uri mimi.URI, body []byte) ([]byte, error) {
	return b.hub.Submit(ctx, room.Source{Provider: peer}, uri, body)
}

func (b *backend) Notify(ctx context.Context, peer string, uri mimi.URI, body []byte) error {
	return b.replica.Notify(ctx, peer, uri, body)
}

func (b *backend) GroupInfo(ctx context.Context, peer string, uri mimi.URI, body []byte) ([]byte, error) {
	return b.hub.GroupInfo(ctx, peer, uri, body)
}
