package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/client"
)

// A gap this long starts a new paragraph of a timeline; within one, each line
// says how long after the one before it came.
const pause = 5 * time.Minute

// timeline writes events, given newest first, in the order in which they
// happened. Under a failed deployment stands the output of the step that
// failed.
func (s *session) timeline(newestFirst []client.Event, failed map[string]client.Deployment) {
	var before time.Time
	for _, e := range slices.Backward(newestFirst) {
		after := ""
		switch gap := e.At.Sub(before); {
		case before.IsZero():
		case gap < pause:
			after = "+" + took(max(gap, 0))
		default:
			fmt.Fprintln(s.out)
		}
		before = e.At
		fmt.Fprintf(s.out, "%s  %9s  %s\n", s.out.paint(stamp(e.At), faint), after, s.out.paint(printable(e.Message), eventTone(e.Kind)))
		if d, ok := failed[e.DeploymentID]; ok && eventTone(e.Kind) == bad {
			s.steps(d.Report.Steps, false, strings.Repeat(" ", 33))
		}
	}
}

// eventTone colours how something ended; a step on the way has no colour.
func eventTone(kind string) tone {
	_, what, _ := strings.Cut(kind, ".")
	if t := toneOf(what); t != warn {
		return t
	}
	return plain
}

// steps writes what an agent did for a deployment: all steps, or those that
// failed. What a failed command printed stands under it.
func (s *session) steps(steps []client.Step, all bool, indent string) {
	width := 0
	for _, step := range steps {
		width = max(width, len(step.Name))
	}
	for _, step := range steps {
		if step.OK && !all {
			continue
		}
		word, t := "ok", good
		if !step.OK {
			word, t = "failed", bad
		}
		duration := took(time.Duration(step.DurationMS) * time.Millisecond)
		fmt.Fprintf(s.out, "%s%-*s  %s  %s\n", indent, width, printable(step.Name), s.out.paint(fmt.Sprintf("%-6s", word), t), duration)
		if step.OK {
			continue
		}
		for line := range strings.Lines(strings.TrimSpace(step.Output)) {
			fmt.Fprintf(s.out, "%s  | %s\n", indent, printable(strings.TrimRight(line, "\n")))
		}
	}
}

func events() resource[client.Event] {
	return resource[client.Event]{
		name: "event", path: "events",
		ref:    func(e client.Event) string { return e.ID },
		titles: []string{"AT", "KIND", "MESSAGE"},
		wide:   []string{"ORDER", "DEPLOYMENT", "ID"},
		row: func(e client.Event, _ time.Time) []string {
			return []string{stamp(e.At), e.Kind, e.Message, e.OrderID, e.DeploymentID, e.ID}
		},
	}
}
