package sqlite

import (
	"context"

	"github.com/comity-im/comity/internal/store"
)

// expireRows is how many rows one transaction of Expire removes, so that others
// need not wait for it long.
const expireRows = 500

// Expire implements store.Store. It takes several transactions.
func (s *Store) Expire(ctx context.Context, now uint64) error {
	forgotten := uint64(0)
	if now > store.MailMemory {
		forgotten = now - store.MailMemory
	}
	for _, e := range []struct {
		query string
		at    uint64
	}{
		{"DELETE FROM key_package WHERE id IN (SELECT id FROM key_package WHERE not_after <= ? LIMIT ?)", now},
		{"DELETE FROM claim WHERE id IN (SELECT id FROM claim WHERE not_after <= ? LIMIT ?)", now},
		{"DELETE FROM answer WHERE id IN (SELECT id FROM answer WHERE repeat_until <= ? LIMIT ?)", now},
		{"DELETE FROM enrolment WHERE code_hash IN (SELECT code_hash FROM enrolment WHERE expires <= ? LIMIT ?)", now},
		{"DELETE FROM mail_seen WHERE (device, hash) IN (SELECT device, hash FROM mail_seen WHERE seen <= ? LIMIT ?)", forgotten},
	} {
		for {
			n, err := write(ctx, s, 0, func(t *tx) (int64, error) {
				res, err := t.exec(e.query, bounded(e.at), expireRows)
				if err != nil {
					return 0, err
				}
				return res.RowsAffected()
			})
			if err != nil {
				return err
			}
			if n < expireRows {
				break
			}
		}
	}
	return nil
}
