package config_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/certctl-io/certctl/internal/config"
	"github.com/certctl-io/certctl/internal/secret"
)

// secretly sets every secret, so that each shows when it is not masked.
func secretly(t testing.TB) *config.Effective {
	t.Helper()
	const masterKey = "aHVudGVyMi1odW50ZXIyLWh1bnRlcjItaHVudGVyMiE="
	settings := load(t, sources(
		"CERTCTL_DATABASE_URL=postgres://certctl:"+secretText+"@db/certctl",
		"CERTCTL_BOOTSTRAP_API_KEY="+secretText+secretText,
		"CERTCTL_ENCRYPTION_KEY="+masterKey,
		"CERTCTL_DATABASE_PASSWORD="+secretText,
		"CERTCTL_BOOTSTRAP_ENROLMENT_TOKEN="+secretText+secretText,
	))
	if key, err := settings.MasterKey(); err != nil || len(key) != 32 {
		t.Fatalf("master key of %d bytes, %v", len(key), err)
	}
	return settings
}

func wantNoSecret(t *testing.T, text string) {
	t.Helper()
	for _, leak := range []string{secretText, "aHVudGVy"} {
		if strings.Contains(text, leak) {
			t.Errorf("%q shows a secret", text)
		}
	}
	if got := strings.Count(text, "[redacted]"); got != 5 {
		t.Errorf("%d masked values, want 5:\n%s", got, text)
	}
}

func TestTheTableShowsOriginsAndMasksSecrets(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := secretly(t).WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	wantNoSecret(t, out.String())
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := map[string]string{
		"SETTING":       "SETTING VALUE ORIGIN",
		"config":        "config - default",
		"database_url":  "database_url [redacted] environment CERTCTL_DATABASE_URL",
		"body_limit":    "body_limit 1MiB default",
		"poll_wait":     "poll_wait 30s default",
		"tls_hostnames": "tls_hostnames localhost,ca1.example.com,127.0.0.1,::1 default",
	}
	for _, line := range lines {
		words := strings.Fields(line)
		if text, ok := want[words[0]]; ok && text != strings.Join(words, " ") {
			t.Errorf("line %q, want %q", strings.Join(words, " "), text)
		}
		delete(want, words[0])
	}
	if len(want) > 0 {
		t.Errorf("these lines are missing: %v", want)
	}
}

func TestTheJSONFormMasksSecrets(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(secretly(t).Values())
	if err != nil {
		t.Fatal(err)
	}
	wantNoSecret(t, string(text))
	if !strings.Contains(string(text), `{"name":"listen","variable":"CERTCTL_LISTEN","value":":8443","origin":{"kind":"default"}}`) {
		t.Errorf("listen is shown otherwise in %s", text)
	}
}

func TestSettingsAsAWholePrintNoSecret(t *testing.T) {
	t.Parallel()
	settings := secretly(t)
	text, err := json.Marshal(settings.Server)
	if err != nil {
		t.Fatal(err)
	}
	wantNoSecret(t, string(text))
}

func TestAFileWithSecretsThatEverybodyMayReadIsWarnedAbout(t *testing.T) {
	t.Parallel()
	secretive := yamlFile(t, "database_url: postgres://certctl:pw@db/certctl\n")
	harmless := yamlFile(t, "listen: :1\n")
	key := yamlFile(t, "a private key")
	for _, test := range []struct {
		name, path string
		mode       os.FileMode
		environ    []string
		want       string
	}{
		{"only the owner reads the secret", secretive, 0o600, []string{"CERTCTL_CONFIG=" + secretive}, ""},
		{"its group as well", secretive, 0o640, []string{"CERTCTL_CONFIG=" + secretive}, ""},
		{"everybody reads the secret", secretive, 0o644, []string{"CERTCTL_CONFIG=" + secretive}, secretive + " holds database_url"},
		{"everybody reads a file without secrets", harmless, 0o644, []string{"CERTCTL_CONFIG=" + harmless}, ""},
		{"everybody reads the TLS key", key, 0o644, []string{"CERTCTL_TLS_CERTIFICATE=/tls.crt", "CERTCTL_TLS_KEY=" + key}, key + ", the private key"},
	} {
		if err := os.Chmod(test.path, test.mode); err != nil {
			t.Fatal(err)
		}
		warnings := load(t, sources(test.environ...)).Warnings()
		switch {
		case test.want == "" && len(warnings) > 0:
			t.Errorf("%s: warned about with %q", test.name, warnings)
		case test.want != "" && (len(warnings) != 1 || !strings.HasPrefix(warnings[0], test.want)):
			t.Errorf("%s: warnings %q, want one that starts with %q", test.name, warnings, test.want)
		}
	}
}

func TestWhatOthersCouldReachIsWarnedAbout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	src := sources("CERTCTL_DATA_DIR=" + dir)
	src.Flags.BootstrapAPIKey, src.Given = secret.New(strings.Repeat("k", 32)), []string{"bootstrap-api-key"}
	for mode, want := range map[os.FileMode]int{0o700: 1, 0o775: 1, 0o777: 2} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		warnings := strings.Join(load(t, src).Warnings(), "\n")
		if got := strings.Count(warnings, "every user"); got != want || !strings.Contains(warnings, "set CERTCTL_BOOTSTRAP_API_KEY instead") {
			t.Errorf("mode %04o: %s", mode, warnings)
		}
	}
}
