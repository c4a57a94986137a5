package mls_test

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/comity-im/comity/mls"
)

// directory is the application's authentication service: here every name is
// believed, and nobody may change theirs.
type directory struct{}

func (directory) VerifyCredential(c *mls.Credential, _ []byte, _ time.Time) error {
	if c.Type != mls.CredentialBasic {
		return errors.New("only basic credentials are known here")
	}
	return nil
}

func (directory) VerifySuccessor(old, new *mls.LeafNode) error {
	if !bytes.Equal(old.Credential.Identity, new.Credential.Identity) {
		return errors.New("a member changes its name")
	}
	return nil
}

// Alice creates a group, adds Bob, and says hello.
func Example() {
	const suite = mls.X25519AES128SHA256Ed25519
	cfg := mls.Config{Credentials: directory{}}

	// Bob publishes a key package and keeps its private keys.
	bobSigner, _, err := mls.GenerateSigner(suite, nil)
	check(err)
	kp, private, err := mls.NewKeyPackage(mls.KeyPackageParams{
		CipherSuite: suite, Signer: bobSigner, Credential: mls.BasicCredential([]byte("bob")),
	})
	check(err)

	aliceSigner, _, err := mls.GenerateSigner(suite, nil)
	check(err)
	alice, err := mls.CreateGroup(cfg, mls.GroupParams{
		CipherSuite: suite, Signer: aliceSigner, Credential: mls.BasicCredential([]byte("alice")),
	})
	check(err)

	// The commit takes effect once the delivery service accepted it.
	staged, err := alice.Commit(mls.CommitOptions{Proposals: []mls.Proposal{mls.AddProposal(kp)}})
	check(err)
	check(alice.Merge(staged))
	bob, err := mls.JoinWelcome(cfg, staged.Welcome, nil, kp, private, bobSigner)
	check(err)
	private.Wipe()

	message, err := alice.Encrypt([]byte("hello"), nil)
	check(err)
	_ = alice.Records() // to be stored before the message leaves
	received, err := bob.Decrypt(message)
	check(err)
	fmt.Printf("%s says %s\n", received.Leaf.Credential.Identity, received.Data)
	// Output: alice says hello
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
