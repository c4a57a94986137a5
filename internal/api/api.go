package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/comity-im/comity/internal/delivery"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

// Rooms carries out what clients ask about rooms, wherever the hub is. The
// device is authenticated; bodies are MIMI bodies.
type Rooms interface {
	// Create makes this provider the hub of a new room of the device's user. The
	// body is a local.CreateRoomRequest.
	Create(ctx context.Context, device store.Device, body []byte) error
	Update(ctx context.Context, device store.Device, room mimi.URI, body []byte) ([]byte, error)
	// Submit returns the hub's answer, or the domain of the hub if it can't be
	// reached and the message is durably pending.
	Submit(ctx context.Context, device store.Device, room mimi.URI, body []byte) (answer []byte, pendingAt string, err error)
	GroupInfo(ctx context.Context, device store.Device, room mimi.URI, body []byte) ([]byte, error)
	KeyMaterial(ctx context.Context, device store.Device, user mimi.URI, body []byte) ([]byte, error)
}

// Keys is the pool of KeyPackages.
type Keys interface {
	Publish(ctx context.Context, device mimi.URI, kps []mls.KeyPackage) error
	Count(ctx context.Context, device mimi.URI) (int, error)
}

// Directory is what this package needs of the store.
type Directory interface {
	Device(ctx context.Context, uri string) (store.Device, error)
	Enrolment(ctx context.Context, codeHash store.Hash) (store.Enrolment, error)
	UseEnrolment(ctx context.Context, codeHash store.Hash, d store.Device, now uint64) error
}

// Config is what the API needs. All fields are required but those with a
// default.
type Config struct {
	Domain    string
	Directory Directory
	Tokens    *Tokens
	Keys      Keys
	Rooms     Rooms
	Delivery  *delivery.Delivery
	// Issue certifies a device's key.
	Issue func(user, device mimi.URI, suite mls.CipherSuite, publicKey []byte) (der []byte, err error)
	// Anchor returns the encoded AnchorStatement of a domain, our own included.
	Anchor func(ctx context.Context, domain string) ([]byte, error)
	// ExternalSender is the provider's own, encoded.
	ExternalSender []byte
	Now            func() time.Time // default time.Now
	Log            *slog.Logger     // default: discarded
	// Observe is told of every answered request; default: nobody.
	Observe func(operation string, status int, took time.Duration)
	// WriteTimeout is how long a client may take to accept a frame before it is
	// cut off; default 20 s. PingEvery is how often a silent one is probed;
	// default 45 s.
	WriteTimeout, PingEvery time.Duration
}

// API serves the client API. It is an http.Handler.
type API struct {
	cfg Config
	mux *http.ServeMux
	doc huma.API
}

// New returns the API.
func New(cfg Config) *API {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string, int, time.Duration) {}
	}
	if cfg.WriteTimeout <= 0 {
		cfg.WriteTimeout = 20 * time.Second
	}
	if cfg.PingEvery <= 0 {
		cfg.PingEvery = 45 * time.Second
	}
	a := &API{cfg: cfg, mux: http.NewServeMux()}
	h := huma.DefaultConfig("Comity client API", "1")
	h.Info.Description = "Between a provider and its own clients. Bodies of media type " + local.MediaTypeTLS +
		" are MIMI structures (draft-ietf-mimi-protocol-06) or KeyPackages in the TLS presentation language."
	h.DocsPath = "" // the page would load scripts from elsewhere
	h.SchemasPath = ""
	h.CreateHooks = nil // no $schema links in answers
	h.Transformers = append(h.Transformers, func(_ huma.Context, _ string, v any) (any, error) {
		if e, ok := v.(*huma.ErrorModel); ok {
			detail := e.Detail
			for _, d := range e.Errors {
				// Without the value: it may be secret, and may be large.
				detail += "; " + d.Message
				if d.Location != "" {
					detail += " (" + d.Location + ")"
				}
			}
			return ofStatus(e.Status, detail).Problem, nil
		}
		return v, nil
	})
	h.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"device": {Type: "http", Scheme: "bearer"}}
	a.doc = humago.New(a.mux, h)
	a.doc.UseMiddleware(a.observe, a.authenticate)
	a.accounts()
	a.rooms()
	a.stream()
	return a
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch h, pattern := a.mux.Handler(r); pattern {
	case "": // of the mux itself, in plain text
		refused := &muted{ResponseWriter: w}
		h.ServeHTTP(refused, r)
		writeAnswer(w, ofStatus(refused.status, ""))
	case streamPattern:
		a.mux.ServeHTTP(w, r)
	default:
		a.mux.ServeHTTP(&uniform{w}, r)
	}
}

// OpenAPI returns the description of the API as JSON.
func (a *API) OpenAPI() ([]byte, error) { return a.doc.OpenAPI().MarshalJSON() }

func (a *API) observe(ctx huma.Context, next func(huma.Context)) {
	start := a.cfg.Now()
	next(ctx)
	a.cfg.Observe(ctx.Operation().OperationID, ctx.Status(), a.cfg.Now().Sub(start))
}

type deviceKey struct{}

// authenticate lets operations with security through only with a token of a
// device that is not revoked, and puts the device into the context.
func (a *API) authenticate(ctx huma.Context, next func(huma.Context)) {
	if len(ctx.Operation().Security) == 0 {
		next(ctx)
		return
	}
	device, err := a.device(ctx.Context(), ctx.Header("Authorization"))
	if err != nil {
		p := problemOf(err)
		ctx.SetHeader("Content-Type", local.MediaTypeJSON)
		ctx.SetHeader("WWW-Authenticate", `Bearer realm="`+a.cfg.Domain+`"`)
		ctx.SetStatus(p.status)
		_ = json.NewEncoder(ctx.BodyWriter()).Encode(p.Problem)
		return
	}
	next(huma.WithValue(ctx, deviceKey{}, device))
}

// device returns the device that an Authorization header names.
func (a *API) device(ctx context.Context, header string) (store.Device, error) {
	token, ok := strings.CutPrefix(header, "Bearer ")
	if !ok {
		return store.Device{}, ErrToken
	}
	uri, err := a.cfg.Tokens.Device(token)
	if err != nil {
		return store.Device{}, err
	}
	d, err := a.cfg.Directory.Device(ctx, uri.String())
	if errors.Is(err, store.ErrNotFound) || (err == nil && d.Revoked != 0) {
		return store.Device{}, ErrToken
	}
	return d, err
}

func deviceOf(ctx context.Context) store.Device {
	d, _ := ctx.Value(deviceKey{}).(store.Device)
	return d
}

// operation describes one call. Limit is the largest body, in octets.
func operation(id, method, path, summary string, limit int64, public bool, errs ...int) huma.Operation {
	op := huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, MaxBodyBytes: limit,
		Errors: append([]int{http.StatusBadRequest, http.StatusInternalServerError, http.StatusServiceUnavailable}, errs...),
		// A body may take its time on a slow line, not forever.
		BodyReadTimeout: 30 * time.Second,
	}
	if !public {
		op.Security = []map[string][]string{{"device": {}}}
		op.Errors = append(op.Errors, http.StatusUnauthorized)
	}
	return op
}

// TLSBody is a request body in the TLS presentation language.
type TLSBody struct {
	ContentType string `header:"Content-Type"`
	RawBody     []byte `contentType:"application/mimi-protocol"`
}

func (b *TLSBody) check() error {
	if media, _, err := mime.ParseMediaType(b.ContentType); err != nil ||
		(media != local.MediaTypeTLS && media != mimi.MediaTypeOctet) {
		return ErrMediaType
	}
	return nil
}

// answer is an answer in the TLS presentation language, or of another type.
type answer struct {
	Status      int
	ContentType string `header:"Content-Type"`
	Body        []byte
}

func tlsAnswer(body []byte) *answer {
	return &answer{Status: http.StatusOK, ContentType: local.MediaTypeTLS, Body: body}
}

func decode(b []byte, v tlspl.Unmarshaler) error {
	if err := tlspl.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

func parse(s string, kind mimi.Kind) (mimi.URI, error) {
	u, err := mimi.ParseURI(s)
	if err != nil {
		return u, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if u.Kind() != kind {
		return u, malformed("%q does not name a %v", s, kind)
	}
	return u, nil
}

// writeProblem answers a plain http.Handler's request with an error.
func writeProblem(w http.ResponseWriter, err error) { writeAnswer(w, problemOf(err)) }

func writeAnswer(w http.ResponseWriter, p *problem) {
	w.Header().Set("Content-Type", local.MediaTypeJSON)
	w.WriteHeader(p.status)
	b, err := json.Marshal(p.Problem)
	if err == nil {
		_, err = io.WriteString(w, string(b)+"\n")
	}
	_ = err // the client is gone
}
