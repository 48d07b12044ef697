package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/certctl-io/certctl/internal/problem"
)

// connection is one server as "certctl login" keeps it.
type connection struct {
	URL      string `yaml:"url"`
	CASHA256 string `yaml:"ca_sha256,omitempty"`
	CAFile   string `yaml:"ca_file,omitempty"`
	APIKey   string `yaml:"api_key"`
}

// contextFile is ~/.config/certctl/config.yaml: the servers by name, and which
// one is meant when none is named.
type contextFile struct {
	Current  string                `yaml:"current"`
	Contexts map[string]connection `yaml:"contexts"`
}

// contextPath is where the file stands: $XDG_CONFIG_HOME, else ~/.config.
func contextPath() (string, error) {
	dir := os.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", problem.Invalid("", "there is no home directory to keep the login in").Hint("set HOME or XDG_CONFIG_HOME")
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "certctl", "config.yaml"), nil
}

// readContexts reads the file; a missing one is empty.
func readContexts() (contextFile, error) {
	var f contextFile
	path, err := contextPath()
	if err != nil {
		return f, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, fmt.Errorf("read the contexts: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return f, problem.Invalid("", "%s holds API keys, and others may read it (mode %04o)", path, info.Mode().Perm()).
			Hint("chmod 600 %s", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return f, fmt.Errorf("read the contexts: %w", err)
	}
	if err := yaml.Unmarshal(data, &f); err != nil {
		return f, problem.Invalid("", "%s is not a file of contexts: %v", path, err).Hint("mend it, or remove it and log in again")
	}
	return f, nil
}

// write replaces the file as a whole, readable by its owner only.
func (f contextFile) write() error {
	path, err := contextPath()
	if err != nil {
		return err
	}
	data, err := yaml.Marshal(f)
	if err != nil {
		return fmt.Errorf("write the contexts: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write the contexts: %w", err)
	}
	// CreateTemp makes the file with mode 0600.
	temporary, err := os.CreateTemp(filepath.Dir(path), ".config-*.yaml")
	if err != nil {
		return fmt.Errorf("write the contexts: %w", err)
	}
	defer func() { _ = os.Remove(temporary.Name()) }()
	_, err = temporary.Write(data)
	if err := errors.Join(err, temporary.Close()); err != nil {
		return fmt.Errorf("write the contexts: %w", err)
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return fmt.Errorf("write the contexts: %w", err)
	}
	return nil
}

func (f contextFile) names() []string { return slices.Sorted(maps.Keys(f.Contexts)) }

func (f contextFile) find(name string) (connection, error) {
	c, ok := f.Contexts[name]
	switch {
	case ok:
		return c, nil
	case name == "":
		return c, problem.NotFound("login", "default").Hint("certctl login URL makes one")
	case len(f.Contexts) == 0:
		return c, problem.NotFound("login", name).Hint("certctl login URL makes one")
	default:
		return c, problem.NotFound("login", name).Hint("there are %s", strings.Join(f.names(), ", "))
	}
}

// with adds a login, or replaces it, and makes it the current one.
func (f contextFile) with(name string, c connection) contextFile {
	contexts := maps.Clone(f.Contexts)
	if contexts == nil {
		contexts = map[string]connection{}
	}
	contexts[name] = c
	return contextFile{Current: name, Contexts: contexts}
}

// without forgets a login. The only one that is left becomes the current one;
// among several a person chooses.
func (f contextFile) without(name string) contextFile {
	rest := contextFile{Current: f.Current, Contexts: maps.Clone(f.Contexts)}
	delete(rest.Contexts, name)
	if rest.Current == name {
		rest.Current = ""
		if names := rest.names(); len(names) == 1 {
			rest.Current = names[0]
		}
	}
	return rest
}
