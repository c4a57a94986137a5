package mls

import (
	"bytes"
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// A QueuedProposal is a proposal that was verified in the epoch in which it
// was sent.
type QueuedProposal struct {
	Proposal Proposal
	Sender   Sender
	Ref      ProposalRef // nil if the commit holds the proposal by value
	Message  *MLSMessage // nil if the commit holds the proposal by value
	AAD      []byte      // authenticated_data of Message

	// Spoilt marks a member's proposal whose signature verifies, but whose
	// membership tag does not; only a Group can tell. Its sender, or somebody
	// on the way, spoilt the tag. Commit leaves out whatever such a sender
	// proposed. A SelfRemove takes effect all the same if a valid commit of
	// somebody else names it, as an external commit must, whose sender cannot
	// verify the tag (mls-extensions section 6.3).
	Spoilt bool

	content   *AuthenticatedContent // of a proposal that came encrypted
	founding  bool                  // a resumption key that ties a new group to another, by its creator
	checkedIn *State                // the state in which checkProposal accepted it
}

// checkProposal verifies a proposal by itself (RFC 9420 sections 12.1 and
// 12.1.8, mls-extensions sections 4.7, 4.8 and 6.3): its sender may send it,
// and what it holds is valid in the epoch s. It remembers success, so that a
// proposal is verified once, not again in the commit.
func (s *State) checkProposal(cfg *Config, q *QueuedProposal) error {
	if q.checkedIn == s {
		return nil
	}
	if err := checkProposalSender(q); err != nil {
		return err
	}
	if err := s.checkProposalContent(cfg, q); err != nil {
		return err
	}
	if q.Sender.Type == SenderExternal {
		if cfg.ExternalProposals == nil {
			return fmt.Errorf("%w: proposals of external senders are refused", ErrInvalidProposal)
		}
		if err := cfg.ExternalProposals(s, &q.Proposal, q.Sender.Index); err != nil {
			return fmt.Errorf("%w: external sender %d: %w", ErrInvalidProposal, q.Sender.Index, err)
		}
	}
	if q.Sender.Type == SenderNewMemberProposal {
		if cfg.NewMemberProposals == nil {
			return fmt.Errorf("%w: proposals of new members are refused", ErrInvalidProposal)
		}
		if err := cfg.NewMemberProposals(s, &q.Proposal.Add.KeyPackage); err != nil {
			return fmt.Errorf("%w: new member: %w", ErrInvalidProposal, err)
		}
	}
	q.checkedIn = s
	return nil
}

// checkProposalSender verifies that a sender of this kind may send a proposal
// of this type, and that the proposal has the content that its type names.
func checkProposalSender(q *QueuedProposal) error {
	p := &q.Proposal
	member, external, joiner := true, false, false
	complete := false
	switch p.Type {
	case ProposalAdd:
		external, complete = true, p.Add != nil
	case ProposalUpdate:
		complete = p.Update != nil
	case ProposalRemove:
		external, joiner, complete = true, true, p.Remove != nil
	case ProposalPreSharedKey:
		external, joiner, complete = true, true, p.PreSharedKey != nil
	case ProposalReInit:
		external, complete = true, p.ReInit != nil
	case ProposalExternalInit:
		member, joiner, complete = false, true, p.ExternalInit != nil
	case ProposalGroupContextExtensions:
		external, complete = true, p.GroupContextExtensions != nil
	case ProposalAppDataUpdate:
		external, joiner, complete = true, true, p.AppDataUpdate != nil
	case ProposalAppEphemeral:
		external, joiner, complete = true, true, p.AppEphemeral != nil
	case ProposalSelfRemove:
		complete = true
	default:
		return fmt.Errorf("%w: unknown proposal type %v", ErrInvalidProposal, p.Type)
	}
	if !complete {
		return fmt.Errorf("%w: proposal %v without content", ErrInvalidProposal, p.Type)
	}
	var allowed bool
	switch q.Sender.Type {
	case SenderMember:
		allowed = member
	case SenderExternal:
		allowed = external
	case SenderNewMemberProposal:
		allowed = p.Type == ProposalAdd
	case SenderNewMemberCommit:
		allowed = joiner
	}
	if !allowed {
		return fmt.Errorf("%w: %v from a sender of type %d", ErrInvalidProposal, p.Type, q.Sender.Type)
	}
	if p.Type == ProposalSelfRemove && (q.Message == nil || q.Message.WireFormat != WirePublicMessage) {
		return fmt.Errorf("%w: self_remove is valid by reference to a PublicMessage only", ErrInvalidProposal)
	}
	if p.Type == ProposalUpdate && q.Message == nil {
		return fmt.Errorf("%w: update by value", ErrInvalidProposal)
	}
	return nil
}

// checkProposalContent verifies what the proposal says, in the epoch s.
func (s *State) checkProposalContent(cfg *Config, q *QueuedProposal) error {
	p := &q.Proposal
	switch p.Type {
	case ProposalAdd:
		return cfg.checkKeyPackage(s.suite, &p.Add.KeyPackage)
	case ProposalUpdate:
		return s.checkUpdate(cfg, &p.Update.LeafNode, q.Sender.Leaf)
	case ProposalRemove:
		if s.tree.leaf(p.Remove.Removed) == nil {
			return fmt.Errorf("%w: remove of the blank leaf %d", ErrInvalidProposal, p.Remove.Removed)
		}
	case ProposalPreSharedKey:
		return s.checkPSK(&p.PreSharedKey.PSK, q.founding)
	case ProposalReInit:
		if p.ReInit.Version < s.context.Version {
			return fmt.Errorf("%w: reinit with the older version %v", ErrInvalidProposal, p.ReInit.Version)
		}
		return p.ReInit.Extensions.validIn(inGroupContext)
	case ProposalExternalInit:
		if err := s.suite.checkKEMOutput(p.ExternalInit.KEMOutput); err != nil {
			return fmt.Errorf("%w: external_init: %w", ErrInvalidProposal, err)
		}
	case ProposalGroupContextExtensions:
		return s.checkExtensions(cfg, p.GroupContextExtensions.Extensions)
	case ProposalAppDataUpdate, ProposalAppEphemeral:
		return s.checkAppData(cfg, p, q.Sender)
	case ProposalSelfRemove:
		if !s.SupportsProposal(ProposalSelfRemove) {
			return fmt.Errorf("%w: %w: self_remove is not supported by every member", ErrInvalidProposal, ErrCapabilities)
		}
		if s.tree.leaf(q.Sender.Leaf) == nil {
			return fmt.Errorf("%w: self_remove of the blank leaf %d", ErrInvalidProposal, q.Sender.Leaf)
		}
	}
	return nil
}

// checkKeyPackage verifies a KeyPackage for a group of the suite (RFC 9420
// section 10.1).
func (c *Config) checkKeyPackage(s *suite, kp *KeyPackage) error {
	if kp.Version != MLS10 {
		return fmt.Errorf("%w: protocol version %v", ErrInvalidKeyPackage, kp.Version)
	}
	if kp.CipherSuite != s.id {
		return fmt.Errorf("%w: key package for %v in a group of %v", ErrCipherSuite, kp.CipherSuite, s.id)
	}
	if err := c.checkLeafContent(s, &kp.LeafNode, LeafSourceKeyPackage); err != nil {
		return err
	}
	if err := s.checkHPKEKey(kp.InitKey); err != nil {
		return err
	}
	if bytes.Equal(kp.InitKey, kp.LeafNode.EncryptionKey) {
		return fmt.Errorf("%w: init_key is the leaf's encryption_key", ErrInvalidKeyPackage)
	}
	if err := kp.Extensions.validIn(inKeyPackage); err != nil {
		return err
	}
	if err := kp.checkDictionary(); err != nil {
		return err
	}
	if err := kp.VerifySignature(); err != nil {
		return err
	}
	return c.verifyCredential(&kp.LeafNode.Credential, kp.LeafNode.SignatureKey)
}

// checkUpdate verifies the leaf of an Update by the member at l.
func (s *State) checkUpdate(cfg *Config, leaf *LeafNode, l LeafIndex) error {
	old := s.tree.leaf(l)
	if old == nil {
		return fmt.Errorf("%w: update of the blank leaf %d", ErrInvalidProposal, l)
	}
	if err := cfg.checkLeaf(s.suite, leaf, LeafSourceUpdate, s.context.GroupID, l); err != nil {
		return err
	}
	return cfg.checkSuccessor(old, leaf)
}

// checkSuccessor verifies that a leaf may replace another: it has a fresh
// encryption key, a valid credential, and stands for the same client
// (sections 5.3.1 and 7.3).
func (c *Config) checkSuccessor(old, leaf *LeafNode) error {
	if bytes.Equal(leaf.EncryptionKey, old.EncryptionKey) {
		return fmt.Errorf("%w: the new leaf keeps the encryption key of the old one", ErrInvalidProposal)
	}
	if err := c.verifyCredential(&leaf.Credential, leaf.SignatureKey); err != nil {
		return err
	}
	return c.verifySuccessor(old, leaf)
}

// checkPSK verifies the form of a PreSharedKeyID in a proposal
// (section 12.1.4). Keys for reinitialization and branching belong into the
// founding commit of a group, which nobody but its creator sees.
func (s *State) checkPSK(id *PreSharedKeyID, founding bool) error {
	if len(id.Nonce) != s.suite.nh() {
		return fmt.Errorf("%w: psk_nonce of %d octets; want %d", ErrInvalidProposal, len(id.Nonce), s.suite.nh())
	}
	switch {
	case id.Type == PSKExternal, id.Type == PSKApplication:
		return nil
	case id.Type == PSKResumption && (id.Usage == ResumptionApplication || founding):
		return nil
	}
	return fmt.Errorf("%w: pre-shared key of type %d and usage %d", ErrInvalidProposal, id.Type, id.Usage)
}

// checkExtensions verifies the content of a GroupContextExtensions proposal.
// Whether every member supports it is checked with the whole list.
func (s *State) checkExtensions(cfg *Config, x Extensions) error {
	if n := len(mustMarshalExtensions(x)); n > cfg.Limits.MaxExtensions {
		return fmt.Errorf("%w: group extensions of %d octets; the limit is %d", ErrLimit, n, cfg.Limits.MaxExtensions)
	}
	params, err := parseParams(x)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidProposal, err)
	}
	if err := checkParams(&params, cfg.verifyCredential); err != nil {
		return err
	}
	if err := cfg.checkReceivers(s.suite, &params, false); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidProposal, err)
	}
	// mls-extensions section 4.7: where AppDataUpdate is required, it is the
	// only way to change application data.
	for _, t := range s.params.requires.Capabilities.Proposals {
		if t != ProposalAppDataUpdate {
			continue
		}
		before, had := s.context.Extensions.Find(ExtensionAppDataDictionary)
		after, has := x.Find(ExtensionAppDataDictionary)
		if had != has || !bytes.Equal(before, after) {
			return fmt.Errorf("%w: group_context_extensions changes the app_data_dictionary, where AppDataUpdate is required", ErrInvalidProposal)
		}
	}
	return nil
}

func mustMarshalExtensions(x Extensions) []byte {
	var w tlspl.Writer
	x.MarshalTLS(&w)
	b, _ := w.Bytes()
	return b
}

// checkParams verifies the external senders of a GroupContext with the given
// function, verifyCredential for those that come in now.
func checkParams(p *groupParams, verify func(c *Credential, key []byte) error) error {
	for i := range p.senders {
		if err := verify(&p.senders[i].Credential, p.senders[i].SignatureKey); err != nil {
			return fmt.Errorf("external sender %d: %w", i, err)
		}
	}
	return nil
}
