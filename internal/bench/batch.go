package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A batch is messages that were encrypted beforehand, and what became of them.
type batch struct {
	room     mimi.URI
	senders  []*sender // message i is by senders[i%len]
	messages [][]byte  // MLSMessages
	bodies   [][]byte  // SubmitMessageRequests
	octets   int       // of all MLSMessages

	// A message is found by a hash of its first octets, which hold the
	// encrypted sender data and so differ.
	seed  maphash.Seed
	head  int
	index map[uint64]int32

	submitted []atomic.Int64 // µs since start; message i is due, or handed to the transport
	left      []atomic.Int32 // members who do not have message i yet
	delivered atomic.Int64
	all       chan struct{} // gets a token when the last message sent may have arrived
	complete  func(i int)   // called when the last member has message i; may be nil
	mu        sync.Mutex    // guards problem
	problem   error         // what a reader found
	failed    chan struct{} // closed with problem
}

// prepare encrypts n messages, in turn by the senders.
func (r *run) prepare(ctx context.Context, n int) (*batch, error) {
	g := r.room
	b := &batch{
		room: g.uri, senders: g.senders, messages: make([][]byte, n), bodies: make([][]byte, n), seed: maphash.MakeSeed(),
		submitted: make([]atomic.Int64, n), left: make([]atomic.Int32, n),
		all: make(chan struct{}, 1), failed: make(chan struct{}),
	}
	var done atomic.Int64
	work, ctx := errgroup.WithContext(ctx)
	for k, s := range g.senders {
		work.Go(func() error {
			for i := k; i < n; i += len(g.senders) {
				if err := ctx.Err(); err != nil {
					return err
				}
				m, err := g.encrypt(s, i, r.cfg.Size)
				if err != nil {
					return fmt.Errorf("bench: encrypting: %w", err)
				}
				if b.messages[i], err = mls.Marshal(m); err != nil {
					return err
				}
				b.bodies[i], err = mls.Marshal(&mimi.SubmitMessageRequest{Protocol: mimi.ProtocolMLS10, AppMessage: *m, SendingURI: s.user})
				if err != nil {
					return err
				}
				if d := done.Add(1); d%500 == 0 && k == 0 {
					r.cfg.Progress("encrypting", int(d), n)
				}
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	b.head = len(b.messages[0])
	for _, m := range b.messages {
		b.head = min(b.head, len(m))
		b.octets += len(m)
	}
	b.index = make(map[uint64]int32, n)
	for i, m := range b.messages {
		b.index[maphash.Bytes(b.seed, m[:b.head])] = int32(i)
		b.left[i].Store(int32(len(r.readers)))
	}
	if len(b.index) != n {
		return nil, errors.New("bench: two messages have the same hash; run it again")
	}
	return b, nil
}

// find tells which message an event of the log carries: -1 if it is none of
// this batch. The body is a FanoutMessage: a timestamp and an MLSMessage.
func (b *batch) find(body []byte) (i int, ok bool) {
	if len(body) < 8+b.head {
		return 0, false
	}
	n, ok := b.index[maphash.Bytes(b.seed, body[8:8+b.head])]
	if !ok {
		return 0, false
	}
	m := b.messages[n]
	return int(n), len(body) >= 8+len(m) && string(body[8:8+len(m)]) == string(m)
}

// isApplication tells application messages, which are PrivateMessages, from
// handshake messages, which the hub can read.
func isApplication(body []byte) bool {
	return len(body) >= 12 && mls.WireFormat(binary.BigEndian.Uint16(body[10:])) == mls.WirePrivateMessage
}

// got is called once per reader and message.
func (b *batch) got(i int) {
	b.delivered.Add(1)
	if b.left[i].Add(-1) == 0 && b.complete != nil {
		b.complete(i)
	}
	select {
	case b.all <- struct{}{}:
	default:
	}
}

func (b *batch) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.problem == nil {
		b.problem = err
		close(b.failed)
	}
}
