package mls

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
)

// maxAckRanges bounds the ranges of one AppAck, which takes 12 octets for
// each.
const maxAckRanges = 1 << 14

// MessageRange names application messages of one sender and epoch by their
// generations, from First to Last inclusive (mls-extensions section 6.1):
//
//	struct {
//	    uint32 sender;
//	    uint32 first_generation;
//	    uint32 last_generation;
//	} MessageRange;
type MessageRange struct {
	Sender LeafIndex
	First  uint32
	Last   uint32
}

// AppAck is the set of application messages that its sender received in the
// current epoch, MessageRange received_ranges<V> (mls-extensions section 6.1).
// It is sent as the content of an AppEphemeral proposal of the component
// app_ack, so that it becomes part of the transcript. The order of ranges says
// nothing, and they may overlap.
type AppAck []MessageRange

// MarshalTLS implements tlspl.Marshaler.
func (a AppAck) MarshalTLS(w *tlspl.Writer) {
	if len(a) > maxAckRanges {
		w.Fail(fmt.Errorf("%w: AppAck of %d ranges; the limit is %d", ErrLimit, len(a), maxAckRanges))
		return
	}
	tlspl.WriteVector(w, a, func(w *tlspl.Writer, r *MessageRange) {
		if r.First > r.Last {
			w.Fail(fmt.Errorf("%w: AppAck of generations %d to %d", ErrInvalidMessage, r.First, r.Last))
		}
		w.Uint32(uint32(r.Sender))
		w.Uint32(r.First)
		w.Uint32(r.Last)
	})
}

// UnmarshalTLS implements tlspl.Unmarshaler. It fails if a range ends before
// it begins.
func (a *AppAck) UnmarshalTLS(r *tlspl.Reader) {
	*a = tlspl.ReadVector(r, maxAckRanges, func(r *tlspl.Reader, m *MessageRange) {
		*m = MessageRange{LeafIndex(r.Uint32()), r.Uint32(), r.Uint32()}
		if r.Err() == nil && m.First > m.Last {
			r.Failf("generations %d to %d in an AppAck", m.First, m.Last)
		}
	})
}

// Contains reports whether the AppAck acknowledges a message.
func (a AppAck) Contains(sender LeafIndex, generation uint32) bool {
	return slices.ContainsFunc(a, func(r MessageRange) bool {
		return r.Sender == sender && r.First <= generation && generation <= r.Last
	})
}

// normal returns the same set in its shortest form: sorted, and no two ranges
// overlap or touch.
func (a AppAck) normal() AppAck {
	sorted := slices.Clone(a)
	slices.SortFunc(sorted, func(x, y MessageRange) int {
		return cmp.Or(cmp.Compare(x.Sender, y.Sender), cmp.Compare(x.First, y.First))
	})
	out := sorted[:0]
	for _, r := range sorted {
		if n := len(out); n > 0 && out[n-1].Sender == r.Sender && uint64(r.First) <= uint64(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// minus returns what is in a, but not in b. Both are in normal form.
func (a AppAck) minus(b AppAck) AppAck {
	var out AppAck
	for _, r := range a {
		for len(b) > 0 && (b[0].Sender < r.Sender || b[0].Sender == r.Sender && b[0].Last < r.First) {
			b = b[1:]
		}
		whole := true // something of r is left
		for i := 0; i < len(b) && b[i].Sender == r.Sender && b[i].First <= r.Last; i++ {
			if b[i].First > r.First {
				out = append(out, MessageRange{r.Sender, r.First, b[i].First - 1})
			}
			if b[i].Last >= r.Last {
				whole = false
				break
			}
			r.First = b[i].Last + 1
		}
		if whole {
			out = append(out, r)
		}
	}
	return out
}

// Proposal returns the AppEphemeral proposal that sends the AppAck.
func (a AppAck) Proposal() (Proposal, error) {
	data, err := tlspl.Marshal(a)
	return AppEphemeralProposal(ComponentAppAck, data), err
}

// AppAcks returns the AppAcks in a commit, in order, by their senders.
func (sc *StagedCommit) AppAcks() ([]SentAck, error) {
	var list []SentAck
	for _, e := range sc.Ephemerals() {
		if e.ComponentID != ComponentAppAck {
			continue
		}
		var a AppAck
		if err := tlspl.Unmarshal(e.Data, &a); err != nil {
			return nil, fmt.Errorf("%w: AppAck: %w", ErrInvalidMessage, err)
		}
		list = append(list, SentAck{e.Sender.Leaf, a})
	}
	return list, nil
}

// A SentAck is an AppAck and the member who sent it.
type SentAck struct {
	Sender LeafIndex
	Ack    AppAck
}

// AppAckComponent is the logic of app_ack, for [Config.Components]. An AppAck
// is valid if a member sent it, for nobody else has received messages in the
// epoch, and if it names members only as senders of messages.
type AppAckComponent struct{}

var errAppAckData = errors.New("mls: app_ack keeps no data in the GroupContext")

// Update implements Component: it fails.
func (AppAckComponent) Update([]byte, bool, [][]byte) ([]byte, error) { return nil, errAppAckData }

// Remove implements Component: it fails.
func (AppAckComponent) Remove([]byte) error { return errAppAckData }

// Ephemeral implements EphemeralComponent.
func (AppAckComponent) Ephemeral(data []byte) error {
	var a AppAck
	return tlspl.Unmarshal(data, &a)
}

// CheckSender implements SenderComponent.
func (AppAckComponent) CheckSender(s *State, sender Sender, p *Proposal) error {
	if sender.Type != SenderMember {
		return fmt.Errorf("%w: AppAck from a sender of type %d, who receives no messages", ErrUnknownSender, sender.Type)
	}
	if p.AppEphemeral == nil {
		return errAppAckData
	}
	var a AppAck
	if err := tlspl.Unmarshal(p.AppEphemeral.Data, &a); err != nil {
		return err
	}
	for _, r := range a {
		if _, ok := s.Member(r.Sender); !ok {
			return fmt.Errorf("%w: AppAck of messages of the blank leaf %d", ErrUnknownSender, r.Sender)
		}
	}
	return nil
}
