package mls

import "bytes"

var externalValidations = map[string]func(a *arena){
	"valn0401":  func(a *arena) { withoutExternalInit(a); twoExternalInits(a) },
	"ValSem240": withoutExternalInit,
	"ValSem241": twoExternalInits,
	"valn0402": func(a *arena) {
		// A stranger removes a member (hole C).
		a.attack(draft{joiner: a.device("eve", nil), list: plus(RemoveProposal(a.leaf("m2")))}, ErrCredential, "another identity")
		// Somebody who joins again with a new key removes the old leaf, but
		// nobody else besides.
		again := a.device("m2", nil)
		d := draft{joiner: again, values: []Proposal{RemoveProposal(a.leaf("m2"))}, list: plus(RemoveProposal(a.leaf("m6")))}
		a.attack(d, ErrInvalidProposal, "2 removes")
		d.list = plus(RemoveProposal(a.leaf("m2")))
		a.attack(d, ErrInvalidProposal, "removed twice")
		d.list = nil
		d.leaf = func(l *LeafNode) { l.Credential = BasicCredential([]byte("m4")) }
		a.attack(d, ErrCredential, "another identity")
		d.leaf = func(l *LeafNode) { l.EncryptionKey = a.leafNode("m2").EncryptionKey }
		a.attack(d, ErrInvalidProposal, "keeps the encryption key")
		a.attack(draft{joiner: again, list: plus(RemoveProposal(5))}, ErrInvalidProposal, "blank leaf 5")
	},
	"valn0403": func(a *arena) {
		other := pskProposal(PreSharedKeyID{Type: PSKExternal, ID: []byte("shared"), Nonce: arenaNonce(2)})
		d := draft{joiner: a.device("new", nil), values: []Proposal{sharedPSK(), other}, list: plus(sharedPSK())}
		a.attack(d, ErrInvalidProposal, "same pre-shared key twice")
	},
	"valn0404": foreignInExternal, "ValSem242": foreignInExternal,
	"valn0405": externalWithoutPath, "ValSem245": externalWithoutPath,
	"valn0406": byReferenceInExternal, "ValSem244": byReferenceInExternal,
	"valn0407": signedByOther, "ValSem246": signedByOther,
	"ValSem247": func(a *arena) {
		// The key of the leaf in the path counts, not that of a member whose
		// credential it shows.
		eve := a.device("m2", nil)
		a.attack(draft{joiner: eve, leaf: func(l *LeafNode) { l.SignatureKey = a.leafNode("m2").SignatureKey }}, ErrInvalidSignature, "FramedContentTBS")
		// A credential that the verifier refuses is refused there, too.
		a.attack(draft{joiner: eve, leaf: func(l *LeafNode) { l.Credential = BasicCredential([]byte("evil")) }}, ErrCredential, "not a credential")
	},
	"valn0408": func(a *arena) {
		d := a.device("new", nil)
		for _, c := range []struct {
			s    Sender
			want error
			text string
		}{
			{Sender{Type: SenderExternal}, ErrInvalidMessage, "content type 3 from sender type 2"},
			{Sender{Type: SenderNewMemberProposal}, ErrInvalidMessage, "content type 3 from sender type 3"},
			{MemberSender(5), ErrUnknownSender, "leaf 5 is blank"},
			{MemberSender(0), ErrInvalidSignature, ""},
		} {
			a.attack(draft{joiner: d, frame: func(f *FramedContent) { f.Sender = c.s }}, c.want, c.text)
		}
	},
}

func withoutExternalInit(a *arena) {
	const text = "0 external_init"
	a.attack(draft{joiner: a.device("new", nil), list: func([]ProposalOrRef) []ProposalOrRef { return nil }}, ErrInvalidProposal, text)
	a.attack(draft{joiner: a.device("new", nil), list: instead(sharedPSK())}, ErrInvalidProposal, text)
}

func twoExternalInits(a *arena) {
	a.attack(draft{joiner: a.device("new", nil), list: func(list []ProposalOrRef) []ProposalOrRef {
		return append(list, list[0])
	}}, ErrInvalidProposal, "2 external_init")
}

func foreignInExternal(a *arena) {
	joiner := a.device("new", nil)
	for _, c := range []struct {
		p    Proposal
		text string
	}{
		{AddProposal(a.device("newer", nil).kp), "add"},
		{a.updateOf("m2", nil), "update"},
		{reInitProposal(MLS10), "reinit"},
		{a.contextExtensions(func(x Extensions) Extensions { return x }), "group_context_extensions"},
		{SelfRemoveProposal(), "self_remove"},
	} {
		a.attack(draft{joiner: joiner, list: plus(c.p)}, ErrInvalidProposal, c.text)
	}
}

func externalWithoutPath(a *arena) {
	a.attack(draft{joiner: a.device("new", nil), pathless: true}, ErrInvalidCommit, "without a path")
}

func byReferenceInExternal(a *arena) {
	joiner := a.device("new", nil)
	refs := []ProposalOrRef{
		a.reference("m2", RemoveProposal(a.leaf("m4"))),
		a.reference("m2", sharedPSK()),
		a.reference("m2", AddProposal(a.device("newer", nil).kp)),
		a.reference("m2", AppDataUpdateProposal(testComponent, []byte("x"))),
	}
	for _, ref := range refs {
		a.attack(draft{joiner: joiner, list: func(list []ProposalOrRef) []ProposalOrRef { return append(list, ref) }},
			ErrInvalidProposal, "external commit refers to")
	}
}

func signedByOther(a *arena) {
	for _, other := range []Signer{a.device("eve", nil).signer, a.groups["m2"].signer, a.sender} {
		a.attack(draft{joiner: a.device("new", nil), signer: other}, ErrInvalidSignature, "FramedContentTBS")
	}
}

var commitValidations = map[string]func(a *arena){
	"valn1101": func(a *arena) {
		const text = "encrypted path secrets"
		a.attack(draft{path: true, nodes: func(p *UpdatePath) { p.Nodes[0].EncryptedPathSecret = nil }}, ErrInvalidCommit, text)
		a.attack(draft{path: true, nodes: func(p *UpdatePath) {
			n := &p.Nodes[len(p.Nodes)-1]
			n.EncryptedPathSecret = n.EncryptedPathSecret[1:]
		}}, ErrInvalidCommit, text)
		a.attack(draft{path: true, nodes: func(p *UpdatePath) {
			n := &p.Nodes[0]
			n.EncryptedPathSecret = append(n.EncryptedPathSecret, n.EncryptedPathSecret[0])
		}}, ErrInvalidCommit, text)
		// The client that the commit adds gets no path secret by the path.
		d := a.device("new", nil)
		at := a.hub.State().tree.leftmostBlank()
		a.attack(draft{path: true, values: []Proposal{AddProposal(d.kp)}, secrets: func(*createdPath) {}, nodes: func(p *UpdatePath) {
			for i, x := range a.hub.State().tree.filteredPath(a.leaf("m1")) {
				if x.covers(at) {
					p.Nodes[i].EncryptedPathSecret = append(p.Nodes[i].EncryptedPathSecret, p.Nodes[i].EncryptedPathSecret[0])
					return
				}
			}
			a.Fatal("the new leaf is not below the path")
		}}, ErrInvalidCommit, text)
	},
	"valn1201": otherEpoch, "ValSem003": otherEpoch,
	"valn1202": wrongMembershipTag, "ValSem008": wrongMembershipTag,
	"valn1203": wrongSignature, "ValSem010": wrongSignature,
	"valn1205": func(a *arena) {
		// The hub knows no keys and leaves it to the members.
		d := draft{path: true, list: instead(pskProposal(PreSharedKeyID{Type: PSKExternal, ID: []byte("unknown"), Nonce: arenaNonce(1)}))}
		a.attackOn(members, d, ErrPSK, "no such key")
		old := PreSharedKeyID{Type: PSKResumption, Usage: ResumptionApplication, GroupID: []byte("arena"), Epoch: 1, Nonce: arenaNonce(1)}
		d.list = instead(pskProposal(old))
		a.attackOn(members, d, ErrPSK, "epoch 1")
		a.attackOn(members, draft{joiner: a.device("new", nil), list: plus(pskProposal(old))}, ErrPSK, "epoch 1")
	},
	"valn1206": missingPath, "ValSem201": missingPath,
	"valn1209": pathKeyElsewhere, "ValSem207": pathKeyElsewhere,
	"ValSem202": func(a *arena) {
		a.attack(draft{path: true, nodes: func(p *UpdatePath) { p.Nodes = p.Nodes[:len(p.Nodes)-1] }}, ErrInvalidCommit, "path")
		a.attack(draft{path: true, nodes: func(p *UpdatePath) { p.Nodes = nil }}, ErrInvalidCommit, "path")
		a.attack(draft{path: true, nodes: func(p *UpdatePath) {
			_, public, err := GenerateHPKEKey(suite1)
			noError(a, err)
			p.Nodes = append(p.Nodes, UpdatePathNode{EncryptionKey: public})
		}}, ErrInvalidCommit, "path")
	},
	"ValSem203": func(a *arena) {
		a.attackOn(members, draft{path: true, nodes: func(p *UpdatePath) {
			for i := range p.Nodes {
				for j := range p.Nodes[i].EncryptedPathSecret {
					c := p.Nodes[i].EncryptedPathSecret[j].Ciphertext
					c[len(c)-1] ^= 1
				}
			}
		}}, ErrDecrypt, "path secret")
		// Encrypted to the right keys, but under another context.
		a.attackOn(members, draft{path: true, nodes: func(p *UpdatePath) {
			s := a.hub.State()
			for i := range p.Nodes {
				for j := range p.Nodes[i].EncryptedPathSecret {
					ct, err := EncryptWithLabel(suite1, rootKey(s), pathLabel, s.contextBytes(), make([]byte, 32))
					noError(a, err)
					p.Nodes[i].EncryptedPathSecret[j] = ct
				}
			}
		}}, ErrDecrypt, "path secret")
	},
	"ValSem204": func(a *arena) {
		a.attackOn(members, draft{path: true, secrets: func(c *createdPath) {
			for i := range c.secrets {
				c.secrets[i].secret = bytes.Repeat([]byte{byte(i)}, 32)
			}
		}}, ErrInvalidCommit, "does not give the public key")
		a.attackOn(members, draft{path: true, secrets: func(c *createdPath) {
			for i := range c.secrets {
				c.secrets[i].secret = c.secrets[i].secret[:31]
			}
		}}, ErrInvalidCommit, "path secret of 31 octets")
	},
	"ValSem205": func(a *arena) {
		for _, change := range []func(tag []byte) []byte{
			func(tag []byte) []byte { tag[31] ^= 1; return tag },
			func(tag []byte) []byte { return make([]byte, 32) },
		} {
			a.attackOn(members, draft{path: true, tag: change}, ErrInvalidCommit, "confirmation tag does not verify")
		}
		// The tag of the epoch before.
		a.attackOn(members, draft{path: true, tag: func([]byte) []byte { return a.hub.State().ConfirmationTag() }}, ErrInvalidCommit, "confirmation tag does not verify")
	},
}

func wrongMembershipTag(a *arena) {
	for _, change := range []func(m *PublicMessage){
		func(m *PublicMessage) { m.MembershipTag[0] ^= 1 },
		func(m *PublicMessage) { m.MembershipTag = make([]byte, 32) },
	} {
		a.attackOn(members, draft{path: true, message: change}, ErrInvalidMessage, "membership tag does not verify")
	}
	// A proposal.
	m := a.say("m1", proposalContent(RemoveProposal(2)), nil)
	m.PublicMessage.MembershipTag[0] ^= 1
	a.refuseProposal(m, "m1", members, ErrInvalidMessage, "membership tag does not verify")
	// The tag covers the confirmation tag and the signature.
	other := a.forge(draft{path: true}, false).message.PublicMessage.MembershipTag
	a.attackOn(members, draft{path: true, message: func(m *PublicMessage) { m.MembershipTag = other }}, ErrInvalidMessage, "membership tag does not verify")
}

func wrongSignature(a *arena) {
	a.attack(draft{path: true, signer: a.groups["m2"].signer}, ErrInvalidSignature, "FramedContentTBS")
	a.attack(draft{path: true, signer: a.sender}, ErrInvalidSignature, "FramedContentTBS")
	// Only the signature is spoilt; the membership tag covers it as it is.
	for _, spoil := range []func(sig []byte) []byte{
		func(sig []byte) []byte { sig[0] ^= 1; return sig },
		func(sig []byte) []byte { return sig[:63] },
		func(sig []byte) []byte { return nil },
	} {
		a.attack(draft{path: true, message: func(m *PublicMessage) {
			m.Auth.Signature = spoil(bytes.Clone(m.Auth.Signature))
			g := a.groups["m1"]
			var err error
			m.MembershipTag, err = m.authenticated().membershipTag(g.suite, g.epoch.membership, g.state.contextBytes())
			noError(a, err)
		}}, ErrInvalidSignature, "FramedContentTBS")
	}
}

func missingPath(a *arena) {
	const text = "path is missing"
	a.attack(draft{path: true, pathless: true}, ErrInvalidCommit, text)
	for _, p := range []Proposal{RemoveProposal(a.leaf("m2")), a.contextExtensions(func(x Extensions) Extensions { return x })} {
		a.attack(draft{values: []Proposal{p}, pathless: true}, ErrInvalidCommit, text)
		a.attack(draft{values: []Proposal{p, sharedPSK()}, pathless: true}, ErrInvalidCommit, text)
	}
	a.propose(a.say("m2", proposalContent(a.updateOf("m2", nil)), nil))
	ref := a.hub.Pending()[0].Ref
	a.attack(draft{values: []Proposal{sharedPSK()}, list: func(list []ProposalOrRef) []ProposalOrRef {
		return append(list, ProposalOrRef{Reference: ref})
	}}, ErrInvalidCommit, text)
}

func pathKeyElsewhere(a *arena) {
	s := a.hub.State()
	for _, key := range [][]byte{rootKey(s), a.leafNode("m7").EncryptionKey, a.leafNode("m1").EncryptionKey} {
		for i := range s.tree.filteredPath(a.leaf("m1")) {
			a.attack(draft{path: true, nodes: func(p *UpdatePath) { p.Nodes[i].EncryptionKey = key }}, ErrInvalidCommit, "key")
		}
	}
	a.attack(draft{path: true, nodes: func(p *UpdatePath) { p.Nodes[1].EncryptionKey = p.Nodes[0].EncryptionKey }}, errDuplicateKey, "")
	a.attack(draft{path: true, nodes: func(p *UpdatePath) { p.Nodes[0].EncryptionKey = p.LeafNode.EncryptionKey }}, errDuplicateKey, "")
	// The key of a client that the same commit adds.
	d := a.device("new", nil)
	a.attack(draft{path: true, values: []Proposal{AddProposal(d.kp)}, nodes: func(p *UpdatePath) {
		p.Nodes[0].EncryptionKey = d.kp.LeafNode.EncryptionKey
	}}, errDuplicateKey, "")
}
