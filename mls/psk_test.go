package mls

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// freshPSK returns id with a fresh nonce.
func (w *world) freshPSK(id PreSharedKeyID) Proposal {
	w.Helper()
	nonce, err := NewPSKNonce(w.suite)
	noError(w, err)
	id.Nonce = nonce
	return PreSharedKeyProposal(id)
}

// Keys of every type are mixed in by value and by reference, and into the
// commits of those who join; a newcomer gets those of the group's own history
// from Config.PSK.
func TestPreSharedKeysOfEveryType(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1")
	w.stores = map[string]map[string][]byte{"m0": {}, "m1": {}}
	w.reload("m0")
	w.reload("m1")
	w.commit("m1", CommitOptions{})
	g := w.groups["m0"]
	past, err := g.ResumptionPSK(g.State().Epoch() - 1)
	noError(t, err)
	pastEpoch := g.State().Epoch() - 1
	other, err := CreateGroup(w.cfg, GroupParams{CipherSuite: suite1, GroupID: []byte("other"), Signer: someSigner(t), Credential: BasicCredential([]byte("m0"))})
	noError(t, err)
	ofOther, err := other.ResumptionPSK(0)
	noError(t, err)
	asked := 0
	known := func(id *PreSharedKeyID) ([]byte, error) {
		asked++
		switch {
		case id.Type == PSKExternal && string(id.ID) == "shared", id.Type == PSKApplication && id.ComponentID == testComponent:
			return []byte("the shared secret of this test"), nil
		case id.Type == PSKResumption && id.Usage == ResumptionApplication && string(id.GroupID) == "other" && id.Epoch == 0:
			return ofOther, nil
		case id.Type == PSKResumption && id.Usage == ResumptionApplication && string(id.GroupID) == "room" && id.Epoch == pastEpoch:
			return past, nil // only newcomers ask
		}
		return nil, fmt.Errorf("no key %+v", id)
	}
	for _, n := range w.names {
		w.groups[n].cfg.PSK = known
	}
	w.cfg.PSK = known
	ids := map[string]PreSharedKeyID{
		"external":         {Type: PSKExternal, ID: []byte("shared")},
		"application":      {Type: PSKApplication, ComponentID: testComponent, ID: []byte("x")},
		"of another group": {Type: PSKResumption, Usage: ResumptionApplication, GroupID: []byte("other"), Epoch: 0},
		"of a past epoch":  {Type: PSKResumption, Usage: ResumptionApplication, GroupID: []byte("room"), Epoch: pastEpoch},
	}
	var all []Proposal
	for _, name := range []string{"external", "of another group", "of a past epoch", "application"} {
		all = append(all, w.freshPSK(ids[name]))
	}
	// By reference and by value, in one commit, with a newcomer.
	w.propose("m1", all[0])
	w.propose("m0", all[2])
	d := w.device("m2")
	sc := w.commit("m0", CommitOptions{Proposals: []Proposal{all[1], AddProposal(d.kp), all[3]}}, d)
	if len(sc.Proposals) != 5 || asked == 0 {
		t.Fatalf("%d proposals, asked %d times", len(sc.Proposals), asked)
	}
	// In an external commit; the past epoch is still kept by members.
	for name := range ids {
		gi, err := w.groups["m1"].GroupInfo()
		noError(t, err)
		joiner := w.device("j " + name)
		n, sc, err := JoinExternal(w.cfg, gi, w.groups["m1"].State().RatchetTree(), JoinParams{
			Signer: joiner.signer, Credential: BasicCredential([]byte(joiner.name)), ByValue: []Proposal{w.freshPSK(ids[name])},
		})
		noError(t, err)
		got, err := w.groups["m1"].StageCommit(w.wire(sc.Message))
		if err != nil {
			t.Fatalf("%s in an external commit: %v", name, err)
		}
		equal(t, name, got.After.encoded, n.state.encoded)
	}
	// Whoever has another key does not follow.
	deaf := *w.groups["m1"].cfg
	deaf.PSK = func(id *PreSharedKeyID) ([]byte, error) { return []byte("another key"), nil }
	sc, err = w.groups["m0"].Commit(CommitOptions{Proposals: []Proposal{w.freshPSK(ids["external"])}})
	noError(t, err)
	other2 := *w.groups["m1"]
	other2.cfg = &deaf
	if _, err := other2.StageCommit(w.wire(sc.Message)); !errors.Is(err, ErrInvalidCommit) {
		t.Errorf("with another key: %v", err)
	}
}

// Resumption keys are kept as long as their epoch, and belong to their group.
func TestResumptionKeysOfPastEpochs(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1")
	first := w.groups["m0"].State().Epoch()
	id := PreSharedKeyID{Type: PSKResumption, Usage: ResumptionApplication, GroupID: []byte("room"), Epoch: first}
	keys := map[string][]byte{}
	for range 3 {
		for _, n := range w.names {
			k, err := w.groups[n].ResumptionPSK(first)
			noError(t, err)
			if keys[n] != nil {
				equal(t, "resumption key of "+n, k, keys[n])
			}
			keys[n] = k
			k[0] ^= 1 // a copy
			k[0] ^= 1
		}
		w.commit("m1", CommitOptions{Proposals: []Proposal{w.freshPSK(id)}})
	}
	equal(t, "resumption key", keys["m0"], keys["m1"])
	w.commit("m0", CommitOptions{})
	_, err := w.groups["m0"].ResumptionPSK(first)
	refused(t, "an epoch that is gone", err, ErrPSK)
	_, err = w.groups["m0"].ResumptionPSK(w.groups["m0"].State().Epoch() + 1)
	refused(t, "an epoch to come", err, ErrPSK)
	_, err = w.groups["m0"].Commit(CommitOptions{Proposals: []Proposal{w.freshPSK(id)}})
	refused(t, "commit", err, ErrPSK)
	w.refuses("m1", forge(t, w.groups["m0"], byValue(w.freshPSK(id)), nil), ErrPSK)
}

// A PreSharedKeyID occurs once in a commit; its nonce is as long as a hash.
func TestPreSharedKeyNonces(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1")
	g, hub := w.groups["m0"], w.public()
	id := PreSharedKeyID{Type: PSKExternal, ID: []byte("shared")}
	refuse := func(what string, c *Commit) {
		t.Helper()
		m := forge(t, g, c, nil)
		w.refuses("m1", m, ErrInvalidProposal)
		_, err := hub.StageCommit(w.wire(m))
		refused(t, "hub, "+what, err, ErrInvalidProposal)
	}
	one := w.freshPSK(id)
	refuse("twice", byValue(one, one))
	for _, n := range []int{0, 1, 31, 33, 64} {
		long := id
		long.Nonce = bytes.Repeat([]byte{1}, n)
		refuse(fmt.Sprintf("nonce of %d", n), byValue(PreSharedKeyProposal(long)))
		_, err := g.Propose(PreSharedKeyProposal(long), nil)
		refused(t, "Propose", err, ErrInvalidProposal)
	}
	w.commit("m0", CommitOptions{Proposals: []Proposal{w.freshPSK(id), w.freshPSK(id)}}) // other nonces
	// By reference and by value it is the same key.
	m := w.propose("m1", w.freshPSK(id))
	_, err := g.Commit(CommitOptions{Proposals: []Proposal{*m.PublicMessage.Content.Proposal}})
	refused(t, "by reference and by value", err, ErrInvalidProposal)
}
