package mls

import (
	"bytes"
	"fmt"
	"slices"
)

// selected returns those of the pending proposals that Only names, in the
// order in which they came; a nil Only names all.
func (o *CommitOptions) selected(pending []QueuedProposal) ([]QueuedProposal, error) {
	if o.Only == nil {
		return pending, nil
	}
	for _, r := range o.Only {
		if !slices.ContainsFunc(pending, func(q QueuedProposal) bool { return bytes.Equal(r, q.Ref) }) {
			return nil, fmt.Errorf("%w: %x: enqueue it before it is committed", ErrMissingProposal, r)
		}
	}
	return slices.DeleteFunc(pending, func(q QueuedProposal) bool {
		return !slices.ContainsFunc(o.Only, func(r ProposalRef) bool { return bytes.Equal(r, q.Ref) })
	}), nil
}
