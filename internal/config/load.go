package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/certctl-io/certctl/internal/problem"
)

// Sources is everything that settings come from.
type Sources struct {
	Flags    Server   // as the command line filled it; only fields that Given names count
	Given    []string // names of the flags that were given, such as "data-dir"
	Environ  []string // NAME=value, as os.Environ gives it
	Hostname string   // of this machine, for the URLs and the self-made certificate
	Root     bool     // whether the process runs as root, for the default data directory
}

// CommandLine gives the sources of a running program: the parsed command line
// and what the operating system says.
func CommandLine(ctx *kong.Context, flags Server) Sources {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "localhost"
	}
	src := Sources{Flags: flags, Environ: os.Environ(), Hostname: hostname, Root: os.Geteuid() == 0}
	for _, element := range ctx.Path {
		if element.Flag != nil && !element.Resolved {
			src.Given = append(src.Given, element.Flag.Name)
		}
	}
	return src
}

// Kind says from which kind of source a value came.
type Kind string

// The kinds, from the weakest to the strongest.
const (
	FromDefault     Kind = "default"
	FromFile        Kind = "file"
	FromEnvironment Kind = "environment"
	FromFlag        Kind = "flag"
)

// Origin says where a value came from.
type Origin struct {
	Kind  Kind   `json:"kind"`
	Where string `json:"where,omitempty"` // the flag, the variable, or file and line
}

// String gives the origin as a person reads it, such as "environment
// CERTCTL_LISTEN".
func (o Origin) String() string {
	if o.Where == "" {
		return string(o.Kind)
	}
	return string(o.Kind) + " " + o.Where
}

// Effective is the settings in force, each with its origin.
type Effective struct {
	Server
	origins map[string]Origin // by setting name
}

// Load finds the value of every setting and checks it. The error holds every
// mistake that was found, not only the first; it never shows a secret.
func Load(src Sources) (*Effective, error) {
	l := &loader{src: src, environ: environMap(src.Environ), loaded: &Effective{origins: map[string]Origin{}}}
	l.problems = checkVariables(src.Environ)
	l.readFile()
	for _, s := range settings() {
		l.set(s)
	}
	if len(l.problems) == 0 {
		l.loaded.deriveDefaults(src, l.environ)
		l.problems = l.loaded.check()
	}
	if err := problem.Join(l.problems...); err != nil {
		return nil, err
	}
	return l.loaded, nil
}

type loader struct {
	src      Sources
	environ  map[string]string
	file     map[string]fileValue
	loaded   *Effective
	problems []*problem.Error
}

// readFile reads the YAML file when a flag or variable names one.
func (l *loader) readFile() {
	path, origin := l.environ[variablePrefix+"CONFIG"], variablePrefix+"CONFIG"
	if slices.Contains(l.src.Given, "config") {
		path, origin = l.src.Flags.Config, "--config"
	}
	if path == "" {
		return
	}
	data, err := os.ReadFile(path)
	if err != nil {
		reason := err
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			reason = pathErr.Err
		}
		l.problems = append(l.problems, problem.Invalid("config", "%s names %s, which cannot be read: %v", origin, path, reason).
			Hint("correct the path or the file's permissions"))
		return
	}
	values, problems := parseFile(path, data)
	l.file = values
	l.problems = append(l.problems, problems...)
}

// set gives one field its value from the strongest source that has one.
func (l *loader) set(s setting) {
	field := reflect.ValueOf(&l.loaded.Server).Elem().Field(s.index)
	texts, origin := l.lookup(s)
	l.loaded.origins[s.name] = origin
	var err *valueError
	switch {
	case origin.Kind == FromFlag:
		field.Set(reflect.ValueOf(l.src.Flags).Field(s.index))
	case texts != nil:
		err = parse(field, texts)
	}
	if err == nil && texts != nil && s.enum != nil && !slices.Contains(s.enum, texts[0]) {
		err = &valueError{"is not one of the possible values", "choose one of " + strings.Join(s.enum, ", ")}
	}
	if err == nil {
		err = s.checkRange(field)
	}
	if err != nil {
		shown := fmt.Sprint(field.Interface())
		if texts != nil {
			shown = strings.Join(texts, ", ")
		}
		l.problems = append(l.problems, s.invalid(origin, shown, err))
	}
}

// lookup gives the texts of a setting and where they stand; there are none
// for a flag, which the command line parsed already, and for a default that
// is computed. A variable that is set to nothing counts as not set.
func (l *loader) lookup(s setting) ([]string, Origin) {
	if slices.Contains(l.src.Given, s.name) {
		return nil, Origin{FromFlag, s.flag()}
	}
	if text := l.environ[s.variable()]; text != "" {
		return []string{text}, Origin{FromEnvironment, s.variable()}
	}
	if v, ok := l.file[s.key()]; ok {
		return v.texts, Origin{FromFile, v.where}
	}
	if s.fallback != "" {
		return []string{s.fallback}, Origin{Kind: FromDefault}
	}
	return nil, Origin{Kind: FromDefault}
}

// invalid makes the problem of one value. A secret is not repeated in it.
func (s setting) invalid(origin Origin, shown string, err *valueError) *problem.Error {
	if s.secret {
		return problem.Invalid(s.key(), "the value from %s %s", origin, err.wrong).Hint("%s", err.remedy)
	}
	return problem.Invalid(s.key(), "the value %q from %s %s", shown, origin, err.wrong).Hint("%s", err.remedy)
}

func environMap(environ []string) map[string]string {
	values := make(map[string]string, len(environ))
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		values[name] = value
	}
	return values
}
