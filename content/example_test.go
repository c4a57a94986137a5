package content_test

import (
	"fmt"
	"time"

	"github.com/comity-im/comity/content"
)

func Example() {
	const (
		alice = "mimi://example.com/u/alice-smith"
		room  = "mimi://example.com/r/engineering_team"
	)
	composer := &content.Composer{SenderURI: alice, RoomURI: room}
	m, err := composer.Markdown("We just shipped release 2.0. __Good work__!")
	if err != nil {
		fmt.Println(err)
		return
	}
	encoded, err := m.Encode() // the plaintext of an application message
	if err != nil {
		fmt.Println(err)
		return
	}

	// At a receiver, who knows the sender from the credential, the room from
	// the group and the time from the hub:
	env := content.Envelope{SenderURI: alice, RoomURI: room, Accepted: time.Now()}
	got, id, err := content.Receive(encoded, env)
	if err != nil {
		fmt.Println(err) // log it and drop the message
		return
	}
	fmt.Println(got.Text())

	reaction, err := composer.React(id, "🎉")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(reaction.Text(), *reaction.InReplyTo == id)
	// Output:
	// We just shipped release 2.0. __Good work__!
	// 🎉 true
}
