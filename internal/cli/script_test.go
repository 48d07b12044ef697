package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl-io/certctl/internal/pki"
)

// A command that hangs fails its script after this long.
const commandTimeout = 20 * time.Second

// script runs a file of testdata/script: commands line by line, then files as
// "-- NAME --" and their text. A command that starts with ! must not hold.
//
//	exec CMD ARGS...        run a command, which must end with 0
//	exits CODE CMD ARGS...  run a command, which must end with CODE
//	stdout RE, stderr RE    match the output of the last command, line by line
//	cmp stdout FILE         compare with a file, whole
//	stdin FILE, ttyin FILE  what the next command reads, the latter from a terminal
//	env NAME=VALUE          set a variable; $NAME stands for its value
//	cp FROM TO, chmod MODE FILE
//	changes FILE            write the calls that changed something on the server
type script struct {
	t        *testing.T
	path     string
	commands []string
	names    []string // of the files, in order
	files    map[string]string

	dir            string
	env            map[string]string
	fake           *fakeAPI
	stdin          string
	terminal       bool
	stdout, stderr string
	stale          bool // whether -update has changed a file
}

// TestScripts runs each script against a server of its own.
func TestScripts(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(filepath.Join("testdata", "script", "*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			newScript(t, path).run()
		})
	}
}

var fileHeader = regexp.MustCompile(`(?m)^-- (.+) --\n`)

func newScript(t *testing.T, path string) *script {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, path: path, files: map[string]string{}, dir: t.TempDir(), fake: newFakeAPI(t)}
	text := string(data)
	headers := fileHeader.FindAllStringSubmatchIndex(text, -1)
	end := len(text)
	for _, h := range slices.Backward(headers) {
		name := text[h[2]:h[3]]
		s.names = slices.Insert(s.names, 0, name)
		s.files[name] = text[h[1]:end]
		end = h[0]
	}
	s.commands = strings.Split(strings.TrimSuffix(text[:end], "\n"), "\n")
	for name, content := range s.files {
		if err := os.WriteFile(s.in(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fingerprint := pki.Fingerprint(s.fake.Certificate().Raw)
	s.env = map[string]string{
		"CERTCTL_URL": s.fake.URL, "CERTCTL_API_KEY": fakeKey, "CERTCTL_CA_SHA256": fingerprint,
		"SERVER": s.fake.URL, "FINGERPRINT": fingerprint, "XDG_CONFIG_HOME": s.in("config"), "HOME": s.dir,
		"PATH": os.Getenv("PATH"), runAsCommand: "1",
	}
	return s
}

func (s *script) in(name string) string { return filepath.Join(s.dir, name) }

func (s *script) run() {
	for number, line := range s.commands {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		words := s.split(line)
		wanted := words[0] != "!"
		if !wanted {
			words = words[1:]
		}
		if err := s.do(words[0], words[1:]); (err == nil) != wanted {
			if err == nil {
				err = errors.New("it holds, and it must not")
			}
			s.t.Fatalf("%s:%d: %s\n%v\nstdout:\n%s\nstderr:\n%s", s.path, number+1, line, err, s.stdout, s.stderr)
		}
	}
	if s.stale {
		s.write()
	}
}

// split breaks a line into words at blanks outside of single quotes, and puts
// in variables outside of them.
func (s *script) split(line string) []string {
	var words []string
	word, started := "", false
	flush := func() {
		if started {
			words = append(words, word)
		}
		word, started = "", false
	}
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			word, started = word+part, true
			continue
		}
		for j, piece := range strings.Split(part, " ") {
			if j > 0 {
				flush()
			}
			if piece != "" {
				word, started = word+os.Expand(piece, s.variable), true
			}
		}
	}
	flush()
	return words
}

// variable leaves the $ at the end of a pattern alone.
func (s *script) variable(name string) string {
	if value, ok := s.env[name]; ok {
		return value
	}
	return "$" + name
}

func (s *script) do(command string, args []string) error {
	switch command {
	case "exec":
		return s.exec("0", args)
	case "exits":
		return s.exec(args[0], args[1:])
	case "stdout":
		return match(args[0], s.stdout)
	case "stderr":
		return match(args[0], s.stderr)
	case "cmp":
		return s.compare(args[0], args[1])
	case "stdin", "ttyin":
		s.stdin, s.terminal = args[0], command == "ttyin"
		return nil
	case "env":
		name, value, _ := strings.Cut(args[0], "=")
		s.env[name] = value
		return nil
	case "cp":
		data, err := os.ReadFile(s.in(args[0]))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(s.in(args[1])), 0o755); err != nil {
			return err
		}
		return os.WriteFile(s.in(args[1]), data, 0o600)
	case "chmod":
		var mode os.FileMode
		if _, err := fmt.Sscanf(args[0], "%o", &mode); err != nil {
			return err
		}
		return os.Chmod(s.in(args[1]), mode)
	case "changes":
		return os.WriteFile(s.in(args[0]), []byte(s.fake.takeChanges()), 0o600)
	default:
		return fmt.Errorf("%q is not a command of scripts", command)
	}
}

func match(pattern, text string) error {
	re, err := regexp.Compile("(?m)" + pattern)
	if err != nil {
		return err
	}
	if !re.MatchString(text) {
		return fmt.Errorf("no match for %s", pattern)
	}
	return nil
}

func (s *script) compare(got, want string) error {
	text := map[string]string{"stdout": s.stdout, "stderr": s.stderr}[got]
	if got != "stdout" && got != "stderr" {
		data, err := os.ReadFile(s.in(got))
		if err != nil {
			return err
		}
		text = string(data)
	}
	if *update && text != s.files[want] {
		s.files[want], s.stale = text, true
	}
	if diff := cmp.Diff(s.files[want], text); diff != "" {
		return errors.New(diff)
	}
	return nil
}

// exec runs a command. certctl is this test program itself: see TestMain.
func (s *script) exec(code string, args []string) error {
	name := args[0]
	if name == "certctl" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		name = self
	}
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(s.t.Context(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, &stdout, &stderr
	for name, value := range s.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if s.stdin != "" && s.terminal {
		cmd.Stdin = terminalThatTypes(s.t, s.files[s.stdin])
	} else if s.stdin != "" {
		cmd.Stdin = strings.NewReader(s.files[s.stdin])
	}
	s.stdin = ""
	err := cmd.Run()
	s.stdout, s.stderr = stdout.String(), stderr.String()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	if got := fmt.Sprint(cmd.ProcessState.ExitCode()); got != code {
		return fmt.Errorf("exit code %s, want %s", got, code)
	}
	return nil
}

// write puts the files that -update has changed into the script.
func (s *script) write() {
	text := strings.Join(s.commands, "\n") + "\n"
	for _, name := range s.names {
		text += "-- " + name + " --\n" + s.files[name]
	}
	if err := os.WriteFile(s.path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}
