package mls

import (
	"errors"
	"testing"
)

// These tests send invalid messages to a hub's view of a group. The numbers
// are the ids of OpenMLS's catalogue of validation steps (ValSem…) or of RFC
// 9420 sections. Every refusal must leave the group as it was, and a valid
// commit must still be accepted after it.

// someSenders is an external_senders extension of one sender.
func someSenders(t testing.TB, key []byte) Extension {
	t.Helper()
	data, err := Marshal(ExternalSenders{{SignatureKey: key, Credential: BasicCredential([]byte("hub"))}})
	noError(t, err)
	return Extension{ExtensionExternalSenders, data}
}

func requiring(t testing.TB, rc RequiredCapabilities) Extension {
	t.Helper()
	data, err := Marshal(rc)
	noError(t, err)
	return Extension{ExtensionRequiredCapabilities, data}
}

// spoiled makes a member's commit of a list that may be invalid, with a path
// that is valid for an empty list.
func (w *hubWorld) spoiled(p *party, list ...ProposalOrRef) *MLSMessage {
	w.t.Helper()
	_, created := w.path(p, MemberSender(p.leaf), nil)
	return w.rawCommit(p, &Commit{Proposals: list, Path: created.path})
}

// spoiledExternal makes an external commit of a list that may be invalid.
func (w *hubWorld) spoiledExternal(p *party, list ...ProposalOrRef) *MLSMessage {
	w.t.Helper()
	_, created := w.path(p, Sender{Type: SenderNewMemberCommit}, w.value(externalInitProposal()))
	return w.rawExternalCommit(p, &Commit{Proposals: list, Path: created.path})
}

// refuse stages an invalid commit.
func (w *hubWorld) refuse(m *MLSMessage, want error) {
	w.t.Helper()
	before := snapshot(w.t, w.group)
	_, err := w.group.StageCommit(m)
	if err == nil {
		w.t.Fatal("an invalid commit is accepted")
	}
	if !errors.Is(err, want) {
		w.t.Fatalf("refused with %q, want %q", err, want)
	}
	if snapshot(w.t, w.group) != before {
		w.t.Fatal("a refused commit changed the group")
	}
	checkInvariants(w.t, w.group.state.tree)
}

func (w *hubWorld) refuseProposal(m *MLSMessage, want error) {
	w.t.Helper()
	before := snapshot(w.t, w.group)
	if _, err := w.group.Proposal(m); !errors.Is(err, want) {
		w.t.Fatalf("proposal refused with %v, want %q", err, want)
	}
	if snapshot(w.t, w.group) != before {
		w.t.Fatal("a refused proposal changed the group")
	}
}

func TestInvalidCommits(t *testing.T) {
	psk := PreSharedKeyProposal(PreSharedKeyID{Type: PSKExternal, ID: []byte("k"), Nonce: make([]byte, 32)})
	gce := GroupContextExtensionsProposal(nil)
	tests := []struct {
		name string
		want error
		make func(w *hubWorld) *MLSMessage
	}{
		// Framing.
		{"ValSem002 other group", ErrWrongGroup, func(w *hubWorld) *MLSMessage {
			_, c := w.path(w.who[1], MemberSender(1), nil)
			return w.message(w.who[1].signer, FramedContent{Sender: MemberSender(1), ContentType: ContentCommit, Commit: &Commit{Path: c.path}},
				func(c *FramedContent) { c.GroupID = []byte("other") })
		}},
		{"ValSem003 past epoch", ErrWrongEpoch, func(w *hubWorld) *MLSMessage {
			_, c := w.path(w.who[1], MemberSender(1), nil)
			return w.message(w.who[1].signer, FramedContent{Sender: MemberSender(1), ContentType: ContentCommit, Commit: &Commit{Path: c.path}},
				func(c *FramedContent) { c.Epoch-- })
		}},
		{"ValSem004 sender is a blank leaf", ErrUnknownSender, func(w *hubWorld) *MLSMessage {
			_, c := w.path(w.who[1], MemberSender(1), nil)
			return w.message(w.who[1].signer, FramedContent{Sender: MemberSender(6), ContentType: ContentCommit, Commit: &Commit{Path: c.path}}, nil)
		}},
		{"sender far out of range (go-mls panics)", ErrUnknownSender, func(w *hubWorld) *MLSMessage {
			_, c := w.path(w.who[1], MemberSender(1), nil)
			return w.message(w.who[1].signer, FramedContent{Sender: MemberSender(1<<32 - 1), ContentType: ContentCommit, Commit: &Commit{Path: c.path}}, nil)
		}},
		{"commit of an external sender", ErrInvalidMessage, func(w *hubWorld) *MLSMessage {
			m := w.commit(w.who[1])
			m.PublicMessage.Content.Sender = Sender{Type: SenderExternal}
			return m
		}},
		{"ValSem005 application data in public", ErrInvalidMessage, func(w *hubWorld) *MLSMessage {
			m := w.commit(w.who[1])
			m.PublicMessage.Content.ContentType = ContentApplication
			return m
		}},
		{"ValSem007 no membership tag", ErrInvalidMessage, func(w *hubWorld) *MLSMessage {
			m := w.commit(w.who[1])
			m.PublicMessage.MembershipTag = nil
			return m
		}},
		{"ValSem009 no confirmation tag", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			m := w.commit(w.who[1])
			m.PublicMessage.Auth.ConfirmationTag = nil
			return m
		}},
		{"ValSem010 signature", ErrInvalidSignature, func(w *hubWorld) *MLSMessage {
			m := w.commit(w.who[1])
			m.PublicMessage.Auth.Signature[0] ^= 1
			return m
		}},
		{"ValSem010 signed by another member", ErrInvalidSignature, func(w *hubWorld) *MLSMessage {
			_, c := w.path(w.who[1], MemberSender(1), nil)
			return w.message(w.who[2].signer, FramedContent{Sender: MemberSender(1), ContentType: ContentCommit, Commit: &Commit{Path: c.path}}, nil)
		}},
		{"proposal in place of a commit", ErrInvalidMessage, func(w *hubWorld) *MLSMessage {
			return w.proposal(w.who[1], psk)
		}},

		// Adds.
		{"ValSem101 signature key twice in the list", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			p := w.newParty("p")
			first := p.keyPackage
			w.newKeyPackage(p, nil)
			return w.spoiled(w.who[1], w.value(AddProposal(first), AddProposal(p.keyPackage))...)
		}},
		{"ValSem102 init key twice in the list", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			p, q := w.newParty("p"), w.newParty("q")
			w.newKeyPackage(q, func(kp *KeyPackage) { kp.InitKey = p.keyPackage.InitKey })
			return w.spoiled(w.who[1], w.value(AddProposal(p.keyPackage), AddProposal(q.keyPackage))...)
		}},
		{"ValSem103 encryption key of a member", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			p := w.newParty("p")
			w.newKeyPackage(p, func(kp *KeyPackage) { kp.LeafNode.EncryptionKey = w.group.state.tree.leaf(2).EncryptionKey })
			return w.spoiled(w.who[1], w.value(AddProposal(p.keyPackage))...)
		}},
		{"ValSem103 encryption key of a parent", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			p := w.newParty("p")
			w.newKeyPackage(p, func(kp *KeyPackage) { kp.LeafNode.EncryptionKey = w.group.state.tree.rootParent().EncryptionKey })
			return w.spoiled(w.who[1], w.value(AddProposal(p.keyPackage))...)
		}},
		{"ValSem104 member is added again", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			w.newKeyPackage(w.who[2], nil)
			return w.spoiled(w.who[1], w.value(AddProposal(w.who[2].keyPackage))...)
		}},
		{"ValSem105 other cipher suite", ErrCipherSuite, func(w *hubWorld) *MLSMessage {
			return w.addOf(func(kp *KeyPackage) { kp.CipherSuite = 3 })
		}},
		{"ValSem105 other version", ErrInvalidKeyPackage, func(w *hubWorld) *MLSMessage {
			return w.addOf(func(kp *KeyPackage) { kp.Version = 2 })
		}},
		{"ValSem106 leaf without the group's extension", ErrCapabilities, func(w *hubWorld) *MLSMessage {
			p := w.newParty("p")
			w.newKeyPackage(p, func(kp *KeyPackage) { kp.LeafNode.Capabilities.Extensions = nil })
			list := w.value(AddProposal(p.keyPackage), AppDataUpdateProposal(hubComponent, []byte("x")))
			return w.rawCommit(w.who[1], &Commit{Proposals: list})
		}},
		{"7.3 leaf without its credential type", ErrCapabilities, func(w *hubWorld) *MLSMessage {
			return w.addOf(func(kp *KeyPackage) { kp.LeafNode.Capabilities.Credentials = nil })
		}},
		{"7.3 credential type that others do not support", ErrCapabilities, func(w *hubWorld) *MLSMessage {
			p := w.newParty("p")
			w.newKeyPackage(p, func(kp *KeyPackage) {
				kp.LeafNode.Credential = Credential{Type: 0xf000, Opaque: []byte("x")}
				kp.LeafNode.Capabilities.Credentials = []CredentialType{CredentialBasic, 0xf000}
			})
			return w.rawCommit(w.who[1], &Commit{Proposals: w.value(AddProposal(p.keyPackage))})
		}},
		{"7.3 leaf without MLS 1.0", ErrCapabilities, func(w *hubWorld) *MLSMessage {
			return w.addOf(func(kp *KeyPackage) { kp.LeafNode.Capabilities.Versions = nil })
		}},
		{"7.3 leaf without the suite", ErrCapabilities, func(w *hubWorld) *MLSMessage {
			return w.addOf(func(kp *KeyPackage) { kp.LeafNode.Capabilities.CipherSuites = []CipherSuite{2} })
		}},
		{"7.3 leaf extension without capability", ErrCapabilities, func(w *hubWorld) *MLSMessage {
			return w.addOf(func(kp *KeyPackage) { kp.LeafNode.Extensions = Extensions{{0xf001, nil}} })
		}},
		{"13.4 leaf extension twice", ErrInvalidMessage, func(w *hubWorld) *MLSMessage {
			return w.addOf(func(kp *KeyPackage) { kp.LeafNode.Extensions = Extensions{{1, nil}, {1, nil}} })
		}},
		{"7.3 lifetime is over", ErrExpired, func(w *hubWorld) *MLSMessage {
			return w.addOf(func(kp *KeyPackage) { kp.LeafNode.Lifetime = Lifetime{1, uint64(hubNow.Unix()) - 7200} })
		}},
		{"7.3 lifetime is to come", ErrExpired, func(w *hubWorld) *MLSMessage {
			now := uint64(hubNow.Unix())
			return w.addOf(func(kp *KeyPackage) { kp.LeafNode.Lifetime = Lifetime{now + 7200, now + 9000} })
		}},
		{"7.2 lifetime is endless", ErrExpired, func(w *hubWorld) *MLSMessage {
			return w.addOf(func(kp *KeyPackage) { kp.LeafNode.Lifetime = Lifetime{0, 1<<64 - 1} })
		}},
		{"10.1 init key is the encryption key", ErrInvalidKeyPackage, func(w *hubWorld) *MLSMessage {
			return w.addOf(func(kp *KeyPackage) { kp.InitKey = kp.LeafNode.EncryptionKey })
		}},
		{"10.1 malformed encryption key", ErrKey, func(w *hubWorld) *MLSMessage {
			return w.addOf(func(kp *KeyPackage) { kp.LeafNode.EncryptionKey = []byte("short") })
		}},
		{"7.3 leaf of an update in a key package", ErrInvalidKeyPackage, func(w *hubWorld) *MLSMessage {
			return w.addOf(func(kp *KeyPackage) { kp.LeafNode.Source = LeafSourceUpdate })
		}},
		{"7.3 key package signature", ErrInvalidSignature, func(w *hubWorld) *MLSMessage {
			p := w.newParty("p")
			p.keyPackage.raw[len(p.keyPackage.raw)-1] ^= 1
			p.keyPackage.Signature = nil
			return w.spoiled(w.who[1], w.value(AddProposal(p.keyPackage))...)
		}},
		{"5.3.1 credential is refused", ErrCredential, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.value(AddProposal(w.newParty("refused").keyPackage))...)
		}},

		// Updates and removes.
		{"ValSem107 two removes of one leaf", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.value(RemoveProposal(2), RemoveProposal(2))...)
		}},
		{"ValSem108 remove of a blank leaf", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.value(RemoveProposal(6))...)
		}},
		{"ValSem108 remove out of range", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.value(RemoveProposal(1<<32-1))...)
		}},
		{"ValSem110 update with the key of a member", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			leaf := w.updateLeaf(w.who[2], func(l *LeafNode) { l.EncryptionKey = w.group.state.tree.leaf(3).EncryptionKey })
			return w.spoiled(w.who[1], w.propose(w.who[2], updateProposal(leaf)))
		}},
		{"ValSem111 update by value", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.value(updateProposal(w.updateLeaf(w.who[1], nil)))...)
		}},
		{"ValSem111 old leaf of another member by value", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.value(updateProposal(w.group.state.tree.leaf(2)))...)
		}},
		{"ValSem111 committer's own update by reference", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.propose(w.who[1], updateProposal(w.updateLeaf(w.who[1], nil))))
		}},
		{"ValSem112 update of the committer's by another sender", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			a, b := w.propose(w.who[2], updateProposal(w.updateLeaf(w.who[2], nil))), w.propose(w.who[2], updateProposal(w.updateLeaf(w.who[2], nil)))
			return w.spoiled(w.who[1], a, b)
		}},
		{"12.2 update and remove of one leaf", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], append(w.value(RemoveProposal(2)), w.propose(w.who[2], updateProposal(w.updateLeaf(w.who[2], nil))))...)
		}},
		{"ValSem200 committer removes itself", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.value(RemoveProposal(1))...)
		}},
		{"ValSem200 committer removes itself without a path", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.rawCommit(w.who[1], &Commit{Proposals: w.value(RemoveProposal(1))})
		}},
		{"6.3 committer's own self_remove", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.propose(w.who[1], SelfRemoveProposal()))
		}},
		{"6.3 self_remove by value", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.value(SelfRemoveProposal())...)
		}},
		{"6.3 self_remove and remove of one leaf", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], append(w.value(RemoveProposal(2)), w.propose(w.who[2], SelfRemoveProposal()))...)
		}},

		// Lists.
		{"12.2 two group_context_extensions", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.value(gce, gce)...)
		}},
		{"12.2 one pre-shared key twice", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.value(psk, psk)...)
		}},
		{"12.1.4 nonce of the wrong length", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.value(PreSharedKeyProposal(PreSharedKeyID{Type: PSKExternal, Nonce: []byte("x")}))...)
		}},
		{"12.1.4 resumption key for a branch", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.value(PreSharedKeyProposal(PreSharedKeyID{Type: PSKResumption, Usage: ResumptionBranch, Nonce: make([]byte, 32)}))...)
		}},
		{"12.2 reinit with another proposal", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.value(psk, Proposal{Type: ProposalReInit, ReInit: &ReInit{Version: MLS10, CipherSuite: 1}})...)
		}},
		{"12.1.5 reinit to an older version", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.value(Proposal{Type: ProposalReInit, ReInit: &ReInit{CipherSuite: 1}})...)
		}},
		{"12.2 external_init of a member", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.value(externalInitProposal())...)
		}},
		{"12.4 reference to an unknown proposal", ErrMissingProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], ProposalOrRef{Reference: make([]byte, 32)})
		}},
		{"one reference twice", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			ref := w.propose(w.who[2], AppDataUpdateProposal(hubComponent, []byte("x")))
			return w.spoiled(w.who[1], ref, ref)
		}},
		{"12.1.7 required capability that a member lacks", ErrCapabilities, func(w *hubWorld) *MLSMessage {
			list := w.value(GroupContextExtensionsProposal(Extensions{requiring(w.t, RequiredCapabilities{Extensions: []ExtensionType{0xf001}})}))
			return w.spoiled(w.who[1], list...)
		}},
		{"13.4 group extension that a member lacks", ErrCapabilities, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.value(GroupContextExtensionsProposal(Extensions{{0xf001, nil}}))...)
		}},
		{"13.4 group extension twice", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiled(w.who[1], w.value(GroupContextExtensionsProposal(Extensions{{5, []byte{0}}, {5, []byte{0}}}))...)
		}},
		{"5.3.1 external sender is refused", ErrCredential, func(w *hubWorld) *MLSMessage {
			data, err := Marshal(ExternalSenders{{SignatureKey: w.who[0].signer.Public(), Credential: BasicCredential([]byte("refused"))}})
			noError(w.t, err)
			return w.spoiled(w.who[1], w.value(GroupContextExtensionsProposal(Extensions{{ExtensionExternalSenders, data}}))...)
		}},
		{"12.2 proposal type that a member lacks", ErrCapabilities, func(w *hubWorld) *MLSMessage {
			p := w.newParty("p")
			w.newKeyPackage(p, func(kp *KeyPackage) { kp.LeafNode.Capabilities.Proposals = nil })
			w.merge(w.stage(w.rawCommit(w.who[1], &Commit{Proposals: w.value(AddProposal(p.keyPackage))})), p)
			return w.rawCommit(w.who[1], &Commit{Proposals: w.value(AppDataUpdateProposal(hubComponent, nil))})
		}},

		// Application data.
		{"4.7 unknown component", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.rawCommit(w.who[1], &Commit{Proposals: w.value(AppDataUpdateProposal(0x8002, nil))})
		}},
		{"4.7 component refuses the update", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.rawCommit(w.who[1], &Commit{Proposals: w.value(AppDataUpdateProposal(hubComponent, []byte("bad")))})
		}},
		{"4.7 removal of absent data", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.rawCommit(w.who[1], &Commit{Proposals: w.value(AppDataRemoveProposal(hubComponent))})
		}},
		{"4.7 update and removal", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			w.setComponent("x")
			return w.rawCommit(w.who[1], &Commit{Proposals: w.value(AppDataUpdateProposal(hubComponent, nil), AppDataRemoveProposal(hubComponent))})
		}},
		{"4.7 two removals", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			w.setComponent("x")
			return w.rawCommit(w.who[1], &Commit{Proposals: w.value(AppDataRemoveProposal(hubComponent), AppDataRemoveProposal(hubComponent))})
		}},
		{"4.7 component refuses the removal", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			w.setComponent("keep")
			return w.rawCommit(w.who[1], &Commit{Proposals: w.value(AppDataRemoveProposal(hubComponent))})
		}},
		{"4.8 component refuses the ephemeral data", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.rawCommit(w.who[1], &Commit{Proposals: w.value(AppEphemeralProposal(hubComponent, []byte("bad")))})
		}},
		{"4.8 unknown component", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.rawCommit(w.who[1], &Commit{Proposals: w.value(AppEphemeralProposal(0x8002, nil))})
		}},

		// Paths.
		{"ValSem201 empty commit without a path", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			return w.rawCommit(w.who[1], &Commit{})
		}},
		{"ValSem201 remove without a path", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			return w.rawCommit(w.who[1], &Commit{Proposals: w.value(RemoveProposal(2))})
		}},
		{"ValSem201 update without a path", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			ref := w.propose(w.who[2], updateProposal(w.updateLeaf(w.who[2], nil)))
			return w.rawCommit(w.who[1], &Commit{Proposals: []ProposalOrRef{ref}})
		}},
		{"ValSem201 group_context_extensions without a path", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			return w.rawCommit(w.who[1], &Commit{Proposals: w.value(gce)})
		}},
		{"ValSem201 self_remove without a path", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			return w.rawCommit(w.who[1], &Commit{Proposals: []ProposalOrRef{w.propose(w.who[2], SelfRemoveProposal())}})
		}},
		{"ValSem202 path is too short", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			return w.pathOf(func(p *UpdatePath) { p.Nodes = p.Nodes[:len(p.Nodes)-1] })
		}},
		{"ValSem202 path is too long", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			return w.pathOf(func(p *UpdatePath) { p.Nodes = append(p.Nodes, p.Nodes[0]) })
		}},
		{"7.6 too few encrypted path secrets", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			return w.pathOf(func(p *UpdatePath) { p.Nodes[0].EncryptedPathSecret = nil })
		}},
		{"7.6 too many encrypted path secrets", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			return w.pathOf(func(p *UpdatePath) {
				n := &p.Nodes[0]
				n.EncryptedPathSecret = append(n.EncryptedPathSecret, n.EncryptedPathSecret[0])
			})
		}},
		{"ValSem206 leaf keeps its encryption key", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			return w.leafOf(func(l *LeafNode) { l.EncryptionKey = w.group.state.tree.leaf(1).EncryptionKey })
		}},
		{"ValSem206 leaf has the key of a member", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			return w.leafOf(func(l *LeafNode) { l.EncryptionKey = w.group.state.tree.leaf(2).EncryptionKey })
		}},
		{"ValSem207 path has the key of a parent", errDuplicateKey, func(w *hubWorld) *MLSMessage {
			return w.pathOf(func(p *UpdatePath) { p.Nodes[0].EncryptionKey = w.group.state.tree.rootParent().EncryptionKey })
		}},
		{"ValSem207 path has the key of a leaf", errDuplicateKey, func(w *hubWorld) *MLSMessage {
			return w.pathOf(func(p *UpdatePath) { p.Nodes[1].EncryptionKey = w.group.state.tree.leaf(0).EncryptionKey })
		}},
		{"ValSem207 path has one key twice", errDuplicateKey, func(w *hubWorld) *MLSMessage {
			return w.pathOf(func(p *UpdatePath) { p.Nodes[1].EncryptionKey = p.Nodes[0].EncryptionKey })
		}},
		{"malformed key in the path", ErrKey, func(w *hubWorld) *MLSMessage {
			return w.pathOf(func(p *UpdatePath) { p.Nodes[0].EncryptionKey = []byte("short") })
		}},
		{"7.9.2 keys of the path are not those of the parent hash", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			return w.pathOf(func(p *UpdatePath) {
				_, public, err := GenerateHPKEKey(1)
				noError(w.t, err)
				p.Nodes[0].EncryptionKey = public
			})
		}},
		{"7.9.2 parent hash of the leaf", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			return w.leafOf(func(l *LeafNode) { l.ParentHash = make([]byte, 32) })
		}},
		{"7.3 source of the path's leaf", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			return w.leafOf(func(l *LeafNode) { l.Source = LeafSourceUpdate })
		}},
		{"7.3 signature of the path's leaf", ErrInvalidSignature, func(w *hubWorld) *MLSMessage {
			return w.pathOf(func(p *UpdatePath) {
				p.LeafNode.raw = nil
				p.LeafNode.Signature[0] ^= 1
			})
		}},
		{"7.3 path's leaf drops a required capability", ErrCapabilities, func(w *hubWorld) *MLSMessage {
			w.setComponent("x")
			return w.leafOf(func(l *LeafNode) { l.Capabilities.Extensions = nil })
		}},
		{"5.3.1 committer becomes another", ErrCredential, func(w *hubWorld) *MLSMessage {
			return w.leafOf(func(l *LeafNode) { l.Credential = BasicCredential([]byte("2")) })
		}},
		{"7.3 path's leaf has the signature key of a member", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			_, created := w.path(w.who[1], MemberSender(1), nil)
			created.path.LeafNode.SignatureKey = w.who[2].signer.Public()
			noError(w.t, created.path.LeafNode.sign(w.who[2].signer, w.group.state.GroupID(), 1))
			return w.rawCommit(w.who[1], &Commit{Path: created.path})
		}},

		// External commits.
		{"ValSem240 no external_init", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiledExternal(w.newParty("p"))
		}},
		{"ValSem241 two external_init", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiledExternal(w.newParty("p"), w.value(externalInitProposal(), externalInitProposal())...)
		}},
		{"8.3 external_init without a key", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiledExternal(w.newParty("p"), w.value(Proposal{Type: ProposalExternalInit, ExternalInit: &ExternalInit{KEMOutput: []byte("x")}})...)
		}},
		{"ValSem242 add in an external commit", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiledExternal(w.newParty("p"), w.value(externalInitProposal(), AddProposal(w.newParty("q").keyPackage))...)
		}},
		{"ValSem242 group_context_extensions in an external commit", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiledExternal(w.newParty("p"), w.value(externalInitProposal(), gce)...)
		}},
		{"ValSem242 reinit in an external commit", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiledExternal(w.newParty("p"), w.value(externalInitProposal(), Proposal{Type: ProposalReInit, ReInit: &ReInit{Version: MLS10}})...)
		}},
		{"12.2 external commit removes a stranger", ErrCredential, func(w *hubWorld) *MLSMessage {
			eve := w.newParty("eve")
			_, created := w.path(eve, Sender{Type: SenderNewMemberCommit}, w.value(externalInitProposal()))
			noError(w.t, created.path.LeafNode.sign(eve.signer, w.group.state.GroupID(), 0))
			return w.rawExternalCommit(eve, &Commit{Proposals: w.value(externalInitProposal(), RemoveProposal(0)), Path: created.path})
		}},
		{"12.2 external commit removes two", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiledExternal(w.newParty("2"), w.value(externalInitProposal(), RemoveProposal(2), RemoveProposal(3))...)
		}},
		{"12.2 external commit refers to a remove", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiledExternal(w.newParty("p"), append(w.value(externalInitProposal()), w.propose(w.who[1], RemoveProposal(2)))...)
		}},
		{"4.7 external commit refers to an app_data_update", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiledExternal(w.newParty("p"), append(w.value(externalInitProposal()), w.propose(w.who[1], AppDataUpdateProposal(hubComponent, nil)))...)
		}},
		{"6.3 external commit with self_remove by value", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiledExternal(w.newParty("p"), w.value(externalInitProposal(), SelfRemoveProposal())...)
		}},
		{"6.3 external commit removes a leaf that removes itself", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.spoiledExternal(w.newParty("2"), append(w.value(externalInitProposal(), RemoveProposal(2)), w.propose(w.who[2], SelfRemoveProposal()))...)
		}},
		{"ValSem245 external commit without a path", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			return w.rawExternalCommit(w.newParty("p"), &Commit{Proposals: w.value(externalInitProposal())})
		}},
		{"ValSem246 external commit signed by another", ErrInvalidSignature, func(w *hubWorld) *MLSMessage {
			_, created := w.path(w.newParty("p"), Sender{Type: SenderNewMemberCommit}, w.value(externalInitProposal()))
			return w.rawExternalCommit(w.newParty("q"), &Commit{Proposals: w.value(externalInitProposal()), Path: created.path})
		}},
		{"5.3.1 credential of an external joiner is refused", ErrCredential, func(w *hubWorld) *MLSMessage {
			p := w.newParty("p")
			_, created := w.path(p, Sender{Type: SenderNewMemberCommit}, w.value(externalInitProposal()))
			created.path.LeafNode.Credential = BasicCredential([]byte("refused"))
			noError(w.t, created.path.LeafNode.sign(p.signer, w.group.state.GroupID(), 5))
			return w.rawExternalCommit(p, &Commit{Proposals: w.value(externalInitProposal()), Path: created.path})
		}},
		{"7.3 external joiner has the signature key of a member", ErrInvalidCommit, func(w *hubWorld) *MLSMessage {
			p := w.newParty("p")
			_, created := w.path(p, Sender{Type: SenderNewMemberCommit}, w.value(externalInitProposal()))
			twin := w.who[2]
			created.path.LeafNode.SignatureKey = twin.signer.Public()
			noError(w.t, created.path.LeafNode.sign(twin.signer, w.group.state.GroupID(), 5))
			return w.rawExternalCommit(twin, &Commit{Proposals: w.value(externalInitProposal()), Path: created.path})
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := grownHubWorld(t, 5)
			m := test.make(w)
			w.refuse(m, test.want)
			w.merge(w.stage(w.commit(w.who[3])))
		})
	}
}

// addOf commits the Add of a KeyPackage that change spoils.
func (w *hubWorld) addOf(change func(kp *KeyPackage)) *MLSMessage {
	w.t.Helper()
	p := w.newParty("p")
	w.newKeyPackage(p, change)
	return w.spoiled(w.who[1], w.value(AddProposal(p.keyPackage))...)
}

// pathOf commits a path that change spoils.
func (w *hubWorld) pathOf(change func(p *UpdatePath)) *MLSMessage {
	w.t.Helper()
	_, created := w.path(w.who[1], MemberSender(1), nil)
	change(created.path)
	return w.rawCommit(w.who[1], &Commit{Path: created.path})
}

// leafOf commits a path whose leaf change spoils before it is signed.
func (w *hubWorld) leafOf(change func(l *LeafNode)) *MLSMessage {
	w.t.Helper()
	return w.pathOf(func(p *UpdatePath) {
		change(&p.LeafNode)
		noError(w.t, p.LeafNode.sign(w.who[1].signer, w.group.state.GroupID(), 1))
	})
}

// setComponent commits data of the test's component.
func (w *hubWorld) setComponent(data string) {
	w.t.Helper()
	w.merge(w.stage(w.rawCommit(w.who[0], &Commit{Proposals: w.value(AppDataUpdateProposal(hubComponent, []byte(data)))})))
}

func TestInvalidProposals(t *testing.T) {
	tests := []struct {
		name string
		want error
		make func(w *hubWorld) *MLSMessage
	}{
		{"ValSem002 other group", ErrWrongGroup, func(w *hubWorld) *MLSMessage {
			return w.message(w.who[1].signer, w.content(1, SelfRemoveProposal()), func(c *FramedContent) { c.GroupID = []byte("other") })
		}},
		{"ValSem003 other epoch", ErrWrongEpoch, func(w *hubWorld) *MLSMessage {
			return w.message(w.who[1].signer, w.content(1, SelfRemoveProposal()), func(c *FramedContent) { c.Epoch++ })
		}},
		{"ValSem010 signature", ErrInvalidSignature, func(w *hubWorld) *MLSMessage {
			return w.message(w.who[2].signer, w.content(1, SelfRemoveProposal()), nil)
		}},
		{"commit in place of a proposal", ErrInvalidMessage, func(w *hubWorld) *MLSMessage { return w.commit(w.who[1]) }},
		{"external_init of a member", ErrInvalidProposal, func(w *hubWorld) *MLSMessage { return w.proposal(w.who[1], externalInitProposal()) }},
		{"remove of a blank leaf", ErrInvalidProposal, func(w *hubWorld) *MLSMessage { return w.proposal(w.who[1], RemoveProposal(7)) }},
		{"update keeps the encryption key", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			return w.proposal(w.who[1], updateProposal(w.updateLeaf(w.who[1], func(l *LeafNode) { l.EncryptionKey = w.group.state.tree.leaf(1).EncryptionKey })))
		}},
		{"update with the leaf of another", ErrInvalidSignature, func(w *hubWorld) *MLSMessage {
			return w.proposal(w.who[1], updateProposal(w.updateLeaf(w.who[2], nil)))
		}},
		{"update to another identity", ErrCredential, func(w *hubWorld) *MLSMessage {
			return w.proposal(w.who[1], updateProposal(w.updateLeaf(w.who[1], func(l *LeafNode) { l.Credential = BasicCredential([]byte("2")) })))
		}},
		{"update with a leaf of a key package", ErrInvalidKeyPackage, func(w *hubWorld) *MLSMessage {
			w.newKeyPackage(w.who[1], nil)
			return w.proposal(w.who[1], updateProposal(&w.who[1].keyPackage.LeafNode))
		}},
		{"external sender out of range", ErrUnknownSender, func(w *hubWorld) *MLSMessage { return w.external(w.who[0].signer, 1, RemoveProposal(2)) }},
		{"external sender's signature", ErrInvalidSignature, func(w *hubWorld) *MLSMessage { return w.external(w.who[1].signer, 0, RemoveProposal(2)) }},
		{"ValSem002 external sender's proposal for another group", ErrWrongGroup, func(w *hubWorld) *MLSMessage {
			c := w.content(0, RemoveProposal(2))
			c.Sender = Sender{Type: SenderExternal}
			return w.message(w.who[0].signer, c, func(c *FramedContent) { c.GroupID = []byte("other") })
		}},
		{"ValSem003 external sender's proposal of a past epoch", ErrWrongEpoch, func(w *hubWorld) *MLSMessage {
			c := w.content(0, RemoveProposal(2))
			c.Sender = Sender{Type: SenderExternal}
			return w.message(w.who[0].signer, c, func(c *FramedContent) { c.Epoch-- })
		}},
		{"external sender's proposal against the policy", ErrInvalidProposal, func(w *hubWorld) *MLSMessage { return w.external(w.who[0].signer, 0, RemoveProposal(0)) }},
		{"new member is refused by default", ErrInvalidProposal, func(w *hubWorld) *MLSMessage {
			p := w.newParty("p")
			c := w.content(0, AddProposal(p.keyPackage))
			c.Sender = Sender{Type: SenderNewMemberProposal}
			return w.message(p.signer, c, nil)
		}},
		{"new member signed by another", ErrInvalidSignature, func(w *hubWorld) *MLSMessage {
			c := w.content(0, AddProposal(w.newParty("p").keyPackage))
			c.Sender = Sender{Type: SenderNewMemberProposal}
			return w.message(w.newParty("q").signer, c, nil)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := grownHubWorld(t, 3)
			w.withSender()
			w.refuseProposal(test.make(w), test.want)
		})
	}
	for _, p := range []Proposal{
		SelfRemoveProposal(), externalInitProposal(), {Type: ProposalUpdate, Update: new(Update)},
	} {
		t.Run("12.1.8 external sender's "+p.Type.String(), func(t *testing.T) {
			q := &QueuedProposal{Proposal: p, Sender: Sender{Type: SenderExternal}, Message: &MLSMessage{WireFormat: WirePublicMessage}}
			if err := checkProposalSender(q); !errors.Is(err, ErrInvalidProposal) {
				t.Fatalf("refused with %v", err)
			}
		})
	}
}

func (w *hubWorld) content(l LeafIndex, p Proposal) FramedContent {
	return FramedContent{Sender: MemberSender(l), ContentType: ContentProposal, Proposal: &p}
}

func (w *hubWorld) external(signer Signer, index uint32, p Proposal) *MLSMessage {
	c := w.content(0, p)
	c.Sender = Sender{Type: SenderExternal, Index: index}
	return w.message(signer, c, nil)
}

// withSender makes member 0's key an external sender's, who may remove all but
// member 0.
func (w *hubWorld) withSender() {
	w.t.Helper()
	x := Extensions{someSenders(w.t, w.who[0].signer.Public())}
	w.merge(w.stage(w.commit(w.who[0], w.value(GroupContextExtensionsProposal(x))...)))
	w.group.cfg.ExternalProposals = func(_ *State, p *Proposal, _ uint32) error {
		if p.Type == ProposalRemove && p.Remove.Removed == 0 {
			return errors.New("may not remove the owner")
		}
		return nil
	}
}

func TestExternalSenderProposals(t *testing.T) {
	w := grownHubWorld(t, 4)
	w.withSender()
	m := w.external(w.who[0].signer, 0, RemoveProposal(2))
	q, err := w.group.Proposal(m)
	noError(t, err)
	noError(t, w.group.Enqueue(q))
	w.merge(w.stage(w.commit(w.who[1], ProposalOrRef{Reference: q.Ref})))
	if _, ok := w.group.State().Member(2); ok {
		t.Fatal("member 2 was not removed")
	}
	w.refuseProposal(m, ErrWrongEpoch) // no replay
	if err := w.group.Enqueue(q); !errors.Is(err, ErrWrongEpoch) {
		t.Fatalf("proposal of the past epoch enqueued: %v", err)
	}
	w.group.cfg.ExternalProposals = nil
	w.refuseProposal(w.external(w.who[0].signer, 0, RemoveProposal(1)), ErrInvalidProposal)

	p := w.newParty("p")
	c := w.content(0, AddProposal(p.keyPackage))
	c.Sender = Sender{Type: SenderNewMemberProposal}
	w.group.cfg.NewMemberProposals = func(*State, *KeyPackage) error { return nil }
	q, err = w.group.Proposal(w.message(p.signer, c, nil))
	noError(t, err)
	noError(t, w.group.Enqueue(q))
	w.merge(w.stage(w.commit(w.who[1], ProposalOrRef{Reference: q.Ref})), p)
}

func TestReInitClosesTheGroup(t *testing.T) {
	w := grownHubWorld(t, 3)
	m := w.rawCommit(w.who[1], &Commit{Proposals: w.value(Proposal{Type: ProposalReInit, ReInit: &ReInit{GroupID: []byte("next"), Version: MLS10, CipherSuite: 1}})})
	w.merge(w.stage(m))
	if r := w.group.State().ReInit(); r == nil || string(r.GroupID) != "next" {
		t.Fatalf("ReInit %+v", r)
	}
	w.refuse(w.rawCommit(w.who[1], &Commit{}), ErrInvalidCommit)
	w.refuseProposal(w.proposal(w.who[1], SelfRemoveProposal()), ErrInvalidProposal)
	again, err := LoadPublicGroup(w.cfg, storeRecords(nil, w.group.Records(nil)))
	noError(t, err)
	if again.State().ReInit() == nil {
		t.Fatal("the stored group is open again")
	}
}

func TestDictionaryIsFixedWhereAppDataUpdateIsRequired(t *testing.T) {
	rc := RequiredCapabilities{Proposals: []ProposalType{ProposalAppDataUpdate}}
	w := grownHubWorld(t, 3, requiring(t, rc))
	w.setComponent("x")
	x := w.group.State().Extensions()
	w.refuse(w.spoiled(w.who[1], w.value(GroupContextExtensionsProposal(x.Without(ExtensionAppDataDictionary)))...), ErrInvalidProposal)
	w.refuse(w.spoiled(w.who[1], w.value(GroupContextExtensionsProposal(x.Set(ExtensionAppDataDictionary, []byte{0})))...), ErrInvalidProposal)
	list := w.value(GroupContextExtensionsProposal(append(x, someSenders(t, w.who[0].signer.Public()))), AppDataUpdateProposal(hubComponent, []byte("y")))
	w.merge(w.stage(w.commit(w.who[1], list...)))
	if data, _ := w.group.State().Dictionary().Get(hubComponent); string(data) != "xy" {
		t.Fatalf("component data %q", data)
	}
	p := w.newParty("p")
	w.newKeyPackage(p, func(kp *KeyPackage) { kp.LeafNode.Capabilities.Proposals = nil })
	w.refuse(w.rawCommit(w.who[1], &Commit{Proposals: w.value(AddProposal(p.keyPackage))}), ErrCapabilities)
}

func TestLimits(t *testing.T) {
	w := grownHubWorld(t, 3)
	w.group.cfg.Limits.MaxMembers = 3
	w.refuse(w.rawCommit(w.who[1], &Commit{Proposals: w.value(AddProposal(w.newParty("p").keyPackage))}), ErrLimit)
	w.group.cfg.Limits.MaxMembers = 4
	m := w.externalCommit(w.newParty("p"))
	w.group.cfg.Limits.MaxMembers = 3
	w.refuse(m, ErrLimit)
	w.group.cfg.Limits.MaxProposals = 1
	w.refuse(w.rawCommit(w.who[1], &Commit{Proposals: w.value(AppDataUpdateProposal(hubComponent, nil), AppDataUpdateProposal(hubComponent, nil))}), ErrLimit)
	w.propose(w.who[1], AppDataUpdateProposal(hubComponent, nil))
	q, err := w.group.Proposal(w.proposal(w.who[1], AppDataUpdateProposal(hubComponent, []byte("x"))))
	noError(t, err)
	if err := w.group.Enqueue(q); !errors.Is(err, ErrLimit) {
		t.Fatalf("second proposal enqueued: %v", err)
	}
	w.group.cfg.Limits.MaxProposals = 1024
	w.group.cfg.Limits.MaxExtensions = 1000
	w.refuse(w.rawCommit(w.who[1], &Commit{Proposals: w.value(AppDataUpdateProposal(hubComponent, make([]byte, 1000)))}), ErrLimit)
}

func TestSafeAADIsRequired(t *testing.T) {
	dictionary := mustMarshal(AppDataDictionary{{ComponentSafeAAD, []byte{0}}})
	w := newHubWorld(t, Extension{ExtensionAppDataDictionary, dictionary})
	with := func(aad []byte) *MLSMessage {
		_, created := w.path(w.who[0], MemberSender(0), nil)
		return w.message(w.who[0].signer, FramedContent{
			Sender: MemberSender(0), AuthenticatedData: aad, ContentType: ContentCommit, Commit: &Commit{Path: created.path},
		}, nil)
	}
	w.refuse(with(nil), ErrInvalidMessage)
	w.refuse(with([]byte("anything")), ErrInvalidMessage)
	w.refuse(with([]byte{6, 0, 2, 0, 0, 1, 0}), ErrInvalidMessage) // not sorted
	w.refuseProposal(w.proposal(w.who[0], SelfRemoveProposal()), ErrInvalidMessage)
	if _, err := w.group.StageCommit(with([]byte{6, 0, 1, 0, 0, 2, 0})); err != nil {
		t.Fatal(err)
	}
}
