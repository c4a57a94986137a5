package client

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// messageHash is how a device recognises its own messages in the log.
func messageHash(m *mls.MLSMessage) ([32]byte, error) {
	b, err := mls.Marshal(m)
	if err != nil {
		return [32]byte{}, fmt.Errorf("client: %w", err)
	}
	return sha256.Sum256(b), nil
}

// event applies one event of the log. Whatever it is, the cursor moves behind
// it, unless the room is frozen by it or it has to be tried again. In that
// case all that follows on the same connection is dropped, too, so that events
// are never applied out of order.
func (r *chat) event(t *turn, connection, position uint64, body []byte) {
	if r.parked || r.broken != nil || t.abort != nil {
		r.stale = max(r.stale, connection)
	}
	if connection <= r.stale {
		return
	}
	var fm mimi.FanoutMessage
	err := mls.Unmarshal(body, &fm)
	if err == nil && r.joining != nil {
		// The hub has accepted the join, although its answer got lost.
		if h, err := messageHash(&fm.Message); err == nil && h == r.joining.Hash {
			r.joined(t)
		}
	}
	if r.active() != nil || position <= r.rec.Cursor {
		return
	}
	if r.skipped(position, &fm, err) && r.gaps < maxGaps {
		r.gaps++
		r.stale = max(r.stale, connection)
		r.park(fmt.Errorf("client: position %d does not follow %d", position, r.rec.Cursor))
		return
	}
	at := hubTime(fm.Timestamp)
	r.at = hubTime(max(fm.Timestamp, r.rec.LastTime))
	defer func() { r.at = time.Time{} }()
	if err != nil {
		r.trouble(t, position, r.at, ProblemMalformed, err)
		r.rec.Cursor = position
		return
	}
	kind, err := fm.Kind()
	if err != nil {
		r.trouble(t, position, at, ProblemUnsupported, err)
		r.rec.Cursor = position
		return
	}
	cursor := r.rec.Cursor
	r.rec.Cursor = position
	ok := true
	switch kind {
	case mimi.FanoutApplication:
		ok = r.application(t, position, at, &fm)
	case mimi.FanoutProposal:
		ok = r.proposals(t, position, at, append([]mls.MLSMessage{fm.Message}, fm.MoreProposals...))
	case mimi.FanoutCommit:
		ok = r.commit(t, position, at, &fm)
	case mimi.FanoutWelcome:
		// Welcomes come as mail; one in the log is for somebody else.
	}
	if !ok {
		r.rec.Cursor = cursor
		return
	}
	r.rec.LastTime = max(r.rec.LastTime, min(fm.Timestamp, uint64(r.c.cfg.Now().Add(time.Hour).UnixMilli())))
	r.anchors.reset()
	r.gaps = 0
}

// maxGaps is how often in a row a provider is asked for events that it left
// out. Then the device goes on without them; if one was a commit, the room is
// frozen.
const maxGaps = 4

// hubTime converts a timestamp of the hub, which may be any number. What lies
// beyond the year 9999 can't be written down and counts as its end.
func hubTime(ms uint64) time.Time {
	return time.UnixMilli(int64(min(ms, 253402300799000))).UTC()
}

// skipped reports whether events are missing before this one: it is still of a
// subscription from before the device was removed and came back, or the
// provider has left something out. All is asked for again from the cursor on.
func (r *chat) skipped(position uint64, fm *mimi.FanoutMessage, err error) bool {
	if r.rec.Exact {
		return position != r.rec.Cursor+1
	}
	if err != nil || r.rec.JoinTag == nil {
		return false
	}
	// The commit by which the device came in is still to come.
	pm := fm.Message.PublicMessage
	if kind, err := fm.Kind(); err != nil || kind == mimi.FanoutWelcome || pm != nil && pm.Content.Commit != nil {
		return false
	}
	_, epoch, _ := fm.Message.Epoch()
	return epoch >= r.rec.JoinEpoch
}

// park stops applying events for a while: something outside of the room, such
// as a certificate authority that can't be reached, must be there first.
func (r *chat) park(err error) {
	r.c.cfg.Log.Info("room waits", "room", r.uri, "err", err)
	r.again()
}

// freeze stops following the room for good.
func (r *chat) freeze(t *turn, position uint64, at time.Time, code ProblemCode, err error) {
	r.trouble(t, position, at, code, err)
	r.rec.Status = RoomFrozen
	r.rec.Frozen = &Problem{Code: code, Text: err.Error()}
	if r.staged != nil {
		r.dropStaged(t, fmt.Errorf("%w: %w", ErrFrozen, r.rec.Frozen))
	}
	r.failLeaving(t, fmt.Errorf("%w: %w", ErrFrozen, r.rec.Frozen))
	t.after = append(t.after, func() { r.c.line.unsubscribe(r.uri) })
}

// application handles a message. It reports whether the event is done with.
func (r *chat) application(t *turn, position uint64, at time.Time, fm *mimi.FanoutMessage) bool {
	if h, err := messageHash(&fm.Message); err == nil {
		if o := r.outgoing(h); o != nil {
			r.posted(t, position, at, o)
			return true
		}
	}
	m, err := r.group.Decrypt(&fm.Message)
	if err != nil {
		if _, epoch, _ := fm.Message.Epoch(); errors.Is(err, mls.ErrWrongEpoch) && epoch < r.rec.JoinEpoch {
			return true // sent before this device came in; it has no key for it
		}
		r.trouble(t, position, at, ProblemDecrypt, err)
		return true
	}
	r.dirty = true
	user, device, err := identity.ClientURIs(&m.Leaf.Credential)
	switch {
	case err != nil:
		r.trouble(t, position, at, ProblemSender, err)
		return true
	case device == r.c.id.Device:
		r.trouble(t, position, at, ProblemCloned, errors.New("another copy of this device is in use; remove the device from its rooms"))
		return true
	}
	if err := r.view.AuthoriseSend(user); err != nil {
		r.trouble(t, position, at, ProblemSender, err)
		return true
	}
	// Keys of past epochs are kept for messages that were overtaken by a commit.
	// A device that was removed has them, too.
	if _, ok := r.view.Device(device); !ok {
		r.trouble(t, position, at, ProblemSender, fmt.Errorf("%v is no longer in the room", device))
		return true
	}
	media, data, err := unframe(m)
	if err != nil {
		r.trouble(t, position, at, ProblemContent, err)
		return true
	}
	e := Entry{Position: position, Time: at, Kind: EntryMessage, User: user, Device: device, MediaType: media, Content: data}
	if media != content.MediaTypeContent {
		r.entry(t, e)
		return true
	}
	return r.message(t, &e)
}

// message checks MIMI content and adds it to the history.
func (r *chat) message(t *turn, e *Entry) bool {
	recv := content.Receiver{Now: r.c.cfg.Now, MaxSize: maxContent}
	m, id, err := recv.Receive(e.Content, content.Envelope{SenderURI: e.User.String(), RoomURI: r.uri.String(), Accepted: e.Time})
	if err != nil {
		r.trouble(t, e.Position, e.Time, ProblemContent, err)
		return true
	}
	_, known, err := r.sender(t, id)
	if err != nil {
		t.abort = err // the key is used up in memory only: read the group again
		return false
	}
	if known {
		return true // sent twice, because the sender could not know better
	}
	e.ID, e.Replaces, e.InReplyTo = id, m.Replaces, m.InReplyTo
	if m.Replaces != nil {
		author, known, err := r.sender(t, *m.Replaces)
		if err != nil {
			t.abort = err
			return false
		}
		if known && author != e.User && !r.mayReplace(e.User, m) {
			r.trouble(t, e.Position, e.Time, ProblemEdit, fmt.Errorf("%v may not change a message of %v", e.User, author))
			return true
		}
	}
	r.entry(t, *e)
	return true
}

// mayReplace reports whether the policy lets a user replace what others said
// (draft-ietf-mimi-content-09 section 9.3).
func (r *chat) mayReplace(user mimi.URI, m *content.Message) bool {
	return m.IsDelete() && r.view.Policy().Can(user, room.CanDeleteOtherMessage)
}

// proposals handles the proposals of one event: all of them are taken, or
// none.
func (r *chat) proposals(t *turn, position uint64, at time.Time, messages []mls.MLSMessage) bool {
	var spoilt error
	queued := make([]mls.QueuedProposal, 0, len(messages))
	for i := range messages {
		if _, epoch, _ := messages[i].Epoch(); epoch < r.group.State().Epoch() {
			if epoch >= r.rec.JoinEpoch {
				r.trouble(t, position, at, ProblemStale, fmt.Errorf("a proposal of epoch %d in epoch %d", epoch, r.group.State().Epoch()))
			}
			return true
		}
		q, err := r.takeProposal(&messages[i])
		if q == nil {
			return r.refuseProposal(t, position, at, err)
		}
		if err != nil {
			spoilt = err
		}
		queued = append(queued, *q)
	}
	if err := r.view.AuthoriseProposals(r.group.Pending(), queued); err != nil {
		return r.refuseProposal(t, position, at, err)
	}
	for i := range queued {
		if err := r.group.Enqueue(&queued[i]); err != nil {
			r.trouble(t, position, at, ProblemProposal, err)
			return true
		}
		r.dirty, r.hold = true, time.Time{}
	}
	if spoilt != nil {
		r.trouble(t, position, at, ProblemProposal, spoilt)
	}
	return true
}

func (r *chat) refuseProposal(t *turn, position uint64, at time.Time, err error) bool {
	if errors.Is(err, ErrUnreachable) {
		r.park(err)
		return false
	}
	r.trouble(t, position, at, ProblemProposal, err)
	return true
}

// commit handles a commit: the next epoch, or the end of following the room.
func (r *chat) commit(t *turn, position uint64, at time.Time, fm *mimi.FanoutMessage) bool {
	_, epoch, _ := fm.Message.Epoch()
	current := r.group.State().Epoch()
	switch {
	case epoch+1 == r.rec.JoinEpoch && r.rec.JoinTag != nil:
		return r.joinCommit(t, position, at, fm)
	case epoch < r.rec.JoinEpoch:
		return true // before this device came in
	case epoch < current:
		r.trouble(t, position, at, ProblemStale, fmt.Errorf("a commit on epoch %d in epoch %d", epoch, current))
		return true
	case epoch > current:
		r.freeze(t, position, at, ProblemGap, fmt.Errorf("a commit on epoch %d in epoch %d: the commits between are missing", epoch, current))
		return false
	}
	h, err := messageHash(&fm.Message)
	if err != nil {
		r.freeze(t, position, at, ProblemCommit, err)
		return false
	}
	own := r.staged != nil && r.staged.Hash == h
	var sc *mls.StagedCommit
	if own {
		sc = r.staged.sc
	} else if sc, err = r.group.StageCommit(&fm.Message); err != nil {
		if errors.Is(err, ErrUnreachable) {
			r.park(err)
			return false
		}
		r.freeze(t, position, at, ProblemCommit, err)
		return false
	}
	before := r.view
	next, change, err := r.view.Commit(sc, r.group.Pending())
	if err != nil {
		r.freeze(t, position, at, ProblemCommit, err)
		return false
	}
	// Only now does anything change.
	pending := r.group.Pending()
	if err := r.group.Merge(sc); err != nil {
		t.abort = fmt.Errorf("client: a commit that was verified can't be merged: %w", err)
		return false
	}
	r.view, r.dirty, r.hold, r.holdFor = next, true, time.Time{}, 0
	c := describe(before, next, change, sc, r.c.id.Device)
	if !c.Empty() {
		r.entry(t, Entry{Position: position, Time: at, Kind: EntryChange, User: change.Committer.User, Device: change.Committer.Device, Own: own, Change: c})
	}
	if r.staged != nil {
		if own {
			r.dropStaged(t, nil)
		} else {
			r.dropStaged(t, errLost)
		}
	}
	if sc.SelfRemoved {
		r.left(t)
		return true
	}
	r.leavingAfterCommit(t, pending)
	if len(fm.ExternalProposals) > 0 && !r.proposals(t, position, at, fm.ExternalProposals) {
		t.abort = fmt.Errorf("%w: certificates in proposals that follow a commit", ErrUnreachable) // all of it again
		return false
	}
	return true
}

// joinCommit handles the commit by which this device came in. It can't be
// verified, since it belongs to the epoch before; but it must lead to the
// very epoch that was joined.
func (r *chat) joinCommit(t *turn, position uint64, at time.Time, fm *mimi.FanoutMessage) bool {
	pm := fm.Message.PublicMessage
	if pm == nil || !bytes.Equal(pm.Auth.ConfirmationTag, r.rec.JoinTag) {
		r.freeze(t, position, at, ProblemCommit, errors.New("the room's log leads to another group than the one that was joined"))
		return false
	}
	r.rec.JoinTag, r.rec.Exact = nil, true
	e := Entry{Position: position, Time: at, Kind: EntryChange, Change: &Change{Self: true, Epoch: r.rec.JoinEpoch}}
	switch s := pm.Content.Sender; s.Type {
	case mls.SenderMember:
		if c, ok := r.view.Client(s.Leaf); ok && r.group.State().Epoch() == r.rec.JoinEpoch {
			e.User, e.Device = c.User, c.Device
		}
		e.Change.Added = []mimi.URI{r.c.id.User}
	default:
		e.User, e.Device, e.Own = r.c.id.User, r.c.id.Device, true
		if pm.Content.Commit != nil && slices.ContainsFunc(pm.Content.Commit.Proposals, func(p mls.ProposalOrRef) bool {
			return p.Proposal != nil && p.Proposal.AppDataUpdate != nil && p.Proposal.AppDataUpdate.ComponentID == mimi.ComponentParticipantList
		}) {
			e.Change.Joined = []mimi.URI{r.c.id.User}
		} else {
			e.Change.NewDevices = []mimi.URI{r.c.id.Device}
		}
	}
	r.entry(t, e)
	return true
}

// left ends the membership.
func (r *chat) left(t *turn) {
	r.rec.Status, r.rec.Leaving, r.rec.JoinTag = RoomLeft, false, nil
	r.group, r.view, r.dirty = nil, nil, false
	t.batch.Clear(bucketGroup(r.uri))
	for _, o := range r.outbox {
		if o.Status != OutgoingRejected {
			r.reject(t, o, "no longer a member of the room")
		}
	}
	r.finishLeaving(t)
	t.after = append(t.after, func() {
		r.c.line.unsubscribe(r.uri)
		// Not from the owner's goroutine: the queue may be full.
		r.c.goroutine(func() { r.post(r.nextWelcome) })
	})
}

// caughtUp is told when the provider has nothing more of the room.
func (r *chat) caughtUp(t *turn, connection uint64) {
	if r.active() == nil && !r.parked && t.abort == nil && connection > r.stale {
		r.caughtUpOn = connection
		t.publish(Event{Kind: EventCaughtUp, Room: r.uri})
	}
}

// shut is told when the provider says that the device may read nothing after
// position. A device that knows better keeps its state: the provider may be
// wrong, and being removed takes a commit.
func (r *chat) shut(position uint64) {
	if r.active() == nil && !r.parked && position <= r.rec.Cursor && r.rec.JoinTag == nil {
		r.c.cfg.Log.Info("the provider gives nothing more of the room", "room", r.uri, "position", position)
	}
}

// describe says what a commit did, as people see it.
func describe(before, after *room.View, ch *room.Change, sc *mls.StagedCommit, self mimi.URI) *Change {
	c := &Change{Epoch: ch.Epoch, Self: sc.SelfRemoved, Policy: ch.Roles || ch.BasePolicy}
	committer := ch.Committer.User
	leavers := leavers(before, sc)
	moved := map[mimi.URI]bool{}
	for _, p := range ch.AddedUsers {
		moved[p.User] = true
		switch {
		case after.Policy().IsBanned(p.User):
			c.Banned = append(c.Banned, p.User)
		case ch.External && p.User == committer:
			c.Joined = append(c.Joined, p.User)
		default:
			c.Added = append(c.Added, p.User)
		}
	}
	for _, p := range ch.RemovedUsers {
		moved[p.User] = true
		if leavers[p.User] {
			c.Left = append(c.Left, p.User)
		} else {
			c.Removed = append(c.Removed, p.User)
		}
	}
	for _, m := range ch.RoleChanges {
		if after.Policy().IsBanned(m.User) {
			moved[m.User] = true
			c.Banned = append(c.Banned, m.User)
			continue
		}
		name := ""
		if role := after.Policy().Roles.Role(m.To); role != nil {
			name = role.Name
		}
		c.Roles = append(c.Roles, RoleChange{User: m.User, Role: m.To, Name: name})
	}
	for _, d := range ch.AddedClients {
		if !moved[d.User] {
			c.NewDevices = append(c.NewDevices, d.Device)
		}
	}
	for _, d := range ch.RemovedClients {
		if !moved[d.User] {
			c.LostDevices = append(c.LostDevices, d.Device)
		}
	}
	if ch.Metadata {
		was, is := before.Policy().Meta, after.Policy().Meta
		if was.Name != is.Name {
			c.Name = &is.Name
		}
		if was.Subject != is.Subject {
			c.Subject = &is.Subject
		}
	}
	return c
}

// leavers returns the users who themselves proposed to be taken from the
// participant list or from the group.
func leavers(before *room.View, sc *mls.StagedCommit) map[mimi.URI]bool {
	out := map[mimi.URI]bool{}
	for i := range sc.Proposals {
		p := &sc.Proposals[i]
		if p.Sender.Type != mls.SenderMember || p.Ref == nil {
			continue
		}
		u := p.Proposal.AppDataUpdate
		if p.Proposal.Type != mls.ProposalSelfRemove && (u == nil || u.ComponentID != mimi.ComponentParticipantList) {
			continue
		}
		if c, ok := before.Client(p.Sender.Leaf); ok {
			out[c.User] = true
		}
	}
	return out
}
