package mls

import (
	"bytes"
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// JoinWelcome joins a group by the Welcome for kp (RFC 9420
// section 12.4.3.1). tree may be nil if the Welcome carries it. The caller
// checks that it is not in a group of that ID yet, stores the new group and
// then destroys priv, unless kp is a last resort.
func JoinWelcome(cfg Config, w *Welcome, tree RatchetTree, kp *KeyPackage, priv *KeyPackagePrivate, signer Signer) (*Group, error) {
	c, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return joinWelcome(c, w, tree, kp, priv, signer, nil)
}

// joinWelcome is JoinWelcome for a group that comes from another by l, which
// is nil for any other group.
func joinWelcome(c *Config, w *Welcome, tree RatchetTree, kp *KeyPackage, priv *KeyPackagePrivate, signer Signer, l *link) (*Group, error) {
	if w.CipherSuite != kp.CipherSuite {
		return nil, fmt.Errorf("%w: Welcome of %v for a key package of %v", ErrCipherSuite, w.CipherSuite, kp.CipherSuite)
	}
	s, err := c.suite(w.CipherSuite)
	if err != nil {
		return nil, err
	}
	if err := priv.check(s, kp); err != nil {
		return nil, err
	}
	if !bytes.Equal(signer.Public(), kp.LeafNode.SignatureKey) {
		return nil, fmt.Errorf("%w: the signer is not that of the key package", ErrKey)
	}
	ref, err := kp.Ref()
	if err != nil {
		return nil, err
	}
	gs, err := w.openSecrets(s, ref, priv.InitKey)
	if err != nil {
		return nil, err
	}
	defer gs.wipe()
	if l != nil {
		if err := l.find(gs.PSKs); err != nil {
			return nil, err
		}
	}
	psks, err := c.welcomePSKs(s, gs.PSKs, l)
	if err != nil {
		return nil, err
	}
	defer wipePSKs(psks)
	psk, err := s.pskSecret(psks)
	if err != nil {
		return nil, err
	}
	defer wipe(psk)
	welcomeSecret, err := s.welcomeSecret(gs.JoinerSecret, psk)
	if err != nil {
		return nil, err
	}
	defer wipe(welcomeSecret)
	gi, err := s.openGroupInfo(welcomeSecret, w.EncryptedGroupInfo)
	if err != nil {
		return nil, err
	}
	if gi.GroupContext.CipherSuite != s.id {
		return nil, fmt.Errorf("%w: GroupInfo of %v in a Welcome of %v", ErrCipherSuite, gi.GroupContext.CipherSuite, s.id)
	}
	st, err := joinState(c, gi, tree)
	if err != nil {
		return nil, err
	}
	if l != nil {
		if err := l.check(st); err != nil {
			return nil, err
		}
	}
	own, err := findOwnLeaf(st, kp)
	if err != nil {
		return nil, err
	}
	if own == gi.Signer {
		return nil, fmt.Errorf("%w: it is signed by its receiver", ErrInvalidWelcome)
	}
	keys := treeKeys{leafPosition(own): bytes.Clone(priv.EncryptionKey)}
	joined := false
	defer func() {
		if !joined {
			keys.wipeBut(nil)
		}
	}()
	if gs.PathSecret != nil {
		if err := st.tree.implant(keys, own, gi.Signer, gs.PathSecret); err != nil {
			return nil, err
		}
	}
	secrets, err := s.epochFromJoiner(gs.JoinerSecret, psk, st.contextBytes())
	if err != nil {
		return nil, err
	}
	if !macEqual(s.confirmationTag(secrets.confirmation, st.context.ConfirmedTranscriptHash), gi.ConfirmationTag) {
		secrets.wipe()
		return nil, fmt.Errorf("%w: confirmation tag does not verify", ErrInvalidWelcome)
	}
	g := &Group{cfg: c, suite: s, signer: signer}
	g.enter(st, own, secrets, keys)
	joined = true
	return g, nil
}

// welcomePSKs fetches the keys that a Welcome or an external commit names. l is
// nil unless the group comes from another.
func (c *Config) welcomePSKs(s *suite, ids []PreSharedKeyID, l *link) ([]pskInput, error) {
	if n := c.Limits.MaxProposals; len(ids) > n+1 { // each was a proposal, but the link's
		return nil, fmt.Errorf("%w: %d pre-shared keys in one epoch; the limit is %d", ErrLimit, len(ids), n)
	}
	psks := make([]pskInput, 0, len(ids))
	for i := range ids {
		id := &ids[i]
		if id.isLink() && l == nil {
			wipePSKs(psks)
			return nil, fmt.Errorf("%w: the group comes from another one: join it by JoinReinitialized or JoinBranch of that", ErrPSK)
		}
		if len(id.Nonce) != s.nh() {
			wipePSKs(psks)
			return nil, fmt.Errorf("%w: psk_nonce of %d octets", ErrInvalidWelcome, len(id.Nonce))
		}
		for j := range i {
			if ids[j].Equal(id) {
				wipePSKs(psks)
				return nil, fmt.Errorf("%w: the same pre-shared key twice", ErrInvalidWelcome)
			}
		}
		var psk []byte
		var err error
		if id.isLink() {
			psk, err = l.psk(id)
		} else {
			psk, err = c.psk(id)
		}
		if err != nil {
			wipePSKs(psks)
			return nil, err
		}
		psks = append(psks, pskInput{*id, psk})
	}
	return psks, nil
}

// findOwnLeaf returns the leaf that is identical to the one of kp.
func findOwnLeaf(st *State, kp *KeyPackage) (LeafIndex, error) {
	own, ok := st.FindSignatureKey(kp.LeafNode.SignatureKey)
	if ok {
		leaf, _ := st.Member(own)
		a, errA := tlspl.Marshal(leaf)
		b, errB := tlspl.Marshal(&kp.LeafNode)
		ok = errA == nil && errB == nil && bytes.Equal(a, b)
	}
	if !ok {
		return 0, fmt.Errorf("%w: no leaf of the tree is that of the key package", ErrInvalidWelcome)
	}
	return own, nil
}
