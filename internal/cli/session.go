package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/version"
)

// globals are the flags that every command knows.
type globals struct {
	URL        string        `name:"url" env:"CERTCTL_URL" placeholder:"URL" help:"Server to talk to; by default the one of the context."`
	APIKeyFile string        `name:"api-key-file" env:"CERTCTL_API_KEY_FILE" placeholder:"FILE" type:"path" help:"File with the API key. There is no flag for the key itself, as others see the flags of a process; CERTCTL_API_KEY may hold it."`
	CASHA256   string        `name:"ca-sha256" env:"CERTCTL_CA_SHA256" placeholder:"HEX" help:"SHA-256 fingerprint of the server's CA, which the server prints when it starts."`
	CAFile     string        `name:"ca-file" env:"CERTCTL_CA_FILE" placeholder:"FILE" type:"path" help:"PEM file with the CA of the server."`
	Context    string        `name:"context" env:"CERTCTL_CONTEXT" placeholder:"NAME" help:"Login to use, when there are several."`
	Output     string        `name:"output" short:"o" enum:"table,wide,json,yaml,name" default:"table" placeholder:"FORMAT" help:"How to print: table, wide, json, yaml or name."`
	NoColor    bool          `name:"no-color" help:"Print without colours; so does NO_COLOR=1."`
	Timeout    time.Duration `name:"timeout" placeholder:"DURATION" help:"Give up after this long; by default 30s for each call and 5m for what is waited for."`
}

const defaultWait = 5 * time.Minute

// session is what a command has to work with.
type session struct {
	globals
	ctx context.Context
	in  io.Reader
	out screen // results
	err screen // progress, questions and errors
	now func() time.Time
	api *client.Client
}

// connect gives the client for the server that flags, variables or the context
// name.
func (s *session) connect() (*client.Client, error) {
	if s.api != nil {
		return s.api, nil
	}
	to, err := s.connection()
	if err != nil {
		return nil, err
	}
	s.api, err = dial(to)
	return s.api, err
}

func dial(to connection) (*client.Client, error) {
	return client.New(client.Options{
		URL: to.URL, APIKey: secret.New(to.APIKey), CASHA256: to.CASHA256, CAFile: to.CAFile,
		UserAgent: "certctl/" + version.String(),
	})
}

// connection merges what was given with the context. A context is one server:
// its key and its CA are used for that server only, never for another URL.
func (s *session) connection() (connection, error) {
	given, err := s.given()
	if err != nil {
		return connection{}, err
	}
	stored, err := s.stored()
	if err != nil {
		return connection{}, err
	}
	if given.URL != "" && stored.URL != given.URL {
		stored = connection{URL: given.URL}
	}
	if stored.URL == "" {
		return connection{}, problem.Invalid("", "there is no server to talk to").
			Hint("log in with: certctl login URL")
	}
	if given.APIKey != "" {
		stored.APIKey = given.APIKey
	}
	if given.CASHA256 != "" || given.CAFile != "" {
		stored.CASHA256, stored.CAFile = given.CASHA256, given.CAFile
	}
	if stored.APIKey == "" {
		return connection{}, problem.Unauthenticated("there is no API key for %s", stored.URL).
			Hint("log in with: certctl login %s, or set CERTCTL_API_KEY", stored.URL)
	}
	return stored, nil
}

// given is what flags and variables say.
func (s *session) given() (connection, error) {
	// What a server is given as bootstrap_api_key may be several keys.
	key, _, _ := strings.Cut(os.Getenv("CERTCTL_API_KEY"), ",")
	c := connection{URL: normalURL(s.URL), APIKey: strings.TrimSpace(key), CASHA256: s.CASHA256, CAFile: s.CAFile}
	if c.APIKey != "" && s.APIKeyFile != "" {
		return c, problem.Invalid("api-key-file", "there are a file with a key and CERTCTL_API_KEY").Hint("give one of them")
	}
	if s.APIKeyFile != "" {
		data, err := os.ReadFile(s.APIKeyFile)
		if err != nil {
			return c, problem.Invalid("api-key-file", "%s cannot be read: %v", s.APIKeyFile, reason(err))
		}
		c.APIKey = strings.TrimSpace(string(data))
		if c.APIKey == "" {
			return c, problem.Invalid("api-key-file", "%s is empty", s.APIKeyFile)
		}
	}
	return c, nil
}

// stored is what the context that is asked for says.
func (s *session) stored() (connection, error) {
	file, err := readContexts()
	if err != nil {
		return connection{}, err
	}
	name := s.Context
	if name == "" {
		name = file.Current
	}
	if name == "" {
		return connection{}, nil
	}
	return file.find(name)
}

// normalURL lets URLs be compared: as "certctl login" stores them.
func normalURL(url string) string {
	if url != "" && !strings.Contains(url, "://") {
		url = "https://" + url
	}
	return strings.TrimRight(url, "/")
}

// forPeople reports whether the output is read by a person, not by a script.
func (s *session) forPeople() bool { return s.Output == "table" || s.Output == "wide" }

// confirm asks a question that only the expected answer lets pass.
func (s *session) confirm(question, expected string) error {
	if !isTerminal(s.in) {
		return problem.Invalid("", "this asks for a confirmation, and there is nobody to ask").Hint("give --yes")
	}
	fmt.Fprintf(s.err, "%s ", question)
	answer, err := s.readLine()
	if err != nil {
		return err
	}
	if !strings.EqualFold(strings.TrimSpace(answer), expected) {
		return problem.Invalid("", "not confirmed, nothing was changed")
	}
	return nil
}

// readLine reads an answer; Ctrl-C ends the wait for it.
func (s *session) readLine() (string, error) {
	type result struct {
		line string
		err  error
	}
	answered := make(chan result, 1)
	go func() {
		line, err := readLine(s.in)
		answered <- result{line, err}
	}()
	select {
	case r := <-answered:
		return r.line, r.err
	case <-s.ctx.Done():
		fmt.Fprintln(s.err)
		return "", s.ctx.Err()
	}
}

// readLine reads up to a line feed, byte by byte, so that nothing is taken
// from what a later question will read.
func readLine(r io.Reader) (string, error) {
	var line strings.Builder
	buf := make([]byte, 1)
	for {
		n, err := r.Read(buf)
		if n == 1 && buf[0] == '\n' || errors.Is(err, io.EOF) {
			return line.String(), nil
		}
		if err != nil {
			return "", fmt.Errorf("read the answer: %w", err)
		}
		line.Write(buf[:n])
	}
}
