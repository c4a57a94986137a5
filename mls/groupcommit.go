package mls

import (
	"fmt"
	"maps"
	"slices"
)

// stagedPrivate is what a Group keeps with a StagedCommit for the new epoch.
type stagedPrivate struct {
	own     LeafIndex
	secrets *epochSecrets // nil if the commit removes the local member
	keys    treeKeys
	signer  Signer                // for the new epoch; nil: unchanged
	use     *keyUse               // key of the encrypted message that brought the commit
	content *AuthenticatedContent // of an own commit that is encrypted
}

// CommitOptions says what a commit holds besides the pending proposals.
type CommitOptions struct {
	Proposals   []Proposal    // by value
	SkipPending bool          // leave the pending proposals out
	Only        []ProposalRef // of the pending proposals take these; nil: all
	ForcePath   bool          // include a path even if none is needed
	Leaf        *LeafParams   // changes to the own leaf; implies a path
	AAD         []byte
	OmitTree    bool // the Welcome carries no ratchet_tree: the hub provides it

	// TreeInGroupInfo puts a ratchet_tree into StagedCommit.GroupInfo.
	TreeInGroupInfo bool
}

// Commit makes a commit of the pending and the given proposals, with a
// Welcome for those that it adds and a GroupInfo of the new epoch. The group
// stays as it is: pass the result to Merge once the hub accepted the commit,
// or to Discard. A crash in between is survived by SealStaged. If
// Config.HandshakeFormat makes the commit an encrypted one, its key is used
// up, whether the commit is sent or not: store Records before sending it.
//
// Pending proposals that the local member cannot commit, or that others
// supersede, are left out: its own Update and SelfRemove, a Remove of a leaf
// that leaves by SelfRemove, an Update of a leaf that leaves, and all that a
// member proposed of which a proposal is spoilt.
func (g *Group) Commit(o CommitOptions) (*StagedCommit, error) {
	if err := g.open(); err != nil {
		return nil, err
	}
	aad, err := g.ownAAD(o.AAD)
	if err != nil {
		return nil, err
	}
	sender := MemberSender(g.own)
	var props []QueuedProposal
	if !o.SkipPending {
		pending, err := o.selected(g.pending.all())
		if err != nil {
			return nil, err
		}
		props = committable(pending, g.own)
	}
	props = appendByValue(props, o.Proposals, sender)
	for i := range props {
		props[i].founding = g.founding != nil
		// Whoever sends a leaf checks its lifetime, even if it follows others
		// without (RFC 9420 section 7.3).
		if a := props[i].Proposal.Add; a != nil {
			if err := g.cfg.checkLifetime(a.KeyPackage.LeafNode.Lifetime); err != nil {
				return nil, err
			}
		}
	}
	p, err := g.state.stageProposals(g.cfg, props, sender)
	if err != nil {
		return nil, err
	}
	psks, err := g.resolvePSKs(p.psks)
	if err != nil {
		return nil, err
	}
	defer wipePSKs(psks)
	b := &commitBuilder{
		provisional: p, sender: sender, aad: aad, framing: g.signer, signer: g.signer,
		initSecret: g.epoch.init, psks: psks, omitTree: o.OmitTree, treeInInfo: o.TreeInGroupInfo,
		format: g.cfg.HandshakeFormat, protect: g.protect,
	}
	keys := g.keys.prune(p.tree)
	if p.needsPath || o.ForcePath || o.Leaf != nil {
		var leaf *LeafNode
		leaf, b.signer = g.template(o.Leaf)
		if b.path, err = p.createPath(leaf, b.signer); err != nil {
			return nil, err
		}
		defer b.path.wipe()
		keys = g.keys.prune(p.tree)
		for x, k := range b.path.keys {
			keys[x] = k
		}
	} else if err := p.applyPath(nil); err != nil {
		return nil, err
	}
	sc, secrets, err := b.build()
	if err != nil {
		return nil, err
	}
	sc.private = &stagedPrivate{own: g.own, secrets: secrets, keys: keys}
	if sc.Message.PublicMessage == nil {
		sc.private.content = b.content
	}
	if o.Leaf != nil && o.Leaf.Signer != nil {
		sc.private.signer = b.signer
	}
	return sc, nil
}

// committable returns the pending proposals that member own can put into one
// commit (RFC 9420 section 12.2, mls-extensions section 6.3).
func committable(pending []QueuedProposal, own LeafIndex) []QueuedProposal {
	// Who verifies membership tags may have refused what is spoilt, and with it
	// all that belongs to it.
	spoilt := make(map[Sender]bool)
	for i := range pending {
		if pending[i].Spoilt {
			spoilt[pending[i].Sender] = true
		}
	}
	pending = slices.DeleteFunc(slices.Clone(pending), func(q QueuedProposal) bool { return spoilt[q.Sender] })
	leaving := make(map[LeafIndex]ProposalType)
	updates := make(map[LeafIndex]int)
	for i := range pending {
		q := &pending[i]
		switch q.Proposal.Type {
		case ProposalSelfRemove:
			leaving[q.Sender.Leaf] = ProposalSelfRemove
		case ProposalRemove:
			if _, ok := leaving[q.Proposal.Remove.Removed]; !ok {
				leaving[q.Proposal.Remove.Removed] = ProposalRemove
			}
		case ProposalUpdate:
			updates[q.Sender.Leaf] = i // the last one counts
		}
	}
	done := make(map[LeafIndex]bool)
	extensions := false
	var out []QueuedProposal
	for i := range pending {
		q := &pending[i]
		keep := true
		switch q.Proposal.Type {
		case ProposalSelfRemove:
			keep = q.Sender.Leaf != own && !done[q.Sender.Leaf]
			done[q.Sender.Leaf] = true
		case ProposalRemove:
			l := q.Proposal.Remove.Removed
			keep = l != own && leaving[l] == ProposalRemove && !done[l]
			done[l] = done[l] || keep // a SelfRemove may follow
		case ProposalUpdate:
			_, gone := leaving[q.Sender.Leaf]
			keep = q.Sender.Leaf != own && !gone && updates[q.Sender.Leaf] == i
		case ProposalGroupContextExtensions:
			keep, extensions = !extensions, true
		case ProposalReInit:
			keep = len(pending) == 1
		}
		if keep {
			out = append(out, *q)
		}
	}
	return out
}

// appendByValue adds proposals by value; a Remove of a leaf that a pending
// proposal removes is not repeated, and supersedes a pending Update.
func appendByValue(props []QueuedProposal, values []Proposal, sender Sender) []QueuedProposal {
	for _, v := range values {
		if v.Type == ProposalRemove && v.Remove != nil {
			l := v.Remove.Removed
			if slices.ContainsFunc(props, func(q QueuedProposal) bool {
				return q.Proposal.Type == ProposalRemove && q.Proposal.Remove.Removed == l ||
					q.Proposal.Type == ProposalSelfRemove && q.Sender.Leaf == l
			}) {
				continue
			}
			props = slices.DeleteFunc(props, func(q QueuedProposal) bool {
				return q.Proposal.Type == ProposalUpdate && q.Sender.Leaf == l
			})
		}
		props = append(props, QueuedProposal{Proposal: v, Sender: sender})
	}
	return props
}

// commitBuilder turns a provisional epoch into a commit.
type commitBuilder struct {
	*provisional
	sender     Sender
	aad        []byte
	framing    Signer // signs the commit
	signer     Signer // of the new leaf; signs the GroupInfo
	path       *createdPath
	initSecret []byte
	psks       []pskInput
	omitTree   bool
	treeInInfo bool

	format  WireFormat
	protect func(a *AuthenticatedContent) (*MLSMessage, error)

	content *AuthenticatedContent // set by build
}

// build signs the commit and derives the new epoch.
func (b *commitBuilder) build() (*StagedCommit, *epochSecrets, error) {
	s, before := b.tree.suite, b.before
	commit := &Commit{Proposals: make([]ProposalOrRef, len(b.proposals))}
	for i := range b.proposals {
		if q := &b.proposals[i]; q.Ref != nil {
			commit.Proposals[i].Reference = q.Ref
		} else {
			commit.Proposals[i].Proposal = &q.Proposal
		}
	}
	commitSecret := make([]byte, s.nh())
	if b.path != nil {
		commit.Path = b.path.path
		commitSecret = b.path.commitSecret
	}
	defer wipe(commitSecret)
	a := &AuthenticatedContent{
		WireFormat: b.format,
		Content: FramedContent{
			GroupID:           before.GroupID(),
			Epoch:             before.Epoch(),
			Sender:            b.sender,
			AuthenticatedData: b.aad,
			ContentType:       ContentCommit,
			Commit:            commit,
		},
	}
	if err := a.sign(b.framing, before.contextBytes()); err != nil {
		return nil, nil, err
	}
	joiner, psk, secrets, err := b.derive(a, b.initSecret, commitSecret, b.psks)
	defer wipe(joiner, psk)
	if err != nil {
		return nil, nil, err
	}
	tag := s.confirmationTag(secrets.confirmation, b.context.ConfirmedTranscriptHash)
	a.Auth.ConfirmationTag = tag
	after, err := b.finish(tag)
	if err != nil {
		return nil, nil, err
	}
	sc := b.staged(after, b.aad)
	if sc.GroupInfo, err = b.groupInfo(after, secrets, b.treeInInfo); err != nil {
		return nil, nil, err
	}
	if len(b.added) > 0 {
		if sc.Welcome, err = b.welcome(after, sc.GroupInfo, secrets, joiner, psk); err != nil {
			return nil, nil, err
		}
	}
	b.content = a
	sc.Message, err = b.protect(a)
	return sc, secrets, err
}

// groupInfo signs a GroupInfo of the new epoch, with or without the tree.
func (b *commitBuilder) groupInfo(after *State, secrets *epochSecrets, withTree bool) (*GroupInfo, error) {
	var tree RatchetTree
	if withTree {
		tree = after.RatchetTree()
	}
	return newGroupInfo(b.tree.suite, b.signer, b.committer, after, secrets.external, tree)
}

// derive runs the key schedule for the epoch that a begins. The caller wipes
// what it returns.
func (p *provisional) derive(a *AuthenticatedContent, initSecret, commitSecret []byte, psks []pskInput) (joiner, psk []byte, secrets *epochSecrets, err error) {
	s := p.tree.suite
	confirmed, err := s.confirmedTranscriptHash(p.before.interim, a)
	if err != nil {
		return nil, nil, nil, err
	}
	context, err := p.confirm(confirmed)
	if err != nil {
		return nil, nil, nil, err
	}
	if psk, err = s.pskSecret(psks); err != nil {
		return nil, nil, nil, err
	}
	if joiner, err = s.joinerSecret(initSecret, commitSecret, context); err != nil {
		return nil, nil, nil, err
	}
	secrets, err = s.epochFromJoiner(joiner, psk, context)
	return joiner, psk, secrets, err
}

// welcome encrypts the new epoch's secrets to the added members (RFC 9420
// section 12.4.3.1).
func (b *commitBuilder) welcome(after *State, gi *GroupInfo, secrets *epochSecrets, joiner, psk []byte) (*Welcome, error) {
	s := b.tree.suite
	if b.omitTree == b.treeInInfo {
		var err error
		if gi, err = b.groupInfo(after, secrets, !b.omitTree); err != nil {
			return nil, err
		}
	}
	welcomeSecret, err := s.welcomeSecret(joiner, psk)
	if err != nil {
		return nil, err
	}
	defer wipe(welcomeSecret)
	w := &Welcome{CipherSuite: s.id, Secrets: make([]EncryptedGroupSecrets, len(b.added))}
	if w.EncryptedGroupInfo, err = s.sealGroupInfo(welcomeSecret, gi); err != nil {
		return nil, err
	}
	var packages []*KeyPackage
	for i := range b.proposals {
		if a := b.proposals[i].Proposal.Add; a != nil {
			packages = append(packages, &a.KeyPackage)
		}
	}
	info, err := labelled(welcomeLabel, w.EncryptedGroupInfo)
	if err != nil {
		return nil, err
	}
	sealer := s.newSealer(info)
	err = parallel(len(packages), func(i int) error {
		ref, err := packages[i].Ref()
		if err != nil {
			return err
		}
		gs := GroupSecrets{JoinerSecret: joiner}
		for j := range b.psks {
			gs.PSKs = append(gs.PSKs, b.psks[j].id)
		}
		if b.path != nil {
			gs.PathSecret, _ = b.path.secretFor(b.added[i])
		}
		pt, err := Marshal(&gs)
		if err != nil {
			return err
		}
		defer wipe(pt)
		ct, err := sealer.seal(packages[i].InitKey, pt)
		w.Secrets[i] = EncryptedGroupSecrets{NewMember: ref, EncryptedGroupSecrets: ct}
		return err
	})
	return w, err
}

// StageCommit verifies a commit of this epoch completely and derives the
// epoch that it begins. Nothing changes, whatever comes out; Merge puts it
// into effect. A commit that was made here is merged from the result of
// Commit instead: nobody can process their own path.
func (g *Group) StageCommit(m *MLSMessage) (*StagedCommit, error) {
	a, use, err := g.openHandshake(m)
	if err != nil {
		return nil, err
	}
	sc, err := g.stage(a)
	if err != nil {
		if use != nil {
			use.discard()
		}
		return nil, err
	}
	sc.private.use = use
	sc.Message = m
	return sc, nil
}

func (g *Group) stage(a *AuthenticatedContent) (*StagedCommit, error) {
	c := &a.Content
	if c.ContentType != ContentCommit {
		return nil, fmt.Errorf("%w: not a commit", ErrInvalidMessage)
	}
	if c.Sender.Type == SenderMember && c.Sender.Leaf == g.own {
		return nil, fmt.Errorf("%w: own commit: merge what Commit returned", ErrInvalidCommit)
	}
	props, err := resolveProposals(c.Commit, c.Sender, &g.pending)
	if err != nil {
		return nil, err
	}
	p, err := g.state.stageProposals(g.cfg, props, c.Sender)
	if err != nil {
		return nil, err
	}
	if err := p.applyPath(c.Commit.Path); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(p.removed, func(r RemovedLeaf) bool { return r.Index == g.own }) {
		return g.stageOwnRemoval(p, a)
	}
	psks, err := g.resolvePSKs(p.psks)
	if err != nil {
		return nil, err
	}
	defer wipePSKs(psks)
	old := g.keysFor(p)
	commitSecret, keys := make([]byte, g.suite.nh()), old
	if c.Commit.Path != nil {
		if commitSecret, keys, err = p.decryptPath(c.Commit.Path, g.own, old); err != nil {
			return nil, err
		}
	} else {
		keys = old.prune(p.tree)
	}
	defer wipe(commitSecret)
	staged := false
	defer func() {
		if !staged {
			keys.wipeBut(old)
		}
	}()
	initSecret := g.epoch.init
	if p.externalInit != nil {
		private, _, err := g.suite.deriveKeyPair(g.epoch.external)
		if err != nil {
			return nil, err
		}
		defer wipe(private)
		if initSecret, err = g.suite.externalInitReceive(private, p.externalInit.KEMOutput); err != nil {
			return nil, err
		}
		defer wipe(initSecret)
	}
	joiner, psk, secrets, err := p.derive(a, initSecret, commitSecret, psks)
	wipe(joiner, psk)
	if err != nil {
		return nil, err
	}
	if !macEqual(g.suite.confirmationTag(secrets.confirmation, p.context.ConfirmedTranscriptHash), a.Auth.ConfirmationTag) {
		secrets.wipe()
		return nil, fmt.Errorf("%w: confirmation tag does not verify", ErrInvalidCommit)
	}
	after, err := p.finish(a.Auth.ConfirmationTag)
	if err != nil {
		secrets.wipe()
		return nil, err
	}
	sc := p.staged(after, c.AuthenticatedData)
	sc.private = &stagedPrivate{own: g.own, secrets: secrets, keys: keys}
	staged = true
	return sc, nil
}

// stageOwnRemoval finishes a commit that removes the local member, who
// cannot know the new epoch's secrets.
func (g *Group) stageOwnRemoval(p *provisional, a *AuthenticatedContent) (*StagedCommit, error) {
	sc, err := g.publicOutcome(p, a)
	if err != nil {
		return nil, err
	}
	sc.SelfRemoved = true
	sc.private = &stagedPrivate{own: g.own}
	return sc, nil
}

// keysFor returns the private keys as of p's tree before its path: with the
// key of the own Update if p applies it.
func (g *Group) keysFor(p *provisional) treeKeys {
	if !slices.Contains(p.updated, g.own) {
		return g.keys
	}
	for i := range p.proposals {
		q := &p.proposals[i]
		if q.Proposal.Type == ProposalUpdate && q.Sender == MemberSender(g.own) {
			// The Update blanked the own path.
			return treeKeys{leafPosition(g.own): g.updates[string(q.Proposal.Update.LeafNode.EncryptionKey)]}
		}
	}
	return g.keys
}

// Merge puts a staged commit into effect. Secrets of the old epoch are
// destroyed, except what late messages need. It fails, changing nothing, if
// the commit was not staged from the current epoch of this group.
func (g *Group) Merge(sc *StagedCommit) error {
	if err := g.usable(); err != nil {
		return err
	}
	if sc.private == nil {
		return fmt.Errorf("%w: not staged by this group", ErrInvalidCommit)
	}
	if sc.Before != g.state {
		return fmt.Errorf("%w: the commit was staged in epoch %d, the group is in epoch %d", ErrWrongEpoch, sc.Before.Epoch(), g.state.Epoch())
	}
	p := sc.private
	sc.private = nil
	if p.use != nil {
		p.use.consume(g.cfg.Limits.MaxSkip)
	}
	if sc.SelfRemoved {
		g.destroy()
		g.state = sc.After
		return nil
	}
	g.retire(sc)
	g.keys.wipeBut(p.keys)
	for _, k := range g.updates {
		treeKeys{leafPosition(p.own): k}.wipeBut(p.keys)
	}
	if p.signer != nil {
		g.signer = p.signer
	}
	g.enter(sc.After, p.own, p.secrets, p.keys)
	return nil
}

// Discard destroys the secrets of a staged commit that will not be merged: it
// was refused, or another one won. It does nothing to one that was merged or
// discarded before.
func (g *Group) Discard(sc *StagedCommit) {
	p := sc.private
	sc.private = nil
	if p == nil {
		return
	}
	if p.use != nil {
		p.use.discard()
	}
	p.secrets.wipe()
	kept := maps.Clone(g.keys) // a staged commit shares what it did not change
	if own, ok := p.keys[leafPosition(p.own)]; ok {
		for _, k := range g.updates {
			if len(own) > 0 && len(k) > 0 && &own[0] == &k[0] {
				if kept == nil {
					kept = make(treeKeys)
				}
				kept[leafPosition(p.own)] = k
			}
		}
	}
	p.keys.wipeBut(kept)
}

// retire keeps of the current epoch what late application messages need.
func (g *Group) retire(sc *StagedCommit) {
	e := g.epoch
	wipe(e.exporter, e.external, e.membership, e.authenticator, e.init)
	g.exports.wipe()
	if g.cfg.Limits.PastEpochs == 0 {
		g.forget(sc.Before.Epoch(), g.tree)
		e.wipe()
		g.tree.wipe()
		return
	}
	g.tree.dropHandshake()
	past := &pastEpoch{
		epoch:      sc.Before.Epoch(),
		context:    sc.Before.contextBytes(),
		safeAAD:    sc.Before.usesSafeAAD(),
		senderData: e.senderData,
		resumption: e.resumption,
		tree:       g.tree,
		changed:    make(map[LeafIndex]*LeafNode),
	}
	note := func(l LeafIndex) {
		old, _ := sc.Before.Member(l)
		past.changed[l] = old
	}
	for _, l := range sc.Added {
		note(l)
	}
	for _, r := range sc.Removed {
		note(r.Index)
	}
	for _, l := range sc.Updated {
		note(l)
	}
	note(sc.Committer)
	g.past = append(g.past, past)
	for len(g.past) > g.cfg.Limits.PastEpochs {
		g.forget(g.past[0].epoch, g.past[0].tree)
		g.past[0].wipe()
		g.past = g.past[1:]
	}
}

// destroy wipes all secrets: the local client is no member any more.
func (g *Group) destroy() {
	g.closed = true
	g.forget(g.state.Epoch(), g.tree)
	for _, p := range g.past {
		g.forget(p.epoch, p.tree)
	}
	g.epoch.wipe()
	g.tree.wipe()
	g.exports.wipe()
	for _, p := range g.past {
		p.wipe()
	}
	for _, k := range g.keys {
		wipe(k)
	}
	for _, k := range g.updates {
		wipe(k)
	}
	g.epoch, g.tree, g.exports, g.past, g.keys, g.updates = nil, nil, nil, nil, nil, nil
	g.pending = proposalCache{}
}
