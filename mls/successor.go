package mls

import (
	"bytes"
	"fmt"
	"time"
)

// ReInitProposal proposes to continue in a new group (RFC 9420
// section 12.1.5). A commit of it, and of nothing else, closes the group;
// [Group.Reinitialize] then creates the new one.
func ReInitProposal(r ReInit) Proposal { return Proposal{Type: ProposalReInit, ReInit: &r} }

// SuccessorParams describes a group that continues another, or branches off
// from it, and the local member's leaf in it. Signers, credentials and
// capabilities may differ from those in the old group: who is who is decided
// by CredentialVerifier.VerifySuccessor.
type SuccessorParams struct {
	Signer         Signer
	Credential     Credential
	Capabilities   Capabilities // zero: DefaultCapabilities, with GREASE
	LeafExtensions Extensions
	Lifetime       time.Duration // of the creator's leaf; zero: 90 days

	// KeyPackages are new ones of the other members, one of each that is to
	// be a member of the new group.
	KeyPackages []*KeyPackage
	// OmitTree leaves the ratchet_tree out of the Welcome.
	OmitTree bool
	// ForcePath includes a path in the first commit, which needs none.
	ForcePath bool

	// GroupID and Extensions are those of a branch; a ReInit fixes its own.
	GroupID    []byte // nil: random
	Extensions Extensions
}

// Reinitialize creates the group that continues this one, which a ReInit
// closed (RFC 9420 section 11.2). Version, suite, ID and extensions are those
// of the ReInit, and all members of this group are members of the new one:
// KeyPackages holds one key package of each of them but the local member.
//
// The new group is in epoch 1 already, and what it sends to the others is the
// Welcome in the StagedCommit. Any member may do this; if several do, the
// application decides whose Welcome counts. Keep this group until then. The
// new group has the same Config.
func (g *Group) Reinitialize(p SuccessorParams) (*Group, *StagedCommit, error) {
	l, err := g.reinitLink()
	if err != nil {
		return nil, nil, err
	}
	ri := l.reInit
	if p.GroupID != nil || p.Extensions != nil {
		return nil, nil, fmt.Errorf("%w: ID and extensions of the new group are those of the ReInit", ErrInvalidProposal)
	}
	if ri.Version != MLS10 {
		return nil, nil, fmt.Errorf("%w: the ReInit asks for protocol version %v, which this program does not have", ErrInvalidProposal, ri.Version)
	}
	p.GroupID, p.Extensions = append([]byte{}, ri.GroupID...), ri.Extensions
	return g.succeed(l, ri.CipherSuite, p)
}

// Branch creates a subgroup of this group, with the same version and suite
// (RFC 9420 section 11.3). KeyPackages holds one key package of each member of
// this group, but the local one, that is to be in it.
//
// The new group is in epoch 1 already, and what it sends to the others is the
// Welcome in the StagedCommit. This group does not change. The new group has
// the same Config.
func (g *Group) Branch(p SuccessorParams) (*Group, *StagedCommit, error) {
	if err := g.open(); err != nil {
		return nil, nil, err
	}
	if bytes.Equal(p.GroupID, g.state.GroupID()) {
		return nil, nil, fmt.Errorf("%w: the branch has the ID of this group", ErrWrongGroup)
	}
	return g.succeed(g.branchLink(), g.suite.id, p)
}

// JoinReinitialized joins the group that continues this one by the Welcome
// for kp. It verifies that the group is the one that the ReInit described:
// epoch 1, the same ID, version, suite and extensions, all members of this
// group and nobody else, and the resumption key of this epoch (RFC 9420
// sections 11.2 and 12.4.3.1). The parameters are those of [JoinWelcome]; the
// Config is that of this group, which the caller may drop afterwards.
func (g *Group) JoinReinitialized(w *Welcome, tree RatchetTree, kp *KeyPackage, priv *KeyPackagePrivate, signer Signer) (*Group, error) {
	l, err := g.reinitLink()
	if err != nil {
		return nil, err
	}
	return joinWelcome(g.cfg, w, tree, kp, priv, signer, l)
}

// JoinBranch joins a subgroup of this group by the Welcome for kp. It verifies
// that the subgroup branched off from this epoch or one of the past ones that
// are kept (Limits.PastEpochs): epoch 1, the same version and suite, members
// of that epoch only, and its resumption key (RFC 9420 sections 11.3 and
// 12.4.3.1). The parameters are those of [JoinWelcome]; the Config is that of
// this group.
func (g *Group) JoinBranch(w *Welcome, tree RatchetTree, kp *KeyPackage, priv *KeyPackagePrivate, signer Signer) (*Group, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	return joinWelcome(g.cfg, w, tree, kp, priv, signer, g.branchLink())
}

// A link ties a new group to the one it comes from, by a resumption key.
type link struct {
	parent *Group
	usage  ResumptionPSKUsage
	epoch  Epoch   // of parent; of a branch to be joined, set by check
	reInit *ReInit // of ResumptionReInit
}

func (g *Group) reinitLink() (*link, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	ri := g.state.ReInit()
	if ri == nil {
		return nil, fmt.Errorf("%w: no ReInit closed this group", ErrInvalidCommit)
	}
	return &link{parent: g, usage: ResumptionReInit, epoch: g.state.Epoch(), reInit: ri}, nil
}

func (g *Group) branchLink() *link {
	return &link{parent: g, usage: ResumptionBranch, epoch: g.state.Epoch()}
}

// succeed creates the new group and adds all others in one commit, the only
// one in which the link's resumption key may occur. Nobody but the creator
// ever sees epoch 0.
func (g *Group) succeed(l *link, suite CipherSuite, p SuccessorParams) (*Group, *StagedCommit, error) {
	n, err := CreateGroup(*g.cfg, GroupParams{
		CipherSuite: suite, GroupID: p.GroupID, Signer: p.Signer, Credential: p.Credential, Capabilities: p.Capabilities,
		LeafExtensions: p.LeafExtensions, Extensions: p.Extensions, Lifetime: p.Lifetime,
	})
	if err != nil {
		return nil, nil, err
	}
	own, _ := n.state.Member(n.own)
	leaves := []*LeafNode{own}
	var o CommitOptions
	for _, kp := range p.KeyPackages {
		leaves = append(leaves, &kp.LeafNode)
		o.Proposals = append(o.Proposals, AddProposal(kp))
	}
	if err := l.checkMembers(leaves); err != nil {
		return nil, nil, err
	}
	nonce, err := NewPSKNonce(suite)
	if err != nil {
		return nil, nil, err
	}
	id := PreSharedKeyID{Type: PSKResumption, Usage: l.usage, GroupID: g.state.GroupID(), Epoch: l.epoch, Nonce: nonce}
	o.Proposals = append(o.Proposals, PreSharedKeyProposal(id))
	o.OmitTree, o.ForcePath = p.OmitTree, p.ForcePath
	n.founding = l
	sc, err := n.Commit(o)
	if err == nil {
		err = n.Merge(sc)
	}
	n.founding = nil
	if err != nil {
		n.destroy()
		return nil, nil, err
	}
	for _, p := range n.past {
		p.wipe() // nobody else was in epoch 0
	}
	n.past = nil
	return n, sc, nil
}

// psk returns the resumption key of the link.
func (l *link) psk(id *PreSharedKeyID) ([]byte, error) {
	if l == nil {
		return nil, fmt.Errorf("%w: a resumption key of usage %d ties a new group to another one only", ErrPSK, id.Usage)
	}
	if !bytes.Equal(id.GroupID, l.parent.state.GroupID()) {
		return nil, fmt.Errorf("%w: resumption key of another group", ErrPSK)
	}
	if e := l.parent.state.Epoch(); l.usage == ResumptionReInit && id.Epoch != e {
		return nil, fmt.Errorf("%w: resumption key of epoch %d; the ReInit began epoch %d", ErrPSK, id.Epoch, e)
	}
	return l.parent.resumptionPSK(id.Epoch)
}

// find returns the resumption key of the link among the keys of a Welcome,
// which must hold exactly one with the link's usage and none with the other
// (RFC 9420 section 12.4.3.1), and notes its epoch.
func (l *link) find(ids []PreSharedKeyID) error {
	found := 0
	for i := range ids {
		if ids[i].isLink() {
			if found++; ids[i].Usage != l.usage || found > 1 {
				return fmt.Errorf("%w: want one resumption key of usage %d, and no other", ErrInvalidWelcome, l.usage)
			}
			l.epoch = ids[i].Epoch
		}
	}
	if found == 0 {
		return fmt.Errorf("%w: no resumption key ties the group to the one it comes from", ErrInvalidWelcome)
	}
	return nil
}

// isLink reports whether id ties a new group to another one.
func (id *PreSharedKeyID) isLink() bool {
	return id.Type == PSKResumption && id.Usage != ResumptionApplication
}

// check verifies the first epoch of the new group as one who joins sees it.
func (l *link) check(st *State) error {
	c, parent := &st.context, &l.parent.state.context
	if c.Epoch != 1 {
		return fmt.Errorf("%w: a group that comes from another begins in epoch 1, not %d", ErrInvalidWelcome, c.Epoch)
	}
	if ri := l.reInit; ri != nil {
		switch {
		case !bytes.Equal(c.GroupID, ri.GroupID):
			return fmt.Errorf("%w: the group's ID is not that of the ReInit", ErrInvalidWelcome)
		case c.Version != ri.Version || c.CipherSuite != ri.CipherSuite:
			return fmt.Errorf("%w: version %v and suite %v; the ReInit has %v and %v", ErrInvalidWelcome, c.Version, c.CipherSuite, ri.Version, ri.CipherSuite)
		case !bytes.Equal(mustMarshalExtensions(c.Extensions), mustMarshalExtensions(ri.Extensions)):
			return fmt.Errorf("%w: the group's extensions are not those of the ReInit", ErrInvalidWelcome)
		}
	} else {
		switch {
		case bytes.Equal(c.GroupID, parent.GroupID):
			return fmt.Errorf("%w: the branch has the ID of the group it comes from", ErrInvalidWelcome)
		case c.Version != parent.Version || c.CipherSuite != parent.CipherSuite:
			return fmt.Errorf("%w: version %v and suite %v; the group it comes from has %v and %v", ErrInvalidWelcome, c.Version, c.CipherSuite, parent.Version, parent.CipherSuite)
		}
	}
	var leaves []*LeafNode
	for _, leaf := range st.Members() {
		leaves = append(leaves, leaf)
	}
	if err := l.checkMembers(leaves); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidWelcome, err)
	}
	return nil
}

// checkMembers verifies that every leaf stands for another member of the
// parent in the link's epoch and, for a ReInit, that none is missing.
func (l *link) checkMembers(leaves []*LeafNode) error {
	v, err := l.parent.view(l.epoch)
	if err != nil {
		return err
	}
	var old []*LeafNode
	for i := range LeafIndex(1) << v.tree.depth {
		if leaf := v.member(i); leaf != nil {
			old = append(old, leaf)
		}
	}
	if l.reInit != nil && len(leaves) != len(old) {
		return fmt.Errorf("%w: %d members; the group that was closed has %d, and all of them continue", ErrInvalidCommit, len(leaves), len(old))
	}
	if len(leaves) > len(old) {
		return fmt.Errorf("%w: %d members; the group it comes from has %d", ErrInvalidCommit, len(leaves), len(old))
	}
	// In most groups credentials are kept, or members come in their old order,
	// so that the first guess is right: one call for each member.
	byCredential := make(map[string][]int, len(old))
	for i, leaf := range old {
		key := string(mustMarshal(leaf.Credential))
		byCredential[key] = append(byCredential[key], i)
	}
	taken := make([]bool, len(old))
	next := 0
	for n, leaf := range leaves {
		match, reason := -1, error(nil)
		try := func(i int) bool {
			if taken[i] {
				return false
			}
			if reason = l.parent.cfg.verifySuccessor(old[i], leaf); reason != nil {
				return false
			}
			match = i
			return true
		}
		for _, i := range byCredential[string(mustMarshal(leaf.Credential))] {
			if try(i) {
				break
			}
		}
		for k := 0; match < 0 && k < len(old); k++ {
			if i := (next + k) % len(old); try(i) {
				break
			}
		}
		if match < 0 {
			return fmt.Errorf("%w: %w: member %d of the new group is no member of the one it comes from: %w", ErrInvalidCommit, ErrUnknownSender, n, l.noMatch(reason))
		}
		taken[match] = true
		next = (match + 1) % len(old)
	}
	return nil
}

// noMatch returns the reason of the verifier, if it gave one.
func (l *link) noMatch(reason error) error {
	if reason == nil {
		return fmt.Errorf("%w: every member is there already", ErrCredential)
	}
	return reason
}
