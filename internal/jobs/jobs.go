// Package jobs shows the server's background work to people, and lets them run
// a job again or end it. The queue itself is package queue.
package jobs

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/riverqueue/river/rivertype"

	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/queue"
	"github.com/certctl-io/certctl/internal/rest"
)

// View is a job as the API shows it.
type View struct {
	ID          int64           `json:"id"`
	Kind        string          `json:"kind" doc:"What the job does." example:"issuance_sign"`
	State       string          `json:"state" enum:"available,cancelled,completed,discarded,pending,retryable,running,scheduled"`
	Queue       string          `json:"queue"`
	Args        json.RawMessage `json:"args" doc:"What it works on; ids and nothing secret."`
	Attempt     int             `json:"attempt"`
	MaxAttempts int             `json:"max_attempts"`
	Error       string          `json:"error,omitempty" doc:"What the last attempt that failed ran into."`
	ScheduledAt time.Time       `json:"scheduled_at" doc:"When it runs, or could run first."`
	AttemptedAt *time.Time      `json:"attempted_at,omitempty"`
	FinalizedAt *time.Time      `json:"finalized_at,omitempty"`
	CreatedAt   time.Time       `json:"created_at"`
}

func newView(j *rivertype.JobRow) View {
	v := View{
		ID: j.ID, Kind: j.Kind, State: string(j.State), Queue: j.Queue, Args: json.RawMessage(j.EncodedArgs),
		Attempt: j.Attempt, MaxAttempts: j.MaxAttempts, ScheduledAt: j.ScheduledAt, AttemptedAt: j.AttemptedAt,
		FinalizedAt: j.FinalizedAt, CreatedAt: j.CreatedAt,
	}
	if len(j.Errors) > 0 {
		v.Error = j.Errors[len(j.Errors)-1].Error
	}
	return v
}

type listInput struct {
	Limit  int      `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"Most items to return."`
	Cursor string   `query:"cursor" doc:"next_cursor of the page before; leave it out for the first page."`
	Kind   string   `query:"kind" doc:"Only jobs of this kind."`
	State  []string `query:"state,explode" doc:"Only jobs in these states; repeated, in any of them."`
}

type jobInput struct {
	ID int64 `path:"id" doc:"Id of the job."`
}

// Routes registers the operations on jobs.
func Routes(api huma.API, d *db.DB, q *queue.Inserter) {
	tags := []string{"Jobs"}
	rest.Register(api, rest.JobsRead, huma.Operation{
		OperationID: "list-jobs", Method: http.MethodGet, Path: "/api/v1/jobs", Tags: tags, Summary: "List jobs",
		Description: "The newest come first. Jobs that are over are kept for a day, failed ones for a week.",
	}, func(ctx context.Context, in *listInput) (*rest.ListOutput[View], error) {
		return rest.Listed(newView)(q.List(ctx, queue.Filter{Kind: in.Kind, States: in.State}, in.Limit, in.Cursor))
	})
	rest.Register(api, rest.JobsRead, huma.Operation{
		OperationID: "get-job", Method: http.MethodGet, Path: "/api/v1/jobs/{id}", Tags: tags, Summary: "Get a job",
	}, func(ctx context.Context, in *jobInput) (*rest.Output[View], error) {
		job, err := q.Get(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		return rest.NewOutput(newView(job)), nil
	})
	change := func(verb, summary, description string, do func(context.Context, *db.Tx, int64) (*rivertype.JobRow, error)) {
		rest.Register(api, rest.JobsWrite, huma.Operation{
			OperationID: verb + "-job", Method: http.MethodPost, Path: "/api/v1/jobs/{id}/" + verb, Tags: tags,
			Summary: summary, Description: description,
		}, func(ctx context.Context, in *jobInput) (*rest.Output[View], error) {
			var changed View
			err := d.InTx(ctx, func(tx *db.Tx) error {
				job, err := do(ctx, tx, in.ID)
				if err != nil {
					return err
				}
				changed = newView(job)
				return audit.Append(ctx, tx, audit.Change{
					Action: "job." + verb, ObjectKind: "job", ObjectID: strconv.FormatInt(in.ID, 10), After: changed,
				})
			})
			return rest.NewOutput(changed), err
		})
	}
	change("retry", "Run a job again now", "A job that runs at the moment is refused.", q.Retry)
	change("cancel", "End a job", "A job that is over is refused.", q.Cancel)
}
