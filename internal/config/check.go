package config

import (
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/certctl-io/certctl/internal/problem"
)

// minBootstrapKey is the length below which a preset credential is too easily
// guessed.
const minBootstrapKey = 24

// minPostgresConns is two connections that listen and two to work with, see
// internal/db.
const minPostgresConns = 4

// check finds the settings that cannot be used, alone or together. The types,
// ranges and closed sets are checked before, while a setting is read.
func (e *Effective) check() []*problem.Error {
	checks := []*problem.Error{
		e.checkDataDir(),
		e.checkDatabaseURL(),
		e.checkDatabasePassword(),
		e.checkDatabaseMaxConns(),
		checkAddress("listen", e.Listen),
		checkURL("public_url", e.PublicURL, "https", false),
		e.checkStatusListen(),
		checkURL("status_url", e.StatusURL, "http", true),
		e.checkTLSFiles(),
		e.checkHostnames(),
		e.checkEncryptionKey(),
		e.checkBootstrapKey(),
		e.checkBootstrapToken(),
	}
	var found []*problem.Error
	for _, p := range checks {
		if p != nil {
			found = append(found, p)
		}
	}
	return found
}

func (e *Effective) checkDataDir() *problem.Error {
	if e.DataDir == "" {
		return problem.Invalid("data_dir", "there is no default, because this user has no home directory").
			Hint("set CERTCTL_DATA_DIR to a directory that survives restarts")
	}
	return nil
}

// checkDatabaseURL never shows the URL or the error of its parser: it holds a
// password.
func (e *Effective) checkDatabaseURL() *problem.Error {
	text := e.DatabaseURL.Reveal()
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return problem.Invalid("database_url", "it is not the URL of a PostgreSQL database").
			Hint("write postgres://user:password@host:5432/database, with special characters of the password percent-encoded or the password in database_password, or leave it out for SQLite")
	}
	return nil
}

func (e *Effective) checkDatabasePassword() *problem.Error {
	if e.DatabasePassword.Empty() || !e.DatabaseURL.Empty() {
		return nil
	}
	return problem.Invalid("database_password", "it is set, but database_url is not").Hint("set both, or neither for SQLite")
}

func (e *Effective) checkDatabaseMaxConns() *problem.Error {
	if e.DatabaseURL.Empty() || e.DatabaseMaxConns == 0 || e.DatabaseMaxConns >= minPostgresConns {
		return nil
	}
	return problem.Invalid("database_max_conns", "%d is too few for PostgreSQL", e.DatabaseMaxConns).
		Hint("choose at least %d, or 0 for the default", minPostgresConns)
}

func checkAddress(key, address string) *problem.Error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || strings.ContainsAny(host, " /") {
		return problem.Invalid(key, "%q is not an address to listen on", address).
			Hint("write HOST:PORT, or :PORT for all interfaces, such as :8443 or 127.0.0.1:8443")
	}
	return nil
}

func (e *Effective) checkStatusListen() *problem.Error {
	if e.StatusListen == StatusOff {
		return nil
	}
	if p := checkAddress("status_listen", e.StatusListen); p != nil {
		return p.Hint("write HOST:PORT, or :PORT for all interfaces, such as :8080, or off")
	}
	if e.StatusListen == e.Listen && !strings.HasSuffix(e.Listen, ":0") {
		return problem.Invalid("status_listen", "%q is the address of the HTTPS listener as well", e.StatusListen).
			Hint("give the two listeners different ports")
	}
	return nil
}

// checkURL accepts an absolute URL of one scheme, and the empty one, which
// stands for a listener whose port the system has not chosen yet.
func checkURL(key, text, scheme string, pathAllowed bool) *problem.Error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	usable := err == nil && u.Scheme == scheme && u.Hostname() != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
	if usable && (pathAllowed || u.Path == "") {
		return nil
	}
	hint := "write " + scheme + "://HOST or " + scheme + "://HOST:PORT without anything after it"
	if pathAllowed {
		hint = "write " + scheme + "://HOST or " + scheme + "://HOST:PORT, with a path if need be"
	}
	return problem.Invalid(key, "%q is not a URL that can be used here", text).Hint("%s", hint)
}

func (e *Effective) checkTLSFiles() *problem.Error {
	switch {
	case e.TLSCertificate != "" && e.TLSKey == "":
		return problem.Invalid("tls_key", "it is not set, but tls_certificate is").Hint("set both, or neither for a self-made certificate")
	case e.TLSCertificate == "" && e.TLSKey != "":
		return problem.Invalid("tls_certificate", "it is not set, but tls_key is").Hint("set both, or neither for a self-made certificate")
	}
	return nil
}

// hostnamePattern is a DNS name with an optional wildcard in front. The
// underscore is tolerated because machines are named with it.
var hostnamePattern = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)

func (e *Effective) checkHostnames() *problem.Error {
	for _, name := range e.TLSHostnames {
		if net.ParseIP(name) == nil && (len(name) > 253 || !hostnamePattern.MatchString(name)) {
			return problem.Invalid("tls_hostnames", "%q is neither a DNS name nor an IP address", name).
				Hint("list names such as certctl.example.com or 192.0.2.1, without scheme and port")
		}
	}
	return nil
}

func (e *Effective) checkEncryptionKey() *problem.Error {
	if _, err := e.MasterKey(); err != nil {
		return problem.Invalid("encryption_key", "%v", err).Hint("make one with: openssl rand -base64 32")
	}
	return nil
}

func (e *Effective) checkBootstrapKey() *problem.Error {
	for _, key := range e.BootstrapAPIKeys() {
		if !goodBootstrap(key.Reveal()) {
			return problem.Invalid("bootstrap_api_key", "each key must have at least %d printable ASCII characters and no spaces", minBootstrapKey).
				Hint("make one with: openssl rand -base64 32")
		}
	}
	return nil
}

func (e *Effective) checkBootstrapToken() *problem.Error {
	if e.BootstrapEnrolmentToken.Empty() || goodBootstrap(e.BootstrapEnrolmentToken.Reveal()) {
		return nil
	}
	return problem.Invalid("bootstrap_enrolment_token", "it must have at least %d printable ASCII characters and no spaces", minBootstrapKey).
		Hint("make one with: openssl rand -base64 32")
}

// goodBootstrap reports whether a preset credential is long enough, and can be
// sent as it is.
func goodBootstrap(text string) bool {
	unusable := func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsGraphic(r) || r == ' ' }
	return len(text) >= minBootstrapKey && !strings.ContainsFunc(text, unusable)
}
