package sqlite

import (
	"context"

	"github.com/comity-im/comity/internal/store"
)

// PutMail implements store.Mailboxes.
func (s *Store) PutMail(ctx context.Context, mail []store.NewMail) ([]uint64, error) {
	if err := store.ValidateMail(mail); err != nil {
		return nil, err
	}
	return write(ctx, s, store.MailSize(mail), func(t *tx) ([]uint64, error) { return t.mail(s.nowMs(), mail, "", 0) })
}

// mail puts mail. room and position are for mail that does not say its own.
func (t *tx) mail(now uint64, mail []store.NewMail, room string, position uint64) ([]uint64, error) {
	if len(mail) == 0 {
		return nil, nil
	}
	ids := make([]uint64, len(mail))
	for i := range mail {
		m := &mail[i]
		if m.Hash != (store.Hash{}) {
			var id, seen int64
			ok, err := t.row("SELECT mail_id, seen FROM mail_seen WHERE device = ? AND hash = ?", []any{m.Device, m.Hash[:]}, &id, &seen)
			if err != nil {
				return nil, err
			}
			if ok && now < uint64(seen)+store.MailMemory {
				ids[i] = uint64(id)
				continue
			}
		}
		r, pos := m.Room, m.Position
		if r == "" {
			r = room
		}
		if pos == 0 {
			pos = position
		}
		id, err := t.insert("INSERT INTO mail (device, kind, room, pos, body) VALUES (?, ?, ?, ?, ?)",
			m.Device, m.Kind, r, bits(pos), blob(m.Body))
		if err != nil {
			return nil, err
		}
		ids[i] = id
		if m.Hash != (store.Hash{}) {
			if err := t.do(`INSERT INTO mail_seen (device, hash, mail_id, seen) VALUES (?, ?, ?, ?)
				ON CONFLICT (device, hash) DO UPDATE SET mail_id = excluded.mail_id, seen = excluded.seen`,
				m.Device, m.Hash[:], bounded(id), bounded(now)); err != nil {
				return nil, err
			}
		}
		if len(m.KeyPackageRef) > 0 {
			if err := t.do("UPDATE claim SET used = 1 WHERE ref = ?", m.KeyPackageRef); err != nil {
				return nil, err
			}
		}
	}
	return ids, nil
}

// Mail implements store.Mailboxes.
func (s *Store) Mail(ctx context.Context, device string, after uint64, max int) ([]store.Mail, error) {
	var list []store.Mail
	err := s.rows(ctx, "SELECT id, kind, room, pos, body FROM mail WHERE device = ? AND id > ? ORDER BY id LIMIT ?",
		[]any{device, bounded(after), limit(max)}, func(scan func(...any) error) error {
			var m store.Mail
			var id, pos int64
			err := scan(&id, &m.Kind, &m.Room, &pos, &m.Body)
			m.ID, m.Position = uint64(id), uint64(pos)
			list = append(list, m)
			return err
		})
	return list, err
}

// AckMail implements store.Mailboxes.
func (s *Store) AckMail(ctx context.Context, device string, upTo uint64) error {
	return s.exec(ctx, 0, func(t *tx) error {
		return t.do("DELETE FROM mail WHERE device = ? AND id <= ?", device, bounded(upTo))
	})
}
