package sqlite

import (
	"bytes"
	"context"
	"fmt"

	"github.com/comity-im/comity/internal/store"
)

// PutUser implements store.Directory.
func (s *Store) PutUser(ctx context.Context, u store.User) error {
	if err := u.Validate(); err != nil {
		return err
	}
	return s.exec(ctx, len(u.Data), func(t *tx) error {
		return t.do(`INSERT INTO account (uri, name, created, disabled, data) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (uri) DO UPDATE SET name = excluded.name, created = excluded.created, disabled = excluded.disabled, data = excluded.data`,
			u.URI, u.Name, bounded(u.Created), u.Disabled, blob(u.Data))
	})
}

// User implements store.Directory.
func (s *Store) User(ctx context.Context, uri string) (store.User, error) {
	var u store.User
	err := s.one(ctx, "SELECT uri, name, created, disabled, data FROM account WHERE uri = ?", []any{uri}, func(scan func(...any) error) (err error) {
		u, err = scanUser(scan)
		return err
	})
	if err != nil {
		return store.User{}, err
	}
	return u, nil
}

// Users implements store.Directory.
func (s *Store) Users(ctx context.Context, after string, max int) ([]store.User, error) {
	var list []store.User
	err := s.rows(ctx, "SELECT uri, name, created, disabled, data FROM account WHERE uri > ? ORDER BY uri LIMIT ?",
		[]any{after, limit(max)}, func(scan func(...any) error) error {
			u, err := scanUser(scan)
			list = append(list, u)
			return err
		})
	return list, err
}

func scanUser(scan func(...any) error) (u store.User, err error) {
	var created int64
	err = scan(&u.URI, &u.Name, &created, &u.Disabled, &u.Data)
	u.Created = uint64(created)
	return u, err
}

// account makes sure that a user is there.
func (t *tx) account(uri string) error {
	var one int
	ok, err := t.row("SELECT 1 FROM account WHERE uri = ?", []any{uri}, &one)
	if err == nil && !ok {
		return fmt.Errorf("%w: user %s", store.ErrNotFound, uri)
	}
	return err
}

// PutEnrolment implements store.Directory.
func (s *Store) PutEnrolment(ctx context.Context, e store.Enrolment) error {
	if err := e.Validate(); err != nil {
		return err
	}
	return s.exec(ctx, 128, func(t *tx) error {
		if err := t.account(e.User); err != nil {
			return err
		}
		var one int
		ok, err := t.row("SELECT 1 FROM enrolment WHERE code_hash = ?", []any{e.CodeHash[:]}, &one)
		if err != nil {
			return err
		}
		if ok {
			return fmt.Errorf("%w: enrolment code", store.ErrExists)
		}
		return t.do("INSERT INTO enrolment (code_hash, account, expires, device, public_key) VALUES (?, ?, ?, '', ?)",
			e.CodeHash[:], e.User, bounded(e.Expires), []byte{})
	})
}

// Enrolment implements store.Directory.
func (s *Store) Enrolment(ctx context.Context, codeHash store.Hash) (store.Enrolment, error) {
	e := store.Enrolment{CodeHash: codeHash}
	var expires int64
	if err := s.row(ctx, "SELECT account, expires, device FROM enrolment WHERE code_hash = ?", []any{codeHash[:]}, &e.User, &expires, &e.Device); err != nil {
		return store.Enrolment{}, err
	}
	e.Expires = uint64(expires)
	return e, nil
}

// UseEnrolment implements store.Directory.
func (s *Store) UseEnrolment(ctx context.Context, codeHash store.Hash, d store.Device, now uint64) error {
	if err := d.Validate(); err != nil {
		return err
	}
	return s.exec(ctx, len(d.Certificate)+len(d.Data)+256, func(t *tx) error {
		var user, device string
		var expires int64
		var key []byte
		ok, err := t.row("SELECT account, expires, device, public_key FROM enrolment WHERE code_hash = ?", []any{codeHash[:]}, &user, &expires, &device, &key)
		switch {
		case err != nil:
			return err
		case ok && device == d.URI && user == d.User && bytes.Equal(key, d.PublicKey):
			return nil // a repetition
		case !ok || device != "" || user != d.User || expires <= bounded(now):
			return fmt.Errorf("%w: enrolment code", store.ErrNotFound)
		}
		var one int
		if ok, err = t.row("SELECT 1 FROM device WHERE uri = ?", []any{d.URI}, &one); err != nil {
			return err
		}
		if ok {
			return fmt.Errorf("%w: device %s", store.ErrExists, d.URI)
		}
		if err := t.do("UPDATE enrolment SET device = ?, public_key = ? WHERE code_hash = ?", d.URI, blob(d.PublicKey), codeHash[:]); err != nil {
			return err
		}
		return t.do(`INSERT INTO device (uri, account, name, public_key, cipher_suite, certificate, created, revoked, data)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, d.URI, d.User, d.Name, blob(d.PublicKey), d.CipherSuite, blob(d.Certificate),
			bounded(d.Created), bounded(d.Revoked), blob(d.Data))
	})
}

const selectDevice = "SELECT uri, account, name, public_key, cipher_suite, certificate, created, revoked, data FROM device"

// Device implements store.Directory.
func (s *Store) Device(ctx context.Context, uri string) (store.Device, error) {
	if err := s.usable(); err != nil {
		return store.Device{}, err
	}
	d, mark, ok := s.devices.get(uri)
	if ok {
		return d, nil
	}
	err := s.one(ctx, selectDevice+" WHERE uri = ?", []any{uri}, func(scan func(...any) error) (err error) {
		d, err = scanDevice(scan)
		return err
	})
	if err != nil {
		return store.Device{}, err
	}
	s.devices.put(d, mark)
	return d, nil
}

// changeDevice is exec for what the cache of devices has to forget. It waits
// for the outcome even if ctx ends: a change that is committed later would not
// be noticed.
func (s *Store) changeDevice(ctx context.Context, uri string, size int, fn func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer s.devices.forget(uri)
	return s.exec(context.WithoutCancel(ctx), size, fn)
}

// Devices implements store.Directory.
func (s *Store) Devices(ctx context.Context, user string) ([]store.Device, error) {
	var list []store.Device
	err := s.rows(ctx, selectDevice+" WHERE account = ? ORDER BY uri", []any{user}, func(scan func(...any) error) error {
		d, err := scanDevice(scan)
		list = append(list, d)
		return err
	})
	return list, err
}

func scanDevice(scan func(...any) error) (d store.Device, err error) {
	var created, revoked int64
	err = scan(&d.URI, &d.User, &d.Name, &d.PublicKey, &d.CipherSuite, &d.Certificate, &created, &revoked, &d.Data)
	d.Created, d.Revoked = uint64(created), uint64(revoked)
	return d, err
}

// PutDevice implements store.Directory.
func (s *Store) PutDevice(ctx context.Context, d store.Device) error {
	if err := d.Validate(); err != nil {
		return err
	}
	return s.changeDevice(ctx, d.URI, len(d.Certificate)+len(d.Data)+256, func(t *tx) error {
		var user string
		ok, err := t.row("SELECT account FROM device WHERE uri = ?", []any{d.URI}, &user)
		switch {
		case err != nil:
			return err
		case !ok:
			return fmt.Errorf("%w: device %s", store.ErrNotFound, d.URI)
		case user != d.User:
			return fmt.Errorf("%w: device %s belongs to another user", store.ErrInvalid, d.URI)
		}
		return t.do(`UPDATE device SET name = ?, public_key = ?, cipher_suite = ?, certificate = ?, created = ?, revoked = ?, data = ? WHERE uri = ?`,
			d.Name, blob(d.PublicKey), d.CipherSuite, blob(d.Certificate), bounded(d.Created), bounded(d.Revoked), blob(d.Data), d.URI)
	})
}

// RemoveDevice implements store.Directory.
func (s *Store) RemoveDevice(ctx context.Context, uri string) error {
	return s.changeDevice(ctx, uri, 256, func(t *tx) error {
		for _, q := range []string{
			"DELETE FROM key_package WHERE device = ?",
			"DELETE FROM mail WHERE device = ?",
			"DELETE FROM mail_seen WHERE device = ?",
			"DELETE FROM device WHERE uri = ?",
		} {
			if err := t.do(q, uri); err != nil {
				return err
			}
		}
		return nil
	})
}
