package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/certctl-io/certctl/internal/problem"
)

// settings are the settings of a target on the command line.
type settings struct {
	Set          []string `sep:"none" placeholder:"KEY=VALUE" help:"Setting of the target; a dot leads into a group, as in probe.address=127.0.0.1:443. The value is text, or JSON for numbers, true, false and lists; @FILE reads it from a file."`
	SettingsFile string   `placeholder:"FILE" help:"YAML file with the settings, - for standard input; --set wins."`
}

// values reads the settings.
func (f settings) values(s *session) (map[string]any, error) {
	values := map[string]any{}
	if f.SettingsFile != "" {
		data, err := s.readFile(f.SettingsFile)
		if err != nil {
			return nil, err
		}
		if values, err = settingsOf(f.SettingsFile, data); err != nil {
			return nil, err
		}
	}
	for _, pair := range f.Set {
		key, text, found := strings.Cut(pair, "=")
		if !found || key == "" {
			return nil, problem.Invalid("set", "%q is not of the form KEY=VALUE", pair)
		}
		value, err := settingValue(s, text)
		if err != nil {
			return nil, err
		}
		if err := put(values, key, value); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// settingsOf reads a file of settings.
func settingsOf(path string, data []byte) (map[string]any, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, problem.Invalid("settings-file", "%s is not YAML: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(document.Content) == 0 {
		return map[string]any{}, nil
	}
	value, err := valueOf(document.Content[0])
	values, isMap := value.(map[string]any)
	if err != nil || !isMap {
		return nil, problem.Invalid("settings-file", "%s is not a mapping of settings to values", path)
	}
	return values, nil
}

// settingValue takes what is JSON as JSON and all else as text, so that neither
// paths nor modes such as 0640 need quotes.
func settingValue(s *session, text string) (any, error) {
	if path, found := strings.CutPrefix(text, "@"); found {
		data, err := s.readFile(path)
		return strings.TrimRight(string(data), "\r\n"), err
	}
	var value any
	if json.Unmarshal([]byte(text), &value) == nil {
		return value, nil
	}
	return text, nil
}

// readFile reads a file, or standard input for "-".
func (s *session) readFile(path string) ([]byte, error) {
	if path == "-" {
		data, err := io.ReadAll(s.in)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return data, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, problem.Invalid("", "%s cannot be read: %v", path, reason(err))
	}
	return data, nil
}

// put sets the value at a path such as "probe.address".
func put(values map[string]any, path string, value any) error {
	name, rest, nested := strings.Cut(path, ".")
	if !nested {
		values[name] = value
		return nil
	}
	if values[name] == nil {
		values[name] = map[string]any{}
	}
	inner, ok := values[name].(map[string]any)
	if !ok {
		return problem.Invalid("set", "%s is a single setting and not a group of settings", name)
	}
	return put(inner, rest, value)
}

// drop removes the value at a path and tells whether there was one.
func drop(values map[string]any, path string) bool {
	name, rest, nested := strings.Cut(path, ".")
	value, found := values[name]
	if !nested {
		delete(values, name)
		return found
	}
	inner, ok := value.(map[string]any)
	return ok && drop(inner, rest)
}

// merge puts settings over others, group by group.
func merge(values, over map[string]any) {
	for name, value := range over {
		inner, isGroup := value.(map[string]any)
		under, wasGroup := values[name].(map[string]any)
		if isGroup && wasGroup {
			merge(under, inner)
			continue
		}
		values[name] = value
	}
}
