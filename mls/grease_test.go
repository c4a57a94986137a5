package mls

import (
	"errors"
	"slices"
	"testing"
)

func countGREASE[T ~uint16](list []T) int { return len(list) - len(withoutGREASE(list)) }

func TestGREASEValues(t *testing.T) {
	want := []uint16{0x0a0a, 0x1a1a, 0x2a2a, 0x3a3a, 0x4a4a, 0x5a5a, 0x6a6a, 0x7a7a, 0x8a8a, 0x9a9a, 0xaaaa, 0xbaba, 0xcaca, 0xdada, 0xeaea}
	var got []uint16
	for x := range 1 << 16 {
		if isGREASE(uint16(x)) {
			got = append(got, uint16(x))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("reserved values %04x; want %04x", got, want)
	}
	seen := map[uint16]bool{}
	for range 1000 {
		x, filling, err := randomGREASE()
		noError(t, err)
		if !isGREASE(x) || len(filling) > 15 {
			t.Fatalf("%04x with %d octets", x, len(filling))
		}
		seen[x] = true
	}
	if len(seen) < 10 {
		t.Errorf("%d different values in a thousand", len(seen))
	}
}

// What is made with default capabilities carries GREASE where RFC 9420
// section 13.5 wants it, and nowhere else; a member's summary does not.
func TestGREASE(t *testing.T) {
	w := newWorld(t, suite1)
	d := w.device("m1")
	g := w.groups["m0"]
	founder, _ := g.State().Member(0)
	for _, leaf := range []*LeafNode{founder, &d.kp.LeafNode} {
		c := &leaf.Capabilities
		if countGREASE(c.CipherSuites) != 1 || countGREASE(c.Extensions) != 1 || countGREASE(c.Proposals) != 1 || countGREASE(c.Credentials) != 1 || countGREASE(c.Versions) != 0 {
			t.Errorf("capabilities %+v", c)
		}
	}
	types := func(x Extensions) (list []ExtensionType) {
		for _, e := range x {
			list = append(list, e.Type)
		}
		return list
	}
	if countGREASE(types(d.kp.Extensions)) != 1 {
		t.Errorf("extensions of the key package: %v", types(d.kp.Extensions))
	}
	gi, err := g.GroupInfo()
	noError(t, err)
	if countGREASE(types(gi.Extensions)) != 1 || countGREASE(types(gi.GroupContext.Extensions)) != 0 {
		t.Errorf("extensions of the GroupInfo: %v", types(gi.Extensions))
	}
	w.commit("m0", CommitOptions{Proposals: []Proposal{AddProposal(d.kp)}}, d)
	w.add("m0", "m2", "m3", "m4", "m5", "m6", "m7")
	// Leaves with other values share one summary.
	shared := g.state.tree.entry(2).support
	for l := LeafIndex(2); l < 8; l++ {
		if s := g.state.tree.entry(l).support; s != shared || countGREASE(s.extensions) != 0 {
			t.Errorf("leaf %d: support %+v", l, s)
		}
	}

	// Who names its capabilities has none.
	kp, _, err := NewKeyPackage(KeyPackageParams{CipherSuite: suite1, Signer: d.signer, Credential: BasicCredential([]byte("x")), Capabilities: DefaultCapabilities()})
	noError(t, err)
	if c := kp.LeafNode.Capabilities; countGREASE(c.CipherSuites)+countGREASE(c.Extensions)+countGREASE(c.Proposals)+countGREASE(c.Credentials)+len(kp.Extensions) != 0 {
		t.Errorf("capabilities %+v, extensions %v", c, kp.Extensions)
	}
	if again, err := g.state.tree.leaf(0).Capabilities.WithGREASE(); err != nil || len(again.Proposals) != len(founder.Capabilities.Proposals) {
		t.Errorf("a second value is added: %+v, %v", again, err)
	}
}

// A GREASE extension of a leaf is tolerated if its capabilities list it, and
// of a GroupContext never, even if all members list it.
func TestGREASEExtensions(t *testing.T) {
	w := newWorld(t, suite1)
	signer := someSigner(t)
	x := Extensions{{0x3a3a, []byte("anything")}}
	kpOf := func(listed bool) error {
		caps := DefaultCapabilities()
		if listed {
			caps.Extensions = append(caps.Extensions, 0x3a3a)
		}
		kp, priv, err := NewKeyPackage(KeyPackageParams{
			CipherSuite: suite1, Signer: signer, Credential: BasicCredential([]byte("m1")), Capabilities: caps, LeafExtensions: x,
			Extensions: Extensions{{0x5a5a, nil}, {0x6a6a, []byte("more")}},
		})
		if err != nil {
			return err
		}
		w.commit("m0", CommitOptions{Proposals: []Proposal{AddProposal(kp)}}, &device{"m1", signer, kp, priv})
		return nil
	}
	if err := kpOf(false); !errors.Is(err, ErrCapabilities) {
		t.Errorf("a GREASE extension that is not listed: %v", err)
	}
	noError(t, kpOf(true))
	leaf, _ := w.groups["m0"].State().Member(1)
	if _, ok := leaf.Extensions.Find(0x3a3a); !ok {
		t.Error("the extension got lost")
	}
	w.commit("m1", CommitOptions{ForcePath: true})

	caps := DefaultCapabilities()
	caps.Extensions = append(caps.Extensions, 0x3a3a)
	if _, err := CreateGroup(w.cfg, GroupParams{
		CipherSuite: suite1, Signer: signer, Credential: BasicCredential([]byte("m")), Capabilities: caps, Extensions: x,
	}); !errors.Is(err, ErrCapabilities) {
		t.Errorf("a GroupContext with GREASE: %v", err)
	}
	w.commit("m0", CommitOptions{Leaf: &LeafParams{Capabilities: &caps}})
	if _, err := w.groups["m0"].Commit(CommitOptions{Proposals: []Proposal{GroupContextExtensionsProposal(x)}}); !errors.Is(err, ErrCapabilities) {
		t.Errorf("a GroupContext with GREASE: %v", err)
	}
}
