package mls

import (
	"bytes"
	"errors"
	"fmt"
)

// Propose signs a proposal and enqueues it. Config.HandshakeFormat says in
// which form it is sent; a key that this uses up is gone even if the message
// is not sent: store Records before sending it. An Update is made by
// ProposeUpdate instead. A second SelfRemove of an epoch returns the first,
// since there may be only one (mls-extensions section 6.3).
func (g *Group) Propose(p Proposal, aad []byte) (*MLSMessage, error) {
	if err := g.open(); err != nil {
		return nil, err
	}
	if p.Type == ProposalUpdate {
		return nil, fmt.Errorf("%w: use ProposeUpdate, which makes the new key", ErrInvalidProposal)
	}
	if !g.state.SupportsProposal(p.Type) {
		return nil, fmt.Errorf("%w: proposal %v is not supported by every member", ErrCapabilities, p.Type)
	}
	if p.Type == ProposalSelfRemove {
		for _, q := range g.pending.list {
			if q.Proposal.Type == ProposalSelfRemove && q.Sender == MemberSender(g.own) {
				return q.Message, nil
			}
		}
	}
	if p.Type == ProposalAdd && p.Add != nil {
		if err := g.cfg.checkLifetime(p.Add.KeyPackage.LeafNode.Lifetime); err != nil {
			return nil, err
		}
	}
	return g.propose(p, aad)
}

func (g *Group) propose(p Proposal, aad []byte) (*MLSMessage, error) {
	aad, err := g.ownAAD(aad)
	if err != nil {
		return nil, err
	}
	a := &AuthenticatedContent{
		WireFormat: g.proposalFormat(p.Type),
		Content: FramedContent{
			GroupID:           g.state.GroupID(),
			Epoch:             g.state.Epoch(),
			Sender:            MemberSender(g.own),
			AuthenticatedData: aad,
			ContentType:       ContentProposal,
			Proposal:          &p,
		},
	}
	if err := a.sign(g.signer, g.state.contextBytes()); err != nil {
		return nil, err
	}
	m := &MLSMessage{WireFormat: a.WireFormat}
	q, err := g.state.openProposal(g.cfg, m, a)
	if err != nil {
		return nil, err
	}
	sent, err := g.protect(a)
	if err != nil {
		return nil, err
	}
	*m = *sent
	if m.PublicMessage == nil {
		q.content = a // no member opens its own messages
	}
	return m, g.Enqueue(q)
}

// LeafParams says what changes in the local member's leaf; a nil field stays
// as it is.
type LeafParams struct {
	Signer       Signer // a new signature key
	Credential   *Credential
	Capabilities *Capabilities
	Extensions   Extensions
}

// template returns the own leaf with p's changes, and the signer for it. The
// encryption key, source and signature are to be set.
func (g *Group) template(p *LeafParams) (*LeafNode, Signer) {
	old, _ := g.state.Member(g.own)
	leaf := &LeafNode{
		SignatureKey: old.SignatureKey,
		Credential:   old.Credential,
		Capabilities: old.Capabilities,
		Extensions:   old.Extensions,
	}
	signer := g.signer
	if p != nil {
		if p.Signer != nil {
			signer = p.Signer
			leaf.SignatureKey = bytes.Clone(signer.Public())
		}
		if p.Credential != nil {
			leaf.Credential = *p.Credential
		}
		if p.Capabilities != nil {
			leaf.Capabilities = *p.Capabilities
		}
		if p.Extensions != nil {
			leaf.Extensions = p.Extensions
		}
	}
	// Extensions that do not decode are refused with the leaf.
	if x, err := advertised(&leaf.Capabilities, leaf.Extensions); err == nil {
		leaf.Extensions = x
	}
	return leaf, signer
}

// ProposeUpdate proposes a new leaf with a new encryption key for the local
// member. The signature key stays: a commit with CommitOptions.Leaf changes
// it.
func (g *Group) ProposeUpdate(p LeafParams, aad []byte) (*MLSMessage, error) {
	if err := g.open(); err != nil {
		return nil, err
	}
	if p.Signer != nil {
		return nil, fmt.Errorf("%w: an Update does not change the signature key; commit with it", ErrInvalidProposal)
	}
	leaf, signer := g.template(&p)
	private, public, err := GenerateHPKEKey(g.suite.id)
	if err != nil {
		return nil, err
	}
	leaf.EncryptionKey, leaf.Source = public, LeafSourceUpdate
	if err := leaf.sign(signer, g.state.GroupID(), g.own); err != nil {
		return nil, err
	}
	m, err := g.propose(Proposal{Type: ProposalUpdate, Update: &Update{LeafNode: *leaf}}, aad)
	if err != nil {
		wipe(private)
		return nil, err
	}
	if g.updates == nil {
		g.updates = make(map[string][]byte)
	}
	g.updates[string(public)] = private
	return m, nil
}

// Proposal verifies a proposal message of this epoch. It does not enqueue
// it; a PrivateMessage, however, opens only once. A SelfRemove with a wrong
// membership tag is returned, marked as spoilt, since others may commit it.
func (g *Group) Proposal(m *MLSMessage) (*QueuedProposal, error) {
	// What is verified now is used later: it must not change in between.
	m, err := m.detached()
	if err != nil {
		return nil, err
	}
	a, use, err := g.openHandshake(m)
	spoilt := false
	if errors.Is(err, errMembershipTag) && m.PublicMessage.isSelfRemove() {
		a, err = g.state.openPublic(m, ContentProposal)
		spoilt = err == nil
	}
	if err != nil {
		return nil, err
	}
	q, err := (*QueuedProposal)(nil), fmt.Errorf("%w: not a proposal", ErrInvalidMessage)
	if a.Content.ContentType == ContentProposal {
		q, err = g.state.openProposal(g.cfg, m, a)
	}
	switch {
	case use == nil:
	case err != nil:
		use.discard()
	default:
		q.content = a // the message does not open again
		use.consume(g.cfg.Limits.MaxSkip)
	}
	if err != nil {
		return nil, err
	}
	q.Spoilt = spoilt
	return q, nil
}

// SpoiltProposal returns a proposal that [Group.Proposal] refuses for nothing
// but its membership tag, marked as spoilt. A hub cannot verify that tag: an
// application that judges commits by what is pending at the hub enqueues such
// proposals, too. They are in no own commit, and a commit of somebody else
// that names one is refused, unless it is a SelfRemove.
//
// The ProposalRef does not cover the tag: a commit that names a SelfRemove
// names the same one with whatever tag, and the commit's own tags prove what
// it does.
func (g *Group) SpoiltProposal(m *MLSMessage) (*QueuedProposal, error) {
	m, err := m.detached()
	if err != nil {
		return nil, err
	}
	switch _, use, err := g.openHandshake(m); {
	case err == nil:
		if use != nil {
			use.discard()
		}
		return nil, fmt.Errorf("%w: its membership tag verifies", ErrInvalidProposal)
	case !errors.Is(err, errMembershipTag):
		return nil, err
	}
	// It also verifies that the tag has its length.
	a, err := g.state.openPublic(m, ContentProposal)
	if err != nil {
		return nil, err
	}
	q, err := g.state.openProposal(g.cfg, m, a)
	if err != nil {
		return nil, err
	}
	q.Spoilt = true
	return q, nil
}

// Enqueue adds a verified proposal to those that the next commit may name. A
// SelfRemove takes the place of the same one that is marked as spoilt.
func (g *Group) Enqueue(q *QueuedProposal) error {
	if err := g.open(); err != nil {
		return err
	}
	if q.checkedIn != g.state {
		return fmt.Errorf("%w: the proposal was not verified in this epoch", ErrWrongEpoch)
	}
	return g.pending.add(q, g.cfg.Limits.MaxProposals)
}

// openHandshake authenticates a proposal or commit of the current epoch. use
// is the key of a PrivateMessage, which the caller consumes or discards.
func (g *Group) openHandshake(m *MLSMessage) (a *AuthenticatedContent, use *keyUse, err error) {
	if err := g.open(); err != nil {
		return nil, nil, err
	}
	id, epoch, ok := m.Epoch()
	switch {
	case !ok || m.ContentType() == ContentApplication:
		return nil, nil, fmt.Errorf("%w: not a handshake message", ErrInvalidMessage)
	case !bytes.Equal(id, g.state.GroupID()):
		return nil, nil, ErrWrongGroup
	case epoch != g.state.Epoch():
		return nil, nil, fmt.Errorf("%w: epoch %d, the group is in epoch %d", ErrWrongEpoch, epoch, g.state.Epoch())
	}
	context := g.state.contextBytes()
	if m.PrivateMessage != nil {
		a, _, use, err = g.openPrivate(g.currentView(), m.PrivateMessage)
		return a, use, err
	}
	if m.SemiPrivateMessage != nil {
		return g.openSemiPrivate(m.SemiPrivateMessage)
	}
	pm := m.PublicMessage
	if err := pm.checkSender(); err != nil {
		return nil, nil, err
	}
	if err := checkAAD(g.state.usesSafeAAD(), pm.Content.AuthenticatedData); err != nil {
		return nil, nil, err
	}
	key, err := g.state.senderKey(&pm.Content)
	if err != nil {
		return nil, nil, err
	}
	if err := pm.verifyMembership(g.suite, g.epoch.membership, context); err != nil {
		return nil, nil, err
	}
	a = pm.authenticated()
	return a, nil, a.verify(g.suite.id, key, context)
}
