//go:build !js

package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/comity-im/comity/mimi/local"
)

// HTTPConfig says how a device reaches its provider.
type HTTPConfig struct {
	// URL is the root of the provider's client API, for example
	// "https://a.example". Its host is the name that the provider's
	// certificate must carry.
	URL string
	// Address, if set, is "host:port" to connect to in place of the URL's
	// host: for demonstrations, tests and private networks. The certificate
	// must still carry the URL's host.
	Address string
	// Roots are the authorities that may vouch for the provider's
	// certificate; nil means those of the system.
	Roots *x509.CertPool
	// Timeout bounds one request, default 30 s. The stream is bounded by its
	// pings only.
	Timeout time.Duration
	// MaxBody bounds an answer and a frame, default 16 MiB.
	MaxBody int64
	// AllowPlain permits http: URLs, which is acceptable only for a
	// provider on the same machine.
	AllowPlain bool
}

// HTTPTransport is the Transport over HTTPS and WebSocket.
type HTTPTransport struct {
	root    *url.URL
	client  *http.Client
	maxBody int64
	timeout time.Duration
}

// NewHTTPTransport returns a transport; it connects when first used.
func NewHTTPTransport(cfg HTTPConfig) (*HTTPTransport, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("client: provider URL: %w", err)
	}
	switch {
	case u.Scheme == "http" && cfg.AllowPlain:
	case u.Scheme != "https":
		return nil, fmt.Errorf("client: provider URL %q does not start with https", cfg.URL)
	}
	if u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("client: provider URL %q must be a scheme and a host only", cfg.URL)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = 16 << 20
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	dial := dialer.DialContext
	if cfg.Address != "" {
		if _, _, err := net.SplitHostPort(cfg.Address); err != nil {
			return nil, fmt.Errorf("client: provider address: %w", err)
		}
		dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, cfg.Address)
		}
	}
	return &HTTPTransport{
		root:    u,
		maxBody: cfg.MaxBody,
		timeout: cfg.Timeout,
		client: &http.Client{
			// A redirect would carry the token to wherever it points.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				DialContext:         dial,
				TLSClientConfig:     &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS13},
				TLSHandshakeTimeout: 10 * time.Second,
				MaxIdleConnsPerHost: 4,
				IdleConnTimeout:     90 * time.Second,
				// The stream is a WebSocket over HTTP/1.1; requests share
				// its connection pool.
				ForceAttemptHTTP2: false,
			},
		},
	}, nil
}

// Do implements Transport.
func (t *HTTPTransport) Do(ctx context.Context, req Request) (Response, error) {
	if !strings.HasPrefix(req.Path, "/") {
		return Response{}, fmt.Errorf("client: path %q does not start with a slash", req.Path)
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	hr, err := http.NewRequestWithContext(ctx, req.Method, t.root.String()+req.Path, bytes.NewReader(req.Body))
	if err != nil {
		return Response{}, fmt.Errorf("client: %w", err)
	}
	if req.ContentType != "" {
		hr.Header.Set("Content-Type", req.ContentType)
	}
	if req.Token != "" {
		hr.Header.Set("Authorization", "Bearer "+req.Token)
	}
	resp, err := t.client.Do(hr)
	if err != nil {
		return Response{}, unreachable(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, t.maxBody+1))
	if err != nil {
		return Response{}, unreachable(err)
	}
	if int64(len(body)) > t.maxBody {
		return Response{}, fmt.Errorf("client: answer of more than %d octets", t.maxBody)
	}
	r := Response{Status: resp.StatusCode, ContentType: resp.Header.Get("Content-Type"), Body: body}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		r.RetryAfter = time.Duration(min(s, 3600)) * time.Second
	}
	return r, nil
}

// CloseIdle closes connections that are not in use.
func (t *HTTPTransport) CloseIdle() { t.client.CloseIdleConnections() }

// unreachable marks an error as "outcome unknown" but keeps the cause, so
// that a cancelled context is still recognised.
func unreachable(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // the URL names the room; it is not for logs
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// pingInterval is how often an idle stream is checked, and pingTimeout how
// long the answer may take.
const (
	pingInterval = 45 * time.Second
	pingTimeout  = 20 * time.Second
)

// Stream implements Transport.
func (t *HTTPTransport) Stream(ctx context.Context, token string) (Stream, error) {
	u := *t.root
	u.Path += local.PathStream
	conn, resp, err := websocket.Dial(ctx, u.String(), &websocket.DialOptions{
		HTTPClient:      t.client,
		HTTPHeader:      http.Header{"Authorization": {"Bearer " + token}},
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, &StatusError{Status: resp.StatusCode}
		}
		return nil, unreachable(err)
	}
	conn.SetReadLimit(t.maxBody)
	ctx, stop := context.WithCancel(context.Background())
	s := &wsStream{conn: conn, stop: stop}
	s.wg.Go(func() { s.keepAlive(ctx) })
	return s, nil
}

// wsStream is a Stream over a WebSocket. A goroutine pings until Close.
type wsStream struct {
	conn *websocket.Conn
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// keepAlive finds out that the peer is gone. Pongs arrive only while
// somebody reads; the device always does.
func (s *wsStream) keepAlive(ctx context.Context) {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ping, cancel := context.WithTimeout(ctx, pingTimeout)
		err := s.conn.Ping(ping)
		cancel()
		if err != nil {
			_ = s.conn.CloseNow() // Read fails
			return
		}
	}
}

func (s *wsStream) Read(ctx context.Context) ([]byte, error) {
	kind, frame, err := s.conn.Read(ctx)
	if err != nil {
		return nil, unreachable(err)
	}
	if kind != websocket.MessageBinary {
		return nil, errors.New("client: text frame on the stream")
	}
	return frame, nil
}

func (s *wsStream) Write(ctx context.Context, frame []byte) error {
	if err := s.conn.Write(ctx, websocket.MessageBinary, frame); err != nil {
		return unreachable(err)
	}
	return nil
}

func (s *wsStream) Close() error {
	s.stop()
	err := s.conn.CloseNow()
	s.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
