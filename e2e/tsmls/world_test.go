package tsmls

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/comity-im/comity/mls"
)

// A world is a group as all its members see it, and a hub that follows it
// without being a member.
type world struct {
	*testing.T
	r     *rand.Rand
	node  *node
	suite mls.CipherSuite
	mode  mode
	made  map[string]int // what happened, by kind of step

	maxMembers int

	members []*member
	clients int // made so far; it names the next one
	epoch   uint64
	pending []pending
	// hub is nil while it cannot follow, since a handshake message was a
	// PrivateMessage.
	hub   *mls.PublicGroup
	mails []*mail
	step  int
	steps []string // what was done, for the report of a failure
}

// mode says in which wire formats the members send handshake messages.
type mode int

const (
	publicOnly mode = iota
	privateOnly
	mixed
)

type member struct {
	client
	name   string
	ts     bool // of ts-mls
	since  uint64
	broken bool // a leaf without a client behind it: see unmergedDiffer
	leaf   uint32
}

// pending is a proposal of this epoch that is not committed yet.
type pending struct {
	proposal
	by       *member // nil: by the newcomer itself
	newcomer *member // of an add
	public   bool
}

// mail is an application message and the members that have not read it.
type mail struct {
	message []byte
	text    string
	from    string
	epoch   uint64
	to      []*member
}

// randomWorld begins the group that follows from the seed.
func randomWorld(t *testing.T, n *node, seed uint64, suite mls.CipherSuite) *world {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 9420))
	w := newWorld(t, n, suite, mode(r.IntN(3)), r)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d, %v, played:\n%s", seed, suite, strings.Join(w.steps, "\n"))
			t.Logf("again: go test ./e2e/tsmls -run TestRandomGroups -tsmls.seed=%d", seed)
		}
	})
	w.create(w.newcomer())
	return w
}

// newWorld makes a world without a group.
func newWorld(t *testing.T, n *node, suite mls.CipherSuite, mode mode, r *rand.Rand) *world {
	t.Helper()
	if err := n.call("reset", nil, nil); err != nil {
		t.Fatal(err)
	}
	return &world{T: t, r: r, node: n, suite: suite, mode: mode, made: map[string]int{}, maxMembers: 9}
}

// create makes the first member create the group.
func (w *world) create(creator *member) {
	w.Helper()
	w.note("create", "%s creates the group", creator.name)
	if err := creator.create([]byte("room")); err != nil {
		w.Fatalf("%s creates a group: %v", creator.name, err)
	}
	w.members = []*member{creator}
	w.check()
}

// note counts and logs a step.
func (w *world) note(what, format string, args ...any) {
	w.made[what]++
	w.steps = append(w.steps, fmt.Sprintf("%2d %s", w.step, fmt.Sprintf(format, args...)))
}

// newcomer makes a client of either kind.
func (w *world) newcomer() *member {
	w.Helper()
	return w.newcomerOf(w.r.IntN(2) == 0)
}

func (w *world) newcomerOf(ts bool) *member {
	w.Helper()
	m := &member{ts: ts}
	private := w.mode == privateOnly || w.mode == mixed && w.r.IntN(2) == 0
	var err error
	if m.ts {
		m.name = fmt.Sprintf("ts%d", w.clients)
		m.client, err = newTSClient(w.node, w.suite, m.name, private)
	} else {
		m.name = fmt.Sprintf("go%d", w.clients)
		m.client, err = newGoClient(w.suite, m.name, private)
	}
	if err != nil {
		w.Fatalf("make %s: %v", m.name, err)
	}
	w.clients++
	return m
}

// alive lists the members with a client behind them for which ok holds.
func (w *world) alive(ok func(*member) bool) []*member {
	var list []*member
	for _, m := range w.members {
		if !m.broken && ok(m) {
			list = append(list, m)
		}
	}
	return list
}

func anyone(*member) bool { return true }

// pick returns one of list, or nil.
func (w *world) pick(list []*member) *member {
	if len(list) == 0 {
		return nil
	}
	return list[w.r.IntN(len(list))]
}

func (w *world) chance(percent int) bool { return w.r.IntN(100) < percent }

// concerned reports whether a pending proposal updates or removes m.
func (w *world) concerned(m *member) bool {
	return slices.ContainsFunc(w.pending, func(p pending) bool {
		return p.Kind == update && p.by == m || p.Kind == remove && p.Leaf == m.leaf
	})
}

// isPublic reports whether an encoded message is a PublicMessage.
func (w *world) isPublic(message []byte) bool {
	w.Helper()
	m, err := decode(message)
	if err != nil {
		w.Fatalf("a message does not decode: %v", err)
	}
	return m.WireFormat == mls.WirePublicMessage
}

// deliverProposal gives a proposal to all but its sender.
func (w *world) deliverProposal(p pending, message []byte) {
	w.Helper()
	for _, m := range w.alive(func(m *member) bool { return m != p.by }) {
		if _, err := m.process(message); err != nil {
			w.Fatalf("%s takes the proposal: %v", m.name, err)
		}
	}
	p.public = w.isPublic(message)
	if p.public && w.hub != nil {
		m, err := decode(message)
		if err != nil {
			w.Fatal(err)
		}
		q, err := w.hub.Proposal(m)
		if err != nil {
			w.Fatalf("the hub takes the proposal: %v", err)
		}
		if err := w.hub.Enqueue(q); err != nil {
			w.Fatalf("the hub keeps the proposal: %v", err)
		}
	}
	w.pending = append(w.pending, p)
}

// followed makes the hub follow a commit. It cannot where it misses what the
// commit refers to, and begins anew from a GroupInfo.
func (w *world) followed(commit []byte) {
	w.Helper()
	if w.hub == nil {
		return
	}
	m, err := decode(commit)
	if err != nil {
		w.Fatal(err)
	}
	sc, err := w.hub.StageCommit(m)
	switch {
	case m.WireFormat == mls.WirePrivateMessage:
		if err == nil {
			w.Fatal("the hub follows a PrivateMessage")
		}
		w.hub = nil
	case slices.ContainsFunc(w.pending, func(p pending) bool { return !p.public }) && errors.Is(err, mls.ErrMissingProposal):
		w.hub = nil
	case err != nil:
		w.Fatalf("the hub follows: %v", err)
	default:
		if err := w.hub.Merge(sc); err != nil {
			w.Fatalf("the hub merges: %v", err)
		}
		w.made["hub follows a commit"]++
	}
}

// entered is called when an epoch began: nothing of the old one is pending.
func (w *world) entered() {
	w.epoch++
	w.pending = nil
	w.made["epoch"]++
}

// check makes sure that all members, and the hub, are in the same epoch and
// agree about everything.
func (w *world) check() {
	w.Helper()
	label, context := fmt.Sprintf("label %d", w.step), fmt.Appendf(nil, "context %d", w.r.Uint32())
	reports := w.reports(label, context)
	var first *report
	var name string
	for _, m := range w.alive(anyone) {
		r := reports[m.name]
		m.leaf = r.Leaf
		if first == nil {
			first, name = r, m.name
			continue
		}
		for _, c := range []struct {
			what string
			a, b []byte
		}{
			{"tree hash", first.TreeHash, r.TreeHash},
			{"group context", first.GroupContext, r.GroupContext},
			{"confirmation tag", first.ConfirmationTag, r.ConfirmationTag},
			{"epoch authenticator", first.Authenticator, r.Authenticator},
			{"exported secret", first.Exported, r.Exported},
		} {
			if !bytes.Equal(c.a, c.b) {
				w.Fatalf("%s and %s disagree about the %s: %x and %x", name, m.name, c.what, c.a, c.b)
			}
		}
		if r.Pending != first.Pending {
			w.Fatalf("%s has %d proposals pending, %s has %d", name, first.Pending, m.name, r.Pending)
		}
		w.made["agreement"]++
	}
	if first.Pending != len(w.pending) {
		w.Fatalf("%d proposals are pending where %d were made", first.Pending, len(w.pending))
	}
	w.checkHub(first)
}

func (w *world) reports(label string, context []byte) map[string]*report {
	w.Helper()
	reports := map[string]*report{}
	var names []string
	for _, m := range w.alive(anyone) {
		c, ok := m.client.(*goClient)
		if !ok {
			names = append(names, m.name)
			continue
		}
		r, err := c.report(label, context)
		if err != nil {
			w.Fatalf("%s reports: %v", m.name, err)
		}
		reports[m.name] = r
	}
	if names == nil {
		return reports
	}
	var answer struct{ Reports []*report }
	if err := w.node.call("report", params{"clients": names, "label": label, "context": context}, &answer); err != nil {
		w.Fatal(err)
	}
	for i, name := range names {
		reports[name] = answer.Reports[i]
	}
	return reports
}

// checkHub compares the hub with the members' view, and lets it check a
// GroupInfo that one of them makes, or begin with it.
func (w *world) checkHub(r *report) {
	w.Helper()
	if w.hub != nil && w.chance(70) {
		w.sameAsHub(r)
		return
	}
	by := w.pick(w.alive(anyone))
	gi, tree, err := by.groupInfo(w.chance(50))
	if err != nil {
		w.Fatalf("%s makes a GroupInfo: %v", by.name, err)
	}
	m, err := decode(gi)
	if err != nil {
		w.Fatalf("the GroupInfo of %s: %v", by.name, err)
	}
	if w.hub != nil {
		if err := w.hub.VerifyGroupInfo(m.GroupInfo); err != nil {
			w.Fatalf("the hub checks the GroupInfo of %s: %v", by.name, err)
		}
	} else if len(w.pending) == 0 { // it would miss what is pending
		nodes, err := decodeTree(tree)
		if err != nil {
			w.Fatalf("the tree of %s: %v", by.name, err)
		}
		if w.hub, err = mls.NewPublicGroup(config(), m.GroupInfo, nodes); err != nil {
			w.Fatalf("a hub begins with the GroupInfo of %s: %v", by.name, err)
		}
	}
	w.sameAsHub(r)
}

func (w *world) sameAsHub(r *report) {
	w.Helper()
	if w.hub == nil {
		return
	}
	s := w.hub.State()
	encoded, err := mls.Marshal(s.GroupContext())
	if err != nil {
		w.Fatal(err)
	}
	if !bytes.Equal(encoded, r.GroupContext) || !bytes.Equal(s.ConfirmationTag(), r.ConfirmationTag) {
		w.Fatalf("the hub and the members disagree about the epoch: %x and %x", encoded, r.GroupContext)
	}
	w.made["agreement with the hub"]++
}
