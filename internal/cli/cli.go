// Package cli is the certctl command line: commands over the API's client, and
// the entry to the server.
//
// Each command is a struct: its fields are its arguments and flags, its Run
// does the work with a session. What all commands share stands in few places:
// how to reach the server in session.go, how objects are shown in resource.go
// and columns.go, how errors end in exit.go. Results go to standard output;
// progress, questions and errors to standard error, so that pipes stay clean.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/certctl-io/certctl/internal/config"
	"github.com/certctl-io/certctl/internal/problem"
)

// ServerFunc runs the server until the context ends. It stands outside this
// package, which knows no feature.
type ServerFunc func(ctx context.Context, settings *config.Effective, stdout io.Writer) error

// commands is the whole command line.
type commands struct {
	globals

	Login    loginCmd    `cmd:"" group:"start" help:"Log in to a server."`
	Logout   logoutCmd   `cmd:"" group:"start" help:"Forget a login."`
	Contexts contextsCmd `cmd:"" group:"start" help:"List logins and choose one."`

	Issue     issueCmd     `cmd:"" group:"certificates" help:"Make a certificate and put it on its targets."`
	Renew     renewCmd     `cmd:"" group:"certificates" help:"Get a new version of a certificate now."`
	Deploy    deployCmd    `cmd:"" group:"certificates" help:"Put a certificate on its targets again."`
	Revoke    revokeCmd    `cmd:"" group:"certificates" help:"Revoke a certificate."`
	Archive   archiveCmd   `cmd:"" group:"certificates" help:"End a certificate: it is not renewed any more."`
	Unarchive unarchiveCmd `cmd:"" group:"certificates" help:"Take an archived certificate back."`
	Wait      waitCmd      `cmd:"" group:"certificates" help:"Wait until a certificate, an order or a deployment is done."`
	Chain     chainCmd     `cmd:"" group:"certificates" help:"Print the CA certificates of an issuer."`
	Get       getCmd       `cmd:"" group:"look" help:"Show one object."`
	List      listCmd      `cmd:"" group:"look" help:"List objects."`
	Describe  describeCmd  `cmd:"" group:"look" help:"Tell the whole story of an object, with its timeline."`

	Apply       applyCmd       `cmd:"" group:"manage" help:"Make the server match YAML files."`
	Agents      agentsCmd      `cmd:"" group:"manage" help:"Agents: list, label, rename, revoke."`
	Targets     targetsCmd     `cmd:"" group:"manage" help:"Targets: list, create, update, delete."`
	Tokens      tokensCmd      `cmd:"" group:"manage" help:"Enrolment tokens, with which agents join."`
	Orders      ordersCmd      `cmd:"" group:"manage" help:"Orders: list, retry, cancel."`
	Deployments deploymentsCmd `cmd:"" group:"manage" help:"Deployments: list, retry."`
	Jobs        jobsCmd        `cmd:"" group:"manage" help:"Background jobs: list, retry, cancel."`
	Keys        keysCmd        `cmd:"" group:"manage" help:"API keys: list, create, revoke."`

	Ping       pingCmd       `cmd:"" group:"server" help:"Wait until a server is ready and answers."`
	Server     serverCmd     `cmd:"" group:"server" help:"Run the server."`
	Backup     backupCmd     `cmd:"" group:"server" help:"Back up a server while it runs."`
	Restore    restoreCmd    `cmd:"" group:"server" help:"Bring a server back from a backup."`
	Config     configCmd     `cmd:"" group:"server" help:"Print the settings of the server in force and where each comes from."`
	Completion completionCmd `cmd:"" group:"server" help:"Print the completion script of a shell."`
	Version    versionCmd    `cmd:"" group:"server" help:"Print the version."`

	Complete completeCmd `cmd:"" name:"__complete" hidden:""`
}

// Main runs the command line and returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer, server ServerFunc) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second Ctrl-C ends the program at once.
	context.AfterFunc(ctx, stop)

	err := run(ctx, args, stdin, stdout, stderr, server)
	if err != nil {
		printError(stderr, err)
	}
	return exitCode(err)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, server ServerFunc) error {
	var c commands
	helped := false
	parser, err := newParser(&c, stdout, stderr, func(int) { helped = true })
	if err != nil {
		return fmt.Errorf("command line: %w", err)
	}
	switch {
	case len(args) == 0:
		args = []string{"--help"}
	case args[0] == "--version": // as it is asked of other programs
		args[0] = "version"
	}
	parsed, err := parser.Parse(args)
	if helped {
		return nil
	}
	if err != nil {
		return usageError(err)
	}
	s := &session{
		globals: c.globals, ctx: ctx, in: stdin, now: time.Now,
		out: newScreen(stdout, c.NoColor), err: newScreen(stderr, c.NoColor),
	}
	if s.Timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, s.Timeout)
		defer cancel()
		s.ctx = limited
	}
	return parsed.Run(s, parser, server)
}

func newParser(c *commands, stdout, stderr io.Writer, exit func(int)) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("certctl"),
		kong.Description("certctl issues certificates, puts them where they are served, proves it, and renews them in time."),
		kong.Writers(stdout, stderr),
		kong.Exit(exit),
		kong.Help(printHelp),
		kong.ExplicitGroups([]kong.Group{
			{Key: "start", Title: "Start"},
			{Key: "certificates", Title: "Certificates"},
			{Key: "look", Title: "Look"},
			{Key: "manage", Title: "Manage"},
			{Key: "server", Title: "Server and program"},
			{Key: "target", Title: "A target for it, made together with it"},
		}),
	)
}

// usageError is a command line that cannot be understood.
func usageError(err error) error {
	command := "certctl"
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context.Selected() != nil {
		command = commandPath(parse.Context.Selected())
	}
	return problem.Invalid("", "%v", err).Hint("%s --help", command)
}
