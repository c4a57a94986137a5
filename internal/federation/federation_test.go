package federation_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/mimi"
)

// An authority issues the TLS certificates of a test's providers.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert, key, pool}
}

func (a *authority) issue(t testing.TB, change func(*x509.Certificate), names ...string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(12 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A provider is one real server on loopback.
type provider struct {
	*federation.Peers
	addr    string
	backend *backend
	handler *federation.Handler
}

// backend answers with what it was asked, or with err.
type backend struct {
	mu    sync.Mutex
	calls []call
	err   error
	block chan struct{} // if set, calls wait for it
}

type call struct {
	endpoint mimi.Endpoint
	peer     string
	key      mimi.URI
	body     string
}

func (b *backend) called() []call {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]call(nil), b.calls...)
}

func (b *backend) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *backend) answer(ctx context.Context, e mimi.Endpoint, peer string, key mimi.URI, body []byte) ([]byte, error) {
	b.mu.Lock()
	b.calls = append(b.calls, call{e, peer, key, string(body)})
	block, err := b.block, b.err
	b.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return []byte("answer to " + string(e)), err
}

func (b *backend) KeyMaterial(ctx context.Context, peer string, u mimi.URI, body []byte) ([]byte, error) {
	return b.answer(ctx, mimi.EndpointKeyMaterial, peer, u, body)
}
func (b *backend) Update(ctx context.Context, peer string, u mimi.URI, body []byte) ([]byte, error) {
	return b.answer(ctx, mimi.EndpointUpdate, peer, u, body)
}
func (b *backend) Submit(ctx context.Context, peer string, u mimi.URI, body []byte) ([]byte, error) {
	return b.answer(ctx, mimi.EndpointSubmitMessage, peer, u, body)
}
func (b *backend) Notify(ctx context.Context, peer string, u mimi.URI, body []byte) error {
	_, err := b.answer(ctx, mimi.EndpointNotify, peer, u, body)
	return err
}
func (b *backend) GroupInfo(ctx context.Context, peer string, u mimi.URI, body []byte) ([]byte, error) {
	return b.answer(ctx, mimi.EndpointGroupInfo, peer, u, body)
}

// start serves domain on loopback with cert. addrs is filled with its address
// and shared by all as the static map.
func start(t testing.TB, a *authority, cert *tls.Certificate, addrs map[string]string, domain string, change func(*federation.Config)) *provider {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addrs[domain] = ln.Addr().String()
	cfg := federation.Config{
		Domain:      domain,
		Certificate: func() (*tls.Certificate, error) { return cert, nil },
		Roots:       a.pool,
		Open:        true,
		Resolve:     addrs,
	}
	if change != nil {
		change(&cfg)
	}
	p := &provider{addr: ln.Addr().String(), backend: &backend{}}
	if p.Peers, err = federation.New(cfg); err != nil {
		t.Fatal(err)
	}
	p.handler = federation.NewHandler(p.Peers, p.backend)
	srv := &http.Server{Handler: p.handler, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(tls.NewListener(ln, p.ServerTLS()))
	}()
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		_ = srv.Close()
		<-done
	})
	return p
}

var (
	roomA = mimi.MustParseURI("mimi://a.example/r/clubhouse")
	roomB = mimi.MustParseURI("mimi://b.example/r/a%2Fb%20c/d")
	userB = mimi.MustParseURI("mimi://b.example/u/bob")
)

func pair(t testing.TB, change func(*federation.Config)) (*authority, *provider, *provider) {
	a := newAuthority(t)
	addrs := make(map[string]string)
	// b starts first, so that a finds it in the static map.
	pb := start(t, a, a.issue(t, nil, "b.example"), addrs, "b.example", change)
	pa := start(t, a, a.issue(t, nil, "a.example"), addrs, "a.example", nil)
	return a, pa, pb
}

func TestEveryEndpointOverMutualTLS(t *testing.T) {
	_, pa, pb := pair(t, nil)
	tests := []struct {
		endpoint mimi.Endpoint
		key      mimi.URI
		want     string
	}{
		{mimi.EndpointKeyMaterial, userB, "answer to keyMaterial"},
		{mimi.EndpointUpdate, roomB, "answer to update"},
		{mimi.EndpointSubmitMessage, roomB, "answer to submitMessage"},
		{mimi.EndpointGroupInfo, roomB, "answer to groupInfo"},
		{mimi.EndpointNotify, roomA, ""},
	}
	for i, tt := range tests {
		got, err := pa.Do(t.Context(), "b.example", tt.endpoint, tt.key, []byte{byte(i)})
		if err != nil {
			t.Fatalf("%s: %v", tt.endpoint, err)
		}
		if string(got) != tt.want {
			t.Errorf("%s: answer %q, want %q", tt.endpoint, got, tt.want)
		}
		calls := pb.backend.called()
		if want := (call{tt.endpoint, "a.example", tt.key, string([]byte{byte(i)})}); len(calls) != i+1 || calls[i] != want {
			t.Errorf("backend saw %v, want %v last", calls, want)
		}
	}
}

func TestErrorsBecomeStatusAndBack(t *testing.T) {
	_, pa, pb := pair(t, nil)
	tests := []struct {
		err    error
		status int
		is     error
		retry  time.Duration
	}{
		{federation.ErrMalformed, 400, federation.ErrMalformed, 0},
		{federation.ErrForbidden, 403, federation.ErrForbidden, 0},
		{federation.ErrNotFound, 404, federation.ErrNotFound, 0},
		{federation.ErrTooLarge, 413, federation.ErrTooLarge, 0},
		{federation.Delay(federation.ErrRateLimited, 7*time.Second), 429, federation.ErrRateLimited, 7 * time.Second},
		{federation.Delay(federation.ErrUnavailable, 1500*time.Millisecond), 503, federation.ErrUnavailable, 2 * time.Second},
		{federation.ErrUnreachable, 503, federation.ErrUnavailable, 5 * time.Second},
		{errors.New("secret detail"), 500, federation.ErrUnavailable, 0},
	}
	for _, tt := range tests {
		pb.backend.fail(tt.err)
		_, err := pa.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, nil)
		s, ok := errors.AsType[*federation.StatusError](err)
		if !ok || s.Status != tt.status || s.RetryAfter != tt.retry || !errors.Is(err, tt.is) {
			t.Errorf("%v arrives as %v (retry %v), want status %d matching %v, retry %v", tt.err, err, federation.RetryAfter(err), tt.status, tt.is, tt.retry)
		}
	}
}

// request sends a hand-made request to p, authenticated by cert.
func request(t testing.TB, a *authority, p *provider, cert *tls.Certificate, method, path string, header map[string]string, body io.Reader) *http.Response {
	t.Helper()
	conf := &tls.Config{RootCAs: a.pool, ServerName: p.Domain()}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	tr := &http.Transport{TLSClientConfig: conf, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, p.addr)
	}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+p.Domain()+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	// The path must arrive as it is written here.
	req.URL.Opaque = path
	for k, v := range header {
		if k == "Host" {
			req.Host = v
			continue
		}
		req.Header.Set(k, v)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode >= 400 && len(text) != 0 {
		t.Errorf("a refusal has a body: %q", text)
	}
	return resp
}

func TestLyingPeersAreRefused(t *testing.T) {
	a := newAuthority(t)
	other := newAuthority(t)
	addrs := make(map[string]string)
	good := a.issue(t, nil, "b.example")
	p := start(t, a, a.issue(t, nil, "a.example"), addrs, "a.example", func(c *federation.Config) {
		c.Open = false
		c.Allow = []string{"b.example"}
	})
	seg := roomA.PathSegment()
	expired := a.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "b.example")
	wrongUse := a.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }, "b.example")
	clientUse := a.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "b.example")
	tests := []struct {
		name   string
		cert   *tls.Certificate
		method string
		path   string
		header map[string]string
		body   string
		want   int
	}{
		{name: "right", want: 200},
		{name: "client usage only", cert: clientUse, want: 200},
		{name: "upper case", header: map[string]string{"From": "mimi@B.Example", "Host": "A.Example:8443"}, want: 200},
		{name: "short form", path: "/v1/update/a.example/r/clubhouse", want: 200},
		{name: "no certificate", cert: &tls.Certificate{}, want: 401},
		{name: "certificate of another authority", cert: other.issue(t, nil, "b.example"), want: 401},
		{name: "expired certificate", cert: expired, want: 401},
		{name: "certificate for code signing", cert: wrongUse, want: 401},
		{name: "certificate of another domain", cert: a.issue(t, nil, "c.example"), want: 403},
		{name: "wildcard certificate", cert: a.issue(t, nil, "*.example"), want: 403},
		{name: "certificate of a subdomain", cert: a.issue(t, nil, "x.b.example"), want: 403},
		{name: "domain off the allowlist", cert: a.issue(t, nil, "c.example"), header: map[string]string{"From": "mimi@c.example"}, want: 403},
		{name: "our own domain", cert: a.issue(t, nil, "a.example"), header: map[string]string{"From": "mimi@a.example"}, want: 403},
		{name: "no From", header: map[string]string{"From": ""}, want: 403},
		{name: "From with another local part", header: map[string]string{"From": "root@b.example"}, want: 403},
		{name: "From with a name", header: map[string]string{"From": "B <mimi@b.example>"}, want: 403},
		{name: "another Host", header: map[string]string{"Host": "c.example"}, want: 421},
		{name: "GET", method: "GET", want: 405},
		{name: "unknown endpoint", path: "/v1/frobnicate/" + seg, want: 404},
		{name: "unknown path", path: "/", want: 404},
		{name: "no key", path: "/v1/update/", want: 400},
		{name: "key is not a URI", path: "/v1/update/mimi%3A%2F%2F", want: 400},
		{name: "key with dot segments", path: "/v1/update/mimi:%2F%2Fa.example/r/../x", want: 400},
		{name: "user where a room is wanted", path: "/v1/update/" + userB.PathSegment(), want: 400},
		{name: "room where a user is wanted", path: "/v1/keyMaterial/" + seg, want: 400},
		{name: "notify of a room of ours", path: "/v1/notify/" + seg, want: 403},
		{name: "notify of a third hub's room", path: "/v1/notify/" + mimi.MustParseURI("mimi://c.example/r/x").PathSegment(), want: 403},
		{name: "notify of its own room", path: "/v1/notify/" + roomB.PathSegment(), want: 201},
		{name: "JSON", header: map[string]string{"Content-Type": "application/json"}, want: 415},
		{name: "compressed", header: map[string]string{"Content-Encoding": "gzip"}, want: 415},
		{name: "no media type", header: map[string]string{"Content-Type": ""}, want: 200},
		{name: "oversized groupInfo", path: "/v1/groupInfo/" + seg, body: strings.Repeat("x", mimi.MaxGroupInfoRequest+1), want: 413},
		{name: "oversized keyMaterial", path: "/v1/keyMaterial/" + userB.PathSegment(), body: strings.Repeat("x", mimi.MaxKeyMaterialRequest+1), want: 413},
		{name: "oversized submit", path: "/v1/submitMessage/" + seg, body: strings.Repeat("x", mimi.MaxSubmitRequest+1), want: 413},
		{name: "oversized update", body: strings.Repeat("x", mimi.MaxUpdateRequest+1), want: 413},
		{name: "oversized notify", path: "/v1/notify/" + roomB.PathSegment(), body: strings.Repeat("x", mimi.MaxNotifyRequest+1), want: 413},
		{name: "largest groupInfo", path: "/v1/groupInfo/" + seg, body: strings.Repeat("x", mimi.MaxGroupInfoRequest), want: 200},
	}
	for _, tt := range tests {
		for _, streamed := range []bool{false, true} {
			cert := good
			if tt.cert != nil {
				if cert = tt.cert; len(cert.Certificate) == 0 {
					cert = nil
				}
			}
			method, path := "POST", "/v1/update/"+seg
			if tt.method != "" {
				method = tt.method
			}
			if tt.path != "" {
				path = tt.path
			}
			header := map[string]string{"From": "mimi@b.example", "Content-Type": mimi.MediaType}
			for k, v := range tt.header {
				header[k] = v
			}
			var body io.Reader
			if tt.body != "" {
				body = strings.NewReader(tt.body)
				if streamed { // no Content-Length
					body = io.MultiReader(body)
				}
			}
			before := len(p.backend.called())
			resp := request(t, a, p, cert, method, path, header, body)
			if resp.StatusCode != tt.want {
				t.Errorf("%s (streamed %v): status %d, want %d", tt.name, streamed, resp.StatusCode, tt.want)
			}
			if after := len(p.backend.called()); (after > before) != (tt.want < 300) {
				t.Errorf("%s: backend was called %d times with status %d", tt.name, after-before, resp.StatusCode)
			}
		}
	}
}

func TestClientRefusesServersOfOtherDomains(t *testing.T) {
	a := newAuthority(t)
	tests := []struct {
		name  string
		names []string
		ok    bool
	}{
		{"right name", []string{"b.example"}, true},
		{"one of several names", []string{"x.example", "b.example"}, true},
		{"another name", []string{"c.example"}, false},
		{"wildcard", []string{"*.example"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addrs := make(map[string]string)
			pb := start(t, a, a.issue(t, nil, tt.names...), addrs, "b.example", nil)
			pa := start(t, a, a.issue(t, nil, "a.example"), addrs, "a.example", nil)
			_, err := pa.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, []byte("confidential"))
			if (err == nil) != tt.ok {
				t.Fatalf("error %v, want success %v", err, tt.ok)
			}
			if !tt.ok && (!errors.Is(err, federation.ErrUnreachable) || len(pb.backend.called()) != 0) {
				t.Errorf("error %v, backend saw %v", err, pb.backend.called())
			}
		})
	}
}

// A directory may point at another host, whose certificate must then carry
// the provider domain as well.
func TestDirectoryOnAnotherHost(t *testing.T) {
	a := newAuthority(t)
	for _, tt := range []struct {
		names []string
		ok    bool
	}{
		{[]string{"b.example", "mimi.b.example"}, true},
		{[]string{"mimi.b.example"}, false},
		{[]string{"b.example"}, false},
	} {
		addrs := make(map[string]string)
		// The host that serves the endpoints; its own certificate is the one in question.
		host := start(t, a, a.issue(t, nil, tt.names...), addrs, "b.example", nil)
		addrs["mimi.b.example"] = addrs["b.example"]
		delete(addrs, "b.example")
		start(t, a, a.issue(t, nil, "b.example"), addrs, "b.example", func(c *federation.Config) { c.BaseURL = "https://mimi.b.example:9/v1" })
		pa := start(t, a, a.issue(t, nil, "a.example"), addrs, "a.example", nil)
		_, err := pa.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, nil)
		if (err == nil) != tt.ok || (len(host.backend.called()) == 1) != tt.ok {
			t.Errorf("%v: error %v, calls %v, want success %v", tt.names, err, host.backend.called(), tt.ok)
		}
	}
}

func TestPeersAreDeniedByDefault(t *testing.T) {
	a := newAuthority(t)
	pa := start(t, a, a.issue(t, nil, "a.example"), make(map[string]string), "a.example", func(c *federation.Config) { c.Open = false })
	for _, d := range []string{"b.example", "a.example", ""} {
		if _, err := pa.Do(t.Context(), d, mimi.EndpointUpdate, roomB, nil); !errors.Is(err, federation.ErrNotPeer) {
			t.Errorf("%q: %v, want ErrNotPeer", d, err)
		}
	}
}

func TestPrivateAddressesAreRefused(t *testing.T) {
	a := newAuthority(t)
	pa := start(t, a, a.issue(t, nil, "a.example"), make(map[string]string), "a.example", nil)
	_, err := pa.Do(t.Context(), "localhost", mimi.EndpointUpdate, roomB, nil)
	if !errors.Is(err, federation.ErrUnreachable) || !strings.Contains(err.Error(), "not a public address") {
		t.Errorf("localhost: %v", err)
	}
}

func TestInFlightLimit(t *testing.T) {
	_, pa, pb := pair(t, func(c *federation.Config) { c.Limits.PeerInFlight = 1 })
	block := make(chan struct{})
	pb.backend.mu.Lock()
	pb.backend.block = block
	pb.backend.mu.Unlock()
	first := make(chan error, 1)
	go func() {
		_, err := pa.Do(context.WithoutCancel(t.Context()), "b.example", mimi.EndpointUpdate, roomB, nil)
		first <- err
	}()
	for len(pb.backend.called()) == 0 {
		time.Sleep(time.Millisecond)
	}
	_, err := pa.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, nil)
	if !errors.Is(err, federation.ErrRateLimited) || federation.RetryAfter(err) != time.Second {
		t.Errorf("second request: %v, want ErrRateLimited with advice", err)
	}
	close(block)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if _, err := pa.Do(t.Context(), "b.example", mimi.EndpointUpdate, roomB, nil); err != nil {
		t.Errorf("after the first is done: %v", err)
	}
}
