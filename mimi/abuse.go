package mimi

import (
	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mls"
)

// Limits of abuse reports.
const (
	MaxAbuseNote     = 64 << 10
	MaxAbuseMessages = 256
	MaxAbuseReport   = 8 << 20
)

// AbuseType is the reason of a report. The draft defines none but 0.
type AbuseType uint8

// An AbusiveMessage is a message of a report with the hub's proof that it
// accepted it. Content is the full application data, as it was decrypted:
// that is what the franking tag was computed over.
//
//	struct { opaque message_content<V>; Frank frank; uint64 accepted_timestamp; } AbusiveMessage;
type AbusiveMessage struct {
	Content           []byte
	Frank             Frank
	AcceptedTimestamp uint64 // milliseconds since the Unix epoch
}

// An AbuseReport tells a hub of abusive messages.
//
//	struct {                                            section 5.9
//	  IdentifierUri reportingUser;             /* may be empty */
//	  IdentifierUri allegedAbuserUri;
//	  AbuseType reasonCode;
//	  opaque note<V>;
//	  AbusiveMessage messages<V>;
//	  AppDataDictionary abuse_extensions;
//	} AbuseReport;
type AbuseReport struct {
	Reporter   URI // zero: anonymous
	Abuser     URI
	Reason     AbuseType
	Note       string
	Messages   []AbusiveMessage
	Extensions mls.AppDataDictionary
}

// MarshalTLS writes m.
func (m *AbuseReport) MarshalTLS(w *tlspl.Writer) {
	w.Value(m.Reporter)
	w.Value(m.Abuser)
	w.Uint8(uint8(m.Reason))
	w.Opaque([]byte(m.Note))
	tlspl.WriteVector(w, m.Messages, func(w *tlspl.Writer, a *AbusiveMessage) {
		w.Opaque(a.Content)
		w.Value(&a.Frank)
		w.Uint64(a.AcceptedTimestamp)
	})
	w.Value(m.Extensions)
}

// UnmarshalTLS reads m.
func (m *AbuseReport) UnmarshalTLS(r *tlspl.Reader) {
	*m = AbuseReport{}
	r.Value(&m.Reporter)
	if !m.Reporter.IsZero() {
		required(r, "reportingUser", m.Reporter, KindUser)
	}
	r.Value(&m.Abuser)
	required(r, "allegedAbuserUri", m.Abuser, KindUser)
	m.Reason = AbuseType(r.Uint8())
	m.Note = readText(r, MaxAbuseNote)
	m.Messages = tlspl.ReadVector(r, MaxAbuseMessages, func(r *tlspl.Reader, a *AbusiveMessage) {
		a.Content = r.Opaque(MaxSubmitRequest)
		r.Value(&a.Frank)
		a.AcceptedTimestamp = r.Uint64()
	})
	r.Value(&m.Extensions)
}
