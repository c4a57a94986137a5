package mls

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
)

// TestDiscard drops staged commits, own ones and received ones, and expects
// their secrets to be gone and the group to go on with its own.
func TestDiscard(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	alice, bob := w.groups["m0"], w.groups["m1"]
	update, err := bob.ProposeUpdate(LeafParams{}, nil)
	noError(t, err)
	q, err := alice.Proposal(update)
	noError(t, err)
	noError(t, alice.Enqueue(q))
	own, err := alice.Commit(CommitOptions{})
	noError(t, err)
	received, err := bob.StageCommit(own.Message)
	noError(t, err)
	for name, c := range map[string]struct {
		g  *Group
		sc *StagedCommit
	}{"own": {alice, own}, "received": {bob, received}} {
		p := c.sc.private
		dead := [][]byte{p.secrets.init, p.secrets.encryption, p.secrets.exporter, p.secrets.confirmation}
		for x, k := range p.keys {
			if old := c.g.keys[x]; len(old) > 0 && &old[0] == &k[0] {
				continue
			}
			if slices.ContainsFunc(slices.Collect(valuesOf(c.g.updates)), func(u []byte) bool { return &u[0] == &k[0] }) {
				continue
			}
			dead = append(dead, k)
		}
		c.g.Discard(c.sc)
		c.g.Discard(c.sc) // harmless
		for i, secret := range dead {
			if !bytes.Equal(secret, make([]byte, len(secret))) {
				t.Errorf("%s commit: secret %d of %d is still there", name, i, len(dead))
			}
		}
		if err := c.g.Merge(c.sc); !errors.Is(err, ErrInvalidCommit) {
			t.Errorf("%s commit: merged after it was discarded: %v", name, err)
		}
	}
	// The keys that the dropped commits shared with their groups still work.
	w.commit("m2", CommitOptions{SkipPending: true})
	w.check()
}

func valuesOf(m map[string][]byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// TestStatesAreSharedSafely stages the commits of many members on one State
// at once. It replaces the index of keys meanwhile, since most of what is in
// it belongs to commits that were dropped. The race detector does the rest.
func TestStatesAreSharedSafely(t *testing.T) {
	w := newBenchGroup(t, 12, true)
	c, err := w.cfg.withDefaults()
	noError(t, err)
	hub := &PublicGroup{cfg: c, state: w.state}
	var messages []*MLSMessage
	for i := range 60 {
		sc, err := w.member(LeafIndex(i % 12)).Commit(CommitOptions{})
		noError(t, err)
		messages = append(messages, sc.Message)
	}
	before := w.state.tree.index.Load()
	var group sync.WaitGroup
	for n := range 4 {
		g := hub.Clone()
		group.Go(func() {
			for i := range messages {
				m := messages[(i+15*n)%len(messages)]
				sc, err := g.StageCommit(m)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := (&PublicGroup{cfg: c, state: sc.After}).StageCommit(m); !errors.Is(err, ErrWrongEpoch) {
					t.Errorf("the commit again: %v", err)
				}
			}
		})
	}
	group.Wait()
	if w.state.tree.index.Load() == before {
		t.Error("the index was not replaced: commit more")
	}
	checkInvariants(t, w.state.tree)
}
