package settings

import (
	"io/fs"
	"maps"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

// Path is the absolute path of a file on the agent's host.
type Path string

func (p Path) check(field string) *problem.Error {
	switch {
	case !filepath.IsAbs(string(p)):
		return problem.Invalid(field, "%q is not an absolute path", p).Hint("start it with a slash")
	case strings.ContainsRune(string(p), 0):
		return problem.Invalid(field, "the path holds a zero byte").Hint("remove it")
	case strings.HasSuffix(string(p), "/"):
		return problem.Invalid(field, "%q is a directory", p).Hint("name the file in it")
	case filepath.Clean(string(p)) != string(p):
		return problem.Invalid(field, "%q holds ., .. or a double slash", p).Hint("write %q", filepath.Clean(string(p)))
	}
	return nil
}

func (Path) schema() object {
	return object{{"type", "string"}, {"format", "path"}, {"pattern", "^/.*[^/]$"}}
}

// Dir is the absolute path of a directory on the agent's host.
type Dir string

func (d Dir) check(field string) *problem.Error {
	trimmed := strings.TrimSuffix(string(d), "/")
	if d == "/" {
		return nil
	}
	return Path(trimmed).check(field)
}

func (Dir) schema() object { return object{{"type", "string"}, {"format", "path"}, {"pattern", "^/"}} }

// Program is a program by its name or absolute path.
type Program string

func (p Program) check(field string) *problem.Error {
	if strings.Contains(string(p), "/") {
		return Path(p).check(field)
	}
	if strings.ContainsAny(string(p), " \t\n\x00") {
		return problem.Invalid(field, "%q is not the name of a program", p).Hint("name the program alone, without arguments")
	}
	return nil
}

func (Program) schema() object { return object{{"type", "string"}} }

// Paths are absolute paths, in an order that matters.
type Paths []Path

func (ps Paths) check(field string) *problem.Error {
	for i, p := range ps {
		if err := p.check(field + "[" + strconv.Itoa(i) + "]"); err != nil {
			return err
		}
	}
	return nil
}

func (Paths) schema() object {
	return object{{"type", "array"}, {"items", Path("").schema()}}
}

// Command is a program and its arguments. No shell reads it.
type Command []string

func (c Command) check(field string) *problem.Error {
	program := c[0]
	switch {
	case program == "":
		return problem.Invalid(field+"[0]", "names no program").Hint("put the program first, then its arguments")
	case !filepath.IsAbs(program) && strings.ContainsAny(program, " \t\n"):
		return problem.Invalid(field+"[0]", "%q is more than the name of a program", program).
			Hint(`write each word by itself, as in ["systemctl", "reload", "nginx"]: no shell takes it apart`)
	case !filepath.IsAbs(program) && strings.Contains(program, "/"):
		return problem.Invalid(field+"[0]", "%q is a relative path", program).Hint("name the program alone, or by its absolute path")
	}
	for i, word := range c {
		if strings.ContainsRune(word, 0) {
			return problem.Invalid(field+"["+strconv.Itoa(i)+"]", "holds a zero byte").Hint("remove it")
		}
	}
	return nil
}

func (Command) schema() object {
	return object{{"type", "array"}, {"items", object{{"type", "string"}}}}
}

// Address is a host and a port to connect to.
type Address string

func (a Address) check(field string) *problem.Error {
	host, port, err := net.SplitHostPort(string(a))
	number, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" || portErr != nil || number == 0 {
		return problem.Invalid(field, "%q is not an address", a).Hint(`write it as host:port, such as "127.0.0.1:443" or "[::1]:443"`)
	}
	return nil
}

func (Address) schema() object {
	return object{{"type", "string"}, {"pattern", `^(\[[0-9A-Fa-f:.%a-z]+\]|[^:\[\]]+):[0-9]{1,5}$`}}
}

// ServerName is a DNS name to ask a server for.
type ServerName string

func (n ServerName) check(field string) *problem.Error {
	names, err := pki.ParseNames([]string{string(n)})
	if err != nil || len(names.DNS) != 1 || strings.HasPrefix(names.DNS[0], "*") {
		return problem.Invalid(field, "%q is not the name of a server", n).Hint("write a DNS name without a wildcard, such as www.example.com")
	}
	return nil
}

func (ServerName) schema() object { return object{{"type", "string"}, {"format", "hostname"}} }

// Account is a user or a group, by name or number.
type Account string

var account = regexp.MustCompile(`^([0-9]{1,9}|[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?)$`)

func (a Account) check(field string) *problem.Error {
	if !account.MatchString(string(a)) {
		return problem.Invalid(field, "%q is not a name or number of a user or group", a).Hint("write it as in /etc/passwd or /etc/group")
	}
	return nil
}

func (Account) schema() object { return object{{"type", "string"}, {"pattern", account.String()}} }

// KeyMode is the mode of files that hold a private key, in octal digits.
type KeyMode string

const keyMode = `^0?[0-7][0-7]0$`

func (m KeyMode) check(field string) *problem.Error {
	mode := m.FileMode()
	switch {
	case mode == 0 || mode > 0o777:
		return problem.Invalid(field, "%q is not a file mode", m).Hint(`write it in octal digits, such as "0640"`)
	case mode&0o007 != 0:
		return problem.Invalid(field, "mode %s would let everybody on the host read or change the private key", m).
			Hint(`use a group for the programs that need it, and "0640"`)
	case mode&0o400 == 0:
		return problem.Invalid(field, "with mode %s the owner cannot read the file", m).Hint(`use "0600" or "0640"`)
	}
	return nil
}

// FileMode gives the mode as a number, 0 for none.
func (m KeyMode) FileMode() fs.FileMode {
	n, err := strconv.ParseUint(string(m), 8, 12)
	if err != nil {
		return 0
	}
	return fs.FileMode(n)
}

func (KeyMode) schema() object { return object{{"type", "string"}, {"pattern", keyMode}} }

// maxDuration keeps a deployment from holding its target for hours.
const maxDuration = 10 * time.Minute

// Duration is a time span such as "10s" or "2m".
type Duration string

func (d Duration) check(field string) *problem.Error {
	span, err := time.ParseDuration(string(d))
	if err != nil || span <= 0 || span > maxDuration {
		return problem.Invalid(field, "%q is not a time span up to %v", d, maxDuration).Hint(`write it as in "10s" or "2m"`)
	}
	return nil
}

// Duration gives the time span, 0 for none.
func (d Duration) Duration() time.Duration {
	span, err := time.ParseDuration(string(d))
	if err != nil {
		return 0
	}
	return span
}

func (Duration) schema() object {
	return object{{"type", "string"}, {"pattern", `^([0-9.]+(ms|s|m))+$`}}
}

// Variables are environment variables for a command.
type Variables map[string]string

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (vs Variables) check(field string) *problem.Error {
	for _, name := range slices.Sorted(maps.Keys(vs)) {
		switch text := vs[name]; {
		case !variable.MatchString(name):
			return problem.Invalid(field, "%q is not a name of a variable", name).Hint("use letters, digits and _, not starting with a digit")
		case name == "PATH" || strings.HasPrefix(name, "CERTCTL_"):
			return problem.Invalid(field+"."+name, "is set by the agent").Hint("choose another name")
		case strings.ContainsRune(text, 0):
			return problem.Invalid(field+"."+name, "holds a zero byte").Hint("remove it")
		}
	}
	return nil
}

func (Variables) schema() object {
	return object{
		{"type", "object"},
		{"propertyNames", object{{"pattern", variable.String()}}},
		{"additionalProperties", object{{"type", "string"}}},
	}
}
