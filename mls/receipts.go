package mls

import (
	"fmt"
	"slices"

	"github.com/comity-im/comity/internal/tlspl"
)

// Bounds of a ReceiptLog.
const (
	maxReceiptRanges = 4096 // of one epoch, 12 octets each
	maxReceiptEpochs = 4
)

// A ReceiptLog remembers which application messages were received, to
// acknowledge them by an AppAck and to notice what got lost (mls-extensions
// section 6.1). Its zero value is ready. It holds the latest four epochs and
// at most 4 096 gapless ranges of each; what does not fit is not acknowledged,
// so that an AppAck never claims too much. It is not safe for concurrent use;
// its encoding can be stored.
//
//	struct {
//	    uint64 epoch;
//	    AppAck received;
//	} EpochReceipts;
//
//	struct { EpochReceipts epochs<V>; } ReceiptLog;
type ReceiptLog struct {
	epochs []epochReceipts // increasing
}

type epochReceipts struct {
	epoch    Epoch
	received AppAck // in normal form
}

// MarshalTLS implements tlspl.Marshaler.
func (l *ReceiptLog) MarshalTLS(w *tlspl.Writer) {
	tlspl.WriteVector(w, l.epochs, func(w *tlspl.Writer, e *epochReceipts) {
		w.Uint64(e.epoch)
		e.received.MarshalTLS(w)
	})
}

// UnmarshalTLS implements tlspl.Unmarshaler. It fails unless epochs and ranges
// are sorted and within the bounds.
func (l *ReceiptLog) UnmarshalTLS(r *tlspl.Reader) {
	l.epochs = tlspl.ReadVector(r, maxReceiptEpochs, func(r *tlspl.Reader, e *epochReceipts) {
		e.epoch = r.Uint64()
		e.received.UnmarshalTLS(r)
		if r.Err() == nil && (len(e.received) > maxReceiptRanges || !slices.Equal(e.received, e.received.normal())) {
			r.Failf("receipts of epoch %d are not in order", e.epoch)
		}
	})
	for i := 1; i < len(l.epochs); i++ {
		if l.epochs[i-1].epoch >= l.epochs[i].epoch {
			r.Failf("receipts of epoch %d after those of epoch %d", l.epochs[i].epoch, l.epochs[i-1].epoch)
		}
	}
}

// Add notes that a message was received. It returns false if the log has no
// room for it: the epoch is older than those that it holds, or the message
// begins a range too many.
func (l *ReceiptLog) Add(m *ApplicationMessage) bool {
	e := l.at(m.Epoch, true)
	return e != nil && e.add(m.Sender, m.Generation)
}

// at returns the receipts of an epoch, nil if there are none; or, if create is
// set, if there is no room for them.
func (l *ReceiptLog) at(epoch Epoch, create bool) *epochReceipts {
	i, ok := slices.BinarySearchFunc(l.epochs, epoch, func(e epochReceipts, epoch Epoch) int {
		switch {
		case e.epoch < epoch:
			return -1
		case e.epoch > epoch:
			return 1
		}
		return 0
	})
	switch {
	case ok:
		return &l.epochs[i]
	case !create:
		return nil
	case len(l.epochs) == maxReceiptEpochs:
		if i == 0 {
			return nil
		}
		l.epochs = slices.Delete(l.epochs, 0, 1)
		i--
	}
	l.epochs = slices.Insert(l.epochs, i, epochReceipts{epoch: epoch})
	return &l.epochs[i]
}

func (e *epochReceipts) add(sender LeafIndex, generation uint32) bool {
	// i is the first range that begins after the message.
	i, _ := slices.BinarySearchFunc(e.received, struct{}{}, func(r MessageRange, _ struct{}) int {
		if r.Sender < sender || r.Sender == sender && r.First <= generation {
			return -1
		}
		return 1
	})
	before := i > 0 && e.received[i-1].Sender == sender && uint64(generation) <= uint64(e.received[i-1].Last)+1
	after := i < len(e.received) && e.received[i].Sender == sender && e.received[i].First == generation+1 && generation != ^uint32(0)
	switch {
	case before && generation <= e.received[i-1].Last: // noted already
	case before && after:
		e.received[i-1].Last = e.received[i].Last
		e.received = slices.Delete(e.received, i, i+1)
	case before:
		e.received[i-1].Last = generation
	case after:
		e.received[i].First = generation
	case len(e.received) == maxReceiptRanges:
		return false
	default:
		e.received = slices.Insert(e.received, i, MessageRange{sender, generation, generation})
	}
	return true
}

// Ack returns the AppAck of an epoch: send it as a proposal of that epoch.
func (l *ReceiptLog) Ack(epoch Epoch) AppAck {
	if e := l.at(epoch, false); e != nil {
		return slices.Clone(e.received)
	}
	return nil
}

// Gaps returns the messages of an epoch that were not received, though later
// ones of the same sender were: they are late, or lost.
func (l *ReceiptLog) Gaps(epoch Epoch) []MessageRange {
	received := l.Ack(epoch)
	var all AppAck
	for _, r := range received {
		all = append(all, MessageRange{r.Sender, 0, r.Last})
	}
	return all.normal().minus(received)
}

// An AckReview is what an AppAck of another member tells about losses. What it
// lists may also be late: in particular, a message that was sent after the
// AppAck.
type AckReview struct {
	Undelivered []MessageRange // own messages of the epoch that the other member has not received
	Missed      []MessageRange // messages that the other member has received, and the local one has not
}

// ReviewAck compares an AppAck that the member acker sent in the current epoch
// with what was sent by this group and received according to l. The error
// matches ErrInvalidMessage if acker claims to have received what was not sent.
func (g *Group) ReviewAck(l *ReceiptLog, acker LeafIndex, ack AppAck) (*AckReview, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	var mine, others AppAck
	for _, r := range ack.normal() {
		switch r.Sender {
		case g.own:
			mine = append(mine, r)
		case acker: // knows what it sent itself
		default:
			others = append(others, r)
		}
	}
	sent := g.Sent()
	for _, r := range mine {
		if r.Last >= sent {
			return nil, fmt.Errorf("%w: leaf %d acknowledges generation %d; only %d messages were sent", ErrInvalidMessage, acker, r.Last, sent)
		}
	}
	review := &AckReview{Missed: others.minus(l.Ack(g.state.Epoch()))}
	if sent > 0 && acker != g.own {
		review.Undelivered = AppAck{{g.own, 0, sent - 1}}.minus(mine)
	}
	return review, nil
}

// Sent returns how many application messages were encrypted by this group in
// the current epoch; their generations count from 0.
func (g *Group) Sent() uint32 {
	if g.tree == nil {
		return 0
	}
	if pair := g.tree.senders[g.own]; pair != nil && pair[applicationRatchet] != nil {
		return pair[applicationRatchet].next
	}
	return 0
}
