package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
)

const (
	helpWidth  = 100 // lines are not longer, even on a wider terminal
	widestName = 28  // a longer name of a flag stands on a line of its own
)

// exitCodes is what the codes of exit.go mean, for help and docs.
func exitCodes() [][2]string {
	return [][2]string{
		{"0", "done"},
		{"1", "something unexpected went wrong"},
		{"2", "wrong command line, or input that the server refuses"},
		{"3", "the object does not exist"},
		{"4", "the object's state does not allow it, or it changed meanwhile"},
		{"5", "not logged in, not allowed, or a server that is not trusted"},
		{"6", "the server is away or busy; the same command may succeed later"},
		{"7", "what was waited for has failed"},
		{"8", "what was waited for did not come in time"},
		{"130", "interrupted with Ctrl-C"},
	}
}

// printHelp writes the help of a command, or of the program.
func printHelp(_ kong.HelpOptions, ctx *kong.Context) error {
	page := &helpPage{width: helpWidth}
	if file, ok := ctx.Stdout.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			page.width = min(width, helpWidth)
		}
	}
	if command := ctx.Selected(); command != nil {
		page.command(command)
	} else {
		page.program(ctx.Model)
	}
	_, err := io.WriteString(ctx.Stdout, page.String())
	return err
}

// helpPage is text in the making.
type helpPage struct {
	strings.Builder
	width int
}

func (p *helpPage) program(app *kong.Application) {
	fmt.Fprintf(p, "%s\n\nUsage: %s COMMAND [FLAGS]\n", app.Help, app.Name)
	for _, group := range commandGroups(app.Node) {
		p.section(group.title)
		p.columns(group.rows)
	}
	p.section("Flags of all commands")
	p.columns(flagRows(app.Flags))
	p.section("Exit codes")
	p.columns(exitCodes())
	fmt.Fprintf(p, "\n\"%s COMMAND --help\" tells more about a command, with examples.\n", app.Name)
}

func (p *helpPage) command(node *kong.Node) {
	fmt.Fprintf(p, "%s\n\nUsage: %s\n", node.Help, usage(node))
	p.prose(node.Detail)
	if rows := argumentRows(node); len(rows) > 0 {
		p.section("Arguments")
		p.columns(rows)
	}
	if len(node.Children) > 0 {
		p.section("Commands")
		var rows [][2]string
		for _, child := range visible(node) {
			rows = append(rows, [2]string{child.Name, child.Help})
		}
		p.columns(rows)
	}
	for _, group := range flagGroups(node) {
		p.section(group.title)
		p.columns(group.rows)
	}
	fmt.Fprintf(p, "\nFlags of all commands, such as --output and --context: certctl --help\n")
}

// prose wraps paragraphs and leaves indented lines, which are examples, alone.
func (p *helpPage) prose(text string) {
	for paragraph := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if paragraph == "" {
			continue
		}
		fmt.Fprintln(p)
		for _, line := range reflow(paragraph, p.width) {
			fmt.Fprintln(p, line)
		}
	}
}

func reflow(paragraph string, width int) []string {
	var lines []string
	plain := ""
	flush := func() {
		if plain != "" {
			lines = append(lines, wrap(plain, width)...)
		}
		plain = ""
	}
	for line := range strings.SplitSeq(paragraph, "\n") {
		if strings.HasPrefix(line, " ") {
			flush()
			lines = append(lines, line)
			continue
		}
		plain += " " + line
	}
	flush()
	return lines
}

func (p *helpPage) section(title string) { fmt.Fprintf(p, "\n%s\n", title) }

// columns writes names and what they mean, the meaning wrapped and aligned.
func (p *helpPage) columns(rows [][2]string) {
	width := 0
	for _, row := range rows {
		if n := utf8.RuneCountInString(row[0]); n <= widestName {
			width = max(width, n)
		}
	}
	indent := strings.Repeat(" ", width+4)
	for _, row := range rows {
		lines := wrap(row[1], p.width-len(indent))
		name := fmt.Sprintf("  %-*s  ", width, row[0])
		if utf8.RuneCountInString(row[0]) > width {
			fmt.Fprintf(p, "  %s\n", row[0])
			name = indent
		}
		fmt.Fprintln(p, strings.TrimRight(name+lines[0], " "))
		for _, line := range lines[1:] {
			fmt.Fprintln(p, indent+line)
		}
	}
}

// wrap breaks text at blanks; there is always a line.
func wrap(text string, width int) []string {
	lines := []string{""}
	for word := range strings.FieldsSeq(text) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case utf8.RuneCountInString(*last)+1+utf8.RuneCountInString(word) > width:
			lines = append(lines, word)
		default:
			*last += " " + word
		}
	}
	return lines
}

// helpGroup is a titled list of commands or flags.
type helpGroup struct {
	title string
	rows  [][2]string
}

func commandGroups(node *kong.Node) []helpGroup {
	var groups []helpGroup
	for _, child := range visible(node) {
		groups = inGroup(groups, child.Group, "Commands", [2]string{child.Name, child.Help})
	}
	return groups
}

func flagGroups(node *kong.Node) []helpGroup {
	var groups []helpGroup
	for _, flag := range node.Flags {
		if rows := flagRows([]*kong.Flag{flag}); len(rows) > 0 {
			groups = inGroup(groups, flag.Group, "Flags", rows[0])
		}
	}
	return groups
}

func inGroup(groups []helpGroup, group *kong.Group, title string, row [2]string) []helpGroup {
	if group != nil {
		title = group.Title
	}
	for i := range groups {
		if groups[i].title == title {
			groups[i].rows = append(groups[i].rows, row)
			return groups
		}
	}
	return append(groups, helpGroup{title, [][2]string{row}})
}

func visible(node *kong.Node) []*kong.Node {
	var children []*kong.Node
	for _, child := range node.Children {
		if !child.Hidden {
			children = append(children, child)
		}
	}
	return children
}

// commandPath is a command as it is typed, without its other names.
func commandPath(node *kong.Node) string {
	if node.Parent == nil {
		return node.Name
	}
	return commandPath(node.Parent) + " " + node.Name
}

// usage is a command with its arguments, as it is typed.
func usage(node *kong.Node) string {
	parts := []string{commandPath(node)}
	for _, flag := range node.Flags {
		if flag.Required {
			parts = append(parts, "--"+flag.Name+" "+placeholder(flag))
		}
	}
	if len(node.Children) > 0 {
		word := "COMMAND"
		if node.DefaultCmd != nil {
			word = "[COMMAND]"
		}
		parts = append(parts, word)
	}
	for _, argument := range node.Positional {
		parts = append(parts, argumentName(argument))
	}
	return strings.Join(append(parts, "[FLAGS]"), " ")
}

func argumentName(argument *kong.Positional) string {
	name := strings.ToUpper(argument.Name)
	if argument.IsCumulative() {
		name += "..."
	}
	if !argument.Required {
		name = "[" + name + "]"
	}
	return name
}

func argumentRows(node *kong.Node) [][2]string {
	var rows [][2]string
	for _, argument := range node.Positional {
		rows = append(rows, [2]string{argumentName(argument), argument.Help})
	}
	return rows
}

// flagRows gives each flag with its meaning, its default and its variable.
func flagRows(flags []*kong.Flag) [][2]string {
	var rows [][2]string
	for _, flag := range flags {
		if flag.Hidden {
			continue
		}
		name := "    --" + flag.Name
		if flag.Short != 0 {
			name = "-" + string(flag.Short) + ", --" + flag.Name
		}
		if !flag.IsBool() && !flag.IsCounter() {
			name += " " + placeholder(flag)
		}
		rows = append(rows, [2]string{name, flagMeaning(flag)})
	}
	return rows
}

func placeholder(flag *kong.Flag) string {
	if flag.PlaceHolder != "" {
		return flag.PlaceHolder
	}
	return strings.ToUpper(flag.Name[strings.LastIndex(flag.Name, "-")+1:])
}

func flagMeaning(flag *kong.Flag) string {
	meaning := flag.Help
	switch {
	case flag.Name == "help":
		meaning = "Show this help."
	case flag.Tag.Get("computed") != "":
		meaning += " By default " + flag.Tag.Get("computed") + "."
	case flag.HasDefault && flag.Default != "" && !flag.IsBool():
		meaning += " By default " + flag.Default + "."
	}
	if len(flag.Tag.Envs) > 0 {
		meaning += " Variable: " + strings.Join(flag.Tag.Envs, ", ") + "."
	}
	return meaning
}
