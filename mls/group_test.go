package mls

import (
	"fmt"
	"strings"
	"testing"
)

func TestGroupLife(t *testing.T) {
	for _, suite := range UsableCipherSuites() {
		t.Run(suite.String(), func(t *testing.T) { groupLife(t, newWorld(t, suite)) })
	}
}

// TestGroupLifeReloaded stores and loads every member after every step.
func TestGroupLifeReloaded(t *testing.T) {
	w := newWorld(t, X25519AES128SHA256Ed25519)
	w.stores = map[string]map[string][]byte{}
	w.stores["m0"] = map[string][]byte{}
	w.reload("m0")
	groupLife(t, w)
	for name, s := range w.stores {
		g := w.groups[name]
		if g == nil {
			for k := range s {
				if strings.HasPrefix(k, keySecret) || strings.HasPrefix(k, keyPast) || strings.HasPrefix(k, keyPending) {
					t.Errorf("%s was removed, but still stores %s", name, k)
				}
			}
			continue
		}
		epochs := map[string]bool{fmt.Sprintf("%016x", g.state.Epoch()): true}
		for _, p := range g.past {
			epochs[fmt.Sprintf("%016x", p.epoch)] = true
		}
		for k := range s {
			if rest, ok := strings.CutPrefix(k, keySecret); ok && !epochs[rest[:16]] {
				t.Errorf("%s still stores %s", name, k)
			}
		}
	}
}

func groupLife(t *testing.T, w *world) {
	w.check()
	w.add("m0", "m1")
	w.add("m1", "m2", "m3")
	w.commit("m3", CommitOptions{ForcePath: true})
	w.commit("m2", CommitOptions{})
	w.add("m0", "m4", "m5", "m6")
	w.commit("m4", CommitOptions{Proposals: []Proposal{RemoveProposal(w.groups["m1"].OwnLeaf())}})
	if _, ok := w.groups["m1"]; ok {
		t.Fatal("m1 is still there")
	}
	w.add("m5", "m7")
	w.propose("m2", RemoveProposal(w.groups["m3"].OwnLeaf()))
	w.propose("m6", SelfRemoveProposal())
	w.commit("m0", CommitOptions{})
	if len(w.names) != 5 {
		t.Fatalf("members are %v", w.names)
	}
	m, err := w.groups["m5"].ProposeUpdate(LeafParams{}, nil)
	noError(t, err)
	w.deliverProposal("m5", m)
	w.commit("m7", CommitOptions{})
	w.commit("m5", CommitOptions{ForcePath: true})
	w.propose("m4", AppDataUpdateProposal(testComponent, []byte("a")))
	sc := w.commit("m7", CommitOptions{Proposals: []Proposal{AppDataUpdateProposal(testComponent, []byte("b"))}})
	if sc.HasPath {
		t.Error("a commit of AppDataUpdate only has a path")
	}
	data, _ := w.groups["m4"].State().Dictionary().Get(testComponent)
	equal(t, "component data", data, []byte("ab"))
	nonce, err := NewPSKNonce(w.suite)
	noError(t, err)
	d := w.device("m8")
	w.commit("m0", CommitOptions{Proposals: []Proposal{
		PreSharedKeyProposal(PreSharedKeyID{Type: PSKExternal, ID: []byte("shared"), Nonce: nonce}),
		AddProposal(d.kp),
	}}, d)
}

func TestExternalJoin(t *testing.T) {
	w := newWorld(t, X25519AES128SHA256Ed25519)
	w.add("m0", "m1", "m2")
	leave := w.propose("m2", SelfRemoveProposal())
	gi, err := w.groups["m1"].GroupInfo()
	noError(t, err)
	d := w.device("m3")
	g, sc, err := JoinExternal(w.cfg, gi, w.groups["m0"].State().RatchetTree(), JoinParams{
		Signer: d.signer, Credential: BasicCredential([]byte("m3")),
		SelfRemoves: []*MLSMessage{w.wire(leave)},
		ByValue:     []Proposal{AppDataUpdateProposal(testComponent, []byte("joined"))},
	})
	noError(t, err)
	for _, n := range []string{"m0", "m1", "m2"} {
		got, err := w.groups[n].StageCommit(w.wire(sc.Message))
		noError(t, err)
		noError(t, w.groups[n].Merge(got))
		if got.SelfRemoved != (n == "m2") || !got.External {
			t.Errorf("%s: SelfRemoved %v, External %v", n, got.SelfRemoved, got.External)
		}
	}
	w.leave("m2")
	w.join("m3", g)
	w.check()
	w.commit("m3", CommitOptions{ForcePath: true})
	w.commit("m0", CommitOptions{ForcePath: true})

	// The same client resynchronises: its old leaf goes.
	gi, err = w.groups["m1"].GroupInfo()
	noError(t, err)
	d2 := w.device("m3")
	g, sc, err = JoinExternal(w.cfg, gi, w.groups["m0"].State().RatchetTree(), JoinParams{
		Signer: d2.signer, Credential: BasicCredential([]byte("m3")),
		ByValue: []Proposal{RemoveProposal(w.groups["m3"].OwnLeaf())},
	})
	noError(t, err)
	for _, n := range []string{"m0", "m1", "m3"} {
		got, err := w.groups[n].StageCommit(w.wire(sc.Message))
		noError(t, err)
		noError(t, w.groups[n].Merge(got))
	}
	if w.groups["m3"].IsMember() {
		t.Error("the replaced client is still a member")
	}
	w.leave("m3")
	w.join("m3", g)
	w.check()
}

func TestLargerGroups(t *testing.T) {
	w := newWorld(t, X25519AES128SHA256Ed25519)
	for i := 1; i < 20; i++ {
		w.add(w.names[(i*7)%len(w.names)], fmt.Sprintf("m%d", i))
	}
	for i := 0; len(w.names) > 2; i++ {
		by, victim := w.names[(i*3)%len(w.names)], w.names[(i*5+1)%len(w.names)]
		if by == victim {
			w.commit(by, CommitOptions{})
			continue
		}
		w.commit(by, CommitOptions{Proposals: []Proposal{RemoveProposal(w.groups[victim].OwnLeaf())}})
	}
}
