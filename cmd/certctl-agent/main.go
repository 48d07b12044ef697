// Command certctl-agent holds the private keys of a host's certificates and
// puts the certificates on their targets.
package main

import (
	"os"

	"github.com/certctl-io/certctl/internal/agent/agentcmd"
)

func main() { os.Exit(agentcmd.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
