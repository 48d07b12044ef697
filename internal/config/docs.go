package config

import (
	"fmt"
	"strings"
)

const docsHead = `# Settings of the server

<!-- Made from internal/config by "make docs". Edit the tags there. -->

Nothing needs to be set: ` + "`certctl server`" + ` starts as it is.

Each setting can be given in three ways, the stronger first:

1. a flag: ` + "`certctl server --listen :9443`" + `
2. an environment variable: ` + "`CERTCTL_LISTEN=:9443`" + `
3. a key of a YAML file that ` + "`--config FILE`" + ` or ` + "`CERTCTL_CONFIG`" + ` names: ` + "`listen: :9443`" + `

The flag has the name of the key with dashes: ` + "`data_dir`" + ` is ` + "`--data-dir`" + `. A variable or key that is set to nothing counts as
not set. Lists are separated by commas, in the file they may be YAML lists. Durations are written like ` + "`30s`" + ` or ` + "`1m30s`" + `, sizes
like ` + "`512KiB`" + ` or ` + "`1MiB`" + `.

Secrets belong in the file or in a variable: a command line can be read by every user of the machine. The start warns about a file that
holds a secret and that everybody may read.

An unknown ` + "`CERTCTL_*`" + ` variable, an unknown key, or a value that cannot be used stops the start with a message that names it.
` + "`certctl config`" + ` prints the settings in force and where each comes from, with secrets masked; ` + "`certctl config -o json`" + ` does so for
programs. Variables of the client commands (` + "%s" + `) and of the agent (` + "`CERTCTL_AGENT_*`" + `) are left alone.
`

// Docs gives the text of docs/configuration.md.
func Docs() string {
	var b strings.Builder
	fmt.Fprintf(&b, docsHead, "`"+strings.Join(clientVariables(), "`, `")+"`")
	group := ""
	for _, s := range settings() {
		if s.group != group {
			group = s.group
			fmt.Fprintf(&b, "\n## %s\n\n| key | variable | default | meaning |\n| --- | --- | --- | --- |\n", group)
		}
		key := "`" + s.key() + "`"
		if !s.inFile() {
			key = "(`" + s.flag() + "`)"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", key, s.variable(), s.docsDefault(), s.docsMeaning())
	}
	return b.String()
}

func (s setting) docsDefault() string {
	if s.fallback != "" {
		return "`" + s.fallback + "`"
	}
	return s.computed
}

func (s setting) docsMeaning() string {
	text := s.help
	if s.min != "" {
		text += fmt.Sprintf(" From %s to %s.", s.min, s.max)
	}
	if s.secret {
		text += " *Secret.*"
	}
	return text
}
