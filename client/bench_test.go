package client_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/client/sqlitestore"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/room"
)

// crowd returns n members of one open room, with stores on disk.
func crowd(b *testing.B, n int) []*peer {
	h := newTestHub(b)
	var peers []*peer
	for i := range n {
		dir := b.TempDir()
		key, err := sqlitestore.KeyFile(filepath.Join(dir, "key"))
		if err != nil {
			b.Fatal(err)
		}
		store, err := sqlitestore.Open(b.Context(), filepath.Join(dir, "device.db"), key)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { store.Close() })
		p := h.peer(mimi.MustParseURI(fmt.Sprintf("mimi://a.example/u/user%d", i)), "phone", func(c *client.Config) {
			c.Store, c.KeyPackages = store, -1
		})
		if i == 0 {
			p.create(room.TemplateOpen)
		} else {
			p.must(p.JoinOpen(p.ctx(), club))
		}
		peers = append(peers, p)
	}
	for _, p := range peers {
		p.sync()
	}
	return peers
}

// BenchmarkMessage is a message to a room of 50 devices in one process, from
// being written until all have it in their history.
func BenchmarkMessage(b *testing.B) {
	peers := crowd(b, 50)
	for b.Loop() {
		peers[0].say("hello")
		for _, p := range peers {
			p.sync()
		}
	}
}

// BenchmarkCommit is an update of one device's keys in such a room.
func BenchmarkCommit(b *testing.B) {
	peers := crowd(b, 50)
	for b.Loop() {
		peers[0].must(peers[0].UpdateKeys(peers[0].ctx(), club))
		for _, p := range peers {
			p.sync()
		}
	}
}
