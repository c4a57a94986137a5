package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
)

// atURI is a request about the thing that the path names. The path's value is
// percent-encoded there and decoded here.
type atURI struct {
	URI string `path:"uri" maxLength:"1024" doc:"identifier URI, percent-encoded"`
	TLSBody
}

// rooms registers what concerns rooms.
func (a *API) rooms() {
	huma.Register(a.doc, operation("createRoom", http.MethodPost, local.PathRooms,
		"Create a room whose hub is this provider", mimi.MaxUpdateRequest, false, http.StatusForbidden, http.StatusConflict),
		func(ctx context.Context, in *TLSBody) (*struct{ Status int }, error) {
			err := in.check()
			if err == nil {
				err = a.cfg.Rooms.Create(ctx, deviceOf(ctx), in.RawBody)
			}
			if err != nil {
				return nil, a.failed(ctx, "createRoom", err)
			}
			return &struct{ Status int }{http.StatusCreated}, nil
		})

	type call func(ctx context.Context, d store.Device, uri mimi.URI, body []byte) (*answer, error)
	plain := func(f func(context.Context, store.Device, mimi.URI, []byte) ([]byte, error)) call {
		return func(ctx context.Context, d store.Device, uri mimi.URI, body []byte) (*answer, error) {
			b, err := f(ctx, d, uri, body)
			return tlsAnswer(b), err
		}
	}
	for _, c := range []struct {
		id, path, summary string
		kind              mimi.Kind
		limit             int64
		do                call
	}{
		{"update", local.PathUpdate, "Send proposals or a commit (UpdateRequest)", mimi.KindRoom, mimi.MaxUpdateRequest, plain(a.cfg.Rooms.Update)},
		{"submitMessage", local.PathSubmitMessage, "Send a message (SubmitMessageRequest); 202: pending until the hub is back",
			mimi.KindRoom, mimi.MaxSubmitRequest, a.submit},
		{"groupInfo", local.PathGroupInfo, "Get what an external join needs (GroupInfoRequest)",
			mimi.KindRoom, mimi.MaxGroupInfoRequest, plain(a.cfg.Rooms.GroupInfo)},
		{"keyMaterial", local.PathKeyMaterial, "Claim KeyPackages of a user (KeyMaterialRequest)",
			mimi.KindUser, mimi.MaxKeyMaterialRequest, plain(a.cfg.Rooms.KeyMaterial)},
	} {
		huma.Register(a.doc, operation(c.id, http.MethodPost, c.path+"{uri}", c.summary, c.limit, false,
			http.StatusForbidden, http.StatusNotFound, http.StatusBadGateway),
			func(ctx context.Context, in *atURI) (*answer, error) {
				err := in.check()
				var uri mimi.URI
				if err == nil {
					uri, err = parse(in.URI, c.kind)
				}
				var out *answer
				if err == nil {
					out, err = c.do(ctx, deviceOf(ctx), uri, in.RawBody)
				}
				if err != nil {
					return nil, a.failed(ctx, c.id, err)
				}
				return out, nil
			})
	}
}

func (a *API) submit(ctx context.Context, d store.Device, room mimi.URI, body []byte) (*answer, error) {
	b, pendingAt, err := a.cfg.Rooms.Submit(ctx, d, room, body)
	if err != nil || pendingAt == "" {
		return tlsAnswer(b), err
	}
	b, err = json.Marshal(local.PendingResponse{Hub: pendingAt})
	return &answer{Status: http.StatusAccepted, ContentType: local.MediaTypeJSON, Body: b}, err
}
