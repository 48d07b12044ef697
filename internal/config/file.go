package config

import (
	"errors"
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/certctl-io/certctl/internal/problem"
)

// fileValue is one entry of the YAML file.
type fileValue struct {
	texts []string
	where string // file:line
}

// parseFile reads a YAML mapping from setting keys to values or lists of
// values. Values are taken as they are written: whether 1.3 is a number or a
// text is the setting's business, not YAML's.
func parseFile(path string, data []byte) (map[string]fileValue, []*problem.Error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, []*problem.Error{problem.Invalid("config", "%s is not YAML: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))}
	}
	if len(document.Content) == 0 {
		return nil, nil // an empty file
	}
	root := document.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, []*problem.Error{problem.Invalid("config", "%s is not a mapping from settings to values", path).
			Hint("write lines such as \"listen: :8443\"")}
	}
	known := fileKeys()
	values := map[string]fileValue{}
	var problems []*problem.Error
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, node := root.Content[i], root.Content[i+1]
		where := fmt.Sprintf("%s:%d", path, key.Line)
		if err := checkKey(key.Value, where, known, values); err != nil {
			problems = append(problems, err)
			continue
		}
		texts, err := nodeTexts(node)
		if err != nil {
			problems = append(problems, problem.Invalid(key.Value, "the value at %s %s", where, err))
			continue
		}
		if texts != nil {
			values[key.Value] = fileValue{texts, where}
		}
	}
	return values, problems
}

func checkKey(key, where string, known []string, seen map[string]fileValue) *problem.Error {
	if earlier, ok := seen[key]; ok {
		return problem.Invalid(key, "it stands twice in the file: at %s and at %s", earlier.where, where).Hint("remove one of the two")
	}
	for _, k := range known {
		if k == key {
			return nil
		}
	}
	return problem.Invalid(key, "there is no such setting (%s)", where).
		Hint("%sdocs/configuration.md lists all settings", didYouMean(key, known))
}

// nodeTexts gives the texts of one value. A key that is set to nothing counts
// as not set, like a variable.
func nodeTexts(node *yaml.Node) ([]string, error) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch node.Kind {
	case yaml.ScalarNode:
		if node.Tag == "!!null" || node.Value == "" {
			return nil, nil
		}
		return []string{node.Value}, nil
	case yaml.SequenceNode:
		texts := make([]string, 0, len(node.Content))
		for _, item := range node.Content {
			if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
				return nil, errors.New("has an entry that is not a plain value")
			}
			texts = append(texts, item.Value)
		}
		return texts, nil
	default:
		return nil, errors.New("is a mapping, but settings do not nest")
	}
}

func fileKeys() []string {
	var keys []string
	for _, s := range settings() {
		if s.inFile() {
			keys = append(keys, s.key())
		}
	}
	return keys
}
