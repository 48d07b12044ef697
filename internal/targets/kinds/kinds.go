// Package kinds lists the kinds of target that certctl knows, so that server
// and agent know the same ones.
package kinds

import (
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/exec"
	"github.com/certctl-io/certctl/internal/targets/file"
	"github.com/certctl-io/certctl/internal/targets/haproxy"
	"github.com/certctl-io/certctl/internal/targets/kubernetes"
	"github.com/certctl-io/certctl/internal/targets/nginx"
)

// All gives every kind by its name.
func All() map[string]targets.Kind {
	all := map[string]targets.Kind{}
	for _, kind := range []targets.Kind{exec.Kind{}, file.Kind{}, haproxy.Kind{}, kubernetes.Kind{}, nginx.Kind{}} {
		all[kind.Name()] = kind
	}
	return all
}

// Stores gives the stores that the kinds write to, by name, for agents.
func Stores() map[string]targets.Store {
	return map[string]targets.Store{kubernetes.StoreName: kubernetes.NewStore(kubernetes.Config{})}
}
