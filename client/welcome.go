package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
)

// bucketWelcomes holds invitations to a room that have to wait, in order: the
// device is still a member, and the commit that removes it has not come yet.
func bucketWelcomes(room mimi.URI) string { return "welcomes " + room.String() }

// mail handles what the provider has for this device alone. It is confirmed
// once what came of it is on the medium.
func (r *chat) mail(t *turn, id uint64, kind local.MailKind, position uint64, body []byte) {
	// Mail that is not confirmed comes again with the next connection.
	connection := r.c.line.last()
	t.failed = append(t.failed, func(error) { r.c.line.reconnect(connection) })
	if r.broken != nil || t.abort != nil {
		return
	}
	switch kind {
	case local.MailWelcome:
		if r.rec.Status == RoomActive || r.rec.Status == RoomJoining {
			r.keepWelcome(t, id, position, body)
			break
		}
		if !r.welcome(t, position, body) {
			return
		}
	case local.MailRejected:
		if err := r.rejectedMail(t, body); err != nil {
			r.c.problem(err)
		}
	default:
		r.c.problem(fmt.Errorf("client: mail of unknown kind %d", kind))
	}
	t.batch.Durable = true // the provider forgets it now
	t.after = append(t.after, func() { r.c.line.mailDone(id) })
}

// maxWelcomes is how many invitations to one room wait; older ones are dropped.
const maxWelcomes = 16

// keepWelcome stores an invitation until the device is out of the room.
func (r *chat) keepWelcome(t *turn, id, position uint64, body []byte) {
	rows, err := r.c.cfg.Store.Bucket(context.WithoutCancel(r.c.ctx), bucketWelcomes(r.uri))
	if err != nil {
		t.abort = err
		return
	}
	keys := slices.Sorted(maps.Keys(rows))
	for len(keys) >= maxWelcomes {
		t.batch.Remove(bucketWelcomes(r.uri), keys[0])
		keys = keys[1:]
	}
	t.batch.Set(bucketWelcomes(r.uri), seqKey(id), append(binary.BigEndian.AppendUint64(nil, position), body...))
}

// nextWelcome looks whether an invitation has waited for the device to be out.
func (r *chat) nextWelcome(t *turn) {
	if r.broken != nil || t.abort != nil || r.rec.Status == RoomActive || r.rec.Status == RoomJoining {
		return
	}
	rows, err := r.c.cfg.Store.Bucket(context.WithoutCancel(r.c.ctx), bucketWelcomes(r.uri))
	if err != nil {
		t.abort = err
		return
	}
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		if len(rows[key]) < 8 {
			t.batch.Remove(bucketWelcomes(r.uri), key)
			continue
		}
		if !r.welcome(t, binary.BigEndian.Uint64(rows[key]), rows[key][8:]) {
			return
		}
		t.batch.Remove(bucketWelcomes(r.uri), key)
		t.batch.Durable = true
		if r.rec.Status == RoomActive {
			return // the others wait on
		}
	}
}

// welcome joins by an invitation. It reports whether the invitation is done
// with, for good or ill.
func (r *chat) welcome(t *turn, position uint64, body []byte) bool {
	err := r.accept(t, position, body)
	switch {
	case err == nil || t.abort != nil:
		return t.abort == nil
	case errors.Is(err, ErrUnreachable):
		// A certificate can't be judged now. The mail comes again with the
		// next stream; this one is ended so that that is soon.
		r.c.cfg.Log.Info("invitation waits", "room", r.uri, "err", err)
		connection := r.c.line.last()
		t.after = append(t.after, func() { r.c.line.reconnect(connection) })
		return false
	case errors.Is(err, errUsed):
		r.c.cfg.Log.Info("invitation passed over", "room", r.uri, "err", err)
		return true
	}
	r.c.problem(fmt.Errorf("client: invitation to %v: %w", r.uri, err))
	if r.rec.Status != RoomNone {
		r.trouble(t, position, r.c.cfg.Now(), ProblemWelcome, err)
	}
	return true
}

// errUsed: the invitation is for a KeyPackage that this device does not have
// (any more); most likely it was accepted before.
var errUsed = errors.New("client: no KeyPackage for this invitation")

func (r *chat) accept(t *turn, position uint64, body []byte) error {
	var fm mimi.FanoutMessage
	if err := mls.Unmarshal(body, &fm); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if kind, err := fm.Kind(); err != nil || kind != mimi.FanoutWelcome {
		return fmt.Errorf("%w: the mail holds no Welcome", ErrRefused)
	}
	k, err := r.c.pool.find(context.WithoutCancel(r.c.ctx), fm.Message.Welcome)
	if err != nil {
		t.abort = err
		return err
	}
	if k == nil {
		return errUsed
	}
	defer k.private.Wipe()
	tree, err := fm.RatchetTree.Nodes()
	if err != nil {
		return fmt.Errorf("%w: Welcome: %w", ErrRefused, err)
	}
	g, err := mls.JoinWelcome(r.config(), fm.Message.Welcome, tree, k.public, k.private, r.c.signer)
	if err != nil {
		return refused(err)
	}
	// viewOf refuses a ghost: a device in the group whose user is not in the
	// participant list.
	v, err := viewOf(g.State())
	switch {
	case err != nil:
		return err
	case v.Room() != r.uri:
		return fmt.Errorf("%w: invited to %v, but the group is of %v", ErrRefused, r.uri, v.Room())
	case r.rec.GroupID != nil && !bytes.Equal(r.rec.GroupID, g.State().GroupID()):
		return fmt.Errorf("%w: the room has another group than before", ErrRefused)
	case r.rec.GroupID != nil && g.State().Epoch() <= r.rec.Epoch:
		// The device came in by itself meanwhile, or somebody sends it again.
		return fmt.Errorf("%w: invited to epoch %d, which is over", errUsed, g.State().Epoch())
	}
	r.group, r.view, r.dirty = g, v, true
	st := g.State()
	r.rec.Status, r.rec.GroupID, r.rec.JoinEpoch, r.rec.JoinTag = RoomActive, st.GroupID(), st.Epoch(), st.ConfirmationTag()
	r.rec.Leaving, r.rec.Frozen = false, nil
	// The commit that added the device is read too: it must lead to this epoch.
	r.rec.Exact = position > 0
	if position > 0 {
		r.rec.Cursor = max(r.rec.Cursor, position-1)
	}
	t.batch.Clear(bucketGroup(r.uri))
	t.batch.Remove(bucketKeyPackages, k.ref)
	t.batch.Remove(bucketPublished, k.ref)
	t.after = append(t.after, func() {
		r.subscribe()
		r.c.pool.poke()
	})
	return nil
}
