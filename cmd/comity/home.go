package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/client/sqlitestore"
)

// Files of a home.
const (
	profileFile = "profile.json"
	rootsFile   = "roots.pem"
	storeFile   = "device.db"
	keyFile     = "device.key"
)

// passphraseVariable names the environment variable with the passphrase of
// the store. Without it the key lies beside the store.
const passphraseVariable = "COMITY_PASSPHRASE"

// A profile says how the device of a home reaches its provider.
type profile struct {
	Provider string `json:"provider"`          // root of the client API
	Address  string `json:"address,omitempty"` // host:port in place of the URL's host
	Roots    bool   `json:"roots,omitempty"`   // roots.pem in place of the system's authorities
}

func homeFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "home", "", "folder of the device (default $XDG_DATA_HOME/comity or ~/.local/share/comity)")
	_ = cmd.MarkFlagDirname("home")
}

// homeDir returns the folder that a command works with.
func homeDir(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	if data := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "comity"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", usage(fmt.Errorf("there is no home directory: %w; name a folder with --home", err))
	}
	return filepath.Join(home, ".local", "share", "comity"), nil
}

// A home is an open device: its store, and what reaches its provider.
type home struct {
	dir       string
	store     *sqlitestore.Store
	transport *client.HTTPTransport
	roots     *x509.CertPool
}

var errNoHome = errors.New("there is no device")

// openHome opens the device in a folder.
func openHome(ctx context.Context, dir string) (*home, error) {
	raw, err := os.ReadFile(filepath.Join(dir, profileFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s; enrol one with \"comity enrol\", or name another folder with --home", errNoHome, dir)
	}
	if err != nil {
		return nil, err
	}
	var p profile
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, profileFile), err)
	}
	return p.open(ctx, dir)
}

// open opens the store and prepares the transport.
func (p *profile) open(ctx context.Context, dir string) (*home, error) {
	h := &home{dir: dir}
	var err error
	if p.Roots {
		if h.roots, err = loadRoots(filepath.Join(dir, rootsFile)); err != nil {
			return nil, err
		}
	} else if h.roots, err = x509.SystemCertPool(); err != nil {
		return nil, fmt.Errorf("the system's authorities can't be read: %w; name them with --roots", err)
	}
	h.transport, err = client.NewHTTPTransport(client.HTTPConfig{URL: p.Provider, Address: p.Address, Roots: h.roots})
	if err != nil {
		return nil, usage(err)
	}
	key, err := storeKey(dir)
	if err != nil {
		return nil, err
	}
	h.store, err = sqlitestore.Open(ctx, filepath.Join(dir, storeFile), key)
	switch {
	case errors.Is(err, sqlitestore.ErrLocked):
		return nil, fmt.Errorf("the device in %s is in use by another comity: %w", dir, err)
	case errors.Is(err, sqlitestore.ErrWrongKey):
		return nil, fmt.Errorf("the device in %s does not open: %w (the passphrase is taken from %s, else the key from %s)",
			dir, err, passphraseVariable, filepath.Join(dir, keyFile))
	case err != nil:
		return nil, err
	}
	return h, nil
}

// storeKey returns what opens the store. A key file is made only together
// with the store: a store without its key would not open with a new one.
func storeKey(dir string) (sqlitestore.KeySource, error) {
	if text := os.Getenv(passphraseVariable); text != "" {
		return sqlitestore.Passphrase(text), nil
	}
	file := filepath.Join(dir, keyFile)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, storeFile)); err == nil {
			return nil, fmt.Errorf("%s is missing: set %s if the device in %s has a passphrase", file, passphraseVariable, dir)
		}
	}
	return sqlitestore.KeyFile(file)
}

func loadRoots(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return pool, nil
}

// config returns what the client needs from this home.
func (h *home) config() client.Config {
	return client.Config{Transport: h.transport, Store: h.store, Roots: h.roots}
}

func (h *home) Close() error {
	h.transport.CloseIdle()
	return h.store.Close()
}
