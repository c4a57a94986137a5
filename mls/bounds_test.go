package mls

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
)

// decodeInPlace decodes without a copy: v aliases b.
func decodeInPlace(b []byte, v tlspl.Unmarshaler) error { return tlspl.Unmarshal(b, v) }

// allocated returns how many octets f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A length that a message claims and does not have takes no memory: wherever
// it stands, in every type.
func TestClaimedLengthsTakeNoMemory(t *testing.T) {
	all := seeds(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, b := range all[name] {
			step := 1 + len(b)/150
			used := allocated(func() {
				for i := 0; i+4 <= len(b); i += step {
					c := slices.Concat(b[:i], []byte{0xbf, 0xff, 0xff, 0xff}, b[i+4:])
					_ = Unmarshal(c, wireTypes[name]())
				}
			})
			// Twice the input for copies, and what its items take.
			if most := uint64(len(b)/step+1) * uint64(64*len(b)+4096); used > most {
				t.Errorf("%s: %d octets are allocated; want at most %d", name, used, most)
			}
		}
	}
}

// vectorOf encodes a vector of n times the same item.
func vectorOf(n int, item []byte) []byte {
	var w tlspl.Writer
	w.Opaque(bytes.Repeat(item, n))
	b, err := w.Bytes()
	if err != nil {
		panic(err)
	}
	return b
}

// Numbers of items are bounded where they are decoded.
func TestDecodersBoundCounts(t *testing.T) {
	proposal := []byte{1, 0, 10} // self_remove by value
	id := []byte{1, 0, 0}        // external, without name and nonce
	for _, c := range []struct {
		name string
		most int
		make func(n int) []byte
		into func() tlspl.Unmarshaler
	}{
		{"proposals", maxCommitProposals, func(n int) []byte { return append(vectorOf(n, proposal), 0) }, func() tlspl.Unmarshaler { return new(Commit) }},
		{"certificates", maxCertificates, func(n int) []byte { return append([]byte{0, 2}, vectorOf(n, []byte{1, 1})...) }, func() tlspl.Unmarshaler { return new(Credential) }},
		{"extensions", maxExtensions, func(n int) []byte { return vectorOf(n, []byte{0, 9, 0}) }, func() tlspl.Unmarshaler { return new(Extensions) }},
		{"pre-shared keys", maxCommitProposals, func(n int) []byte { return slices.Concat([]byte{0, 0}, vectorOf(n, id)) }, func() tlspl.Unmarshaler { return new(GroupSecrets) }},
		{"external senders", maxExtensions, func(n int) []byte { return vectorOf(n, []byte{0, 0, 1, 0}) }, func() tlspl.Unmarshaler { return new(ExternalSenders) }},
	} {
		if err := Unmarshal(c.make(c.most), c.into()); err != nil {
			t.Errorf("%d %s: %v", c.most, c.name, err)
		}
		if err := Unmarshal(c.make(c.most+1), c.into()); err == nil {
			t.Errorf("%d %s are accepted", c.most+1, c.name)
		}
		// What follows the last item that is accepted takes nothing.
		b := c.make(1 << 20)
		if used := allocated(func() { _ = Unmarshal(b, c.into()) }); used > uint64(1024*c.most+4*len(b)) {
			t.Errorf("a million %s take %d octets before they are refused", c.name, used)
		}
	}
	a := newArena(t)
	path := a.forge(draft{path: true}, false).path.path
	encode := func(n int) []byte {
		p := *path
		p.Nodes = make([]UpdatePathNode, n)
		return mustMarshal(&p)
	}
	noError(t, Unmarshal(encode(maxPathNodes), new(UpdatePath)))
	if Unmarshal(encode(maxPathNodes+1), new(UpdatePath)) == nil {
		t.Error("a path deeper than any tree is accepted")
	}
}

// The number of proposals and members is bounded before they are verified.
func TestLimitsComeFirst(t *testing.T) {
	a := newArena(t)
	a.configure(func(c *Config) { c.Limits.MaxProposals = 4 })
	five := []Proposal{sharedPSK(), sharedPSK(), sharedPSK(), sharedPSK(), sharedPSK()}
	a.attackList(ErrLimit, "commit of 5 proposals", five...)
	a.attack(draft{joiner: a.device("new", nil), list: plus(five[:4]...)}, ErrLimit, "commit of 5 proposals")
	for i := range 4 {
		a.propose(a.say("m2", proposalContent(AppDataUpdateProposal(testComponent, fmt.Append(nil, i))), nil))
	}
	for _, n := range append(slices.Clone(a.names), "the hub") {
		m := a.say("m2", proposalContent(AppDataUpdateProposal(testComponent, []byte("fifth"))), nil)
		var err error
		if g := a.groups[n]; g != nil {
			q, e := g.Proposal(m)
			noError(t, e)
			err = g.Enqueue(q)
		} else {
			q, e := a.hub.Proposal(m)
			noError(t, e)
			err = a.hub.Enqueue(q)
		}
		a.refused(n, err, ErrLimit, "4 proposals are pending")
	}
	a = newArena(t)
	members := a.hub.State().NumMembers()
	d := draft{values: []Proposal{sharedPSK()}, list: instead(AddProposal(a.device("new", nil).kp))}
	external := a.forge(draft{joiner: a.device("new", nil)}, false).message
	a.configure(func(c *Config) { c.Limits.MaxMembers = members })
	a.attack(d, ErrLimit, "members")
	a.refuse(external, "", everyone, ErrLimit, "members")
	a.configure(func(c *Config) { c.Limits.MaxExtensions = 300 })
	long := Extension{arenaExtension, make([]byte, 400)}
	a.attackList(ErrLimit, "octets; the limit is 300", a.contextExtensions(func(x Extensions) Extensions { return append(slices.Clone(x), long) }))
	a.attackList(ErrLimit, "octets; the limit is 300", AppDataUpdateProposal(testComponent, make([]byte, 400)))
}

// A tree of a hostile size is refused before it is built.
func TestTreeSizeIsBoundedFirst(t *testing.T) {
	a := newArena(t)
	_, _, gi := a.invite(invitation{}, false)
	nodes := a.hub.State().RatchetTree()
	wide := make(RatchetTree, 1<<20-1)
	copy(wide, nodes)
	wide[len(wide)-1] = nodes[0]
	cfg := a.cfg
	cfg.Limits.MaxMembers = 1000
	var err error
	used := allocated(func() { _, err = NewPublicGroup(cfg, gi, wide) })
	if !errors.Is(err, ErrLimit) {
		t.Errorf("a tree of a million nodes: %v", err)
	}
	if used > 1<<20 {
		t.Errorf("%d octets are allocated for it", used)
	}
	// One that is wide for a single leaf far out is not valid either.
	cfg.Limits.MaxMembers = 1 << 19
	if _, err = NewPublicGroup(cfg, gi, wide); !errors.Is(err, ErrInvalidTree) {
		t.Errorf("a tree with two leaves of the same member: %v", err)
	}
}

// A generation that is refused costs no derivation.
func TestSkipsAreBoundedFirst(t *testing.T) {
	for _, started := range []bool{false, true} {
		tree := testTree(t, 1<<10)
		if started {
			u, err := tree.open(5, applicationRatchet, 0, 1024)
			noError(t, err)
			u.consume(1024)
		}
		allocs := testing.AllocsPerRun(10, func() {
			if _, err := tree.open(5, applicationRatchet, 1<<31, 1024); !errors.Is(err, ErrTooFarAhead) {
				t.Fatal(err)
			}
		})
		if allocs > 30 {
			t.Errorf("%.0f allocations for a generation that is refused", allocs)
		}
	}
}

// The pre-shared keys of a Welcome are bounded before they are looked up.
func TestWelcomePSKsAreBoundedFirst(t *testing.T) {
	a := newArena(t)
	asked := 0
	a.configure(func(c *Config) {
		c.PSK = func(*PreSharedKeyID) ([]byte, error) { asked++; return arenaPSK, nil }
	})
	d, w, _ := a.invite(invitation{secrets: func(gs *GroupSecrets) {
		for i := range 5000 {
			id := PreSharedKeyID{Type: PSKExternal, ID: []byte("shared"), Nonce: arenaNonce(0)}
			id.Nonce[0], id.Nonce[1] = byte(i>>8), byte(i)
			gs.PSKs = append(gs.PSKs, id)
		}
	}}, true)
	asked = 0
	_, err := JoinWelcome(a.cfg, w, nil, d.kp, d.priv, d.signer)
	a.refused("the new member", err, ErrLimit, "5000 pre-shared keys")
	if asked != 0 {
		t.Errorf("%d keys were looked up", asked)
	}
}

// TestJoinIsLinear: four times the members take about four times the memory
// to join. Time is not measured.
func TestJoinIsLinear(t *testing.T) {
	cost := func(n int) uint64 {
		h := newHistory(t, mustSuite(t, 1))
		for range n - 1 {
			h.add(t)
		}
		h.commit(t, 0)
		nodes := h.tree.ratchetTree()
		return allocated(func() {
			built, err := nodes.buildTree(h.tree.suite)
			noError(t, err)
			built.freeze()
			noError(t, built.verifyStructureForTest())
		})
	}
	small, large := cost(64), cost(256)
	if large > 8*small {
		t.Errorf("verifying the tree takes %d octets for 64 members, %d for 256", small, large)
	}
}
