package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

// Outcomes of a staged commit, besides nil (merged) and refusals.
var (
	// errLost: somebody else's commit came first.
	errLost = errors.New("client: another commit came first")
	// errBusy: a commit of this device is under way.
	errBusy = errors.New("client: a commit is under way")
	// errSpoilt: a SelfRemove with a wrong membership tag.
	errSpoilt = errors.New("client: the membership tag of a SelfRemove does not verify; the sender is removed instead")
)

// A staged is a commit of this device that is not in the log. It is stored
// before it is sent, sent until the hub has answered, and merged when it is
// seen in the log: the answer alone changes nothing. If the answer is lost,
// or the device crashes, the log tells what became of it.
type staged struct {
	Epoch   uint64   `json:"epoch"` // before the commit
	Hash    [32]byte `json:"hash"`
	Request []byte   `json:"request"` // UpdateRequest
	Sealed  []byte   `json:"sealed"`  // mls.Group.SealStaged

	sc   *mls.StagedCommit
	done chan struct{} // closed when err is final
	err  error
	// known is how many proposals were pending when it was made.
	known int
}

func (s *staged) isDone() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

const (
	rowStaged  = "commit"
	rowLeaving = "leave"
)

// stage makes a commit and has it sent once the turn is stored.
func (r *chat) stage(t *turn, opts mls.CommitOptions) (*staged, error) {
	if err := r.active(); err != nil {
		return nil, err
	}
	if r.staged != nil {
		return nil, errBusy
	}
	opts.OmitTree = true // CLI-20: the hub has the tree
	opts.Proposals = r.carryOut(opts.Proposals)
	sc, err := r.group.Commit(opts)
	if err != nil {
		return nil, fmt.Errorf("client: commit: %w", err)
	}
	if _, _, err := r.view.Commit(sc, r.group.Pending()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotAllowed, err)
	}
	st := &staged{Epoch: sc.Before.Epoch(), sc: sc, done: make(chan struct{}), known: len(r.group.Pending())}
	if st.Hash, err = messageHash(sc.Message); err != nil {
		return nil, err
	}
	st.Request, err = mls.Marshal(&mimi.UpdateRequest{
		Message: *sc.Message, Welcome: sc.Welcome, GroupInfo: mimi.GroupInfoOption{Full: sc.GroupInfo}, RatchetTree: mimi.HubTree()})
	if err != nil {
		return nil, fmt.Errorf("client: commit: %w", err)
	}
	if len(st.Request) > mimi.MaxUpdateRequest {
		return nil, fmt.Errorf("client: commit of %d octets; the limit is %d: add fewer users at once", len(st.Request), mimi.MaxUpdateRequest)
	}
	if st.Sealed, err = r.group.SealStaged(sc); err != nil {
		return nil, fmt.Errorf("client: commit: %w", err)
	}
	value, err := json.Marshal(st)
	if err != nil {
		return nil, fmt.Errorf("client: commit: %w", err)
	}
	r.staged = st
	t.batch.Set(bucketStaged(r.uri), rowStaged, value)
	t.batch.Durable = true
	t.after = append(t.after, func() { r.transmitStaged(st) })
	return st, nil
}

// readStaged restores a staged commit after a crash and has it sent again.
func (r *chat) readStaged(ctx context.Context) error {
	old := r.staged
	r.staged = nil
	value, err := r.c.cfg.Store.Get(ctx, bucketStaged(r.uri), rowStaged)
	if errors.Is(err, ErrNoValue) || r.group == nil {
		if old != nil {
			old.finish(errLost) // it was never stored
		}
		return nil
	}
	if err != nil {
		return err
	}
	st := &staged{done: make(chan struct{})}
	if err := json.Unmarshal(value, st); err != nil {
		return fmt.Errorf("client: stored commit: %w", err)
	}
	if st.sc, err = r.group.LoadStaged(st.Sealed); errors.Is(err, mls.ErrWrongEpoch) {
		if old != nil {
			old.finish(errLost)
		}
		return nil
	} else if err != nil {
		return fmt.Errorf("client: stored commit: %w", err)
	}
	if old != nil {
		if old.Hash != st.Hash {
			old.finish(errLost)
		} else {
			// Read again after a failure of the store: those who wait for it
			// go on waiting, and it is being sent already.
			st.done = old.done
			old.sc = st.sc
			r.staged = old
			return nil
		}
	}
	r.staged = st
	r.transmitStaged(st)
	return nil
}

func (s *staged) finish(err error) {
	if !s.isDone() {
		s.err = err
		close(s.done)
	}
}

// dropStaged forgets the staged commit and tells those who wait for it, once
// that is stored.
func (r *chat) dropStaged(t *turn, outcome error) {
	st := r.staged
	r.staged = nil
	if r.group != nil {
		r.group.Discard(st.sc)
	}
	t.batch.Remove(bucketStaged(r.uri), rowStaged)
	t.after = append(t.after, func() { st.finish(outcome) })
}

// transmitStaged sends a commit until the hub has given a definite answer.
func (r *chat) transmitStaged(st *staged) {
	r.c.goroutine(func() {
		resp, err := r.update(st.Request, st.isDone)
		if r.c.ctx.Err() != nil || st.isDone() {
			return
		}
		r.post(func(t *turn) { r.stagedAnswer(t, st, resp, err) })
	})
}

// update posts an UpdateRequest to the hub.
func (r *chat) update(body []byte, stop func() bool) (*mimi.UpdateRoomResponse, error) {
	var resp Response
	err := r.persist(stop, func() error {
		var err error
		resp, err = r.c.session.do(r.c.ctx, Request{
			Method: http.MethodPost, Path: local.PathUpdate + r.uri.PathSegment(), ContentType: local.MediaTypeTLS, Body: body})
		return err
	})
	if err != nil {
		return nil, err
	}
	answer := new(mimi.UpdateRoomResponse)
	if err := mls.Unmarshal(resp.Body, answer); err != nil {
		return nil, fmt.Errorf("client: answer of the hub: %w", err)
	}
	return answer, nil
}

func (r *chat) stagedAnswer(t *turn, st *staged, resp *mimi.UpdateRoomResponse, err error) {
	if r.staged != st {
		return // the log was faster
	}
	switch {
	case err != nil:
		r.dropStaged(t, err)
	case resp.Code == mimi.UpdateSuccess:
		// It is, or will be, in the log.
	case resp.Code == mimi.UpdateWrongEpoch && resp.CurrentEpoch > st.Epoch:
		// The log has a commit on this epoch. Most likely it is another one;
		// but it may be this very commit, sent before a crash.
	default:
		// After a refusal, others' proposals wait longer and longer before
		// this device tries to commit them again.
		r.holdFor = min(max(2*r.holdFor, 5*time.Second), time.Minute)
		r.hold = time.Now().Add(r.holdFor)
		r.dropStaged(t, &refusal{resp.Code, resp.ErrorDescription})
	}
}

// A refusal is the hub's verdict on a commit.
type refusal struct {
	code mimi.UpdateResponseCode
	text string
}

func (e *refusal) Error() string {
	return fmt.Sprintf("client: the hub answered %v: %s", e.code, e.text)
}

// Is makes a refusal match ErrNotAllowed.
func (e *refusal) Is(target error) bool { return target == ErrNotAllowed }

// patience is how long a refused operation waits for news from the log. The
// hub refuses a commit that leaves out a proposal which it has accepted, and
// this device may be about to hear of that proposal.
const patience = 2 * time.Second

// newsSince waits until the room is not what it was when st was made, and
// reports whether that happened in time.
func (r *chat) newsSince(ctx context.Context, st *staged) (bool, error) {
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		var changed chan struct{}
		err := r.do(short, func(*turn) error {
			if r.group != nil && r.group.State().Epoch() == st.Epoch && len(r.group.Pending()) == st.known {
				changed = r.changed()
			}
			return nil
		})
		if err == nil && changed == nil {
			return true, nil
		}
		if err == nil {
			err = r.c.await(short, changed)
		}
		if err != nil {
			if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
				return false, nil
			}
			return false, err
		}
	}
}

// maxAttempts bounds how often an operation is tried again because others
// changed the room at the same time.
const maxAttempts = 16

// commitChange makes one commit with the proposals that build returns, and
// waits until it is in the log. build runs in the owner's goroutine, once for
// each attempt; it returns nil for nothing to do.
func (r *chat) commitChange(ctx context.Context, build func() (*mls.CommitOptions, error)) error {
	if err := r.lock(ctx); err != nil {
		return err
	}
	defer r.unlock()
	for range maxAttempts {
		var st, other *staged
		cleared := false
		err := r.do(ctx, func(t *turn) error {
			if err := r.active(); err != nil {
				return err
			}
			if r.staged != nil {
				other = r.staged
				return errBusy
			}
			opts, err := build()
			if err != nil || opts == nil {
				return err
			}
			st, err = r.stage(t, *opts)
			if errors.Is(err, mls.ErrInvalidProposal) && len(r.group.Pending()) > 0 {
				// Perhaps somebody has proposed the same, such as to leave: what is
				// pending goes first.
				cleared = true
				st, err = r.stage(t, mls.CommitOptions{})
			}
			return err
		})
		switch {
		case errors.Is(err, errBusy):
			if err := r.c.await(ctx, other.done); err != nil {
				return err
			}
			continue
		case err != nil || st == nil:
			return err
		}
		if err := r.c.await(ctx, st.done); err != nil {
			return err
		}
		var no *refusal
		switch {
		case errors.Is(st.err, errLost), cleared && st.err == nil:
		case errors.As(st.err, &no):
			news, err := r.newsSince(ctx, st)
			if err != nil {
				return err
			}
			if !news {
				return st.err
			}
		default:
			return st.err
		}
	}
	return ErrConflict
}

// lock serialises operations on the room.
func (r *chat) lock(ctx context.Context) error {
	select {
	case r.op <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-r.c.ctx.Done():
		return ErrClosed
	}
}

func (r *chat) unlock() { <-r.op }

// arm sees to it that others' proposals get committed: at once if something
// waits to be sent, else after a random delay, so that not all members try at
// the same time.
func (r *chat) arm(t *turn) {
	if r.toCommit()+len(r.spoiltLeavers()) == 0 || r.staged != nil || r.leaving != nil {
		return
	}
	delay := time.Duration(-1)
	for _, o := range r.outbox {
		if o.Status == OutgoingQueued {
			delay = 0
		}
	}
	if delay < 0 {
		if r.c.cfg.AutoCommit < 0 {
			return
		}
		delay = rand.N(r.c.cfg.AutoCommit + 1)
	}
	if left := time.Until(r.hold); left > delay {
		delay = left
	}
	if delay <= 0 {
		r.commitPending(t)
		return
	}
	if r.timerOn {
		return
	}
	r.timerOn = true
	r.timer = time.AfterFunc(delay, func() {
		// Not from the timer's goroutine: the queue may be full.
		r.c.goroutine(func() {
			r.post(func(t *turn) {
				r.timerOn = false
				if r.active() == nil && r.staged == nil && r.leaving == nil && r.toCommit()+len(r.spoiltLeavers()) > 0 && !time.Now().Before(r.hold) {
					r.commitPending(t)
				}
			})
		})
	})
}

// commitPending commits the pending proposals.
func (r *chat) commitPending(t *turn) {
	if _, err := r.stage(t, mls.CommitOptions{}); err != nil {
		// For example: this device's role does not permit it, or the
		// proposals can't be committed together. Others may be able to.
		r.c.cfg.Log.Info("can't commit pending proposals", "room", r.uri, "err", err)
		r.holdFor = min(max(2*r.holdFor, 5*time.Second), time.Minute)
		r.hold = time.Now().Add(r.holdFor)
	}
}
