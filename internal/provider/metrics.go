package provider

import (
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/mimi"
)

// metrics is what an operator can watch. Its label values are bounded: peers
// are authenticated domains, endpoints and operations are constants.
type metrics struct {
	registry *prometheus.Registry

	inbound, outbound         *prometheus.HistogramVec
	delivered                 *prometheus.CounterVec
	failing                   *prometheus.GaugeVec
	requests                  *prometheus.HistogramVec
	streams                   prometheus.Gauge
	frames, frameBytes        prometheus.Counter
	accepted, stored, refused *prometheus.CounterVec
	unverifiable, pending     *prometheus.CounterVec
}

func newMetrics(version string) *metrics {
	buckets := []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 5, 30}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		inbound: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "comity_federation_inbound_seconds", Help: "Requests of other providers, by endpoint and status.", Buckets: buckets,
		}, []string{"endpoint", "status"}),
		outbound: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "comity_federation_outbound_seconds", Help: "Requests to other providers, by endpoint and status; status 0 means no answer.", Buckets: buckets,
		}, []string{"endpoint", "status"}),
		delivered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "comity_federation_delivered_events_total", Help: "Events that a peer has accepted.",
		}, []string{"peer"}),
		failing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "comity_federation_failing_attempts", Help: "Failed attempts in a row to reach a peer; 0 when it works.",
		}, []string{"peer"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "comity_client_request_seconds", Help: "Requests of clients, by operation and status.", Buckets: buckets,
		}, []string{"operation", "status"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "comity_client_streams", Help: "Connected devices.",
		}),
		frames: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "comity_client_events_total", Help: "Events sent to connected devices.",
		}),
		frameBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "comity_client_events_bytes_total", Help: "Octets of events sent to connected devices.",
		}),
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m.accepted = counter("comity_hub_accepted_events_total", "Events that this provider accepted as a hub, by kind.", "kind")
	m.refused = counter("comity_hub_refused_requests_total", "Requests that this provider refused as a hub, by endpoint and code.", "endpoint", "code")
	m.stored = counter("comity_replica_stored_events_total", "Events stored of rooms of other hubs, by kind.", "kind")
	m.unverifiable = counter("comity_replica_unverifiable_total", "Notifications refused because an event could not be verified, by hub. It should be zero: look at the log.", "hub")
	m.pending = counter("comity_replica_pending_total", "Messages queued for a hub out of reach, by hub.", "hub")
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "comity_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(m.inbound, m.outbound, m.delivered, m.failing, m.requests, m.streams, m.frames, m.frameBytes, build,
		m.accepted, m.refused, m.stored, m.unverifiable, m.pending,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Inbound implements federation.Metrics.
func (m *metrics) Inbound(_ string, e federation.Endpoint, status, _ int, took time.Duration) {
	m.inbound.WithLabelValues(string(e), strconv.Itoa(status)).Observe(took.Seconds())
}

// Outbound implements federation.Metrics.
func (m *metrics) Outbound(_ string, e federation.Endpoint, status, _ int, took time.Duration) {
	m.outbound.WithLabelValues(string(e), strconv.Itoa(status)).Observe(took.Seconds())
}

// Delivered implements federation.Metrics.
func (m *metrics) Delivered(peer string, events int) {
	m.delivered.WithLabelValues(peer).Add(float64(events))
}

// Failing implements federation.Metrics.
func (m *metrics) Failing(peer string, attempts int) {
	m.failing.WithLabelValues(peer).Set(float64(attempts))
}

// Accepted implements hub.Metrics.
func (m *metrics) Accepted(kind string, events int) {
	m.accepted.WithLabelValues(kind).Add(float64(events))
}

// Refused implements hub.Metrics.
func (m *metrics) Refused(endpoint mimi.Endpoint, code string) {
	m.refused.WithLabelValues(string(endpoint), code).Inc()
}

// Stored implements replica.Metrics.
func (m *metrics) Stored(kind string, events int) {
	m.stored.WithLabelValues(kind).Add(float64(events))
}

// Unverifiable implements replica.Metrics.
func (m *metrics) Unverifiable(hub string) { m.unverifiable.WithLabelValues(hub).Inc() }

// Pending implements replica.Metrics.
func (m *metrics) Pending(hub string) { m.pending.WithLabelValues(hub).Inc() }

// request is told of every answered request of a client.
func (m *metrics) request(operation string, status int, took time.Duration) {
	m.requests.WithLabelValues(operation, strconv.Itoa(status)).Observe(took.Seconds())
}

// clients implements delivery.Metrics.
type clients struct{ *metrics }

func (c clients) Streams(delta int) { c.streams.Add(float64(delta)) }

func (c clients) Delivered(frames, octets int) {
	c.frames.Add(float64(frames))
	c.frameBytes.Add(float64(octets))
}
