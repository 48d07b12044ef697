package agentcmd

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/certctl-io/certctl/internal/agent"
	"github.com/certctl-io/certctl/internal/problem"
)

// Exit codes: those of certctl. Service managers depend on them.
const (
	exitOK          = 0
	exitInternal    = 1
	exitUsage       = 2
	exitConflict    = 4
	exitAccess      = 5
	exitTemporary   = 6
	exitInterrupted = 130
)

const exitHelp = `
Exit codes:
    0  done; for run: stopped on request
    1  something unexpected
    2  wrong command line or setting
    4  not enrolled, enrolled elsewhere, or another agent works with the state directory
    5  the server refuses this agent or its token, or has revoked it; starting again does not help
    6  the server is away, busy or not trusted; the same call may succeed later
  130  interrupted
`

func exitCode(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	switch problem.KindOf(err) {
	case problem.KindInvalid, problem.KindTooLarge:
		return exitUsage
	case problem.KindConflict, problem.KindStale, problem.KindNotFound:
		return exitConflict
	case problem.KindForbidden, problem.KindUnauthenticated:
		return exitAccess
	case problem.KindTemporary:
		return exitTemporary
	default:
		return exitInternal
	}
}

// printError writes an error for a person: what is wrong, and what to do.
func printError(w io.Writer, err error) {
	p, isProblem := problem.As(err)
	switch {
	case errors.Is(err, context.Canceled):
		printProblem(w, "", "interrupted", "")
	case errors.Is(err, agent.ErrRevoked) && isProblem:
		printProblem(w, "", p.Message, "enrol this host as a new agent: certctl-agent enroll --force, with a new enrolment token and another --name")
	case isProblem:
		for _, one := range append([]*problem.Error{p}, p.More...) {
			printProblem(w, one.Field, one.Message, one.Remedy)
		}
	default:
		printProblem(w, "", err.Error(), "")
	}
}

func printProblem(w io.Writer, field, message, remedy string) {
	if field != "" {
		message = field + ": " + message
	}
	fmt.Fprintf(w, "certctl-agent: %s\n", message)
	if remedy != "" {
		fmt.Fprintf(w, "  hint: %s\n", remedy)
	}
}
