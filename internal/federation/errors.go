package federation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The kinds of failure that have a status code of their own. Packages that
// implement or call [Backend] wrap one of them; [Status] maps them.
var (
	ErrMalformed       = errors.New("malformed request")                      // 400
	ErrUnauthenticated = errors.New("peer is not authenticated")              // 401
	ErrForbidden       = errors.New("peer is not allowed to do this")         // 403
	ErrNotFound        = errors.New("no such resource")                       // 404
	ErrMethod          = errors.New("method not allowed")                     // 405
	ErrTooLarge        = errors.New("request body is too large")              // 413
	ErrMediaType       = errors.New("media type is not supported")            // 415
	ErrMisdirected     = errors.New("request is for another provider")        // 421
	ErrRateLimited     = errors.New("too many requests")                      // 429
	ErrUnavailable     = errors.New("temporarily unavailable")                // 503
	ErrUnreachable     = errors.New("peer cannot be reached")                 // 503 towards others
	ErrNotPeer         = errors.New("provider is not on the allowlist")       // 403
	ErrBadPeer         = errors.New("peer broke the protocol")                // 502 towards others
	ErrClosed          = errors.New("federation is shutting down")            // 503
	ErrNoEndpoint      = errors.New("peer does not offer this endpoint")      // 502 towards others
	ErrPeerIdentity    = errors.New("peer did not prove its provider domain") // 502 towards others
)

// statusTable maps kinds to HTTP status codes (CONFORMANCE.md, protocol section 5). The first
// match wins.
var statusTable = []struct {
	kind   error
	status int
}{
	{ErrRateLimited, http.StatusTooManyRequests},
	{ErrUnavailable, http.StatusServiceUnavailable},
	{ErrClosed, http.StatusServiceUnavailable},
	{ErrMalformed, http.StatusBadRequest},
	{ErrUnauthenticated, http.StatusUnauthorized},
	{ErrForbidden, http.StatusForbidden},
	{ErrNotPeer, http.StatusForbidden},
	{ErrNotFound, http.StatusNotFound},
	{ErrMethod, http.StatusMethodNotAllowed},
	{ErrTooLarge, http.StatusRequestEntityTooLarge},
	{ErrMediaType, http.StatusUnsupportedMediaType},
	{ErrMisdirected, http.StatusMisdirectedRequest},
	{ErrUnreachable, http.StatusServiceUnavailable},
	{ErrPeerIdentity, http.StatusBadGateway},
	{ErrBadPeer, http.StatusBadGateway},
	{ErrNoEndpoint, http.StatusBadGateway},
	{context.DeadlineExceeded, http.StatusServiceUnavailable},
	{context.Canceled, http.StatusServiceUnavailable},
}

// Status returns the HTTP status code for err, and how long the peer should
// wait before it tries again (0: not said). Errors of no known kind are 500.
// The text of err is for the log, never for the response.
func Status(err error) (status int, retryAfter time.Duration) {
	if err == nil {
		return http.StatusOK, 0
	}
	status = http.StatusInternalServerError
	for _, row := range statusTable {
		if errors.Is(err, row.kind) {
			status = row.status
			break
		}
	}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		retryAfter = RetryAfter(err)
		if retryAfter <= 0 {
			retryAfter = defaultRetryAfter
		}
	}
	return status, retryAfter
}

// defaultRetryAfter is what a peer is told when the error does not say more.
const defaultRetryAfter = 5 * time.Second

// A delayError is an error that knows when to try again.
type delayError struct {
	err   error
	after time.Duration
}

func (e *delayError) Error() string {
	return fmt.Sprintf("%v (try again in %v)", e.err, e.after.Round(time.Millisecond))
}
func (e *delayError) Unwrap() error { return e.err }

// Delay returns err with the advice to try again after d.
func Delay(err error, d time.Duration) error { return &delayError{err, d} }

// RetryAfter returns the advice that err carries, or 0.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*delayError](err); ok {
		return e.after
	}
	if e, ok := errors.AsType[*StatusError](err); ok {
		return e.RetryAfter
	}
	return 0
}

// A StatusError is a peer's answer with a status code other than 2xx. It
// matches ErrRateLimited, ErrUnavailable, ErrNotFound, ErrForbidden,
// ErrTooLarge and ErrMalformed by its code, so that [Status] passes the
// meaning on.
type StatusError struct {
	Domain     string
	Endpoint   Endpoint
	Status     int
	RetryAfter time.Duration // 0 when the peer did not say
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("federation: %s answered %s with %d %s", e.Domain, e.Endpoint, e.Status, http.StatusText(e.Status))
}

// Is implements the matching described at StatusError.
func (e *StatusError) Is(target error) bool {
	switch target {
	case ErrRateLimited:
		return e.Status == http.StatusTooManyRequests
	case ErrUnavailable:
		return e.Status == http.StatusServiceUnavailable || e.Status == http.StatusBadGateway ||
			e.Status == http.StatusGatewayTimeout || e.Status == http.StatusInternalServerError
	case ErrNotFound:
		return e.Status == http.StatusNotFound
	case ErrForbidden:
		return e.Status == http.StatusForbidden || e.Status == http.StatusUnauthorized
	case ErrTooLarge:
		return e.Status == http.StatusRequestEntityTooLarge
	case ErrMalformed:
		return e.Status == http.StatusBadRequest
	}
	return false
}

// Unreached reports whether err leaves open that the peer never processed the
// request, or says that it will do so later: the request may be repeated.
func Unreached(err error) bool {
	return errors.Is(err, ErrUnreachable) || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrRateLimited) ||
		errors.Is(err, ErrClosed) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// parseRetryAfter reads a Retry-After field (RFC 9110 section 10.2.3): delay
// seconds or an HTTP date. What cannot be read is 0; the result is at most
// maxRetryAfter.
func parseRetryAfter(field string, now time.Time) time.Duration {
	field = strings.TrimSpace(field)
	if field == "" {
		return 0
	}
	var d time.Duration
	if n, err := strconv.ParseUint(field, 10, 32); err == nil {
		d = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(field); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

// maxRetryAfter bounds what a peer can ask for: it can slow us down, not stop
// us for good.
const maxRetryAfter = time.Hour

// retryAfterField renders d as delay seconds, rounded up.
func retryAfterField(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
