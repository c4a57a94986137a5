// Package fleet runs several real providers on this machine, each a process
// of its own, with throwaway certificates, for demonstrations and tests.
//
// [New] writes the certificates and configurations, Start runs the processes,
// Kill ends one as a crash would. Everything listens on loopback.
package fleet

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/comity-im/comity/internal/admin"
	"github.com/comity-im/comity/internal/devcert"
	"github.com/comity-im/comity/internal/provider"
)

// Times to wait for a process.
const (
	StartTimeout = 60 * time.Second
	StopTimeout  = 30 * time.Second
)

// Config says what to run.
type Config struct {
	// Binary is the comity binary; default: the running executable.
	Binary string
	// Dir gets one folder per provider.
	Dir string
	// Domains are the providers' names.
	Domains []string
	// LogLevel of the providers; default warn.
	LogLevel string
}

// A Fleet is a set of providers that trust each other's certificates.
type Fleet struct {
	Providers []*Provider
	Roots     *x509.CertPool
	RootsFile string
}

// A Provider is one process.
type Provider struct {
	Config     *provider.Config
	ConfigFile string
	LogFile    string

	binary string
	admin  *admin.Client

	mu   sync.Mutex // guards the rest
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
	err  error         // of cmd, once done
}

// New prepares the providers. It starts none.
func New(cfg Config) (*Fleet, error) {
	if cfg.Binary == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("fleet: %w", err)
		}
		cfg.Binary = exe
	}
	if cfg.LogLevel == "" {
		cfg.LogLevel = "warn"
	}
	certs, err := devcert.New(filepath.Join(cfg.Dir, "certificates"), time.Now())
	if err != nil {
		return nil, err
	}
	f := &Fleet{Roots: certs.Pool(), RootsFile: certs.RootFile()}
	ports, err := freePorts(3 * len(cfg.Domains))
	if err != nil {
		return nil, err
	}
	resolve := map[string]string{}
	for i, domain := range cfg.Domains {
		resolve[domain] = ports[3*i]
	}
	for i, domain := range cfg.Domains {
		dir := filepath.Join(cfg.Dir, domain)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("fleet: %w", err)
		}
		certFile, keyFile, err := certs.Issue(domain)
		if err != nil {
			return nil, err
		}
		c := &provider.Config{
			Domain: domain, DataDir: filepath.Join(dir, "data"),
			Listen: ports[3*i], ClientListen: ports[3*i+1], OpsListen: ports[3*i+2],
			TLS: provider.TLSConfig{Certificate: certFile, Key: keyFile, Roots: f.RootsFile},
			Log: provider.LogConfig{Level: cfg.LogLevel, Format: "text"},
		}
		c.Federation.Policy = "list"
		c.Federation.Resolve = map[string]string{}
		for _, peer := range cfg.Domains {
			if peer != domain {
				c.Federation.Peers = append(c.Federation.Peers, peer)
				c.Federation.Resolve[peer] = resolve[peer]
			}
		}
		p := &Provider{
			Config: c, ConfigFile: filepath.Join(dir, "comity.toml"), LogFile: filepath.Join(dir, "comity.log"),
			binary: cfg.Binary, admin: admin.NewClient(c.DataDir),
		}
		if err := c.Write(p.ConfigFile); err != nil {
			return nil, err
		}
		f.Providers = append(f.Providers, p)
	}
	return f, nil
}

// freePorts returns n loopback addresses that nobody listens on. They are all
// held at once, so that no two are the same.
func freePorts(n int) ([]string, error) {
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("fleet: %w", err)
		}
		listeners = append(listeners, l)
		out = append(out, l.Addr().String())
	}
	return out, nil
}

// Start starts all providers and waits until each is ready.
func (f *Fleet) Start(ctx context.Context) error {
	errs := make([]error, len(f.Providers))
	var wg sync.WaitGroup
	for i, p := range f.Providers {
		wg.Go(func() { errs[i] = p.Start(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Stop ends all providers gracefully.
func (f *Fleet) Stop() error {
	errs := make([]error, len(f.Providers))
	var wg sync.WaitGroup
	for i, p := range f.Providers {
		wg.Go(func() { errs[i] = p.Stop() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Provider returns the provider of a domain, or nil.
func (f *Fleet) Provider(domain string) *Provider {
	for _, p := range f.Providers {
		if p.Config.Domain == domain {
			return p
		}
	}
	return nil
}

// Admin manages the running provider.
func (p *Provider) Admin() *admin.Client { return p.admin }

// Start runs the process and waits until it is ready.
func (p *Provider) Start(ctx context.Context) error {
	logFile, err := os.OpenFile(p.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	defer logFile.Close()
	// A context would kill the process; it ends by Stop or Kill only.
	cmd := exec.Command(p.binary, "serve", "--config", p.ConfigFile)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	// A Ctrl-C is for us; the providers are ended in good order.
	cmd.SysProcAttr = processAttributes()
	done := make(chan struct{})
	started := make(chan error, 1)
	go func() {
		// On Linux the process ends with the thread that started it, so that
		// thread is kept until then.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		err = cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(done)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
	if err := p.ready(ctx, done); err != nil {
		_ = p.Kill()
		return err
	}
	return nil
}

func (p *Provider) ready(ctx context.Context, done <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, StartTimeout)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Config.OpsListen+"/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-done:
			return fmt.Errorf("fleet: %s ended while it started; the end of its log:\n%s", p.Config.Domain, p.LogTail(2000))
		case <-ctx.Done():
			return fmt.Errorf("fleet: %s is not ready: %w; the end of its log:\n%s", p.Config.Domain, ctx.Err(), p.LogTail(2000))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Running reports whether the process runs.
func (p *Provider) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil && !closed(p.done)
}

// PID returns the process's number, or 0.
func (p *Provider) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || closed(p.done) {
		return 0
	}
	return p.cmd.Process.Pid
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Kill ends the process at once, as a crash would (SIGKILL).
func (p *Provider) Kill() error {
	_, err := p.end(syscall.SIGKILL)
	return err
}

// Stop ends the process gracefully (SIGTERM), and by force if that takes too
// long. It reports a process that failed.
func (p *Provider) Stop() error {
	defer p.admin.Close()
	ended, err := p.end(syscall.SIGTERM)
	if err != nil || !ended {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return fmt.Errorf("fleet: %s: %w; the end of its log:\n%s", p.Config.Domain, p.err, p.LogTail(2000))
	}
	return nil
}

// end signals the process and waits for its end. ended is false if it did not
// run.
func (p *Provider) end(sig os.Signal) (ended bool, err error) {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	if cmd == nil || closed(done) {
		return false, nil
	}
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return false, fmt.Errorf("fleet: %w", err)
	}
	select {
	case <-done:
		return true, nil
	case <-time.After(StopTimeout):
		_ = cmd.Process.Kill()
		<-done
		return true, fmt.Errorf("fleet: %s did not stop within %v", p.Config.Domain, StopTimeout)
	}
}

// LogTail returns the last n octets of what the process logged.
func (p *Provider) LogTail(n int64) string {
	f, err := os.Open(p.LogFile)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > n {
		_, _ = f.Seek(-n, io.SeekEnd)
	}
	b, err := io.ReadAll(io.LimitReader(f, n))
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(b))
}
