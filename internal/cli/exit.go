package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/problem"
)

// Exit codes. They are documented in docs/cli.md; scripts depend on them.
const (
	exitOK          = 0
	exitInternal    = 1   // something unexpected
	exitUsage       = 2   // wrong command line or invalid input
	exitNotFound    = 3   // the object does not exist
	exitConflict    = 4   // its state does not allow it, or it changed meanwhile
	exitAccess      = 5   // not logged in, not allowed, or a server that is not trusted
	exitTemporary   = 6   // the server is away or busy; the same call may succeed later
	exitFailed      = 7   // what was waited for has failed
	exitTimeout     = 8   // what was waited for did not come in time
	exitInterrupted = 130 // Ctrl-C
)

// failedError says that what a command waited for ended badly.
type failedError struct{ message, remedy string }

func (e *failedError) Error() string { return e.message }

// timeoutError says that a command's time ran out, and on what.
type timeoutError struct{ message, remedy string }

func (e *timeoutError) Error() string { return e.message }

// exitCode gives the code of an error.
func exitCode(err error) int {
	var failed *failedError
	var timeout *timeoutError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &failed):
		return exitFailed
	case errors.As(err, &timeout), errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	switch problem.KindOf(err) {
	case problem.KindInvalid, problem.KindTooLarge:
		return exitUsage
	case problem.KindNotFound:
		return exitNotFound
	case problem.KindConflict, problem.KindStale:
		return exitConflict
	case problem.KindForbidden, problem.KindUnauthenticated:
		return exitAccess
	case problem.KindTemporary:
		return exitTemporary
	default:
		return exitInternal
	}
}

// printError writes an error for a person: what is wrong, what to do, and what
// to tell an operator who looks into the server's log.
func printError(w io.Writer, err error) {
	var failed *failedError
	var timeout *timeoutError
	var api *client.Error
	p, isProblem := problem.As(err)
	switch {
	case errors.As(err, &failed):
		printProblem(w, "", failed.message, failed.remedy)
	case errors.As(err, &timeout):
		printProblem(w, "", timeout.message, timeout.remedy)
	case errors.Is(err, context.Canceled):
		printProblem(w, "", "interrupted", "")
	case errors.Is(err, context.DeadlineExceeded):
		printProblem(w, "", "the time is up and the server has not answered", "give more time with --timeout")
	case isProblem:
		for _, one := range append([]*problem.Error{p}, p.More...) {
			message := one.Message
			if one.Kind == problem.KindInternal && one.Cause != nil {
				message += ": " + one.Cause.Error()
			}
			printProblem(w, one.Field, message, one.Remedy)
		}
	default:
		printProblem(w, "", err.Error(), "")
	}
	if errors.As(err, &api) && api.RequestID != "" {
		fmt.Fprintf(w, "  request: %s\n", api.RequestID)
	}
}

func printProblem(w io.Writer, field, message, remedy string) {
	if field != "" {
		message = field + ": " + message
	}
	fmt.Fprintf(w, "certctl: %s\n", message)
	if remedy != "" {
		fmt.Fprintf(w, "  hint: %s\n", remedy)
	}
}

// reason is why a file cannot be used, without its path, which the message
// names already.
func reason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
