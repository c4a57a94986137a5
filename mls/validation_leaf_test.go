package mls

import (
	"bytes"
	"errors"
	"time"
)

// addOf commits the Add of a client whose KeyPackage change spoils. The
// commit without the Add is valid.
func (a *arena) addOf(want error, text string, change func(kp *KeyPackage)) {
	a.Helper()
	a.attackList(want, text, AddProposal(a.device("new", change).kp))
}

// leafOf commits a path whose leaf change spoils.
func (a *arena) leafOf(want error, text string, change func(l *LeafNode)) {
	a.Helper()
	a.attack(draft{path: true, leaf: change}, want, text)
}

// refuseUpdate lets m2 propose an Update that change spoils.
func (a *arena) refuseUpdate(want error, text string, change func(l *LeafNode)) {
	a.Helper()
	m := a.say("m2", proposalContent(a.updateOf("m2", nil)), nil)
	for _, n := range a.names { // the control
		if _, err := a.groups[n].Proposal(a.wire(m)); err != nil {
			a.Errorf("%s refuses a valid update: %v", n, err)
		}
	}
	a.refuseProposal(a.say("m2", proposalContent(a.updateOf("m2", change)), nil), "m2", everyone, want, text)
}

// updateCommitted lets m2 propose an Update that is invalid for reasons that
// the proposal does not show, and m1 commit it.
func (a *arena) updateCommitted(want error, text string, change func(l *LeafNode)) {
	a.Helper()
	a.propose(a.say("m2", proposalContent(a.updateOf("m2", change)), nil))
	if _, err := a.groups["m1"].Commit(CommitOptions{}); !errors.Is(err, want) {
		a.Errorf("m1 commits it: %v", err)
	}
	ref := a.groups["m1"].pending.list[0].Ref
	a.attack(draft{path: true, list: func([]ProposalOrRef) []ProposalOrRef { return []ProposalOrRef{{Reference: ref}} }}, want, text)
}

func (a *arena) leafNode(name string) *LeafNode {
	leaf, _ := a.hub.State().Member(a.leaf(name))
	return leaf
}

// expiredKeyPackage was valid a month ago.
func (a *arena) expiredKeyPackage() *KeyPackage {
	return a.device("new", func(kp *KeyPackage) {
		then := uint64(time.Now().Add(-30 * 24 * time.Hour).Unix())
		kp.LeafNode.Lifetime = Lifetime{then, then + 3600}
	}).kp
}

var leafValidations = map[string]func(a *arena){
	"valn0101": func(a *arena) {
		a.attackList(ErrCredential, "not a credential", AddProposal(a.device("evil", nil).kp))
		a.leafOf(ErrCredential, "not a credential", func(l *LeafNode) { l.Credential = BasicCredential([]byte("evil")) })
		a.leafOf(ErrCredential, "another identity", func(l *LeafNode) { l.Credential = BasicCredential([]byte("m2")) })
		a.refuseUpdate(ErrCredential, "another identity", func(l *LeafNode) { l.Credential = BasicCredential([]byte("m1")) })
	},
	"valn0102": func(a *arena) {
		d := a.device("new", nil)
		noError(a, d.kp.LeafNode.sign(a.device("other", nil).signer, nil, 0))
		noError(a, d.kp.sign(d.signer))
		a.attackList(ErrInvalidSignature, "LeafNodeTBS", AddProposal(d.kp))
		a.attack(draft{path: true, leafKey: a.groups["m2"].signer}, ErrInvalidSignature, "LeafNodeTBS")
		elsewhere := a.leaf("m2")
		a.attack(draft{path: true, at: &elsewhere}, ErrInvalidSignature, "LeafNodeTBS")
	},
	"valn0103": func(a *arena) {
		a.addOf(ErrCapabilities, "self_remove is required", func(kp *KeyPackage) {
			kp.LeafNode.Capabilities.Proposals = []ProposalType{ProposalAppDataUpdate}
		})
		a.leafOf(ErrCapabilities, "self_remove is required", func(l *LeafNode) { l.Capabilities.Proposals = nil })
	},
	"valn0104": func(a *arena) {
		// m7 does not know it.
		a.addOf(ErrCapabilities, "credential type 0xF001 is in use", func(kp *KeyPackage) {
			kp.LeafNode.Credential = Credential{Type: arenaForeign, Opaque: []byte("new")}
		})
		// m4 uses it.
		a.addOf(ErrCapabilities, "credential type 0xF000 is in use", func(kp *KeyPackage) {
			kp.LeafNode.Capabilities.Credentials = []CredentialType{CredentialBasic}
		})
		a.leafOf(ErrCapabilities, "credential type 0xF000 is in use", func(l *LeafNode) {
			l.Capabilities.Credentials = []CredentialType{CredentialBasic}
		})
	},
	"valn0105": func(a *arena) {
		// Even who follows others without the check sends nothing expired.
		a.configure(func(c *Config) { c.SkipLifetime = true })
		g, p := a.groups["m1"], AddProposal(a.expiredKeyPackage())
		before := a.images()
		_, err := g.Propose(p, nil)
		a.refused("the proposer", err, ErrExpired, "lifetime ended")
		_, err = g.Commit(CommitOptions{Proposals: []Proposal{p}})
		a.refused("the committer", err, ErrExpired, "lifetime ended")
		a.unchanged(before)
	},
	"valn0106": func(a *arena) {
		a.attackList(ErrExpired, "lifetime ended", AddProposal(a.expiredKeyPackage()))
		future := uint64(time.Now().Add(30 * 24 * time.Hour).Unix())
		a.addOf(ErrExpired, "lifetime begins", func(kp *KeyPackage) { kp.LeafNode.Lifetime = Lifetime{future, future + 3600} })
		a.addOf(ErrExpired, "the limit is", func(kp *KeyPackage) { kp.LeafNode.Lifetime = Lifetime{0, 1<<64 - 1} })
		a.addOf(ErrExpired, "ends before", func(kp *KeyPackage) { kp.LeafNode.Lifetime = Lifetime{10, 5} })
	},
	"valn0107": func(a *arena) {
		a.addOf(ErrCapabilities, "own extension 0xF001", func(kp *KeyPackage) { kp.LeafNode.Extensions = Extensions{{0xf001, nil}} })
		a.leafOf(ErrCapabilities, "own extension 0xF001", func(l *LeafNode) { l.Extensions = Extensions{{0xf001, nil}} })
		a.refuseUpdate(ErrCapabilities, "own extension 0xF001", func(l *LeafNode) { l.Extensions = Extensions{{0xf001, nil}} })
	},
	"valn0108": func(a *arena) {
		for _, source := range []LeafNodeSource{LeafSourceUpdate, LeafSourceCommit} {
			a.addOf(ErrInvalidKeyPackage, "leaf_node_source", func(kp *KeyPackage) { kp.LeafNode.Source = source })
		}
	},
	"valn0109": func(a *arena) {
		for _, source := range []LeafNodeSource{LeafSourceKeyPackage, LeafSourceCommit} {
			a.refuseUpdate(ErrInvalidKeyPackage, "leaf_node_source", func(l *LeafNode) { l.Source = source })
		}
		a.refuseUpdate(ErrInvalidProposal, "keeps the encryption key", func(l *LeafNode) { l.EncryptionKey = a.leafNode("m2").EncryptionKey })
	},
	"valn0110": func(a *arena) {
		a.leafOf(ErrInvalidKeyPackage, "leaf_node_source", func(l *LeafNode) { l.Source = LeafSourceUpdate })
		a.leafOf(ErrInvalidKeyPackage, "leaf_node_source", func(l *LeafNode) {
			l.Source, l.Lifetime = LeafSourceKeyPackage, Lifetime{1, 1 << 40}
		})
	},
	"valn0111": func(a *arena) {
		d := deviceOf(a, "twin", a.groups["m4"].signer, nil)
		a.attackList(ErrInvalidProposal, "signature key of leaf", AddProposal(d.kp))
		twin := a.groups["m4"].signer
		a.attack(draft{path: true, leafKey: twin, leaf: func(l *LeafNode) { l.SignatureKey = twin.Public() }}, errDuplicateKey, "signature key of leaf 1")
	},
	"valn0112": func(a *arena) {
		a.addOf(errDuplicateKey, "encryption key of leaf", func(kp *KeyPackage) { kp.LeafNode.EncryptionKey = a.leafNode("m4").EncryptionKey })
		a.leafOf(errDuplicateKey, "has the key of node", func(l *LeafNode) { l.EncryptionKey = a.leafNode("m4").EncryptionKey })
		a.updateCommitted(errDuplicateKey, "encryption key of leaf 2", func(l *LeafNode) { l.EncryptionKey = a.leafNode("m4").EncryptionKey })
	},
	"valn0113": func(a *arena) {
		a.addOf(ErrCapabilities, "own credential type", func(kp *KeyPackage) {
			kp.LeafNode.Capabilities.Credentials = []CredentialType{arenaCredential}
		})
		a.leafOf(ErrCapabilities, "own credential type", func(l *LeafNode) { l.Capabilities.Credentials = []CredentialType{arenaCredential} })
	},
	"valn0201": otherSuiteOrVersion, "ValSem105": otherSuiteOrVersion,
	"valn0202": func(a *arena) {
		a.addOf(ErrKey, "HPKE public key", func(kp *KeyPackage) { kp.LeafNode.EncryptionKey = []byte("short") })
		a.addOf(ErrCapabilities, "MLS 1.0", func(kp *KeyPackage) { kp.LeafNode.Capabilities.Versions = nil })
		a.addOf(ErrCapabilities, "cipher suite", func(kp *KeyPackage) { kp.LeafNode.Capabilities.CipherSuites = []CipherSuite{2} })
		a.addOf(ErrInvalidMessage, "occurs twice", func(kp *KeyPackage) { kp.LeafNode.Extensions = Extensions{{1, nil}, {1, nil}} })
	},
	"valn0203": func(a *arena) {
		d := a.device("new", nil)
		noError(a, d.kp.sign(a.device("other", nil).signer))
		a.attackList(ErrInvalidSignature, "KeyPackageTBS", AddProposal(d.kp))
	},
	"valn0204": initKeyIsEncryptionKey, "ValSem104": initKeyIsEncryptionKey,
	"valn0205": func(a *arena) {
		d := a.device("new", nil)
		b, err := Marshal(KeyPackageMessage(d.kp))
		noError(a, err)
		noError(a, Unmarshal(b, new(MLSMessage)))
		d.kp.Version = 2
		noError(a, d.kp.sign(d.signer))
		b, err = Marshal(KeyPackageMessage(d.kp))
		noError(a, err)
		err = Unmarshal(b, new(MLSMessage))
		if err == nil {
			a.Error("a KeyPackage of another version than its MLSMessage is accepted")
		}
		a.refusals++
	},
	"valn0501": func(a *arena) {
		a.addOf(ErrKey, "HPKE public key", func(kp *KeyPackage) { kp.InitKey = bytes.Repeat([]byte{1}, 31) })
		a.addOf(ErrInvalidMessage, "occurs twice", func(kp *KeyPackage) { kp.Extensions = Extensions{{0xf001, nil}, {0xf001, nil}} })
		// The same as a proposal, from a member and from outside.
		for _, m := range []*MLSMessage{
			a.say("m1", proposalContent(AddProposal(a.expiredKeyPackage())), nil),
			a.external(AddProposal(a.expiredKeyPackage())),
		} {
			a.refuseProposal(m, "m1", everyone, ErrExpired, "lifetime ended")
		}
	},
	"valn0502": func(a *arena) {
		a.addOf(ErrCapabilities, "extension 0x0006 of the GroupContext", func(kp *KeyPackage) { kp.LeafNode.Capabilities.Extensions, kp.LeafNode.Extensions = nil, nil })
	},
	"valn0601": func(a *arena) {
		a.refuseUpdate(ErrKey, "Ed25519 public key", func(l *LeafNode) { l.SignatureKey = []byte("short") })
		a.refuseUpdate(ErrInvalidSignature, "LeafNodeTBS", func(l *LeafNode) { l.SignatureKey = a.leafNode("m4").SignatureKey })
		// A leaf that was signed for another place or another group.
		p := a.updateOf("m2", nil)
		for _, at := range []struct {
			group string
			leaf  LeafIndex
		}{{"arena", a.leaf("m1")}, {"other", a.leaf("m2")}} {
			noError(a, p.Update.LeafNode.sign(a.groups["m2"].signer, []byte(at.group), at.leaf))
			a.refuseProposal(a.say("m2", proposalContent(p), nil), "m2", everyone, ErrInvalidSignature, "LeafNodeTBS")
		}
	},
	"valn0602": func(a *arena) {
		a.updateCommitted(ErrCapabilities, "extension 0x0006 of the GroupContext", func(l *LeafNode) { l.Capabilities.Extensions, l.Extensions = nil, nil })
	},
	"ValSem109": func(a *arena) {
		a.updateCommitted(ErrCapabilities, "self_remove is required", func(l *LeafNode) { l.Capabilities.Proposals = nil })
	},
	"valn1207": func(a *arena) {
		a.leafOf(ErrKey, "HPKE public key", func(l *LeafNode) { l.EncryptionKey = []byte("short") })
		a.leafOf(ErrCapabilities, "MLS 1.0", func(l *LeafNode) { l.Capabilities.Versions = nil })
		a.leafOf(ErrInvalidMessage, "occurs twice", func(l *LeafNode) { l.Extensions = Extensions{{1, nil}, {1, nil}} })
		a.leafOf(ErrInvalidCommit, "parent hash", func(l *LeafNode) { l.ParentHash = make([]byte, 32) })
	},
	"valn1208": pathKeepsKey,
	"valn1210": func(a *arena) {
		a.leafOf(ErrCapabilities, "extension 0x0006 of the GroupContext", func(l *LeafNode) { l.Capabilities.Extensions, l.Extensions = nil, nil })
	},
	"valn1601": func(a *arena) {
		for _, t := range []ExtensionType{ExtensionRatchetTree, ExtensionRequiredCapabilities, ExtensionExternalPub, ExtensionExternalSenders} {
			x := Extensions{{t, []byte{0}}}
			a.addOf(ErrInvalidMessage, "does not belong", func(kp *KeyPackage) { kp.LeafNode.Extensions = x })
			a.leafOf(ErrInvalidMessage, "does not belong", func(l *LeafNode) { l.Extensions = x })
		}
	},
	"valn1604": func(a *arena) {
		for _, t := range []ExtensionType{ExtensionApplicationID, ExtensionRatchetTree, ExtensionRequiredCapabilities, ExtensionExternalPub, ExtensionExternalSenders} {
			a.addOf(ErrInvalidMessage, "does not belong", func(kp *KeyPackage) { kp.Extensions = Extensions{{t, []byte{0}}} })
		}
	},
	"ValSem106": func(a *arena) {
		a.addOf(ErrCapabilities, "self_remove is required", func(kp *KeyPackage) { kp.LeafNode.Capabilities.Proposals = nil })
	},
	"ValSem110": func(a *arena) {
		a.updateCommitted(errDuplicateKey, "encryption key of leaf 2", func(l *LeafNode) {
			l.EncryptionKey = a.leafNode("m7").EncryptionKey
		})
	},
	"ValSem206": func(a *arena) {
		pathKeepsKey(a)
		a.leafOf(errDuplicateKey, "has the key of node", func(l *LeafNode) { l.EncryptionKey = a.leafNode("m7").EncryptionKey })
		// The key of a client that the same commit adds.
		d := a.device("new", nil)
		a.attack(draft{path: true, values: []Proposal{AddProposal(d.kp)}, leaf: func(l *LeafNode) {
			l.EncryptionKey = d.kp.LeafNode.EncryptionKey
		}}, errDuplicateKey, "has the key of node")
	},
}

func otherSuiteOrVersion(a *arena) {
	a.addOf(ErrCipherSuite, "key package for", func(kp *KeyPackage) { kp.CipherSuite = 3 })
	a.addOf(ErrInvalidKeyPackage, "protocol version", func(kp *KeyPackage) { kp.Version = 2 })
}

func initKeyIsEncryptionKey(a *arena) {
	a.addOf(ErrInvalidKeyPackage, "init_key is the leaf's encryption_key", func(kp *KeyPackage) { kp.InitKey = kp.LeafNode.EncryptionKey })
}

func pathKeepsKey(a *arena) {
	a.leafOf(ErrInvalidProposal, "keeps the encryption key", func(l *LeafNode) { l.EncryptionKey = a.leafNode("m1").EncryptionKey })
}

// rootKey returns the key of the root, which is not blank.
func rootKey(s *State) []byte {
	nodes := s.RatchetTree()
	return nodes[rootPosition(depthFor(LeafIndex(len(nodes)-1)/2))].Parent.EncryptionKey
}
