package targets

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"strconv"

	"github.com/certctl-io/certctl/internal/problem"
)

// keep stands for an owner or group that is left as it is.
const keep = -1

// lookupUser gives the number of a user, named or already a number; keep for "".
func lookupUser(name string) (int, error) {
	if id, known := number(name); known {
		return id, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, problem.Conflict("there is no user %q on this host", name).Hint("create the user, or change owner in the target's settings")
	}
	return strconv.Atoi(u.Uid)
}

// lookupGroup gives the number of a group, named or already a number; keep for "".
func lookupGroup(name string) (int, error) {
	if id, known := number(name); known {
		return id, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, problem.Conflict("there is no group %q on this host", name).Hint("create the group, or change group in the target's settings")
	}
	return strconv.Atoi(g.Gid)
}

func number(name string) (int, bool) {
	if name == "" {
		return keep, true
	}
	id, err := strconv.ParseUint(name, 10, 31)
	return int(id), err == nil
}

// chown gives an open file to a user and a group, either of which may be keep.
// Only the kernel knows whether this process may (root, CAP_CHOWN, membership).
func chown(f *os.File, path string, uid, gid int) error {
	at, err := f.Stat()
	if err != nil {
		return err
	}
	if (uid == keep || uid == owner(at)) && (gid == keep || gid == group(at)) {
		return nil
	}
	err = f.Chown(uid, gid)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	self := userName(os.Geteuid())
	if uid != keep && uid != owner(at) {
		return problem.Conflict("%s must belong to %s, and the agent, running as %s, may not give files away", path, userName(uid), self).
			Hint("run the agent as root or as %s, or let %s own the file", userName(uid), self)
	}
	return problem.Conflict("%s must belong to the group %s, and the agent's user %s is not in it", path, groupName(gid), self).
		Hint("add %s to the group and restart the agent, or name another group in the target's settings", self)
}

func userName(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}

func groupName(gid int) string {
	id := strconv.Itoa(gid)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return "gid " + id
}
