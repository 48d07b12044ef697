package kubernetes_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/kubernetes"
	"github.com/certctl-io/certctl/internal/targets/targetstest"
)

func clientThatTrusts(roots []byte) *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
}

func newEngine(t testing.TB, stateDir string, config kubernetes.Config) *targets.Engine {
	t.Helper()
	engine, err := targets.NewEngine(stateDir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	engine.AddStore(kubernetes.StoreName, kubernetes.NewStore(config))
	return engine
}

func newJob(t testing.TB, deployment, target, settings string, b pki.Bundle) targets.Job {
	t.Helper()
	plan, err := kubernetes.Kind{}.Plan([]byte(settings), b)
	if err != nil {
		t.Fatal(err)
	}
	return targets.Job{DeploymentID: deployment, TargetID: target, Plan: plan, Fingerprint: targetstest.Fingerprint(b)}
}

// settings of a Secret in the cluster's namespace, with more settings.
func (c *cluster) settings(name, more string) string {
	return fmt.Sprintf(`{"namespace": %q, "name": %q%s}`, c.namespace, name, more)
}

func (c *cluster) wantHeld(t testing.TB, name string, b pki.Bundle) {
	t.Helper()
	s, found := c.look(t, name)
	if !found || !bytes.Equal(s.Data["tls.crt"], b.FullChainPEM()) {
		t.Fatalf("the Secret %s does not hold the certificate: %+v", name, s.Metadata)
	}
	if _, err := tls.X509KeyPair(s.Data["tls.crt"], s.Data["tls.key"]); err != nil {
		t.Error(err)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come about that %s", what)
		}
	}
}

func TestASecretIsMadeAndSaysWhatItHolds(t *testing.T) {
	t.Parallel()
	c, ca := newCluster(t), targetstest.NewCA(t)
	b := ca.Issue(t, "ecdsa-p256", "www.example.com")
	more := `, "ca": "chain", "labels": {"team": "web"}, "annotations": {"example.com/a": "b"}`
	report := newEngine(t, t.TempDir(), c.config).Deploy(t.Context(), newJob(t, "dep_1", "tgt_1", c.settings("web-tls", more), b))
	targetstest.WantOutcome(t, report, targets.OutcomeDeployed)
	c.wantHeld(t, "web-tls", b)
	s, _ := c.look(t, "web-tls")
	leaf, err := b.Chain.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	if s.Type != "kubernetes.io/tls" || !bytes.Equal(s.Data["ca.crt"], b.ChainPEM()) {
		t.Errorf("type %s, ca.crt %s", s.Type, s.Data["ca.crt"])
	}
	wantLabels := map[string]string{"app.kubernetes.io/managed-by": "certctl", "team": "web"}
	wantNotes := map[string]string{
		"certctl.io/target": "tgt_1", "certctl.io/serial": pki.SerialHex(leaf.SerialNumber), "example.com/a": "b",
		"certctl.io/not-after": leaf.NotAfter.UTC().Format(time.RFC3339), "certctl.io/fingerprint": targetstest.Fingerprint(b),
	}
	if diff := cmp.Diff(wantLabels, s.Metadata.Labels) + cmp.Diff(wantNotes, s.Metadata.Annotations); diff != "" {
		t.Error(diff)
	}
	if m := s.Metadata.ManagedFields; len(m) != 1 || m[0].Manager != "certctl" || m[0].Operation != "Apply" {
		t.Errorf("managed fields %+v", m)
	}
	text := fmt.Sprintf("%+v", report)
	if key, err := b.KeyPEM(); err != nil || strings.Contains(text, "PRIVATE") || strings.Contains(text, trimmed(key)) {
		t.Error("the report holds the key")
	}
}

func TestASecretFollowsItsSettings(t *testing.T) {
	t.Parallel()
	c, ca, state := newCluster(t), targetstest.NewCA(t), t.TempDir()
	b := ca.Issue(t, "ecdsa-p256", "www.example.com")
	deploy := func(id, more string) targets.Report {
		return newEngine(t, state, c.config).Deploy(t.Context(), newJob(t, id, "tgt_1", c.settings("web-tls", more), b))
	}
	targetstest.WantOutcome(t, deploy("dep_1", `, "ca": "chain", "labels": {"team": "web"}`), targets.OutcomeDeployed)
	c.edit(t, "web-tls", `{"metadata": {"labels": {"of-others": "x"}}, "data": {"of-others": "eA=="}}`)
	before, _ := c.look(t, "web-tls")

	targetstest.WantOutcome(t, deploy("dep_2", `, "ca": "chain", "labels": {"team": "web"}`), targets.OutcomeUnchanged)
	if same, _ := c.look(t, "web-tls"); same.Metadata.ResourceVersion != before.Metadata.ResourceVersion {
		t.Error("identical content was written")
	}
	targetstest.WantOutcome(t, deploy("dep_3", ""), targets.OutcomeDeployed)
	after, _ := c.look(t, "web-tls")
	if after.Metadata.Labels["team"] != "" || after.Data["ca.crt"] != nil {
		t.Errorf("what is not set any more is still there: %v", after.Metadata.Labels)
	}
	if after.Metadata.Labels["of-others"] != "x" || after.Data["of-others"] == nil {
		t.Error("what others added is gone")
	}
}

func TestAForeignSecretIsNotTouched(t *testing.T) {
	t.Parallel()
	c, ca := newCluster(t), targetstest.NewCA(t)
	engine, b := newEngine(t, t.TempDir(), c.config), ca.Issue(t, "ecdsa-p256", "www.example.com")
	c.create(t, "nobodys", `{}`)
	c.create(t, "helms", `{"app.kubernetes.io/managed-by": "Helm"}`)
	targetstest.WantOutcome(t, engine.Deploy(t.Context(), newJob(t, "dep_1", "tgt_other", c.settings("others", ""), b)), targets.OutcomeDeployed)
	for name, whose := range map[string]string{"nobodys": "somebody else made it", "helms": `managed by "Helm"`, "others": "for the target tgt_other"} {
		before, _ := c.look(t, name)
		report := engine.Deploy(t.Context(), newJob(t, "dep_2", "tgt_1", c.settings(name, ""), b))
		targetstest.WantOutcome(t, report, targets.OutcomeFailed)
		if report.Retryable || !strings.Contains(report.Reason, whose) || !strings.Contains(report.Reason, "nothing was changed") {
			t.Errorf("%s: %+v", name, report)
		}
		if after, _ := c.look(t, name); after.Metadata.ResourceVersion != before.Metadata.ResourceVersion {
			t.Errorf("%s was touched", name)
		}
	}
}

func TestWhatIsMissingInTheClusterIsSaid(t *testing.T) {
	t.Parallel()
	c, ca := newCluster(t), targetstest.NewCA(t)
	b := ca.Issue(t, "ecdsa-p256", "www.example.com")
	closed := newJob(t, "dep_1", "tgt_1", `{"namespace": "`+closedNamespace+`", "name": "x"}`, b)
	report := newEngine(t, t.TempDir(), c.config).Deploy(t.Context(), closed)
	targetstest.WantOutcome(t, report, targets.OutcomeFailed)
	if report.Retryable || !strings.Contains(report.Reason, "verbs get, watch, create, patch and delete") {
		t.Errorf("report %+v", report)
	}
	gone := c.config
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Server = "https://" + listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	report = newEngine(t, t.TempDir(), gone).Deploy(t.Context(), newJob(t, "dep_1", "tgt_1", c.settings("x", ""), b))
	targetstest.WantOutcome(t, report, targets.OutcomeFailed)
	if !report.Retryable || !strings.Contains(report.Reason, "cannot be reached") {
		t.Errorf("report %+v", report)
	}
}

// serve gives the address of a server that shows always the same certificate.
func serve(t testing.TB, b pki.Bundle) string {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: b.Chain, PrivateKey: b.Key}},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

func TestAProbeThatFailsBringsThePreviousContentBack(t *testing.T) {
	t.Parallel()
	c, ca, state := newCluster(t), targetstest.NewCA(t), t.TempDir()
	first, next := ca.Issue(t, "ecdsa-p256", "www.example.com"), ca.Issue(t, "ecdsa-p256", "www.example.com")
	settings := c.settings("web-tls", fmt.Sprintf(`, "probe": {"address": %q, "timeout": "300ms"}`, serve(t, first)))

	targetstest.WantOutcome(t, newEngine(t, state, c.config).Deploy(t.Context(), newJob(t, "dep_0", "tgt_1", settings, next)), targets.OutcomeRolledBack)
	if _, found := c.look(t, "web-tls"); found {
		t.Error("a Secret that was not there before is there after the way back")
	}
	targetstest.WantOutcome(t, newEngine(t, state, c.config).Deploy(t.Context(), newJob(t, "dep_1", "tgt_1", settings, first)), targets.OutcomeDeployed)
	report := newEngine(t, state, c.config).Deploy(t.Context(), newJob(t, "dep_2", "tgt_1", settings, next))
	targetstest.WantOutcome(t, report, targets.OutcomeRolledBack)
	if !strings.Contains(report.Reason, "the previous content is back") {
		t.Errorf("reason %q", report.Reason)
	}
	c.wantHeld(t, "web-tls", first)
}

func TestWhoChangesOrRemovesASecretFindsItRightAgain(t *testing.T) {
	t.Parallel()
	c, ca, state := newCluster(t), targetstest.NewCA(t), t.TempDir()
	engine := newEngine(t, state, c.config)
	stop := c.keep(t, engine)
	b := ca.Issue(t, "ecdsa-p256", "www.example.com")
	targetstest.WantOutcome(t, engine.Deploy(t.Context(), newJob(t, "dep_1", "tgt_1", c.settings("web-tls", `, "ca": "chain"`), b)), targets.OutcomeDeployed)
	right := func() bool {
		s, found := c.look(t, "web-tls")
		return found && bytes.Equal(s.Data["tls.crt"], b.FullChainPEM()) && bytes.Equal(s.Data["ca.crt"], b.ChainPEM()) &&
			s.Metadata.Annotations["certctl.io/fingerprint"] == targetstest.Fingerprint(b)
	}
	for _, patch := range []string{
		`{"data": {"tls.crt": "eA=="}}`, `{"data": {"ca.crt": null}}`, `{"metadata": {"annotations": {"certctl.io/fingerprint": "0"}}}`,
	} {
		c.edit(t, "web-tls", patch)
		eventually(t, "it is right after "+patch, right)
	}
	c.admin(t, http.MethodDelete, "secrets/web-tls", nil)
	eventually(t, "the removed Secret is back", right)

	// What happens while no agent runs is put right at its start, and what was
	// deployed last is what is right.
	stop()
	next := ca.Issue(t, "ecdsa-p256", "www.example.com")
	targetstest.WantOutcome(t, engine.Deploy(t.Context(), newJob(t, "dep_2", "tgt_1", c.settings("web-tls", `, "ca": "chain"`), next)), targets.OutcomeDeployed)
	b = next
	c.admin(t, http.MethodDelete, "secrets/web-tls", nil)
	c.keep(t, newEngine(t, state, c.config))
	eventually(t, "the Secret is back after the start", right)
}

func TestASecretThatWasTakenOverIsLeftToItsOwner(t *testing.T) {
	t.Parallel()
	c, ca := newCluster(t), targetstest.NewCA(t)
	engine := newEngine(t, t.TempDir(), c.config)
	b := ca.Issue(t, "ecdsa-p256", "www.example.com")
	targetstest.WantOutcome(t, engine.Deploy(t.Context(), newJob(t, "dep_1", "tgt_1", c.settings("web-tls", ""), b)), targets.OutcomeDeployed)
	c.edit(t, "web-tls", `{"metadata": {"labels": {"app.kubernetes.io/managed-by": "kubectl"}}, "data": {"tls.crt": "eA=="}}`)
	var log lockedBuffer
	c.keepWith(t, engine, slog.New(slog.NewTextHandler(&log, nil)))
	eventually(t, "the agent says so", func() bool { return strings.Contains(log.String(), "is not this target's") })
	if s, _ := c.look(t, "web-tls"); string(s.Data["tls.crt"]) != "x" {
		t.Error("a Secret that somebody took over was changed")
	}
}

func (c *cluster) keep(t testing.TB, engine *targets.Engine) (stop func()) {
	return c.keepWith(t, engine, slog.New(slog.DiscardHandler))
}

func (c *cluster) keepWith(t testing.TB, engine *targets.Engine, log *slog.Logger) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var keeping sync.WaitGroup
	keeping.Go(func() { engine.Keep(ctx, c.wanted, log) })
	stop = func() { cancel(); keeping.Wait() }
	t.Cleanup(stop)
	return stop
}

func TestTheSecretOfATargetThatWasGivenUpIsLeftAlone(t *testing.T) {
	t.Parallel()
	c, ca, state := newCluster(t), targetstest.NewCA(t), t.TempDir()
	engine, b := newEngine(t, state, c.config), ca.Issue(t, "ecdsa-p256", "www.example.com")
	for _, target := range []string{"tgt_1", "tgt_2"} {
		targetstest.WantOutcome(t, engine.Deploy(t.Context(), newJob(t, "dep_1", target, c.settings(target[4:], ""), b)), targets.OutcomeDeployed)
	}
	c.wanted = func(_ context.Context, targetID string) (bool, error) {
		if targetID == "tgt_2" {
			return true, errors.New("the server is away")
		}
		return false, nil
	}
	c.keep(t, engine)
	c.admin(t, http.MethodDelete, "secrets/1", nil)
	eventually(t, "the target is forgotten", func() bool {
		kept, err := filepath.Glob(filepath.Join(state, "targets", "tgt_1", "kept-*"))
		return err == nil && len(kept) == 0
	})
	if _, found := c.look(t, "1"); found {
		t.Error("the Secret of a target that was given up was made again")
	}
	c.admin(t, http.MethodDelete, "secrets/2", nil)
	eventually(t, "the Secret of the other is back", func() bool { _, found := c.look(t, "2"); return found })
}

// lockedBuffer is a buffer that may be read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func TestTheTokenIsReadAnew(t *testing.T) {
	t.Parallel()
	c, ca := newCluster(t), targetstest.NewCA(t)
	c.config.TokenFile = t.TempDir() + "/token"
	engine, b := newEngine(t, t.TempDir(), c.config), ca.Issue(t, "ecdsa-p256", "www.example.com")
	targetstest.WriteFile(t, c.config.TokenFile, "stale", 0o600)
	report := engine.Deploy(t.Context(), newJob(t, "dep_1", "tgt_1", c.settings("web-tls", ""), b))
	targetstest.WantOutcome(t, report, targets.OutcomeFailed)
	if !report.Retryable {
		t.Errorf("report %+v", report)
	}
	targetstest.WriteFile(t, c.config.TokenFile, agentToken+"\n", 0o600)
	targetstest.WantOutcome(t, engine.Deploy(t.Context(), newJob(t, "dep_1", "tgt_1", c.settings("web-tls", ""), b)), targets.OutcomeDeployed)
}
