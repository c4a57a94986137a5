package mls

import (
	"bytes"
	"fmt"
)

// ApplicationMessage is a decrypted message of a member.
type ApplicationMessage struct {
	Sender     LeafIndex
	Leaf       *LeafNode // the sender's leaf in the message's epoch
	Epoch      Epoch
	Generation uint32
	Data       []byte
	AAD        []byte

	state   *State // of the epoch, if it is not past
	context []byte // its GroupContext, if it is
}

// Encrypt protects application data for the group. The key is used up before
// the ciphertext exists: store Records before sending it. Pending proposals
// should be committed first (RFC 9420 section 15.2); see Pending.
func (g *Group) Encrypt(data, aad []byte) (*MLSMessage, error) {
	if err := g.open(); err != nil {
		return nil, err
	}
	aad, err := g.ownAAD(aad)
	if err != nil {
		return nil, err
	}
	a := &AuthenticatedContent{
		WireFormat: WirePrivateMessage,
		Content: FramedContent{
			GroupID:           g.state.GroupID(),
			Epoch:             g.state.Epoch(),
			Sender:            MemberSender(g.own),
			AuthenticatedData: aad,
			ContentType:       ContentApplication,
			Application:       data,
		},
	}
	if err := a.sign(g.signer, g.state.contextBytes()); err != nil {
		return nil, err
	}
	return g.protect(a)
}

// epochView is what decrypting in one epoch needs.
type epochView struct {
	state      *State // nil for a past epoch
	epoch      Epoch
	context    []byte
	safeAAD    bool
	senderData []byte
	tree       *secretTree
	member     func(LeafIndex) *LeafNode
}

func (g *Group) currentView() *epochView {
	return &epochView{
		state:      g.state,
		epoch:      g.state.Epoch(),
		context:    g.state.contextBytes(),
		safeAAD:    g.state.usesSafeAAD(),
		senderData: g.epoch.senderData,
		tree:       g.tree,
		member:     func(l LeafIndex) *LeafNode { leaf, _ := g.state.Member(l); return leaf },
	}
}

// view returns what is left of an epoch, or an error that matches
// ErrWrongEpoch.
func (g *Group) view(e Epoch) (*epochView, error) {
	if e == g.state.Epoch() {
		return g.currentView(), nil
	}
	for i, p := range g.past {
		if p.epoch == e {
			return &epochView{
				epoch: e, context: p.context, safeAAD: p.safeAAD, senderData: p.senderData, tree: p.tree,
				member: func(l LeafIndex) *LeafNode { return g.memberSince(i, l) },
			}, nil
		}
	}
	return nil, fmt.Errorf("%w: epoch %d, the group is in epoch %d", ErrWrongEpoch, e, g.state.Epoch())
}

// memberSince returns the leaf l as it was in past epoch i: what the first
// commit since then that changed it replaced, or what it is now.
func (g *Group) memberSince(i int, l LeafIndex) *LeafNode {
	for _, p := range g.past[i:] {
		if leaf, ok := p.changed[l]; ok {
			return leaf
		}
	}
	leaf, _ := g.state.Member(l)
	return leaf
}

// Decrypt opens an application message of this epoch or of a recent one. A
// message opens only once: store Records before acting on it. Nothing
// changes if it fails. The errors to expect are ErrWrongEpoch, ErrReplay,
// ErrTooFarAhead, ErrDecrypt, ErrUnknownSender and ErrInvalidSignature.
func (g *Group) Decrypt(m *MLSMessage) (*ApplicationMessage, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	if m.PrivateMessage == nil || m.PrivateMessage.ContentType != ContentApplication {
		return nil, fmt.Errorf("%w: not an application message", ErrInvalidMessage)
	}
	if !bytes.Equal(m.PrivateMessage.GroupID, g.state.GroupID()) {
		return nil, ErrWrongGroup
	}
	v, err := g.view(m.PrivateMessage.Epoch)
	if err != nil {
		return nil, err
	}
	a, leaf, use, err := g.openPrivate(v, m.PrivateMessage)
	if err != nil {
		return nil, err
	}
	use.consume(g.cfg.Limits.MaxSkip)
	return &ApplicationMessage{
		state:      v.state,
		context:    v.context,
		Sender:     a.Content.Sender.Leaf,
		Leaf:       leaf,
		Epoch:      v.epoch,
		Generation: use.generation,
		Data:       a.Content.Application,
		AAD:        a.Content.AuthenticatedData,
	}, nil
}

// openPrivate decrypts a PrivateMessage and verifies its signature. The
// caller consumes or discards the key.
func (g *Group) openPrivate(v *epochView, m *PrivateMessage) (a *AuthenticatedContent, leaf *LeafNode, use *keyUse, err error) {
	if err := checkAAD(v.safeAAD, m.AuthenticatedData); err != nil {
		return nil, nil, nil, err
	}
	sd, err := m.openSenderData(g.suite, v.senderData)
	if err != nil {
		return nil, nil, nil, err
	}
	if leaf = v.member(sd.leaf); leaf == nil {
		return nil, nil, nil, fmt.Errorf("%w: leaf %d is blank", ErrUnknownSender, sd.leaf)
	}
	use, err = v.tree.open(sd.leaf, ratchetOf(m.ContentType), sd.generation, g.cfg.Limits.MaxSkip)
	if err != nil {
		return nil, nil, nil, err
	}
	if a, err = m.openContent(g.suite, use.messageKey, sd); err == nil {
		err = a.verify(g.suite.id, leaf.SignatureKey, v.context)
	}
	if err != nil {
		use.discard()
		return nil, nil, nil, err
	}
	return a, leaf, use, nil
}
