package mls

import (
	"fmt"
	"testing"
)

// TestPublicGroupFollowsMembers lets a hub follow real members.
func TestPublicGroupFollowsMembers(t *testing.T) {
	for _, suite := range []CipherSuite{1, 2, 3} {
		t.Run(fmt.Sprint(suite), func(t *testing.T) {
			w := newWorld(t, suite)
			w.add("m0", "m1", "m2", "m3")
			info := func(name string) *GroupInfo {
				t.Helper()
				gi, err := w.groups[name].GroupInfo()
				noError(t, err)
				return gi
			}
			hub, err := NewPublicGroup(w.cfg, info("m1"), w.groups["m1"].State().RatchetTree())
			noError(t, err)
			enqueue := func(m *MLSMessage) {
				t.Helper()
				q, err := hub.Proposal(w.wire(m))
				noError(t, err)
				noError(t, hub.Enqueue(q))
			}
			follow := func(m *MLSMessage) *StagedCommit {
				t.Helper()
				sc, err := hub.StageCommit(w.wire(m))
				noError(t, err)
				noError(t, hub.Merge(sc))
				for name, g := range w.groups {
					equal(t, "GroupContext of "+name, g.State().encoded, hub.State().encoded)
					equal(t, "transcript of "+name, g.State().interim, hub.State().interim)
					noError(t, hub.VerifyGroupInfo(info(name)))
				}
				checkInvariants(t, hub.state.tree)
				return sc
			}
			follow(w.commit("m2", CommitOptions{}).Message)
			enqueue(w.propose("m3", SelfRemoveProposal()))
			d := w.device("m4")
			follow(w.commit("m1", CommitOptions{Proposals: []Proposal{AddProposal(d.kp)}}, d).Message)
			follow(w.commit("m4", CommitOptions{}).Message)
			x := w.device("m5")
			joined, sc, err := JoinExternal(w.cfg, info("m0"), hub.State().RatchetTree(), JoinParams{
				Signer: x.signer, Credential: BasicCredential([]byte("m5")),
			})
			noError(t, err)
			for name, g := range w.groups {
				got, err := g.StageCommit(w.wire(sc.Message))
				if err != nil {
					t.Fatalf("%s stages the external commit: %v", name, err)
				}
				noError(t, g.Merge(got))
			}
			w.groups["m5"] = joined
			if got := follow(sc.Message); !got.External || len(got.Added) != 1 {
				t.Fatalf("staged %+v", got)
			}
			last, err := w.groups["m5"].Commit(CommitOptions{Proposals: []Proposal{RemoveProposal(0)}})
			noError(t, err)
			if got, err := hub.StageCommit(w.wire(last.Message)); err != nil || len(got.Removed) != 1 {
				t.Fatalf("staged %+v, %v", got, err)
			}
		})
	}
}
