package main

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/comity-im/comity/e2e/harness/mlsclientpb"
	"github.com/comity-im/comity/mls"
)

// scenarios are what the harness is about, each for one suite and one form of
// handshake messages, between clients on servers of their own.
var scenarios = map[string]func(*play){
	"welcome": func(p *play) {
		p.group("anna", "ben")
		p.commit("ben", commit{refs: [][]byte{p.add("anna", "cleo")}, join: []string{"cleo"}})
	},
	"welcome with path secret, key and tree beside it": func(p *play) {
		p.create("anna")
		psk := []byte("a key of anna and ben")
		add := p.add("anna", "ben")
		for name, id := range map[string]uint32{"anna": p.states["anna"], "ben": p.waiting["ben"]} {
			p.storePSK(name, id, psk)
		}
		p.commit("anna", commit{refs: [][]byte{add, p.externalPSK("anna", psk)}, path: true, externalTree: true, join: []string{"ben"}})
	},
	"messages out of order and from past epochs": func(p *play) {
		p.group("anna", "ben")
		var old, now [3][]byte
		for i := range old {
			old[i] = p.protect("anna", fmt.Sprintf("before %d", i))
		}
		p.commit("ben", commit{})
		for i := range now {
			now[i] = p.protect("anna", fmt.Sprintf("after %d", i))
		}
		for _, i := range []int{2, 0, 1} {
			p.unprotect("ben", now[i], fmt.Sprintf("after %d", i))
			p.unprotect("ben", old[i], fmt.Sprintf("before %d", i))
		}
		p.refuses("ben", now[0])
	},
	"updates": func(p *play) {
		p.group("anna", "ben", "cleo")
		p.commit("anna", commit{refs: [][]byte{p.update("ben"), p.update("cleo")}})
		p.commit("ben", commit{refs: [][]byte{p.update("anna")}})
		p.commit("cleo", commit{path: true})
	},
	"removals by reference and by value": func(p *play) {
		p.group("anna", "ben", "cleo")
		p.commit("anna", commit{refs: [][]byte{p.remove("ben", "cleo")}, gone: []string{"cleo"}})
		p.commit("ben", commit{values: p.value("remove", &mlsclientpb.ProposalDescription{RemovedId: []byte("anna")}), gone: []string{"anna"}})
	},
	"extensions of the group": func(p *play) {
		p.group("anna", "ben")
		p.commit("anna", commit{refs: [][]byte{p.extensions("ben", noRequirements, noSenders)}})
		p.hasExtensions("anna", mls.ExtensionRequiredCapabilities, mls.ExtensionExternalSenders)
		p.commit("anna", commit{values: p.value("groupContextExtensions", &mlsclientpb.ProposalDescription{Extensions: []*mlsclientpb.Extension{noRequirements}})})
		p.hasExtensions("ben", mls.ExtensionRequiredCapabilities)
		p.commit("ben", commit{refs: [][]byte{p.extensions("ben")}})
		p.hasExtensions("ben")
	},
	"external and resumption keys": func(p *play) {
		p.group("anna", "ben")
		one, two := []byte("one key"), []byte("another key")
		for _, name := range []string{"anna", "ben"} {
			p.storePSK(name, p.states[name], one)
			p.storePSK(name, p.states[name], two)
		}
		p.commit("anna", commit{path: true})
		p.commit("anna", commit{
			refs: [][]byte{p.externalPSK("ben", one), p.resumptionPSK("ben", 1)},
			values: append(p.value("externalPSK", &mlsclientpb.ProposalDescription{PskId: two}),
				p.value("resumptionPSK", &mlsclientpb.ProposalDescription{EpochId: 2})...),
		})
	},
	"all at once": func(p *play) {
		p.group("anna", "ben")
		key := []byte("a key")
		add := p.add("anna", "cleo")
		for name, id := range map[string]uint32{"anna": p.states["anna"], "ben": p.states["ben"], "cleo": p.waiting["cleo"]} {
			p.storePSK(name, id, key)
		}
		p.commit("ben", commit{
			refs: [][]byte{p.update("anna"), p.extensions("ben", noRequirements), p.externalPSK("anna", key), add},
			join: []string{"cleo"},
		})
		p.commit("ben", commit{
			refs:   [][]byte{p.resumptionPSK("anna", 2), p.remove("anna", "cleo")},
			values: p.value("externalPSK", &mlsclientpb.ProposalDescription{PskId: key}),
			gone:   []string{"cleo"},
		})
	},
	"external join": func(p *play) {
		p.create("anna")
		p.externalJoin("ben", "anna", &mlsclientpb.ExternalJoinRequest{}, false)
		key := []byte("a key")
		for name, state := range p.states {
			p.storePSK(name, state, key)
		}
		p.externalJoin("cleo", "ben", &mlsclientpb.ExternalJoinRequest{
			Psks: []*mlsclientpb.PreSharedKey{{PskId: key, PskSecret: secretOf(key)}},
		}, true)
		p.externalJoin("ben", "anna", &mlsclientpb.ExternalJoinRequest{RemovePrior: true}, false)
		p.commit("ben", commit{refs: [][]byte{p.update("cleo")}})
	},
	"a new member proposes itself": func(p *play) {
		p.group("anna", "ben")
		info := must(p, p.as("ben").GroupInfo, &mlsclientpb.GroupInfoRequest{StateId: p.states["ben"]})
		r := must(p, p.as("cleo").NewMemberAddProposal, &mlsclientpb.NewMemberAddProposalRequest{GroupInfo: info.GroupInfo, Identity: []byte("cleo")})
		msg, err := decode("proposal", r.Proposal, mls.WirePublicMessage)
		noError(p, err)
		kp, err := mls.Marshal(mls.KeyPackageMessage(&msg.PublicMessage.Content.Proposal.Add.KeyPackage))
		noError(p, err)
		p.checkKeys(kp, r.InitPriv, r.EncryptionPriv, r.SignaturePriv)
		p.waiting["cleo"] = r.TransactionId
		p.commit("anna", commit{refs: [][]byte{r.Proposal}, join: []string{"cleo"}})
	},
	"external senders": func(p *play) {
		p.group("anna", "ben")
		first, second := p.externalSigner("cleo", "anna"), p.externalSigner("ben", "ben")
		key := []byte("a key")
		for name, state := range p.states {
			p.storePSK(name, state, key)
		}
		commits := func(s signerHandle, kind string, d *mlsclientpb.ProposalDescription, c commit) {
			p.Helper()
			c.refs = append(c.refs, p.signerProposal(s, "ben", kind, d))
			p.commit("anna", c)
		}
		commits(second, "externalPSK", &mlsclientpb.ProposalDescription{PskId: key}, commit{})
		commits(first, "resumptionPSK", &mlsclientpb.ProposalDescription{EpochId: 2}, commit{refs: [][]byte{p.update("ben")}})
		commits(first, "add", &mlsclientpb.ProposalDescription{KeyPackage: p.keyPackage("cleo")}, commit{join: []string{"cleo"}})
		commits(second, "remove", &mlsclientpb.ProposalDescription{RemovedId: []byte("ben")}, commit{gone: []string{"ben"}})
		d := &mlsclientpb.ProposalDescription{Extensions: []*mlsclientpb.Extension{noRequirements}}
		p.commit("anna", commit{refs: [][]byte{p.signerProposal(first, "cleo", "groupContextExtensions", d)}})
		p.hasExtensions("cleo", mls.ExtensionRequiredCapabilities)
	},
	"an external sender closes the group": func(p *play) {
		p.group("anna", "ben", "cleo")
		s := p.externalSigner("ben", "anna")
		next := p.nextSuite()
		proposal := p.signerProposal(s, "cleo", "reinit", &mlsclientpb.ProposalDescription{
			GroupId: []byte("the next of " + p.Name()), CipherSuite: uint32(next), Extensions: []*mlsclientpb.Extension{noRequirements},
		})
		p.reInit(proposal, next, "anna", "ben", false)
		p.hasExtensions("cleo", mls.ExtensionRequiredCapabilities)
		p.commit("cleo", commit{path: true})
	},
	"reinitialization with another suite": func(p *play) {
		p.group("anna", "ben", "cleo")
		next := p.nextSuite()
		proposal := p.proposeReInit("cleo", []byte("the group of "+p.Name()), next, noRequirements)
		p.reInit(proposal, next, "anna", "anna", true)
		p.hasExtensions("ben", mls.ExtensionRequiredCapabilities)
		p.commit("ben", commit{refs: [][]byte{p.update("anna")}})
	},
	"reinitialization by one member, welcome by another": func(p *play) {
		p.group("anna", "ben", "cleo")
		proposal := p.proposeReInit("anna", []byte("another group of "+p.Name()), p.suite)
		p.reInit(proposal, p.suite, "anna", "cleo", false)
		p.commit("cleo", commit{path: true})
	},
	"branch": func(p *play) {
		p.group("anna", "ben", "cleo")
		p.branch("ben", false, nil, "anna", "cleo")
		p.commit("anna", commit{refs: [][]byte{p.update("ben")}})
	},
	"branch with fewer members, extensions and the tree beside": func(p *play) {
		p.group("anna", "ben", "cleo")
		p.branch("ben", true, []*mlsclientpb.Extension{noRequirements}, "cleo")
		p.hasExtensions("cleo", mls.ExtensionRequiredCapabilities)
	},
}

func TestScenarios(t *testing.T) {
	st := newStage(t, "anna", "ben", "cleo")
	t.Run("play", func(t *testing.T) { // ends when all parallel tests have
		for i, suite := range mls.UsableCipherSuites() {
			for j, form := range []string{"public", "private"} {
				// The form does not depend on the suite: both for one are enough.
				if i > 0 && i%2 != j {
					continue
				}
				t.Run(fmt.Sprintf("0x%04X %s", uint16(suite), form), func(t *testing.T) {
					t.Parallel()
					for name, play := range scenarios {
						t.Run(name, func(t *testing.T) { play(newPlay(t, st, suite, form == "private")) })
					}
				})
			}
		}
	})
	// Name and SupportedCiphersuites belong to no scenario.
	p := newPlay(t, st, mls.X25519AES128SHA256Ed25519, false)
	if name := must(p, p.as("anna").Name, &mlsclientpb.NameRequest{}).Name; name == "" {
		t.Error("the server has no name")
	}
	got := must(p, p.as("anna").SupportedCiphersuites, &mlsclientpb.SupportedCiphersuitesRequest{}).Ciphersuites
	if len(got) != len(mls.UsableCipherSuites()) || got[0] != 1 {
		t.Errorf("the server supports the suites %v; want %v", got, mls.UsableCipherSuites())
	}
	if t.Failed() {
		return
	}
	for _, m := range mlsclientpb.MLSClient_ServiceDesc.Methods {
		if !st.called[m.MethodName] {
			t.Errorf("no scenario calls %s", m.MethodName)
		}
	}
}

var (
	noRequirements = &mlsclientpb.Extension{ExtensionType: uint32(mls.ExtensionRequiredCapabilities), ExtensionData: []byte{0, 0, 0}}
	noSenders      = &mlsclientpb.Extension{ExtensionType: uint32(mls.ExtensionExternalSenders), ExtensionData: []byte{0}}
)

func newPlay(t *testing.T, st *stage, suite mls.CipherSuite, encrypt bool) *play {
	return &play{T: t, stage: st, suite: suite, encrypt: encrypt, states: map[string]uint32{}, waiting: map[string]uint32{}}
}

// nextSuite returns another suite than that of p.
func (p *play) nextSuite() mls.CipherSuite {
	list := mls.UsableCipherSuites()
	for i, s := range list {
		if s == p.suite {
			return list[(i+1)%len(list)]
		}
	}
	p.Fatalf("suite %v is not usable", p.suite)
	return 0
}

// proposal returns what a method for proposals answered, which travels in the
// form of the play.
func (p *play) proposal(r *mlsclientpb.ProposalResponse) []byte {
	p.Helper()
	want := mls.WirePublicMessage
	if p.encrypt {
		want = mls.WirePrivateMessage
	}
	_, err := decode("proposal", r.Proposal, want)
	noError(p, err)
	return r.Proposal
}

func (p *play) add(by, name string) []byte {
	p.Helper()
	return p.proposal(must(p, p.as(by).AddProposal, &mlsclientpb.AddProposalRequest{StateId: p.states[by], KeyPackage: p.keyPackage(name)}))
}

func (p *play) update(by string) []byte {
	p.Helper()
	return p.proposal(must(p, p.as(by).UpdateProposal, &mlsclientpb.UpdateProposalRequest{StateId: p.states[by]}))
}

func (p *play) remove(by, name string) []byte {
	p.Helper()
	return p.proposal(must(p, p.as(by).RemoveProposal, &mlsclientpb.RemoveProposalRequest{StateId: p.states[by], RemovedId: []byte(name)}))
}

func (p *play) externalPSK(by string, id []byte) []byte {
	p.Helper()
	return p.proposal(must(p, p.as(by).ExternalPSKProposal, &mlsclientpb.ExternalPSKProposalRequest{StateId: p.states[by], PskId: id}))
}

func (p *play) resumptionPSK(by string, epoch uint64) []byte {
	p.Helper()
	return p.proposal(must(p, p.as(by).ResumptionPSKProposal, &mlsclientpb.ResumptionPSKProposalRequest{StateId: p.states[by], EpochId: epoch}))
}

func (p *play) extensions(by string, x ...*mlsclientpb.Extension) []byte {
	p.Helper()
	return p.proposal(must(p, p.as(by).GroupContextExtensionsProposal, &mlsclientpb.GroupContextExtensionsProposalRequest{StateId: p.states[by], Extensions: x}))
}

func (p *play) proposeReInit(by string, id []byte, suite mls.CipherSuite, x ...*mlsclientpb.Extension) []byte {
	p.Helper()
	return p.proposal(must(p, p.as(by).ReInitProposal, &mlsclientpb.ReInitProposalRequest{
		StateId: p.states[by], GroupId: id, CipherSuite: uint32(suite), Extensions: x,
	}))
}

// value returns d as the only proposal by value, of the given kind.
func (p *play) value(kind string, d *mlsclientpb.ProposalDescription) []*mlsclientpb.ProposalDescription {
	d.ProposalType = []byte(kind)
	return []*mlsclientpb.ProposalDescription{d}
}

// secretOf returns the pre-shared key that the plays use under an ID.
func secretOf(id []byte) []byte { return append([]byte("the secret of "), id...) }

func (p *play) storePSK(name string, id uint32, psk []byte) {
	p.Helper()
	must(p, p.as(name).StorePSK, &mlsclientpb.StorePSKRequest{StateOrTransactionId: id, PskId: psk, PskSecret: secretOf(psk)})
}

// refuses verifies that name does not read a message, a second time perhaps.
func (p *play) refuses(name string, ciphertext []byte) {
	p.Helper()
	r, err := p.as(name).Unprotect(p.Context(), &mlsclientpb.UnprotectRequest{StateId: p.states[name], Ciphertext: ciphertext})
	if err == nil {
		p.Fatalf("%s reads %q", name, r.Plaintext)
	}
}

// hasExtensions verifies which extensions the group has, as name sees it.
func (p *play) hasExtensions(name string, want ...mls.ExtensionType) {
	p.Helper()
	r := must(p, p.as(name).GroupInfo, &mlsclientpb.GroupInfoRequest{StateId: p.states[name]})
	msg, err := decode("group_info", r.GroupInfo, mls.WireGroupInfo)
	noError(p, err)
	var got []mls.ExtensionType
	for _, x := range msg.GroupInfo.GroupContext.Extensions {
		got = append(got, x.Type)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		p.Fatalf("the group has the extensions %v; want %v", got, want)
	}
}

// externalJoin lets joiner join by what host says about the group. If it was
// a member before, its old state is of no use any more.
func (p *play) externalJoin(joiner, host string, r *mlsclientpb.ExternalJoinRequest, externalTree bool) {
	p.Helper()
	info := must(p, p.as(host).GroupInfo, &mlsclientpb.GroupInfoRequest{StateId: p.states[host], ExternalTree: externalTree})
	if (len(info.RatchetTree) > 0) != externalTree {
		p.Fatalf("a tree of %d octets beside the GroupInfo", len(info.RatchetTree))
	}
	r.GroupInfo, r.RatchetTree, r.EncryptHandshake, r.Identity = info.GroupInfo, info.RatchetTree, p.encrypt, []byte(joiner)
	joined := must(p, p.as(joiner).ExternalJoin, r)
	if _, err := decode("commit", joined.Commit, mls.WirePublicMessage); err != nil {
		p.Fatal(err)
	}
	for name, state := range p.states {
		if name == joiner {
			continue
		}
		got := must(p, p.as(name).HandleCommit, &mlsclientpb.HandleCommitRequest{StateId: state, Commit: joined.Commit})
		if !bytes.Equal(got.EpochAuthenticator, joined.EpochAuthenticator) {
			p.Fatalf("%s follows %s into another epoch", name, joiner)
		}
	}
	p.states[joiner] = joined.StateId
	p.agree()
}

// A signerHandle is an external sender: on whose server it is, its handle, and
// its place in the group's list.
type signerHandle struct {
	at    string
	id    uint32
	index uint32
}

// externalSigner makes an external sender on the server of at, which by adds
// to the group.
func (p *play) externalSigner(at, by string) signerHandle {
	p.Helper()
	r := must(p, p.as(at).CreateExternalSigner, &mlsclientpb.CreateExternalSignerRequest{CipherSuite: uint32(p.suite), Identity: []byte("sender at " + at)})
	info := must(p, p.as(by).GroupInfo, &mlsclientpb.GroupInfoRequest{StateId: p.states[by]})
	msg, err := decode("group_info", info.GroupInfo, mls.WireGroupInfo)
	noError(p, err)
	senders, err := msg.GroupInfo.GroupContext.Extensions.ExternalSenders()
	noError(p, err)
	proposal := p.proposal(must(p, p.as(by).AddExternalSigner, &mlsclientpb.AddExternalSignerRequest{StateId: p.states[by], ExternalSender: r.ExternalSender}))
	p.commit(by, commit{refs: [][]byte{proposal}})
	return signerHandle{at, r.SignerId, uint32(len(senders))}
}

// signerProposal lets an external sender propose something to the group that
// member tells it about.
func (p *play) signerProposal(s signerHandle, member, kind string, d *mlsclientpb.ProposalDescription) []byte {
	p.Helper()
	d.ProposalType = []byte(kind)
	info := must(p, p.as(member).GroupInfo, &mlsclientpb.GroupInfoRequest{StateId: p.states[member], ExternalTree: true})
	return must(p, p.as(s.at).ExternalSignerProposal, &mlsclientpb.ExternalSignerProposalRequest{
		SignerId: s.id, SignerIndex: s.index, GroupInfo: info.GroupInfo, RatchetTree: info.RatchetTree, Description: d,
	}).Proposal
}

// reInit closes the group by a commit of proposal and continues in the new
// one, of another suite.
func (p *play) reInit(proposal []byte, suite mls.CipherSuite, committer, welcomer string, externalTree bool) {
	p.Helper()
	r := must(p, p.as(committer).ReInitCommit, &mlsclientpb.CommitRequest{StateId: p.states[committer], ByReference: [][]byte{proposal}})
	closed := map[string]*mlsclientpb.HandleReInitCommitResponse{
		committer: must(p, p.as(committer).HandlePendingReInitCommit, &mlsclientpb.HandlePendingCommitRequest{StateId: p.states[committer]}),
	}
	for name, state := range p.states {
		if name != committer {
			closed[name] = must(p, p.as(name).HandleReInitCommit, &mlsclientpb.HandleCommitRequest{StateId: state, Proposal: [][]byte{proposal}, Commit: r.Commit})
		}
		if !bytes.Equal(closed[name].EpochAuthenticator, closed[committer].EpochAuthenticator) {
			p.Fatalf("%s follows %s into another last epoch", name, committer)
		}
		// The group that was closed takes no more messages.
		if _, err := p.as(name).Protect(p.Context(), &mlsclientpb.ProtectRequest{StateId: state}); err == nil {
			p.Fatalf("%s speaks in a group that was closed", name)
		}
	}
	var kps [][]byte
	for name, c := range closed {
		if name != welcomer {
			kps = append(kps, c.KeyPackage)
		}
	}
	made := must(p, p.as(welcomer).ReInitWelcome, &mlsclientpb.ReInitWelcomeRequest{
		ReinitId: closed[welcomer].ReinitId, KeyPackage: kps, ForcePath: externalTree, ExternalTree: externalTree,
	})
	if (len(made.RatchetTree) > 0) != externalTree {
		p.Fatalf("a tree of %d octets beside the Welcome", len(made.RatchetTree))
	}
	for name, c := range closed {
		if name == welcomer {
			p.states[name] = made.StateId
			continue
		}
		got := must(p, p.as(name).HandleReInitWelcome, &mlsclientpb.HandleReInitWelcomeRequest{ReinitId: c.ReinitId, Welcome: made.Welcome, RatchetTree: made.RatchetTree})
		if !bytes.Equal(got.EpochAuthenticator, made.EpochAuthenticator) {
			p.Fatalf("%s joins another new group than that of %s", name, welcomer)
		}
		p.states[name] = got.StateId
	}
	p.suite = suite
	p.agree()
}

// branch lets by make a subgroup with the others and goes on in it. The group
// that it comes from goes on, too.
func (p *play) branch(by string, externalTree bool, x []*mlsclientpb.Extension, others ...string) {
	p.Helper()
	r := &mlsclientpb.CreateBranchRequest{StateId: p.states[by], GroupId: []byte("a branch of " + p.Name()), Extensions: x, ForcePath: !externalTree, ExternalTree: externalTree}
	for _, name := range others {
		r.KeyPackages = append(r.KeyPackages, p.keyPackage(name))
	}
	made := must(p, p.as(by).CreateBranch, r)
	if (len(made.RatchetTree) > 0) != externalTree {
		p.Fatalf("a tree of %d octets beside the Welcome", len(made.RatchetTree))
	}
	branched := map[string]uint32{by: made.StateId}
	for _, name := range others {
		got := must(p, p.as(name).HandleBranch, &mlsclientpb.HandleBranchRequest{
			StateId: p.states[name], TransactionId: p.waiting[name], Welcome: made.Welcome, RatchetTree: made.RatchetTree,
		})
		if !bytes.Equal(got.EpochAuthenticator, made.EpochAuthenticator) {
			p.Fatalf("%s joins another branch than that of %s", name, by)
		}
		branched[name] = got.StateId
		delete(p.waiting, name)
	}
	p.commit(by, commit{})
	p.states = branched
	p.agree()
}
