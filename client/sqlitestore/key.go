package sqlitestore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Key derivations of the header.
const (
	kdfArgon2id = 1 // passphrase
	kdfKeyFile  = 2 // 32 random octets
)

// Argon2id parameters for new headers: the second recommendation of RFC 9106
// section 4. Those of an existing header are read from it.
const (
	argonTime    = 3
	argonMemory  = 64 << 10 // KiB
	argonThreads = 4
)

// Bounds on the parameters of a header, so that a file made by someone else
// can't exhaust the machine.
const (
	maxArgonTime   = 64
	maxArgonMemory = 1 << 20 // KiB
)

// A KeySource yields the key that wraps the data key. See Passphrase and
// KeyFile.
type KeySource interface {
	kdf() int
	// derive returns a fresh copy of the wrapping key.
	derive(h *header) ([]byte, error)
}

type passphrase struct {
	text                  []byte
	time, memory, threads uint32
}

// Passphrase derives the key from a passphrase. An empty passphrase protects
// nothing and is refused.
func Passphrase(text string) KeySource {
	return &passphrase{[]byte(text), argonTime, argonMemory, argonThreads}
}

func (p *passphrase) kdf() int { return kdfArgon2id }

func (p *passphrase) derive(h *header) ([]byte, error) {
	if len(p.text) == 0 {
		return nil, errors.New("sqlitestore: the passphrase is empty")
	}
	return argon2.IDKey(p.text, h.salt, h.time, h.memory, uint8(h.threads), 32), nil
}

type keyFile struct{ key []byte }

func (k *keyFile) kdf() int { return kdfKeyFile }

func (k *keyFile) derive(*header) ([]byte, error) { return append([]byte(nil), k.key...), nil }

// KeyFile reads the key from a file of 64 hexadecimal digits. If there is no
// such file it is created, readable by its owner only.
func KeyFile(path string) (KeySource, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return createKeyFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: key file: %w", err)
	}
	defer clear(text)
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != dataKeySize {
		return nil, fmt.Errorf("sqlitestore: key file %s must hold 64 hexadecimal digits", path)
	}
	return &keyFile{key}, nil
}

func createKeyFile(path string) (KeySource, error) {
	key := make([]byte, dataKeySize)
	rand.Read(key)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: key file: %w", err)
	}
	_, err = fmt.Fprintln(f, hex.EncodeToString(key))
	// Losing the key file loses the store, so it is on the medium first.
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: key file: %w", err)
	}
	return &keyFile{key}, nil
}

// A header says how the data key is wrapped.
type header struct {
	kdf     int
	salt    []byte
	time    uint32
	memory  uint32
	threads uint32
	wrapped []byte
}

func newHeader(key KeySource) (*header, []byte, error) {
	data := make([]byte, dataKeySize)
	rand.Read(data)
	h, err := wrapHeader(key, data)
	return h, data, err
}

func wrapHeader(key KeySource, data []byte) (*header, error) {
	h := &header{kdf: key.kdf(), salt: make([]byte, 16)}
	rand.Read(h.salt)
	if p, ok := key.(*passphrase); ok {
		h.time, h.memory, h.threads = p.time, p.memory, p.threads
	}
	kek, err := key.derive(h)
	if err != nil {
		return nil, err
	}
	defer clear(kek)
	aead, err := newGCM(kek)
	if err != nil {
		return nil, err
	}
	h.wrapped = aead.Seal(nil, nil, data, h.aad())
	return h, nil
}

func (h *header) unwrap(key KeySource) ([]byte, error) {
	if h.kdf != key.kdf() {
		want := "a passphrase"
		if h.kdf == kdfKeyFile {
			want = "a key file"
		}
		return nil, fmt.Errorf("%w: this store opens with %s", ErrWrongKey, want)
	}
	if h.kdf == kdfArgon2id && (h.time < 1 || h.time > maxArgonTime || h.memory < 8 || h.memory > maxArgonMemory || h.threads < 1 || h.threads > 255) {
		return nil, fmt.Errorf("%w: key derivation parameters", ErrCorrupt)
	}
	kek, err := key.derive(h)
	if err != nil {
		return nil, err
	}
	defer clear(kek)
	aead, err := newGCM(kek)
	if err != nil {
		return nil, err
	}
	data, err := aead.Open(nil, nil, h.wrapped, h.aad())
	if err != nil || len(data) != dataKeySize {
		return nil, ErrWrongKey
	}
	return data, nil
}

func (h *header) aad() []byte {
	return fmt.Appendf(nil, "header %d %d %x %d %d %d", formatVersion, h.kdf, h.salt, h.time, h.memory, h.threads)
}

func readHeader(ctx context.Context, conn *sql.Conn) (*header, error) {
	var h header
	var version int
	err := conn.QueryRowContext(ctx, "SELECT version, kdf, salt, time, memory, threads, wrapped FROM header WHERE id = 1").
		Scan(&version, &h.kdf, &h.salt, &h.time, &h.memory, &h.threads, &h.wrapped)
	if err != nil {
		return nil, err
	}
	if version != formatVersion {
		return nil, ErrVersion
	}
	return &h, nil
}

func (h *header) write(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, `INSERT INTO header (id, version, kdf, salt, time, memory, threads, wrapped) VALUES (1, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET version = excluded.version, kdf = excluded.kdf, salt = excluded.salt, time = excluded.time,
memory = excluded.memory, threads = excluded.threads, wrapped = excluded.wrapped`,
		formatVersion, h.kdf, h.salt, h.time, h.memory, h.threads, h.wrapped)
	if err != nil {
		return fmt.Errorf("sqlitestore: write header: %w", err)
	}
	return nil
}
