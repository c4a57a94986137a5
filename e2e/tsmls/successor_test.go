package tsmls

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/comity-im/comity/mls"
)

// TestSuccessors plays groups that end with a ReInit and continue as another,
// and groups off which another branches, each created by a member of either
// kind and joined by members of both.
func TestSuccessors(t *testing.T) {
	needNode(t)
	n := startNode(t)
	for _, k := range []kind{branch, reinit} {
		for _, byTS := range []bool{false, true} {
			for _, mode := range []mode{publicOnly, privateOnly} {
				t.Run(fmt.Sprintf("%s/by ts-mls %v/private %v", k, byTS, mode == privateOnly), func(t *testing.T) {
					playSuccessor(t, n, k, byTS, mode)
				})
			}
		}
	}
}

func playSuccessor(t *testing.T, n *node, k kind, byTS bool, mode mode) {
	w := newWorld(t, n, mls.X25519AES128SHA256Ed25519, mode, rand.New(rand.NewPCG(1, 2)))
	w.create(w.newcomerOf(false))
	p := &plan{}
	for _, ts := range []bool{true, false, true} {
		n := w.newcomerOf(ts)
		p.put(w, proposal{Kind: add, KeyPackage: n.keyPackage()}, n)
	}
	w.commit(w.members[0], p)
	w.commit(w.members[1], &plan{})

	by := w.members[slices.IndexFunc(w.members, func(m *member) bool { return m.ts == byTS })]
	next := &world{T: t, r: w.r, node: n, suite: w.suite, mode: mode, made: w.made, maxMembers: w.maxMembers}
	if k == reinit {
		next.suite = mls.X25519ChaCha20SHA256Ed25519
		p := &plan{}
		p.put(w, proposal{Kind: reinit, GroupID: []byte("next"), Suite: next.suite}, nil)
		// The closed group takes no GroupInfo of anyone to look at.
		c, err := by.commit(p.commitOptions)
		if err != nil {
			t.Fatalf("%s commits a ReInit: %v", by.name, err)
		}
		w.deliverCommit(by, c.Commit, nil, nil)
		if err := by.merge(); err != nil {
			t.Fatal(err)
		}
	}
	var kps [][]byte
	for _, m := range w.members {
		if k == branch && m == w.members[3] && !byTS {
			continue // a branch need not have all
		}
		c, err := m.successor(next.suite)
		if err != nil {
			t.Fatalf("%s makes a key package: %v", m.name, err)
		}
		s := &member{client: c, name: m.name, ts: m.ts, since: 1}
		if m.ts {
			s.name += "'" // as the driver has it
		}
		next.members = append(next.members, s)
		if m != by {
			kps = append(kps, c.keyPackage())
		}
	}
	creator := next.members[slices.Index(w.members, by)]
	c, err := creator.succeed(k, []byte("next"), kps)
	if err != nil {
		t.Fatalf("%s creates the next group: %v", by.name, err)
	}
	next.epoch = 1
	for _, m := range next.members {
		if m == creator {
			continue
		}
		if err := m.joinSuccessor(k, c.Welcome, c.Tree); err != nil {
			t.Fatalf("%s joins the next group: %v", m.name, err)
		}
	}
	next.check()
	next.commit(next.members[1], &plan{})
	next.commit(next.members[2], &plan{})
}
