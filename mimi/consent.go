package mimi

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mls"
)

// ConsentOperation says what a ConsentEntry does.
type ConsentOperation uint8

// The operations of section 5.7.
const (
	ConsentCancel  ConsentOperation = 0 // withdraws a request
	ConsentRequest ConsentOperation = 1
	ConsentGrant   ConsentOperation = 2
	ConsentRevoke  ConsentOperation = 3
)

// String returns the draft's name of the operation.
func (o ConsentOperation) String() string {
	names := [...]string{"cancel", "request", "grant", "revoke"}
	if int(o) < len(names) {
		return names[o]
	}
	return fmt.Sprintf("0x%02X", uint8(o))
}

// A ConsentEntry asks for, grants, or takes back the consent of a user to be
// added to rooms by another. The requestConsent endpoint takes cancel and
// request, updateConsent grant and revoke.
//
//	enum { cancel(0), request(1), grant(2), revoke(3), (255) } ConsentOperation;
//	struct {                                            section 5.7
//	  ConsentOperation consentOperation;
//	  IdentifierUri requesterUri;
//	  IdentifierUri targetUri;
//	  optional<RoomId> roomId;
//	  select (consentOperation) { case grant: KeyPackage clientKeyPackages<V>; };
//	  AppDataDictionary consent_extensions;
//	} ConsentEntry;
type ConsentEntry struct {
	Operation   ConsentOperation
	Requester   URI
	Target      URI
	Room        URI              // zero: for all rooms
	KeyPackages []mls.KeyPackage // with ConsentGrant, may be empty
	Extensions  mls.AppDataDictionary
}

// MarshalTLS writes m.
func (m *ConsentEntry) MarshalTLS(w *tlspl.Writer) {
	if m.Operation > ConsentRevoke {
		w.Fail(fmt.Errorf("%w: consent operation %d", ErrMalformed, m.Operation))
	}
	w.Uint8(uint8(m.Operation))
	w.Value(m.Requester)
	w.Value(m.Target)
	w.Optional(!m.Room.IsZero(), func(w *tlspl.Writer) { w.Value(m.Room) })
	if m.Operation == ConsentGrant {
		tlspl.WriteVector(w, m.KeyPackages, func(w *tlspl.Writer, kp *mls.KeyPackage) { w.Value(kp) })
	}
	w.Value(m.Extensions)
}

// UnmarshalTLS reads m.
func (m *ConsentEntry) UnmarshalTLS(r *tlspl.Reader) {
	*m = ConsentEntry{Operation: ConsentOperation(r.Uint8())}
	if m.Operation > ConsentRevoke {
		malformed(r, "consent operation %d", m.Operation)
	}
	r.Value(&m.Requester)
	r.Value(&m.Target)
	if r.Err() == nil && (m.Requester.IsZero() || m.Target.IsZero()) {
		malformed(r, "consent without requester or target")
	}
	if r.Optional() {
		r.Value(&m.Room)
		required(r, "roomId", m.Room, KindRoom)
	}
	if m.Operation == ConsentGrant {
		m.KeyPackages = tlspl.ReadVector(r, MaxClients, func(r *tlspl.Reader, kp *mls.KeyPackage) { r.Value(kp) })
	}
	r.Value(&m.Extensions)
}

// A ConsentScope is what a request and its cancellation have in common.
//
//	struct { IdentifierUri requesterUri; IdentifierUri targetUri; optional<RoomId> roomId; } ConsentScope;
type ConsentScope struct{ Requester, Target, Room URI }

// Scope returns the scope of m.
func (m *ConsentEntry) Scope() ConsentScope { return ConsentScope{m.Requester, m.Target, m.Room} }
