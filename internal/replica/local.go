package replica

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/comity-im/comity/internal/federation"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

// Update forwards an update of a local client to the room's hub and returns its
// answer. Nothing is stored: what the hub accepts comes back as a notification.
// While the hub cannot be reached the error matches federation.ErrUnreachable
// or ErrUnavailable; an update cannot wait, it belongs to its epoch.
//
// What can't be parsed is not sent to others.
func (p *Replica) Update(ctx context.Context, roomURI mimi.URI, body []byte) ([]byte, error) {
	if err := mls.Unmarshal(body, new(mimi.UpdateRequest)); err != nil {
		return nil, fmt.Errorf("replica: update: %w: %w", federation.ErrMalformed, err)
	}
	return p.forward(ctx, mimi.EndpointUpdate, roomURI, body)
}

// GroupInfo forwards a request of a local client to the room's hub.
func (p *Replica) GroupInfo(ctx context.Context, roomURI mimi.URI, body []byte) ([]byte, error) {
	if err := mls.Unmarshal(body, new(mimi.GroupInfoRequest)); err != nil {
		return nil, fmt.Errorf("replica: group info: %w: %w", federation.ErrMalformed, err)
	}
	return p.forward(ctx, mimi.EndpointGroupInfo, roomURI, body)
}

func (p *Replica) forward(ctx context.Context, endpoint mimi.Endpoint, roomURI mimi.URI, body []byte) ([]byte, error) {
	if !roomURI.Is(mimi.KindRoom) || roomURI.Domain() == p.cfg.Domain {
		return nil, fmt.Errorf("replica: %s is not a room of another provider: %w", roomURI, federation.ErrNotFound)
	}
	return p.cfg.Peers.Do(ctx, roomURI.Domain(), endpoint, roomURI, body)
}

// KeyMaterial forwards a request of a local client: to the hub of the room it is
// for, or, for no room, to the target's provider. Either must be another
// provider; requests that concern ourselves are for hub.Hub.
func (p *Replica) KeyMaterial(ctx context.Context, target mimi.URI, body []byte) ([]byte, error) {
	req := new(mimi.KeyMaterialRequest)
	if err := mls.Unmarshal(body, req); err != nil {
		return nil, fmt.Errorf("replica: key material: %w: %w", federation.ErrMalformed, err)
	}
	domain := target.Domain()
	if !req.Room.IsZero() {
		domain = req.Room.Domain()
	}
	if req.TargetUser != target || !target.Is(mimi.KindUser) || domain == p.cfg.Domain {
		return nil, fmt.Errorf("replica: key material: %w", federation.ErrMalformed)
	}
	return p.cfg.Peers.Do(ctx, domain, mimi.EndpointKeyMaterial, target, body)
}

// MaxWaiting is how many messages of one room wait for its hub.
const MaxWaiting = 1024

// A hubQueue knows which messages are pending for a hub.
type hubQueue struct {
	mu      sync.Mutex // guards what follows; held while the queue is read or added to
	loaded  bool
	waiting map[string]map[store.Hash]bool // by room
}

// Submit forwards a message of a device of ours to the room's hub and returns
// the hub's answer. If the hub of a room that we follow cannot be reached, or
// messages of the room are waiting for it already, the message is queued durably
// and pending is true: then the outcome comes as the message itself in the log,
// or as mail of kind local.MailRejected. At most MaxWaiting messages of a room
// wait.
func (p *Replica) Submit(ctx context.Context, user, device, roomURI mimi.URI, body []byte) (answer []byte, pending bool, err error) {
	req := new(mimi.SubmitMessageRequest)
	if err := mls.Unmarshal(body, req); err != nil {
		return nil, false, fmt.Errorf("replica: submit: %w: %w", federation.ErrMalformed, err)
	}
	if req.SendingURI != user {
		return nil, false, fmt.Errorf("replica: submit: %w: %s sends as %s", federation.ErrForbidden, user, req.SendingURI)
	}
	message, err := mls.Marshal(&req.AppMessage)
	if err != nil {
		return nil, false, fmt.Errorf("replica: submit: %w: %w", federation.ErrMalformed, err)
	}
	hash := sha256.Sum256(message)
	// A room of which we have no copy is none of our clients' rooms, as far as we
	// know: nothing is kept for it.
	switch _, err := p.cfg.Store.Room(ctx, roomURI.String()); {
	case errors.Is(err, store.ErrNoRoom):
		answer, err := p.forward(ctx, mimi.EndpointSubmitMessage, roomURI, body)
		return answer, false, err
	case err != nil:
		return nil, false, failure(err)
	}
	waiting, err := p.waiting(ctx, roomURI)
	if err != nil {
		return nil, false, failure(err)
	}
	if !waiting {
		answer, err := p.forward(ctx, mimi.EndpointSubmitMessage, roomURI, body)
		if err == nil || !canWait(err) || ctx.Err() != nil {
			return answer, false, err
		}
		p.cfg.Log.Info("message is pending: the hub cannot be reached", "room", roomURI, "error", err)
	}
	err = p.enqueue(ctx, store.NewRequest{
		Domain: roomURI.Domain(), Room: roomURI.String(), Kind: federation.RequestSubmit,
		Device: device.String(), Hash: hash, Body: body,
	})
	return nil, err == nil, failure(err)
}

// canWait reports whether a message that failed so may succeed later.
func canWait(err error) bool {
	return federation.Unreached(err) && !errors.Is(err, context.Canceled)
}

func (p *Replica) queue(hub string) *hubQueue {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.pending[hub]
	if q == nil {
		q = &hubQueue{waiting: make(map[string]map[store.Hash]bool)}
		p.pending[hub] = q
	}
	return q
}

// fill reads the queue of a hub once. The caller holds q.mu.
func (p *Replica) fill(ctx context.Context, hub string, q *hubQueue) error {
	if q.loaded {
		return nil
	}
	const page = 64
	for after := uint64(0); ; {
		reqs, err := p.cfg.Store.Queued(ctx, hub, after, page)
		if err != nil {
			return err
		}
		for i := range reqs {
			after = reqs[i].ID
			if reqs[i].Kind == federation.RequestSubmit {
				q.add(reqs[i].Room, reqs[i].Hash)
			}
		}
		if len(reqs) < page {
			q.loaded = true
			return nil
		}
	}
}

func (q *hubQueue) add(room string, hash store.Hash) {
	if q.waiting[room] == nil {
		q.waiting[room] = make(map[store.Hash]bool)
	}
	q.waiting[room][hash] = true
}

// waiting reports whether messages of a room are pending.
func (p *Replica) waiting(ctx context.Context, roomURI mimi.URI) (bool, error) {
	q := p.queue(roomURI.Domain())
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := p.fill(ctx, roomURI.Domain(), q); err != nil {
		return false, err
	}
	return len(q.waiting[roomURI.String()]) > 0, nil
}

// enqueue stores a pending message.
func (p *Replica) enqueue(ctx context.Context, req store.NewRequest) error {
	q := p.queue(req.Domain)
	q.mu.Lock()
	if room := q.waiting[req.Room]; len(room) >= MaxWaiting && !room[req.Hash] {
		q.mu.Unlock()
		return federation.Delay(fmt.Errorf("replica: %w: %d messages of %s wait for its hub", federation.ErrUnavailable, MaxWaiting, req.Room), time.Minute)
	}
	_, err := p.cfg.Store.Enqueue(ctx, []store.NewRequest{req})
	if err == nil {
		q.add(req.Room, req.Hash)
	}
	q.mu.Unlock()
	if err != nil {
		return err
	}
	p.cfg.Metrics.Pending(req.Domain)
	p.mu.Lock()
	outbox := p.outbox
	p.mu.Unlock()
	if outbox != nil {
		outbox.WakeRequests(req.Domain)
	}
	return nil
}

// Answered implements federation.Answerer: it reads the hub's verdict on a
// pending message.
func (p *Replica) Answered(req store.Request, answer []byte, refused error) ([]store.NewMail, error) {
	resp := &mimi.SubmitMessageResponse{Protocol: mimi.ProtocolMLS10, Code: mimi.SubmitNotAllowed}
	if refused == nil {
		if err := mls.Unmarshal(answer, resp); err != nil {
			return nil, fmt.Errorf("replica: answer of %s: %w: %w", req.Domain, federation.ErrBadPeer, err)
		}
	}
	var mail []store.NewMail
	if resp.Code != mimi.SubmitAccepted {
		body, err := mls.Marshal(resp)
		if err != nil {
			return nil, fmt.Errorf("replica: %w", err)
		}
		p.cfg.Log.Info("pending message was refused", "room", req.Room, "code", resp.Code, "error", refused)
		mail = []store.NewMail{{
			Device: req.Device, Kind: uint8(local.MailRejected), Room: req.Room, Hash: req.Hash,
			Body: append(req.Hash[:], body...),
		}}
	}
	q := p.queue(req.Domain)
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.waiting[req.Room], req.Hash)
	if len(q.waiting[req.Room]) == 0 {
		delete(q.waiting, req.Room)
	}
	return mail, nil
}

// Mailed implements federation.Answerer.
func (p *Replica) Mailed(mail []store.NewMail) {
	for _, m := range mail {
		p.cfg.Notifier.MailArrived(m.Device)
	}
}

var _ federation.Answerer = (*Replica)(nil)
