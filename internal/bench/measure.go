package bench

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

// Latency is in ms.
type Latency struct {
	P50 float64 `json:"p50_ms"`
	P90 float64 `json:"p90_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// A Result is what was measured. It is given only if every message reached
// every member exactly once.
type Result struct {
	Members  int     `json:"members"`
	InFlight int     `json:"in_flight"`
	Rate     float64 `json:"rate"` // wanted messages/s; 0: closed loop
	Size     int     `json:"text_octets"`
	Ended    string  `json:"ended"` // by "time", "count" (also when what was prepared is sent) or "interrupted"

	Messages   int     `json:"messages"`
	Deliveries int     `json:"deliveries"`
	Elapsed    float64 `json:"elapsed_s"` // from the first submission to the last delivery
	Setup      float64 `json:"setup_s"`   // everything before
	Retries    int     `json:"retries"`   // submissions repeated
	Pending    int     `json:"pending"`   // messages kept by their provider because the hub was out of reach

	MessagesPerSec   float64 `json:"messages_per_s"`
	DeliveriesPerSec float64 `json:"deliveries_per_s"`
	// Delivery is from submission, or the time a message was due with a rate,
	// to its arrival at a member; Accepted to the answer to the sender.
	Delivery Latency `json:"delivery"`
	Accepted Latency `json:"accepted"`

	Servers []Server `json:"servers"`
	// CPU is of all servers; nil if the kernel does not tell, for the reason in
	// CPUUnknown.
	CPU          *CPU    `json:"server_cpu,omitempty"`
	CPUUnknown   string  `json:"server_cpu_unknown,omitempty"`
	GeneratorCPU float64 `json:"generator_cpu_s,omitempty"`

	MessageOctets float64 `json:"message_octets"` // an MLSMessage, on average
	FrameOctets   float64 `json:"frame_octets"`   // what a member gets, without TLS
	Link          *Link   `json:"link,omitempty"`
}

// A Server is one provider's share.
type Server struct {
	Domain  string `json:"domain"`
	Hub     bool   `json:"hub"`
	Members int    `json:"members"`
	// Delivery is to this provider's members.
	Delivery Latency  `json:"delivery"`
	CPU      *float64 `json:"cpu_s,omitempty"`
	Memory   int64    `json:"resident_octets,omitempty"` // at the end
	// Disk is how much the data folder grew, with the write-ahead log.
	Disk           int64   `json:"disk_octets"`
	DiskPerMessage float64 `json:"disk_octets_per_message"`
}

// CPU is processor time.
type CPU struct {
	Seconds          float64 `json:"s"`
	PerMessage       float64 `json:"us_per_message"`
	PerDelivery      float64 `json:"us_per_delivery"`
	DeliveriesPerSec float64 `json:"deliveries_per_cpu_s"`
}

// Link is the traffic between two providers, TLS included.
type Link struct {
	FromHub              int64   `json:"from_hub_octets"`
	ToHub                int64   `json:"to_hub_octets"`
	PerMessage           float64 `json:"octets_per_message"`
	PerMessageAndMembers float64 `json:"octets_per_message_per_remote_member"`
}

// warmUp sends for a short time and returns how many messages a second went
// through. The first one tells that everyone is in the room.
func (r *run) warmUp(ctx context.Context) (perSecond float64, err error) {
	r.cfg.Progress("warming up", 0, 1)
	lines, err := r.lines(min(r.cfg.InFlight, 64))
	if err != nil {
		return 0, err
	}
	defer closeLines(lines)
	first, err := r.prepare(ctx, len(r.room.senders))
	if err != nil {
		return 0, err
	}
	if _, err := r.send(ctx, first, phase{workers: 1, duration: setupTimeout}, lines, nil); err != nil {
		return 0, err
	}
	b, err := r.prepare(ctx, warmUpMessages)
	if err != nil {
		return 0, err
	}
	out, err := r.send(ctx, b, phase{workers: len(lines), duration: min(warmUpTime, r.cfg.Duration)}, lines, nil)
	if err != nil {
		return 0, err
	}
	r.cfg.Progress("warming up", 1, 1)
	return float64(out.messages) / out.elapsed.Seconds(), nil
}

// measure sends b and takes the figures before and after.
func (r *run) measure(ctx context.Context, b *batch) (*Result, error) {
	lines, err := r.lines(r.cfg.InFlight)
	if err != nil {
		return nil, err
	}
	defer closeLines(lines)
	res := &Result{Members: len(r.readers), InFlight: r.cfg.InFlight, Rate: r.cfg.Rate, Size: r.cfg.Size}
	before, disk := r.usage(), make([]int64, len(r.servers))
	for i, s := range r.servers {
		if disk[i], err = dirSize(s.cfg.DataDir); err != nil {
			return nil, err
		}
	}
	link := r.linked()

	began := time.Now()
	p := phase{workers: r.cfg.InFlight, rate: r.cfg.Rate, duration: r.cfg.Duration}
	seconds := int(r.cfg.Duration.Seconds() + 1)
	shown := 0
	p.progress = r.throttled(func(done int) {
		if r.cfg.Messages > 0 {
			r.cfg.Progress("sending", done, len(b.messages))
		} else if s := int(time.Since(began).Seconds()); s > shown {
			shown = s
			r.cfg.Progress("sending", min(s, seconds), seconds)
		}
	})
	out, err := r.send(context.WithoutCancel(ctx), b, p, lines, ctx.Done())
	if err != nil {
		return nil, err
	}
	after := r.usage()
	linked := r.linked()

	res.Ended, res.Messages, res.Retries, res.Pending = out.ended, out.messages, out.retries, out.pending
	res.Elapsed = out.elapsed.Seconds()
	res.Accepted = out.accepted.latency()
	messages := float64(max(1, res.Messages))
	for i, s := range r.servers {
		size, err := dirSize(s.cfg.DataDir)
		if err != nil {
			return nil, err
		}
		res.Servers = append(res.Servers, Server{Domain: s.cfg.Domain, Hub: i == 0,
			Disk: size - disk[i], DiskPerMessage: float64(size-disk[i]) / messages})
	}
	var all histogram
	each := make([]histogram, len(r.servers))
	octets := 0
	for _, rd := range r.readers {
		rd.mu.Lock()
		all.merge(&rd.latency)
		each[rd.device.at].merge(&rd.latency)
		res.Servers[rd.device.at].Members++
		res.Deliveries += rd.count
		octets += rd.octets
		rd.mu.Unlock()
	}
	for i := range each {
		res.Servers[i].Delivery = each[i].latency()
	}
	res.Delivery = all.latency()
	deliveries := float64(max(1, res.Deliveries))
	if out.elapsed > 0 {
		res.MessagesPerSec, res.DeliveriesPerSec = float64(res.Messages)/res.Elapsed, float64(res.Deliveries)/res.Elapsed
	}
	for _, m := range b.messages[:res.Messages] {
		res.MessageOctets += float64(len(m)) / messages
	}
	res.FrameOctets = float64(octets) / deliveries
	if linked != nil {
		res.Link = &Link{FromHub: linked[0] - link[0], ToHub: linked[1] - link[1]}
		res.Link.PerMessage = float64(res.Link.FromHub+res.Link.ToHub) / messages
		res.Link.PerMessageAndMembers = res.Link.PerMessage / float64(res.Servers[1].Members)
	}
	r.costs(res, before, after)
	return res, nil
}

// costs puts the processor time between two readings into the result.
func (r *run) costs(res *Result, before, after usage) {
	res.GeneratorCPU = after.generator - before.generator
	total := 0.0
	for i, s := range r.servers {
		switch {
		case before.servers[i].err != nil:
			res.CPUUnknown = s.cfg.Domain + ": " + before.servers[i].err.Error()
			continue
		case after.servers[i].err != nil:
			res.CPUUnknown = s.cfg.Domain + ": " + after.servers[i].err.Error()
			continue
		}
		used := after.servers[i].cpu - before.servers[i].cpu
		total += used
		res.Servers[i].CPU, res.Servers[i].Memory = &used, after.servers[i].resident
	}
	if res.CPUUnknown != "" {
		return
	}
	res.CPU = &CPU{Seconds: total, PerMessage: 1e6 * total / float64(max(1, res.Messages)), PerDelivery: 1e6 * total / float64(max(1, res.Deliveries))}
	if total > 0 {
		res.CPU.DeliveriesPerSec = float64(res.Deliveries) / total
	}
}

// linked returns the octets that left the hub for the other provider and came
// from it so far, or nil if they are not counted. A relay is used by the one
// provider that knows its address, so both have both directions.
func (r *run) linked() []int64 {
	if len(r.relays) == 0 {
		return nil
	}
	byHub, toHub := r.relays[0], r.relays[1]
	return []int64{byHub.out.Load() + toHub.in.Load(), byHub.in.Load() + toHub.out.Load()}
}

// throttled calls f now and then.
func (r *run) throttled(f func(int)) func(int) {
	gate := make(chan struct{}, 1)
	return func(done int) {
		if done%50 != 0 {
			return
		}
		select {
		case gate <- struct{}{}:
			f(done)
			<-gate
		default:
		}
	}
}

func dirSize(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if os.IsNotExist(err) { // gone meanwhile
			return nil
		}
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}
