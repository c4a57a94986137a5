package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/comity-im/comity/content"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/internal/tlspl"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/local"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/room"
)

const badSuite = mls.X25519AES128SHA256Ed25519

// A badDevice is an enrolled device that does as it is told: it believes
// everything, checks nothing, and sends what the SDK never would.
type badDevice struct {
	w      *badWorld
	domain string
	http   *http.Client
	user   mimi.URI
	uri    mimi.URI
	signer mls.Signer
	cred   mls.Credential
	hub    mls.ExternalSender // of its own provider
	token  string
	clock  time.Duration // how far its clock is ahead

	groups map[mimi.URI]*mls.Group
	read   map[mimi.URI]uint64
}

// believing is the CredentialVerifier of who believes everything.
type believing struct{}

func (believing) VerifyCredential(*mls.Credential, []byte, time.Time) error { return nil }
func (believing) VerifySuccessor(_, _ *mls.LeafNode) error                  { return nil }

func (d *badDevice) config() mls.Config {
	return mls.Config{Now: func() time.Time { return time.Now().Add(d.clock) }, Credentials: believing{}, Components: room.Components(), SkipLifetime: true,
		Limits: mls.Limits{MaxLifetime: 100 * 365 * 24 * time.Hour}}
}

func ok(t *testing.T, err error) {
	if err != nil {
		t.Helper()
		t.Fatal(err)
	}
}

func encode(t *testing.T, v tlspl.Marshaler) []byte {
	t.Helper()
	b, err := mls.Marshal(v)
	ok(t, err)
	return b
}

// device enrols a badDevice.
func (w *badWorld) device(user, domain string) *badDevice {
	t := w.t
	t.Helper()
	p := w.provider(domain)
	code, err := p.Admin().AddUser(t.Context(), user)
	ok(t, err)
	d := &badDevice{w: w, domain: domain, http: w.badHTTP(p.Config.ClientListen, nil),
		groups: make(map[mimi.URI]*mls.Group), read: make(map[mimi.URI]uint64)}
	d.signer, _, err = mls.GenerateSigner(badSuite, rand.Reader)
	ok(t, err)
	a := d.json(t, local.PathEnrol, d.enrolment(t, code.Code, "raw"))
	var resp local.EnrolResponse
	ok(t, json.Unmarshal(a.body, &resp))
	d.cred = mls.X509Credential(resp.Certificate)
	d.user, d.uri, err = identity.ClientURIs(&d.cred)
	ok(t, err)
	ok(t, mls.Unmarshal(resp.ExternalSender, &d.hub))
	d.login(t)
	return d
}

// enrolment makes an EnrolRequest with the device's key.
func (d *badDevice) enrolment(t *testing.T, code, name string) local.EnrolRequest {
	t.Helper()
	req := local.EnrolRequest{Code: code, DeviceName: name, CipherSuite: uint16(badSuite), PublicKey: d.signer.Public()}
	tbs, err := req.TBS()
	ok(t, err)
	req.Signature, err = mls.SignWithLabel(d.signer, local.LabelEnrol, tbs)
	ok(t, err)
	return req
}

// login gets a token.
func (d *badDevice) login(t *testing.T) {
	t.Helper()
	var token local.TokenResponse
	ok(t, json.Unmarshal(d.json(t, local.PathToken, d.proof(t)).body, &token))
	d.token = token.Token
}

// proof makes a TokenRequest.
func (d *badDevice) proof(t *testing.T) local.TokenRequest {
	t.Helper()
	var c local.ChallengeResponse
	ok(t, json.Unmarshal(d.send(t, badRequest{method: http.MethodPost, url: local.PathChallenge}).body, &c))
	sig, err := mls.SignWithLabel(d.signer, local.LabelToken, c.Challenge)
	ok(t, err)
	return local.TokenRequest{Device: d.uri.String(), Challenge: c.Challenge, Signature: sig}
}

// send makes a request to the device's own provider; the URL is a path.
func (d *badDevice) send(t *testing.T, q badRequest) badAnswer {
	t.Helper()
	q.url = "https://" + d.domain + q.url
	return badDo(t, d.http, q).problem(t)
}

// json posts without a token.
func (d *badDevice) json(t *testing.T, path string, v any) badAnswer {
	t.Helper()
	b, err := json.Marshal(v)
	ok(t, err)
	a := d.send(t, badRequest{method: http.MethodPost, url: path, body: b, header: http.Header{"Content-Type": {local.MediaTypeJSON}}})
	return a
}

// tls posts a body with the device's token.
func (d *badDevice) tls(t *testing.T, method, path string, body []byte) badAnswer {
	t.Helper()
	return d.send(t, badRequest{method: method, url: path, body: body, header: http.Header{
		"Content-Type": {local.MediaTypeTLS}, "Authorization": {"Bearer " + d.token}}})
}

// A validity is when a KeyPackage may be used, counted from now.
type validity struct{ from, to time.Duration }

// keyPackage makes a KeyPackage of the device.
func (d *badDevice) keyPackage(t *testing.T, v validity) (*mls.KeyPackage, *mls.KeyPackagePrivate) {
	t.Helper()
	x, err := room.LeafExtensions()
	ok(t, err)
	kp, private, err := mls.NewKeyPackage(mls.KeyPackageParams{
		CipherSuite: badSuite, Signer: d.signer, Credential: d.cred, Capabilities: badCapabilities(), LeafExtensions: x,
		NotBefore: time.Now().Add(v.from), Lifetime: v.to - v.from,
	})
	ok(t, err)
	return kp, private
}

var badValid = validity{-time.Hour, 20 * 24 * time.Hour}

func badCapabilities() mls.Capabilities {
	return room.Capabilities([]mls.CipherSuite{badSuite}, mls.CredentialX509)
}

// publish puts KeyPackages into the device's pool.
func (d *badDevice) publish(t *testing.T, kps ...*mls.KeyPackage) badAnswer {
	t.Helper()
	var w tlspl.Writer
	w.Vector(func(w *tlspl.Writer) {
		for _, kp := range kps {
			w.Value(kp)
		}
	})
	body, err := w.Bytes()
	ok(t, err)
	return d.tls(t, http.MethodPut, local.PathKeyPackages, body)
}

// newGroup makes the group of a room, and the body that creates the room.
func (d *badDevice) newGroup(t *testing.T, uri mimi.URI, template string) (*mls.Group, []byte) {
	t.Helper()
	tpl, err := room.NewTemplate(template)
	ok(t, err)
	x, err := room.NewRoomExtensions(room.NewRoom{Room: uri, Hub: d.hub, Creator: d.user, Template: tpl, Name: uri.Name()})
	ok(t, err)
	id, err := room.GroupID(uri)
	ok(t, err)
	leaf, err := room.LeafExtensions()
	ok(t, err)
	g, err := mls.CreateGroup(d.config(), mls.GroupParams{CipherSuite: badSuite, GroupID: id, Signer: d.signer,
		Credential: d.cred, Capabilities: badCapabilities(), LeafExtensions: leaf, Extensions: x})
	ok(t, err)
	gi, err := g.GroupInfo()
	ok(t, err)
	tree, err := mimi.FullTree(g.State().RatchetTree())
	ok(t, err)
	return g, encode(t, &local.CreateRoomRequest{GroupInfo: *gi, RatchetTree: tree})
}

// create makes a room whose hub is the device's provider.
func (d *badDevice) create(t *testing.T, name, template string) mimi.URI {
	t.Helper()
	uri := mimi.MustParseURI("mimi://" + d.domain + "/r/" + name)
	g, body := d.newGroup(t, uri, template)
	if a := d.tls(t, http.MethodPost, local.PathRooms, body); a.status != http.StatusCreated {
		t.Fatalf("creating %s: %d %s", uri, a.status, a.says)
	}
	d.groups[uri] = g
	return uri
}

// follow reads the log of a room as far as it goes.
func (d *badDevice) follow(t *testing.T, uri mimi.URI) {
	t.Helper()
	g := d.groups[uri]
	events, err := d.w.provider(d.domain).Admin().Events(t.Context(), uri.String(), d.read[uri])
	ok(t, err)
	for _, e := range events {
		d.read[uri] = e.Position
		f, err := mimi.ParseFanout(e.Body)
		ok(t, err)
		m := &f[0].Message
		if _, epoch, _ := m.Epoch(); epoch != g.State().Epoch() || m.PublicMessage == nil {
			continue
		}
		if m.PublicMessage.Content.ContentType == mls.ContentCommit {
			sc, err := g.StageCommit(m)
			ok(t, err)
			ok(t, g.Merge(sc))
			continue
		}
		for _, p := range append([]mls.MLSMessage{*m}, f[0].MoreProposals...) {
			q, err := g.Proposal(&p)
			ok(t, err)
			ok(t, g.Enqueue(q))
		}
	}
}

// wire sends a message through its encoding.
func wire(t *testing.T, m *mls.MLSMessage) mls.MLSMessage {
	t.Helper()
	var out mls.MLSMessage
	ok(t, mls.Unmarshal(encode(t, m), &out))
	return out
}

// updateBody is the request for a commit.
func updateBody(t *testing.T, sc *mls.StagedCommit) []byte {
	t.Helper()
	return encode(t, &mimi.UpdateRequest{Message: wire(t, sc.Message), Welcome: sc.Welcome,
		GroupInfo: mimi.GroupInfoOption{Full: sc.GroupInfo}, RatchetTree: mimi.HubTree()})
}

// verdict reads an UpdateRoomResponse.
func (a badAnswer) verdict(t *testing.T) badAnswer {
	t.Helper()
	if a.status != http.StatusOK {
		return a
	}
	var resp mimi.UpdateRoomResponse
	ok(t, mls.Unmarshal(a.body, &resp))
	a.code, a.says = resp.Code.String(), resp.ErrorDescription
	return a
}

// submitted reads a SubmitMessageResponse.
func (a badAnswer) submitted(t *testing.T) badAnswer {
	t.Helper()
	if a.status != http.StatusOK {
		return a
	}
	var resp mimi.SubmitMessageResponse
	ok(t, mls.Unmarshal(a.body, &resp))
	a.code = resp.Code.String()
	return a
}

// commit makes a commit; it is not sent.
func (d *badDevice) commit(t *testing.T, uri mimi.URI, o mls.CommitOptions) *mls.StagedCommit {
	t.Helper()
	o.OmitTree = true
	sc, err := d.groups[uri].Commit(o)
	ok(t, err)
	return sc
}

// must sends a commit that is good.
func (d *badDevice) must(t *testing.T, uri mimi.URI, sc *mls.StagedCommit) {
	t.Helper()
	a := d.tls(t, http.MethodPost, local.PathUpdate+uri.PathSegment(), updateBody(t, sc)).verdict(t)
	if a.code != mimi.UpdateSuccess.String() {
		t.Fatalf("a good commit: %d %s %s", a.status, a.code, a.says)
	}
	ok(t, d.groups[uri].Merge(sc))
}

// participants returns the proposal that changes the participant list.
func (d *badDevice) participants(t *testing.T, uri mimi.URI, removed []mimi.URI, added ...mimi.URI) mls.Proposal {
	t.Helper()
	policy, err := room.PolicyOf(d.groups[uri].State().Dictionary())
	ok(t, err)
	var list []room.Participant
	for _, u := range added {
		list = append(list, room.Participant{User: u, Role: room.RoleMember})
	}
	u, err := policy.Participants.Update(nil, removed, list)
	ok(t, err)
	return mls.AppDataUpdateProposal(mimi.ComponentParticipantList, encode(t, u))
}

// claimBody is a request for KeyPackages of a user.
func (d *badDevice) claimBody(t *testing.T, uri, target mimi.URI) []byte {
	t.Helper()
	req := &mimi.KeyMaterialRequest{Protocol: mimi.ProtocolMLS10, RequestingUser: d.user, TargetUser: target, Room: uri,
		CipherSuites: []mls.CipherSuite{badSuite}, Credential: d.cred}
	ok(t, req.Sign(d.signer))
	return encode(t, req)
}

// claim gets KeyPackages of a user.
func (d *badDevice) claim(t *testing.T, uri, target mimi.URI) *mimi.KeyMaterialResponse {
	t.Helper()
	a := d.tls(t, http.MethodPost, local.PathKeyMaterial+target.PathSegment(), d.claimBody(t, uri, target))
	if a.status != http.StatusOK {
		t.Fatalf("claiming %s: %d %s", target, a.status, a.says)
	}
	resp := new(mimi.KeyMaterialResponse)
	ok(t, mls.Unmarshal(a.body, resp))
	return resp
}

// add adds users with all their devices, and returns the commit.
func (d *badDevice) add(t *testing.T, uri mimi.URI, users ...mimi.URI) *mls.StagedCommit {
	t.Helper()
	o := mls.CommitOptions{Proposals: []mls.Proposal{d.participants(t, uri, nil, users...)}}
	for _, u := range users {
		resp := d.claim(t, uri, u)
		if resp.UserStatus != mimi.KeyMaterialSuccess {
			t.Fatalf("key material of %s: %v", u, resp.UserStatus)
		}
		for i := range resp.Clients {
			o.Proposals = append(o.Proposals, mls.AddProposal(resp.Clients[i].KeyPackage))
		}
	}
	sc := d.commit(t, uri, o)
	d.must(t, uri, sc)
	return sc
}

// remove removes a user with all devices.
func (d *badDevice) remove(t *testing.T, uri, user mimi.URI) {
	t.Helper()
	o := mls.CommitOptions{Proposals: []mls.Proposal{d.participants(t, uri, []mimi.URI{user})}}
	for i, leaf := range d.groups[uri].State().Members() {
		if u, _, err := identity.ClientURIs(&leaf.Credential); err == nil && u == user {
			o.Proposals = append(o.Proposals, mls.RemoveProposal(i))
		}
	}
	d.must(t, uri, d.commit(t, uri, o))
}

// join takes a Welcome.
func (d *badDevice) join(t *testing.T, uri mimi.URI, by *badDevice, sc *mls.StagedCommit, kp *mls.KeyPackage, private *mls.KeyPackagePrivate) {
	t.Helper()
	g, err := mls.JoinWelcome(d.config(), sc.Welcome, by.groups[uri].State().RatchetTree(), kp, private, d.signer)
	ok(t, err)
	d.groups[uri] = g
}

// message encrypts a message and returns the request that submits it.
func (d *badDevice) message(t *testing.T, uri mimi.URI, text string) *mimi.SubmitMessageRequest {
	t.Helper()
	said, err := (&content.Composer{SenderURI: d.user.String(), RoomURI: uri.String()}).Text(text)
	ok(t, err)
	data, err := said.Encode()
	ok(t, err)
	m, err := d.groups[uri].Encrypt(encode(t, mls.ApplicationFraming{MediaType: mls.MediaType{Type: content.MediaTypeContent}, Content: data}), nil)
	ok(t, err)
	return &mimi.SubmitMessageRequest{Protocol: mimi.ProtocolMLS10, AppMessage: wire(t, m), SendingURI: d.user}
}

// groupInfoBody asks for the GroupInfo of a room.
func (d *badDevice) groupInfoBody(t *testing.T) (body []byte, req *mimi.GroupInfoRequest, private []byte) {
	t.Helper()
	private, public, err := mls.GenerateHPKEKey(badSuite)
	ok(t, err)
	req = &mimi.GroupInfoRequest{Protocol: mimi.ProtocolMLS10, CipherSuite: badSuite, Credential: d.cred, PublicKey: public}
	ok(t, req.Sign(d.signer))
	return encode(t, req), req, private
}

// flip returns a copy with one bit changed.
func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[(at+len(b))%len(b)] ^= 1
	return b
}

// messageOf makes a message of d's, as if another user had sent it.
func (d *badDevice) messageOf(t *testing.T, user mimi.URI, by *badDevice, uri mimi.URI) *mimi.SubmitMessageRequest {
	t.Helper()
	req := by.message(t, uri, "in another's name")
	req.SendingURI = user
	return req
}
