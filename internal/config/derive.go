package config

import (
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// deriveDefaults fills in the defaults that depend on the machine and on other
// settings.
func (e *Effective) deriveDefaults(src Sources, environ map[string]string) {
	if e.DataDir == "" {
		e.DataDir = defaultDataDir(src.Root, environ)
	}
	if e.PublicURL == "" {
		e.PublicURL = BaseURL("https", src.Hostname, e.Listen)
	}
	if e.StatusURL == "" && e.StatusListen != StatusOff {
		e.StatusURL = BaseURL("http", src.Hostname, e.StatusListen)
	}
	e.PublicURL = strings.TrimSuffix(e.PublicURL, "/")
	e.StatusURL = strings.TrimSuffix(e.StatusURL, "/")
	if len(e.TLSHostnames) == 0 {
		e.TLSHostnames = defaultHostnames(src.Hostname, e.PublicURL)
	}
}

// defaultDataDir follows the Filesystem Hierarchy Standard for root and the
// XDG Base Directory Specification for others. It is empty when a user without
// a home directory sets none.
func defaultDataDir(root bool, environ map[string]string) string {
	switch {
	case root:
		return "/var/lib/certctl"
	case filepath.IsAbs(environ["XDG_STATE_HOME"]):
		return filepath.Join(environ["XDG_STATE_HOME"], "certctl")
	case filepath.IsAbs(environ["HOME"]):
		return filepath.Join(environ["HOME"], ".local", "state", "certctl")
	default:
		return ""
	}
}

// BaseURL gives the URL of a listener: its own host when the address names
// one, else hostname, and no port where it is the scheme's own. While the port
// is still 0, that is until the system has chosen one, it gives "".
func BaseURL(scheme, hostname, address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "0" {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = hostname
	}
	u := url.URL{Scheme: scheme, Host: net.JoinHostPort(host, port)}
	if scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	}
	return u.String()
}

// defaultHostnames are the names by which clients may reach the server.
func defaultHostnames(hostname, publicURL string) []string {
	names := []string{"localhost", strings.ToLower(hostname)}
	if u, err := url.Parse(publicURL); err == nil {
		names = append(names, strings.ToLower(u.Hostname()))
	}
	names = append(names, "127.0.0.1", "::1")
	var unique []string
	for _, name := range names {
		if name != "" && !slices.Contains(unique, name) {
			unique = append(unique, name)
		}
	}
	return unique
}
