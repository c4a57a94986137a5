package provider

import (
	"context"
	"fmt"

	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/room"
)

// rooms carries out what local clients ask: at our hub for rooms of ours, at
// the hub of the room through the replica for all others.
type rooms Provider

// names parses the URIs of a device from the store.
func names(d store.Device) (user, device mimi.URI, err error) {
	if user, err = mimi.ParseURI(d.User); err == nil {
		device, err = mimi.ParseURI(d.URI)
	}
	if err != nil {
		err = fmt.Errorf("provider: device %q in the store: %w", d.URI, err)
	}
	return user, device, err
}

// ours reports whether this provider is the hub.
func (r *rooms) ours(uri mimi.URI) bool { return uri.Domain() == r.cfg.Domain }

func (r *rooms) Create(ctx context.Context, d store.Device, body []byte) error {
	user, device, err := names(d)
	if err != nil {
		return err
	}
	_, err = r.hub.Create(ctx, user, device, body)
	return err
}

func (r *rooms) Update(ctx context.Context, d store.Device, uri mimi.URI, body []byte) ([]byte, error) {
	user, _, err := names(d)
	if err != nil {
		return nil, err
	}
	if r.ours(uri) {
		return r.hub.Update(ctx, room.Source{Provider: r.cfg.Domain, User: user}, uri, body)
	}
	return r.replica.Update(ctx, uri, body)
}

func (r *rooms) Submit(ctx context.Context, d store.Device, uri mimi.URI, body []byte) ([]byte, string, error) {
	user, device, err := names(d)
	if err != nil {
		return nil, "", err
	}
	if r.ours(uri) {
		answer, err := r.hub.Submit(ctx, room.Source{Provider: r.cfg.Domain, User: user}, uri, body)
		return answer, "", err
	}
	answer, pending, err := r.replica.Submit(ctx, user, device, uri, body)
	if err != nil || !pending {
		return answer, "", err
	}
	return nil, uri.Domain(), nil
}

func (r *rooms) GroupInfo(ctx context.Context, d store.Device, uri mimi.URI, body []byte) ([]byte, error) {
	if r.ours(uri) {
		return r.hub.GroupInfo(ctx, r.cfg.Domain, uri, body)
	}
	return r.replica.GroupInfo(ctx, uri, body)
}

func (r *rooms) KeyMaterial(ctx context.Context, d store.Device, target mimi.URI, body []byte) ([]byte, error) {
	user, _, err := names(d)
	if err != nil {
		return nil, err
	}
	var req mimi.KeyMaterialRequest
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	if req.RequestingUser != user {
		return nil, fmt.Errorf("provider: %w: the request names %s, the device is that of %s", federation.ErrForbidden, req.RequestingUser, user)
	}
	if req.Room.IsZero() || r.ours(req.Room) {
		return r.hub.KeyMaterial(ctx, r.cfg.Domain, target, body)
	}
	return r.replica.KeyMaterial(ctx, target, body)
}
