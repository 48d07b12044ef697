package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	// defaultPing is how long a server is waited for.
	defaultPing = 2 * time.Minute
	pingPause   = time.Second
)

type pingCmd struct {
	Agents int `placeholder:"N" help:"How many agents have to be online at least."`
}

// Help tells more than one line.
func (pingCmd) Help() string {
	return `It asks whether the server is ready, makes a call with the API key, and counts the agents that are online.
What does not hold yet is asked again until --timeout, by default for 2m.

Examples:
  certctl ping
  certctl ping --agents 3 --timeout 5m`
}

// Run waits until the server and its agents are there.
func (c pingCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	ctx := s.ctx
	if s.Timeout <= 0 {
		limited, cancel := context.WithTimeout(ctx, defaultPing)
		defer cancel()
		ctx = limited
	}
	for {
		info, online, err := c.look(ctx, api)
		if err == nil {
			fmt.Fprintf(s.out, "%s is ready: certctl %s, %d agents online\n", api.URL(), info.Version, online)
			return nil
		}
		if problem.KindOf(err) != problem.KindTemporary {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pingPause):
		}
	}
}

// look asks once.
func (c pingCmd) look(ctx context.Context, api *client.Client) (info client.Info, online int, err error) {
	if err := api.Ready(ctx); err != nil {
		return client.Info{}, 0, err
	}
	if info, err = api.Info(ctx); err != nil {
		return client.Info{}, 0, err
	}
	for agent, err := range api.Agents(ctx) {
		if err != nil {
			return client.Info{}, 0, err
		}
		if agent.Status == "online" {
			online++
		}
	}
	if online < c.Agents {
		return client.Info{}, 0, problem.Temporary(fmt.Errorf("%d of %d agents are online", online, c.Agents), 0).
			Hint("see certctl list agents, and the logs of the agents")
	}
	return info, online, nil
}
