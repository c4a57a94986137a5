package local

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
)

// FrameType names a frame of the stream.
type FrameType uint8

// Frame types. The client sends the first three, the provider the others.
const (
	FrameSubscribe   FrameType = 1
	FrameUnsubscribe FrameType = 2
	FrameAckMail     FrameType = 3
	FrameEvent       FrameType = 16
	FrameMail        FrameType = 17
	FrameCaughtUp    FrameType = 18
	FrameClosed      FrameType = 19
)

// String returns the name of the type.
func (t FrameType) String() string {
	switch t {
	case FrameSubscribe:
		return "subscribe"
	case FrameUnsubscribe:
		return "unsubscribe"
	case FrameAckMail:
		return "ackMail"
	case FrameEvent:
		return "event"
	case FrameMail:
		return "mail"
	case FrameCaughtUp:
		return "caughtUp"
	case FrameClosed:
		return "closed"
	}
	return fmt.Sprintf("0x%02X", uint8(t))
}

// MailKind says what a Mail carries.
type MailKind uint8

// Mail kinds.
const (
	// MailWelcome: Body is the FanoutMessage with the Welcome, Room is the
	// room, and Position is that of the commit that added the device, the first
	// event that the device may read.
	MailWelcome MailKind = 1
	// MailRejected: a message that was pending (status 202) was refused for
	// good. Body is the hub's SubmitMessageResponse, preceded by the SHA-256 of
	// the MLSMessage.
	MailRejected MailKind = 2
)

// A Frame is one binary WebSocket message of the stream. Which fields count
// depends on Type.
//
//	struct {
//	    FrameType type;
//	    select (type) {
//	        case subscribe:   IdentifierUri room; uint64 position;
//	        case unsubscribe: IdentifierUri room;
//	        case ackMail:     uint64 mail;
//	        case event:       IdentifierUri room; uint64 position; opaque body<V>;
//	        case mail:        uint64 mail; MailKind kind; IdentifierUri room;
//	                          uint64 position; opaque body<V>;
//	        case caughtUp:    IdentifierUri room; uint64 position;
//	        case closed:      IdentifierUri room; uint64 position;
//	    };
//	} Frame;
//
// subscribe asks for the events of a room after position: 0 starts where the
// device may start. It may be sent before the device is a member; events
// follow once it is. All mail that is not acknowledged is sent unasked when a
// stream opens, and new mail as it arrives; ackMail confirms all mail up to
// its number. caughtUp says, once for each subscribe, that the client has
// everything there was up to position; closed that the device may read nothing
// after it.
type Frame struct {
	Type     FrameType
	Room     mimi.URI
	Position uint64
	Mail     uint64
	Kind     MailKind
	Body     []byte // aliases the input after UnmarshalTLS
}

// MarshalTLS appends the frame.
func (f *Frame) MarshalTLS(w *tlspl.Writer) {
	w.Uint8(uint8(f.Type))
	switch f.Type {
	case FrameSubscribe, FrameCaughtUp, FrameClosed:
		w.Value(f.Room)
		w.Uint64(f.Position)
	case FrameUnsubscribe:
		w.Value(f.Room)
	case FrameAckMail:
		w.Uint64(f.Mail)
	case FrameEvent:
		w.Value(f.Room)
		w.Uint64(f.Position)
		w.Opaque(f.Body)
	case FrameMail:
		w.Uint64(f.Mail)
		w.Uint8(uint8(f.Kind))
		w.Value(f.Room)
		w.Uint64(f.Position)
		w.Opaque(f.Body)
	default:
		w.Fail(fmt.Errorf("local: frame type %v can't be sent", f.Type))
	}
}

// UnmarshalTLS consumes a frame.
func (f *Frame) UnmarshalTLS(r *tlspl.Reader) {
	*f = Frame{Type: FrameType(r.Uint8())}
	switch f.Type {
	case FrameSubscribe, FrameCaughtUp, FrameClosed:
		r.Value(&f.Room)
		f.Position = r.Uint64()
	case FrameUnsubscribe:
		r.Value(&f.Room)
	case FrameAckMail:
		f.Mail = r.Uint64()
	case FrameEvent:
		r.Value(&f.Room)
		f.Position = r.Uint64()
		f.Body = r.Opaque(0)
	case FrameMail:
		f.Mail = r.Uint64()
		f.Kind = MailKind(r.Uint8())
		r.Value(&f.Room)
		f.Position = r.Uint64()
		f.Body = r.Opaque(0)
	default:
		r.Failf("unknown frame type 0x%02X", uint8(f.Type))
	}
}
