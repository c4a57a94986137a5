package mls

import (
	"bytes"
	"crypto/rand"
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// semiPrivate encrypts a member's signed handshake of the epoch st for the
// members and the external receivers. k is used up; the caller wipes it.
func (a *AuthenticatedContent) semiPrivate(st *State, k messageKey, generation uint32, senderDataSecret []byte, padding func(size int) int) (*SemiPrivateMessage, error) {
	if a.WireFormat != WireSemiPrivateMessage || a.Content.Sender.Type != SenderMember || a.Content.ContentType == ContentApplication {
		return nil, fmt.Errorf("%w: content was not signed by a member for a SemiPrivateMessage", ErrInvalidMessage)
	}
	if err := st.requireSemiPrivate(); err != nil {
		return nil, err
	}
	s := st.suite
	pk := perMessageKey{messageKey: k, leaf: a.Content.Sender.Leaf}
	if _, err := rand.Read(pk.guard[:]); err != nil {
		return nil, fmt.Errorf("mls: randomness for a reuse guard: %w", err)
	}
	tbs, err := a.tbs(st.encoded)
	if err != nil {
		return nil, err
	}
	m := &SemiPrivateMessage{
		GroupID:              a.Content.GroupID,
		Epoch:                a.Content.Epoch,
		ContentType:          a.Content.ContentType,
		AuthenticatedData:    a.Content.AuthenticatedData,
		PartialContextHash:   s.partialContextHash(pk.leaf, k.nonce),
		FramedContentTBSHash: s.sum(tbs),
	}
	if m.Keys, err = m.sealKeys(st, &pk); err != nil {
		return nil, err
	}
	aad, err := m.contentAAD()
	if err != nil {
		return nil, err
	}
	if m.Ciphertext, err = a.sealContent(s, k, pk.guard, aad, padding); err != nil {
		return nil, err
	}
	sd := senderData{leaf: pk.leaf, generation: generation, guard: pk.guard}
	m.EncryptedSenderData, err = m.senderPart().sealSenderData(s, senderDataSecret, sd)
	return m, err
}

// sealKeys encrypts the key of the message to each external receiver.
func (m *SemiPrivateMessage) sealKeys(st *State, pk *perMessageKey) ([]KeyForExternalReceiver, error) {
	context, err := m.receiverContext()
	if err != nil {
		return nil, err
	}
	pt, err := tlspl.Marshal(pk)
	if err != nil {
		return nil, err
	}
	defer wipe(pt)
	keys := make([]KeyForExternalReceiver, len(st.params.receivers))
	err = parallel(len(keys), func(i int) (err error) {
		e := &st.params.receivers[i]
		if keys[i].Receiver, err = e.ref(st.suite); err != nil {
			return err
		}
		keys[i].EncryptedKeys, err = EncryptWithLabel(st.suite.id, e.PublicKey, semiPrivateLabel, context, pt)
		return err
	})
	return keys, err
}

// openContent decrypts the content and verifies all that does not depend on
// who reads it: the hash over sender and nonce, the padding, the hash of the
// content, by which members and receivers know to have read the same, and the
// signature.
func (m *SemiPrivateMessage) openContent(st *State, k messageKey, guard [4]byte, leaf LeafIndex) (*AuthenticatedContent, error) {
	s := st.suite
	if !macEqual(s.partialContextHash(leaf, k.nonce), m.PartialContextHash) {
		return nil, fmt.Errorf("%w: partial_context_hash is not that of the sender and its key", ErrInvalidMessage)
	}
	aad, err := m.contentAAD()
	if err != nil {
		return nil, err
	}
	a, err := s.openContent(k, guard, aad, m.Ciphertext, AuthenticatedContent{
		WireFormat: WireSemiPrivateMessage,
		Content: FramedContent{
			GroupID:           m.GroupID,
			Epoch:             m.Epoch,
			Sender:            MemberSender(leaf),
			AuthenticatedData: m.AuthenticatedData,
			ContentType:       m.ContentType,
		},
	})
	if err != nil {
		return nil, err
	}
	tbs, err := a.tbs(st.encoded)
	if err != nil {
		return nil, err
	}
	if !macEqual(s.sum(tbs), m.FramedContentTBSHash) {
		return nil, fmt.Errorf("%w: framed_content_tbs_hash is not that of the content", ErrInvalidMessage)
	}
	return a, st.verifyContent(a)
}

// openSemiPrivate decrypts a SemiPrivateMessage of the current epoch as a
// member and verifies it. The caller consumes or discards the key.
func (g *Group) openSemiPrivate(m *SemiPrivateMessage) (*AuthenticatedContent, *keyUse, error) {
	if err := m.check(g.state); err != nil {
		return nil, nil, err
	}
	if err := checkAAD(g.state.usesSafeAAD(), m.AuthenticatedData); err != nil {
		return nil, nil, err
	}
	sd, err := m.senderPart().openSenderData(g.suite, g.epoch.senderData)
	if err != nil {
		return nil, nil, err
	}
	if _, ok := g.state.Member(sd.leaf); !ok {
		return nil, nil, fmt.Errorf("%w: leaf %d is blank", ErrUnknownSender, sd.leaf)
	}
	use, err := g.tree.open(sd.leaf, handshakeRatchet, sd.generation, g.cfg.Limits.MaxSkip)
	if err != nil {
		return nil, nil, err
	}
	a, err := m.openContent(g.state, use.messageKey, sd.guard, sd.leaf)
	if err != nil {
		use.discard()
		return nil, nil, err
	}
	return a, use, nil
}

// openAsReceiver decrypts a SemiPrivateMessage of this epoch with the key of
// an external receiver and verifies it. The receiver cannot know whether the
// members can read the message, as it cannot know of a PublicMessage whether
// its membership tag is right.
func (s *State) openAsReceiver(cfg *Config, m *SemiPrivateMessage, want ContentType) (*AuthenticatedContent, error) {
	switch {
	case m == nil:
		return nil, fmt.Errorf("%w: no message", ErrInvalidMessage)
	case !bytes.Equal(m.GroupID, s.context.GroupID):
		return nil, ErrWrongGroup
	case m.Epoch != s.context.Epoch:
		return nil, fmt.Errorf("%w: message of epoch %d in epoch %d", ErrWrongEpoch, m.Epoch, s.context.Epoch)
	case m.ContentType != want:
		return nil, fmt.Errorf("%w: content type %d where %d is expected", ErrInvalidMessage, m.ContentType, want)
	}
	if err := m.check(s); err != nil {
		return nil, err
	}
	if err := checkAAD(s.usesSafeAAD(), m.AuthenticatedData); err != nil {
		return nil, err
	}
	pk, err := m.openKey(s, cfg.ReceiverKey)
	if err != nil {
		return nil, err
	}
	defer pk.wipe()
	if s.tree.leaf(pk.leaf) == nil {
		return nil, fmt.Errorf("%w: leaf %d is blank", ErrUnknownSender, pk.leaf)
	}
	return m.openContent(s, pk.messageKey, pk.guard, pk.leaf)
}

// openKey decrypts the key of the message with that of an external receiver.
func (m *SemiPrivateMessage) openKey(s *State, private []byte) (*perMessageKey, error) {
	if private == nil {
		return nil, fmt.Errorf("%w: SemiPrivateMessage, and no Config.ReceiverKey to open it with", ErrKey)
	}
	public, err := s.suite.hpkePublic(private)
	if err != nil {
		return nil, err
	}
	var ref []byte
	for i := range s.params.receivers {
		if e := &s.params.receivers[i]; bytes.Equal(e.PublicKey, public) {
			if ref, err = e.ref(s.suite); err != nil {
				return nil, err
			}
		}
	}
	sealed := m.find(ref)
	if ref == nil || sealed == nil {
		return nil, fmt.Errorf("%w: Config.ReceiverKey is not that of an external receiver of the group", ErrKey)
	}
	context, err := m.receiverContext()
	if err != nil {
		return nil, err
	}
	pt, err := DecryptWithLabel(s.suite.id, private, semiPrivateLabel, context, *sealed)
	if err != nil {
		return nil, err
	}
	defer wipe(pt)
	pk := new(perMessageKey)
	if err := tlspl.Unmarshal(pt, pk); err != nil {
		return nil, fmt.Errorf("mls: key for an external receiver: %w", err)
	}
	if len(pk.key) != s.suite.keySize || len(pk.nonce) != nonceSize {
		pk.wipe()
		return nil, fmt.Errorf("%w: key and nonce of %d and %d octets", ErrInvalidMessage, len(pk.key), len(pk.nonce))
	}
	return pk, nil
}
