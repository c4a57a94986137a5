package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
)

// maxLine bounds a line of input, in octets.
const maxLine = 256 << 10

func newChat() *cobra.Command {
	var dir string
	opts := chatOptions{}
	cmd := &cobra.Command{
		Use:   "chat [ROOM]",
		Short: "Talk in a room: a line in, a line out",
		Long: `Chat shows what is said in a room and says what it reads, line by line. Lines
that begin with a slash are commands; /help lists them.

It works in a pipe too: at the end of its input it waits until everything is
posted, and exits with 0 if it was, with 1 if something was not. With --follow
it goes on reading until it is interrupted. Messages go to standard output,
everything else to standard error.

Without ROOM it uses the only room there is.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				var err error
				if opts.room, err = parseRoom(args[0]); err != nil {
					return usage(err)
				}
			}
			dir, err := homeDir(dir)
			if err != nil {
				return err
			}
			h, err := openHome(cmd.Context(), dir)
			if err != nil {
				return err
			}
			defer h.Close()
			c, err := client.Open(cmd.Context(), h.config())
			if err != nil {
				return err
			}
			defer c.Close()
			opts.interactive = isTerminal(cmd.InOrStdin())
			opts.colour = paletteFor(cmd.OutOrStdout())
			return newConversation(c, opts, cmd.OutOrStdout(), cmd.ErrOrStderr()).run(cmd.Context(), cmd.InOrStdin())
		},
	}
	homeFlag(cmd, &dir)
	cmd.Flags().BoolVar(&opts.json, "json", false, "print entries as JSON, one a line")
	cmd.Flags().BoolVar(&opts.follow, "follow", false, "go on reading after the end of the input, until interrupted")
	cmd.Flags().IntVar(&opts.history, "history", 10, "how many earlier entries of a room to show")
	cmd.Flags().DurationVar(&opts.timeout, "timeout", 30*time.Second, "how long to wait, at the end of the input, until all is posted")
	return cmd
}

type chatOptions struct {
	room         mimi.URI // zero: the only one
	json, follow bool
	history      int
	timeout      time.Duration
	interactive  bool
	colour       palette
}

// A conversation connects a device with a terminal or a pipe. One goroutine
// reads the input and carries out what it says, in order; another one follows
// the events of the client. Both show lines.
type conversation struct {
	c    *client.Client
	opts chatOptions
	zone *time.Location

	// outMu serialises what is written; it is taken after mu, never before.
	outMu sync.Mutex
	out   *bufio.Writer
	errs  io.Writer

	// mu guards the rest, except while entries are shown, which showMu does.
	mu        sync.Mutex
	room      mimi.URI            // present room; may be zero
	shown     map[mimi.URI]uint64 // number of the last entry shown, by room
	news      map[mimi.URI]bool   // rooms that were announced since they were last shown
	spoken    map[mimi.URI]bool   // rooms in which this conversation has said something
	caughtUp  map[mimi.URI]bool
	connected bool
	failed    bool          // something that was asked for was not done
	impatient bool          // waited for a room in vain
	changed   chan struct{} // closed and replaced after every event
	broken    error         // the output can't be written

	showMu sync.Mutex
}

func newConversation(c *client.Client, opts chatOptions, out, errs io.Writer) *conversation {
	return &conversation{
		c: c, opts: opts, zone: time.Local, out: bufio.NewWriter(out), errs: errs, room: opts.room,
		shown: map[mimi.URI]uint64{}, news: map[mimi.URI]bool{}, spoken: map[mimi.URI]bool{}, caughtUp: map[mimi.URI]bool{},
		changed: make(chan struct{}),
	}
}

// errUndone: the reasons were printed when they occurred.
var errUndone = errors.New("not everything was done; see the messages above")

// run talks until the input ends or ctx does.
func (v *conversation) run(ctx context.Context, in io.Reader) error {
	if err := v.choose(); err != nil {
		return err
	}
	work, stop := context.WithCancel(ctx)
	defer stop()
	sub := v.c.Subscribe()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for r := range v.rooms() {
		v.forgetRejected(work, r)
	}
	v.begin(work)
	wg.Go(func() { v.follow(work, sub, stop) })
	wg.Go(func() { _ = v.c.Run(work) })

	// A read from a terminal can't be interrupted, so nobody waits for this
	// goroutine: it ends with the process.
	lines := make(chan string)
	ended := make(chan error, 1)
	go func() { ended <- readLines(work, in, lines) }()
	var readErr error
	for open := true; open; {
		select {
		case line := <-lines:
			v.obey(work, line)
			if v.isQuit(line) {
				open = false
			}
		case readErr = <-ended:
			open = false
		case <-work.Done():
			return v.interrupted(ctx)
		}
	}
	if err := v.settle(work); err != nil {
		if ctx.Err() != nil {
			return v.interrupted(ctx)
		}
		return err
	}
	if readErr != nil {
		return fmt.Errorf("reading the input: %w", readErr)
	}
	if v.opts.follow {
		<-work.Done()
		return v.interrupted(ctx)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.broken != nil {
		return v.broken
	}
	if v.failed {
		return errUndone
	}
	return nil
}

// choose picks the room to begin with.
func (v *conversation) choose() error {
	if !v.room.IsZero() {
		return nil
	}
	var active []client.Room
	for r := range v.rooms() {
		if r.Status == client.RoomActive || r.Status == client.RoomFrozen {
			active = append(active, r)
		}
	}
	switch {
	case len(active) == 1:
		v.room = active[0].URI
	case len(active) > 1 && !v.opts.interactive:
		return usage(fmt.Errorf("this device is in %d rooms; name one, such as %v", len(active), active[0].URI))
	case len(active) > 1:
		v.note("You are in %d rooms; choose one with /room:", len(active))
		v.listRooms()
	case v.opts.interactive:
		v.note("You are in no room yet. Make one with /create NAME, join one with /join, or wait to be added.")
	}
	return nil
}

// begin shows the latest history.
func (v *conversation) begin(ctx context.Context) {
	if v.opts.interactive {
		v.note("You are %s. /help lists the commands.", who(v.c.User()))
	}
	for r := range v.rooms() {
		v.shown[r.URI] = r.LastSeq - min(r.LastSeq, uint64(max(0, v.opts.history)))
	}
	v.show(ctx)
}

// interrupted is how a conversation ends that was not over.
func (v *conversation) interrupted(ctx context.Context) error {
	v.mu.Lock()
	broken := v.broken
	v.mu.Unlock()
	if ctx.Err() == nil && broken != nil {
		return broken
	}
	waiting := 0
	for r := range v.rooms() {
		waiting += r.Unposted
	}
	if waiting > 0 {
		v.note("Not posted yet: %s. That will be done the next time you chat.", count(waiting, "message"))
	}
	return nil
}

// settle waits until everything that was said is posted, and until the
// present room has been read to its end.
func (v *conversation) settle(ctx context.Context) error {
	deadline, cancel := context.WithTimeout(ctx, v.opts.timeout)
	defer cancel()
	v.mu.Lock()
	if _, err := v.c.Room(v.room); err == nil {
		v.spoken[v.room] = true // in an earlier conversation, perhaps
	}
	spoken := slices.Collect(maps.Keys(v.spoken))
	v.mu.Unlock()
	for _, r := range spoken {
		if err := v.posted(deadline, r); err != nil {
			return v.unsettled(err)
		}
	}
	// What was said elsewhere before the input ended is shown as well.
	err := v.until(deadline, func() bool {
		r, err := v.c.Room(v.room)
		return v.room.IsZero() || v.caughtUp[v.room] || err == nil && r.Status != client.RoomActive
	})
	v.show(ctx)
	return v.unsettled(err)
}

func (v *conversation) unsettled(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		v.mu.Lock()
		connected := v.connected
		v.mu.Unlock()
		if !connected {
			return fmt.Errorf("the provider was not reached within %v; what is not posted will be, the next time you chat", v.opts.timeout)
		}
		return fmt.Errorf("not everything was posted within %v; it will be, the next time you chat", v.opts.timeout)
	}
	return err
}

// posted waits for the messages that are on their way in a room.
func (v *conversation) posted(ctx context.Context, room mimi.URI) error {
	out, err := v.c.Unposted(ctx, room)
	if err != nil {
		return err
	}
	for _, o := range out {
		_, err := v.c.Wait(ctx, room, o.ID)
		switch {
		case errors.Is(err, client.ErrRejected), errors.Is(err, client.ErrUnknownMessage):
			// The follower has said, or will say, why.
			v.fail()
		case err != nil:
			return err
		}
	}
	return nil
}

// until waits until ok, which is called with mu held, is true.
func (v *conversation) until(ctx context.Context, ok func() bool) error {
	for {
		v.mu.Lock()
		done, changed := ok(), v.changed
		v.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (v *conversation) fail() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failed = true
}

// readLines hands over the input line by line.
func readLines(ctx context.Context, in io.Reader, lines chan<- string) error {
	s := bufio.NewScanner(in)
	s.Buffer(make([]byte, 0, 4096), maxLine)
	for s.Scan() {
		select {
		case lines <- s.Text():
		case <-ctx.Done():
			return nil
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("a line has more than %d octets", maxLine)
	}
	return s.Err()
}
