package mls

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// These tests enumerate what commits can do with AppDataUpdate and AppEphemeral
// proposals and compare it with the rules of mls-extensions sections 4.7 and
// 4.8, written down once more in outcomeOf.

// matrixComponent appends updates to its data and takes ephemeral data; it
// refuses what says "bad".
type matrixComponent struct{ appendComponent }

func (matrixComponent) Ephemeral(data []byte) error {
	if string(data) == "bad" {
		return errors.New("bad data")
	}
	return nil
}

const (
	matrixKnown   ComponentID = 0x8001 // may have data
	matrixOther   ComponentID = 0x8002 // has none
	matrixUnknown ComponentID = 0x8003
)

// A matrixOp is one proposal of a sequence.
type matrixOp struct {
	id        ComponentID
	remove    bool
	ephemeral bool
	data      string
}

var matrixOps = map[byte]matrixOp{
	'u': {id: matrixKnown, data: "u"},
	'v': {id: matrixKnown, data: "v"},
	'b': {id: matrixKnown, data: "bad"},
	'r': {id: matrixKnown, remove: true},
	'o': {id: matrixOther, data: "o"},
	'q': {id: matrixOther, remove: true},
	'n': {id: matrixUnknown, data: "n"},
	'd': {id: matrixUnknown, remove: true},
	'e': {id: matrixKnown, ephemeral: true, data: "e"},
	'f': {id: matrixOther, ephemeral: true, data: "f"},
	'x': {id: matrixKnown, ephemeral: true, data: "bad"},
	'y': {id: matrixUnknown, ephemeral: true, data: "y"},
}

func (o matrixOp) proposal() Proposal {
	switch {
	case o.ephemeral:
		return AppEphemeralProposal(o.id, []byte(o.data))
	case o.remove:
		return AppDataRemoveProposal(o.id)
	}
	return AppDataUpdateProposal(o.id, []byte(o.data))
}

// alone reports whether a proposal is valid whatever surrounds it.
func (o matrixOp) alone() bool {
	return o.id != matrixUnknown && (o.data != "bad" || !o.ephemeral)
}

// outcomeOf is the independent statement of the rules. known is the data of
// matrixKnown before, nil if there is none.
func outcomeOf(seq string, known []byte) (after map[ComponentID]string, ephemerals string, valid bool) {
	data := map[ComponentID]string{}
	if known != nil {
		data[matrixKnown] = string(known)
	}
	updates, removes := map[ComponentID]string{}, map[ComponentID]int{}
	for _, c := range []byte(seq) {
		o := matrixOps[c]
		if o.id == matrixUnknown || o.data == "bad" {
			return nil, "", false
		}
		switch {
		case o.ephemeral:
			ephemerals += o.data
		case o.remove:
			removes[o.id]++
		default:
			updates[o.id] += o.data
		}
	}
	for id, n := range removes {
		if _, present := data[id]; n > 1 || updates[id] != "" || !present {
			return nil, "", false
		}
		delete(data, id)
	}
	for id, u := range updates {
		data[id] += u
	}
	return data, ephemerals, true
}

// sequences yields all sequences of at most n proposals.
func sequences(n int) []string {
	const alphabet = "uvbroqndefxy"
	var all []string
	level := []string{""}
	for range n {
		var next []string
		for _, s := range level {
			for i := range len(alphabet) {
				next = append(next, s+alphabet[i:i+1])
			}
		}
		all, level = append(all, next...), next
	}
	return all
}

func matrixWorld(t *testing.T, present bool, hub Signer) *world {
	cfg := worldConfig()
	cfg.Components = Components{matrixKnown: matrixComponent{}, matrixOther: matrixComponent{}}
	cfg.ExternalProposals = func(*State, *Proposal, uint32) error { return nil }
	x := Extensions{someSenders(t, hub.Public())}
	if present {
		var err error
		x, err = x.WithDictionary(AppDataDictionary{{matrixKnown, []byte("old")}})
		noError(t, err)
	}
	w := newWorldWith(t, suite1, cfg, x)
	w.add("m0", "m1", "m2")
	return w
}

func checkOutcome(t *testing.T, sc *StagedCommit, want map[ComponentID]string, ephemerals string) {
	t.Helper()
	d := sc.After.Dictionary()
	if len(d) != len(want) {
		t.Errorf("%d components have data, want %d", len(d), len(want))
	}
	for id, data := range want {
		if got, ok := d.Get(id); !ok || string(got) != data {
			t.Errorf("component %v has the data %q, want %q", id, got, data)
		}
	}
	var got strings.Builder
	for _, e := range sc.Ephemerals() {
		got.Write(e.Data)
	}
	if got.String() != ephemerals {
		t.Errorf("ephemeral data %q, want %q", got.String(), ephemerals)
	}
	if sc.HasPath != sc.External {
		t.Errorf("a commit of application data has a path: %v", sc.HasPath)
	}
}

// Every sequence of up to three proposals, for the list itself.
func TestAppDataLists(t *testing.T) {
	hub, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	for _, present := range []bool{false, true} {
		w := matrixWorld(t, present, hub)
		g := w.groups["m0"]
		old, _ := g.State().Dictionary().Get(matrixKnown)
		for _, seq := range sequences(3) {
			var props []QueuedProposal
			for _, c := range []byte(seq) {
				props = append(props, QueuedProposal{Proposal: matrixOps[c].proposal(), Sender: MemberSender(0)})
			}
			want, _, valid := outcomeOf(seq, old)
			p, err := g.state.stageProposals(g.cfg, props, MemberSender(0))
			if valid != (err == nil) || err != nil && !errors.Is(err, ErrInvalidProposal) {
				t.Fatalf("%s, old data %q: %v; valid is %v", seq, old, err, valid)
			}
			if err != nil {
				continue
			}
			for id, data := range want {
				if got, ok := p.params.dictionary.Get(id); !ok || string(got) != data {
					t.Fatalf("%s, old data %q: component %v has %q, want %q", seq, old, id, got, data)
				}
			}
			if len(p.params.dictionary) != len(want) || p.needsPath {
				t.Fatalf("%s, old data %q: %d components, path %v", seq, old, len(p.params.dictionary), p.needsPath)
			}
		}
	}
}

// Every sequence of up to two proposals in every way to send it, as members
// and one who is not see it.
func TestAppDataMatrix(t *testing.T) {
	hub, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	depth := 2
	if testing.Short() {
		depth = 1
	}
	for _, present := range []bool{false, true} {
		w := matrixWorld(t, present, hub)
		public := publicOf(t, w, "m0")
		joiner := w.device("joiner")
		gi, err := w.groups["m0"].GroupInfo()
		noError(t, err)
		old, _ := public.State().Dictionary().Get(matrixKnown)
		list := sequences(depth)
		if depth == 1 {
			list = append(list, "uv", "vu", "ur", "ru", "rr", "or", "ef", "fe", "eu", "ue", "uo", "re")
		}
		for _, seq := range list {
			want, ephemerals, valid := outcomeOf(seq, old)
			var values []Proposal
			alone := true
			for _, c := range []byte(seq) {
				values = append(values, matrixOps[c].proposal())
				alone = alone && matrixOps[c].alone()
			}
			run := func(name string, f func(t *testing.T)) {
				t.Run(fmt.Sprintf("%s/%s/present=%v", name, seq, present), f)
			}
			// accept lets everyone but the committer stage a valid commit.
			accept := func(t *testing.T, sc *StagedCommit) {
				t.Helper()
				checkOutcome(t, sc, want, ephemerals)
				got, err := w.groups["m2"].StageCommit(w.wire(sc.Message))
				noError(t, err)
				checkOutcome(t, got, want, ephemerals)
				got, err = public.StageCommit(w.wire(sc.Message))
				noError(t, err)
				checkOutcome(t, got, want, ephemerals)
			}
			refuse := func(t *testing.T, m *MLSMessage) {
				t.Helper()
				w.TB = t
				w.refuses("m2", m, ErrInvalidProposal)
				if _, err := public.StageCommit(w.wire(m)); !errors.Is(err, ErrInvalidProposal) {
					t.Errorf("PublicGroup: %v", err)
				}
			}
			run("value", func(t *testing.T) {
				sc, err := w.groups["m0"].Commit(CommitOptions{Proposals: values})
				if valid {
					noError(t, err)
					accept(t, sc)
					return
				}
				if !errors.Is(err, ErrInvalidProposal) {
					t.Errorf("Commit: %v", err)
				}
				refuse(t, forge(t, w.groups["m0"], byValue(values...), nil))
			})
			run("external commit", func(t *testing.T) {
				_, sc, err := JoinExternal(w.cfg, gi, public.State().RatchetTree(), JoinParams{
					Signer: joiner.signer, Credential: BasicCredential([]byte("joiner")), ByValue: values,
				})
				if valid {
					noError(t, err)
					accept(t, sc)
					return
				}
				if !errors.Is(err, ErrInvalidProposal) {
					t.Errorf("JoinExternal: %v", err)
				}
				var list []ProposalOrRef
				for i := range values {
					list = append(list, ProposalOrRef{Proposal: &values[i]})
				}
				refuse(t, forgeExternal(t, public, joiner, list))
			})
			for _, sender := range []string{"member", "external sender"} {
				run("reference/"+sender, func(t *testing.T) {
					refs, refused := enqueueAll(t, w, public, hub, sender == "member", values)
					defer func() {
						for _, n := range w.names {
							w.groups[n].pending = proposalCache{}
						}
						public.pending = proposalCache{}
					}()
					if refused == alone {
						t.Fatalf("a proposal is refused: %v; each is valid: %v", refused, alone)
					}
					if refused {
						return
					}
					refuse(t, forgeExternal(t, public, joiner, refs))
					if !valid {
						if _, err := w.groups["m0"].Commit(CommitOptions{}); !errors.Is(err, ErrInvalidProposal) {
							t.Errorf("Commit: %v", err)
						}
						if err := public.CheckPending(); !errors.Is(err, ErrInvalidProposal) {
							t.Errorf("CheckPending: %v", err)
						}
						refuse(t, forge(t, w.groups["m0"], &Commit{Proposals: refs}, nil))
						return
					}
					noError(t, public.CheckPending())
					sc, err := w.groups["m0"].Commit(CommitOptions{})
					noError(t, err)
					accept(t, sc)
					for _, e := range sc.Ephemerals() {
						if !e.ByReference || (e.Sender == MemberSender(1)) != (sender == "member") {
							t.Errorf("ephemeral data from %v", e)
						}
					}
				})
			}
		}
	}
}

// enqueueAll sends proposals of m1 or of the external sender to everyone.
func enqueueAll(t *testing.T, w *world, public *PublicGroup, hub Signer, member bool, values []Proposal) (refs []ProposalOrRef, refused bool) {
	t.Helper()
	st := public.State()
	for i, p := range values {
		a := &AuthenticatedContent{
			WireFormat: WirePublicMessage,
			Content: FramedContent{
				GroupID: st.GroupID(), Epoch: st.Epoch(), Sender: Sender{Type: SenderExternal},
				ContentType: ContentProposal, Proposal: &p, AuthenticatedData: []byte{byte(i)},
			},
		}
		signer, membership := hub, []byte(nil)
		if member {
			g := w.groups["m1"]
			a.Content.Sender, signer, membership = MemberSender(g.own), g.signer, g.epoch.membership
		}
		noError(t, a.sign(signer, st.contextBytes()))
		pm, err := a.public(st.suite, membership, st.contextBytes())
		noError(t, err)
		m := &MLSMessage{WireFormat: WirePublicMessage, PublicMessage: pm}
		q, err := public.Proposal(w.wire(m))
		for _, n := range []string{"m0", "m2"} {
			own, memberErr := w.groups[n].Proposal(w.wire(m))
			if (memberErr == nil) != (err == nil) {
				t.Fatalf("%s says %v, the hub %v", n, memberErr, err)
			}
			if memberErr == nil {
				noError(t, w.groups[n].Enqueue(own))
			}
		}
		if err != nil {
			if !errors.Is(err, ErrInvalidProposal) {
				t.Errorf("Proposal: %v", err)
			}
			return nil, true
		}
		noError(t, public.Enqueue(q))
		refs = append(refs, ProposalOrRef{Reference: q.Ref})
	}
	return refs, false
}

// forgeExternal signs an external commit of list, which is not checked.
func forgeExternal(t *testing.T, public *PublicGroup, d *device, list []ProposalOrRef) *MLSMessage {
	t.Helper()
	st := public.State()
	sender := Sender{Type: SenderNewMemberCommit}
	init := externalInitProposal()
	p, err := st.stageProposals(public.cfg, []QueuedProposal{{Proposal: init, Sender: sender}}, sender)
	noError(t, err)
	created, err := p.createPath(&LeafNode{
		SignatureKey: d.signer.Public(), Credential: BasicCredential([]byte(d.name)), Capabilities: DefaultCapabilities(CredentialBasic),
	}, d.signer)
	noError(t, err)
	a := &AuthenticatedContent{
		WireFormat: WirePublicMessage,
		Content: FramedContent{
			GroupID: st.GroupID(), Epoch: st.Epoch(), Sender: sender, ContentType: ContentCommit,
			Commit: &Commit{Proposals: append([]ProposalOrRef{{Proposal: &init}}, list...), Path: created.path},
		},
	}
	noError(t, a.sign(d.signer, st.contextBytes()))
	a.Auth.ConfirmationTag = make([]byte, st.suite.nh())
	pm, err := a.public(st.suite, nil, st.contextBytes())
	noError(t, err)
	return &MLSMessage{WireFormat: WirePublicMessage, PublicMessage: pm}
}

// A GroupContextExtensions proposal may touch the dictionary only where
// AppDataUpdate is not required; updates of the same commit then apply to what
// it leaves (section 4.7).
func TestAppDataWithGroupContextExtensions(t *testing.T) {
	hub, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	dict := func(data string) AppDataDictionary { return AppDataDictionary{{matrixKnown, []byte(data)}} }
	for _, required := range []bool{false, true} {
		for _, before := range []string{"", "old"} {
			for _, by := range []string{"", "old", "new"} { // "": without dictionary
				for _, update := range []string{"", "+"} {
					for _, first := range []bool{false, true} { // the update precedes the extensions
						name := fmt.Sprintf("required=%v/%q to %q/update %q/first=%v", required, before, by, update, first)
						t.Run(name, func(t *testing.T) {
							x := Extensions{someSenders(t, hub.Public())}
							if required {
								x = append(x, requiring(t, RequiredCapabilities{Proposals: []ProposalType{ProposalAppDataUpdate}}))
							}
							with := func(data string) Extensions {
								if data == "" {
									return x
								}
								out, err := x.WithDictionary(dict(data))
								noError(t, err)
								return out
							}
							cfg := worldConfig()
							cfg.Components = Components{matrixKnown: matrixComponent{}}
							w := newWorldWith(t, suite1, cfg, with(before))
							g := w.groups["m0"]
							list := []Proposal{GroupContextExtensionsProposal(with(by))}
							if update != "" {
								list = append(list, AppDataUpdateProposal(matrixKnown, []byte(update)))
								if first {
									list[0], list[1] = list[1], list[0]
								}
							}
							valid := !required || before == by
							sc, err := g.Commit(CommitOptions{Proposals: list})
							if !valid {
								if !errors.Is(err, ErrInvalidProposal) {
									t.Errorf("got %v", err)
								}
								return
							}
							noError(t, err)
							got, ok := sc.After.Dictionary().Get(matrixKnown)
							if want := by + update; string(got) != want || ok != (want != "") {
								t.Errorf("data is %q, want %q", got, want)
							}
							if !sc.HasPath {
								t.Error("group_context_extensions without a path")
							}
						})
					}
				}
			}
		}
	}
}

// The dictionary extension is put at the end, and stays, empty, when its last
// entry goes.
func TestAppDataExtensionPlace(t *testing.T) {
	hub, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	w := matrixWorld(t, false, hub)
	w.commit("m0", CommitOptions{Proposals: []Proposal{AppDataUpdateProposal(matrixOther, []byte("o")), AppDataUpdateProposal(matrixKnown, []byte("k"))}})
	x := w.groups["m1"].State().Extensions()
	if n := len(x); n != 2 || x[1].Type != ExtensionAppDataDictionary {
		t.Fatalf("extensions are %v", x)
	}
	equal(t, "dictionary", x[1].Data, []byte{8, 0x80, 0x01, 1, 'k', 0x80, 0x02, 1, 'o'})
	w.commit("m1", CommitOptions{Proposals: []Proposal{AppDataRemoveProposal(matrixOther), AppDataRemoveProposal(matrixKnown)}})
	data, ok := w.groups["m0"].State().Extensions().Find(ExtensionAppDataDictionary)
	if !ok || !bytes.Equal(data, []byte{0}) {
		t.Errorf("after the removal of all entries the extension is %x (%v)", data, ok)
	}
}

// restricted accepts proposals of members only.
type restricted struct{ matrixComponent }

func (restricted) CheckSender(_ *State, s Sender, _ *Proposal) error {
	if s.Type != SenderMember {
		return errors.New("members only")
	}
	return nil
}

func TestSenderComponent(t *testing.T) {
	hub, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	w := matrixWorld(t, true, hub)
	w.cfg.Components = Components{matrixKnown: restricted{}}
	for _, n := range w.names {
		w.groups[n].cfg.Components = w.cfg.Components
	}
	public := publicOf(t, w, "m0")
	joiner := w.device("joiner")
	for _, p := range []Proposal{AppDataUpdateProposal(matrixKnown, []byte("u")), AppDataRemoveProposal(matrixKnown), AppEphemeralProposal(matrixKnown, nil)} {
		if _, refused := enqueueAll(t, w, public, hub, false, []Proposal{p}); !refused {
			t.Errorf("%v of the external sender is accepted", p.Type)
		}
		m := forgeExternal(t, public, joiner, []ProposalOrRef{{Proposal: &p}})
		w.refuses("m1", m, ErrInvalidProposal)
		if _, err := public.StageCommit(m); !errors.Is(err, ErrInvalidProposal) {
			t.Errorf("%v in an external commit: %v", p.Type, err)
		}
		if _, refused := enqueueAll(t, w, public, hub, true, []Proposal{p}); refused {
			t.Errorf("%v of a member is refused", p.Type)
		}
	}
}
