package tsmls

import (
	"math/rand/v2"
	"testing"

	"github.com/comity-im/comity/mls"
)

// TestBlankLeftHalf plays what the random groups keep out of: a group whose
// members are all in the right half of the tree, where ts-mls 1.6.4 derives
// another commit_secret than RFC 9420 asks for. The members of package mls
// still agree. Once ts-mls follows, this fails, and leavesLeftBlank can go.
func TestBlankLeftHalf(t *testing.T) {
	needNode(t)
	w := newWorld(t, startNode(t), mls.X25519AES128SHA256Ed25519, publicOnly, rand.New(rand.NewPCG(0, 0)))
	w.create(w.newcomerOf(false))
	p := &plan{}
	for _, ts := range []bool{false, false, false, true} {
		n := w.newcomerOf(ts)
		p.put(w, proposal{Kind: add, KeyPackage: n.keyPackage()}, n)
	}
	creator := w.members[0]
	w.commit(creator, p) // leaves 0 to 4 of 8
	w.step++
	if last := w.members[4]; !last.ts || last.leaf != 4 {
		t.Fatalf("%s is at leaf %d", last.name, last.leaf)
	}
	p = &plan{}
	for range 2 {
		n := w.newcomerOf(false)
		p.put(w, proposal{Kind: add, KeyPackage: n.keyPackage()}, n)
	}
	w.commit(creator, p) // leaves 5 and 6
	w.step++

	var removals []proposal
	for _, m := range w.members[:4] {
		removals = append(removals, proposal{Kind: remove, Leaf: m.leaf})
	}
	if !w.leavesLeftBlank(removals) || w.leavesLeftBlank(removals[1:]) {
		t.Fatal("leavesLeftBlank is wrong")
	}
	ts, by, other := w.members[4], w.members[5], w.members[6]
	c, err := by.commit(commitOptions{proposals: removals})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ts.process(c.Commit); !refused(err, "CryptoVerificationError: Could not verify confirmation tag") {
		t.Fatalf("ts-mls follows a commit in a tree whose left half is blank: %v", err)
	}
	if _, err := other.process(c.Commit); err != nil {
		t.Fatal(err)
	}
	if err := by.merge(); err != nil {
		t.Fatal(err)
	}
	w.followed(c.Commit)
	w.entered()
	ts.broken = true
	w.members = []*member{ts, by, other}
	w.check()
}
