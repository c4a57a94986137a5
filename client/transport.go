package client

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrUnreachable is matched by every error of a [Transport] after which it is
// unknown whether the provider has seen the request: no connection, a broken
// connection, a time-out. The request may be sent again, byte for byte.
var ErrUnreachable = errors.New("client: provider not reachable")

// A Request is one HTTP request to the device's own provider.
type Request struct {
	Method string
	// Path is the escaped path and query below the provider's client API
	// root; it starts with "/v1/".
	Path        string
	ContentType string // empty: no body
	Body        []byte
	Token       string // bearer token; empty: none
}

// A Response is what the provider answered.
type Response struct {
	Status      int
	ContentType string
	Body        []byte
	RetryAfter  time.Duration // from a Retry-After header; zero: none
}

// A Transport carries requests and one stream of frames to the device's own
// provider. It knows nothing of their meaning, keeps no state between calls,
// never repeats a request by itself, and may be called concurrently. The
// implementation over net/http is [HTTPTransport]; a browser has its own.
type Transport interface {
	// Do sends a request and reads the whole answer, whatever its status. It
	// fails with an error that matches ErrUnreachable if there was none.
	Do(ctx context.Context, req Request) (Response, error)
	// Stream opens the stream of frames (mimi/local). The context bounds the
	// opening only. A refusal by the provider is a *StatusError.
	Stream(ctx context.Context, token string) (Stream, error)
}

// A Stream carries binary frames in both directions. One goroutine may read
// while others write.
type Stream interface {
	// Read returns the next frame. After an error, also one caused by the
	// context, the stream is of no further use.
	Read(ctx context.Context) ([]byte, error)
	Write(ctx context.Context, frame []byte) error
	// Close ends the stream at once and makes a pending Read fail.
	Close() error
}

// A StatusError says that the provider understood a request and refused it.
type StatusError struct {
	Status int
	Code   string // stable code of the problem document, may be empty
	Detail string // text for people
	// RetryAfter is how long the provider asks to wait; zero: it says nothing.
	RetryAfter time.Duration
}

func (e *StatusError) Error() string {
	switch {
	case e.Code != "" && e.Detail != "":
		return fmt.Sprintf("client: provider refused (%d %s): %s", e.Status, e.Code, e.Detail)
	case e.Code != "":
		return fmt.Sprintf("client: provider refused (%d %s)", e.Status, e.Code)
	default:
		return fmt.Sprintf("client: provider refused (status %d)", e.Status)
	}
}
