package config_test

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/certctl-io/certctl/internal/config"
	"github.com/certctl-io/certctl/internal/secret"
)

func TestNothingNeedsToBeSet(t *testing.T) {
	t.Parallel()
	got := load(t, sources()).Server
	want := config.Server{
		DataDir: "/home/ops/.local/state/certctl", Listen: ":8443", PublicURL: "https://ca1.example.com:8443",
		RateLimitRPS: 100, RateLimitBurst: 200, BodyLimit: 1 << 20, PollWait: 30 * time.Second,
		TLSHostnames: []string{"localhost", "ca1.example.com", "127.0.0.1", "::1"}, TLSMinVersion: "1.3",
		StatusListen: ":8080", StatusURL: "http://ca1.example.com:8080", CRLShardSize: 10_000, CAOrganization: "certctl",
		DatabaseWait: 30 * time.Second, KubernetesTokenReview: "auto", KubernetesAudience: "certctl",
		LogLevel: "info", LogFormat: "auto", QueueWorkers: 100, ShutdownTimeout: 30 * time.Second,
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(secret.String{})); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	if got.MinTLSVersion() != tls.VersionTLS13 {
		t.Errorf("TLS version %x, want 1.3", got.MinTLSVersion())
	}
}

func TestTheDataDirectoryFitsTheUser(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		src  config.Sources
		want string
	}{
		"root":              {config.Sources{Root: true, Environ: []string{"HOME=/root"}}, "/var/lib/certctl"},
		"user":              {config.Sources{Environ: []string{"HOME=/home/ops"}}, "/home/ops/.local/state/certctl"},
		"user of XDG":       {config.Sources{Environ: []string{"HOME=/home/ops", "XDG_STATE_HOME=/state"}}, "/state/certctl"},
		"XDG not absolute":  {config.Sources{Environ: []string{"HOME=/home/ops", "XDG_STATE_HOME=state"}}, "/home/ops/.local/state/certctl"},
		"set by a variable": {config.Sources{Root: true, Environ: []string{"CERTCTL_DATA_DIR=/srv/ca"}}, "/srv/ca"},
	} {
		test.src.Hostname = "ca1"
		if got := load(t, test.src).DataDir; got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestAFlagWinsOverAVariableOverTheFileOverTheDefault(t *testing.T) {
	t.Parallel()
	path := yamlFile(t, "listen: :1\nstatus_listen: :2\nlog_level: debug\n")
	src := sources("CERTCTL_CONFIG="+path, "CERTCTL_LISTEN=:3", "CERTCTL_STATUS_LISTEN=:4")
	src.Flags.Listen, src.Given = ":5", []string{"listen"}
	settings := load(t, src)
	for key, want := range map[string]struct {
		value, got string
		origin     string
	}{
		"listen":        {":5", settings.Listen, "flag --listen"},
		"status_listen": {":4", settings.StatusListen, "environment CERTCTL_STATUS_LISTEN"},
		"log_level":     {"debug", settings.LogLevel, "file " + path + ":3"},
		"log_format":    {"auto", settings.LogFormat, "default"},
	} {
		if want.got != want.value {
			t.Errorf("%s is %q, want %q", key, want.got, want.value)
		}
		if got := origin(t, settings, key).String(); got != want.origin {
			t.Errorf("%s comes from %q, want %q", key, got, want.origin)
		}
	}
}

func TestTheFileNamedByAFlagWinsOverTheOneOfTheVariable(t *testing.T) {
	t.Parallel()
	src := sources("CERTCTL_CONFIG=" + yamlFile(t, "listen: :1\n"))
	src.Flags.Config, src.Given = yamlFile(t, "listen: :2\n"), []string{"config"}
	if got := load(t, src).Listen; got != ":2" {
		t.Errorf("listen is %q, want that of the flag's file", got)
	}
}

func TestWhatIsSetToNothingCountsAsNotSet(t *testing.T) {
	t.Parallel()
	path := yamlFile(t, "log_level:\npublic_url: \"\"\n")
	settings := load(t, sources("CERTCTL_CONFIG="+path, "CERTCTL_LISTEN="))
	if settings.Listen != ":8443" || settings.LogLevel != "info" || settings.PublicURL != "https://ca1.example.com:8443" {
		t.Errorf("listen %q, log level %q, public URL %q, want the defaults", settings.Listen, settings.LogLevel, settings.PublicURL)
	}
}

func TestFlagsOfTheCommandLineAreSeenOnlyWhenGiven(t *testing.T) {
	t.Parallel()
	var flags config.Server
	parser, err := kong.New(&flags)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.Parse([]string{"--data-dir=/srv/certctl", "--tls-hostnames=a.example,b.example", "--body-limit=2MiB", "--shutdown-timeout=5s"})
	if err != nil {
		t.Fatal(err)
	}
	src := config.CommandLine(parsed, flags)
	if diff := cmp.Diff([]string{"data-dir", "tls-hostnames", "body-limit", "shutdown-timeout"}, src.Given); diff != "" {
		t.Errorf("flags given (-want +got):\n%s", diff)
	}
	src.Environ = nil
	settings := load(t, src)
	if settings.BodyLimit != 2<<20 || settings.ShutdownTimeout != 5*time.Second || strings.Join(settings.TLSHostnames, " ") != "a.example b.example" {
		t.Errorf("body limit %s, stop %s, names %v", settings.BodyLimit, settings.ShutdownTimeout, settings.TLSHostnames)
	}
}

func TestValuesInTheFileMayBeListsOrTexts(t *testing.T) {
	t.Parallel()
	want := []string{"certctl.example.com", "192.0.2.1"}
	for _, text := range []string{
		"tls_hostnames: certctl.example.com, 192.0.2.1\ntls_min_version: 1.2\n",
		"tls_hostnames:\n  - certctl.example.com\n  - 192.0.2.1\ntls_min_version: \"1.2\"\n",
	} {
		settings := load(t, sources("CERTCTL_CONFIG="+yamlFile(t, text)))
		if diff := cmp.Diff(want, settings.TLSHostnames); diff != "" {
			t.Errorf("%q: names (-want +got):\n%s", text, diff)
		}
		if settings.MinTLSVersion() != tls.VersionTLS12 {
			t.Errorf("%q: TLS version %x, want 1.2", text, settings.MinTLSVersion())
		}
	}
}

func TestTheURLsFollowTheListeners(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		environ                     []string
		publicURL, statusURL, names string
	}{
		"the scheme's own ports": {[]string{"CERTCTL_LISTEN=:443", "CERTCTL_STATUS_LISTEN=:80"}, "https://ca1.example.com", "http://ca1.example.com", "localhost ca1.example.com 127.0.0.1 ::1"},
		"a host":                 {[]string{"CERTCTL_LISTEN=192.0.2.1:8443", "CERTCTL_STATUS_LISTEN=off"}, "https://192.0.2.1:8443", "", "localhost ca1.example.com 192.0.2.1 127.0.0.1 ::1"},
		"all interfaces":         {[]string{"CERTCTL_LISTEN=[::]:8443"}, "https://ca1.example.com:8443", "http://ca1.example.com:8080", "localhost ca1.example.com 127.0.0.1 ::1"},
		"a port of the system":   {[]string{"CERTCTL_LISTEN=:0", "CERTCTL_STATUS_LISTEN=:0"}, "", "", "localhost ca1.example.com 127.0.0.1 ::1"},
		"a slash at the end":     {[]string{"CERTCTL_PUBLIC_URL=https://pki.example.com", "CERTCTL_STATUS_URL=http://pki.example.com/status/"}, "https://pki.example.com", "http://pki.example.com/status", "localhost ca1.example.com pki.example.com 127.0.0.1 ::1"},
	} {
		settings := load(t, sources(test.environ...))
		if settings.PublicURL != test.publicURL || settings.StatusURL != test.statusURL {
			t.Errorf("%s: %q and %q, want %q and %q", name, settings.PublicURL, settings.StatusURL, test.publicURL, test.statusURL)
		}
		if got := strings.Join(settings.TLSHostnames, " "); got != test.names {
			t.Errorf("%s: names %q, want %q", name, got, test.names)
		}
	}
}
