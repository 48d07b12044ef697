package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/certctl-io/certctl/internal/config"
	"github.com/certctl-io/certctl/internal/problem"
)

// sources are those of a machine on which nothing is set but these variables.
func sources(environ ...string) config.Sources {
	return config.Sources{Environ: append([]string{"HOME=/home/ops", "PATH=/bin"}, environ...), Hostname: "ca1.example.com"}
}

func load(t testing.TB, src config.Sources) *config.Effective {
	t.Helper()
	settings, err := config.Load(src)
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return settings
}

// refused gives the problems that stop a start.
func refused(t testing.TB, src config.Sources) []*problem.Error {
	t.Helper()
	_, err := config.Load(src)
	first, ok := problem.As(err)
	if !ok {
		t.Fatalf("load answers %v, want a problem", err)
	}
	if first.Kind != problem.KindInvalid {
		t.Errorf("kind %s, want invalid", first.Kind)
	}
	return append([]*problem.Error{first}, first.More...)
}

// yamlFile writes a configuration file that only its owner may read.
func yamlFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// origin gives where the value of a setting came from.
func origin(t testing.TB, settings *config.Effective, key string) config.Origin {
	t.Helper()
	for _, v := range settings.Values() {
		if v.Name == key {
			return v.Origin
		}
	}
	t.Fatalf("there is no setting %s", key)
	return config.Origin{}
}
