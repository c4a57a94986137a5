package mls

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// allKinds returns a valid message of every kind for the arena, encoded.
func (a *arena) allKinds() map[string][]byte {
	a.Helper()
	commit := a.forge(draft{path: true, values: []Proposal{RemoveProposal(a.leaf("m4"))}}, false)
	joiner := a.device("new", nil)
	g := a.groups["m1"]
	gi, err := g.GroupInfo()
	noError(a, err)
	d, w, _ := a.invite(invitation{path: true}, false)
	kinds := map[string]*MLSMessage{
		"public commit":         commit.message,
		"commit without a path": a.forge(draft{values: []Proposal{sharedPSK()}}, false).message,
		"external commit":       a.forge(draft{joiner: joiner}, false).message,
		"public proposal":       a.say("m1", proposalContent(RemoveProposal(a.leaf("m4"))), nil),
		"update":                a.say("m1", proposalContent(a.updateOf("m1", nil)), nil),
		"external proposal":     a.external(AddProposal(joiner.kp)),
		"application message":   a.seal("m1", FramedContent{ContentType: ContentApplication, Application: []byte("text"), AuthenticatedData: []byte("aad")}, nil, nil, nil),
		"private proposal":      a.seal("m1", proposalContent(RemoveProposal(a.leaf("m4"))), nil, nil, nil),
		"private commit":        a.seal("m1", commit.content.Content, nil, nil, func(x *AuthenticatedContent) { x.Auth.ConfirmationTag = commit.content.Auth.ConfirmationTag }),
		"welcome":               WelcomeMessage(w),
		"group info":            GroupInfoMessage(gi),
		"key package":           KeyPackageMessage(d.kp),
	}
	out := map[string][]byte{}
	for name, m := range kinds {
		out[name], err = Marshal(m)
		noError(a, err)
	}
	return out
}

// TestMutatedBytes spoils octets of valid messages of every kind and hands
// them to every function that takes messages. Nothing panics, none of them is
// accepted, and nobody changes.
func TestMutatedBytes(t *testing.T) {
	n := 250
	if testing.Short() {
		n = 60
	}
	a := newArena(t)
	kinds := a.allKinds()
	before := a.images()
	to, d := a.groups["m7"], a.device("other", nil)
	tree := a.hub.State().RatchetTree()
	invited, w, _ := a.invite(invitation{path: true}, false)
	kinds["welcome"] = mustMarshal(WelcomeMessage(w))
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		valid := kinds[name]
		r := rand.New(rand.NewPCG(uint64(len(name)), 4))
		decoded := 0
		for i := range n {
			b := bytes.Clone(valid)
			switch {
			case i < 20:
				b = b[:r.IntN(len(b))]
			case i < 30:
				b = append(b, byte(r.Uint32()))
			case i < 50:
				from := r.IntN(len(b))
				b = slices.Delete(b, from, min(len(b), from+1+r.IntN(4)))
			case i < 70:
				from := r.IntN(len(b))
				copy(b[from:], make([]byte, 1+r.IntN(32)))
			default:
				b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			}
			m := new(MLSMessage)
			if bytes.Equal(b, valid) || Unmarshal(b, m) != nil {
				continue
			}
			decoded++
			accepted := func(by string, err error) {
				if err == nil {
					t.Errorf("%s accepts a spoilt %s: %x", by, name, b)
				} else {
					a.texts[err.Error()] = true
				}
			}
			_, err := to.Decrypt(m)
			accepted("Decrypt", err)
			_, err = to.Proposal(m)
			accepted("Proposal", err)
			_, err = to.StageCommit(m)
			accepted("StageCommit", err)
			// The hub cannot tell whether tags are right.
			tag := m.PublicMessage != nil && bytes.Equal(mustMarshal(&m.PublicMessage.Content), parsePublic(t, valid))
			if _, err = a.hub.Proposal(m); !tag {
				accepted("the hub's Proposal", err)
			}
			if _, err = a.hub.StageCommit(m); !tag {
				accepted("the hub's StageCommit", err)
			}
			switch {
			case m.GroupInfo != nil:
				accepted("VerifyGroupInfo", a.hub.VerifyGroupInfo(m.GroupInfo))
				_, err = NewPublicGroup(a.cfg, m.GroupInfo, tree)
				accepted("NewPublicGroup", err)
				_, _, err = JoinExternal(a.cfg, m.GroupInfo, tree, JoinParams{Signer: d.signer, Credential: BasicCredential([]byte("other"))})
				accepted("JoinExternal", err)
			case m.Welcome != nil:
				_, err = JoinWelcome(a.cfg, m.Welcome, nil, invited.kp, invited.priv, invited.signer)
				accepted("JoinWelcome", err)
			case m.KeyPackage != nil:
				accepted("Verify", m.KeyPackage.Verify(&a.cfg))
			}
		}
		if decoded == 0 {
			t.Errorf("no spoilt %s could be decoded", name)
		}
	}
	a.unchanged(before)
	if _, err := JoinWelcome(a.cfg, w, nil, invited.kp, invited.priv, invited.signer); err != nil {
		t.Errorf("the genuine Welcome: %v", err)
	}
	a.alive()
}

func parsePublic(t testing.TB, b []byte) []byte {
	m := new(MLSMessage)
	noError(t, Unmarshal(b, m))
	return mustMarshal(&m.PublicMessage.Content)
}

// FuzzJoin hands spoilt GroupInfos, trees and GroupSecrets to whoever joins,
// signed and encrypted with the right keys.
func FuzzJoin(f *testing.F) {
	for what := range 6 {
		f.Add(uint8(what), uint16(40*what), uint8(3))
		f.Add(uint8(what), uint16(1), uint8(0xff))
	}
	f.Fuzz(func(t *testing.T, what uint8, at uint16, x uint8) {
		s := newStage(t)
		flip := func(b []byte) []byte {
			b = bytes.Clone(b)
			b[int(at)%len(b)] ^= x
			return b
		}
		v := invitation{path: what&8 == 0, device: s.joiners[0]}
		switch what % 6 {
		case 0:
			v.tree = func(nodes RatchetTree) RatchetTree {
				var spoilt RatchetTree
				if Unmarshal(flip(mustMarshal(nodes)), &spoilt) == nil {
					return spoilt
				}
				return nodes
			}
		case 1:
			v.context = func(c *GroupContext) {
				spoilt := *c
				if Unmarshal(flip(mustMarshal(c)), &spoilt) == nil {
					*c = spoilt
				}
			}
		case 2:
			v.info = func(gi *GroupInfo) {
				for i := range gi.Extensions {
					if len(gi.Extensions[i].Data) > int(at) {
						gi.Extensions[i].Data = flip(gi.Extensions[i].Data)
					}
				}
			}
		case 3:
			v.secrets = func(gs *GroupSecrets) {
				var spoilt GroupSecrets
				if Unmarshal(flip(mustMarshal(gs)), &spoilt) == nil {
					*gs = spoilt
				}
			}
		case 4:
			v.tag = flip
		case 5:
			v.info = func(gi *GroupInfo) { gi.Signer = LeafIndex(at) }
		}
		d, w, gi := s.invite(v, true)
		g, err := JoinWelcome(s.cfg, w, nil, d.kp, d.priv, d.signer)
		if err != nil {
			s.texts[err.Error()] = true
		}
		public, errHub := NewPublicGroup(s.cfg, gi, nil)
		if err == nil {
			if errHub != nil {
				t.Fatalf("a member joins what the hub refuses: %v", errHub)
			}
			noError(t, g.keys.check(g.state.tree))
			equal(t, "GroupContext", g.state.encoded, public.state.encoded)
		}
		_, _, _ = JoinExternal(s.cfg, gi, nil, JoinParams{Signer: d.signer, Credential: BasicCredential([]byte("new"))})
		s.unchanged(s.before)
	})
}

// FuzzLoadGroup loads records of which one is spoilt. What loads can be
// stored and loaded again.
func FuzzLoadGroup(f *testing.F) {
	w := newWorld(f, suite1)
	w.add("m0", "m1", "m2")
	w.commit("m1", CommitOptions{})
	w.propose("m2", SelfRemoveProposal())
	g := w.groups["m1"]
	records := map[string][]byte{}
	store(f, g, records)
	keys := slices.Sorted(maps.Keys(records))
	for i, k := range keys {
		f.Add(uint8(i), records[k])
	}
	f.Fuzz(func(t *testing.T, i uint8, value []byte) {
		spoilt := maps.Clone(records)
		spoilt[keys[int(i)%len(keys)]] = value
		g, err := LoadGroup(w.cfg, spoilt, g.signer)
		if err != nil {
			return
		}
		again := map[string][]byte{}
		for _, r := range allRecords(t, g).Put {
			again[r.Key] = r.Value
		}
		for k, v := range spoilt {
			if _, ok := again[k]; !ok {
				again[k] = v // of the secret trees
			}
		}
		if _, err := LoadGroup(w.cfg, again, g.signer); err != nil {
			t.Fatalf("a loaded group cannot be stored and loaded again: %v", err)
		}
		_, _ = g.Encrypt([]byte("text"), nil)
		_, _ = g.Commit(CommitOptions{})
	})
}

// Every decoder of the package is fuzzed: its type is in wireTypes, or a
// fuzz target names it.
func TestEveryDecoderIsFuzzed(t *testing.T) {
	fuzzed := map[string]bool{}
	for _, v := range wireTypes {
		fuzzed[reflect.TypeOf(v()).Elem().Name()] = true
	}
	decoders := map[string]bool{}
	files, err := os.ReadDir(".")
	noError(t, err)
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file.Name(), nil, 0)
		noError(t, err)
		for _, d := range tree.Decls {
			f, ok := d.(*ast.FuncDecl)
			switch {
			case !ok:
			case f.Recv == nil && strings.HasPrefix(f.Name.Name, "Fuzz"):
				ast.Inspect(f, func(n ast.Node) bool {
					if id, ok := n.(*ast.Ident); ok {
						fuzzed[id.Name] = true
					}
					return true
				})
			case f.Recv != nil && f.Name.Name == "UnmarshalTLS" && !strings.HasSuffix(file.Name(), "_test.go"):
				decoders[strings.TrimPrefix(fmt.Sprint(typeName(f.Recv.List[0].Type)), "*")] = true
			}
		}
	}
	if len(decoders) < 40 {
		t.Errorf("only %d decoders are found", len(decoders))
	}
	for name := range decoders {
		if whole := partOf[name]; !fuzzed[name] && !fuzzed[whole] {
			t.Errorf("%s is not fuzzed: add it to wireTypes", name)
		}
	}
}

// partOf names types that are decoded as part of another only.
var partOf = map[string]string{
	"Add": "Proposal", "Update": "Proposal", "Remove": "Proposal", "PreSharedKey": "Proposal", "ReInit": "Proposal",
	"ExternalInit": "Proposal", "GroupContextExtensions": "Proposal", "ProposalOrRef": "Commit", "UpdatePathNode": "UpdatePath",
	"HPKECiphertext": "UpdatePath", "EncryptedGroupSecrets": "Welcome", "Extension": "Extensions", "ExternalSender": "ExternalSenders",
	"Lifetime": "LeafNode", "Sender": "FramedContent", "stateRecord": "FuzzStateRecord", "epochSecrets": "memberRecord",
	"treeKeys": "memberRecord", "exporterTree": "memberRecord", "MediaType": "MediaTypeList", "ComponentData": "AppDataDictionary", "ExternalReceiver": "ExternalReceivers",
}

func typeName(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.StarExpr:
		return typeName(x.X)
	case *ast.Ident:
		return x.Name
	}
	return ""
}
