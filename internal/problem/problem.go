// Package problem is the closed set of error kinds. A problem carries a
// sentence for a person, the input field that is at fault, the remedy, and the
// cause for the log. Only the HTTP edge and the command line turn kinds into
// status codes and exit codes.
package problem

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind classifies an error by what its receiver can do about it.
type Kind string

// The kinds. An error from outside this package is KindInternal.
const (
	KindInvalid         Kind = "invalid"         // the input is wrong; Field says where
	KindNotFound        Kind = "not_found"       // the object does not exist
	KindConflict        Kind = "conflict"        // the object's state does not allow it
	KindStale           Kind = "stale"           // the object changed since the caller read it
	KindForbidden       Kind = "forbidden"       // the caller is known and may not
	KindUnauthenticated Kind = "unauthenticated" // the caller is not known
	KindTooLarge        Kind = "too_large"       // the body is over the limit
	KindTemporary       Kind = "temporary"       // the same call may succeed later
	KindInternal        Kind = "internal"        // a defect or a broken dependency
)

// Error is one problem. Its message is meant for a person and holds no secret.
type Error struct {
	Kind    Kind
	Field   string        // input field in path form, such as names[2]
	Message string        // what is wrong, one sentence
	Remedy  string        // what to do about it
	After   time.Duration // KindTemporary: when to try again; 0 leaves it to the caller
	Cause   error         // for the log, never shown to a remote caller
	More    []*Error      // further problems of the same input
}

// Invalid reports that an input field has a value that cannot be used.
func Invalid(field, format string, args ...any) *Error {
	return &Error{Kind: KindInvalid, Field: field, Message: fmt.Sprintf(format, args...)}
}

// NotFound reports that there is no such object; what is its type as a person
// says it ("certificate"), ref what was asked for.
func NotFound(what, ref string) *Error {
	return &Error{Kind: KindNotFound, Message: fmt.Sprintf("there is no %s %q", what, ref)}
}

// Conflict reports that the state of an object does not allow the call.
func Conflict(format string, args ...any) *Error {
	return &Error{Kind: KindConflict, Message: fmt.Sprintf(format, args...)}
}

// Stale reports that the object changed since the caller read it.
func Stale(format string, args ...any) *Error {
	return &Error{Kind: KindStale, Message: fmt.Sprintf(format, args...)}
}

// Forbidden reports that the caller is known but may not do this.
func Forbidden(format string, args ...any) *Error {
	return &Error{Kind: KindForbidden, Message: fmt.Sprintf(format, args...)}
}

// Unauthenticated reports that the caller did not prove who it is.
func Unauthenticated(format string, args ...any) *Error {
	return &Error{Kind: KindUnauthenticated, Message: fmt.Sprintf(format, args...)}
}

// TooLarge reports that the input is over a limit.
func TooLarge(format string, args ...any) *Error {
	return &Error{Kind: KindTooLarge, Message: fmt.Sprintf(format, args...)}
}

// Temporary reports that trying again can help, not before after when it is
// positive.
func Temporary(cause error, after time.Duration) *Error {
	return &Error{Kind: KindTemporary, Message: cause.Error(), After: after, Cause: cause}
}

// Internal wraps a defect or a broken dependency.
func Internal(cause error) *Error {
	return &Error{Kind: KindInternal, Message: "something went wrong inside certctl", Cause: cause}
}

// Hint adds the remedy and returns the same error.
func (e *Error) Hint(format string, args ...any) *Error {
	e.Remedy = fmt.Sprintf(format, args...)
	return e
}

// Error gives field, message and remedy in one line.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Message)
	if e.Kind == KindInternal && e.Cause != nil {
		b.WriteString(": " + e.Cause.Error())
	}
	if e.Remedy != "" {
		b.WriteString(" (" + e.Remedy + ")")
	}
	for _, m := range e.More {
		b.WriteString("; " + m.Error())
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Join makes one error of several problems of one input, leaving out nils; it
// is nil when nothing is left.
func Join(errs ...*Error) error {
	var first *Error
	for _, e := range errs {
		switch {
		case e == nil:
		case first == nil:
			clone := *e
			first = &clone
		default:
			first.More = append(first.More, e)
		}
	}
	if first == nil {
		return nil
	}
	return first
}

// As finds the problem in an error chain.
func As(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}

// KindOf gives the kind of an error, KindInternal when it is not a problem,
// and the empty kind for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	if e, ok := As(err); ok {
		return e.Kind
	}
	return KindInternal
}
