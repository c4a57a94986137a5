package local

import (
	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A CreateRoomRequest asks the device's own provider to be the hub of a new
// room. The room's URI, policy and participants are in the group's
// GroupContext; the group has no member but the device that asks, and is at
// epoch 0. The answer is 201 without a body, or 409 if the URI is taken by
// another group; the same request again is answered like the first.
//
//	struct {
//	    GroupInfo groupInfo;
//	    RatchetTreeOption ratchetTreeOption;    /* full */
//	} CreateRoomRequest;
type CreateRoomRequest struct {
	GroupInfo   mls.GroupInfo
	RatchetTree mimi.RatchetTreeOption
}

// MarshalTLS appends the request.
func (m *CreateRoomRequest) MarshalTLS(w *tlspl.Writer) {
	w.Value(&m.GroupInfo)
	w.Value(&m.RatchetTree)
}

// UnmarshalTLS consumes a request.
func (m *CreateRoomRequest) UnmarshalTLS(r *tlspl.Reader) {
	*m = CreateRoomRequest{}
	r.Value(&m.GroupInfo)
	r.Value(&m.RatchetTree)
}
