package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/riverqueue/river"

	"github.com/certctl-io/certctl/internal/access"
	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/api"
	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/config"
	"github.com/certctl-io/certctl/internal/deployment"
	"github.com/certctl-io/certctl/internal/fleet"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/issuance"
	"github.com/certctl-io/certctl/internal/issuer"
	"github.com/certctl-io/certctl/internal/issuers/local"
	"github.com/certctl-io/certctl/internal/jobs"
	"github.com/certctl-io/certctl/internal/kube"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/profile"
	"github.com/certctl-io/certctl/internal/queue"
	"github.com/certctl-io/certctl/internal/status"
	"github.com/certctl-io/certctl/internal/targets/kinds"
	"github.com/certctl-io/certctl/internal/telemetry"
	"github.com/certctl-io/certctl/internal/version"
)

// features are the parts that know certificates.
type features struct {
	keys        *access.Service
	profiles    *profile.Service
	issuers     *issuer.Service
	inventory   *inventory.Service
	issuance    *issuance.Service
	deployments *deployment.Service
	fleet       *fleet.Service
	status      *status.Service
	metrics     *telemetry.Metrics
	api         *api.API
}

// build makes the features, each of those before it, and what runs them.
func (a *App) build(ctx context.Context) error {
	if err := a.openServerID(ctx); err != nil {
		return err
	}
	jobQueue, err := queue.NewInserter(a.db)
	if err != nil {
		return err
	}
	ca, err := local.New(a.db, a.box, pki.NewLinter(), a.now, local.Config{
		StatusURL: pki.StatusURL(a.settings.StatusURL), ShardSize: a.settings.CRLShardSize,
	})
	if err != nil {
		return err
	}
	f := &features{metrics: telemetry.NewMetrics(a.log), keys: access.NewService(a.db, a.now), profiles: profile.New(a.db, a.now)}
	f.issuers = issuer.New(issuer.Config{
		DB: a.db, Box: a.box, Drivers: map[string]issuer.Driver{local.Type: localIssuers{ca}}, Now: a.now, Logger: a.log,
	})
	f.status = status.New(status.Config{
		DB: a.db, Box: a.box, Queue: jobQueue, Authorities: localAuthorities{ca}, Now: a.now, Logger: a.log,
	})
	tasks := agentTasks{fleet.NewTasks(a.now)}
	f.deployments, err = deployment.New(deployment.Config{
		DB: a.db, Box: a.box, Kinds: kinds.All(), Tasks: tasks, Queue: jobQueue, Now: a.now, Jitter: rand.Float64, Logger: a.log,
	})
	if err != nil {
		return err
	}
	f.issuance, err = issuance.New(issuance.Config{
		DB: a.db, Resolve: resolver(f.issuers), Tasks: tasks, Deployments: f.deployments, Queue: jobQueue,
		Now: a.now, Logger: a.log, Jitter: rand.Float64, Finished: f.metrics.OrderFinished,
	})
	if err != nil {
		return err
	}
	f.inventory = inventory.New(inventory.Config{
		DB: a.db, Profiles: f.profiles, Issuers: f.issuers, Targets: f.deployments, Orders: f.issuance, Status: f.status, Now: a.now,
	})
	kubernetes, err := a.kubernetes()
	if err != nil {
		return err
	}
	f.fleet, err = fleet.NewService(fleet.Options{
		DB:         a.db,
		Builders:   map[string]fleet.Builder{agentapi.TaskCSR: f.issuance.BuildCSR, agentapi.TaskDeploy: f.deployments.Build},
		Leavers:    []fleet.Leaver{f.issuance.LeaveAgent, f.deployments.LeaveAgent},
		Returners:  []fleet.Returner{f.issuance.ReturnAgent},
		Kubernetes: kubernetes, ServerID: a.serverID, MaxWait: a.settings.PollWait, Now: a.now, Logger: a.log,
	})
	if err != nil {
		return err
	}
	a.features = f
	a.registerMetrics()
	if f.api, err = a.buildAPI(jobQueue); err != nil {
		return err
	}
	a.runner, err = a.buildRunner()
	return err
}

// kubernetes gives what has the ServiceAccount tokens of agents reviewed; nil
// where nothing has.
func (a *App) kubernetes() (fleet.Kubernetes, error) {
	wanted := a.settings.KubernetesTokenReview
	cluster, found := kube.InCluster(os.Getenv, kube.CredentialsDir)
	if a.cluster != nil {
		cluster, found = *a.cluster, true
	}
	if wanted == config.ReviewOff || wanted == config.ReviewAuto && !found {
		return nil, nil
	}
	if !found {
		return nil, problem.Invalid("kubernetes_token_review", "it is on, but there are no credentials for the API server of a Kubernetes cluster here").
			Hint("mount the ServiceAccount token into the server's pod, or set it to auto")
	}
	a.log.Info("the Kubernetes tokens of agents are reviewed", "api_server", net.JoinHostPort(cluster.Host, cluster.Port), "audience", a.settings.KubernetesAudience)
	return kube.NewReviewer(cluster, a.settings.KubernetesAudience)
}

func (a *App) buildAPI(jobQueue *queue.Inserter) (*api.API, error) {
	f := a.features
	return api.New(api.Config{
		DB: a.db, Box: a.box, Keys: f.keys, Agents: f.fleet, Metrics: f.metrics, Logger: a.log,
		Version: version.String(), ServerID: a.serverID, PublicURL: a.URL(), Started: a.started, Ready: a.ready,
		BodyLimit: int64(a.settings.BodyLimit), RateRPS: a.settings.RateLimitRPS, RateBurst: a.settings.RateLimitBurst,
		Routes: []func(huma.API){
			f.inventory.Routes, f.issuance.Routes, f.deployments.Routes, f.profiles.Routes, f.issuers.Routes, f.fleet.Routes, f.keys.Routes,
			func(h huma.API) { audit.Routes(h, a.db) },
			func(h huma.API) { jobs.Routes(h, a.db, jobQueue) },
		},
	})
}

func (a *App) buildRunner() (*queue.Runner, error) {
	f := a.features
	workers := river.NewWorkers()
	for _, feature := range []interface{ Register(*river.Workers) }{f.issuance, f.issuers, f.fleet, f.status} {
		feature.Register(workers)
	}
	river.AddWorker(workers, river.WorkFunc(a.purgeKeys))
	periodic := slices.Concat(f.issuance.Periodic(), f.issuers.Periodic(), f.fleet.Periodic(), f.status.Periodic(), purgePeriodic())
	return queue.NewRunner(a.db, queue.Config{
		Replica: a.replica(), Workers: a.settings.QueueWorkers, Registry: workers, Periodic: periodic, Logger: a.log,
	})
}

// replica names this server among others on the same database, and is the same
// after a restart.
func (a *App) replica() string {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "localhost"
	}
	dir, err := filepath.Abs(a.settings.DataDir)
	if err != nil {
		dir = a.settings.DataDir
	}
	sum := sha256.Sum256([]byte(dir))
	return hostname[:min(len(hostname), 63)] + "-" + hex.EncodeToString(sum[:6])
}
