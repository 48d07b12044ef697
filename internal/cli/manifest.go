package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/certctl-io/certctl/internal/problem"
)

// document is one object as a file describes it.
type document struct {
	kind   manifestKind
	name   string
	fields map[string]any // what the file says, by field; what it leaves out stays as it is
	where  string         // file:line, for messages
}

func (d document) String() string { return strings.ToLower(d.kind.name) + " " + d.name }

// readDocuments reads all files and gives their objects in the order in which
// they must be made.
func (s *session) readDocuments(paths []string) ([]document, error) {
	var all []document
	var problems []*problem.Error
	for _, path := range paths {
		files, err := manifestFiles(path)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			data, err := s.readFile(file)
			if err != nil {
				return nil, err
			}
			if file == "-" {
				file = "standard input"
			}
			found, wrong := parseManifest(file, data)
			all, problems = append(all, found...), append(problems, wrong...)
		}
	}
	problems = append(problems, duplicates(all)...)
	if err := problem.Join(problems...); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, problem.Invalid("filename", "there is no object in what was given")
	}
	slices.SortStableFunc(all, func(a, b document) int { return a.kind.rank - b.kind.rank })
	return all, nil
}

// manifestFiles gives the YAML files of a directory, or the one file.
func manifestFiles(path string) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, problem.Invalid("filename", "%s cannot be read: %v", path, reason(err))
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, problem.Invalid("filename", "%s cannot be read: %v", path, reason(err))
	}
	var files []string
	for _, entry := range entries {
		if ext := filepath.Ext(entry.Name()); !entry.IsDir() && (ext == ".yaml" || ext == ".yml") {
			files = append(files, filepath.Join(path, entry.Name()))
		}
	}
	if len(files) == 0 {
		return nil, problem.Invalid("filename", "%s holds no file that ends in .yaml or .yml", path)
	}
	return files, nil
}

func duplicates(all []document) []*problem.Error {
	first := map[string]document{}
	var problems []*problem.Error
	for _, d := range all {
		if earlier, ok := first[d.String()]; ok {
			problems = append(problems, problem.Invalid("", "%s: %s stands at %s already", d.where, d, earlier.where).Hint("describe each object once"))
			continue
		}
		first[d.String()] = d
	}
	return problems
}

// manifest reads one file and gathers what is wrong with it.
type manifest struct {
	file     string
	problems []*problem.Error
}

func parseManifest(file string, data []byte) ([]document, []*problem.Error) {
	m := &manifest{file: file}
	var documents []document
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var node yaml.Node
		err := decoder.Decode(&node)
		if errors.Is(err, io.EOF) {
			return documents, m.problems
		}
		if err != nil {
			// The decoder stands where it failed, so that nothing more can be read.
			m.problems = append(m.problems, problem.Invalid("", "%s: this is not YAML: %s", file, strings.TrimPrefix(err.Error(), "yaml: ")))
			return documents, m.problems
		}
		root := resolved(node.Content[0])
		if root.Tag == "!!null" {
			continue
		}
		if d, ok := m.document(root); ok {
			documents = append(documents, d)
		}
	}
}

func (m *manifest) where(node *yaml.Node) string { return fmt.Sprintf("%s:%d", m.file, node.Line) }

func (m *manifest) wrong(node *yaml.Node, hint, format string, args ...any) {
	p := problem.Invalid("", "%s: %s", m.where(node), fmt.Sprintf(format, args...))
	if hint != "" {
		p = p.Hint("%s", hint)
	}
	m.problems = append(m.problems, p)
}

func (m *manifest) document(root *yaml.Node) (document, bool) {
	before := len(m.problems)
	top := m.members(root, "an object has kind, name and spec", []string{"kind", "name", "spec"})
	if len(m.problems) > before {
		return document{}, false
	}
	d := document{where: m.where(root), fields: map[string]any{}}
	for _, required := range []string{"kind", "name"} {
		if node := top[required]; node == nil || node.Kind != yaml.ScalarNode || node.Value == "" {
			m.wrong(root, "an object has kind, name and spec", "%s is missing", required)
			return document{}, false
		}
	}
	d.name = top["name"].Value
	var known bool
	if d.kind, known = manifestKindNamed(top["kind"].Value); !known {
		m.wrong(top["kind"], "use Profile, Certificate or Target", "%q is not a kind of object that files describe", top["kind"].Value)
		return document{}, false
	}
	if top["spec"] != nil && top["spec"].Tag != "!!null" {
		m.spec(&d, top["spec"])
	}
	return d, len(m.problems) == before
}

func (m *manifest) spec(d *document, spec *yaml.Node) {
	members := m.members(spec, d.kind.hint(), d.kind.fieldNames())
	for _, field := range d.kind.fields {
		node := members[field.name]
		if node == nil {
			continue
		}
		value, err := field.read(node)
		if err != nil {
			m.wrong(node, err.remedy, "%s of %s %s", field.name, d, err.wrong)
			continue
		}
		d.fields[field.name] = value
	}
}

// members gives the values of a mapping by key. Unknown keys and keys that
// stand twice are wrong.
func (m *manifest) members(node *yaml.Node, hint string, known []string) map[string]*yaml.Node {
	members := map[string]*yaml.Node{}
	if node.Kind != yaml.MappingNode {
		m.wrong(node, hint, "this is not a mapping of names to values")
		return members
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		switch {
		case members[key.Value] != nil:
			m.wrong(key, "remove one of the two", "%s stands twice", key.Value)
		case !slices.Contains(known, key.Value):
			m.wrong(key, hint, "there is no field %q here", key.Value)
		default:
			members[key.Value] = resolved(node.Content[i+1])
		}
	}
	return members
}

func resolved(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}
