package client

import (
	"crypto/x509"
	"errors"
	"log/slog"
	"time"

	"github.com/comity-im/comity/mls"
)

// Config says how a device works. Transport and Store are required, and so
// is Roots or Credentials.
type Config struct {
	// Transport reaches the device's own provider. The client does not
	// close it.
	Transport Transport
	// Store remembers. The client does not close it.
	Store Store

	// Roots are the authorities that vouch for providers' domains; a
	// provider proves with a certificate from them which CA certifies its
	// users. It is used only if Credentials is nil.
	Roots *x509.CertPool
	// Credentials decides which certificates are good. nil means: by
	// anchors that are fetched through the provider, verified against
	// Roots, and pinned in the Store. Many devices in one process may share
	// one verifier, and its caches; see NewVerifier.
	Credentials mls.CredentialVerifier

	// Now is the clock, default time.Now.
	Now func() time.Time
	// Log receives what operators want to know, never secrets or content.
	// Default: nothing.
	Log *slog.Logger

	// CipherSuite is that of a new device, default 0x0001.
	CipherSuite mls.CipherSuite
	// KeyPackages is how many unused KeyPackages the provider should hold,
	// default 20, at most 100; negative: none, nobody can add the device.
	KeyPackages int
	// KeyPackageLifetime is how long a KeyPackage may be used, default 30
	// days, but never longer than the device's certificate.
	KeyPackageLifetime time.Duration
	// AutoCommit is the longest of the random delays after which the device
	// commits others' proposals, default 3 s. Negative: it commits them only
	// when it has something to send.
	AutoCommit time.Duration
	// RetryMin and RetryMax bound the delays between attempts while the
	// provider is not reachable; each is random and twice the one before.
	// Defaults 500 ms and 1 min.
	RetryMin, RetryMax time.Duration
	// Limits bounds what a group may ask of the device.
	Limits mls.Limits
}

func (c Config) withDefaults() (Config, error) {
	if c.Transport == nil || c.Store == nil {
		return c, errors.New("client: Config needs a Transport and a Store")
	}
	if c.Roots == nil && c.Credentials == nil {
		return c, errors.New("client: Config needs Roots or Credentials to tell good certificates from bad ones")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.CipherSuite == 0 {
		c.CipherSuite = mls.CipherSuite(1)
	}
	if c.KeyPackages == 0 {
		c.KeyPackages = 20
	}
	c.KeyPackages = min(c.KeyPackages, 100)
	if c.KeyPackageLifetime <= 0 {
		c.KeyPackageLifetime = 30 * 24 * time.Hour
	}
	if c.AutoCommit == 0 {
		c.AutoCommit = 3 * time.Second
	}
	if c.RetryMin <= 0 {
		c.RetryMin = 500 * time.Millisecond
	}
	if c.RetryMax < c.RetryMin {
		c.RetryMax = max(time.Minute, c.RetryMin)
	}
	return c, nil
}
