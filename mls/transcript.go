package mls

import (
	"crypto/subtle"

	"github.com/comity-im/comity/internal/tlspl"
)

// confirmedTranscriptHash adds a commit to the transcript (RFC 9420
// section 8.2):
//
//	struct {
//	    WireFormat wire_format;
//	    FramedContent content; /* with content_type == commit */
//	    opaque signature<V>;
//	} ConfirmedTranscriptHashInput;
func (s *suite) confirmedTranscriptHash(interim []byte, commit *AuthenticatedContent) ([]byte, error) {
	content := commit.Content.raw
	if content == nil {
		var err error
		if content, err = tlspl.Marshal(&commit.Content); err != nil {
			return nil, err
		}
	}
	var format, signature tlspl.Writer
	format.Uint16(uint16(commit.WireFormat))
	signature.Opaque(commit.Auth.Signature)
	first, err := format.Bytes()
	if err != nil {
		return nil, err
	}
	last, err := signature.Bytes()
	if err != nil {
		return nil, err
	}
	return s.sum(interim, first, content, last), nil
}

// interimTranscriptHash adds a commit's confirmation tag to the transcript
// (RFC 9420 section 8.2):
//
//	struct { MAC confirmation_tag; } InterimTranscriptHashInput;
func (s *suite) interimTranscriptHash(confirmed, tag []byte) ([]byte, error) {
	var w tlspl.Writer
	w.Opaque(tag)
	input, err := w.Bytes()
	if err != nil {
		return nil, err
	}
	return s.sum(confirmed, input), nil
}

// confirmationTag is the MAC by which a committer shows that it knows the
// epoch's secrets (RFC 9420 section 6.1).
func (s *suite) confirmationTag(confirmationKey, confirmedTranscriptHash []byte) []byte {
	return s.mac(confirmationKey, confirmedTranscriptHash)
}

// xorGuard applies a reuse guard to a nonce (RFC 9420 section 6.3.1).
func xorGuard(nonce []byte, guard [4]byte) []byte {
	out := append([]byte(nil), nonce...)
	subtle.XORBytes(out[:4], out[:4], guard[:])
	return out
}
