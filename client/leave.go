package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A leaving is the wish to leave a room: the proposals that another member
// has to commit. They are void in the next epoch, so they are made again in
// every epoch in which the device is still there.
type leaving struct {
	Epoch   uint64 `json:"epoch"`
	Request []byte `json:"request"` // UpdateRequest

	accepted bool // the hub has it
	done     chan struct{}
	err      error
}

func (l *leaving) isDone() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

func (l *leaving) finish(err error) {
	if !l.isDone() {
		l.err = err
		close(l.done)
	}
}

// Leave asks to leave a room with all devices of the user. It returns once the
// hub has accepted that; the device is out when another member has committed
// it, which turns the room's status from RoomLeaving to RoomLeft.
//
// In a room without other users nobody can commit it, and the room stays as
// it is; see Forget.
func (c *Client) Leave(ctx context.Context, uri mimi.URI) error {
	r, err := c.chat(uri, false)
	if err != nil {
		return err
	}
	if err := r.lock(ctx); err != nil {
		return err
	}
	defer r.unlock()
	for {
		var l *leaving
		var wait chan struct{}
		err := r.do(ctx, func(t *turn) error {
			if err := r.active(); err != nil {
				return err
			}
			switch {
			case r.leaving != nil:
				l = r.leaving
				return nil
			case r.staged != nil:
				wait = r.staged.done
				return nil
			case r.dirty || !t.batch.Empty():
				// The proposals are made with a copy of the stored group.
				wait = r.changed()
				return nil
			}
			l = &leaving{done: make(chan struct{})}
			if err := r.propose(t, l); err != nil {
				return err
			}
			r.leaving, r.rec.Leaving = l, true
			return nil
		})
		if err != nil {
			return err
		}
		if wait == nil {
			if err := c.await(ctx, l.done); err != nil {
				return err
			}
			return l.err
		}
		if err := c.await(ctx, wait); err != nil {
			return err
		}
	}
}

// propose makes the proposals of a leave in the present epoch and has them
// sent: SelfRemove for this device, Remove for the user's others, and the
// removal of the user from the participant list, all in one bundle.
//
// They are made with a copy of the group, because the group itself learns of
// proposals only from the log.
func (r *chat) propose(t *turn, l *leaving) error {
	rows, err := r.c.cfg.Store.Bucket(context.WithoutCancel(r.c.ctx), bucketGroup(r.uri))
	if err != nil {
		return err
	}
	g, err := mls.LoadGroup(r.config(), rows, r.c.signer)
	if err != nil {
		return fmt.Errorf("client: stored group: %w", err)
	}
	if g.State().Epoch() != r.group.State().Epoch() {
		return fmt.Errorf("client: the stored group is not the present one")
	}
	update, err := r.view.Policy().Participants.Update(nil, []mimi.URI{r.c.id.User}, nil)
	if err != nil {
		return fmt.Errorf("client: leave: %w", err)
	}
	proposals := []mls.Proposal{mls.SelfRemoveProposal()}
	for _, d := range r.view.ClientsOf(r.c.id.User) {
		if d.Leaf != r.group.OwnLeaf() {
			proposals = append(proposals, mls.RemoveProposal(d.Leaf))
		}
	}
	proposals = append(proposals, mls.AppDataUpdateProposal(mimi.ComponentParticipantList, encoded(update)))
	var req mimi.UpdateRequest
	known := len(g.Pending())
	for i := range proposals {
		m, err := g.Propose(proposals[i], nil)
		if err != nil {
			return fmt.Errorf("client: leave: %w", err)
		}
		if i == 0 {
			req.Message = *m
		} else {
			req.MoreProposals = append(req.MoreProposals, *m)
		}
	}
	if err := r.view.AuthoriseProposals(r.group.Pending(), g.Pending()[known:]); err != nil {
		return fmt.Errorf("%w: %w", ErrNotAllowed, err)
	}
	body, err := mls.Marshal(&req)
	if err != nil {
		return fmt.Errorf("client: leave: %w", err)
	}
	l.Epoch, l.Request, l.accepted = g.State().Epoch(), body, false
	value, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("client: leave: %w", err)
	}
	t.batch.Set(bucketStaged(r.uri), rowLeaving, value)
	t.batch.Durable = true
	t.after = append(t.after, func() { r.transmitLeaving(l, l.Epoch, body) })
	return nil
}

func (r *chat) transmitLeaving(l *leaving, epoch uint64, body []byte) {
	r.c.goroutine(func() {
		// A device that has left, or an epoch that is over, is noticed when
		// the answer comes.
		resp, err := r.update(body, func() bool { return r.record().Epoch != epoch || r.record().Status != RoomActive })
		if r.c.ctx.Err() != nil {
			return
		}
		r.post(func(t *turn) {
			if r.leaving != l || l.Epoch != epoch {
				return
			}
			switch {
			case temporary(err): // given up because the epoch is over
			case err != nil:
				r.failLeaving(t, err)
			case resp.Code == mimi.UpdateSuccess:
				l.accepted = true
				t.after = append(t.after, func() { l.finish(nil) })
			case resp.Code == mimi.UpdateWrongEpoch && resp.CurrentEpoch > epoch:
				// Asked again when the next epoch is seen in the log.
			default:
				r.failLeaving(t, fmt.Errorf("%w: the hub answered %v: %s", ErrNotAllowed, resp.Code, resp.ErrorDescription))
			}
		})
	})
}

// leavingAfterCommit makes the proposals again in a new epoch.
func (r *chat) leavingAfterCommit(t *turn, _ []mls.QueuedProposal) {
	l := r.leaving
	if l == nil {
		return
	}
	// The stored group is of the epoch before until this turn is stored.
	t.after = append(t.after, func() {
		r.c.goroutine(func() {
			r.post(func(t *turn) { r.proposeAgain(t, l) })
		})
	})
}

func (r *chat) proposeAgain(t *turn, l *leaving) {
	if r.leaving != l || r.active() != nil || l.Epoch == r.group.State().Epoch() {
		return
	}
	if r.dirty || !t.batch.Empty() {
		r.leavingAfterCommit(t, nil)
		return
	}
	if err := r.propose(t, l); err != nil {
		r.failLeaving(t, err)
	}
}

// failLeaving gives up leaving.
func (r *chat) failLeaving(t *turn, err error) {
	if l := r.leaving; l != nil {
		r.leaving, r.rec.Leaving = nil, false
		t.batch.Remove(bucketStaged(r.uri), rowLeaving)
		t.after = append(t.after, func() { l.finish(err) })
	}
}

// finishLeaving is called when the device is out.
func (r *chat) finishLeaving(t *turn) { r.failLeaving(t, nil) }

func (r *chat) readLeaving(ctx context.Context) error {
	old := r.leaving
	r.leaving = nil
	value, err := r.c.cfg.Store.Get(ctx, bucketStaged(r.uri), rowLeaving)
	if errors.Is(err, ErrNoValue) || r.group == nil {
		if old != nil {
			old.finish(ErrConflict)
		}
		return nil
	}
	if err != nil {
		return err
	}
	l := &leaving{done: make(chan struct{})}
	if err := json.Unmarshal(value, l); err != nil {
		return fmt.Errorf("client: stored leave: %w", err)
	}
	if old != nil {
		l.done = old.done
		l.err = old.err
	}
	r.leaving, r.rec.Leaving = l, true
	if l.Epoch == r.group.State().Epoch() {
		r.transmitLeaving(l, l.Epoch, l.Request)
		return nil
	}
	r.c.goroutine(func() { r.post(func(t *turn) { r.proposeAgain(t, l) }) })
	return nil
}
