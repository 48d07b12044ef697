// Package agentcmd is the command line of certctl-agent.
package agentcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/version"
)

// variables begins the names of the environment variables.
const variables = "CERTCTL_AGENT_"

// commands is the whole command line.
type commands struct {
	Enroll  enrollCmd  `cmd:"" help:"Join a server."`
	Run     runCmd     `cmd:"" help:"Work for the server, until stopped."`
	Status  statusCmd  `cmd:"" help:"Show who this agent is, and whether it runs and reaches its server."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// session is what the commands share.
type session struct {
	ctx      context.Context
	in       io.Reader
	out, err io.Writer
}

// stateFlag says where the agent keeps what it must remember.
type stateFlag struct {
	State string `env:"CERTCTL_AGENT_STATE" default:"${state}" placeholder:"DIR" help:"Directory of the agent's identity and keys; it must survive restarts. Default: ${state}."`
}

// versionCmd prints the version.
type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(s *session) error {
	_, err := fmt.Fprintln(s.out, "certctl-agent", version.String())
	return err
}

// Main runs the command line and returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second Ctrl-C ends the program at once.
	context.AfterFunc(ctx, stop)

	err := run(&session{ctx: ctx, in: stdin, out: stdout, err: stderr}, args)
	if err != nil {
		printError(stderr, err)
	}
	return exitCode(err)
}

func run(s *session, args []string) error {
	helped := false
	parser, err := kong.New(&commands{},
		kong.Name("certctl-agent"),
		kong.Description("certctl-agent makes the keys of this host's certificates, which never leave it, and puts the certificates where they are served."),
		kong.Writers(s.out, s.err),
		kong.Exit(func(int) { helped = true }),
		kong.Help(printHelp),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 110}),
		kong.Vars{"state": defaultState(os.Geteuid(), os.LookupEnv)},
	)
	if err != nil {
		return fmt.Errorf("command line: %w", err)
	}
	if err := checkVariables(parser.Model, os.Environ()); err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if helped {
		return nil
	}
	if err != nil {
		return usageError(err)
	}
	return parsed.Run(s)
}

// printHelp adds the exit codes to the help of the program.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	err := kong.DefaultHelpPrinter(options, ctx)
	if err != nil || ctx.Selected() != nil {
		return err
	}
	_, err = io.WriteString(ctx.Stdout, exitHelp)
	return err
}

// usageError is a command line that cannot be understood.
func usageError(err error) error {
	command := "certctl-agent"
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context.Selected() != nil {
		command += " " + parse.Context.Selected().Name
	}
	return problem.Invalid("", "%v", err).Hint("%s --help", command)
}

// checkVariables refuses a variable that looks like a setting and is none, as
// it is most likely a misspelt one.
func checkVariables(model *kong.Application, environ []string) error {
	var known []string
	for _, command := range model.Leaves(false) {
		for _, flag := range command.Flags {
			known = append(known, flag.Envs...)
		}
	}
	slices.Sort(known)
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, variables) && !slices.Contains(known, name) {
			return problem.Invalid(name, "there is no such setting").Hint("it can be %s", strings.Join(slices.Compact(known), ", "))
		}
	}
	return nil
}

// defaultState is the system's place for the state of services for root, and
// the user's own for others (XDG Base Directory Specification).
func defaultState(uid int, lookup func(string) (string, bool)) string {
	const name = "certctl-agent"
	if uid == 0 {
		return filepath.Join("/var/lib", name)
	}
	if dir, _ := lookup("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, name)
	}
	if home, _ := lookup("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", name)
	}
	return ""
}
