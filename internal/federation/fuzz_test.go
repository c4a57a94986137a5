package federation_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/mimi"
)

// Whatever a peer's request looks like, it gets a status, and the backend sees
// only what it was promised.
func FuzzHandler(f *testing.F) {
	a := newAuthority(f)
	cert := a.issue(f, nil, "b.example")
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		f.Fatal(err)
	}
	p, err := federation.New(federation.Config{Domain: "a.example", Open: true, Roots: a.pool,
		Certificate: func() (*tls.Certificate, error) { return cert, nil }})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = p.Close() })
	f.Add("POST", "/v1/update/mimi%3A%2F%2Fa.example%2Fr%2Fx", "a.example", "mimi@b.example", "application/octet-stream", []byte("x"))
	f.Add("POST", "/v1/notify/b.example/r/x", "A.example:1", "mimi@B.example", "", []byte{})
	f.Add("POST", "/v1/keyMaterial/mimi%3A%2F%2Fb.example%2Fu%2Fx", "a.example", "mimi@", "application/mimi-protocol;a=b", []byte("x"))
	f.Add("GET", "/.well-known/mimi-protocol-directory", "[::1]:1", "", "", []byte{})
	f.Fuzz(func(t *testing.T, method, path, host, from, media string, body []byte) {
		u, err := url.ParseRequestURI(path)
		if err != nil || u.Host != "" {
			return
		}
		b := &backend{}
		h := federation.NewHandler(p, b)
		r := &http.Request{Method: method, URL: u, Host: host, Header: http.Header{}, TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}},
			Body: http.NoBody, ContentLength: int64(len(body))}
		r.Header["From"], r.Header["Content-Type"] = []string{from}, []string{media}
		if len(body) > 0 {
			r.Body = readCloser{bytes.NewReader(body)}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		calls := b.called()
		if (w.Code < 300) != (len(calls) == 1) && method != http.MethodGet && method != http.MethodHead {
			t.Fatalf("status %d with %d calls", w.Code, len(calls))
		}
		for _, c := range calls {
			kind := mimi.KindRoom
			if c.endpoint == mimi.EndpointKeyMaterial {
				kind = mimi.KindUser
			}
			if c.peer != "b.example" || !c.key.Is(kind) || c.body != string(body) || c.endpoint == mimi.EndpointNotify && c.key.Domain() != "b.example" {
				t.Fatalf("backend saw %+v", c)
			}
		}
		if w.Code >= 500 {
			t.Fatalf("status %d", w.Code)
		}
	})
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

func FuzzSplitWelcome(f *testing.F) {
	f.Add(federation.WelcomeBody(7, []byte("x")))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, body []byte) {
		position, fanout, err := federation.SplitWelcome(body)
		if err == nil && !bytes.Equal(federation.WelcomeBody(position, fanout), body) {
			t.Fatal("another body")
		}
	})
}
