package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// A joining is a room that this device enters by its own doing: by creating
// it, or by an external commit. The group exists already; it counts once the
// hub has said so, or the commit was seen in the log. All of it is stored
// before the first byte is sent.
type joining struct {
	Create  bool     `json:"create,omitempty"`
	Hash    [32]byte `json:"hash"` // of the external commit
	Request []byte   `json:"request"`

	group *mls.Group
	view  *room.View
	done  chan struct{}
	err   error
	// crowded is set if proposals were pending that an external commit can't
	// carry: a refusal may be over when a member has committed them.
	crowded bool
}

func (j *joining) isDone() bool {
	select {
	case <-j.done:
		return true
	default:
		return false
	}
}

func (j *joining) finish(err error) {
	if !j.isDone() {
		j.err = err
		close(j.done)
	}
}

const rowJoining = "joining" // in bucketJoining; all other rows are the group's

// begin stores a joining and has it sent.
func (r *chat) begin(t *turn, j *joining) error {
	value, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	j.done = make(chan struct{})
	t.batch.Clear(bucketJoining(r.uri))
	t.batch.Set(bucketJoining(r.uri), rowJoining, value)
	for _, p := range j.group.Records().Put {
		t.batch.Set(bucketJoining(r.uri), "g"+p.Key, p.Value)
	}
	t.batch.Durable = true
	r.joining = j
	r.rec.Status = RoomJoining
	t.after = append(t.after, func() { r.transmitJoining(j) })
	return nil
}

func (r *chat) readJoining(ctx context.Context) error {
	old := r.joining
	r.joining = nil
	rows, err := r.c.cfg.Store.Bucket(ctx, bucketJoining(r.uri))
	if err != nil {
		return err
	}
	value, ok := rows[rowJoining]
	if !ok {
		if old != nil {
			old.finish(ErrConflict)
		}
		return nil
	}
	delete(rows, rowJoining)
	j := &joining{done: make(chan struct{})}
	if err := json.Unmarshal(value, j); err != nil {
		return fmt.Errorf("client: stored join: %w", err)
	}
	group := make(map[string][]byte, len(rows))
	for key, value := range rows {
		group[key[1:]] = value
	}
	if j.group, err = mls.LoadGroup(r.config(), group, r.c.signer); err != nil {
		return fmt.Errorf("client: stored join: %w", err)
	}
	if j.view, err = viewOf(j.group.State()); err != nil {
		return err
	}
	if old != nil && old.Hash == j.Hash && bytes.Equal(old.Request, j.Request) {
		old.group, old.view = j.group, j.view
		r.joining = old // it is being sent already
		return nil
	}
	if old != nil {
		old.finish(ErrConflict)
	}
	r.joining = j
	r.transmitJoining(j)
	return nil
}

func (r *chat) transmitJoining(j *joining) {
	r.c.goroutine(func() {
		err := r.requestJoin(j)
		if r.c.ctx.Err() != nil || j.isDone() {
			return
		}
		r.post(func(t *turn) {
			switch {
			case r.joining != j:
			case err == nil:
				r.joined(t)
			default:
				r.notJoined(t, err)
			}
		})
	})
}

// requestJoin asks the hub, and returns nil once it has accepted.
func (r *chat) requestJoin(j *joining) error {
	if j.Create {
		return r.persist(j.isDone, func() error {
			_, err := r.c.session.do(r.c.ctx, Request{
				Method: http.MethodPost, Path: local.PathRooms, ContentType: local.MediaTypeTLS, Body: j.Request})
			return err
		})
	}
	resp, err := r.update(j.Request, j.isDone)
	switch {
	case err != nil:
		return err
	case resp.Code == mimi.UpdateSuccess:
		return nil
	case resp.Code == mimi.UpdateWrongEpoch:
		return errLost
	}
	return fmt.Errorf("%w: the hub answered %v: %s", ErrNotAllowed, resp.Code, resp.ErrorDescription)
}

// joined makes the device a member.
func (r *chat) joined(t *turn) {
	j := r.joining
	r.joining = nil
	st := j.group.State()
	r.group, r.view, r.dirty = j.group, j.view, true
	r.rec.Status, r.rec.GroupID, r.rec.JoinEpoch, r.rec.JoinTag = RoomActive, st.GroupID(), st.Epoch(), nil
	r.rec.Leaving, r.rec.Frozen, r.rec.Exact = false, nil, j.Create
	t.batch.Clear(bucketGroup(r.uri), bucketJoining(r.uri))
	r.wholeGroup(t)
	t.batch.Durable = true
	if j.Create {
		r.entry(t, Entry{Time: r.c.cfg.Now(), Kind: EntryChange, User: r.c.id.User, Device: r.c.id.Device, Own: true,
			Change: &Change{Created: true, Self: true, Epoch: st.Epoch()}})
	} else {
		r.rec.JoinTag = st.ConfirmationTag()
	}
	t.after = append(t.after, func() {
		r.subscribe()
		j.finish(nil)
	})
}

// wholeGroup puts all records of the group into the batch: those it has
// handed out before are in the store under another bucket.
func (r *chat) wholeGroup(t *turn) {
	rows, err := r.c.cfg.Store.Bucket(context.WithoutCancel(r.c.ctx), bucketJoining(r.uri))
	if err != nil {
		t.abort = err
		return
	}
	for key, value := range rows {
		if key != rowJoining {
			t.batch.Set(bucketGroup(r.uri), key[1:], value)
		}
	}
}

func (r *chat) notJoined(t *turn, err error) {
	j := r.joining
	r.joining = nil
	t.batch.Clear(bucketJoining(r.uri))
	switch {
	case r.rec.Frozen != nil:
		r.rec.Status = RoomFrozen
	case r.rec.LastSeq > 0:
		r.rec.Status = RoomLeft
	default:
		r.rec.Status = RoomNone
	}
	t.after = append(t.after, func() {
		j.finish(err)
		r.c.goroutine(func() { r.post(r.nextWelcome) })
	})
}

// NewRoom says what a new room is to be.
type NewRoom struct {
	// URI is that of the room; its domain is the device's own provider.
	URI mimi.URI
	// Template is room.TemplateGroup (the default), room.TemplateOpen or
	// room.TemplateDirect.
	Template string
	// Others are further participants, besides the device's user. They have
	// no devices in the room until AddUsers, or until they come by
	// JoinOwnDevice.
	Others  []mimi.URI
	Name    string
	Subject string
}

// CreateRoom creates a room whose hub is the device's own provider.
func (c *Client) CreateRoom(ctx context.Context, n NewRoom) error {
	r, err := c.chat(n.URI, true)
	if err != nil {
		return err
	}
	if n.URI.Domain() != c.id.User.Domain() {
		return fmt.Errorf("client: the room %v is not in the domain of your provider, %s", n.URI, c.id.User.Domain())
	}
	if n.Template == "" {
		n.Template = room.TemplateGroup
	}
	template, err := room.NewTemplate(n.Template)
	if err != nil {
		return err
	}
	hub, err := c.hubSender()
	if err != nil {
		return err
	}
	x, err := room.NewRoomExtensions(room.NewRoom{
		Room: n.URI, Hub: hub, Creator: c.id.User, Others: n.Others, Template: template, Name: n.Name, Subject: n.Subject})
	if err != nil {
		return err
	}
	groupID, err := room.GroupID(n.URI)
	if err != nil {
		return err
	}
	leaf, err := room.LeafExtensions()
	if err != nil {
		return err
	}
	if err := r.lock(ctx); err != nil {
		return err
	}
	defer r.unlock()
	var j *joining
	err = r.do(ctx, func(t *turn) error {
		if r.joining != nil && r.joining.Create {
			j = r.joining // of an earlier call
			return nil
		}
		if r.rec.Status != RoomNone {
			return fmt.Errorf("%w: %v", ErrMember, n.URI)
		}
		g, err := mls.CreateGroup(r.config(), mls.GroupParams{
			CipherSuite: c.id.Suite, GroupID: groupID, Signer: c.signer, Credential: c.cred,
			Capabilities: capabilities(), LeafExtensions: leaf, Extensions: x})
		if err != nil {
			return fmt.Errorf("client: create room: %w", err)
		}
		j = &joining{Create: true, group: g}
		if j.view, err = viewOf(g.State()); err != nil {
			return err
		}
		gi, err := g.GroupInfo()
		if err != nil {
			return fmt.Errorf("client: create room: %w", err)
		}
		tree, err := mimi.FullTree(g.State().RatchetTree())
		if err != nil {
			return fmt.Errorf("client: create room: %w", err)
		}
		j.Request, err = mls.Marshal(&local.CreateRoomRequest{GroupInfo: *gi, RatchetTree: tree})
		if err != nil {
			return fmt.Errorf("client: create room: %w", err)
		}
		return r.begin(t, j)
	})
	if err != nil {
		return err
	}
	if err := c.await(ctx, j.done); err != nil {
		return err
	}
	return j.err
}

// hubSender returns the external sender of the own provider.
func (c *Client) hubSender() (mls.ExternalSender, error) {
	var s mls.ExternalSender
	if err := mls.Unmarshal(c.id.ExternalSender, &s); err != nil {
		return s, fmt.Errorf("client: stored external sender: %w", err)
	}
	domain, err := identity.ProviderDomain(&s.Credential)
	if err != nil || domain != c.id.User.Domain() {
		return s, fmt.Errorf("%w: the provider's external sender is of %q: %w", ErrRefused, domain, err)
	}
	return s, nil
}

// JoinOpen joins a room that anyone may join.
func (c *Client) JoinOpen(ctx context.Context, uri mimi.URI) error { return c.join(ctx, uri) }

// JoinOwnDevice brings this device into a room of which its user is a
// participant already. It is also the way back into a room that is frozen.
func (c *Client) JoinOwnDevice(ctx context.Context, uri mimi.URI) error { return c.join(ctx, uri) }

// join enters a room by an external commit. Whether the user is a participant
// already is seen in the room's policy.
func (c *Client) join(ctx context.Context, uri mimi.URI) error {
	r, err := c.chat(uri, true)
	if err != nil {
		return err
	}
	if err := r.lock(ctx); err != nil {
		return err
	}
	defer r.unlock()
	retry := backoff{min: c.cfg.RetryMin, max: 8 * time.Second}
	for range maxAttempts {
		var j *joining
		err := r.do(ctx, func(*turn) error {
			if r.rec.Status == RoomActive {
				return fmt.Errorf("%w: %v", ErrMember, uri)
			}
			j = r.joining // of an earlier call, or from before a crash
			return nil
		})
		if err != nil {
			return err
		}
		if j == nil {
			if j, err = r.joinOnce(ctx); err != nil {
				return err
			}
		}
		if err := c.await(ctx, j.done); err != nil {
			return err
		}
		if !errors.Is(j.err, errLost) && !(j.crowded && errors.Is(j.err, ErrNotAllowed)) {
			return j.err
		}
		if err := sleep(ctx, retry.delay(nil)); err != nil {
			return err
		}
	}
	return ErrConflict
}

// joinOnce fetches the group and makes one external commit.
func (r *chat) joinOnce(ctx context.Context) (*joining, error) {
	info, err := r.groupInfo(ctx)
	if err != nil {
		return nil, err
	}
	tree, err := info.RatchetTree.Nodes()
	if err != nil {
		return nil, fmt.Errorf("%w: GroupInfo: %w", ErrRefused, err)
	}
	params, pending, err := r.joinParams(info, tree)
	if err != nil {
		return nil, err
	}
	j := &joining{crowded: len(pending) > 0}
	err = r.do(ctx, func(t *turn) error {
		if r.joining != nil || r.rec.Status == RoomActive {
			return ErrConflict
		}
		if r.rec.GroupID != nil && !bytes.Equal(r.rec.GroupID, info.GroupInfo.GroupContext.GroupID) {
			return fmt.Errorf("%w: the room has another group than before", ErrRefused)
		}
		g, sc, err := mls.JoinExternal(r.config(), &info.GroupInfo, tree, params)
		if err != nil {
			return refused(err)
		}
		before, err := viewOf(sc.Before)
		if err != nil {
			return err
		}
		if before.Room() != r.uri {
			return fmt.Errorf("%w: asked for %v, got %v", ErrRefused, r.uri, before.Room())
		}
		next, _, err := before.Commit(sc, pending)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotAllowed, err)
		}
		j.group, j.view = g, next
		if j.Hash, err = messageHash(sc.Message); err != nil {
			return err
		}
		j.Request, err = mls.Marshal(&mimi.UpdateRequest{
			Message: *sc.Message, GroupInfo: mimi.GroupInfoOption{Full: sc.GroupInfo}, RatchetTree: mimi.HubTree()})
		if err != nil {
			return fmt.Errorf("client: join: %w", err)
		}
		return r.begin(t, j)
	})
	return j, err
}

// refused marks an error of verification, unless it is a passing one.
func refused(err error) error {
	if errors.Is(err, ErrUnreachable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// joinParams says what the external commit does besides joining: the user
// comes into the participant list unless it is there; a leaf that this very
// device still has is replaced; and members who are about to leave are let go
// (CLI-12, CLI-28).
func (r *chat) joinParams(info *mimi.GroupInfoRatchetTree, tree mls.RatchetTree) (mls.JoinParams, []mls.QueuedProposal, error) {
	leaf, err := room.LeafExtensions()
	if err != nil {
		return mls.JoinParams{}, nil, err
	}
	p := mls.JoinParams{Signer: r.c.signer, Credential: r.c.cred, Capabilities: capabilities(), LeafExtensions: leaf}
	d, err := info.GroupInfo.GroupContext.Extensions.Dictionary()
	if err != nil {
		return p, nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	policy, err := room.PolicyOf(d)
	if err != nil {
		return p, nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	staying := map[mimi.URI]int{} // devices that stay, by user
	owner := map[mls.LeafIndex]mimi.URI{}
	for i := 0; i < len(tree); i += 2 {
		if tree[i].Leaf == nil {
			continue
		}
		user, device, err := identity.ClientURIs(&tree[i].Leaf.Credential)
		if err != nil {
			return p, nil, fmt.Errorf("%w: leaf %d: %w", ErrRefused, i/2, err)
		}
		if device == r.c.id.Device {
			p.ByValue = append(p.ByValue, mls.RemoveProposal(mls.LeafIndex(i/2)))
		}
		owner[mls.LeafIndex(i/2)] = user
		staying[user]++
	}
	var pending []mls.QueuedProposal
	departing := map[mimi.URI]bool{}
	for i := range info.PendingProposals {
		m := &info.PendingProposals[i].Proposal
		if m.PublicMessage == nil || m.PublicMessage.Content.Proposal == nil || m.PublicMessage.Content.Sender.Type != mls.SenderMember {
			continue
		}
		proposal, sender := m.PublicMessage.Content.Proposal, m.PublicMessage.Content.Sender
		pending = append(pending, mls.QueuedProposal{Proposal: *proposal, Sender: sender})
		if proposal.Type == mls.ProposalSelfRemove {
			p.SelfRemoves = append(p.SelfRemoves, m)
			staying[owner[sender.Leaf]]--
			departing[owner[sender.Leaf]] = true
		}
	}
	var gone []mimi.URI
	for user := range departing {
		if staying[user] <= 0 && policy.IsParticipant(user) && user != r.c.id.User && removesItself(policy, pending, owner, user) {
			gone = append(gone, user)
		}
	}
	slices.SortFunc(gone, func(a, b mimi.URI) int { return bytes.Compare([]byte(a.String()), []byte(b.String())) })
	var added []room.Participant
	if policy.RoleIndex(r.c.id.User) == room.RoleNone {
		role, err := openRole(policy)
		if err != nil {
			return p, nil, err
		}
		added = append(added, room.Participant{User: r.c.id.User, Role: role})
	}
	if len(added)+len(gone) > 0 {
		update, err := policy.Participants.Update(nil, gone, added)
		if err != nil {
			return p, nil, fmt.Errorf("client: join: %w", err)
		}
		p.ByValue = append(p.ByValue, mls.AppDataUpdateProposal(mimi.ComponentParticipantList, encoded(update)))
	}
	return p, pending, nil
}

// removesItself reports whether a user has proposed its own removal from the
// participant list.
func removesItself(policy *room.Policy, pending []mls.QueuedProposal, owner map[mls.LeafIndex]mimi.URI, user mimi.URI) bool {
	for i := range pending {
		u := pending[i].Proposal.AppDataUpdate
		if u == nil || u.ComponentID != mimi.ComponentParticipantList || owner[pending[i].Sender.Leaf] != user {
			continue
		}
		var list room.ParticipantListUpdate
		if mls.Unmarshal(u.Update, &list) != nil {
			continue
		}
		for _, index := range list.Removed {
			if int(index) < len(policy.Participants) && policy.Participants[index].User == user {
				return true
			}
		}
	}
	return false
}

// openRole returns the role in which anyone may join.
func openRole(policy *room.Policy) (uint32, error) {
	none := policy.Roles.Role(room.RoleNone)
	if none.Can(room.CanOpenJoin) {
		for _, c := range none.Changes {
			if c.From == room.RoleNone {
				for _, to := range c.Targets {
					if to != room.RoleNone && !policy.Roles.IsBanned(to) {
						return to, nil
					}
				}
			}
		}
	}
	return 0, fmt.Errorf("%w: nobody may join this room without being added", ErrNotAllowed)
}

// groupInfo asks the hub for the group, in the name of this device.
func (r *chat) groupInfo(ctx context.Context) (*mimi.GroupInfoRatchetTree, error) {
	private, public, err := mls.GenerateHPKEKey(r.c.id.Suite)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	defer clear(private)
	req := mimi.GroupInfoRequest{Protocol: mimi.ProtocolMLS10, CipherSuite: r.c.id.Suite, Credential: r.c.cred, PublicKey: public}
	if err := req.Sign(r.c.signer); err != nil {
		return nil, err
	}
	body, err := mls.Marshal(&req)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	resp, err := r.c.session.do(ctx, Request{
		Method: http.MethodPost, Path: local.PathGroupInfo + r.uri.PathSegment(), ContentType: local.MediaTypeTLS, Body: body})
	if err != nil {
		return nil, err
	}
	var answer mimi.GroupInfoResponse
	if err := mls.Unmarshal(resp.Body, &answer); err != nil {
		return nil, fmt.Errorf("%w: GroupInfo: %w", ErrRefused, err)
	}
	switch answer.Status {
	case mimi.GroupInfoNotAuthorized:
		return nil, fmt.Errorf("%w: the hub does not give the room to this device", ErrNotAllowed)
	case mimi.GroupInfoNoSuchRoom:
		return nil, fmt.Errorf("%w: %v", ErrNoRoom, r.uri)
	}
	info, err := answer.Open(&req, r.uri, private)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	senders, err := info.GroupInfo.GroupContext.Extensions.ExternalSenders()
	if err != nil || len(senders) == 0 || !bytes.Equal(senders[0].SignatureKey, answer.HubSender.SignatureKey) {
		return nil, fmt.Errorf("%w: the GroupInfo was not signed by the hub that the room names", ErrRefused)
	}
	return info, nil
}
