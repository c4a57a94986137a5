package mls

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// A PublicGroup follows a group without being a member, as a hub or a replica
// of one does. It verifies everything that can be verified without the
// group's secrets: signatures, credentials, proposal lists, the tree and the
// transcript. It cannot verify membership and confirmation tags, and sees
// handshake messages only if they are PublicMessages, or SemiPrivateMessages
// for the external receiver that it is (Config.ReceiverKey).
//
// Nothing changes before Merge. A PublicGroup is not safe for concurrent use;
// a Clone of it and the States it returns may be used concurrently with it.
type PublicGroup struct {
	cfg     *Config
	state   *State
	pending proposalCache
	info    *groupInfoParts // of the GroupInfo of this epoch; nil: not known
}

// NewPublicGroup starts to follow a group in the epoch that gi describes. It
// verifies the GroupInfo and the whole tree (RFC 9420 section 12.4.3.1); tree
// may be nil if gi carries it.
func NewPublicGroup(cfg Config, gi *GroupInfo, tree RatchetTree) (*PublicGroup, error) {
	c, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s, err := joinState(c, gi, tree)
	if err != nil {
		return nil, err
	}
	g := &PublicGroup{cfg: c, state: s}
	// One may follow a group by a GroupInfo that is no good for joining: with a
	// malformed external_pub, or a ratchet_tree that is not the group's. It is
	// not kept to be handed out again.
	_ = g.KeepGroupInfo(gi)
	return g, nil
}

// State returns the present epoch.
func (g *PublicGroup) State() *State { return g.state }

// Pending returns the proposals that were enqueued in this epoch, in order.
func (g *PublicGroup) Pending() []QueuedProposal { return g.pending.all() }

// Clone returns a copy for independent use. It shares all content.
func (g *PublicGroup) Clone() *PublicGroup {
	return &PublicGroup{cfg: g.cfg, state: g.state, pending: g.pending.clone(), info: g.info}
}

// Proposal verifies a proposal message against this epoch. It changes
// nothing; Enqueue makes the proposal available to commits.
func (g *PublicGroup) Proposal(m *MLSMessage) (*QueuedProposal, error) {
	// What is verified now is used later: it must not change in between.
	m, err := m.detached()
	if err != nil {
		return nil, err
	}
	a, err := g.open(m, ContentProposal)
	if err != nil {
		return nil, err
	}
	q, err := g.state.openProposal(g.cfg, m, a)
	if err == nil && m.SemiPrivateMessage != nil {
		q.content = a
	}
	return q, err
}

// open authenticates a handshake message that a non-member can read.
func (g *PublicGroup) open(m *MLSMessage, want ContentType) (*AuthenticatedContent, error) {
	if m != nil && m.WireFormat == WireSemiPrivateMessage {
		return g.state.openAsReceiver(g.cfg, m.SemiPrivateMessage, want)
	}
	return g.state.openPublic(m, want)
}

// detached returns a copy of m that shares no memory with it.
func (m *MLSMessage) detached() (*MLSMessage, error) {
	if m == nil {
		return nil, fmt.Errorf("%w: no message", ErrInvalidMessage)
	}
	b, err := tlspl.Marshal(m)
	if err != nil {
		return nil, err
	}
	c := new(MLSMessage)
	return c, tlspl.Unmarshal(b, c)
}

// Enqueue keeps a proposal that Proposal returned in this epoch, so that a
// commit can refer to it. A proposal that is kept already is ignored.
func (g *PublicGroup) Enqueue(q *QueuedProposal) error {
	if q.checkedIn != g.state {
		return fmt.Errorf("%w: proposal was not verified in this epoch", ErrWrongEpoch)
	}
	return g.pending.add(q, g.cfg.Limits.MaxProposals)
}

// CheckPending reports, as the error that a commit would meet, why a member
// could not commit all pending proposals together. Each of them is valid
// alone; two may still bring the same key, for example. A hub calls it before
// it accepts a proposal, so that what it accepted can be committed. It
// returns nil if every member is about to be replaced or removed.
func (g *PublicGroup) CheckPending() error {
	pending := g.pending.all()
	concerned := make(map[LeafIndex]bool)
	for i := range pending {
		switch q := &pending[i]; q.Proposal.Type {
		case ProposalUpdate, ProposalSelfRemove:
			concerned[q.Sender.Leaf] = true
		case ProposalRemove:
			concerned[q.Proposal.Remove.Removed] = true
		}
	}
	for l := range g.state.Members() {
		if !concerned[l] {
			p, err := g.state.stageProposals(g.cfg, committable(pending, l), MemberSender(l))
			if err != nil {
				return err
			}
			return p.tree.checkSupport(&p.params)
		}
	}
	return nil
}

// StageCommit verifies a commit and computes the epoch that it begins. An
// error leaves the group as it was.
func (g *PublicGroup) StageCommit(m *MLSMessage) (*StagedCommit, error) {
	a, err := g.open(m, ContentCommit)
	if err != nil {
		return nil, err
	}
	commit := a.Content.Commit
	props, err := resolveProposals(commit, a.Content.Sender, &g.pending)
	if err != nil {
		return nil, err
	}
	p, err := g.state.stageProposals(g.cfg, props, a.Content.Sender)
	if err != nil {
		return nil, err
	}
	if err := p.applyPath(commit.Path); err != nil {
		return nil, err
	}
	confirmed, err := p.tree.suite.confirmedTranscriptHash(g.state.interim, a)
	if err != nil {
		return nil, err
	}
	if _, err := p.confirm(confirmed); err != nil {
		return nil, err
	}
	after, err := p.finish(a.Auth.ConfirmationTag)
	if err != nil {
		return nil, err
	}
	return p.staged(after, bytes.Clone(a.Content.AuthenticatedData)), nil
}

// Merge makes the epoch of a staged commit the present one and forgets the
// pending proposals, which belong to the epoch before. The GroupInfo of the
// new epoch is known if CompleteGroupInfo or AttachGroupInfo was called.
func (g *PublicGroup) Merge(sc *StagedCommit) error {
	if err := g.staged(sc); err != nil {
		return err
	}
	g.state, g.pending, g.info = sc.After, proposalCache{}, sc.info
	return nil
}

// staged returns an error unless sc was staged in this epoch.
func (g *PublicGroup) staged(sc *StagedCommit) error {
	if sc == nil || sc.After == nil || sc.Before != g.state {
		return fmt.Errorf("%w: commit was staged in another epoch", ErrWrongEpoch)
	}
	return nil
}

// VerifyGroupInfo verifies that a GroupInfo describes exactly the present
// epoch: GroupContext and confirmation tag are the same, a member signed it,
// and a ratchet_tree in it is the group's.
func (g *PublicGroup) VerifyGroupInfo(gi *GroupInfo) error { return g.state.verifyGroupInfo(gi) }

func (s *State) verifyGroupInfo(gi *GroupInfo) error {
	if !bytes.Equal(gi.GroupContext.GroupID, s.context.GroupID) {
		return ErrWrongGroup
	}
	if gi.GroupContext.Epoch != s.context.Epoch {
		return fmt.Errorf("%w: GroupInfo of epoch %d in epoch %d", ErrWrongEpoch, gi.GroupContext.Epoch, s.context.Epoch)
	}
	context, err := Marshal(&gi.GroupContext)
	if err != nil {
		return err
	}
	if !bytes.Equal(context, s.encoded) {
		return fmt.Errorf("%w: GroupContext of the GroupInfo is not that of the epoch", ErrInvalidMessage)
	}
	if !bytes.Equal(gi.ConfirmationTag, s.confirmationTag) {
		return fmt.Errorf("%w: confirmation tag of the GroupInfo is not that of the commit", ErrInvalidMessage)
	}
	if err := gi.Extensions.validIn(inGroupInfo); err != nil {
		return err
	}
	if _, err := gi.Dictionary(); err != nil {
		return fmt.Errorf("%w: GroupInfo: %w", ErrInvalidMessage, err)
	}
	key, ok, err := gi.Extensions.ExternalPub()
	if err != nil {
		return err
	}
	if ok {
		if err := s.suite.checkHPKEKey(key); err != nil {
			return fmt.Errorf("external_pub: %w", err)
		}
	}
	if data, ok := gi.Extensions.Find(ExtensionRatchetTree); ok && !bytes.Equal(data, mustMarshal(s.RatchetTree())) {
		return fmt.Errorf("%w: ratchet_tree of the GroupInfo is not the group's", ErrInvalidMessage)
	}
	signer := s.tree.leaf(gi.Signer)
	if signer == nil {
		return fmt.Errorf("%w: GroupInfo signed by the blank leaf %d", ErrUnknownSender, gi.Signer)
	}
	return gi.VerifySignature(signer.SignatureKey)
}

// openPublic verifies that a PublicMessage belongs to this epoch, holds what
// is wanted, comes from a sender that may send it, and is signed by that
// sender (RFC 9420 sections 6.1 and 6.2). The membership tag is not verified;
// a member's message must have one of the right length.
func (s *State) openPublic(m *MLSMessage, want ContentType) (*AuthenticatedContent, error) {
	if m == nil || m.WireFormat != WirePublicMessage || m.PublicMessage == nil {
		return nil, fmt.Errorf("%w: not a PublicMessage", ErrInvalidMessage)
	}
	c := &m.PublicMessage.Content
	if !bytes.Equal(c.GroupID, s.context.GroupID) {
		return nil, ErrWrongGroup
	}
	if c.Epoch != s.context.Epoch {
		return nil, fmt.Errorf("%w: message of epoch %d in epoch %d", ErrWrongEpoch, c.Epoch, s.context.Epoch)
	}
	if c.ContentType != want {
		return nil, fmt.Errorf("%w: content type %d where %d is expected", ErrInvalidMessage, c.ContentType, want)
	}
	if err := m.PublicMessage.checkSender(); err != nil {
		return nil, err
	}
	if c.Sender.Type == SenderMember && len(m.PublicMessage.MembershipTag) != s.suite.nh() {
		return nil, fmt.Errorf("%w: membership tag of %d octets", ErrInvalidMessage, len(m.PublicMessage.MembershipTag))
	}
	if err := checkAAD(s.usesSafeAAD(), c.AuthenticatedData); err != nil {
		return nil, err
	}
	a := m.PublicMessage.authenticated()
	return a, s.verifyContent(a)
}

// errNoPath is the reason for which an external commit without a path cannot
// even be verified: the path holds the sender's key.
var errNoPath = errors.New("external commit without a path")

// verifyContent verifies the signature of content with the key of its sender
// (section 6.1).
func (s *State) verifyContent(a *AuthenticatedContent) error {
	key, err := s.senderKey(&a.Content)
	if err != nil {
		return err
	}
	return a.verify(s.suite.id, key, s.encoded)
}

// senderKey returns the signature key of the sender of c.
func (s *State) senderKey(c *FramedContent) ([]byte, error) {
	switch c.Sender.Type {
	case SenderMember:
		if leaf := s.tree.leaf(c.Sender.Leaf); leaf != nil {
			return leaf.SignatureKey, nil
		}
		return nil, fmt.Errorf("%w: leaf %d is blank", ErrUnknownSender, c.Sender.Leaf)
	case SenderExternal:
		if uint64(c.Sender.Index) < uint64(len(s.params.senders)) {
			return s.params.senders[c.Sender.Index].SignatureKey, nil
		}
		return nil, fmt.Errorf("%w: the group has %d external senders, none with index %d", ErrUnknownSender, len(s.params.senders), c.Sender.Index)
	case SenderNewMemberProposal:
		if c.Proposal != nil && c.Proposal.Add != nil {
			return c.Proposal.Add.KeyPackage.LeafNode.SignatureKey, nil
		}
		return nil, fmt.Errorf("%w: new member without a key package", ErrUnknownSender)
	case SenderNewMemberCommit:
		switch {
		case c.Commit == nil:
			return nil, fmt.Errorf("%w: new member without a commit", ErrUnknownSender)
		case c.Commit.Path == nil:
			return nil, fmt.Errorf("%w: %w", ErrInvalidCommit, errNoPath)
		}
		return c.Commit.Path.LeafNode.SignatureKey, nil
	}
	return nil, fmt.Errorf("%w: sender type %d", ErrUnknownSender, c.Sender.Type)
}

// openProposal verifies the proposal in content whose signature was verified,
// and returns it with its reference. m is the message that brought it.
func (s *State) openProposal(cfg *Config, m *MLSMessage, a *AuthenticatedContent) (*QueuedProposal, error) {
	if s.reInit != nil {
		return nil, fmt.Errorf("%w: the group was closed by a ReInit", ErrInvalidProposal)
	}
	if a.Content.Proposal == nil {
		return nil, fmt.Errorf("%w: proposal without content", ErrInvalidMessage)
	}
	ref, err := a.proposalRef(s.suite)
	if err != nil {
		return nil, err
	}
	q := &QueuedProposal{
		Proposal: *a.Content.Proposal, Sender: a.Content.Sender,
		Ref: ref, Message: m, AAD: a.Content.AuthenticatedData,
	}
	if err := s.checkProposal(cfg, q); err != nil {
		return nil, err
	}
	return q, nil
}
