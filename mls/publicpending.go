package mls

import (
	"fmt"

	"github.com/comity-im/comity/internal/tlspl"
)

// proposalRecord is the stored form of a PublicGroup's pending proposal. The
// content of one that came encrypted is stored, too: the key with which it was
// opened may be another one after a restart.
//
//	struct {
//	    MLSMessage message;
//	    select (ProposalRecord.message.wire_format) {
//	        case mls_semiprivate_message: AuthenticatedContent content;
//	        default:                      struct{};
//	    };
//	} ProposalRecord;
type proposalRecord QueuedProposal

func (q *proposalRecord) MarshalTLS(w *tlspl.Writer) {
	q.Message.MarshalTLS(w)
	if q.Message.WireFormat == WireSemiPrivateMessage {
		q.content.MarshalTLS(w)
	}
}

func (q *proposalRecord) UnmarshalTLS(r *tlspl.Reader) {
	q.Message = new(MLSMessage)
	q.Message.UnmarshalTLS(r)
	if r.Err() == nil && q.Message.WireFormat == WireSemiPrivateMessage {
		q.content = new(AuthenticatedContent)
		q.content.UnmarshalTLS(r)
	}
}

// authenticate verifies a stored proposal again, as one of the epoch s.
func (q *proposalRecord) authenticate(s *State) (*AuthenticatedContent, error) {
	if q.Message.WireFormat != WireSemiPrivateMessage {
		return s.openPublic(q.Message, ContentProposal)
	}
	a, m := q.content, q.Message.SemiPrivateMessage
	if a.WireFormat != WireSemiPrivateMessage || a.Content.ContentType != ContentProposal || a.Content.Sender.Type != SenderMember {
		return nil, fmt.Errorf("%w: content that is not a SemiPrivateMessage's", ErrInvalidMessage)
	}
	tbs, err := a.tbs(s.encoded)
	if err != nil {
		return nil, err
	}
	if !macEqual(s.suite.sum(tbs), m.FramedContentTBSHash) {
		return nil, fmt.Errorf("%w: content that is not the message's", ErrInvalidMessage)
	}
	return a, s.verifyContent(a)
}
