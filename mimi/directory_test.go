package mimi

import (
	"encoding/json"
	"errors"
	"testing"
)

// draftDirectory is the example of section 5.1 with its missing colon.
const draftDirectory = `{
  "keyMaterial": "https://mimi.example.com/v1/keyMaterial/{targetUser}",
  "update": "https://mimi.example.com/v1/update{roomId}",
  "notify": "https://mimi.example.com/v1/notify/{roomId}",
  "submitMessage": "https://mimi.example.com/v1/submitMessage/{roomId}",
  "groupInfo": "https://mimi.example.com/v1/groupInfo/{roomId}",
  "requestConsent": "https://mimi.example.com/v1/requestConsent/{targetUser}",
  "updateConsent": "https://mimi.example.com/v1/updateConsent/{requesterUser}",
  "identifierQuery": "https://mimi.example.com/v1/identifierQuery/{domain}",
  "reportAbuse": "https://mimi.example.com/v1/reportAbuse/{roomId}",
  "proxyDownload": "https://mimi.example.com/v1/proxyDownload/{downloadUrl}",
  "somethingNew": {"a": 1}
}`

func TestDirectoryOfTheDraft(t *testing.T) {
	d, err := ParseDirectory([]byte(draftDirectory))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Endpoints) != 10 {
		t.Errorf("%d endpoints", len(d.Endpoints))
	}
	room := MustParseURI("mimi://a.example/r/clubhouse")
	alice := MustParseURI("mimi://a.example/u/alice")
	for _, tt := range []struct {
		e    Endpoint
		key  URI
		want string
	}{
		{EndpointKeyMaterial, alice, "https://mimi.example.com/v1/keyMaterial/mimi%3A%2F%2Fa.example%2Fu%2Falice"},
		{EndpointUpdate, room, "https://mimi.example.com/v1/updatemimi%3A%2F%2Fa.example%2Fr%2Fclubhouse"},
		{EndpointNotify, room, "https://mimi.example.com/v1/notify/mimi%3A%2F%2Fa.example%2Fr%2Fclubhouse"},
		{EndpointRequestConsent, alice, "https://mimi.example.com/v1/requestConsent/a.example"},
		{EndpointUpdateConsent, alice, "https://mimi.example.com/v1/updateConsent/a.example"},
		{EndpointIdentifierQuery, alice, "https://mimi.example.com/v1/identifierQuery/a.example"},
	} {
		got, err := d.ExpandURI(tt.e, tt.key)
		if err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v; want %q", tt.e, got, err, tt.want)
		}
	}
	got, err := d.Expand(EndpointProxyDownload, "https://x.example/a b?c")
	if want := "https://mimi.example.com/v1/proxyDownload/https%3A%2F%2Fx.example%2Fa%20b%3Fc"; err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestDirectoryRoundTrip(t *testing.T) {
	d, err := NewDirectory("https://mimi.example.com/v1/", EndpointKeyMaterial, EndpointUpdate, EndpointRequestConsent)
	if err != nil {
		t.Fatal(err)
	}
	d.Anchor = "https://mimi.example.com/v1/anchor"
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"keyMaterial":"https://mimi.example.com/v1/keyMaterial/{targetUser}",` +
		`"requestConsent":"https://mimi.example.com/v1/requestConsent/{targetDomain}",` +
		`"update":"https://mimi.example.com/v1/update/{roomId}",` +
		`"x-mimi-anchor":"https://mimi.example.com/v1/anchor","x-mimi-profile":["comity-1"]}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var back Directory
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if !back.HasProfile(ProfileComity1) || back.HasProfile("comity-2") || back.Anchor != d.Anchor || len(back.Endpoints) != 3 {
		t.Errorf("got %+v", back)
	}
	if _, err := back.ExpandURI(EndpointNotify, MustParseURI("mimi://a.example/r/x")); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("missing endpoint: %v", err)
	}
	if _, err := back.ExpandURI(EndpointUpdate, URI{}); err == nil {
		t.Error("expansion without a key was accepted")
	}
}

func TestDirectoryRefuses(t *testing.T) {
	for name, doc := range map[string]string{
		"not JSON":              `{`,
		"not an object":         `[]`,
		"null":                  `null`,
		"not a string":          `{"update": 1}`,
		"http":                  `{"update": "http://a.example/u/{roomId}"}`,
		"no variable":           `{"update": "https://a.example/u/"}`,
		"two variables":         `{"update": "https://a.example/{roomId}/{roomId}"}`,
		"unknown variable":      `{"update": "https://a.example/{user}"}`,
		"operator":              `{"update": "https://a.example/{+roomId}"}`,
		"variable in authority": `{"update": "https://{roomId}.a.example/"}`,
		"variable is authority": `{"update": "https://a.example{roomId}"}`,
		"credentials":           `{"update": "https://a:b@a.example/{roomId}"}`,
		"query":                 `{"update": "https://a.example/?r={roomId}"}`,
		"fragment":              `{"update": "https://a.example/#{roomId}"}`,
		"no host":               `{"update": "https:///{roomId}"}`,
		"relative":              `{"update": "/v1/update/{roomId}"}`,
		"anchor http":           `{"x-mimi-anchor": "http://a.example/x"}`,
		"profile not a list":    `{"x-mimi-profile": "comity-1"}`,
	} {
		if d, err := ParseDirectory([]byte(doc)); !errors.Is(err, ErrDirectory) {
			t.Errorf("%s: got %+v, %v", name, d, err)
		}
	}
	if _, err := ParseDirectory(make([]byte, MaxDirectory+1)); !errors.Is(err, ErrDirectory) {
		t.Errorf("oversize: %v", err)
	}
	if _, err := NewDirectory("http://a.example", EndpointUpdate); err == nil {
		t.Error("NewDirectory accepted http")
	}
	if _, err := NewDirectory("https://a.example", "nonsense"); err == nil {
		t.Error("NewDirectory accepted an unknown endpoint")
	}
}

func FuzzParseDirectory(f *testing.F) {
	f.Add([]byte(draftDirectory))
	f.Add([]byte(`{"update":"https://a/{roomId}","x-mimi-profile":["x"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDirectory(b)
		if err != nil {
			return
		}
		out, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseDirectory(out)
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		out2, err := json.Marshal(again)
		if err != nil || string(out2) != string(out) {
			t.Fatalf("%s\n%s", out, out2)
		}
		for e := range d.Endpoints {
			if _, err := d.Expand(e, "mimi://a.example/r/x"); err != nil {
				t.Fatal(err)
			}
		}
	})
}
