package mls

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestRandomGroups plays random histories of the whole protocol, with
// everything that a commit can hold: all members and the hub agree about
// every epoch, all know the right private keys, and the naive oracle computes
// the same tree hash and finds every parent hash valid.
func TestRandomGroups(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 8
	}
	for seed := range seeds {
		a := newArena(t)
		a.randomLife(rand.New(rand.NewPCG(seed, 5)), 12)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func (a *arena) randomLife(r *rand.Rand, steps int) {
	a.Helper()
	for step := range steps {
		names := slices.Clone(a.names)
		r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		by, others := names[0], names[1:]
		psk := sharedPSK()
		psk.PreSharedKey.PSK.Nonce = randomOctets(a, 32)
		o := CommitOptions{ForcePath: r.IntN(2) == 0}
		var joiners []*device
		for _, n := range others {
			if len(a.names) < 4 {
				break
			}
			g := a.groups[n]
			switch r.IntN(12) {
			case 0:
				m, err := g.ProposeUpdate(LeafParams{}, nil)
				noError(a, err)
				a.queue(n, m)
			case 1:
				m, err := g.Propose(SelfRemoveProposal(), nil)
				noError(a, err)
				a.queue(n, m)
			case 2:
				m, err := a.groups[by].Propose(AppDataUpdateProposal(testComponent, fmt.Append(nil, step)), nil)
				noError(a, err)
				a.queue(by, m)
			case 3:
				a.queue("", a.external(RemoveProposal(1+g.own%2)))
			}
			if r.IntN(12) == 0 && len(o.Proposals) == 0 {
				o.Proposals = append(o.Proposals, RemoveProposal(g.own))
			}
		}
		if r.IntN(3) == 0 {
			o.Proposals = append(o.Proposals, psk)
		}
		if r.IntN(4) == 0 {
			o.Proposals = append(o.Proposals, a.contextExtensions(func(x Extensions) Extensions { return x }))
		}
		for i := range r.IntN(4) {
			d := a.device(fmt.Sprintf("n%d.%d", step, i), nil)
			joiners = append(joiners, d)
			o.Proposals = append(o.Proposals, AddProposal(d.kp))
		}
		if r.IntN(6) == 0 {
			a.joinExternally(a.device(fmt.Sprintf("x%d", step), nil))
			continue
		}
		sc, err := a.groups[by].Commit(o)
		noError(a, err)
		a.followAll(by, sc)
		for _, d := range joiners {
			g, err := JoinWelcome(a.cfg, sc.Welcome, nil, d.kp, d.priv, d.signer)
			noError(a, err)
			a.groups[d.name] = g
			a.names = append(a.names, d.name)
		}
		a.agree()
	}
	a.refusals++
}

// queue lets all but by queue a proposal, if its target is a member.
func (a *arena) queue(by string, m *MLSMessage) {
	a.Helper()
	q, err := a.hub.Proposal(a.wire(m))
	if err != nil {
		if by != "" {
			a.Fatal(err)
		}
		return // a Remove of somebody who is no member
	}
	noError(a, a.hub.Enqueue(q))
	for _, n := range a.names {
		if n == by {
			continue
		}
		q, err := a.groups[n].Proposal(a.wire(m))
		noError(a, err)
		noError(a, a.groups[n].Enqueue(q))
	}
}

// joinExternally lets a client join by an external commit, with the
// SelfRemoves that are pending.
func (a *arena) joinExternally(d *device) {
	a.Helper()
	gi, err := a.groups[a.names[0]].GroupInfo()
	noError(a, err)
	p := JoinParams{Signer: d.signer, Credential: d.kp.LeafNode.Credential, Capabilities: d.kp.LeafNode.Capabilities}
	for _, q := range a.hub.Pending() {
		if q.Proposal.Type == ProposalSelfRemove {
			p.SelfRemoves = append(p.SelfRemoves, a.wire(q.Message))
		}
	}
	g, sc, err := JoinExternal(a.cfg, gi, a.hub.State().RatchetTree(), p)
	noError(a, err)
	a.followAll("", sc)
	a.groups[d.name] = g
	a.names = append(a.names, d.name)
	a.agree()
}

// followAll lets all merge a commit; who is removed by it leaves.
func (a *arena) followAll(by string, sc *StagedCommit) {
	a.Helper()
	public, err := a.hub.StageCommit(a.wire(sc.Message))
	noError(a, err)
	noError(a, a.hub.Merge(public))
	for _, n := range slices.Clone(a.names) {
		g := a.groups[n]
		if n == by {
			noError(a, g.Merge(sc))
			continue
		}
		got, err := g.StageCommit(a.wire(sc.Message))
		if err != nil {
			a.Fatalf("%s: %v", n, err)
		}
		noError(a, g.Merge(got))
		if got.SelfRemoved {
			delete(a.groups, n)
			a.names = slices.DeleteFunc(a.names, func(o string) bool { return o == n })
		}
	}
}

// agree checks that all are in one epoch, whose tree the oracle confirms.
func (a *arena) agree() {
	a.Helper()
	var want []byte
	for _, n := range a.names {
		g := a.groups[n]
		got, err := g.EpochAuthenticator()
		noError(a, err)
		if want == nil {
			want = got
		}
		equal(a, "epoch authenticator of "+n, got, want)
		equal(a, "GroupContext of "+n, g.state.encoded, a.hub.state.encoded)
		noError(a, g.keys.check(g.state.tree))
	}
	nodes := a.hub.State().RatchetTree()
	o := &oracleTree{nodes: make([]Node, 2<<depthFor(LeafIndex(len(nodes)-1)/2)-1)}
	copy(o.nodes, nodes)
	if !bytes.Equal(o.treeHash(o.root()), a.hub.state.context.TreeHash) {
		a.Fatal("the oracle computes another tree hash")
	}
	if !o.parentHashesValid() {
		a.Fatal("the oracle finds a parent hash that is not valid")
	}
}
