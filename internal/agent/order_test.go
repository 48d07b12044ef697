package agent_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/targets"
)

// order is one order of a certificate, as the server sees it.
type order struct {
	t                       *testing.T
	id, certificate, taskID string
	names                   pki.Names
}

func newOrder(t *testing.T) order {
	t.Helper()
	names, err := pki.ParseNames([]string{"www.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	return order{t: t, id: id.New("ord"), certificate: id.New("crt"), taskID: id.New("tsk"), names: names}
}

func (o order) csrTask() agentapi.Task {
	return agentapi.Task{ID: o.taskID, Kind: agentapi.TaskCSR, CSR: &agentapi.CSRTask{
		OrderID: o.id, CertificateID: o.certificate, CommonName: "www.example.com", Names: o.names, KeyType: pki.ECDSAP256,
	}}
}

// csr reads the request that answers the order.
func (o order) csr(s submission) *x509.CertificateRequest {
	o.t.Helper()
	var body agentapi.CSRSubmission
	if err := json.Unmarshal(s.body, &body); err != nil || s.path != agentapi.WithID(agentapi.PathOrderCSR, o.id) {
		o.t.Fatalf("%s: %s (%v)", s.path, s.body, err)
	}
	csr, err := pki.ParseCSR([]byte(body.CSR))
	if err != nil {
		o.t.Fatal(err)
	}
	if err := pki.CheckCSR(csr, "www.example.com", o.names, pki.ECDSAP256); err != nil {
		o.t.Error(err)
	}
	return csr
}

// issue signs what the agent asked for.
func (o order) issue(s submission) pki.Chain {
	o.t.Helper()
	caKey, err := pki.GenerateKey(pki.ECDSAP256)
	if err != nil {
		o.t.Fatal(err)
	}
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Test CA"}, SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	root, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		o.t.Fatal(err)
	}
	leaf := &x509.Certificate{
		DNSNames: o.names.DNS, SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, o.csr(s).PublicKey, caKey)
	if err != nil {
		o.t.Fatal(err)
	}
	return pki.Chain{der, root}
}

// target is a place on this host.
type target struct {
	id, key, fullchain string
	settings           map[string]any
}

// fileTarget is a target of two files in a directory.
func fileTarget(t *testing.T, dir string) target {
	t.Helper()
	f := target{id: id.New("tgt"), key: filepath.Join(dir, "key.pem"), fullchain: filepath.Join(dir, "fullchain.pem")}
	f.settings = map[string]any{"key": f.key, "fullchain": f.fullchain}
	return f
}

func (o order) deployTask(chain pki.Chain, to target) agentapi.Task {
	o.t.Helper()
	settings, err := json.Marshal(to.settings)
	if err != nil {
		o.t.Fatal(err)
	}
	return agentapi.Task{ID: id.New("tsk"), Kind: agentapi.TaskDeploy, Deploy: &agentapi.DeployTask{
		DeploymentID: id.New("dep"), TargetID: to.id, TargetName: "files", CertificateID: o.certificate, OrderID: o.id, Kind: "file",
		Settings: settings, Chain: string(chain.PEM()), Names: o.names, Fingerprint: pki.Fingerprint(chain[0]),
	}}
}

// report reads the report about a deployment.
func report(t *testing.T, s submission, task agentapi.Task) targets.Report {
	t.Helper()
	var r targets.Report
	if err := json.Unmarshal(s.body, &r); err != nil || s.path != agentapi.WithID(agentapi.PathDeploymentResult, task.Deploy.DeploymentID) {
		t.Fatalf("%s: %s (%v)", s.path, s.body, err)
	}
	return r
}
