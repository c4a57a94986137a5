package mls

import (
	"bytes"
	"fmt"
)

// SafeSignWithLabel signs content as component id (mls-extensions
// section 4.3). The signature verifies for no other component or label, and
// not as anything that MLS itself signs.
func SafeSignWithLabel(signer Signer, id ComponentID, label string, content []byte) ([]byte, error) {
	l, err := operationLabel(id, label)
	if err != nil {
		return nil, err
	}
	return SignWithLabel(signer, l, content)
}

// SafeVerifyWithLabel checks a signature of SafeSignWithLabel. It returns an
// error that matches ErrInvalidSignature or ErrKey.
func SafeVerifyWithLabel(s CipherSuite, public []byte, id ComponentID, label string, content, sig []byte) error {
	l, err := operationLabel(id, label)
	if err != nil {
		return err
	}
	return VerifyWithLabel(s, public, l, content, sig)
}

// SafeEncryptWithLabel encrypts plaintext to component id of whoever holds
// the private key of public (mls-extensions section 4.2). context may be
// empty.
func SafeEncryptWithLabel(s CipherSuite, public []byte, id ComponentID, label string, context, plaintext []byte) (HPKECiphertext, error) {
	l, err := operationLabel(id, label)
	if err != nil {
		return HPKECiphertext{}, err
	}
	return EncryptWithLabel(s, public, l, context, plaintext)
}

// SafeDecryptWithLabel opens a ciphertext of SafeEncryptWithLabel as component
// id, which must be the component that asks for it. It returns an error that
// matches ErrDecrypt or ErrKey.
func SafeDecryptWithLabel(s CipherSuite, private []byte, id ComponentID, label string, context []byte, ct HPKECiphertext) ([]byte, error) {
	l, err := operationLabel(id, label)
	if err != nil {
		return nil, err
	}
	return DecryptWithLabel(s, private, l, context, ct)
}

// operationLabel is ComponentOperationLabel for a label of the caller's.
func operationLabel(id ComponentID, label string) (string, error) {
	l := ComponentOperationLabel(id, label)
	if l == "" {
		return "", fmt.Errorf("%w: label of %d octets", ErrLimit, len(label))
	}
	return l, nil
}

// SafeVerify checks a signature that the member at leaf made as component id.
// It returns an error that matches ErrUnknownSender or ErrInvalidSignature.
func (s *State) SafeVerify(leaf LeafIndex, id ComponentID, label string, content, sig []byte) error {
	l, ok := s.Member(leaf)
	if !ok {
		return fmt.Errorf("%w: leaf %d is blank", ErrUnknownSender, leaf)
	}
	return SafeVerifyWithLabel(s.CipherSuite(), l.SignatureKey, id, label, content, sig)
}

// SafeEncrypt encrypts plaintext to component id of those who hold the
// private key of a node of the tree: one member for a leaf's encryption_key,
// the members of the subtree for a parent's. It refuses any other key, and
// that of the root: to reach all members use Group.ExternalPublicKey, whose
// private key lives for one epoch only (mls-extensions section 4.2).
func (s *State) SafeEncrypt(public []byte, id ComponentID, label string, context, plaintext []byte) (HPKECiphertext, error) {
	if err := s.checkSafeKey(public); err != nil {
		return HPKECiphertext{}, err
	}
	return SafeEncryptWithLabel(s.CipherSuite(), public, id, label, context, plaintext)
}

// checkSafeKey verifies that public belongs to a node of the tree with which
// components may work.
func (s *State) checkSafeKey(public []byte) error {
	x, ok := s.tree.findEncryptionKey(public)
	switch {
	case !ok:
		return fmt.Errorf("%w: no node of the tree has this public key", ErrKey)
	case s.tree.depth > 0 && x == rootPosition(s.tree.depth):
		return fmt.Errorf("%w: the key of the root is not for components; use the external key", ErrKey)
	}
	return nil
}

// SafeSign signs content with the own signature key as component id, which
// must be the component that asks for it. State.SafeVerify checks it.
func (g *Group) SafeSign(id ComponentID, label string, content []byte) ([]byte, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	return SafeSignWithLabel(g.signer, id, label, content)
}

// SafeDecrypt opens a ciphertext to component id, which must be the component
// that asks for it. public says to which key: that of the own leaf, of a
// parent above it other than the root, or the external key of the epoch. It
// returns an error that matches ErrDecrypt, or ErrKey if the local member does
// not have the private key.
func (g *Group) SafeDecrypt(public []byte, id ComponentID, label string, context []byte, ct HPKECiphertext) ([]byte, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	if x, ok := g.state.tree.findEncryptionKey(public); ok {
		if err := g.state.checkSafeKey(public); err != nil {
			return nil, err
		}
		private, ok := g.keys[x]
		if !ok {
			return nil, fmt.Errorf("%w: the private key of node %d is not known here", ErrKey, x)
		}
		return SafeDecryptWithLabel(g.suite.id, private, id, label, context, ct)
	}
	private, external, err := g.suite.deriveKeyPair(g.epoch.external)
	if err != nil {
		return nil, err
	}
	defer wipe(private)
	if !bytes.Equal(external, public) {
		return nil, fmt.Errorf("%w: the private key is not known here", ErrKey)
	}
	return SafeDecryptWithLabel(g.suite.id, private, id, label, context, ct)
}

// ExternalPublicKey returns the external key of the epoch, which GroupInfo
// carries as external_pub. All members of the epoch have its private key, and
// nobody after it.
func (g *Group) ExternalPublicKey() ([]byte, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	private, public, err := g.suite.deriveKeyPair(g.epoch.external)
	wipe(private)
	return public, err
}
