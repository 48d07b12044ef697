package targetstest

import (
	"bytes"
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/targets"
)

// TestKind checks what holds for every kind. Each of settings is accepted by the
// kind, and together they set every setting that it has.
func TestKind(t *testing.T, kind targets.Kind, settings ...string) {
	t.Helper()
	s := suite{kind: kind, schema: readObject(t, string(kind.Schema()))}
	for _, text := range settings {
		s.samples = append(s.samples, readObject(t, text))
	}
	t.Run("the samples are accepted and complete", s.samplesAreComplete)
	t.Run("the schema describes a closed object", s.schemaIsClosed)
	t.Run("settings that are no object are refused", s.nonObjectsAreRefused)
	t.Run("an unknown setting is refused", s.unknownSettingsAreRefused)
	t.Run("a missing required setting is named", s.missingSettingsAreNamed)
	t.Run("a wrong type is named", s.wrongTypesAreNamed)
	t.Run("a relative path is refused", s.relativePathsAreRefused)
	t.Run("plans are fit for the engine", s.plansAreFit)
	t.Run("secrets are kept apart", s.secretsAreKeptApart)
}

type suite struct {
	kind    targets.Kind
	schema  map[string]any
	samples []map[string]any
}

func (s suite) samplesAreComplete(t *testing.T) {
	set := map[string]bool{}
	for _, sample := range s.samples {
		if err := s.kind.Check(write(t, sample)); err != nil {
			t.Errorf("Check(%s) = %v", write(t, sample), err)
		}
		walk(s.schema, sample, "", func(path string, _, _ map[string]any, _ string) { set[path] = true })
	}
	for _, path := range propertiesOf(s.schema, "") {
		if !set[path] {
			t.Errorf("no sample sets %q", path)
		}
	}
}

func (s suite) schemaIsClosed(t *testing.T) {
	closed(t, "settings", s.schema)
}

func closed(t *testing.T, path string, schema map[string]any) {
	if schema["type"] != "object" || schema["additionalProperties"] != false {
		t.Errorf("%s: the schema does not forbid other properties", path)
	}
	for name, property := range properties(schema) {
		if property["title"] == nil || property["description"] == nil {
			t.Errorf("%s.%s has no title or no description", path, name)
		}
		if property["properties"] != nil {
			closed(t, path+"."+name, property)
		}
	}
}

func (s suite) nonObjectsAreRefused(t *testing.T) {
	for _, text := range []string{`[]`, `"x"`, `1`, `null`, `{`, `{} {}`} {
		WantInvalid(t, s.kind.Check(json.RawMessage(text)), "settings")
	}
}

func (s suite) unknownSettingsAreRefused(t *testing.T) {
	for i := range s.samples {
		changed := s.clone(t, i)
		changed["no_such_setting"] = true
		WantInvalid(t, s.kind.Check(write(t, changed)), "settings.no_such_setting")
		s.eachGroup(t, i, func(path string, group, sample map[string]any) {
			group["no_such_setting"] = true
			WantInvalid(t, s.kind.Check(write(t, sample)), "settings."+path+".no_such_setting")
		})
	}
}

func (s suite) missingSettingsAreNamed(t *testing.T) {
	for i := range s.samples {
		s.eachSetting(t, i, func(path string, parentSchema, parent map[string]any, name string, sample map[string]any) {
			required, _ := parentSchema["required"].([]any)
			if !slices.Contains(required, any(name)) {
				return
			}
			for _, empty := range []any{nil, ""} {
				parent[name] = empty
				WantInvalid(t, s.kind.Check(write(t, sample)), "settings."+path)
			}
			delete(parent, name)
			WantInvalid(t, s.kind.Check(write(t, sample)), "settings."+path)
		})
	}
}

func (s suite) wrongTypesAreNamed(t *testing.T) {
	for i := range s.samples {
		s.eachSetting(t, i, func(path string, _, parent map[string]any, name string, sample map[string]any) {
			parent[name] = 42
			WantInvalid(t, s.kind.Check(write(t, sample)), "settings."+path)
		})
	}
}

func (s suite) relativePathsAreRefused(t *testing.T) {
	for i := range s.samples {
		s.eachSetting(t, i, func(path string, parentSchema, parent map[string]any, name string, sample map[string]any) {
			if properties(parentSchema)[name]["format"] != "path" {
				return
			}
			for _, bad := range []string{"relative/path", "./x", "/a/../b", "/a//b"} {
				parent[name] = bad
				WantInvalid(t, s.kind.Check(write(t, sample)), "settings."+path)
			}
		})
	}
}

func (s suite) plansAreFit(t *testing.T) {
	ca := NewCA(t)
	for _, kt := range pki.KeyTypes {
		bundle := ca.Issue(t, kt, "*.example.com")
		for _, sample := range s.samples {
			s.checkPlan(t, write(t, sample), bundle)
		}
	}
}

func (s suite) checkPlan(t *testing.T, settings json.RawMessage, bundle pki.Bundle) {
	t.Helper()
	plan, err := s.kind.Plan(settings, bundle)
	if err != nil {
		t.Fatalf("Plan(%s): %v", settings, err)
	}
	again, err := s.kind.Plan(settings, bundle)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i, file := range plan.Files {
		if !filepath.IsAbs(file.Path) || filepath.Clean(file.Path) != file.Path || seen[file.Path] {
			t.Errorf("%q is not an absolute path of its own", file.Path)
		}
		seen[file.Path] = true
		if len(file.Data) == 0 {
			t.Errorf("%s would be empty", file.Path)
		}
		if bytes.Contains(file.Data, []byte("PRIVATE KEY")) && !file.Secret {
			t.Errorf("%s holds a private key and is not marked secret", file.Path)
		}
		if file.Secret && file.Mode&0o007 != 0 {
			t.Errorf("%s holds a private key and gets mode %04o", file.Path, file.Mode)
		}
		if !bytes.Equal(file.Data, again.Files[i].Data) {
			t.Errorf("planning twice gives two contents of %s", file.Path)
		}
	}
	for i, record := range plan.Records {
		if record.Store == "" || record.Name == "" || len(record.Data) == 0 {
			t.Errorf("the record %v names no store, no name or no content", record)
		}
		if !bytes.Equal(record.Data, again.Records[i].Data) {
			t.Errorf("planning twice gives two contents of %v", record)
		}
	}
	if len(plan.Records) == 0 && !slices.ContainsFunc(plan.Files, func(f targets.File) bool { return f.Secret }) {
		t.Errorf("the plan for %s writes no private key", settings)
	}
	if plan.Probe != nil && (plan.Probe.Address == "" || strings.Contains(plan.Probe.ServerName, "*")) {
		t.Errorf("the probe %+v cannot be made", *plan.Probe)
	}
	if plan.Reload != nil && plan.Signal != nil {
		t.Error("the plan reloads by a command and by a signal")
	}
	if _, err := s.kind.Plan(json.RawMessage(`{"no_such_setting":1}`), bundle); problem.KindOf(err) != problem.KindInvalid {
		t.Errorf("Plan with settings that Check refuses = %v", err)
	}
}

func (s suite) secretsAreKeptApart(t *testing.T) {
	bundle := NewCA(t).Issue(t, "ecdsa-p256", "example.com")
	for _, sample := range s.samples {
		whole := write(t, sample)
		values := s.secretValues(sample)
		masked, err := targets.MaskSecrets(s.kind, whole)
		if err != nil {
			t.Fatal(err)
		}
		plain, secrets, err := targets.SplitSecrets(s.kind, whole)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range values {
			if bytes.Contains(masked, []byte(value)) || bytes.Contains(plain, []byte(value)) {
				t.Errorf("the secret %q shows in %s or %s", value, masked, plain)
			}
		}
		joined, err := targets.JoinSecrets(plain, secrets)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := targets.KeepSecrets(s.kind, masked, whole)
		if err != nil {
			t.Fatal(err)
		}
		for what, got := range map[string]json.RawMessage{"joined": joined, "kept": kept} {
			if diff := cmp.Diff(sample, readObject(t, string(got))); diff != "" {
				t.Errorf("%s settings differ:\n%s", what, diff)
			}
		}
		plan, err := s.kind.Plan(whole, bundle)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range values {
			if !slices.ContainsFunc(plan.Redact, func(r secret.String) bool { return r.Reveal() == value }) {
				t.Errorf("the plan does not redact the secret %q", value)
			}
		}
	}
}

// secretValues gives the texts of a sample's secrets.
func (s suite) secretValues(sample map[string]any) []string {
	var values []string
	for _, path := range s.kind.Secrets() {
		var at any = sample
		for name := range strings.SplitSeq(path, ".") {
			group, _ := at.(map[string]any)
			at = group[name]
		}
		switch at := at.(type) {
		case string:
			values = append(values, at)
		case map[string]any:
			for _, inner := range at {
				values = append(values, inner.(string))
			}
		}
	}
	return values
}

// eachSetting calls check for every setting of a sample, each time with a
// fresh copy of the sample that check may change.
func (s suite) eachSetting(t *testing.T, i int, check func(path string, parentSchema, parent map[string]any, name string, sample map[string]any)) {
	var paths []string
	walk(s.schema, s.samples[i], "", func(path string, _, _ map[string]any, _ string) { paths = append(paths, path) })
	for _, wanted := range paths {
		sample := s.clone(t, i)
		walk(s.schema, sample, "", func(path string, parentSchema, parent map[string]any, name string) {
			if path == wanted {
				check(path, parentSchema, parent, name, sample)
			}
		})
	}
}

// eachGroup does the same for the settings that have settings of their own.
func (s suite) eachGroup(t *testing.T, i int, check func(path string, group, sample map[string]any)) {
	s.eachSetting(t, i, func(path string, parentSchema, parent map[string]any, name string, sample map[string]any) {
		if properties(parentSchema)[name]["properties"] != nil {
			check(path, parent[name].(map[string]any), sample)
		}
	})
}

func (s suite) clone(t *testing.T, i int) map[string]any {
	return readObject(t, string(write(t, s.samples[i])))
}

// walk visits every setting that a sample sets, outer ones last, so that
// visiting may replace them.
func walk(schema, sample map[string]any, prefix string, visit func(path string, schema, sample map[string]any, name string)) {
	for _, name := range slices.Sorted(maps.Keys(sample)) {
		property := properties(schema)[name]
		if inner, ok := sample[name].(map[string]any); ok && property["properties"] != nil {
			walk(property, inner, prefix+name+".", visit)
		}
		visit(prefix+name, schema, sample, name)
	}
}

func properties(schema map[string]any) map[string]map[string]any {
	all := map[string]map[string]any{}
	members, _ := schema["properties"].(map[string]any)
	for name, property := range members {
		all[name] = property.(map[string]any)
	}
	return all
}

func propertiesOf(schema map[string]any, prefix string) []string {
	var paths []string
	for name, property := range properties(schema) {
		paths = append(paths, prefix+name)
		paths = append(paths, propertiesOf(property, prefix+name+".")...)
	}
	return paths
}

// WantInvalid fails the test unless err names the field, with a remedy.
func WantInvalid(t *testing.T, err error, field string) {
	t.Helper()
	first, ok := problem.As(err)
	if !ok || first.Kind != problem.KindInvalid {
		t.Errorf("want an invalid %s, got %v", field, err)
		return
	}
	for _, p := range append([]*problem.Error{first}, first.More...) {
		if p.Remedy == "" {
			t.Errorf("%s: no remedy in %v", p.Field, p)
		}
	}
	named := slices.ContainsFunc(append([]*problem.Error{first}, first.More...), func(p *problem.Error) bool {
		return p.Field == field || strings.HasPrefix(p.Field, field+"[")
	})
	if !named {
		t.Errorf("want a problem of %s, got %v", field, err)
	}
}

func readObject(t testing.TB, text string) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return object
}

func write(t testing.TB, object map[string]any) json.RawMessage {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
