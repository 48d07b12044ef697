package app

import (
	"context"
	"time"

	"github.com/riverqueue/river"

	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/queue"
	"github.com/certctl-io/certctl/internal/telemetry"
)

const purgeEvery = time.Hour

// purgeArgs is the periodic job that forgets old idempotency keys.
type purgeArgs struct{}

// Kind implements river.JobArgs.
func (purgeArgs) Kind() string { return "audit_purge_keys" }

// InsertOpts implements river.JobArgsWithInsertOpts: the next run makes up for
// one that failed.
func (purgeArgs) InsertOpts() river.InsertOpts { return river.InsertOpts{MaxAttempts: 1} }

func (a *App) purgeKeys(ctx context.Context, _ *river.Job[purgeArgs]) error {
	return audit.PurgeKeys(ctx, a.db, a.now())
}

func purgePeriodic() []*river.PeriodicJob {
	return []*river.PeriodicJob{river.NewPeriodicJob(
		river.PeriodicInterval(purgeEvery),
		func() (river.JobArgs, *river.InsertOpts) { return purgeArgs{}, nil },
		&river.PeriodicJobOpts{RunOnStart: true},
	)}
}

// registerMetrics adds the numbers that are read from the database when they
// are asked for.
func (a *App) registerMetrics() {
	f := a.features
	f.metrics.Gauges("certctl_orders", "Orders that are open, by state.", []string{"state"}, counted(f.issuance.Counts))
	f.metrics.Gauges("certctl_deployments", "Deployments that are open, and targets whose last deployment failed, by state.", []string{"state"}, counted(f.deployments.Counts))
	f.metrics.Gauges("certctl_agents", "Agents by status.", []string{"status"}, counted(f.fleet.Counts))
	f.metrics.Gauges("certctl_jobs", "Background jobs that are not over, by state.", []string{"state"},
		counted(func(ctx context.Context) (map[string]int, error) { return queue.Counts(ctx, a.db.Read()) }))
}

// counted turns counts by a word into samples with that word as label.
func counted[W ~string](read func(context.Context) (map[W]int, error)) func(context.Context) ([]telemetry.Sample, error) {
	return func(ctx context.Context) ([]telemetry.Sample, error) {
		counts, err := read(ctx)
		if err != nil {
			return nil, err
		}
		samples := make([]telemetry.Sample, 0, len(counts))
		for word, count := range counts {
			samples = append(samples, telemetry.Sample{Labels: []string{string(word)}, Value: float64(count)})
		}
		return samples, nil
	}
}
