package mls

import (
	"bytes"
	"slices"
)

// An invitation says what a committer changes of a Welcome and its GroupInfo,
// before it signs, tags and encrypts them.
type invitation struct {
	values []Proposal
	path   bool    // the commit has one
	device *device // nil: a new one

	tree    func(nodes RatchetTree) RatchetTree // its hash is entered into the GroupContext
	context func(c *GroupContext)
	tag     func(tag []byte) []byte
	info    func(gi *GroupInfo)
	signer  Signer
	secrets func(gs *GroupSecrets)
	welcome func(w *Welcome)
}

// invite adds a client and returns its Welcome, and the GroupInfo in it.
func (a *arena) invite(v invitation, spoilt bool) (*device, *Welcome, *GroupInfo) {
	a.Helper()
	d := v.device
	if d == nil {
		d = a.device("new", nil)
	}
	g := a.groups["m1"]
	s := g.suite
	f := a.forge(draft{path: v.path, values: append(slices.Clone(v.values), AddProposal(d.kp))}, false)
	var nodes RatchetTree
	noError(a, Unmarshal(mustMarshal(f.after.RatchetTree()), &nodes))
	context := *f.after.GroupContext()
	if spoilt && v.tree != nil {
		nodes = v.tree(nodes)
		o := &oracleTree{nodes: make([]Node, 2<<depthFor(LeafIndex(len(nodes)-1)/2)-1)}
		copy(o.nodes, nodes)
		context.TreeHash = o.treeHash(o.root())
	}
	if spoilt && v.context != nil {
		v.context(&context)
	}
	secrets, err := s.epochFromJoiner(f.joiner, f.psk, mustMarshal(&context))
	noError(a, err)
	_, public, err := s.deriveKeyPair(secrets.external)
	noError(a, err)
	gi := &GroupInfo{
		GroupContext: context, ConfirmationTag: s.confirmationTag(secrets.confirmation, context.ConfirmedTranscriptHash), Signer: g.own,
		Extensions: Extensions{{ExtensionExternalPub, append([]byte{byte(len(public))}, public...)}, {ExtensionRatchetTree, mustMarshal(nodes)}},
	}
	signer := g.signer
	if spoilt {
		if v.tag != nil {
			gi.ConfirmationTag = v.tag(bytes.Clone(gi.ConfirmationTag))
		}
		if v.info != nil {
			v.info(gi)
		}
		if v.signer != nil {
			signer = v.signer
		}
	}
	noError(a, gi.sign(signer))
	gs := &GroupSecrets{JoinerSecret: f.joiner}
	for _, in := range f.inputs {
		gs.PSKs = append(gs.PSKs, in.id)
	}
	if f.path != nil {
		gs.PathSecret, _ = f.path.secretFor(f.added[len(f.added)-1])
	}
	if spoilt && v.secrets != nil {
		v.secrets(gs)
	}
	welcomeSecret, err := s.welcomeSecret(f.joiner, f.psk)
	noError(a, err)
	w := &Welcome{CipherSuite: s.id}
	w.EncryptedGroupInfo, err = s.sealGroupInfo(welcomeSecret, gi)
	noError(a, err)
	ref, err := d.kp.Ref()
	noError(a, err)
	ct, err := EncryptWithLabel(s.id, d.kp.InitKey, welcomeLabel, w.EncryptedGroupInfo, mustMarshal(gs))
	noError(a, err)
	w.Secrets = []EncryptedGroupSecrets{{ref, ct}}
	if spoilt && v.welcome != nil {
		v.welcome(w)
	}
	return d, w, gi
}

// refuseJoin checks that an invitation is accepted as it is and refused with
// its changes, by the client that joins and, for to everyone, by a hub that
// starts to follow and by a client that joins externally.
func (a *arena) refuseJoin(to audience, v invitation, want error, text string) {
	a.Helper()
	before := a.images()
	for _, spoilt := range []bool{false, true} {
		d, w, gi := a.invite(v, spoilt)
		var out Welcome
		noError(a, Unmarshal(mustMarshal(w), &out))
		priv := &KeyPackagePrivate{bytes.Clone(d.priv.InitKey), bytes.Clone(d.priv.EncryptionKey)}
		g, err := JoinWelcome(a.cfg, &out, nil, d.kp, d.priv, d.signer)
		if !bytes.Equal(priv.InitKey, d.priv.InitKey) || !bytes.Equal(priv.EncryptionKey, d.priv.EncryptionKey) {
			a.Error("joining changed the keys of the KeyPackage")
		}
		public := new(GroupInfo)
		noError(a, Unmarshal(mustMarshal(gi), public))
		_, errHub := NewPublicGroup(a.cfg, public, nil)
		x := a.device("other", nil)
		_, _, errExternal := JoinExternal(a.cfg, public, nil, JoinParams{Signer: x.signer, Credential: x.kp.LeafNode.Credential, Capabilities: arenaCapabilities("m")})
		if !spoilt {
			noError(a, err)
			noError(a, errHub)
			noError(a, errExternal)
			continue
		}
		if g != nil {
			a.Error("a group comes with the error")
		}
		a.refused("the new member", err, want, text)
		a.noPrivate(err, d)
		if to == everyone {
			a.refused("the hub", errHub, want, text)
			a.refused("the external joiner", errExternal, want, text)
		}
	}
	a.unchanged(before)
}

// noPrivate checks that an error tells nothing of a client's keys.
func (a *arena) noPrivate(err error, d *device) {
	a.Helper()
	if err == nil {
		return
	}
	if form := tells(err.Error(), d.priv.InitKey, d.priv.EncryptionKey); form != "" {
		a.Errorf("the error %q holds a private key in the form %s", err, form)
	}
}

// resign changes the leaf of a member in a tree and signs it as that member.
func (a *arena) resign(nodes RatchetTree, name string, change func(l *LeafNode)) RatchetTree {
	a.Helper()
	l := nodes[2*a.leaf(name)].Leaf
	change(l)
	noError(a, l.sign(a.groups[name].signer, []byte("arena"), a.leaf(name)))
	return nodes
}

var joinValidations = map[string]func(a *arena){
	"valn1401": func(a *arena) {
		unknown := PreSharedKeyID{Type: PSKExternal, ID: []byte("unknown"), Nonce: arenaNonce(1)}
		a.refuseJoin(members, invitation{values: []Proposal{sharedPSK()}, secrets: func(gs *GroupSecrets) { gs.PSKs = append(gs.PSKs, unknown) }}, ErrPSK, "no such key")
		shared := sharedPSK().PreSharedKey.PSK
		a.refuseJoin(members, invitation{secrets: func(gs *GroupSecrets) { gs.PSKs = []PreSharedKeyID{shared, shared} }}, ErrInvalidWelcome, "same pre-shared key twice")
		// A key that was not in the commit gives other secrets.
		a.refuseJoin(members, invitation{secrets: func(gs *GroupSecrets) { gs.PSKs = []PreSharedKeyID{shared} }}, ErrDecrypt, "GroupInfo")
		short := shared
		short.Nonce = short.Nonce[1:]
		a.refuseJoin(members, invitation{secrets: func(gs *GroupSecrets) { gs.PSKs = []PreSharedKeyID{short} }}, ErrInvalidWelcome, "psk_nonce")
	},
	"valn1402": func(a *arena) {
		a.refuseJoin(everyone, invitation{signer: a.groups["m2"].signer}, ErrInvalidSignature, "GroupInfoTBS")
		a.refuseJoin(everyone, invitation{signer: a.sender}, ErrInvalidSignature, "GroupInfoTBS")
		for _, l := range []LeafIndex{7, 8, 1<<32 - 1} { // the new member is at leaf 5
			a.refuseJoin(everyone, invitation{info: func(gi *GroupInfo) { gi.Signer = l }}, ErrUnknownSender, "blank leaf")
		}
	},
	"valn1404": func(a *arena) {
		a.refuseJoin(members, invitation{welcome: func(w *Welcome) { w.CipherSuite = ChaCha }}, ErrCipherSuite, "")
		a.refuseJoin(members, invitation{context: func(c *GroupContext) { c.CipherSuite = ChaCha }}, ErrCipherSuite, "")
	},
	"valn1405": func(a *arena) {
		a.refuseJoin(everyone, invitation{context: func(c *GroupContext) { c.TreeHash = make([]byte, 32) }}, ErrInvalidTree, "hash")
		a.refuseJoin(everyone, invitation{info: func(gi *GroupInfo) {
			// The tree of the epoch before.
			gi.Extensions[1].Data = mustMarshal(a.hub.State().RatchetTree())
		}}, ErrInvalidTree, "hash")
	},
	"valn1406": func(a *arena) {
		const text = "parent"
		for x := range a.hub.State().RatchetTree() {
			if a.hub.State().RatchetTree()[x].Parent == nil {
				continue
			}
			a.refuseJoin(everyone, invitation{tree: func(nodes RatchetTree) RatchetTree {
				nodes[x].Parent.ParentHash = bytes.Repeat([]byte{7}, 32)
				return nodes
			}}, ErrInvalidTree, text)
			a.refuseJoin(everyone, invitation{tree: func(nodes RatchetTree) RatchetTree {
				_, public, err := GenerateHPKEKey(suite1)
				noError(a, err)
				nodes[x].Parent.EncryptionKey = public
				return nodes
			}}, ErrInvalidTree, text)
		}
		a.refuseJoin(everyone, invitation{tree: func(nodes RatchetTree) RatchetTree {
			return a.resign(nodes, "m1", func(l *LeafNode) { l.ParentHash = bytes.Repeat([]byte{7}, 32) })
		}}, ErrInvalidTree, text)
	},
	"valn1407": func(a *arena) {
		for _, c := range []struct {
			change func(l *LeafNode)
			want   error
			text   string
		}{
			{func(l *LeafNode) { l.Capabilities.Versions = nil }, ErrCapabilities, "MLS 1.0"},
			{func(l *LeafNode) { l.Capabilities.CipherSuites = nil }, ErrCapabilities, "cipher suite"},
			{func(l *LeafNode) { l.Capabilities.Proposals = nil }, ErrCapabilities, "self_remove"},
			{func(l *LeafNode) { l.Capabilities.Credentials = []CredentialType{CredentialBasic} }, ErrCapabilities, "0xF000"},
			{func(l *LeafNode) { l.Extensions = Extensions{{0xf001, nil}} }, ErrCapabilities, "0xF001"},
			{func(l *LeafNode) { l.Extensions = Extensions{{ExtensionRatchetTree, nil}} }, ErrInvalidMessage, "does not belong"},
			{func(l *LeafNode) { l.EncryptionKey = []byte("short") }, ErrKey, "HPKE"},
			{func(l *LeafNode) { l.SignatureKey = []byte("short") }, ErrKey, "Ed25519"},
			{func(l *LeafNode) { l.SignatureKey = a.device("x", nil).signer.Public() }, ErrInvalidSignature, "leaf 3"},
			{func(l *LeafNode) { l.Credential = BasicCredential([]byte("evil")) }, ErrCredential, "leaf 3"},
			{func(l *LeafNode) { l.SignatureKey = a.leafNode("m2").SignatureKey }, errDuplicateKey, ""},
			{func(l *LeafNode) { l.EncryptionKey = a.leafNode("m2").EncryptionKey }, errDuplicateKey, ""},
		} {
			// m6 is unmerged: no parent hash covers its leaf.
			a.refuseJoin(everyone, invitation{tree: func(nodes RatchetTree) RatchetTree { return a.resign(nodes, "m6", c.change) }}, c.want, c.text)
		}
		// A leaf from another place.
		a.refuseJoin(everyone, invitation{tree: func(nodes RatchetTree) RatchetTree {
			nodes = a.resign(nodes, "m6", func(l *LeafNode) { l.Source = LeafSourceUpdate })
			noError(a, nodes[6].Leaf.sign(a.groups["m6"].signer, []byte("arena"), 4))
			return nodes
		}}, ErrInvalidSignature, "leaf 3")
	},
	"valn1408": func(a *arena) {
		for _, c := range []struct {
			node nodeIndex
			list []LeafIndex
			text string
		}{
			{rootPosition(3), []LeafIndex{3, 7}, "unmerged leaf 7 "},
			{rootPosition(3), []LeafIndex{3, 8}, "unmerged leaf 8 is not below"},
			{rootPosition(3), []LeafIndex{3, 1<<32 - 1}, "is not below"},
			{rootPosition(2), []LeafIndex{3, 4}, "unmerged leaf 4 is not below"},
		} {
			a.refuseJoin(everyone, invitation{tree: func(nodes RatchetTree) RatchetTree {
				nodes[c.node].Parent.UnmergedLeaves = c.list
				return nodes
			}}, ErrInvalidTree, c.text)
		}
	},
	"valn1409": func(a *arena) {
		// m6 is unmerged at the root and, so it was, below it.
		v := invitation{tree: func(nodes RatchetTree) RatchetTree {
			nodes[rootPosition(3)].Parent.UnmergedLeaves = []LeafIndex{3}
			nodes[rootPosition(2)].Parent.UnmergedLeaves = nil
			return nodes
		}}
		a.refuseJoin(everyone, v, ErrInvalidTree, "unmerged leaf 3 of node 7 is merged in a node between")
	},
	"valn1410": func(a *arena) {
		for _, key := range [][]byte{rootKey(a.hub.State()), a.leafNode("m7").EncryptionKey, a.leafNode("m6").EncryptionKey} {
			a.refuseJoin(everyone, invitation{tree: func(nodes RatchetTree) RatchetTree {
				nodes[rootPosition(3)].Parent.EncryptionKey = key
				nodes[rootPosition(2)].Parent.EncryptionKey = key
				return nodes
			}}, errDuplicateKey, "")
		}
	},
	"valn1411": func(a *arena) {
		const text = "confirmation tag"
		a.refuseJoin(members, invitation{tag: func(tag []byte) []byte { tag[0] ^= 1; return tag }}, ErrInvalidWelcome, text)
		a.refuseJoin(members, invitation{tag: func([]byte) []byte { return a.hub.State().ConfirmationTag() }}, ErrInvalidWelcome, text)
		for _, n := range []int{0, 1, 31} { // its length, all can see
			a.refuseJoin(everyone, invitation{tag: func(tag []byte) []byte { return tag[:n] }}, ErrInvalidWelcome, text)
		}
	},
	"valn1412": foreignResumption, "valn1413": foreignResumption, "valn1414": foreignResumption,
	"valn1415": func(a *arena) {
		// All members know it; the new one does not.
		v := invitation{context: func(c *GroupContext) {
			c.Extensions = append(slices.Clone(c.Extensions), Extension{arenaExtension, nil})
		}}
		a.refuseJoin(everyone, v, ErrCapabilities, "extension 0xF00E of the GroupContext")
	},
	"valn1602": func(a *arena) {
		for _, t := range []ExtensionType{ExtensionApplicationID, ExtensionRequiredCapabilities, ExtensionExternalSenders} {
			x := Extension{t, []byte{0}}
			a.refuseJoin(everyone, invitation{info: func(gi *GroupInfo) { gi.Extensions = append(gi.Extensions, x) }}, ErrInvalidMessage, "does not belong")
			g := a.groups["m1"]
			gi, err := g.GroupInfo()
			noError(a, err)
			noError(a, a.hub.VerifyGroupInfo(gi))
			gi.Extensions = append(gi.Extensions, x)
			noError(a, gi.sign(g.signer))
			a.refused("the hub", a.hub.VerifyGroupInfo(gi), ErrInvalidMessage, "does not belong")
		}
	},
	"ValSem300": func(a *arena) {
		b := mustMarshal(a.hub.State().RatchetTree())
		noError(a, Unmarshal(b, new(RatchetTree)))
		// One blank node more: an octet and a longer length.
		n := len(b) - 2
		longer := append(append([]byte{b[0], b[1]}, b[2:]...), 0)
		if b[0]>>6 == 1 {
			n = len(longer) - 2
			longer[0], longer[1] = 0x40|byte(n>>8), byte(n)
		} else {
			a.Fatalf("the tree of the test has an encoding of %d octets", n)
		}
		if err := Unmarshal(longer, new(RatchetTree)); err == nil {
			a.Error("a tree that ends with a blank node is accepted")
		}
		a.refusals++
	},
	"ValSem400": func(a *arena) {
		e := a.hub.State().Epoch()
		id := PreSharedKeyID{Type: PSKResumption, Usage: ResumptionApplication, GroupID: []byte("arena"), Nonce: arenaNonce(1)}
		resumption := func(e Epoch) Proposal { id.Epoch = e; return pskProposal(id) }
		for _, n := range []string{"m0", "m1", "m2"} {
			for back := range Epoch(4) {
				_, err := a.groups[n].Commit(CommitOptions{Proposals: []Proposal{resumption(e - back)}})
				noError(a, err)
			}
			_, err := a.groups[n].Commit(CommitOptions{Proposals: []Proposal{resumption(e - 4)}})
			a.refused(n, err, ErrPSK, "resumption key")
			if len(a.groups[n].past) > 3 {
				a.Errorf("%s keeps %d epochs", n, len(a.groups[n].past))
			}
		}
		a.attackOn(members, draft{values: []Proposal{sharedPSK()}, list: instead(resumption(e - 4))}, ErrPSK, "resumption key")
	},
}

// ChaCha is a cipher suite with the key sizes of the arena's.
const ChaCha = X25519ChaCha20SHA256Ed25519

// foreignResumption: a Welcome that claims to continue a group whose end the
// client does not know.
func foreignResumption(a *arena) {
	for _, usage := range []ResumptionPSKUsage{ResumptionReInit, ResumptionBranch} {
		id := PreSharedKeyID{Type: PSKResumption, Usage: usage, GroupID: []byte("old"), Epoch: 7, Nonce: arenaNonce(1)}
		a.refuseJoin(members, invitation{secrets: func(gs *GroupSecrets) { gs.PSKs = []PreSharedKeyID{id} }}, ErrPSK, "")
	}
}
