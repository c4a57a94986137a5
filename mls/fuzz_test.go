package mls

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
)

// wireTypes are all types that are decoded from the wire or from storage.
var wireTypes = map[string]func() wireValue{
	"MLSMessage":           func() wireValue { return new(MLSMessage) },
	"AuthenticatedContent": func() wireValue { return new(AuthenticatedContent) },
	"FramedContent":        func() wireValue { return new(FramedContent) },
	"PublicMessage":        func() wireValue { return new(PublicMessage) },
	"PrivateMessage":       func() wireValue { return new(PrivateMessage) },
	"Welcome":              func() wireValue { return new(Welcome) },
	"GroupSecrets":         func() wireValue { return new(GroupSecrets) },
	"GroupInfo":            func() wireValue { return new(GroupInfo) },
	"GroupContext":         func() wireValue { return new(GroupContext) },
	"KeyPackage":           func() wireValue { return new(KeyPackage) },
	"LeafNode":             func() wireValue { return new(LeafNode) },
	"Credential":           func() wireValue { return new(Credential) },
	"Capabilities":         func() wireValue { return new(Capabilities) },
	"RequiredCapabilities": func() wireValue { return new(RequiredCapabilities) },
	"Extensions":           func() wireValue { return new(Extensions) },
	"ExternalSenders":      func() wireValue { return new(ExternalSenders) },
	"WireFormats":          func() wireValue { return new(WireFormats) },
	"Proposal":             func() wireValue { return new(Proposal) },
	"Commit":               func() wireValue { return new(Commit) },
	"UpdatePath":           func() wireValue { return new(UpdatePath) },
	"PreSharedKeyID":       func() wireValue { return new(PreSharedKeyID) },
	"RatchetTree":          func() wireValue { return new(RatchetTree) },
	"AppDataDictionary":    func() wireValue { return new(AppDataDictionary) },
	"AppDataUpdate":        func() wireValue { return new(AppDataUpdate) },
	"AppEphemeral":         func() wireValue { return new(AppEphemeral) },
	"ComponentsList":       func() wireValue { return new(ComponentsList) },
	"SafeAAD":              func() wireValue { return new(SafeAAD) },
	"MediaTypeList":        func() wireValue { return new(MediaTypeList) },
	"ApplicationFraming":   func() wireValue { return new(ApplicationFraming) },
	"MediaType":            func() wireValue { return new(MediaType) },
	"CredentialBinding":    func() wireValue { return new(CredentialBinding) },
	"MultiCredential":      func() wireValue { return new(MultiCredential) },
	"AppAck":               func() wireValue { return new(AppAck) },
	"ReceiptLog":           func() wireValue { return new(ReceiptLog) },
	"ExporterTree":         func() wireValue { return new(exporterTree) },
	"KeyPackagePrivate":    func() wireValue { return new(KeyPackagePrivate) },
	"RatchetPair":          func() wireValue { return new(ratchetPair) },
	"PastRecord":           func() wireValue { return new(pastRecord) },
	"MemberRecord":         func() wireValue { return new(memberRecord) },
	"StagedRecord":         func() wireValue { return new(stagedRecord) },
	"PendingRecord":        func() wireValue { return new(pendingRecord) },
	"RatchetTreeOption":    func() wireValue { return new(RatchetTreeOption) },
	"PartialGroupInfo":     func() wireValue { return new(PartialGroupInfo) },
	"InfoRecord":           func() wireValue { return new(infoRecord) },
	"ExternalReceivers":    func() wireValue { return new(ExternalReceivers) },
	"SemiPrivateMessage":   func() wireValue { return new(SemiPrivateMessage) },
	"PerMessageKey":        func() wireValue { return new(perMessageKey) },
	"ProposalRecord":       func() wireValue { return new(proposalRecord) },
	"StateRecord":          func() wireValue { return new(stateRecord) },
}

// canonical lists the types whose encoding is unique, so that what decodes
// encodes to the same octets. Records of maps are sorted when written only.
func canonical(name string) bool {
	switch name {
	case "RatchetPair", "PastRecord", "MemberRecord", "StagedRecord", "ExporterTree":
		return false
	}
	return true
}

// seeds returns encodings of every type, from a group that lives.
func seeds(t testing.TB) map[string][][]byte {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	d := w.device("m3")
	nonce, err := NewPSKNonce(suite1)
	noError(t, err)
	psk := PreSharedKeyID{Type: PSKExternal, ID: []byte("shared"), Nonce: nonce}
	g := w.groups["m0"]
	leave := w.propose("m2", SelfRemoveProposal())
	update, err := w.groups["m1"].ProposeUpdate(LeafParams{}, []byte("aad"))
	noError(t, err)
	sc, err := g.Commit(CommitOptions{Proposals: []Proposal{
		AddProposal(d.kp), PreSharedKeyProposal(psk), AppDataUpdateProposal(testComponent, []byte("data")),
	}})
	noError(t, err)
	say, err := g.Encrypt([]byte("text"), nil)
	noError(t, err)
	staged, err := g.SealStaged(sc)
	noError(t, err)
	late, err := w.groups["m1"].Encrypt([]byte("late"), nil)
	noError(t, err)
	_, err = w.groups["m1"].Encrypt([]byte("later"), nil)
	noError(t, err)
	later, err := w.groups["m1"].Encrypt([]byte("latest"), nil)
	noError(t, err)
	_, err = g.Decrypt(later)
	noError(t, err)
	leaf, _ := g.State().Member(1)
	out := map[string][][]byte{"StagedRecord": {staged}}
	put := func(name string, vs ...tlspl.Marshaler) {
		for _, v := range vs {
			b, err := Marshal(v)
			noError(t, err)
			out[name] = append(out[name], b)
		}
	}
	commit := sc.Message.PublicMessage
	put("MLSMessage", sc.Message, leave, update, say, late, WelcomeMessage(sc.Welcome), GroupInfoMessage(sc.GroupInfo), KeyPackageMessage(d.kp))
	put("PublicMessage", commit, leave.PublicMessage)
	put("AuthenticatedContent", commit.authenticated(), leave.PublicMessage.authenticated())
	put("FramedContent", &commit.Content, &update.PublicMessage.Content)
	put("PrivateMessage", say.PrivateMessage)
	put("Welcome", sc.Welcome)
	put("GroupSecrets", &GroupSecrets{JoinerSecret: nonce, PathSecret: nonce, PSKs: []PreSharedKeyID{psk}})
	put("GroupInfo", sc.GroupInfo)
	put("GroupContext", sc.After.GroupContext())
	put("KeyPackage", d.kp)
	put("LeafNode", leaf, &commit.Content.Commit.Path.LeafNode, &update.PublicMessage.Content.Proposal.Update.LeafNode)
	put("Credential", leaf.Credential, X509Credential([]byte("leaf"), []byte("ca")), Credential{Type: 0xfafa, Opaque: []byte("?")})
	put("Capabilities", leaf.Capabilities)
	put("RequiredCapabilities", RequiredCapabilities{[]ExtensionType{6}, []ProposalType{8, 10}, []CredentialType{2}})
	put("Extensions", sc.After.Extensions(), sc.GroupInfo.Extensions)
	put("ExternalSenders", ExternalSenders{{g.signer.Public(), BasicCredential([]byte("hub"))}})
	put("WireFormats", WireFormats{WirePublicMessage})
	for i := range commit.Content.Commit.Proposals {
		if p := commit.Content.Commit.Proposals[i].Proposal; p != nil {
			put("Proposal", p)
		}
	}
	put("Proposal", update.PublicMessage.Content.Proposal, &Proposal{Type: ProposalSelfRemove},
		&Proposal{Type: ProposalReInit, ReInit: &ReInit{GroupID: []byte("g"), Version: MLS10, CipherSuite: 1}},
		&Proposal{Type: ProposalExternalInit, ExternalInit: &ExternalInit{KEMOutput: nonce}})
	put("Commit", commit.Content.Commit)
	put("UpdatePath", commit.Content.Commit.Path)
	put("PreSharedKeyID", &psk, &PreSharedKeyID{Type: PSKResumption, Usage: ResumptionApplication, GroupID: []byte("g"), Epoch: 3, Nonce: nonce},
		&PreSharedKeyID{Type: PSKApplication, ComponentID: testComponent, ID: []byte("x"), Nonce: nonce})
	put("RatchetTree", sc.After.RatchetTree())
	put("AppDataDictionary", sc.After.Dictionary(), AppDataDictionary{{1, nil}, {2, []byte("x")}})
	put("AppDataUpdate", &AppDataUpdate{ComponentID: 1, Op: AppDataOpUpdate, Update: []byte("x")}, &AppDataUpdate{ComponentID: 1, Op: AppDataOpRemove})
	put("AppEphemeral", &AppEphemeral{ComponentID: 5, Data: []byte("x")})
	put("ComponentsList", ComponentsList{1, 2, 0x20})
	put("SafeAAD", SafeAAD{{1, []byte("a")}, {9, nil}})
	media := MediaType{Type: "text/plain", Parameters: []MediaTypeParameter{{"charset", "UTF-8"}}}
	put("MediaTypeList", MediaTypeList{media, {Type: "application/mimi-content"}})
	put("ApplicationFraming", ApplicationFraming{media, []byte("hello")})
	binding, err := NewCredentialBinding(suite1, BasicCredential([]byte("id")), g.signer, g.signer.Public())
	noError(t, err)
	put("MediaType", media, MediaType{})
	put("CredentialBinding", binding)
	put("MultiCredential", MultiCredential{binding, binding})
	put("AppAck", AppAck{{1, 2, 3}, {1, 9, 9}})
	put("ReceiptLog", &ReceiptLog{epochs: []epochReceipts{{3, AppAck{{1, 2, 3}}}, {4, nil}}})
	put("ExporterTree", g.exports)
	put("KeyPackagePrivate", d.priv)
	put("MemberRecord", (*memberRecord)(g))
	private := *g
	cfg := *g.cfg
	cfg.HandshakeFormat = WirePrivateMessage
	private.cfg = &cfg
	hidden, err := private.Commit(CommitOptions{SkipPending: true})
	noError(t, err)
	put("StagedRecord", &stagedRecord{epoch: g.state.Epoch(), sc: *hidden, content: hidden.private.content, secrets: *hidden.private.secrets, keys: hidden.private.keys})
	put("RatchetPair", (*ratchetPair)(g.tree.senders[1]))
	put("PastRecord", g.past[0].record(g.suite), &pastRecord{pastEpoch{tree: g.tree}, contextRecord{nonce, nonce}})
	put("PendingRecord", (*pendingRecord)(&g.pending.list[0]))
	put("RatchetTreeOption", sc.After.TreeOption(), &RatchetTreeOption{Representation: TreeDistributionService})
	partial, err := sc.PartialGroupInfo(true)
	noError(t, err)
	info := *partsOf(sc.GroupInfo)
	put("PartialGroupInfo", partial, &PartialGroupInfo{TreePresence: TreeAdded, Signature: nonce})
	put("InfoRecord", (*infoRecord)(&info))
	info.treeAt = 1
	put("InfoRecord", (*infoRecord)(&info))
	put("StateRecord", sc.After.record(), &stateRecord{3, contextRecord{nonce, nonce}, nonce, nil})
	semi := newSemiWorld(t, suite1)
	semi.add("m0", "m1", "m2")
	message := semiForgery{}.send(t, semi.groups["m0"])
	q, err := semi.hub(0).Proposal(message)
	noError(t, err)
	put("MLSMessage", message)
	put("ExternalReceivers", semi.receivers)
	put("SemiPrivateMessage", message.SemiPrivateMessage)
	put("PerMessageKey", &perMessageKey{messageKey: messageKey{nonce, nonce[:12]}, leaf: 3})
	put("ProposalRecord", (*proposalRecord)(q), (*proposalRecord)(&g.pending.list[0]))
	return out
}

// TestWireTypes decodes and encodes the seeds of every type, and checks that
// no prefix of them decodes.
func TestWireTypes(t *testing.T) {
	all := seeds(t)
	for _, name := range slices.Sorted(maps.Keys(wireTypes)) {
		if len(all[name]) == 0 {
			t.Errorf("no seed of %s", name)
		}
		for _, b := range all[name] {
			v := wireTypes[name]()
			if err := Unmarshal(b, v); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			out, err := Marshal(v)
			noError(t, err)
			equal(t, name, out, b)
			if Unmarshal(append(bytes.Clone(b), 0), wireTypes[name]()) == nil {
				t.Errorf("%s decodes with an octet too much", name)
			}
			for i := range b {
				if Unmarshal(b[:i], wireTypes[name]()) == nil {
					t.Errorf("%s decodes from %d of %d octets", name, i, len(b))
				}
			}
		}
	}
}

// FuzzDecode decodes arbitrary octets as every type. What decodes must
// encode, to the same octets if the encoding is unique, and decode again.
func FuzzDecode(f *testing.F) {
	names := slices.Sorted(maps.Keys(wireTypes))
	for name, bs := range seeds(f) {
		for _, b := range bs {
			f.Add(uint8(slices.Index(names, name)), b)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		name := names[int(kind)%len(names)]
		v := wireTypes[name]()
		if Unmarshal(b, v) != nil {
			return
		}
		out, err := Marshal(v)
		if err != nil {
			t.Fatalf("%s decodes but does not encode: %v", name, err)
		}
		if canonical(name) && !bytes.Equal(out, b) {
			t.Fatalf("%s %x encodes to %x", name, b, out)
		}
		again := wireTypes[name]()
		if err := Unmarshal(out, again); err != nil {
			t.Fatalf("%s does not decode again: %v", name, err)
		}
		twice, err := Marshal(again)
		if err != nil || !bytes.Equal(out, twice) {
			t.Fatalf("%s is not stable: %v", name, err)
		}
	})
}

// FuzzMember hands arbitrary messages to a member: nothing panics, and what
// is refused leaves no trace.
func FuzzMember(f *testing.F) {
	w := newWorld(f, suite1)
	w.add("m0", "m1", "m2")
	g := w.groups["m1"]
	from := w.groups["m0"]
	m, err := from.Propose(RemoveProposal(2), nil)
	noError(f, err)
	sc, err := from.Commit(CommitOptions{SkipPending: true})
	noError(f, err)
	say, err := from.Encrypt([]byte("text"), nil)
	noError(f, err)
	for _, m := range []*MLSMessage{m, sc.Message, say, WelcomeMessage(&Welcome{CipherSuite: suite1}), GroupInfoMessage(sc.GroupInfo)} {
		b, err := Marshal(m)
		noError(f, err)
		f.Add(b)
	}
	before := groupImage(f, g)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(MLSMessage)
		if Unmarshal(b, m) != nil {
			return
		}
		refused := true
		if _, err := g.Decrypt(m); err == nil {
			refused = false
		}
		if q, err := g.Proposal(m); err == nil && q.Ref == nil {
			t.Fatal("a proposal without reference")
		}
		if q, err := g.SpoiltProposal(m); err == nil && !q.Spoilt {
			t.Fatal("a proposal that is refused is not marked as spoilt")
		}
		if sc, err := g.StageCommit(m); err == nil && sc.Before != g.state {
			t.Fatal("a commit of another epoch")
		}
		if m.GroupInfo != nil {
			_, _, _ = JoinExternal(w.cfg, m.GroupInfo, nil, JoinParams{Signer: from.signer, Credential: BasicCredential([]byte("x"))})
		}
		if after := groupImage(t, g); refused {
			if !bytes.Equal(before, after) {
				t.Fatal("a refused message changed the group")
			}
		} else {
			before = after
		}
	})
}
