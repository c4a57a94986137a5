package mls

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"
)

// worldVerifier accepts basic credentials; a successor keeps the identity.
type worldVerifier struct{}

func (worldVerifier) VerifyCredential(c *Credential, _ []byte, _ time.Time) error {
	if c.Type != CredentialBasic || len(c.Identity) == 0 || bytes.HasPrefix(c.Identity, []byte("evil")) {
		return errors.New("not a credential of this test")
	}
	return nil
}

func (worldVerifier) VerifySuccessor(old, new *LeafNode) error {
	if !bytes.Equal(old.Credential.Identity, new.Credential.Identity) {
		return errors.New("another identity")
	}
	return nil
}

// appendComponent appends updates to its data and refuses the update "bad".
type appendComponent struct{}

func (appendComponent) Update(old []byte, _ bool, updates [][]byte) ([]byte, error) {
	out := bytes.Clone(old)
	for _, u := range updates {
		if string(u) == "bad" {
			return nil, errors.New("bad update")
		}
		out = append(out, u...)
	}
	return out, nil
}

func (appendComponent) Remove([]byte) error { return nil }

const testComponent ComponentID = 0x8001

func worldConfig() Config {
	return Config{
		Credentials: worldVerifier{},
		Components:  Components{testComponent: appendComponent{}},
		PSK: func(id *PreSharedKeyID) ([]byte, error) {
			if string(id.ID) != "shared" {
				return nil, errors.New("no such key")
			}
			return []byte("the shared secret of this test"), nil
		},
	}
}

// world is a group as all its members see it, and the hub.
type world struct {
	testing.TB
	suite CipherSuite
	cfg   Config
	// groups holds the members by name.
	groups map[string]*Group
	names  []string // in order of joining
	// stores holds what members have stored, if they are reloaded all the
	// time.
	stores map[string]map[string][]byte
	// caps and leaf are what new devices advertise; zero: the defaults.
	caps Capabilities
	leaf Extensions
}

func newWorld(t testing.TB, suite CipherSuite) *world {
	return newWorldWith(t, suite, worldConfig(), nil)
}

func newWorldWith(t testing.TB, suite CipherSuite, cfg Config, x Extensions) *world {
	w := &world{TB: t, suite: suite, cfg: cfg, groups: map[string]*Group{}}
	signer, _, err := GenerateSigner(suite, nil)
	noError(t, err)
	g, err := CreateGroup(cfg, GroupParams{
		CipherSuite: suite, GroupID: []byte("room"), Signer: signer,
		Credential: BasicCredential([]byte("m0")), Extensions: x,
	})
	noError(t, err)
	w.join("m0", g)
	return w
}

func (w *world) join(name string, g *Group) {
	w.groups[name] = g
	w.names = append(w.names, name)
	if w.stores != nil {
		w.stores[name] = map[string][]byte{}
		w.reload(name)
	}
}

func (w *world) leave(name string) {
	delete(w.groups, name)
	for i, n := range w.names {
		if n == name {
			w.names = append(w.names[:i:i], w.names[i+1:]...)
			return
		}
	}
}

// device is a client with a key package.
type device struct {
	name   string
	signer Signer
	kp     *KeyPackage
	priv   *KeyPackagePrivate
}

func (w *world) device(name string) *device {
	w.Helper()
	signer, _, err := GenerateSigner(w.suite, nil)
	noError(w, err)
	kp, priv, err := NewKeyPackage(KeyPackageParams{
		CipherSuite: w.suite, Signer: signer, Credential: BasicCredential([]byte(name)),
		Capabilities: w.caps, LeafExtensions: w.leaf,
	})
	noError(w, err)
	cfg := w.cfg
	noError(w, kp.Verify(&cfg))
	return &device{name, signer, kp, priv}
}

// wire sends a message over the wire.
func (w *world) wire(m *MLSMessage) *MLSMessage {
	w.Helper()
	b, err := Marshal(m)
	noError(w, err)
	out := new(MLSMessage)
	noError(w, Unmarshal(b, out))
	return out
}

// commit lets name commit and all others follow; newcomers join.
func (w *world) commit(name string, o CommitOptions, joiners ...*device) *StagedCommit {
	w.Helper()
	sc, err := w.groups[name].Commit(o)
	noError(w, err)
	sc = w.reloadStaged(name, sc)
	w.deliver(name, sc, joiners...)
	return sc
}

func (w *world) deliver(name string, sc *StagedCommit, joiners ...*device) {
	w.Helper()
	for _, other := range append([]string(nil), w.names...) {
		if other == name {
			continue
		}
		got, err := w.groups[other].StageCommit(w.wire(sc.Message))
		if err != nil {
			w.Fatalf("%s stages the commit of %s: %v", other, name, err)
		}
		if !bytes.Equal(got.After.encoded, sc.After.encoded) {
			w.Fatalf("%s and %s disagree about the new epoch", other, name)
		}
		noError(w, w.groups[other].Merge(got))
		w.reload(other)
		if got.SelfRemoved {
			w.leave(other)
		}
	}
	noError(w, w.groups[name].Merge(sc))
	w.reload(name)
	for _, d := range joiners {
		m := w.wire(WelcomeMessage(sc.Welcome))
		g, err := JoinWelcome(w.cfg, m.Welcome, nil, d.kp, d.priv, d.signer)
		if err != nil {
			w.Fatalf("%s joins: %v", d.name, err)
		}
		w.join(d.name, g)
	}
	w.check()
}

func (w *world) propose(name string, p Proposal) *MLSMessage {
	w.Helper()
	m, err := w.groups[name].Propose(p, nil)
	noError(w, err)
	w.reload(name)
	w.deliverProposal(name, m)
	return m
}

func (w *world) deliverProposal(name string, m *MLSMessage) {
	w.Helper()
	for _, other := range w.names {
		if other == name {
			continue
		}
		q, err := w.groups[other].Proposal(w.wire(m))
		noError(w, err)
		noError(w, w.groups[other].Enqueue(q))
		w.reload(other)
	}
}

func (w *world) add(by string, names ...string) {
	w.Helper()
	var o CommitOptions
	var ds []*device
	for _, n := range names {
		d := w.device(n)
		ds = append(ds, d)
		o.Proposals = append(o.Proposals, AddProposal(d.kp))
	}
	w.commit(by, o, ds...)
}

// check verifies that all members agree, know the right private keys, and
// understand each other.
func (w *world) check() {
	w.Helper()
	var authenticator []byte
	for _, n := range w.names {
		g := w.groups[n]
		a, err := g.EpochAuthenticator()
		noError(w, err)
		if authenticator == nil {
			authenticator = a
		}
		equal(w, n+"'s epoch authenticator", a, authenticator)
		noError(w, g.keys.check(g.state.tree))
		if len(g.Pending()) != 0 {
			w.Fatalf("%s has proposals left", n)
		}
		if leaf, ok := g.State().Member(g.OwnLeaf()); !ok || string(leaf.Credential.Identity) != n {
			w.Fatalf("%s is not at leaf %d", n, g.OwnLeaf())
		}
	}
	for _, n := range w.names {
		w.say(n, fmt.Sprintf("hello from %s", n))
	}
}

// say sends a message to all.
func (w *world) say(name, text string) {
	w.Helper()
	m, err := w.groups[name].Encrypt([]byte(text), []byte("aad"))
	noError(w, err)
	w.reload(name)
	for _, other := range w.names {
		if other == name {
			continue
		}
		got, err := w.groups[other].Decrypt(w.wire(m))
		if err != nil {
			w.Fatalf("%s decrypts what %s says: %v", other, name, err)
		}
		if string(got.Data) != text || string(got.AAD) != "aad" || string(got.Leaf.Credential.Identity) != name {
			w.Fatalf("%s decrypts %q from %q", other, got.Data, got.Leaf.Credential.Identity)
		}
		w.reload(other)
		if _, err := w.groups[other].Decrypt(w.wire(m)); !errors.Is(err, ErrReplay) {
			w.Fatalf("%s decrypts it again: %v", other, err)
		}
	}
}

// store applies a group's records to a store.
func store(t testing.TB, g *Group, to map[string][]byte) {
	t.Helper()
	r := g.Records()
	seen := map[string]bool{}
	for _, p := range r.Put {
		if seen[p.Key] {
			t.Fatalf("record %q is written twice", p.Key)
		}
		seen[p.Key] = true
		to[p.Key] = bytes.Clone(p.Value)
	}
	for _, k := range r.Delete {
		if _, ok := to[k]; !ok || seen[k] {
			t.Fatalf("record %q is deleted, but was not stored before", k)
		}
		delete(to, k)
	}
}

// reload replaces a member by what it has stored, if the world does that.
func (w *world) reload(name string) {
	w.Helper()
	g := w.groups[name]
	if w.stores == nil || g == nil {
		return
	}
	store(w, g, w.stores[name])
	again, err := LoadGroup(w.cfg, w.stores[name], g.signer)
	if err != nil {
		w.Fatalf("load %s: %v", name, err)
	}
	if r := again.Records(); !r.Empty() {
		w.Fatalf("a group that was just loaded wants to store %d records and delete %v", len(r.Put), r.Delete)
	}
	if a, b := groupImage(w, g), groupImage(w, again); !bytes.Equal(a, b) {
		w.Fatalf("%s is not what it was before it was stored", name)
	}
	w.groups[name] = again
}

// reloadStaged stores and restores a commit that name made.
func (w *world) reloadStaged(name string, sc *StagedCommit) *StagedCommit {
	w.Helper()
	if w.stores == nil {
		return sc
	}
	b, err := w.groups[name].SealStaged(sc)
	noError(w, err)
	w.reload(name)
	again, err := w.groups[name].LoadStaged(b)
	noError(w, err)
	return again
}

// groupImage encodes everything that a group consists of.
func groupImage(t testing.TB, g *Group) []byte {
	t.Helper()
	c := *g
	c.saved = savedGroup{}
	fresh := func(s *secretTree) *secretTree {
		if s == nil {
			return nil
		}
		n := *s
		n.storedNodes, n.storedSenders = map[uint32]bool{}, map[LeafIndex]bool{}
		n.dirtyNodes, n.dirtySenders = map[uint32]bool{}, map[LeafIndex]bool{}
		for i := range n.nodes {
			n.dirtyNodes[i] = true
		}
		for l := range n.senders {
			n.dirtySenders[l] = true
		}
		return &n
	}
	c.tree = fresh(g.tree)
	c.past = nil
	for _, p := range g.past {
		n := *p
		n.tree = fresh(p.tree)
		c.past = append(c.past, &n)
	}
	var buf bytes.Buffer
	r := c.Records()
	for _, p := range r.Put {
		fmt.Fprintf(&buf, "%s %x\n", p.Key, p.Value)
	}
	return buf.Bytes()
}
