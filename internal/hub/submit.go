package hub

import (
	"context"
	"errors"
	"fmt"

	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// A submission is a SubmitMessageRequest and the identity of its message.
type submission struct {
	req  mimi.SubmitMessageRequest
	hash store.Hash
}

// submits accepts or refuses messages in the order in which they came. It
// returns an error if the store refused for a reason that concerns the state in
// memory; then those without an answer may be tried again.
func (h *Hub) submits(ctx context.Context, r *loaded, jobs []*job) error {
	var accepted []*job
	inBatch := make(map[store.Hash]bool)
	for _, j := range jobs {
		if j.done {
			continue // in an earlier attempt
		}
		refusal, err := h.judge(ctx, r, j)
		if err != nil {
			return err
		}
		if refusal != nil {
			h.cfg.Metrics.Refused(mimi.EndpointSubmitMessage, refusal.Code.String())
			j.answer(mls.Marshal(refusal))
			continue
		}
		if inBatch[j.submit.hash] {
			// The store answers a repetition once the first one is there.
			if err := h.post(ctx, r, accepted); err != nil {
				return err
			}
			accepted = nil
			clear(inBatch)
		}
		inBatch[j.submit.hash] = true
		accepted = append(accepted, j)
	}
	return h.post(ctx, r, accepted)
}

// judge returns the refusal of a message, or nil. A message that is in the log
// already is not refused, whatever has changed since.
func (h *Hub) judge(ctx context.Context, r *loaded, j *job) (*mimi.SubmitMessageResponse, error) {
	refusal := h.refusal(r, j)
	if refusal == nil {
		return nil, nil
	}
	if _, err := h.cfg.Store.FindEvent(ctx, r.name, j.submit.hash); err == nil {
		return nil, nil
	} else if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	return refusal, nil
}

func (h *Hub) refusal(r *loaded, j *job) *mimi.SubmitMessageResponse {
	req := &j.submit.req
	resp := &mimi.SubmitMessageResponse{Protocol: req.Protocol, Code: mimi.SubmitNotAllowed}
	source := j.source
	var err error
	if !source.User.IsZero() && source.User != req.SendingURI {
		err = fmt.Errorf("%v cannot send in the name of %v", source.User, req.SendingURI)
	} else {
		source.User = req.SendingURI
		_, _, err = r.state.Apply(room.Event{Source: source, Message: req.AppMessage})
	}
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*room.Error](err); ok && e.Code == room.CodeEpochTooOld {
		resp.Code, resp.CurrentEpoch = mimi.SubmitEpochTooOld, e.Epoch
	}
	h.cfg.Log.Info("message refused", "room", r.name, "source", j.source.Provider, "code", resp.Code, "error", err)
	return resp
}

// post appends accepted messages as one and answers them.
func (h *Hub) post(ctx context.Context, r *loaded, jobs []*job) error {
	if len(jobs) == 0 {
		return nil
	}
	req := store.Append{Room: r.name}
	ts := max(h.nowMilli(), r.lastTimestamp+1)
	for i, j := range jobs {
		f := mimi.FanoutMessage{Timestamp: ts + uint64(i), Message: j.submit.req.AppMessage}
		body, err := mls.Marshal(&f)
		if err != nil {
			return fmt.Errorf("hub: fan-out of a message: %w", err)
		}
		req.Events = append(req.Events, store.NewEvent{
			Kind: uint8(mimi.FanoutApplication), Hash: j.submit.hash, Timestamp: f.Timestamp, Body: body,
		})
	}
	res, err := h.append(ctx, r, &req)
	if err != nil {
		return err
	}
	if res.Duplicate {
		if len(jobs) == 1 {
			jobs[0].answer(accepted(jobs[0], res.Timestamp))
			return nil
		}
		// One of them is there already; the others are not.
		for i := range jobs {
			if err := h.post(ctx, r, jobs[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	for i, j := range jobs {
		j.answer(accepted(j, res.Events[i].Timestamp))
	}
	h.cfg.Metrics.Accepted(mimi.FanoutApplication.String(), len(jobs))
	return nil
}

func accepted(j *job, timestamp uint64) ([]byte, error) {
	return mls.Marshal(&mimi.SubmitMessageResponse{
		Protocol: j.submit.req.Protocol, Code: mimi.SubmitAccepted, AcceptedTimestamp: timestamp,
	})
}
