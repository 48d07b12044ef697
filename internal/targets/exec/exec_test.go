package exec_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/exec"
	"github.com/certctl-io/certctl/internal/targets/targetstest"
)

func TestKind(t *testing.T) {
	t.Parallel()
	targetstest.TestKind(t, exec.Kind{},
		`{"combined": "/a.pem", "reload": ["use-tls", "{combined}"]}`,
		`{"certificate": "/c.pem", "key": "/k.pem", "chain": "/ch.pem", "fullchain": "/f.pem", "combined": "/a.pem",
		  "owner": "app", "group": "app", "mode": "0400", "validate": ["/usr/bin/check", "{fullchain}"], "reload": ["use-tls"],
		  "timeout": "1m", "env": {"MODE": "fast"}, "secret_env": {"TOKEN": "very-secret", "PIN": "1234"},
		  "probe": {"address": "localhost:443", "server_name": "a.example.com", "timeout": "1s"}}`,
	)
}

func TestMistakesAreNamed(t *testing.T) {
	t.Parallel()
	for settings, field := range map[string]string{
		`{"fullchain": "/a.pem", "reload": ["x"]}`:                                        "settings.key",
		`{"key": "/a.pem", "fullchain": "/a.pem", "reload": ["x"]}`:                       "settings.fullchain",
		`{"key": "/a.pem", "reload": ["x", "--chain={chain}"]}`:                           "settings.reload[1]",
		`{"key": "/a.pem", "reload": ["x"], "validate": ["{combined}"]}`:                  "settings.validate[0]",
		`{"key": "/a.pem", "reload": ["x"], "env": {"A": "1"}, "secret_env": {"A": "2"}}`: "settings.secret_env.A",
		`{"key": "/a.pem", "reload": ["x"], "env": {"PATH": "/"}}`:                        "settings.env.PATH",
		`{"key": "/a.pem", "reload": ["x"], "secret_env": {"CERTCTL_KEY": "/"}}`:          "settings.secret_env.CERTCTL_KEY",
		`{"key": "/a.pem", "reload": ["x"], "env": {"A=B": "/"}}`:                         "settings.env",
		`{"key": "/a.pem", "reload": "systemctl reload x"}`:                               "settings.reload",
		`{"key": "/a.pem", "reload": ["systemctl reload x"]}`:                             "settings.reload[0]",
	} {
		targetstest.WantInvalid(t, exec.Kind{}.Check([]byte(settings)), field)
	}
}

func TestCommandsLearnWhereTheFilesAre(t *testing.T) {
	t.Parallel()
	plan, err := exec.Kind{}.Plan([]byte(`{"key": "/k.pem", "fullchain": "/f.pem", "timeout": "5s",
		"validate": ["check", "{key}"], "reload": ["use", "--tls={fullchain}:{key}", "{other}"], "env": {"B": "2", "A": "1"}, "secret_env": {"S": "x"}}`),
		targetstest.NewCA(t).Issue(t, pki.ECDSAP256, "example.com"))
	if err != nil {
		t.Fatal(err)
	}
	want := targets.Plan{
		Validate: targets.Command{"check", "/k.pem"},
		Reload:   targets.Command{"use", "--tls=/f.pem:/k.pem", "{other}"},
		Env:      []string{"CERTCTL_KEY=/k.pem", "CERTCTL_FULLCHAIN=/f.pem", "A=1", "B=2", "S=x"},
		Timeout:  5 * time.Second,
	}
	if diff := cmp.Diff(want, plan, cmpopts.IgnoreFields(targets.Plan{}, "Files", "Redact")); diff != "" {
		t.Error(diff)
	}
	if len(plan.Redact) != 1 || plan.Redact[0].Reveal() != secret.New("x").Reveal() {
		t.Errorf("redact %d values", len(plan.Redact))
	}
}

func TestCommandPutsTheFilesToUseAndIsCalledOnTheWayBack(t *testing.T) {
	t.Parallel()
	dir, ca, host := t.TempDir(), targetstest.NewCA(t), targetstest.NewHost(t)
	use := targetstest.WriteFile(t, filepath.Join(dir, "use"), `cp "$CERTCTL_FULLCHAIN" "$1" && echo "token is $TOKEN" && test ! -e "$1.refuse"`, 0o644)
	check := targetstest.WriteFile(t, filepath.Join(dir, "check"), `openssl x509 -in "$1" -noout -checkhost www.example.com -subject`, 0o644)
	used := filepath.Join(dir, "used")
	settings := fmt.Sprintf(`{"fullchain": %q, "key": %q, "validate": ["sh", %q, "{fullchain}"], "reload": ["sh", %q, %q], "secret_env": {"TOKEN": "swordfish"}}`,
		filepath.Join(dir, "fullchain.pem"), filepath.Join(dir, "key.pem"), check, use, used)

	first := ca.Issue(t, pki.ECDSAP256, "www.example.com")
	report := host.Deploy(t, exec.Kind{}, settings, first)
	targetstest.WantOutcome(t, report, targets.OutcomeDeployed)
	if targetstest.ReadFile(t, used) != string(first.FullChainPEM()) {
		t.Error("the command did not use the new file")
	}
	targetstest.WantOutcome(t, host.Deploy(t, exec.Kind{}, settings, first), targets.OutcomeUnchanged)

	targetstest.WriteFile(t, used+".refuse", "", 0o644)
	report = host.Deploy(t, exec.Kind{}, settings, ca.Issue(t, pki.ECDSAP256, "www.example.com"))
	if report.Outcome == targets.OutcomeDeployed || targetstest.ReadFile(t, used) != string(first.FullChainPEM()) {
		t.Errorf("%s: the old file is not in use again", report.Outcome)
	}
	shown := fmt.Sprintf("%+v", report)
	if strings.Contains(shown, "swordfish") || !strings.Contains(shown, "token is "+targets.Masked) {
		t.Errorf("the report: %s", shown)
	}
}
