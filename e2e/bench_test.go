package e2e

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/bench"
)

// measured runs `comity bench --json` and checks what has to be so on every
// machine: that all was delivered, and that the figures fit together.
func measured(t *testing.T, args ...string) *bench.Result {
	t.Helper()
	r := must(t, "", binary(t), append([]string{"bench", "--json"}, args...)...)
	return checkBench(t, r.out, r.errout)
}

func checkBench(t *testing.T, out, errout string) *bench.Result {
	t.Helper()
	if errout != "" {
		t.Errorf("standard error, not on a terminal:\n%s", errout)
	}
	res := new(bench.Result)
	dec := json.NewDecoder(strings.NewReader(out))
	dec.DisallowUnknownFields()
	if err := dec.Decode(res); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if res.Messages < 1 || res.Deliveries != res.Messages*res.Members {
		t.Errorf("%d deliveries of %d messages to %d members", res.Deliveries, res.Messages, res.Members)
	}
	if res.Elapsed <= 0 || res.Setup <= 0 || res.Pending != 0 {
		t.Errorf("%v s, %v s to set up, %d pending", res.Elapsed, res.Setup, res.Pending)
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 0.01*want {
			t.Errorf("%s is %v, and should be %v", what, got, want)
		}
	}
	near("messages_per_s", res.MessagesPerSec, float64(res.Messages)/res.Elapsed)
	near("deliveries_per_s", res.DeliveriesPerSec, float64(res.Deliveries)/res.Elapsed)
	if res.MessageOctets <= float64(res.Size) || res.FrameOctets <= res.MessageOctets {
		t.Errorf("texts of %d octets, messages of %v, frames of %v", res.Size, res.MessageOctets, res.FrameOctets)
	}
	sane := func(l bench.Latency) {
		t.Helper()
		if l.P50 <= 0 || l.P90 < l.P50 || l.P99 < l.P90 || l.Max < l.P99 {
			t.Errorf("latency %+v", l)
		}
	}
	sane(res.Accepted)
	sane(res.Delivery)
	members, cpu := 0, 0.0
	for i, s := range res.Servers {
		members += s.Members
		sane(s.Delivery)
		if s.Hub != (i == 0) || s.Domain == "" || s.Disk < 0 {
			t.Errorf("server %d: %+v", i, s)
		}
		if s.CPU != nil {
			cpu += *s.CPU
		}
	}
	if members != res.Members {
		t.Errorf("%d members are at the providers, %d in the room", members, res.Members)
	}
	if res.CPU != nil {
		near("server_cpu.s", res.CPU.Seconds, cpu)
		near("us_per_message", res.CPU.PerMessage, 1e6*cpu/float64(res.Messages))
		near("us_per_delivery", res.CPU.PerDelivery, 1e6*cpu/float64(res.Deliveries))
	} else if res.CPUUnknown == "" {
		t.Error("no processor time, and no word why")
	}
	return res
}

func TestBench(t *testing.T) {
	binary(t) // before its temporary folder changes
	t.Run("federated", func(t *testing.T) {
		empty := inTemp(t)
		res := measured(t, "--members", "4", "--duration", "2s", "--in-flight", "8", "--link")
		if len(res.Servers) != 2 || res.Members != 4 || res.Ended != "time" {
			t.Errorf("%d servers, %d members, ended by %s", len(res.Servers), res.Members, res.Ended)
		}
		if res.CPU == nil || res.CPU.Seconds <= 0 {
			t.Errorf("processor time %+v %s", res.CPU, res.CPUUnknown)
		}
		// Every message crosses the link once, whoever sends it and however
		// many members are there.
		if octets := float64(res.Messages) * res.MessageOctets; res.Link == nil || float64(res.Link.FromHub) < octets || res.Link.ToHub <= 0 {
			t.Errorf("%+v between the providers, and %v octets of messages", res.Link, octets)
		}
		empty()
	})
	t.Run("local, by number", func(t *testing.T) {
		res := measured(t, "--local", "--members", "3", "--messages", "150", "--duration", "60s", "--size", "1000")
		if len(res.Servers) != 1 || res.Messages != 150 || res.Ended != "count" || res.Size != 1000 {
			t.Errorf("%d servers, %d messages of %d octets, ended by %s", len(res.Servers), res.Messages, res.Size, res.Ended)
		}
	})
	t.Run("open loop", func(t *testing.T) {
		res := measured(t, "--members", "4", "--messages", "30", "--rate", "100", "--duration", "60s")
		// The last message is due after 290 ms; it can't have come before.
		if res.Messages != 30 || res.Rate != 100 || res.Elapsed < 0.29 {
			t.Errorf("%d messages at %v/s in %v s", res.Messages, res.Rate, res.Elapsed)
		}
	})
}

func TestBenchAttaches(t *testing.T) {
	comity := binary(t)
	f := startFleet(t, comity, shortDir(t), "a.example", "b.example")
	res := measured(t, "--config", f.Providers[0].ConfigFile, "--config", f.Providers[1].ConfigFile,
		"--members", "4", "--messages", "50")
	if res.Messages != 50 || res.CPU == nil {
		t.Errorf("%d messages, processor time %+v (%s)", res.Messages, res.CPU, res.CPUUnknown)
	}
	for _, p := range f.Providers {
		rooms, err := p.Admin().Rooms(t.Context(), "")
		if err != nil || len(rooms) != 1 || rooms[0].IsHub != (p == f.Providers[0]) || rooms[0].Head < 50 {
			t.Errorf("%s has the rooms %+v, %v", p.Config.Domain, rooms, err)
		}
	}
}

func TestBenchRefuses(t *testing.T) {
	comity := binary(t)
	empty := inTemp(t)
	for _, args := range [][]string{
		{"--members", "1"}, {"--in-flight", "0"}, {"--rate", "-1"}, {"--rate", "NaN"}, {"--duration", "1h"}, {"--messages", "-5"},
		{"--local", "--link"}, {"--config", "/nowhere/comity.toml"}, {"too", "many"},
	} {
		r := run(t, "", comity, append([]string{"bench"}, args...)...)
		if r.code != 2 || r.out != "" || !strings.HasPrefix(r.errout, "comity: ") {
			t.Errorf("%v ended with %d\n%s%s", args, r.code, r.out, r.errout)
		}
	}
	empty()
}

// Ctrl-C while messages are sent: the figures so far. Ctrl-C before: nothing
// to tell. Nothing is left behind either way.
func TestBenchInterrupted(t *testing.T) {
	comity := binary(t)
	f := startFleet(t, comity, shortDir(t), "a.example")
	hub := f.Providers[0]
	p := start(t, "bench", comity, "bench", "--json", "--config", hub.ConfigFile,
		"--members", "2", "--messages", "20000", "--rate", "500", "--duration", "5m")
	// The warm-up has fewer events than this.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for head := uint64(0); head < 2200; {
		rooms, err := hub.Admin().Rooms(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		if len(rooms) > 0 {
			head = rooms[0].Head
		}
		time.Sleep(10 * time.Millisecond)
	}
	r := p.interrupt(t)
	if r.code != 0 {
		t.Fatalf("it ended with %d\n%s", r.code, r.errout)
	}
	if res := checkBench(t, r.out, r.errout); res.Ended != "interrupted" || res.Messages >= 20_000 {
		t.Errorf("%d messages, ended by %s", res.Messages, res.Ended)
	}

	empty := inTemp(t)
	p = start(t, "bench", comity, "bench", "--duration", "1m")
	for left := []string(nil); len(left) == 0; {
		if ctx.Err() != nil {
			t.Fatal("no folder appears")
		}
		var err error
		if left, err = filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "comity-bench-*", "providers", "*", "data")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	r = p.interrupt(t)
	if r.code != 1 || r.out != "" || r.errout != "comity: bench: interrupted before there was anything to tell" {
		t.Errorf("it ended with %d\n%s%s", r.code, r.out, r.errout)
	}
	empty()
}
