package issuer

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/certctl-io/certctl/internal/problem"
)

// masked stands for a secret in settings that are shown. Sent back, it means
// the secret that is stored.
const masked = "[redacted]"

func parseSettings(settings json.RawMessage) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if len(bytes.TrimSpace(settings)) == 0 {
		return map[string]json.RawMessage{}, nil
	}
	if err := json.Unmarshal(settings, &fields); err != nil || fields == nil {
		return nil, problem.Invalid("settings", "must be a JSON object").Hint(`write them as {"name": value, ...}`)
	}
	return fields, nil
}

// maskSecrets gives settings as they may be shown, and whether there is a
// secret among them.
func maskSecrets(driver Driver, settings json.RawMessage) (shown json.RawMessage, secret bool, err error) {
	fields, err := parseSettings(settings)
	if err != nil {
		return nil, false, err
	}
	for _, name := range driver.Secrets() {
		if _, set := fields[name]; set {
			fields[name] = json.RawMessage(`"` + masked + `"`)
			secret = true
		}
	}
	shown, err = json.Marshal(fields)
	return shown, secret, err
}

// keepSecrets puts the stored secrets where changed settings hold the mask, as
// they do when somebody edits settings that were shown.
func keepSecrets(driver Driver, changed, stored json.RawMessage) (json.RawMessage, error) {
	fields, err := parseSettings(changed)
	if err != nil {
		return nil, err
	}
	known, err := parseSettings(stored)
	if err != nil {
		return nil, err
	}
	for name, value := range fields {
		var text string
		if json.Unmarshal(value, &text) != nil || text != masked || !slices.Contains(driver.Secrets(), name) {
			continue
		}
		kept, found := known[name]
		if !found {
			return nil, problem.Invalid("settings."+name, "is the mask %s, and no secret is stored that it could stand for", masked).
				Hint("give the secret itself")
		}
		fields[name] = kept
	}
	return json.Marshal(fields)
}

// withoutSecrets gives the settings that are left when the secrets have been
// used up.
func withoutSecrets(driver Driver, settings json.RawMessage) (json.RawMessage, error) {
	fields, err := parseSettings(settings)
	if err != nil {
		return nil, err
	}
	for _, name := range driver.Secrets() {
		delete(fields, name)
	}
	return json.Marshal(fields)
}
