package provider

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/comity-im/comity/internal/admin"
	"github.com/comity-im/comity/internal/api"
	"github.com/comity-im/comity/internal/store/sqlite"
)

// Times of the servers.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	// A request that takes longer is cut off; its sender repeats it safely.
	shutdownTimeout = 3 * time.Second
)

// Serve runs the provider that cfg describes, with its listeners and its
// database, until ctx ends; then it finishes what is under way. Started, if
// set, is called once everything listens.
func Serve(ctx context.Context, cfg *Config, version string, log *slog.Logger, started func()) (err error) {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("provider: data_dir: %w", err)
	}
	db, err := sqlite.Open(ctx, sqlite.Config{Path: databasePath(cfg), Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := New(ctx, cfg, Options{Store: db, Version: version, Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()

	s := &servers{log: log}
	defer s.stop()
	peers := p.peers.ServerTLS()
	clients := &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.tls.get() },
		NextProtos:     []string{"http/1.1"}, // WebSocket
	}
	if err := s.listen("federation", cfg.Listen, peers, p.Federation()); err != nil {
		return err
	}
	if err := s.listen("clients", cfg.ClientListen, clients, p.Clients()); err != nil {
		return err
	}
	if cfg.OpsListen != "" {
		if err := s.listen("operations", cfg.OpsListen, nil, p.Operations()); err != nil {
			return err
		}
	}
	socket, err := admin.Listen(cfg.DataDir)
	if err != nil {
		return err
	}
	s.serve("admin", socket, p.Admin())

	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- p.Run(running) }()
	defer func() { stop(); <-done }()

	log.Info("serving", "domain", cfg.Domain, "federation", cfg.Listen, "clients", cfg.ClientListen, "operations", cfg.OpsListen)
	if started != nil {
		started()
	}
	select {
	case <-ctx.Done():
		log.Info("stopping")
		return nil
	case err := <-s.failed:
		return err
	case err := <-done:
		done <- err
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("provider: stopped working: %w", err)
	}
}

func databasePath(cfg *Config) string { return filepath.Join(cfg.DataDir, "comity.db") }

// Check opens everything that Serve would, listens nowhere, and reports what
// is wrong.
func Check(ctx context.Context, cfg *Config) (err error) {
	cert, err := loadCertificate(cfg.TLS.Certificate, cfg.TLS.Key)
	if err != nil {
		return err
	}
	if err := cert.check(cfg.Domain, time.Now()); err != nil {
		return err
	}
	if _, err := loadRoots(cfg.TLS.Roots); err != nil {
		return err
	}
	for name, addr := range map[string]string{"listen": cfg.Listen, "client_listen": cfg.ClientListen, "ops_listen": cfg.OpsListen} {
		if addr == "" {
			continue
		}
		if _, err := net.ResolveTCPAddr("tcp", addr); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrConfig, name, err)
		}
	}
	if _, err := os.Stat(databasePath(cfg)); errors.Is(err, os.ErrNotExist) {
		return nil // it will be made
	}
	db, err := sqlite.Open(ctx, sqlite.Config{Path: databasePath(cfg)})
	if err != nil {
		return err
	}
	return errors.Join(db.Check(ctx), db.Close())
}

// Operations serves /healthz (the process runs), /readyz (it can serve),
// /metrics and /openapi.json.
func (p *Provider) Operations() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := p.Ready(r.Context()); err != nil {
			p.log.ErrorContext(r.Context(), "not ready", "error", err)
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		b, err := p.OpenAPI()
		if err != nil {
			http.Error(w, "no description", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(b)
	})
	return mux
}

// servers are the HTTP servers of one process.
type servers struct {
	log     *slog.Logger
	servers []*http.Server
	failed  chan error
}

func (s *servers) listen(name, addr string, config *tls.Config, h http.Handler) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("provider: %s: %w", name, err)
	}
	if config != nil {
		l = tls.NewListener(api.Gather(l), config)
	}
	s.serve(name, l, h)
	return nil
}

func (s *servers) serve(name string, l net.Listener, h http.Handler) {
	if s.failed == nil {
		s.failed = make(chan error, 8)
	}
	failed := s.failed
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 64 << 10,
		ConnContext: api.ConnContext,
		ErrorLog:    slog.NewLogLogger(s.log.With("server", name).Handler(), slog.LevelDebug),
	}
	s.servers = append(s.servers, srv)
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("provider: %s: %w", name, err)
		}
	}()
}

// stop lets requests finish, then closes what is left: streams do not end by
// themselves.
func (s *servers) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, srv := range s.servers {
		wg.Go(func() {
			if err := srv.Shutdown(ctx); err != nil {
				_ = srv.Close()
			}
		})
	}
	wg.Wait()
}
