package agentcmd

import (
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/certctl-io/certctl/internal/agent"
	"github.com/certctl-io/certctl/internal/targets/kinds"
	"github.com/certctl-io/certctl/internal/version"
)

// runCmd runs the agent.
type runCmd struct {
	joinFlags
	LogLevel  string `env:"CERTCTL_AGENT_LOG_LEVEL" enum:"debug,info,warn,error" default:"info" placeholder:"LEVEL" help:"What is logged: debug, info, warn or error. Default: ${default}."`
	LogFormat string `env:"CERTCTL_AGENT_LOG_FORMAT" enum:"auto,text,json" default:"auto" placeholder:"FORMAT" help:"How it is logged: text, json, or auto for text on a terminal and json elsewhere. Default: ${default}."`
}

// Help is the long help of the command.
func (runCmd) Help() string {
	return `The log goes to the standard error. On SIGTERM or Ctrl-C deployments under way come to their end first; a second Ctrl-C ends the agent at
once, which loses nothing either.

With --server the agent enrols at its first start, as "certctl-agent enroll" does. An agent that has joined needs none of these flags.

Examples:
  certctl-agent run
  CERTCTL_AGENT_TOKEN=cet_... certctl-agent run --server https://certctl.example.com:8443 --ca-sha256 5f3c...`
}

// Run runs the agent.
func (c runCmd) Run(s *session) error {
	if err := c.checkState(); err != nil {
		return err
	}
	log, err := c.logger(s.err)
	if err != nil {
		return err
	}
	if c.Server != "" {
		enrolment, err := c.enrolment(s.in)
		if err != nil {
			return err
		}
		err = join(s.ctx, enrolment, func(err error, again time.Duration) {
			log.WarnContext(s.ctx, "the agent cannot join yet", "error", err, "again_in", again)
		})
		if err != nil {
			return err
		}
	}
	a, err := agent.New(agent.Config{
		StateDir: c.State, Kinds: kinds.All(), Stores: kinds.Stores(), CAFile: c.CAFile,
		Version: version.String(), Logger: log, Now: time.Now,
	})
	if err != nil {
		return err
	}
	return a.Run(s.ctx)
}

func (c runCmd) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return nil, err
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: legible}
	file, isFile := w.(*os.File)
	if c.LogFormat == "text" || c.LogFormat == "auto" && isFile && term.IsTerminal(int(file.Fd())) {
		return slog.New(slog.NewTextHandler(w, options)), nil
	}
	return slog.New(slog.NewJSONHandler(w, options)), nil
}

// legible writes durations as people do, in both formats.
func legible(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().Round(time.Millisecond).String())
	}
	return a
}
