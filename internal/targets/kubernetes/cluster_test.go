package kubernetes_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/kubernetes"
)

// binariesVariable names a directory with the programs etcd and kube-apiserver.
// With it the tests run against these instead of the fake.
const binariesVariable = "CERTCTL_TEST_KUBERNETES"

const (
	adminToken = "admin-token"
	agentToken = "agent-token"

	// closedNamespace is one in which the agent has no rights.
	closedNamespace = "closed"
	startTimeout    = time.Minute
)

// api is the API server of all tests; each has a namespace of its own.
var api struct {
	url, caFile string
	client      *http.Client
	namespaces  atomic.Int32
}

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "kubernetes")
	if err != nil {
		panic(err)
	}
	stop, err := startAPI(dir)
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	stop()
	if err := os.RemoveAll(dir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

func startAPI(dir string) (stop func(), err error) {
	api.caFile = filepath.Join(dir, "apiserver.crt")
	if err := os.WriteFile(filepath.Join(dir, "agent"), []byte(agentToken+"\n"), 0o600); err != nil {
		return func() {}, err
	}
	binaries := os.Getenv(binariesVariable)
	if binaries != "" {
		return startReal(dir, binaries)
	}
	server := httptest.NewUnstartedServer(newFakeAPI())
	server.EnableHTTP2 = true
	server.StartTLS()
	api.url, api.client = server.URL, server.Client()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return func() { server.CloseClientConnections(); server.Close() }, os.WriteFile(api.caFile, text, 0o600)
}

// startReal starts etcd and an API server whose agent has the rights that the
// documentation asks for.
func startReal(dir, binaries string) (stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	var running []*exec.Cmd
	stop = func() {
		cancel()
		for _, program := range running {
			_ = program.Wait() // it was killed
		}
	}
	start := func(name string, args ...string) error {
		program := exec.CommandContext(ctx, filepath.Join(binaries, name), args...)
		output, err := os.Create(filepath.Join(dir, name+".log"))
		if err != nil {
			return err
		}
		program.Stdout, program.Stderr = output, output
		running = append(running, program)
		return program.Start()
	}
	ports, err := freePorts(3)
	if err != nil {
		return stop, err
	}
	etcd, peers := "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1]
	tokens := adminToken + ",admin,1,system:masters\n" + agentToken + ",agent,2\n"
	key, err := exec.CommandContext(ctx, "openssl", "genrsa", "2048").Output()
	err = errors.Join(err, os.WriteFile(filepath.Join(dir, "tokens"), []byte(tokens), 0o600), os.WriteFile(filepath.Join(dir, "sa.key"), key, 0o600))
	if err != nil {
		return stop, err
	}
	err = errors.Join(
		start("etcd", "--data-dir="+filepath.Join(dir, "etcd"), "--listen-client-urls="+etcd, "--advertise-client-urls="+etcd,
			"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=default="+peers),
		start("kube-apiserver", "--etcd-servers="+etcd, "--bind-address=127.0.0.1", "--secure-port="+ports[2], "--cert-dir="+dir,
			"--authorization-mode=RBAC", "--token-auth-file="+filepath.Join(dir, "tokens"), "--service-cluster-ip-range=10.96.0.0/16",
			"--disable-admission-plugins=ServiceAccount", "--service-account-issuer=https://kubernetes.default",
			"--service-account-key-file="+filepath.Join(dir, "sa.key"), "--service-account-signing-key-file="+filepath.Join(dir, "sa.key")))
	if err != nil {
		return stop, err
	}
	return stop, awaitReal(dir, "https://127.0.0.1:"+ports[2])
}

// freePorts gives ports that nobody listens on.
func freePorts(count int) (ports []string, err error) {
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = listener.Close() }()
		_, port, err := net.SplitHostPort(listener.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

func awaitReal(dir, address string) error {
	api.url = address
	last := errors.New("it has not started")
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		text, err := os.ReadFile(api.caFile)
		if err != nil {
			continue
		}
		api.client = clientThatTrusts(text)
		if _, last = request(http.MethodGet, "/readyz", "", nil); last == nil {
			return nil
		}
	}
	log, err := os.ReadFile(filepath.Join(dir, "kube-apiserver.log"))
	return errors.Join(fmt.Errorf("the API server is not ready: %w\n%s", last, log), err)
}

// cluster is a namespace of the API server in which an agent may keep Secrets.
type cluster struct {
	namespace string
	config    kubernetes.Config
	wanted    targets.Wanted // what the server says of targets
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{namespace: fmt.Sprintf("ns-%d", api.namespaces.Add(1))}
	c.wanted = func(context.Context, string) (bool, error) { return true, nil }
	c.config = kubernetes.Config{Server: api.url, CAFile: api.caFile, TokenFile: filepath.Join(filepath.Dir(api.caFile), "agent")}
	c.admin(t, http.MethodPost, "", map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": c.namespace}})
	if os.Getenv(binariesVariable) == "" {
		return c
	}
	meta := map[string]any{"name": "agent", "namespace": c.namespace}
	rights := "/apis/rbac.authorization.k8s.io/v1/namespaces/" + c.namespace
	c.adminAt(t, http.MethodPost, rights+"/roles", map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta,
		"rules": []any{map[string]any{"apiGroups": []string{""}, "resources": []string{"secrets"}, "verbs": []string{"get", "watch", "create", "patch", "delete"}}},
	})
	c.adminAt(t, http.MethodPost, rights+"/rolebindings", map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta,
		"subjects": []any{map[string]any{"kind": "User", "name": "agent", "apiGroup": "rbac.authorization.k8s.io"}},
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "agent"},
	})
	return c
}

// admin does something about namespaces, or what is in the test's.
func (c *cluster) admin(t testing.TB, method, path string, body any) []byte {
	t.Helper()
	if path != "" {
		path = "/" + c.namespace + "/" + path
	}
	return c.adminAt(t, method, "/api/v1/namespaces"+path, body)
}

func (c *cluster) adminAt(t testing.TB, method, path string, body any) []byte {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := request(method, path, "application/merge-patch+json", text)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

var errNotFound = errors.New("not found")

// request is one of the administrator.
func request(method, path, patchType string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, api.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", patchType)
	}
	response, err := api.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	switch {
	case response.StatusCode == http.StatusNotFound:
		return nil, errNotFound
	case response.StatusCode >= 300:
		return nil, fmt.Errorf("%s %s: %s %s", method, path, response.Status, answer)
	}
	return answer, err
}

// secret is a Secret as the administrator sees it.
type secret struct {
	Type     string            `json:"type"`
	Data     map[string][]byte `json:"data"`
	Metadata struct {
		UID             string            `json:"uid"`
		ResourceVersion string            `json:"resourceVersion"`
		Labels          map[string]string `json:"labels"`
		Annotations     map[string]string `json:"annotations"`
		ManagedFields   []struct {
			Manager   string `json:"manager"`
			Operation string `json:"operation"`
		} `json:"managedFields"`
	} `json:"metadata"`
}

func (c *cluster) look(t testing.TB, name string) (s secret, found bool) {
	t.Helper()
	answer, err := request(http.MethodGet, "/api/v1/namespaces/"+c.namespace+"/secrets/"+name, "", nil)
	if errors.Is(err, errNotFound) {
		return s, false
	}
	if err == nil {
		err = json.Unmarshal(answer, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s, true
}

// edit changes a Secret as kubectl edit does.
func (c *cluster) edit(t testing.TB, name, patch string) {
	t.Helper()
	c.admin(t, http.MethodPatch, "secrets/"+name+"?fieldManager=kubectl-edit", json.RawMessage(patch))
}

// create makes a Secret that is not certctl's.
func (c *cluster) create(t testing.TB, name, labels string) {
	t.Helper()
	c.admin(t, http.MethodPost, "secrets", json.RawMessage(fmt.Sprintf(
		`{"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": %q, "labels": %s}, "data": {"tls.crt": "eA==", "tls.key": "eA=="}}`,
		name, labels,
	)))
}

func trimmed(text []byte) string { return strings.TrimSpace(string(text)) }
