package mls

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/comity-im/comity/internal/tlspl"
)

// Group is a member's view of a group. It is not safe for concurrent use.
//
// Staging a commit changes nothing; [Group.Merge] does. Sending and
// receiving messages, and merging, use up keys: store [Group.Records] before
// acting on the result, in particular before a ciphertext leaves the client.
type Group struct {
	cfg    *Config
	suite  *suite
	signer Signer
	own    LeafIndex
	closed bool // the local member was removed

	state *State
	keys  treeKeys
	epoch *epochSecrets // without what tree and exports took over
	tree  *secretTree
	past  []*pastEpoch // oldest first

	exports exporterTree

	pending proposalCache
	updates map[string][]byte // private keys of own pending Updates by public key

	saved savedGroup // what Records has handed out

	// founding is set while the first commit of a group that comes from
	// another is made.
	founding *link
}

// pastEpoch is what remains of an epoch for messages that arrive late. The
// members that the next commit changed are kept as they were: a leaf's key
// and credential of then, not of now, belong to a message (nil: blank).
type pastEpoch struct {
	epoch      Epoch
	context    []byte
	inline     bool // its record holds all extensions, whatever their size
	safeAAD    bool
	senderData []byte
	resumption []byte
	tree       *secretTree
	changed    map[LeafIndex]*LeafNode
}

func (p *pastEpoch) wipe() {
	wipe(p.senderData, p.resumption)
	p.tree.wipe()
}

// GroupParams describes a group to create.
type GroupParams struct {
	CipherSuite    CipherSuite
	GroupID        []byte // nil: random
	Signer         Signer
	Credential     Credential
	Capabilities   Capabilities // zero: DefaultCapabilities, with GREASE
	LeafExtensions Extensions
	Extensions     Extensions // of the GroupContext

	Lifetime time.Duration // of the creator's leaf; zero: 90 days
}

// CreateGroup starts a group whose only member is the caller, in epoch 0
// (RFC 9420 section 11).
func CreateGroup(cfg Config, p GroupParams) (*Group, error) {
	c, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s, err := c.suite(p.CipherSuite)
	if err != nil {
		return nil, err
	}
	if p.Signer == nil {
		return nil, fmt.Errorf("%w: no signer for the group", ErrKey)
	}
	epoch := make([]byte, s.nh())
	id := p.GroupID
	if id == nil {
		id = make([]byte, s.nh())
		if _, err := rand.Read(id); err != nil {
			return nil, fmt.Errorf("mls: randomness for a group ID: %w", err)
		}
	}
	if _, err := rand.Read(epoch); err != nil {
		return nil, fmt.Errorf("mls: randomness for an epoch secret: %w", err)
	}
	defer wipe(epoch)
	now := c.Now()
	leaf, private, err := newLeaf(s, p.Signer, p.Credential, p.Capabilities, p.LeafExtensions, lifetimeFrom(time.Time{}, now, p.Lifetime))
	if err != nil {
		return nil, err
	}
	if err := c.verifyCredential(&leaf.Credential, leaf.SignatureKey); err != nil {
		return nil, err
	}
	st, err := initialState(c, s, id, p.Extensions, &leaf)
	if err != nil {
		return nil, err
	}
	secrets, err := s.epochFromSecret(epoch)
	if err != nil {
		return nil, err
	}
	st = st.withTag(s.confirmationTag(secrets.confirmation, nil))
	g := &Group{cfg: c, suite: s, signer: p.Signer}
	g.enter(st, 0, secrets, treeKeys{leafPosition(0): private})
	return g, nil
}

// enter makes g's the first state, or the next one. It takes over secrets.
func (g *Group) enter(st *State, own LeafIndex, secrets *epochSecrets, keys treeKeys) {
	g.state, g.own, g.keys = st, own, keys
	g.tree = newSecretTree(g.suite, 1<<st.tree.depth, secrets.encryption)
	g.exports = newExporterTree(secrets.appExport)
	secrets.encryption, secrets.appExport = nil, nil
	// Both were used for the last time: tags are checked when an epoch
	// begins.
	wipe(secrets.confirmation)
	secrets.confirmation = nil
	g.epoch = secrets
	g.pending = proposalCache{}
	g.updates = nil
}

// usable returns an error unless the local client is a member.
func (g *Group) usable() error {
	if g.closed {
		return ErrNotMember
	}
	return nil
}

// open returns an error unless the group takes messages.
func (g *Group) open() error {
	if err := g.usable(); err != nil {
		return err
	}
	if g.state.ReInit() != nil {
		return fmt.Errorf("%w: the group was closed by a ReInit", ErrInvalidMessage)
	}
	return nil
}

// State returns the public state of the current epoch.
func (g *Group) State() *State { return g.state }

// OwnLeaf returns the local member's leaf index.
func (g *Group) OwnLeaf() LeafIndex { return g.own }

// IsMember reports whether the local client is still a member.
func (g *Group) IsMember() bool { return !g.closed }

// Pending returns the proposals of this epoch that are not committed yet.
func (g *Group) Pending() []QueuedProposal { return g.pending.all() }

// EpochAuthenticator returns the value by which members can compare their
// views of the group out of band (RFC 9420 section 8.7).
func (g *Group) EpochAuthenticator() ([]byte, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	return bytes.Clone(g.epoch.authenticator), nil
}

// Export derives n octets for use outside of MLS, bound to the epoch
// (MLS-Exporter, RFC 9420 section 8.5).
func (g *Group) Export(label string, context []byte, n int) ([]byte, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	return g.suite.export(g.epoch.exporter, label, context, n)
}

// GroupInfo returns a signed GroupInfo of the current epoch with external_pub
// and without ratchet_tree, for external joiners and for the hub.
func (g *Group) GroupInfo() (*GroupInfo, error) {
	if err := g.open(); err != nil {
		return nil, err
	}
	return newGroupInfo(g.suite, g.signer, g.own, g.state, g.epoch.external, nil)
}

// newGroupInfo makes a signed GroupInfo of st, with the tree if tree is set.
func newGroupInfo(s *suite, signer Signer, own LeafIndex, st *State, external []byte, tree RatchetTree) (*GroupInfo, error) {
	private, public, err := s.deriveKeyPair(external)
	if err != nil {
		return nil, err
	}
	wipe(private)
	var w tlspl.Writer
	w.Opaque(public)
	data, err := w.Bytes()
	if err != nil {
		return nil, err
	}
	x := Extensions{{ExtensionExternalPub, data}}
	if tree != nil {
		data, err := tlspl.Marshal(tree)
		if err != nil {
			return nil, err
		}
		x = append(x, Extension{ExtensionRatchetTree, data})
	}
	if x, err = x.withGREASE(); err != nil {
		return nil, err
	}
	gi := &GroupInfo{
		GroupContext:    *st.GroupContext(),
		Extensions:      x,
		ConfirmationTag: st.ConfirmationTag(),
		Signer:          own,
	}
	return gi, gi.sign(signer)
}

// checkAAD verifies authenticated data: in a group that has the safe_aad
// component it is a SafeAAD (mls-extensions section 4.9).
func checkAAD(safe bool, aad []byte) error {
	if !safe {
		return nil
	}
	var a SafeAAD
	if err := tlspl.Unmarshal(aad, &a); err != nil {
		return fmt.Errorf("%w: authenticated data is not a SafeAAD, which this group requires: %w", ErrInvalidMessage, err)
	}
	return nil
}

// usesSafeAAD reports whether the group has the safe_aad component.
func (s *State) usesSafeAAD() bool {
	_, ok := s.Dictionary().Get(ComponentSafeAAD)
	return ok
}

// ownAAD returns the authenticated data to send: nil stands for an empty
// SafeAAD where one is required.
func (g *Group) ownAAD(aad []byte) ([]byte, error) { return g.state.fillAAD(aad) }
