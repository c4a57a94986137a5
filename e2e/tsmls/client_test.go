package tsmls

import (
	"errors"

	"github.com/comity-im/comity/mls"
)

// What every client keeps for late messages.
const (
	pastEpochs  = 4
	generations = 100
)

// A client is one member of a group, or is about to be one. Messages are
// encoded MLSMessages, as they are sent. A client sends its handshake
// messages either as PublicMessages or as PrivateMessages.
type client interface {
	// keyPackage returns the KeyPackage with which the client began.
	keyPackage() []byte
	create(groupID []byte) error
	// joinWelcome joins; tree is nil if the Welcome carries it.
	joinWelcome(welcome, tree []byte) error
	// joinExternal joins by an external commit, which it returns; tree is nil
	// if the GroupInfo carries it. With resync the client, which has a leaf in
	// the group already, replaces it. psk is the ID of an external key, or "".
	joinExternal(groupInfo, tree []byte, resync bool, psk string) ([]byte, error)
	propose(p proposal) ([]byte, error)
	// proposeSelf proposes the addition of the client, which is no member yet,
	// to the group of a GroupInfo.
	proposeSelf(groupInfo []byte) ([]byte, error)
	// commit makes a commit and stages it: merge or drop follows.
	commit(o commitOptions) (*committed, error)
	merge() error
	drop() error
	// process takes a proposal, or a commit, which may remove the client.
	process(message []byte) (removed bool, err error)
	encrypt(data, aad []byte) ([]byte, error)
	decrypt(message []byte) (*received, error)
	// groupInfo returns a GroupInfo of the epoch and the tree, which is nil if
	// the GroupInfo carries it.
	groupInfo(withTree bool) (gi, tree []byte, err error)

	// successor makes a client for a group that follows this client's, because
	// of a ReInit or as a branch. Of the clients so made one calls succeed with
	// the KeyPackages of the others, which call joinSuccessor.
	successor(suite mls.CipherSuite) (client, error)
	succeed(k kind, groupID []byte, keyPackages [][]byte) (*committed, error)
	joinSuccessor(k kind, welcome, tree []byte) error
}

// A proposal is what clients of both kinds can propose.
type proposal struct {
	Kind       kind   `json:"kind"`
	KeyPackage []byte `json:"keyPackage,omitempty"` // add
	Leaf       uint32 `json:"leaf"`                 // remove
	PSK        string `json:"psk,omitempty"`        // psk: an external key
	Epoch      uint64 `json:"epoch"`                // resumption, of the same group
	Extension  []byte `json:"extension,omitempty"`  // extensions: required_capabilities

	GroupID []byte          `json:"groupID,omitempty"` // reinit
	Suite   mls.CipherSuite `json:"suite,omitempty"`   // reinit
}

type kind string

const (
	add        kind = "add"
	update     kind = "update"
	remove     kind = "remove"
	psk        kind = "psk"
	resumption kind = "resumption"
	extensions kind = "extensions"
	reinit     kind = "reinit"
	branch     kind = "branch" // no proposal, but a way to a new group
)

type commitOptions struct {
	proposals     []proposal // by value; the pending ones are committed, too
	treeInWelcome bool
	forcePath     bool // only package mls has a choice
}

type committed struct {
	Commit  []byte
	Welcome []byte // nil if nobody is added
	Tree    []byte // of the new epoch
}

type received struct {
	Data, AAD []byte
	sender    string // "" if the implementation does not tell
}

// A report is a client's view of its group.
type report struct {
	GroupContext    []byte
	TreeHash        []byte
	ConfirmationTag []byte
	Authenticator   []byte
	Exported        []byte
	Leaf            uint32
	Pending         int
}

// pskValue is what every client knows as the external key of that ID.
func pskValue(id string) []byte { return []byte("secret of " + id) }

func aadOf(what string) []byte { return []byte("aad of a " + what) }

var errNoKey = errors.New("no such pre-shared key")

func encode(m *mls.MLSMessage) []byte {
	b, err := mls.Marshal(m)
	if err != nil {
		panic(err) // what was made here is well-formed
	}
	return b
}

func decode(b []byte) (*mls.MLSMessage, error) {
	m := new(mls.MLSMessage)
	return m, mls.Unmarshal(b, m)
}
