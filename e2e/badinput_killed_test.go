package e2e

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/client/sqlitestore"
	"github.com/comity-im/comity/mimi"
)

// A childDevice says which device a child process is.
type childDevice struct {
	Domain, Address, Roots, Store, Key string
	Room                               mimi.URI
	From                               int // number of the first message
}

const childEnv = "COMITY_CHILD_DEVICE"

// open opens the device. Close the store after the client.
func (d *childDevice) open(ctx context.Context, code string) (*client.Client, *sqlitestore.Store, error) {
	pem, err := os.ReadFile(d.Roots)
	if err != nil {
		return nil, nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	tr, err := client.NewHTTPTransport(client.HTTPConfig{URL: "https://" + d.Domain, Address: d.Address, Roots: roots})
	if err != nil {
		return nil, nil, err
	}
	key, err := sqlitestore.KeyFile(d.Key)
	if err != nil {
		return nil, nil, err
	}
	s, err := sqlitestore.Open(ctx, d.Store, key)
	if err != nil {
		return nil, nil, err
	}
	cfg := client.Config{Transport: tr, Store: s, Roots: roots, KeyPackages: 5,
		AutoCommit: 20 * time.Millisecond, RetryMin: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond}
	var c *client.Client
	if code != "" {
		c, err = client.Enrol(ctx, cfg, code, "killed")
	} else {
		c, err = client.Open(ctx, cfg)
	}
	if err != nil {
		_ = s.Close()
		return nil, nil, err
	}
	return c, s, nil
}

// TestBadInputChildDevice is the child process: it sends numbered messages for
// as long as it lives, and writes a line before and after each step.
func TestBadInputChildDevice(t *testing.T) {
	text := os.Getenv(childEnv)
	if text == "" {
		t.Skip("only as a child of TestBadInputKilledDevice")
	}
	var d childDevice
	ok(t, json.Unmarshal([]byte(text), &d))
	// The parent is gone when the pipe ends.
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); os.Exit(3) }()
	ctx := t.Context()
	c, _, err := d.open(ctx, "")
	ok(t, err)
	go func() { _ = c.Run(ctx) }()
	slots := make(chan struct{}, 6)
	var out sync.Mutex
	say := func(format string, args ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	for n := d.From; ; n++ {
		slots <- struct{}{}
		say("trying %d", n)
		id, err := c.SendText(ctx, d.Room, fmt.Sprintf("number %d", n))
		if err != nil {
			say("failed %d %v", n, err)
			return
		}
		say("sent %d", n)
		go func() {
			if _, err := c.Wait(ctx, d.Room, id); err != nil {
				say("failed %d %v", n, err)
			} else {
				say("posted %d", n)
			}
			<-slots
		}()
	}
}

// TestBadInputKilledDevice kills a device with SIGKILL at ten random moments
// while it sends, while others talk, and while the epoch changes.
func TestBadInputKilledDevice(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real processes")
	}
	bin, dir := binary(t), shortDir(t)
	w := newBadWorld(t, bin, filepath.Join(dir, "fleet"), "a.example", "b.example")
	anna, bob := w.member("anna", "a.example"), w.member("bob", "b.example")
	p := w.provider("b.example")
	code, err := p.Admin().AddUser(t.Context(), "kay")
	ok(t, err)
	d := childDevice{Domain: "b.example", Address: p.Config.ClientListen, Roots: w.fleet.RootsFile,
		Store: filepath.Join(dir, "kay.db"), Key: filepath.Join(dir, "kay.key"), Room: mimi.MustParseURI("mimi://a.example/r/club"), From: 1}
	kay, s, err := d.open(t.Context(), code.Code)
	ok(t, err)
	ok(t, kay.PublishKeyPackages(t.Context()))
	ok(t, anna.CreateRoom(t.Context(), client.NewRoom{URI: d.Room}))
	ok(t, anna.AddUsers(t.Context(), d.Room, bob.User(), kay.User()))
	running, stop := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() { defer close(ran); _ = kay.Run(running) }()
	for _, c := range []*client.Client{anna, bob, kay} {
		_, err := c.WaitRoom(t.Context(), d.Room, func(r client.Room) bool { return r.Status == client.RoomActive })
		ok(t, err)
	}
	stop()
	<-ran
	ok(t, kay.Close())
	ok(t, s.Close())

	// Others talk, and the epoch changes.
	var others sync.WaitGroup
	var over atomic.Bool
	others.Go(func() {
		for i := 0; !over.Load(); i++ {
			if i%4 == 0 {
				if err := anna.UpdateKeys(t.Context(), d.Room); err != nil && t.Context().Err() == nil {
					t.Errorf("anna: %v", err)
					return
				}
			}
			id, err := bob.SendText(t.Context(), d.Room, fmt.Sprintf("bob %d", i))
			if err == nil {
				_, err = bob.Wait(t.Context(), d.Room, id)
			}
			if err != nil {
				t.Errorf("bob: %v", err)
				return
			}
		}
	})
	tried := map[int]bool{}
	sent := map[int]bool{} // Send returned
	posted := map[int]bool{}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for round := range 10 {
		config, err := json.Marshal(&d)
		ok(t, err)
		cmd := exec.Command(os.Args[0], "-test.run=^TestBadInputChildDevice$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), childEnv+"="+string(config))
		cmd.Stderr = os.Stderr
		stdin, err := cmd.StdinPipe()
		ok(t, err)
		stdout, err := cmd.StdoutPipe()
		ok(t, err)
		ok(t, cmd.Start())
		// It is killed after a number of lines, and a moment more: while it
		// opens, while it sends, or between the two.
		lines, moment := random.IntN(40), time.Duration(random.IntN(3000))*time.Microsecond
		read, killed := 0, false
		kill := func() {
			killed = true
			time.AfterFunc(moment, func() { _ = cmd.Process.Kill() })
		}
		scan := bufio.NewScanner(stdout)
		for scan.Scan() {
			word, rest, _ := strings.Cut(scan.Text(), " ")
			var n int
			if _, err := fmt.Sscan(rest, &n); err != nil {
				continue
			}
			switch word {
			case "trying":
				tried[n] = true
				d.From = n + 1
			case "sent":
				sent[n] = true
			case "posted":
				posted[n] = true
			case "failed":
				t.Errorf("round %d: %s", round, scan.Text())
			}
			if read++; !killed && read > lines {
				kill()
			}
		}
		err = cmd.Wait()
		stdin.Close()
		if !killed || cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("round %d: the child ended by itself after %d lines: %v", round, read, err)
		}
	}
	over.Store(true)
	others.Wait()
	if len(sent) < 20 || len(posted) == 0 {
		t.Errorf("only %d sent and %d posted: too few to tell", len(sent), len(posted))
	}
	t.Logf("%d tried, %d sent, %d posted before they were killed", len(tried), len(sent), len(posted))

	kay, s, err = d.open(t.Context(), "")
	ok(t, err)
	ran = make(chan struct{})
	go func() { defer close(ran); _ = kay.Run(context.Background()) }()
	t.Cleanup(func() {
		_ = kay.Close()
		<-ran
		ok(t, s.Close())
	})
	badUntil(t, "all of kay's messages are posted", func() bool {
		out, err := kay.Unposted(t.Context(), d.Room)
		ok(t, err)
		for _, o := range out {
			if o.Status == client.OutgoingRejected {
				t.Fatalf("rejected: %s", o.Reason)
			}
		}
		return len(out) == 0
	})
	badAlive(t, d.Room, anna, bob, kay) // whoever has its message has all that came before
	once(t, d.Room, anna, bob, kay)
	for _, c := range []*client.Client{anna, bob, kay} {
		times := map[int]int{}
		for after := uint64(0); ; {
			page, err := c.History(t.Context(), d.Room, after, 500)
			ok(t, err)
			for _, e := range page {
				after = e.Seq
				var n int
				if _, err := fmt.Sscanf(e.Text(), "number %d", &n); err == nil && e.User == kay.User() {
					times[n]++
				}
			}
			if len(page) < 500 {
				break
			}
		}
		for n := range sent {
			if times[n] != 1 {
				t.Errorf("%v has number %d %d times", c.User(), n, times[n])
			}
		}
		for n, k := range times {
			if k != 1 || !tried[n] {
				t.Errorf("%v has number %d %d times (tried: %v)", c.User(), n, k, tried[n])
			}
		}
	}
	w.healthy(t)
}
