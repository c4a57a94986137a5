package content

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// MessageIDSize is the length in octets of a message ID.
const MessageIDSize = 32

// HashSHA256 is the only hash algorithm that message IDs use today, by its
// number in the IANA named information hash algorithm registry.
const HashSHA256 = 0x01

// A MessageID names one version of one message (section 3.3). Its first
// octet is the hash algorithm, the others are the start of the hash.
type MessageID [MessageIDSize]byte

// ComputeID returns the ID of the encoded message (section 3.3):
//
//	hash_output = hash( senderUriLength || senderUri ||
//	                    roomUriLength   || roomUri   ||
//	                    message         || salt )
//	messageId = hashAlg || hash_output[0..30]
//
// The lengths are 16-bit numbers of octets. encoded must begin as a MIMI
// content message does; it is hashed as it is and not otherwise checked. A
// URI that is longer than a length can tell is ErrURITooLong.
func ComputeID(senderURI, roomURI string, encoded []byte) (MessageID, error) {
	const head = 2 // array of seven items, byte string of sixteen octets
	if len(encoded) < head+SaltSize || encoded[0] != 0x87 || encoded[1] != 0x50 {
		return MessageID{}, wrap(ErrSyntax, "it does not begin with a salt")
	}
	if len(senderURI) > 0xffff || len(roomURI) > 0xffff {
		return MessageID{}, ErrURITooLong
	}
	h := sha256.New()
	var n [2]byte
	for _, uri := range [...]string{senderURI, roomURI} {
		binary.BigEndian.PutUint16(n[:], uint16(len(uri)))
		h.Write(n[:])
		h.Write([]byte(uri))
	}
	h.Write(encoded)
	h.Write(encoded[head : head+SaltSize])
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	var id MessageID
	id[0] = HashSHA256
	copy(id[1:], sum[:])
	return id, nil
}

// ParseMessageID reads the 64 hexadecimal digits that String writes.
func ParseMessageID(s string) (MessageID, error) {
	var id MessageID
	return id, id.UnmarshalText([]byte(s))
}

// String returns the ID as 64 lower-case hexadecimal digits.
func (id MessageID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText is String as octets.
func (id MessageID) MarshalText() ([]byte, error) {
	return hex.AppendEncode(nil, id[:]), nil
}

// UnmarshalText is ParseMessageID in place.
func (id *MessageID) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(MessageIDSize) {
		return fmt.Errorf("content: message ID has %d characters, want %d hexadecimal digits", len(b), hex.EncodedLen(MessageIDSize))
	}
	var v MessageID
	if _, err := hex.Decode(v[:], b); err != nil {
		return fmt.Errorf("content: message ID is not hexadecimal: %w", err)
	}
	*id = v
	return nil
}

// Compare orders IDs by their octets. Messages with the same accepted
// timestamp are shown lowest ID first (section 5.11).
func (id MessageID) Compare(other MessageID) int { return bytes.Compare(id[:], other[:]) }

// IsZero reports whether id is all zeros, which no message has.
func (id MessageID) IsZero() bool { return id == MessageID{} }

// KnownAlgorithm reports whether this package can compute IDs of id's kind.
func (id MessageID) KnownAlgorithm() bool { return id[0] == HashSHA256 }
