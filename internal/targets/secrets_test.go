package targets_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/targets"
)

// vault is a kind with a secret, one in a group, and a group of secrets.
type vault struct{}

func (vault) Name() string                                           { return "vault" }
func (vault) Check(json.RawMessage) error                            { return nil }
func (vault) Plan(json.RawMessage, pki.Bundle) (targets.Plan, error) { return targets.Plan{}, nil }
func (vault) Schema() json.RawMessage                                { return json.RawMessage(`{}`) }

func (vault) Secrets() []string { return []string{"token", "store.password", "env"} }

func wantJSON(t testing.TB, got json.RawMessage, err error, want string) {
	t.Helper()
	if err != nil {
		t.Error(err)
		return
	}
	var is, shouldBe any
	if json.Unmarshal(got, &is) != nil || json.Unmarshal([]byte(want), &shouldBe) != nil {
		t.Errorf("%s or %s is no JSON", got, want)
	}
	if diff := cmp.Diff(shouldBe, is); diff != "" {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSecretsAreSplitMaskedAndJoined(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ settings, plain, secrets, masked string }{
		"none set":   {`{"path": "/a", "n": 12345678901234567890}`, `{"path": "/a", "n": 12345678901234567890}`, `{}`, `{"path": "/a", "n": 12345678901234567890}`},
		"no setting": {``, `{}`, `{}`, `{}`},
		"all set": {
			`{"token": "t", "store": {"path": "/s", "password": "p"}, "env": {"A": "1", "B": "2"}}`,
			`{"store": {"path": "/s"}}`,
			`{"token": "t", "store": {"password": "p"}, "env": {"A": "1", "B": "2"}}`,
			`{"token": "[redacted]", "store": {"path": "/s", "password": "[redacted]"}, "env": {"A": "[redacted]", "B": "[redacted]"}}`,
		},
		"a group of a secret alone": {`{"store": {"password": "p"}}`, `{"store": {}}`, `{"store": {"password": "p"}}`, `{"store": {"password": "[redacted]"}}`},
		"an empty secret":           {`{"token": ""}`, `{}`, `{"token": ""}`, `{"token": "[redacted]"}`},
		"a null secret":             {`{"token": null}`, `{}`, `{"token": null}`, `{"token": null}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain, secrets, err := targets.SplitSecrets(vault{}, json.RawMessage(test.settings))
			wantJSON(t, plain, err, test.plain)
			wantJSON(t, secrets, err, test.secrets)
			masked, err := targets.MaskSecrets(vault{}, json.RawMessage(test.settings))
			wantJSON(t, masked, err, test.masked)
			whole := test.settings
			if whole == "" {
				whole = "{}"
			}
			joined, err := targets.JoinSecrets(plain, secrets)
			wantJSON(t, joined, err, whole)
			kept, err := targets.KeepSecrets(vault{}, masked, json.RawMessage(test.settings))
			wantJSON(t, kept, err, whole)
		})
	}
}

func TestNumbersAreNotRounded(t *testing.T) {
	t.Parallel()
	plain, _, err := targets.SplitSecrets(vault{}, json.RawMessage(`{"n": 12345678901234567890}`))
	if err != nil || !strings.Contains(string(plain), "12345678901234567890") {
		t.Errorf("%s, %v", plain, err)
	}
}

func TestChangedSettingsKeepTheSecretsThatTheyMask(t *testing.T) {
	t.Parallel()
	const stored = `{"token": "t", "store": {"path": "/s", "password": "p"}, "env": {"A": "1", "B": "2"}}`
	for name, test := range map[string]struct{ changed, want, problem string }{
		"another path":       {`{"token": "[redacted]", "store": {"path": "/new", "password": "[redacted]"}}`, `{"token": "t", "store": {"path": "/new", "password": "p"}}`, ""},
		"another secret":     {`{"token": "new", "store": {"password": "[redacted]"}}`, `{"token": "new", "store": {"password": "p"}}`, ""},
		"a variable more":    {`{"env": {"A": "[redacted]", "C": "3"}}`, `{"env": {"A": "1", "C": "3"}}`, ""},
		"everything left":    {`{}`, `{}`, ""},
		"a mask for nothing": {`{"env": {"C": "[redacted]"}}`, "", "settings.env"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kept, err := targets.KeepSecrets(vault{}, json.RawMessage(test.changed), json.RawMessage(stored))
			if test.problem == "" {
				wantJSON(t, kept, err, test.want)
				return
			}
			if p, ok := problem.As(err); !ok || p.Field != test.problem || p.Remedy == "" {
				t.Errorf("err = %v", err)
			}
		})
	}
	if _, err := targets.KeepSecrets(vault{}, json.RawMessage(`{"token": "[redacted]"}`), nil); problem.KindOf(err) != problem.KindInvalid {
		t.Errorf("a mask with nothing stored: %v", err)
	}
}

func TestMaskIsNotStoredAsASecret(t *testing.T) {
	t.Parallel()
	for settings, field := range map[string]string{
		`{"token": "[redacted]"}`:                "settings.token",
		`{"store": {"password": "[redacted]"}}`:  "settings.store.password",
		`{"env": {"A": "1", "B": "[redacted]"}}`: "settings.env",
	} {
		_, _, err := targets.SplitSecrets(vault{}, json.RawMessage(settings))
		if p, ok := problem.As(err); !ok || p.Field != field {
			t.Errorf("%s: %v", settings, err)
		}
	}
}

func TestSettingsThatAreNoObjectAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`[]`, `null`, `"x"`, `{`} {
		_, _, splitErr := targets.SplitSecrets(vault{}, json.RawMessage(text))
		_, maskErr := targets.MaskSecrets(vault{}, json.RawMessage(text))
		_, joinErr := targets.JoinSecrets(json.RawMessage(text), nil)
		_, keepErr := targets.KeepSecrets(vault{}, json.RawMessage(text), nil)
		for what, err := range map[string]error{"split": splitErr, "mask": maskErr, "join": joinErr, "keep": keepErr} {
			if problem.KindOf(err) != problem.KindInvalid {
				t.Errorf("%s of %s: %v", what, text, err)
			}
		}
	}
}
