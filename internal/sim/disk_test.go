package sim

import (
	"context"
	"crypto/rand"
	"sync/atomic"

	"github.com/comity-im/comity/internal/store"
)

// A disk is the store of a provider as the provider sees it. It tells the
// oracle of new rooms, and can die: then nothing is written any more, as when a
// process was killed.
type disk struct {
	store.Store
	w      *world
	domain string
	dead   atomic.Bool
}

// write does a writing call unless the disk is dead, before or after: then the
// outcome is unknown, as the contract says.
func write[T any](d *disk, f func() (T, error)) (T, error) {
	var zero T
	if d.dead.Load() {
		return zero, store.ErrBroken
	}
	v, err := f()
	if d.dead.Load() {
		return zero, store.ErrBroken
	}
	return v, err
}

func none(f func() error) func() (struct{}, error) {
	return func() (struct{}, error) { return struct{}{}, f() }
}

func (d *disk) CreateRoom(ctx context.Context, req store.CreateRoom) (store.AppendResult, error) {
	if req.IsHub {
		d.w.oracle.created(&req)
	}
	return write(d, func() (store.AppendResult, error) { return d.Store.CreateRoom(ctx, req) })
}

func (d *disk) Append(ctx context.Context, req store.Append) (store.AppendResult, error) {
	if d.w.opts.lie == lieForgetful && d.domain != hubOf(req.Room) {
		for i := range req.Events {
			if _, err := d.Store.FindEvent(ctx, req.Room, req.Events[i].Hash); err == nil {
				_, _ = rand.Read(req.Events[i].Hash[:])
				d.w.net.lies("%s takes a message a second time", d.domain)
			}
		}
	}
	return write(d, func() (store.AppendResult, error) { return d.Store.Append(ctx, req) })
}

func (d *disk) PutMail(ctx context.Context, mail []store.NewMail) ([]uint64, error) {
	return write(d, func() ([]uint64, error) { return d.Store.PutMail(ctx, mail) })
}

func (d *disk) AckMail(ctx context.Context, device string, upTo uint64) error {
	_, err := write(d, none(func() error { return d.Store.AckMail(ctx, device, upTo) }))
	return err
}

func (d *disk) AdvancePeer(ctx context.Context, domain, room string, position uint64) error {
	_, err := write(d, none(func() error { return d.Store.AdvancePeer(ctx, domain, room, position) }))
	return err
}

func (d *disk) Enqueue(ctx context.Context, reqs []store.NewRequest) ([]uint64, error) {
	return write(d, func() ([]uint64, error) { return d.Store.Enqueue(ctx, reqs) })
}

func (d *disk) RetryRequest(ctx context.Context, id, notBefore uint64) error {
	_, err := write(d, none(func() error { return d.Store.RetryRequest(ctx, id, notBefore) }))
	return err
}

func (d *disk) FinishRequest(ctx context.Context, id uint64, mail []store.NewMail) ([]uint64, error) {
	return write(d, func() ([]uint64, error) { return d.Store.FinishRequest(ctx, id, mail) })
}

func (d *disk) PublishKeyPackages(ctx context.Context, device string, kps []store.KeyPackage) (int, error) {
	return write(d, func() (int, error) { return d.Store.PublishKeyPackages(ctx, device, kps) })
}

func (d *disk) ClaimKeyPackages(ctx context.Context, req store.ClaimRequest) ([]store.Claimed, error) {
	return write(d, func() ([]store.Claimed, error) { return d.Store.ClaimKeyPackages(ctx, req) })
}

func (d *disk) PutClaims(ctx context.Context, routes []store.ClaimRoute) error {
	_, err := write(d, none(func() error { return d.Store.PutClaims(ctx, routes) }))
	return err
}
