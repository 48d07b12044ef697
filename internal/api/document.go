package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // for the page
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl-io/certctl/internal/rest"
)

// document is the OpenAPI document before any operation is in it.
func document(version string) *huma.OpenAPI {
	return &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "certctl", Version: version,
			Description: "Certificates from request to proof: what should be served, what was issued for it, where it is deployed. " +
				"Errors are application/problem+json (RFC 9457) and name the field that is at fault. " +
				"Lists are read page by page: give next_cursor back as cursor.",
		},
		Tags: []*huma.Tag{
			{Name: "Certificates", Description: "What should be served, what was issued for it, and what happened to it."},
			{Name: "Orders", Description: "Attempts to get a version of a certificate for one agent."},
			{Name: "Deployments", Description: "Versions that are put on targets, with what the agent did there."},
			{Name: "Targets", Description: "Where certificates go: an agent, a kind and its settings."},
			{Name: "Agents", Description: "The hosts that make keys and deploy."},
			{Name: "Enrolment tokens", Description: "With which agents join."},
			{Name: "Profiles", Description: "What may be issued."},
			{Name: "Issuers", Description: "The CAs that issue."},
			{Name: "Jobs", Description: "Background work of the server."},
			{Name: "API keys", Description: "Who may call, as what."},
			{Name: "Audit", Description: "Who changed what."},
			{Name: "Server", Description: "The server itself."},
			{Name: "Agent protocol", Description: "What certctl-agent calls; nothing for other programs."},
		},
		Components: &huma.Components{
			Schemas: huma.NewMapRegistry("#/components/schemas/", newNamer()),
			SecuritySchemes: map[string]*huma.SecurityScheme{
				rest.Bearer: {Type: "http", Scheme: "bearer", Description: "An API key, or for agents a request token that the agent signed."},
			},
		},
	}
}

// A word of the API for what the type View of a package is, and for what the
// names of its other types begin with.
var packageWords = map[string]struct{ view, prefix string }{
	"access":     {"", "API"},
	"agentapi":   {"", "Agent"},
	"deployment": {"Deployment", ""},
	"fleet":      {"", ""},
	"inventory":  {"Certificate", "Certificate"},
	"issuance":   {"Order", "Order"},
	"jobs":       {"Job", "Job"},
	"pki":        {"", "Certificate"},
	"targets":    {"", "Deployment"},
}

// newNamer names schemas after their packages and types, so that two features
// may use the same word.
func newNamer() func(reflect.Type, string) string {
	names := map[reflect.Type]string{}
	return func(t reflect.Type, hint string) string {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if name, known := names[t]; known {
			return name
		}
		name := pascal(hint)
		if t.Name() != "" {
			name = schemaName(t.PkgPath(), t.Name())
		}
		names[t] = name
		return name
	}
}

// schemaName joins package and type: profile.View is Profile, a list of it
// ProfileList, access.KeyView APIKey.
func schemaName(path, name string) string {
	if outer, inner, generic := strings.Cut(strings.TrimSuffix(name, "]"), "["); generic {
		at := strings.LastIndex(inner, ".")
		return schemaName(inner[:max(at, 0)], inner[at+1:]) + strings.TrimSuffix(strings.TrimPrefix(outer, "Tagged"), "Body")
	}
	pkg := path[strings.LastIndex(path, "/")+1:]
	if name != "View" {
		name = strings.TrimSuffix(name, "View")
	} else {
		name = ""
	}
	name = pascal(name)
	if word, ok := packageWords[pkg]; ok {
		if name == "" {
			return word.view
		}
		return word.prefix + name
	}
	if pkg == "" || pkg == "rest" || pkg == "api" || name != "" && strings.HasPrefix(pkg, strings.ToLower(name)) {
		return name
	}
	if strings.HasPrefix(strings.ToLower(name), pkg) {
		return name
	}
	return pascal(pkg) + name
}

// pascal turns words that are divided by anything into one, each with a
// capital.
func pascal(words string) string {
	var b strings.Builder
	for word := range strings.FieldsFuncSeq(words, func(r rune) bool { return r == '-' || r == '_' || r == '.' || r == ' ' }) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

// documentRoutes serves the OpenAPI document and a page to browse it. Both are
// made once, now, and so must come after all other operations.
func (a *API) documentRoutes() error {
	tags := []string{"Server"}
	var encoded, rendered []byte
	policy := ""
	fixed := func(id, path, kind, summary string, body *[]byte) {
		rest.Register(a.huma, rest.Public, huma.Operation{
			OperationID: id, Method: http.MethodGet, Path: path, Tags: tags, Summary: summary,
			Responses: map[string]*huma.Response{"200": {
				Description: summary, Content: map[string]*huma.MediaType{kind: {Schema: &huma.Schema{}}},
			}},
		}, func(context.Context, *struct{}) (*huma.StreamResponse, error) {
			return &huma.StreamResponse{Body: func(ctx huma.Context) {
				ctx.SetHeader("Content-Type", kind)
				if strings.HasPrefix(kind, "text/html") {
					ctx.SetHeader("Content-Security-Policy", policy)
				}
				_, _ = ctx.BodyWriter().Write(*body) // the client may be gone
			}}, nil
		})
	}
	fixed("get-openapi", "/api/v1/openapi.json", "application/json", "The OpenAPI 3.1 document of this API", &encoded)
	fixed("get-docs", "/api/v1/docs", "text/html; charset=utf-8", "The same document as a page", &rendered)

	var err error
	if encoded, err = json.MarshalIndent(a.huma.OpenAPI(), "", "  "); err != nil {
		return fmt.Errorf("encode OpenAPI document: %w", err)
	}
	rendered, policy, err = page(a.huma.OpenAPI())
	return err
}

//go:embed docs.gohtml
var docsPage string

//go:embed docs.css
var docsStyle string

type section struct {
	Tag        string
	Operations []*huma.Operation
}

// page renders the document, and gives the policy under which it may be shown:
// its own style and nothing else.
func page(doc *huma.OpenAPI) (body []byte, policy string, err error) {
	t, err := template.New("docs").Funcs(template.FuncMap{
		"permission": rest.PermissionOf,
		"schema":     func(s *huma.Schema) (string, error) { return pretty(s) },
		"ref":        func(s *huma.Schema) string { return strings.TrimPrefix(s.Ref, "#/components/schemas/") },
	}).Parse(docsPage)
	if err != nil {
		return nil, "", fmt.Errorf("read documentation page: %w", err)
	}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{
		"Doc": doc, "Sections": sections(doc), "Schemas": doc.Components.Schemas.Map(), "Style": template.CSS(docsStyle), //nolint:gosec // our own file
	})
	if err != nil {
		return nil, "", fmt.Errorf("render documentation page: %w", err)
	}
	sum := sha256.Sum256([]byte(docsStyle))
	policy = "default-src 'none'; frame-ancestors 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	return b.Bytes(), policy, nil
}

func sections(doc *huma.OpenAPI) []section {
	var all []section
	for _, op := range operations(doc) {
		tag := "Other"
		if len(op.Tags) > 0 {
			tag = op.Tags[0]
		}
		at := slices.IndexFunc(all, func(s section) bool { return s.Tag == tag })
		if at < 0 {
			all = append(all, section{Tag: tag})
			at = len(all) - 1
		}
		all[at].Operations = append(all[at].Operations, op)
	}
	place := func(s section) int {
		at := slices.IndexFunc(doc.Tags, func(t *huma.Tag) bool { return t.Name == s.Tag })
		if at < 0 {
			return len(doc.Tags)
		}
		return at
	}
	slices.SortStableFunc(all, func(a, b section) int { return place(a) - place(b) })
	return all
}

func pretty(s *huma.Schema) (string, error) {
	text, err := json.MarshalIndent(s, "", "  ")
	return string(text), err
}
