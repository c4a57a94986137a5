package mls

import "bytes"

func arenaNonce(fill byte) []byte { return bytes.Repeat([]byte{fill}, 32) }

func pskProposal(id PreSharedKeyID) Proposal { return PreSharedKeyProposal(id) }

// sharedPSK is a valid pre-shared key that all know.
func sharedPSK() Proposal {
	return pskProposal(PreSharedKeyID{Type: PSKExternal, ID: []byte("shared"), Nonce: arenaNonce(1)})
}

func reInitProposal(v ProtocolVersion) Proposal {
	return Proposal{Type: ProposalReInit, ReInit: &ReInit{GroupID: []byte("next"), Version: v, CipherSuite: suite1}}
}

func (a *arena) extensions() Extensions { return a.hub.State().Extensions() }

func (a *arena) contextExtensions(change func(x Extensions) Extensions) Proposal {
	return GroupContextExtensionsProposal(change(a.extensions()))
}

func (a *arena) requiring(rc RequiredCapabilities) Proposal {
	a.Helper()
	data, err := Marshal(rc)
	noError(a, err)
	return a.contextExtensions(func(x Extensions) Extensions { return x.Set(ExtensionRequiredCapabilities, data) })
}

// reference proposes something as a member and returns how a commit names it.
func (a *arena) reference(by string, p Proposal) ProposalOrRef {
	a.Helper()
	a.propose(a.say(by, proposalContent(p), nil))
	pending := a.hub.Pending()
	return ProposalOrRef{Reference: pending[len(pending)-1].Ref}
}

// attackRefs is attackList for proposals by reference.
func (a *arena) attackRefs(want error, text string, list ...ProposalOrRef) {
	a.Helper()
	a.attack(draft{path: true, list: func([]ProposalOrRef) []ProposalOrRef { return list }}, want, text)
}

var listValidations = map[string]func(a *arena){
	"valn0301": invalidList, "valn1204": invalidList,
	"valn0302": ownUpdate,
	"valn0303": committerRemoved, "ValSem200": committerRemoved,
	"valn0304": func(a *arena) {
		const text = "apply to leaf 2"
		a.attackList(ErrInvalidProposal, text, RemoveProposal(2), RemoveProposal(2))
		update := a.reference("m2", a.updateOf("m2", nil))
		again := a.reference("m2", a.updateOf("m2", nil))
		remove := a.reference("m4", RemoveProposal(2))
		leave := a.reference("m2", SelfRemoveProposal())
		a.attackRefs(ErrInvalidProposal, text, update, again)
		a.attackRefs(ErrInvalidProposal, text, update, remove)
		a.attackRefs(ErrInvalidProposal, text, remove, update)
		a.attackRefs(ErrInvalidProposal, text, leave, remove)
		a.attackRefs(ErrInvalidProposal, text, update, leave)
		a.attackRefs(ErrInvalidProposal, "referred to twice", remove, remove)
	},
	"ValSem107": func(a *arena) {
		a.attackList(ErrInvalidProposal, "apply to leaf 4", RemoveProposal(4), RemoveProposal(4))
		a.attackRefs(ErrInvalidProposal, "apply to leaf 4", a.reference("m2", RemoveProposal(4)), byValue(RemoveProposal(4)).Proposals[0])
	},
	"valn0305": clientTwice, "ValSem101": clientTwice,
	"valn0306": func(a *arena) {
		again := deviceOf(a, "m2", a.groups["m2"].signer, nil)
		a.attackList(ErrInvalidProposal, "signature key of leaf", AddProposal(again.kp))
		// With its removal it is valid, in either order.
		for _, list := range [][]Proposal{
			{RemoveProposal(a.leaf("m2")), AddProposal(again.kp)}, {AddProposal(again.kp), RemoveProposal(a.leaf("m2"))},
		} {
			a.accept(a.forge(draft{values: list}, false).message, "m1")
		}
	},
	"valn0307": pskTwice, "ValSem403": pskTwice,
	"valn0308": twoContexts, "ValSem208": twoContexts,
	"valn0309": func(a *arena) {
		for _, other := range []Proposal{sharedPSK(), RemoveProposal(2), AddProposal(a.device("new", nil).kp), reInitProposal(MLS10)} {
			a.attackList(ErrInvalidProposal, "reinit together with", reInitProposal(MLS10), other)
			a.attackList(ErrInvalidProposal, "reinit together with", other, reInitProposal(MLS10))
		}
	},
	"valn0310": func(a *arena) {
		p := Proposal{Type: ProposalExternalInit, ExternalInit: &ExternalInit{KEMOutput: rootKey(a.hub.State())}}
		a.attackList(ErrInvalidProposal, "external_init", p)
		a.refuseProposal(a.say("m1", proposalContent(p), nil), "m1", everyone, ErrInvalidProposal, "external_init")
	},
	"valn0311": foreignType, "ValSem113": foreignType,
	"valn0312": func(a *arena) {
		// The list is fine, the tree that results is not.
		a.attackList(ErrCapabilities, "0xF009 of the GroupContext", a.contextExtensions(func(x Extensions) Extensions {
			return append(x, Extension{0xf009, nil})
		}))
		d := deviceOf(a, "new", a.device("x", nil).signer, func(kp *KeyPackage) { kp.LeafNode.EncryptionKey = rootKey(a.hub.State()) })
		a.attackList(errDuplicateKey, "encryption key of leaf", AddProposal(d.kp))
	},
	"valn0701": removeOfNobody, "ValSem108": removeOfNobody,
	"valn0801": func(a *arena) {
		a.refusePSK("usage 2", PreSharedKeyID{Type: PSKResumption, Usage: ResumptionReInit, GroupID: []byte("old"), Nonce: arenaNonce(1)})
	},
	"valn0802": func(a *arena) {
		a.refusePSK("usage 3", PreSharedKeyID{Type: PSKResumption, Usage: ResumptionBranch, GroupID: []byte("old"), Nonce: arenaNonce(1)})
	},
	"valn0803": nonceSizes, "ValSem401": nonceSizes,
	"ValSem402": func(a *arena) {
		for usage := range ResumptionPSKUsage(6) {
			if usage != ResumptionApplication {
				a.refusePSK("pre-shared key of type", PreSharedKeyID{Type: PSKResumption, Usage: usage, GroupID: []byte("old"), Nonce: arenaNonce(1)})
			}
		}
	},
	"valn0901": func(a *arena) {
		a.attackList(ErrInvalidProposal, "older version", reInitProposal(0))
		a.refuseProposal(a.say("m1", proposalContent(reInitProposal(0)), nil), "m1", everyone, ErrInvalidProposal, "older version")
		a.refuseProposal(a.external(reInitProposal(0)), "", everyone, ErrInvalidProposal, "older version")
	},
	"valn1001": func(a *arena) {
		a.attackList(ErrCapabilities, "extension 0xF001", a.requiring(RequiredCapabilities{Extensions: []ExtensionType{0xf001}}))
		a.attackList(ErrCapabilities, "proposal app_ephemeral", a.requiring(RequiredCapabilities{Proposals: []ProposalType{ProposalAppEphemeral}}))
		a.attackList(ErrCapabilities, "credential 0xF001", a.requiring(RequiredCapabilities{Credentials: []CredentialType{arenaForeign}}))
		// All members know it, but the one that comes.
		p := a.requiring(RequiredCapabilities{Proposals: []ProposalType{ProposalAppDataUpdate}})
		a.accept(a.forge(draft{values: []Proposal{p}}, false).message, "m1")
		d := a.device("new", func(kp *KeyPackage) { kp.LeafNode.Capabilities.Proposals = []ProposalType{ProposalSelfRemove} })
		a.attackList(ErrCapabilities, "proposal app_data_update", p, AddProposal(d.kp))
		// The one that lacks it goes: valid.
		a.accept(a.forge(draft{values: []Proposal{
			a.requiring(RequiredCapabilities{Proposals: []ProposalType{ProposalAppEphemeral}}), RemoveProposal(a.leaf("m7")),
		}}, false).message, "m1")
	},
	"valn1603": func(a *arena) {
		for _, t := range []ExtensionType{ExtensionApplicationID, ExtensionRatchetTree, ExtensionExternalPub} {
			p := a.contextExtensions(func(x Extensions) Extensions { return append(x, Extension{t, []byte{0}}) })
			a.attackList(ErrInvalidMessage, "does not belong", p)
			a.refuseProposal(a.say("m1", proposalContent(p), nil), "m1", everyone, ErrInvalidMessage, "does not belong")
		}
	},
	"ValSem102": func(a *arena) {
		first := a.device("new", nil)
		second := a.device("newer", func(kp *KeyPackage) { kp.InitKey = first.kp.InitKey })
		a.attackList(ErrInvalidProposal, "same init_key", AddProposal(first.kp), AddProposal(second.kp))
	},
	"ValSem103": func(a *arena) {
		first := a.device("new", nil)
		for _, key := range [][]byte{first.kp.LeafNode.EncryptionKey, a.leafNode("m6").EncryptionKey, rootKey(a.hub.State())} {
			second := a.device("newer", func(kp *KeyPackage) { kp.LeafNode.EncryptionKey = key })
			a.attackList(errDuplicateKey, "encryption key of leaf", AddProposal(first.kp), AddProposal(second.kp))
		}
	},
	"ValSem111": func(a *arena) {
		ownUpdate(a)
		const text = "update by value"
		a.attackList(ErrInvalidProposal, text, a.updateOf("m1", nil))
		a.attackList(ErrInvalidProposal, text, updateProposal(a.leafNode("m2"))) // an old leaf of another
	},
	"ValSem112": func(a *arena) {
		a.refuseProposal(a.external(a.updateOf("m2", nil)), "", everyone, ErrInvalidProposal, "may not propose update")
		d := a.device("new", nil)
		a.refuseProposal(a.sayAs(d.signer, Sender{Type: SenderNewMemberProposal}, proposalContent(a.updateOf("m2", nil)), nil), "",
			everyone, ErrInvalidProposal, "may not propose update")
	},
	"ValSem209": func(a *arena) {
		a.attackList(ErrCapabilities, "0xF002 of the GroupContext", a.contextExtensions(func(x Extensions) Extensions {
			return append(x, Extension{0xf002, nil})
		}))
	},
}

func invalidList(a *arena) {
	for _, c := range []struct {
		p    Proposal
		want error
		text string
	}{
		{RemoveProposal(5), ErrInvalidProposal, "blank leaf 5"},
		{AddProposal(a.expiredKeyPackage()), ErrExpired, "lifetime"},
		{reInitProposal(0), ErrInvalidProposal, "older version"},
		{SelfRemoveProposal(), ErrInvalidProposal, "self_remove"},
		{AppDataUpdateProposal(0x8fff, nil), ErrInvalidProposal, "0x8FFF"},
		{AppDataUpdateProposal(testComponent, []byte("bad")), ErrInvalidProposal, "bad update"},
	} {
		a.attackList(c.want, c.text, c.p)
		a.attackList(c.want, c.text, sharedPSK(), c.p) // not the first
	}
}

func ownUpdate(a *arena) {
	a.attackRefs(ErrInvalidProposal, "update that applies to the committer", a.reference("m1", a.updateOf("m1", nil)))
}

func committerRemoved(a *arena) {
	const text = "applies to the committer"
	a.attackList(ErrInvalidProposal, text, RemoveProposal(a.leaf("m1")))
	a.attackRefs(ErrInvalidProposal, text, a.reference("m2", RemoveProposal(a.leaf("m1"))))
	a.attackRefs(ErrInvalidProposal, text, a.reference("m1", SelfRemoveProposal()))
	// Without a path, too (hole B).
	a.attack(draft{values: []Proposal{sharedPSK()}, list: instead(RemoveProposal(a.leaf("m1")))}, ErrInvalidProposal, text)
}

func clientTwice(a *arena) {
	first := a.device("new", nil)
	second := deviceOf(a, "new", first.signer, nil)
	a.attackList(ErrInvalidProposal, "signature key of leaf", AddProposal(first.kp), AddProposal(second.kp))
	a.attackList(ErrInvalidProposal, "signature key of leaf", AddProposal(deviceOf(a, "m4", a.groups["m4"].signer, nil).kp))
}

func pskTwice(a *arena) {
	a.attackList(ErrInvalidProposal, "same pre-shared key twice", sharedPSK(), sharedPSK())
	ref := a.reference("m2", sharedPSK())
	a.attackRefs(ErrInvalidProposal, "same pre-shared key twice", ref, byValue(sharedPSK()).Proposals[0])
}

func twoContexts(a *arena) {
	same := a.contextExtensions(func(x Extensions) Extensions { return x })
	a.attackList(ErrInvalidProposal, "more than one group_context_extensions", same, same)
	a.attackRefs(ErrInvalidProposal, "more than one group_context_extensions", a.reference("m2", same), byValue(same).Proposals[0])
}

func foreignType(a *arena) {
	p := AppEphemeralProposal(testComponent, []byte("x"))
	a.attackList(ErrCapabilities, "app_ephemeral is not supported by every member", p)
	// A client that is added, or one that is removed, need not know it.
	a.accept(a.forge(draft{values: []Proposal{p, RemoveProposal(a.leaf("m7"))}}, false).message, "m1")
	d := a.device("new", func(kp *KeyPackage) { kp.LeafNode.Capabilities.Proposals = []ProposalType{ProposalSelfRemove} })
	a.accept(a.forge(draft{values: []Proposal{p, RemoveProposal(a.leaf("m7")), AddProposal(d.kp)}}, false).message, "m1")
}

func removeOfNobody(a *arena) {
	for _, l := range []LeafIndex{5, 7, 8, 1 << 20, 1 << 31, 1<<32 - 1} {
		a.attackList(ErrInvalidProposal, "remove of the blank leaf", RemoveProposal(l))
		a.refuseProposal(a.say("m1", proposalContent(RemoveProposal(l)), nil), "m1", everyone, ErrInvalidProposal, "remove of the blank leaf")
	}
}

// refusePSK checks a pre-shared key in a commit, as a proposal, and in an
// external commit.
func (a *arena) refusePSK(text string, id PreSharedKeyID) {
	a.Helper()
	p := pskProposal(id)
	a.attackList(ErrInvalidProposal, text, p)
	a.refuseProposal(a.say("m1", proposalContent(p), nil), "m1", everyone, ErrInvalidProposal, text)
	a.refuseProposal(a.external(p), "", everyone, ErrInvalidProposal, text)
	a.attack(draft{joiner: a.device("new", nil), list: plus(p)}, ErrInvalidProposal, text)
}

func nonceSizes(a *arena) {
	for _, n := range []int{0, 1, 31, 33, 64} {
		a.refusePSK("psk_nonce of", PreSharedKeyID{Type: PSKExternal, ID: []byte("shared"), Nonce: make([]byte, n)})
	}
}
