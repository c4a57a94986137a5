package mls

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
)

// treeWorld is a group whose tree has a blank leaf, blank parents and
// unmerged leaves.
func treeWorld(t testing.TB) *hubWorld {
	t.Helper()
	w := grownHubWorld(t, 7)
	w.merge(w.stage(w.commit(w.who[0], w.value(RemoveProposal(2), RemoveProposal(3))...)))
	p := w.newParty("p")
	w.merge(w.stage(w.rawCommit(w.who[1], &Commit{Proposals: w.value(AddProposal(p.keyPackage))})), p)
	return w
}

// TestInvalidTrees offers damaged trees under a GroupInfo that fits them
// (RFC 9420 section 12.4.3.1).
func TestInvalidTrees(t *testing.T) {
	firstParent := func(nodes RatchetTree, unmerged bool) *ParentNode {
		for _, n := range nodes {
			if n.Parent != nil && (len(n.Parent.UnmergedLeaves) > 0) == unmerged {
				return n.Parent
			}
		}
		t.Fatal("the tree lacks such a parent")
		return nil
	}
	tests := []struct {
		name string
		want error
		harm func(w *hubWorld, nodes RatchetTree) RatchetTree
	}{
		{"no nodes", ErrInvalidTree, func(_ *hubWorld, _ RatchetTree) RatchetTree { return RatchetTree{} }},
		{"trailing blank", ErrInvalidTree, func(_ *hubWorld, n RatchetTree) RatchetTree { return append(n, Node{}) }},
		{"parent in the place of a leaf (go-mls panics)", ErrInvalidTree, func(_ *hubWorld, n RatchetTree) RatchetTree {
			n[4] = Node{Parent: firstParent(n, false)}
			return n
		}},
		{"leaf in the place of a parent (go-mls panics)", ErrInvalidTree, func(_ *hubWorld, n RatchetTree) RatchetTree {
			n[1] = Node{Leaf: n[0].Leaf}
			return n
		}},
		{"one leaf twice", errDuplicateKey, func(_ *hubWorld, n RatchetTree) RatchetTree {
			n[4] = n[0]
			return n
		}},
		{"one parent key twice", errDuplicateKey, func(_ *hubWorld, n RatchetTree) RatchetTree {
			firstParent(n, true).EncryptionKey = n[0].Leaf.EncryptionKey
			return n
		}},
		{"wider than needed", ErrInvalidTree, func(w *hubWorld, n RatchetTree) RatchetTree {
			n = append(n, make(RatchetTree, 16-len(n))...)
			n[15] = Node{Parent: &ParentNode{EncryptionKey: w.freshKey()}}
			return n
		}},
		{"unmerged leaf is blank", ErrInvalidTree, func(_ *hubWorld, n RatchetTree) RatchetTree {
			p := firstParent(n, true)
			for i := 0; i < len(n); i += 2 {
				if n[i].Blank() && i < 8 {
					p.UnmergedLeaves = append(p.UnmergedLeaves, LeafIndex(i/2))
				}
			}
			slices.Sort(p.UnmergedLeaves)
			return n
		}},
		{"unmerged leaf out of range", ErrInvalidTree, func(_ *hubWorld, n RatchetTree) RatchetTree {
			firstParent(n, true).UnmergedLeaves = []LeafIndex{1<<32 - 1}
			return n
		}},
		{"unmerged leaves are not sorted", ErrInvalidTree, func(_ *hubWorld, n RatchetTree) RatchetTree {
			p := firstParent(n, true)
			p.UnmergedLeaves = append(p.UnmergedLeaves, p.UnmergedLeaves[0])
			return n
		}},
		{"unmerged leaf is not listed", ErrInvalidTree, func(_ *hubWorld, n RatchetTree) RatchetTree {
			firstParent(n, true).UnmergedLeaves = nil
			return n
		}},
		{"parent key was replaced", ErrInvalidTree, func(w *hubWorld, n RatchetTree) RatchetTree {
			firstParent(n, true).EncryptionKey = w.freshKey()
			return n
		}},
		{"parent key is malformed", ErrInvalidTree, func(_ *hubWorld, n RatchetTree) RatchetTree {
			firstParent(n, true).EncryptionKey = []byte("short")
			return n
		}},
		{"parent hash was replaced", ErrInvalidTree, func(_ *hubWorld, n RatchetTree) RatchetTree {
			firstParent(n, true).ParentHash = make([]byte, 32)
			return n
		}},
		{"member is missing", ErrInvalidTree, func(w *hubWorld, n RatchetTree) RatchetTree {
			n[2] = Node{}
			return n
		}},
		{"leaf signature", ErrInvalidSignature, func(w *hubWorld, n RatchetTree) RatchetTree {
			return w.resign(n, 1, w.newParty("x").signer, nil)
		}},
		{"leaf signed for another place", ErrInvalidSignature, func(w *hubWorld, n RatchetTree) RatchetTree {
			n = w.resign(n, 1, w.who[1].signer, nil)
			noError(w.t, n[2].Leaf.sign(w.who[1].signer, w.group.state.GroupID(), 4))
			return n
		}},
		{"credential is refused", ErrCredential, func(w *hubWorld, n RatchetTree) RatchetTree {
			return w.resign(n, 1, w.who[1].signer, func(l *LeafNode) { l.Credential = BasicCredential([]byte("refused")) })
		}},
		{"leaf lacks the suite", ErrCapabilities, func(w *hubWorld, n RatchetTree) RatchetTree {
			return w.resign(n, 1, w.who[1].signer, func(l *LeafNode) { l.Capabilities.CipherSuites = nil })
		}},
		{"leaf lacks the credential type of others", ErrCapabilities, func(w *hubWorld, n RatchetTree) RatchetTree {
			return w.resign(n, 1, w.who[1].signer, func(l *LeafNode) {
				l.Credential = Credential{Type: 0xf000}
				l.Capabilities.Credentials = []CredentialType{0xf000}
			})
		}},
		{"malformed leaf key", ErrKey, func(w *hubWorld, n RatchetTree) RatchetTree {
			return w.resign(n, 1, w.who[1].signer, func(l *LeafNode) { l.EncryptionKey = []byte("short") })
		}},
	}
	w := treeWorld(t)
	noError(t, w.group.state.tree.verifyStructure(100))
	_, err := NewPublicGroup(w.cfg, w.groupInfoOf(w.group.state, w.who[0]), w.group.state.RatchetTree())
	noError(t, err)
	encoded := mustMarshal(w.group.state.RatchetTree())
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var nodes RatchetTree
			decode(t, encoded, &nodes)
			nodes = test.harm(w, nodes)
			// The GroupInfo names the damaged tree's hash, so that nothing but
			// the damage is wrong.
			gi := w.groupInfoOf(w.group.state, w.who[0])
			if built, err := nodes.buildTree(w.suite); err == nil {
				built.freeze()
				gi.GroupContext.TreeHash = built.treeHash()
				noError(t, gi.sign(w.who[0].signer))
			}
			if _, err := NewPublicGroup(w.cfg, gi, nodes); !errors.Is(err, test.want) {
				t.Fatalf("refused with %v, want %q", err, test.want)
			}
		})
	}
}

func (w *hubWorld) freshKey() []byte {
	_, public, err := GenerateHPKEKey(w.suite.id)
	noError(w.t, err)
	return public
}

// resign changes leaf l and signs it again, and repairs the parent hashes of
// nothing: a change to a leaf is covered by its signature only.
func (w *hubWorld) resign(nodes RatchetTree, l LeafIndex, signer Signer, change func(l *LeafNode)) RatchetTree {
	leaf := *nodes[2*l].Leaf
	if change != nil {
		change(&leaf)
	}
	noError(w.t, leaf.sign(signer, w.group.state.GroupID(), l))
	nodes[2*l].Leaf = &leaf
	// Leaf 1 is the copath child of whoever set the parents above it: blank
	// these, and all that were computed over them.
	for i := range nodes {
		nodes[i].Parent = nil
	}
	return nodes
}

func TestInvalidGroupInfo(t *testing.T) {
	w := treeWorld(t)
	tree := w.group.state.RatchetTree()
	tests := []struct {
		name         string
		want, follow error // of NewPublicGroup and of VerifyGroupInfo
		harm         func(gi *GroupInfo)
	}{
		{"tree hash", ErrInvalidTree, ErrInvalidMessage, func(gi *GroupInfo) { gi.GroupContext.TreeHash = make([]byte, 32) }},
		{"blank signer", ErrUnknownSender, ErrUnknownSender, func(gi *GroupInfo) { gi.Signer = 6000 }},
		{"another signer", ErrInvalidSignature, ErrInvalidSignature, func(gi *GroupInfo) { gi.Signer = 1 }},
		{"no confirmation tag", ErrInvalidWelcome, ErrInvalidMessage, func(gi *GroupInfo) { gi.ConfirmationTag = nil }},
		{"no transcript", ErrInvalidWelcome, ErrInvalidMessage, func(gi *GroupInfo) { gi.GroupContext.ConfirmedTranscriptHash = nil }},
		{"extension twice", ErrInvalidMessage, ErrInvalidMessage, func(gi *GroupInfo) { gi.Extensions = Extensions{{9, nil}, {9, nil}} }},
		{"group extension that nobody supports", ErrCapabilities, ErrInvalidMessage, func(gi *GroupInfo) { gi.GroupContext.Extensions = Extensions{{0xf001, nil}} }},
		{"suite that is not usable", ErrCipherSuite, ErrInvalidMessage, func(gi *GroupInfo) { gi.GroupContext.CipherSuite = 8 }},
		{"version", ErrInvalidWelcome, ErrInvalidMessage, func(gi *GroupInfo) { gi.GroupContext.Version = 2 }},
		{"another epoch", nil, ErrWrongEpoch, func(gi *GroupInfo) { gi.GroupContext.Epoch++ }},
		{"another group", ErrInvalidSignature, ErrWrongGroup, func(gi *GroupInfo) { gi.GroupContext.GroupID = []byte("other") }},
		{"another tag", nil, ErrInvalidMessage, func(gi *GroupInfo) { gi.ConfirmationTag = make([]byte, 32) }},
		{"malformed external_pub", nil, ErrKey, func(gi *GroupInfo) { gi.Extensions = Extensions{{ExtensionExternalPub, []byte{1, 1}}} }},
		{"another tree", nil, ErrInvalidMessage, func(gi *GroupInfo) { gi.Extensions = Extensions{{ExtensionRatchetTree, []byte{0}}} }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			gi := w.groupInfoOf(w.group.state, w.who[0])
			test.harm(gi)
			noError(t, gi.sign(w.who[0].signer))
			if _, err := NewPublicGroup(w.cfg, gi, tree); !errors.Is(err, test.want) {
				t.Errorf("following refused with %v, want %v", err, test.want)
			}
			before := snapshot(t, w.group)
			if err := w.group.VerifyGroupInfo(gi); !errors.Is(err, test.follow) {
				t.Errorf("refused with %v, want %v", err, test.follow)
			}
			if snapshot(t, w.group) != before {
				t.Error("the group changed")
			}
		})
	}
	gi := w.groupInfoOf(w.group.state, w.who[0])
	gi.Extensions = Extensions{{ExtensionRatchetTree, mustMarshal(tree)}}
	noError(t, gi.sign(w.who[0].signer))
	noError(t, w.group.VerifyGroupInfo(gi))
	if _, err := NewPublicGroup(w.cfg, gi, nil); err != nil {
		t.Errorf("tree from the extension: %v", err)
	}
	gi.Signature[3] ^= 1
	gi.raw = nil
	if err := w.group.VerifyGroupInfo(gi); !errors.Is(err, ErrInvalidSignature) {
		t.Errorf("spoiled signature: %v", err)
	}
	if _, err := NewPublicGroup(w.cfg, w.groupInfoOf(w.group.state, w.who[0]), nil); !errors.Is(err, ErrInvalidWelcome) {
		t.Errorf("without a tree: %v", err)
	}
	if _, err := NewPublicGroup(Config{}, gi, tree); !errors.Is(err, errNoCredentials) {
		t.Errorf("without a verifier: %v", err)
	}
}

// TestInputIsNotKept overwrites what a group was made of and fed with.
func TestInputIsNotKept(t *testing.T) {
	w := grownHubWorld(t, 4)
	tree := mustMarshal(w.group.state.RatchetTree())
	info := mustMarshal(w.groupInfoOf(w.group.state, w.who[0]))
	var nodes RatchetTree
	var gi GroupInfo
	noError(t, tlspl.Unmarshal(tree, &nodes)) // aliases tree
	noError(t, tlspl.Unmarshal(info, &gi))
	g, err := NewPublicGroup(w.cfg, &gi, nodes)
	noError(t, err)
	proposal := mustMarshal(w.proposal(w.who[1], SelfRemoveProposal()))
	m := new(MLSMessage)
	noError(t, tlspl.Unmarshal(proposal, m))
	q, err := g.Proposal(m)
	noError(t, err)
	noError(t, g.Enqueue(q))
	w.group = g
	commit := mustMarshal(w.commit(w.who[2], ProposalOrRef{Reference: q.Ref}))
	noError(t, tlspl.Unmarshal(commit, m))
	sc, err := g.StageCommit(m)
	noError(t, err)
	noError(t, g.Merge(sc))
	before := snapshot(t, g)
	for _, b := range [][]byte{tree, info, proposal, commit} {
		for i := range b {
			b[i] = 0xaa
		}
	}
	if snapshot(t, g) != before {
		t.Fatal("the group changed with its input")
	}
	if !bytes.Equal(g.state.tree.hashAgain(), g.state.tree.treeHash()) {
		t.Fatal("the tree changed with its input")
	}
}

// TestManyProposals uses the parallel parts, with all members reading along.
func TestManyProposals(t *testing.T) {
	w := newHubWorld(t)
	var adds []Proposal
	var joiners []*party
	for i := range 40 {
		p := w.newParty(fmt.Sprint(i + 1))
		adds, joiners = append(adds, AddProposal(p.keyPackage)), append(joiners, p)
	}
	w.merge(w.stage(w.commit(w.who[0], w.value(adds...)...)), joiners...)
	w.merge(w.stage(w.commit(w.who[20])))
	var list []ProposalOrRef
	for l := LeafIndex(1); l < 12; l++ {
		list = append(list, w.propose(w.who[l], updateProposal(w.updateLeaf(w.who[l], nil))))
	}
	for l := LeafIndex(25); l < 41; l++ {
		list = append(list, w.value(RemoveProposal(l))...)
	}
	w.merge(w.stage(w.commit(w.who[15], list...)))
	s := w.group.State()
	if s.NumMembers() != 25 || s.tree.depth != 5 {
		t.Fatalf("%d members at depth %d", s.NumMembers(), s.tree.depth)
	}
	checkInvariants(t, s.tree)
	noError(t, s.tree.verifyStructure(100))
	// The lowest of several invalid proposals is reported.
	bad := slices.Clone(adds)
	for i := range bad {
		p := w.newParty(fmt.Sprint("new ", i))
		if i == 7 || i == 30 {
			w.newKeyPackage(p, func(kp *KeyPackage) { kp.CipherSuite = CipherSuite(3) })
		}
		if i == 3 {
			w.newKeyPackage(p, func(kp *KeyPackage) { kp.LeafNode.Lifetime = Lifetime{} })
		}
		bad[i] = AddProposal(p.keyPackage)
	}
	w.refuse(w.rawCommit(w.who[0], &Commit{Proposals: w.value(bad...)}), ErrExpired)
}
