package client_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi/local"
)

// httpServer is a provider's front for the transport; its certificate is for
// "example.com", wherever it listens.
func httpServer(t *testing.T, h http.Handler) (addr string, roots *x509.CertPool) {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	roots = x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return srv.Listener.Addr().String(), roots
}

func TestHTTPTransport(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/echo/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, r.Host+" "+r.Method+" "+r.URL.EscapedPath()+" "+r.Header.Get("Authorization")+" "+string(body))
	})
	mux.HandleFunc("/v1/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/v1/echo/", http.StatusFound) })
	mux.HandleFunc("/v1/large", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, 2000)) })
	hang := make(chan struct{})
	mux.HandleFunc("/v1/hang", func(http.ResponseWriter, *http.Request) { <-hang })
	mux.HandleFunc(local.PathStream, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer good" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if string(b) == "text" {
				kind = websocket.MessageText
			}
			if c.Write(r.Context(), kind, b) != nil {
				return
			}
		}
	})
	addr, roots := httpServer(t, mux)
	defer close(hang)
	tr, err := client.NewHTTPTransport(client.HTTPConfig{URL: "https://example.com/", Address: addr, Roots: roots, MaxBody: 1000, Timeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.CloseIdle()

	resp, err := tr.Do(t.Context(), client.Request{Method: "POST", Path: "/v1/echo/a%2Fb", ContentType: "application/x", Body: []byte("hi"), Token: "tok"})
	if err != nil || resp.Status != 202 || string(resp.Body) != "example.com POST /v1/echo/a%2Fb Bearer tok hi" || resp.ContentType != "application/x" || resp.RetryAfter != 7*time.Second {
		t.Errorf("got %+v, %v", resp, err)
	}
	if resp, err := tr.Do(t.Context(), client.Request{Method: "GET", Path: "/v1/redirect"}); err != nil || resp.Status != 302 {
		t.Errorf("a redirect: %d, %v", resp.Status, err)
	}
	if _, err := tr.Do(t.Context(), client.Request{Method: "GET", Path: "/v1/large"}); err == nil || errors.Is(err, client.ErrUnreachable) {
		t.Errorf("a large answer: %v", err)
	}
	if _, err := tr.Do(t.Context(), client.Request{Method: "GET", Path: "/v1/hang"}); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("no answer: %v, want ErrUnreachable", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tr.Do(ctx, client.Request{Method: "GET", Path: "/v1/echo/"}); !errors.Is(err, client.ErrUnreachable) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}

	s, err := tr.Stream(t.Context(), "good")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), []byte("frame")); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Read(t.Context()); err != nil || string(b) != "frame" {
		t.Errorf("read %q, %v", b, err)
	}
	if err := s.Write(t.Context(), []byte("text")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(t.Context()); err == nil {
		t.Error("a text frame was accepted")
	}
	done := make(chan error)
	go func() {
		_, err := s.Read(t.Context())
		done <- err
	}()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-done; err == nil {
		t.Error("Read goes on after Close")
	}
	var se *client.StatusError
	if _, err := tr.Stream(t.Context(), "bad"); !errors.As(err, &se) || se.Status != 401 {
		t.Errorf("a bad token: %v, want status 401", err)
	}
}

// The provider's name is in its certificate, not in its address.
func TestHTTPTransportTrust(t *testing.T) {
	addr, roots := httpServer(t, http.NotFoundHandler())
	for name, cfg := range map[string]client.HTTPConfig{
		"another name":  {URL: "https://other.example", Address: addr, Roots: roots},
		"unknown roots": {URL: "https://example.com", Address: addr, Roots: x509.NewCertPool()},
	} {
		tr, err := client.NewHTTPTransport(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Do(t.Context(), client.Request{Method: "GET", Path: "/v1/x"}); !errors.Is(err, client.ErrUnreachable) || !strings.Contains(err.Error(), "x509") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := tr.Stream(t.Context(), "t"); err == nil {
			t.Errorf("%s: the stream opened", name)
		}
		tr.CloseIdle()
	}
	for _, url := range []string{"http://example.com", "example.com", "https://", "https://u@example.com", "https://example.com?x=1", "ftp://example.com"} {
		if _, err := client.NewHTTPTransport(client.HTTPConfig{URL: url}); err == nil {
			t.Errorf("%q was accepted", url)
		}
	}
	if _, err := client.NewHTTPTransport(client.HTTPConfig{URL: "http://127.0.0.1", AllowPlain: true}); err != nil {
		t.Error(err)
	}
}
