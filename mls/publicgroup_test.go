package mls

import (
	"bytes"
	"slices"
	"testing"
)

func TestPublicGroupFollows(t *testing.T) {
	w := grownHubWorld(t, 7)
	s := w.group.State()
	if s.NumMembers() != 7 || s.Epoch() != 12 {
		t.Fatalf("%d members in epoch %d", s.NumMembers(), s.Epoch())
	}
	for l, leaf := range s.Members() {
		if string(leaf.Credential.Identity) != w.who[l].name {
			t.Fatalf("leaf %d is %q, want %q", l, leaf.Credential.Identity, w.who[l].name)
		}
		if at, ok := s.FindSignatureKey(leaf.SignatureKey); !ok || at != l {
			t.Fatalf("signature key of leaf %d found at %d, %v", l, at, ok)
		}
	}
	checkInvariants(t, s.tree)
	noError(t, s.tree.verifyStructure(100))

	// One commit with a bit of everything.
	joiner, other := w.newParty("7"), w.newParty("8")
	list := []ProposalOrRef{
		w.propose(w.who[1], updateProposal(w.updateLeaf(w.who[1], nil))),
		w.propose(w.who[2], SelfRemoveProposal()),
		w.propose(w.who[4], AddProposal(joiner.keyPackage)),
		w.propose(w.who[4], AppDataUpdateProposal(hubComponent, []byte("one "))),
	}
	list = append(list, w.value(
		RemoveProposal(3), AddProposal(other.keyPackage), AppDataUpdateProposal(hubComponent, []byte("two")),
		AppEphemeralProposal(hubComponent, []byte("note")),
	)...)
	before := snapshot(t, w.group)
	sc := w.stage(w.commit(w.who[0], list...))
	if snapshot(t, w.group) != before {
		t.Fatal("staging a commit changed the group")
	}
	if !slices.Equal(sc.Added, []LeafIndex{2, 3}) || !slices.Equal(sc.Updated, []LeafIndex{1}) || len(sc.Proposals) != len(list) || sc.External || sc.Committer != 0 || !sc.HasPath {
		t.Fatalf("staged %+v", sc)
	}
	var removed []LeafIndex
	for _, r := range sc.Removed {
		removed = append(removed, r.Index)
		if leaf, _ := sc.Before.Member(r.Index); !bytes.Equal(mustMarshal(leaf), mustMarshal(r.Leaf)) {
			t.Fatalf("removed leaf %d is not that of the state before", r.Index)
		}
	}
	if !slices.Equal(removed, []LeafIndex{2, 3}) {
		t.Fatalf("removed %v", removed)
	}
	if data, _ := sc.After.Dictionary().Get(hubComponent); string(data) != "one two" {
		t.Fatalf("component data %q", data)
	}
	w.merge(sc, joiner, other)
	if len(w.group.Pending()) != 0 {
		t.Fatal("proposals are pending after a commit")
	}
	checkInvariants(t, w.group.State().tree)
	noError(t, w.group.State().tree.verifyStructure(100))
	noError(t, w.group.VerifyGroupInfo(w.groupInfoOf(w.group.State(), joiner)))
}

func TestPublicGroupExternalCommits(t *testing.T) {
	w := grownHubWorld(t, 5)
	joiner := w.newParty("new")
	sc := w.stage(w.externalCommit(joiner,
		append(w.value(AppDataUpdateProposal(hubComponent, []byte("x"))), w.propose(w.who[1], SelfRemoveProposal()))...))
	if !sc.External || sc.Committer != 1 || !slices.Equal(sc.Added, []LeafIndex{1}) || len(sc.Removed) != 1 || sc.Removed[0].Index != 1 {
		t.Fatalf("staged %+v", sc)
	}
	w.merge(sc, joiner)
	w.merge(w.stage(w.commit(joiner)))

	// The same client joins again in place of its old leaf.
	old := w.who[3]
	again := &party{name: old.name, signer: old.signer}
	sc = w.stage(w.externalCommit(again, w.value(RemoveProposal(3))...))
	if sc.Committer != 3 || sc.After.NumMembers() != 5 {
		t.Fatalf("staged %+v", sc)
	}
	w.merge(sc, again)
	checkInvariants(t, w.group.State().tree)
	noError(t, w.group.State().tree.verifyStructure(100))
}

func TestPublicGroupCommitWithoutPath(t *testing.T) {
	w := grownHubWorld(t, 3)
	p := w.newParty("p")
	m := w.rawCommit(w.who[1], &Commit{Proposals: w.value(AddProposal(p.keyPackage), AppDataUpdateProposal(hubComponent, []byte("x")))})
	sc := w.stage(m)
	if sc.HasPath || !slices.Equal(sc.Added, []LeafIndex{3}) {
		t.Fatalf("staged %+v", sc)
	}
	w.merge(sc, p)
	if n := w.group.State().tree.rootParent(); n == nil || !slices.Equal(n.UnmergedLeaves, []LeafIndex{3}) {
		t.Fatalf("root %+v: leaf 3 is not unmerged", n)
	}
	w.merge(w.stage(w.commit(p)))
	noError(t, w.group.State().tree.verifyStructure(100))
}

func TestMembersDecryptPaths(t *testing.T) {
	w := grownHubWorld(t, 6)
	p := w.newParty("p")
	w.merge(w.stage(w.rawCommit(w.who[1], &Commit{Proposals: w.value(AddProposal(p.keyPackage))})), p)
	for l := range LeafIndex(7) {
		w.merge(w.stage(w.commit(w.who[l])))
	}
	joiner := w.newParty("joiner")
	list := w.value(RemoveProposal(2), AddProposal(joiner.keyPackage))
	pr, created := w.path(w.who[0], MemberSender(0), list)
	received, err := w.group.state.stageProposals(w.group.cfg, pr.proposals, MemberSender(0))
	noError(t, err)
	noError(t, received.applyPath(created.path))
	equal(t, "tree hash", received.tree.treeHash(), pr.tree.treeHash())
	readers := 0
	for l, m := range w.who {
		if l == 0 || l == 2 {
			continue
		}
		secret, keys, err := received.decryptPath(created.path, l, m.keys.prune(received.tree))
		noError(t, err)
		equal(t, "commit secret", secret, created.commitSecret)
		noError(t, keys.check(received.tree))
		readers++
	}
	if readers != 5 {
		t.Fatalf("%d members read the path", readers)
	}
	// The one who is removed and the one who is added have no way in.
	if _, _, err := received.decryptPath(created.path, 2, w.who[2].keys); err == nil {
		t.Fatal("a removed member reads the path")
	}
	if _, _, err := received.decryptPath(created.path, 2, treeKeys{leafPosition(2): joiner.private}); err == nil {
		t.Fatal("an added member reads the path")
	}
	secret, ok := created.secretFor(2)
	if !ok {
		t.Fatal("no path secret for the added member")
	}
	keys := treeKeys{leafPosition(2): joiner.private}
	noError(t, received.tree.implant(keys, 2, 0, secret))
	noError(t, keys.check(received.tree))
	if len(keys) < 3 {
		t.Fatalf("the added member has %d keys", len(keys))
	}
	bad := bytes.Clone(secret)
	bad[0] ^= 1
	if err := received.tree.implant(treeKeys{}, 2, 0, bad); err == nil {
		t.Fatal("a wrong path secret is accepted")
	}
}
