package mls

import (
	"bytes"
	"fmt"
	"slices"
)

// JoinParams describes a client that joins by an external commit.
type JoinParams struct {
	Signer         Signer
	Credential     Credential
	Capabilities   Capabilities // zero: DefaultCapabilities, with GREASE
	LeafExtensions Extensions

	// ByValue are further proposals: at most one Remove, of an earlier leaf
	// of this client, and any PreSharedKey, AppDataUpdate and AppEphemeral.
	ByValue []Proposal
	// SelfRemoves are the pending SelfRemove proposals of the epoch. All of
	// them belong into the commit (mls-extensions section 6.3).
	SelfRemoves []*MLSMessage
	AAD         []byte
}

// JoinExternal joins a group by an external commit on the epoch that gi
// describes (RFC 9420 section 12.4.3.2). tree may be nil if gi carries it.
// The Group is in the new epoch already: if the commit is refused, drop both.
func JoinExternal(cfg Config, gi *GroupInfo, tree RatchetTree, p JoinParams) (*Group, *StagedCommit, error) {
	c, err := cfg.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	if p.Signer == nil {
		return nil, nil, fmt.Errorf("%w: no signer to join with", ErrKey)
	}
	externalPub, ok, err := gi.Extensions.ExternalPub()
	if err != nil {
		return nil, nil, err
	}
	if !ok {
		return nil, nil, fmt.Errorf("%w: GroupInfo without external_pub", ErrInvalidWelcome)
	}
	st, err := joinState(c, gi, tree)
	if err != nil {
		return nil, nil, err
	}
	s := st.suite
	if st.usesSafeAAD() && p.AAD == nil {
		if p.AAD, err = Marshal(SafeAAD{}); err != nil {
			return nil, nil, err
		}
	}
	if err := checkAAD(st.usesSafeAAD(), p.AAD); err != nil {
		return nil, nil, err
	}
	kemOutput, initSecret, err := s.externalInitSend(externalPub)
	if err != nil {
		return nil, nil, err
	}
	defer wipe(initSecret)
	sender := Sender{Type: SenderNewMemberCommit}
	props := []QueuedProposal{{
		Proposal: Proposal{Type: ProposalExternalInit, ExternalInit: &ExternalInit{KEMOutput: kemOutput}},
		Sender:   sender,
	}}
	for _, m := range p.SelfRemoves {
		q, err := st.selfRemove(c, m)
		if err != nil {
			return nil, nil, fmt.Errorf("self_remove to join with: %w", err)
		}
		if !slices.ContainsFunc(props, func(o QueuedProposal) bool { return o.Ref != nil && o.Sender == q.Sender }) {
			props = append(props, *q)
		}
	}
	props = appendByValue(props, p.ByValue, sender)
	prov, err := st.stageProposals(c, props, sender)
	if err != nil {
		return nil, nil, err
	}
	psks, err := c.welcomePSKs(s, prov.psks, nil)
	if err != nil {
		return nil, nil, err
	}
	defer wipePSKs(psks)
	caps, err := p.Capabilities.orDefault(s, &p.Credential, p.LeafExtensions)
	if err != nil {
		return nil, nil, err
	}
	x, err := advertised(&caps, p.LeafExtensions)
	if err != nil {
		return nil, nil, err
	}
	b := &commitBuilder{
		provisional: prov, sender: sender, aad: p.AAD, framing: p.Signer, signer: p.Signer,
		initSecret: initSecret, psks: psks,
		format: WirePublicMessage,
		protect: func(a *AuthenticatedContent) (*MLSMessage, error) {
			pm, err := a.public(s, nil, st.contextBytes())
			return &MLSMessage{WireFormat: WirePublicMessage, PublicMessage: pm}, err
		},
	}
	b.path, err = prov.createPath(&LeafNode{
		SignatureKey: bytes.Clone(p.Signer.Public()),
		Credential:   p.Credential,
		Capabilities: caps,
		Extensions:   x,
	}, p.Signer)
	if err != nil {
		return nil, nil, err
	}
	defer b.path.wipe()
	sc, secrets, err := b.build()
	if err != nil {
		return nil, nil, err
	}
	g := &Group{cfg: c, suite: s, signer: p.Signer}
	g.enter(sc.After, prov.committer, secrets, b.path.keys)
	return g, sc, nil
}

// selfRemove verifies a SelfRemove as one who is not a member can: all but
// its membership tag (mls-extensions section 6.3).
func (s *State) selfRemove(cfg *Config, m *MLSMessage) (*QueuedProposal, error) {
	pm := m.PublicMessage
	if pm == nil || pm.Content.ContentType != ContentProposal || pm.Content.Proposal.Type != ProposalSelfRemove {
		return nil, fmt.Errorf("%w: not a SelfRemove in a PublicMessage", ErrInvalidProposal)
	}
	if err := pm.checkSender(); err != nil {
		return nil, err
	}
	if !bytes.Equal(pm.Content.GroupID, s.GroupID()) {
		return nil, ErrWrongGroup
	}
	if pm.Content.Epoch != s.Epoch() {
		return nil, fmt.Errorf("%w: epoch %d, the group is in epoch %d", ErrWrongEpoch, pm.Content.Epoch, s.Epoch())
	}
	if err := checkAAD(s.usesSafeAAD(), pm.Content.AuthenticatedData); err != nil {
		return nil, err
	}
	key, err := s.senderKey(&pm.Content)
	if err != nil {
		return nil, err
	}
	a := pm.authenticated()
	if err := a.verify(s.suite.id, key, s.contextBytes()); err != nil {
		return nil, err
	}
	return s.openProposal(cfg, m, a)
}
