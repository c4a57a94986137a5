package mls

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// RatchetTreeRepresentation says where the ratchet tree of a Welcome or
// GroupInfo is found (ratchet-tree-options section 3).
type RatchetTreeRepresentation uint8

// The representations of draft-mahy-mls-ratchet-tree-options-03. Those that
// let a sender choose from where a tree is fetched, httpsUri (2) and
// outOfBand (3), are refused: their tree_signature is not defined.
const (
	TreeFull                RatchetTreeRepresentation = 1
	TreeDistributionService RatchetTreeRepresentation = 4
)

// A RatchetTreeOption stands beside a Welcome or GroupInfo without
// ratchet_tree extension and brings the tree, or says that the distribution
// service has it (ratchet-tree-options section 3):
//
//	struct {
//	    RatchetTreeRepresentation representation;
//	    select (representation) {
//	        case full:                optional<Node> ratchet_tree<V>;
//	        case distributionService: struct {};
//	    };
//	} RatchetTreeOption;
//
// The draft writes Node where a tree with blank nodes needs optional<Node>,
// the form of the ratchet_tree extension (RFC 9420 section 12.4.3.3).
//
// The zero value has no encoding.
type RatchetTreeOption struct {
	Representation RatchetTreeRepresentation
	Tree           RatchetTree // full
}

// MarshalTLS implements tlspl.Marshaler.
func (o *RatchetTreeOption) MarshalTLS(w *tlspl.Writer) {
	w.Uint8(uint8(o.Representation))
	switch {
	case o.Representation == TreeFull:
		o.Tree.MarshalTLS(w)
	case o.Representation == TreeDistributionService && o.Tree == nil:
	default:
		w.Fail(fmt.Errorf("%w: ratchet tree of representation %d", ErrInvalidMessage, o.Representation))
	}
}

// UnmarshalTLS implements tlspl.Unmarshaler.
func (o *RatchetTreeOption) UnmarshalTLS(r *tlspl.Reader) {
	*o = RatchetTreeOption{Representation: RatchetTreeRepresentation(r.Uint8())}
	switch o.Representation {
	case TreeFull:
		o.Tree.UnmarshalTLS(r)
	case TreeDistributionService:
	default:
		r.Failf("ratchet tree of representation %d: send the tree itself, or leave it to the distribution service", o.Representation)
	}
}

// Nodes returns the tree to join with: the one that o carries, or else the
// one that the distribution service gives, which held returns. The result is
// not verified; JoinWelcome, JoinExternal and NewPublicGroup do that. held
// may be nil where there is no such service.
func (o *RatchetTreeOption) Nodes(held func() (RatchetTree, error)) (RatchetTree, error) {
	switch {
	case o.Representation == TreeFull && o.Tree != nil:
		return o.Tree, nil
	case o.Representation == TreeDistributionService && held != nil:
		return held()
	case o.Representation == TreeDistributionService:
		return nil, fmt.Errorf("%w: the ratchet tree is left to a distribution service, and there is none: ask for the tree itself", ErrInvalidWelcome)
	}
	return nil, fmt.Errorf("%w: ratchet tree of representation %d", ErrInvalidWelcome, o.Representation)
}

// TreeOption returns the option that carries the tree of the epoch.
func (s *State) TreeOption() *RatchetTreeOption {
	return &RatchetTreeOption{Representation: TreeFull, Tree: s.RatchetTree()}
}
