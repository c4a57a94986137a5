package mimi

import (
	"bytes"
	"errors"
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mls"
)

// TestGoldenMore pins the bytes of consent, identifier query and abuse
// messages.
func TestGoldenMore(t *testing.T) {
	frank := Frank{CipherSuite: 1, Signature: []byte{1}}
	zeros := "0000000000000000000000000000000000000000000000000000000000000000"
	for name, tt := range map[string]struct {
		v, into codec
		hex     string
	}{
		"request": {&ConsentEntry{Operation: ConsentRequest, Requester: uAlice, Target: uBob}, new(ConsentEntry), "01" + hexAlice + hexBob + "00 00"},
		"cancel for a room": {&ConsentEntry{Operation: ConsentCancel, Requester: uAlice, Target: uBob, Room: uRoom}, new(ConsentEntry),
			"00" + hexAlice + hexBob + "01" + hexRoom + "00"},
		"empty grant": {&ConsentEntry{Operation: ConsentGrant, Requester: uAlice, Target: uBob,
			Extensions: mls.AppDataDictionary{{ComponentID: 0xF110, Data: []byte{7}}}}, new(ConsentEntry),
			"02" + hexAlice + hexBob + "00" + "00" + "04 f110 01 07"},
		"query": {&IdentifierRequest{Elements: []QueryElement{{Type: SearchHandle, Value: "a"}, {Type: SearchOIDCStdClaim, Name: "n", Value: "v"}}}, new(IdentifierRequest),
			"08 01 01 61 07 01 6e 01 76 00"},
		"answer": {&IdentifierResponse{URIs: []URI{uBob}, Profiles: []UserProfile{{uBob, []ProfileField{{FieldVCard, "fn", []byte("B")}}}}}, new(IdentifierResponse),
			"00 17" + hexBob + "1e" + hexBob + "06 08 02 666e 01 42" + "00"},
		"not found": {&IdentifierResponse{Code: QueryNotFound}, new(IdentifierResponse), "01 00 00 00"},
		"abuse": {&AbuseReport{Abuser: uBob, Reason: 3, Note: "n", Messages: []AbusiveMessage{{[]byte{5}, frank, 9}}}, new(AbuseReport),
			"00" + hexBob + "03 01 6e" + "2e 01 05" + zeros + "0001 01 01" + "0000000000000009" + "00"},
		"franking agent":   {&FrankingAgent{[]byte{1}, mls.BasicCredential([]byte("x"))}, new(FrankingAgent), "01 01 0001 01 78"},
		"franking context": {&FrankingContext{uBob, uRoom, 9}, new(FrankingContext), hexBob + hexRoom + "0000000000000009"},
		"frank_aad":        {&FrankAAD{}, new(FrankAAD), zeros},
	} {
		want := unhexT(t, tt.hex)
		got, err := tlspl.Marshal(tt.v)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got  %x, %v\nwant %x", name, got, err, want)
			continue
		}
		if err := tlspl.Unmarshal(want, tt.into); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if again, err := tlspl.Marshal(tt.into); err != nil || !bytes.Equal(again, want) {
			t.Errorf("%s: decoded and encoded again: %x, %v", name, again, err)
		}
		for i := range want {
			if tlspl.Unmarshal(want[:i], tt.into) == nil {
				t.Errorf("%s: the first %d octets alone were accepted", name, i)
			}
		}
	}
	for name, tt := range map[string]struct {
		into codec
		hex  string
	}{
		"operation 4":          {new(ConsentEntry), "04" + hexAlice + hexBob + "00 00"},
		"no requester":         {new(ConsentEntry), "01 00" + hexBob + "00 00"},
		"room is a user":       {new(ConsentEntry), "01" + hexAlice + hexBob + "01" + hexBob + "00"},
		"empty query":          {new(IdentifierRequest), "00 00"},
		"reserved query":       {new(IdentifierRequest), "03 00 01 61 00"},
		"query not UTF-8":      {new(IdentifierRequest), "03 01 01 ff 00"},
		"found a room":         {new(IdentifierResponse), "00 17" + hexRoom + "00 00"},
		"nobody is accused":    {new(AbuseReport), "00 00 03 00 00 00"},
		"reporter is a room":   {new(AbuseReport), hexRoom + hexBob + "03 00 00 00"},
		"context of no room":   {new(FrankingContext), hexBob + "00 0000000000000009"},
		"context of no sender": {new(FrankingContext), "00" + hexRoom + "0000000000000009"},
	} {
		if err := tlspl.Unmarshal(unhexT(t, tt.hex), tt.into); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a := &ConsentEntry{Operation: ConsentRequest, Requester: uAlice, Target: uBob, Room: uRoom}
	if c := (&ConsentEntry{Operation: ConsentCancel, Requester: uAlice, Target: uBob, Room: uRoom}); c.Scope() != a.Scope() {
		t.Error("a request and its cancellation differ in scope")
	}
	if c := (&ConsentEntry{Operation: ConsentCancel, Requester: uAlice, Target: uBob}); c.Scope() == a.Scope() {
		t.Error("the room does not count in the scope")
	}
}

func TestFrank(t *testing.T) {
	// RFC 4231 test case 2 pins the tag.
	tag := FrankingTag([]byte("Jefe"), []byte("what do ya want for nothing?"))
	if want := unhexT(t, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"); !bytes.Equal(tag[:], want) {
		t.Errorf("tag %x", tag)
	}
	signer, _, err := mls.GenerateSigner(testSuite, nil)
	if err != nil {
		t.Fatal(err)
	}
	key := bytes.Repeat([]byte{1}, 32)
	context := &FrankingContext{uBob, uRoom, 42}
	frank, err := NewFrank(key, tag, context, testSuite, signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := frank.VerifyReport(key, tag, context, testSuite, signer.Public()); err != nil {
		t.Fatal(err)
	}
	if _, err := NewFrank(key[:31], tag, context, testSuite, signer); err == nil {
		t.Error("a short hub key was accepted")
	}
	otherTag := tag
	otherTag[0]++
	for name, err := range map[string]error{
		"sender": frank.Verify(&FrankingContext{uAlice, uRoom, 42}, testSuite, signer.Public()),
		"time":   frank.Verify(&FrankingContext{uBob, uRoom, 43}, testSuite, signer.Public()),
		"room":   frank.Verify(&FrankingContext{uBob, MustParseURI("mimi://a.example/r/x"), 42}, testSuite, signer.Public()),
		"tag":    frank.VerifyReport(key, otherTag, context, testSuite, signer.Public()),
		"key":    frank.VerifyReport(bytes.Repeat([]byte{2}, 32), tag, context, testSuite, signer.Public()),
	} {
		if !errors.Is(err, ErrSignature) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if err := frank.Verify(context, mls.X25519ChaCha20SHA256Ed25519, signer.Public()); !errors.Is(err, ErrMalformed) {
		t.Errorf("another suite: %v", err)
	}
}

func FuzzConsentEntry(f *testing.F) {
	m := newMessages(f)
	fuzzCodec[ConsentEntry](f, &ConsentEntry{Operation: ConsentGrant, Requester: uAlice, Target: uBob, Room: uRoom,
		KeyPackages: []mls.KeyPackage{*m.keyPackage}})
}

func FuzzIdentifierRequest(f *testing.F) {
	fuzzCodec[IdentifierRequest](f, &IdentifierRequest{Elements: []QueryElement{{Type: SearchVCardField, Name: "fn", Value: "v"}}})
}

func FuzzIdentifierResponse(f *testing.F) {
	fuzzCodec[IdentifierResponse](f, &IdentifierResponse{URIs: []URI{uBob}, Profiles: []UserProfile{{uBob, []ProfileField{{FieldVCard, "fn", nil}}}}})
}

func FuzzAbuseReport(f *testing.F) {
	fuzzCodec[AbuseReport](f, &AbuseReport{Reporter: uAlice, Abuser: uBob, Messages: []AbusiveMessage{{[]byte("x"), Frank{}, 1}}})
}
