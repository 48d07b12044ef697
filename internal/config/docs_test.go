package config_test

import (
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/certctl-io/certctl/internal/config"
)

// page is the file that "make docs" writes.
const page = "../../docs/configuration.md"

var update = flag.Bool("update", false, "write docs/configuration.md instead of comparing it")

func TestTheSettingsPageIsUpToDate(t *testing.T) {
	t.Parallel()
	if *update {
		if err := os.WriteFile(page, []byte(config.Docs()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != config.Docs() {
		t.Error("docs/configuration.md is not what the code says; run: make docs")
	}
}

func TestEverySettingIsDescribed(t *testing.T) {
	t.Parallel()
	docs := config.Docs()
	for i, server := 0, reflect.TypeFor[config.Server](); i < server.NumField(); i++ {
		field := server.Field(i)
		name, help := field.Tag.Get("name"), field.Tag.Get("help")
		if name == "" || !strings.HasSuffix(help, ".") || field.Tag.Get("group") == "" {
			t.Errorf("%s needs a name, a group, and help that ends with a full stop", field.Name)
		}
		if (field.Tag.Get("default") == "") == (field.Tag.Get("computed") == "") {
			t.Errorf("%s needs one of the tags default and computed", field.Name)
		}
		if strings.ContainsAny(help+field.Tag.Get("computed"), "|\n") {
			t.Errorf("%s: its help would break the table of the page", field.Name)
		}
		variable := "CERTCTL_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		if !strings.Contains(docs, "`"+variable+"`") || !strings.Contains(docs, help) {
			t.Errorf("the page does not describe %s", name)
		}
		if strings.HasPrefix(variable, "CERTCTL_AGENT_") {
			t.Errorf("%s begins like a variable of the agent, which the server leaves unread", variable)
		}
	}
}

func TestTheDefaultsCanBeUsed(t *testing.T) {
	t.Parallel()
	for _, v := range load(t, sources()).Values() {
		if v.Origin.Kind != config.FromDefault {
			t.Errorf("%s comes from %s on a machine where nothing is set", v.Name, v.Origin)
		}
	}
}
