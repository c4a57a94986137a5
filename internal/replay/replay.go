// Package replay sends a real chat log through real provider processes and
// checks that everyone saw what the log says they should have seen.
//
// [Run] starts the providers (package fleet), gives every person of the plan
// (package irclog) an account and a device, lets them do what the log says,
// and then compares each person's decrypted history with the log, and the
// providers' logs with each other. With Crashes, providers are killed and
// restarted at seeded random moments meanwhile.
//
// How a log becomes MIMI:
//
//   - A person is one user with one device; people are spread over the
//     providers in turn. Who is there from the start is added by the room's
//     founder, who says nothing; whoever joins later comes in by external
//     commit, as the room is open.
//   - A message is Markdown; an action (/me) is Markdown with emphasis. An
//     answer carries inReplyTo.
//   - A leave is a SelfRemove and the removal from the participant list,
//     committed by whoever acts next.
//   - A rename changes neither user nor device: a nick is only how someone is
//     shown. It is sent as a message with disposition "profile".
package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/client/sqlitestore"
	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/internal/fleet"
	"github.com/comity-im/comity/internal/irclog"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/room"
)

// Config says what to replay and how.
type Config struct {
	Plan    *irclog.Plan
	Domains []string // of the providers; the first is the hub
	Binary  string   // comity; default: the running executable
	Dir     string   // for everything that is stored
	Crashes int      // SIGKILLs, in turn among the providers
	Seed    uint64   // of the moments of the crashes
	// Progress, if set, is told how many of all steps are done.
	Progress func(stage string, done, total int)
	// Log, if set, gets a line for every crash.
	Log io.Writer
	// StepTimeout bounds one step and the catching up at the end; default 2 min.
	StepTimeout time.Duration
}

// A Result counts what was done and checked.
type Result struct {
	People    int `json:"people"`
	Providers int `json:"providers"`
	Steps     int `json:"steps"`
	Messages  int `json:"messages"`
	Actions   int `json:"actions"`
	Answers   int `json:"answers"`
	Joins     int `json:"joins"`
	Leaves    int `json:"leaves"`
	Renames   int `json:"renames"`
	Crashes   int `json:"crashes"`

	Epochs      uint64 `json:"epochs"`       // commits of the room
	Read        int    `json:"read"`         // messages decrypted and compared, over all people
	ServerBytes int64  `json:"server_bytes"` // on the providers' disks at the end

	Setup   time.Duration `json:"setup_ns"`    // starting, enrolling, adding who is there
	Replay  time.Duration `json:"replay_ns"`   // from the first step to the last person caught up
	Total   time.Duration `json:"total_ns"`    // with checking
	PerSec  float64       `json:"steps_per_s"` // steps in Replay
	ReadSec float64       `json:"reads_per_s"` // messages decrypted in Replay
}

// person is an account that takes part.
type person struct {
	name string
	c    *client.Client
	done chan error // of Run
}

// replay is a run under way.
type replay struct {
	cfg     Config
	fleet   *fleet.Fleet
	room    mimi.URI
	founder *person
	people  []*person
	ids     []content.MessageID // by step; zero for steps without a message

	epoch   uint64 // that whoever acts next must be in
	pending int    // proposals that must be known before

	mu   sync.Mutex
	next int // the step that is next, for the crashes
	wake chan struct{}
}

// Run replays a plan. The result is valid only without an error.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if cfg.StepTimeout <= 0 {
		cfg.StepTimeout = 2 * time.Minute
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string, int, int) {}
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	begin := time.Now()
	r := &replay{cfg: cfg, ids: make([]content.MessageID, len(cfg.Plan.Steps)), wake: make(chan struct{})}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var err error
	if r.fleet, err = fleet.New(fleet.Config{Binary: cfg.Binary, Dir: filepath.Join(cfg.Dir, "providers"), Domains: cfg.Domains}); err != nil {
		return nil, err
	}
	if err := r.fleet.Start(ctx); err != nil {
		return nil, errors.Join(err, r.fleet.Stop())
	}
	stopped := false
	defer func() {
		if !stopped {
			_ = r.fleet.Stop()
		}
	}()
	defer r.close()

	if err := r.enrol(ctx); err != nil {
		return nil, err
	}
	if err := r.assemble(ctx); err != nil {
		return nil, err
	}
	started := time.Now()
	crashed := make(chan error, 1)
	go func() { crashed <- r.crash(ctx) }()
	if err := r.play(ctx); err != nil {
		cancel()
		return nil, errors.Join(err, <-crashed)
	}
	if err := <-crashed; err != nil {
		return nil, err
	}
	if err := r.catchUp(ctx); err != nil {
		return nil, err
	}
	played := time.Now()

	res := r.count()
	if res.Read, err = r.compareHistories(ctx); err != nil {
		return nil, err
	}
	if err := r.compareProviders(ctx); err != nil {
		return nil, err
	}
	r.close()
	stopped = true
	if err := r.fleet.Stop(); err != nil {
		return nil, err
	}
	for _, p := range r.fleet.Providers {
		n, err := dirSize(p.Config.DataDir)
		if err != nil {
			return nil, err
		}
		res.ServerBytes += n
	}
	res.Setup, res.Replay, res.Total = started.Sub(begin), played.Sub(started), time.Since(begin)
	res.PerSec = float64(res.Steps) / res.Replay.Seconds()
	res.ReadSec = float64(res.Read) / res.Replay.Seconds()
	return res, nil
}

// close ends the clients. It may be called twice.
func (r *replay) close() {
	var wg sync.WaitGroup
	for _, p := range append(r.people, r.founder) {
		if p != nil && p.done != nil {
			wg.Go(func() {
				_ = p.c.Close()
				<-p.done
			})
			defer func() { p.done = nil }()
		}
	}
	wg.Wait()
}

// enrol gives everyone an account and a device.
func (r *replay) enrol(ctx context.Context) error {
	transports := make([]*client.HTTPTransport, len(r.fleet.Providers))
	for i, p := range r.fleet.Providers {
		t, err := client.NewHTTPTransport(client.HTTPConfig{
			URL: "https://" + p.Config.Domain, Address: p.Config.ClientListen, Roots: r.fleet.Roots,
		})
		if err != nil {
			return err
		}
		transports[i] = t
	}
	// One process, one cache of verified certificates and anchors. The anchors
	// are fetched through the first device that exists.
	var fetcher struct {
		sync.Mutex
		c *client.Client
	}
	verifier := client.NewVerifier(func(ctx context.Context, domain string) ([]byte, error) {
		fetcher.Lock()
		c := fetcher.c
		fetcher.Unlock()
		return c.FetchAnchor(ctx, domain)
	}, r.fleet.Roots, &identity.MemoryPins{}, time.Now)

	enrol := func(ctx context.Context, name string, at, keyPackages int) (*person, error) {
		provider := r.fleet.Providers[at]
		code, err := provider.Admin().AddUser(ctx, name)
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(r.cfg.Dir, "devices", provider.Config.Domain, mimi.EscapeName(name))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		key, err := sqlitestore.KeyFile(filepath.Join(dir, "key"))
		if err != nil {
			return nil, err
		}
		store, err := sqlitestore.Open(ctx, filepath.Join(dir, "device.db"), key)
		if err != nil {
			return nil, err
		}
		c, err := client.Enrol(ctx, client.Config{
			Transport: transports[at], Store: store, Credentials: verifier,
			KeyPackages: keyPackages, AutoCommit: -1,
			RetryMin: 20 * time.Millisecond, RetryMax: 2 * time.Second,
		}, code.Code, "replay")
		if err != nil {
			_ = store.Close()
			return nil, fmt.Errorf("enrolling %s: %w", name, err)
		}
		p := &person{name: name, c: c, done: make(chan error, 1)}
		go func() {
			err := c.Run(context.Background()) // until Close
			p.done <- errors.Join(err, store.Close())
		}()
		return p, nil
	}
	var err error
	if r.founder, err = enrol(ctx, "founder", 0, -1); err != nil {
		return err
	}
	fetcher.c = r.founder.c
	people := r.cfg.Plan.People
	r.people = make([]*person, len(people))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	var mu sync.Mutex
	done := 0
	for i := range people {
		group.Go(func() (err error) {
			keyPackages := -1 // comes in by external commit
			if people[i].Initial {
				keyPackages = 1
			}
			r.people[i], err = enrol(ctx, people[i].Name, i%len(r.fleet.Providers), keyPackages)
			mu.Lock()
			defer mu.Unlock()
			done++
			r.cfg.Progress("enrolling", done, len(people))
			return err
		})
	}
	return group.Wait()
}

// assemble makes the room and adds those who are there from the start.
func (r *replay) assemble(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	var err error
	if r.room, err = mimi.NewURI(mimi.KindRoom, r.cfg.Domains[0], "replay"); err != nil {
		return err
	}
	if err := r.founder.c.CreateRoom(ctx, client.NewRoom{URI: r.room, Template: room.TemplateOpen, Name: "#replay"}); err != nil {
		return fmt.Errorf("creating the room: %w", err)
	}
	var users []mimi.URI
	var present []*person
	for i, p := range r.people {
		if r.cfg.Plan.People[i].Initial {
			users = append(users, p.c.User())
			present = append(present, p)
		}
	}
	const batch = 50
	for len(users) > 0 {
		n := min(batch, len(users))
		err := r.founder.c.AddUsers(ctx, r.room, users[:n]...)
		if errors.Is(err, client.ErrNoKeyMaterial) && ctx.Err() == nil {
			time.Sleep(50 * time.Millisecond) // somebody has yet to publish KeyPackages
			continue
		}
		if err != nil {
			return fmt.Errorf("adding who is there from the start: %w", err)
		}
		users = users[n:]
	}
	if err := r.inStep(ctx, r.founder); err != nil {
		return err
	}
	for _, p := range present {
		if err := r.await(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// play does the steps of the plan, one after the other.
func (r *replay) play(ctx context.Context) error {
	steps := r.cfg.Plan.Steps
	for n := range steps {
		r.mu.Lock()
		r.next = n
		close(r.wake)
		r.wake = make(chan struct{})
		r.mu.Unlock()
		ctx, cancel := context.WithTimeout(ctx, r.cfg.StepTimeout)
		err := r.step(ctx, n)
		cancel()
		if err != nil {
			return fmt.Errorf("line %d of the log (%s: %v): %w", steps[n].Line+1, r.cfg.Plan.People[steps[n].Person].Name, steps[n].Kind, err)
		}
		r.cfg.Progress("replaying", n+1, len(steps))
	}
	r.mu.Lock()
	r.next = len(steps)
	close(r.wake)
	r.wake = make(chan struct{})
	r.mu.Unlock()
	// Leaves at the very end wait for a commit.
	ctx, cancel := context.WithTimeout(ctx, r.cfg.StepTimeout)
	defer cancel()
	return r.commit(ctx)
}

// commit has the founder commit what is pending.
func (r *replay) commit(ctx context.Context) error {
	if err := r.await(ctx, r.founder); err != nil {
		return err
	}
	if err := again(ctx, func() error { return r.founder.c.UpdateKeys(ctx, r.room) }); err != nil {
		return fmt.Errorf("committing what is pending: %w", err)
	}
	return r.inStep(ctx, r.founder)
}

// step does one step and returns when the hub has it.
func (r *replay) step(ctx context.Context, n int) error {
	s := &r.cfg.Plan.Steps[n]
	p := r.people[s.Person]
	switch s.Kind {
	case irclog.Join:
		if v, err := p.c.Room(r.room); err == nil && v.Status == client.RoomLeaving {
			// Back before anybody has committed the leave.
			if err := r.commit(ctx); err != nil {
				return err
			}
			if _, err := p.c.WaitRoom(ctx, r.room, func(v client.Room) bool { return v.Status == client.RoomLeft }); err != nil {
				return err
			}
		}
		if err := again(ctx, func() error { return p.c.JoinOpen(ctx, r.room) }); err != nil {
			return err
		}
		return r.inStep(ctx, p)
	case irclog.Leave:
		if err := r.await(ctx, p); err != nil {
			return err
		}
		if err := again(ctx, func() error { return p.c.Leave(ctx, r.room) }); err != nil {
			return err
		}
		// The leaver is the first to see its own proposals in the log.
		return r.until(ctx, p, func(v client.Room) bool {
			if v.Pending <= r.pending {
				return false
			}
			r.pending = v.Pending
			return true
		})
	}
	if err := r.await(ctx, p); err != nil {
		return err
	}
	m, err := r.compose(p, s)
	if err != nil {
		return err
	}
	sub := p.c.Subscribe()
	defer sub.Close()
	if r.ids[n], err = p.c.Send(ctx, r.room, m); err != nil {
		return err
	}
	if err := accepted(ctx, sub, r.ids[n]); err != nil {
		return err
	}
	if r.pending > 0 { // the sender has committed it first
		return r.inStep(ctx, p)
	}
	return nil
}

// again does something until no server that is down, or lost the race for an
// epoch, keeps it from succeeding. A join that has happened after all is one.
func again(ctx context.Context, do func() error) error {
	for {
		err := do()
		var status *client.StatusError
		switch {
		case errors.Is(err, client.ErrMember):
			return nil
		case errors.Is(err, client.ErrUnreachable), errors.Is(err, client.ErrConflict):
		case errors.As(err, &status) && status.Status >= 500:
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// accepted waits until the hub has a message, and with it the message's place
// in the log; its sender may see it there later.
func accepted(ctx context.Context, sub *client.Subscription, id content.MessageID) error {
	for {
		e, err := sub.Next(ctx)
		if err != nil {
			return fmt.Errorf("the message was not accepted: %w", err)
		}
		if e.Kind != client.EventOutgoing || e.Outgoing.ID != id {
			continue
		}
		switch e.Outgoing.Status {
		case client.OutgoingAccepted, client.OutgoingPosted:
			return nil
		case client.OutgoingRejected:
			return fmt.Errorf("the message was rejected: %s", e.Outgoing.Reason)
		}
	}
}

// compose makes the message of a step.
func (r *replay) compose(p *person, s *irclog.Step) (*content.Message, error) {
	var opts []content.Option
	if s.Answer >= 0 {
		opts = append(opts, content.ReplyTo(r.ids[s.Answer]))
	}
	composer := p.c.Composer(r.room)
	if s.Kind == irclog.Rename {
		nick := content.PlainText(s.Text)
		nick.Disposition = content.Profile
		return composer.New(nick)
	}
	return composer.Markdown(said(s), opts...)
}

// said is the Markdown of a message or an action, before escaping.
func said(s *irclog.Step) string {
	if s.Kind == irclog.Action {
		return "*" + s.Text + "*"
	}
	return s.Text
}

// inStep notes the state that p has reached as the one that whoever acts next
// must have.
func (r *replay) inStep(_ context.Context, p *person) error {
	v, err := p.c.Room(r.room)
	if err != nil {
		return err
	}
	r.epoch, r.pending = max(r.epoch, v.Epoch), v.Pending
	return nil
}

// await waits until p has all handshake messages so far.
func (r *replay) await(ctx context.Context, p *person) error {
	return r.until(ctx, p, func(v client.Room) bool {
		return v.Epoch > r.epoch || v.Epoch == r.epoch && v.Pending >= r.pending
	})
}

// until waits until what p knows of the room satisfies ok.
func (r *replay) until(ctx context.Context, p *person, ok func(client.Room) bool) error {
	sub := p.c.Subscribe()
	defer sub.Close()
	for {
		v, err := p.c.Room(r.room)
		if err == nil && v.Frozen != nil {
			return fmt.Errorf("the room is frozen for %s: %w", p.name, v.Frozen)
		}
		if err == nil && v.Status == client.RoomActive || err == nil && v.Status == client.RoomLeaving {
			if ok(v) {
				return nil
			}
		}
		if err != nil && !errors.Is(err, client.ErrNoRoom) {
			return err
		}
		if _, err := sub.Next(ctx); err != nil {
			return fmt.Errorf("%s is at epoch %d with %d pending (%v), the room at epoch %d with %d: %w",
				p.name, v.Epoch, v.Pending, v.Status, r.epoch, r.pending, err)
		}
	}
}

// crash kills and restarts the providers in turn, each time at a random
// moment of a random step.
func (r *replay) crash(ctx context.Context) error {
	if r.cfg.Crashes == 0 {
		return nil
	}
	rnd := rand.New(rand.NewPCG(r.cfg.Seed, 1))
	total := len(r.cfg.Plan.Steps)
	for k := range r.cfg.Crashes {
		// Crash k happens within the k-th part of the steps.
		lo, hi := k*total/r.cfg.Crashes, (k+1)*total/r.cfg.Crashes
		at := lo + rnd.IntN(max(1, hi-lo))
		moment := time.Duration(rnd.Int64N(int64(15 * time.Millisecond)))
		down := time.Duration(rnd.Int64N(int64(300 * time.Millisecond)))
		if !r.reached(ctx, at) {
			return ctx.Err()
		}
		time.Sleep(moment)
		p := r.fleet.Providers[k%len(r.fleet.Providers)]
		if err := p.Kill(); err != nil {
			return err
		}
		fmt.Fprintf(r.cfg.Log, "killed %s in step %d, down for %v\n", p.Config.Domain, at, down.Round(time.Millisecond))
		time.Sleep(down)
		if err := p.Start(ctx); err != nil {
			return fmt.Errorf("restarting after crash %d: %w", k+1, err)
		}
	}
	return nil
}

// reached waits for a step to begin.
func (r *replay) reached(ctx context.Context, step int) bool {
	for {
		r.mu.Lock()
		next, wake := r.next, r.wake
		r.mu.Unlock()
		if next >= step {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-wake:
		}
	}
}

func (r *replay) count() *Result {
	res := &Result{People: len(r.people), Providers: len(r.fleet.Providers), Steps: len(r.cfg.Plan.Steps), Crashes: r.cfg.Crashes, Epochs: r.epoch}
	for _, s := range r.cfg.Plan.Steps {
		switch s.Kind {
		case irclog.Message:
			res.Messages++
		case irclog.Action:
			res.Actions++
		case irclog.Join:
			res.Joins++
		case irclog.Leave:
			res.Leaves++
		case irclog.Rename:
			res.Renames++
		}
		if s.Answer >= 0 {
			res.Answers++
		}
	}
	return res
}

func dirSize(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}
