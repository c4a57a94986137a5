package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/comity-im/comity/mimi/local"
)

// TestRefusalsHaveOneForm: whoever refuses, the mux, huma or a handler, the
// answer is a Problem in JSON, and quotes nothing of the body.
func TestRefusalsHaveOneForm(t *testing.T) {
	s := serve(t)
	_, token := s.login(key(t), "phone")
	for _, c := range []struct {
		method, path, media, body string
		status                    int
		code                      string
	}{
		{"GET", "/", "", "", 404, local.CodeNotFound},
		{"GET", "/v1/update/", "", "", 404, local.CodeNotFound},
		{"PATCH", local.PathEnrol, "", "", 405, local.CodeMethod},
		{"GET", local.PathRooms, "", "", 405, local.CodeMethod},
		{"POST", local.PathEnrol, local.MediaTypeJSON, "", 400, local.CodeMalformed},
		{"POST", local.PathEnrol, local.MediaTypeJSON, `{"code":"SECRET"`, 400, local.CodeMalformed},
		{"POST", local.PathEnrol, local.MediaTypeJSON, `{"code":7,"device_name":"SECRET"}`, 400, local.CodeMalformed},
		{"POST", local.PathEnrol, "text/plain", `SECRET`, 415, local.CodeMediaType},
		{"POST", local.PathEnrol, local.MediaTypeJSON, strings.Repeat("x", smallBody+1), 413, local.CodeTooLarge},
		{"POST", local.PathUpdate + strings.Repeat("x", 2000), local.MediaTypeTLS, "SECRET", 400, local.CodeMalformed},
		{"GET", local.PathStream, "", "", 400, local.CodeMalformed},
	} {
		r := httptest.NewRequest(c.method, c.path, bytes.NewReader([]byte(c.body)))
		r.Header.Set("Authorization", "Bearer "+token)
		if c.media != "" {
			r.Header.Set("Content-Type", c.media)
		}
		w := httptest.NewRecorder()
		s.api.ServeHTTP(w, r)
		var p local.Problem
		err := json.Unmarshal(w.Body.Bytes(), &p)
		if w.Code != c.status || p.Code != c.code || p.Message == "" || err != nil || w.Header().Get("Content-Type") != local.MediaTypeJSON {
			t.Errorf("%s %.30s: %d %q %.200s", c.method, c.path, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
		if strings.Contains(w.Body.String(), "SECRET") {
			t.Errorf("%s %.30s: the body is quoted: %s", c.method, c.path, w.Body)
		}
		if c.status == http.StatusMethodNotAllowed && w.Header().Get("Allow") == "" {
			t.Errorf("%s %s: it does not say which methods there are", c.method, c.path)
		}
	}
}
