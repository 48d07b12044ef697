package targets

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"

	"github.com/certctl-io/certctl/internal/problem"
)

// Masked stands for a secret in settings that are shown. Sent back, it means
// the secret that is stored: see KeepSecrets.
const Masked = "[redacted]"

// SplitSecrets takes the secret settings out, so that they can be stored
// encrypted. JoinSecrets of both parts gives the settings again.
func SplitSecrets(k Kind, settings json.RawMessage) (plain, secrets json.RawMessage, err error) {
	all, err := parseObject(settings)
	if err != nil {
		return nil, nil, err
	}
	taken := map[string]any{}
	for _, path := range k.Secrets() {
		value, found := lookup(all, path)
		if !found {
			continue
		}
		if holdsMask(value) {
			return nil, nil, problem.Invalid("settings."+path, "is the mask %s and not a secret", Masked).Hint("give the secret itself")
		}
		remove(all, path)
		put(taken, path, value)
	}
	if plain, err = json.Marshal(all); err != nil {
		return nil, nil, err
	}
	secrets, err = json.Marshal(taken)
	return plain, secrets, err
}

// JoinSecrets puts the parts that SplitSecrets made together again. Either may
// be empty.
func JoinSecrets(plain, secrets json.RawMessage) (json.RawMessage, error) {
	all, err := parseObject(plain)
	if err != nil {
		return nil, err
	}
	taken, err := parseObject(secrets)
	if err != nil {
		return nil, err
	}
	merge(all, taken)
	return json.Marshal(all)
}

// MaskSecrets gives settings as they may be shown: each secret that is set is
// replaced by Masked. Of a group of secrets, such as variables, the names stay.
func MaskSecrets(k Kind, settings json.RawMessage) (json.RawMessage, error) {
	all, err := parseObject(settings)
	if err != nil {
		return nil, err
	}
	for _, path := range k.Secrets() {
		if value, found := lookup(all, path); found && value != nil {
			put(all, path, mask(value))
		}
	}
	return json.Marshal(all)
}

// KeepSecrets fills in the stored secrets where changed settings hold the mask,
// as they do when somebody edits settings that were shown masked.
func KeepSecrets(k Kind, changed, stored json.RawMessage) (json.RawMessage, error) {
	all, err := parseObject(changed)
	if err != nil {
		return nil, err
	}
	known, err := parseObject(stored)
	if err != nil {
		return nil, err
	}
	for _, path := range k.Secrets() {
		value, found := lookup(all, path)
		if !found {
			continue
		}
		old, _ := lookup(known, path)
		kept, ok := unmask(value, old)
		if !ok {
			return nil, problem.Invalid("settings."+path, "is the mask %s, and no secret is stored that it could stand for", Masked).Hint("give the secret itself")
		}
		put(all, path, kept)
	}
	return json.Marshal(all)
}

func mask(value any) any {
	group, ok := value.(map[string]any)
	if !ok {
		return Masked
	}
	masked := map[string]any{}
	for name := range group {
		masked[name] = Masked
	}
	return masked
}

func unmask(value, old any) (kept any, ok bool) {
	if value == Masked {
		return old, old != nil
	}
	group, isGroup := value.(map[string]any)
	if !isGroup {
		return value, true
	}
	oldGroup, _ := old.(map[string]any)
	filled := maps.Clone(group)
	for name, inner := range group {
		if filled[name], ok = unmask(inner, oldGroup[name]); !ok {
			return nil, false
		}
	}
	return filled, true
}

func holdsMask(value any) bool {
	if group, ok := value.(map[string]any); ok {
		for _, inner := range group {
			if holdsMask(inner) {
				return true
			}
		}
	}
	return value == Masked
}

// parseObject reads settings; none at all are the empty object.
func parseObject(settings json.RawMessage) (map[string]any, error) {
	object := map[string]any{}
	if len(bytes.TrimSpace(settings)) == 0 {
		return object, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(settings))
	decoder.UseNumber() // numbers come out as they went in
	if err := decoder.Decode(&object); err != nil || object == nil {
		return nil, problem.Invalid("settings", "must be a JSON object").Hint(`write them as {"name": value, ...}`)
	}
	return object, nil
}

// lookup finds the value at a path such as "pkcs12.password".
func lookup(object map[string]any, path string) (any, bool) {
	name, rest, nested := strings.Cut(path, ".")
	if !nested {
		value, found := object[name]
		return value, found
	}
	inner, _ := object[name].(map[string]any)
	return lookup(inner, rest)
}

func put(object map[string]any, path string, value any) {
	name, rest, nested := strings.Cut(path, ".")
	if !nested {
		object[name] = value
		return
	}
	inner, ok := object[name].(map[string]any)
	if !ok {
		inner = map[string]any{}
		object[name] = inner
	}
	put(inner, rest, value)
}

func remove(object map[string]any, path string) {
	name, rest, nested := strings.Cut(path, ".")
	if !nested {
		delete(object, name)
		return
	}
	if inner, ok := object[name].(map[string]any); ok {
		remove(inner, rest)
	}
}

// merge puts all of from into object, object by object.
func merge(object, from map[string]any) {
	for name, value := range from {
		inner, isObject := value.(map[string]any)
		present, wasObject := object[name].(map[string]any)
		if isObject && wasObject {
			merge(present, inner)
			continue
		}
		object[name] = value
	}
}
