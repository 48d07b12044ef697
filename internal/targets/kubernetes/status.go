package kubernetes

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// status is how an API server refuses a request.
type status struct {
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Details struct {
		RetryAfterSeconds int `json:"retryAfterSeconds"`
		Causes            []struct {
			Reason string `json:"reason"`
		} `json:"causes"`
	} `json:"details"`
}

// statusError is a status as an error. The messages of an API server name
// fields of a Secret and not what they hold.
type statusError struct {
	code            int
	reason, message string
	causes          []string
	after           time.Duration
}

func (s status) err(header http.Header) error {
	e := &statusError{code: s.Code, reason: s.Reason, message: s.Message, after: time.Duration(s.Details.RetryAfterSeconds) * time.Second}
	if seconds, err := strconv.Atoi(header.Get("Retry-After")); err == nil {
		e.after = time.Duration(seconds) * time.Second
	}
	for _, cause := range s.Details.Causes {
		e.causes = append(e.causes, cause.Reason)
	}
	return e
}

// Error implements error.
func (e *statusError) Error() string {
	return fmt.Sprintf("the API server answers %d %s: %s", e.code, e.reason, e.message)
}

// namespaceEnds tells whether the namespace takes nothing new as it is being
// deleted.
func (e *statusError) namespaceEnds() bool {
	return slices.Contains(e.causes, "NamespaceTerminating")
}

func isStatus(err error, code int) bool {
	var refused *statusError
	return errors.As(err, &refused) && refused.code == code
}
