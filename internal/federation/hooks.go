package federation

import (
	"log/slog"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/comity-im/comity/mimi"
)

// An Endpoint is a key of the directory document.
type Endpoint = mimi.Endpoint

// Names under which requests outside the directory's endpoints are counted.
const (
	endpointDirectory Endpoint = "directory"
	endpointAnchor    Endpoint = "anchor"
	endpointUnknown   Endpoint = "unknown"
)

// Metrics receives what an operator wants to count. Calls are concurrent and
// must not block. Label values are bounded: endpoints are the constants of
// this package, domains are authenticated or allowed peers.
type Metrics interface {
	// Inbound is called once per answered request; peer is "" when the sender
	// was not authenticated.
	Inbound(peer string, endpoint Endpoint, status, requestBytes int, took time.Duration)
	// Outbound is called once per request to a peer; status is 0 when there was
	// no response.
	Outbound(peer string, endpoint Endpoint, status, requestBytes int, took time.Duration)
	// Delivered counts events that a peer accepted.
	Delivered(peer string, events int)
	// Failing tells the number of failed attempts in a row for a peer (0: it
	// works again).
	Failing(peer string, attempts int)
}

// NoMetrics counts nothing.
type NoMetrics struct{}

func (NoMetrics) Inbound(string, Endpoint, int, int, time.Duration)  {}
func (NoMetrics) Outbound(string, Endpoint, int, int, time.Duration) {}
func (NoMetrics) Delivered(string, int)                              {}
func (NoMetrics) Failing(string, int)                                {}

// A Limiter decides whether an authenticated peer may make a request now.
type Limiter interface {
	// Allow reports whether the request may go on and, if not, how long the
	// peer should wait.
	Allow(peer string, endpoint Endpoint) (ok bool, retryAfter time.Duration)
}

// Limits bounds what a peer can make us hold. Zero fields mean the defaults.
type Limits struct {
	Request        map[Endpoint]int64 // octets of a request body
	Response       map[Endpoint]int64 // octets of a response body
	Directory      int64              // octets of a directory document; 64 KiB
	PeerInFlight   int                // requests of one peer being answered; 64
	Peers          int                // domains remembered; 4096
	RequestTimeout time.Duration      // one outbound request; 30 s
	BodyTimeout    time.Duration      // reading one request body; 30 s
}

var defaultRequest = map[Endpoint]int64{
	mimi.EndpointKeyMaterial:   mimi.MaxKeyMaterialRequest,
	mimi.EndpointUpdate:        mimi.MaxUpdateRequest,
	mimi.EndpointSubmitMessage: mimi.MaxSubmitRequest,
	mimi.EndpointNotify:        mimi.MaxNotifyRequest,
	mimi.EndpointGroupInfo:     mimi.MaxGroupInfoRequest,
}

var defaultResponse = map[Endpoint]int64{
	mimi.EndpointKeyMaterial:   mimi.MaxKeyMaterialResponse,
	mimi.EndpointUpdate:        mimi.MaxUpdateResponse,
	mimi.EndpointSubmitMessage: mimi.MaxSubmitResponse,
	mimi.EndpointNotify:        4 << 10,
	mimi.EndpointGroupInfo:     mimi.MaxGroupInfoResponse,
}

func (l Limits) withDefaults() Limits {
	l.Request = merged(l.Request, defaultRequest)
	l.Response = merged(l.Response, defaultResponse)
	if l.Directory <= 0 {
		l.Directory = mimi.MaxDirectory
	}
	if l.PeerInFlight <= 0 {
		l.PeerInFlight = 64
	}
	if l.Peers <= 0 {
		l.Peers = 4096
	}
	if l.RequestTimeout <= 0 {
		l.RequestTimeout = 30 * time.Second
	}
	if l.BodyTimeout <= 0 {
		l.BodyTimeout = 30 * time.Second
	}
	return l
}

func merged(set, defaults map[Endpoint]int64) map[Endpoint]int64 {
	out := maps.Clone(defaults)
	for e, n := range set {
		if n > 0 {
			out[e] = n
		}
	}
	return out
}

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NoMetrics{}
	}
	if c.BaseURL == "" {
		c.BaseURL = "https://" + c.Domain + "/v1"
	}
	c.Limits = c.Limits.withDefaults()
	return c
}

// userAgent is sent with every request.
const userAgent = "comity"
