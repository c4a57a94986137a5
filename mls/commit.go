package mls

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// Commit puts proposals into effect and starts the next epoch (RFC 9420
// section 12.4):
//
//	struct {
//	    ProposalOrRef proposals<V>;
//	    optional<UpdatePath> path;
//	} Commit;
type Commit struct {
	Proposals []ProposalOrRef
	Path      *UpdatePath
}

// MarshalTLS implements tlspl.Marshaler.
func (c *Commit) MarshalTLS(w *tlspl.Writer) {
	tlspl.WriteVector(w, c.Proposals, func(w *tlspl.Writer, p *ProposalOrRef) { p.MarshalTLS(w) })
	w.Optional(c.Path != nil, func(w *tlspl.Writer) { c.Path.MarshalTLS(w) })
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (c *Commit) UnmarshalTLS(r *tlspl.Reader) {
	*c = Commit{}
	c.Proposals = tlspl.ReadVector(r, maxCommitProposals, func(r *tlspl.Reader, p *ProposalOrRef) { p.UnmarshalTLS(r) })
	if r.Optional() {
		c.Path = new(UpdatePath)
		c.Path.UnmarshalTLS(r)
	}
}

// ProposalOrRef is a proposal by value, or the reference of one that was
// sent before; exactly one is set (RFC 9420 section 12.4).
//
//	enum { reserved(0), proposal(1), reference(2), (255) } ProposalOrRefType;
//
//	struct {
//	    ProposalOrRefType type;
//	    select (ProposalOrRef.type) {
//	        case proposal:  Proposal proposal;
//	        case reference: ProposalRef reference;
//	    };
//	} ProposalOrRef;
type ProposalOrRef struct {
	Proposal  *Proposal
	Reference ProposalRef
}

// MarshalTLS implements tlspl.Marshaler.
func (p *ProposalOrRef) MarshalTLS(w *tlspl.Writer) {
	switch {
	case p.Proposal != nil && p.Reference == nil:
		w.Uint8(1)
		p.Proposal.MarshalTLS(w)
	case p.Proposal == nil && p.Reference != nil:
		w.Uint8(2)
		w.Opaque(p.Reference)
	default:
		w.Fail(fmt.Errorf("%w: a commit holds either a proposal or its reference", ErrInvalidCommit))
	}
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (p *ProposalOrRef) UnmarshalTLS(r *tlspl.Reader) {
	*p = ProposalOrRef{}
	switch t := r.Uint8(); t {
	case 1:
		p.Proposal = new(Proposal)
		p.Proposal.UnmarshalTLS(r)
	case 2:
		p.Reference = r.Opaque(maxHashSize)
		if p.Reference == nil {
			r.Failf("empty proposal reference")
		}
	default:
		r.Failf("proposal-or-reference type %d", t)
	}
}

// UpdatePath brings new keys for a committer's path (RFC 9420 section 7.6):
//
//	struct {
//	    LeafNode leaf_node;
//	    UpdatePathNode nodes<V>;
//	} UpdatePath;
type UpdatePath struct {
	LeafNode LeafNode
	Nodes    []UpdatePathNode
}

// MarshalTLS implements tlspl.Marshaler.
func (p *UpdatePath) MarshalTLS(w *tlspl.Writer) {
	p.LeafNode.MarshalTLS(w)
	tlspl.WriteVector(w, p.Nodes, func(w *tlspl.Writer, n *UpdatePathNode) { n.MarshalTLS(w) })
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (p *UpdatePath) UnmarshalTLS(r *tlspl.Reader) {
	p.LeafNode.UnmarshalTLS(r)
	p.Nodes = tlspl.ReadVector(r, maxPathNodes, func(r *tlspl.Reader, n *UpdatePathNode) { n.UnmarshalTLS(r) })
}

// UpdatePathNode is the new key of one node of the path, and its path secret
// encrypted to each node of the resolution below (RFC 9420 section 7.6):
//
//	struct {
//	    HPKEPublicKey encryption_key;
//	    HPKECiphertext encrypted_path_secret<V>;
//	} UpdatePathNode;
type UpdatePathNode struct {
	EncryptionKey       []byte
	EncryptedPathSecret []HPKECiphertext
}

// MarshalTLS implements tlspl.Marshaler.
func (n *UpdatePathNode) MarshalTLS(w *tlspl.Writer) {
	w.Opaque(n.EncryptionKey)
	tlspl.WriteVector(w, n.EncryptedPathSecret, func(w *tlspl.Writer, c *HPKECiphertext) { c.MarshalTLS(w) })
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (n *UpdatePathNode) UnmarshalTLS(r *tlspl.Reader) {
	n.EncryptionKey = r.Opaque(0)
	n.EncryptedPathSecret = tlspl.ReadVector(r, 0, func(r *tlspl.Reader, c *HPKECiphertext) { c.UnmarshalTLS(r) })
}
