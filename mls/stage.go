package mls

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
)

// A StagedCommit is a verified commit that has not taken effect: everything
// that a policy wants to see before it is merged. It belongs to the group that
// staged it.
type StagedCommit struct {
	Before, After *State

	Sender    Sender    // a member of Before, or new_member_commit
	Committer LeafIndex // of After
	External  bool      // the sender was no member: it joined by this commit

	Proposals []QueuedProposal // in commit order
	Added     []LeafIndex      // of After, with the sender of an external commit
	Removed   []RemovedLeaf    // by Remove or SelfRemove
	Updated   []LeafIndex      // by Update proposals; the committer's own path is not listed

	HasPath     bool   // the commit holds an UpdatePath
	SelfRemoved bool   // the local member is removed by it (Group only)
	AAD         []byte // authenticated_data of the commit

	// Set on commits that were made here.
	Message   *MLSMessage
	Welcome   *Welcome
	GroupInfo *GroupInfo

	private *stagedPrivate  // what a Group keeps for the new epoch
	info    *groupInfoParts // what a PublicGroup keeps of the new epoch's GroupInfo
}

// A RemovedLeaf is a member of Before that is not one of After.
type RemovedLeaf struct {
	Index LeafIndex
	Leaf  *LeafNode
}

// A provisional is a commit in the making: the next epoch's tree and
// GroupContext, as far as they are known. It is built in this order, each
// step verifying its part:
//
//	p, err := state.stageProposals(cfg, proposals, sender)
//	err = p.applyPath(path)        // or p.createPath(…) to make one
//	context, err := p.confirm(confirmedTranscriptHash)
//	after := p.finish(confirmationTag)
//
// The State it comes from is never changed, and nothing is kept if a step
// fails.
type provisional struct {
	cfg    *Config
	before *State

	sender    Sender
	external  bool
	committer LeafIndex // in the new tree; of an external commit known after applyPath

	proposals []QueuedProposal
	added     []LeafIndex // by Add proposals, increasing
	removed   []RemovedLeaf
	updated   []LeafIndex
	replaced  *LeafNode // old leaf that the sender of an external commit removes

	psks         []PreSharedKeyID // in order
	externalInit *ExternalInit
	reInit       *ReInit
	needsPath    bool
	hasPath      bool

	tree    *tree        // frozen once applyPath is through
	context GroupContext // of the new epoch; the confirmed transcript hash is set by confirm
	encoded []byte       // of context, by confirm
	params  groupParams
}

// resolveProposals returns the proposals of a commit in order, each with its
// sender; references are looked up among the pending ones.
func resolveProposals(c *Commit, sender Sender, pending *proposalCache) ([]QueuedProposal, error) {
	props := make([]QueuedProposal, 0, len(c.Proposals))
	seen := make(map[string]bool)
	for i := range c.Proposals {
		p := &c.Proposals[i]
		if p.Proposal != nil {
			props = append(props, QueuedProposal{Proposal: *p.Proposal, Sender: sender})
			continue
		}
		q, ok := pending.get(p.Reference)
		if !ok {
			return nil, fmt.Errorf("%w: %x", ErrMissingProposal, p.Reference)
		}
		if q.Spoilt && q.Proposal.Type != ProposalSelfRemove {
			return nil, fmt.Errorf("%w: commit refers to a proposal with a wrong membership tag", ErrInvalidCommit)
		}
		if seen[string(p.Reference)] {
			return nil, fmt.Errorf("%w: the same proposal is referred to twice", ErrInvalidProposal)
		}
		seen[string(p.Reference)] = true
		props = append(props, q)
	}
	return props, nil
}

// stageProposals validates the list of proposals of a commit (RFC 9420
// section 12.2, mls-extensions sections 4.7 and 6.3) and applies it to a new
// version of the tree (section 12.3).
func (s *State) stageProposals(cfg *Config, props []QueuedProposal, sender Sender) (*provisional, error) {
	p := &provisional{
		cfg: cfg, before: s, sender: sender, external: sender.Type == SenderNewMemberCommit,
		proposals: slices.Clone(props), context: s.context, params: s.params,
	}
	switch {
	case s.reInit != nil:
		return nil, fmt.Errorf("%w: the group was closed by a ReInit", ErrInvalidCommit)
	case s.context.Epoch == ^Epoch(0):
		return nil, fmt.Errorf("%w: no epoch is left", ErrLimit)
	case len(props) > cfg.Limits.MaxProposals:
		return nil, fmt.Errorf("%w: commit of %d proposals; the limit is %d", ErrLimit, len(props), cfg.Limits.MaxProposals)
	case p.external:
	case sender.Type != SenderMember || s.tree.leaf(sender.Leaf) == nil:
		return nil, fmt.Errorf("%w: commit from a sender that is no member", ErrUnknownSender)
	default:
		p.committer = sender.Leaf
	}
	p.context.Epoch++
	props = p.proposals
	if err := parallel(len(props), func(i int) error { return s.checkProposal(cfg, &props[i]) }); err != nil {
		return nil, err
	}
	check := p.checkMemberList
	if p.external {
		check = p.checkExternalList
	}
	if err := check(); err != nil {
		return nil, err
	}
	if err := p.apply(); err != nil {
		return nil, err
	}
	return p, nil
}

// checkMemberList verifies the rules of a member's commit that concern the
// list as a whole (section 12.2).
func (p *provisional) checkMemberList() error {
	targets := make(map[LeafIndex]ProposalType)
	target := func(l LeafIndex, t ProposalType) error {
		if l == p.committer {
			return fmt.Errorf("%w: %v that applies to the committer", ErrInvalidProposal, t)
		}
		if other, ok := targets[l]; ok {
			return fmt.Errorf("%w: %v and %v apply to leaf %d", ErrInvalidProposal, other, t, l)
		}
		targets[l] = t
		return nil
	}
	for i := range p.proposals {
		q := &p.proposals[i]
		var err error
		switch q.Proposal.Type {
		case ProposalUpdate, ProposalSelfRemove:
			err = target(q.Sender.Leaf, q.Proposal.Type)
		case ProposalRemove:
			err = target(q.Proposal.Remove.Removed, q.Proposal.Type)
		case ProposalReInit:
			if len(p.proposals) > 1 {
				err = fmt.Errorf("%w: reinit together with other proposals", ErrInvalidProposal)
			}
		case ProposalExternalInit:
			err = fmt.Errorf("%w: external_init in a member's commit", ErrInvalidProposal)
		}
		if err != nil {
			return err
		}
	}
	return p.checkUnique()
}

// checkExternalList verifies the list of an external commit: by value one
// ExternalInit, at most one Remove, and any number of PreSharedKey,
// AppDataUpdate and AppEphemeral; by reference SelfRemove only (section 12.2,
// mls-extensions section 6.3).
func (p *provisional) checkExternalList() error {
	inits, removes := 0, 0
	gone := make(map[LeafIndex]bool)
	for i := range p.proposals {
		q := &p.proposals[i]
		byValue := q.Ref == nil
		var leaf LeafIndex
		switch t := q.Proposal.Type; {
		case t == ProposalSelfRemove && !byValue:
			leaf = q.Sender.Leaf
		case !byValue:
			return fmt.Errorf("%w: external commit refers to %v", ErrInvalidProposal, t)
		case t == ProposalExternalInit:
			inits++
			continue
		case t == ProposalRemove:
			removes++
			leaf = q.Proposal.Remove.Removed
			p.replaced = p.before.tree.leaf(leaf)
		case t == ProposalPreSharedKey, t == ProposalAppDataUpdate, t == ProposalAppEphemeral:
			continue
		default:
			return fmt.Errorf("%w: %v in an external commit", ErrInvalidProposal, t)
		}
		if gone[leaf] {
			return fmt.Errorf("%w: leaf %d is removed twice", ErrInvalidProposal, leaf)
		}
		gone[leaf] = true
	}
	if inits != 1 {
		return fmt.Errorf("%w: external commit with %d external_init; want 1", ErrInvalidProposal, inits)
	}
	if removes > 1 {
		return fmt.Errorf("%w: external commit with %d removes; at most 1 is valid", ErrInvalidProposal, removes)
	}
	return p.checkUnique()
}

// checkUnique verifies what may occur once in any commit, and notes what is
// applied outside of the tree.
func (p *provisional) checkUnique() error {
	contexts := 0
	inits := make(map[string]bool)
	for i := range p.proposals {
		pr := &p.proposals[i].Proposal
		switch pr.Type {
		case ProposalAdd:
			// Two receivers of one Welcome with the same key could not be told
			// apart.
			init := string(pr.Add.KeyPackage.InitKey)
			if inits[init] {
				return fmt.Errorf("%w: two adds with the same init_key", ErrInvalidProposal)
			}
			inits[init] = true
		case ProposalGroupContextExtensions:
			if contexts++; contexts > 1 {
				return fmt.Errorf("%w: more than one group_context_extensions", ErrInvalidProposal)
			}
		case ProposalPreSharedKey:
			id := &pr.PreSharedKey.PSK
			if slices.ContainsFunc(p.psks, func(o PreSharedKeyID) bool { return o.Equal(id) }) {
				return fmt.Errorf("%w: the same pre-shared key twice", ErrInvalidProposal)
			}
			p.psks = append(p.psks, *id)
		case ProposalExternalInit:
			p.externalInit = pr.ExternalInit
		case ProposalReInit:
			p.reInit = pr.ReInit
		}
		switch pr.Type {
		case ProposalUpdate, ProposalRemove, ProposalSelfRemove, ProposalExternalInit, ProposalGroupContextExtensions:
			p.needsPath = true
		}
	}
	p.needsPath = p.needsPath || len(p.proposals) == 0
	return nil
}

// apply applies the proposals in the order of section 12.3: extensions,
// Update, SelfRemove and Remove, Add, and at last AppDataUpdate.
//
// Leaves that are replaced or removed are emptied before any new leaf is put
// in, so that keys must be unique in the result, whatever the order.
func (p *provisional) apply() error {
	p.tree = p.before.tree.fork()
	for i := range p.proposals {
		if x := p.proposals[i].Proposal.GroupContextExtensions; x != nil {
			params, err := parseParams(x.Extensions)
			if err != nil {
				return err
			}
			p.context.Extensions, p.params = x.Extensions, params
		}
	}
	for i := range p.proposals {
		q := &p.proposals[i]
		switch q.Proposal.Type {
		case ProposalUpdate:
			p.updated = append(p.updated, q.Sender.Leaf)
			p.tree.blankLeaf(q.Sender.Leaf)
		case ProposalRemove:
			p.remove(q.Proposal.Remove.Removed)
		case ProposalSelfRemove:
			p.remove(q.Sender.Leaf)
		}
	}
	for i := range p.proposals {
		if u := p.proposals[i].Proposal.Update; u != nil {
			leaf, err := u.LeafNode.detached()
			if err == nil {
				err = p.tree.setLeaf(p.proposals[i].Sender.Leaf, leaf)
			}
			if err != nil {
				return fmt.Errorf("%w: update: %w", ErrInvalidProposal, err)
			}
		}
	}
	// Members that are added need not support what this commit uses.
	for i := range p.proposals {
		if t := p.proposals[i].Proposal.Type; !p.tree.supported().proposal(t) {
			return fmt.Errorf("%w: %w: proposal %v is not supported by every member", ErrInvalidProposal, ErrCapabilities, t)
		}
	}
	for i := range p.proposals {
		if a := p.proposals[i].Proposal.Add; a != nil {
			if err := p.add(&a.KeyPackage.LeafNode); err != nil {
				return err
			}
		}
	}
	if p.tree.size() > p.cfg.Limits.MaxMembers {
		return fmt.Errorf("%w: %d members; the limit is %d", ErrLimit, p.tree.size(), p.cfg.Limits.MaxMembers)
	}
	p.tree.truncate()
	return p.applyAppData()
}

func (p *provisional) remove(l LeafIndex) {
	p.removed = append(p.removed, RemovedLeaf{l, p.before.tree.leaf(l)})
	p.tree.blankLeaf(l)
}

func (p *provisional) add(node *LeafNode) error {
	leaf, err := node.detached()
	if err != nil {
		return err
	}
	l, err := p.tree.addLeaf(leaf)
	if err != nil {
		return fmt.Errorf("%w: add: %w", ErrInvalidProposal, err)
	}
	p.added = append(p.added, l)
	return nil
}

// applyAppData applies the AppDataUpdate proposals to the new extensions.
func (p *provisional) applyAppData() error {
	d, changed, err := p.cfg.applyAppData(p.params.dictionary, p.proposals)
	if err != nil || !changed {
		return err
	}
	data, err := tlspl.Marshal(d)
	if err != nil {
		return err
	}
	x := p.context.Extensions.Set(ExtensionAppDataDictionary, data)
	if n := len(mustMarshalExtensions(x)); n > p.cfg.Limits.MaxExtensions {
		return fmt.Errorf("%w: group extensions of %d octets; the limit is %d", ErrLimit, n, p.cfg.Limits.MaxExtensions)
	}
	p.context.Extensions = x
	p.params, err = parseParams(x)
	return err
}

// applyPath verifies the path of a received commit and merges it into the
// tree; nil stands for a commit without one (sections 7.5 and 12.4.2).
func (p *provisional) applyPath(path *UpdatePath) error {
	if path == nil {
		if p.needsPath {
			return fmt.Errorf("%w: path is missing", ErrInvalidCommit)
		}
		return p.seal()
	}
	if err := p.placeCommitter(); err != nil {
		return err
	}
	if err := p.checkPathLeaf(&path.LeafNode); err != nil {
		return fmt.Errorf("%w: leaf of the path: %w", ErrInvalidCommit, err)
	}
	leaf, err := path.LeafNode.detached()
	if err != nil {
		return err
	}
	keys := make([][]byte, len(path.Nodes))
	for i := range path.Nodes {
		keys[i] = bytes.Clone(path.Nodes[i].EncryptionKey)
		if err := p.tree.suite.checkHPKEKey(keys[i]); err != nil {
			return fmt.Errorf("%w: node %d of the path: %w", ErrInvalidCommit, i, err)
		}
	}
	hash, err := p.mergePath(leaf, keys)
	if err != nil {
		return err
	}
	if !bytes.Equal(hash, leaf.ParentHash) {
		return fmt.Errorf("%w: parent hash of the path's leaf does not fit the tree", ErrInvalidCommit)
	}
	for i, x := range p.tree.filteredPath(p.committer) {
		// As p.receivers, but counted: leaves that were added are part of any
		// resolution, since they are unmerged.
		c := copathChild(x, p.committer)
		want := p.tree.resolutionSize(c) - len(below(p.added, c))
		if got := len(path.Nodes[i].EncryptedPathSecret); got != want {
			return fmt.Errorf("%w: node %d of the path holds %d encrypted path secrets; want %d", ErrInvalidCommit, i, got, want)
		}
	}
	p.hasPath = true
	return p.seal()
}

// placeCommitter gives the sender of an external commit its leaf: the
// leftmost that is blank (section 12.4.2).
func (p *provisional) placeCommitter() error {
	if !p.external {
		return nil
	}
	if p.tree.size() == p.cfg.Limits.MaxMembers {
		return fmt.Errorf("%w: the group has %d members", ErrLimit, p.cfg.Limits.MaxMembers)
	}
	p.committer = p.tree.leftmostBlank()
	if !p.tree.hasLeaf(p.committer) {
		if p.tree.depth == maxDepth {
			return fmt.Errorf("%w: the tree cannot grow", ErrLimit)
		}
		p.tree.extend()
	}
	return nil
}

// checkPathLeaf verifies the leaf of an UpdatePath by itself and against the
// leaf that it replaces. The sender of an external commit replaces the one
// that it removes, if any.
func (p *provisional) checkPathLeaf(leaf *LeafNode) error {
	if err := p.cfg.checkLeaf(p.tree.suite, leaf, LeafSourceCommit, p.context.GroupID, p.committer); err != nil {
		return err
	}
	old := p.replaced
	if !p.external {
		old = p.before.tree.leaf(p.committer)
	}
	if old != nil {
		return p.cfg.checkSuccessor(old, leaf)
	}
	return p.cfg.verifyCredential(&leaf.Credential, leaf.SignatureKey)
}

// mergePath puts the keys and the leaf of a path into the tree and returns
// the parent hash for the leaf. Every key must be new (section 12.4.2).
func (p *provisional) mergePath(leaf *LeafNode, keys [][]byte) ([]byte, error) {
	if x, ok := p.tree.findEncryptionKey(leaf.EncryptionKey); ok {
		return nil, fmt.Errorf("%w: the path's leaf has the key of node %d: %w", ErrInvalidCommit, x, errDuplicateKey)
	}
	hash, err := p.tree.mergePath(p.committer, keys)
	if err == nil {
		err = p.tree.setLeaf(p.committer, leaf)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidCommit, err)
	}
	return hash, nil
}

// seal checks the finished tree and enters its hash into the GroupContext.
// The context then is the one under which path secrets are encrypted.
func (p *provisional) seal() error {
	if err := p.tree.checkSupport(&p.params); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidCommit, err)
	}
	p.tree.freeze()
	p.context.TreeHash = p.tree.treeHash()
	return nil
}

// confirm sets the confirmed transcript hash and returns the encoding of the
// new GroupContext.
func (p *provisional) confirm(confirmedTranscriptHash []byte) ([]byte, error) {
	p.context.ConfirmedTranscriptHash = confirmedTranscriptHash
	encoded, err := tlspl.Marshal(&p.context)
	p.encoded = encoded
	return encoded, err
}

// finish returns the state of the new epoch, as it was confirmed.
func (p *provisional) finish(confirmationTag []byte) (*State, error) {
	if n := len(confirmationTag); n != p.tree.suite.nh() {
		return nil, fmt.Errorf("%w: confirmation tag of %d octets", ErrInvalidCommit, n)
	}
	st, err := newState(p.tree.suite, p.tree, p.encoded, confirmationTag)
	if err != nil {
		return nil, err
	}
	if p.reInit != nil {
		// The commit may hold it, whose octets belong to the caller.
		st.reInit = new(ReInit)
		if err := tlspl.Unmarshal(mustMarshal(p.reInit), st.reInit); err != nil {
			return nil, err
		}
	}
	return st, nil
}

// staged describes the commit whose outcome is after.
func (p *provisional) staged(after *State, aad []byte) *StagedCommit {
	sc := &StagedCommit{
		Before: p.before, After: after,
		Sender: p.sender, Committer: p.committer, External: p.external,
		Proposals: p.proposals, Added: slices.Clone(p.added), Removed: p.removed, Updated: p.updated,
		HasPath: p.hasPath, AAD: aad,
	}
	if p.external {
		sc.Added = append(sc.Added, p.committer)
	}
	return sc
}
