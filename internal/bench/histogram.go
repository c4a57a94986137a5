package bench

import (
	"math/bits"
	"time"
)

// A histogram counts durations in µs in buckets of at most 1/64 of their
// value. The zero value is empty.
type histogram struct {
	counts []uint64
	n      uint64
	max    uint64 // µs
}

func bucketOf(us uint64) int {
	e := max(0, bits.Len64(us)-7)
	return e*64 + int(us>>e)
}

// valueOf is the middle of a bucket, in µs.
func valueOf(bucket int) float64 {
	if bucket < 128 {
		return float64(bucket)
	}
	e := bucket/64 - 1
	return (float64(bucket-e*64) + 0.5) * float64(uint64(1)<<e)
}

func (h *histogram) add(d time.Duration) {
	us := uint64(max(0, d.Microseconds()))
	b := bucketOf(us)
	for len(h.counts) <= b {
		h.counts = append(h.counts, make([]uint64, b+64-len(h.counts))...)
	}
	h.counts[b]++
	h.n++
	h.max = max(h.max, us)
}

func (h *histogram) merge(o *histogram) {
	if len(h.counts) < len(o.counts) {
		h.counts = append(h.counts, make([]uint64, len(o.counts)-len(h.counts))...)
	}
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// quantile returns the value, in ms, that the part q of all values does not
// exceed; 0 of none.
func (h *histogram) quantile(q float64) float64 {
	rank, sum := uint64(q*float64(h.n)), uint64(0)
	for i, c := range h.counts {
		if sum += c; c > 0 && sum > rank {
			return min(valueOf(i), float64(h.max)) / 1000
		}
	}
	return float64(h.max) / 1000
}

func (h *histogram) latency() Latency {
	return Latency{P50: h.quantile(0.50), P90: h.quantile(0.90), P99: h.quantile(0.99), Max: float64(h.max) / 1000}
}
