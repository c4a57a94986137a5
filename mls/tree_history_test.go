package mls

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// A played reports what fails in the history of a seed. TestTreeAgainstOracle
// plays histories that shrink; here, numbers count.
type played struct {
	*testing.T
	seed int
}

func (s played) Fatal(args ...any) { s.Helper(); s.Fatalf("%s", fmt.Sprint(args...)) }

func (s played) Fatalf(format string, args ...any) {
	s.Helper()
	s.T.Fatalf("history %d: %s", s.seed, fmt.Sprintf(format, args...))
}

// play applies up to steps random changes to the tree and to its oracle.
func (h *history) play(t fataler, r *rand.Rand, steps, most int) {
	for range 1 + r.IntN(steps) {
		leaves := h.oracle.leaves()
		l := leaves[r.IntN(len(leaves))]
		switch r.IntN(8) {
		case 0, 1, 2:
			for range min(1+r.IntN(3), most-len(leaves)) {
				h.add(t)
			}
		case 3:
			h.update(t, l)
		case 4:
			if len(leaves) > 1 {
				h.remove(l)
			}
		default:
			h.commit(t, l)
		}
	}
	// A full tree with newcomers is what paths and hashes have most to do with.
	if r.IntN(2) == 0 {
		for _, l := range h.oracle.leaves() {
			if r.IntN(3) == 0 {
				h.commit(t, l)
			}
		}
		for range min(r.IntN(4), most-len(h.oracle.leaves())) {
			h.add(t)
		}
	}
}

// compare compares what the tree has cached with what the oracle computes
// anew: content, tree hash, parent hashes, filtered paths, and the same of the
// tree that is built from its nodes.
func (h *history) compare(t fataler) {
	nodes := h.oracle.ratchetTree()
	want := h.oracle.treeHash(h.oracle.root())
	if !bytes.Equal(mustMarshal(h.tree.ratchetTree()), mustMarshal(nodes)) {
		t.Fatal("the tree has other nodes than the oracle")
	}
	if !bytes.Equal(h.tree.treeHash(), want) {
		t.Fatal("tree hash differs")
	}
	if !h.oracle.parentHashesValid() {
		t.Fatal("the oracle refuses a valid tree")
	}
	built, err := nodes.buildTree(h.tree.suite)
	if err != nil {
		t.Fatalf("build the tree from its nodes: %v", err)
	}
	built.freeze()
	for _, tr := range []*tree{h.tree, built} {
		if !bytes.Equal(tr.treeHash(), want) {
			t.Fatal("tree hash differs after building the tree from its nodes")
		}
		if err := tr.verifyStructureForTest(); err != nil {
			t.Fatalf("valid tree refused: %v", err)
		}
	}
	for _, l := range h.oracle.leaves() {
		if want, _ := h.oracle.filtered(l); !slices.Equal(h.tree.filteredPath(l), want) {
			t.Fatalf("filtered path of %d is %v, want %v", l, h.tree.filteredPath(l), want)
		}
	}
}

// TestTreeHistories plays ten thousand random histories of groups of up to
// 64 members, with blanks and unmerged leaves, and compares tree and parent
// hashes with those of the naive oracle. Every path's parent hash is
// compared when it is made, the whole tree at the end.
func TestTreeHistories(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 1000
	}
	s := mustSuite(t, 1)
	largest, unmerged, blanks := 0, 0, 0
	for seed := range n {
		t := played{t, seed}
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		h := newHistory(t, s)
		// Most groups are small, since the naive oracle is slow.
		most := []int{6, 8, 8, 12, 12, 16, 16, 20, 64}[r.IntN(9)]
		if most == 64 {
			for range r.IntN(63) {
				h.add(t)
			}
		}
		h.play(t, r, 16, most)
		h.compare(t)
		largest = max(largest, len(h.oracle.leaves()))
		for _, n := range h.oracle.nodes {
			if n.Blank() {
				blanks++
			}
			if n.Parent != nil {
				unmerged += len(n.Parent.UnmergedLeaves)
			}
		}
	}
	if largest < 60 || blanks < n || unmerged < n/2 {
		t.Errorf("the histories are too tame: at most %d members, %d blank nodes and %d unmerged leaves in %d of them", largest, blanks, unmerged, n)
	}
}

// TestDamagedHistories damages what the oracle holds and compares the
// verdicts on parent hashes, for trees of up to 64 members.
func TestDamagedHistories(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 300
	}
	s := mustSuite(t, 1)
	verdicts := map[bool]int{}
	for seed := range n {
		t := played{t, seed}
		r := rand.New(rand.NewPCG(uint64(seed), 2))
		h := newHistory(t, s)
		most := []int{8, 12, 16, 64}[r.IntN(4)]
		for range r.IntN(most) {
			h.add(t)
		}
		h.play(t, r, 24, most)
		o := h.oracle.clone()
		damage(r, o, &h.keys)
		tr, err := o.ratchetTree().buildTree(s)
		if err != nil {
			continue // refused before parent hashes are looked at
		}
		tr.freeze()
		want := o.parentHashesValid()
		if got := tr.verifyParentHashes() == nil; got != want {
			t.Fatalf("parent hashes valid: %v, want %v", got, want)
		}
		verdicts[want]++
	}
	if verdicts[true] < n/20 || verdicts[false] < n/20 {
		t.Errorf("verdicts %v: the damages do not test both outcomes", verdicts)
	}
}

// damage changes one thing of a tree: what the bugs of others did not see
// (an ancestor that became blank, a leaf that is unmerged in one node only, a
// link to a node that is not of the resolution).
func damage(r *rand.Rand, o *oracleTree, keys *uint32) {
	var parents []nodeIndex
	for x, n := range o.nodes {
		if n.Parent != nil {
			parents = append(parents, nodeIndex(x))
		}
	}
	if len(parents) == 0 {
		return
	}
	x := parents[r.IntN(len(parents))]
	p := o.nodes[x].Parent
	leaves := o.leaves()
	l := leaves[r.IntN(len(leaves))]
	toggle := func(q *ParentNode) {
		if i, ok := slices.BinarySearch(q.UnmergedLeaves, l); ok {
			q.UnmergedLeaves = slices.Delete(q.UnmergedLeaves, i, i+1)
		} else {
			q.UnmergedLeaves = slices.Insert(q.UnmergedLeaves, i, l)
		}
	}
	switch r.IntN(7) {
	case 0:
		o.nodes[x] = Node{}
	case 1: // all of the path above a leaf
		for _, y := range o.directPath(nodeIndex(2 * l)) {
			o.nodes[y] = Node{}
		}
	case 2: // all of it but the top
		for _, y := range o.directPath(nodeIndex(2 * l)) {
			if y != o.root() {
				o.nodes[y] = Node{}
			}
		}
	case 3:
		for _, y := range o.directPath(nodeIndex(2 * l)) {
			if q := o.nodes[y].Parent; q != nil {
				toggle(q)
			}
		}
	case 4:
		toggle(p)
	case 5: // two nodes swap their parent hashes
		q := o.nodes[parents[r.IntN(len(parents))]].Parent
		p.ParentHash, q.ParentHash = q.ParentHash, p.ParentHash
	case 6:
		o.nodes[2*l].Leaf.EncryptionKey = numberedKey(keys)
	}
}
