package mls

import (
	"testing"

	"github.com/comity-im/comity/internal/tlspl"
)

// TestReInitOfStateIsItsOwn overwrites the buffer in which a ReInit came by
// value: the State of the epoch that it began must not change.
func TestReInitOfStateIsItsOwn(t *testing.T) {
	w := grownHubWorld(t, 3)
	m := w.rawCommit(w.who[1], &Commit{Proposals: w.value(Proposal{Type: ProposalReInit, ReInit: &ReInit{GroupID: []byte("next"), Version: MLS10, CipherSuite: 1}})})
	b, err := Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var received MLSMessage
	if err := tlspl.Unmarshal(b, &received); err != nil {
		t.Fatal(err)
	}
	sc, err := w.group.StageCommit(&received)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if id := string(sc.After.ReInit().GroupID); id != "next" {
		t.Errorf("ReInit of group %q after its buffer was used again", id)
	}
}
