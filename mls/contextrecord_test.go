package mls

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"testing"
)

// Extensions that are large are stored when they change, by hub and member,
// and as long as the records of a past epoch need them.
func TestLargeExtensionsAreStoredOnce(t *testing.T) {
	const large = 20_000
	w := newWorld(t, suite1)
	w.stores = map[string]map[string][]byte{"m0": {}}
	w.reload("m0")
	w.add("m0", "m1")
	hub := w.newFollower(w.cfg)
	records := storeRecords(nil, hub.Records(nil))
	commit := func(grows bool) {
		t.Helper()
		var o CommitOptions
		if grows {
			o.Proposals = []Proposal{AppDataUpdateProposal(testComponent, bytes.Repeat([]byte("x"), large))}
		}
		g := w.groups["m0"]
		sc, err := g.Commit(o)
		noError(t, err)
		last := hub.Clone()
		staged, err := hub.StageCommit(w.wire(sc.Message))
		noError(t, err)
		noError(t, hub.Merge(staged))
		r := hub.Records(last)
		if n := r.octets(); (n > large) != grows {
			t.Errorf("the hub writes %d octets; the extensions changed: %v", n, grows)
		}
		for _, key := range r.Delete {
			if _, ok := records[key]; !ok {
				t.Errorf("record %q is deleted, but was not stored", key)
			}
		}
		storeRecords(records, r)
		if all := storeRecords(nil, hub.Records(nil)); !maps.EqualFunc(all, records, bytes.Equal) {
			t.Fatal("records by steps differ from those at once")
		}
		if hub, err = LoadPublicGroup(w.cfg, records); err != nil {
			t.Fatal(err)
		}
		before := maps.Clone(w.stores["m1"])
		w.deliver("m0", sc) // stores and loads the members
		wrote := 0
		for key, value := range w.stores["m1"] {
			if !bytes.Equal(before[key], value) {
				wrote += len(value)
			}
		}
		if (wrote > large) != grows {
			t.Errorf("a member writes %d octets; the extensions changed: %v", wrote, grows)
		}
	}
	commit(true)
	for range 2 {
		commit(false)
	}
	commit(true)
	kept := func() (n int) {
		for key := range w.stores["m1"] {
			if strings.HasPrefix(key, keyExtensions) {
				n++
			}
		}
		return n
	}
	if n := kept(); n != 2 {
		t.Errorf("%d lists of extensions are stored; want that of this epoch and that of past ones", n)
	}
	for range 4 {
		commit(false)
	}
	if n := kept(); n != 1 {
		t.Errorf("%d lists of extensions are stored when past epochs need them no more", n)
	}

	// What an earlier version stored: the extensions in the records that need
	// them.
	whole := func(key string, c *contextRecord, from map[string][]byte) {
		context, err := c.join(hub.state.suite, from)
		noError(t, err)
		if c.hash == nil {
			t.Fatalf("record %q holds all extensions", key)
		}
		*c = contextRecord{context: context}
	}
	old := func(from map[string][]byte) map[string][]byte {
		out := maps.Clone(from)
		for key, value := range from {
			switch {
			case key == keyState:
				r := new(stateRecord)
				noError(t, Unmarshal(value, r))
				whole(key, &r.context, from)
				out[key] = mustMarshal(r)
			case strings.HasPrefix(key, keyPast):
				r := new(pastRecord)
				noError(t, Unmarshal(value, r))
				whole(key, &r.stored, from)
				out[key] = mustMarshal(r)
			case strings.HasPrefix(key, keyExtensions):
				delete(out, key)
			}
		}
		return out
	}
	image := snapshot(t, hub)
	records = old(records)
	var err error
	if hub, err = LoadPublicGroup(w.cfg, records); err != nil {
		t.Fatal(err)
	}
	if snapshot(t, hub) != image {
		t.Error("a hub that was stored in the old form differs")
	}
	for name, store := range w.stores {
		again, err := LoadGroup(w.cfg, old(store), w.groups[name].signer)
		noError(t, err)
		if r := again.Records(); !r.Empty() {
			t.Errorf("%s was just loaded and wants to store %d records", name, len(r.Put))
		}
		w.stores[name], w.groups[name] = old(store), again
	}
	// The next commit writes the new form once.
	commitOld := hub.Clone()
	sc, err := w.groups["m0"].Commit(CommitOptions{})
	noError(t, err)
	staged, err := hub.StageCommit(w.wire(sc.Message))
	noError(t, err)
	noError(t, hub.Merge(staged))
	storeRecords(records, hub.Records(commitOld))
	if all := storeRecords(nil, hub.Records(nil)); !maps.EqualFunc(all, records, bytes.Equal) {
		t.Error("records by steps from the old form differ from those at once")
	}
	w.deliver("m0", sc)
	for range 4 {
		commit(false)
	}
	if n := kept(); n != 1 {
		t.Errorf("%d lists of extensions are stored", n)
	}

	for key, value := range records {
		if !strings.HasPrefix(key, keyExtensions) {
			continue
		}
		for name, v := range map[string][]byte{"missing": nil, "changed": flipped(value)} {
			bad := maps.Clone(records)
			bad[key] = v
			if v == nil {
				delete(bad, key)
			}
			if _, err := LoadPublicGroup(w.cfg, bad); !errors.Is(err, ErrState) {
				t.Errorf("%s extensions: %v", name, err)
			}
		}
	}
}
