package mls

import (
	"errors"
	"testing"
)

func privateWorld(t testing.TB, suite CipherSuite) *world {
	cfg := worldConfig()
	cfg.HandshakeFormat = WirePrivateMessage
	return newWorldWith(t, suite, cfg, nil)
}

// A group lives with encrypted handshakes, stored and loaded at every step.
func TestGroupLifeWithPrivateHandshakes(t *testing.T) {
	for _, suite := range []CipherSuite{X25519AES128SHA256Ed25519, P256AES128SHA256P256} {
		w := privateWorld(t, suite)
		w.stores = map[string]map[string][]byte{"m0": {}}
		w.reload("m0")
		groupLife(t, w)
	}
}

func TestHandshakeFormat(t *testing.T) {
	w := privateWorld(t, suite1)
	w.add("m0", "m1", "m2")
	if m := w.propose("m1", AppDataUpdateProposal(testComponent, []byte("x"))); m.PrivateMessage == nil {
		t.Error("a proposal is not a PrivateMessage")
	}
	if m := w.propose("m2", SelfRemoveProposal()); m.PublicMessage == nil {
		t.Error("a SelfRemove is not a PublicMessage, as external joiners need it")
	}
	// Commits that are dropped burn their keys; the next one opens all the same.
	g := w.groups["m0"]
	for range 3 {
		_, err := g.Commit(CommitOptions{})
		noError(t, err)
	}
	sc := w.commit("m0", CommitOptions{})
	if sc.Message.PrivateMessage == nil || sc.Message.ContentType() != ContentCommit {
		t.Error("a commit is not a PrivateMessage")
	}
	if len(w.names) != 2 {
		t.Errorf("members are %v", w.names)
	}
	// An external commit is always public.
	gi, err := g.GroupInfo()
	noError(t, err)
	d := w.device("m3")
	_, join, err := JoinExternal(w.cfg, gi, g.State().RatchetTree(), JoinParams{Signer: d.signer, Credential: BasicCredential([]byte("m3"))})
	noError(t, err)
	if join.Message.PublicMessage == nil {
		t.Error("an external commit is not a PublicMessage")
	}
	if _, err := w.groups["m1"].StageCommit(w.wire(join.Message)); err != nil {
		t.Error(err)
	}

	cfg := worldConfig()
	for _, f := range []WireFormat{WireWelcome, WireGroupInfo, 0x7777} {
		cfg.HandshakeFormat = f
		if _, err := CreateGroup(cfg, GroupParams{CipherSuite: suite1, Signer: d.signer, Credential: BasicCredential([]byte("m"))}); !errors.Is(err, ErrInvalidMessage) {
			t.Errorf("HandshakeFormat %v: %v", f, err)
		}
	}
}

// The records that follow a PrivateMessage hold its key no more, so that a
// crash cannot bring it back for a second message.
func TestPrivateHandshakeKeysAreUsedOnce(t *testing.T) {
	w := privateWorld(t, suite1)
	w.add("m0", "m1")
	g := w.groups["m0"]
	records := map[string][]byte{}
	store(t, g, records)
	sc, err := g.Commit(CommitOptions{})
	noError(t, err)
	sealed, err := g.SealStaged(sc)
	noError(t, err)
	store(t, g, records)
	g, err = LoadGroup(w.cfg, records, g.signer)
	noError(t, err)
	other, err := g.Commit(CommitOptions{})
	noError(t, err)
	generation := func(m *MLSMessage) uint32 {
		sd, err := m.PrivateMessage.openSenderData(g.suite, g.epoch.senderData)
		noError(t, err)
		return sd.generation
	}
	if a, b := generation(sc.Message), generation(other.Message); a != 0 || b != 1 {
		t.Errorf("generations %d and %d", a, b)
	}
	// The first one was accepted after all.
	if sc, err = g.LoadStaged(sealed); err != nil {
		t.Fatal(err)
	}
	w.groups["m0"] = g
	w.deliver("m0", sc)
	// A stored commit whose content was exchanged is refused.
	sc, err = g.Commit(CommitOptions{})
	noError(t, err)
	if sealed, err = g.SealStaged(sc); err != nil {
		t.Fatal(err)
	}
	if _, err := g.StageCommit(w.wire(sc.Message)); !errors.Is(err, ErrReplay) {
		t.Errorf("an own commit opens: %v", err)
	}
	var r stagedRecord
	noError(t, Unmarshal(sealed, &r))
	r.content.Auth.Signature[9] ^= 1
	if _, err := g.LoadStaged(mustMarshal(&r)); !errors.Is(err, ErrInvalidSignature) {
		t.Errorf("a stored commit with another signature is loaded: %v", err)
	}
	noError(t, Unmarshal(sealed, &r))
	r.sc.Message = forge(t, g, byValue(), nil)
	if _, err := g.LoadStaged(mustMarshal(&r)); !errors.Is(err, ErrState) {
		t.Errorf("a stored commit with another message is loaded: %v", err)
	}
}

func TestPadding(t *testing.T) {
	asked := 0
	cfg := worldConfig()
	cfg.Padding = func(size int) int {
		asked++
		return (size + 511) / 512 * 512
	}
	w := newWorldWith(t, suite1, cfg, nil)
	w.add("m0", "m1")
	overhead := 16 // the AEAD's tag
	for _, n := range []int{0, 1, 300, 600} {
		m, err := w.groups["m0"].Encrypt(make([]byte, n), nil)
		noError(t, err)
		if size := len(m.PrivateMessage.Ciphertext) - overhead; size%512 != 0 || size < n {
			t.Errorf("%d octets are padded to %d", n, size)
		}
		got, err := w.groups["m1"].Decrypt(w.wire(m))
		noError(t, err)
		equal(t, "data", got.Data, make([]byte, n))
	}
	if asked == 0 {
		t.Error("Config.Padding was not asked")
	}
	for _, f := range []func(int) int{func(int) int { return 0 }, func(int) int { return -5 }} {
		cfg.Padding = f
		w := newWorldWith(t, suite1, cfg, nil)
		w.add("m0", "m1")
		m, err := w.groups["m0"].Encrypt(make([]byte, 100), nil)
		noError(t, err)
		if n := len(m.PrivateMessage.Ciphertext); n > 100+2+2+64+overhead {
			t.Errorf("padded to %d octets without padding", n)
		}
		w.say("m0", "without padding")
	}
}
