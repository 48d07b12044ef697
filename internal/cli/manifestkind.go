package cli

import (
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/pki"
)

// manifestKind is a kind of object that files describe. Its fields have the
// names that they have in the API.
type manifestKind struct {
	name   string
	path   string // in the API
	rank   int    // what others name is made before them
	fields []manifestField
}

// manifestField is one field of a kind: how it is written in a file, and when
// two values of it mean the same.
type manifestField struct {
	name     string
	form     form
	prefix   string // of the ids of what it names; empty when it names nothing
	required bool   // without it nothing can be made
	fixed    bool   // it cannot change once the object is made
	filled   bool   // it always has a value, so that it can be left out but not emptied
	same     func(wanted, current any) bool
}

// form is how a value is written.
type form int

const (
	textForm     form = iota
	spanForm          // a duration
	truthForm         // true or false
	listForm          // of texts
	labelsForm        // texts by name
	patternsForm      // lists of texts by name
	renewalForm       // auto and before
	freeForm          // whatever the kind of target says
)

// manifestKinds are the kinds. A certificate does not list its targets: each
// target names its certificate, so that the two cannot contradict each other.
func manifestKinds() []manifestKind {
	return []manifestKind{
		{name: "Profile", path: "profiles", rank: 0, fields: []manifestField{
			{name: "description", form: textForm},
			{name: "key_types", form: listForm, required: true, same: sameSet},
			{name: "default_key_type", form: textForm, filled: true},
			{name: "max_lifetime", form: spanForm, required: true, same: sameSpan},
			{name: "default_lifetime", form: spanForm, filled: true, same: sameSpan},
			{name: "names", form: patternsForm, required: true, same: samePatterns},
			{name: "allow_common_name", form: truthForm},
			{name: "usages", form: listForm, filled: true, same: sameSet},
			{name: "public_trust", form: truthForm},
			{name: "lint", form: textForm, filled: true},
		}},
		{name: "Certificate", path: "certificates", rank: 1, fields: []manifestField{
			{name: "names", form: listForm, required: true, same: sameNames},
			{name: "common_name", form: textForm, same: sameName},
			{name: "key_type", form: textForm, filled: true},
			{name: "lifetime", form: spanForm, filled: true, same: sameSpan},
			{name: "profile", form: textForm, filled: true, prefix: "prf"},
			{name: "issuer", form: textForm, filled: true, prefix: "iss"},
			{name: "owner", form: textForm},
			{name: "tags", form: labelsForm},
			{name: "renewal", form: renewalForm, same: sameRenewal},
		}},
		{name: "Target", path: "targets", rank: 2, fields: []manifestField{
			{name: "agent", form: textForm, prefix: "agt", required: true, fixed: true},
			{name: "kind", form: textForm, required: true, fixed: true},
			{name: "settings", form: freeForm},
			{name: "certificate", form: textForm, prefix: "crt"},
		}},
	}
}

func manifestKindNamed(name string) (manifestKind, bool) {
	kinds := manifestKinds()
	i := slices.IndexFunc(kinds, func(k manifestKind) bool { return k.name == name })
	if i < 0 {
		return manifestKind{}, false
	}
	return kinds[i], true
}

func (k manifestKind) fieldNames() []string {
	names := make([]string, len(k.fields))
	for i, f := range k.fields {
		names[i] = f.name
	}
	return names
}

func (k manifestKind) hint() string {
	hint := "the spec of a " + k.name + " has " + strings.Join(k.fieldNames(), ", ")
	if k.name == "Certificate" {
		hint += "; its targets are the Targets that name it"
	}
	return hint
}

// fieldError says in what way a value cannot be used.
type fieldError struct{ wrong, remedy string }

// read takes the value of a field from a file. A value that is set to nothing
// is the empty one.
func (f manifestField) read(node *yaml.Node) (any, *fieldError) {
	value, err := f.parse(node)
	if err == nil && empty(value) && (f.required || f.filled) {
		return nil, &fieldError{"is empty", "give a value, or leave the field out"}
	}
	return value, err
}

func (f manifestField) parse(node *yaml.Node) (any, *fieldError) {
	switch f.form {
	case truthForm:
		if node.Tag != "!!bool" {
			return nil, &fieldError{"is not true or false", ""}
		}
		return strings.EqualFold(node.Value, "true"), nil
	case listForm:
		return readTexts(node)
	case labelsForm:
		return readMap(node, func(n *yaml.Node) (any, *fieldError) { return readText(n) })
	case patternsForm:
		return readMap(node, func(n *yaml.Node) (any, *fieldError) { return readTexts(n) })
	case renewalForm:
		return readRenewal(node)
	case freeForm:
		return readFree(node)
	}
	value, err := readText(node)
	if err != nil {
		return nil, err
	}
	if f.form == spanForm && value != "" {
		return value, checkSpan(value)
	}
	if f.prefix != "" && id.Is(f.prefix, value) {
		return nil, &fieldError{"is an id", "files name objects by their names"}
	}
	return value, nil
}

func checkSpan(text string) *fieldError {
	if _, err := duration.Parse(text); err != nil {
		return &fieldError{"is not a duration", "write it as in 90d, 2w, 12h or 1d12h"}
	}
	return nil
}

// readText takes a value as it is written: whether 1.10 is a number is not
// YAML's business here.
func readText(node *yaml.Node) (string, *fieldError) {
	switch {
	case node.Kind != yaml.ScalarNode:
		return "", &fieldError{"is not a plain value", ""}
	case node.Tag == "!!null":
		return "", nil
	default:
		return node.Value, nil
	}
}

func readTexts(node *yaml.Node) (any, *fieldError) {
	texts := []any{}
	if node.Tag == "!!null" {
		return texts, nil
	}
	if node.Kind != yaml.SequenceNode {
		return nil, &fieldError{"is not a list", "write it as in [a, b]"}
	}
	for _, item := range node.Content {
		text, err := readText(resolved(item))
		if err != nil || text == "" {
			return nil, &fieldError{"has an entry that is not a plain value", ""}
		}
		texts = append(texts, text)
	}
	return texts, nil
}

func readMap(node *yaml.Node, read func(*yaml.Node) (any, *fieldError)) (any, *fieldError) {
	values := map[string]any{}
	if node.Tag == "!!null" {
		return values, nil
	}
	if node.Kind != yaml.MappingNode {
		return nil, &fieldError{"is not a mapping of names to values", ""}
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i].Value
		if _, twice := values[key]; twice {
			return nil, &fieldError{"has " + key + " twice", "remove one of the two"}
		}
		value, err := read(resolved(node.Content[i+1]))
		if err != nil {
			return nil, &fieldError{"has a value of " + key + " that " + err.wrong, err.remedy}
		}
		values[key] = value
	}
	return values, nil
}

// readRenewal reads the policy as a whole: what it leaves out has its default.
func readRenewal(node *yaml.Node) (any, *fieldError) {
	read, err := readMap(node, func(n *yaml.Node) (any, *fieldError) { return n, nil })
	if err != nil {
		return nil, err
	}
	policy := map[string]any{"auto": true}
	for key, value := range read.(map[string]any) {
		inner := value.(*yaml.Node)
		switch {
		case key == "auto" && inner.Tag == "!!bool":
			policy["auto"] = strings.EqualFold(inner.Value, "true")
		case key == "before" && inner.Kind == yaml.ScalarNode:
			if err := checkSpan(inner.Value); err != nil {
				return nil, &fieldError{"has a value of before that " + err.wrong, err.remedy}
			}
			policy["before"] = inner.Value
		default:
			return nil, &fieldError{"is not a renewal policy", "write it as in {auto: true, before: 30d}"}
		}
	}
	return policy, nil
}

func readFree(node *yaml.Node) (any, *fieldError) {
	if node.Tag != "!!null" && node.Kind != yaml.MappingNode {
		return nil, &fieldError{"is not a mapping of names to values", ""}
	}
	return readMap(node, func(n *yaml.Node) (any, *fieldError) {
		value, err := valueOf(n)
		if err != nil {
			return nil, &fieldError{"cannot be read: " + err.Error(), ""}
		}
		return value, nil
	})
}

func sameSpan(wanted, current any) bool {
	w, errW := duration.Parse(asText(wanted))
	c, errC := duration.Parse(asText(current))
	return errW == nil && errC == nil && w == c || asText(wanted) == asText(current)
}

func sameSet(wanted, current any) bool {
	w, c := asTexts(wanted), asTexts(current)
	slices.Sort(w)
	slices.Sort(c)
	return slices.Equal(w, c)
}

// sameNames compares names in the form that the server keeps.
func sameNames(wanted, current any) bool {
	w, errW := pki.ParseNames(asTexts(wanted))
	c, errC := pki.ParseNames(asTexts(current))
	return errW == nil && errC == nil && reflect.DeepEqual(w, c)
}

func sameName(wanted, current any) bool {
	w, c := asText(wanted), asText(current)
	return w == c || w != "" && c != "" && sameNames([]any{w}, []any{c})
}

func samePatterns(wanted, current any) bool {
	w, _ := wanted.(map[string]any)
	c, _ := current.(map[string]any)
	for _, name := range append(keysOf(w), keysOf(c)...) {
		if !slices.Equal(folded(w[name]), folded(c[name])) {
			return false
		}
	}
	return true
}

// folded gives patterns in lower case, which is how names are compared.
func folded(value any) []string {
	patterns := asTexts(value)
	for i, pattern := range patterns {
		patterns[i] = strings.ToLower(pattern)
	}
	slices.Sort(patterns)
	return patterns
}

func sameRenewal(wanted, current any) bool {
	w, _ := wanted.(map[string]any)
	c, _ := current.(map[string]any)
	return w["auto"] == c["auto"] && sameSpan(w["before"], c["before"])
}
