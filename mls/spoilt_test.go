package mls

import (
	"bytes"
	"errors"
	"testing"
)

// spoil returns the message with another membership tag.
func (w *world) spoil(m *MLSMessage) *MLSMessage {
	w.Helper()
	bad := w.wire(m)
	bad.PublicMessage.MembershipTag = bytes.Repeat([]byte{7}, len(bad.PublicMessage.MembershipTag))
	return bad
}

// receive lets name take a proposal.
func (w *world) receive(name string, m *MLSMessage) *QueuedProposal {
	w.Helper()
	q, err := w.groups[name].Proposal(w.wire(m))
	noError(w, err)
	noError(w, w.groups[name].Enqueue(q))
	w.reload(name)
	return q
}

// spoiltWorld is a group of four in which m2 leaves by a SelfRemove, of which
// the test makes what it wants. Members are stored and loaded all the time.
func spoiltWorld(t *testing.T) (w *world, hub *PublicGroup, leave *MLSMessage) {
	w = newWorld(t, suite1)
	w.stores = map[string]map[string][]byte{"m0": {}}
	w.reload("m0")
	w.add("m0", "m1", "m2", "m3")
	leave, err := w.groups["m2"].Propose(SelfRemoveProposal(), nil)
	noError(t, err)
	w.reload("m2")
	return w, w.public(), leave
}

// A member whose SelfRemove has a wrong membership tag, which neither the hub
// nor an external joiner can see, does not stop the group: whoever joins
// names it, and members follow.
func TestSpoiltSelfRemoveInExternalCommit(t *testing.T) {
	w, hub, leave := spoiltWorld(t)
	bad := w.spoil(leave)
	q, err := hub.Proposal(w.wire(bad))
	noError(t, err)
	noError(t, hub.Enqueue(q))
	for _, n := range []string{"m0", "m1", "m3"} {
		if q := w.receive(n, bad); !q.Spoilt {
			t.Fatalf("%s does not see that the tag is wrong", n)
		}
		if p := w.groups[n].Pending(); len(p) != 1 || !p[0].Spoilt {
			t.Fatalf("%s: pending %+v", n, p)
		}
	}
	gi, err := w.groups["m1"].GroupInfo()
	noError(t, err)
	d := w.device("m4")
	g, sc, err := JoinExternal(w.cfg, gi, hub.State().RatchetTree(), JoinParams{
		Signer: d.signer, Credential: BasicCredential([]byte("m4")), SelfRemoves: []*MLSMessage{w.wire(bad)},
	})
	noError(t, err)
	_, err = hub.StageCommit(w.wire(sc.Message))
	noError(t, err)
	for _, n := range []string{"m0", "m1", "m2", "m3"} {
		got, err := w.groups[n].StageCommit(w.wire(sc.Message))
		if err != nil {
			t.Fatalf("%s: %v", n, err)
		}
		noError(t, w.groups[n].Merge(got))
		if got.SelfRemoved != (n == "m2") {
			t.Errorf("%s: SelfRemoved %v", n, got.SelfRemoved)
		}
		w.reload(n)
	}
	w.leave("m2")
	w.join("m4", g)
	w.check()

	// It takes effect only by a commit whose tag verifies.
	w2, _, leave := spoiltWorld(t)
	q = w2.receive("m0", w2.spoil(leave))
	w2.receive("m1", w2.spoil(leave))
	commit := &Commit{Proposals: []ProposalOrRef{{Reference: q.Ref}}}
	p, err := w2.groups["m0"].state.stageProposals(w2.groups["m0"].cfg, w2.groups["m0"].Pending(), MemberSender(0))
	noError(t, err)
	leaf, signer := w2.groups["m0"].template(nil)
	path, err := p.createPath(leaf, signer)
	noError(t, err)
	commit.Path = path.path
	w2.refuses("m1", forge(t, w2.groups["m0"], commit, nil), ErrInvalidCommit)
}

// An own commit never names a spoilt SelfRemove; a Remove by value may take
// its place, and other proposals do not suffer.
func TestCommitLeavesOutSpoiltSelfRemove(t *testing.T) {
	w, _, leave := spoiltWorld(t)
	bad := w.spoil(leave)
	for _, n := range []string{"m0", "m1", "m3"} {
		w.receive(n, bad)
	}
	w.groups["m2"].pending = proposalCache{} // m2 pretends that it never left
	w.stores["m2"] = map[string][]byte{}
	w.groups["m2"].saved = savedGroup{}
	for _, tree := range []*secretTree{w.groups["m2"].tree} {
		for i := range tree.nodes {
			tree.dirtyNodes[i] = true
		}
		for l := range tree.senders {
			tree.dirtySenders[l] = true
		}
	}
	w.reload("m2")
	w.propose("m1", AppDataUpdateProposal(testComponent, []byte("x")))
	sc := w.commit("m0", CommitOptions{})
	if len(sc.Removed) != 0 || len(sc.Proposals) != 1 {
		t.Errorf("the commit removes %v by %d proposals", sc.Removed, len(sc.Proposals))
	}
	m, err := w.groups["m2"].Propose(SelfRemoveProposal(), nil)
	noError(t, err)
	w.reload("m2")
	for _, n := range []string{"m0", "m1", "m3"} {
		w.receive(n, w.spoil(m))
	}
	sc = w.commit("m1", CommitOptions{Proposals: []Proposal{RemoveProposal(w.groups["m2"].OwnLeaf())}})
	if len(sc.Removed) != 1 || w.groups["m2"] != nil {
		t.Errorf("removed %v", sc.Removed)
	}
}

// The reference does not cover the tag: the same SelfRemove with the right tag
// takes the place of the spoilt one, and never the other way round.
func TestSpoiltSelfRemoveIsReplaced(t *testing.T) {
	for _, spoiltFirst := range []bool{true, false} {
		w, _, leave := spoiltWorld(t)
		bad := w.spoil(leave)
		order := []*MLSMessage{bad, leave, bad}
		if !spoiltFirst {
			order = []*MLSMessage{leave, bad, leave}
		}
		for i, m := range order {
			for _, n := range []string{"m0", "m1", "m3"} {
				w.receive(n, m)
				p := w.groups[n].Pending()
				if want := spoiltFirst && i == 0; len(p) != 1 || p[0].Spoilt != want {
					t.Fatalf("%s after message %d: %+v", n, i, p)
				}
			}
		}
		sc := w.commit("m3", CommitOptions{})
		if len(sc.Removed) != 1 || len(w.names) != 3 {
			t.Errorf("removed %v", sc.Removed)
		}
	}
}

// Only a SelfRemove is taken in spite of its tag, and only if all else is
// right.
func TestSpoiltProposalsAreRefused(t *testing.T) {
	w, hub, leave := spoiltWorld(t)
	g := w.groups["m0"]
	before := groupImage(t, g)
	refuse := func(what string, m *MLSMessage, want error) {
		t.Helper()
		if _, err := g.Proposal(w.wire(m)); !errors.Is(err, want) {
			t.Errorf("%s: got %v; want %v", what, err, want)
		}
		if !bytes.Equal(before, groupImage(t, g)) {
			t.Errorf("%s changed the group", what)
		}
	}
	remove, err := w.groups["m1"].Propose(RemoveProposal(0), nil)
	noError(t, err)
	refuse("a Remove", w.spoil(remove), ErrInvalidMessage)
	bad := w.spoil(leave)
	bad.PublicMessage.Auth.Signature[3] ^= 1
	refuse("a signature", bad, ErrInvalidSignature)
	bad = w.spoil(leave)
	bad.PublicMessage.MembershipTag = bad.PublicMessage.MembershipTag[1:]
	refuse("a short tag", bad, ErrInvalidMessage)
	if _, err := hub.Proposal(w.wire(bad)); !errors.Is(err, ErrInvalidMessage) {
		t.Errorf("the hub takes a short tag: %v", err)
	}
	bad = w.spoil(leave)
	bad.PublicMessage.Content.raw = nil
	bad.PublicMessage.Content.Sender.Leaf = 1
	refuse("another sender", bad, ErrInvalidSignature)
	commit, err := w.groups["m1"].Commit(CommitOptions{})
	noError(t, err)
	w.refuses("m0", w.spoil(commit.Message), ErrInvalidMessage)
}
