package local

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/issuer"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/testkit"
)

// driver is what the program makes of a Local.
type driver struct{ *Local }

func (d driver) Open(ctx context.Context, issuerID string, _ json.RawMessage) (issuer.CA, error) {
	return d.Local.Open(ctx, issuerID)
}

var (
	_ issuer.Founder = driver{}
	_ issuer.Chained = (*Authority)(nil)
)

func TestReplicasThatFoundAtOnceAreOneCA(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		clock := testkit.NewClock(start)
		replicas := []*Local{replica(t, d, clock, nil), replica(t, d, clock, nil), replica(t, d, clock, nil)}
		issuerID := id.New("iss")
		authorities := make([]*Authority, len(replicas))
		var all sync.WaitGroup
		for i, l := range replicas {
			all.Go(func() {
				if err := d.InTx(t.Context(), func(tx *db.Tx) error { return l.Found(t.Context(), tx, issuerID, nil) }); err != nil {
					t.Errorf("found: %v", err)
					return
				}
				ca, err := l.Open(t.Context(), issuerID)
				if err != nil {
					t.Errorf("open: %v", err)
				}
				authorities[i] = ca
			})
		}
		all.Wait()
		if t.Failed() {
			return
		}
		o := newOrder(t, pki.ECDSAP256, "", "www.example.com")
		_, first := issue(t, authorities[0], o)
		for _, ca := range authorities[1:] {
			if !slices.EqualFunc(ca.Chain(), authorities[0].Chain(), bytes.Equal) {
				t.Error("two replicas have two CAs")
			}
			if _, again := issue(t, ca, o); !bytes.Equal(first.Chain[0], again.Chain[0]) {
				t.Error("another replica continues an order with another certificate")
			}
		}
	})
}

func TestShardsFillUpInTurn(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		clock := testkit.NewClock(start)
		l := replica(t, d, clock, func(c *Config) { c.ShardSize = 5 })
		_, ca := found(t, l, "")
		var mu sync.Mutex
		var all sync.WaitGroup
		perShard := map[int]int{}
		for range 3 {
			all.Go(func() {
				for range 4 {
					issued, err := ca.Issue(t.Context(), newOrder(t, pki.ECDSAP256, "", "www.example.com").Request)
					if err != nil {
						t.Errorf("issue: %v", err)
						return
					}
					mu.Lock()
					perShard[issued.Shard]++
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if perShard[0] != 5 || perShard[1] != 5 || perShard[2] != 2 {
			t.Errorf("the shards hold %v, want 5, 5 and 2", perShard)
		}
		if shards, err := ca.Shards(t.Context()); err != nil || shards != 3 {
			t.Errorf("there are %d shards, %v", shards, err)
		}
	})
}

func TestAbandonedCAIsGone(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		clock := testkit.NewClock(start)
		l, other := replica(t, d, clock, nil), replica(t, d, clock, nil)
		issuerID, _ := found(t, l, "")
		opened, err := other.Open(t.Context(), issuerID)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.InTx(t.Context(), func(tx *db.Tx) error { return l.Abandon(t.Context(), tx, issuerID) }); err != nil {
			t.Fatal(err)
		}
		_, err = l.Open(t.Context(), issuerID)
		refused(t, err, problem.KindNotFound, "")
		_, err = opened.Issue(t.Context(), newOrder(t, pki.ECDSAP256, "", "www.example.com").Request)
		refused(t, err, problem.KindNotFound, "")
		refused(t, opened.Check(t.Context()), problem.KindNotFound, "")
	})
}

func TestCheckTellsWhenTheCAHasExpired(t *testing.T) {
	t.Parallel()
	ca, clock := newCA(t, "")
	if err := ca.Check(t.Context()); err != nil {
		t.Errorf("a new CA is not well: %v", err)
	}
	clock.Advance(6 * 366 * 24 * time.Hour)
	refused(t, ca.Check(t.Context()), problem.KindConflict, "")
}

func TestAnotherEncryptionKeyOpensNoCA(t *testing.T) {
	t.Parallel()
	d := testkit.NewDB(t, db.SQLite)
	issuerID, _ := found(t, replica(t, d, testkit.NewClock(start), nil), "")
	box, err := secret.NewBox(bytes.Repeat([]byte{8}, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(d, box, linter(), time.Now, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Open(t.Context(), issuerID); err == nil {
		t.Error("the CA opens under another key")
	}
}

func TestStatusURLThatCertificatesCannotNameIsRefused(t *testing.T) {
	t.Parallel()
	for _, wrong := range []pki.StatusURL{"https://pki.example.com", "pki.example.com", "http://", "http://a/?q", "http://a/#f", "http://u@a"} {
		_, err := New(nil, nil, linter(), time.Now, Config{StatusURL: wrong})
		refused(t, err, problem.KindInvalid, "status_url")
	}
	l, err := New(nil, nil, linter(), time.Now, Config{StatusURL: "http://pki.example.com/"})
	if err != nil || l.cfg.StatusURL != "http://pki.example.com" {
		t.Errorf("a slash at the end gives %q, %v", l.cfg.StatusURL, err)
	}
}

func TestSettingsErrorsNameTheField(t *testing.T) {
	t.Parallel()
	l := replica(t, testkit.NewDB(t, db.SQLite), testkit.NewClock(start), nil)
	for settings, field := range map[string]string{
		`[]`:                           "settings",
		`{} {}`:                        "settings",
		`{"organisation": "Example"}`:  "settings",
		`{"organization": 1}`:          "settings.organization",
		`{"ca_key": 1}`:                "settings.ca_key",
		`null`:                         "settings",
		`{"organization": []}`:         "settings.organization",
		`{"organization": " Example"}`: "settings.organization",
		`{"organization": "An organisation whose name is longer than forty"}`: "settings.organization",
		`{"organization": "Exam\u0007ple"}`:                                   "settings.organization",
		`{"key_type": "rsa-1024"}`:                                            "settings.key_type",
		`{"ca_key": "key"}`:                                                   "settings.ca_chain",
		`{"ca_chain": "chain"}`:                                               "settings.ca_key",
		`{"ca_chain": "chain", "ca_key": "key"}`:                              "settings.ca_chain",
	} {
		refused(t, l.Check(json.RawMessage(settings)), problem.KindInvalid, field)
	}
	for _, settings := range []string{``, `{}`, `{"organization": "Bücher & Söhne", "key_type": "rsa-2048"}`} {
		if err := l.Check(json.RawMessage(settings)); err != nil {
			t.Errorf("%s: %v", settings, err)
		}
	}
}

func TestSchemaListsTheSettings(t *testing.T) {
	t.Parallel()
	l := &Local{}
	var schema struct {
		Properties map[string]struct {
			Enum []pki.KeyType `json:"enum"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(l.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(schema.Properties["key_type"].Enum, pki.KeyTypes) {
		t.Errorf("the key types are %v", schema.Properties["key_type"].Enum)
	}
	if listed := slices.Sorted(maps.Keys(schema.Properties)); !slices.Equal(listed, slices.Sorted(slices.Values(settingNames))) {
		t.Errorf("it lists %v, the settings are %v", listed, settingNames)
	}
}
