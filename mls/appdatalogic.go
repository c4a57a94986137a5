package mls

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// A SenderComponent is a Component that decides who may send its proposals,
// too. Members, external senders and those who join by an external commit may
// all send AppDataUpdate and AppEphemeral proposals; a component can be more
// restrictive (mls-extensions sections 4.7 and 4.8).
type SenderComponent interface {
	Component
	// CheckSender returns an error unless sender may send p, an AppDataUpdate
	// or AppEphemeral of the component, in the epoch s. Like the rest of a
	// Component it is pure.
	CheckSender(s *State, sender Sender, p *Proposal) error
}

// An EphemeralData is the content of an AppEphemeral proposal in a commit.
type EphemeralData struct {
	ComponentID ComponentID
	Data        []byte
	Sender      Sender // of the proposal, who need not be the committer
	ByReference bool
}

// Ephemerals returns the content of the commit's AppEphemeral proposals in
// the order in which components must process it (mls-extensions section 4.8).
// Every EphemeralComponent has accepted its part. Act on it when the commit is
// merged, before what AppDataUpdate proposals of the commit changed.
func (sc *StagedCommit) Ephemerals() []EphemeralData {
	var list []EphemeralData
	for i := range sc.Proposals {
		if q := &sc.Proposals[i]; q.Proposal.Type == ProposalAppEphemeral {
			e := q.Proposal.AppEphemeral
			list = append(list, EphemeralData{e.ComponentID, e.Data, q.Sender, q.Ref != nil})
		}
	}
	return list
}

// StandardComponents returns the logic of the components that mls-extensions
// defines for a GroupContext, for use in [Config.Components]: an AppDataUpdate
// of app_components, safe_aad or content_media_types replaces the list, and
// app_ack is accepted as AppAckComponent does. Whether every member supports
// what the new lists require is checked like everything that a GroupContext
// requires.
func StandardComponents() Components {
	return Components{
		ComponentAppComponents:     replacedList{func() tlspl.Unmarshaler { return new(ComponentsList) }},
		ComponentSafeAAD:           replacedList{func() tlspl.Unmarshaler { return new(ComponentsList) }},
		ComponentContentMediaTypes: replacedList{func() tlspl.Unmarshaler { return new(MediaTypeList) }},
		ComponentAppAck:            AppAckComponent{},
	}
}

// replacedList is the logic of data that an update replaces as a whole.
type replacedList struct{ make func() tlspl.Unmarshaler }

func (l replacedList) Update(_ []byte, _ bool, updates [][]byte) ([]byte, error) {
	for _, u := range updates {
		if err := tlspl.Unmarshal(u, l.make()); err != nil {
			return nil, fmt.Errorf("mls: list: %w", err)
		}
	}
	return updates[len(updates)-1], nil
}

func (l replacedList) Remove([]byte) error { return nil }
