package content

import (
	"math"
	"time"
	"unicode/utf8"
)

// DerivedValues is what a client knows of a message besides its content
// (section 4.6), in the form for exchange between parts of one client:
//
//	MessageDerivedValues = [
//	    messageId: MessageId,
//	    hubAcceptedTimestamp: Timestamp,
//	    mlsGroupId: bstr,
//	    senderLeafIndex: uint .size 4,
//	    senderClientUrl: MsgUri,
//	    senderUserUrl: MsgUri,
//	    roomUrl: MsgUri
//	]
type DerivedValues struct {
	MessageID       MessageID
	Accepted        Timestamp
	MLSGroupID      []byte
	SenderLeafIndex uint32
	SenderClientURL string
	SenderUserURL   string
	RoomURL         string
}

// A Timestamp is milliseconds since the UNIX epoch or, if Extended is set,
// the CBOR of an extended time (tag 1001, RFC 9581 section 3), which is kept
// and not interpreted.
//
//	Timestamp = MsecsSinceEpoch / ExtendedTime
type Timestamp struct {
	Milliseconds uint64
	Extended     []byte
}

// Time returns the time in UTC; ok is false for an extended time or one out
// of range.
func (t Timestamp) Time() (v time.Time, ok bool) {
	if t.Extended != nil || t.Milliseconds > math.MaxInt64 {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(t.Milliseconds)).UTC(), true
}

const tagExtendedTime = 1001

// readExtendedTime reads a tag 1001 with a map that has integer and text
// keys.
func readExtendedTime(r *reader) []byte {
	start := r.off
	if tag := r.want(majorTag, "hubAcceptedTimestamp"); r.err == nil && tag != tagExtendedTime {
		r.fail(ErrSyntax, "hubAcceptedTimestamp has tag %d, want %d", tag, tagExtendedTime)
	}
	n := r.want(majorMap, "extended time")
	r.entries(n, func() {
		if r.err == nil && r.left() > 0 && r.b[r.off]>>5 == majorBytes {
			r.fail(ErrDataModel, "map key of major type %d", majorBytes)
		}
		r.key()
	}, func() { r.any(MaxExtensionDepth - 2) })
	if r.err != nil {
		return nil
	}
	return r.b[start:r.off:r.off]
}

// DecodeDerivedValues reads derived values in deterministic encoding. Byte
// slices alias b.
func DecodeDerivedValues(b []byte) (*DerivedValues, error) {
	r := &reader{b: b}
	d := new(DerivedValues)
	r.arrayOf(7, "derived values")
	d.MessageID = readID(r, "messageId")
	if r.err == nil && r.left() > 0 && r.b[r.off]>>5 == majorTag {
		d.Accepted.Extended = readExtendedTime(r)
	} else {
		d.Accepted.Milliseconds = r.uint(math.MaxUint64, "hubAcceptedTimestamp")
	}
	d.MLSGroupID = r.bytes("mlsGroupId")
	d.SenderLeafIndex = uint32(r.uint(math.MaxUint32, "senderLeafIndex"))
	d.SenderClientURL = r.text("senderClientUrl")
	d.SenderUserURL = r.text("senderUserUrl")
	d.RoomURL = r.text("roomUrl")
	if err := r.finish(); err != nil {
		return nil, err
	}
	return d, nil
}

// Encode returns the deterministic encoding of d.
func (d *DerivedValues) Encode() ([]byte, error) {
	b := append([]byte(nil), 0x80|7)
	b = appendBytes(b, d.MessageID[:])
	if d.Accepted.Extended != nil {
		r := &reader{b: d.Accepted.Extended}
		readExtendedTime(r)
		if err := r.finish(); err != nil {
			return nil, err
		}
		b = append(b, d.Accepted.Extended...)
	} else {
		b = appendUint(b, d.Accepted.Milliseconds)
	}
	b = appendBytes(b, d.MLSGroupID)
	b = appendUint(b, uint64(d.SenderLeafIndex))
	for _, s := range []string{d.SenderClientURL, d.SenderUserURL, d.RoomURL} {
		if !utf8.ValidString(s) {
			return nil, wrap(ErrDataModel, "a URL is not valid UTF-8")
		}
		b = appendText(b, s)
	}
	return b, nil
}
