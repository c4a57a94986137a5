package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/danielgtaylor/huma/v2"

	"github.com/comity-im/comity/internal/delivery"
	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
)

const streamPattern = "GET " + local.PathStream

// stream registers the WebSocket. huma has no word for one, so it is described
// by hand.
func (a *API) stream() {
	a.doc.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "stream", Method: http.MethodGet, Path: local.PathStream,
		Summary:     "Open the stream of events and mail (WebSocket, binary frames of package mimi/local)",
		Description: "The client subscribes to each room after the position it has, and may do so again at any time.",
		Security:    []map[string][]string{{"device": {}}},
		Responses: map[string]*huma.Response{
			"101": {Description: "the WebSocket is open"},
			"401": {Description: "no valid token"},
		},
	})
	a.mux.HandleFunc(streamPattern, func(w http.ResponseWriter, r *http.Request) {
		device, err := a.device(r.Context(), r.Header.Get("Authorization"))
		if err != nil {
			writeProblem(w, err)
			return
		}
		uri, err := mimi.ParseURI(device.URI)
		if err != nil {
			writeProblem(w, err)
			return
		}
		if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			writeProblem(w, malformed("this is a WebSocket; ask for the upgrade"))
			return
		}
		// The token authenticates, so another origin gains nothing by connecting.
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
			InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled,
		})
		if err != nil {
			return // Accept has answered
		}
		defer conn.CloseNow()
		conn.SetReadLimit(local.MaxClientFrame)
		err = a.serve(r.Context(), uri, conn)
		if code, _ := closing(err); code == websocket.StatusInternalError {
			a.cfg.Log.ErrorContext(r.Context(), "stream failed", "device", device.URI, "error", err)
		} else {
			a.cfg.Log.DebugContext(r.Context(), "stream ended", "device", device.URI, "error", err)
		}
	})
}

// serve runs the stream of one connection until either side ends it, and tells
// the client why. That comes first: the end of a context cuts off whatever
// reads or writes, and with it the connection, without a word.
func (a *API) serve(ctx context.Context, device mimi.URI, conn *websocket.Conn) error {
	out := &sink{conn: conn, timeout: a.cfg.WriteTimeout}
	out.gather, _ = ctx.Value(gathererKey{}).(*gatherer)
	s := a.cfg.Delivery.Open(device, out)
	defer s.Close()
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	parts := []func() error{
		func() error { return s.Run(ctx) },
		func() error { return read(ctx, s, conn) },
		func() error { return a.probe(ctx, conn) },
	}
	ended := make(chan error, len(parts))
	for _, part := range parts {
		group.Go(func() { ended <- part() })
	}
	err := <-ended
	_ = conn.Close(closing(err))
	return err
}

// errGone marks errors of the connection, which are nobody's fault here.
var errGone = errors.New("api: the client is gone")

// read hands the client's frames to the stream.
func read(ctx context.Context, s *delivery.Stream, conn *websocket.Conn) error {
	for {
		kind, b, err := conn.Read(ctx)
		if err != nil {
			return fmt.Errorf("%w: %w", errGone, err)
		}
		if kind != websocket.MessageBinary {
			return delivery.ErrFrame
		}
		var f local.Frame
		if err := tlspl.Unmarshal(b, &f); err != nil {
			return fmt.Errorf("%w: %w", delivery.ErrFrame, err)
		}
		if err := s.Handle(ctx, &f); err != nil {
			return err
		}
	}
}

// probe finds out that a client went away without a word.
func (a *API) probe(ctx context.Context, conn *websocket.Conn) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(a.cfg.PingEvery):
		}
		ping, cancel := context.WithTimeout(ctx, a.cfg.WriteTimeout)
		err := conn.Ping(ping)
		cancel()
		if err != nil {
			return fmt.Errorf("%w: %w", errGone, err)
		}
	}
}

// sink writes frames to a connection and gives up on one that takes too long.
type sink struct {
	conn    *websocket.Conn
	gather  *gatherer // beneath conn, or nil
	timeout time.Duration
}

func (s *sink) Send(ctx context.Context, frames [][]byte) error {
	if err := s.send(ctx, frames); err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return nil
}

func (s *sink) send(ctx context.Context, frames [][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if s.gather == nil || len(frames) < 2 {
		return s.write(ctx, frames)
	}
	// What is held back is written here, beyond the reach of the WebSocket's
	// own time limit.
	unhook := context.AfterFunc(ctx, func() { _ = s.gather.Close() })
	defer unhook()
	s.gather.hold()
	err := s.write(ctx, frames)
	if e := s.gather.release(); err == nil && e != nil {
		err = e
		if ctx.Err() != nil {
			err = ctx.Err()
		}
	}
	return err
}

func (s *sink) write(ctx context.Context, frames [][]byte) error {
	for _, frame := range frames {
		if err := s.conn.Write(ctx, websocket.MessageBinary, frame); err != nil {
			return err
		}
	}
	return nil
}

// closing maps why a stream ended to what the client is told.
func closing(err error) (websocket.StatusCode, string) {
	switch {
	case websocket.CloseStatus(err) != -1, errors.Is(err, context.Canceled):
		return websocket.StatusNormalClosure, ""
	case errors.Is(err, delivery.ErrFrame), errors.Is(err, delivery.ErrTooMany):
		return websocket.StatusPolicyViolation, err.Error()[:min(len(err.Error()), 120)]
	case errors.Is(err, websocket.ErrMessageTooBig):
		return websocket.StatusMessageTooBig, ""
	case errors.Is(err, delivery.ErrClosed):
		return websocket.StatusGoingAway, "the device was disconnected"
	case errors.Is(err, context.DeadlineExceeded):
		return websocket.StatusTryAgainLater, "too slow"
	case errors.Is(err, errGone):
		return websocket.StatusGoingAway, ""
	}
	return websocket.StatusInternalError, ""
}
