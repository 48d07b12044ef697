package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
)

// States are the names of all states of a job.
func States() []string {
	var names []string
	for _, s := range rivertype.JobStates() {
		names = append(names, string(s))
	}
	slices.Sort(names)
	return names
}

// Filter narrows a list of jobs; empty fields do not.
type Filter struct {
	Kind   string
	States []string
}

// List reads a page of jobs, newest first, and the cursor of the next one.
func (i *Inserter) List(ctx context.Context, f Filter, limit int, cursor string) ([]*rivertype.JobRow, string, error) {
	params := river.NewJobListParams().First(limit).OrderBy(river.JobListOrderByID, river.SortOrderDesc)
	if f.Kind != "" {
		params = params.Kinds(f.Kind)
	}
	var states []rivertype.JobState
	for _, state := range f.States {
		if !slices.Contains(States(), state) {
			return nil, "", problem.Invalid("state", "%q is not a state of jobs", state).Hint("use one of %s", strings.Join(States(), ", "))
		}
		states = append(states, rivertype.JobState(state))
	}
	if len(states) > 0 {
		params = params.States(states...)
	}
	if cursor != "" {
		after := &river.JobListCursor{}
		if err := after.UnmarshalText([]byte(cursor)); err != nil {
			return nil, "", problem.Invalid("cursor", "it is not one that this list gave").Hint("start again without a cursor")
		}
		params = params.After(after)
	}
	found, err := i.client.JobList(ctx, params)
	if err != nil {
		return nil, "", fmt.Errorf("list jobs: %w", err)
	}
	if len(found.Jobs) < limit {
		return found.Jobs, "", nil
	}
	next, err := found.LastCursor.MarshalText()
	if err != nil {
		return nil, "", fmt.Errorf("list jobs: %w", err)
	}
	return found.Jobs, string(next), nil
}

// Get reads one job.
func (i *Inserter) Get(ctx context.Context, jobID int64) (*rivertype.JobRow, error) {
	job, err := i.client.JobGet(ctx, jobID)
	return job, explain(jobID, err)
}

// Retry makes a job run now, whatever became of it before.
func (i *Inserter) Retry(ctx context.Context, tx *db.Tx, jobID int64) (*rivertype.JobRow, error) {
	job, err := i.client.JobGetTx(ctx, tx.Tx, jobID)
	if err == nil && job.State == rivertype.JobStateRunning {
		return nil, problem.Conflict("job %d is running", jobID).Hint("wait for it to end")
	}
	if err == nil {
		job, err = i.client.JobRetryTx(ctx, tx.Tx, jobID)
	}
	return job, explain(jobID, err)
}

// Cancel ends a job. One that runs is told to stop.
func (i *Inserter) Cancel(ctx context.Context, tx *db.Tx, jobID int64) (*rivertype.JobRow, error) {
	job, err := i.client.JobGetTx(ctx, tx.Tx, jobID)
	if err == nil && job.FinalizedAt != nil {
		return nil, problem.Conflict("job %d is over: %s", jobID, job.State)
	}
	if err == nil {
		job, err = i.client.JobCancelTx(ctx, tx.Tx, jobID)
	}
	return job, explain(jobID, err)
}

func explain(jobID int64, err error) error {
	if errors.Is(err, rivertype.ErrNotFound) {
		return problem.NotFound("job", strconv.FormatInt(jobID, 10))
	}
	if err != nil {
		return fmt.Errorf("job %d: %w", jobID, err)
	}
	return nil
}

// Counts says how many jobs that are not over are in each state.
func Counts(ctx context.Context, q db.Querier) (map[string]int, error) {
	rows, err := db.All[struct {
		State string `db:"state"`
		Count int    `db:"count"`
	}](ctx, q, `SELECT CAST(state AS text) AS state, COUNT(*) AS count FROM river_job WHERE finalized_at IS NULL GROUP BY state`)
	if err != nil {
		return nil, fmt.Errorf("count jobs: %w", err)
	}
	counts := map[string]int{}
	for _, r := range rows {
		counts[r.State] = r.Count
	}
	return counts, nil
}
