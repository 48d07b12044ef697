// Package targets puts a certificate on a target and proves that it is served.
//
// A kind (nginx, haproxy, ...) only says what is special about it, as a Plan:
// which files, how to check them, how to make the server use them, where to
// look for proof. Content that goes elsewhere than into files is a Record of a
// Store: it takes the same steps, and is kept as it was deployed. The Engine does the rest, once for all kinds:
//
//	prepare → observe → backup → write → validate → reload → verify → done
//	                                └─────────┴─────────┴───────┴─ failure:
//	                        rollback: restore → validate → reload → verify
//
// Rules that the engine keeps:
//
//   - Nothing is written before every path, owner and command was checked.
//   - A file is replaced by a rename, never written in place: a reader sees the
//     old content or the new, with the right mode and owner from the start.
//   - Before the first rename the previous set is copied and a journal says so,
//     both synced to disk. Until the deployment ends, that copy is the previous
//     set, whatever happens: a kill, a rerun, or another deployment in between.
//   - A deployment is done when a new TLS handshake shows the new certificate.
//     It is rolled back when a handshake shows what was served before.
//   - One deployment at a time per target, across processes; targets that write
//     the same file take turns within the process.
//
// A path that is a symbolic link is followed: the file that it leads to is
// replaced and the link stays. See resolve for when a link is refused.
package targets

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/secret"
)

// Kind is one sort of target. Implementations are stateless and pure: the same
// settings and bundle give the same plan, byte for byte, as the engine compares
// it with what is on disk.
type Kind interface {
	// Name is the word for the kind in the API, such as "nginx".
	Name() string
	// Check tells whether settings can be used; problems name the field, as in
	// "settings.certificate".
	Check(settings json.RawMessage) error
	// Plan says what deploying the bundle with these settings means.
	Plan(settings json.RawMessage, b pki.Bundle) (Plan, error)
	// Schema is the JSON Schema (2020-12) of the settings, for forms.
	Schema() json.RawMessage
	// Secrets names the settings that are secret, in path form such as
	// "pkcs12.password".
	Secrets() []string
}

// Plan is what a deployment does on the host.
type Plan struct {
	Files    []File
	Records  []Record
	Validate Command // none: there is nothing to check with
	Reload   Command // none: Signal, or the server notices the files itself
	Signal   *Signal // instead of Reload
	Probe    *Probe  // none: what is served cannot be proven

	Env     []string        // added to the commands' environment, NAME=value
	Timeout time.Duration   // for each command; 0 means DefaultCommandTimeout
	Redact  []secret.String // never shown in the output of a command
}

// DefaultCommandTimeout is how long a command may run when its plan does not say.
const DefaultCommandTimeout = 30 * time.Second

// File is one file of a plan.
type File struct {
	Path   string
	Data   []byte      `json:"-"`
	Mode   fs.FileMode // 0: as the existing file, else 0600 when Secret, else 0644
	Owner  string      // user name or number; "": as the existing file, else who writes
	Group  string      // group name or number; "": as the existing file, else the directory's rule
	Secret bool        // holds a private key
}

// Format prints a file without its content, under every verb, as it may hold a
// private key.
func (f File) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "%s (%d bytes)", f.Path, len(f.Data))
}

// Command is a program and its arguments. No shell is involved.
type Command []string

// String gives the command as a person would type it.
func (c Command) String() string {
	words := make([]string, len(c))
	for i, word := range c {
		if word == "" || strings.ContainsAny(word, " \t\n\"'\\$`|&;<>()*?") {
			word = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		words[i] = word
	}
	return strings.Join(words, " ")
}

// Signal makes a running server load its files again.
type Signal struct {
	PIDFile string
	Signal  syscall.Signal
	Process string // name of the program, so that a stale PID file harms nobody
}

// Probe is where a TLS handshake shows what is served.
type Probe struct {
	Address    string        // host:port
	ServerName string        // for SNI; "": none is sent
	Timeout    time.Duration // until the new certificate must be served; 0 means DefaultProbeTimeout
}

// DefaultProbeTimeout is how long a server may take to serve the new
// certificate when its probe does not say.
const DefaultProbeTimeout = 10 * time.Second

// Job is one deployment to carry out. Running it again with the same
// DeploymentID, also after a crash, carries on with it.
type Job struct {
	DeploymentID string
	TargetID     string
	Plan         Plan
	Fingerprint  string // of the leaf that must be served, as of pki.Fingerprint
}

// The outcomes of a deployment.
const (
	OutcomeDeployed   = "deployed"    // written, and served as far as the plan can prove it
	OutcomeUnchanged  = "unchanged"   // it was in place already, and is served
	OutcomeRolledBack = "rolled_back" // it failed, and what was there before is back
	OutcomeFailed     = "failed"      // it failed: before anything was changed, or the way back is not proven; Reason says which
)

// Report is what became of a deployment.
type Report struct {
	_           struct{}  `json:"-" additionalProperties:"true"`
	Outcome     string    `json:"outcome"`
	Reason      string    `json:"reason"`
	Retryable   bool      `json:"retryable"`   // trying again can help without anybody's doing
	Fingerprint string    `json:"fingerprint"` // of the leaf that was to be deployed
	Served      string    `json:"served"`      // fingerprint of the leaf seen last; "": none
	Steps       []Step    `json:"steps"`
	Started     time.Time `json:"started"`
	Finished    time.Time `json:"finished"`
}

// Step is one thing that was tried. Output is bounded and free of secrets.
type Step struct {
	_          struct{}  `json:"-" additionalProperties:"true"`
	Name       string    `json:"name"`
	Started    time.Time `json:"started"`
	DurationMS int64     `json:"duration_ms"`
	OK         bool      `json:"ok"`
	Output     string    `json:"output"`
}

// ProbeName gives a name to ask for when a certificate's names are probed: its
// first DNS name, with a host in place of a wildcard, or "" when it has none.
func ProbeName(names pki.Names) string {
	if len(names.DNS) == 0 {
		return ""
	}
	if parent, wildcard := strings.CutPrefix(names.DNS[0], "*."); wildcard {
		return "certctl-probe." + parent
	}
	return names.DNS[0]
}
