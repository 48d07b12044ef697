package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
)

// Key is the Idempotency-Key of one call, with what the call is.
type Key struct {
	Actor     string
	Value     string
	Operation string
	Request   []byte // hash of the request

	claimed *atomic.Bool // whether a change of this call has taken the key
}

// Response is what a call was answered.
type Response struct {
	Status int
	Header map[string]string
	Body   []byte
}

type keyKey struct{}

// WithKey returns a context in which the first change claims the key.
func WithKey(ctx context.Context, key Key) context.Context {
	key.claimed = &atomic.Bool{}
	return context.WithValue(ctx, keyKey{}, key)
}

// claim records, in the transaction of a change, that the call with this key
// has been carried out. Of two calls at the same time one waits here for the
// other and is then refused.
func claim(ctx context.Context, tx *db.Tx, objectID string, now time.Time) error {
	key, ok := ctx.Value(keyKey{}).(Key)
	if !ok {
		return nil
	}
	rows, err := db.Exec(ctx, tx, `
		INSERT INTO idempotency (actor_id, key, operation, request_hash, object_id, created_at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (actor_id, key) DO NOTHING`,
		key.Actor, key.Value, key.Operation, key.Request, objectID, now)
	if err != nil {
		return fmt.Errorf("claim idempotency key: %w", err)
	}
	if rows == 1 || key.claimed.Load() {
		key.claimed.Store(true)
		return nil
	}
	return problem.Conflict("another call with this Idempotency-Key is being carried out").
		Hint("repeat the call: it will be answered what the first one was")
}

type answered struct {
	Operation string `db:"operation"`
	Request   []byte `db:"request_hash"`
	ObjectID  string `db:"object_id"`
	Status    int    `db:"status"`
	Response  []byte `db:"response"`
}

// Replay gives the stored response of an earlier call with the same key, nil
// when there was none. The key of another call, or of one whose response was
// lost in a crash, is a conflict.
func Replay(ctx context.Context, q db.Querier, box *secret.Box, key Key) (*Response, error) {
	row, err := db.One[answered](ctx, q, `
		SELECT operation, request_hash, object_id, status, response FROM idempotency WHERE actor_id = $1 AND key = $2`,
		key.Actor, key.Value)
	if db.IsNoRows(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up idempotency key: %w", err)
	}
	if row.Operation != key.Operation || !bytes.Equal(row.Request, key.Request) {
		return nil, problem.Conflict("this Idempotency-Key was used for another request").
			Hint("use a new key for a new request")
	}
	if row.Status == 0 {
		return nil, problem.Conflict("the first call with this Idempotency-Key was carried out as %s, but its answer is not recorded", row.ObjectID).
			Hint("read %s to see its result", row.ObjectID)
	}
	plain, err := box.Open(purpose(key), row.Response)
	if err != nil {
		return nil, fmt.Errorf("open stored response: %w", err)
	}
	response := &Response{}
	if err := json.Unmarshal(plain, response); err != nil {
		return nil, fmt.Errorf("read stored response: %w", err)
	}
	return response, nil
}

// Remember stores the response of a call that claimed its key. The response is
// sealed, as it may show a secret that is shown only once.
func Remember(ctx context.Context, d *db.DB, box *secret.Box, key Key, response Response) error {
	plain, err := json.Marshal(response)
	if err != nil {
		return fmt.Errorf("store response: %w", err)
	}
	sealed, err := box.Seal(purpose(key), plain)
	if err != nil {
		return fmt.Errorf("store response: %w", err)
	}
	return d.InTx(ctx, func(tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, `UPDATE idempotency SET status = $1, response = $2 WHERE actor_id = $3 AND key = $4 AND status = 0`,
			response.Status, sealed, key.Actor, key.Value)
		return err
	})
}

func purpose(key Key) string { return "idempotency/" + key.Actor + "/" + key.Value }

// keepKeys is how long a call can be repeated with its key.
const keepKeys = 24 * time.Hour

// PurgeKeys forgets the keys of calls that are over a day old.
func PurgeKeys(ctx context.Context, d *db.DB, now time.Time) error {
	return d.InTx(ctx, func(tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, `DELETE FROM idempotency WHERE created_at < $1`, now.Add(-keepKeys))
		return err
	})
}
