package sqlite

import (
	"context"

	"github.com/comity-im/comity/internal/store"
)

// Setting implements store.Settings.
func (s *Store) Setting(ctx context.Context, key string) ([]byte, error) {
	var value []byte
	if err := s.row(ctx, "SELECT value FROM setting WHERE key = ?", []any{key}, &value); err != nil {
		return nil, err
	}
	return value, nil
}

// PutSetting implements store.Settings.
func (s *Store) PutSetting(ctx context.Context, key string, value []byte) error {
	if err := checkSetting(key, value); err != nil {
		return err
	}
	return s.exec(ctx, len(value), func(t *tx) error {
		return t.do("INSERT INTO setting (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, blob(value))
	})
}

// InitSetting implements store.Settings.
func (s *Store) InitSetting(ctx context.Context, key string, value []byte) ([]byte, error) {
	if err := checkSetting(key, value); err != nil {
		return nil, err
	}
	return write(ctx, s, len(value), func(t *tx) ([]byte, error) {
		var there []byte
		ok, err := t.row("SELECT value FROM setting WHERE key = ?", []any{key}, &there)
		if ok || err != nil {
			return there, err
		}
		if err := t.do("INSERT INTO setting (key, value) VALUES (?, ?)", key, blob(value)); err != nil {
			return nil, err
		}
		return append([]byte{}, value...), nil
	})
}

// DeleteSetting implements store.Settings.
func (s *Store) DeleteSetting(ctx context.Context, key string) error {
	return s.exec(ctx, 0, func(t *tx) error {
		return t.do("DELETE FROM setting WHERE key = ?", key)
	})
}

func checkSetting(key string, value []byte) error {
	if err := store.CheckName("setting", key); err != nil {
		return err
	}
	return store.CheckValue("setting", value)
}
