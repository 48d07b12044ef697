package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"

	"github.com/certctl-io/certctl/internal/access"
	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/netx"
	"github.com/certctl-io/certctl/internal/rest"
	"github.com/certctl-io/certctl/test/lab"
)

// operation is one of the OpenAPI document that the started program serves.
type operation struct {
	ID         string `json:"operationId"`
	Permission string `json:"x-certctl-permission"`
	method     string
	path       string
}

// browser makes requests as they are, pinned to the server.
func browser(t *testing.T, s *lab.Server) *http.Client {
	t.Helper()
	base, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: netx.PinnedTLSConfig(s.CASHA256, base.Hostname())}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

// send makes one request and gives status and body.
func send(t *testing.T, b *http.Client, method, address, bearer string, body any) (int, []byte) {
	t.Helper()
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		payload = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, address, payload)
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := b.Do(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, address, err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, text
}

func operations(t *testing.T, b *http.Client, s *lab.Server) []operation {
	t.Helper()
	status, text := send(t, b, http.MethodGet, s.URL+"/api/v1/openapi.json", "", nil)
	if status != http.StatusOK {
		t.Fatalf("OpenAPI document: %d %s", status, text)
	}
	var document struct {
		Paths map[string]map[string]operation `json:"paths"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	var all []operation
	for path, item := range document.Paths {
		for method, op := range item {
			op.method, op.path = strings.ToUpper(method), path
			all = append(all, op)
		}
	}
	return all
}

func TestEveryOperationIsOpenToTheRolesThatHaveItAndToNobodyElse(t *testing.T) {
	t.Parallel()
	s, api := startServer(t, db.SQLite, "CERTCTL_RATE_LIMIT_RPS=0")
	b := browser(t, s)
	callers := map[access.Role]string{"": ""}
	for _, role := range []access.Role{access.Admin, access.Operator, access.Viewer, access.Metrics} {
		key, err := api.CreateAPIKey(t.Context(), client.APIKeySpec{Name: string(role), Role: string(role)})
		if err != nil {
			t.Fatal(err)
		}
		callers[role] = key.Key.Reveal()
	}
	all := operations(t, b, s)
	if len(all) < 50 {
		t.Fatalf("there are only %d operations", len(all))
	}
	parameter := regexp.MustCompile(`\{[^}]+\}`)
	for _, op := range all {
		permission := rest.Permission(op.Permission)
		if !access.Known(permission) {
			t.Errorf("%s has the permission %q", op.ID, permission)
			continue
		}
		var body any
		if op.method == http.MethodPost || op.method == http.MethodPatch {
			body = map[string]any{}
		}
		for role, key := range callers {
			status, text := send(t, b, op.method, s.URL+parameter.ReplaceAllString(op.path, "none"), key, body)
			allowed := permission == rest.Public || role != "" && role.Can(permission)
			switch {
			case allowed && (status == http.StatusUnauthorized && op.ID != "enroll-agent" || status == http.StatusForbidden):
				t.Errorf("%s: %q should be let in, got %d %s", op.ID, role, status, text)
			case !allowed && role == "" && status != http.StatusUnauthorized:
				t.Errorf("%s: a caller without credentials got %d %s", op.ID, status, text)
			case !allowed && role != "" && status != http.StatusForbidden:
				t.Errorf("%s: %q should be refused, got %d %s", op.ID, role, status, text)
			case status >= http.StatusInternalServerError:
				t.Errorf("%s as %q: %d %s", op.ID, role, status, text)
			}
		}
	}
}

func TestTheOpenAPIDocumentIsValid(t *testing.T) {
	t.Parallel()
	s, _ := startServer(t, db.SQLite)
	b := browser(t, s)
	_, text := send(t, b, http.MethodGet, s.URL+"/api/v1/openapi.json", "", nil)
	document, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	if version := document.GetVersion(); !strings.HasPrefix(version, "3.1") {
		t.Errorf("it is version %s", version)
	}
	model, err := document.BuildV3Model()
	if err != nil {
		t.Fatalf("it does not resolve: %v", err)
	}
	seen := map[string]bool{}
	for path, item := range model.Model.Paths.PathItems.FromOldest() {
		for method, op := range item.GetOperations().FromOldest() {
			if op.OperationId == "" || seen[op.OperationId] || op.Summary == "" || len(op.Tags) != 1 {
				t.Errorf("%s %s needs an id of its own, a summary and one tag", method, path)
			}
			seen[op.OperationId] = true
		}
	}
	status, page := send(t, b, http.MethodGet, s.URL+"/api/v1/docs", "", nil)
	if status != http.StatusOK || !bytes.Contains(page, []byte("create-certificate")) || bytes.Contains(page, []byte("<script")) {
		t.Errorf("the page to browse it: %d, %d bytes", status, len(page))
	}
}

func TestAnOldTLSVersionIsRefusedUnlessSet(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{"1.3": false, "1.2": true} {
		s, _ := startServer(t, db.SQLite, "CERTCTL_TLS_MIN_VERSION="+version)
		address, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		config := netx.PinnedTLSConfig(s.CASHA256, address.Hostname())
		config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", address.Host)
		if (err == nil) != want {
			t.Errorf("minimum %s: a TLS 1.2 handshake ended with %v", version, err)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
}
