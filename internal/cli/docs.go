package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

const docsHead = `# The command line

<!-- Made from internal/cli by "make docs". Edit the help texts there. -->

` + "`certctl`" + ` is the server and the command line in one program. ` + "`certctl --help`" + ` lists the commands, ` + "`certctl COMMAND --help`" + ` tells
about one, with examples. This page is the same in one piece.

## Logging in

` + "```" + `
certctl login https://certctl.example.com:8443
` + "```" + `

It asks for the API key without showing it, or reads it from standard input or from ` + "`CERTCTL_API_KEY`" + `; there is no flag for it, as
other users of a machine see the flags of a process. When this machine does not trust the CA of the server, the fingerprint
is shown and asked about: compare it with the one that the server printed when it started, or give it with ` + "`--ca-sha256`" + `.

Logins are kept in ` + "`$XDG_CONFIG_HOME/certctl/config.yaml`" + `, or ` + "`~/.config/certctl/config.yaml`" + `, with mode 0600. With several servers, give
each login a name with ` + "`--as`" + `, choose one with ` + "`certctl contexts use NAME`" + `, or for one command with ` + "`--context NAME`" + `.

In CI nothing needs to be stored:

| variable | meaning |
| --- | --- |
| ` + "`CERTCTL_URL`" + ` | the server |
| ` + "`CERTCTL_API_KEY`" + ` | the API key |
| ` + "`CERTCTL_API_KEY_FILE`" + ` | a file with the API key |
| ` + "`CERTCTL_CA_SHA256`" + ` | SHA-256 fingerprint of the server's CA |
| ` + "`CERTCTL_CA_FILE`" + ` | a PEM file with the server's CA |
| ` + "`CERTCTL_CONTEXT`" + ` | the login to use |
| ` + "`NO_COLOR`" + ` | when set, print without colours |

The key and the CA of a login are used for its own URL only, never for another one.

## Output

Results go to standard output; questions, progress and errors to standard error. ` + "`-o table`" + ` (the default) and ` + "`-o wide`" + ` are for
people and may change; ` + "`-o json`" + ` and ` + "`-o yaml`" + ` give what the API gives; ` + "`-o name`" + ` gives a name or id a line, for ` + "`xargs`" + `. Colours are
used, and long values cut, on terminals only.

## Exit codes

| code | meaning |
| --- | --- |
`

const docsApply = `
## Files for apply

` + "`certctl apply -f FILE`" + ` makes the server match YAML files and may be repeated: a second time it changes nothing. A document
describes one object:

` + "```yaml" + `
kind: Profile            # Profile, Certificate or Target
name: web
spec:                    # the fields of the API
  key_types: [ecdsa-p256]
  max_lifetime: 90d
  names:
    dns: ["**.example.com"]
---
kind: Certificate
name: www.example.com
spec:
  names: [www.example.com, example.com]
  profile: web
  tags: {team: web}
  renewal: {auto: true, before: 30d}
---
kind: Target
name: web-1-nginx
spec:
  agent: web-1
  kind: nginx
  certificate: www.example.com
  settings:
    certificate: /etc/nginx/tls/www.crt
    key: /etc/nginx/tls/www.key
    probe: {address: "127.0.0.1:443"}
` + "```" + `

The rules:

- Profiles are made first, then certificates, then targets, whatever their order in the files.
- A target names its certificate. A certificate does not list its targets here, so that the two cannot contradict each other.
- A field that a file leaves out keeps its value; a field that is set to nothing is emptied. Lists and mappings are compared and
  written as a whole. Objects that are in no file are left alone: nothing is ever deleted.
- Objects are named by their names, not by their ids.
- An unknown field, a field that stands twice, or a value of the wrong form stops everything, with file and line, before the
  server is asked.
- The agent and the kind of a target cannot change.
- Secret settings, such as the password of a PKCS#12 file, are not shown by the server, so that a change of theirs alone is not
  noticed: ` + "`--write-secrets`" + ` writes them again.
- An object that somebody else changed between plan and change is not overwritten: the command ends with exit code 4.
`

// Docs gives the text of docs/cli.md.
func Docs() (string, error) {
	parser, err := newParser(&commands{}, io.Discard, io.Discard, func(int) {})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(docsHead)
	for _, code := range exitCodes() {
		fmt.Fprintf(&b, "| %s | %s |\n", code[0], code[1])
	}
	b.WriteString(docsApply)
	b.WriteString("\n## Commands\n\n### Flags of all commands\n\n")
	writeDocsTable(&b, "flag", flagRows(parser.Model.Flags))
	for _, command := range visible(parser.Model.Node) {
		writeDocsCommand(&b, command)
	}
	return b.String(), nil
}

func writeDocsCommand(b *strings.Builder, node *kong.Node) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n```\n%s\n```\n", commandPath(node), node.Help, usage(node))
	writeDocsDetail(b, node.Detail)
	if rows := argumentRows(node); len(rows) > 0 {
		b.WriteString("\n")
		writeDocsTable(b, "argument", rows)
	}
	// The settings of the server have a page of their own.
	if node.Name == "server" || node.Name == "config" {
		b.WriteString("\nThe flags are the settings in [configuration.md](configuration.md).\n")
		return
	}
	if groups := flagGroups(node); len(groups) > 0 {
		b.WriteString("\n")
		var rows [][2]string
		for _, group := range groups {
			rows = append(rows, group.rows...)
		}
		writeDocsTable(b, "flag", rows)
	}
	for _, child := range visible(node) {
		writeDocsCommand(b, child)
	}
}

// writeDocsDetail writes paragraphs as they are, and indented lines as code.
func writeDocsDetail(b *strings.Builder, detail string) {
	for paragraph := range strings.SplitSeq(strings.TrimSpace(detail), "\n\n") {
		if paragraph == "" {
			continue
		}
		code := false
		b.WriteString("\n")
		for line := range strings.SplitSeq(paragraph, "\n") {
			if indented := strings.HasPrefix(line, "  "); indented != code {
				b.WriteString(map[bool]string{true: "\n```\n", false: "```\n"}[indented])
				code = indented
			}
			b.WriteString(strings.TrimPrefix(line, "  ") + "\n")
		}
		if code {
			b.WriteString("```\n")
		}
	}
}

func writeDocsTable(b *strings.Builder, title string, rows [][2]string) {
	fmt.Fprintf(b, "| %s | meaning |\n| --- | --- |\n", title)
	for _, row := range rows {
		fmt.Fprintf(b, "| `%s` | %s |\n", strings.TrimSpace(row[0]), strings.ReplaceAll(row[1], "|", `\|`))
	}
}
