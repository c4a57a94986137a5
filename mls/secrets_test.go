package mls

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// Nothing that holds secrets prints them, in whatever way.
func TestNothingPrintsSecrets(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	w.commit("m1", CommitOptions{})
	g := w.groups["m0"]
	_, err := g.ProposeUpdate(LeafParams{}, nil)
	noError(t, err)
	d := w.device("m3")
	signer, private, err := GenerateSigner(suite1, nil)
	noError(t, err)
	ecdsa, scalar, err := GenerateSigner(P256AES128SHA256P256, nil)
	noError(t, err)
	goldilocks, seed448, err := GenerateSigner(X448AES256SHA512Ed448, nil)
	noError(t, err)
	sc, err := g.Commit(CommitOptions{Proposals: []Proposal{AddProposal(d.kp)}, ForcePath: true})
	noError(t, err)
	sealed, err := g.SealStaged(sc)
	noError(t, err)
	gs := &GroupSecrets{JoinerSecret: randomOctets(t, 32), PathSecret: randomOctets(t, 32)}
	secrets := append(liveSecrets(g), private, scalar, seed448, d.priv.InitKey, d.priv.EncryptionKey, gs.JoinerSecret, gs.PathSecret)
	for _, f := range sc.private.secrets.fields() {
		if f != &sc.private.secrets.authenticator && len(*f) > 0 {
			secrets = append(secrets, *f)
		}
	}
	for _, k := range sc.private.keys {
		secrets = append(secrets, k)
	}
	records := allRecords(t, g)
	for name, v := range map[string]any{
		"Group": *g, "*Group": g, "KeyPackagePrivate": *d.priv, "*KeyPackagePrivate": d.priv,
		"StagedCommit": *sc, "*StagedCommit": sc, "GroupSecrets": *gs, "*GroupSecrets": gs,
		"Signer": signer, "ECDSA Signer": ecdsa, "Ed448 Signer": goldilocks, "Records": records, "*Records": &records, "Record": records.Put[0],
		"GroupParams": GroupParams{Signer: signer}, "KeyPackageParams": KeyPackageParams{Signer: ecdsa},
		"JoinParams": JoinParams{Signer: signer}, "CommitOptions": CommitOptions{Leaf: &LeafParams{Signer: signer}},
		"*LeafParams": &LeafParams{Signer: signer}, "State": g.State(), "list": []any{g, d.priv, signer, sc},
		"struct": struct {
			G *Group
			P *KeyPackagePrivate
			S Signer
		}{g, d.priv, signer}, "map": map[string]*KeyPackagePrivate{"x": d.priv},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d", "%o"} {
			if form := tells(fmt.Sprintf(verb, v), secrets...); form != "" {
				t.Errorf("%s of a %s prints a secret in the form %s", verb, name, form)
			}
		}
		var out strings.Builder
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "value", v)
		if form := tells(out.String(), secrets...); form != "" {
			t.Errorf("a text log of a %s holds a secret in the form %s", name, form)
		}
	}
	for _, v := range []any{g, d.priv, *d.priv, sc, gs, *gs, records.Put[0]} {
		var out strings.Builder
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "value", v)
		if form := tells(out.String(), secrets...); form != "" {
			t.Errorf("a JSON log of a %T holds a secret in the form %s", v, form)
		}
	}
	if tells(fmt.Sprintf("%x", sealed), secrets...) == "" || tells(fmt.Sprint([]byte(private)), secrets...) == "" {
		t.Error("the test does not see secrets")
	}
	for _, show := range []string{fmt.Sprint(g), fmt.Sprint(d.priv), fmt.Sprint(sc)} {
		if !strings.HasPrefix(show, "mls.") {
			t.Errorf("%q says nothing", show)
		}
	}
}

// allRecords returns all records of a group.
func allRecords(t testing.TB, g *Group) Records {
	t.Helper()
	c := *g
	c.saved = savedGroup{}
	r := c.Records()
	if r.Empty() {
		t.Fatal("a group without records")
	}
	return r
}

// held are secrets whose memory a test keeps.
type held map[string][]byte

func (h held) put(name string, b []byte) {
	if len(b) > 0 {
		h[name] = b
	}
}

// wiped checks that all are zero now, and were not when they were put.
func (h held) wiped(t testing.TB, when string) {
	t.Helper()
	for name, b := range h {
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("%s is still there %s", name, when)
		}
	}
}

func (h held) alive(t testing.TB) {
	t.Helper()
	if len(h) == 0 {
		t.Fatal("nothing is held")
	}
	for name, b := range h {
		if bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("%s is zero before it should be", name)
		}
	}
}

func (h held) tree(name string, s *secretTree) {
	for i, b := range s.nodes {
		h.put(fmt.Sprintf("%s node %d", name, i), b)
	}
	for l, pair := range s.senders {
		for kind, r := range pair {
			if r == nil {
				continue
			}
			h.put(fmt.Sprintf("%s ratchet %d/%d", name, l, kind), r.secret)
			for g, k := range r.skipped {
				h.put(fmt.Sprintf("%s key %d/%d/%d", name, l, kind, g), k.key)
				h.put(fmt.Sprintf("%s nonce %d/%d/%d", name, l, kind, g), k.nonce)
			}
		}
	}
}

// What an epoch does not leave to late messages is wiped when the next one
// begins, for whoever makes the commit and whoever follows it.
func TestMergeWipesTheEpoch(t *testing.T) {
	for _, who := range []string{"m0", "m1"} {
		w := newWorld(t, suite1)
		w.add("m0", "m1", "m2", "m3")
		w.commit("m0", CommitOptions{})
		w.commit("m1", CommitOptions{})
		g := w.groups[who]
		m, err := g.ProposeUpdate(LeafParams{}, nil) // comes to nothing
		noError(t, err)
		w.deliverProposal(who, m)
		h := held{}
		for i, f := range g.epoch.fields() {
			if f != &g.epoch.senderData && f != &g.epoch.resumption {
				h.put(fmt.Sprintf("secret %d of the epoch", i), *f)
			}
		}
		for i, b := range g.exports {
			h.put(fmt.Sprintf("exporter node %d", i), b)
		}
		for p, b := range g.updates {
			h.put(fmt.Sprintf("update key %x", p), b)
		}
		root, _ := g.state.tree.publicKey(rootPosition(g.state.tree.depth))
		h.put("private key of the root", g.keys[rootPosition(g.state.tree.depth)])
		if who == "m0" {
			h.put("private key of the leaf", g.keys[leafPosition(g.own)])
		}
		for l, pair := range g.tree.senders {
			h.put(fmt.Sprintf("handshake ratchet of %d", l), pair[handshakeRatchet].secret)
		}
		if len(root) == 0 {
			t.Fatal("the root is blank")
		}
		h.alive(t)
		sc, err := w.groups["m0"].Commit(CommitOptions{SkipPending: true, ForcePath: true})
		noError(t, err)
		w.deliver("m0", sc)
		h.wiped(t, "after the next epoch began at "+who)
	}
}

// The secrets for late messages are wiped when the window has passed.
func TestPastEpochsAreWiped(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	g := w.groups["m1"]
	w.commit("m0", CommitOptions{})
	h := held{}
	p := g.past[len(g.past)-1]
	h.put("sender data secret", p.senderData)
	h.put("resumption key", p.resumption)
	h.tree("past", p.tree)
	h.alive(t)
	for range 3 {
		h.alive(t)
		w.commit("m0", CommitOptions{})
	}
	h.wiped(t, "after the window has passed")
	// Without a window it happens at once.
	c := *g.cfg
	c.Limits.PastEpochs = 0
	g.cfg = &c
	h = held{}
	h.put("sender data secret", g.epoch.senderData)
	h.put("resumption key", g.epoch.resumption)
	h.tree("tree", g.tree)
	h.alive(t)
	w.commit("m0", CommitOptions{})
	h.wiped(t, "without a window")
}

// A member that was removed has nothing left.
func TestRemovalWipesAll(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1", "m2")
	w.commit("m2", CommitOptions{})
	g := w.groups["m2"]
	_, err := g.ProposeUpdate(LeafParams{}, nil)
	noError(t, err)
	h := held{}
	for i, s := range liveSecrets(g) {
		if s2, ok := g.signer.(ed25519Signer); ok && &s[0] == &s2[0] {
			continue // the signer is the client's
		}
		h.put(fmt.Sprintf("secret %d", i), s)
	}
	h.alive(t)
	sc, err := w.groups["m0"].Commit(CommitOptions{Proposals: []Proposal{RemoveProposal(g.own)}, SkipPending: true})
	noError(t, err)
	w.deliver("m0", sc)
	h.wiped(t, "after the member was removed")
}

// The key of a message is wiped when the message was read, and so is the
// ratchet secret from which it derives; that of a message which is not
// genuine goes at once.
func TestMessageKeysAreWiped(t *testing.T) {
	for _, generation := range []uint32{0, 3} {
		tree := testTree(t, 8)
		h := held{}
		for i, b := range tree.nodes {
			h.put(fmt.Sprintf("node %d", i), b)
		}
		u, err := tree.open(3, applicationRatchet, generation, 8)
		noError(t, err)
		h.put("key", u.key)
		h.put("nonce", u.nonce)
		h.alive(t)
		first := u.expansion.ratchets[applicationRatchet].secret
		u.consume(8)
		h.put("first ratchet secret", first)
		h.wiped(t, "after the message was read")
		if generation == 0 {
			continue
		}
		skipped := held{}
		skipped.put("skipped key", tree.senders[3][applicationRatchet].skipped[1].key)
		skipped.put("skipped nonce", tree.senders[3][applicationRatchet].skipped[1].nonce)
		skipped.alive(t)
		u, err = tree.open(3, applicationRatchet, 1, 8)
		noError(t, err)
		u.consume(8)
		skipped.wiped(t, "after the late message was read")
		// The oldest go when there are too many.
		old := held{}
		old.put("dropped key", tree.senders[3][applicationRatchet].skipped[0].key)
		u, err = tree.open(3, applicationRatchet, 12, 8)
		noError(t, err)
		u.consume(8)
		old.wiped(t, "after eight more were skipped")
	}
	tree := testTree(t, 8)
	u, err := tree.open(3, applicationRatchet, 2, 8)
	noError(t, err)
	h := held{}
	h.put("key", u.key)
	h.put("nonce", u.nonce)
	h.put("next ratchet secret", u.secret)
	for g, k := range u.skipped {
		h.put(fmt.Sprintf("skipped key %d", g), k.key)
	}
	for i, s := range u.expansion.siblings {
		h.put(fmt.Sprintf("sibling %d", i), s)
	}
	h.alive(t)
	u.discard()
	h.wiped(t, "after the message was refused")
}

// Path secrets do not outlive the commit, whether it is good or not.
func TestPathSecretsAreWiped(t *testing.T) {
	a := newArena(t)
	for _, spoilt := range []bool{false, true} {
		f := a.forge(draft{path: true}, false)
		to := a.groups["m7"]
		path := f.path.path
		p, err := to.state.stageProposals(to.cfg, nil, MemberSender(a.leaf("m1")))
		noError(t, err)
		noError(t, p.applyPath(path))
		filtered := p.tree.filteredPath(p.committer)
		at := len(filtered) - 1
		secret := bytes.Clone(f.path.secrets[at].secret)
		if spoilt {
			path.Nodes[at].EncryptionKey = rootKey(a.hub.State())
		}
		_, keys, err := p.implantPath(path, filtered, at, secret, to.keys)
		if (err != nil) != spoilt {
			t.Fatalf("spoilt %v: %v", spoilt, err)
		}
		held{"path secret": secret}.wiped(t, "after the path was read")
		if keys != nil {
			h := held{"new key of the root": keys[filtered[at]]}
			h.alive(t)
			keys.wipeBut(to.keys)
			h.wiped(t, "after the commit was dropped")
			held{"old key of the leaf": to.keys[leafPosition(to.own)]}.alive(t)
		}
	}
	// What a committer keeps is wiped by its own hand.
	f := a.forge(draft{path: true}, false)
	h := held{}
	for i, n := range f.path.secrets {
		h.put(fmt.Sprintf("path secret %d", i), n.secret)
	}
	h.alive(t)
	f.path.wipe()
	h.wiped(t, "after the commit was made")
}

// A new member's secrets: the GroupSecrets, the path secret of the Welcome,
// the keys of the KeyPackage.
func TestJoiningWipes(t *testing.T) {
	a := newArena(t)
	d, w, _ := a.invite(invitation{path: true}, false)
	s := a.groups["m1"].suite
	ref, err := d.kp.Ref()
	noError(t, err)
	gs, err := w.openSecrets(s, ref, d.priv.InitKey)
	noError(t, err)
	h := held{"joiner secret": gs.JoinerSecret, "path secret": gs.PathSecret}
	h.alive(t)
	gs.wipe()
	h.wiped(t, "after the Welcome was read")
	_, err = JoinWelcome(a.cfg, w, nil, d.kp, d.priv, d.signer)
	noError(t, err)
	h = held{"init key": d.priv.InitKey, "encryption key": d.priv.EncryptionKey}
	h.alive(t) // they are the caller's
	d.priv.Wipe()
	h.wiped(t, "after the caller destroyed them")
	psks, err := a.groups["m1"].resolvePSKs([]PreSharedKeyID{sharedPSK().PreSharedKey.PSK})
	noError(t, err)
	h = held{"pre-shared key": psks[0].psk}
	h.alive(t)
	wipePSKs(psks)
	h.wiped(t, "after it was mixed in")
	held{"the application's own pre-shared key": arenaPSK}.alive(t)
}

// An exported secret is wiped where it came from.
func TestExportWipes(t *testing.T) {
	w := newWorld(t, suite1)
	w.add("m0", "m1")
	g := w.groups["m0"]
	h := held{}
	for i, b := range g.exports {
		h.put(fmt.Sprintf("node %d", i), b)
	}
	h.alive(t)
	_, err := g.SafeExport(7)
	noError(t, err)
	h.wiped(t, "after it was used")
}

// MACs are the same only if they have the same length, and an empty one is
// never right (OpenMLS GHSA-8x3w-qj7j-gqhf).
func TestMACEqual(t *testing.T) {
	mac := randomOctets(t, 32)
	if !macEqual(mac, bytes.Clone(mac)) {
		t.Error("equal MACs differ")
	}
	for n := range mac {
		if macEqual(mac, mac[:n]) || macEqual(mac[:n], mac) {
			t.Errorf("a prefix of %d octets is accepted", n)
		}
		other := bytes.Clone(mac)
		other[n] ^= 0x80
		if macEqual(mac, other) {
			t.Errorf("a MAC that differs in octet %d is accepted", n)
		}
	}
	if macEqual(mac, append(bytes.Clone(mac), 0)) || macEqual(nil, nil) || macEqual([]byte{}, nil) || macEqual(mac, nil) || macEqual(nil, mac) {
		t.Error("a MAC of another length, or an empty one, is accepted")
	}
}
