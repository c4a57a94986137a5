package content

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	hexSalt = "50 000102030405060708090a0b0c0d0e0f "
	hexID   = "01 02030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20 "
	hexNull = "83 01 60 00 "       // a null part
	hexText = "85 01 60 01 60 40 " // a single part without type and content
	hexHead = "87 " + hexSalt + "f6 40 f6 f6 "
)

// ext is a message with this extensions map; body is one with this body.
func ext(m string) string  { return hexHead + m + hexNull }
func body(p string) string { return hexHead + "a0 " + p }

func repeat(n int, s string) string { return strings.Repeat(s+" ", n) }

// multi is a multipart of n parts, each of them s.
func multi(n int, s string) string {
	return "85 01 60 03 02 " + hex.EncodeToString(appendHead(nil, majorArray, uint64(n))) + repeat(n, s)
}

func external(fields string) string { return "8f 01 60 02 " + fields }

func TestDecodeAccepts(t *testing.T) {
	depth4 := multi(2, multi(2, multi(2, hexNull)))
	for name, in := range map[string]string{
		"least":                  body(hexNull),
		"replaces and inReplyTo": "87 " + hexSalt + "58 20 " + hexID + "40 f6 58 20 " + hexID + "a0 " + hexNull,
		"relative expiry":        "87 " + hexSalt + "f6 40 82 f5 1a ffffffff f6 a0 " + hexNull,
		"topic of 4096":          "87 " + hexSalt + "f6 59 1000 " + repeat(4096, "61") + "f6 f6 a0 " + hexNull,
		"unknown disposition":    body("83 18 ff 60 00"),
		"unknown language":       body("83 01 63 782d78 00"),
		"four levels":            body(depth4),
		"1024 parts":             body(multi(1023, hexNull)),
		"1023 in two levels":     body(multi(2, multi(510, hexNull))),
		"external":               body(external("60 60 1a ffffffff 1b ffffffffffffffff 19 ffff 40 40 40 18 ff 40 60 60")),
		"extension order":        ext("a5 01 60 18 18 00 1b 001fffffffffffff 00 20 00 61 61 00"),
		"integer keys":           ext("a2 1b 001fffffffffffff 00 3b 001ffffffffffffe 00"),
		"longest text key":       ext("a1 78 ff " + repeat(255, "61") + "00"),
		"draft's depth example": ext("a2 01 78 19 6d696d693a2f2f612e6578616d706c652f752f616c69636578 19 0100 82 " +
			"82 42 1234 d8 20 72 687474703a2f2f6578616d706c652e636f6d 82 42 3456 19 168b"),
		"byte string key inside": ext("a1 03 a1 41 ff 00"),
		"half NaN":               ext("a1 03 f9 7e00"),
		"typed array of NaNs":    ext("a1 03 d8 51 44 7fc00001"),
		"floats":                 ext("a1 03 86 f9 7c00 f9 8000 f9 0001 fa 47800000 fa 33800001 fb 3ff3333333333333"),
		"simple values":          ext("a1 03 86 e0 f3 f4 f6 f7 f8 20"),
		"bignum":                 ext("a1 03 c2 49 010000000000000000"),
		"negative bignum":        ext("a1 03 c3 49 010000000000000000"),
		"64-bit integers":        ext("a1 03 82 1b ffffffffffffffff 3b ffffffffffffffff"),
	} {
		t.Run(name, func(t *testing.T) {
			b := unhex(t, in)
			m, err := Decode(b)
			if err != nil {
				t.Fatal(err)
			}
			again, err := m.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again, b) {
				t.Errorf("re-encoded %x, want %x", again, b)
			}
			checkOracle(t, b)
		})
	}
}

// checkOracle asserts that an independent codec reads b and writes the same
// octets in its deterministic mode.
func checkOracle(t *testing.T, b []byte) {
	t.Helper()
	if bytes.IndexByte(b, 0xc0) >= 0 || bytes.IndexByte(b, 0xc1) >= 0 {
		return // the oracle turns tags 0 and 1 into times, and refuses what is none
	}
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		MaxArrayElements: 1 << 20, BigIntDec: cbor.BigIntDecodeValue, ByteStringToString: cbor.ByteStringToStringForbidden,
		UnrecognizedTagToAny: cbor.UnrecognizedTagNumAndContentToAny, TimeTagToAny: cbor.TimeTagToRFC3339,
	}.DecMode()
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := dec.Unmarshal(b, &v); err != nil {
		t.Fatalf("accepted %x, which another codec refuses: %v", b, err)
	}
	if bytes.IndexByte(b, 0xf7) >= 0 {
		return // the oracle turns undefined into null
	}
	opts := cbor.CoreDetEncOptions()
	opts.BigIntConvert = cbor.BigIntConvertShortest
	enc, err := opts.EncMode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := enc.Marshal(v)
	if err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	if !bytes.Equal(again, b) {
		t.Errorf("accepted %x, which another codec writes as %x", b, again)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     error
	}{
		{"nothing", "", ErrSyntax},
		{"not an array", "a0", ErrSyntax},
		{"six fields", "86 " + hexSalt + "f6 40 f6 f6 a0", ErrSyntax},
		{"eight fields", "88 " + hexSalt + "f6 40 f6 f6 a0 " + hexNull + "00", ErrSyntax},
		{"trailing octet", body(hexNull) + "00", ErrSyntax},
		{"cut", strings.TrimSuffix(body(hexNull), "00 "), ErrSyntax},
		{"reserved head", "9c", ErrSyntax},
		{"tagged message", "d9 d9f7 " + body(hexNull), ErrSyntax},

		{"salt of 15", "87 4f 000102030405060708090a0b0c0d0e f6 40 f6 f6 a0 " + hexNull, ErrSyntax},
		{"salt of 17", "87 51 000102030405060708090a0b0c0d0e0f10 f6 40 f6 f6 a0 " + hexNull, ErrSyntax},
		{"salt null", "87 f6 f6 40 f6 f6 a0 " + hexNull, ErrSyntax},
		{"salt text", "87 70 30303030303030303030303030303030 f6 40 f6 f6 a0 " + hexNull, ErrSyntax},
		{"salt array", "87 90 " + repeat(16, "00") + "f6 40 f6 f6 a0 " + hexNull, ErrSyntax},
		{"replaces of 31", "87 " + hexSalt + "58 1f " + repeat(31, "01") + "40 f6 f6 a0 " + hexNull, ErrSyntax},
		{"replaces undefined", "87 " + hexSalt + "f7 40 f6 f6 a0 " + hexNull, ErrSyntax},
		{"topic null", "87 " + hexSalt + "f6 f6 f6 f6 a0 " + hexNull, ErrSyntax},
		{"topic text", "87 " + hexSalt + "f6 60 f6 f6 a0 " + hexNull, ErrSyntax},
		{"topic tagged", "87 " + hexSalt + "f6 d7 40 f6 f6 a0 " + hexNull, ErrSyntax},
		{"topic of 4097", "87 " + hexSalt + "f6 59 1001 " + repeat(4097, "61") + "f6 f6 a0 " + hexNull, ErrTopicTooLong},
		{"topic longer than input", "87 " + hexSalt + "f6 5a 7fffffff 61", ErrSyntax},
		{"topic of 2^63", "87 " + hexSalt + "f6 5b 8000000000000000 61", ErrSyntax},
		{"expires not an array", "87 " + hexSalt + "f6 40 00 f6 a0 " + hexNull, ErrSyntax},
		{"expires number for bool", "87 " + hexSalt + "f6 40 82 01 01 f6 a0 " + hexNull, ErrSyntax},
		{"expires negative", "87 " + hexSalt + "f6 40 82 f4 20 f6 a0 " + hexNull, ErrSyntax},
		{"expires of 33 bits", "87 " + hexSalt + "f6 40 82 f4 1b 0000000100000000 f6 a0 " + hexNull, ErrSyntax},
		{"expires of 3 items", "87 " + hexSalt + "f6 40 83 f4 01 01 f6 a0 " + hexNull, ErrSyntax},

		{"extensions null", hexHead + "f6 " + hexNull, ErrSyntax},
		{"extensions array", hexHead + "80 " + hexNull, ErrSyntax},
		{"sender a byte string", ext("a1 01 40"), ErrSyntax},
		{"room a number", ext("a1 02 00"), ErrSyntax},
		{"sender of 65536", ext("a1 01 7a 00010000 " + repeat(65536, "61")), ErrURITooLong},
		{"key 0", ext("a1 00 00"), ErrDataModel},
		{"empty text key", ext("a1 60 00"), ErrDataModel},
		{"text key of 256", ext("a1 79 0100 " + repeat(256, "61") + "00"), ErrDataModel},
		{"byte string key", ext("a1 41 61 00"), ErrDataModel},
		{"float key", ext("a1 f9 3c00 00"), ErrDataModel},
		{"key 2^53", ext("a1 1b 0020000000000000 00"), ErrDataModel},
		{"key -2^53", ext("a1 3b 001fffffffffffff 00"), ErrDataModel},
		{"inner key 2^53", ext("a1 03 a1 1b 0020000000000000 00"), ErrDataModel},
		{"inner key -2^53", ext("a1 03 a1 3b 001fffffffffffff 00"), ErrDataModel},
		{"inner key array", ext("a1 03 a1 80 00"), ErrDataModel},
		{"inner key bool", ext("a1 03 a1 f5 00"), ErrDataModel},
		{"inner key tagged", ext("a1 03 a1 c1 00 00"), ErrDataModel},
		{"same key twice", ext("a2 03 00 03 00"), ErrSyntax},
		{"inner key twice", ext("a1 03 a2 61 61 00 61 61 01"), ErrSyntax},
		{"keys unsorted", ext("a2 04 00 03 00"), ErrNotDeterministic},
		{"inner keys unsorted", ext("a1 03 a2 61 62 00 61 61 00"), ErrNotDeterministic},
		{"length-first key order", ext("a2 20 00 18 18 00"), ErrNotDeterministic}, // RFC 7049 section 3.9
		{"map longer than input", ext("bb 7fffffffffffffff 03 00"), ErrSyntax},
		{"inner array longer than input", ext("a1 03 9b 7fffffffffffffff"), ErrSyntax},
		{"inner map longer than input", ext("a1 03 bb 7fffffffffffffff"), ErrSyntax},
		{"depth 5 of arrays", ext("a1 03 81 81 81 81 00"), ErrTooDeep},
		{"depth 5 of empty arrays", ext("a1 03 81 81 81 80"), ErrTooDeep},
		{"depth 5 of maps", ext("a1 03 a1 01 a1 01 a1 01 a0"), ErrTooDeep},
		{"depth 5 of tags", ext("a1 03 d8 20 d8 20 d8 20 d8 20 00"), ErrTooDeep},
		{"depth 5 mixed", ext("a1 03 81 a1 01 d8 20 80"), ErrTooDeep},
		{"depth bomb", ext("a1 03 " + repeat(100000, "81") + "00"), ErrTooDeep},

		{"long uint", body("83 18 01 60 00"), ErrNotDeterministic},
		{"long uint 16", body("83 19 0001 60 00"), ErrNotDeterministic},
		{"long uint 32", body("83 1a 00000001 60 00"), ErrNotDeterministic},
		{"long uint 64", body("83 1b 0000000000000001 60 00"), ErrNotDeterministic},
		{"long bytes", "87 " + hexSalt + "f6 58 00 f6 f6 a0 " + hexNull, ErrNotDeterministic},
		{"long text", body("83 01 78 00 00"), ErrNotDeterministic},
		{"long array", hexHead + "a0 98 03 01 60 00", ErrNotDeterministic},
		{"long map", hexHead + "b8 00 " + hexNull, ErrNotDeterministic},
		{"long tag", ext("a1 03 d8 01 00"), ErrNotDeterministic},
		{"long key", ext("a1 18 03 00"), ErrNotDeterministic},
		{"indefinite message", "9f " + hexSalt + "f6 40 f6 f6 a0 " + hexNull + "ff", ErrNotDeterministic},
		{"indefinite bytes", "87 " + hexSalt + "f6 5f 40 ff f6 f6 a0 " + hexNull, ErrNotDeterministic},
		{"indefinite text", body("83 01 7f 60 ff 00"), ErrNotDeterministic},
		{"indefinite array", ext("a1 03 9f ff"), ErrNotDeterministic},
		{"indefinite map", hexHead + "bf ff " + hexNull, ErrNotDeterministic},
		{"break", ext("a1 03 ff"), ErrSyntax},

		{"single NaN", ext("a1 03 fa 7fc00000"), ErrDataModel},
		{"double NaN", ext("a1 03 fb 7ff8000000000000"), ErrDataModel},
		{"half NaN with payload", ext("a1 03 f9 7e01"), ErrDataModel},
		{"half NaN with sign", ext("a1 03 f9 fe00"), ErrDataModel},
		{"half signalling NaN", ext("a1 03 f9 7d00"), ErrDataModel},
		{"NaN in a typed array's tag", ext("a1 03 d8 51 fa 7fc00000"), ErrDataModel},
		{"single that fits half", ext("a1 03 fa 3f800000"), ErrNotDeterministic},
		{"single zero", ext("a1 03 fa 00000000"), ErrNotDeterministic},
		{"single infinity", ext("a1 03 fa 7f800000"), ErrNotDeterministic},
		{"single that fits subnormal half", ext("a1 03 fa 33800000"), ErrNotDeterministic},
		{"double that fits single", ext("a1 03 fb 40f0000000000000"), ErrNotDeterministic},
		{"double infinity", ext("a1 03 fb fff0000000000000"), ErrNotDeterministic},
		{"simple value in two octets", ext("a1 03 f8 14"), ErrSyntax},
		{"bignum that fits", ext("a1 03 c2 48 ffffffffffffffff"), ErrNotDeterministic},
		{"bignum with zeros", ext("a1 03 c2 4a 00010000000000000000"), ErrNotDeterministic},
		{"empty bignum", ext("a1 03 c3 40"), ErrNotDeterministic},
		{"bignum of text", ext("a1 03 c2 60"), ErrSyntax},
		{"bad UTF-8 in an extension", ext("a1 03 62 c328"), ErrDataModel},
		{"bad UTF-8 in a key", ext("a1 61 ff 00"), ErrDataModel},
		{"surrogate in an inner key", ext("a1 03 a1 63 eda080 00"), ErrDataModel},
		{"bad UTF-8 in sender", ext("a1 01 61 ff"), ErrDataModel},
		{"bad UTF-8 in language", body("83 01 61 ff 00"), ErrDataModel},
		{"bad UTF-8 in content type", body("85 01 60 01 61 ff 40"), ErrDataModel},
		{"overlong UTF-8", body("83 01 62 c080 00"), ErrDataModel},

		{"disposition 256", body("83 19 0100 60 00"), ErrSyntax},
		{"disposition negative", body("83 20 60 00"), ErrSyntax},
		{"language bytes", body("83 01 40 00"), ErrSyntax},
		{"cardinality 4", body("83 01 60 04"), ErrSyntax},
		{"null part of 4", body("84 01 60 00 00"), ErrSyntax},
		{"single part of 4", body("84 01 60 01 60"), ErrSyntax},
		{"single with text content", body("85 01 60 01 60 60"), ErrSyntax},
		{"external of 14", body("8e 01 60 02 60 60 00 00 00 40 40 40 00 40 60"), ErrSyntax},
		{"external expires of 33 bits", body(external("60 60 1b 0000000100000000 00 00 40 40 40 00 40 60 60")), ErrSyntax},
		{"external encAlg of 17 bits", body(external("60 60 00 00 1a 00010000 40 40 40 00 40 60 60")), ErrSyntax},
		{"external hashAlg of 9 bits", body(external("60 60 00 00 00 40 40 40 19 0100 40 60 60")), ErrSyntax},
		{"external size a bignum", body(external("60 60 00 c2 49 010000000000000000 00 40 40 40 00 40 60 60")), ErrSyntax},
		{"multi of 0", body("85 01 60 03 00 80"), ErrSyntax},
		{"multi of 1", body("85 01 60 03 00 81 " + hexNull), ErrSyntax},
		{"part semantics 3", body("85 01 60 03 03 82 " + hexNull + hexNull), ErrPartSemantics},
		{"five levels", body(multi(2, multi(2, multi(2, multi(2, hexNull))))), ErrTooDeep},
		{"1025 parts", body(multi(1024, hexNull)), ErrTooManyParts},
		{"1025 parts in two levels", body(multi(2, multi(511, hexNull))), ErrTooManyParts},
		{"parts longer than input", body("85 01 60 03 02 99 0200 " + hexNull), ErrSyntax},
		{"2^60 parts", body("85 01 60 03 02 9b 1000000000000000"), ErrSyntax},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Decode(unhex(t, tt.in))
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if m != nil {
				t.Error("got a message and an error")
			}
		})
	}
}

// Every half-precision number is refused in single precision, its
// neighbours in single precision are not.
func TestShortestFloat(t *testing.T) {
	for h := range uint32(0x7c00) {
		f := float64(h&0x3ff) * 0x1p-24
		if exp := h >> 10; exp > 0 {
			f = (1 + float64(h&0x3ff)/1024) * math.Pow(2, float64(exp)-15)
		}
		bits := math.Float32bits(float32(f))
		for _, sign := range []uint32{0, 1 << 31} {
			if !fitsHalf(bits | sign) {
				t.Errorf("%g does not fit half precision", f)
			}
			if fitsHalf(bits+1|sign) || bits > 0 && fitsHalf((bits-1)|sign) {
				t.Errorf("a neighbour of %g fits half precision", f)
			}
		}
	}
	if fitsHalf(math.Float32bits(65536)) || !fitsHalf(math.Float32bits(float32(math.Inf(-1)))) {
		t.Error("the range of half precision")
	}
}

func TestDecodeMax(t *testing.T) {
	b := unhex(t, body(hexNull))
	if _, err := DecodeMax(b, len(b)); err != nil {
		t.Error(err)
	}
	if _, err := DecodeMax(b, len(b)-1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	if _, err := Decode(make([]byte, DefaultMaxSize+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
}

// Every prefix of a message is refused.
func TestDecodePrefixes(t *testing.T) {
	b := unhex(t, hexHead+"a2 01 61 61 18 20 82 01 f9 7e00 "+multi(2, hexText))
	if _, err := Decode(b); err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if _, err := Decode(b[:n]); !errors.Is(err, ErrSyntax) {
			t.Errorf("the first %d octets: got %v, want ErrSyntax", n, err)
		}
	}
}

// A length that the input does not hold allocates nothing.
func TestDecodeAllocation(t *testing.T) {
	for _, in := range []string{
		"87 " + hexSalt + "f6 5a 7fffffff",
		hexHead + "ba 7fffffff 03 00",
		body("85 01 60 03 02 9a 7fffffff"),
		body("85 01 60 03 02 19 0300"),
		body("85 01 60 01 7a 7fffffff"),
	} {
		b := unhex(t, in)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := Decode(b); err == nil {
			t.Errorf("%s: accepted", in)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 16<<10 {
			t.Errorf("%s: allocated %d octets", in, n)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	null := NestedPart{Part: NullPart{}}
	deep := null
	for range MaxPartDepth {
		deep = NestedPart{Part: MultiPart{ProcessAll, []NestedPart{deep, null}}}
	}
	with := func(e ...Extension) Message { return Message{Body: null, Extensions: e} }
	for name, tt := range map[string]struct {
		m    Message
		want error
	}{
		"no part":               {Message{}, ErrSyntax},
		"no part inside":        {Message{Body: NestedPart{Part: MultiPart{ProcessAll, make([]NestedPart, 2)}}}, ErrSyntax},
		"long topic":            {Message{Body: null, TopicID: make([]byte, MaxTopicID+1)}, ErrTopicTooLong},
		"too deep":              {Message{Body: deep}, ErrTooDeep},
		"one part":              {Message{Body: NestedPart{Part: MultiPart{ProcessAll, []NestedPart{null}}}}, ErrSyntax},
		"semantics":             {Message{Body: NestedPart{Part: MultiPart{3, []NestedPart{null, null}}}}, ErrPartSemantics},
		"language":              {Message{Body: NestedPart{Language: "\xff", Part: NullPart{}}}, ErrDataModel},
		"content type":          {Message{Body: NestedPart{Part: SinglePart{ContentType: "\xff"}}}, ErrDataModel},
		"URL":                   {Message{Body: NestedPart{Part: ExternalPart{URL: "\xff"}}}, ErrDataModel},
		"external type":         {Message{Body: NestedPart{Part: ExternalPart{ContentType: "\xff"}}}, ErrDataModel},
		"description":           {Message{Body: NestedPart{Part: ExternalPart{Description: "\xff"}}}, ErrDataModel},
		"file name":             {Message{Body: NestedPart{Part: ExternalPart{Filename: "\xff"}}}, ErrDataModel},
		"no extension":          {with(Extension{IntKey(3), nil}), ErrSyntax},
		"zero key":              {with(Extension{ExtensionKey{}, []byte{0}}), ErrDataModel},
		"large key":             {with(Extension{IntKey(1 << 53), []byte{0}}), ErrDataModel},
		"small key":             {with(Extension{IntKey(-1 << 53), []byte{0}}), ErrDataModel},
		"long key":              {with(Extension{TextKey(strings.Repeat("a", 256)), []byte{0}}), ErrDataModel},
		"key not UTF-8":         {with(Extension{TextKey("\xff"), []byte{0}}), ErrDataModel},
		"sender not text":       {with(Extension{ExtSenderURI, []byte{0}}), ErrSyntax},
		"two values":            {with(Extension{IntKey(3), []byte{0, 0}}), ErrSyntax},
		"value that eats a key": {with(Extension{IntKey(3), []byte{0x81}}, Extension{IntKey(4), []byte{5, 6}}), ErrSyntax},
		"extension twice":       {with(Extension{IntKey(3), []byte{0}}, Extension{IntKey(3), []byte{1}}), ErrSyntax},
		"extension not minimal": {with(Extension{IntKey(3), []byte{0x18, 0}}), ErrNotDeterministic},
		"extension too deep":    {with(Extension{IntKey(3), []byte{0x81, 0x81, 0x81, 0x80}}), ErrTooDeep},
		"sender too long":       {with(Extension{ExtSenderURI, appendText(nil, strings.Repeat("a", 65536))}), ErrURITooLong},
	} {
		t.Run(name, func(t *testing.T) {
			if b, err := tt.m.Encode(); !errors.Is(err, tt.want) || b != nil {
				t.Errorf("got %x, %v, want %v", b, err, tt.want)
			}
		})
	}
	many := Message{Body: NestedPart{Part: MultiPart{ProcessAll, slicesRepeat(null, MaxParts)}}}
	if _, err := many.Encode(); !errors.Is(err, ErrTooManyParts) {
		t.Errorf("1025 parts: got %v, want ErrTooManyParts", err)
	}
}

func slicesRepeat(p NestedPart, n int) []NestedPart {
	s := make([]NestedPart, n)
	for i := range s {
		s[i] = p
	}
	return s
}

func TestExtensions(t *testing.T) {
	var e Extensions
	e.SetText(ExtRoomURI, "mimi://example.com/r/a")
	e.SetText(ExtSenderURI, "mimi://example.com/u/a")
	if err := e.Set(TextKey("comity.ping"), 1); err != nil {
		t.Fatal(err)
	}
	if err := e.Set(IntKey(-1), map[int]string{24: "b", -1: "c", 3: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := e.Set(IntKey(24), []any{true, nil}); err != nil {
		t.Fatal(err)
	}
	if err := e.Set(IntKey(7), func() {}); err == nil {
		t.Error("a function was encoded")
	}
	e.SetText(ExtRoomURI, "mimi://example.com/r/b") // in place of the first
	e.SetText(IntKey(9), "gone")
	e.Delete(IntKey(9))
	m := &Message{Extensions: e, Body: PlainText("x")}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	checkOracle(t, b)
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, x := range got.Extensions {
		keys = append(keys, x.Key.String())
	}
	if s := strings.Join(keys, " "); s != `1 2 24 -1 "comity.ping"` {
		t.Errorf("keys are %s", s)
	}
	if got.RoomURI() != "mimi://example.com/r/b" || got.SenderURI() != "mimi://example.com/u/a" {
		t.Errorf("URIs %q and %q", got.SenderURI(), got.RoomURI())
	}
	var ping int
	if ok, err := got.Extensions.Get(TextKey("comity.ping"), &ping); !ok || err != nil || ping != 1 {
		t.Errorf("ping = %d, %v, %v", ping, ok, err)
	}
	var inner map[int]string
	if ok, err := got.Extensions.Get(IntKey(-1), &inner); !ok || err != nil || !reflect.DeepEqual(inner, map[int]string{24: "b", -1: "c", 3: "a"}) {
		t.Errorf("inner = %v, %v, %v", inner, ok, err)
	}
	if ok, err := got.Extensions.Get(IntKey(-1), &ping); !ok || err == nil {
		t.Errorf("a map was read as a number: %v, %v", ok, err)
	}
	if ok, err := got.Extensions.Get(IntKey(9), &ping); ok || err != nil {
		t.Errorf("a deleted extension is there: %v, %v", ok, err)
	}
	if s := got.Extensions.Text(IntKey(24)); s != "" {
		t.Errorf("an array as text is %q", s)
	}
	if n, ok := IntKey(-5).Int(); n != -5 || !ok {
		t.Error("Int of an integer key")
	}
	if s, ok := TextKey("a").Text(); s != "a" || !ok {
		t.Error("Text of a text key")
	}
	if _, ok := TextKey("a").Int(); ok {
		t.Error("Int of a text key")
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		got  fmt.Stringer
		want string
	}{
		{Render, "render"}, {Preview, "preview"}, {Disposition(9), "0x09"}, {Disposition(255), "0xFF"},
		{SingleUnit, "singleUnit"}, {ChooseOne, "chooseOne"}, {PartSemantics(7), "0x07"},
		{StatusError, "error"}, {StatusUnread, "unread"}, {Status(7), "0x07"},
	} {
		if tt.got.String() != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
	if Disposition(200).Effective() != Render || Reaction.Effective() != Reaction {
		t.Error("Effective")
	}
}
