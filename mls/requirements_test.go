package mls

import (
	"errors"
	"fmt"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
)

func mustEncode(t testing.TB, v tlspl.Marshaler) []byte {
	t.Helper()
	b, err := Marshal(v)
	noError(t, err)
	return b
}

// leafSays is a leaf's part of the negotiation; nil leaves a list out.
type leafSays struct {
	formats    WireFormats
	components ComponentsList
	safe       ComponentsList
	media      MediaTypeList
}

func (s leafSays) extensions(t testing.TB) Extensions {
	var d AppDataDictionary
	if s.components != nil {
		d = d.Set(ComponentAppComponents, mustEncode(t, s.components))
	}
	if s.safe != nil {
		d = d.Set(ComponentSafeAAD, mustEncode(t, s.safe))
	}
	if s.media != nil {
		d = d.Set(ComponentContentMediaTypes, mustEncode(t, s.media))
	}
	x, err := Extensions{}.WithDictionary(d)
	noError(t, err)
	if s.formats != nil {
		x = x.Set(ExtensionSupportedWireFormats, mustEncode(t, s.formats))
	}
	return x
}

var (
	fullLeaf = leafSays{
		formats: WireFormats{0xf001, 0xf002}, components: ComponentsList{1, 2, 3, 0x8001, 0x1a1a},
		safe: ComponentsList{0x8001, 0x2a2a}, media: MediaTypeList{{Type: "text/plain"}, {Type: "image/png"}},
	}
	fullRequirements = Requirements{
		WireFormats: WireFormats{WirePrivateMessage, 0xf001}, Components: ComponentsList{1, 3, 0x8001},
		SafeAAD: ComponentsList{0x8001}, MediaTypes: MediaTypeList{{Type: "Text/Plain"}},
	}
)

func (r Requirements) extensions(t testing.TB) Extensions {
	x, err := Extensions{{ExtensionRequiredWireFormats, mustEncode(t, r.WireFormats)}}.WithDictionary(AppDataDictionary{
		{ComponentAppComponents, mustEncode(t, r.Components)},
		{ComponentSafeAAD, mustEncode(t, r.SafeAAD)},
		{ComponentContentMediaTypes, mustEncode(t, r.MediaTypes)},
	})
	noError(t, err)
	return x
}

// lacking lists leaves that each miss one thing.
func lacking() map[string]leafSays {
	out := map[string]leafSays{}
	for name, change := range map[string]func(*leafSays){
		"wire format":              func(l *leafSays) { l.formats = WireFormats{0xf002} },
		"any wire format":          func(l *leafSays) { l.formats = nil },
		"component":                func(l *leafSays) { l.components = ComponentsList{1, 2, 3} },
		"app_components":           func(l *leafSays) { l.components = nil },
		"safe aad component":       func(l *leafSays) { l.safe = ComponentsList{} },
		"safe_aad":                 func(l *leafSays) { l.safe = nil },
		"media type":               func(l *leafSays) { l.media = MediaTypeList{{Type: "image/png"}} },
		"media type as it must be": func(l *leafSays) { l.media[0].Parameters = []MediaTypeParameter{{"charset", "utf-8"}} },
		"content_media_types":      func(l *leafSays) { l.media = nil },
	} {
		l := fullLeaf
		l.media = append(MediaTypeList(nil), l.media...)
		change(&l)
		out[name] = l
	}
	return out
}

func keyPackageThat(t testing.TB, name string, l leafSays) *device {
	t.Helper()
	signer, _, err := GenerateSigner(suite1, nil)
	noError(t, err)
	kp, priv, err := NewKeyPackage(KeyPackageParams{
		CipherSuite: suite1, Signer: signer, Credential: BasicCredential([]byte(name)), LeafExtensions: l.extensions(t),
	})
	noError(t, err)
	return &device{name, signer, kp, priv}
}

// What the GroupContext requires is asked of the creator, of Adds, Updates,
// paths and external joiners, and of all who are there when it is asked for
// (mls-extensions sections 5 and 6.2).
func TestRequirements(t *testing.T) {
	create := func(l leafSays, x Extensions) (*world, error) {
		signer, _, err := GenerateSigner(suite1, nil)
		noError(t, err)
		w := &world{TB: t, suite: suite1, cfg: worldConfig(), groups: map[string]*Group{}}
		g, err := CreateGroup(w.cfg, GroupParams{
			CipherSuite: suite1, GroupID: []byte("room"), Signer: signer, Credential: BasicCredential([]byte("m0")),
			LeafExtensions: l.extensions(t), Extensions: x,
		})
		if err == nil {
			w.join("m0", g)
		}
		return w, err
	}
	x := fullRequirements.extensions(t)
	w, err := create(fullLeaf, x)
	noError(t, err)
	d := keyPackageThat(t, "m1", fullLeaf)
	noError(t, w.groups["m0"].State().Requirements().Check(&d.kp.LeafNode))
	// safe_aad in the GroupContext makes all authenticated data SafeAAD.
	deliver := func(sc *StagedCommit) {
		for _, g := range w.groups {
			if g.State() == sc.Before {
				noError(t, g.Merge(sc))
				continue
			}
			got, err := g.StageCommit(w.wire(sc.Message))
			noError(t, err)
			noError(t, g.Merge(got))
		}
	}
	sc, err := w.groups["m0"].Commit(CommitOptions{Proposals: []Proposal{AddProposal(d.kp)}, ForcePath: true})
	noError(t, err)
	deliver(sc)
	w.groups["m1"], err = JoinWelcome(w.cfg, sc.Welcome, nil, d.kp, d.priv, d.signer)
	noError(t, err)
	w.names = append(w.names, "m1")
	public := publicOf(t, w, "m0")
	gi, err := w.groups["m0"].GroupInfo()
	noError(t, err)
	for name, l := range lacking() {
		t.Run(name, func(t *testing.T) {
			w.TB = t
			if _, err := create(l, x); !errors.Is(err, ErrCapabilities) {
				t.Errorf("CreateGroup: %v", err)
			}
			d := keyPackageThat(t, "m2", l)
			if err := public.State().Requirements().Check(&d.kp.LeafNode); !errors.Is(err, ErrCapabilities) {
				t.Errorf("Check: %v", err)
			}
			refuse := func(what string, m *MLSMessage) {
				t.Helper()
				before := groupImage(t, w.groups["m1"])
				if _, err := w.groups["m1"].StageCommit(w.wire(m)); !errors.Is(err, ErrCapabilities) {
					t.Errorf("%s: member: %v", what, err)
				}
				if _, err := public.StageCommit(w.wire(m)); !errors.Is(err, ErrCapabilities) {
					t.Errorf("%s: PublicGroup: %v", what, err)
				}
				equal(t, "member", groupImage(t, w.groups["m1"]), before)
			}
			g := w.groups["m0"]
			if _, err := g.Commit(CommitOptions{Proposals: []Proposal{AddProposal(d.kp)}}); !errors.Is(err, ErrCapabilities) {
				t.Errorf("Commit of an Add: %v", err)
			}
			refuse("add", forgeSafe(t, g, byValue(AddProposal(d.kp))))
			if _, err := g.Commit(CommitOptions{Leaf: &LeafParams{Extensions: l.extensions(t)}}); !errors.Is(err, ErrCapabilities) {
				t.Errorf("Commit of an own leaf: %v", err)
			}
			if _, _, err := JoinExternal(w.cfg, gi, g.State().RatchetTree(), JoinParams{
				Signer: d.signer, Credential: BasicCredential([]byte("m2")), LeafExtensions: l.extensions(t),
			}); !errors.Is(err, ErrCapabilities) {
				t.Errorf("JoinExternal: %v", err)
			}
			// The same leaf is fine where nothing is required, until it is.
			plain, err := create(l, nil)
			noError(t, err)
			if _, err := plain.groups["m0"].Commit(CommitOptions{Proposals: []Proposal{GroupContextExtensionsProposal(x)}}); !errors.Is(err, ErrCapabilities) {
				t.Errorf("GroupContextExtensions: %v", err)
			}
		})
	}
	w.TB = t
	t.Run("update", func(t *testing.T) {
		g := w.groups["m1"]
		l := lacking()["component"]
		m, err := g.ProposeUpdate(LeafParams{Extensions: l.extensions(t)}, nil)
		noError(t, err)
		q, err := public.Proposal(m)
		noError(t, err)
		noError(t, public.Enqueue(q))
		if err := public.CheckPending(); !errors.Is(err, ErrCapabilities) {
			t.Errorf("CheckPending: %v", err)
		}
	})
}

// forgeSafe is forge in a group with SafeAAD.
func forgeSafe(t testing.TB, g *Group, c *Commit) *MLSMessage {
	t.Helper()
	a := &AuthenticatedContent{
		WireFormat: WirePublicMessage,
		Content: FramedContent{
			GroupID: g.state.GroupID(), Epoch: g.state.Epoch(), Sender: MemberSender(g.own),
			AuthenticatedData: mustEncode(t, SafeAAD{}), ContentType: ContentCommit, Commit: c,
		},
	}
	noError(t, a.sign(g.signer, g.state.contextBytes()))
	a.Auth.ConfirmationTag = make([]byte, g.suite.nh())
	pm, err := a.public(g.suite, g.epoch.membership, g.state.contextBytes())
	noError(t, err)
	return &MLSMessage{WireFormat: WirePublicMessage, PublicMessage: pm}
}

// Requirements change by AppDataUpdate, too, and then hold for all members.
func TestRequirementsByAppDataUpdate(t *testing.T) {
	cfg := worldConfig()
	cfg.Components = StandardComponents()
	w := newWorldWith(t, suite1, cfg, nil)
	w.add("m0", "m1")
	public := publicOf(t, w, "m1")
	for id, v := range map[ComponentID]tlspl.Marshaler{
		ComponentAppComponents:     ComponentsList{0x8001},
		ComponentSafeAAD:           ComponentsList{0x8001},
		ComponentContentMediaTypes: MediaTypeList{{Type: "text/plain"}},
	} {
		p := AppDataUpdateProposal(id, mustEncode(t, v))
		if _, err := w.groups["m0"].Commit(CommitOptions{Proposals: []Proposal{p}}); !errors.Is(err, ErrCapabilities) {
			t.Errorf("component %v: %v", id, err)
		}
		m := forge(t, w.groups["m0"], byValue(p), nil)
		w.refuses("m1", m, ErrCapabilities)
		if _, err := public.StageCommit(m); !errors.Is(err, ErrCapabilities) {
			t.Errorf("component %v: PublicGroup: %v", id, err)
		}
		w.refuses("m1", forge(t, w.groups["m0"], byValue(AppDataUpdateProposal(id, []byte{1})), nil), ErrInvalidProposal)
	}
	// Everyone supports these two, since everyone has the extension.
	w.commit("m0", CommitOptions{Proposals: []Proposal{AppDataUpdateProposal(ComponentAppComponents, mustEncode(t, ComponentsList{1, 2}))}})
	w.commit("m1", CommitOptions{Proposals: []Proposal{AppDataRemoveProposal(ComponentAppComponents)}})
}

// Whoever lists the extension lists app_components (section 4.6).
func TestLeafAdvertisesAppComponents(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1")
	gi, err := w.groups["m0"].GroupInfo()
	noError(t, err)
	d := w.device("m2")
	_, sc, err := JoinExternal(w.cfg, gi, w.groups["m0"].State().RatchetTree(), JoinParams{Signer: d.signer, Credential: BasicCredential([]byte("m2"))})
	noError(t, err)
	for l, leaf := range sc.After.Members() {
		d, err := leaf.Dictionary()
		noError(t, err)
		list, err := d.Components()
		noError(t, err)
		if fmt.Sprint(list) != fmt.Sprint(ownComponents) {
			t.Errorf("leaf %d lists the components %v", l, list)
		}
	}
	caps := DefaultCapabilities(CredentialBasic)
	caps.Extensions = nil
	kp, _, err := NewKeyPackage(KeyPackageParams{CipherSuite: suite1, Signer: d.signer, Credential: BasicCredential([]byte("x")), Capabilities: caps})
	noError(t, err)
	if len(kp.LeafNode.Extensions) != 0 {
		t.Error("a leaf without the capability has the extension")
	}
}

// A dictionary or list that is malformed is refused wherever it can be.
func TestMalformedDictionaries(t *testing.T) {
	entry := func(id ComponentID, data ...byte) []byte {
		return append([]byte{byte(id >> 8), byte(id), byte(len(data))}, data...)
	}
	vector := func(entries ...[]byte) []byte {
		var b []byte
		for _, e := range entries {
			b = append(b, e...)
		}
		return append([]byte{byte(len(b))}, b...)
	}
	w := newWorld(t, suite1)
	w.add("m0", "m1")
	public := publicOf(t, w, "m0")
	d := w.device("m2")
	for name, data := range map[string][]byte{
		"not sorted":   vector(entry(0x8002), entry(0x8001)),
		"twice":        vector(entry(0x8001), entry(0x8001)),
		"truncated":    vector(entry(0x8001, 'x'))[:4],
		"trailing":     append(vector(entry(0x8001)), 0),
		"odd list":     vector(entry(ComponentAppComponents, 1, 0)),
		"bad safe_aad": vector(entry(ComponentSafeAAD, 9)),
		"no media":     vector(entry(ComponentContentMediaTypes, 0)),
		"empty media":  vector(entry(ComponentContentMediaTypes, 2, 0, 0)),
		"bad media":    vector(entry(ComponentContentMediaTypes, 6, 4, 't', 'e', 'x', 't', 0)),
	} {
		t.Run(name, func(t *testing.T) {
			x := Extensions{{ExtensionAppDataDictionary, data}}
			shape := name == "not sorted" || name == "twice" || name == "truncated" || name == "trailing"
			// LeafNode: signed by hand, since nothing here makes such a leaf.
			kp := &KeyPackage{Version: MLS10, CipherSuite: suite1, InitKey: d.kp.InitKey, LeafNode: d.kp.LeafNode}
			kp.LeafNode.Extensions = x
			noError(t, kp.LeafNode.sign(d.signer, nil, 0))
			noError(t, kp.sign(d.signer))
			cfg := w.cfg
			if err := kp.Verify(&cfg); err == nil {
				t.Error("a leaf with it is accepted")
			}
			m := forge(t, w.groups["m0"], byValue(AddProposal(kp)), nil)
			if _, err := w.groups["m1"].StageCommit(m); err == nil {
				t.Error("a member accepts the leaf")
			}
			if _, err := public.StageCommit(m); err == nil {
				t.Error("a PublicGroup accepts the leaf")
			}
			// GroupContext.
			gce := forge(t, w.groups["m0"], byValue(GroupContextExtensionsProposal(x)), nil)
			w.refuses("m1", gce, ErrInvalidProposal)
			if _, err := public.StageCommit(gce); !errors.Is(err, ErrInvalidProposal) {
				t.Errorf("a PublicGroup takes it into the GroupContext: %v", err)
			}
			if !shape { // component lists have no meaning in the others
				return
			}
			kp = &KeyPackage{Version: MLS10, CipherSuite: suite1, InitKey: d.kp.InitKey, LeafNode: d.kp.LeafNode, Extensions: x}
			noError(t, kp.sign(d.signer))
			if err := kp.Verify(&cfg); !errors.Is(err, ErrInvalidKeyPackage) {
				t.Errorf("a KeyPackage with it: %v", err)
			}
			gi, err := w.groups["m0"].GroupInfo()
			noError(t, err)
			gi.Extensions = append(gi.Extensions, x...)
			noError(t, gi.sign(w.groups["m0"].signer))
			if _, _, err := JoinExternal(w.cfg, gi, public.State().RatchetTree(), JoinParams{Signer: d.signer, Credential: BasicCredential([]byte("m2"))}); !errors.Is(err, ErrInvalidWelcome) {
				t.Errorf("a GroupInfo with it: %v", err)
			}
			if err := public.VerifyGroupInfo(gi); !errors.Is(err, ErrInvalidMessage) {
				t.Errorf("VerifyGroupInfo: %v", err)
			}
		})
	}
}

func TestSupportOfLeaves(t *testing.T) {
	// GREASE makes no difference, nor does the order.
	a, b := DefaultCapabilities(CredentialBasic), DefaultCapabilities(CredentialBasic)
	b.Extensions = append([]ExtensionType{0x3a3a}, b.Extensions...)
	b.Proposals = append([]ProposalType{b.Proposals[1], b.Proposals[0], 0xeaea}, b.Proposals[2:]...)
	if !supportOf(&LeafNode{Capabilities: a}).equal(supportOf(&LeafNode{Capabilities: b})) {
		t.Error("GREASE or the order made a difference")
	}
	b.Proposals = append(b.Proposals, 0xfafa)
	c := a
	c.Proposals = append(append([]ProposalType(nil), a.Proposals...), 0xf001)
	sa, sb, sc := supportOf(&LeafNode{Capabilities: a}), supportOf(&LeafNode{Capabilities: b}), supportOf(&LeafNode{Capabilities: c})
	if sa.equal(sb) || sb.equal(sc) || !sb.and(sc).equal(sa) || !sc.and(sb).equal(sa) || sa.and(sb) != sa || sb.and(sa) != sa {
		t.Error("what two sets of members have in common is wrong, or is a new summary where one of theirs serves")
	}
	// An unsorted dictionary says nothing, and does not make a sorted one of
	// the same entries do so.
	sorted := fullLeaf.extensions(t)
	data, _ := sorted.Find(ExtensionAppDataDictionary)
	var d AppDataDictionary
	noError(t, Unmarshal(data, &d))
	d = append(AppDataDictionary{{0x9000, nil}}, d...)
	var tw tlspl.Writer
	tlspl.WriteVector(&tw, d, func(w *tlspl.Writer, c *ComponentData) { c.MarshalTLS(w) })
	unsorted, err := tw.Bytes()
	noError(t, err)
	bad := supportOf(&LeafNode{Extensions: Extensions{{ExtensionAppDataDictionary, unsorted}}})
	good := supportOf(&LeafNode{Extensions: sorted})
	if len(bad.components) != 0 || len(good.components) != len(fullLeaf.components)-1 {
		t.Errorf("unsorted: %v, sorted: %v", bad.components, good.components)
	}
}

// Leaves that say the same share one summary: in a new tree, and after each
// of them was replaced, in whatever order they came.
func TestSupportIsShared(t *testing.T) {
	h := newHistory(t, mustSuite(t, 1))
	for range 40 {
		h.add(t)
	}
	for i := range LeafIndex(41) {
		h.commit(t, i*7%41)
	}
	again, err := h.tree.ratchetTree().buildTree(h.tree.suite)
	noError(t, err)
	for name, tr := range map[string]*tree{"grown": h.tree, "built": again} {
		for l, e := range tr.entries() {
			if e.support != tr.root.support {
				t.Errorf("%s tree: leaf %d has a summary of its own", name, l)
			}
		}
	}
}
