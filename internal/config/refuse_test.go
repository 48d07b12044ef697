package config_test

import (
	"strings"
	"testing"

	"github.com/certctl-io/certctl/internal/config"
)

// secretText must never stand in a message.
const secretText = "hunter2-hunter2"

func TestWhatCannotBeUsedIsNamedWithItsRemedy(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		environ              []string
		field, wrong, remedy string
	}{
		"a misspelt variable":           {[]string{"CERTCTL_LISTN=:1"}, "CERTCTL_LISTN", "reads no variable", "did you mean CERTCTL_LISTEN?"},
		"a variable of nothing":         {[]string{"CERTCTL_COLOUR=blue"}, "CERTCTL_COLOUR", "reads no variable", "remove it"},
		"a service of Kubernetes":       {[]string{"CERTCTL_WEB_SERVICE_HOST=10.0.0.1"}, "CERTCTL_WEB_SERVICE_HOST", "reads no variable", "enableServiceLinks: false"},
		"no number":                     {[]string{"CERTCTL_QUEUE_WORKERS=many"}, "queue_workers", `"many" from environment CERTCTL_QUEUE_WORKERS is not a whole number`, "digits only"},
		"a number out of range":         {[]string{"CERTCTL_QUEUE_WORKERS=0"}, "queue_workers", "out of range", "from 1 to 10000"},
		"a number that overflows":       {[]string{"CERTCTL_QUEUE_WORKERS=99999999999999999999"}, "queue_workers", "not a whole number", "digits only"},
		"no rate":                       {[]string{"CERTCTL_RATE_LIMIT_RPS=NaN"}, "rate_limit_rps", "not a number", "0.5"},
		"a duration without a unit":     {[]string{"CERTCTL_POLL_WAIT=30"}, "poll_wait", "not a duration", "such as 30s"},
		"a duration that is too long":   {[]string{"CERTCTL_POLL_WAIT=6m"}, "poll_wait", "out of range", "from 1s to 55s"},
		"a size without a unit":         {[]string{"CERTCTL_BODY_LIMIT=1048576"}, "body_limit", "not a size", "1MiB"},
		"a size that is too small":      {[]string{"CERTCTL_BODY_LIMIT=1KiB"}, "body_limit", "out of range", "from 16KiB to 64MiB"},
		"a size that overflows":         {[]string{"CERTCTL_BODY_LIMIT=99999999999GiB"}, "body_limit", "not a size", "1MiB"},
		"not one of the values":         {[]string{"CERTCTL_LOG_LEVEL=verbose"}, "log_level", "not one of the possible values", "debug, info, warn, error"},
		"an old TLS version":            {[]string{"CERTCTL_TLS_MIN_VERSION=1.0"}, "tls_min_version", "not one of the possible values", "1.2, 1.3"},
		"an address without a port":     {[]string{"CERTCTL_LISTEN=localhost"}, "listen", "not an address", "HOST:PORT"},
		"a port that is none":           {[]string{"CERTCTL_LISTEN=:70000"}, "listen", "not an address", "HOST:PORT"},
		"a status address":              {[]string{"CERTCTL_STATUS_LISTEN=none"}, "status_listen", "not an address", "or off"},
		"one address for two listeners": {[]string{"CERTCTL_STATUS_LISTEN=:8443"}, "status_listen", "HTTPS listener as well", "different ports"},
		"a public URL without TLS":      {[]string{"CERTCTL_PUBLIC_URL=http://pki.example.com"}, "public_url", "not a URL", "https://HOST"},
		"a public URL with a path":      {[]string{"CERTCTL_PUBLIC_URL=https://pki.example.com/certctl"}, "public_url", "not a URL", "without anything after it"},
		"a status URL with TLS":         {[]string{"CERTCTL_STATUS_URL=https://pki.example.com"}, "status_url", "not a URL", "http://HOST"},
		"a certificate without a key":   {[]string{"CERTCTL_TLS_CERTIFICATE=/tls.crt"}, "tls_key", "not set", "set both"},
		"a key without a certificate":   {[]string{"CERTCTL_TLS_KEY=/tls.key"}, "tls_certificate", "not set", "set both"},
		"a name that is a URL":          {[]string{"CERTCTL_TLS_HOSTNAMES=https://a.example"}, "tls_hostnames", "neither a DNS name nor an IP address", "without scheme"},
		"an empty entry of a list":      {[]string{"CERTCTL_TLS_HOSTNAMES=a.example,,b.example"}, "tls_hostnames", "empty entry", "single commas"},
		"a short master key":            {[]string{"CERTCTL_ENCRYPTION_KEY=" + secretText}, "encryption_key", "32 bytes", "openssl rand -base64 32"},
		"a short admin key":             {[]string{"CERTCTL_BOOTSTRAP_API_KEY=" + secretText}, "bootstrap_api_key", "at least 24", "openssl rand -base64 32"},
		"a short enrolment token":       {[]string{"CERTCTL_BOOTSTRAP_ENROLMENT_TOKEN=" + secretText}, "bootstrap_enrolment_token", "at least 24", "openssl rand -base64 32"},
		"an enrolment token in words":   {[]string{"CERTCTL_BOOTSTRAP_ENROLMENT_TOKEN=" + secretText + " and some more words"}, "bootstrap_enrolment_token", "no spaces", "openssl rand -base64 32"},
		"a password for no database":    {[]string{"CERTCTL_DATABASE_PASSWORD=" + secretText}, "database_password", "database_url is not", "set both"},
		"a way to ask Kubernetes":       {[]string{"CERTCTL_KUBERNETES_TOKEN_REVIEW=yes"}, "kubernetes_token_review", "not one of the possible values", "auto, on, off"},
		"a wait that is too long":       {[]string{"CERTCTL_DATABASE_WAIT=1h"}, "database_wait", "out of range", "0s to 30m"},
		"a database of another kind":    {[]string{"CERTCTL_DATABASE_URL=mysql://u:" + secretText + "@h/d"}, "database_url", "not the URL of a PostgreSQL", "postgres://"},
		"a database URL that is none":   {[]string{"CERTCTL_DATABASE_URL=postgres://u:" + secretText + "%@h/d"}, "database_url", "not the URL of a PostgreSQL", "percent-encoded"},
		"too few connections":           {[]string{"CERTCTL_DATABASE_URL=postgres://h/d", "CERTCTL_DATABASE_MAX_CONNS=3"}, "database_max_conns", "too few", "at least 4"},
		"a file that is not there":      {[]string{"CERTCTL_CONFIG=/nowhere/server.yaml"}, "config", "/nowhere/server.yaml, which cannot be read", "correct the path"},
		"no home directory":             {[]string{"HOME="}, "data_dir", "no home directory", "set CERTCTL_DATA_DIR"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := refused(t, sources(test.environ...))
			if len(found) != 1 {
				t.Fatalf("%d problems, want 1: %v", len(found), found)
			}
			p := found[0]
			if p.Field != test.field || !strings.Contains(p.Message, test.wrong) || !strings.Contains(p.Remedy, test.remedy) {
				t.Errorf("%s, want field %q, %q and the remedy %q", p, test.field, test.wrong, test.remedy)
			}
			if strings.Contains(p.Error(), secretText) {
				t.Errorf("the message shows the secret: %s", p)
			}
		})
	}
}

func TestEveryMistakeIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	path := yamlFile(t, "listn: :1\nlog_level: loud\n")
	src := sources("CERTCTL_CONFIG="+path, "CERTCTL_POLL_WAIT=soon", "CERTCTL_DATA_DUR=/srv")
	src.Flags.QueueWorkers, src.Given = -1, []string{"queue-workers"}
	var fields []string
	for _, p := range refused(t, src) {
		fields = append(fields, p.Field)
	}
	for _, want := range []string{"CERTCTL_DATA_DUR", "listn", "log_level", "poll_wait", "queue_workers"} {
		if !strings.Contains(" "+strings.Join(fields, " ")+" ", " "+want+" ") {
			t.Errorf("%s is not among the problems %v", want, fields)
		}
	}
	if len(fields) != 5 {
		t.Errorf("%d problems, want 5: %v", len(fields), fields)
	}
}

func TestMistakesInTheFileNameTheLine(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, field, wrong string }{
		"unknown key":    {"listen: :1\nlisten_adress: :2\n", "listen_adress", "no such setting (%s:2)"},
		"key twice":      {"listen: :1\nlisten: :2\n", "listen", "at %s:1 and at %s:2"},
		"names a file":   {"config: other.yaml\n", "config", "no such setting (%s:1)"},
		"nested":         {"listen:\n  port: 1\n", "listen", "the value at %s:1 is a mapping"},
		"list for one":   {"listen: [\":1\", \":2\"]\n", "listen", "from file %s:1 is a list"},
		"nested list":    {"tls_hostnames: [[a]]\n", "tls_hostnames", "the value at %s:1 has an entry"},
		"wrong value":    {"\n\nqueue_workers: x\n", "queue_workers", "from file %s:3 is not a whole number"},
		"not YAML":       {"listen: [\n", "config", "%s is not YAML"},
		"not a mapping":  {"- listen\n", "config", "%s is not a mapping"},
		"a flag's words": {"data-dir: /srv\n", "data-dir", "no such setting (%s:1)"},
	} {
		path := yamlFile(t, test.text)
		found := refused(t, sources("CERTCTL_CONFIG="+path))
		want := strings.ReplaceAll(test.wrong, "%s", path)
		if len(found) != 1 || found[0].Field != test.field || !strings.Contains(found[0].Message, want) {
			t.Errorf("%s: %v, want field %q and %q", name, found, test.field, want)
		}
	}
}

func TestVariablesOfTheClientAndTheAgentAreLeftAlone(t *testing.T) {
	t.Parallel()
	load(t, sources("CERTCTL_URL=https://h", "CERTCTL_API_KEY=k", "CERTCTL_CA_SHA256=f", "CERTCTL_CONTEXT=c", "CERTCTL_AGENT_STATE=/s", "NOTCERTCTL_X=1"))
}

func FuzzTheFileIsReadOrRefused(f *testing.F) {
	f.Add("listen: :1\n")
	f.Add("tls_hostnames: [a, &x b, *x]\nlog_level: ~\n")
	f.Add("? [a]\n: b\n")
	f.Fuzz(func(t *testing.T, text string) {
		settings, err := config.Load(sources("CERTCTL_CONFIG=" + yamlFile(t, text)))
		if (settings == nil) == (err == nil) {
			t.Errorf("settings %v and error %v", settings, err)
		}
	})
}
