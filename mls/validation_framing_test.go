package mls

import "bytes"

var framingValidations = map[string]func(a *arena){
	"valn1301": func(a *arena) {
		remove := proposalContent(RemoveProposal(2))
		const text = "FramedContentTBS"
		a.refuseProposal(a.sayAs(a.groups["m2"].signer, MemberSender(a.leaf("m1")), remove, nil), "m1", everyone, ErrInvalidSignature, text)
		a.refuseProposal(a.sayAs(a.sender, MemberSender(a.leaf("m1")), remove, nil), "m1", everyone, ErrInvalidSignature, text)
		a.refuseProposal(a.sayAs(a.groups["m1"].signer, Sender{Type: SenderExternal}, remove, nil), "", everyone, ErrInvalidSignature, text)
		add := proposalContent(AddProposal(a.device("new", nil).kp))
		for _, s := range []Signer{a.sender, a.groups["m1"].signer} {
			a.refuseProposal(a.sayAs(s, Sender{Type: SenderNewMemberProposal}, add, nil), "", everyone, ErrInvalidSignature, text)
		}
		a.refuseProposal(a.sayAs(a.sender, Sender{Type: SenderExternal, Index: 1}, remove, nil), "", everyone, ErrUnknownSender, "external senders")
		a.refuseProposal(a.sayAs(a.sender, Sender{Type: SenderExternal, Index: 1<<32 - 1}, remove, nil), "", everyone, ErrUnknownSender, "external senders")
	},
	"valn1302": func(a *arena) { noMembershipTag(a); noConfirmationTag(a); wrongMembershipTag(a); wrongSignature(a) },
	"valn1303": padding, "ValSem011": padding,
	"valn1304": func(a *arena) {
		// Application data, a proposal and a commit, each signed by another.
		for _, c := range []FramedContent{
			{ContentType: ContentApplication, Application: []byte("text")}, proposalContent(RemoveProposal(2)),
			a.forge(draft{path: true}, false).content.Content,
		} {
			m := a.seal("m1", c, a.groups["m2"].signer, nil, nil)
			a.refusePrivate(m, "m1", ErrInvalidSignature, "FramedContentTBS")
		}
		// A commit without confirmation tag, or with one that does not fit.
		for _, tag := range [][]byte{nil, make([]byte, 31), make([]byte, 32)} {
			m := a.seal("m1", a.forge(draft{path: true}, false).content.Content, nil, nil, func(x *AuthenticatedContent) { x.Auth.ConfirmationTag = tag })
			a.refusePrivate(m, "m1", ErrInvalidCommit, "confirmation tag")
		}
	},
	"valn1305": func(a *arena) {
		g := a.groups["m1"]
		for _, s := range []Sender{{Type: SenderExternal}, {Type: SenderNewMemberCommit}, {Type: SenderNewMemberProposal}} {
			x := &AuthenticatedContent{WireFormat: WirePrivateMessage, Content: FramedContent{
				GroupID: g.state.GroupID(), Epoch: g.state.Epoch(), Sender: s, ContentType: ContentApplication, Application: []byte("x"),
			}}
			noError(a, x.sign(g.signer, g.state.contextBytes()))
			_, err := x.private(g.suite, messageKey{make([]byte, 16), make([]byte, 12)}, 0, g.epoch.senderData)
			a.refused("the sender", err, ErrInvalidMessage, "not signed by a member")
		}
	},
	"valn1306": func(a *arena) {
		for _, l := range []LeafIndex{5, 7, 8, 1 << 21, 1<<32 - 1} {
			m := a.seal("m1", FramedContent{ContentType: ContentApplication, Application: []byte("text")}, nil, func(sd *senderData) { sd.leaf = l }, nil)
			a.refusePrivate(m, "m1", ErrUnknownSender, "blank")
		}
	},
	"valn1307": func(a *arena) {
		for _, change := range []func(c *FramedContent){func(c *FramedContent) { c.Epoch-- }, func(c *FramedContent) { c.Epoch++ }, func(c *FramedContent) { c.Epoch = 1<<64 - 1 }} {
			for _, m := range []*MLSMessage{
				a.say("m1", proposalContent(RemoveProposal(2)), change),
				a.sayAs(a.sender, Sender{Type: SenderExternal}, proposalContent(RemoveProposal(2)), change),
			} {
				a.refuseProposal(m, "m1", everyone, ErrWrongEpoch, "epoch")
			}
		}
		a.refuseProposal(a.sayAs(a.groups["m4"].signer, MemberSender(a.leaf("m1")), proposalContent(RemoveProposal(2)), nil), "m1", everyone, ErrInvalidSignature, "")
	},
	"valn1501": func(a *arena) {
		c := a.forge(draft{path: true}, false).content.Content
		a.refuse(a.sayAs(a.sender, Sender{Type: SenderExternal}, FramedContent{ContentType: ContentCommit, Commit: c.Commit}, nil), "", everyone,
			ErrInvalidMessage, "content type 3 from sender type 2")
		a.refuse(a.sayAs(a.sender, Sender{Type: SenderExternal}, FramedContent{ContentType: ContentApplication}, nil), "", everyone, ErrInvalidMessage, "")
	},
	"valn1502": func(a *arena) {
		a.propose(a.external(RemoveProposal(2))) // the control
		for _, p := range []Proposal{a.updateOf("m2", nil), SelfRemoveProposal(), {Type: ProposalExternalInit, ExternalInit: &ExternalInit{rootKey(a.hub.State())}}} {
			a.refuseProposal(a.external(p), "", everyone, ErrInvalidProposal, "external sender may not propose")
		}
		// What the group's policy refuses.
		a.refuseProposal(a.external(RemoveProposal(0)), "", everyone, ErrInvalidProposal, "may not remove the owner")
		a.configure(func(c *Config) { c.ExternalProposals = nil })
		a.refuseProposal(a.external(RemoveProposal(2)), "", everyone, ErrInvalidProposal, "are refused")
	},
	"valn1503": func(a *arena) {
		d := a.device("new", nil)
		c := a.forge(draft{joiner: d}, false).content.Content
		a.refuse(a.sayAs(d.signer, Sender{Type: SenderNewMemberProposal}, FramedContent{ContentType: ContentCommit, Commit: c.Commit}, nil), "", everyone,
			ErrInvalidMessage, "content type 3 from sender type 3")
	},
	"valn1504": func(a *arena) {
		d := a.device("new", nil)
		join := a.sayAs(d.signer, Sender{Type: SenderNewMemberProposal}, proposalContent(AddProposal(d.kp)), nil)
		a.propose(join) // the control
		for _, p := range []Proposal{RemoveProposal(2), sharedPSK(), SelfRemoveProposal(), reInitProposal(MLS10), a.contextExtensions(func(x Extensions) Extensions { return x })} {
			a.refuseProposal(a.sayAs(d.signer, Sender{Type: SenderNewMemberProposal}, proposalContent(p), nil), "", everyone,
				ErrInvalidProposal, "new member may not propose")
		}
		a.configure(func(c *Config) { c.NewMemberProposals = nil })
		a.refuseProposal(join, "", everyone, ErrInvalidProposal, "are refused")
	},
	"ValSem002": func(a *arena) {
		other := func(c *FramedContent) { c.GroupID = []byte("other") }
		a.attack(draft{path: true, frame: other}, ErrWrongGroup, "")
		a.attack(draft{joiner: a.device("new", nil), frame: other}, ErrWrongGroup, "")
		a.refuseProposal(a.say("m1", proposalContent(RemoveProposal(2)), other), "m1", everyone, ErrWrongGroup, "")
		a.refuseProposal(a.sayAs(a.sender, Sender{Type: SenderExternal}, proposalContent(RemoveProposal(2)), other), "", everyone, ErrWrongGroup, "")
		m := a.seal("m1", FramedContent{ContentType: ContentApplication, Application: []byte("text")}, nil, nil, nil)
		m.PrivateMessage.GroupID = []byte("other")
		a.refusePrivate(m, "m1", ErrWrongGroup, "")
	},
	"ValSem004": func(a *arena) {
		for _, l := range []LeafIndex{5, 7, 8, 1 << 21, 1<<32 - 1} {
			a.attack(draft{path: true, frame: func(c *FramedContent) { c.Sender.Leaf = l }}, ErrUnknownSender, "blank")
			a.refuseProposal(a.say("m1", proposalContent(RemoveProposal(2)), func(c *FramedContent) { c.Sender.Leaf = l }), "m1", everyone, ErrUnknownSender, "blank")
		}
	},
	"ValSem005": func(a *arena) {
		m := a.say("m1", FramedContent{ContentType: ContentApplication, Application: []byte("text")}, nil)
		a.refuse(m, "m1", everyone, ErrInvalidMessage, "")
		a.refuseProposal(m, "m1", everyone, ErrInvalidMessage, "")
		before := a.images()
		_, err := a.groups["m2"].Decrypt(a.wire(m))
		a.refused("m2", err, ErrInvalidMessage, "not an application message")
		a.unchanged(before)
	},
	"ValSem006": func(a *arena) {
		m := a.seal("m1", FramedContent{ContentType: ContentApplication, Application: []byte("text")}, nil, nil, nil)
		for _, spoil := range []func(m *PrivateMessage){
			func(m *PrivateMessage) { m.Ciphertext[len(m.Ciphertext)-1] ^= 1 },
			func(m *PrivateMessage) { m.EncryptedSenderData[0] ^= 1 },
			func(m *PrivateMessage) { m.AuthenticatedData = []byte("other") },
			func(m *PrivateMessage) { m.Ciphertext = nil },
			func(m *PrivateMessage) { m.EncryptedSenderData = nil },
		} {
			x := a.wire(m)
			spoil(x.PrivateMessage)
			a.refusePrivate(x, "m1", ErrDecrypt, "")
		}
		before := len(a.groups["m2"].tree.senders)
		if got, err := a.groups["m2"].Decrypt(m); err != nil || string(got.Data) != "text" || before > len(a.groups["m2"].tree.senders) {
			a.Errorf("the genuine message: %v", err)
		}
	},
	"ValSem007": noMembershipTag,
	"ValSem009": noConfirmationTag,
}

// seal signs content as a member and encrypts it; signer, sd and change spoil
// it.
func (a *arena) seal(by string, c FramedContent, signer Signer, sd func(*senderData), change func(x *AuthenticatedContent)) *MLSMessage {
	a.Helper()
	m, _ := a.sealPadded(by, c, signer, sd, change, nil)
	return m
}

func (a *arena) sealPadded(by string, c FramedContent, signer Signer, changeSD func(*senderData), change func(x *AuthenticatedContent), pad func(pt []byte) []byte) (*MLSMessage, []byte) {
	a.Helper()
	g := a.groups[by]
	if signer == nil {
		signer = g.signer
	}
	c.GroupID, c.Epoch, c.Sender = g.state.GroupID(), g.state.Epoch(), MemberSender(g.own)
	x := &AuthenticatedContent{WireFormat: WirePrivateMessage, Content: c}
	noError(a, x.sign(signer, g.state.contextBytes()))
	if c.ContentType == ContentCommit {
		x.Auth.ConfirmationTag = make([]byte, g.suite.nh())
	}
	if change != nil {
		change(x)
	}
	k, generation, err := g.tree.take(g.own, ratchetOf(c.ContentType))
	noError(a, err)
	m, err := x.private(g.suite, k, generation, g.epoch.senderData)
	noError(a, err)
	sd, err := m.openSenderData(g.suite, g.epoch.senderData)
	noError(a, err)
	aead, err := g.suite.newAEAD(k.key)
	noError(a, err)
	aad, err := m.contentAAD()
	noError(a, err)
	pt, err := aead.Open(nil, xorGuard(k.nonce, sd.guard), m.Ciphertext, aad)
	noError(a, err)
	if pad != nil {
		pt = pad(pt)
	}
	m.Ciphertext = aead.Seal(nil, xorGuard(k.nonce, sd.guard), pt, aad)
	if changeSD != nil {
		changeSD(&sd)
	}
	m.EncryptedSenderData, err = m.sealSenderData(g.suite, g.epoch.senderData, sd)
	noError(a, err)
	return &MLSMessage{WireFormat: WirePrivateMessage, PrivateMessage: m}, pt
}

// refusePrivate checks that members refuse a PrivateMessage, in the way of
// its content, and that the hub takes none.
func (a *arena) refusePrivate(m *MLSMessage, by string, want error, text string) {
	a.Helper()
	before := a.images()
	for _, n := range a.names {
		if n == by {
			continue
		}
		var err error
		switch g := a.groups[n]; m.PrivateMessage.ContentType {
		case ContentApplication:
			_, err = g.Decrypt(a.wire(m))
		case ContentProposal:
			_, err = g.Proposal(a.wire(m))
		case ContentCommit:
			_, err = g.StageCommit(a.wire(m))
		}
		a.refused(n, err, want, text)
	}
	_, err := a.hub.StageCommit(a.wire(m))
	a.refused("the hub", err, ErrInvalidMessage, "not a PublicMessage")
	_, err = a.hub.Proposal(a.wire(m))
	a.refused("the hub", err, ErrInvalidMessage, "not a PublicMessage")
	a.unchanged(before)
}

func otherEpoch(a *arena) {
	for _, change := range []func(c *FramedContent){func(c *FramedContent) { c.Epoch-- }, func(c *FramedContent) { c.Epoch++ }, func(c *FramedContent) { c.Epoch = 0 }} {
		a.attack(draft{path: true, frame: change}, ErrWrongEpoch, "epoch")
		a.attack(draft{joiner: a.device("new", nil), frame: change}, ErrWrongEpoch, "epoch")
	}
}

func noMembershipTag(a *arena) {
	for _, n := range []int{0, 1, 31} {
		a.attack(draft{path: true, message: func(m *PublicMessage) { m.MembershipTag = m.MembershipTag[:n] }}, ErrInvalidMessage, "membership tag")
		m := a.say("m1", proposalContent(RemoveProposal(2)), nil)
		m.PublicMessage.MembershipTag = m.PublicMessage.MembershipTag[:n]
		a.refuseProposal(m, "m1", everyone, ErrInvalidMessage, "membership tag")
	}
}

func noConfirmationTag(a *arena) {
	for _, n := range []int{0, 1, 31} {
		a.attack(draft{path: true, tag: func(tag []byte) []byte { return tag[:n] }}, ErrInvalidCommit, "confirmation tag")
	}
	a.attack(draft{path: true, tag: func(tag []byte) []byte { return append(tag, 0) }}, ErrInvalidCommit, "confirmation tag")
}

func padding(a *arena) {
	content := FramedContent{ContentType: ContentApplication, Application: []byte("text")}
	for _, pad := range []func(pt []byte) []byte{
		func(pt []byte) []byte { return append(pt, 0, 0, 1) },
		func(pt []byte) []byte { return append(pt, bytes.Repeat([]byte{0xff}, 5)...) },
	} {
		m, _ := a.sealPadded("m1", content, nil, nil, nil, pad)
		a.refusePrivate(m, "m1", ErrInvalidMessage, "padding")
		m, _ = a.sealPadded("m1", proposalContent(RemoveProposal(2)), nil, nil, nil, pad)
		a.refusePrivate(m, "m1", ErrInvalidMessage, "padding")
	}
	// Any amount of zeros will do.
	m, _ := a.sealPadded("m1", content, nil, nil, nil, func(pt []byte) []byte { return append(pt, make([]byte, 999)...) })
	if _, err := a.groups["m2"].Decrypt(m); err != nil {
		a.Errorf("longer padding: %v", err)
	}
}
