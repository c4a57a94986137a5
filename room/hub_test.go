package room

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// group returns a group room with alice (admin), bob and carol of other
// providers with one client each.
func groupWorld(t *testing.T) *world {
	t.Helper()
	w := newTestWorld(t, TemplateGroup)
	w.want(w.commit("alice/1", mls.CommitOptions{Proposals: []mls.Proposal{w.participants(nil, nil, []Participant{
		{user("bob@b.example"), RoleMember}, {user("carol@c.example"), RoleMember}})}},
		w.keyPackage("bob@b.example/1"), w.keyPackage("carol@c.example/1")), "begin", nil)
	return w
}

func TestHubChecksTheSource(t *testing.T) {
	w := groupWorld(t)
	sc, err := w.members["bob@b.example/1"].group.Commit(mls.CommitOptions{ForcePath: true})
	w.ok(err)
	e := Event{Message: w.wire(sc.Message), GroupInfo: mimi.GroupInfoOption{Full: sc.GroupInfo}}
	for _, src := range []Source{{Provider: "c.example"}, {Provider: "b.example", User: user("bobby@b.example")}, {User: user("alice")}} {
		e.Source = src
		if _, _, err := w.hub.Apply(e); !errors.Is(err, ErrNotAllowed) {
			t.Errorf("source %+v: %v", src, err)
		}
	}
	p, err := w.members["bob@b.example/1"].group.Propose(mls.SelfRemoveProposal(), nil)
	w.ok(err)
	if _, _, err := w.hub.Apply(Event{Source: Source{Provider: "c.example"}, Message: w.wire(p)}); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("proposal by another provider: %v", err)
	}
	m, err := w.members["carol@c.example/1"].group.Encrypt([]byte("x"), nil)
	w.ok(err)
	for _, src := range []Source{{}, {Provider: "b.example", User: user("carol@c.example")}, {Provider: "a.example", User: user("mallory")}} {
		if _, _, err := w.hub.Apply(Event{Source: src, Message: w.wire(m)}); !errors.Is(err, ErrNotAllowed) {
			t.Errorf("message from %+v: %v", src, err)
		}
	}
	e.Source = Source{Provider: "B.example", User: user("bob@b.example")}
	if _, fx, err := w.hub.Apply(e); err != nil || len(fx.Notify) != 3 {
		t.Errorf("the right source: %+v, %v", fx, err)
	}
}

func TestHubChecksTheEpoch(t *testing.T) {
	w := groupWorld(t)
	bob := w.members["bob@b.example/1"]
	stale, err := bob.group.Commit(mls.CommitOptions{ForcePath: true})
	w.ok(err)
	old, err := bob.group.Encrypt([]byte("old"), nil)
	w.ok(err)
	src := Source{Provider: "b.example", User: bob.user}
	for i := range EpochTolerance + 1 {
		if _, _, err := w.hub.Apply(Event{Source: src, Message: w.wire(old)}); err != nil {
			t.Errorf("message %d epochs old: %v", i, err)
		}
		w.want(w.commit("alice/1", mls.CommitOptions{ForcePath: true}), "commit", nil)
	}
	_, _, err = w.hub.Apply(Event{Source: src, Message: w.wire(old)})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeEpochTooOld || e.Epoch != w.hub.Epoch() {
		t.Errorf("message that is too old: %v", err)
	}
	_, _, err = w.hub.Apply(Event{Source: src, Message: w.wire(stale.Message), GroupInfo: mimi.GroupInfoOption{Full: stale.GroupInfo}})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeWrongEpoch || e.Epoch != w.hub.Epoch() || !errors.Is(err, ErrWrongEpoch) {
		t.Errorf("stale commit: %v", err)
	}
	sc, err := bob.group.Commit(mls.CommitOptions{ForcePath: true})
	w.ok(err)
	w.ok(bob.group.Merge(sc))
	future, err := bob.group.Encrypt([]byte("new"), nil)
	w.ok(err)
	if _, _, err := w.hub.Apply(Event{Source: src, Message: w.wire(future)}); err == nil || CodeOf(err) != CodeNotAllowed {
		t.Errorf("message of a later epoch: %v", err)
	}
}

func TestHubChecksWhatComesWithACommit(t *testing.T) {
	w := groupWorld(t)
	alice := w.members["alice/1"]
	k := w.keyPackage("dave/1")
	add := w.participants(nil, nil, []Participant{{user("dave"), RoleMember}})
	sc, err := alice.group.Commit(mls.CommitOptions{Proposals: []mls.Proposal{add, mls.AddProposal(k.kp)}, OmitTree: true})
	w.ok(err)
	other, err := alice.group.Commit(mls.CommitOptions{ForcePath: true, OmitTree: true})
	w.ok(err)
	k2 := w.keyPackage("erin/1")
	two, err := alice.group.Commit(mls.CommitOptions{Proposals: []mls.Proposal{
		w.participants(nil, nil, []Participant{{user("dave"), RoleMember}, {user("erin"), RoleMember}}),
		mls.AddProposal(k.kp), mls.AddProposal(k2.kp)}, OmitTree: true})
	w.ok(err)
	good := Event{Source: Source{Provider: "a.example"}, Message: w.wire(sc.Message), Welcome: sc.Welcome,
		GroupInfo: mimi.GroupInfoOption{Full: sc.GroupInfo}}
	next, fx, err := w.hub.Apply(good)
	if err != nil {
		t.Fatal(err)
	}
	if len(fx.Welcome) != 1 || next.GroupInfo() == nil || next.Epoch() != w.hub.Epoch()+1 || len(fx.Change.AddedClients) != 1 {
		t.Fatalf("%+v", fx)
	}
	// A partial GroupInfo stands for the same one.
	partial := good
	partial.GroupInfo = mimi.GroupInfoOption{Partial: &mimi.PartialGroupInfo{Extensions: sc.GroupInfo.Extensions, Signature: sc.GroupInfo.Signature}}
	same, _, err := w.hub.Apply(partial)
	if err != nil {
		t.Fatalf("partial GroupInfo: %v", err)
	}
	a, err := mls.Marshal(same.GroupInfo())
	w.ok(err)
	b, err := mls.Marshal(next.GroupInfo())
	w.ok(err)
	if string(a) != string(b) {
		t.Error("the completed GroupInfo differs from the full one")
	}
	for name, change := range map[string]func(*Event){
		"no Welcome":            func(e *Event) { e.Welcome = nil },
		"Welcome for two":       func(e *Event) { e.Welcome = two.Welcome },
		"no GroupInfo":          func(e *Event) { e.GroupInfo = mimi.GroupInfoOption{} },
		"another GroupInfo":     func(e *Event) { e.GroupInfo.Full = other.GroupInfo },
		"GroupInfo of the past": func(e *Event) { e.GroupInfo.Full = w.hub.GroupInfo() },
		"both forms":            func(e *Event) { e.GroupInfo.Partial = partial.GroupInfo.Partial },
		"tree in the GroupInfo": func(e *Event) {
			e.GroupInfo = mimi.GroupInfoOption{Partial: &mimi.PartialGroupInfo{TreePresence: mimi.TreePresent, Extensions: sc.GroupInfo.Extensions, Signature: sc.GroupInfo.Signature}}
		},
		"wrong signature": func(e *Event) {
			e.GroupInfo = mimi.GroupInfoOption{Partial: &mimi.PartialGroupInfo{Extensions: sc.GroupInfo.Extensions, Signature: make([]byte, 64)}}
		},
		"GroupInfo without key": func(e *Event) {
			e.GroupInfo = mimi.GroupInfoOption{Partial: &mimi.PartialGroupInfo{Signature: sc.GroupInfo.Signature}}
		},
		// It would be handed to everyone who joins.
		"GroupInfo with a burden": func(e *Event) {
			x := append(slices.Clone(sc.GroupInfo.Extensions), mls.Extension{Type: 0xF0F0, Data: make([]byte, 64<<10)})
			var tbs tlspl.Writer
			sc.GroupInfo.GroupContext.MarshalTLS(&tbs)
			x.MarshalTLS(&tbs)
			tbs.Opaque(sc.GroupInfo.ConfirmationTag)
			tbs.Uint32(uint32(sc.GroupInfo.Signer))
			b, err := tbs.Bytes()
			w.ok(err)
			sig, err := mls.SignWithLabel(alice.signer, "GroupInfoTBS", b)
			w.ok(err)
			e.GroupInfo = mimi.GroupInfoOption{Partial: &mimi.PartialGroupInfo{Extensions: x, Signature: sig}}
		},
		"further proposals":      func(e *Event) { e.MoreProposals = []mls.MLSMessage{e.Message} },
		"Welcome without an Add": func(e *Event) { e.Message = w.wire(other.Message); e.GroupInfo.Full = other.GroupInfo },
	} {
		e := good
		change(&e)
		if _, _, err := w.hub.Apply(e); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if w.hub.Epoch() != 1 {
		t.Error("Apply changed its receiver")
	}
}

// TestBundlesAreAtomic: one bad proposal refuses all (our reading of protocol
// section 5.3), and nothing conflicts with what is pending.
func TestBundlesAreAtomic(t *testing.T) {
	w := groupWorld(t)
	bob, carol := user("bob@b.example"), user("carol@c.example")
	src := Source{Provider: "b.example", User: bob}
	g := w.members["bob@b.example/1"].group
	msg := func(p mls.Proposal) mls.MLSMessage {
		m, err := g.Propose(p, nil)
		w.ok(err)
		return w.wire(m)
	}
	leave, unlist := msg(mls.SelfRemoveProposal()), msg(w.participants(nil, []mimi.URI{bob}, nil))
	evil := msg(w.remove("carol@c.example/1"))
	_, _, err := w.hub.Apply(Event{Source: src, Message: leave, MoreProposals: []mls.MLSMessage{unlist, evil}})
	if !errors.Is(err, ErrNotAllowed) || len(w.hub.Pending()) != 0 {
		t.Fatalf("a bundle with a bad proposal: %v", err)
	}
	// Without its other half, the removal from the list is impossible.
	if _, _, err := w.hub.Apply(Event{Source: src, Message: unlist}); !errors.Is(err, ErrNotAllowed) {
		t.Fatalf("half a leave: %v", err)
	}
	next, fx, err := w.hub.Apply(Event{Source: src, Message: leave, MoreProposals: []mls.MLSMessage{unlist}})
	if err != nil || len(fx.Accepted) != 2 {
		t.Fatalf("leave: %v", err)
	}
	w.hub = next
	_, _, err = w.hub.Apply(Event{Source: src, Message: leave})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeInvalidProposal || len(e.Refs) != 1 {
		t.Fatalf("the same proposal again: %v", err)
	}
	// Alice removes Bob from the list, too: the same user twice.
	a := w.members["alice/1"].group
	again, err := a.Propose(w.participants(nil, []mimi.URI{bob}, nil), nil)
	w.ok(err)
	_, _, err = w.hub.Apply(Event{Message: w.wire(again), Source: Source{User: user("alice")}})
	if !errors.Is(err, ErrInvalidUpdate) && !errors.Is(err, ErrNotAllowed) {
		t.Fatalf("the same user twice: %v", err)
	}
	// What leaves cannot propose anything but removals of its own clients.
	if _, _, err := w.hub.Apply(Event{Source: src, Message: msg(w.metadata(func(m *RoomMetadata) { m.Name = "x" }))}); !errors.Is(err, ErrNotAllowed) {
		t.Fatalf("bob changes the name on his way out: %v", err)
	}
	_ = carol
}

// TestRemovedWhilePending: a removal that is accepted but not committed binds
// the hub at once (HUB-9 to HUB-11).
func TestRemovedWhilePending(t *testing.T) {
	w := groupWorld(t)
	carol := user("carol@c.example")
	w.want(w.join("carol@c.example/2", nil), "second client", nil)
	w.ok(w.propose("alice/1", w.participants([]Participant{{carol, RoleBanned}}, nil, nil),
		w.remove("carol@c.example/1"), w.remove("carol@c.example/2")))
	m, err := w.members["carol@c.example/1"].group.Encrypt([]byte("x"), nil)
	w.ok(err)
	src := Source{Provider: "c.example", User: carol}
	if _, _, err := w.hub.Apply(Event{Source: src, Message: w.wire(m)}); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("sends: %v", err)
	}
	if v := w.commit("carol@c.example/1", mls.CommitOptions{ForcePath: true}); !errors.Is(v.hub, ErrNotAllowed) {
		t.Errorf("commits: %v", v.hub)
	}
	if v := w.join("carol@c.example/3", nil); !errors.Is(v.hub, ErrNotAllowed) {
		t.Errorf("joins: %v", v.hub)
	}
	up, err := w.members["carol@c.example/1"].group.ProposeUpdate(mls.LeafParams{}, nil)
	w.ok(err)
	if _, _, err := w.hub.Apply(Event{Source: src, Message: w.wire(up)}); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("proposes an update: %v", err)
	}
	// SelfRemove is allowed and prevails over the Remove.
	w.ok(w.propose("carol@c.example/2", mls.SelfRemoveProposal()))
	w.want(w.commit("alice/1", mls.CommitOptions{}), "commit", nil)
	if !w.hub.Committed().Policy().IsBanned(carol) || len(w.hub.Committed().ClientsOf(carol)) != 0 {
		t.Error("carol is still there")
	}
}

// TestSpoiltProposals: the hub can't verify membership tags, members do. What a
// client proposes with a wrong one can never be committed; it must be possible
// to go on by removing that client.
func TestSpoiltProposals(t *testing.T) {
	bob := user("bob@b.example")
	for name, proposals := range map[string]func(w *world) []mls.Proposal{
		"SelfRemove": func(*world) []mls.Proposal { return []mls.Proposal{mls.SelfRemoveProposal()} },
		"leave": func(w *world) []mls.Proposal {
			return []mls.Proposal{mls.SelfRemoveProposal(), w.participants(nil, []mimi.URI{bob}, nil)}
		},
	} {
		w := groupWorld(t)
		var messages []mls.MLSMessage
		for _, p := range proposals(w) {
			m, err := w.members["bob@b.example/1"].group.Propose(p, nil)
			w.ok(err)
			spoilt := w.wire(m)
			spoilt.PublicMessage.MembershipTag[0] ^= 1
			if q, err := w.members["alice/1"].group.Proposal(&spoilt); err == nil && !q.Spoilt {
				t.Fatalf("%s: alice takes it for good", name)
			}
			messages = append(messages, spoilt)
		}
		next, _, err := w.update("bob@b.example/1", &mimi.UpdateRequest{Message: messages[0], MoreProposals: messages[1:]})
		w.ok(err)
		w.advance(next, &mimi.FanoutMessage{Message: messages[0], MoreProposals: messages[1:]})
		if v := w.commit("carol@c.example/1", mls.CommitOptions{ForcePath: true}); !errors.Is(v.hub, ErrNotAllowed) {
			t.Fatalf("%s: a commit leaves out what the hub has accepted: %v", name, v.hub)
		}
		w.want(w.commit("alice/1", mls.CommitOptions{Proposals: []mls.Proposal{
			w.remove("bob@b.example/1"), w.participants(nil, []mimi.URI{bob}, nil)}}), name, nil)
		w.want(w.commit("carol@c.example/1", mls.CommitOptions{ForcePath: true}), "the room goes on", nil)
	}
}

// TestSpoiltLeaveNeedsNoOtherRight: one who may leave, but not remove single
// clients of its own, can't stop the room by a leave with wrong membership
// tags: one who may kick still can.
func TestSpoiltLeaveNeedsNoOtherRight(t *testing.T) {
	for _, by := range []string{"alice/1"} {
		w := stage(t, actorTemplate(t, []Capability{CanRemoveSelf}, nil, every([]uint32{RoleMember, roleActor})))
		var messages []mls.MLSMessage
		for _, p := range []mls.Proposal{mls.SelfRemoveProposal(), w.remove("bob/2"), w.participants(nil, []mimi.URI{user("bob")}, nil)} {
			m, err := w.members["bob/1"].group.Propose(p, nil)
			w.ok(err)
			spoilt := w.wire(m)
			spoilt.PublicMessage.MembershipTag[0] ^= 1
			messages = append(messages, spoilt)
		}
		next, _, err := w.update("bob/1", &mimi.UpdateRequest{Message: messages[0], MoreProposals: messages[1:]})
		w.ok(err)
		w.advance(next, &mimi.FanoutMessage{Message: messages[0], MoreProposals: messages[1:]})
		w.want(w.by(by, w.remove("bob/1")), by, nil)
		w.want(w.by("alice/1"), "the room goes on", nil)
	}
}

// TestBanIsNotShakenOff: one who is being banned can't get rid of that by
// removing the client that proposed it.
func TestBanIsNotShakenOff(t *testing.T) {
	w := groupWorld(t)
	bob := user("bob@b.example")
	w.want(w.commit("alice/1", mls.CommitOptions{Proposals: []mls.Proposal{
		w.participants([]Participant{{bob, RoleAdmin}}, nil, nil)}}), "bob is admin", nil)
	for _, to := range []uint32{RoleBanned, RoleMember} {
		w.ok(w.propose("alice/1", append([]mls.Proposal{w.participants([]Participant{{bob, to}}, nil, nil)},
			map[uint32][]mls.Proposal{RoleBanned: {w.remove("bob@b.example/1")}}[to]...)...))
		v := w.commit("bob@b.example/1", mls.CommitOptions{SkipPending: true, Proposals: []mls.Proposal{w.remove("alice/1")}})
		if !errors.Is(v.hub, ErrNotAllowed) {
			t.Errorf("role %d: bob removes alice's client instead: %v", to, v.hub)
		}
		w = groupWorld(t)
		w.want(w.commit("alice/1", mls.CommitOptions{Proposals: []mls.Proposal{
			w.participants([]Participant{{bob, RoleAdmin}}, nil, nil)}}), "bob is admin", nil)
	}
}

// TestLeaveIsWhole: a commit does not take one half of a leave.
func TestLeaveIsWhole(t *testing.T) {
	w := groupWorld(t)
	bob := w.members["bob@b.example/1"]
	w.ok(w.propose("bob@b.example/1", mls.SelfRemoveProposal(), w.participants(nil, []mimi.URI{bob.user}, nil)))
	// A client that knows only of the SelfRemove.
	alice := w.members["alice/1"]
	records := make(map[string][]byte)
	for _, r := range alice.group.Records().Put {
		if !strings.HasPrefix(r.Key, "pending/") || strings.HasSuffix(r.Key, "0") {
			records[r.Key] = r.Value
		}
	}
	g, err := mls.LoadGroup(w.mlsConfig(), records, alice.signer)
	w.ok(err)
	if n := len(g.Pending()); n != 1 {
		t.Fatalf("%d proposals", n)
	}
	sc, err := g.Commit(mls.CommitOptions{OmitTree: true})
	w.ok(err)
	if v := w.deliver(alice, sc, nil); !errors.Is(v.hub, ErrNotAllowed) {
		t.Errorf("half a leave: %v", v.hub)
	}
}

// TestDemotedWhilePending: a role that is taken away binds the hub before
// the commit, a role that is given only after it.
func TestDemotedWhilePending(t *testing.T) {
	w := groupWorld(t)
	bob := user("bob@b.example")
	w.ok(w.propose("alice/1", w.participants([]Participant{{bob, RoleAdmin}}, nil, nil)))
	name := func() mls.Proposal { return w.metadata(func(m *RoomMetadata) { m.Name += "x" }) }
	if v := w.by("bob@b.example/1", name()); !errors.Is(v.hub, ErrNotAllowed) || !errors.Is(v.member, ErrNotAllowed) {
		t.Fatalf("bob acts as admin before he is: %+v", v)
	}
	w.want(w.commit("alice/1", mls.CommitOptions{}), "promote", nil)
	w.want(w.by("bob@b.example/1", name()), "bob is admin", nil)
	w.ok(w.propose("alice/1", w.participants([]Participant{{bob, RoleMember}}, nil, nil)))
	v := w.by("bob@b.example/1", name())
	if !errors.Is(v.hub, ErrNotAllowed) || v.member != nil {
		t.Fatalf("bob acts as admin after he was demoted: %+v", v)
	}
}

func TestCheckNew(t *testing.T) {
	w := newTestWorld(t, TemplateGroup)
	hub := hubSender()
	other := hub
	other.SignatureKey = []byte("other")
	if w.hub.CheckNew(w.room, other, user("alice")) == nil {
		t.Error("another hub key")
	}
	if w.hub.CheckNew(mimi.MustParseURI("mimi://a.example/r/x"), hub, user("alice")) == nil {
		t.Error("another room")
	}
	if w.hub.CheckNew(w.room, hub, user("bob")) == nil {
		t.Error("another creator")
	}
	w.want(w.commit("alice/1", mls.CommitOptions{ForcePath: true}), "commit", nil)
	if w.hub.CheckNew(w.room, hub, user("alice")) == nil {
		t.Error("a later epoch")
	}
}

// TestNewRefuses: a group whose parts contradict each other is no room.
func TestNewRefuses(t *testing.T) {
	tpl := mustTemplate(t, TemplateGroup)
	room := mimi.MustParseURI("mimi://a.example/r/club")
	good := NewRoom{Room: room, Hub: hubSender(), Creator: user("alice"), Template: tpl, Credentials: []mls.CredentialType{mls.CredentialBasic}}
	make := func(n NewRoom, id, creator string, edit func(mls.Extensions) mls.Extensions) error {
		x, err := NewRoomExtensions(n)
		if err != nil {
			t.Fatal(err)
		}
		if edit != nil {
			x = edit(x)
		}
		signer, _, err := mls.GenerateSigner(testSuite, nil)
		if err != nil {
			t.Fatal(err)
		}
		leafX, err := LeafExtensions()
		if err != nil {
			t.Fatal(err)
		}
		g, err := mls.CreateGroup(mls.Config{Credentials: anyCredential{}, Components: Components()}, mls.GroupParams{
			CipherSuite: testSuite, GroupID: []byte(id), Signer: signer, Credential: credential(creator),
			Capabilities: capabilities(), LeafExtensions: leafX, Extensions: x})
		if err != nil {
			t.Fatal(err)
		}
		gi, err := g.GroupInfo()
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(testConfig(true), gi, g.State().RatchetTree())
		return err
	}
	const id = "mimi://a.example/g/club"
	if err := make(good, id, "alice/1", nil); err != nil {
		t.Fatalf("the control: %v", err)
	}
	without := func(c mls.ComponentID) func(mls.Extensions) mls.Extensions {
		return func(x mls.Extensions) mls.Extensions {
			d, err := x.Dictionary()
			if err != nil {
				t.Fatal(err)
			}
			b, err := mls.Marshal(d.Without(c))
			if err != nil {
				t.Fatal(err)
			}
			return x.Set(mls.ExtensionAppDataDictionary, b)
		}
	}
	elsewhere := good
	elsewhere.Hub.Credential = mls.BasicCredential([]byte("b.example"))
	client := good
	client.Hub.Credential = credential("alice/1")
	for name, err := range map[string]error{
		"group id of another domain": make(good, "mimi://b.example/g/club", "alice/1", nil),
		"group id is a room":         make(good, "mimi://a.example/r/club", "alice/1", nil),
		"group id is random":         make(good, "random", "alice/1", nil),
		"creator not in the list":    make(good, id, "bob/1", nil),
		"hub of another domain":      make(elsewhere, id, "alice/1", nil),
		"hub is a client":            make(client, id, "alice/1", nil),
		"no external senders":        make(good, id, "alice/1", func(x mls.Extensions) mls.Extensions { return x.Without(mls.ExtensionExternalSenders) }),
		"no participant list":        make(good, id, "alice/1", without(mimi.ComponentParticipantList)),
		"no roles":                   make(good, id, "alice/1", without(mimi.ComponentRolesList)),
		"no base policy":             make(good, id, "alice/1", without(mimi.ComponentBaseRoomPolicy)),
		"no metadata":                make(good, id, "alice/1", without(mimi.ComponentRoomMetadata)),
	} {
		if !errors.Is(err, ErrInvalidRoom) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRecordsAreDeltas stores only what changed and loads it again, pending
// proposals included.
func TestRecordsAreDeltas(t *testing.T) {
	w := newTestWorld(t, TemplateGroup)
	records := make(map[string][]byte)
	var since *State
	save := func() {
		t.Helper()
		r, err := w.hub.Records(since)
		w.ok(err)
		for _, e := range r.Put {
			records[e.Key] = e.Value
		}
		for _, k := range r.Delete {
			delete(records, k)
		}
		since = w.hub
		got, err := Load(testConfig(true), records)
		w.ok(err)
		if len(got.Pending()) != len(w.hub.Pending()) || got.Epoch() != w.hub.Epoch() ||
			got.Effective().Policy().IsParticipant(user("bob")) != w.hub.Effective().Policy().IsParticipant(user("bob")) ||
			(got.GroupInfo() == nil) != (w.hub.GroupInfo() == nil) {
			t.Fatal("the loaded state differs")
		}
		again, err := w.hub.Records(w.hub)
		w.ok(err)
		if !again.Empty() {
			t.Fatal("no change, but records")
		}
	}
	save()
	w.want(w.commit("alice/1", mls.CommitOptions{Proposals: []mls.Proposal{
		w.participants(nil, nil, []Participant{{user("bob"), RoleMember}})}}, w.keyPackage("bob/1")), "add", nil)
	save()
	w.ok(w.propose("bob/1", mls.SelfRemoveProposal(), w.participants(nil, []mimi.URI{user("bob")}, nil)))
	save()
	w.want(w.commit("alice/1", mls.CommitOptions{}), "commit", nil)
	save()
}

// TestUncommittableProposals: the hub accepts nothing that would keep every
// member from committing.
func TestUncommittableProposals(t *testing.T) {
	w := groupWorld(t)
	bob := w.members["bob@b.example/1"]
	src := Source{Provider: "b.example", User: bob.user}
	// Two clients that share their keys: each is valid alone.
	signer, _, err := mls.GenerateSigner(testSuite, nil)
	w.ok(err)
	x, err := LeafExtensions()
	w.ok(err)
	propose := func(name string) mls.MLSMessage {
		kp, _, err := mls.NewKeyPackage(mls.KeyPackageParams{CipherSuite: testSuite, Signer: signer,
			Credential: credential(name), Capabilities: capabilities(), LeafExtensions: x})
		w.ok(err)
		m, err := bob.group.Propose(mls.AddProposal(kp), nil)
		w.ok(err)
		return w.wire(m)
	}
	one, two := propose("bob@b.example/2"), propose("bob@b.example/3")
	next, _, err := w.hub.Apply(Event{Source: src, Message: one})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = next.Apply(Event{Source: src, Message: two})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeInvalidProposal || len(e.Refs) != 1 {
		t.Fatalf("a second client with the same key: %v", err)
	}
	if _, _, err = w.hub.Apply(Event{Source: src, Message: one, MoreProposals: []mls.MLSMessage{two}}); err == nil {
		t.Fatal("two clients with the same key")
	}
}

// TestUpdates: of several Updates of a client the last one counts; none of
// them blocks a commit.
func TestUpdates(t *testing.T) {
	w := groupWorld(t)
	update := func(name string) {
		m := w.members[name]
		msg, err := m.group.ProposeUpdate(mls.LeafParams{}, nil)
		w.ok(err)
		wire := w.wire(msg)
		next, _, err := w.update(name, &mimi.UpdateRequest{Message: wire})
		w.ok(err)
		w.advance(next, &mimi.FanoutMessage{Message: wire})
		for _, o := range w.members {
			if o != m {
				q, err := o.group.Proposal(&wire)
				w.ok(err)
				w.ok(o.group.Enqueue(q))
			}
		}
	}
	update("bob@b.example/1")
	update("bob@b.example/1")
	update("alice/1")
	w.want(w.commit("alice/1", mls.CommitOptions{}), "commit over updates", nil)
	update("bob@b.example/1")
	w.want(w.join("alice/2", nil), "external join over an update", nil)
	update("bob@b.example/1")
	w.want(w.commit("alice/2", mls.CommitOptions{}), "commit", nil)
}

func TestPendingIsBounded(t *testing.T) {
	w := groupWorld(t)
	bob := w.members["bob@b.example/1"]
	s := w.hub
	for i := range MaxPendingProposals + 1 {
		msg, err := bob.group.ProposeUpdate(mls.LeafParams{}, nil)
		w.ok(err)
		next, _, err := s.Apply(Event{Message: *msg, Source: Source{User: bob.user}})
		if i == MaxPendingProposals {
			if err == nil {
				t.Fatal("no bound")
			}
			return
		}
		w.ok(err)
		s = next
	}
}

func TestPseudonyms(t *testing.T) {
	w := newTestWorld(t, TemplateOpen)
	p := mimi.MustParseURI("mimi://a.example/p/x")
	c := Client{User: p, Device: mimi.MustParseURI("mimi://a.example/d/x")}
	policy := *w.hub.Committed().Policy()
	policy.Participants = append(policy.Participants[:1:1], Participant{p, RoleMember})
	w.ok(policy.finish())
	v := w.hub.Committed()
	if err := v.admit(&policy, v.roster, c); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("pseudonym in a room that allows none: %v", err)
	}
	policy.Base.PseudonymsAllowed = true
	w.ok(v.admit(&policy, v.roster, c))
}
