package bench

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/comity-im/comity/internal/provider"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConfigCheck(t *testing.T) {
	good := func() Config {
		return Config{Domains: []string{"a.example", "b.example"}, Members: 4, InFlight: 8, Duration: time.Second, Size: 256}
	}
	if c := good(); c.check() != nil {
		t.Fatal(c.check())
	}
	for name, change := range map[string]func(*Config){
		"no provider":          func(c *Config) { c.Domains = nil },
		"three providers":      func(c *Config) { c.Domains = append(c.Domains, "c.example") },
		"one member":           func(c *Config) { c.Members = 1 },
		"too many members":     func(c *Config) { c.Members = MaxMembers + 1 },
		"nothing in flight":    func(c *Config) { c.InFlight = 0 },
		"no text":              func(c *Config) { c.Size = 0 },
		"negative messages":    func(c *Config) { c.Messages = -1 },
		"too many messages":    func(c *Config) { c.Messages = MaxMessages + 1 },
		"no time":              func(c *Config) { c.Duration = 0 },
		"too long":             func(c *Config) { c.Duration = MaxDuration + 1 },
		"negative rate":        func(c *Config) { c.Rate = -1 },
		"rate is no number":    func(c *Config) { c.Rate = c.Rate / c.Rate },
		"a link of one":        func(c *Config) { c.Domains, c.Link = c.Domains[:1], true },
		"a link of others":     func(c *Config) { c.Providers, c.Link = []*provider.Config{{ClientListen: "localhost:1"}}, true },
		"not this machine":     func(c *Config) { c.Providers = []*provider.Config{{ClientListen: "192.0.2.1:443"}} },
		"a name, not loopback": func(c *Config) { c.Providers = []*provider.Config{{ClientListen: "a.example:443"}} },
	} {
		c := good()
		change(&c)
		if err := c.check(); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v; want ErrConfig", name, err)
		}
	}
}

func TestHistogram(t *testing.T) {
	for us := uint64(0); us < 1<<40; us = us*5/4 + 1 {
		b := bucketOf(us)
		if bucketOf(us+1) < b {
			t.Fatalf("the bucket of %d is after that of %d", us, us+1)
		}
		if v, e := valueOf(b), float64(us)/64+0.5; v < float64(us)-e || v > float64(us)+e {
			t.Errorf("%d µs is told as %v", us, v)
		}
	}
	var a, b, none histogram
	var all []float64
	for range 5000 {
		d := time.Duration(rand.ExpFloat64() * float64(20*time.Millisecond))
		all = append(all, float64(d.Microseconds())/1000)
		if len(all)%3 == 0 {
			a.add(d)
		} else {
			b.add(d)
		}
	}
	a.merge(&b)
	a.merge(&none)
	slices.Sort(all)
	l := a.latency()
	for q, got := range map[float64]float64{0.50: l.P50, 0.90: l.P90, 0.99: l.P99} {
		want := all[int(q*float64(len(all)))]
		if got < want*0.98-0.001 || got > want*1.02+0.001 {
			t.Errorf("quantile %v is %v ms; want %v", q, got, want)
		}
	}
	if l.Max != all[len(all)-1] {
		t.Errorf("the greatest is %v; want %v", l.Max, all[len(all)-1])
	}
	if l := none.latency(); l != (Latency{}) {
		t.Errorf("nothing has the latency %+v", l)
	}
}

// aBatch has n messages for one reader, as if they were MLSMessages.
func aBatch(n int) (*batch, *reader) {
	b := &batch{
		messages: make([][]byte, n), seed: maphash.MakeSeed(), head: 40, index: map[uint64]int32{},
		submitted: make([]atomic.Int64, n), left: make([]atomic.Int32, n),
		all: make(chan struct{}, 1), failed: make(chan struct{}),
	}
	for i := range b.messages {
		m := make([]byte, 60+i%3)
		binary.BigEndian.PutUint16(m, 1)
		binary.BigEndian.PutUint16(m[2:], uint16(mls.WirePrivateMessage))
		binary.BigEndian.PutUint64(m[20:], uint64(i))
		b.messages[i] = m
		b.index[maphash.Bytes(b.seed, m[:b.head])] = int32(i)
		b.left[i].Store(1)
	}
	rd := &reader{device: &device{uri: mimi.MustParseURI("mimi://a.example/d/x/bench")}, start: time.Now(), ended: make(chan struct{})}
	return b, rd
}

func event(m []byte) []byte { return append(append(make([]byte, 8), m...), 0) }

// What a reader has to notice.
func TestReaderChecks(t *testing.T) {
	b, rd := aBatch(5)
	if err := rd.event(7, event(b.messages[0]), 1); !errors.Is(err, ErrForeign) {
		t.Errorf("a message before any was sent: %v", err)
	}
	rd.position = 0
	if err := rd.expect(b); err != nil {
		t.Fatal(err)
	}
	completed := 0
	b.complete = func(int) { completed++ }
	commit := event(b.messages[1])
	binary.BigEndian.PutUint16(commit[10:], uint16(mls.WirePublicMessage))
	changed := event(b.messages[4])
	changed[len(changed)-3] ^= 1
	for _, step := range []struct {
		position uint64
		body     []byte
		want     error
	}{
		{3, commit, nil},
		{4, event(b.messages[2]), nil},
		{5, event(b.messages[0]), nil}, // any order of the hub's
		{6, event(b.messages[2]), ErrDuplicate},
		{8, event(b.messages[1]), ErrOrder},
		{6, event(b.messages[3]), ErrOrder}, // again
		{7, event(b.messages[3]), nil},
		{8, changed, ErrForeign},
		{9, event(make([]byte, 60)), nil}, // no application message
		{10, event(b.messages[4])[:50], ErrForeign},
		{11, event(b.messages[4]), nil},
	} {
		if err := rd.event(step.position, step.body, 1); !errors.Is(err, step.want) {
			t.Errorf("position %d: %v; want %v", step.position, err, step.want)
		}
	}
	if rd.count != 4 || completed != 4 || b.delivered.Load() != 4 || rd.latency.n != 4 {
		t.Errorf("%d received, %d complete, %d delivered, %d measured; want 4 of each", rd.count, completed, b.delivered.Load(), rd.latency.n)
	}
}

func TestRelayCounts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.CopyN(c, c, 1000) // an echo
			_, _ = c.Write(make([]byte, 500))
		}
		served <- errors.Join(err, c.Close())
	}()
	r, err := newRelay(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	c, err := net.Dial("tcp", r.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, c); n != 1500 || err != nil {
		t.Errorf("%d octets came back, %v", n, err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if out, in := r.out.Load(), r.in.Load(); out != 1000 || in != 1500 {
		t.Errorf("%d octets out and %d in were counted; want 1000 and 1500", out, in)
	}
	idle, err := net.Dial("tcp", r.address()) // close must not wait for it
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
}
