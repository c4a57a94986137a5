package mls

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// mail is a message that some members have not read yet.
type mail struct {
	m     *MLSMessage
	text  string
	from  string
	epoch Epoch
	to    map[string]bool
}

// TestRandomLife plays random sequences of everything that members do, with
// messages that arrive late and out of order, members that are stored and
// loaded between all steps, and a hub that follows without secrets.
func TestRandomLife(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { randomLife(t, seed, 40) })
	}
}

func randomLife(t *testing.T, seed uint64, steps int) {
	r := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t, []CipherSuite{1, 2, 3}[seed%3])
	w.stores = map[string]map[string][]byte{"m0": {}}
	w.reload("m0")
	gi, err := w.groups["m0"].GroupInfo()
	noError(t, err)
	hub, err := NewPublicGroup(w.cfg, gi, w.groups["m0"].State().RatchetTree())
	noError(t, err)
	next := 1
	name := func() string { next++; return fmt.Sprintf("m%d", next-1) }
	some := func() string { return w.names[r.IntN(len(w.names))] }
	var mails []*mail

	follow := func(sc *StagedCommit) {
		got, err := hub.StageCommit(w.wire(sc.Message))
		noError(t, err)
		noError(t, hub.Merge(got))
		noError(t, hub.VerifyGroupInfo(w.wire(GroupInfoMessage(sc.GroupInfo)).GroupInfo))
	}
	propose := func(m *MLSMessage) {
		q, err := hub.Proposal(w.wire(m))
		noError(t, err)
		noError(t, hub.Enqueue(q))
	}
	read := func(x *mail, who string) {
		g := w.groups[who]
		delete(x.to, who)
		if g == nil {
			return
		}
		got, err := g.Decrypt(w.wire(x.m))
		switch {
		case x.epoch+3 < g.State().Epoch():
			if !errors.Is(err, ErrWrongEpoch) {
				t.Fatalf("%s reads a message of epoch %d in epoch %d: %v", who, x.epoch, g.State().Epoch(), err)
			}
			return
		case err != nil:
			t.Fatalf("%s reads what %s said in epoch %d, in epoch %d: %v", who, x.from, x.epoch, g.State().Epoch(), err)
		case string(got.Data) != x.text || string(got.Leaf.Credential.Identity) != x.from || got.Epoch != x.epoch:
			t.Fatalf("%s reads %q from %q", who, got.Data, got.Leaf.Credential.Identity)
		}
		w.reload(who)
		if _, err := w.groups[who].Decrypt(w.wire(x.m)); !errors.Is(err, ErrReplay) {
			t.Fatalf("%s reads it twice: %v", who, err)
		}
	}
	for step := range steps {
		switch op := r.IntN(12); {
		case op < 5: // somebody says something, some read it
			from := some()
			x := &mail{from: from, text: fmt.Sprintf("%s at %d", from, step), epoch: w.groups[from].State().Epoch(), to: map[string]bool{}}
			m, err := w.groups[from].Encrypt([]byte(x.text), nil)
			noError(t, err)
			w.reload(from)
			x.m = m
			for _, n := range w.names {
				if n != from {
					x.to[n] = true
				}
			}
			mails = append(mails, x)
		case op < 7: // late mail arrives
			for range len(mails) {
				x := mails[r.IntN(len(mails))]
				for who := range x.to {
					read(x, who)
					break
				}
			}
		case op == 7:
			if len(w.names) < 12 {
				propose(w.propose(some(), AppDataUpdateProposal(testComponent, fmt.Appendf(nil, "%d,", step))))
			}
		case op == 8: // an external join, with the self-removes that are pending
			by := some()
			gi, err := w.groups[by].GroupInfo()
			noError(t, err)
			d := w.device(name())
			p := JoinParams{Signer: d.signer, Credential: BasicCredential([]byte(d.name))}
			gone := map[LeafIndex]bool{}
			for _, q := range hub.Pending() {
				if q.Proposal.Type == ProposalSelfRemove {
					p.SelfRemoves = append(p.SelfRemoves, w.wire(q.Message))
					gone[q.Sender.Leaf] = true
				}
			}
			if len(gone) == len(w.names) {
				continue
			}
			g, sc, err := JoinExternal(w.cfg, w.wire(GroupInfoMessage(gi)).GroupInfo, hub.State().RatchetTree(), p)
			noError(t, err)
			follow(sc)
			for _, n := range append([]string(nil), w.names...) {
				got, err := w.groups[n].StageCommit(w.wire(sc.Message))
				noError(t, err)
				noError(t, w.groups[n].Merge(got))
				w.reload(n)
				if got.SelfRemoved {
					w.leave(n)
				}
			}
			w.join(d.name, g)
		case op == 9 && len(w.names) > 2: // somebody wants to leave
			n := some()
			m, err := w.groups[n].Propose(SelfRemoveProposal(), nil)
			noError(t, err)
			w.reload(n)
			w.deliverProposal(n, m)
			propose(m)
		default: // a commit of this and that
			by := some()
			g := w.groups[by]
			leaving := map[LeafIndex]bool{}
			for _, q := range g.Pending() {
				if q.Proposal.Type == ProposalSelfRemove {
					leaving[q.Sender.Leaf] = true
				}
			}
			if leaving[g.OwnLeaf()] {
				continue // who leaves does not commit
			}
			o := CommitOptions{ForcePath: r.IntN(2) == 0}
			var ds []*device
			for range r.IntN(3) {
				d := w.device(name())
				ds = append(ds, d)
				o.Proposals = append(o.Proposals, AddProposal(d.kp))
			}
			if victim := w.groups[some()]; r.IntN(3) == 0 && victim != g {
				o.Proposals = append(o.Proposals, RemoveProposal(victim.OwnLeaf()))
			}
			sc, err := g.Commit(o)
			noError(t, err)
			sc = w.reloadStaged(by, sc)
			follow(sc)
			w.deliver(by, sc, ds...)
		}
		if len(w.names) > 0 {
			g := w.groups[some()]
			if !bytes.Equal(hub.State().encoded, g.State().encoded) {
				t.Fatalf("step %d: the hub and a member disagree", step)
			}
		}
	}
}
