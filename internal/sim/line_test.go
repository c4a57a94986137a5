package sim

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

// A line is the client.Transport of a device: it calls the handler of the
// device's provider, and breaks when the seed says so.
type line struct {
	w *world
	d *device

	mu  sync.Mutex // guards rng
	rng *rand.Rand
}

// chance draws something that happens with a probability in percent, unless
// the network is calm.
func (l *line) chance(percent int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.IntN(100) < percent && !l.w.net.isCalm()
}

func (l *line) delay() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := delay(l.rng) / 4; !l.w.net.isCalm() {
		return d
	}
	return time.Millisecond
}

func unreachable(err error) error { return fmt.Errorf("%w: %w", client.ErrUnreachable, err) }

// Do implements client.Transport.
func (l *line) Do(ctx context.Context, req client.Request) (client.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	loseRequest, loseResponse := l.chance(6), l.chance(6)
	if err := pause(ctx, l.delay()); err != nil {
		return client.Response{}, unreachable(err)
	}
	if loseRequest {
		l.w.trace("%s: %s lost", l.d.name, req.Path)
		return client.Response{}, unreachable(errNetwork)
	}
	p, life, leave, ok := l.d.node.enter()
	if !ok {
		return client.Response{}, unreachable(errors.New("sim: connection refused"))
	}
	hctx, hcancel := context.WithCancel(ctx)
	defer hcancel()
	defer context.AfterFunc(life, hcancel)()
	hr, err := http.NewRequestWithContext(hctx, req.Method, "https://"+l.d.node.domain+req.Path, bytes.NewReader(req.Body))
	if err != nil {
		leave()
		return client.Response{}, err
	}
	if req.ContentType != "" {
		hr.Header.Set("Content-Type", req.ContentType)
	}
	if req.Token != "" {
		hr.Header.Set("Authorization", "Bearer "+req.Token)
	}
	rec := &recorder{header: http.Header{}}
	p.Clients().ServeHTTP(rec, hr)
	alive := leave()
	if err := pause(ctx, l.delay()); err != nil {
		return client.Response{}, unreachable(err)
	}
	if loseResponse || !alive {
		l.w.trace("%s: response to %s lost", l.d.name, req.Path)
		return client.Response{}, unreachable(errNetwork)
	}
	resp := rec.response(hr)
	r := client.Response{Status: resp.StatusCode, ContentType: resp.Header.Get("Content-Type"), Body: rec.body.Bytes()}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		r.RetryAfter = time.Duration(s) * time.Second
	}
	if r.Status >= 300 {
		l.w.trace("%s: %s: status %d %s", l.d.name, req.Path, r.Status, bytes.TrimSpace(r.Body))
	}
	return r, nil
}

// Stream implements client.Transport: a WebSocket over a pipe.
func (l *line) Stream(ctx context.Context, token string) (client.Stream, error) {
	if err := pause(ctx, l.delay()); err != nil {
		return nil, unreachable(err)
	}
	if l.chance(10) {
		return nil, unreachable(errNetwork)
	}
	conn, resp, err := websocket.Dial(ctx, "https://"+l.d.node.domain+local.PathStream, &websocket.DialOptions{
		HTTPClient:      &http.Client{Transport: (*upgrader)(l)},
		HTTPHeader:      http.Header{"Authorization": {"Bearer " + token}},
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, &client.StatusError{Status: resp.StatusCode}
		}
		return nil, unreachable(err)
	}
	conn.SetReadLimit(16 << 20)
	return &stream{l: l, conn: conn}, nil
}

// upgrader opens the WebSocket of a line.
type upgrader line

// RoundTrip implements http.RoundTripper for an upgrade: the body of the
// response is the client's end of a pipe whose other end the handler takes.
func (u *upgrader) RoundTrip(req *http.Request) (*http.Response, error) {
	p, life, leave, ok := u.d.node.enter()
	if !ok {
		return nil, errors.New("sim: connection refused")
	}
	near, far := net.Pipe()
	h := &hijackable{recorder: recorder{header: http.Header{}}, conn: far, taken: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	hr := req.Clone(ctx)
	hr.RequestURI = req.URL.RequestURI()
	ended := make(chan struct{})
	u.w.net.work.Go(func() {
		defer close(ended)
		defer leave()
		defer cancel()
		defer far.Close()
		// When the provider goes down, its connections break.
		defer context.AfterFunc(life, func() { _ = far.Close(); cancel() })()
		p.Clients().ServeHTTP(h, hr)
	})
	select {
	case <-h.taken:
		resp := h.response(req)
		resp.Body = near
		return resp, nil
	case <-ended:
		_ = near.Close()
		return h.response(req), nil
	case <-req.Context().Done():
		_ = near.Close()
		cancel()
		return nil, req.Context().Err()
	}
}

// hijackable is a recorder whose connection can be taken over.
type hijackable struct {
	recorder
	conn  net.Conn
	taken chan struct{}
}

func (h *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	// The caller waits until the header is complete: it is, before this.
	defer close(h.taken)
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// A stream is the client's end. Reading is slow at times and breaks at times.
type stream struct {
	l    *line
	conn *websocket.Conn
}

func (s *stream) Read(ctx context.Context) ([]byte, error) {
	if s.l.chance(4) {
		s.l.w.trace("%s: stream breaks", s.l.d.name)
		_ = s.conn.CloseNow()
		return nil, unreachable(errNetwork)
	}
	if err := pause(ctx, s.l.delay()/4); err != nil {
		return nil, unreachable(err)
	}
	kind, frame, err := s.conn.Read(ctx)
	if err != nil {
		return nil, unreachable(err)
	}
	if kind != websocket.MessageBinary {
		return nil, errors.New("sim: text frame")
	}
	if s.l.w.opts.lie == lieFrame && s.withhold(frame) {
		return s.Read(ctx)
	}
	return frame, nil
}

// withhold reports whether a frame is to be lost: the first message that
// comes, as often as it comes to this device.
func (s *stream) withhold(frame []byte) bool {
	var f local.Frame
	var m mimi.FanoutMessage
	if mls.Unmarshal(frame, &f) != nil || f.Type != local.FrameEvent || mls.Unmarshal(f.Body, &m) != nil {
		return false
	}
	if kind, err := m.Kind(); err != nil || kind != mimi.FanoutApplication {
		return false
	}
	n, what := s.l.w.net, fmt.Sprintf("%s does not get position %d of %v", s.l.d.name, f.Position, f.Room)
	n.mu.Lock()
	if n.withheld == "" {
		n.withheld = what
	}
	lost := n.withheld == what
	n.mu.Unlock()
	if lost {
		n.lies("%s", what)
	}
	return lost
}

func (s *stream) Write(ctx context.Context, frame []byte) error {
	if s.l.chance(2) {
		_ = s.conn.CloseNow()
		return unreachable(errNetwork)
	}
	if err := s.conn.Write(ctx, websocket.MessageBinary, frame); err != nil {
		return unreachable(err)
	}
	return nil
}

func (s *stream) Close() error { return s.conn.CloseNow() }
