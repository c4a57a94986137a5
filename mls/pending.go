package mls

import (
	"fmt"
	"maps"
	"slices"
)

// A proposalCache holds the pending proposals of one epoch in the order in
// which they came. Copies of the struct share their content until one of them
// is changed.
type proposalCache struct {
	list   []QueuedProposal
	byRef  map[string]int
	shared bool // another copy may hold list and byRef
}

// clone returns a copy of c for independent use.
func (c *proposalCache) clone() proposalCache {
	c.shared = true
	return *c
}

// get returns the proposal that ref names.
func (c *proposalCache) get(ref ProposalRef) (QueuedProposal, bool) {
	i, ok := c.byRef[string(ref)]
	if !ok {
		return QueuedProposal{}, false
	}
	return c.list[i], true
}

// add appends q, unless it is there already or there are max proposals. One
// that is not spoilt takes the place of the same one that is.
func (c *proposalCache) add(q *QueuedProposal, max int) error {
	if q.Ref == nil {
		return fmt.Errorf("%w: a proposal without reference cannot be pending", ErrInvalidProposal)
	}
	at, known := c.byRef[string(q.Ref)]
	if known && (q.Spoilt || !c.list[at].Spoilt) {
		return nil
	}
	if !known && len(c.list) >= max {
		return fmt.Errorf("%w: %d proposals are pending", ErrLimit, len(c.list))
	}
	if c.shared {
		c.list, c.byRef, c.shared = slices.Clone(c.list), maps.Clone(c.byRef), false
	}
	if known {
		c.list[at] = *q
		return nil
	}
	if c.byRef == nil {
		c.byRef = make(map[string]int)
	}
	c.byRef[string(q.Ref)] = len(c.list)
	c.list = append(c.list, *q)
	return nil
}

// all returns the proposals in order.
func (c *proposalCache) all() []QueuedProposal { return slices.Clone(c.list) }
