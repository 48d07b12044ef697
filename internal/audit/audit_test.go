package audit_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/testkit"
)

func newBox(t *testing.T) *secret.Box {
	t.Helper()
	box, err := secret.NewBox(bytes.Repeat([]byte{1}, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return box
}

// change makes a change in the name of whoever the context says.
func change(ctx context.Context, d *db.DB, objectID string) error {
	return d.InTx(ctx, func(tx *db.Tx) error {
		return audit.Append(ctx, tx, audit.Change{
			Action: "thing.create", ObjectKind: "thing", ObjectID: objectID, After: map[string]string{"name": "a"},
		})
	})
}

func count(t *testing.T, d *db.DB, query string) int {
	t.Helper()
	n, err := db.One[int](t.Context(), d.Read(), query)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAnEventSaysWhoDidWhatFromWhere(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		ctx := audit.WithActor(t.Context(), audit.Actor{Kind: "user", ID: "key_1", Name: "ci", Address: "192.0.2.7", RequestID: "req_1"})
		if err := change(ctx, d, "thg_1"); err != nil {
			t.Fatal(err)
		}
		if err := change(t.Context(), d, "thg_2"); err != nil {
			t.Fatal(err)
		}
		found, err := db.All[audit.Event](t.Context(), d.Read(), `SELECT id, at, actor_kind, actor_id, actor_name, address, request_id,
			action, object_kind, object_id, before, after FROM audit_event ORDER BY id`)
		if err != nil || len(found) != 2 {
			t.Fatalf("%d events, %v", len(found), err)
		}
		e := found[0]
		if e.ActorID != "key_1" || e.ActorName != "ci" || e.Address != "192.0.2.7" || e.RequestID != "req_1" || e.ObjectID != "thg_1" {
			t.Errorf("%+v", e)
		}
		if found[1].ActorKind != "system" {
			t.Errorf("a change that nobody asked for was made by %q", found[1].ActorKind)
		}
	})
}

func TestAChangeThatIsRolledBackLeavesNoEventAndNoKey(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		ctx := audit.WithKey(t.Context(), audit.Key{Actor: "key_1", Value: "k", Operation: "POST /things", Request: []byte("hash")})
		refused := errors.New("refused")
		err := d.InTx(ctx, func(tx *db.Tx) error {
			if err := audit.Append(ctx, tx, audit.Change{Action: "thing.create", ObjectKind: "thing", ObjectID: "thg_1"}); err != nil {
				return err
			}
			return refused
		})
		if !errors.Is(err, refused) {
			t.Fatal(err)
		}
		if n := count(t, d, "SELECT (SELECT COUNT(*) FROM audit_event) + (SELECT COUNT(*) FROM idempotency)"); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

func TestAKeyIsForOneCall(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		box := newBox(t)
		key := audit.Key{Actor: "key_1", Value: "k", Operation: "POST /things", Request: []byte("hash")}
		if err := change(audit.WithKey(t.Context(), key), d, "thg_1"); err != nil {
			t.Fatal(err)
		}
		if err := change(audit.WithKey(t.Context(), key), d, "thg_2"); problem.KindOf(err) != problem.KindConflict {
			t.Errorf("a second call with the key: %v", err)
		}
		// The process ended before the answer was kept.
		if _, err := audit.Replay(t.Context(), d.Read(), box, key); problem.KindOf(err) != problem.KindConflict {
			t.Errorf("a call without its answer: %v", err)
		}
		answer := audit.Response{Status: 201, Header: map[string]string{"ETag": `"1"`}, Body: []byte(`{"key":"shown once"}`)}
		if err := audit.Remember(t.Context(), d, box, key, answer); err != nil {
			t.Fatal(err)
		}
		replayed, err := audit.Replay(t.Context(), d.Read(), box, key)
		if err != nil || replayed.Status != 201 || !bytes.Equal(replayed.Body, answer.Body) {
			t.Errorf("%+v, %v", replayed, err)
		}
		for _, other := range []audit.Key{
			{Actor: "key_1", Value: "k", Operation: "POST /other", Request: []byte("hash")},
			{Actor: "key_1", Value: "k", Operation: "POST /things", Request: []byte("other")},
		} {
			if _, err := audit.Replay(t.Context(), d.Read(), box, other); problem.KindOf(err) != problem.KindConflict {
				t.Errorf("%+v: %v", other, err)
			}
		}
		if replayed, err := audit.Replay(t.Context(), d.Read(), box, audit.Key{Actor: "key_2", Value: "k"}); replayed != nil || err != nil {
			t.Errorf("the key of another caller: %+v, %v", replayed, err)
		}
		stored, err := db.One[[]byte](t.Context(), d.Read(), "SELECT response FROM idempotency")
		if err != nil || bytes.Contains(stored, []byte("shown once")) {
			t.Errorf("the answer is stored in clear: %v", err)
		}
	})
}

func TestOldKeysAreForgotten(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		key := audit.Key{Actor: "key_1", Value: "k", Operation: "POST /things", Request: []byte("hash")}
		if err := change(audit.WithKey(t.Context(), key), d, "thg_1"); err != nil {
			t.Fatal(err)
		}
		if err := audit.PurgeKeys(t.Context(), d, time.Now().Add(23*time.Hour)); err != nil {
			t.Fatal(err)
		}
		if n := count(t, d, "SELECT COUNT(*) FROM idempotency"); n != 1 {
			t.Errorf("%d keys are left within the day", n)
		}
		if err := audit.PurgeKeys(t.Context(), d, time.Now().Add(25*time.Hour)); err != nil {
			t.Fatal(err)
		}
		if n := count(t, d, "SELECT COUNT(*) FROM idempotency"); n != 0 {
			t.Errorf("%d keys are left after a day", n)
		}
	})
}
