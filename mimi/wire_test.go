package mimi

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mls"
)

const testSuite = mls.X25519AES128SHA256Ed25519

type codec interface {
	tlspl.Marshaler
	tlspl.Unmarshaler
}

func unhexT(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Encoded URIs with their lengths.
const (
	hexAlice = "18 6d696d693a2f2f612e6578616d706c652f752f616c696365" // mimi://a.example/u/alice
	hexBob   = "16 6d696d693a2f2f622e6578616d706c652f752f626f62"     // mimi://b.example/u/bob
	hexBobD  = "14 6d696d693a2f2f622e6578616d706c652f642f31"         // mimi://b.example/d/1
	hexRoom  = "16 6d696d693a2f2f612e6578616d706c652f722f636c75"     // mimi://a.example/r/clu
)

var (
	uAlice = MustParseURI("mimi://a.example/u/alice")
	uBob   = MustParseURI("mimi://b.example/u/bob")
	uBobD  = MustParseURI("mimi://b.example/d/1")
	uRoom  = MustParseURI("mimi://a.example/r/clu")
)

// TestGolden pins bytes that were written by hand from the draft's structs.
func TestGolden(t *testing.T) {
	frank := Frank{CipherSuite: 1, Signature: []byte{0xaa, 0xbb}}
	for i := range frank.ServerFrank {
		frank.ServerFrank[i] = byte(i)
	}
	hexFrank := "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 0001 02 aabb"
	for name, tt := range map[string]struct {
		v, into codec
		hex     string
	}{
		"key material request": {&KeyMaterialRequest{Protocol: 1, RequestingUser: uAlice, TargetUser: uBob, Room: uRoom,
			CipherSuites:         []mls.CipherSuite{1, 3},
			RequiredCapabilities: mls.RequiredCapabilities{Extensions: []mls.ExtensionType{6}, Proposals: []mls.ProposalType{8, 10}, Credentials: []mls.CredentialType{2}},
			SignatureKey:         []byte{1, 2}, Credential: mls.BasicCredential([]byte("x")), Signature: []byte{9}}, new(KeyMaterialRequest),
			"01" + hexAlice + hexBob + hexRoom + "04 0001 0003" + "02 0006 04 0008 000a 02 0002" + "02 0102" + "0001 01 78" + "01 09"},
		"key material request for no room": {&KeyMaterialRequest{Protocol: 1, RequestingUser: uAlice, TargetUser: uBob,
			CipherSuites: []mls.CipherSuite{1}, Credential: mls.BasicCredential(nil)}, new(KeyMaterialRequest),
			"01" + hexAlice + hexBob + "00" + "02 0001" + "00 00 00" + "00" + "0001 00" + "00"},
		"no consent": {&KeyMaterialResponse{Protocol: 1, UserStatus: KeyMaterialNoConsent, User: uBob}, new(KeyMaterialResponse),
			"01 05" + hexBob + "00"},
		"nothing compatible": {&KeyMaterialResponse{Protocol: 1, UserStatus: KeyMaterialNoCompatibleMaterial, User: uBob,
			Clients: []ClientKeyMaterial{{Status: ClientNothingCompatible, Client: uBobD}, {Status: ClientKeyMaterialExhausted, Client: uBobD}}}, new(KeyMaterialResponse),
			"01 03" + hexBob + "2d" + "02" + hexBobD + "00" + "01" + hexBobD},
		"nothing compatible, with capabilities": {&ClientKeyMaterial{Status: ClientNothingCompatible, Client: uBobD,
			Capabilities: &mls.Capabilities{Versions: []mls.ProtocolVersion{1}, CipherSuites: []mls.CipherSuite{1}, Credentials: []mls.CredentialType{2}}}, new(ClientKeyMaterial),
			"02" + hexBobD + "01" + "02 0001 02 0001 00 00 02 0002"},
		"update success": {&UpdateRoomResponse{Code: UpdateSuccess, AcceptedTimestamp: 0x0102030405060708}, new(UpdateRoomResponse),
			"00 00 0102030405060708"},
		"update wrong epoch": {&UpdateRoomResponse{Code: UpdateWrongEpoch, ErrorDescription: "old", CurrentEpoch: 7}, new(UpdateRoomResponse),
			"01 03 6f6c64 0000000000000007"},
		"update not allowed": {&UpdateRoomResponse{Code: UpdateNotAllowed, ErrorDescription: "no"}, new(UpdateRoomResponse), "02 02 6e6f"},
		"update invalid proposal": {&UpdateRoomResponse{Code: UpdateInvalidProposal, InvalidProposals: []mls.ProposalRef{{1, 2}, {3}}}, new(UpdateRoomResponse),
			"03 00 05 02 0102 01 03"},
		"submit accepted":          {&SubmitMessageResponse{Protocol: 1, AcceptedTimestamp: 5}, new(SubmitMessageResponse), "01 00 0000000000000005 00"},
		"submit accepted, franked": {&SubmitMessageResponse{Protocol: 1, AcceptedTimestamp: 5, Frank: &frank}, new(SubmitMessageResponse), "01 00 0000000000000005 01" + hexFrank},
		"submit not allowed":       {&SubmitMessageResponse{Protocol: 1, Code: SubmitNotAllowed}, new(SubmitMessageResponse), "01 01"},
		"submit epoch too old":     {&SubmitMessageResponse{Protocol: 1, Code: SubmitEpochTooOld, CurrentEpoch: 9}, new(SubmitMessageResponse), "01 02 0000000000000009"},
		"frank":                    {&frank, new(Frank), hexFrank},
		"tree of the hub":          {&RatchetTreeOption{Representation: TreeDistributionService}, new(RatchetTreeOption), "04"},
		"full tree":                {&RatchetTreeOption{Representation: TreeFull, Tree: []byte{2, 0, 0}}, new(RatchetTreeOption), "01 02 0000"},
		"partial GroupInfo": {&GroupInfoOption{Partial: &PartialGroupInfo{TreePresence: TreeRemoved,
			Extensions: mls.Extensions{{Type: 4, Data: []byte{1, 7}}}, Signature: []byte{8}}}, new(GroupInfoOption),
			"02 02 05 0004 02 0107 01 08"},
		"GroupInfo request": {&GroupInfoRequest{Protocol: 1, CipherSuite: 1, SignatureKey: []byte{1}, Credential: mls.BasicCredential([]byte("x")),
			PublicKey: []byte{2}, JoiningCode: []byte{3}, Signature: []byte{4}}, new(GroupInfoRequest),
			"01 0001 01 01 0001 01 78 01 02 01 03 01 04"},
		"GroupInfo refused": {&GroupInfoResponse{Protocol: 1, Room: uRoom, Status: GroupInfoNotAuthorized}, new(GroupInfoResponse),
			"01" + hexRoom + "02"},
		"GroupInfo granted": {&GroupInfoResponse{Protocol: 1, Room: uRoom, Status: GroupInfoSuccess, CipherSuite: 1,
			HubSender: mls.ExternalSender{SignatureKey: []byte{1}, Credential: mls.BasicCredential([]byte("x"))},
			Encrypted: mls.HPKECiphertext{KEMOutput: []byte{2}, Ciphertext: []byte{3}}, Signature: []byte{4}}, new(GroupInfoResponse),
			"01" + hexRoom + "01 0001" + "01 01 0001 01 78" + "01 02 01 03" + "01 04"},
	} {
		t.Run(name, func(t *testing.T) {
			want := unhexT(t, tt.hex)
			got, err := tlspl.Marshal(tt.v)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("got  %x\nwant %x", got, want)
			}
			if err := tlspl.Unmarshal(want, tt.into); err != nil {
				t.Fatal(err)
			}
			again, err := tlspl.Marshal(tt.into)
			if err != nil || !bytes.Equal(again, want) {
				t.Fatalf("decoded and encoded again: %x, %v", again, err)
			}
			for i := range want {
				if err := tlspl.Unmarshal(want[:i], tt.into); err == nil {
					t.Fatalf("the first %d octets alone were accepted", i)
				}
			}
			if err := tlspl.Unmarshal(append(want, 0), tt.into); err == nil {
				t.Fatal("a trailing octet was accepted")
			}
		})
	}
}

func TestDecodersRefuse(t *testing.T) {
	for name, tt := range map[string]struct {
		into codec
		hex  string
		want error
	}{
		"protocol 0":                 {new(KeyMaterialResponse), "00 05" + hexBob + "00", ErrProtocol},
		"protocol 2":                 {new(SubmitMessageResponse), "02 01", ErrProtocol},
		"no cipher suite":            {new(KeyMaterialRequest), "01" + hexAlice + hexBob + hexRoom + "00" + "00 00 00" + "00" + "0001 00" + "00", ErrMalformed},
		"requester is a room":        {new(KeyMaterialRequest), "01" + hexRoom + hexBob + hexRoom + "02 0001" + "00 00 00" + "00" + "0001 00" + "00", ErrMalformed},
		"no target":                  {new(KeyMaterialRequest), "01" + hexAlice + "00" + hexRoom + "02 0001" + "00 00 00" + "00" + "0001 00" + "00", ErrMalformed},
		"room is a user":             {new(KeyMaterialRequest), "01" + hexAlice + hexBob + hexBob + "02 0001" + "00 00 00" + "00" + "0001 00" + "00", ErrMalformed},
		"clients without consent":    {new(KeyMaterialResponse), "01 05" + hexBob + "16 01" + hexBobD, ErrMalformed},
		"client is a user":           {new(KeyMaterialResponse), "01 00" + hexBob + "18 01" + hexBob, ErrMalformed},
		"description is not UTF-8":   {new(UpdateRoomResponse), "02 01 ff", ErrMalformed},
		"tree by URL":                {new(RatchetTreeOption), "02 01 61 00", ErrMalformed},
		"tree out of band":           {new(RatchetTreeOption), "03 00", ErrMalformed},
		"tree reserved":              {new(RatchetTreeOption), "00", ErrMalformed},
		"GroupInfo representation 3": {new(GroupInfoOption), "03", ErrMalformed},
		"tree presence 4":            {new(GroupInfoOption), "02 04 00 00", ErrMalformed},
		"GroupInfo of a user":        {new(GroupInfoResponse), "01" + hexAlice + "02", ErrMalformed},
		"bad URI":                    {new(GroupInfoResponse), "01 04 61626364 02", ErrURI},
		"presence 2":                 {new(SubmitMessageResponse), "01 00 0000000000000005 02", tlspl.ErrSyntax},
		"KeyPackage in an update":    {new(UpdateRequest), "0001 0005", tlspl.ErrSyntax},
	} {
		if err := tlspl.Unmarshal(unhexT(t, tt.hex), tt.into); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v; want %v", name, err, tt.want)
		}
	}
	for name, v := range map[string]tlspl.Marshaler{
		"no protocol":             &SubmitMessageResponse{},
		"clients without consent": &KeyMaterialResponse{Protocol: 1, UserStatus: KeyMaterialNoConsent, Clients: make([]ClientKeyMaterial, 1)},
		"no KeyPackage":           &ClientKeyMaterial{Client: uBobD},
		"empty GroupInfo option":  &GroupInfoOption{},
		"two GroupInfo options":   &GroupInfoOption{new(mls.GroupInfo), new(PartialGroupInfo)},
		"no tree representation":  &RatchetTreeOption{},
		"malformed tree":          &RatchetTreeOption{Representation: TreeFull, Tree: []byte{1}},
		"empty update":            &UpdateRequest{},
		"empty fanout":            &FanoutMessage{},
	} {
		if b, err := tlspl.Marshal(v); err == nil {
			t.Errorf("%s: encoded as %x", name, b)
		}
	}
}

func TestErrorDescriptionIsCut(t *testing.T) {
	m := &UpdateRoomResponse{Code: UpdateNotAllowed, ErrorDescription: strings.Repeat("é", MaxErrorDescription) + "\xff"}
	b, err := tlspl.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var back UpdateRoomResponse
	if err := tlspl.Unmarshal(b, &back); err != nil || len(back.ErrorDescription) != MaxErrorDescription {
		t.Errorf("%d octets, %v", len(back.ErrorDescription), err)
	}
}

func TestSignatures(t *testing.T) {
	signer, _, err := mls.GenerateSigner(testSuite, nil)
	if err != nil {
		t.Fatal(err)
	}
	req := &KeyMaterialRequest{Protocol: ProtocolMLS10, RequestingUser: uAlice, TargetUser: uBob, Room: uRoom,
		CipherSuites: []mls.CipherSuite{testSuite}, Credential: mls.BasicCredential([]byte("alice"))}
	if err := req.Sign(signer); err != nil {
		t.Fatal(err)
	}
	gi := &GroupInfoRequest{Protocol: ProtocolMLS10, CipherSuite: testSuite, Credential: mls.BasicCredential([]byte("alice")),
		PublicKey: []byte("key"), JoiningCode: []byte("code")}
	if err := gi.Sign(signer); err != nil {
		t.Fatal(err)
	}
	check := func(name string, m codec, verify func([]byte) error) {
		b, err := tlspl.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// No octet can change without being noticed.
		for i := range b {
			bad := bytes.Clone(b)
			bad[i] ^= 0x01
			if verify(bad) == nil {
				t.Errorf("%s: octet %d is not protected", name, i)
			}
		}
	}
	check("KeyMaterialRequest", req, func(b []byte) error {
		var m KeyMaterialRequest
		if err := tlspl.Unmarshal(b, &m); err != nil {
			return err
		}
		return m.Verify()
	})
	check("GroupInfoRequest", gi, func(b []byte) error {
		var m GroupInfoRequest
		if err := tlspl.Unmarshal(b, &m); err != nil {
			return err
		}
		return m.Verify()
	})
	// One signature does not serve for the other request.
	gi.Signature = req.Signature
	if err := gi.Verify(); !errors.Is(err, ErrSignature) {
		t.Errorf("foreign signature: %v", err)
	}
	// A field that is changed after signing counts once it is signed again.
	req.TargetUser = uAlice
	if err := req.Sign(signer); err != nil {
		t.Fatal(err)
	}
	b, err := tlspl.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	var got KeyMaterialRequest
	if err := tlspl.Unmarshal(b, &got); err != nil || got.TargetUser != uAlice || got.Verify() != nil {
		t.Errorf("signed again: %v, %v", got.TargetUser, err)
	}
}

type anyCredential struct{}

func (anyCredential) VerifyCredential(*mls.Credential, []byte, time.Time) error { return nil }
func (anyCredential) VerifySuccessor(_, _ *mls.LeafNode) error                  { return nil }

// messages are real MLS messages of every kind.
type messages struct {
	private, commit, proposal, welcome mls.MLSMessage
	groupInfo                          *mls.GroupInfo
	tree                               mls.RatchetTree
	keyPackage                         *mls.KeyPackage
	signer                             mls.Signer
}

func newMessages(t testing.TB) *messages {
	t.Helper()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	signer, _, err := mls.GenerateSigner(testSuite, nil)
	ok(err)
	g, err := mls.CreateGroup(mls.Config{Credentials: anyCredential{}}, mls.GroupParams{CipherSuite: testSuite,
		Signer: signer, Credential: mls.BasicCredential([]byte("alice"))})
	ok(err)
	bob, _, err := mls.GenerateSigner(testSuite, nil)
	ok(err)
	kp, _, err := mls.NewKeyPackage(mls.KeyPackageParams{CipherSuite: testSuite, Signer: bob, Credential: mls.BasicCredential([]byte("bob"))})
	ok(err)
	private, err := g.Encrypt([]byte("hello"), nil)
	ok(err)
	proposal, err := g.Propose(mls.AddProposal(kp), nil)
	ok(err)
	sc, err := g.Commit(mls.CommitOptions{OmitTree: true})
	ok(err)
	return &messages{*private, *sc.Message, *proposal, *mls.WelcomeMessage(sc.Welcome), sc.GroupInfo, sc.After.RatchetTree(), kp, signer}
}

func TestMessagesWithMLS(t *testing.T) {
	m := newMessages(t)
	tree, err := FullTree(m.tree)
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := tree.Nodes()
	if err != nil || len(nodes) != len(m.tree) {
		t.Fatalf("tree of %d nodes, %v", len(nodes), err)
	}
	if _, err := new(RatchetTreeOption).Nodes(); !errors.Is(err, ErrMalformed) {
		t.Errorf("tree of an empty option: %v", err)
	}
	trip := func(name string, v, into codec) {
		t.Helper()
		b, err := tlspl.Marshal(v)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := tlspl.Unmarshal(b, into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := tlspl.Marshal(into)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%s changes on its way: %v", name, err)
		}
		for i := range len(b) {
			if tlspl.Unmarshal(b[:i], into) == nil {
				t.Fatalf("%s: the first %d of %d octets are accepted", name, i, len(b))
			}
		}
	}
	trip("commit", &UpdateRequest{Message: m.commit, Welcome: m.welcome.Welcome, GroupInfo: GroupInfoOption{Full: m.groupInfo}, RatchetTree: tree}, new(UpdateRequest))
	trip("commit alone", &UpdateRequest{Message: m.commit, GroupInfo: GroupInfoOption{Full: m.groupInfo}, RatchetTree: HubTree()}, new(UpdateRequest))
	trip("proposals", &UpdateRequest{Message: m.proposal, MoreProposals: []mls.MLSMessage{m.proposal, m.proposal}}, new(UpdateRequest))
	trip("submit", &SubmitMessageRequest{Protocol: ProtocolMLS10, AppMessage: m.private, SendingURI: uAlice}, new(SubmitMessageRequest))
	trip("key material", &KeyMaterialResponse{Protocol: ProtocolMLS10, User: uBob,
		Clients: []ClientKeyMaterial{{Client: uBobD, KeyPackage: m.keyPackage}}}, new(KeyMaterialResponse))
	frank := &Frank{CipherSuite: testSuite, Signature: []byte("s")}
	events := []*FanoutMessage{
		{Timestamp: 1, Message: m.private}, {Timestamp: 2, Message: m.private, Frank: frank},
		{Timestamp: 3, Message: m.welcome, RatchetTree: tree}, {Timestamp: 4, Message: m.proposal, MoreProposals: []mls.MLSMessage{m.proposal}},
		{Timestamp: 5, Message: m.commit, ExternalProposals: []mls.MLSMessage{m.proposal}},
	}
	kinds := []FanoutKind{FanoutApplication, FanoutApplication, FanoutWelcome, FanoutProposal, FanoutCommit}
	var body []byte
	var parts [][]byte
	for i, e := range events {
		trip(kinds[i].String(), e, new(FanoutMessage))
		b, err := tlspl.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, b)
		body = append(body, b...)
	}
	got, err := SplitFanout(body)
	if err != nil || len(got) != len(events) {
		t.Fatalf("%d messages, %v", len(got), err)
	}
	for i := range got {
		kind, err := got[i].Kind()
		if err != nil || kind != kinds[i] || got[i].Timestamp != events[i].Timestamp || !bytes.Equal(got[i].Raw, parts[i]) {
			t.Errorf("message %d: %v, %v", i, kind, err)
		}
	}
	if list, err := ParseFanout(body); err != nil || len(list) != len(events) {
		t.Errorf("ParseFanout: %d, %v", len(list), err)
	}
	for _, bad := range [][]byte{nil, body[:len(body)-1], append(bytes.Clone(body), 0), make([]byte, MaxNotifyRequest+1)} {
		if _, err := ParseFanout(bad); err == nil {
			t.Errorf("a body of %d octets was accepted", len(bad))
		}
	}
	if _, err := ParseFanout(bytes.Repeat(parts[0], MaxFanout+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("too many messages: %v", err)
	}
	// Messages in the wrong place.
	for name, v := range map[string]tlspl.Marshaler{
		"application message as update": &UpdateRequest{Message: m.private},
		"Welcome as update":             &UpdateRequest{Message: m.welcome},
	} {
		if _, err := tlspl.Marshal(v); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, v := range map[string]struct {
		v    tlspl.Marshaler
		into codec
	}{
		"commit as application message": {&SubmitMessageRequest{Protocol: 1, AppMessage: m.commit, SendingURI: uAlice}, new(SubmitMessageRequest)},
		"Welcome as a message":          {&SubmitMessageRequest{Protocol: 1, AppMessage: m.welcome, SendingURI: uAlice}, new(SubmitMessageRequest)},
		"no sender":                     {&SubmitMessageRequest{Protocol: 1, AppMessage: m.private}, new(SubmitMessageRequest)},
		"commit among proposals":        {&UpdateRequest{Message: m.proposal, MoreProposals: []mls.MLSMessage{m.commit}}, new(UpdateRequest)},
	} {
		b, err := tlspl.Marshal(v.v)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlspl.Unmarshal(b, v.into); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSealGroupInfo(t *testing.T) {
	m := newMessages(t)
	hubSigner, _, err := mls.GenerateSigner(testSuite, nil)
	if err != nil {
		t.Fatal(err)
	}
	hub := mls.ExternalSender{SignatureKey: hubSigner.Public(), Credential: mls.BasicCredential([]byte("a.example"))}
	private, public, err := mls.GenerateHPKEKey(testSuite)
	if err != nil {
		t.Fatal(err)
	}
	req := &GroupInfoRequest{Protocol: ProtocolMLS10, CipherSuite: testSuite, Credential: mls.BasicCredential([]byte("bob")), PublicKey: public}
	if err := req.Sign(m.signer); err != nil {
		t.Fatal(err)
	}
	tree, err := FullTree(m.tree)
	if err != nil {
		t.Fatal(err)
	}
	content := &GroupInfoRatchetTree{GroupInfo: *m.groupInfo, RatchetTree: tree,
		PendingProposals: []PendingProposal{{m.proposal, 42}}}
	resp, err := SealGroupInfo(req, uRoom, content, hub, hubSigner)
	if err != nil {
		t.Fatal(err)
	}
	b, err := tlspl.Marshal(resp)
	if err != nil {
		t.Fatal(err)
	}
	open := func(b []byte, room URI, key []byte) (*GroupInfoRatchetTree, error) {
		var r GroupInfoResponse
		if err := tlspl.Unmarshal(b, &r); err != nil {
			return nil, err
		}
		return r.Open(req, room, key)
	}
	got, err := open(b, uRoom, private)
	if err != nil {
		t.Fatal(err)
	}
	want, err := tlspl.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := tlspl.Marshal(got); err != nil || !bytes.Equal(again, want) || got.PendingProposals[0].AcceptedTime != 42 {
		t.Errorf("the content changed: %v", err)
	}
	if _, err := open(b, MustParseURI("mimi://a.example/r/other"), private); !errors.Is(err, ErrMalformed) {
		t.Errorf("another room: %v", err)
	}
	otherKey, _, err := mls.GenerateHPKEKey(testSuite)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(b, uRoom, otherKey); err == nil {
		t.Error("opened with another key")
	}
	for i := 0; i < len(b); i += 7 {
		bad := bytes.Clone(b)
		bad[i] ^= 0x40
		if _, err := open(bad, uRoom, private); err == nil {
			t.Errorf("octet %d is not protected", i)
		}
	}
	if _, err := SealGroupInfo(req, uRoom, content, hub, m.signer); err == nil {
		t.Error("sealed with a key that is not the hub's")
	}
	refused := &GroupInfoResponse{Protocol: 1, Room: uRoom, Status: GroupInfoNotAuthorized}
	if _, err := refused.Open(req, uRoom, private); err == nil {
		t.Error("opened a refusal")
	}
}

func fuzzCodec[T any, P interface {
	*T
	codec
}](f *testing.F, seeds ...tlspl.Marshaler) {
	for _, s := range seeds {
		b, err := tlspl.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v := P(new(T))
		if tlspl.Unmarshal(b, v) != nil {
			return
		}
		first, err := tlspl.Marshal(v)
		if err != nil {
			t.Fatalf("decoded %x, but cannot encode it: %v", b, err)
		}
		again := P(new(T))
		if err := tlspl.Unmarshal(first, again); err != nil {
			t.Fatalf("%x: %v", first, err)
		}
		second, err := tlspl.Marshal(again)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%x is not stable: %x, %v", first, second, err)
		}
	})
}

func FuzzKeyMaterialRequest(f *testing.F) {
	fuzzCodec[KeyMaterialRequest](f, &KeyMaterialRequest{Protocol: 1, RequestingUser: uAlice, TargetUser: uBob, Room: uRoom,
		CipherSuites: []mls.CipherSuite{1}, Credential: mls.BasicCredential([]byte("x"))})
}

func FuzzKeyMaterialResponse(f *testing.F) {
	m := newMessages(f)
	fuzzCodec[KeyMaterialResponse](f, &KeyMaterialResponse{Protocol: 1, User: uBob, Clients: []ClientKeyMaterial{
		{Client: uBobD, KeyPackage: m.keyPackage}, {Status: ClientNothingCompatible, Client: uBobD, Capabilities: &m.keyPackage.LeafNode.Capabilities}}})
}

func FuzzUpdateRequest(f *testing.F) {
	m := newMessages(f)
	fuzzCodec[UpdateRequest](f, &UpdateRequest{Message: m.commit, Welcome: m.welcome.Welcome,
		GroupInfo: GroupInfoOption{Full: m.groupInfo}, RatchetTree: HubTree()},
		&UpdateRequest{Message: m.proposal, MoreProposals: []mls.MLSMessage{m.proposal}})
}

func FuzzUpdateRoomResponse(f *testing.F) {
	fuzzCodec[UpdateRoomResponse](f, &UpdateRoomResponse{}, &UpdateRoomResponse{Code: UpdateWrongEpoch},
		&UpdateRoomResponse{Code: UpdateInvalidProposal, InvalidProposals: []mls.ProposalRef{{1}}})
}

func FuzzSubmitMessageRequest(f *testing.F) {
	m := newMessages(f)
	fuzzCodec[SubmitMessageRequest](f, &SubmitMessageRequest{Protocol: 1, AppMessage: m.private, SendingURI: uAlice})
}

func FuzzSubmitMessageResponse(f *testing.F) {
	fuzzCodec[SubmitMessageResponse](f, &SubmitMessageResponse{Protocol: 1, Frank: &Frank{}}, &SubmitMessageResponse{Protocol: 1, Code: 2})
}

func FuzzParseFanout(f *testing.F) {
	m := newMessages(f)
	for _, e := range []*FanoutMessage{{Message: m.private}, {Message: m.welcome, RatchetTree: HubTree()},
		{Message: m.proposal, MoreProposals: []mls.MLSMessage{m.proposal}}, {Message: m.commit}} {
		b, err := tlspl.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := SplitFanout(b)
		if err != nil {
			return
		}
		var again []byte
		for i := range list {
			part, err := tlspl.Marshal(&list[i].FanoutMessage)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseFanout(part); err != nil {
				t.Fatal(err)
			}
			again = append(again, list[i].Raw...)
		}
		if !bytes.Equal(again, b) {
			t.Fatal("the raw parts are not the body")
		}
	})
}

func FuzzGroupInfoRequest(f *testing.F) {
	fuzzCodec[GroupInfoRequest](f, &GroupInfoRequest{Protocol: 1, CipherSuite: 1, Credential: mls.X509Credential([]byte("x"))})
}

func FuzzGroupInfoResponse(f *testing.F) {
	fuzzCodec[GroupInfoResponse](f, &GroupInfoResponse{Protocol: 1, Room: uRoom, Status: 2},
		&GroupInfoResponse{Protocol: 1, Room: uRoom, Status: 1, HubSender: mls.ExternalSender{Credential: mls.BasicCredential(nil)}})
}

func FuzzGroupInfoRatchetTree(f *testing.F) {
	m := newMessages(f)
	fuzzCodec[GroupInfoRatchetTree](f, &GroupInfoRatchetTree{GroupInfo: *m.groupInfo, RatchetTree: HubTree(),
		PendingProposals: []PendingProposal{{m.proposal, 1}}})
}
