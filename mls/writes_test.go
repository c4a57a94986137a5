package mls

import (
	"fmt"
	"testing"
)

// octets counts what is written, keys of deleted records included.
func (r *Records) octets() int {
	n := 0
	for _, p := range r.Put {
		n += len(p.Key) + len(p.Value)
	}
	for _, k := range r.Delete {
		n += len(k)
	}
	return n
}

// growth is how much more a write of a group of 1 000 members may take than
// one of a group of 100: the tree is three levels higher, each of which is a
// record of a node, its private key, its secret, or a key of such a record.
const growth = 3 * 260

// A hub writes O(log N) octets for a commit, for each kind of commit and with
// the PartialGroupInfo kept.
func TestHubWritesLogarithmic(t *testing.T) {
	sizes := []int{100, 1000}
	written := make(map[string][]int)
	for _, n := range sizes {
		w := newHubWorld(t)
		w.passive = true
		w.group.cfg.Limits.MaxProposals = n
		var adds []Proposal
		var joiners []*party
		for i := 1; i < n; i++ {
			p := w.newParty(fmt.Sprintf("%04d", i))
			adds, joiners = append(adds, AddProposal(p.keyPackage)), append(joiners, p)
		}
		w.merge(w.stage(w.commit(w.who[0], w.value(adds...)...)), joiners...)
		step := func(what string, m *MLSMessage, joiners ...*party) {
			t.Helper()
			last := w.group.Clone()
			w.merge(w.stage(m), joiners...)
			gi := w.groupInfoOf(w.group.State(), w.who[0])
			noError(t, w.group.KeepGroupInfo(gi))
			r := w.group.Records(last)
			written[what] = append(written[what], r.octets())
		}
		step("path", w.commit(w.who[LeafIndex(n/2)]))
		step("remove", w.commit(w.who[LeafIndex(n/3)], w.value(RemoveProposal(LeafIndex(n/4)))...))
		p := w.newParty("more")
		step("add", w.commit(w.who[LeafIndex(n/2)], w.value(AddProposal(p.keyPackage))...), p)
	}
	checkGrowth(t, written, sizes)
}

// A member writes O(log N) octets for a commit of its own or of another, and
// for a message.
func TestMemberWritesLogarithmic(t *testing.T) {
	sizes := []int{100, 1000}
	written := make(map[string][]int)
	for _, n := range sizes {
		w := newWorld(t, suite1)
		g := w.groups["m0"]
		var o CommitOptions
		joiner := w.device("me")
		o.Proposals = append(o.Proposals, AddProposal(joiner.kp))
		for i := 2; i < n; i++ {
			o.Proposals = append(o.Proposals, AddProposal(w.device(fmt.Sprintf("%04d", i)).kp))
		}
		sc, err := g.Commit(o)
		noError(t, err)
		noError(t, g.Merge(sc))
		me, err := JoinWelcome(w.cfg, sc.Welcome, nil, joiner.kp, joiner.priv, joiner.signer)
		noError(t, err)
		for _, g := range []*Group{g, me} {
			g.Records() // the whole group
		}
		step := func(what string, g *Group) {
			t.Helper()
			r := g.Records()
			written[what] = append(written[what], r.octets())
		}
		commit := func(from, to *Group, what string, o CommitOptions) {
			t.Helper()
			sc, err := from.Commit(o)
			noError(t, err)
			got, err := to.StageCommit(w.wire(sc.Message))
			noError(t, err)
			noError(t, from.Merge(sc))
			noError(t, to.Merge(got))
			step(what+", made", from)
			step(what+", received", to)
		}
		say := func(from, to *Group, what string) {
			t.Helper()
			m, err := from.Encrypt([]byte("text"), nil)
			noError(t, err)
			_, err = to.Decrypt(w.wire(m))
			noError(t, err)
			step(what+", sent", from)
			step(what+", received", to)
		}
		say(g, me, "first message")
		say(g, me, "next message")
		commit(me, g, "path", CommitOptions{})
		commit(g, me, "remove", CommitOptions{Proposals: []Proposal{RemoveProposal(LeafIndex(n / 2))}})
		commit(me, g, "add", CommitOptions{Proposals: []Proposal{AddProposal(w.device("more").kp)}})
		for range w.cfg.withLimits().PastEpochs { // until epochs are dropped
			say(me, g, "message of another epoch")
			commit(g, me, "empty", CommitOptions{})
		}
	}
	checkGrowth(t, written, sizes)
}

func (c Config) withLimits() Limits { return c.Limits.withDefaults() }

// checkGrowth compares what was written for the first half of each list, of
// the smaller group, with that for the other half.
func checkGrowth(t *testing.T, written map[string][]int, sizes []int) {
	t.Helper()
	for what, list := range written {
		half := len(list) / 2
		for i := range half {
			small, large := list[i], list[half+i]
			if large-small > growth {
				t.Errorf("%s: %d octets for %d members, %d for %d", what, small, sizes[0], large, sizes[1])
			}
		}
	}
}
