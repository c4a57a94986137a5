package mls

import (
	"bytes"
	"maps"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
)

// fuzzTree returns the encoding of a tree with blanks and unmerged leaves.
func fuzzTree(t testing.TB) []byte {
	w := grownHubWorld(t, 5)
	w.merge(w.stage(w.commit(w.who[0], w.value(RemoveProposal(3))...)))
	p, q := w.newParty("p"), w.newParty("q")
	w.merge(w.stage(w.rawCommit(w.who[1], &Commit{Proposals: w.value(AddProposal(p.keyPackage), AddProposal(q.keyPackage))})), p, q)
	return mustMarshal(w.group.State().RatchetTree())
}

// roundTrip parses b into v, encodes it, and expects b again.
func roundTrip[T any, P interface {
	*T
	tlspl.Unmarshaler
}](t *testing.T, b []byte, encode func(*T) tlspl.Marshaler) (*T, bool) {
	v := new(T)
	if err := tlspl.Unmarshal(b, P(v)); err != nil {
		return nil, false
	}
	again, err := tlspl.Marshal(encode(v))
	if err != nil {
		t.Fatalf("decoded %T has no encoding: %v", v, err)
	}
	if !bytes.Equal(again, b) {
		t.Fatalf("%x became %x", b, again)
	}
	return v, true
}

func FuzzRatchetTree(f *testing.F) {
	tree := fuzzTree(f)
	f.Add(tree)
	f.Add(tree[:len(tree)-1])
	f.Add([]byte{0})
	f.Add([]byte{1, 0})
	f.Add([]byte{2, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		nodes, ok := roundTrip(t, b, func(v *RatchetTree) tlspl.Marshaler { return v })
		if !ok {
			return
		}
		built, err := nodes.buildTree(&suites[0])
		if err != nil {
			return
		}
		built.freeze()
		checkInvariants(t, built)
		if !bytes.Equal(mustMarshal(built.ratchetTree()), b) {
			t.Fatal("the tree has other nodes")
		}
		o := &oracleTree{nodes: make([]Node, 1<<(built.depth+1)-1)}
		copy(o.nodes, *nodes)
		if len(o.nodes) <= 31 {
			if got, want := built.verifyParentHashes() == nil, o.parentHashesValid(); got != want {
				t.Fatalf("parent hashes valid: %v, want %v", got, want)
			}
		}
	})
}

func FuzzNode(f *testing.F) {
	leaf, parent := fuzzNodes(f)
	f.Add(leaf)
	f.Add(parent)
	f.Add([]byte{3})
	f.Fuzz(func(t *testing.T, b []byte) {
		roundTrip(t, b, func(v *Node) tlspl.Marshaler { return v })
	})
}

func fuzzNodes(f *testing.F) (leaf, parent []byte) {
	w := grownHubWorld(f, 3)
	t := w.group.state.tree
	return mustMarshal(&Node{Leaf: t.leaf(0)}), mustMarshal(&Node{Parent: t.rootParent().withUnmerged(1).withUnmerged(2)})
}

func FuzzParentNode(f *testing.F) {
	_, parent := fuzzNodes(f)
	f.Add(parent[1:])
	f.Add([]byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, ok := roundTrip(t, b, func(v *ParentNode) tlspl.Marshaler { return v }); ok {
			for i := 1; i < len(p.UnmergedLeaves); i++ {
				if p.UnmergedLeaves[i] <= p.UnmergedLeaves[i-1] {
					t.Fatal("unmerged leaves do not increase")
				}
			}
		}
	})
}

func FuzzStateRecord(f *testing.F) {
	w := grownHubWorld(f, 3)
	w.propose(w.who[2], SelfRemoveProposal())
	records := storeRecords(nil, w.group.Records(nil))
	f.Add(records[keyState], records[positionKey(keyNode, 1)], records[positionKey(keyProposal, 0)])
	f.Add([]byte{1, 20}, []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, header, node, proposal []byte) {
		s := maps.Clone(records)
		s[keyState], s[positionKey(keyNode, 1)], s[positionKey(keyProposal, 0)] = header, node, proposal
		g, err := LoadPublicGroup(w.cfg, s)
		if err != nil {
			return
		}
		checkInvariants(t, g.state.tree)
		again, err := LoadPublicGroup(w.cfg, storeRecords(nil, g.Records(nil)))
		if err != nil {
			t.Fatalf("a loaded group cannot be stored and loaded again: %v", err)
		}
		if snapshot(t, again) != snapshot(t, g) {
			t.Fatal("a loaded group differs from what it stores")
		}
	})
}

// FuzzPublicGroup feeds arbitrary messages to a hub's view, which must refuse
// or stage them, but never change or fail otherwise.
func FuzzPublicGroup(f *testing.F) {
	w := grownHubWorld(f, 5)
	p := w.newParty("p")
	for _, m := range []*MLSMessage{
		w.commit(w.who[1], w.value(RemoveProposal(2), AddProposal(p.keyPackage))...),
		w.externalCommit(w.newParty("q")),
		w.proposal(w.who[1], updateProposal(w.updateLeaf(w.who[1], nil))),
		w.proposal(w.who[2], SelfRemoveProposal()),
	} {
		f.Add(mustMarshal(m))
	}
	before := snapshot(f, w.group)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(MLSMessage)
		if err := Unmarshal(b, m); err != nil {
			return
		}
		if sc, err := w.group.StageCommit(m); err == nil {
			checkInvariants(t, sc.After.tree)
		}
		if q, err := w.group.Proposal(m); err == nil && len(q.Ref) != 32 {
			t.Fatalf("reference %x", q.Ref)
		}
		if snapshot(t, w.group) != before {
			t.Fatal("the group changed")
		}
	})
}

// FuzzPaths lets a member commit with spoiled proposals and paths, under a
// valid signature.
func FuzzPaths(f *testing.F) {
	w := grownHubWorld(f, 5)
	_, created := w.path(w.who[1], MemberSender(1), w.value(RemoveProposal(3)))
	f.Add(mustMarshal(&Commit{Proposals: w.value(RemoveProposal(3)), Path: created.path}))
	f.Add(mustMarshal(&Commit{Proposals: w.value(AppDataUpdateProposal(hubComponent, []byte("x")))}))
	before := snapshot(f, w.group)
	f.Fuzz(func(t *testing.T, b []byte) {
		c := new(Commit)
		if err := Unmarshal(b, c); err != nil {
			return
		}
		here := *w
		here.t = t
		if sc, err := w.group.StageCommit(here.rawCommit(w.who[1], c)); err == nil {
			checkInvariants(t, sc.After.tree)
			if err := sc.After.tree.verifyStructure(100); err != nil {
				t.Fatalf("a staged tree is not valid: %v", err)
			}
		}
		if snapshot(t, w.group) != before {
			t.Fatal("the group changed")
		}
	})
}

// rootParent returns the content of the root, which must be a parent.
func (t *tree) rootParent() *ParentNode { return t.parent(rootPosition(t.depth)) }
