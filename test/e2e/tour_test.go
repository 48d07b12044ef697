package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/test/lab"
)

var update = flag.Bool("update", false, "write the pages that are made here")

const tourHead = `# When something is wrong

Wrong inputs, and what certctl answers. Every answer says which field is at fault, what is wrong with it and, where there
is one, the remedy. The command line's exit codes are in [cli.md](cli.md); errors of the API are
` + "`application/problem+json`" + ` (RFC 9457).

This page is a transcript: a test gives these inputs to the real programs and fails when an answer changes.
`

// stop is one wrong input: a command line, or a request when method is set.
type stop struct {
	title   string
	program string // "certctl" when empty
	args    []string
	env     []string
	file    string // content of the file wrong.yaml

	method, path, body string
	header             [2]string
}

func tour() []stop {
	return []stop{
		{title: "A command that does not exist", args: []string{"isue", "www.example.test"}},
		{title: "A name that is not one", args: []string{"issue", "bad..name"}},
		{title: "A wildcard that the profile does not allow", args: []string{"issue", "*.example.test", "--as", "wild", "--profile", "strict"}},
		{title: "A key that is too weak", args: []string{"issue", "www.example.test", "--key-type", "rsa-1024"}},
		{title: "A lifetime that is too long", args: []string{"issue", "www.example.test", "--lifetime", "4000d"}},
		{title: "A lifetime that is not a duration", args: []string{"issue", "www.example.test", "--lifetime", "20y"}},
		{title: "A target that does not exist", args: []string{"issue", "www.example.test", "--target", "web-9"}},
		{title: "A kind of target that does not exist", args: []string{"targets", "create", "web", "--agent", "web-1", "--kind", "apache"}},
		{title: "Settings that are missing or wrong", args: []string{
			"targets", "create", "web", "--agent", "web-1", "--kind", "nginx", "--set", "certificate=tls/www.pem", "--set", "probe.address=localhost",
		}},
		{title: "An object that does not exist", args: []string{"get", "certificate", "nope"}},
		{title: "A reason for a revocation that RFC 5280 does not have", args: []string{"revoke", "www", "--reason", "because"}},
		{
			title: "A file with a misspelt field", args: []string{"apply", "--yes", "-f", "wrong.yaml"},
			file: "kind: Certificate\nname: www\nspec:\n  nmaes: [www.example.test]\n",
		},
		{title: "A wrong API key", args: []string{"list", "certificates"}, env: []string{"CERTCTL_API_KEY=certctl_wrong"}},
		{
			title: "A server that is not the one that was pinned", args: []string{"list", "certificates"},
			env: []string{"CERTCTL_CA_SHA256=" + strings.Repeat("ab", 32)},
		},
		{title: "A server that is not there", args: []string{"list", "certificates", "--timeout", "2s"}, env: []string{"CERTCTL_URL=https://127.0.0.1:1"}},
		{title: "A setting of the server that does not exist", args: []string{"server"}, env: []string{"CERTCTL_LISTN=:9443"}},
		{
			title: "Settings of the server that cannot be used", args: []string{"server", "--database-url", "mysql://localhost/certctl"},
			env: []string{"CERTCTL_TLS_MIN_VERSION=1.1", "CERTCTL_PUBLIC_URL=http://certctl.example"},
		},
		{title: "A master key that is not one", args: []string{"server"}, env: []string{"CERTCTL_ENCRYPTION_KEY=c2hvcnQ="}},
		{
			title: "An enrolment token that the server does not know", program: "certctl-agent", args: []string{"enroll", "--state", "agent", "--name", "web-2"},
			env: []string{"CERTCTL_AGENT_TOKEN=cet_" + strings.Repeat("0", 64)},
		},
		{title: "An agent that has not joined", program: "certctl-agent", args: []string{"run", "--state", "agent"}},
		{title: "A body that is not JSON", method: http.MethodPost, path: "/certificates", body: `{"names": [`},
		{
			title: "A body with several mistakes", method: http.MethodPost, path: "/certificates",
			body: `{"names": ["ok.example", "not ok"], "key_type": "dsa", "lifetime": "4000d"}`,
		},
		{title: "A body with fields that are not there", method: http.MethodPost, path: "/certificates", body: `{"colour": "red"}`},
		{
			title: "A change of something that changed meanwhile", method: http.MethodPatch, path: "/profiles/strict",
			body: `{"description": "mine"}`, header: [2]string{"If-Match", `"7"`},
		},
		{title: "A path that does not exist", method: http.MethodGet, path: "/certificate"},
		{title: "A method that the path does not take", method: http.MethodPut, path: "/certificates"},
	}
}

// masks replace what differs from run to run.
var masks = []struct{ pattern, with string }{
	{`127\.0\.0\.1:\d{4,5}`, "127.0.0.1:8443"},
	{`req_[0-9a-f]{32}`, "req_…"},
	{`\b(crt|prf|iss|agt|tgt)_[0-9a-f]{32}`, "${1}_…"},
	{`\b[0-9a-f]{64}\b`, "5f0c…"},
}

func mask(text, dir string) string {
	if dir != "" {
		text = strings.ReplaceAll(text, dir+"/", "")
	}
	for _, m := range masks {
		text = regexp.MustCompile(m.pattern).ReplaceAllString(text, m.with)
	}
	return strings.TrimRight(text, "\n") + "\n"
}

func TestTheTourOfErrorsIsTrue(t *testing.T) {
	t.Parallel()
	s, api := startServer(t, db.SQLite)
	startAgent(t, s, "web-1")
	status, text := send(t, browser(t, s), http.MethodPost, s.URL+"/api/v1/profiles", s.APIKey.Reveal(), map[string]any{
		"name": "strict", "key_types": []string{"ecdsa-p256"}, "max_lifetime": "47d", "names": map[string]any{"dns": []string{"**.example.test"}},
	})
	if status != http.StatusCreated {
		t.Fatalf("%d %s", status, text)
	}
	if _, err := api.CreateCertificate(t.Context(), client.CertificateSpec{Name: "www", Names: []string{"www.example.test"}}); err != nil {
		t.Fatal(err)
	}
	page := bytes.NewBufferString(tourHead)
	for i, stop := range tour() {
		fmt.Fprintf(page, "\n## %d. %s\n\n", i+1, stop.title)
		if stop.method != "" {
			page.WriteString(stop.ask(t, s))
		} else {
			page.WriteString(stop.run(t, s))
		}
	}
	const path = "../../docs/errors.md"
	if *update {
		if err := os.WriteFile(path, page.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, page.Bytes()) {
		t.Errorf("docs/errors.md is out of date; write it with: go test ./test/e2e -run Tour -update\nThe page is now:\n%s", page)
	}
}

// run gives the command line and what it answered.
func (w stop) run(t *testing.T, s *lab.Server) string {
	t.Helper()
	dir := t.TempDir()
	var shown strings.Builder
	if w.file != "" {
		if err := os.WriteFile(filepath.Join(dir, "wrong.yaml"), []byte(w.file), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&shown, "```yaml\n%s```\n\n", w.file)
	}
	program := w.program
	if program == "" {
		program = "certctl"
	}
	args := w.args
	if program == "certctl-agent" && args[0] == "enroll" {
		args = append(args, "--server", s.URL, "--ca-sha256", s.CASHA256)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, program), args...)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + dir, "NO_COLOR=1"}
	if args[0] != "server" && program == "certctl" {
		cmd.Env = append(cmd.Env, "CERTCTL_URL="+s.URL, "CERTCTL_API_KEY="+s.APIKey.Reveal(), "CERTCTL_CA_SHA256="+s.CASHA256)
	}
	cmd.Env = append(cmd.Env, w.env...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("%s: it should fail, and ended with %v\n%s", w.title, err, out)
	}
	shown.WriteString("```console\n$ ")
	for _, variable := range w.env {
		shown.WriteString(variable + " ")
	}
	fmt.Fprintf(&shown, "%s %s\n%s[exit code %d]\n```\n", program, strings.Join(args, " "), strings.TrimRight(string(out), "\n")+"\n", exit.ExitCode())
	return mask(shown.String(), dir)
}

// ask gives the request and what it was answered.
func (w stop) ask(t *testing.T, s *lab.Server) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), w.method, s.URL+"/api/v1"+w.path, strings.NewReader(w.body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.APIKey.Reveal())
	request.Header.Set("Content-Type", "application/json")
	var shown strings.Builder
	fmt.Fprintf(&shown, "```http\n%s /api/v1%s\n", w.method, w.path)
	if w.header[0] != "" {
		request.Header.Set(w.header[0], w.header[1])
		fmt.Fprintf(&shown, "%s: %s\n", w.header[0], w.header[1])
	}
	if w.body != "" {
		fmt.Fprintf(&shown, "\n%s\n", w.body)
	}
	response, err := browser(t, s).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var answer bytes.Buffer
	if _, err := answer.ReadFrom(response.Body); err != nil {
		t.Fatal(err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, answer.Bytes(), "", "  "); err != nil || response.StatusCode < 400 {
		t.Fatalf("%s: %d %s", w.title, response.StatusCode, answer.String())
	}
	fmt.Fprintf(&shown, "```\n\n```http\n%s\n\n%s\n```\n", response.Status, strings.TrimRight(indented.String(), "\n"))
	return mask(shown.String(), "")
}
