package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

// An outgoing is a message of this device that is not in the log.
type outgoing struct {
	N       uint64            `json:"n"`
	ID      content.MessageID `json:"id"`
	Content []byte            `json:"content"`
	Status  OutgoingStatus    `json:"status"`
	Created int64             `json:"created"` // milliseconds since the Unix epoch
	// Message is the MLSMessage, the same in every attempt; Epoch its epoch.
	Message []byte `json:"message,omitempty"`
	Epoch   uint64 `json:"epoch,omitempty"`
	// Hashes are those of all MLSMessages with this content, the present one
	// last. An earlier one was refused, but who knows.
	Hashes [][32]byte `json:"hashes,omitempty"`
	// NotBefore is the first epoch in which it may be encrypted again.
	NotBefore uint64 `json:"not_before,omitempty"`
	Reason    string `json:"reason,omitempty"`

	// settled tells the goroutine that sends it to stop.
	settled *atomic.Bool
}

func (o *outgoing) public() *Outgoing {
	return &Outgoing{ID: o.ID, Status: o.Status, Created: time.UnixMilli(o.Created), Content: o.Content, Reason: o.Reason}
}

// Composer returns what writes messages of this user to a room.
func (c *Client) Composer(uri mimi.URI) *content.Composer {
	return &content.Composer{SenderURI: c.id.User.String(), RoomURI: uri.String(), Now: c.cfg.Now}
}

// SendText sends plain text.
func (c *Client) SendText(ctx context.Context, uri mimi.URI, text string, opts ...content.Option) (content.MessageID, error) {
	m, err := c.Composer(uri).Text(text, opts...)
	if err != nil {
		return content.MessageID{}, err
	}
	return c.Send(ctx, uri, m)
}

// Send has a message posted to a room. When it returns without an error the
// message is on the medium and will be posted, now or later; Wait tells when.
// A message with the ID of one that is under way is not sent twice.
func (c *Client) Send(ctx context.Context, uri mimi.URI, m *content.Message) (content.MessageID, error) {
	r, err := c.chat(uri, false)
	if err != nil {
		return content.MessageID{}, err
	}
	if m.SenderURI() != c.id.User.String() || m.RoomURI() != uri.String() {
		return content.MessageID{}, fmt.Errorf("client: the message names sender %q and room %q; use Composer", m.SenderURI(), m.RoomURI())
	}
	if err := m.CheckOutgoing(c.cfg.Now()); err != nil {
		return content.MessageID{}, err
	}
	data, err := m.Encode()
	if err != nil {
		return content.MessageID{}, err
	}
	if len(data) > maxContent {
		return content.MessageID{}, fmt.Errorf("%w: %d octets; the limit is %d", content.ErrTooLarge, len(data), maxContent)
	}
	id, err := m.ID()
	if err != nil {
		return id, err
	}
	err = r.do(ctx, func(t *turn) error {
		if err := r.active(); err != nil {
			return err
		}
		if r.leaving != nil {
			return fmt.Errorf("%w: leaving %v", ErrNotMember, uri)
		}
		if err := r.view.AuthoriseSend(c.id.User); err != nil {
			return fmt.Errorf("%w: %w", ErrNotAllowed, err)
		}
		if slices.ContainsFunc(r.outbox, func(o *outgoing) bool { return o.ID == id && o.Status != OutgoingRejected }) {
			return nil
		}
		if _, known, err := r.sender(t, id); err != nil || known {
			return err
		}
		r.rec.NextOut++
		o := &outgoing{N: r.rec.NextOut, ID: id, Content: data, Status: OutgoingQueued, Created: c.cfg.Now().UnixMilli(), settled: new(atomic.Bool)}
		r.outbox = append(r.outbox, o)
		r.saveOutgoing(t, o)
		t.batch.Durable = true
		return nil
	})
	return id, err
}

// Unposted returns this device's messages that are not in the log, oldest
// first: those on their way and those that were rejected.
func (c *Client) Unposted(ctx context.Context, uri mimi.URI) ([]Outgoing, error) {
	r, err := c.chat(uri, false)
	if err != nil {
		return nil, err
	}
	var out []Outgoing
	err = r.do(ctx, func(*turn) error {
		for _, o := range r.outbox {
			out = append(out, *o.public())
		}
		return nil
	})
	return out, err
}

// Discard forgets a rejected message.
func (c *Client) Discard(ctx context.Context, uri mimi.URI, id content.MessageID) error {
	r, err := c.chat(uri, false)
	if err != nil {
		return err
	}
	return r.do(ctx, func(t *turn) error {
		for _, o := range r.outbox {
			if o.ID == id && o.Status == OutgoingRejected {
				r.dropOutgoing(t, o)
				return nil
			}
		}
		return ErrUnknownMessage
	})
}

// Wait waits until a message of this device is in the log, and returns its
// entry. It fails with an error that matches ErrRejected if the message was
// refused for good.
func (c *Client) Wait(ctx context.Context, uri mimi.URI, id content.MessageID) (Entry, error) {
	r, err := c.chat(uri, false)
	if err != nil {
		return Entry{}, err
	}
	for {
		var changed chan struct{}
		err := r.do(ctx, func(*turn) error {
			for _, o := range r.outbox {
				if o.ID != id {
					continue
				}
				if o.Status == OutgoingRejected {
					return fmt.Errorf("%w: %s", ErrRejected, o.Reason)
				}
				changed = r.changed()
			}
			return nil
		})
		if err != nil {
			return Entry{}, err
		}
		if changed == nil {
			return c.Message(ctx, uri, id)
		}
		if err := c.await(ctx, changed); err != nil {
			return Entry{}, err
		}
	}
}

// changed returns a channel that is closed when this turn, or a later one,
// has changed something.
func (r *chat) changed() chan struct{} {
	ch := make(chan struct{})
	r.waiting = append(r.waiting, ch)
	return ch
}

// await waits for ch.
func (c *Client) await(ctx context.Context, ch <-chan struct{}) error {
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ctx.Done():
		return ErrClosed
	}
}

func (r *chat) saveOutgoing(t *turn, o *outgoing) {
	value, err := json.Marshal(o)
	if err != nil {
		panic("client: outgoing message without encoding: " + err.Error())
	}
	t.batch.Set(bucketOutbox(r.uri), seqKey(o.N), value)
	t.publish(Event{Kind: EventOutgoing, Room: r.uri, Outgoing: o.public()})
}

func (r *chat) dropOutgoing(t *turn, o *outgoing) {
	o.settled.Store(true)
	r.outbox = slices.DeleteFunc(r.outbox, func(x *outgoing) bool { return x == o })
	t.batch.Remove(bucketOutbox(r.uri), seqKey(o.N))
}

func (r *chat) reject(t *turn, o *outgoing, reason string) {
	o.Status, o.Reason = OutgoingRejected, reason
	o.settled.Store(true)
	r.saveOutgoing(t, o)
}

// outgoing returns the message with this hash, or nil.
func (r *chat) outgoing(h [32]byte) *outgoing {
	for _, o := range r.outbox {
		if slices.Contains(o.Hashes, h) {
			return o
		}
	}
	return nil
}

func (r *chat) readOutbox(ctx context.Context) error {
	rows, err := r.c.cfg.Store.Bucket(ctx, bucketOutbox(r.uri))
	if err != nil {
		return err
	}
	for _, o := range r.outbox {
		o.settled.Store(true)
	}
	r.outbox = nil
	for _, value := range rows {
		o := &outgoing{settled: new(atomic.Bool)}
		if err := json.Unmarshal(value, o); err != nil {
			return fmt.Errorf("client: stored message: %w", err)
		}
		r.outbox = append(r.outbox, o)
	}
	slices.SortFunc(r.outbox, func(a, b *outgoing) int { return int(int64(a.N) - int64(b.N)) })
	return nil
}

// posted moves a message from the outbox to the history.
func (r *chat) posted(t *turn, position uint64, at time.Time, o *outgoing) {
	r.dropOutgoing(t, o)
	e := Entry{Position: position, Time: at, Kind: EntryMessage, User: r.c.id.User, Device: r.c.id.Device, Own: true,
		ID: o.ID, MediaType: content.MediaTypeContent, Content: o.Content}
	if m, err := content.DecodeMax(o.Content, maxContent); err == nil {
		e.Replaces, e.InReplyTo = m.Replaces, m.InReplyTo
	}
	r.entry(t, e)
	o.Status = OutgoingPosted
	t.publish(Event{Kind: EventOutgoing, Room: r.uri, Outgoing: o.public()})
}

// settle runs at the end of every turn: it encrypts what may be encrypted,
// sees to it that others' proposals get committed, and sends what is ready.
func (r *chat) settle(t *turn) {
	if r.active() == nil && !r.parked {
		r.encrypt(t)
		r.arm(t)
	}
	if r.sending {
		return
	}
	for _, o := range r.outbox {
		if o.Status == OutgoingQueued {
			return // later ones must not overtake it
		}
		if o.Status == OutgoingPending {
			r.sending = true
			t.after = append(t.after, func() { r.transmit(o) })
			t.failed = append(t.failed, func(error) { r.sending = false })
			return
		}
	}
}

// encrypt encrypts the queued messages, unless proposals have to be committed
// first (RFC 9420 section 12.4) or a commit of this device is under way. It
// waits until the device has seen the whole log: what is encrypted for an
// epoch that is over could be read by those who were removed, and not by those
// who were added.
func (r *chat) encrypt(t *turn) {
	if n := r.c.line.connection(); n == 0 || n != r.caughtUpOn {
		return
	}
	if r.staged != nil || r.leaving != nil || r.toCommit() > 0 {
		return
	}
	st := r.group.State()
	for _, o := range r.outbox {
		if o.Status != OutgoingQueued || st.Epoch() < o.NotBefore {
			continue
		}
		if err := r.view.AuthoriseSend(r.c.id.User); err != nil {
			r.reject(t, o, err.Error())
			continue
		}
		data, err := frame(st, content.MediaTypeContent, o.Content)
		var m *mls.MLSMessage
		if err == nil {
			m, err = r.group.Encrypt(data, nil)
		}
		if err == nil {
			o.Message, err = mls.Marshal(m)
		}
		var h [32]byte
		if err == nil {
			h, err = messageHash(m)
		}
		if err != nil {
			t.abort = fmt.Errorf("client: encrypt: %w", err)
			return
		}
		o.Epoch, o.Status, o.NotBefore = st.Epoch(), OutgoingPending, 0
		o.Hashes = append(o.Hashes, h)
		r.saveOutgoing(t, o)
		// The key that was used must not come back after a crash.
		r.dirty, t.batch.Durable = true, true
	}
}

// transmit sends a message until the hub, or the own provider, has given a
// definite answer.
func (r *chat) transmit(o *outgoing) {
	n, body, hash, settled := o.N, o.Message, o.Hashes[len(o.Hashes)-1], o.settled
	r.c.goroutine(func() {
		resp, err := r.submit(body, settled)
		if r.c.ctx.Err() != nil {
			return
		}
		r.post(func(t *turn) {
			r.sending = false
			for _, o := range r.outbox {
				if o.N == n && o.Status == OutgoingPending && o.Hashes[len(o.Hashes)-1] == hash {
					r.submitted(t, o, resp, err)
				}
			}
		})
	})
}

// errForwarding: the own provider keeps the message until the hub answers.
var errForwarding = errors.New("client: the hub can't be reached")

func (r *chat) submit(message []byte, settled *atomic.Bool) (*mimi.SubmitMessageResponse, error) {
	req := mimi.SubmitMessageRequest{Protocol: mimi.ProtocolMLS10, SendingURI: r.c.id.User}
	if err := mls.Unmarshal(message, &req.AppMessage); err != nil {
		return nil, fmt.Errorf("client: stored message: %w", err)
	}
	body, err := mls.Marshal(&req)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	var resp Response
	err = r.persist(settled.Load, func() error {
		var err error
		resp, err = r.c.session.do(r.c.ctx, Request{
			Method: http.MethodPost, Path: local.PathSubmitMessage + r.uri.PathSegment(), ContentType: local.MediaTypeTLS, Body: body})
		return err
	})
	if err != nil {
		return nil, err
	}
	if resp.Status == http.StatusAccepted {
		return nil, errForwarding
	}
	answer := new(mimi.SubmitMessageResponse)
	if err := mls.Unmarshal(resp.Body, answer); err != nil {
		return nil, fmt.Errorf("client: answer of the hub: %w", err)
	}
	return answer, nil
}

// persist calls f until it succeeds, fails for good, or stop says that it is
// of no interest any more.
func (r *chat) persist(stop func() bool, f func() error) error {
	retry := backoff{min: r.c.cfg.RetryMin, max: r.c.cfg.RetryMax}
	for {
		err := f()
		if err == nil || !temporary(err) || stop() {
			return err
		}
		r.c.cfg.Log.Debug("will try again", "room", r.uri, "err", err)
		if err := sleep(r.c.ctx, retry.delay(err)); err != nil {
			return err
		}
		if stop() {
			return err
		}
	}
}

// submitted acts on the answer to a message.
func (r *chat) submitted(t *turn, o *outgoing, resp *mimi.SubmitMessageResponse, err error) {
	switch {
	case errors.Is(err, errForwarding):
		o.Status = OutgoingForwarding
		r.saveOutgoing(t, o)
	case err != nil:
		r.reject(t, o, err.Error())
	case resp.Code == mimi.SubmitAccepted:
		o.Status = OutgoingAccepted
		r.saveOutgoing(t, o)
	case resp.Code == mimi.SubmitEpochTooOld && resp.CurrentEpoch > o.Epoch:
		// A definite refusal: the same content is encrypted again, with the
		// same salt and so the same ID, in the epoch that the hub is in.
		o.Status, o.NotBefore, o.Message = OutgoingQueued, resp.CurrentEpoch, nil
		r.saveOutgoing(t, o)
	default:
		r.reject(t, o, fmt.Sprintf("the hub answered %v", resp.Code))
	}
}

// rejectedMail acts on the news that a forwarded message was refused.
func (r *chat) rejectedMail(t *turn, body []byte) error {
	if len(body) < 32 {
		return errors.New("client: notice of a rejected message is too short")
	}
	var resp mimi.SubmitMessageResponse
	if err := mls.Unmarshal(body[32:], &resp); err != nil {
		return fmt.Errorf("client: notice of a rejected message: %w", err)
	}
	o := r.outgoing([32]byte(body[:32]))
	if o == nil || o.Hashes[len(o.Hashes)-1] != [32]byte(body[:32]) {
		return nil // known already
	}
	if o.Status == OutgoingForwarding || o.Status == OutgoingPending {
		r.submitted(t, o, &resp, nil)
	}
	return nil
}
