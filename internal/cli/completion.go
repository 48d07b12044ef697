package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	// A person waits with a finger on the Tab key.
	completionTimeout = 2 * time.Second
	mostCompletions   = 200
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is the long help of the command.
func (completionCmd) Help() string {
	return `Commands, flags and the names of objects on the server are completed.

Examples:
  source <(certctl completion bash)                                      # in ~/.bashrc
  source <(certctl completion zsh)                                       # in ~/.zshrc, after compinit
  certctl completion fish > ~/.config/fish/completions/certctl.fish`
}

// Run prints the script.
func (c completionCmd) Run(s *session) error {
	script := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[c.Shell]
	_, err := fmt.Fprint(s.out, script)
	return err
}

const bashCompletion = `# certctl completion for bash
_certctl() {
    local IFS=$'\n'
    COMPREPLY=($(certctl __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _certctl certctl
`

const zshCompletion = `#compdef certctl
_certctl() {
    local -a found
    found=("${(@f)$(certctl __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then
        compadd -- "${found[@]}"
    else
        _files
    fi
}
compdef _certctl certctl
`

const fishCompletion = `# certctl completion for fish
function __certctl_complete
    set -l words (commandline -opc) (commandline -ct)
    certctl __complete -- $words[2..-1] 2>/dev/null
end
complete -c certctl -f -a '(__certctl_complete)'
`

// completeCmd is what the scripts call: the words after certctl, the last of
// which is being typed.
type completeCmd struct {
	Words []string `arg:"" optional:"" passthrough:""`
}

// Run prints what the last word could become, a line each. What goes wrong is
// not worth an error in the middle of a command line.
func (c completeCmd) Run(s *session, parser *kong.Kong) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	ctx, cancel := context.WithTimeout(s.ctx, completionTimeout)
	defer cancel()
	s.ctx = ctx
	for _, candidate := range complete(s, parser.Model.Node, joinEquals(words)) {
		fmt.Fprintln(s.out, candidate)
	}
	return nil
}

// joinEquals drops the equals signs that bash makes words of, so that
// "--output = json" reads like "--output json".
func joinEquals(words []string) []string {
	var joined []string
	for i, word := range words {
		if word != "=" {
			joined = append(joined, word)
		} else if i == len(words)-1 {
			joined = append(joined, "")
		}
	}
	return joined
}

// place is where in a command line the cursor stands.
type place struct {
	node      *kong.Node
	flags     []*kong.Flag // of the node and of all above it
	arguments []string     // given so far
	pending   *kong.Flag   // whose value comes next
}

func (p *place) take(word string) {
	switch {
	case p.pending != nil:
		p.pending = nil
	case strings.HasPrefix(word, "-"):
		if flag := p.flag(word); flag != nil && !flag.IsBool() && !flag.IsCounter() {
			p.pending = flag
		}
	default:
		if child := childNamed(p.node, word); child != nil {
			p.node = child
			p.flags = append(p.flags, child.Flags...)
			return
		}
		p.arguments = append(p.arguments, word)
	}
}

func (p *place) flag(word string) *kong.Flag {
	for _, flag := range p.flags {
		if word == "--"+flag.Name || flag.Short != 0 && word == "-"+string(flag.Short) {
			return flag
		}
	}
	return nil
}

func childNamed(node *kong.Node, word string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == word || slices.Contains(child.Aliases, word) {
			return child
		}
	}
	return nil
}

// complete gives what the last word could become.
func complete(s *session, root *kong.Node, words []string) []string {
	last := ""
	if len(words) > 0 {
		last = words[len(words)-1]
		words = words[:len(words)-1]
	}
	p := &place{node: root, flags: slices.Clone(root.Flags)}
	for _, word := range words {
		p.take(word)
	}
	name, _, isAssigned := strings.Cut(last, "=")
	var candidates []string
	switch {
	case p.pending != nil:
		candidates = valuesOf(s, p.pending.Value, p.arguments)
	case isAssigned && strings.HasPrefix(name, "--") && p.flag(name) != nil:
		for _, value := range valuesOf(s, p.flag(name).Value, p.arguments) {
			candidates = append(candidates, name+"="+value)
		}
	case strings.HasPrefix(last, "-"):
		for _, flag := range p.flags {
			if !flag.Hidden {
				candidates = append(candidates, "--"+flag.Name)
			}
		}
	default:
		candidates = p.next(s)
	}
	return slices.DeleteFunc(candidates, func(c string) bool { return !strings.HasPrefix(c, last) })
}

// next gives the commands, and the values of the argument, that may follow.
func (p *place) next(s *session) []string {
	var candidates []string
	if len(p.arguments) == 0 {
		for _, child := range visible(p.node) {
			candidates = append(candidates, child.Name)
		}
	}
	if len(p.node.Positional) == 0 {
		return candidates
	}
	index := min(len(p.arguments), len(p.node.Positional)-1)
	if argument := p.node.Positional[index]; index == len(p.arguments) || argument.IsCumulative() {
		candidates = append(candidates, valuesOf(s, argument, p.arguments)...)
	}
	return candidates
}

// valuesOf gives the possible values of a flag or an argument: a closed set, or
// names that the server knows.
func valuesOf(s *session, value *kong.Value, arguments []string) []string {
	if value.Enum != "" {
		return value.EnumSlice()
	}
	what := value.Tag.Get("complete")
	switch what {
	case "":
		return nil
	case "kind":
		var names []string
		for _, k := range kindsOfObjects() {
			names = append(names, k.name)
		}
		return names
	case "context":
		file, _ := readContexts()
		return file.names()
	case "object":
		k, _, err := object{Kind: arguments[0], Name: "any"}.find()
		if err != nil {
			return nil
		}
		what = k.name
	}
	names, _ := s.namesOf(what)
	return names
}

// namesOf asks the server for names of objects.
func (s *session) namesOf(what string) ([]string, error) {
	api, err := s.connect()
	if err != nil {
		return nil, err
	}
	path, found := map[string]string{
		"certificate": "certificates", "order": "orders", "deployment": "deployments", "target": "targets",
		"agent": "agents", "profile": "profiles", "issuer": "issuers", "target-kind": "target-kinds",
	}[what]
	if !found {
		return nil, problem.NotFound("list", what)
	}
	named, err := take(client.List[struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}](s.ctx, api, client.Path(path), nil), mostCompletions)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range named {
		if n.Name == "" {
			n.Name = n.ID
		}
		names = append(names, n.Name)
	}
	return names, nil
}
