package room

import (
	"hash/maphash"
	"maps"
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A Client is a member of the room's MLS group and whose it is.
type Client struct {
	User   mimi.URI
	Device mimi.URI
	Leaf   mls.LeafIndex
}

// A roster says which clients are in the group, by leaf, device and user. It
// is immutable; a new version shares what did not change.
type roster struct {
	leaves  cowMap[mls.LeafIndex, Client]
	devices cowMap[mimi.URI, mls.LeafIndex]
	users   cowMap[mimi.URI, []mls.LeafIndex]
	domains map[string]int // clients per provider
	n       int
}

// edit returns a copy that may be changed by add and remove.
func (r *roster) edit() *roster {
	return &roster{r.leaves.clone(), r.devices.clone(), r.users.clone(), maps.Clone(r.domains), r.n}
}

func (r *roster) add(c Client) {
	if r.domains == nil {
		r.domains = make(map[string]int)
	}
	r.leaves.set(c.Leaf, c)
	r.devices.set(c.Device, c.Leaf)
	leaves, _ := r.users.get(c.User)
	r.users.set(c.User, append(slices.Clip(leaves), c.Leaf))
	r.domains[c.User.Domain()]++
	r.n++
}

func (r *roster) remove(c Client) {
	r.leaves.delete(c.Leaf)
	if l, ok := r.devices.get(c.Device); ok && l == c.Leaf {
		r.devices.delete(c.Device)
	}
	leaves, _ := r.users.get(c.User)
	leaves = slices.DeleteFunc(slices.Clone(leaves), func(l mls.LeafIndex) bool { return l == c.Leaf })
	if len(leaves) == 0 {
		r.users.delete(c.User)
	} else {
		r.users.set(c.User, leaves)
	}
	if d := c.User.Domain(); r.domains[d] > 1 {
		r.domains[d]--
	} else {
		delete(r.domains, d)
	}
	r.n--
}

// clientsOf returns the leaves of a user's clients.
func (r *roster) clientsOf(user mimi.URI) []mls.LeafIndex {
	leaves, _ := r.users.get(user)
	return leaves
}

// A cowMap is a map in shards; a clone copies a shard when it first changes
// it, so that a commit in a large room costs no copy of everything.
type cowMap[K comparable, V any] struct {
	shards *[cowShards]map[K]V
	owned  *[cowShards]bool // shards that no other version shares
	seed   maphash.Seed
}

const cowShards = 128

func newCOWMap[K comparable, V any]() cowMap[K, V] {
	return cowMap[K, V]{new([cowShards]map[K]V), new([cowShards]bool), maphash.MakeSeed()}
}

func (m cowMap[K, V]) shard(k K) int { return int(maphash.Comparable(m.seed, k) % cowShards) }

func (m cowMap[K, V]) get(k K) (V, bool) {
	v, ok := m.shards[m.shard(k)][k]
	return v, ok
}

// clone returns an independent version. The original must not change any
// more.
func (m cowMap[K, V]) clone() cowMap[K, V] {
	shards := *m.shards
	return cowMap[K, V]{&shards, new([cowShards]bool), m.seed}
}

func (m cowMap[K, V]) own(i int) map[K]V {
	if !m.owned[i] {
		m.owned[i] = true
		m.shards[i] = maps.Clone(m.shards[i])
		if m.shards[i] == nil {
			m.shards[i] = make(map[K]V)
		}
	}
	return m.shards[i]
}

func (m cowMap[K, V]) set(k K, v V) { m.own(m.shard(k))[k] = v }

func (m cowMap[K, V]) delete(k K) { delete(m.own(m.shard(k)), k) }

func newRoster() *roster {
	return &roster{
		leaves:  newCOWMap[mls.LeafIndex, Client](),
		devices: newCOWMap[mimi.URI, mls.LeafIndex](),
		users:   newCOWMap[mimi.URI, []mls.LeafIndex](),
		domains: make(map[string]int),
	}
}
