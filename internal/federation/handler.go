package federation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/comity-im/comity/mimi"
)

// A Backend answers the requests of authenticated peers. Bodies are within the
// limits of their endpoint and otherwise as received; the backend may keep
// them. Answers are sent with 200 (notify: 201 without a body). Refusals that
// the protocol has a code for are answers, not errors; errors are mapped by
// [Status].
type Backend interface {
	// KeyMaterial claims key packages of user, who may live on a third provider
	// when we are the hub of the request's room.
	KeyMaterial(ctx context.Context, peer string, user mimi.URI, body []byte) ([]byte, error)
	// Update changes a room of ours.
	Update(ctx context.Context, peer string, room mimi.URI, body []byte) ([]byte, error)
	// Submit posts a message to a room of ours.
	Submit(ctx context.Context, peer string, room mimi.URI, body []byte) ([]byte, error)
	// Notify takes events of a room whose hub is peer. It returns nil once they
	// are stored.
	Notify(ctx context.Context, peer string, room mimi.URI, body []byte) error
	// GroupInfo gives out the group information of a room of ours.
	GroupInfo(ctx context.Context, peer string, room mimi.URI, body []byte) ([]byte, error)
}

// A Handler serves the directory, the anchor statement and the endpoints. It
// matches on the escaped path, because a key is one escaped segment with
// slashes in it: it must not stand behind a mux that cleans paths.
type Handler struct {
	peers   *Peers
	backend Backend
	prefix  string // path of the base URL, with a slash at its end
}

// NewHandler returns a Handler that calls backend.
func NewHandler(p *Peers, backend Backend) *Handler {
	return &Handler{peers: p, backend: backend, prefix: strings.TrimSuffix(p.base.EscapedPath(), "/") + "/"}
}

// Serves reports whether the escaped path belongs to the Handler, for a
// listener that serves other things as well.
func (h *Handler) Serves(escapedPath string) bool {
	return escapedPath == mimi.DirectoryPath || strings.HasPrefix(escapedPath, h.prefix)
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := h.peers
	start := p.cfg.Now()
	endpoint, key := h.route(r.URL.EscapedPath())
	var peer string
	var size int
	var err error
	status := 0
	switch endpoint {
	case endpointUnknown:
		err = fmt.Errorf("federation: %w", ErrNotFound)
	case endpointDirectory, endpointAnchor:
		status, err = h.document(w, r, endpoint)
	default:
		peer, size, status, err = h.post(w, r, endpoint, key)
	}
	if err != nil {
		var retry time.Duration
		status, retry = Status(err)
		h.fail(w, endpoint, status, retry)
		level := p.cfg.Log.Info
		if status == http.StatusInternalServerError {
			level = p.cfg.Log.Error
		}
		level("request of peer refused", "peer", peer, "endpoint", endpoint, "status", status, "error", err)
	}
	p.cfg.Metrics.Inbound(peer, endpoint, status, size, p.cfg.Now().Sub(start))
}

// route splits an escaped path into the endpoint and the escaped key.
func (h *Handler) route(path string) (Endpoint, string) {
	if path == mimi.DirectoryPath {
		return endpointDirectory, ""
	}
	rest, ok := strings.CutPrefix(path, h.prefix)
	if !ok {
		return endpointUnknown, ""
	}
	if rest == anchorName {
		return endpointAnchor, ""
	}
	name, key, ok := strings.Cut(rest, "/")
	if ok {
		for _, e := range ownEndpoints {
			if string(e) == name {
				return e, key
			}
		}
	}
	return endpointUnknown, ""
}

// document serves the directory or the anchor statement. Both are public.
func (h *Handler) document(w http.ResponseWriter, r *http.Request, what Endpoint) (int, error) {
	p := h.peers
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return 0, fmt.Errorf("federation: %w", ErrMethod)
	}
	if err := p.checkHost(r); err != nil {
		return 0, err
	}
	var body []byte
	if what == endpointDirectory {
		d, err := p.OwnDirectory()
		if err != nil {
			return 0, err
		}
		if body, err = marshalDirectory(d); err != nil {
			return 0, err
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", directoryServed)
	} else {
		if p.cfg.Anchor == nil {
			return 0, fmt.Errorf("federation: no anchor statement: %w", ErrNotFound)
		}
		var err error
		if body, err = p.cfg.Anchor(); err != nil {
			return 0, err
		}
		w.Header().Set("Content-Type", mimi.MediaTypeOctet)
		w.Header().Set("Cache-Control", anchorServed)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(body)
	}
	return http.StatusOK, nil
}

// post authenticates a request, reads its body and has it answered. Nothing of
// the body is read before the sender is known and within its limits.
func (h *Handler) post(w http.ResponseWriter, r *http.Request, endpoint Endpoint, key string) (peer string, size, status int, err error) {
	p := h.peers
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		return "", 0, 0, fmt.Errorf("federation: %w", ErrMethod)
	}
	if err := p.checkHost(r); err != nil {
		return "", 0, 0, err
	}
	domain, err := p.clientDomain(r)
	if err != nil {
		return "", 0, 0, err
	}
	q, err := p.peer(domain)
	if err != nil {
		return "", 0, 0, err
	}
	peer = domain
	done, err := p.admit(q, endpoint)
	if err != nil {
		return peer, 0, 0, err
	}
	defer done()
	p.alive(q)
	uri, err := parseKey(endpoint, key)
	if err != nil {
		return peer, 0, 0, err
	}
	// Only a room's hub notifies.
	if endpoint == mimi.EndpointNotify && uri.Domain() != peer {
		return peer, 0, 0, fmt.Errorf("federation: %w: %s is not the hub of %s", ErrForbidden, peer, uri)
	}
	body, err := p.readBody(w, r, endpoint)
	if err != nil {
		return peer, len(body), 0, err
	}
	answer, err := h.call(r.Context(), peer, endpoint, uri, body)
	if err != nil {
		return peer, len(body), 0, err
	}
	if endpoint == mimi.EndpointNotify {
		w.WriteHeader(http.StatusCreated)
		return peer, len(body), http.StatusCreated, nil
	}
	w.Header().Set("Content-Type", answerType(r))
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(answer)
	return peer, len(body), http.StatusOK, nil
}

func (h *Handler) call(ctx context.Context, peer string, endpoint Endpoint, key mimi.URI, body []byte) ([]byte, error) {
	switch endpoint {
	case mimi.EndpointKeyMaterial:
		return h.backend.KeyMaterial(ctx, peer, key, body)
	case mimi.EndpointUpdate:
		return h.backend.Update(ctx, peer, key, body)
	case mimi.EndpointSubmitMessage:
		return h.backend.Submit(ctx, peer, key, body)
	case mimi.EndpointNotify:
		return nil, h.backend.Notify(ctx, peer, key, body)
	case mimi.EndpointGroupInfo:
		return h.backend.GroupInfo(ctx, peer, key, body)
	}
	return nil, fmt.Errorf("federation: endpoint %q: %w", endpoint, ErrNotFound)
}

// fail writes a refusal without a body: what it means for the protocol is its
// status, and why is nobody's business.
func (h *Handler) fail(w http.ResponseWriter, endpoint Endpoint, status int, retry time.Duration) {
	for _, name := range []string{"Content-Type", "Content-Length", "Cache-Control"} {
		w.Header().Del(name)
	}
	if retry > 0 {
		w.Header().Set("Retry-After", retryAfterField(retry))
	}
	w.WriteHeader(status)
}

// checkHost compares the Host field with our provider domain; the port does
// not count (section 4.1).
func (p *Peers) checkHost(r *http.Request) error {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if !strings.EqualFold(strings.TrimSuffix(host, "."), p.cfg.Domain) {
		return fmt.Errorf("federation: %w: Host is %q", ErrMisdirected, r.Host)
	}
	return nil
}

// admit counts a request of q, unless q has too many under way or makes them
// too fast.
func (p *Peers) admit(q *peer, endpoint Endpoint) (done func(), err error) {
	if p.cfg.Limiter != nil {
		if ok, after := p.cfg.Limiter.Allow(q.domain, endpoint); !ok {
			return nil, Delay(fmt.Errorf("federation: %s: %w", q.domain, ErrRateLimited), max(after, time.Second))
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.inFlight >= p.cfg.Limits.PeerInFlight {
		return nil, Delay(fmt.Errorf("federation: %s: %w: %d under way", q.domain, ErrRateLimited, q.inFlight), time.Second)
	}
	q.inFlight++
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.inFlight--
	}, nil
}

func parseKey(endpoint Endpoint, escaped string) (mimi.URI, error) {
	uri, err := mimi.ParsePathSegment(escaped)
	if err != nil {
		return mimi.URI{}, fmt.Errorf("federation: %w: %w", ErrMalformed, err)
	}
	kind := mimi.KindRoom
	if endpoint == mimi.EndpointKeyMaterial {
		kind = mimi.KindUser
	}
	if !uri.Is(kind) {
		return mimi.URI{}, fmt.Errorf("federation: %w: %s wants a %s URI in its path", ErrMalformed, endpoint, kind)
	}
	return uri, nil
}

// readBody reads a body within the limit of its endpoint. A body that says it
// is larger is not read at all.
func (p *Peers) readBody(w http.ResponseWriter, r *http.Request, endpoint Endpoint) ([]byte, error) {
	limit := p.cfg.Limits.Request[endpoint]
	if r.ContentLength > limit {
		return nil, fmt.Errorf("federation: %w: %d octets; the limit of %s is %d", ErrTooLarge, r.ContentLength, endpoint, limit)
	}
	if ct := r.Header.Get("Content-Type"); ct != "" {
		media, _, err := mime.ParseMediaType(ct)
		if err != nil || media != mimi.MediaType && media != mimi.MediaTypeOctet {
			return nil, fmt.Errorf("federation: %w: %q", ErrMediaType, ct)
		}
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return nil, fmt.Errorf("federation: %w: content encoding %q", ErrMediaType, enc)
	}
	// A transport that has no deadlines has its own ways to end a request.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(p.cfg.Limits.BodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, fmt.Errorf("federation: %w: more than %d octets", ErrTooLarge, limit)
		}
		return nil, fmt.Errorf("federation: %w: reading the body: %w", ErrMalformed, err)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return body, nil
}

// answerType picks the media type of a response: the private name if the peer
// accepts it.
func answerType(r *http.Request) string {
	for _, field := range r.Header.Values("Accept") {
		for item := range strings.SplitSeq(field, ",") {
			if media, _, err := mime.ParseMediaType(item); err == nil && media == mimi.MediaType {
				return mimi.MediaType
			}
		}
	}
	return mimi.MediaTypeOctet
}
