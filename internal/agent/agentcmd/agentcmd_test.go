package agentcmd

import "testing"

func TestTheStateDirectoryIsWhereTheSystemKeepsState(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		uid  int
		env  map[string]string
		want string
	}{
		{0, map[string]string{"HOME": "/root", "XDG_STATE_HOME": "/root/state"}, "/var/lib/certctl-agent"},
		{1000, map[string]string{"HOME": "/home/web"}, "/home/web/.local/state/certctl-agent"},
		{1000, map[string]string{"HOME": "/home/web", "XDG_STATE_HOME": "/srv/state"}, "/srv/state/certctl-agent"},
		{1000, map[string]string{"HOME": "/home/web", "XDG_STATE_HOME": "relative"}, "/home/web/.local/state/certctl-agent"},
		{1000, map[string]string{"HOME": ""}, ""},
	} {
		got := defaultState(test.uid, func(name string) (string, bool) { v, ok := test.env[name]; return v, ok })
		if got != test.want {
			t.Errorf("user %d with %v: %q, want %q", test.uid, test.env, got, test.want)
		}
	}
	if err := (stateFlag{}).checkState(); exitCode(err) != exitUsage {
		t.Errorf("no state directory: %v", err)
	}
}
