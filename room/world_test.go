package room

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

const testSuite = mls.X25519AES128SHA256Ed25519

// tb is what a world needs of testing.T and rapid.T.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
}

// testConfig reads names from basic credentials, whose identity is the user
// URI, a space and the device URI; for a provider its domain.
func testConfig(hub bool) Config {
	return Config{
		ClientURIs: func(c *mls.Credential) (user, device mimi.URI, err error) {
			u, d, ok := strings.Cut(string(c.Identity), " ")
			if !ok {
				return user, device, errors.New("not a client's credential")
			}
			if user, err = mimi.ParseURI(u); err == nil {
				device, err = mimi.ParseURI(d)
			}
			return user, device, err
		},
		ProviderDomain: func(c *mls.Credential) (string, error) { return mimi.ParseDomain(string(c.Identity)) },
		MLS:            mls.Config{Credentials: anyCredential{}},
		Hub:            hub,
	}
}

// anyCredential accepts every credential and every successor: the room must
// hold without its help.
type anyCredential struct{}

func (anyCredential) VerifyCredential(*mls.Credential, []byte, time.Time) error { return nil }
func (anyCredential) VerifySuccessor(_, _ *mls.LeafNode) error                  { return nil }

// rawLogic is a component that takes anything; cheaters use it.
type rawLogic struct{}

func (rawLogic) Update(_ []byte, _ bool, u [][]byte) ([]byte, error) { return u[len(u)-1], nil }
func (rawLogic) Remove([]byte) error                                 { return nil }

func user(name string) mimi.URI {
	n, d, ok := strings.Cut(name, "@")
	if !ok {
		d = "a.example"
	}
	return mimi.MustParseURI("mimi://" + d + "/u/" + n)
}

// device returns the URI of a client written alice/1 or bob@b.example/2.
func device(name string) (u, d mimi.URI) {
	who, n, _ := strings.Cut(name, "/")
	u = user(who)
	return u, mimi.MustParseURI("mimi://" + u.Domain() + "/d/" + u.Name() + "/" + n)
}

type member struct {
	name   string
	user   mimi.URI
	group  *mls.Group
	view   *View
	signer mls.Signer
}

// A world is a room with its hub, a replica and real MLS members.
type world struct {
	t       tb
	hub     *State
	replica *State
	room    mimi.URI
	members map[string]*member
	raw     bool // members accept updates of component 0xF123
}

const rawComponent mls.ComponentID = 0xF123

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v", err)
	}
}

func (w *world) mlsConfig() mls.Config {
	c := mls.Config{Credentials: anyCredential{}, Components: Components()}
	if w.raw {
		c.Components[rawComponent] = rawLogic{}
	}
	return c
}

func credential(name string) mls.Credential {
	u, d := device(name)
	return mls.BasicCredential([]byte(u.String() + " " + d.String()))
}

func capabilities() mls.Capabilities {
	return Capabilities([]mls.CipherSuite{testSuite}, mls.CredentialBasic)
}

func hubSender() mls.ExternalSender {
	return mls.ExternalSender{SignatureKey: bytes.Repeat([]byte{7}, 32), Credential: mls.BasicCredential([]byte("a.example"))}
}

// newWorld begins a room whose creator is alice/1.
func newWorld(t tb, tpl *Template, others ...mimi.URI) *world {
	t.Helper()
	w := &world{t: t, room: mimi.MustParseURI("mimi://a.example/r/club"), members: make(map[string]*member), raw: true}
	x, err := NewRoomExtensions(NewRoom{Room: w.room, Hub: hubSender(), Creator: user("alice"), Others: others,
		Template: tpl, Name: "club", Credentials: []mls.CredentialType{mls.CredentialBasic}})
	w.ok(err)
	signer, _, err := mls.GenerateSigner(testSuite, nil)
	w.ok(err)
	id, err := GroupID(w.room)
	w.ok(err)
	leafX, err := LeafExtensions()
	w.ok(err)
	g, err := mls.CreateGroup(w.mlsConfig(), mls.GroupParams{CipherSuite: testSuite, GroupID: id, Signer: signer,
		Credential: credential("alice/1"), Capabilities: capabilities(), LeafExtensions: leafX, Extensions: x})
	w.ok(err)
	gi, err := g.GroupInfo()
	w.ok(err)
	w.hub, err = New(testConfig(true), gi, g.State().RatchetTree())
	w.ok(err)
	w.ok(w.hub.CheckNew(w.room, hubSender(), user("alice")))
	w.replica, err = New(testConfig(false), gi, g.State().RatchetTree())
	w.ok(err)
	w.enter("alice/1", g, signer)
	return w
}

func (w *world) enter(name string, g *mls.Group, signer mls.Signer) *member {
	v, err := NewView(testConfig(false), g.State())
	w.ok(err)
	u, _ := device(name)
	m := &member{name, u, g, v, signer}
	w.members[name] = m
	return m
}

type keyPackage struct {
	name   string
	kp     *mls.KeyPackage
	priv   *mls.KeyPackagePrivate
	signer mls.Signer
}

func (w *world) keyPackage(name string) *keyPackage {
	signer, _, err := mls.GenerateSigner(testSuite, nil)
	w.ok(err)
	x, err := LeafExtensions()
	w.ok(err)
	kp, priv, err := mls.NewKeyPackage(mls.KeyPackageParams{CipherSuite: testSuite, Signer: signer,
		Credential: credential(name), Capabilities: capabilities(), LeafExtensions: x})
	w.ok(err)
	return &keyPackage{name, kp, priv, signer}
}

// participants returns the proposal that changes the participant list.
func (w *world) participants(changed []Participant, removed []mimi.URI, added []Participant) mls.Proposal {
	u, err := w.hub.Committed().Policy().Participants.Update(changed, removed, added)
	w.ok(err)
	b, err := mls.Marshal(u)
	w.ok(err)
	return mls.AppDataUpdateProposal(mimi.ComponentParticipantList, b)
}

func (w *world) leaf(name string) mls.LeafIndex {
	w.t.Helper()
	_, d := device(name)
	c, ok := w.hub.Committed().Device(d)
	if !ok {
		w.t.Fatalf("%s is not in the room", name)
	}
	return c.Leaf
}

func (w *world) remove(name string) mls.Proposal { return mls.RemoveProposal(w.leaf(name)) }

// wire sends a message through its encoding.
func (w *world) wire(m *mls.MLSMessage) mls.MLSMessage {
	b, err := mls.Marshal(m)
	w.ok(err)
	var out mls.MLSMessage
	w.ok(mls.Unmarshal(b, &out))
	return out
}

// update sends an event to the hub as its wire message.
func (w *world) update(from string, req *mimi.UpdateRequest) (*State, *Effects, error) {
	b, err := mls.Marshal(req)
	w.ok(err)
	var got mimi.UpdateRequest
	w.ok(mls.Unmarshal(b, &got))
	u, _ := device(from)
	return w.hub.Apply(UpdateEvent(Source{Provider: u.Domain(), User: u}, &got))
}

// propose sends a bundle of proposals. If the hub accepts it, everyone gets
// it; if not, the proposer forgets it by being rebuilt from nothing: groups
// cannot drop pending proposals, so the caller must not use it again.
func (w *world) propose(from string, ps ...mls.Proposal) error {
	w.t.Helper()
	m := w.members[from]
	var messages []mls.MLSMessage
	for _, p := range ps {
		msg, err := m.group.Propose(p, nil)
		if err != nil {
			return fmt.Errorf("mls: %w", err)
		}
		messages = append(messages, w.wire(msg))
	}
	next, _, err := w.update(from, &mimi.UpdateRequest{Message: messages[0], MoreProposals: messages[1:]})
	if err != nil {
		return err
	}
	w.advance(next, &mimi.FanoutMessage{Message: messages[0], MoreProposals: messages[1:]})
	for _, name := range w.names() {
		if name == from {
			continue
		}
		for i := range messages {
			q, err := w.members[name].group.Proposal(&messages[i])
			w.ok(err)
			w.ok(w.members[name].group.Enqueue(q))
		}
	}
	return nil
}

func (w *world) names() []string { return slices.Sorted(maps.Keys(w.members)) }

// advance gives hub and replica their next state, and stores and loads the
// hub's.
func (w *world) advance(next *State, f *mimi.FanoutMessage) {
	w.t.Helper()
	follow, _, err := w.replica.Apply(FanoutEvent(f))
	if err != nil {
		w.t.Fatalf("the replica refuses what the hub accepted: %v", err)
	}
	w.hub, w.replica = next, follow
}

// verdict is what hub and members say about a commit.
type verdict struct{ hub, member error }

// commit lets a member commit; kps are the KeyPackages of those who are
// added by it.
func (w *world) commit(from string, o mls.CommitOptions, kps ...*keyPackage) verdict {
	w.t.Helper()
	m := w.members[from]
	for _, k := range kps {
		o.Proposals = append(o.Proposals, mls.AddProposal(k.kp))
	}
	o.OmitTree = true
	sc, err := m.group.Commit(o)
	if err != nil {
		return verdict{err, err}
	}
	return w.deliver(m, sc, kps)
}

func (w *world) deliver(m *member, sc *mls.StagedCommit, kps []*keyPackage) verdict {
	w.t.Helper()
	msg := w.wire(sc.Message)
	req := &mimi.UpdateRequest{Message: msg, Welcome: sc.Welcome,
		GroupInfo: mimi.GroupInfoOption{Full: sc.GroupInfo}, RatchetTree: mimi.HubTree()}
	next, _, hubErr := w.update(m.name, req)

	// Every member judges the commit on its own.
	type result struct {
		sc   *mls.StagedCommit
		view *View
	}
	results := make(map[string]result)
	var memberErr error
	first := true
	for _, name := range w.names() {
		o := w.members[name]
		staged := sc
		if o != m {
			var err error
			if staged, err = o.group.StageCommit(&msg); err != nil {
				w.t.Fatalf("%s cannot process the commit: %v", name, err)
			}
		} else if sc.External {
			continue // it is in the new epoch already
		}
		view, _, err := o.view.Commit(staged, o.group.Pending())
		if !first && (err == nil) != (memberErr == nil) {
			w.t.Fatalf("members disagree: %v and %v", memberErr, err)
		}
		first, memberErr = false, err
		results[name] = result{staged, view}
	}
	if hubErr != nil || memberErr != nil {
		if memberErr != nil {
			if _, _, err := w.replica.Apply(FanoutEvent(&mimi.FanoutMessage{Message: msg})); err == nil {
				w.t.Fatalf("the replica accepts what members refuse: %v", memberErr)
			}
		}
		return verdict{hubErr, memberErr}
	}
	w.advance(next, &mimi.FanoutMessage{Message: msg})
	for name, r := range results {
		o := w.members[name]
		w.ok(o.group.Merge(r.sc))
		o.view = r.view
		if !o.group.IsMember() {
			delete(w.members, name)
		}
	}
	if sc.External {
		w.enter(m.name, m.group, m.signer)
	}
	tree := w.hub.Group().RatchetTree()
	for _, k := range kps {
		b, err := mls.Marshal(sc.Welcome)
		w.ok(err)
		var welcome mls.Welcome
		w.ok(mls.Unmarshal(b, &welcome))
		g, err := mls.JoinWelcome(w.mlsConfig(), &welcome, tree, k.kp, k.priv, k.signer)
		w.ok(err)
		w.enter(k.name, g, k.signer)
	}
	w.check()
	return verdict{}
}

// join lets a client join by an external commit.
func (w *world) join(name string, selfRemoves []*mls.MLSMessage, byValue ...mls.Proposal) verdict {
	w.t.Helper()
	signer, _, err := mls.GenerateSigner(testSuite, nil)
	w.ok(err)
	x, err := LeafExtensions()
	w.ok(err)
	g, sc, err := mls.JoinExternal(w.mlsConfig(), w.hub.GroupInfo(), w.hub.Group().RatchetTree(), mls.JoinParams{
		Signer: signer, Credential: credential(name), Capabilities: capabilities(), LeafExtensions: x,
		ByValue: byValue, SelfRemoves: selfRemoves})
	if err != nil {
		return verdict{err, err}
	}
	u, _ := device(name)
	return w.deliver(&member{name: name, user: u, group: g, signer: signer}, sc, nil)
}

// check verifies that everyone holds the same room, that what is stored can
// be loaded, and the invariants.
func (w *world) check() {
	w.t.Helper()
	want := w.hub.Committed()
	describe := func(v *View) string {
		return fmt.Sprint(v.epoch, v.policy.Participants, v.policy.Meta, v.Clients(), v.Providers(), v.tallies)
	}
	views := map[string]*View{"replica": w.replica.Committed()}
	for name, m := range w.members {
		views[name] = m.view
		fresh, err := NewView(testConfig(false), m.group.State())
		w.ok(err)
		views[name+" anew"] = fresh
	}
	r, err := w.hub.Records(nil)
	w.ok(err)
	records := make(map[string][]byte)
	for _, e := range r.Put {
		records[e.Key] = e.Value
	}
	loaded, err := Load(testConfig(true), records)
	w.ok(err)
	views["loaded hub"] = loaded.Committed()
	for name, v := range views {
		got, want := describe(v), describe(want)
		got, want = trimZero(got), trimZero(want)
		if got != want {
			w.t.Fatalf("%s sees\n%s\nthe hub sees\n%s", name, got, want)
		}
	}
	for _, c := range want.Clients() {
		if !want.Policy().IsParticipant(c.User) {
			w.t.Fatalf("client %q is in the group, its user is not in the room", c.Device)
		}
	}
	if want.NumClients() != w.hub.Group().NumMembers() {
		w.t.Fatalf("%d clients, %d members", want.NumClients(), w.hub.Group().NumMembers())
	}
}

// trimZero drops empty tallies, which depend on the path taken.
func trimZero(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "{0 0}", ""), "  ", " ")
}

func mustTemplate(t tb, name string) *Template {
	tpl, err := NewTemplate(name)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return tpl
}

// want checks a verdict: nil means allowed, otherwise both must refuse with
// an error that matches.
func (w *world) want(v verdict, what string, target error) {
	w.t.Helper()
	for who, err := range map[string]error{"hub": v.hub, "member": v.member} {
		if target == nil && err != nil {
			w.t.Fatalf("%s: the %s refuses: %v", what, who, err)
		}
		if target != nil && !errors.Is(err, target) {
			w.t.Fatalf("%s: the %s says %v; want %v", what, who, err, target)
		}
	}
}

func newTestWorld(t *testing.T, template string) *world {
	t.Helper()
	return newWorld(t, mustTemplate(t, template))
}
