package mimi

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mls"
)

// A FanoutMessage is one event of a room as the hub distributes it.
//
//	struct {                                            section 5.5
//	  uint64 timestamp;
//	  select (protocol) { case mls10:
//	      MLSMessage message;
//	      select (kind of message) {
//	        case application: optional<Frank> frank;
//	        case welcome:     RatchetTreeOption ratchetTreeOption;
//	        case proposal:    MLSMessage moreProposals<V>;
//	        case commit:      MLSMessage externalProposals<V>;
//	      };
//	  };
//	} FanoutMessage;
//
// The kind follows from the wire format and, in a PublicMessage, from the
// content type.
type FanoutMessage struct {
	Timestamp uint64 // when the hub accepted it, milliseconds since the Unix epoch
	Message   mls.MLSMessage

	Frank             *Frank            // with an application message, may be nil
	RatchetTree       RatchetTreeOption // with a Welcome
	MoreProposals     []mls.MLSMessage  // with a proposal
	ExternalProposals []mls.MLSMessage  // with a commit
}

// FanoutKind says what a FanoutMessage carries.
type FanoutKind uint8

// The cases of section 5.5.
const (
	FanoutApplication FanoutKind = iota + 1
	FanoutWelcome
	FanoutProposal
	FanoutCommit
)

// String returns the draft's name of the case.
func (k FanoutKind) String() string {
	switch k {
	case FanoutApplication:
		return "application"
	case FanoutWelcome:
		return "welcome"
	case FanoutProposal:
		return "proposal"
	case FanoutCommit:
		return "commit"
	}
	return fmt.Sprintf("0x%02X", uint8(k))
}

// Kind returns what m carries.
func (m *FanoutMessage) Kind() (FanoutKind, error) {
	if m.Message.WireFormat == mls.WireWelcome && m.Message.Welcome != nil {
		return FanoutWelcome, nil
	}
	t, err := kindOf(&m.Message)
	if err != nil {
		return 0, err
	}
	switch t {
	case mls.ContentApplication:
		return FanoutApplication, nil
	case mls.ContentProposal:
		return FanoutProposal, nil
	}
	return FanoutCommit, nil
}

// MarshalTLS writes m.
func (m *FanoutMessage) MarshalTLS(w *tlspl.Writer) {
	kind, err := m.Kind()
	if err != nil {
		w.Fail(err)
		return
	}
	w.Uint64(m.Timestamp)
	w.Value(&m.Message)
	switch kind {
	case FanoutApplication:
		w.Optional(m.Frank != nil, func(w *tlspl.Writer) { w.Value(m.Frank) })
	case FanoutWelcome:
		w.Value(&m.RatchetTree)
	case FanoutProposal:
		writeMessages(w, m.MoreProposals)
	case FanoutCommit:
		writeMessages(w, m.ExternalProposals)
	}
}

// UnmarshalTLS reads m.
func (m *FanoutMessage) UnmarshalTLS(r *tlspl.Reader) {
	*m = FanoutMessage{Timestamp: r.Uint64()}
	r.Value(&m.Message)
	if r.Err() != nil {
		return
	}
	kind, err := m.Kind()
	if err != nil {
		r.Fail(err)
		return
	}
	switch kind {
	case FanoutApplication:
		if r.Optional() {
			m.Frank = new(Frank)
			r.Value(m.Frank)
		}
	case FanoutWelcome:
		r.Value(&m.RatchetTree)
	case FanoutProposal:
		m.MoreProposals = readProposals(r)
	case FanoutCommit:
		m.ExternalProposals = readProposals(r)
	}
}

// ParseFanout parses the body of a notification: one or more concatenated
// FanoutMessages of one room. It refuses a body with anything left over.
func ParseFanout(body []byte) ([]FanoutMessage, error) {
	if len(body) > MaxNotifyRequest {
		return nil, fmt.Errorf("%w: notification of %d octets; the limit is %d", ErrMalformed, len(body), MaxNotifyRequest)
	}
	parts, err := SplitFanout(body)
	if err != nil {
		return nil, err
	}
	messages := make([]FanoutMessage, len(parts))
	for i := range parts {
		messages[i] = parts[i].FanoutMessage
	}
	return messages, nil
}

// A RawFanout is a FanoutMessage with the bytes it was received in.
type RawFanout struct {
	FanoutMessage
	Raw []byte // aliases the body
}

// SplitFanout is ParseFanout for a receiver that stores or forwards the
// messages byte for byte.
func SplitFanout(body []byte) ([]RawFanout, error) {
	r := tlspl.NewReader(body)
	var out []RawFanout
	for !r.Empty() {
		if len(out) == MaxFanout {
			return nil, fmt.Errorf("%w: more than %d messages in a notification", ErrMalformed, MaxFanout)
		}
		start := r.Offset()
		var m RawFanout
		m.FanoutMessage.UnmarshalTLS(r)
		m.Raw = r.Since(start)
		out = append(out, m)
	}
	if err := r.Finish(); err != nil {
		return nil, fmt.Errorf("mimi: message %d of a notification: %w", len(out), err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: empty notification", ErrMalformed)
	}
	return out, nil
}
