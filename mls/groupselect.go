package mls

import (
	"bytes"
	"slices"
)

// selected returns those of the pending proposals that Only names, in the
// order in which they came; a nil Only names all.
func (o *CommitOptions) selected(pending []QueuedProposal) []QueuedProposal {
	if o.Only == nil {
		return pending
	}
	return slices.DeleteFunc(pending, func(q QueuedProposal) bool {
		return !slices.ContainsFunc(o.Only, func(r ProposalRef) bool { return bytes.Equal(r, q.Ref) })
	})
}
