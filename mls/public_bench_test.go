package mls

import (
	"fmt"
	"math/bits"
	"testing"
)

// benchWorld returns a group of n members. In a warm one every member has
// committed, so that a path has one receiver per level; in a cold one all were
// added at once.
func benchWorld(b *testing.B, n int, warm bool) *hubWorld {
	b.Helper()
	w := newHubWorld(b)
	w.passive = true
	w.group.cfg.Limits.MaxProposals = n
	var adds []Proposal
	var joiners []*party
	for i := 1; i < n; i++ {
		p := w.newParty(fmt.Sprint(i))
		adds, joiners = append(adds, AddProposal(p.keyPackage)), append(joiners, p)
	}
	w.merge(w.stage(w.commit(w.who[0], w.value(adds...)...)), joiners...)
	if warm {
		// In this order each commit gives a whole subtree one key, which
		// spares the next ones to encrypt to all of its leaves.
		depth := depthFor(LeafIndex(n - 1))
		for i := range uint32(1) << depth {
			if l := LeafIndex(bits.Reverse32(i) >> (32 - depth)); int(l) < n {
				w.merge(w.stage(w.commit(w.who[l])))
			}
		}
	}
	return w
}

var benchSizes = []int{10, 100, 1000}

// BenchmarkPublicGroupCommit is a hub that parses, verifies and merges an
// empty commit. BenchmarkPublicGroupCommitFloor is what it cannot do without:
// two signatures, and the hashes of a path.
func BenchmarkPublicGroupCommit(b *testing.B) {
	for _, warm := range []bool{true, false} {
		for _, n := range benchSizes {
			b.Run(fmt.Sprintf("warm=%v/n=%d", warm, n), func(b *testing.B) {
				w := benchWorld(b, n, warm)
				message := mustMarshal(w.commit(w.who[LeafIndex(n/2)]))
				b.ReportMetric(float64(len(message)), "octets")
				b.ReportAllocs()
				for b.Loop() {
					g := w.group.Clone()
					m := new(MLSMessage)
					noError(b, Unmarshal(message, m))
					sc, err := g.StageCommit(m)
					noError(b, err)
					noError(b, g.Merge(sc))
				}
			})
		}
	}
}

func BenchmarkPublicGroupCommitFloor(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			w := benchWorld(b, 4, true)
			m := w.commit(w.who[1])
			a := m.PublicMessage.authenticated()
			leaf := &a.Content.Commit.Path.LeafNode
			t := w.group.state.tree
			raw, root := string(mustMarshal(leaf)), t.rawParent(rootPosition(t.depth))
			depth := depthFor(LeafIndex(n - 1))
			for b.Loop() {
				noError(b, w.group.state.verifyContent(a))
				noError(b, leaf.VerifySignature(1, w.group.state.GroupID(), 1))
				t.leafTreeHash(raw, 1)
				for range depth {
					t.parentTreeHash(root, leaf.SignatureKey, leaf.SignatureKey)
					t.parentHash(t.rootParent(), leaf.SignatureKey)
				}
			}
		})
	}
}

// BenchmarkPublicGroupAdd is a hub that processes a commit of one Add.
func BenchmarkPublicGroupAdd(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			w := benchWorld(b, n, true)
			m := w.rawCommit(w.who[1], &Commit{Proposals: w.value(AddProposal(w.newParty("p").keyPackage))})
			b.ReportAllocs()
			for b.Loop() {
				_, err := w.group.StageCommit(m)
				noError(b, err)
			}
		})
	}
}

// BenchmarkVerifyTree is a whole tree on joining: decoded, hashed and
// verified. BenchmarkVerifyTreeFloor is its signatures only, on the same
// processors.
func BenchmarkVerifyTree(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			w := benchWorld(b, n, true)
			gi := w.groupInfoOf(w.group.state, w.who[0])
			encoded := mustMarshal(w.group.state.RatchetTree())
			b.ReportMetric(float64(len(encoded)), "octets")
			b.ReportAllocs()
			for b.Loop() {
				var nodes RatchetTree
				noError(b, Unmarshal(encoded, &nodes))
				_, err := NewPublicGroup(w.cfg, gi, nodes)
				noError(b, err)
			}
		})
	}
}

func BenchmarkVerifyTreeFloor(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			w := benchWorld(b, 4, true)
			leaf := w.group.state.tree.leaf(1)
			for b.Loop() {
				noError(b, parallel(n, func(int) error { return leaf.VerifySignature(1, w.group.state.GroupID(), 1) }))
			}
		})
	}
}

// BenchmarkRecords is what a hub stores after one commit.
func BenchmarkRecords(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			w := benchWorld(b, n, true)
			last := w.group.Clone()
			w.merge(w.stage(w.commit(w.who[1])))
			octets := 0
			for _, r := range w.group.Records(last).Put {
				octets += len(r.Key) + len(r.Value)
			}
			b.ReportMetric(float64(octets), "octets")
			for b.Loop() {
				w.group.Records(last)
			}
		})
	}
}
