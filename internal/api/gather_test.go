package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/comity-im/comity/internal/devcert"
)

// writes notes each call of Write.
type writes struct {
	net.Conn
	calls [][]byte
	fail  error
}

func (w *writes) Write(b []byte) (int, error) {
	if w.fail != nil {
		return 0, w.fail
	}
	w.calls = append(w.calls, bytes.Clone(b))
	return len(b), nil
}

func TestGatherer(t *testing.T) {
	w := &writes{}
	g := &gatherer{Conn: w}
	var want []byte
	put := func(n int, calls int) {
		t.Helper()
		b := bytes.Repeat([]byte{byte(len(want) % 251)}, n)
		want = append(want, b...)
		if m, err := g.Write(b); m != n || err != nil {
			t.Fatalf("%d of %d octets written: %v", m, n, err)
		}
		clear(b) // the caller's
		if len(w.calls) != calls {
			t.Fatalf("%d calls after %d octets, want %d", len(w.calls), len(want), calls)
		}
	}
	put(10, 1)
	g.hold()
	put(100, 1)
	put(200, 1)
	if err := g.release(); err != nil || len(w.calls) != 2 {
		t.Fatalf("%d calls after the release, %v; want 2", len(w.calls), err)
	}
	put(5, 3)
	g.hold()
	if err := g.release(); err != nil || len(w.calls) != 3 {
		t.Fatalf("nothing was held back, and %d calls, %v", len(w.calls), err)
	}
	g.hold()
	put(gatherAt-1, 3)
	put(1, 3)
	put(1, 4)            // no more room
	put(gatherAt+100, 6) // too large to be held: what is held goes first
	put(7, 6)
	if err := g.release(); err != nil || !bytes.Equal(bytes.Join(w.calls, nil), want) {
		t.Fatalf("what was written is not what came out (%v)", err)
	}
	g.hold()
	put(1, 7)
	w.fail = io.ErrClosedPipe
	if err := g.release(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("release: %v; want the connection's error", err)
	}
	if g.hold(); g.buf != nil {
		t.Error("what could not be written is kept")
	}
}

// counting counts the system calls of connections.
type counting struct {
	net.Listener
	writes chan int
}

func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{c, l.writes}, nil
}

type countingConn struct {
	net.Conn
	writes chan int
}

func (c countingConn) Write(b []byte) (int, error) {
	c.writes <- len(b)
	return c.Conn.Write(b)
}

// streamTo serves a WebSocket over TLS with Gather and has the sink of its
// connection given to serve.
func streamTo(t *testing.T, timeout time.Duration, serve func(ctx context.Context, s *sink)) (*websocket.Conn, chan int) {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow()
		s := &sink{conn: conn, timeout: timeout}
		if s.gather, _ = r.Context().Value(gathererKey{}).(*gatherer); s.gather == nil {
			t.Error("no gatherer in the request's context")
			return
		}
		serve(r.Context(), s)
	}))
	calls := make(chan int, 1000)
	srv.Config.ConnContext = ConnContext
	authority, err := devcert.New(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := authority.Issue("a.example")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	srv.Listener = tls.NewListener(Gather(counting{srv.Listener, calls}), &tls.Config{Certificates: []tls.Certificate{cert}})
	srv.Start()
	t.Cleanup(srv.Close)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool(), ServerName: "a.example"}}}
	t.Cleanup(client.CloseIdleConnections)
	conn, _, err := websocket.Dial(t.Context(), "https://"+srv.Listener.Addr().String(), &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn, calls
}

// Frames that are sent together leave together, each a WebSocket message of
// its own.
func TestSinkGathers(t *testing.T) {
	frames := [][]byte{[]byte("one"), []byte("two"), bytes.Repeat([]byte("3"), 5000), []byte("four")}
	begin := make(chan struct{})
	conn, calls := streamTo(t, 10*time.Second, func(ctx context.Context, s *sink) {
		<-begin
		if err := s.Send(ctx, frames); err != nil {
			t.Error(err)
		}
		if err := s.Send(ctx, frames[:1]); err != nil {
			t.Error(err)
		}
		_, _, _ = s.conn.Read(ctx) // until the client is done
	})
	for len(calls) > 0 { // of the handshake
		<-calls
	}
	close(begin)
	for i, want := range append(frames, frames[0]) {
		kind, got, err := conn.Read(t.Context())
		if err != nil || kind != websocket.MessageBinary || !bytes.Equal(got, want) {
			t.Fatalf("message %d is %d octets of kind %v, %v", i, len(got), kind, err)
		}
	}
	if n := len(calls); n != 2 {
		t.Errorf("%d system calls for two Sends", n)
	}
}

// A client that does not read is cut off although the frames are held back.
func TestSinkTimesOut(t *testing.T) {
	done := make(chan error, 1)
	streamTo(t, 50*time.Millisecond, func(ctx context.Context, s *sink) {
		frames := [][]byte{make([]byte, 30<<10), make([]byte, 30<<10)}
		for {
			if err := s.Send(ctx, frames); err != nil {
				done <- err
				return
			}
		}
	})
	select {
	case err := <-done:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Send: %v; want that the time is over", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Send still waits for a client that does not read")
	}
}
