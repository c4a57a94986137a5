package tsmls

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/comity-im/comity/mls"
)

// play takes n random steps.
func (w *world) play(n int) {
	for w.step = 1; w.step <= n; w.step++ {
		if w.removeBroken() {
			continue
		}
		switch op := w.r.IntN(20); {
		case op < 5:
			w.say()
		case op < 8:
			w.read()
		case op < 11:
			w.propose()
		case op < 16:
			w.commitAny()
		case op < 17:
			w.race()
		case op < 18:
			w.joinExternal()
		case op < 19:
			w.resync()
		default:
			w.proposeSelf()
		}
	}
	w.removeBroken()
	for range min(len(w.mails), 10) {
		w.deliverMail()
	}
	w.check()
}

// say makes a member send an application message, which others read later.
func (w *world) say() {
	from := w.pick(w.alive(func(m *member) bool {
		// ts-mls does not send while proposals are pending.
		return !m.ts || len(w.pending) == 0
	}))
	if from == nil {
		return
	}
	for range 1 + w.r.IntN(3) {
		m := &mail{
			text: fmt.Sprintf("%s at step %d: %s", from.name, w.step, strings.Repeat("·", w.r.IntN(300))),
			from: from.name, epoch: w.epoch, to: w.alive(func(m *member) bool { return m != from }),
		}
		var err error
		if m.message, err = from.encrypt([]byte(m.text), aadOf(from.name)); err != nil {
			w.Fatalf("%s says something: %v", from.name, err)
		}
		if len(m.to) > 0 {
			w.mails = append(w.mails, m)
		}
		w.note("say", "%s says something", from.name)
	}
}

// read delivers a part of what was said, in any order.
func (w *world) read() {
	for range w.r.IntN(10) {
		if len(w.mails) > 0 {
			w.deliverMail()
		}
	}
}

// deliverMail delivers one message to one member.
func (w *world) deliverMail() {
	w.Helper()
	i := w.r.IntN(len(w.mails))
	m := w.mails[i]
	j := w.r.IntN(len(m.to))
	to := m.to[j]
	m.to = slices.Delete(m.to, j, j+1)
	if len(m.to) == 0 {
		w.mails = slices.Delete(w.mails, i, i+1)
	}
	w.note("read", "%s reads what %s said in epoch %d, in epoch %d", to.name, m.from, m.epoch, w.epoch)
	got, err := to.decrypt(m.message)
	if m.epoch+pastEpochs < w.epoch {
		if err == nil {
			w.Fatalf("%s reads a message whose keys are gone", to.name)
		}
		w.made["read too late"]++
		return
	}
	switch {
	case err != nil:
		w.Fatalf("%s reads: %v", to.name, err)
	case string(got.Data) != m.text:
		w.Fatalf("%s reads %q, not %q", to.name, got.Data, m.text)
	case !bytes.Equal(got.AAD, aadOf(m.from)):
		w.Fatalf("%s reads the authenticated data %q", to.name, got.AAD)
	case got.sender != "" && got.sender != m.from:
		w.Fatalf("%s takes %s for the sender", to.name, got.sender)
	}
	if m.epoch < w.epoch {
		w.made["read late"]++
	}
	if w.chance(20) {
		if _, err := to.decrypt(m.message); err == nil || !to.ts && !errors.Is(err, mls.ErrReplay) {
			w.Fatalf("%s reads it twice: %v", to.name, err)
		}
		w.made["replay refused"]++
	}
}

// committers lists who can commit all that is pending: ts-mls leaves nothing
// out.
func (w *world) committers() []*member {
	return w.alive(func(m *member) bool { return !w.concerned(m) })
}

// full reports whether no more members may come.
func (w *world) full() bool {
	n := len(w.members)
	for _, p := range w.pending {
		if p.Kind == add {
			n++
		}
	}
	return n >= w.maxMembers
}

// resumable returns an epoch of which every member has the resumption key.
func (w *world) resumable() uint64 {
	oldest := uint64(0)
	if w.epoch > pastEpochs {
		oldest = w.epoch - pastEpochs
	}
	for _, m := range w.members {
		oldest = max(oldest, m.since)
	}
	return oldest + w.r.Uint64N(w.epoch-oldest+1)
}

func (w *world) hasPending(k kind) bool {
	return slices.ContainsFunc(w.pending, func(p pending) bool { return p.Kind == k })
}

// propose makes a member propose something that fits what is pending.
func (w *world) propose() {
	by := w.pick(w.alive(anyone))
	p := pending{by: by}
	spare := len(w.committers()) > 1 // one must remain that can commit
	switch w.r.IntN(6) {
	case 0, 1:
		if w.concerned(by) || !spare {
			return
		}
		p.Kind = update
	case 2:
		target := w.pick(w.alive(func(m *member) bool { return !w.concerned(m) }))
		if !spare || target == nil || len(w.members) < 3 {
			return
		}
		p.Kind, p.Leaf = remove, target.leaf
		if w.leavesLeftBlank([]proposal{p.proposal}) {
			return
		}
	case 3:
		if w.full() || w.hasPending(resumption) {
			return
		}
		p.Kind, p.newcomer = add, w.newcomer()
		p.KeyPackage = p.newcomer.keyPackage()
	case 4:
		p.Kind, p.PSK = psk, fmt.Sprintf("key %d", w.r.IntN(3))
	default:
		if w.hasPending(add) { // newcomers do not have the key
			return
		}
		p.Kind, p.Epoch = resumption, w.resumable()
	}
	w.note("propose "+string(p.Kind), "%s proposes %s", by.name, w.describe(p.proposal, p.newcomer))
	message, err := by.propose(p.proposal)
	if err != nil {
		w.Fatalf("%s proposes: %v", by.name, err)
	}
	w.deliverProposal(p, message)
	w.check()
}

// proposeSelf makes a newcomer propose its own addition.
func (w *world) proposeSelf() {
	if w.full() || w.hasPending(resumption) {
		return
	}
	n := w.newcomer()
	by := w.pick(w.alive(anyone))
	gi, _, err := by.groupInfo(w.chance(50))
	if err != nil {
		w.Fatalf("%s makes a GroupInfo: %v", by.name, err)
	}
	w.note("propose itself", "%s proposes itself", n.name)
	message, err := n.proposeSelf(gi)
	if err != nil {
		w.Fatalf("%s proposes itself: %v", n.name, err)
	}
	w.deliverProposal(pending{proposal: proposal{Kind: add}, newcomer: n}, message)
	w.check()
}

func (w *world) describe(p proposal, newcomer *member) string {
	switch p.Kind {
	case add:
		return "to add " + newcomer.name
	case remove:
		return fmt.Sprintf("to remove %s", w.at(p.Leaf).name)
	case psk:
		return p.PSK
	case resumption:
		return fmt.Sprintf("the resumption key of epoch %d", p.Epoch)
	}
	return string(p.Kind)
}

// at returns the member at a leaf.
func (w *world) at(leaf uint32) *member {
	for _, m := range w.members {
		if m.leaf == leaf {
			return m
		}
	}
	w.Fatalf("nobody is at leaf %d", leaf)
	return nil
}

// plan is what a commit brings besides what is pending.
type plan struct {
	commitOptions
	newcomers []*member
	text      []string
}

func (p *plan) put(w *world, what proposal, newcomer *member) {
	p.proposals = append(p.proposals, what)
	if newcomer != nil {
		p.newcomers = append(p.newcomers, newcomer)
	}
	p.text = append(p.text, w.describe(what, newcomer))
}

// plan makes up a commit for by.
func (w *world) plan(by *member) *plan {
	p := &plan{commitOptions: commitOptions{treeInWelcome: w.chance(50), forcePath: w.chance(40)}}
	if w.chance(50) && !w.hasPending(resumption) {
		for range 1 + w.r.IntN(3) {
			if w.full() || len(w.members)+len(p.newcomers) >= w.maxMembers {
				break
			}
			n := w.newcomer()
			p.put(w, proposal{Kind: add, KeyPackage: n.keyPackage()}, n)
		}
	}
	if w.chance(25) {
		victims := w.alive(func(m *member) bool { return m != by && !w.concerned(m) })
		w.r.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
		for i, v := range victims {
			q := proposal{Kind: remove, Leaf: v.leaf}
			if i < 2 && len(victims)-i > 1 && w.chance(70) && !w.leavesLeftBlank(append(p.proposals, q)) {
				p.put(w, q, nil)
			}
		}
	}
	if w.chance(20) {
		p.put(w, proposal{Kind: psk, PSK: fmt.Sprintf("key %d", w.r.IntN(3))}, nil)
	}
	if w.chance(20) && len(p.newcomers) == 0 && !w.hasPending(add) {
		p.put(w, proposal{Kind: resumption, Epoch: w.resumable()}, nil)
	}
	// ts-mls makes no valid commit of a GroupContextExtensions: it leaves out
	// the path, which such a commit needs (RFC 9420 section 17.4), and where it
	// includes one, encrypts it under the old extensions (section 7.6). It
	// ignores an empty list.
	if w.chance(10) && !by.ts {
		required := [][]byte{{0, 0, 0}, {0, 0, 2, 0, 1}}[w.r.IntN(2)] // nothing, and basic credentials
		p.put(w, proposal{Kind: extensions, Extension: required}, nil)
	}
	return p
}

// commitAny makes a member commit what is pending, and more.
func (w *world) commitAny() {
	by := w.pick(w.committers())
	if by == nil {
		return
	}
	w.commit(by, w.plan(by))
}

// race makes two members commit in the same epoch; one drops its commit for
// the other's.
func (w *world) race() {
	a, b := w.pick(w.committers()), w.pick(w.committers())
	if a == nil || a == b {
		return
	}
	lost := w.plan(b)
	if _, err := b.commit(lost.commitOptions); err != nil {
		w.Fatalf("%s commits: %v", b.name, err)
	}
	w.note("race", "%s makes a commit (%s) that loses against that of %s", b.name, strings.Join(lost.text, ", "), a.name)
	if err := b.drop(); err != nil {
		w.Fatal(err)
	}
	w.commit(a, w.plan(a))
}

// removeBroken makes a member remove the leaves that nobody stands behind.
func (w *world) removeBroken() bool {
	p := &plan{}
	for _, m := range w.members {
		if m.broken {
			p.put(w, proposal{Kind: remove, Leaf: m.leaf}, nil)
		}
	}
	if p.proposals == nil {
		return false
	}
	if w.leavesLeftBlank(p.proposals) {
		n := w.newcomerOf(false) // fills the leftmost leaf
		p.put(w, proposal{Kind: add, KeyPackage: n.keyPackage()}, n)
	}
	w.commit(w.pick(w.committers()), p)
	return true
}

// commit makes by commit and everyone else follow.
func (w *world) commit(by *member, p *plan) {
	w.Helper()
	kinds := make([]string, 0, len(w.pending))
	newcomers := slices.Clone(p.newcomers)
	removed := map[uint32]bool{}
	for _, q := range w.pending {
		kinds = append(kinds, string(q.Kind))
		switch q.Kind {
		case add:
			newcomers = append(newcomers, q.newcomer)
		case remove:
			removed[q.Leaf] = true
		}
	}
	for _, q := range p.proposals {
		w.made["commit "+string(q.Kind)]++
		if q.Kind == remove {
			removed[q.Leaf] = true
		}
	}
	side := "go"
	if by.ts {
		side = "ts"
	}
	w.note("commit by "+side, "%s commits the pending [%s] and [%s], path forced: %v, tree in Welcome: %v",
		by.name, strings.Join(kinds, " "), strings.Join(p.text, ", "), p.forcePath, p.treeInWelcome)
	c, err := by.commit(p.commitOptions)
	if err != nil {
		w.Fatalf("%s commits: %v", by.name, err)
	}
	if w.isPublic(c.Commit) {
		w.made["public commit by "+side]++
	} else {
		w.made["private commit by "+side]++
	}
	after, err := decodeTree(c.Tree)
	if err != nil {
		w.Fatalf("the tree of %s: %v", by.name, err)
	}
	w.deliverCommit(by, c.Commit, removed, after)
	if err := by.merge(); err != nil {
		w.Fatalf("%s merges: %v", by.name, err)
	}
	w.entered()
	if (c.Welcome != nil) != (len(newcomers) > 0) {
		w.Fatalf("a Welcome for %d newcomers: %v", len(newcomers), c.Welcome != nil)
	}
	for _, n := range newcomers {
		w.welcome(n, c, p.treeInWelcome, after)
	}
	w.check()
}

// deliverCommit makes all but by follow a commit that removes some leaves.
func (w *world) deliverCommit(by *member, commit []byte, removed map[uint32]bool, after mls.RatchetTree) {
	w.Helper()
	w.followed(commit)
	var stay []*member
	for _, m := range w.members {
		if !removed[m.leaf] {
			stay = append(stay, m)
		}
		if m == by || m.broken {
			continue
		}
		gone, err := m.process(commit)
		switch {
		case m.ts && removed[m.leaf] && !blank(after, m.leaf):
			// ts-mls takes a commit that removes its own leaf for one of others
			// if an Add of the same commit fills the leaf, and fails. That it is
			// removed nevertheless makes no difference.
			if gone {
				w.Fatalf("%s notices its removal: ts-mls has learned that", m.name)
			}
			w.made["removal not noticed by ts-mls"]++
		case err != nil:
			w.Fatalf("%s follows: %v", m.name, err)
		case gone != removed[m.leaf]:
			w.Fatalf("%s takes itself for removed: %v", m.name, gone)
		}
	}
	for _, m := range w.members {
		if removed[m.leaf] {
			w.forget(m)
		}
	}
	w.members = stay
}

// forget drops the mails to a member.
func (w *world) forget(gone *member) {
	for _, m := range w.mails {
		m.to = slices.DeleteFunc(m.to, func(to *member) bool { return to == gone })
	}
	w.mails = slices.DeleteFunc(w.mails, func(m *mail) bool { return len(m.to) == 0 })
}

// welcome makes a newcomer join.
func (w *world) welcome(n *member, c *committed, treeInWelcome bool, after mls.RatchetTree) {
	w.Helper()
	tree := c.Tree
	if treeInWelcome {
		tree = nil
	}
	n.since = w.epoch
	err := n.joinWelcome(c.Welcome, tree)
	switch {
	case w.refusesTree(n, err, after):
		n.broken = true
		n.leaf = leafOf(after, n.name)
	case err != nil:
		w.Fatalf("%s joins by Welcome: %v", n.name, err)
	default:
		w.note("join by Welcome", "%s joins by Welcome", n.name)
		if tree != nil {
			w.made["tree out of band"]++
		}
	}
	w.members = append(w.members, n)
}

// refusesTree reports whether ts-mls refused to join because of its reading
// of unmerged_leaves.
func (w *world) refusesTree(n *member, err error, tree mls.RatchetTree) bool {
	if !n.ts || !unmergedDiffer(tree) {
		return false
	}
	if !refused(err, "ValidationError: non-blank intermediate node must list leaf node in its unmerged_leaves") {
		w.Fatalf("%s joins a tree that ts-mls 1.6.4 refuses: %v", n.name, err)
	}
	w.note("valid tree refused by ts-mls", "%s refuses the tree", n.name)
	return true
}

// joinExternal makes a newcomer join by an external commit.
func (w *world) joinExternal() {
	if len(w.members) >= w.maxMembers {
		return
	}
	n := w.newcomer()
	by := w.pick(w.alive(anyone))
	id := ""
	if !n.ts && w.chance(30) {
		id = "key 0"
		w.made["join externally with a key"]++
	}
	commit := w.external(n, by, false, id)
	if commit == nil {
		return
	}
	w.note("join externally", "%s joins externally with the GroupInfo of %s", n.name, by.name)
	w.deliverCommit(nil, commit, nil, nil)
	w.entered()
	n.since = w.epoch
	w.members = append(w.members, n)
	w.check()
}

// external makes an external commit, or returns nil where ts-mls cannot.
func (w *world) external(n, by *member, resync bool, psk string) []byte {
	w.Helper()
	withTree := w.chance(50)
	gi, tree, err := by.groupInfo(withTree)
	if err != nil {
		w.Fatalf("%s makes a GroupInfo: %v", by.name, err)
	}
	nodes := w.tree(by)
	commit, err := n.joinExternal(gi, tree, resync, psk)
	if w.refusesTree(n, err, nodes) {
		return nil
	}
	if err != nil {
		w.Fatalf("%s joins externally: %v", n.name, err)
	}
	return commit
}

// tree returns the ratchet tree as m sees it.
func (w *world) tree(m *member) mls.RatchetTree {
	w.Helper()
	_, tree, err := m.groupInfo(false)
	if err != nil {
		w.Fatal(err)
	}
	nodes, err := decodeTree(tree)
	if err != nil {
		w.Fatal(err)
	}
	return nodes
}

// resync makes a member replace its leaf by an external commit, as one that
// lost its state does.
func (w *world) resync() {
	m := w.pick(w.alive(anyone))
	by := w.pick(w.alive(func(o *member) bool { return o != m }))
	if by == nil {
		return
	}
	commit := w.external(m, by, true, "")
	if commit == nil {
		return
	}
	w.note("resync", "%s joins again with the GroupInfo of %s", m.name, by.name)
	w.forget(m)
	w.members = slices.DeleteFunc(w.members, func(o *member) bool { return o == m })
	w.deliverCommit(nil, commit, nil, nil)
	w.entered()
	m.since = w.epoch
	w.members = append(w.members, m)
	w.check()
}
