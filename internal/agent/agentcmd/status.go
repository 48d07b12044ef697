package agentcmd

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/certctl-io/certctl/internal/agent"
	"github.com/certctl-io/certctl/internal/version"
)

// statusCmd shows the agent of a state directory.
type statusCmd struct {
	stateFlag
	JSON bool `name:"json" help:"Print it as JSON."`
}

// Help is the long help of the command.
func (statusCmd) Help() string {
	return `The exit code is 0 when the agent is enrolled and its server answers, 4 when it is not enrolled, and 6 when the server does not answer or
is not the one that is trusted.`
}

// statusView is the status as JSON.
type statusView struct {
	Name       string     `json:"name"`
	AgentID    string     `json:"agent_id"`
	Server     string     `json:"server"`
	CASHA256   string     `json:"ca_sha256,omitempty"`
	State      string     `json:"state"`
	EnrolledAt *time.Time `json:"enrolled_at,omitempty"`
	Running    bool       `json:"running"`
	Results    int        `json:"results_waiting"`
	Reached    bool       `json:"server_answers"`
	Version    string     `json:"version"`
}

// Run shows the status.
func (c statusCmd) Run(s *session) error {
	if err := c.checkState(); err != nil {
		return err
	}
	status, err := agent.ReadStatus(c.State)
	if err != nil {
		return err
	}
	unreached := agent.Reach(s.ctx, status.Identity, version.String(), nil)
	view := statusView{
		Name: status.Identity.Name, AgentID: status.Identity.AgentID, Server: status.Identity.Server, CASHA256: status.Identity.CASHA256,
		State: c.State, EnrolledAt: status.Identity.EnrolledAt, Running: status.Running, Results: status.Results,
		Reached: unreached == nil, Version: version.String(),
	}
	if c.JSON {
		encoder := json.NewEncoder(s.out)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(view)
	} else {
		err = view.print(s.out)
	}
	if err != nil {
		return err
	}
	return unreached
}

func (v statusView) print(w io.Writer) error {
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(columns, "%s\t%v\n", name, value) }
	row("agent", v.Name+" ("+v.AgentID+")")
	server := v.Server + ", which answers"
	if !v.Reached {
		server = v.Server + ", which does not answer"
	}
	row("server", server)
	if v.CASHA256 != "" {
		row("pinned CA", v.CASHA256)
	}
	row("state", v.State)
	if v.EnrolledAt != nil {
		row("enrolled", v.EnrolledAt.Format(time.RFC3339))
	}
	row("running", map[bool]string{true: "yes", false: "no"}[v.Running])
	row("results to hand in", v.Results)
	row("version", v.Version)
	return columns.Flush()
}
