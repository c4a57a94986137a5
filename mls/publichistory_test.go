package mls

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestRandomHistories drives groups through random commits. Every member
// reads every path, a hub that only loads and stores records stays in step,
// and every tree is valid for one who joins.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			w := newHubWorld(t)
			records := storeRecords(nil, w.group.Records(nil))
			for i := range 30 {
				before := w.group.Clone()
				sc, joiners := w.randomCommit(r, i)
				w.merge(sc, joiners...)
				checkInvariants(t, w.group.state.tree)

				storeRecords(records, w.group.Records(before))
				loaded, err := LoadPublicGroup(w.cfg, records)
				noError(t, err)
				if snapshot(t, loaded) != snapshot(t, w.group) {
					t.Fatal("the stored group differs")
				}
				if i%10 == 9 {
					members := slices.Collect(maps.Values(w.who))
					gi := w.groupInfoOf(w.group.state, members[0])
					joined, err := NewPublicGroup(w.cfg, gi, w.group.state.RatchetTree())
					noError(t, err)
					if !bytes.Equal(joined.state.interim, w.group.state.interim) {
						t.Fatal("the transcript of one who joins differs")
					}
					w.group = loaded // go on with what was stored
				}
			}
		})
	}
}

// randomCommit stages a commit of random proposals by a random member, or an
// external one.
func (w *hubWorld) randomCommit(r *rand.Rand, step int) (*StagedCommit, []*party) {
	w.t.Helper()
	leaves := slices.Sorted(maps.Keys(w.who))
	r.Shuffle(len(leaves), func(i, j int) { leaves[i], leaves[j] = leaves[j], leaves[i] })
	committer, others := w.who[leaves[0]], leaves[1:]
	next := func() (*party, bool) { // a member that nothing else applies to
		if len(others) == 0 {
			return nil, false
		}
		p := w.who[others[0]]
		others = others[1:]
		return p, true
	}
	name := func(i int) string { return fmt.Sprintf("%d.%d", step, i) }

	if r.IntN(5) == 0 {
		var list []ProposalOrRef
		joiner := w.newParty(name(0))
		if p, ok := next(); ok && r.IntN(2) == 0 {
			list = append(list, w.propose(p, SelfRemoveProposal()))
		}
		if p, ok := next(); ok && r.IntN(2) == 0 {
			joiner = &party{name: p.name, signer: p.signer}
			list = append(list, w.value(RemoveProposal(p.leaf))...)
		}
		return w.stage(w.externalCommit(joiner, list...)), []*party{joiner}
	}

	var list []ProposalOrRef
	var joiners []*party
	needsPath := r.IntN(2) == 0
	for i := range r.IntN(5) {
		switch r.IntN(6) {
		case 0, 1:
			p := w.newParty(name(i))
			joiners = append(joiners, p)
			list = append(list, w.value(AddProposal(p.keyPackage))...)
		case 2:
			if p, ok := next(); ok {
				list, needsPath = append(list, w.propose(p, updateProposal(w.updateLeaf(p, nil)))), true
			}
		case 3:
			if p, ok := next(); ok {
				list, needsPath = append(list, w.value(RemoveProposal(p.leaf))...), true
			}
		case 4:
			if p, ok := next(); ok {
				list, needsPath = append(list, w.propose(p, SelfRemoveProposal())), true
			}
		case 5:
			list = append(list, w.propose(committer, AppDataUpdateProposal(hubComponent, []byte(name(i)))))
		}
	}
	if len(list) == 0 || needsPath {
		return w.stage(w.commit(committer, list...)), joiners
	}
	return w.stage(w.rawCommit(committer, &Commit{Proposals: list})), joiners
}
