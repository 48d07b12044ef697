package local

import (
	"bytes"
	_ "embed" // for the schema
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
)

const (
	defaultOrganization = "certctl"
	// maxOrganization leaves room in a common name, which has at most 64
	// characters (RFC 5280, ub-common-name), for what follows it there.
	maxOrganization = 40
)

//go:embed settings.schema.json
var schema []byte

// settings are those of one local issuer, read when it is created. Either the
// CA is made, or an operator brings the signing certificate and its key.
type settings struct {
	Organization string        `json:"organization"`
	KeyType      pki.KeyType   `json:"key_type"`
	CAChain      string        `json:"ca_chain"`
	CAKey        secret.String `json:"ca_key"`
}

var settingNames = []string{"organization", "key_type", "ca_chain", "ca_key"}

// Schema is the JSON Schema (2020-12) of the settings, for forms.
func (l *Local) Schema() json.RawMessage { return bytes.Clone(schema) }

// Secrets names the settings that are secret.
func (l *Local) Secrets() []string { return []string{"ca_key"} }

// Check tells whether Found would take the settings; problems name
// the field, as in "settings.ca_chain".
func (l *Local) Check(raw json.RawMessage) error {
	s, err := parseSettings(raw)
	if err != nil || !s.imports() {
		return err
	}
	_, _, err = s.imported(l.now())
	return err
}

// imports reports whether the operator brings the signing certificate.
func (s settings) imports() bool { return s.CAChain != "" || !s.CAKey.Empty() }

func parseSettings(raw json.RawMessage) (settings, error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return settings{}.checked()
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(raw, &given); err != nil || given == nil {
		return settings{}, problem.Invalid("settings", "they are not a JSON object").Hint(`write them as {"organization": "Example"}`)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(settingNames, name) {
			return settings{}, problem.Invalid("settings", "there is no setting %q", name).
				Hint("the settings are %s", strings.Join(settingNames, ", "))
		}
		var text string
		if json.Unmarshal(given[name], &text) != nil {
			return settings{}, problem.Invalid("settings."+name, "it is not a string").Hint("write it in quotes")
		}
	}
	var s settings
	if err := json.Unmarshal(raw, &s); err != nil {
		return settings{}, problem.Internal(errors.New("settings that were checked cannot be read")) // no cause, it could quote the key
	}
	return s.checked()
}

// checked fills in the defaults of a CA that is to be made.
func (s settings) checked() (settings, error) {
	if s.imports() {
		return s, problem.Join(
			missing("settings.ca_chain", s.CAChain == "", "give the signing certificate and those above it in PEM"),
			missing("settings.ca_key", s.CAKey.Empty(), "give the private key of the signing certificate in PEM"),
			superfluous("settings.organization", s.Organization != ""),
			superfluous("settings.key_type", s.KeyType != ""),
		)
	}
	if s.Organization == "" {
		s.Organization = defaultOrganization
	}
	if s.KeyType == "" {
		s.KeyType = pki.ECDSAP256
	}
	_, err := pki.ParseKeyType(string(s.KeyType))
	wrongKeyType, _ := problem.As(err)
	if wrongKeyType != nil {
		wrongKeyType.Field = "settings.key_type"
	}
	return s, problem.Join(checkOrganization(s.Organization), wrongKeyType)
}

func missing(field string, is bool, remedy string) *problem.Error {
	if !is {
		return nil
	}
	return problem.Invalid(field, "it is missing").Hint("%s", remedy)
}

func superfluous(field string, is bool) *problem.Error {
	if !is {
		return nil
	}
	return problem.Invalid(field, "it has no effect when the signing certificate is given").Hint("leave it out")
}

func checkOrganization(name string) *problem.Error {
	const field = "settings.organization"
	switch {
	case utf8.RuneCountInString(name) > maxOrganization:
		return problem.Invalid(field, "it is longer than %d characters", maxOrganization)
	case strings.TrimSpace(name) != name:
		return problem.Invalid(field, "%q starts or ends with a space", name)
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return problem.Invalid(field, "%q has characters that do not print", name)
	}
	return nil
}
