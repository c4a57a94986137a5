package mls

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

const suiteP256 = P256AES128SHA256P256

// deviceOf makes a key package for another suite than the world's.
func (w *world) deviceOf(suite CipherSuite, name string) *device {
	w.Helper()
	old := w.suite
	defer func() { w.suite = old }()
	w.suite = suite
	return w.device(name)
}

// successorOf returns the parameters with which name creates a successor with
// the given devices.
func successorOf(own *device, others ...*device) SuccessorParams {
	p := SuccessorParams{Signer: own.signer, Credential: BasicCredential([]byte(own.name))}
	for _, d := range others {
		p.KeyPackages = append(p.KeyPackages, d.kp)
	}
	return p
}

// closeGroup commits a ReInit of name.
func (w *world) closeGroup(name string, r ReInit) {
	w.Helper()
	sc, err := w.groups[name].Commit(CommitOptions{Proposals: []Proposal{ReInitProposal(r)}})
	noError(w, err)
	sc = w.reloadStaged(name, sc)
	for _, n := range w.names {
		if n != name {
			got, err := w.groups[n].StageCommit(w.wire(sc.Message))
			noError(w, err)
			noError(w, w.groups[n].Merge(got))
			w.reload(n)
		}
	}
	noError(w, w.groups[name].Merge(sc))
	w.reload(name)
}

func TestReinitialize(t *testing.T) {
	required := mustMarshal(RequiredCapabilities{Proposals: []ProposalType{ProposalSelfRemove}})
	ri := ReInit{GroupID: []byte("next"), Version: MLS10, CipherSuite: suiteP256, Extensions: Extensions{{ExtensionRequiredCapabilities, required}}}
	w := newWorld(t, suite1)
	w.stores = map[string]map[string][]byte{"m0": {}}
	w.reload("m0")
	w.add("m0", "m1", "m2", "m3")
	w.commit("m1", CommitOptions{Proposals: []Proposal{RemoveProposal(2)}})
	late, err := w.groups["m3"].Encrypt([]byte("late"), nil)
	noError(t, err)
	w.closeGroup("m0", ri)
	if len(w.names) != 3 {
		t.Fatalf("members are %v", w.names)
	}

	// The old group is closed, but late messages open.
	g := w.groups["m1"]
	got, err := g.Decrypt(w.wire(late))
	noError(t, err)
	equal(t, "data", got.Data, []byte("late"))
	_, err = g.Encrypt([]byte("x"), nil)
	refused(t, "Encrypt", err, ErrInvalidMessage)
	_, err = g.Commit(CommitOptions{})
	refused(t, "Commit", err, ErrInvalidMessage)
	_, err = g.Propose(RemoveProposal(0), nil)
	refused(t, "Propose", err, ErrInvalidMessage)
	_, err = g.GroupInfo()
	refused(t, "GroupInfo", err, ErrInvalidMessage)
	_, _, err = g.Branch(SuccessorParams{})
	refused(t, "Branch", err, ErrInvalidMessage)

	// Another member than the committer creates the new one; it has another
	// suite, so everyone has a new key.
	m0, m1, m3 := w.deviceOf(suiteP256, "m0"), w.deviceOf(suiteP256, "m1"), w.deviceOf(suiteP256, "m3")
	eve, m2 := w.deviceOf(suiteP256, "eve"), w.deviceOf(suiteP256, "m2")
	for name, p := range map[string]SuccessorParams{
		"one is missing":          successorOf(m1, m0),
		"one too many":            successorOf(m1, m0, m3, eve),
		"a stranger":              successorOf(m1, m0, eve),
		"one who was removed":     successorOf(m1, m0, m2),
		"the same twice":          successorOf(m1, m0, m0),
		"the creator twice":       successorOf(m1, m0, m1),
		"another creator":         successorOf(eve, m0, m3),
		"a key of another suite":  successorOf(w.device("m1"), m0, m3),
		"packages of other suite": successorOf(m1, w.device("m0"), m3),
	} {
		if n, _, err := g.Reinitialize(p); err == nil || n != nil {
			t.Errorf("%s: a group is made", name)
		}
	}
	p := successorOf(m1, m0, m3)
	p.GroupID = []byte("elsewhere")
	_, _, err = g.Reinitialize(p)
	refused(t, "another ID", err, ErrInvalidProposal)

	n1, sc, err := g.Reinitialize(successorOf(m1, m0, m3))
	noError(t, err)
	if n1.State().Epoch() != 1 || n1.State().CipherSuite() != suiteP256 || string(n1.State().GroupID()) != "next" || len(n1.past) != 0 {
		t.Fatalf("the new group is %q in epoch %d", n1.State().GroupID(), n1.State().Epoch())
	}
	next := &world{TB: t, suite: suiteP256, cfg: w.cfg, groups: map[string]*Group{}, stores: map[string]map[string][]byte{}}
	next.join("m1", n1)
	for _, d := range []*device{m0, m3} {
		welcome := w.wire(WelcomeMessage(sc.Welcome)).Welcome
		_, err := JoinWelcome(w.cfg, welcome, nil, d.kp, d.priv, d.signer)
		refused(t, "JoinWelcome", err, ErrPSK)
		_, err = w.groups[d.name].JoinBranch(welcome, nil, d.kp, d.priv, d.signer)
		refused(t, "JoinBranch", err, ErrInvalidWelcome)
		n, err := w.groups[d.name].JoinReinitialized(welcome, nil, d.kp, d.priv, d.signer)
		noError(t, err)
		next.join(d.name, n)
	}
	next.check()
	next.add("m3", "m4")
	next.commit("m0", CommitOptions{})
}

func refused(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v; want %v", what, err, want)
	}
}

// forgedSuccessor makes a successor that spoils what a joiner must check:
// change is applied to the parameters, id to the resumption key.
func forgedSuccessor(t testing.TB, parent *Group, l *link, suite CipherSuite, p SuccessorParams, id func(*PreSharedKeyID), more ...Proposal) (*Group, *Welcome) {
	t.Helper()
	n, err := CreateGroup(*parent.cfg, GroupParams{
		CipherSuite: suite, GroupID: p.GroupID, Signer: p.Signer, Credential: p.Credential, Extensions: p.Extensions,
	})
	noError(t, err)
	var o CommitOptions
	for _, kp := range p.KeyPackages {
		o.Proposals = append(o.Proposals, AddProposal(kp))
	}
	nonce, err := NewPSKNonce(suite)
	noError(t, err)
	k := PreSharedKeyID{Type: PSKResumption, Usage: l.usage, GroupID: parent.state.GroupID(), Epoch: parent.state.Epoch(), Nonce: nonce}
	if id != nil {
		id(&k)
	}
	o.Proposals = append(append(o.Proposals, PreSharedKeyProposal(k)), more...)
	n.founding = l
	sc, err := n.Commit(o)
	noError(t, err)
	noError(t, n.Merge(sc))
	n.founding = nil
	return n, sc.Welcome
}

func TestJoinReinitializedVerifies(t *testing.T) {
	ri := ReInit{GroupID: []byte("next"), Version: MLS10, CipherSuite: suite1, Extensions: Extensions{}}
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	m0, m1, m2 := w.device("m0"), w.device("m1"), w.device("m2")
	g := w.groups["m1"]
	welcome := &Welcome{CipherSuite: suite1}
	_, err := g.JoinReinitialized(welcome, nil, m1.kp, m1.priv, m1.signer)
	refused(t, "join before the ReInit", err, ErrInvalidCommit)
	_, _, err = g.Reinitialize(successorOf(m1, m0, m2))
	refused(t, "creation before the ReInit", err, ErrInvalidCommit)
	w.closeGroup("m0", ri)

	from := w.groups["m0"]
	good := successorOf(m0, m1, m2)
	good.GroupID = ri.GroupID
	with := func(change func(p *SuccessorParams)) SuccessorParams {
		p := good
		change(&p)
		return p
	}
	own := &link{parent: from, usage: ResumptionReInit, epoch: from.state.Epoch()}
	join := func(w *Welcome) error {
		before := groupImage(t, g)
		n, err := g.JoinReinitialized(w, nil, m1.kp, m1.priv, m1.signer)
		if (n == nil) != (err != nil) {
			t.Errorf("a group and the error %v", err)
		}
		if !bytes.Equal(before, groupImage(t, g)) {
			t.Error("joining the new group changed the old one")
		}
		return err
	}
	_, ok := forgedSuccessor(t, from, own, suite1, good, nil)
	noError(t, join(ok))
	data := mustMarshal(AppDataDictionary{{testComponent, []byte("x")}})
	nonce := bytes.Repeat([]byte{1}, 32)
	second := PreSharedKeyProposal(PreSharedKeyID{Type: PSKResumption, Usage: ResumptionReInit, GroupID: []byte("room"), Epoch: from.state.Epoch(), Nonce: nonce})
	branch := PreSharedKeyProposal(PreSharedKeyID{Type: PSKResumption, Usage: ResumptionBranch, GroupID: []byte("room"), Epoch: from.state.Epoch(), Nonce: nonce})
	external := PreSharedKeyProposal(PreSharedKeyID{Type: PSKExternal, ID: []byte("shared"), Nonce: nonce})
	for name, c := range map[string]struct {
		p    SuccessorParams
		id   func(*PreSharedKeyID)
		more []Proposal
		want error
	}{
		"another ID":         {p: with(func(p *SuccessorParams) { p.GroupID = []byte("other") }), want: ErrInvalidWelcome},
		"other extensions":   {p: with(func(p *SuccessorParams) { p.Extensions = Extensions{{ExtensionAppDataDictionary, data}} }), want: ErrInvalidWelcome},
		"a member missing":   {p: with(func(p *SuccessorParams) { p.KeyPackages = p.KeyPackages[:1] }), want: ErrInvalidWelcome},
		"one more":           {p: with(func(p *SuccessorParams) { p.KeyPackages = append(p.KeyPackages[:2:2], w.device("m3").kp) }), want: ErrInvalidWelcome},
		"another in place":   {p: with(func(p *SuccessorParams) { p.KeyPackages = []*KeyPackage{m1.kp, w.device("m3").kp} }), want: ErrCredential},
		"one twice":          {p: with(func(p *SuccessorParams) { p.KeyPackages = []*KeyPackage{m1.kp, w.device("m1").kp} }), want: ErrCredential},
		"usage branch":       {p: good, id: func(id *PreSharedKeyID) { id.Usage = ResumptionBranch }, want: ErrInvalidWelcome},
		"an earlier epoch":   {p: good, id: func(id *PreSharedKeyID) { id.Epoch-- }, want: ErrPSK},
		"two of the usage":   {p: good, more: []Proposal{second}, want: ErrInvalidWelcome},
		"a branch, too":      {p: good, more: []Proposal{branch}, want: ErrInvalidWelcome},
		"and an external":    {p: good, more: []Proposal{external}},
		"usage application":  {p: good, id: func(id *PreSharedKeyID) { id.Usage, id.GroupID = ResumptionApplication, []byte("third") }, want: ErrInvalidWelcome},
		"an unrelated group": {p: good, id: func(id *PreSharedKeyID) { *id = external.PreSharedKey.PSK }, want: ErrInvalidWelcome},
	} {
		l := *own
		l.epoch = from.state.Epoch()
		if name == "usage application" {
			cfg := *from.cfg
			cfg.PSK = func(*PreSharedKeyID) ([]byte, error) { return []byte("any"), nil }
			f := *from
			f.cfg = &cfg
			_, bad := forgedSuccessor(t, &f, &l, suite1, c.p, c.id, c.more...)
			refused(t, name, join(bad), c.want)
			continue
		}
		if name == "an earlier epoch" {
			l.usage = ResumptionBranch // the forger does not check
			id := c.id
			c.id = func(k *PreSharedKeyID) { id(k); k.Usage = ResumptionReInit }
		}
		_, bad := forgedSuccessor(t, from, &l, suite1, c.p, c.id, c.more...)
		if err := join(bad); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v; want %v", name, err, c.want)
		}
	}
	// The right suite is that of the ReInit.
	p0, p1, p2 := w.deviceOf(suiteP256, "m0"), w.deviceOf(suiteP256, "m1"), w.deviceOf(suiteP256, "m2")
	p := successorOf(p0, p1, p2)
	p.GroupID = ri.GroupID
	_, bad := forgedSuccessor(t, from, own, suiteP256, p, nil)
	_, err = g.JoinReinitialized(bad, nil, p1.kp, p1.priv, p1.signer)
	refused(t, "another suite", err, ErrInvalidWelcome)
	// Epoch 1 it must be.
	n, _ := forgedSuccessor(t, from, own, suite1, with(func(p *SuccessorParams) { p.KeyPackages = p.KeyPackages[1:] }), nil)
	sc, err := n.Commit(CommitOptions{Proposals: []Proposal{AddProposal(m1.kp)}})
	noError(t, err)
	_, err = g.JoinReinitialized(sc.Welcome, nil, m1.kp, m1.priv, m1.signer)
	refused(t, "epoch 2", err, ErrInvalidWelcome)
}

func TestBranch(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2", "m3")
	m0, m1, m3 := w.device("m0"), w.device("m1"), w.device("m3")
	g := w.groups["m0"]
	before := groupImage(t, g)
	for name, p := range map[string]SuccessorParams{
		"a stranger":      successorOf(m0, w.device("eve")),
		"the same twice":  successorOf(m0, m1, w.device("m1")),
		"another creator": successorOf(m1, m3, m1),
		"all and more":    successorOf(m0, m1, w.device("m2"), m3, w.device("m4")),
		"other suite":     successorOf(m0, w.deviceOf(suiteP256, "m1")),
		"the parent's ID": {Signer: m0.signer, Credential: BasicCredential([]byte("m0")), GroupID: []byte("room")},
	} {
		if n, _, err := g.Branch(p); err == nil || n != nil {
			t.Errorf("%s: a branch is made", name)
		}
	}
	p := successorOf(m0, m1, m3)
	p.Extensions = Extensions{{ExtensionAppDataDictionary, mustMarshal(AppDataDictionary{{testComponent, []byte("x")}})}}
	n0, sc, err := g.Branch(p)
	noError(t, err)
	p.ForcePath = true
	if _, forced, err := g.Branch(p); err != nil || sc.HasPath || !forced.HasPath {
		t.Errorf("a path: %v, forced: %+v, %v", sc.HasPath, forced, err)
	}
	if !bytes.Equal(before, groupImage(t, g)) {
		t.Error("branching changed the group")
	}
	welcome := w.wire(WelcomeMessage(sc.Welcome)).Welcome

	branch := &world{TB: t, suite: suite1, cfg: w.cfg, groups: map[string]*Group{}}
	branch.join("m0", n0)
	_, err = JoinWelcome(w.cfg, welcome, nil, m1.kp, m1.priv, m1.signer)
	refused(t, "JoinWelcome", err, ErrPSK)
	n1, err := w.groups["m1"].JoinBranch(welcome, nil, m1.kp, m1.priv, m1.signer)
	noError(t, err)
	branch.join("m1", n1)
	// The parent has moved on in between, and lost members of the branch.
	w.commit("m1", CommitOptions{Proposals: []Proposal{RemoveProposal(w.groups["m2"].OwnLeaf())}})
	w.add("m0", "m4")
	n3, err := w.groups["m3"].JoinBranch(welcome, nil, m3.kp, m3.priv, m3.signer)
	noError(t, err)
	branch.join("m3", n3)
	branch.check()
	branch.commit("m3", CommitOptions{})
	w.say("m0", "the parent lives")
	// An epoch that is not kept has no key any more.
	for range 3 {
		w.commit("m0", CommitOptions{})
	}
	_, err = w.groups["m3"].JoinBranch(welcome, nil, m3.kp, m3.priv, m3.signer)
	refused(t, "an old epoch", err, ErrPSK)
}

func TestJoinBranchVerifies(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	other := newWorldWith(t, suite1, w.cfg, nil)
	other.add("m0", "m1", "m2")
	m0, m1, m2 := w.device("m0"), w.device("m1"), w.device("m2")
	from, g := w.groups["m0"], w.groups["m1"]
	own := func() *link { return from.branchLink() }
	join := func(wl *Welcome) error {
		_, err := g.JoinBranch(wl, nil, m1.kp, m1.priv, m1.signer)
		return err
	}
	_, ok := forgedSuccessor(t, from, own(), suite1, successorOf(m0, m1, m2), nil)
	noError(t, join(ok))
	_, bad := forgedSuccessor(t, from, own(), suite1, successorOf(m0, m1, w.device("eve")), nil)
	refused(t, "a stranger", join(bad), ErrUnknownSender)
	_, bad = forgedSuccessor(t, from, own(), suite1, successorOf(m0, m1, w.device("m1")), nil)
	refused(t, "one twice", join(bad), ErrUnknownSender)
	_, bad = forgedSuccessor(t, from, own(), suite1, successorOf(w.device("eve"), m1), nil)
	refused(t, "a creator who is a stranger", join(bad), ErrUnknownSender)
	p := successorOf(m0, m1)
	p.GroupID = []byte("room")
	_, bad = forgedSuccessor(t, from, own(), suite1, p, nil)
	refused(t, "the parent's ID", join(bad), ErrInvalidWelcome)
	_, bad = forgedSuccessor(t, from, own(), suite1, successorOf(m0, m1), func(id *PreSharedKeyID) { id.Usage = ResumptionReInit })
	refused(t, "usage reinit", join(bad), ErrInvalidWelcome)
	_, bad = forgedSuccessor(t, other.groups["m0"], other.groups["m0"].branchLink(), suite1, successorOf(m0, m1), nil)
	refused(t, "a branch of another group of that name", join(bad), ErrDecrypt)
	p1 := w.deviceOf(suiteP256, "m1")
	_, bad = forgedSuccessor(t, from, own(), suiteP256, successorOf(w.deviceOf(suiteP256, "m0"), p1), nil)
	_, err := g.JoinBranch(bad, nil, p1.kp, p1.priv, p1.signer)
	refused(t, "another suite", err, ErrInvalidWelcome)
	// A resumption key of another usage than application is no proposal.
	for _, usage := range []ResumptionPSKUsage{ResumptionReInit, ResumptionBranch} {
		nonce, err := NewPSKNonce(suite1)
		noError(t, err)
		link := PreSharedKeyProposal(PreSharedKeyID{Type: PSKResumption, Usage: usage, GroupID: []byte("room"), Epoch: from.state.Epoch(), Nonce: nonce})
		_, err = from.Commit(CommitOptions{Proposals: []Proposal{link}})
		refused(t, fmt.Sprint("usage ", usage), err, ErrInvalidProposal)
		_, err = from.Propose(link, nil)
		refused(t, fmt.Sprint("usage ", usage), err, ErrInvalidProposal)
		w.refuses("m1", forge(t, from, byValue(link), nil), ErrInvalidProposal)
		hub := w.public()
		_, err = hub.StageCommit(w.wire(forge(t, from, byValue(link), nil)))
		refused(t, fmt.Sprint("hub, usage ", usage), err, ErrInvalidProposal)
	}
}
