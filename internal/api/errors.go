package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/keys"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi/local"
)

// Errors of this package that a client can act on.
var (
	ErrMalformed = errors.New("api: malformed request")
	ErrEnrolment = errors.New("api: the enrolment code is unknown, used or expired, or the signature does not fit; ask your provider for a new code")
	ErrForbidden = errors.New("api: not allowed")
	ErrMediaType = errors.New("api: unsupported media type; send " + local.MediaTypeTLS)
	ErrLogin     = errors.New("api: the device is unknown or revoked, or the signature does not fit")
)

// problems maps errors to status and code. The first match wins. Quoted says
// whether the error's text is for the client; all others get a fixed text.
var problems = []struct {
	err    error
	status int
	code   string
	quoted bool
}{
	{ErrMalformed, http.StatusBadRequest, local.CodeMalformed, true},
	{tlspl.ErrSyntax, http.StatusBadRequest, local.CodeMalformed, true},
	{keys.ErrKeyPackage, http.StatusBadRequest, local.CodeMalformed, true},
	{ErrMediaType, http.StatusUnsupportedMediaType, local.CodeMediaType, true},
	{ErrToken, http.StatusUnauthorized, local.CodeUnauthenticated, true},
	{ErrChallenge, http.StatusUnauthorized, local.CodeUnauthenticated, true},
	{ErrLogin, http.StatusUnauthorized, local.CodeUnauthenticated, true},
	{ErrEnrolment, http.StatusForbidden, local.CodeForbidden, true},
	{ErrForbidden, http.StatusForbidden, local.CodeForbidden, true},
	{keys.ErrRequester, http.StatusForbidden, local.CodeForbidden, true},
	{keys.ErrPoolFull, http.StatusConflict, local.CodeConflict, true},
	{ErrBusy, http.StatusTooManyRequests, local.CodeRateLimited, true},
	{store.ErrFull, http.StatusInsufficientStorage, local.CodeFull, false},
	{store.ErrExists, http.StatusConflict, local.CodeConflict, false},
	{store.ErrNotFound, http.StatusNotFound, local.CodeNotFound, false},
	{store.ErrInvalid, http.StatusBadRequest, local.CodeMalformed, false},
	{store.ErrBroken, http.StatusServiceUnavailable, local.CodeUnavailable, false},
	{store.ErrClosed, http.StatusServiceUnavailable, local.CodeUnavailable, false},
	{federation.ErrRateLimited, http.StatusTooManyRequests, local.CodeRateLimited, false},
	{federation.ErrMalformed, http.StatusBadRequest, local.CodeMalformed, true},
	{federation.ErrForbidden, http.StatusForbidden, local.CodeForbidden, true},
	{federation.ErrNotFound, http.StatusNotFound, local.CodeNotFound, false},
	{federation.ErrTooLarge, http.StatusRequestEntityTooLarge, local.CodeTooLarge, false},
	{federation.ErrNotPeer, http.StatusForbidden, local.CodeForbidden, true},
	{federation.ErrUnreachable, http.StatusBadGateway, local.CodePeer, true},
	{federation.ErrPeerIdentity, http.StatusBadGateway, local.CodePeer, true},
	{federation.ErrBadPeer, http.StatusBadGateway, local.CodePeer, true},
	{federation.ErrNoEndpoint, http.StatusBadGateway, local.CodePeer, true},
	{identity.ErrUnknownDomain, http.StatusBadGateway, local.CodePeer, true},
	{federation.ErrUnavailable, http.StatusServiceUnavailable, local.CodeUnavailable, false},
	{federation.ErrClosed, http.StatusServiceUnavailable, local.CodeUnavailable, false},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, local.CodeUnavailable, false},
	{context.Canceled, http.StatusServiceUnavailable, local.CodeUnavailable, false},
}

// messages are the fixed texts by code.
var messages = map[string]string{
	local.CodeMalformed:       "the request can't be parsed",
	local.CodeUnauthenticated: "get a token with the device's key and send it as a bearer token",
	local.CodeForbidden:       "not allowed",
	local.CodeNotFound:        "there is no such thing here",
	local.CodeMethod:          "the path is known, but not with this method",
	local.CodeConflict:        "it exists already",
	local.CodeTooLarge:        "the body is too large",
	local.CodeMediaType:       "unsupported media type",
	local.CodeRateLimited:     "too many requests; wait, then try again",
	local.CodeInternal:        "the provider failed; it has logged why",
	local.CodePeer:            "the other provider did not answer as it should; try again later",
	local.CodeUnavailable:     "the provider is not available at the moment; try again",
	local.CodeFull:            "the provider's disk is full; nothing was stored, try again later",
}

// A problem is an error as the client sees it.
type problem struct {
	local.Problem
	status     int
	retryAfter time.Duration
}

func (p *problem) Error() string  { return p.Message }
func (p *problem) GetStatus() int { return p.status }

// ContentType keeps huma from announcing RFC 9457, whose fields these are not.
func (p *problem) ContentType(string) string { return local.MediaTypeJSON }

// problemOf maps an error.
func problemOf(err error) *problem {
	p := &problem{status: http.StatusInternalServerError, Problem: local.Problem{Code: local.CodeInternal}}
	quoted := false
	for _, row := range problems {
		if errors.Is(err, row.err) {
			p.status, p.Code, quoted = row.status, row.code, row.quoted
			break
		}
	}
	p.Message = messages[p.Code]
	if quoted {
		p.Message = err.Error()
	}
	if p.status == http.StatusServiceUnavailable || p.status == http.StatusTooManyRequests || p.status == http.StatusBadGateway {
		p.retryAfter = federation.RetryAfter(err)
		if p.retryAfter <= 0 {
			p.retryAfter = 2 * time.Second
		}
	}
	return p
}

// ofStatus maps the errors that huma itself makes.
func ofStatus(status int, detail string) *problem {
	code := map[int]string{
		http.StatusBadRequest: local.CodeMalformed, http.StatusUnprocessableEntity: local.CodeMalformed,
		http.StatusUnauthorized: local.CodeUnauthenticated, http.StatusForbidden: local.CodeForbidden,
		http.StatusNotFound: local.CodeNotFound, http.StatusMethodNotAllowed: local.CodeMethod,
		http.StatusRequestTimeout: local.CodeUnavailable, http.StatusRequestEntityTooLarge: local.CodeTooLarge,
		http.StatusUnsupportedMediaType: local.CodeMediaType, http.StatusTooManyRequests: local.CodeRateLimited,
	}[status]
	if code == "" {
		code, detail = local.CodeInternal, ""
	}
	if detail == "" {
		detail = messages[code]
	}
	return &problem{status: status, Problem: local.Problem{Code: code, Message: detail}}
}

// failed logs an error that is ours and returns it as the client sees it.
func (a *API) failed(ctx context.Context, op string, err error) error {
	p := problemOf(err)
	if p.status == http.StatusInternalServerError || p.status == http.StatusInsufficientStorage {
		a.cfg.Log.ErrorContext(ctx, "request failed", "operation", op, "error", err)
	} else {
		a.cfg.Log.DebugContext(ctx, "request refused", "operation", op, "code", p.Code, "error", err)
	}
	if p.retryAfter > 0 {
		seconds := int((p.retryAfter + time.Second - 1) / time.Second)
		return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {strconv.Itoa(seconds)}})
	}
	return p
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// uniform gives the refusals that huma makes by itself the form of all others:
// the media type of a Problem, whose fields are not those of RFC 9457, and 400
// for whatever is wrong with a request.
type uniform struct{ http.ResponseWriter }

func (u *uniform) WriteHeader(status int) {
	if u.Header().Get("Content-Type") == "application/problem+json" {
		u.Header().Set("Content-Type", local.MediaTypeJSON)
	}
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest
	}
	u.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (u *uniform) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// muted keeps the status of an answer and drops its text.
type muted struct {
	http.ResponseWriter
	status int
}

func (m *muted) WriteHeader(status int)      { m.status = status }
func (m *muted) Write(b []byte) (int, error) { return len(b), nil }
