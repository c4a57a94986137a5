package fedtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

// A Device is a client of a user: it holds MLS groups and talks to its own
// provider only.
type Device struct {
	P         *Provider
	User, URI mimi.URI
	Signer    mls.Signer
	Cred      mls.Credential

	Rooms       map[mimi.URI]*Member
	keyPackages map[string]*keyPackage
	mailSeen    uint64
	// Rejected are the hashes of pending messages that were refused.
	Rejected []store.Hash
}

type keyPackage struct {
	kp   *mls.KeyPackage
	priv *mls.KeyPackagePrivate
}

// A Member is a device's view of a room.
type Member struct {
	Group *mls.Group
	// Log are the events that the device read, by hash, in their order.
	Log []store.Hash
	// Texts are the messages that it could read, as "user: text".
	Texts []string
	// Gone: a commit removed the device.
	Gone bool

	position uint64
	staged   map[store.Hash]*mls.StagedCommit
	sent     map[store.Hash]string
	proposed map[store.Hash]bool
}

// Enrol adds a device; user and device are names, as "alice" and "1".
func (p *Provider) Enrol(user, device string) *Device {
	w := p.w
	w.T.Helper()
	ctx := context.Background()
	d := &Device{
		P: p, User: mimi.MustParseURI("mimi://" + p.Domain + "/u/" + user),
		URI:   mimi.MustParseURI("mimi://" + p.Domain + "/d/" + user + "/" + device),
		Rooms: make(map[mimi.URI]*Member), keyPackages: make(map[string]*keyPackage),
	}
	var err error
	d.Signer, _, err = mls.GenerateSigner(Suite, rand.Reader)
	w.OK(err)
	pub, err := identity.PublicKey(Suite, d.Signer.Public())
	w.OK(err)
	der, err := p.CA.IssueDevice(d.User, d.URI, pub, 30*24*time.Hour, time.Now())
	w.OK(err)
	d.Cred = mls.X509Credential(der)
	if _, err := p.Store.User(ctx, d.User.String()); errors.Is(err, store.ErrNotFound) {
		w.OK(p.Store.PutUser(ctx, store.User{URI: d.User.String()}))
	}
	code := sha256.Sum256([]byte(d.URI.String()))
	now := uint64(time.Now().UnixMilli())
	w.OK(p.Store.PutEnrolment(ctx, store.Enrolment{CodeHash: code, User: d.User.String(), Expires: now + 60_000}))
	w.OK(p.Store.UseEnrolment(ctx, code, store.Device{
		URI: d.URI.String(), User: d.User.String(), PublicKey: d.Signer.Public(), CipherSuite: uint16(Suite), Certificate: der,
	}, now))
	d.Publish(4)
	return d
}

func (d *Device) capabilities() mls.Capabilities {
	return room.Capabilities([]mls.CipherSuite{Suite}, mls.CredentialX509)
}

// Publish adds KeyPackages.
func (d *Device) Publish(n int) {
	w := d.P.w
	w.T.Helper()
	x, err := room.LeafExtensions()
	w.OK(err)
	var kps []mls.KeyPackage
	for range n {
		kp, priv, err := mls.NewKeyPackage(mls.KeyPackageParams{
			CipherSuite: Suite, Signer: d.Signer, Credential: d.Cred, Capabilities: d.capabilities(), LeafExtensions: x, Lifetime: 20 * 24 * time.Hour,
		})
		w.OK(err)
		ref, err := kp.Ref()
		w.OK(err)
		d.keyPackages[string(ref)] = &keyPackage{kp, priv}
		kps = append(kps, *kp)
	}
	w.OK(d.P.Keys.Publish(context.Background(), d.URI, kps))
}

func hashOf(m *mls.MLSMessage) store.Hash {
	b, err := mls.Marshal(m)
	if err != nil {
		panic(err)
	}
	return sha256.Sum256(b)
}

// wire sends a message through its encoding.
func wire(m *mls.MLSMessage) mls.MLSMessage {
	b, err := mls.Marshal(m)
	if err != nil {
		panic(err)
	}
	var out mls.MLSMessage
	if err := mls.Unmarshal(b, &out); err != nil {
		panic(err)
	}
	return out
}

func newMember(g *mls.Group, position uint64) *Member {
	return &Member{Group: g, position: position, staged: make(map[store.Hash]*mls.StagedCommit),
		sent: make(map[store.Hash]string), proposed: make(map[store.Hash]bool)}
}

// NewRoom makes the group of a room and the request that creates it.
func (d *Device) NewRoom(name, template string) (mimi.URI, *mls.Group, []byte) {
	w := d.P.w
	w.T.Helper()
	uri := mimi.MustParseURI("mimi://" + d.P.Domain + "/r/" + name)
	tpl, err := room.NewTemplate(template)
	w.OK(err)
	x, err := room.NewRoomExtensions(room.NewRoom{Room: uri, Hub: d.P.sender, Creator: d.User, Template: tpl, Name: name})
	w.OK(err)
	id, err := room.GroupID(uri)
	w.OK(err)
	leafX, err := room.LeafExtensions()
	w.OK(err)
	g, err := mls.CreateGroup(d.P.GroupConfig(), mls.GroupParams{CipherSuite: Suite, GroupID: id, Signer: d.Signer,
		Credential: d.Cred, Capabilities: d.capabilities(), LeafExtensions: leafX, Extensions: x})
	w.OK(err)
	gi, err := g.GroupInfo()
	w.OK(err)
	tree, err := mimi.FullTree(g.State().RatchetTree())
	w.OK(err)
	body, err := mls.Marshal(&local.CreateRoomRequest{GroupInfo: *gi, RatchetTree: tree})
	w.OK(err)
	return uri, g, body
}

// Create makes a room at the device's provider.
func (d *Device) Create(name, template string) mimi.URI {
	d.P.w.T.Helper()
	uri, g, body := d.NewRoom(name, template)
	got, err := d.P.Hub.Create(context.Background(), d.User, d.URI, body)
	d.P.w.OK(err)
	if got != uri {
		d.P.w.T.Fatalf("created %s, want %s", got, uri)
	}
	d.Rooms[uri] = newMember(g, 0)
	return uri
}

// Update sends an update through the device's provider.
func (d *Device) Update(uri mimi.URI, req *mimi.UpdateRequest) (*mimi.UpdateRoomResponse, error) {
	body, err := mls.Marshal(req)
	if err != nil {
		return nil, err
	}
	var answer []byte
	if uri.Domain() == d.P.Domain {
		answer, err = d.P.Hub.Update(context.Background(), room.Source{Provider: d.P.Domain, User: d.User}, uri, body)
	} else {
		answer, err = d.P.Replica.Update(context.Background(), uri, body)
	}
	if err != nil {
		return nil, err
	}
	resp := new(mimi.UpdateRoomResponse)
	return resp, mls.Unmarshal(answer, resp)
}

// A Refusal is an answer other than success.
type Refusal struct{ Response *mimi.UpdateRoomResponse }

func (r *Refusal) Error() string {
	return fmt.Sprintf("%v: %s", r.Response.Code, r.Response.ErrorDescription)
}

// Commit makes and sends a commit. It is merged when the log brings it.
func (d *Device) Commit(uri mimi.URI, o mls.CommitOptions) error {
	m := d.Rooms[uri]
	o.OmitTree = true
	sc, err := m.Group.Commit(o)
	if err != nil {
		return err
	}
	return d.send(uri, m, sc)
}

func (d *Device) send(uri mimi.URI, m *Member, sc *mls.StagedCommit) error {
	h := hashOf(sc.Message)
	m.staged[h] = sc
	resp, err := d.Update(uri, CommitRequest(sc))
	if err != nil {
		return err
	}
	if resp.Code != mimi.UpdateSuccess {
		delete(m.staged, h)
		return &Refusal{resp}
	}
	return nil
}

// CommitRequest is the update request of a commit.
func CommitRequest(sc *mls.StagedCommit) *mimi.UpdateRequest {
	return &mimi.UpdateRequest{Message: wire(sc.Message), Welcome: sc.Welcome,
		GroupInfo: mimi.GroupInfoOption{Full: sc.GroupInfo}, RatchetTree: mimi.HubTree()}
}

// Claim gets KeyPackages of a user for a room.
func (d *Device) Claim(uri, target mimi.URI) (*mimi.KeyMaterialResponse, error) {
	req := &mimi.KeyMaterialRequest{Protocol: mimi.ProtocolMLS10, RequestingUser: d.User, TargetUser: target, Room: uri,
		CipherSuites: []mls.CipherSuite{Suite}, Credential: d.Cred}
	if err := req.Sign(d.Signer); err != nil {
		return nil, err
	}
	body, err := mls.Marshal(req)
	if err != nil {
		return nil, err
	}
	var answer []byte
	if uri.Domain() == d.P.Domain {
		answer, err = d.P.Hub.KeyMaterial(context.Background(), d.P.Domain, target, body)
	} else {
		answer, err = d.P.Replica.KeyMaterial(context.Background(), target, body)
	}
	if err != nil {
		return nil, err
	}
	resp := new(mimi.KeyMaterialResponse)
	return resp, mls.Unmarshal(answer, resp)
}

// Policy returns the room's policy as the device knows it.
func (m *Member) Policy() (*room.Policy, error) { return room.PolicyOf(m.Group.State().Dictionary()) }

// Participants returns the proposal that changes the participant list.
func (m *Member) Participants(changed []room.Participant, removed []mimi.URI, added []room.Participant) (mls.Proposal, error) {
	p, err := m.Policy()
	if err != nil {
		return mls.Proposal{}, err
	}
	u, err := p.Participants.Update(changed, removed, added)
	if err != nil {
		return mls.Proposal{}, err
	}
	b, err := mls.Marshal(u)
	return mls.AppDataUpdateProposal(mimi.ComponentParticipantList, b), err
}

// Add adds users with all their clients.
func (d *Device) Add(uri mimi.URI, users ...mimi.URI) error {
	m := d.Rooms[uri]
	var o mls.CommitOptions
	var added []room.Participant
	policy, err := m.Policy()
	if err != nil {
		return err
	}
	for _, u := range users {
		if !policy.IsParticipant(u) {
			added = append(added, room.Participant{User: u, Role: room.RoleMember})
		}
	}
	if len(added) > 0 {
		p, err := m.Participants(nil, nil, added)
		if err != nil {
			return err
		}
		o.Proposals = append(o.Proposals, p)
	}
	for _, u := range users {
		resp, err := d.Claim(uri, u)
		if err != nil {
			return err
		}
		if resp.UserStatus != mimi.KeyMaterialSuccess && resp.UserStatus != mimi.KeyMaterialPartialSuccess {
			return fmt.Errorf("key material of %s: %v", u, resp.UserStatus)
		}
		for i := range resp.Clients {
			if kp := resp.Clients[i].KeyPackage; kp != nil && !m.has(kp.LeafNode.SignatureKey) {
				o.Proposals = append(o.Proposals, mls.AddProposal(kp))
			}
		}
	}
	return d.Commit(uri, o)
}

func (m *Member) has(key []byte) bool {
	_, ok := m.Group.State().FindSignatureKey(key)
	return ok
}

// clientsOf returns the leaves of a user.
func (m *Member) clientsOf(user mimi.URI) []mls.LeafIndex {
	var leaves []mls.LeafIndex
	for i, leaf := range m.Group.State().Members() {
		if u, _, err := identity.ClientURIs(&leaf.Credential); err == nil && u == user {
			leaves = append(leaves, i)
		}
	}
	return leaves
}

// Remove removes a user with all its clients.
func (d *Device) Remove(uri, user mimi.URI) error {
	m := d.Rooms[uri]
	p, err := m.Participants(nil, []mimi.URI{user}, nil)
	if err != nil {
		return err
	}
	o := mls.CommitOptions{Proposals: []mls.Proposal{p}}
	for _, leaf := range m.clientsOf(user) {
		o.Proposals = append(o.Proposals, mls.RemoveProposal(leaf))
	}
	return d.Commit(uri, o)
}

// Leave proposes that the device's user leaves with all clients.
func (d *Device) Leave(uri mimi.URI) error {
	m := d.Rooms[uri]
	p, err := m.Participants(nil, []mimi.URI{d.User}, nil)
	if err != nil {
		return err
	}
	proposals := []mls.Proposal{mls.SelfRemoveProposal()}
	for _, leaf := range m.clientsOf(d.User) {
		if leaf != m.Group.OwnLeaf() {
			proposals = append(proposals, mls.RemoveProposal(leaf))
		}
	}
	proposals = append(proposals, p)
	req := new(mimi.UpdateRequest)
	for i, p := range proposals {
		msg, err := m.Group.Propose(p, nil)
		if err != nil {
			return err
		}
		m.proposed[hashOf(msg)] = true
		if i == 0 {
			req.Message = wire(msg)
		} else {
			req.MoreProposals = append(req.MoreProposals, wire(msg))
		}
	}
	resp, err := d.Update(uri, req)
	if err == nil && resp.Code != mimi.UpdateSuccess {
		err = &Refusal{resp}
	}
	return err
}

// GroupInfo asks for what an external join needs.
func (d *Device) GroupInfo(uri mimi.URI) (*mimi.GroupInfoRatchetTree, error) {
	private, public, err := mls.GenerateHPKEKey(Suite)
	if err != nil {
		return nil, err
	}
	req := &mimi.GroupInfoRequest{Protocol: mimi.ProtocolMLS10, CipherSuite: Suite, Credential: d.Cred, PublicKey: public}
	if err := req.Sign(d.Signer); err != nil {
		return nil, err
	}
	body, err := mls.Marshal(req)
	if err != nil {
		return nil, err
	}
	var answer []byte
	if uri.Domain() == d.P.Domain {
		answer, err = d.P.Hub.GroupInfo(context.Background(), d.P.Domain, uri, body)
	} else {
		answer, err = d.P.Replica.GroupInfo(context.Background(), uri, body)
	}
	if err != nil {
		return nil, err
	}
	resp := new(mimi.GroupInfoResponse)
	if err := mls.Unmarshal(answer, resp); err != nil {
		return nil, err
	}
	return resp.Open(req, uri, private)
}

// Join joins by an external commit: an open room as a new participant, or a room
// of the device's user.
func (d *Device) Join(uri mimi.URI) error {
	content, err := d.GroupInfo(uri)
	if err != nil {
		return err
	}
	tree, err := content.RatchetTree.Nodes()
	if err != nil {
		return err
	}
	params := mls.JoinParams{Signer: d.Signer, Credential: d.Cred, Capabilities: d.capabilities()}
	if params.LeafExtensions, err = room.LeafExtensions(); err != nil {
		return err
	}
	dict, err := content.GroupInfo.GroupContext.Extensions.Dictionary()
	if err != nil {
		return err
	}
	policy, err := room.PolicyOf(dict)
	if err != nil {
		return err
	}
	if !policy.IsParticipant(d.User) {
		u, err := policy.Participants.Update(nil, nil, []room.Participant{{User: d.User, Role: room.RoleMember}})
		if err != nil {
			return err
		}
		b, err := mls.Marshal(u)
		if err != nil {
			return err
		}
		params.ByValue = append(params.ByValue, mls.AppDataUpdateProposal(mimi.ComponentParticipantList, b))
	}
	g, sc, err := mls.JoinExternal(d.P.GroupConfig(), &content.GroupInfo, tree, params)
	if err != nil {
		return err
	}
	m := newMember(g, 0)
	if err := d.send(uri, m, sc); err != nil {
		return err
	}
	d.Rooms[uri] = m
	return nil
}

// Encrypt makes a message of the present epoch.
func (d *Device) Encrypt(uri mimi.URI, text string) (*mimi.SubmitMessageRequest, error) {
	m := d.Rooms[uri]
	msg, err := m.Group.Encrypt([]byte(text), nil)
	if err != nil {
		return nil, err
	}
	m.sent[hashOf(msg)] = text
	return &mimi.SubmitMessageRequest{Protocol: mimi.ProtocolMLS10, AppMessage: wire(msg), SendingURI: d.User}, nil
}

// Submit sends a message that Encrypt made; pending tells that the hub could
// not be reached and the provider keeps it.
func (d *Device) Submit(uri mimi.URI, req *mimi.SubmitMessageRequest) (resp *mimi.SubmitMessageResponse, pending bool, err error) {
	body, err := mls.Marshal(req)
	if err != nil {
		return nil, false, err
	}
	var answer []byte
	if uri.Domain() == d.P.Domain {
		answer, err = d.P.Hub.Submit(context.Background(), room.Source{Provider: d.P.Domain, User: d.User}, uri, body)
	} else {
		answer, pending, err = d.P.Replica.Submit(context.Background(), d.User, d.URI, uri, body)
	}
	if err != nil || pending {
		return nil, pending, err
	}
	resp = new(mimi.SubmitMessageResponse)
	return resp, false, mls.Unmarshal(answer, resp)
}

// Say encrypts and submits; the message must be accepted.
func (d *Device) Say(uri mimi.URI, text string) error {
	req, err := d.Encrypt(uri, text)
	if err != nil {
		return err
	}
	resp, pending, err := d.Submit(uri, req)
	switch {
	case err != nil:
		return err
	case pending:
		return errors.New("pending")
	case resp.Code != mimi.SubmitAccepted:
		return fmt.Errorf("%v", resp.Code)
	}
	return nil
}

// Sync takes the device's mail and reads its rooms as far as they go.
func (d *Device) Sync() error {
	ctx := context.Background()
	mail, err := d.P.Store.Mail(ctx, d.URI.String(), d.mailSeen, 0)
	if err != nil {
		return err
	}
	for i := range mail {
		if err := d.open(&mail[i]); err != nil {
			return fmt.Errorf("%s: mail %d: %w", d.URI, mail[i].ID, err)
		}
		d.mailSeen = mail[i].ID
	}
	windows, err := d.P.Store.Memberships(ctx, d.URI.String())
	if err != nil {
		return err
	}
	for _, win := range windows {
		uri, err := mimi.ParseURI(win.Room)
		if err != nil {
			return err
		}
		m := d.Rooms[uri]
		if m == nil || m.Gone && win.From > m.position {
			continue // its Welcome is still to come
		}
		for done := false; !done; {
			after := max(m.position, win.From-1)
			events, err := d.P.Store.ReadLog(ctx, win.Room, after, 100, 0)
			if err != nil {
				return err
			}
			done = len(events) == 0
			for i := range events {
				if win.To != 0 && events[i].Position > win.To {
					done = true
					break
				}
				if err := d.take(m, &events[i]); err != nil {
					return fmt.Errorf("%s: %s position %d: %w", d.URI, uri, events[i].Position, err)
				}
				m.position = events[i].Position
			}
		}
	}
	return nil
}

func (d *Device) open(mail *store.Mail) error {
	if mail.Kind == uint8(local.MailRejected) {
		d.Rejected = append(d.Rejected, store.Hash(mail.Body[:32]))
		return nil
	}
	var f mimi.FanoutMessage
	if err := mls.Unmarshal(mail.Body, &f); err != nil {
		return err
	}
	tree, err := f.RatchetTree.Nodes()
	if err != nil {
		return err
	}
	uri, err := mimi.ParseURI(mail.Room)
	if err != nil {
		return err
	}
	for i := range f.Message.Welcome.Secrets {
		kp := d.keyPackages[string(f.Message.Welcome.Secrets[i].NewMember)]
		if kp == nil {
			continue
		}
		g, err := mls.JoinWelcome(d.P.GroupConfig(), f.Message.Welcome, tree, kp.kp, kp.priv, d.Signer)
		if err != nil {
			return err
		}
		d.Rooms[uri] = newMember(g, mail.Position)
		return nil
	}
	return errors.New("a Welcome for somebody else")
}

// take processes one event of the log.
func (d *Device) take(m *Member, e *store.Event) error {
	if m.Gone {
		return errors.New("an event for a device that is gone")
	}
	var f mimi.FanoutMessage
	if err := mls.Unmarshal(e.Body, &f); err != nil {
		return err
	}
	if h := hashOf(&f.Message); h != e.Hash {
		return errors.New("the hash of the event is not that of its message")
	}
	m.Log = append(m.Log, e.Hash)
	_, epoch, _ := f.Message.Epoch()
	kind, err := f.Kind()
	if err != nil {
		return err
	}
	switch kind {
	case mimi.FanoutApplication:
		if text, ok := m.sent[e.Hash]; ok {
			m.Texts = append(m.Texts, d.User.Name()+": "+text)
			return nil
		}
		a, err := m.Group.Decrypt(&f.Message)
		if err != nil {
			if epoch < m.Group.State().Epoch() {
				return nil // from before it joined
			}
			return err
		}
		u, _, err := identity.ClientURIs(&a.Leaf.Credential)
		if err != nil {
			return err
		}
		m.Texts = append(m.Texts, u.Name()+": "+string(a.Data))
	case mimi.FanoutProposal:
		for _, msg := range slices.Concat([]mls.MLSMessage{f.Message}, f.MoreProposals) {
			if m.proposed[hashOf(&msg)] || epoch < m.Group.State().Epoch() {
				continue
			}
			q, err := m.Group.Proposal(&msg)
			if err != nil {
				return err
			}
			if err := m.Group.Enqueue(q); err != nil {
				return err
			}
		}
	case mimi.FanoutCommit:
		sc := m.staged[e.Hash]
		if sc != nil && sc.External {
			delete(m.staged, e.Hash)
			return nil // the group is in the new epoch already
		}
		if epoch < m.Group.State().Epoch() {
			return nil
		}
		if sc == nil {
			if sc, err = m.Group.StageCommit(&f.Message); err != nil {
				return err
			}
		}
		clear(m.staged)
		if err := m.Group.Merge(sc); err != nil {
			return err
		}
		m.Gone = !m.Group.IsMember()
	}
	return nil
}

// Until syncs devices, again and again, until cond holds; at most a minute.
func (w *World) Until(what string, cond func() bool, devices ...*Device) {
	w.T.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		for _, d := range devices {
			w.OK(d.Sync())
		}
		if cond() {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			w.T.Fatalf("still waiting: %s", what)
		}
	}
}
