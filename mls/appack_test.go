package mls

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestAppAckCodec(t *testing.T) {
	a := AppAck{{1, 0, 9}, {0, 5, 5}, {0, 5, 7}}
	b := mustEncode(t, a)
	equal(t, "encoding", b, []byte{
		36, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 7,
	})
	var again AppAck
	noError(t, Unmarshal(b, &again))
	if !slices.Equal(a, again) {
		t.Errorf("decodes to %v", again)
	}
	if Unmarshal([]byte{12, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1}, &again) == nil {
		t.Error("a range that ends before it begins decodes")
	}
	if _, err := Marshal(AppAck{{0, 2, 1}}); !errors.Is(err, ErrInvalidMessage) {
		t.Errorf("and it encodes: %v", err)
	}
	if _, err := Marshal(make(AppAck, maxAckRanges+1)); !errors.Is(err, ErrLimit) {
		t.Errorf("too many ranges: %v", err)
	}
}

// The log and the set operations against sets of single messages.
func TestReceiptLogAgainstSets(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	type msg struct {
		sender     LeafIndex
		generation uint32
	}
	edge := []uint32{0, 1, 1<<32 - 2, 1<<32 - 1}
	for range 300 {
		var l ReceiptLog
		had, acked := map[msg]bool{}, map[msg]bool{}
		var ack AppAck
		for range rng.IntN(60) {
			m := msg{LeafIndex(rng.IntN(3)), uint32(rng.IntN(20))}
			if rng.IntN(8) == 0 {
				m.generation = edge[rng.IntN(len(edge))]
			}
			had[m] = true
			if !l.Add(&ApplicationMessage{Epoch: 7, Sender: m.sender, Generation: m.generation}) {
				t.Fatal("no room")
			}
		}
		for range rng.IntN(6) {
			first := uint32(rng.IntN(20))
			r := MessageRange{LeafIndex(rng.IntN(3)), first, first + uint32(rng.IntN(6))}
			ack = append(ack, r)
			for g := r.First; g <= r.Last; g++ {
				acked[msg{r.Sender, g}] = true
			}
		}
		got := l.Ack(7)
		if !slices.Equal(got, got.normal()) {
			t.Fatalf("%v is not in normal form", got)
		}
		missed := ack.normal().minus(got)
		for s := range LeafIndex(3) {
			for _, g := range append([]uint32{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25}, edge...) {
				m := msg{s, g}
				if got.Contains(s, g) != had[m] {
					t.Fatalf("%v acknowledges %v: want %v", got, m, had[m])
				}
				if want := acked[m] && !had[m]; missed.Contains(s, g) != want {
					t.Fatalf("%v minus %v is %v; for %v want %v", ack, got, missed, m, want)
				}
			}
		}
		b := mustEncode(t, &l)
		var again ReceiptLog
		noError(t, Unmarshal(b, &again))
		equal(t, "stored", mustEncode(t, &again), b)
	}
}

// The log never grows beyond its bounds, and never claims what it did not see.
func TestReceiptLogBounds(t *testing.T) {
	var l ReceiptLog
	for i := range maxReceiptRanges {
		if !l.Add(&ApplicationMessage{Epoch: 1, Generation: uint32(2 * i)}) {
			t.Fatalf("no room for range %d", i)
		}
	}
	if l.Add(&ApplicationMessage{Epoch: 1, Sender: 1}) || l.Ack(1).Contains(1, 0) {
		t.Error("a range too many is noted")
	}
	if !l.Add(&ApplicationMessage{Epoch: 1, Generation: 1}) || len(l.Ack(1)) != maxReceiptRanges-1 {
		t.Error("a message that joins two ranges is not")
	}
	for e := Epoch(2); e < 10; e++ {
		if !l.Add(&ApplicationMessage{Epoch: e}) {
			t.Errorf("no room for epoch %d", e)
		}
	}
	if len(l.epochs) != maxReceiptEpochs || l.Add(&ApplicationMessage{Epoch: 3}) || l.Ack(1) != nil {
		t.Errorf("%d epochs are kept", len(l.epochs))
	}
}

func TestAppAck(t *testing.T) {
	hub := newTestSigner(t, suite1)
	cfg := worldConfig()
	cfg.Components = StandardComponents()
	cfg.ExternalProposals = func(*State, *Proposal, uint32) error { return nil }
	w := newWorldWith(t, suite1, cfg, Extensions{someSenders(t, hub.Public())})
	w.add("m0", "m1", "m2")
	logs := map[string]*ReceiptLog{"m0": {}, "m1": {}, "m2": {}}
	send := func(from string, to ...string) {
		m, err := w.groups[from].Encrypt([]byte("x"), nil)
		noError(t, err)
		for _, n := range to {
			got, err := w.groups[n].Decrypt(w.wire(m))
			noError(t, err)
			if !logs[n].Add(got) {
				t.Fatal("no room")
			}
		}
	}
	// Messages of the world's own check come first: one of each member.
	e := w.groups["m0"].State().Epoch()
	if n := w.groups["m0"].Sent(); n != 1 {
		t.Fatalf("m0 has sent %d messages", n)
	}
	send("m0", "m1", "m2") // generation 1
	send("m0", "m1")       // generation 2 is dropped on the way to m2
	send("m0", "m1", "m2") // generation 3
	send("m0", "m1")       // generation 4 is dropped on the way to m2
	send("m1", "m2")       // and m1's on the way to m0
	if got := logs["m2"].Gaps(e); !slices.Equal(got, []MessageRange{{0, 0, 0}, {0, 2, 2}, {1, 0, 0}}) {
		t.Errorf("m2 notices the gaps %v", got)
	}
	public := publicOf(t, w, "m0")
	ack := logs["m2"].Ack(e)
	p, err := ack.Proposal()
	noError(t, err)
	m := w.propose("m2", p)
	q, err := public.Proposal(m)
	noError(t, err)
	noError(t, public.Enqueue(q))
	sc, err := w.groups["m1"].Commit(CommitOptions{})
	noError(t, err)
	got, err := public.StageCommit(sc.Message)
	noError(t, err)
	acks, err := got.AppAcks()
	noError(t, err)
	if len(acks) != 1 || acks[0].Sender != w.groups["m2"].OwnLeaf() || !slices.Equal(acks[0].Ack, ack) {
		t.Fatalf("the commit holds %v", acks)
	}
	review, err := w.groups["m0"].ReviewAck(logs["m0"], acks[0].Sender, acks[0].Ack)
	noError(t, err)
	if !slices.Equal(review.Undelivered, []MessageRange{{0, 0, 0}, {0, 2, 2}, {0, 4, 4}}) || !slices.Equal(review.Missed, []MessageRange{{1, 1, 1}}) {
		t.Errorf("m0 concludes %+v", review)
	}
	// A claim to have received what was never sent.
	if _, err := w.groups["m0"].ReviewAck(logs["m0"], 2, AppAck{{0, 0, 5}}); !errors.Is(err, ErrInvalidMessage) {
		t.Errorf("an AppAck that claims too much: %v", err)
	}
	// Who may send what.
	joiner := w.device("joiner")
	_, refused := enqueueAll(t, w, public, hub, false, []Proposal{p})
	if !refused {
		t.Error("an external sender acknowledges messages")
	}
	ext := forgeExternal(t, public, joiner, []ProposalOrRef{{Proposal: &p}})
	w.refuses("m1", ext, ErrInvalidProposal)
	for name, p := range map[string]Proposal{
		"blank leaf":     AppEphemeralProposal(ComponentAppAck, mustEncode(t, AppAck{{7, 0, 0}})),
		"malformed":      AppEphemeralProposal(ComponentAppAck, []byte{1}),
		"kept as data":   AppDataUpdateProposal(ComponentAppAck, mustEncode(t, ack)),
		"data's removal": AppDataRemoveProposal(ComponentAppAck),
	} {
		m := forge(t, w.groups["m0"], byValue(p), nil)
		w.refuses("m1", m, ErrInvalidProposal)
		if _, err := public.StageCommit(m); !errors.Is(err, ErrInvalidProposal) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFrame(t *testing.T) {
	leaf := leafSays{components: ComponentsList{1, 2, 3}, media: MediaTypeList{{Type: "text/plain"}, {Type: "image/png"}}}
	x, err := Extensions{}.WithDictionary(AppDataDictionary{{ComponentContentMediaTypes, mustEncode(t, leaf.media[:1])}})
	noError(t, err)
	newGroup := func(x Extensions) *Group {
		g, err := CreateGroup(worldConfig(), GroupParams{
			CipherSuite: suite1, Signer: newTestSigner(t, suite1), Credential: BasicCredential([]byte("m0")),
			LeafExtensions: leaf.extensions(t), Extensions: x,
		})
		noError(t, err)
		return g
	}
	framed, plain := newGroup(x).State(), newGroup(nil).State()
	for _, tt := range []struct {
		media MediaType
		want  string
	}{
		{MediaType{Type: "text/plain"}, "\x00\x00\x02hi"},
		{MediaType{Type: "TEXT/Plain"}, "\x00\x00\x02hi"},
		{MediaType{}, "\x00\x00\x02hi"},
		{MediaType{Type: "image/png"}, "\x09image/png\x00\x02hi"},
		{MediaType{"text/plain", []MediaTypeParameter{{"charset", "UTF-8"}}}, "\x0atext/plain\x0e\x07charset\x05UTF-8\x02hi"},
	} {
		b, err := framed.Frame(tt.media, []byte("hi"))
		noError(t, err)
		equal(t, "framed", b, []byte(tt.want))
		m, content, err := framed.Unframe(b)
		noError(t, err)
		want := tt.media
		if want.Type == "" {
			want = leaf.media[0]
		}
		if !m.Equal(&want) || string(content) != "hi" {
			t.Errorf("%s %q", m, content)
		}
		b, err = plain.Frame(tt.media, []byte("hi"))
		noError(t, err)
		m, content, err = plain.Unframe(b)
		if err != nil || m.Type != "" || string(content) != "hi" || string(b) != "hi" {
			t.Errorf("without framing: %q %v %q %v", b, m, content, err)
		}
	}
	for _, bad := range []string{"", "hi", "\x00\x00\x03hi", "\x00\x00\x02hi!", "\x03abc\x00\x02hi", "\x00\x04\x01a\x01b\x02hi"} {
		if _, _, err := framed.Unframe([]byte(bad)); !errors.Is(err, ErrInvalidMessage) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := framed.Frame(MediaType{Type: "text"}, nil); !errors.Is(err, ErrInvalidMessage) {
		t.Errorf("not a media type: %v", err)
	}
	a := MediaType{"a/b", []MediaTypeParameter{{"X", "1"}, {"y", "2"}}}
	b := MediaType{"A/B", []MediaTypeParameter{{"Y", "2"}, {"x", "1"}}}
	c := MediaType{"A/B", []MediaTypeParameter{{"Y", "2"}, {"x", "I"}}}
	if !a.Equal(&b) || a.Equal(&c) || !(MediaTypeList{a}).Contains(&b) {
		t.Error("media types compare wrongly")
	}
}

// A late message is unframed as its own epoch had it.
func TestUnframeLateMessage(t *testing.T) {
	leaf := leafSays{components: ComponentsList{1, 2, 3}, media: MediaTypeList{{Type: "text/plain"}}}
	x, err := Extensions{}.WithDictionary(AppDataDictionary{{ComponentContentMediaTypes, mustEncode(t, leaf.media)}})
	noError(t, err)
	g, err := CreateGroup(worldConfig(), GroupParams{
		CipherSuite: suite1, Signer: newTestSigner(t, suite1), Credential: BasicCredential([]byte("m0")),
		LeafExtensions: leaf.extensions(t), Extensions: x,
	})
	noError(t, err)
	d := keyPackageThat(t, "m1", leaf)
	sc, err := g.Commit(CommitOptions{Proposals: []Proposal{AddProposal(d.kp)}})
	noError(t, err)
	noError(t, g.Merge(sc))
	other, err := JoinWelcome(worldConfig(), sc.Welcome, nil, d.kp, d.priv, d.signer)
	noError(t, err)
	b, err := g.State().Frame(MediaType{}, []byte("early"))
	noError(t, err)
	now, err := g.Encrypt(b, nil)
	noError(t, err)
	late, err := g.Encrypt(b, nil)
	noError(t, err)
	check := func(m *MLSMessage) {
		t.Helper()
		got, err := other.Decrypt(m)
		noError(t, err)
		media, content, err := got.Unframe()
		if err != nil || media.Type != "text/plain" || string(content) != "early" {
			t.Errorf("%v %q %v", media, content, err)
		}
	}
	check(now)
	sc, err = g.Commit(CommitOptions{Proposals: []Proposal{GroupContextExtensionsProposal(nil)}})
	noError(t, err)
	got, err := other.StageCommit(sc.Message)
	noError(t, err)
	noError(t, other.Merge(got))
	check(late)
	if _, _, err := (&ApplicationMessage{}).Unframe(); !errors.Is(err, ErrInvalidMessage) {
		t.Errorf("a message from nowhere: %v", err)
	}
}

func TestLastResort(t *testing.T) {
	w := newWorld(t, suite1)
	make := func(last bool, x Extensions) (*KeyPackage, *KeyPackagePrivate, Signer, error) {
		signer := newTestSigner(t, suite1)
		kp, priv, err := NewKeyPackage(KeyPackageParams{
			CipherSuite: suite1, Signer: signer, Credential: BasicCredential([]byte("m1")), LastResort: last, Extensions: x,
		})
		return kp, priv, signer, err
	}
	other, err := Extensions{{0xf001, nil}}.WithDictionary(AppDataDictionary{{2, []byte("x")}, {0x8001, []byte("y")}})
	noError(t, err)
	kp, priv, signer, err := make(true, other)
	noError(t, err)
	d, err := kp.Dictionary()
	noError(t, err)
	if !kp.LastResort() || len(d) != 3 || d[1].ComponentID != ComponentLastResortKeyPackage || len(d[1].Data) != 0 {
		t.Errorf("the dictionary of a last resort is %v", d)
	}
	cfg := w.cfg
	noError(t, kp.Verify(&cfg))
	again := new(KeyPackage)
	noError(t, Unmarshal(mustEncode(t, kp), again))
	if !again.LastResort() {
		t.Error("the mark does not survive the wire")
	}
	// The same last resort joins two groups, and its keys stay.
	for range 2 {
		w := newWorld(t, suite1)
		w.commit("m0", CommitOptions{Proposals: []Proposal{AddProposal(again)}}, &device{"m1", signer, kp, priv})
		if priv.Joined(kp) || bytes.Count(priv.InitKey, []byte{0}) == len(priv.InitKey) {
			t.Fatal("the keys of a last resort are destroyed")
		}
	}
	kp, priv, signer, err = make(false, nil)
	noError(t, err)
	if kp.LastResort() {
		t.Error("an ordinary key package is a last resort")
	}
	w.commit("m0", CommitOptions{Proposals: []Proposal{AddProposal(kp)}}, &device{"m1", signer, kp, priv})
	if !priv.Joined(kp) || bytes.Count(priv.InitKey, []byte{0}) != len(priv.InitKey) || bytes.Count(priv.EncryptionKey, []byte{0}) != len(priv.EncryptionKey) {
		t.Error("the keys of a used key package are kept")
	}
	g := w.groups["m1"]
	if _, ok := g.State().Member(g.OwnLeaf()); !ok {
		t.Error("no member any more")
	}
	w.commit("m1", CommitOptions{}) // the group has its own copy of the key
	// Data in the mark.
	x, err := Extensions{}.WithDictionary(AppDataDictionary{{ComponentLastResortKeyPackage, []byte("x")}})
	noError(t, err)
	kp, _, _, err = make(false, x)
	noError(t, err)
	if err := kp.Verify(&cfg); !errors.Is(err, ErrInvalidKeyPackage) {
		t.Errorf("a mark with data: %v", err)
	}
	m := forge(t, w.groups["m0"], byValue(AddProposal(kp)), nil)
	w.refuses("m1", m, ErrInvalidKeyPackage)
	if _, err := publicOf(t, w, "m0").StageCommit(m); !errors.Is(err, ErrInvalidKeyPackage) {
		t.Errorf("PublicGroup: %v", err)
	}
	if _, _, _, err := make(true, Extensions{{ExtensionAppDataDictionary, []byte{9}}}); err == nil {
		t.Error("a malformed dictionary is marked")
	}
}
