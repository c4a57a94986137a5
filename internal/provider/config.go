package provider

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/comity-im/comity/mimi"
)

// A Config is the content of a provider's configuration file.
type Config struct {
	// Domain is the provider's name, as in mimi://a.example/u/alice.
	Domain string `toml:"domain"`
	// DataDir holds the database, the CA and the admin socket. It must be on a
	// local disk and is created with mode 0700.
	DataDir string `toml:"data_dir"`
	// Listen is where other providers reach this one, host:port. Behind it:
	// the directory and the MIMI endpoints, over mutual TLS.
	Listen string `toml:"listen"`
	// ClientListen is where the provider's own clients reach it, over TLS.
	ClientListen string `toml:"client_listen"`
	// OpsListen serves /healthz, /readyz and /metrics in the clear; keep it
	// off the internet. Empty: not served.
	OpsListen string `toml:"ops_listen"`
	// PublicURL is what the directory calls this provider's endpoints.
	// Default: https://<domain>.
	PublicURL string `toml:"public_url"`

	TLS        TLSConfig        `toml:"tls"`
	Federation FederationConfig `toml:"federation"`
	Log        LogConfig        `toml:"log"`
}

// A TLSConfig names PEM files. Relative paths are relative to the
// configuration file.
type TLSConfig struct {
	// Certificate and Key authenticate the provider's domain, to clients as
	// well as, in both directions, to other providers.
	Certificate string `toml:"certificate"`
	Key         string `toml:"key"`
	// Roots are trusted to authenticate other providers. Default: the system's.
	Roots string `toml:"roots"`
}

// A FederationConfig says with whom this provider talks.
type FederationConfig struct {
	// Policy is "list" (default: only Peers) or "open" (whoever proves a domain).
	Policy string   `toml:"policy"`
	Peers  []string `toml:"peers"`
	// Resolve maps a peer's domain to the host:port where it is reached, in
	// place of DNS. The peer must still authenticate its domain.
	Resolve map[string]string `toml:"resolve"`
}

// A LogConfig says what is logged, to standard error.
type LogConfig struct {
	Level  string `toml:"level"`  // debug, info (default), warn, error
	Format string `toml:"format"` // text (default), json
}

// ErrConfig is matched by every error about a configuration.
var ErrConfig = errors.New("invalid configuration")

// MaxConfig is the size limit of a configuration file, in octets.
const MaxConfig = 1 << 20

// LoadConfig reads and checks the configuration at path. Unknown keys are
// errors: a misspelt setting must not be silently without effect.
func LoadConfig(path string) (*Config, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if info.Size() > MaxConfig {
		return nil, fmt.Errorf("%w: %s has %d octets; the limit is %d", ErrConfig, path, info.Size(), MaxConfig)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	var c Config
	meta, err := toml.Decode(string(raw), &c)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrConfig, path, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		names := make([]string, len(unknown))
		for i, k := range unknown {
			names[i] = k.String()
		}
		return nil, fmt.Errorf("%w: %s: unknown settings: %s", ErrConfig, path, strings.Join(names, ", "))
	}
	dir := filepath.Dir(path)
	for _, p := range []*string{&c.DataDir, &c.TLS.Certificate, &c.TLS.Key, &c.TLS.Roots} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	if err := c.complete(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrConfig, path, err)
	}
	return &c, nil
}

// complete fills in the defaults and reports everything that is wrong, not
// only the first thing.
func (c *Config) complete() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if domain, err := mimi.ParseDomain(c.Domain); err != nil {
		bad("domain: %w", err)
	} else {
		c.Domain = domain
	}
	if c.DataDir == "" {
		bad("data_dir is missing: name a directory on a local disk")
	}
	for name, addr := range map[string]string{"listen": c.Listen, "client_listen": c.ClientListen} {
		if addr == "" {
			bad("%s is missing: set host:port", name)
		}
	}
	for name, addr := range map[string]string{"listen": c.Listen, "client_listen": c.ClientListen, "ops_listen": c.OpsListen} {
		if addr == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			bad("%s: %w", name, err)
		}
	}
	if c.PublicURL == "" {
		c.PublicURL = "https://" + c.Domain
	}
	if rest, ok := strings.CutPrefix(c.PublicURL, "https://"); !ok || rest == "" {
		bad("public_url: %q does not start with https://", c.PublicURL)
	}
	c.PublicURL = strings.TrimRight(c.PublicURL, "/")
	for name, file := range map[string]string{"tls.certificate": c.TLS.Certificate, "tls.key": c.TLS.Key} {
		if file == "" {
			bad("%s is missing: name a PEM file", name)
		}
	}
	for name, file := range map[string]string{"tls.certificate": c.TLS.Certificate, "tls.key": c.TLS.Key, "tls.roots": c.TLS.Roots} {
		if file == "" {
			continue
		}
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			bad("%s: there is no file %s", name, file)
		} else if err != nil {
			bad("%s: %w", name, err)
		}
	}
	switch c.Federation.Policy {
	case "":
		c.Federation.Policy = "list"
	case "list", "open":
	default:
		bad("federation.policy: %q is neither \"list\" nor \"open\"", c.Federation.Policy)
	}
	for i, p := range c.Federation.Peers {
		domain, err := mimi.ParseDomain(p)
		if err != nil {
			bad("federation.peers: %w", err)
			continue
		}
		c.Federation.Peers[i] = domain
	}
	resolve := map[string]string{}
	for p, addr := range c.Federation.Resolve {
		domain, err := mimi.ParseDomain(p)
		if err != nil {
			bad("federation.resolve: %w", err)
			continue
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			bad("federation.resolve: %s: %w", p, err)
		}
		resolve[domain] = addr
	}
	c.Federation.Resolve = resolve
	switch c.Log.Level {
	case "":
		c.Log.Level = "info"
	case "debug", "info", "warn", "error":
	default:
		bad("log.level: %q is not one of debug, info, warn, error", c.Log.Level)
	}
	switch c.Log.Format {
	case "":
		c.Log.Format = "text"
	case "text", "json":
	default:
		bad("log.format: %q is neither \"text\" nor \"json\"", c.Log.Format)
	}
	return errors.Join(errs...)
}

// Write writes the configuration to a file that LoadConfig reads.
func (c *Config) Write(path string) error {
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(c); err != nil {
		return fmt.Errorf("provider: encoding the configuration: %w", err)
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}
