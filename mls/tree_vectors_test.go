package mls

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/internal/vectors"
)

func TestTreeMathVectors(t *testing.T) {
	var cases []struct {
		NLeaves uint32    `json:"n_leaves"`
		NNodes  uint32    `json:"n_nodes"`
		Root    uint32    `json:"root"`
		Left    []*uint32 `json:"left"`
		Right   []*uint32 `json:"right"`
		Parent  []*uint32 `json:"parent"`
		Sibling []*uint32 `json:"sibling"`
	}
	vectors.Load(t, "mls", "tree-math.json", &cases)
	for _, c := range cases {
		depth := depthFor(LeafIndex(c.NLeaves - 1))
		if got := uint32(1)<<(depth+1) - 1; got != c.NNodes {
			t.Fatalf("%d leaves: %d nodes, want %d", c.NLeaves, got, c.NNodes)
		}
		root := rootPosition(depth)
		if uint32(root) != c.Root {
			t.Fatalf("%d leaves: root %d, want %d", c.NLeaves, root, c.Root)
		}
		check := func(what string, x nodeIndex, want *uint32, has bool, f func() nodeIndex) {
			t.Helper()
			if (want != nil) != has {
				t.Fatalf("%d leaves: node %d has %s: %v, want %v", c.NLeaves, x, what, has, want != nil)
			}
			if has && uint32(f()) != *want {
				t.Fatalf("%d leaves: %s of %d is %d, want %d", c.NLeaves, what, x, f(), *want)
			}
		}
		for x := range nodeIndex(c.NNodes) {
			check("left", x, c.Left[x], !x.isLeaf(), x.left)
			check("right", x, c.Right[x], !x.isLeaf(), x.right)
			check("parent", x, c.Parent[x], x != root, x.parent)
			check("sibling", x, c.Sibling[x], x != root, x.sibling)
		}
	}
}

func vectorTree(t *testing.T, s *suite, b []byte) *tree {
	t.Helper()
	var nodes RatchetTree
	decode(t, b, &nodes)
	tree, err := nodes.buildTree(s)
	noError(t, err)
	tree.freeze()
	return tree
}

func TestTreeOperationsVectors(t *testing.T) {
	var cases []struct {
		CipherSuite    CipherSuite `json:"cipher_suite"`
		TreeBefore     vectors.Hex `json:"tree_before"`
		Proposal       vectors.Hex `json:"proposal"`
		ProposalSender LeafIndex   `json:"proposal_sender"`
		TreeHashBefore vectors.Hex `json:"tree_hash_before"`
		TreeAfter      vectors.Hex `json:"tree_after"`
		TreeHashAfter  vectors.Hex `json:"tree_hash_after"`
	}
	vectors.Load(t, "mls", "tree-operations.json", &cases)
	for i, c := range cases {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			before := vectorTree(t, mustSuite(t, c.CipherSuite), c.TreeBefore)
			equal(t, "tree hash before", before.treeHash(), c.TreeHashBefore)
			var p Proposal
			decode(t, c.Proposal, &p)
			after := before.fork()
			var err error
			switch p.Type {
			case ProposalAdd:
				_, err = after.addLeaf(&p.Add.KeyPackage.LeafNode)
			case ProposalUpdate:
				after.blankLeaf(c.ProposalSender)
				err = after.setLeaf(c.ProposalSender, &p.Update.LeafNode)
			case ProposalRemove:
				after.blankLeaf(p.Remove.Removed)
			default:
				t.Fatalf("proposal %v", p.Type)
			}
			noError(t, err)
			after.truncate()
			after.freeze()
			equal(t, "tree after", mustMarshal(after.ratchetTree()), c.TreeAfter)
			equal(t, "tree hash after", after.treeHash(), c.TreeHashAfter)
			equal(t, "tree before, again", mustMarshal(before.ratchetTree()), c.TreeBefore)
		})
	}
}

func TestTreeValidationVectors(t *testing.T) {
	var cases []struct {
		CipherSuite CipherSuite   `json:"cipher_suite"`
		Tree        vectors.Hex   `json:"tree"`
		GroupID     vectors.Hex   `json:"group_id"`
		Resolutions [][]nodeIndex `json:"resolutions"`
		TreeHashes  []vectors.Hex `json:"tree_hashes"`
	}
	vectors.Load(t, "mls", "tree-validation.json", &cases)
	for i, c := range cases {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			tree := vectorTree(t, mustSuite(t, c.CipherSuite), c.Tree)
			equal(t, "tree encoded again", mustMarshal(tree.ratchetTree()), c.Tree)
			for x := range nodeIndex(len(c.TreeHashes)) {
				equal(t, fmt.Sprintf("tree hash of %d", x), tree.hash(x), c.TreeHashes[x])
				var got []nodeIndex
				for y := range tree.resolution(x) {
					got = append(got, y)
				}
				if !slices.Equal(got, c.Resolutions[x]) {
					t.Fatalf("resolution of %d is %v, want %v", x, got, c.Resolutions[x])
				}
			}
			noError(t, tree.verifyStructure(1000))
			for l, leaf := range tree.members() {
				noError(t, leaf.VerifySignature(c.CipherSuite, c.GroupID, l))
			}
		})
	}
}

func TestTreeKEMVectors(t *testing.T) {
	type pathSecret struct {
		Node       nodeIndex   `json:"node"`
		PathSecret vectors.Hex `json:"path_secret"`
	}
	var cases []struct {
		CipherSuite             CipherSuite `json:"cipher_suite"`
		GroupID                 vectors.Hex `json:"group_id"`
		Epoch                   uint64      `json:"epoch"`
		ConfirmedTranscriptHash vectors.Hex `json:"confirmed_transcript_hash"`
		RatchetTree             vectors.Hex `json:"ratchet_tree"`
		LeavesPrivate           []struct {
			Index          LeafIndex    `json:"index"`
			EncryptionPriv vectors.Hex  `json:"encryption_priv"`
			SignaturePriv  vectors.Hex  `json:"signature_priv"`
			PathSecrets    []pathSecret `json:"path_secrets"`
		} `json:"leaves_private"`
		UpdatePaths []struct {
			Sender        LeafIndex     `json:"sender"`
			UpdatePath    vectors.Hex   `json:"update_path"`
			PathSecrets   []vectors.Hex `json:"path_secrets"`
			CommitSecret  vectors.Hex   `json:"commit_secret"`
			TreeHashAfter vectors.Hex   `json:"tree_hash_after"`
		} `json:"update_paths"`
	}
	vectors.Load(t, "mls", "treekem.json", &cases)
	for i, c := range cases {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			s := mustSuite(t, c.CipherSuite)
			tree := vectorTree(t, s, c.RatchetTree)
			keys := make(map[LeafIndex]treeKeys)
			signers := make(map[LeafIndex]Signer)
			for _, l := range c.LeavesPrivate {
				own := treeKeys{leafPosition(l.Index): l.EncryptionPriv}
				for _, ps := range l.PathSecrets {
					n, err := s.derivePathNode(ps.PathSecret)
					noError(t, err)
					own[ps.Node] = n.private
				}
				noError(t, own.check(tree))
				keys[l.Index] = own
				signer, err := NewSigner(c.CipherSuite, l.SignaturePriv)
				noError(t, err)
				signers[l.Index] = signer
			}
			// The vectors bind path secrets to the epoch that they name; a
			// commit binds them to the one it begins.
			before := &State{suite: s, tree: tree, context: GroupContext{
				Version: MLS10, CipherSuite: c.CipherSuite, GroupID: c.GroupID, Epoch: c.Epoch,
				TreeHash: tree.treeHash(), ConfirmedTranscriptHash: c.ConfirmedTranscriptHash,
			}}
			begin := func(sender LeafIndex) *provisional {
				p, err := before.stageProposals(testConfig(t), nil, MemberSender(sender))
				noError(t, err)
				p.context.Epoch = c.Epoch
				return p
			}
			receive := func(p *provisional, path *UpdatePath, commitSecret []byte, pathSecrets []vectors.Hex) {
				for l, own := range keys {
					if l == p.committer {
						continue
					}
					secret, updated, err := p.decryptPath(path, l, own)
					noError(t, err)
					equal(t, fmt.Sprintf("commit secret for leaf %d", l), secret, commitSecret)
					noError(t, updated.check(p.tree))
					if pathSecrets == nil {
						continue
					}
					lca := slices.IndexFunc(p.tree.filteredPath(p.committer), func(x nodeIndex) bool { return x.covers(l) })
					n, err := s.derivePathNode(pathSecrets[l])
					noError(t, err)
					equal(t, "key of the decrypted path secret", n.private, updated[p.tree.filteredPath(p.committer)[lca]])
				}
			}
			for i, u := range c.UpdatePaths {
				if i > 1 && c.CipherSuite == P521AES256SHA512P521 {
					break // its arithmetic is slow
				}
				var path UpdatePath
				decode(t, u.UpdatePath, &path)
				p := begin(u.Sender)
				applyVectorPath(t, p, &path)
				equal(t, "tree hash after", p.tree.treeHash(), u.TreeHashAfter)
				receive(p, &path, u.CommitSecret, u.PathSecrets)

				p = begin(u.Sender)
				leaf := *tree.leaf(u.Sender)
				leaf.Capabilities.CipherSuites = []CipherSuite{c.CipherSuite}
				created, err := p.createPath(&leaf, signers[u.Sender])
				noError(t, err)
				again := begin(u.Sender)
				noError(t, again.applyPath(created.path))
				equal(t, "tree hash of the new path", again.tree.treeHash(), p.tree.treeHash())
				receive(again, created.path, created.commitSecret, nil)
				noError(t, created.keys.check(again.tree))
			}
			if !bytes.Equal(mustMarshal(tree.ratchetTree()), c.RatchetTree) {
				t.Fatal("the tree before the paths changed")
			}
		})
	}
}

// applyVectorPath is applyPath. The leaves of the vectors for P-384 do not list
// their own suite: such a path is merged without the check of its leaf.
func applyVectorPath(t *testing.T, p *provisional, path *UpdatePath) {
	t.Helper()
	if slices.Contains(path.LeafNode.Capabilities.CipherSuites, p.tree.suite.id) {
		noError(t, p.applyPath(path))
		return
	}
	if err := p.applyPath(path); !errors.Is(err, ErrCapabilities) {
		t.Fatalf("leaf that does not list its suite: %v", err)
	}
	noError(t, path.LeafNode.VerifySignature(p.tree.suite.id, p.context.GroupID, p.committer))
	leaf, err := path.LeafNode.detached()
	noError(t, err)
	var keys [][]byte
	for i := range path.Nodes {
		keys = append(keys, path.Nodes[i].EncryptionKey)
	}
	hash, err := p.mergePath(leaf, keys)
	noError(t, err)
	equal(t, "parent hash", leaf.ParentHash, hash)
	p.hasPath = true
	noError(t, p.seal())
}

var _ tlspl.Marshaler = RatchetTree(nil)
