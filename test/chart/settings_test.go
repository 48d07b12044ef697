package chart

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// programDir holds the programs while the tests run.
var programDir string

// buildPrograms builds certctl and certctl-agent for the tests that ask them.
var buildPrograms = sync.OnceValue(func() error {
	build := exec.Command("go", "build", "-o", programDir+"/", "./cmd/...")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
})

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "certctl-chart-")
	if err != nil {
		panic(err)
	}
	programDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir) // only a test's leavings
	os.Exit(code)
}

// environ is what a container finds in its environment.
func environ(t *testing.T, out rendered, template corev1.PodTemplateSpec, secrets map[string]map[string]string) map[string]string {
	t.Helper()
	env := map[string]string{}
	container := template.Spec.Containers[0]
	for _, from := range container.EnvFrom {
		for name, value := range decode[map[string]string](t, out.one(t, "ConfigMap", from.ConfigMapRef.Name).at("data")) {
			env[name] = value
		}
	}
	for _, e := range container.Env {
		if e.ValueFrom == nil {
			env[e.Name] = e.Value
			continue
		}
		ref := e.ValueFrom.SecretKeyRef
		if ref == nil {
			env[e.Name] = "a-field"
			continue
		}
		if theirs, ok := secrets[ref.Name]; ok {
			if value, ok := theirs[ref.Key]; ok {
				env[e.Name] = value
			} else if ref.Optional == nil || !*ref.Optional {
				t.Errorf("%s needs the key %s of %s", e.Name, ref.Key, ref.Name)
			}
			continue
		}
		text, _ := out.one(t, "Secret", ref.Name).at("data", ref.Key).(string)
		value, err := base64.StdEncoding.DecodeString(text)
		if err != nil || text == "" {
			t.Errorf("%s: the Secret %s has no key %s: %v", e.Name, ref.Name, ref.Key, err)
		}
		env[e.Name] = string(value)
	}
	return env
}

// call runs one of the programs with an environment and nothing else.
func call(t *testing.T, env map[string]string, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	if err := buildPrograms(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(programDir, name), args...)
	command.Env = []string{} // not the test's own
	for key, value := range env {
		command.Env = append(command.Env, key+"="+value)
	}
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := command.Run(); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), code
}

// theirs are the Secrets that operators bring in tests.
var theirs = map[string]map[string]string{
	"certctl-keys":     {"api-key": apiKey, "encryption-key": apiKey, "enrollment-token": apiKey},
	"certctl-database": {"url": "postgres://certctl@db.example.com/certctl", "password": password},
	"database":         {"url": "postgres://certctl@db.example.com/certctl"},
}

// installations are values with which the programs are asked whether they know
// what they are told.
func installations(t *testing.T) map[string]map[string]any {
	t.Helper()
	all := examples(t)
	all["least"], all["external"], all["existing"] = values(t, installed), values(t, external), values(t, existing)
	all["several keys"] = values(t, installed, []string{"server.auth.apiKey=" + apiKey + ", " + strings.ToLower(apiKey)})
	all["status off"] = values(t, installed, []string{"server.status.enabled=false"})
	return all
}

func TestTheServerReadsEverySettingThatItIsGiven(t *testing.T) {
	t.Parallel()
	for name, v := range installations(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := mustRender(t, release{}, v)
			template := decode[corev1.PodTemplateSpec](t, out.one(t, "Deployment", "certctl-server").at("spec", "template"))
			env := environ(t, out, template, theirs)
			stdout, stderr, code := call(t, env, "certctl", "config", "-o", "json")
			if code != 0 {
				t.Fatalf("the server would not start:\n%s", stderr)
			}
			var settings []struct {
				Variable string                `json:"variable"`
				Origin   struct{ Kind string } `json:"origin"`
			}
			if err := json.Unmarshal([]byte(stdout), &settings); err != nil {
				t.Fatal(err)
			}
			read := map[string]bool{}
			for _, s := range settings {
				read[s.Variable] = s.Origin.Kind == "environment"
			}
			for variable := range env {
				if strings.HasPrefix(variable, "CERTCTL_") && !read[variable] {
					t.Errorf("the server does not read %s", variable)
				}
			}
		})
	}
}

func TestTheAgentKnowsEverySettingThatItIsGiven(t *testing.T) {
	t.Parallel()
	for name, v := range installations(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := mustRender(t, release{}, v)
			kind := "DaemonSet"
			if out.kinds()[kind] == 0 {
				kind = "Deployment"
			}
			template := decode[corev1.PodTemplateSpec](t, out.one(t, kind, "certctl-agent").at("spec", "template"))
			env := environ(t, out, template, theirs)
			env["CERTCTL_AGENT_STATE"] = t.TempDir()
			if _, stderr, code := call(t, env, "certctl-agent", "status"); code != 4 {
				t.Errorf("exit code %d instead of 4, not enrolled:\n%s", code, stderr)
			}
		})
	}
}

func TestTheCommandOfHelmTestExists(t *testing.T) {
	t.Parallel()
	if help, stderr, code := call(t, nil, "certctl", "ping", "--help"); code != 0 || !strings.Contains(help, "--agents") {
		t.Errorf("exit code %d, and no --agents: %s%s", code, stderr, help)
	}
}

func TestAnyTextReachesTheContainer(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"quotes": `a "b" 'c' \d`, "lines": "one\ntwo\n", "dollars": "$HOME $(HOME) $$", "yaml": "{a: b} # c", "spaces": "  x ", "number": "007",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := values(t, installed)
			put(v, "server.env", map[string]any{"CERTCTL_CA_ORGANIZATION": text})
			put(v, "agent.env", map[string]any{"CERTCTL_AGENT_LABELS": text})
			put(v, "postgresql.auth.password", text)
			out := mustRender(t, release{}, v)
			for workload, variable := range map[string]string{
				"Deployment certctl-server": "CERTCTL_CA_ORGANIZATION", "DaemonSet certctl-agent": "CERTCTL_AGENT_LABELS", "StatefulSet certctl-postgres": "POSTGRES_PASSWORD",
			} {
				kind, name, _ := strings.Cut(workload, " ")
				template := decode[corev1.PodTemplateSpec](t, out.one(t, kind, name).at("spec", "template"))
				if got := environ(t, out, template, nil)[variable]; got != text {
					t.Errorf("%s has %s=%q instead of %q", workload, variable, got, text)
				}
			}
		})
	}
}

func TestNumbersKeepTheirForm(t *testing.T) {
	t.Parallel()
	v := values(t, installed, []string{"server.rateLimiting.burst=1000000", "server.env.CERTCTL_CRL_SHARD_SIZE=1000000", "postgresql.postgresqlConfig.max_wal_size=10000000"})
	if out := mustRender(t, release{}, v); strings.Contains(out.text, "e+0") {
		t.Error("a number is written with an exponent")
	}
}

func TestTheMasterKeyIsKeptAndNeverTheAPIKey(t *testing.T) {
	t.Parallel()
	secret := func(sets ...string) map[string]string {
		return decode[map[string]string](t, mustRender(t, release{}, values(t, installed, sets)).one(t, "Secret", "certctl-server").at("data"))
	}
	first, again := secret(), secret("server.auth.apiKey="+apiKey+","+strings.ToLower(apiKey))
	for _, name := range []string{"CERTCTL_ENCRYPTION_KEY", "CERTCTL_BOOTSTRAP_ENROLMENT_TOKEN"} {
		text, err := base64.StdEncoding.DecodeString(first[name])
		if err != nil || len(text) < 24 || strings.Contains(string(text), apiKey) {
			t.Errorf("%s is %q", name, text)
		}
		if first[name] != again[name] {
			t.Errorf("%s changes with a second API key", name)
		}
	}
	text, _ := base64.StdEncoding.DecodeString(first["CERTCTL_ENCRYPTION_KEY"])
	if key, err := base64.StdEncoding.Strict().DecodeString(string(text)); err != nil || len(key) != 32 {
		t.Errorf("the master key is not 32 bytes: %v", err)
	}
}

func TestAlertsAndDashboardNameMetricsThatExist(t *testing.T) {
	t.Parallel()
	var sources strings.Builder
	for _, dir := range []string{"internal/app", "internal/telemetry"} {
		files, err := filepath.Glob(root + dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sources.Write(text)
		}
	}
	out := mustRender(t, release{}, examples(t)["production"])
	named := out.one(t, "ConfigMap", "certctl-dashboard").at("data", "certctl.json").(string)
	rules, err := json.Marshal(out.one(t, "PrometheusRule", "certctl-server"))
	if err != nil {
		t.Fatal(err)
	}
	metrics := regexp.MustCompile(`\bcertctl_[a-z_]+\b`).FindAllString(named+string(rules), -1)
	if len(metrics) < 8 {
		t.Fatalf("only %v", metrics)
	}
	for _, metric := range metrics {
		if metric = strings.TrimSuffix(metric, "_bucket"); !strings.Contains(sources.String(), `"`+metric+`"`) {
			t.Errorf("no metric is called %s", metric)
		}
	}
}

func TestTheServicesOfComposeKnowTheirSettings(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(root + "deploy/compose/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Environment map[string]string `json:"environment"`
		} `json:"services"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	filled := regexp.MustCompile(`\$\{[A-Z_]+(:-([^}]*)|:\?[^}]*)\}`)
	for service, expected := range map[string]struct {
		program []string
		code    int
	}{
		"server": {[]string{"certctl", "config"}, 0},
		"agent":  {[]string{"certctl-agent", "status"}, 4}, // it is not enrolled
	} {
		env := map[string]string{"CERTCTL_AGENT_STATE": t.TempDir()}
		for name, value := range file.Services[service].Environment {
			env[name] = filled.ReplaceAllStringFunc(value, func(reference string) string {
				if _, standard, ok := strings.Cut(reference, ":-"); ok {
					return strings.TrimSuffix(standard, "}")
				}
				return apiKey
			})
		}
		if _, stderr, code := call(t, env, expected.program[0], expected.program[1:]...); code != expected.code || len(env) < 4 {
			t.Errorf("%s: exit code %d with %d variables: %s", service, code, len(env), stderr)
		}
	}
}
