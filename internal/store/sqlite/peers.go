package sqlite

import (
	"context"

	"github.com/comity-im/comity/internal/store"
)

// through is the last position of a window that is there to be received.
const through = "(CASE w.to_pos WHEN 0 THEN r.head ELSE w.to_pos END)"

// peer opens or closes the window of a domain.
func (t *tx) peer(room int64, p *store.PeerChange, opens, closes uint64) error {
	var id, from, acked int64
	open, err := t.row("SELECT id, from_pos, acked FROM peer_window WHERE room_id = ? AND domain = ? AND to_pos = 0",
		[]any{room, p.Domain}, &id, &from, &acked)
	switch {
	case err != nil || open == p.Active:
		return err
	case p.Active:
		return t.do(`INSERT INTO peer_window (room_id, domain, from_pos, to_pos, acked) VALUES (?, ?, ?, 0, ?)
			ON CONFLICT (room_id, domain, from_pos) DO UPDATE SET to_pos = 0`,
			room, p.Domain, bounded(opens), bounded(opens-1))
	case closes <= uint64(acked) || closes < uint64(from): // nothing is left to receive
		return t.do("DELETE FROM peer_window WHERE id = ?", id)
	}
	return t.do("UPDATE peer_window SET to_pos = ? WHERE id = ?", bounded(closes), id)
}

// Lagging implements store.Peers.
func (s *Store) Lagging(ctx context.Context, now uint64) ([]string, error) {
	return s.domains(ctx, `SELECT w.domain FROM peer_window AS w JOIN room AS r ON r.id = w.room_id WHERE w.acked < `+through+`
		UNION SELECT domain FROM request WHERE not_before <= ? ORDER BY 1`, bounded(now))
}

// RoomPeers implements store.Peers.
func (s *Store) RoomPeers(ctx context.Context, room string) ([]string, error) {
	id, _, err := s.find(ctx, room)
	if err != nil {
		return nil, err
	}
	return s.domains(ctx, "SELECT domain FROM peer_window WHERE room_id = ? AND to_pos = 0 ORDER BY domain", id)
}

func (s *Store) domains(ctx context.Context, query string, arg any) ([]string, error) {
	var list []string
	err := s.rows(ctx, query, []any{arg}, func(scan func(...any) error) error {
		var d string
		err := scan(&d)
		list = append(list, d)
		return err
	})
	return list, err
}

// PeerCursors implements store.Peers.
func (s *Store) PeerCursors(ctx context.Context, domain, afterRoom string, max int) ([]store.PeerCursor, error) {
	var list []store.PeerCursor
	rooms, last := 0, ""
	err := s.rows(ctx, `SELECT r.uri, w.acked, `+through+` FROM peer_window AS w JOIN room AS r ON r.id = w.room_id
		WHERE w.domain = ? AND r.uri > ? AND w.acked < `+through+` ORDER BY r.uri, w.from_pos`,
		[]any{domain, afterRoom}, func(scan func(...any) error) error {
			var c store.PeerCursor
			var after, to int64
			if err := scan(&c.Room, &after, &to); err != nil {
				return err
			}
			if c.Room != last {
				if max > 0 && rooms == max {
					return errEnough
				}
				rooms, last = rooms+1, c.Room
			}
			c.After, c.Through = uint64(after), uint64(to)
			list = append(list, c)
			return nil
		})
	return list, err
}

// AdvancePeer implements store.Peers.
func (s *Store) AdvancePeer(ctx context.Context, domain, room string, position uint64) error {
	return s.exec(ctx, 128, func(t *tx) error {
		type window struct{ id, acked, to, end int64 }
		var windows []window
		err := t.rows(`SELECT w.id, w.acked, w.to_pos, `+through+` FROM room AS r JOIN peer_window AS w ON w.room_id = r.id
			WHERE r.uri = ? AND w.domain = ?`, []any{room, domain}, func(scan func(...any) error) error {
			var w window
			err := scan(&w.id, &w.acked, &w.to, &w.end)
			windows = append(windows, w)
			return err
		})
		if err != nil {
			return err
		}
		for _, w := range windows {
			acked := min(bounded(position), w.end)
			switch {
			case acked <= w.acked:
			case w.to != 0 && acked >= w.to:
				err = t.do("DELETE FROM peer_window WHERE id = ?", w.id)
			default:
				err = t.do("UPDATE peer_window SET acked = ? WHERE id = ?", acked, w.id)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Enqueue implements store.Requests.
func (s *Store) Enqueue(ctx context.Context, reqs []store.NewRequest) ([]uint64, error) {
	if err := store.ValidateRequests(reqs); err != nil {
		return nil, err
	}
	return write(ctx, s, store.RequestsSize(reqs), func(t *tx) ([]uint64, error) { return t.enqueue(reqs) })
}

func (t *tx) enqueue(reqs []store.NewRequest) ([]uint64, error) {
	if len(reqs) == 0 {
		return nil, nil
	}
	ids := make([]uint64, len(reqs))
	for i := range reqs {
		r := &reqs[i]
		if r.Hash != (store.Hash{}) {
			var id int64
			ok, err := t.row("SELECT id FROM request WHERE domain = ? AND hash = ?", []any{r.Domain, r.Hash[:]}, &id)
			if err != nil {
				return nil, err
			}
			if ok {
				ids[i] = uint64(id)
				continue
			}
		}
		var err error
		ids[i], err = t.insert("INSERT INTO request (domain, room, kind, device, hash, not_before, attempts, body) VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
			r.Domain, r.Room, r.Kind, r.Device, hashOrNull(r.Hash), bounded(r.NotBefore), blob(r.Body))
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// Queued implements store.Requests.
func (s *Store) Queued(ctx context.Context, domain string, after uint64, max int) ([]store.Request, error) {
	var list []store.Request
	err := s.rows(ctx, `SELECT id, domain, room, kind, device, hash, not_before, attempts, body FROM request
		WHERE domain = ? AND id > ? ORDER BY id LIMIT ?`, []any{domain, bounded(after), limit(max)}, func(scan func(...any) error) error {
		var r store.Request
		var id, notBefore int64
		var hash []byte
		err := scan(&id, &r.Domain, &r.Room, &r.Kind, &r.Device, &hash, &notBefore, &r.Attempts, &r.Body)
		copy(r.Hash[:], hash)
		r.ID, r.NotBefore = uint64(id), uint64(notBefore)
		list = append(list, r)
		return err
	})
	return list, err
}

// RetryRequest implements store.Requests.
func (s *Store) RetryRequest(ctx context.Context, id, notBefore uint64) error {
	return s.exec(ctx, 0, func(t *tx) error {
		if err := t.request(id); err != nil {
			return err
		}
		return t.do("UPDATE request SET attempts = attempts + 1, not_before = ? WHERE id = ?", bounded(notBefore), bounded(id))
	})
}

// FinishRequest implements store.Requests.
func (s *Store) FinishRequest(ctx context.Context, id uint64, mail []store.NewMail) ([]uint64, error) {
	if err := store.ValidateMail(mail); err != nil {
		return nil, err
	}
	return write(ctx, s, store.MailSize(mail), func(t *tx) ([]uint64, error) {
		if err := t.request(id); err != nil {
			return nil, err
		}
		if err := t.do("DELETE FROM request WHERE id = ?", bounded(id)); err != nil {
			return nil, err
		}
		return t.mail(s.nowMs(), mail, "", 0)
	})
}

// request makes sure that a request is there.
func (t *tx) request(id uint64) error {
	var one int
	ok, err := t.row("SELECT 1 FROM request WHERE id = ?", []any{bounded(id)}, &one)
	if err == nil && !ok {
		return store.ErrNotFound
	}
	return err
}
