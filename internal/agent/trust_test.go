package agent_test

import (
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agent"
	"github.com/certctl-io/certctl/internal/netx"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/targets/kinds"
	"github.com/certctl-io/certctl/internal/testkit"
)

func caOf(certificate netx.ServerCertificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.CA().Raw}))
}

// put replaces a file as Kubernetes does, at once.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestARunningAgentTrustsTheCAsThatItsFileHoldsNow(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "ca.crt")
	put(t, file, caOf(s.shown))
	p := newProgram(t, []string{
		"CERTCTL_AGENT_STATE=" + filepath.Join(dir, "state"), "CERTCTL_AGENT_TOKEN=" + joinToken, "CERTCTL_AGENT_NAME=web-1",
		"CERTCTL_AGENT_SERVER=" + s.http.URL, "CERTCTL_AGENT_CA_FILE=" + file,
	}, "run")
	p.start()
	testkit.Eventually(t, "the agent asks for work", func() bool { return len(s.polled()) > 0 })

	next := newCertificate(t)
	put(t, file, "") // what cannot be used changes nothing
	asked := len(s.polled())
	testkit.Eventually(t, "the agent asks again", func() bool { s.nudge(); return len(s.polled()) > asked })
	put(t, file, caOf(next))
	s.shows(next)
	asked = len(s.polled())
	testkit.Eventually(t, "the agent asks the server with the other CA", func() bool { return len(s.polled()) > asked })

	// The server goes on with a certificate whose CA was taken out.
	put(t, file, caOf(newCertificate(t)))
	s.http.CloseClientConnections()
	s.settled()
	before, shaken := s.requested(), s.shaken()
	testkit.Eventually(t, "the agent has tried and tried again", func() bool { return s.shaken() >= shaken+2 })
	if s.requested() != before {
		t.Error("the server whose CA is not trusted got a request")
	}
	p.kill()
	put(t, file, caOf(next))
	again := newProgram(t, nil, "enroll", "--state", filepath.Join(dir, "state"), "--server", s.http.URL, "--ca-file", file)
	again.wants("enroll with the present file", again.run(), 0, "Enrolled already")
}

func TestTheFirstCAFileThatHoldsSomethingCounts(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	dir := t.TempDir()
	absent, empty, leaf, other := filepath.Join(dir, "absent"), filepath.Join(dir, "empty"), filepath.Join(dir, "tls.crt"), filepath.Join(dir, "other")
	put(t, empty, "\n")
	put(t, leaf, caOf(s.shown))
	put(t, other, caOf(newCertificate(t)))
	for _, test := range []struct {
		files string
		kind  problem.Kind
		part  string
	}{
		{leaf, "", ""},
		{absent + "," + leaf, "", ""},
		{empty + ", " + leaf + "," + other, "", ""},
		{other + "," + leaf, problem.KindTemporary, "not trusted"},
		{absent, problem.KindInvalid, "cannot be read"},
		{absent + "," + empty, problem.KindInvalid, "no certificate"},
	} {
		e := s.enrolment(t.TempDir())
		e.CASHA256, e.CAFile = "", test.files
		_, err := agent.Enroll(t.Context(), e)
		wantKind(t, test.files, err, test.kind, test.part)
	}
}

func TestTheKubernetesTokenIsReadAtEachAttempt(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	e := s.enrolment(t.TempDir())
	e.KubernetesTokenFile = filepath.Join(t.TempDir(), "token")
	_, err := agent.Enroll(t.Context(), e)
	wantKind(t, "without the file", err, problem.KindInvalid, "kubernetes-token")
	for _, token := range []string{"first", "second"} {
		put(t, e.KubernetesTokenFile, token+"\n")
		s.steer(steering{lost: token == "first"})
		_, err = agent.Enroll(t.Context(), e)
	}
	if err != nil || !slices.Equal(s.kubernetes, []string{"first", "second"}) {
		t.Errorf("the server got %q, %v", s.kubernetes, err)
	}
	// An agent that comes again needs no enrolment token; whether it gets in is
	// for the server to say.
	e.StateDir, e.Token = t.TempDir(), secret.String{}
	_, err = agent.Enroll(t.Context(), e)
	wantKind(t, "without an enrolment token", err, problem.KindUnauthenticated, "")
	_, err = agent.New(agent.Config{StateDir: e.StateDir, Kinds: kinds.All(), Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "no enrolled agent") {
		t.Errorf("then: %v", err)
	}
}
