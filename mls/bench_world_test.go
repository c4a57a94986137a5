package mls

import (
	"crypto/rand"
	"fmt"
	"maps"
	"math/bits"
	"testing"
	"time"
)

// A benchGroup is a group of any size that was not made by its history but
// put together: a valid tree, and secrets as they might have come out.
type benchGroup struct {
	b       testing.TB
	cfg     Config
	state   *State
	secrets *epochSecrets
	private treeKeys // of every node
	signers []Signer
}

// newBenchGroup returns a group of n members. In a cold one, member 0 has
// added all others in one commit and nobody else has committed: a path is
// encrypted to every leaf. In a warm one every member has committed, and a
// path has one receiver for each of its nodes.
func newBenchGroup(b testing.TB, n int, warm bool) *benchGroup {
	b.Helper()
	w := &benchGroup{b: b, private: make(treeKeys), signers: make([]Signer, n)}
	w.cfg = Config{
		Credentials: benchVerifier{},
		Limits:      Limits{MaxProposals: 1 << 16},
	}
	s := mustSuite(b, suite1)
	t := blankTree(s, depthFor(LeafIndex(n-1)))
	for l := range LeafIndex(n) {
		t2, err := w.newLeaf(s, l, LeafSourceKeyPackage, nil)
		noError(b, err)
		noError(b, t.setLeaf(l, t2))
	}
	if warm {
		// In this order each path gives a whole subtree one key.
		for i := range uint32(1) << t.depth {
			if l := LeafIndex(bits.Reverse32(i) >> (32 - t.depth)); int(l) < n && t.depth > 0 {
				w.path(s, t, l)
			}
		}
	} else {
		w.path(s, t, 0)
	}
	t.freeze()
	context := mustMarshal(&GroupContext{
		Version: MLS10, CipherSuite: s.id, GroupID: []byte("bench"), Epoch: 7,
		TreeHash: t.treeHash(), ConfirmedTranscriptHash: randomSecret(b, s),
	})
	var err error
	w.secrets, err = s.epochFromSecret(randomSecret(b, s))
	noError(b, err)
	transcript := new(GroupContext)
	noError(b, Unmarshal(context, transcript))
	w.state, err = newState(s, t, context, s.confirmationTag(w.secrets.confirmation, transcript.ConfirmedTranscriptHash))
	noError(b, err)
	return w
}

func randomSecret(b testing.TB, s *suite) []byte {
	secret := make([]byte, s.nh())
	_, err := rand.Read(secret)
	noError(b, err)
	return secret
}

// newLeaf makes a leaf for l, with a new encryption key.
func (w *benchGroup) newLeaf(s *suite, l LeafIndex, source LeafNodeSource, parentHash []byte) (*LeafNode, error) {
	if w.signers[l] == nil {
		signer, _, err := GenerateSigner(s.id, nil)
		if err != nil {
			return nil, err
		}
		w.signers[l] = signer
	}
	private, public, err := GenerateHPKEKey(s.id)
	if err != nil {
		return nil, err
	}
	w.private[leafPosition(l)] = private
	leaf := &LeafNode{
		EncryptionKey: public, SignatureKey: w.signers[l].Public(), Credential: BasicCredential(fmt.Appendf(nil, "member %d", l)),
		Capabilities: DefaultCapabilities(CredentialBasic), Source: source, ParentHash: parentHash,
	}
	if source == LeafSourceKeyPackage {
		leaf.Lifetime = lifetimeFrom(time.Time{}, time.Now(), 0)
	}
	return leaf, leaf.sign(w.signers[l], []byte("bench"), l)
}

// path gives l a new path, without a commit.
func (w *benchGroup) path(s *suite, t *tree, l LeafIndex) {
	filtered := t.filteredPath(l)
	nodes, _, err := s.derivePath(randomSecret(w.b, s), len(filtered))
	noError(w.b, err)
	keys := make([][]byte, len(nodes))
	for i, n := range nodes {
		keys[i] = n.public
		w.private[filtered[i]] = n.private
	}
	hash, err := t.mergePath(l, keys)
	noError(w.b, err)
	leaf, err := w.newLeaf(s, l, LeafSourceCommit, hash)
	noError(w.b, err)
	noError(w.b, t.setLeaf(l, leaf))
}

// member returns the group as member l sees it.
func (w *benchGroup) member(l LeafIndex) *Group {
	w.b.Helper()
	c, err := w.cfg.withDefaults()
	noError(w.b, err)
	keys := treeKeys{leafPosition(l): w.private[leafPosition(l)]}
	for level := 1; level <= w.state.tree.depth; level++ {
		x := ancestorOf(l, level)
		if p := w.state.tree.parent(x); p != nil && !containsLeaf(p.UnmergedLeaves, l) {
			keys[x] = w.private[x]
		}
	}
	secrets := new(epochSecrets)
	noError(w.b, Unmarshal(mustMarshal(w.secrets), secrets))
	for x, k := range maps.Clone(keys) {
		keys[x] = append([]byte(nil), k...)
	}
	g := &Group{cfg: c, suite: w.state.suite, signer: w.signers[l]}
	g.enter(w.state, l, secrets, keys)
	return g
}

// newcomers returns n clients with their key packages.
func newcomers(b testing.TB, n int) []*device {
	b.Helper()
	ds := make([]*device, n)
	noError(b, parallel(n, func(i int) error {
		signer, _, err := GenerateSigner(suite1, nil)
		if err != nil {
			return err
		}
		kp, priv, err := NewKeyPackage(KeyPackageParams{CipherSuite: suite1, Signer: signer, Credential: BasicCredential(fmt.Appendf(nil, "newcomer %d", i))})
		ds[i] = &device{"", signer, kp, priv}
		return err
	}))
	return ds
}
