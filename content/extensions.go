package content

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/fxamacker/cbor/v2"
)

// An ExtensionKey is an integer other than 0, or a text string of 1 to 255
// octets (section 4.3). Positive integers are registered; negative integers
// and text strings are for private use. The zero value is not a key.
type ExtensionKey struct {
	text string
	num  int64
}

// Extension keys (section 8.2.1, and the individual drafts in which 3 to 5
// and 256 are suggested).
var (
	ExtSenderURI         = IntKey(1)   // tstr
	ExtRoomURI           = IntKey(2)   // tstr
	ExtSenderTimestamp   = IntKey(3)   // draft-mimi-content-more-extensions-00
	ExtExternalMessageID = IntKey(4)   // same
	ExtSubject           = IntKey(5)   // same
	ExtLastSeen          = IntKey(256) // same
)

// MaxExtensionKeyText is the longest text key in octets (section 6.2).
const MaxExtensionKeyText = 255

// IntKey returns the integer key n. Keys are within ±(2^53-1) and not 0.
func IntKey(n int64) ExtensionKey { return ExtensionKey{num: n} }

// TextKey returns the text key s.
func TextKey(s string) ExtensionKey { return ExtensionKey{text: s} }

// Text returns the key's text; ok is false for an integer key.
func (k ExtensionKey) Text() (s string, ok bool) { return k.text, k.text != "" }

// Int returns the key's integer; ok is false for a text key.
func (k ExtensionKey) Int() (n int64, ok bool) { return k.num, k.text == "" }

func (k ExtensionKey) String() string {
	if k.text != "" {
		return strconv.Quote(k.text)
	}
	return strconv.FormatInt(k.num, 10)
}

func (k ExtensionKey) append(b []byte) []byte {
	switch {
	case k.text != "":
		return appendText(b, k.text)
	case k.num < 0:
		return appendHead(b, majorNegint, uint64(-1-k.num))
	}
	return appendUint(b, uint64(k.num))
}

// An Extension is one entry of the extensions map. Value is its CBOR.
type Extension struct {
	Key   ExtensionKey
	Value []byte
}

// Extensions is the extensions map (section 4.3), with values kept as their
// CBOR so that unknown ones survive. The zero value is empty. Order does not
// matter; Encode sorts.
//
//	extensions = {
//	  ? &(senderUri: 1) ^ => tstr,
//	  ? &(roomUri: 2) ^ => tstr,
//	  * $$otherKnownExtensions,
//	  * unknownExtension
//	}
type Extensions []Extension

// Raw returns the CBOR of the value at key.
func (e Extensions) Raw(key ExtensionKey) ([]byte, bool) {
	for _, x := range e {
		if x.Key == key {
			return x.Value, true
		}
	}
	return nil, false
}

// Get decodes the value at key into v, as cbor.Unmarshal does. It returns
// false if there is none.
func (e Extensions) Get(key ExtensionKey, v any) (bool, error) {
	raw, ok := e.Raw(key)
	if !ok {
		return false, nil
	}
	if err := cbor.Unmarshal(raw, v); err != nil {
		return true, fmt.Errorf("content: extension %v: %w", key, err)
	}
	return true, nil
}

// Text returns the text string at key, or "" if there is none.
func (e Extensions) Text(key ExtensionKey) string {
	raw, ok := e.Raw(key)
	if !ok {
		return ""
	}
	r := reader{b: raw}
	s := r.text("extension")
	if r.finish() != nil {
		return ""
	}
	return s
}

// SetRaw puts a value that is already CBOR at key, in place of any other.
// Encode checks it.
func (e *Extensions) SetRaw(key ExtensionKey, value []byte) {
	for i := range *e {
		if (*e)[i].Key == key {
			(*e)[i].Value = value
			return
		}
	}
	*e = append(*e, Extension{key, value})
}

// SetText puts a text string at key.
func (e *Extensions) SetText(key ExtensionKey, s string) { e.SetRaw(key, appendText(nil, s)) }

// Set puts the deterministic encoding of v at key.
func (e *Extensions) Set(key ExtensionKey, v any) error {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return fmt.Errorf("content: extension %v: %w", key, err)
	}
	raw, err := mode.Marshal(v)
	if err != nil {
		return fmt.Errorf("content: extension %v: %w", key, err)
	}
	e.SetRaw(key, raw)
	return nil
}

// Delete removes the value at key.
func (e *Extensions) Delete(key ExtensionKey) {
	*e = slices.DeleteFunc(*e, func(x Extension) bool { return x.Key == key })
}

// append appends the map in deterministic order. It checks each key and
// value by itself with the reader that receivers have, because values are
// CBOR from elsewhere.
func (e Extensions) append(b []byte) ([]byte, error) {
	type entry struct {
		Extension
		key []byte
	}
	b = appendHead(b, majorMap, uint64(len(e)))
	entries := make([]entry, len(e))
	for i, x := range e {
		entries[i] = entry{x, x.Key.append(nil)}
		if r := (&reader{b: entries[i].key}); readExtensionKey(r) != x.Key || r.finish() != nil {
			r.fail(ErrDataModel, "extension key %v", x.Key)
			return nil, r.err
		}
		r := &reader{b: x.Value}
		readExtensionValue(r, x.Key)
		if err := r.finish(); err != nil {
			return nil, fmt.Errorf("extension %v: %w", x.Key, err)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(a.key, b.key) })
	for i, x := range entries {
		if i > 0 && x.Key == entries[i-1].Key {
			return nil, wrap(ErrSyntax, "extension %v is there twice", x.Key)
		}
		b = append(append(b, x.key...), x.Value...)
	}
	return b, nil
}

// readExtensions reads the map. Values alias the input.
func readExtensions(r *reader) Extensions {
	n := r.want(majorMap, "extensions")
	if r.err != nil || n == 0 {
		return nil
	}
	var (
		e   = make(Extensions, 0, min(n, 4))
		key ExtensionKey
	)
	r.entries(n, func() { key = readExtensionKey(r) }, func() {
		start := r.off
		readExtensionValue(r, key)
		if r.err == nil {
			e = append(e, Extension{key, r.b[start:r.off:r.off]})
		}
	})
	return e
}

func readExtensionValue(r *reader, key ExtensionKey) {
	if key != ExtSenderURI && key != ExtRoomURI {
		r.any(MaxExtensionDepth - 1)
		return
	}
	n := r.want(majorText, "senderUri or roomUri")
	if n > math.MaxUint16 {
		r.fail(ErrURITooLong, "senderUri or roomUri of %d octets", n)
	}
	r.utf8(n, "senderUri or roomUri")
}

func readExtensionKey(r *reader) ExtensionKey {
	major, _, arg := r.head()
	switch {
	case r.err != nil:
	case major == majorUint && arg == 0:
		r.fail(ErrDataModel, "extension key 0 is reserved")
	case major == majorUint && arg <= maxKeyInt:
		return ExtensionKey{num: int64(arg)}
	case major == majorNegint && arg < maxKeyInt:
		return ExtensionKey{num: -1 - int64(arg)}
	case major == majorUint, major == majorNegint:
		r.fail(ErrDataModel, "extension key is beyond 2^53-1")
	case major == majorText && (arg < 1 || arg > MaxExtensionKeyText):
		r.fail(ErrDataModel, "extension key of %d octets, want 1 to %d", arg, MaxExtensionKeyText)
	case major == majorText:
		return ExtensionKey{text: string(r.utf8(arg, "extension key"))}
	default:
		r.fail(ErrDataModel, "extension key of major type %d", major)
	}
	return ExtensionKey{}
}
