package mls

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
)

// newFollower returns a PublicGroup in the present epoch of w.
func (w *world) newFollower(cfg Config) *PublicGroup {
	w.Helper()
	g := w.groups[w.names[0]]
	gi, err := g.GroupInfo()
	noError(w, err)
	hub, err := NewPublicGroup(cfg, gi, g.State().RatchetTree())
	noError(w, err)
	return hub
}

// overWire sends a value over the wire.
func overWire[T any, P interface {
	*T
	wireValue
}](t testing.TB, v P) P {
	t.Helper()
	b, err := Marshal(v)
	noError(t, err)
	out := P(new(T))
	noError(t, Unmarshal(b, out))
	return out
}

// A hub and the members rebuild, octet for octet, the GroupInfo of every
// epoch, with the tree in it or not, and whatever the presence of the tree
// before; what a hub knows survives a restart.
func TestGroupInfoFromPartial(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	hub := w.newFollower(w.cfg)
	before := false
	for i, with := range []bool{false, true, true, false, false, true} {
		name := w.names[i%len(w.names)]
		d := w.device(fmt.Sprintf("n%d", i))
		sc, err := w.groups[name].Commit(CommitOptions{
			Proposals: []Proposal{AddProposal(d.kp)}, TreeInGroupInfo: with, OmitTree: i%2 == 1,
		})
		noError(t, err)
		made, err := sc.PartialGroupInfo(before)
		noError(t, err)
		p := overWire(t, made)
		if want := treePresence(before, with); p.TreePresence != want || p.TreePresence.before() != before || p.TreePresence.now() != with {
			t.Fatalf("presence %d, want %d", p.TreePresence, want)
		}
		want := mustMarshal(sc.GroupInfo)
		if _, ok := sc.GroupInfo.Extensions.Find(ExtensionRatchetTree); ok != with {
			t.Fatalf("ratchet_tree in the GroupInfo: %v", ok)
		}

		staged, err := hub.StageCommit(w.wire(sc.Message))
		noError(t, err)
		image := snapshot(t, hub)
		gi, err := hub.CompleteGroupInfo(staged, p)
		noError(t, err)
		equal(t, "GroupInfo of the hub", mustMarshal(gi), want)
		if snapshot(t, hub) != image {
			t.Fatal("completing changed the group")
		}
		noError(t, hub.Merge(staged))
		hub, err = LoadPublicGroup(w.cfg, storeRecords(nil, hub.Records(nil)))
		noError(t, err)
		gi, ok := hub.GroupInfo()
		if !ok {
			t.Fatal("the hub lost the GroupInfo")
		}
		equal(t, "GroupInfo after a restart", mustMarshal(gi), want)
		noError(t, hub.VerifyGroupInfo(gi))

		for _, other := range w.names {
			g := w.groups[other]
			seen := sc
			if other != name {
				seen, err = g.StageCommit(w.wire(sc.Message))
				noError(t, err)
			}
			gi, err := g.CompleteGroupInfo(seen, p)
			noError(t, err)
			equal(t, "GroupInfo of "+other, mustMarshal(gi), want)
		}
		// The Welcome carries the tree unless the hub is to provide it.
		option := &RatchetTreeOption{Representation: TreeDistributionService}
		if i%2 == 0 {
			option = hub.State().TreeOption()
		}
		nodes, err := overWire(t, option).Nodes(func() (RatchetTree, error) { return hub.State().RatchetTree(), nil })
		noError(t, err)
		if i%2 == 0 {
			nodes = nil
		} else if _, err := JoinWelcome(w.cfg, sc.Welcome, nil, d.kp, d.priv, d.signer); !errors.Is(err, ErrInvalidWelcome) {
			t.Fatalf("joined without a tree: %v", err)
		}
		g, err := JoinWelcome(w.cfg, w.wire(WelcomeMessage(sc.Welcome)).Welcome, nodes, d.kp, d.priv, d.signer)
		noError(t, err)
		w.deliver(name, sc)
		w.join(d.name, g)
		w.check()
		before = with
	}

	// Someone joins by what the hub has, and is its next committer.
	gi, _ := hub.GroupInfo()
	signer, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	g, sc, err := JoinExternal(w.cfg, gi, nil, JoinParams{Signer: signer, Credential: BasicCredential([]byte("ext"))})
	noError(t, err)
	p, err := sc.PartialGroupInfo(true)
	noError(t, err)
	if p.TreePresence != TreeRemoved {
		t.Fatalf("presence %d", p.TreePresence)
	}
	staged, err := hub.StageCommit(w.wire(sc.Message))
	noError(t, err)
	again, err := hub.CompleteGroupInfo(staged, p)
	noError(t, err)
	equal(t, "GroupInfo of an external commit", mustMarshal(again), mustMarshal(sc.GroupInfo))
	if again.Signer != g.OwnLeaf() {
		t.Fatalf("signed by leaf %d", again.Signer)
	}
}

// What a staged commit carries survives sealing, so that its PartialGroupInfo
// can be sent again after a restart.
func TestPartialGroupInfoOfSealedCommit(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1")
	g := w.groups["m0"]
	sc, err := g.Commit(CommitOptions{TreeInGroupInfo: true})
	noError(t, err)
	b, err := g.SealStaged(sc)
	noError(t, err)
	again, err := g.LoadStaged(b)
	noError(t, err)
	p1, err := sc.PartialGroupInfo(false)
	noError(t, err)
	p2, err := again.PartialGroupInfo(false)
	noError(t, err)
	equal(t, "PartialGroupInfo", mustMarshal(p2), mustMarshal(p1))
}

// A committer of another implementation may have put ratchet_tree first.
func TestPartialGroupInfoTreeFirst(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1")
	hub := w.newFollower(w.cfg)
	g := w.groups["m1"]
	sc, err := g.Commit(CommitOptions{})
	noError(t, err)
	x := slices.Clone(sc.GroupInfo.Extensions)
	sc.GroupInfo.Extensions = append(Extensions{{ExtensionRatchetTree, mustMarshal(sc.After.RatchetTree())}}, x...)
	noError(t, sc.GroupInfo.sign(g.signer))
	p, err := sc.PartialGroupInfo(false)
	noError(t, err)
	if p.TreePresence != TreeAdded {
		t.Fatalf("presence %d", p.TreePresence)
	}
	staged, err := hub.StageCommit(w.wire(sc.Message))
	noError(t, err)
	gi, err := hub.CompleteGroupInfo(staged, p)
	noError(t, err)
	equal(t, "GroupInfo", mustMarshal(gi), mustMarshal(sc.GroupInfo))
	noError(t, hub.Merge(staged))
	hub, err = LoadPublicGroup(w.cfg, storeRecords(nil, hub.Records(nil)))
	noError(t, err)
	gi, _ = hub.GroupInfo()
	equal(t, "GroupInfo after a restart", mustMarshal(gi), mustMarshal(sc.GroupInfo))
}

// Nothing but the committer's own PartialGroupInfo of this very commit
// completes, at the hub and at a member, and what is refused changes nothing.
func TestPartialGroupInfoRefused(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	hub := w.newFollower(w.cfg)
	g, member := w.groups["m1"], w.groups["m2"]
	sc, err := g.Commit(CommitOptions{})
	noError(t, err)
	withTree, err := g.Commit(CommitOptions{TreeInGroupInfo: true})
	noError(t, err)
	good, err := sc.PartialGroupInfo(false)
	noError(t, err)
	old, ok := hub.GroupInfo()
	if !ok {
		t.Fatal("no GroupInfo of the first epoch")
	}
	// resign returns the partial form of the GroupInfo with other content,
	// signed by a member.
	resign := func(signer Signer, change func(gi *GroupInfo)) *PartialGroupInfo {
		gi := overWire(t, sc.GroupInfo)
		change(gi)
		noError(t, gi.sign(signer))
		p := partsOf(gi)
		return &PartialGroupInfo{treePresence(false, p.treeAt >= 0), p.extensions, p.signature}
	}
	foreign := newWorld(t, suite1)
	foreign.add("m0", "m1")
	other, err := foreign.groups["m1"].Commit(CommitOptions{})
	noError(t, err)
	ofOther, err := other.PartialGroupInfo(false)
	noError(t, err)
	ofTwin, err := withTree.PartialGroupInfo(false)
	noError(t, err)
	image, memberImage := snapshot(t, hub), groupImage(t, member)
	_, strange, err := GenerateHPKEKey(suite1)
	noError(t, err)
	strangeKey := mustMarshal(opaqueValue(strange))
	for name, c := range map[string]struct {
		want error
		hub  bool // the hub cannot see it: it must accept
		p    *PartialGroupInfo
	}{
		"none":                 {ErrInvalidMessage, false, nil},
		"changed signature":    {ErrInvalidSignature, false, &PartialGroupInfo{good.TreePresence, good.Extensions, flipped(good.Signature)}},
		"no signature":         {ErrInvalidSignature, false, &PartialGroupInfo{good.TreePresence, good.Extensions, nil}},
		"extension left out":   {ErrInvalidSignature, false, &PartialGroupInfo{good.TreePresence, nil, good.Signature}},
		"extension added":      {ErrInvalidSignature, false, &PartialGroupInfo{good.TreePresence, append(slices.Clone(good.Extensions), Extension{0xf0f0, nil}), good.Signature}},
		"extension twice":      {ErrInvalidMessage, false, &PartialGroupInfo{good.TreePresence, append(slices.Clone(good.Extensions), good.Extensions...), good.Signature}},
		"tree as extension":    {ErrInvalidMessage, false, &PartialGroupInfo{good.TreePresence, append(slices.Clone(good.Extensions), Extension{ExtensionRatchetTree, nil}), good.Signature}},
		"unknown presence":     {ErrInvalidMessage, false, &PartialGroupInfo{4, good.Extensions, good.Signature}},
		"tree that was not":    {ErrInvalidSignature, false, &PartialGroupInfo{TreeAdded, good.Extensions, good.Signature}},
		"no tree that was":     {ErrInvalidSignature, false, &PartialGroupInfo{TreeAbsent, ofTwin.Extensions, ofTwin.Signature}},
		"of another commit":    {ErrInvalidSignature, false, ofTwin},
		"of another group":     {ErrInvalidSignature, false, ofOther},
		"of the epoch before":  {ErrInvalidSignature, false, &PartialGroupInfo{TreeAbsent, old.Extensions, old.Signature}},
		"signed by another":    {ErrInvalidSignature, false, resign(member.signer, func(*GroupInfo) {})},
		"another group signed": {ErrInvalidSignature, false, resign(g.signer, func(gi *GroupInfo) { gi.GroupContext.GroupID = []byte("other") })},
		"another epoch signed": {ErrInvalidSignature, false, resign(g.signer, func(gi *GroupInfo) { gi.GroupContext.Epoch++ })},
		"another tag signed":   {ErrInvalidSignature, false, resign(g.signer, func(gi *GroupInfo) { gi.ConfirmationTag = flipped(gi.ConfirmationTag) })},
		"another signer named": {ErrInvalidSignature, false, resign(g.signer, func(gi *GroupInfo) { gi.Signer = 0 })},
		"tree of other members": {ErrInvalidSignature, false, resign(g.signer, func(gi *GroupInfo) {
			gi.Extensions = append(gi.Extensions, Extension{ExtensionRatchetTree, mustMarshal(other.After.RatchetTree())})
		})},
		"malformed external_pub": {nil, false, resign(g.signer, func(gi *GroupInfo) { gi.Extensions = Extensions{{ExtensionExternalPub, []byte{5, 1}}} })},
		"short external_pub":     {ErrKey, false, resign(g.signer, func(gi *GroupInfo) { gi.Extensions = Extensions{{ExtensionExternalPub, []byte{1, 1}}} })},
		"another's external_pub": {ErrInvalidMessage, true, resign(g.signer, func(gi *GroupInfo) { gi.Extensions = Extensions{{ExtensionExternalPub, strangeKey}} })},
	} {
		t.Run(name, func(t *testing.T) {
			staged, err := hub.StageCommit(w.wire(sc.Message))
			noError(t, err)
			_, err = hub.CompleteGroupInfo(staged, c.p)
			if c.hub {
				noError(t, err)
			} else if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("hub: %v, want %v", err, c.want)
			} else {
				after := hub.Clone()
				noError(t, after.Merge(staged))
				if _, ok := after.GroupInfo(); ok {
					t.Error("the hub keeps what it refused")
				}
			}
			seen, err := member.StageCommit(w.wire(sc.Message))
			noError(t, err)
			if _, err = member.CompleteGroupInfo(seen, c.p); err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("member: %v, want %v", err, c.want)
			}
			if snapshot(t, hub) != image || !bytes.Equal(groupImage(t, member), memberImage) {
				t.Error("the refused one left a trace")
			}
		})
	}

	staged, err := hub.StageCommit(w.wire(sc.Message))
	noError(t, err)
	// The signature says nothing about the presence before; the hub knows it.
	if _, err := hub.CompleteGroupInfo(staged, &PartialGroupInfo{TreeRemoved, good.Extensions, good.Signature}); !errors.Is(err, ErrInvalidMessage) {
		t.Errorf("presence that does not fit the epoch before: %v", err)
	}
	if err := hub.AttachGroupInfo(staged, old); err == nil {
		t.Error("the GroupInfo of the epoch before is attached")
	}
	if err := hub.AttachGroupInfo(staged, other.GroupInfo); err == nil {
		t.Error("the GroupInfo of another group is attached")
	}
	wrong := overWire(t, sc.GroupInfo)
	wrong.Signer = member.own
	noError(t, wrong.sign(member.signer))
	if err := hub.AttachGroupInfo(staged, wrong); !errors.Is(err, ErrUnknownSender) {
		t.Errorf("GroupInfo of one who is not the committer: %v", err)
	}
	noError(t, hub.AttachGroupInfo(staged, sc.GroupInfo))
	noError(t, hub.Merge(staged))
	gi, _ := hub.GroupInfo()
	equal(t, "attached GroupInfo", mustMarshal(gi), mustMarshal(sc.GroupInfo))
	if _, err := hub.CompleteGroupInfo(staged, good); !errors.Is(err, ErrWrongEpoch) {
		t.Errorf("completed after merging: %v", err)
	}
	// Any member may sign another one of the present epoch.
	w.deliver("m1", sc)
	gi, err = member.GroupInfo()
	noError(t, err)
	noError(t, hub.KeepGroupInfo(gi))
	kept, _ := hub.GroupInfo()
	equal(t, "kept GroupInfo", mustMarshal(kept), mustMarshal(gi))
	if err := hub.KeepGroupInfo(old); !errors.Is(err, ErrWrongEpoch) {
		t.Errorf("GroupInfo of an old epoch is kept: %v", err)
	}
	// A commit without any: it is not known, and the old one is not stored.
	records := storeRecords(nil, hub.Records(nil))
	last := hub.Clone()
	next, err := w.groups["m0"].Commit(CommitOptions{})
	noError(t, err)
	staged, err = hub.StageCommit(w.wire(next.Message))
	noError(t, err)
	noError(t, hub.Merge(staged))
	if _, ok := hub.GroupInfo(); ok {
		t.Error("the GroupInfo of the epoch before is given as the present one")
	}
	storeRecords(records, hub.Records(last))
	if !maps.EqualFunc(records, storeRecords(nil, hub.Records(nil)), bytes.Equal) {
		t.Error("records by steps differ from those at once")
	}
	if _, ok := records[keyGroupInfo]; ok {
		t.Error("an old GroupInfo stays stored")
	}
}

// opaqueValue encodes as opaque<V>.
type opaqueValue []byte

func (v opaqueValue) MarshalTLS(w *tlspl.Writer) { w.Opaque(v) }

// flipped returns a copy of b with one bit changed.
func flipped(b []byte) []byte {
	c := bytes.Clone(b)
	c[len(c)/2] ^= 1
	return c
}

func TestRatchetTreeOptionRefuses(t *testing.T) {
	for _, b := range [][]byte{{}, {0}, {2, 1, 'a', 0}, {3, 0}, {5}, {1}, {1, 0}, {1, 1, 0}, {4, 0}, {255}} {
		if err := Unmarshal(b, new(RatchetTreeOption)); err == nil {
			t.Errorf("%x is a RatchetTreeOption", b)
		}
	}
	for _, o := range []*RatchetTreeOption{{}, {Representation: 2}, {Representation: TreeFull}, {TreeDistributionService, RatchetTree{{}}}} {
		if _, err := Marshal(o); err == nil {
			t.Errorf("%+v has an encoding", o)
		}
	}
	for _, o := range []*RatchetTreeOption{{}, {Representation: 3}, {Representation: TreeFull}, {Representation: TreeDistributionService}} {
		if _, err := o.Nodes(nil); !errors.Is(err, ErrInvalidWelcome) {
			t.Errorf("%+v gives a tree: %v", o, err)
		}
	}
	for _, b := range [][]byte{{4, 0, 0}, {0, 0}, {0, 6, 0, 2, 1, 0, 0, 0, 0}, {0, 9, 0, 4, 1, 0, 0, 4, 1, 0, 0, 0}} {
		if err := Unmarshal(b, new(PartialGroupInfo)); err == nil {
			t.Errorf("%x is a PartialGroupInfo", b)
		}
	}
}
