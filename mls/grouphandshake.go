package mls

import "fmt"

// checkHandshakeFormat verifies Config.HandshakeFormat.
func (c *Config) checkHandshakeFormat() error {
	f := c.HandshakeFormat
	switch {
	case f == WirePublicMessage, f == WirePrivateMessage, f == WireSemiPrivateMessage && c.ExternalReceivers != nil:
		return nil
	case f == WireSemiPrivateMessage:
		return fmt.Errorf("%w: Config.HandshakeFormat is SemiPrivateMessage: set Config.ExternalReceivers, too", ErrInvalidMessage)
	}
	return fmt.Errorf("%w: Config.HandshakeFormat is %v: handshakes are sent as PublicMessage or PrivateMessage", ErrInvalidMessage, f)
}

// proposalFormat returns the wire format in which the local member sends a
// proposal of type t. One who joins by an external commit must be able to
// read a SelfRemove (mls-extensions section 6.3).
func (g *Group) proposalFormat(t ProposalType) WireFormat {
	if t == ProposalSelfRemove {
		return WirePublicMessage
	}
	return g.cfg.HandshakeFormat
}

// protect turns signed content of the local member into a message of the
// wire format for which it was signed. Encrypting uses a key up before the
// ciphertext exists (RFC 9420 section 9): call it last, when nothing can
// fail any more.
func (g *Group) protect(a *AuthenticatedContent) (*MLSMessage, error) {
	switch a.WireFormat {
	case WirePrivateMessage:
	case WireSemiPrivateMessage:
		if err := g.state.requireSemiPrivate(); err != nil {
			return nil, err
		}
	default:
		pm, err := a.public(g.suite, g.epoch.membership, g.state.contextBytes())
		if err != nil {
			return nil, err
		}
		return &MLSMessage{WireFormat: WirePublicMessage, PublicMessage: pm}, nil
	}
	k, generation, err := g.tree.take(g.own, ratchetOf(a.Content.ContentType))
	if err != nil {
		return nil, err
	}
	defer k.wipe()
	if a.WireFormat == WireSemiPrivateMessage {
		m, err := a.semiPrivate(g.state, k, generation, g.epoch.senderData, g.cfg.Padding)
		if err != nil {
			return nil, err
		}
		return &MLSMessage{WireFormat: WireSemiPrivateMessage, SemiPrivateMessage: m}, nil
	}
	m, err := a.privatePadded(g.suite, k, generation, g.epoch.senderData, g.cfg.Padding)
	if err != nil {
		return nil, err
	}
	return &MLSMessage{WireFormat: WirePrivateMessage, PrivateMessage: m}, nil
}
