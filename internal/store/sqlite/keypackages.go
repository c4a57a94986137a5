package sqlite

import (
	"context"
	"fmt"

	"github.com/comity-im/comity/internal/store"
)

// PublishKeyPackages implements store.KeyPackages.
func (s *Store) PublishKeyPackages(ctx context.Context, device string, kps []store.KeyPackage) (int, error) {
	if err := store.ValidateKeyPackages(device, kps); err != nil {
		return 0, err
	}
	size := 0
	for i := range kps {
		size += len(kps[i].Body) + 128
	}
	return write(ctx, s, size, func(t *tx) (int, error) {
		var one int
		ok, err := t.row("SELECT 1 FROM device WHERE uri = ?", []any{device}, &one)
		if err != nil {
			return 0, err
		}
		if !ok {
			return 0, fmt.Errorf("%w: device %s", store.ErrNotFound, device)
		}
		added := 0
		for i := range kps {
			kp := &kps[i]
			known, err := t.row("SELECT 1 FROM key_package WHERE ref = ? UNION ALL SELECT 1 FROM claim WHERE ref = ?", []any{kp.Ref, kp.Ref}, &one)
			if err != nil {
				return 0, err
			}
			if known {
				continue
			}
			if err := t.do("INSERT INTO key_package (device, ref, suite, not_after, body) VALUES (?, ?, ?, ?, ?)",
				device, kp.Ref, kp.Suite, bounded(kp.NotAfter), blob(kp.Body)); err != nil {
				return 0, err
			}
			added++
		}
		return added, nil
	})
}

// CountKeyPackages implements store.KeyPackages.
func (s *Store) CountKeyPackages(ctx context.Context, device string, now uint64) (int, error) {
	var n int
	err := s.row(ctx, countKeyPackages, []any{device, bounded(now)}, &n)
	return n, err
}

const countKeyPackages = "SELECT count(*) FROM key_package WHERE device = ? AND not_after > ?"

// ClaimKeyPackages implements store.KeyPackages.
func (s *Store) ClaimKeyPackages(ctx context.Context, req store.ClaimRequest) ([]store.Claimed, error) {
	if err := req.Validate(); err != nil {
		return nil, err
	}
	return write(ctx, s, 4096, func(t *tx) ([]store.Claimed, error) {
		if err := t.account(req.User); err != nil {
			return nil, err
		}
		if list, err := t.answer(&req); err != nil || list != nil {
			return list, err
		}
		return t.claim(&req)
	})
}

// answer gives the answer to the same request of before, if it may be given again.
func (t *tx) answer(req *store.ClaimRequest) ([]store.Claimed, error) {
	if req.RequestHash == (store.Hash{}) {
		return nil, nil
	}
	var list []store.Claimed
	var again = true
	// A route that is gone counts as used.
	err := t.rows(`SELECT a.account, a.device, a.status, a.ref, a.suite, a.not_after, a.remaining, a.body, a.repeat_until, coalesce(c.used, 1)
		FROM answer AS a LEFT JOIN claim AS c ON c.ref = a.ref WHERE a.request_hash = ? ORDER BY a.device`,
		[]any{req.RequestHash[:]}, func(scan func(...any) error) error {
			var c store.Claimed
			var account string
			var notAfter, until int64
			var used bool
			err := scan(&account, &c.Device, &c.Status, &c.Ref, &c.Suite, &notAfter, &c.Left, &c.Body, &until, &used)
			c.NotAfter = uint64(notAfter)
			if c.Status != store.ClaimOK {
				c.Body = nil
			} else if used {
				again = false
			}
			if account != req.User || until <= bounded(req.Now) {
				again = false
			}
			list = append(list, c)
			return err
		})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	if again {
		return list, nil
	}
	return nil, t.do("DELETE FROM answer WHERE request_hash = ?", req.RequestHash[:])
}

// claim takes a KeyPackage of each device.
func (t *tx) claim(req *store.ClaimRequest) ([]store.Claimed, error) {
	list := []store.Claimed{}
	err := t.rows("SELECT uri FROM device WHERE account = ? AND revoked = 0 ORDER BY uri", []any{req.User}, func(scan func(...any) error) error {
		var c store.Claimed
		err := scan(&c.Device)
		list = append(list, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	any := false
	for i := range list {
		if err := t.claimOne(req, &list[i]); err != nil {
			return nil, err
		}
		any = any || list[i].Status == store.ClaimOK
	}
	if !any || req.RequestHash == (store.Hash{}) {
		return list, nil
	}
	for i := range list {
		c := &list[i]
		var ref []byte // NULL when there is none
		if c.Status == store.ClaimOK {
			ref = c.Ref
		}
		if err := t.do(`INSERT INTO answer (request_hash, account, device, status, ref, suite, not_after, remaining, body, repeat_until)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, req.RequestHash[:], req.User, c.Device, c.Status, ref, c.Suite,
			bounded(c.NotAfter), c.Left, blob(c.Body), bounded(req.RepeatUntil)); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (t *tx) claimOne(req *store.ClaimRequest, c *store.Claimed) error {
	now := bounded(req.Now)
	var id, notAfter int64
	found := false
	for _, suite := range req.Suites {
		var err error
		found, err = t.row("SELECT id, ref, not_after, body FROM key_package WHERE device = ? AND suite = ? AND not_after > ? ORDER BY id LIMIT 1",
			[]any{c.Device, suite, now}, &id, &c.Ref, &notAfter, &c.Body)
		if err != nil {
			return err
		}
		if found {
			c.Suite, c.NotAfter, c.Status = suite, uint64(notAfter), store.ClaimOK
			break
		}
	}
	if found {
		if err := t.do("DELETE FROM key_package WHERE id = ?", id); err != nil {
			return err
		}
		if err := t.route(&store.ClaimRoute{Ref: c.Ref, Target: c.Device, Room: req.Room, NotAfter: c.NotAfter}); err != nil {
			return err
		}
	}
	if _, err := t.row(countKeyPackages, []any{c.Device, now}, &c.Left); err != nil {
		return err
	}
	switch {
	case found:
	case c.Left > 0:
		c.Status = store.ClaimIncompatible
	default:
		c.Status = store.ClaimExhausted
	}
	return nil
}

// PutClaims implements store.KeyPackages.
func (s *Store) PutClaims(ctx context.Context, routes []store.ClaimRoute) error {
	if err := store.ValidateRoutes(routes); err != nil {
		return err
	}
	return s.exec(ctx, 256*len(routes), func(t *tx) error {
		for i := range routes {
			if err := t.route(&routes[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *tx) route(r *store.ClaimRoute) error {
	return t.do("INSERT INTO claim (ref, target, room, not_after, used) VALUES (?, ?, ?, ?, 0) ON CONFLICT (ref) DO NOTHING",
		r.Ref, r.Target, r.Room, bounded(r.NotAfter))
}

// Claim implements store.KeyPackages.
func (s *Store) Claim(ctx context.Context, ref []byte) (store.ClaimRoute, error) {
	var r store.ClaimRoute
	var notAfter int64
	if err := s.row(ctx, "SELECT ref, target, room, not_after FROM claim WHERE ref = ?", []any{blob(ref)}, &r.Ref, &r.Target, &r.Room, &notAfter); err != nil {
		return store.ClaimRoute{}, err
	}
	r.NotAfter = uint64(notAfter)
	return r, nil
}
