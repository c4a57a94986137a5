package mls

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// ratchetKind tells the two ratchets of a sender apart (RFC 9420
// section 9.1).
type ratchetKind uint8

const (
	handshakeRatchet   ratchetKind = 0
	applicationRatchet ratchetKind = 1
)

func ratchetOf(t ContentType) ratchetKind {
	if t == ContentApplication {
		return applicationRatchet
	}
	return handshakeRatchet
}

// messageKey protects exactly one message.
type messageKey struct{ key, nonce []byte }

func (k messageKey) wipe() { wipe(k.key, k.nonce) }

// ratchet derives the keys of one sender and kind in order. It holds no key
// that was consumed and no secret from which one derives.
type ratchet struct {
	secret  []byte // ratchet_secret of generation next
	next    uint32
	skipped map[uint32]messageKey // generations below next that were not used yet
}

// secretTree is the secret tree of one epoch (RFC 9420 section 9). It is
// expanded on demand: nodes holds the secrets that no sender has needed yet,
// indexed as in RFC 9420 appendix C, and a node's secret is wiped when its
// children's are derived. Expansion loses nothing, consumption does; a
// message therefore first opens a key and consumes it only when it proved to
// be authentic.
type secretTree struct {
	suite   *suite
	depth   int // levels above the leaves
	nodes   map[uint32][]byte
	senders map[LeafIndex]*[2]*ratchet

	version         int  // counts consumed keys
	applicationOnly bool // the epoch is over: there are no handshake ratchets

	// What changed since the last call of records.
	dirtyNodes   map[uint32]bool
	dirtySenders map[LeafIndex]bool
	// What records has handed out and not deleted again.
	storedNodes   map[uint32]bool
	storedSenders map[LeafIndex]bool
}

// newSecretTree takes over encryptionSecret for a tree that has room for
// leaves leaves.
func newSecretTree(s *suite, leaves uint32, encryptionSecret []byte) *secretTree {
	depth := 0
	if leaves > 1 {
		depth = bits.Len32(leaves - 1)
	}
	t := emptySecretTree(s, depth)
	t.setNode(uint32(rootPosition(depth)), encryptionSecret)
	return t
}

// emptySecretTree returns a tree without secrets.
func emptySecretTree(s *suite, depth int) *secretTree {
	return &secretTree{
		suite:         s,
		depth:         depth,
		nodes:         map[uint32][]byte{},
		senders:       map[LeafIndex]*[2]*ratchet{},
		dirtyNodes:    map[uint32]bool{},
		dirtySenders:  map[LeafIndex]bool{},
		storedNodes:   map[uint32]bool{},
		storedSenders: map[LeafIndex]bool{},
	}
}

// descend derives the secret of a leaf from the lowest of its ancestors in
// nodes, which is from, and those of the siblings on the way down. nodes is
// not changed. secret is nil if no ancestor is left.
func (s *suite) descend(nodes map[uint32][]byte, depth int, leaf LeafIndex) (from uint32, siblings map[uint32][]byte, secret []byte, err error) {
	if uint64(leaf)>>depth != 0 {
		return 0, nil, nil, nil
	}
	level := 0
	for ; ; level++ {
		if level > depth {
			return 0, nil, nil, nil
		}
		from = uint32(ancestorOf(leaf, level))
		if _, ok := nodes[from]; ok {
			break
		}
	}
	siblings, secret = make(map[uint32][]byte, level), slices.Clone(nodes[from])
	for ; level > 0; level-- {
		left, err := s.expandWithLabel(secret, "tree", []byte("left"), s.nh())
		if err != nil {
			return 0, nil, nil, err
		}
		right, err := s.expandWithLabel(secret, "tree", []byte("right"), s.nh())
		if err != nil {
			return 0, nil, nil, err
		}
		wipe(secret)
		child, other := ancestorOf(leaf, level-1), left
		if secret = right; uint32(leaf)>>(level-1)&1 == 0 {
			secret, other = left, right
		}
		siblings[uint32(child.sibling())] = other
	}
	return from, siblings, secret, nil
}

func (t *secretTree) setNode(i uint32, secret []byte) {
	t.nodes[i] = secret
	t.dirtyNodes[i] = true
}

// expansion is the part of a tree that a first message of a sender needs:
// the secrets of siblings on the way down, and the sender's two ratchets.
type expansion struct {
	from     uint32 // node whose secret is consumed
	siblings map[uint32][]byte
	ratchets [2]*ratchet
}

func (x *expansion) wipe() {
	for _, s := range x.siblings {
		wipe(s)
	}
	for _, r := range x.ratchets {
		if r != nil {
			wipe(r.secret)
		}
	}
}

// expand derives the ratchets of leaf without changing the tree.
func (t *secretTree) expand(leaf LeafIndex) (*expansion, error) {
	from, siblings, secret, err := t.suite.descend(t.nodes, t.depth, leaf)
	if err != nil {
		return nil, err
	}
	if secret == nil {
		return nil, fmt.Errorf("%w: no secrets for leaf %d", ErrUnknownSender, leaf)
	}
	x := &expansion{from: from, siblings: siblings}
	defer wipe(secret)
	for kind, label := range []string{"handshake", "application"} {
		if t.applicationOnly && ratchetKind(kind) == handshakeRatchet {
			continue
		}
		s, err := t.suite.expandWithLabel(secret, label, nil, t.suite.nh())
		if err != nil {
			return nil, err
		}
		x.ratchets[kind] = &ratchet{secret: s}
	}
	return x, nil
}

// keyUse is a key that was derived but not consumed: the tree is unchanged
// until consume.
type keyUse struct {
	tree       *secretTree
	version    int // of the tree from which it was derived
	leaf       LeafIndex
	kind       ratchetKind
	generation uint32
	messageKey
	expansion *expansion // nil if the sender's ratchets exist

	fromSkipped bool
	secret      []byte // ratchet_secret of generation + 1
	skipped     map[uint32]messageKey
}

// open derives the key of a generation. maxSkip bounds how many generations
// a message may run ahead of the last one.
func (t *secretTree) open(leaf LeafIndex, kind ratchetKind, generation, maxSkip uint32) (*keyUse, error) {
	u := &keyUse{tree: t, version: t.version, leaf: leaf, kind: kind, generation: generation}
	var r *ratchet
	if pair := t.senders[leaf]; pair != nil {
		r = pair[kind]
	} else {
		// Nothing is derived for a generation that will be refused.
		if generation > maxSkip {
			return nil, fmt.Errorf("%w: generation %d of leaf %d, none received so far", ErrTooFarAhead, generation, leaf)
		}
		var err error
		if u.expansion, err = t.expand(leaf); err != nil {
			return nil, err
		}
		r = u.expansion.ratchets[kind]
	}
	if r == nil {
		u.discard()
		return nil, fmt.Errorf("%w: handshake message of a past epoch", ErrWrongEpoch)
	}
	if generation < r.next {
		k, ok := r.skipped[generation]
		if !ok {
			return nil, fmt.Errorf("%w: generation %d of leaf %d", ErrReplay, generation, leaf)
		}
		u.messageKey, u.fromSkipped = messageKey{slices.Clone(k.key), slices.Clone(k.nonce)}, true
		return u, nil
	}
	if generation-r.next > maxSkip || generation == math.MaxUint32 {
		u.discard()
		return nil, fmt.Errorf("%w: generation %d of leaf %d, the next one is %d", ErrTooFarAhead, generation, leaf, r.next)
	}
	secret := slices.Clone(r.secret)
	for g := r.next; ; g++ {
		k, next, err := t.suite.ratchetStep(secret, g)
		wipe(secret)
		if err != nil {
			u.discard()
			return nil, err
		}
		secret = next
		if g == generation {
			u.messageKey, u.secret = k, secret
			return u, nil
		}
		if u.skipped == nil {
			u.skipped = make(map[uint32]messageKey)
		}
		u.skipped[g] = k
	}
}

// ratchetStep derives the key of generation g and the next ratchet secret
// (RFC 9420 section 9.1).
func (s *suite) ratchetStep(secret []byte, g uint32) (k messageKey, next []byte, err error) {
	if k.nonce, err = s.deriveTreeSecret(secret, "nonce", g, nonceSize); err != nil {
		return k, nil, err
	}
	if k.key, err = s.deriveTreeSecret(secret, "key", g, s.keySize); err != nil {
		return k, nil, err
	}
	next, err = s.deriveTreeSecret(secret, "secret", g, s.nh())
	return k, next, err
}

// consume makes the use permanent: the key cannot be derived again. At most
// maxSkipped keys of skipped generations are kept, the latest ones.
func (u *keyUse) consume(maxSkipped uint32) {
	t := u.tree
	if u.version != t.version {
		// Other keys were consumed since: a staged commit, say, was merged
		// after application messages came. What was derived then must not
		// replace what the tree has become.
		u.discard()
		again, err := t.open(u.leaf, u.kind, u.generation, math.MaxUint32)
		if err != nil {
			return // consumed already
		}
		u = again
	}
	t.version++
	if x := u.expansion; x != nil {
		wipe(t.nodes[x.from])
		delete(t.nodes, x.from)
		t.dirtyNodes[x.from] = true
		for i, s := range x.siblings {
			t.setNode(i, s)
		}
		t.senders[u.leaf] = &x.ratchets
	}
	r := t.senders[u.leaf][u.kind]
	t.dirtySenders[u.leaf] = true
	if u.fromSkipped {
		r.skipped[u.generation].wipe()
		delete(r.skipped, u.generation)
	} else {
		wipe(r.secret)
		r.secret, r.next = u.secret, u.generation+1
		if len(u.skipped) > 0 && r.skipped == nil {
			r.skipped = make(map[uint32]messageKey, len(u.skipped))
		}
		for g, k := range u.skipped {
			r.skipped[g] = k
		}
		r.trim(maxSkipped)
	}
	u.messageKey.wipe()
}

// discard forgets a use that did not prove authentic.
func (u *keyUse) discard() {
	u.messageKey.wipe()
	wipe(u.secret)
	for _, k := range u.skipped {
		k.wipe()
	}
	if u.expansion != nil {
		u.expansion.wipe()
	}
}

// trim drops the keys of the oldest skipped generations beyond max.
func (r *ratchet) trim(max uint32) {
	if len(r.skipped) <= int(max) {
		return
	}
	gens := make([]uint32, 0, len(r.skipped))
	for g := range r.skipped {
		gens = append(gens, g)
	}
	slices.Sort(gens)
	for _, g := range gens[:len(gens)-int(max)] {
		r.skipped[g].wipe()
		delete(r.skipped, g)
	}
}

// take consumes and returns the next key of a sender, for sending.
func (t *secretTree) take(leaf LeafIndex, kind ratchetKind) (k messageKey, generation uint32, err error) {
	if pair := t.senders[leaf]; pair != nil {
		generation = pair[kind].next
	}
	u, err := t.open(leaf, kind, generation, 0)
	if err != nil {
		return messageKey{}, 0, err
	}
	k = messageKey{slices.Clone(u.key), slices.Clone(u.nonce)}
	u.consume(0)
	return k, generation, nil
}

// dropHandshake destroys the handshake ratchets, once the epoch is over.
func (t *secretTree) dropHandshake() {
	t.applicationOnly = true
	for leaf, pair := range t.senders {
		pair[handshakeRatchet].wipe()
		pair[handshakeRatchet] = nil
		t.dirtySenders[leaf] = true
	}
}

// wipe destroys all secrets of the ratchet.
func (r *ratchet) wipe() {
	if r == nil {
		return
	}
	wipe(r.secret)
	for _, k := range r.skipped {
		k.wipe()
	}
}

// wipe destroys all secrets of the tree.
func (t *secretTree) wipe() {
	if t == nil {
		return
	}
	for _, s := range t.nodes {
		wipe(s)
	}
	for _, pair := range t.senders {
		for _, r := range pair {
			r.wipe()
		}
	}
	clear(t.nodes)
	clear(t.senders)
}
