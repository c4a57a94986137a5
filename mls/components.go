package mls

import "fmt"

// checkAppData verifies an AppDataUpdate or AppEphemeral proposal by itself
// (mls-extensions sections 4.7 and 4.8).
func (s *State) checkAppData(c *Config, p *Proposal, sender Sender) error {
	var id ComponentID
	var logic Component
	switch p.Type {
	case ProposalAppDataUpdate:
		id = p.AppDataUpdate.ComponentID
		if logic = c.Components[id]; logic == nil {
			return fmt.Errorf("%w: AppDataUpdate of the unknown component %v", ErrInvalidProposal, id)
		}
		if op := p.AppDataUpdate.Op; op != AppDataOpUpdate && op != AppDataOpRemove {
			return fmt.Errorf("%w: AppDataUpdate with operation %d", ErrInvalidProposal, op)
		}
	case ProposalAppEphemeral:
		id = p.AppEphemeral.ComponentID
		e, ok := c.Components[id].(EphemeralComponent)
		if !ok {
			return fmt.Errorf("%w: AppEphemeral for the component %v, which takes none", ErrInvalidProposal, id)
		}
		if err := e.Ephemeral(p.AppEphemeral.Data); err != nil {
			return fmt.Errorf("%w: component %v: %w", ErrInvalidProposal, id, err)
		}
		logic = e
	}
	if l, ok := logic.(SenderComponent); ok {
		if err := l.CheckSender(s, sender, p); err != nil {
			return fmt.Errorf("%w: component %v: %w", ErrInvalidProposal, id, err)
		}
	}
	return nil
}

// applyAppData returns d as the AppDataUpdate proposals of a commit change
// it, and whether there was any (mls-extensions section 4.7). Per component
// the list must hold one removal, or updates only.
func (c *Config) applyAppData(d AppDataDictionary, props []QueuedProposal) (AppDataDictionary, bool, error) {
	type change struct {
		updates [][]byte
		removes int
	}
	changes := make(map[ComponentID]*change)
	var order []ComponentID
	for i := range props {
		u := props[i].Proposal.AppDataUpdate
		if props[i].Proposal.Type != ProposalAppDataUpdate {
			continue
		}
		ch := changes[u.ComponentID]
		if ch == nil {
			ch = new(change)
			changes[u.ComponentID] = ch
			order = append(order, u.ComponentID)
		}
		if u.Op == AppDataOpRemove {
			ch.removes++
		} else {
			ch.updates = append(ch.updates, u.Update)
		}
	}
	for _, id := range order {
		ch := changes[id]
		old, present := d.Get(id)
		logic := c.Components[id]
		switch {
		case ch.removes > 1:
			return nil, false, fmt.Errorf("%w: component %v is removed more than once", ErrInvalidProposal, id)
		case ch.removes == 1 && len(ch.updates) > 0:
			return nil, false, fmt.Errorf("%w: component %v is updated and removed", ErrInvalidProposal, id)
		case ch.removes == 1 && !present:
			return nil, false, fmt.Errorf("%w: component %v is removed, but has no data", ErrInvalidProposal, id)
		case logic == nil:
			return nil, false, fmt.Errorf("%w: AppDataUpdate of the unknown component %v", ErrInvalidProposal, id)
		case ch.removes == 1:
			if err := logic.Remove(old); err != nil {
				return nil, false, fmt.Errorf("%w: component %v: %w", ErrInvalidProposal, id, err)
			}
			d = d.Without(id)
		default:
			data, err := logic.Update(old, present, ch.updates)
			if err != nil {
				return nil, false, fmt.Errorf("%w: component %v: %w", ErrInvalidProposal, id, err)
			}
			d = d.Set(id, data)
		}
	}
	return d, len(order) > 0, nil
}
