package mls

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
)

// storeRecords applies records to a store.
func storeRecords(s map[string][]byte, r Records) map[string][]byte {
	if s == nil {
		s = make(map[string][]byte)
	}
	for _, key := range r.Delete {
		delete(s, key)
	}
	for _, p := range r.Put {
		s[p.Key] = p.Value
	}
	return s
}

func TestPublicGroupRecords(t *testing.T) {
	w := newHubWorld(t)
	records := storeRecords(nil, w.group.Records(nil))
	last := w.group.Clone()
	save := func() Records {
		t.Helper()
		r := w.group.Records(last)
		for _, key := range r.Delete {
			if _, ok := records[key]; !ok {
				t.Fatalf("record %q is deleted, but was not stored", key)
			}
		}
		storeRecords(records, r)
		last = w.group.Clone()
		if all := storeRecords(nil, w.group.Records(nil)); !maps.EqualFunc(all, records, bytes.Equal) {
			t.Fatalf("records by steps are %v, at once %v", slices.Sorted(maps.Keys(records)), slices.Sorted(maps.Keys(all)))
		}
		again, err := LoadPublicGroup(w.cfg, records)
		noError(t, err)
		if snapshot(t, again) != snapshot(t, w.group) {
			t.Fatal("the loaded group differs")
		}
		checkInvariants(t, again.state.tree)
		return r
	}
	for i := range 9 {
		p := w.newParty(fmt.Sprint(i + 1))
		w.merge(w.stage(w.commit(w.who[0], w.value(AddProposal(p.keyPackage))...)), p)
		save()
		w.merge(w.stage(w.commit(p)))
		save()
	}
	ref := w.propose(w.who[2], SelfRemoveProposal())
	w.propose(w.who[3], AppDataUpdateProposal(hubComponent, []byte("x")))
	save()
	if r := w.group.Records(last); !r.Empty() {
		t.Fatalf("records without a change: %+v", r)
	}
	// A loaded group goes on where the stored one was.
	var err error
	w.group, err = LoadPublicGroup(w.cfg, records)
	noError(t, err)
	if len(w.group.Pending()) != 2 {
		t.Fatalf("%d proposals are pending after loading", len(w.group.Pending()))
	}
	last = w.group.Clone()
	w.merge(w.stage(w.commit(w.who[1], ref)))
	save()
	for _, l := range []LeafIndex{9, 8, 7} { // shrink the tree
		w.merge(w.stage(w.commit(w.who[1], w.value(RemoveProposal(l))...)))
		save()
	}
	if w.group.state.tree.depth != 3 {
		t.Fatalf("depth %d after removals", w.group.state.tree.depth)
	}
}

func TestRecordsOfOneCommitAreFew(t *testing.T) {
	w := grownHubWorld(t, 16)
	last := w.group.Clone()
	w.merge(w.stage(w.commit(w.who[3])))
	r := w.group.Records(last)
	// The header, one leaf, and its four parents.
	if len(r.Put) != 6 || len(r.Delete) != 0 {
		t.Fatalf("%d records put and %d deleted by an empty commit", len(r.Put), len(r.Delete))
	}
}

func TestLoadRefusesDamage(t *testing.T) {
	w := grownHubWorld(t, 5)
	w.propose(w.who[2], SelfRemoveProposal())
	w.propose(w.who[3], SelfRemoveProposal())
	noError(t, w.group.KeepGroupInfo(w.groupInfoOf(w.group.State(), w.who[1])))
	good := storeRecords(nil, w.group.Records(nil))
	for key := range good {
		t.Run("without "+key, func(t *testing.T) {
			bad := maps.Clone(good)
			delete(bad, key)
			if key == positionKey(keyProposal, 1) || key == keyGroupInfo {
				return // the end of the list, and what need not be there, cannot be missed
			}
			if _, err := LoadPublicGroup(w.cfg, bad); !errors.Is(err, ErrState) {
				t.Fatalf("loaded: %v", err)
			}
		})
		t.Run("changed "+key, func(t *testing.T) {
			for i := range good[key] {
				if key == keyState && i > 60 {
					break // tags are only compared with messages
				}
				bad := maps.Clone(good)
				bad[key] = bytes.Clone(good[key])
				bad[key][i] ^= 0x55
				if g, err := LoadPublicGroup(w.cfg, bad); err == nil && snapshot(t, g) == snapshot(t, w.group) {
					t.Fatalf("octet %d does not matter", i)
				} else if err == nil && key != keyState && key[:len(keyProposal)] != keyProposal {
					t.Fatalf("octet %d of a tree node can be changed", i)
				}
			}
		})
	}
	for _, key := range []string{"node/zz", "node/1", "node/ffffffff", "proposal/1"} {
		bad := maps.Clone(good)
		bad[key] = []byte{1}
		if _, err := LoadPublicGroup(w.cfg, bad); !errors.Is(err, ErrState) {
			t.Errorf("record %q: %v", key, err)
		}
	}
	ok := maps.Clone(good)
	ok["other"] = []byte{1}
	if _, err := LoadPublicGroup(w.cfg, ok); err != nil {
		t.Errorf("unknown record: %v", err)
	}
}
