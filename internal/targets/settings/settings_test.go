package settings_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/targets/settings"
)

type inner struct {
	File     settings.Path `json:"file" required:"true" title:"File" help:"A file."`
	Password string        `json:"password" required:"true" secret:"true" title:"Password" help:"A secret."`
}

type sample struct {
	Dir     settings.Dir       `json:"dir" title:"Dir" help:"A directory." default:"/tmp"`
	Program settings.Program   `json:"program" title:"Program" help:"A program."`
	Paths   settings.Paths     `json:"paths" title:"Paths" help:"Some paths." example:"[\"/a\"]"`
	Reload  settings.Command   `json:"reload" title:"Reload" help:"A command."`
	Address settings.Address   `json:"address" required:"true" title:"Address" help:"An address." example:"localhost:443"`
	Mode    settings.KeyMode   `json:"mode" title:"Mode" help:"A mode."`
	Wait    settings.Duration  `json:"wait" title:"Wait" help:"A time."`
	Env     settings.Variables `json:"env" secret:"true" title:"Env" help:"Variables."`
	Inner   *inner             `json:"inner" title:"Inner" help:"A group."`
	settings.Ownership
}

func TestDecodeReadsEverything(t *testing.T) {
	t.Parallel()
	got, err := settings.Decode[sample](json.RawMessage(`{
		"dir": "/srv/", "program": "nginx", "paths": ["/a", "/b"], "reload": ["/bin/x", "a b"], "address": "[::1]:443",
		"mode": "0640", "wait": "1m30s", "env": {"A": "1"}, "inner": {"file": "/c", "password": "p"}, "owner": "root"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := sample{
		Dir: "/srv/", Program: "nginx", Paths: settings.Paths{"/a", "/b"}, Reload: settings.Command{"/bin/x", "a b"}, Address: "[::1]:443",
		Mode: "0640", Wait: "1m30s", Env: settings.Variables{"A": "1"}, Inner: &inner{File: "/c", Password: "p"},
		Ownership: settings.Ownership{Owner: "root"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.Wait.Duration() != 90*time.Second || got.Mode.FileMode() != 0o640 {
		t.Errorf("%v, %v", got.Wait.Duration(), got.Mode.FileMode())
	}
}

func TestWhatAFormLeavesEmptyIsNotSet(t *testing.T) {
	t.Parallel()
	got, err := settings.Decode[sample](json.RawMessage(`{"address": "a:1", "dir": "", "paths": [], "reload": null, "mode": "", "inner": null}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample{Address: "a:1"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAllProblemsAreToldAtOnce(t *testing.T) {
	t.Parallel()
	_, err := settings.Decode[sample](json.RawMessage(`{"dir": "x", "program": "a b", "paths": ["/a", "b"], "reload": ["a b"],
		"mode": "0777", "wait": "soon", "env": {"1": ""}, "inner": {"file": "/c/../d", "more": 1}, "nonsense": 1, "Dir": "/a"}`))
	first, ok := problem.As(err)
	if !ok {
		t.Fatal(err)
	}
	var fields []string
	for _, p := range append([]*problem.Error{first}, first.More...) {
		fields = append(fields, strings.TrimPrefix(p.Field, "settings."))
		if p.Remedy == "" {
			t.Errorf("%s has no remedy", p.Field)
		}
	}
	slices.Sort(fields)
	want := []string{"Dir", "address", "dir", "env", "inner.file", "inner.more", "inner.password", "mode", "nonsense", "paths[1]", "program", "reload[0]", "wait"}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Error(diff)
	}
}

func TestSecretsAreListed(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff([]string{"env", "inner.password"}, settings.Secrets[sample]()); diff != "" {
		t.Error(diff)
	}
}

func TestSchemaKeepsTheOrderOfTheFields(t *testing.T) {
	t.Parallel()
	schema := string(settings.Schema[sample]())
	last := 0
	for _, name := range []string{"dir", "program", "paths", "reload", "address", "mode", "wait", "env", "inner", "owner", "group"} {
		at := strings.Index(schema, `"`+name+`":`)
		if at < last {
			t.Errorf("%s stands before its turn", name)
		}
		last = at
	}
	for _, part := range []string{`"required":["address"]`, `"required":["file","password"]`, `"writeOnly":true`, `"examples":[["/a"]]`, `"default":"/tmp"`, `"additionalProperties":false`} {
		if !strings.Contains(schema, part) {
			t.Errorf("the schema lacks %s:\n%s", part, schema)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{}`, `{"address": "a:1"}`, `{"inner": {"file": 1}}`, `{"reload": [""]}`, `{"mode": "9"}`, `null`, `{"env": {"": "x"}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := settings.Decode[sample](text)
		if err != nil && problem.KindOf(err) != problem.KindInvalid {
			t.Errorf("%s: %v", text, err)
		}
		if err == nil && got.Address == "" {
			t.Errorf("%s: accepted without what is required", text)
		}
	})
}
