package mls

import (
	"bytes"
	"slices"
	"testing"
)

// Holes are what was found in other implementations of MLS, with the name of
// the implementation and of the finding, and the traps of the specification
// that an own implementation can fall into. Where another test covers a hole
// completely, it is called.
var holes = []struct {
	name string
	test func(a *arena)
}{
	{"mls-go A1 secret in error text", func(a *arena) {
		// Every error of the arena is searched for secrets at its end.
		commitValidations["ValSem205"](a)
		commitValidations["ValSem204"](a)
		wrongMembershipTag(a)
		if len(a.texts) < 3 {
			a.Errorf("only %d texts were searched", len(a.texts))
		}
	}},
	{"mls-go A2 non-atomic commit", func(a *arena) {
		// One bad commit bricks nobody: the genuine one is processed after it.
		good := a.forge(draft{path: true}, false)
		bad := a.wire(good.message)
		pm := *bad.PublicMessage
		pm.Auth.ConfirmationTag = make([]byte, 32)
		g := a.groups["m1"]
		var err error
		pm.MembershipTag, err = pm.authenticated().membershipTag(g.suite, g.epoch.membership, g.state.contextBytes())
		noError(a, err)
		a.refuse(&MLSMessage{WireFormat: WirePublicMessage, PublicMessage: &pm}, "m1", members, ErrInvalidCommit, "confirmation tag does not verify")
		a.accept(good.message, "m1")
	}},
	{"mls-go B self-removing committer", committerRemoved},
	{"mls-go C external commit removes anyone", externalValidations["valn0402"]},
	{"mls-go D extensions without path", func(a *arena) {
		p := a.contextExtensions(func(x Extensions) Extensions { return x })
		a.attack(draft{values: []Proposal{p}, pathless: true}, ErrInvalidCommit, "path is missing")
	}},
	{"mls-go E replay across epochs and groups", func(a *arena) {
		m := a.external(RemoveProposal(a.leaf("m4")))
		a.propose(m)
		a.alive()
		a.refuseProposal(m, "", everyone, ErrWrongEpoch, "epoch")
		other := func(c *FramedContent) { c.GroupID = []byte("other") }
		a.refuseProposal(a.sayAs(a.sender, Sender{Type: SenderExternal}, proposalContent(RemoveProposal(2)), other), "", everyone, ErrWrongGroup, "")
		// Nor does the hub take a proposal that it verified before.
		q, err := a.hub.Proposal(a.external(RemoveProposal(2)))
		noError(a, err)
		a.alive()
		a.refused("the hub", a.hub.Enqueue(q), ErrWrongEpoch, "")
	}},
	{"mls-go G foreign GroupContext extension", func(a *arena) { TestForeignExtension(a.T); a.refusals++ }},
	{"mls-go H unbounded ratchet jump", func(a *arena) {
		for _, generation := range []uint32{1025 + 1024, 1_000_000, 1<<32 - 2, 1<<32 - 1} {
			m := a.seal("m1", FramedContent{ContentType: ContentApplication, Application: []byte("text")}, nil, func(sd *senderData) { sd.generation = generation }, nil)
			a.refusePrivate(m, "m1", ErrTooFarAhead, "generation")
		}
	}},
	{"mls-go I re-inserting an old leaf", listValidations["ValSem111"]},
	{"mls-go J unverified tree", func(a *arena) {
		d, _, gi := a.invite(invitation{}, false)
		gi.Extensions = gi.Extensions.Without(ExtensionRatchetTree)
		noError(a, gi.sign(a.groups["m1"].signer))
		_, err := NewPublicGroup(a.cfg, gi, nil)
		a.refused("the hub", err, ErrInvalidWelcome, "without ratchet_tree")
		_, _, err = JoinExternal(a.cfg, gi, nil, JoinParams{Signer: d.signer, Credential: BasicCredential([]byte("new"))})
		a.refused("the external joiner", err, ErrInvalidWelcome, "without ratchet_tree")
		a.refuseJoin(everyone, invitation{info: func(gi *GroupInfo) { gi.Extensions = gi.Extensions.Without(ExtensionRatchetTree) }}, ErrInvalidWelcome, "without ratchet_tree")
		// The path secret of a Welcome must give the keys of the tree.
		a.refuseJoin(members, invitation{path: true, secrets: func(gs *GroupSecrets) { gs.PathSecret = make([]byte, 32) }}, ErrInvalidWelcome, "path secret does not fit")
		a.refuseJoin(members, invitation{path: true, secrets: func(gs *GroupSecrets) { gs.PathSecret = gs.PathSecret[:31] }}, ErrInvalidWelcome, "path secret of 31")
		for _, id := range []string{"valn1402", "valn1404", "valn1405", "valn1410"} {
			joinValidations[id](a)
		}
	}},
	{"mls-go K path keys compared with leaves only", pathKeyElsewhere},
	{"mls-go L no forward secrecy inside an epoch", func(a *arena) { TestRecordsHoldNoConsumedKeys(a.T); a.refusals++ }},
	{"mls-go M aliasing", func(a *arena) {
		// What a message is made of may be overwritten once it was processed.
		scribble := func(b []byte) {
			for i := range b {
				b[i] = 0xee
			}
		}
		b := mustMarshal(a.say("m2", proposalContent(a.updateOf("m2", nil)), nil))
		m := new(MLSMessage)
		noError(a, decodeInPlace(b, m))
		q, err := a.groups["m4"].Proposal(m)
		noError(a, err)
		public, err := a.hub.Proposal(m)
		noError(a, err)
		scribble(b)
		noError(a, a.groups["m4"].Enqueue(q))
		noError(a, a.hub.Enqueue(public))
		if _, err := a.groups["m4"].Commit(CommitOptions{}); err != nil {
			a.Errorf("a proposal changed after it was verified: %v", err)
		}
		before := a.images()
		b = mustMarshal(a.forge(draft{path: true, values: []Proposal{RemoveProposal(a.leaf("m4")), AddProposal(a.device("new", nil).kp)}}, false).message)
		noError(a, decodeInPlace(b, m))
		sc, err := a.groups["m2"].StageCommit(m)
		noError(a, err)
		staged, err := a.hub.StageCommit(m)
		noError(a, err)
		tree := mustMarshal(sc.After.RatchetTree())
		scribble(b)
		equal(a, "tree of the staged commit", mustMarshal(sc.After.RatchetTree()), tree)
		equal(a, "tree at the hub", mustMarshal(staged.After.RatchetTree()), tree)
		equal(a, "hash of the staged tree", sc.After.tree.hashAgain(), sc.After.context.TreeHash)
		a.unchanged(before) // the staged tree shares nothing that changes
		a.refusals++
	}},
	{"mls-go N any sender of anything", func(a *arena) {
		for _, id := range []string{"valn1501", "valn1502", "valn1503", "valn1504", "ValSem005"} {
			framingValidations[id](a)
			a.cfg = arenaConfig()
			a.configure(func(c *Config) { *c = mustDefaults(a, arenaConfig()) })
		}
	}},
	{"emersion 1 confirmation tag not verified", commitValidations["ValSem205"]},
	{"emersion 2 every message has generation 0", func(a *arena) { TestGenerationsAndGuards(a.T); a.refusals++ }},
	{"emersion 3 sender out of range panics", framingValidations["ValSem004"]},
	{"emersion 3 leaf at an odd position panics", oddPositions},
	{"emersion 4 Adds are not verified", leafValidations["valn0202"]},
	{"emersion 4 extensions are not applied", func(a *arena) {
		x := a.extensions().Set(ExtensionRequiredCapabilities, mustMarshal(RequiredCapabilities{Extensions: []ExtensionType{arenaExtension}}))
		sc, err := a.groups["m1"].Commit(CommitOptions{Proposals: []Proposal{GroupContextExtensionsProposal(x)}})
		noError(a, err)
		a.follow("m1", sc)
		for _, n := range a.names {
			if got := a.groups[n].State().RequiredCapabilities().Extensions; len(got) != 1 || got[0] != arenaExtension {
				a.Errorf("%s requires %v", n, got)
			}
		}
		a.attackList(ErrCapabilities, "0xF00E is required", AddProposal(a.device("new", nil).kp))
	}},
	{"emersion 4 truncated input is accepted", func(a *arena) { TestWireTypes(a.T); a.refusals++ }},
	{"emersion 4 pre-shared keys", func(a *arena) { TestPreSharedKeys(a.T); a.refusals++ }},
	{"emersion 4 work per message grows with the group", func(a *arena) {
		cost := func(leaves uint32) float64 {
			tree := testTree(a, leaves)
			l := LeafIndex(0)
			return testing.AllocsPerRun(20, func() {
				u, err := tree.open(l, applicationRatchet, 0, 8)
				noError(a, err)
				u.consume(8)
				l++
			})
		}
		if small, large := cost(64), cost(1<<16); large > 6*small {
			a.Errorf("a first message costs %.0f allocations among 64 members, %.0f among 65536", small, large)
		}
		a.refusals++
	}},
	{"trevex ratchets restart at generation 0", func(a *arena) { TestSecretTreeOutOfOrder(a.T); a.refusals++ }},
	{"tmc external proposals only by policy", framingValidations["valn1502"]},
	{"OpenMLS GHSA-8x3w-qj7j-gqhf MAC length", func(a *arena) {
		TestMACEqual(a.T)
		TestShortMACs(a.T)
		noMembershipTag(a)
		noConfirmationTag(a)
	}},
	{"OpenMLS 1944 wrong credential for past epochs", func(a *arena) { TestLateMessages(a.T); a.refusals++ }},
	{"OpenMLS 2186 tree math without bounds", func(a *arena) {
		framingValidations["ValSem004"](a)
		removeOfNobody(a)
		framingValidations["valn1306"](a)
	}},
	{"OpenMLS 2224 quadratic join", func(a *arena) { TestJoinIsLinear(a.T); a.refusals++ }},
	{"OpenMLS 1846 forward secrecy of stored state", func(a *arena) { TestRecordsHoldNoConsumedKeys(a.T); a.refusals++ }},
	{"mls-rs 342 352 360 parent hashes with blanks and unmerged leaves", func(a *arena) {
		TestParentHashesAgainstOracle(a.T) // TestDamagedHistories plays many more
		joinValidations["valn1406"](a)
	}},

	{"varints are minimal", func(a *arena) {
		for _, b := range [][]byte{{0x40, 1, 9}, {0x80, 0, 0, 1, 9}, {0x80, 0, 0x3f, 0xff}, {0xc0, 0, 0, 0, 0, 0, 0, 1, 9}} {
			if Unmarshal(append(b, 0), new(ExternalInit)) == nil || Unmarshal(b, new(ExternalInit)) == nil {
				a.Errorf("%x is accepted", b)
			}
		}
		noError(a, Unmarshal([]byte{1, 9}, new(ExternalInit)))
		a.refusals++
	}},
	{"no blank node at the end", joinValidations["ValSem300"]},
	{"node types alternate", oddPositions},
	{"sizes near 2^32", func(a *arena) {
		removeOfNobody(a)
		TestSecretTreeRefusesLeavesOutside(a.T)
		joinValidations["valn1408"](a)
	}},
	{"unmerged leaves are sorted, unique, below and members", func(a *arena) {
		for _, list := range [][]LeafIndex{{3, 3}, {4, 3}} {
			b := mustMarshal(&ParentNode{EncryptionKey: rootKey(a.hub.State()), UnmergedLeaves: list})
			if Unmarshal(b, new(ParentNode)) == nil {
				a.Errorf("unmerged leaves %v are accepted", list)
			}
		}
		joinValidations["valn1408"](a)
		joinValidations["valn1409"](a)
	}},
	{"extensions come first", func(a *arena) {
		// Valid only because the Add is judged by the new extensions.
		plain := a.device("new", func(kp *KeyPackage) { kp.LeafNode.Capabilities.Extensions, kp.LeafNode.Extensions = nil, nil })
		without := a.contextExtensions(func(x Extensions) Extensions { return x.Without(ExtensionAppDataDictionary) })
		a.accept(a.forge(draft{values: []Proposal{AddProposal(plain.kp), without}}, false).message, "m1")
		a.attack(draft{values: []Proposal{sharedPSK()}, list: instead(AddProposal(plain.kp))}, ErrCapabilities, "0x0006")
	}},
	{"removed leaves are reused", func(a *arena) {
		sc, err := a.groups["m1"].Commit(CommitOptions{Proposals: []Proposal{AddProposal(a.device("new", nil).kp), RemoveProposal(a.leaf("m2"))}})
		noError(a, err)
		if len(sc.Added) != 1 || sc.Added[0] != a.leaf("m2") {
			a.Errorf("added at %v, not where the removed member was", sc.Added)
		}
		a.accept(sc.Message, "m1")
		a.refusals++
	}},
	{"the tree shrinks after the whole list", func(a *arena) {
		remove := []Proposal{RemoveProposal(a.leaf("m4")), RemoveProposal(a.leaf("m7"))}
		for adds, depth := range []int{2, 3, 3} {
			list := slices.Clone(remove)
			for range adds {
				list = append(list, AddProposal(a.device("new", nil).kp))
			}
			f := a.forge(draft{values: list}, false)
			a.accept(f.message, "m1")
			if f.after.tree.depth != depth {
				a.Errorf("with %d adds the tree has depth %d, want %d", adds, f.after.tree.depth, depth)
			}
			equal(a, "tree hash", f.after.tree.hashAgain(), f.after.context.TreeHash)
		}
		a.refusals++
	}},
	{"keys of Updates are unique", leafValidations["valn0112"]},
	{"a commit whose proposal is missing", func(a *arena) { TestCommitBeforeItsProposal(a.T); a.refusals++ }},
	{"external proposals are bound to group and epoch", framingValidations["valn1307"]},
	{"replayed messages", func(a *arena) {
		m := a.seal("m1", FramedContent{ContentType: ContentApplication, Application: []byte("text")}, nil, nil, nil)
		for _, n := range []string{"m0", "m2"} {
			if _, err := a.groups[n].Decrypt(m); err != nil {
				a.Errorf("%s: %v", n, err)
			}
			_, err := a.groups[n].Decrypt(m)
			a.refused(n, err, ErrReplay, "")
		}
		p := a.seal("m1", proposalContent(RemoveProposal(2)), nil, nil, nil)
		_, err := a.groups["m0"].Proposal(p)
		noError(a, err)
		_, err = a.groups["m0"].Proposal(p)
		a.refused("m0", err, ErrReplay, "")
	}},
	{"one signature key in two places", leafValidations["valn0111"]},
}

// TestHole breaks into every hole. Not here are A of mlspp (it does not
// compile), F (there is none) and O of mls-go: that a lost vector file is
// green; scripts/vectors.sh says which files were not there.
func TestHole(t *testing.T) {
	for _, h := range holes {
		t.Run(h.name, func(t *testing.T) {
			a := newArena(t)
			h.test(a)
			if a.refusals == 0 {
				t.Error("the test refused nothing")
			}
			a.alive()
		})
	}
}

func mustDefaults(t testing.TB, c Config) Config {
	t.Helper()
	d, err := c.withDefaults()
	noError(t, err)
	return *d
}

// oddPositions: a leaf where a parent belongs, and the other way round.
func oddPositions(a *arena) {
	b := mustMarshal(a.hub.State().RatchetTree())
	leaf, parent := mustMarshal(&Node{Leaf: a.leafNode("m0")}), mustMarshal(&Node{Parent: &ParentNode{EncryptionKey: rootKey(a.hub.State())}})
	vector := func(nodes ...[]byte) []byte {
		body := bytes.Join(nodes, nil)
		return append([]byte{0x80, 0, byte(len(body) >> 8), byte(len(body))}, body...)
	}
	if len(leaf) < 0x40 || len(b) < 0x40 {
		a.Fatal("nodes are shorter than expected")
	}
	present := func(n []byte) []byte { return append([]byte{1}, n...) }
	for name, nodes := range map[string][][]byte{
		"a leaf at 1":   {present(leaf), present(leaf)},
		"a parent at 0": {present(parent), present(parent), present(leaf)},
		"a parent at 2": {present(leaf), present(parent), present(parent)},
	} {
		encoded := vector(nodes...)
		if n := len(encoded) - 4; n < 1<<14 {
			encoded = append([]byte{0x40 | byte(n>>8), byte(n)}, encoded[4:]...)
		}
		if err := Unmarshal(encoded, new(RatchetTree)); err == nil {
			a.Errorf("a tree with %s is accepted", name)
		}
	}
	a.refusals++
}
