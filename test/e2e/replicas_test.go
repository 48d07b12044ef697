package e2e

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/pki"
)

func TestWorkArrivesAtOnceThroughAnotherReplica(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	startAgent(t, p.servers[0], "web-1")
	dir := t.TempDir()
	names := numbered("site", 5)
	files(t, p.apis[1], "web-1", dir, names...)
	for i, name := range names {
		began := time.Now()
		createAll(t, []string{name}, p.apis[1])
		awaitActive(t, p.apis[1], i+1)
		took := time.Since(began)
		t.Logf("%s: %s from the request at one replica to the file of an agent at the other", name, took.Round(time.Millisecond))
		if took > 10*time.Second {
			t.Errorf("%s took %s: nothing wakes the other replica", name, took)
		}
	}
	wantOneVersion(t, p.apis[0], dir, names)
}

func TestReplicasAgreeOnWhoMayComeIn(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	agent := enrol(t, p.servers[0], p.apis[0], "web-1")
	pollAt := func(replica int, token string) int {
		t.Helper()
		status, _ := send(t, agent.browser, http.MethodPost, p.servers[replica].URL+agentapi.BasePath+agentapi.PathPoll, token, agentapi.PollRequest{})
		return status
	}
	token := agent.token(agent.serverID)
	if status := pollAt(0, token); status != http.StatusOK {
		t.Fatalf("a fresh token: %d", status)
	}
	if status := pollAt(1, token); status != http.StatusUnauthorized {
		t.Errorf("a token replayed at the other replica: %d", status)
	}
	token = agent.token(agent.serverID)
	statuses := make(chan int)
	for i := range 8 {
		go func() { statuses <- pollAt(i%2, token) }()
	}
	let := 0
	for range 8 {
		if <-statuses == http.StatusOK {
			let++
		}
	}
	if let != 1 {
		t.Errorf("a token used 8 times at once over both replicas was let in %d times", let)
	}

	waiting := make(chan int, 1)
	go func() {
		status, _ := send(t, agent.browser, http.MethodPost, agent.base+agentapi.PathPoll, agent.token(agent.serverID), agentapi.PollRequest{WaitSeconds: 30, Resync: true})
		waiting <- status
	}()
	await(t, "the poll to wait", func(ctx context.Context) error { return polls(ctx, p.apis[0]) })
	if _, err := p.apis[1].RevokeAgent(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := range p.servers {
		if status := pollAt(i, agent.token(agent.serverID)); status != http.StatusForbidden {
			t.Errorf("replica %d answers the revoked agent with %d", i, status)
		}
	}
	if status := <-waiting; status != http.StatusForbidden {
		t.Errorf("the poll that waited at the other replica: %d", status)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the poll that waited ended %s after the revocation", took)
	}

	key, err := p.apis[0].CreateAPIKey(t.Context(), client.APIKeySpec{Name: "ci", Role: "viewer"})
	if err != nil {
		t.Fatal(err)
	}
	list := func(replica int) int {
		status, _ := send(t, agent.browser, http.MethodGet, p.servers[replica].URL+"/api/v1/certificates", key.Key.Reveal(), nil)
		return status
	}
	if status := list(1); status != http.StatusOK {
		t.Errorf("a key made at one replica is answered %d by the other", status)
	}
	if err := p.apis[0].RevokeAPIKey(t.Context(), key.ID); err != nil {
		t.Fatal(err)
	}
	if status := list(1); status != http.StatusUnauthorized {
		t.Errorf("a key revoked at one replica is answered %d by the other", status)
	}
}

// polls reports whether an agent is online, that is, has polled.
func polls(ctx context.Context, api *client.Client) error {
	for a, err := range api.Agents(ctx) {
		if err != nil {
			return err
		}
		if a.Status == "online" {
			return nil
		}
	}
	return errNotYet
}

func TestManyCreatesOverBothReplicasLeadToOneVersionEach(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	startAgent(t, p.servers[0], "web-1")
	dir := t.TempDir()
	names := numbered("site", 40)
	files(t, p.apis[0], "web-1", dir, names...)
	createAll(t, names, p.apis[:]...)
	awaitActive(t, p.apis[1], len(names))
	wantOneVersion(t, p.apis[0], dir, names)
}

// TestAReplicaThatDiesLeavesItsWorkToTheOther kills the replica that the agent
// polls and that, being the first, plans: the worst one to lose. It holds jobs
// that cannot go on, as a lock on the table of versions keeps them from storing
// what was signed.
func TestAReplicaThatDiesLeavesItsWorkToTheOther(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	startAgent(t, p.behind, "web-1")
	dir := t.TempDir()
	names := numbered("site", 40)
	files(t, p.apis[1], "web-1", dir, names...)
	database, err := pgx.Connect(t.Context(), p.database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = database.Close(context.Background()) })
	for _, statement := range []string{"BEGIN", "LOCK TABLE version IN EXCLUSIVE MODE"} {
		if _, err := database.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	createAll(t, names, p.apis[:]...)
	held := 0
	await(t, "both replicas to hold jobs", func(ctx context.Context) error {
		var replicas int
		err := database.QueryRow(ctx, `
			SELECT count(*), count(DISTINCT attempted_by[1]) FROM river_job WHERE state = 'running' AND kind = 'issuance_sign'`).Scan(&held, &replicas)
		if err == nil && (replicas < 2 || held < 10) {
			return fmt.Errorf("%d jobs at %d replicas", held, replicas)
		}
		return err
	})
	p.servers[0].Kill()
	p.front.turn(p.servers[1].URL)
	died := time.Now()
	if _, err := database.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	awaitActive(t, p.apis[1], len(names))
	took := time.Since(died)
	t.Logf("%d jobs were held; everything was done %s after the other replica died", held, took.Round(time.Millisecond))
	if took > 45*time.Second {
		t.Error("the jobs of the dead replica waited for their rescue")
	}
	wantOneVersion(t, p.apis[1], dir, names)
}

func TestReplicasServeTheSameStatusAfterARevocation(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	startAgent(t, p.servers[0], "web-1")
	dir := t.TempDir()
	files(t, p.apis[0], "web-1", dir, "www")
	createAll(t, []string{"www"}, p.apis[0])
	awaitActive(t, p.apis[0], 1)
	leaf := leafIn(t, filepath.Join(dir, "www.pem"))
	number := func(replica int) string { return crlNumber(t, p.at(replica, leaf.CRLDistributionPoints[0])) }
	before := [2]string{number(0), number(1)}
	if before[0] != before[1] {
		t.Fatalf("the replicas serve the CRLs %s and %s", before[0], before[1])
	}
	chain := chainOf(t, p.apis[0])
	intermediate := filepath.Join(t.TempDir(), "intermediate.pem")
	writeFile(t, intermediate, pki.Chain{chain[0]}.PEM())
	answer := func(replica int) string {
		return must(t, "openssl", "ocsp", "-issuer", intermediate, "-cert", filepath.Join(dir, "www.pem"),
			"-noverify", "-no_nonce", "-url", p.at(replica, leaf.OCSPServer[0]))
	}
	for i := range p.servers {
		if out := answer(i); !strings.Contains(out, "www.pem: good") {
			t.Fatalf("replica %d before: %s", i, out)
		}
	}
	if _, err := p.apis[0].Revoke(t.Context(), "www", "keyCompromise", false); err != nil {
		t.Fatal(err)
	}
	for i := range p.servers {
		if out := answer(i); !strings.Contains(out, "www.pem: revoked") {
			t.Errorf("replica %d after the revocation: %s", i, out)
		}
	}
	if a, b := number(0), number(1); a != b || a == before[0] {
		t.Errorf("the CRL had number %s; after the revocation the replicas serve %s and %s", before[0], a, b)
	}
}

// at gives the URL under which a replica serves what stands in a certificate.
func (p *pair) at(replica int, address string) string {
	p.t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.status[replica] + parsed.Path
}

// crlNumber fetches a CRL and gives its number.
func crlNumber(t *testing.T, address string) string {
	t.Helper()
	status, der := send(t, &http.Client{Timeout: 10 * time.Second}, http.MethodGet, address, "", nil)
	if status != http.StatusOK {
		t.Fatalf("%s: %d %s", address, status, der)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return list.Number.String()
}
