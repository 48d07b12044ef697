// Package chart tests the Helm chart: it renders deploy/helm/certctl with
// Helm's own engine and looks at what would run. It is a module of its own, as
// Helm is nothing that certctl needs.
package chart

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/strvals"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the files that are made from the chart")

const (
	root     = "../../"
	chartDir = root + "deploy/helm/certctl"

	apiKey   = "MW2XkVdQcM0bFhVb7gXz0w5Gq5yC9r1ThN3sUeLkR1I="
	password = "p@ss/w:rd#1"
)

// The least that an installation must say, as --set has it.
var (
	installed = []string{"server.tls.existingSecret=tls", "server.auth.apiKey=" + apiKey, "postgresql.auth.password=" + password}
	external  = []string{
		"server.tls.existingSecret=tls", "server.auth.apiKey=" + apiKey, "postgresql.enabled=false",
		"externalDatabase.url=postgres://certctl@db.example.com/certctl",
	}
)

// release is what an installation is rendered for.
type release struct {
	name, namespace string
	kubernetes      string // version
	cluster         bool   // there is one: not "helm template"
}

// object is a rendered manifest.
type object map[string]any

func (o object) kind() string { kind, _ := o["kind"].(string); return kind }
func (o object) name() string { name, _ := o.at("metadata", "name").(string); return name }

// at is the value at a path, nil where there is none.
func (o object) at(keys ...string) any {
	value := any(map[string]any(o))
	for _, key := range keys {
		fields, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = fields[key]
	}
	return value
}

// decode reads the object, or a part of it, as a type of Kubernetes.
func decode[T any](t *testing.T, value any) T {
	t.Helper()
	var typed T
	text, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(text, &typed)
	}
	if err != nil {
		t.Fatal(err)
	}
	return typed
}

// rendered is a chart with its values filled in.
type rendered struct {
	objects []object
	text    string
	notes   string
}

// one finds the only object of a kind and name.
func (r rendered) one(t *testing.T, kind, name string) object {
	t.Helper()
	for _, o := range r.objects {
		if o.kind() == kind && o.name() == name {
			return o
		}
	}
	t.Fatalf("there is no %s %s among %v", kind, name, r.kinds())
	return nil
}

func (r rendered) kinds() map[string]int {
	kinds := map[string]int{}
	for _, o := range r.objects {
		kinds[o.kind()]++
	}
	return kinds
}

// values reads assignments in the form of --set.
func values(t *testing.T, sets ...[]string) map[string]any {
	t.Helper()
	all := map[string]any{}
	for _, set := range slices.Concat(sets...) {
		name, text, _ := strings.Cut(set, "=")
		if err := strvals.ParseInto(name+"="+strings.ReplaceAll(text, ",", `\,`), all); err != nil {
			t.Fatalf("%s: %v", set, err)
		}
	}
	return all
}

func mustRender(t *testing.T, r release, v map[string]any) rendered {
	t.Helper()
	out, err := render(r, v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// render does what "helm template" does, notes included.
func render(r release, v map[string]any) (rendered, error) {
	chart, err := loader.LoadDir(chartDir)
	if err != nil {
		return rendered{}, err
	}
	capabilities, err := r.capabilities()
	if err != nil {
		return rendered{}, err
	}
	options := common.ReleaseOptions{Name: orElse(r.name, "certctl"), Namespace: orElse(r.namespace, "certctl"), IsInstall: true, Revision: 1}
	merged, err := util.ToRenderValues(chart, v, options, capabilities)
	if err != nil {
		return rendered{}, err
	}
	files, err := engine.Render(chart, merged)
	if err != nil {
		return rendered{}, err
	}
	return read(files)
}

func (r release) capabilities() (*common.Capabilities, error) {
	version, err := common.ParseKubeVersion(orElse(r.kubernetes, "v1.35.0"))
	if err != nil {
		return nil, err
	}
	capabilities := common.DefaultCapabilities.Copy()
	capabilities.KubeVersion = *version
	if r.cluster {
		capabilities.APIVersions = append(slices.Clone(capabilities.APIVersions), "v1/Pod")
	}
	return capabilities, nil
}

// read splits rendered files into objects. Numbers stay as they are written.
func read(files map[string]string) (rendered, error) {
	var out rendered
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if path.Base(name) == "NOTES.txt" {
			out.notes = files[name]
			continue
		}
		documents := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(files[name])))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return out, fmt.Errorf("%s: %w", name, err)
			}
			var o object
			if err := yaml.UnmarshalStrict(document, &o); err != nil {
				return out, fmt.Errorf("%s: %w\n%s", name, err, document)
			}
			if len(o) == 0 {
				continue
			}
			out.objects = append(out.objects, o)
			fmt.Fprintf(&text, "---\n# Source: %s\n%s\n", name, bytes.Trim(document, "\n"))
		}
	}
	out.text = text.String()
	return out, nil
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// golden compares a text with a file, or writes the file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s is stale; look at what changed and run: make test-chart ARGS=-update\n%s", file, firstDifference(string(want), got))
	}
}

func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d:\n- %s\n+ %s", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("%d lines instead of %d", len(b), len(a))
}
