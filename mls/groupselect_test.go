package mls

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"
)

// A commit takes those of the pending proposals that CommitOptions.Only
// names, and no others.
func TestCommitOnly(t *testing.T) {
	w := newWorld(t, X25519AES128SHA256Ed25519)
	w.add("m0", "m1", "m2", "m3")
	w.propose("m1", RemoveProposal(w.groups["m2"].OwnLeaf()))
	w.propose("m1", RemoveProposal(w.groups["m3"].OwnLeaf()))
	pending := w.groups["m0"].Pending()
	_, err := w.groups["m0"].Commit(CommitOptions{Only: []ProposalRef{pending[0].Ref, []byte("unknown")}})
	if !errors.Is(err, ErrMissingProposal) {
		t.Fatalf("commit of an unknown proposal: %v", err)
	}
	sc := w.commit("m0", CommitOptions{Only: []ProposalRef{pending[1].Ref}})
	if len(sc.Proposals) != 1 || !bytes.Equal(sc.Proposals[0].Ref, pending[1].Ref) {
		t.Fatalf("the commit holds %d proposals; want the one that was named", len(sc.Proposals))
	}
	if _, ok := w.groups["m2"]; !ok || len(w.names) != 3 {
		t.Fatalf("members are %v; want m0, m1 and m2", w.names)
	}
}

// Whoever gets no tree elsewhere joins by a GroupInfo that holds it.
func TestGroupInfoWithTree(t *testing.T) {
	w := newWorld(t, X25519AES128SHA256Ed25519)
	w.add("m0", "m1", "m2")
	plain, err := w.groups["m1"].GroupInfo()
	noError(t, err)
	d := w.device("m3")
	p := JoinParams{Signer: d.signer, Credential: d.kp.LeafNode.Credential}
	if _, _, err := JoinExternal(w.cfg, plain, nil, p); !errors.Is(err, ErrInvalidWelcome) {
		t.Fatalf("join without a tree: %v", err)
	}
	gi, err := w.groups["m1"].GroupInfoWithTree()
	noError(t, err)
	got := w.wire(GroupInfoMessage(gi)).GroupInfo
	g, sc, err := JoinExternal(w.cfg, got, nil, p)
	noError(t, err)
	for _, name := range w.names {
		o, err := w.groups[name].StageCommit(w.wire(sc.Message))
		noError(t, err)
		noError(t, w.groups[name].Merge(o))
	}
	w.join("m3", g)
	w.check()
}

// A lifetime without end is refused, unless Limits says that any will do.
func TestMaxLifetime(t *testing.T) {
	for _, c := range []struct {
		max  time.Duration
		want error
	}{{0, ErrExpired}, {time.Hour, ErrExpired}, {-1, nil}} {
		cfg := worldConfig()
		cfg.Limits.MaxLifetime = c.max
		full, err := cfg.withDefaults()
		noError(t, err)
		if err := full.checkLifetime(Lifetime{NotBefore: 0, NotAfter: math.MaxUint64}); !errors.Is(err, c.want) {
			t.Errorf("limit %v: %v; want %v", c.max, err, c.want)
		}
		if err := full.checkLifetime(Lifetime{NotBefore: 0, NotAfter: 1}); !errors.Is(err, ErrExpired) {
			t.Errorf("limit %v: a lifetime that is over: %v", c.max, err)
		}
	}
}
