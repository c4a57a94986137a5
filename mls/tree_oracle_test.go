package mls

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/comity-im/comity/internal/tlspl"
)

// An oracleTree is a ratchet tree as RFC 9420 describes it, without any
// optimisation: a flat array, in which every question is answered by
// recursion over whole subtrees.
type oracleTree struct {
	nodes []Node // 2^(d+1)-1 of them
}

func (o *oracleTree) root() nodeIndex { return nodeIndex(len(o.nodes) / 2) }

func (o *oracleTree) clone() *oracleTree {
	c := &oracleTree{slices.Clone(o.nodes)}
	for i, n := range c.nodes {
		if n.Parent != nil {
			p := *n.Parent
			p.UnmergedLeaves = slices.Clone(p.UnmergedLeaves)
			c.nodes[i].Parent = &p
		}
		if n.Leaf != nil {
			l := *n.Leaf
			c.nodes[i].Leaf = &l
		}
	}
	return c
}

func (o *oracleTree) directPath(x nodeIndex) []nodeIndex {
	var path []nodeIndex
	for x != o.root() {
		x = x.parent()
		path = append(path, x)
	}
	return path
}

func (o *oracleTree) subtree(x nodeIndex) []nodeIndex {
	if x.isLeaf() {
		return []nodeIndex{x}
	}
	return slices.Concat(o.subtree(x.left()), []nodeIndex{x}, o.subtree(x.right()))
}

// resolution is that of section 4.1.1.
func (o *oracleTree) resolution(x nodeIndex) []nodeIndex {
	n := o.nodes[x]
	switch {
	case n.Parent != nil:
		out := []nodeIndex{x}
		for _, l := range n.Parent.UnmergedLeaves {
			out = append(out, nodeIndex(2*l))
		}
		return out
	case n.Leaf != nil:
		return []nodeIndex{x}
	case x.isLeaf():
		return nil
	}
	return append(o.resolution(x.left()), o.resolution(x.right())...)
}

// treeHash is that of section 7.8.
func (o *oracleTree) treeHash(x nodeIndex) []byte { return o.treeHashWithout(x, nil) }

// treeHashWithout is the tree hash of x after the given leaves were made
// blank and taken from all lists of unmerged leaves.
func (o *oracleTree) treeHashWithout(x nodeIndex, gone []LeafIndex) []byte {
	var w tlspl.Writer
	n := o.nodes[x]
	if x.isLeaf() {
		w.Uint8(1)
		w.Uint32(uint32(x) / 2)
		w.Optional(n.Leaf != nil && !slices.Contains(gone, LeafIndex(x/2)), func(w *tlspl.Writer) { w.Value(n.Leaf) })
	} else {
		w.Uint8(2)
		w.Optional(n.Parent != nil, func(w *tlspl.Writer) {
			p := *n.Parent
			p.UnmergedLeaves = slices.DeleteFunc(slices.Clone(p.UnmergedLeaves), func(m LeafIndex) bool { return slices.Contains(gone, m) })
			w.Value(&p)
		})
		w.Opaque(o.treeHashWithout(x.left(), gone))
		w.Opaque(o.treeHashWithout(x.right(), gone))
	}
	b, err := w.Bytes()
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(b)
	return sum[:]
}

// parentHash is that of section 7.9 of the node p with the copath child s:
// with the tree hash that s has without the leaves unmerged at p.
func (o *oracleTree) parentHash(p, s nodeIndex) []byte {
	var w tlspl.Writer
	w.Opaque(o.nodes[p].Parent.EncryptionKey)
	w.Opaque(o.nodes[p].Parent.ParentHash)
	w.Opaque(o.treeHashWithout(s, o.nodes[p].Parent.UnmergedLeaves))
	b, _ := w.Bytes()
	sum := sha256.Sum256(b)
	return sum[:]
}

// parentHashesValid is the check of section 7.9.2, top down.
func (o *oracleTree) parentHashesValid() bool {
	for p := range nodeIndex(len(o.nodes)) {
		if o.nodes[p].Parent == nil {
			continue
		}
		valid := 0
		for _, side := range [][2]nodeIndex{{p.left(), p.right()}, {p.right(), p.left()}} {
			c, s := side[0], side[1]
			res, below := o.resolution(c), o.subtree(c)
			for _, d := range below {
				var carried []byte
				switch n := o.nodes[d]; {
				case n.Parent != nil:
					carried = n.Parent.ParentHash
				case n.Leaf != nil && n.Leaf.Source == LeafSourceCommit:
					carried = n.Leaf.ParentHash
				default:
					continue
				}
				if !slices.Contains(res, d) {
					continue
				}
				rest := slices.DeleteFunc(slices.Clone(res), func(x nodeIndex) bool { return x == d })
				var unmerged []nodeIndex
				for _, l := range o.nodes[p].Parent.UnmergedLeaves {
					if slices.Contains(below, nodeIndex(2*l)) {
						unmerged = append(unmerged, nodeIndex(2*l))
					}
				}
				slices.Sort(rest)
				slices.Sort(unmerged)
				if slices.Equal(rest, unmerged) && bytes.Equal(carried, o.parentHash(p, s)) {
					valid++
				}
			}
		}
		if valid != 1 {
			return false
		}
	}
	return true
}

func (o *oracleTree) blankPath(l LeafIndex) {
	for _, x := range o.directPath(nodeIndex(2 * l)) {
		o.nodes[x] = Node{}
	}
}

func (o *oracleTree) set(l LeafIndex, leaf *LeafNode) { o.nodes[2*l] = Node{Leaf: leaf} }

func (o *oracleTree) update(l LeafIndex, leaf *LeafNode) {
	o.blankPath(l)
	o.set(l, leaf)
}

func (o *oracleTree) remove(l LeafIndex) {
	o.blankPath(l)
	o.nodes[2*l] = Node{}
	for len(o.nodes) > 1 {
		half := len(o.nodes) / 2
		if slices.ContainsFunc(o.nodes[half+1:], func(n Node) bool { return !n.Blank() }) {
			return
		}
		o.nodes = o.nodes[:half]
	}
}

func (o *oracleTree) add(leaf *LeafNode) LeafIndex {
	l := LeafIndex(0)
	for int(2*l) < len(o.nodes) && o.nodes[2*l].Leaf != nil {
		l++
	}
	if int(2*l) > len(o.nodes) {
		o.nodes = append(o.nodes, make([]Node, len(o.nodes)+1)...)
	}
	for _, x := range o.directPath(nodeIndex(2 * l)) {
		if p := o.nodes[x].Parent; p != nil {
			p.UnmergedLeaves = append(p.UnmergedLeaves, l)
			slices.Sort(p.UnmergedLeaves)
		}
	}
	o.set(l, leaf)
	return l
}

// filtered is the filtered direct path of section 4.1.2 with, for each node,
// its child on the copath.
func (o *oracleTree) filtered(l LeafIndex) (path, copath []nodeIndex) {
	below := nodeIndex(2 * l)
	for _, x := range o.directPath(below) {
		s := x.left()
		if s == below {
			s = x.right()
		}
		if len(o.resolution(s)) > 0 {
			path, copath = append(path, x), append(copath, s)
		}
		below = x
	}
	return path, copath
}

func (o *oracleTree) merge(l LeafIndex, keys [][]byte, leaf *LeafNode) {
	path, copath := o.filtered(l)
	o.blankPath(l)
	hash := []byte{}
	for i := len(path) - 1; i >= 0; i-- {
		o.nodes[path[i]] = Node{Parent: &ParentNode{EncryptionKey: keys[i], ParentHash: hash}}
		hash = o.parentHash(path[i], copath[i])
	}
	leaf.ParentHash = hash
	o.set(l, leaf)
}

func (o *oracleTree) ratchetTree() RatchetTree {
	n := len(o.nodes)
	for n > 0 && o.nodes[n-1].Blank() {
		n--
	}
	return o.nodes[:n]
}

func (o *oracleTree) leaves() []LeafIndex {
	var out []LeafIndex
	for i := 0; i < len(o.nodes); i += 2 {
		if o.nodes[i].Leaf != nil {
			out = append(out, LeafIndex(i/2))
		}
	}
	return out
}

// numberedKey returns a new key for each n.
func numberedKey(n *uint32) []byte {
	*n++
	return binary.BigEndian.AppendUint32(make([]byte, 28), *n)
}

// A history applies random changes to a tree and to its oracle.
type history struct {
	oracle *oracleTree
	tree   *tree // frozen
	keys   uint32
}

func newHistory(t fataler, s *suite) *history {
	h := &history{}
	leaf := h.leaf(LeafSourceKeyPackage)
	h.oracle = &oracleTree{nodes: make([]Node, 1)}
	h.oracle.set(0, leaf)
	h.tree = blankTree(s, 0)
	if err := h.tree.setLeaf(0, leaf); err != nil {
		t.Fatal(err)
	}
	h.tree.freeze()
	return h
}

type fataler interface {
	Fatal(...any)
	Fatalf(string, ...any)
}

func (h *history) leaf(source LeafNodeSource) *LeafNode {
	return &LeafNode{
		EncryptionKey: numberedKey(&h.keys), SignatureKey: numberedKey(&h.keys), Source: source,
		Credential: BasicCredential([]byte("x")), Capabilities: Capabilities{Credentials: []CredentialType{CredentialBasic}},
	}
}

func (h *history) add(t fataler) {
	leaf := h.leaf(LeafSourceKeyPackage)
	next := h.tree.fork()
	l, err := next.addLeaf(leaf)
	if err != nil {
		t.Fatal(err)
	}
	if want := h.oracle.add(leaf); l != want {
		t.Fatalf("added at %d, want %d", l, want)
	}
	h.freeze(next)
}

func (h *history) update(t fataler, l LeafIndex) {
	leaf := h.leaf(LeafSourceUpdate)
	next := h.tree.fork()
	next.blankLeaf(l)
	if err := next.setLeaf(l, leaf); err != nil {
		t.Fatal(err)
	}
	h.oracle.update(l, leaf)
	h.freeze(next)
}

func (h *history) remove(l LeafIndex) {
	next := h.tree.fork()
	next.blankLeaf(l)
	next.truncate()
	h.oracle.remove(l)
	h.freeze(next)
}

func (h *history) commit(t fataler, l LeafIndex) {
	path, _ := h.oracle.filtered(l)
	keys := make([][]byte, len(path))
	for i := range keys {
		keys[i] = numberedKey(&h.keys)
	}
	leaf := h.leaf(LeafSourceCommit)
	h.oracle.merge(l, keys, leaf)
	next := h.tree.fork()
	hash, err := next.mergePath(l, keys)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(hash, leaf.ParentHash) {
		t.Fatalf("parent hash of leaf %d is %x, want %x", l, hash, leaf.ParentHash)
	}
	if err := next.setLeaf(l, leaf); err != nil {
		t.Fatal(err)
	}
	h.freeze(next)
}

func (h *history) freeze(next *tree) {
	next.freeze()
	h.tree = next
}

// step makes one random change.
func (h *history) step(t *rapid.T) {
	leaves := h.oracle.leaves()
	pick := func() LeafIndex { return rapid.SampledFrom(leaves).Draw(t, "leaf") }
	switch rapid.IntRange(0, 6).Draw(t, "change") {
	case 0, 1, 2:
		if len(leaves) < 40 {
			h.add(t)
		}
	case 3:
		h.update(t, pick())
	case 4:
		if len(leaves) > 1 {
			h.remove(pick())
		}
	default:
		h.commit(t, pick())
	}
}

// check compares the tree with the oracle in every respect.
func (h *history) check(t fataler) {
	checkInvariants(t, h.tree)
	got, want := mustMarshal(h.tree.ratchetTree()), mustMarshal(h.oracle.ratchetTree())
	if !bytes.Equal(got, want) {
		t.Fatalf("tree is %x, want %x", got, want)
	}
	for x := range nodeIndex(len(h.oracle.nodes)) {
		if !bytes.Equal(h.tree.hash(x), h.oracle.treeHash(x)) {
			t.Fatalf("tree hash of node %d differs", x)
		}
	}
	if err := h.tree.verifyStructureForTest(); err != nil {
		t.Fatalf("valid tree refused: %v", err)
	}
	if !h.oracle.parentHashesValid() {
		t.Fatal("the oracle refuses a valid tree")
	}
	for x := range nodeIndex(len(h.oracle.nodes)) {
		var res []nodeIndex
		for y := range h.tree.resolution(x) {
			res = append(res, y)
		}
		if want := h.oracle.resolution(x); !slices.Equal(res, want) {
			t.Fatalf("resolution of %d is %v, want %v", x, res, want)
		}
		if got := h.tree.resolutionSize(x); got != len(res) {
			t.Fatalf("resolution of %d has %d nodes, counted %d", x, len(res), got)
		}
	}
	for _, l := range h.oracle.leaves() {
		if want, _ := h.oracle.filtered(l); !slices.Equal(h.tree.filteredPath(l), want) {
			t.Fatalf("filtered path of %d is %v, want %v", l, h.tree.filteredPath(l), want)
		}
	}
	again, err := h.oracle.ratchetTree().buildTree(h.tree.suite)
	if err != nil {
		t.Fatalf("build the tree again: %v", err)
	}
	if !bytes.Equal(again.treeHash(), h.tree.treeHash()) {
		t.Fatal("tree hash differs after building the tree again")
	}
}

// verifyStructureForTest is verifyStructure without the form of keys, which
// are no HPKE keys here.
func (t *tree) verifyStructureForTest() error {
	if t.depth > 0 && t.below(rootPosition(t.depth).right()) == 0 {
		return errors.New("wider than needed")
	}
	return t.verifyParentHashes()
}

// checkInvariants compares everything that a tree caches with what it should
// be.
func checkInvariants(t fataler, tr *tree) {
	nodes := tr.ratchetTree()
	for i, n := range nodes {
		x := nodeIndex(i)
		if got := tr.encryptionKey(x); (got == "") != n.Blank() {
			t.Fatalf("node %d: blank %v, key %x", x, n.Blank(), got)
		}
		var key []byte
		switch {
		case n.Leaf != nil:
			key = n.Leaf.EncryptionKey
			if l, ok := tr.findSignatureKey(n.Leaf.SignatureKey); !ok || l != x.leaf() {
				t.Fatalf("signature key of leaf %d is found at %d, %v", x.leaf(), l, ok)
			}
		case n.Parent != nil:
			key = n.Parent.EncryptionKey
			if err := nodes.checkUnmerged(tr, x, n.Parent); err != nil {
				t.Fatal(err)
			}
		default:
			continue
		}
		if at, ok := tr.findEncryptionKey(key); !ok || at != x {
			t.Fatalf("encryption key of node %d is found at %d, %v", x, at, ok)
		}
	}
	for x := range 2*rootPosition(tr.depth) + 1 {
		members := 0
		for l := x.firstLeaf(); x.covers(l); l++ {
			if 2*int(l) < len(nodes) && nodes[2*l].Leaf != nil {
				members++
			}
		}
		if got := tr.below(x); got != members {
			t.Fatalf("node %d counts %d members, has %d", x, got, members)
		}
		if x.isLeaf() {
			continue
		}
		group, j := pageGroup(x)
		p := tr.page(x.firstLeaf(), group)
		if p != nil && !p.blank() && p.cachedHash(j, tr.suite.nh()) == nil {
			t.Fatalf("node %d of a frozen tree without hash", x)
		}
	}
	checkPage(t, tr.root, topGroup(tr.depth))
}

// checkPage returns what is below a page, and checks that it knows.
func checkPage(t fataler, p *page, group int) (members uint32, s *support) {
	if p.kids != nil {
		for _, k := range p.kids {
			m, o := checkPage(t, k, group-1)
			members, s = members+m, s.and(o)
		}
	}
	if p.leaves != nil {
		for _, e := range p.leaves {
			if e != nil {
				members, s = members+1, s.and(supportOf(e.decode()))
			}
		}
	}
	if (p.kids != nil && p.leaves != nil) || (p.leaves != nil && group != 0) {
		t.Fatalf("a page of height %d has kids: %v, leaves: %v", group, p.kids != nil, p.leaves != nil)
	}
	if p.members != members {
		t.Fatalf("a page counts %d members, has %d", p.members, members)
	}
	if (p.support == nil) != (s == nil) || s != nil && !p.support.equal(s) {
		t.Fatalf("a page has support %v, want %v", p.support, s)
	}
	return members, s
}

func TestTreeAgainstOracle(t *testing.T) {
	s := mustSuite(t, 1)
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t, s)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			before, encoded := h.tree, mustMarshal(h.tree.ratchetTree())
			hash := bytes.Clone(h.tree.treeHash())
			h.step(t)
			if !bytes.Equal(mustMarshal(before.ratchetTree()), encoded) || !bytes.Equal(before.hashAgain(), hash) {
				t.Fatal("a change of the next version changed the version before")
			}
		}
		h.check(t)
	})
}

// hashAgain computes the root's hash without what is cached.
func (t *tree) hashAgain() []byte {
	o := &oracleTree{nodes: make([]Node, 1<<(t.depth+1)-1)}
	copy(o.nodes, t.ratchetTree())
	return o.treeHash(o.root())
}

// TestParentHashesAgainstOracle damages trees at random and compares the
// verdict on their parent hashes with that of the literal check.
func TestParentHashesAgainstOracle(t *testing.T) {
	s := mustSuite(t, 1)
	verdicts := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t, s)
		for range rapid.IntRange(10, 40).Draw(t, "steps") {
			h.step(t)
		}
		o := h.oracle.clone()
		var parents []nodeIndex
		for x, n := range o.nodes {
			if n.Parent != nil {
				parents = append(parents, nodeIndex(x))
			}
		}
		if len(parents) == 0 {
			return
		}
		leaves := o.leaves()
		for range rapid.IntRange(1, 2).Draw(t, "damages") {
			p := o.nodes[rapid.SampledFrom(parents).Draw(t, "parent")].Parent
			l := rapid.SampledFrom(leaves).Draw(t, "damaged leaf")
			if p == nil {
				continue
			}
			switch rapid.IntRange(0, 6).Draw(t, "damage") {
			case 0:
				p.ParentHash = []byte("another hash")
			case 1:
				p.EncryptionKey = numberedKey(&h.keys)
			case 2: // forget an unmerged leaf everywhere
				for _, n := range o.nodes {
					if n.Parent != nil {
						n.Parent.UnmergedLeaves = slices.DeleteFunc(n.Parent.UnmergedLeaves, func(m LeafIndex) bool { return m == l })
					}
				}
			case 3: // call a merged leaf unmerged
				for _, x := range o.directPath(nodeIndex(2 * l)) {
					if q := o.nodes[x].Parent; q != nil && !slices.Contains(q.UnmergedLeaves, l) {
						q.UnmergedLeaves = append(q.UnmergedLeaves, l)
						slices.Sort(q.UnmergedLeaves)
					}
				}
			case 4:
				o.nodes[rapid.SampledFrom(parents).Draw(t, "blanked")] = Node{}
			case 5:
				if leaf := o.nodes[2*l].Leaf; leaf.Source == LeafSourceCommit {
					leaf.ParentHash = bytes.Clone(p.ParentHash)
				}
			case 6: // a leaf of another member elsewhere
				o.nodes[2*l].Leaf.EncryptionKey = numberedKey(&h.keys)
			}
		}
		tr, err := o.ratchetTree().buildTree(s)
		if err != nil {
			return // refused before parent hashes are looked at
		}
		tr.freeze()
		want := o.parentHashesValid()
		if got := tr.verifyParentHashes() == nil; got != want {
			t.Fatalf("parent hashes valid: %v, want %v", got, want)
		}
		verdicts[want]++
	})
	if verdicts[true] == 0 || verdicts[false] == 0 {
		t.Fatalf("verdicts %v: the damages do not test both outcomes", verdicts)
	}
}

func TestTreeKeysAreUnique(t *testing.T) {
	h := newHistory(t, mustSuite(t, 1))
	for range 5 {
		h.add(t)
	}
	h.commit(t, 0)
	root := h.tree.rootParent().EncryptionKey
	member := h.tree.leaf(3)
	for name, leaf := range map[string]*LeafNode{
		"encryption key of a parent": {EncryptionKey: root, SignatureKey: numberedKey(&h.keys), Source: LeafSourceUpdate},
		"encryption key of a leaf":   {EncryptionKey: member.EncryptionKey, SignatureKey: numberedKey(&h.keys), Source: LeafSourceUpdate},
		"signature key of a leaf":    {EncryptionKey: numberedKey(&h.keys), SignatureKey: member.SignatureKey, Source: LeafSourceUpdate},
	} {
		if _, err := h.tree.fork().addLeaf(leaf); !errors.Is(err, errDuplicateKey) {
			t.Errorf("add with the %s: %v", name, err)
		}
	}
	path, _ := h.oracle.filtered(2)
	keys := make([][]byte, len(path))
	for i := range keys {
		keys[i] = numberedKey(&h.keys)
	}
	for name, key := range map[string][]byte{
		"a node that the path replaces": root, "a leaf": member.EncryptionKey, "another node of the path": keys[0],
	} {
		bad := slices.Clone(keys)
		bad[len(bad)-1] = key
		if _, err := h.tree.fork().mergePath(2, bad); !errors.Is(err, errDuplicateKey) {
			t.Errorf("path with the key of %s: %v", name, err)
		}
	}
	h.check(t) // nothing of it stuck
}

// TestKeyIndex adds the keys of many versions to one index, and asks for each
// version what it has.
func TestKeyIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := newKeyIndex(rapid.IntRange(0, 20).Draw(t, "room"))
		type version map[string]uint32
		versions := []version{{}}
		for range rapid.IntRange(1, 300).Draw(t, "operations") {
			v := version{}
			for k, at := range rapid.SampledFrom(versions).Draw(t, "from") {
				v[k] = at
			}
			key := fmt.Sprint(rapid.IntRange(0, 100).Draw(t, "key"))
			if _, had := v[key]; had {
				delete(v, key)
			} else {
				v[key] = rapid.Uint32Range(0, 1<<22).Draw(t, "position")
				x.add(encryptionKind, key, v[key])
			}
			versions = append(versions, v)
		}
		for _, v := range versions {
			for k := range 101 {
				key := fmt.Sprint(k)
				want, had := v[key]
				got, ok := x.find(encryptionKind, key, func(at uint32) bool { return had && at == want })
				if ok != had || ok && got != want {
					t.Fatalf("key %s: found %d, %v; want %d, %v", key, got, ok, want, had)
				}
				if _, ok := x.find(signatureKind, key, func(uint32) bool { return true }); ok {
					t.Fatalf("encryption key %s is found as a signature key", key)
				}
			}
		}
	})
}

// TestKeyIndexForgets commits for long and expects that the keys of versions
// that are gone are not kept.
func TestKeyIndexForgets(t *testing.T) {
	h := newHistory(t, mustSuite(t, 1))
	for range 9 {
		h.add(t)
	}
	for i := range 400 {
		h.commit(t, LeafIndex(i%10))
		if x := h.tree.index.Load(); x.used > 4*10+64+10 {
			t.Fatalf("%d keys in the index of a group of 10", x.used)
		}
	}
	h.check(t)
}
