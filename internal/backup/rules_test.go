package backup

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl-io/certctl/internal/db"
)

func TestWhatIsBeyondBothLimitsExpires(t *testing.T) {
	t.Parallel()
	var names []string
	for day := range 5 { // 0 to 4 days old
		names = append(names, fileName("srv_1", noon.AddDate(0, 0, -day), day%2 == 0))
	}
	names = append(names, fileName("srv_2", noon.AddDate(0, 0, -99), false), "certctl.tar", "certctl-srv_1-yesterday.tar")
	for name, c := range map[string]struct {
		limits Retention
		gone   int
	}{
		"none":          {Retention{}, 0},
		"count":         {Retention{Keep: 2}, 3},
		"age":           {Retention{MaxAge: 36 * time.Hour}, 3},
		"both":          {Retention{Keep: 4, MaxAge: 36 * time.Hour}, 1},
		"never the new": {Retention{MaxAge: time.Nanosecond}, 4},
	} {
		gone := c.limits.expired(names, "srv_1", noon.Add(time.Minute))
		if len(gone) != c.gone || slices.ContainsFunc(gone, func(n string) bool { return !slices.Contains(names[5-c.gone:5], n) }) {
			t.Errorf("%s: %v", name, gone)
		}
	}
}

func TestToolsReachTheDatabaseOfTheServerWithoutItsSecretsInSight(t *testing.T) {
	t.Setenv("CERTCTL_ENCRYPTION_KEY", "the-master-key")
	p, err := newPostgresStore(db.Options{
		URL:      "postgres://user:p%40ss@db.example.com:6432/main?sslmode=verify-full&search_path=a%2C%20b&pool_max_conns=9",
		Password: "o th'er",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"PGHOST=db.example.com", "PGPORT=6432", "PGUSER=user", "PGDATABASE=main", "PGPASSWORD=o th'er", "PGSSLMODE=verify-full", `PGOPTIONS=-c search_path=a,\ b`} {
		if !slices.Contains(p.environ, want) {
			t.Errorf("%s is not in the environment, which has %q", want, slices.DeleteFunc(slices.Clone(p.environ), func(v string) bool { return !strings.HasPrefix(v, "PG") }))
		}
	}
	if slices.ContainsFunc(p.environ, func(v string) bool { return strings.HasPrefix(v, "CERTCTL_") }) {
		t.Error("certctl's own variables are passed on")
	}
	if cmd := p.tool(t.Context(), "pg_dump"); strings.Contains(strings.Join(cmd.Args, " "), "th'er") {
		t.Error("the password is in the arguments")
	}
	config, err := pgx.ParseConfig("postgres://one:1,two:2/main?sslmode=prefer")
	if err != nil {
		t.Fatal(err)
	}
	if environ := toolEnviron(nil, config); !slices.Contains(environ, "PGHOST=one,two") || !slices.Contains(environ, "PGPORT=1,2") {
		t.Errorf("several hosts: %v", environ)
	}
}
