package inventory

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
)

// listed gives what certificates of a list are called.
func (f *fixture) listed(filter Filter, sort string) []string {
	f.t.Helper()
	found, next, err := f.List(f.t.Context(), filter, db.Page{Sort: sort})
	f.must(err)
	if next != "" {
		f.t.Errorf("%+v: there is another page", filter)
	}
	return titles(found)
}

func titles(found []Standing) []string {
	names := []string{}
	for _, c := range found {
		names = append(names, c.Name)
	}
	return names
}

func TestFiltersAndOrders(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		ctx := f.t.Context()
		add := func(name string, change Change) Standing {
			if change.Names == nil {
				change.Names = &[]string{name + ".example.com"}
			}
			change.Name = &name
			c, err := f.Create(ctx, change)
			f.must(err)
			f.clock.Advance(time.Minute)
			return c
		}
		a := add("alpha", Change{Targets: &[]string{"web-1", "api-1"}, Tags: &map[string]string{"team": "web", "env": "prod"}, Owner: new("jane")})
		b := add("bravo", Change{Targets: &[]string{"api-2"}, Tags: &map[string]string{"team": "web", "path": "a:b"}, Issuer: new("other")})
		add("charlie", Change{Names: &[]string{"bücher.example.org", "cx.example.org"}, Owner: new("jane")})
		old := f.version(a.ID, f.web, true)
		f.clock.Advance(24 * time.Hour)
		f.version(b.ID, f.api, true)
		f.version(a.ID, f.api, true)

		for _, test := range []struct {
			name   string
			filter Filter
			sort   string
			want   []string
		}{
			{"newest first", Filter{}, "", []string{"charlie", "bravo", "alpha"}},
			{"oldest first", Filter{}, "id", []string{"alpha", "bravo", "charlie"}},
			{"by name", Filter{}, "-name", []string{"charlie", "bravo", "alpha"}},
			{"by creation", Filter{}, "created_at", []string{"alpha", "bravo", "charlie"}},
			{"by end", Filter{}, "not_after", []string{"alpha", "bravo"}},
			{"by end, last first", Filter{}, "-not_after", []string{"bravo", "alpha"}},
			{"beginning of what it is called", Filter{Name: "alph"}, "id", []string{"alpha"}},
			{"part of a name", Filter{Name: "Example.COM"}, "id", []string{"alpha", "bravo"}},
			{"unicode", Filter{Name: "Bücher.example.org"}, "id", []string{"charlie"}},
			{"a wild card is a letter", Filter{Name: "%"}, "id", []string{}},
			{"an underscore is a letter", Filter{Name: "_x"}, "id", []string{}},
			{"one tag", Filter{Tags: []string{"team:web"}}, "id", []string{"alpha", "bravo"}},
			{"two tags", Filter{Tags: []string{"team:web", "env:prod"}}, "id", []string{"alpha"}},
			{"a value with a colon", Filter{Tags: []string{"path:a:b"}}, "id", []string{"bravo"}},
			{"owner", Filter{Owner: "jane"}, "id", []string{"alpha", "charlie"}},
			{"issuer by name", Filter{Issuer: "other"}, "id", []string{"bravo"}},
			{"issuer by id", Filter{Issuer: issuerID("other")}, "id", []string{"bravo"}},
			{"profile", Filter{Profile: "default", Owner: "jane"}, "id", []string{"alpha", "charlie"}},
			{"unknown profile", Filter{Profile: "none"}, "id", []string{}},
			{"status", Filter{Status: StatusUnassigned}, "id", []string{"charlie"}},
			{"active", Filter{Status: StatusActive}, "id", []string{"alpha", "bravo"}},
			{"ends before", Filter{ExpiresBefore: old.NotAfter.Add(time.Second)}, "id", []string{"alpha"}},
			{"ends before, by end", Filter{ExpiresBefore: old.NotAfter.AddDate(1, 0, 0), Issuer: "local"}, "not_after", []string{"alpha"}},
		} {
			if got := f.listed(test.filter, test.sort); !slices.Equal(got, test.want) {
				f.t.Errorf("%s: %v, want %v", test.name, got, test.want)
			}
		}
		for field, filter := range map[string]Filter{
			"status": {Status: "fine"}, "tag[1]": {Tags: []string{"a:b", "c"}}, "name": {Name: "a\x00"}, "owner": {Owner: "\xff"},
		} {
			_, _, err := f.List(ctx, filter, db.Page{})
			if found, _ := problem.As(err); found == nil || found.Kind != problem.KindInvalid || found.Field != field {
				f.t.Errorf("%s: %v", field, err)
			}
		}
		if got := f.get(a.ID); got.Soonest == nil || got.Soonest.ID != old.ID {
			f.t.Errorf("the version that ends first is %+v", got.Soonest)
		}
	})
}

func TestPagesAreStableUnderInserts(t *testing.T) {
	for _, sort := range []string{"", "name", "created_at", "-not_after"} {
		t.Run("by "+sort, func(t *testing.T) {
			eachEngine(t, func(f *fixture) {
				for i := range 7 {
					c := f.create(fmt.Sprintf("n%d.example.com", i))
					f.version(c.ID, f.web, true)
				}
				seen := map[string]int{}
				cursor := ""
				for page := range 20 {
					found, next, err := f.List(f.t.Context(), Filter{}, db.Page{Limit: 2, Sort: sort, Cursor: cursor})
					f.must(err)
					for _, name := range titles(found) {
						seen[name]++
					}
					if next == "" {
						break
					}
					cursor = next
					c := f.create(fmt.Sprintf("a%d.example.com", page)) // before and after the cursor of each order
					f.version(c.ID, f.web, true)
				}
				for i := range 7 {
					if name := fmt.Sprintf("n%d.example.com", i); seen[name] != 1 {
						f.t.Errorf("%s was listed %d times", name, seen[name])
					}
				}
			})
		})
	}
}

// counting counts the queries that go through it.
type counting struct {
	db.Querier
	queries int
}

func (c *counting) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	c.queries++
	return c.Querier.QueryContext(ctx, query, args...)
}

func TestAPageCostsTheSameHoweverLong(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		costs := func() int {
			q := &counting{Querier: f.db.Read()}
			found, _, err := f.store.list(f.t.Context(), q, Filter{}, f.clock.Now(), db.Page{})
			f.must(err)
			_, err = f.store.standings(f.t.Context(), q, found, f.clock.Now())
			f.must(err)
			return q.queries
		}
		f.create("first.example.com", "web-1")
		one := costs()
		for i := range 20 {
			c := f.create(fmt.Sprintf("n%d.example.com", i))
			f.version(c.ID, f.web, true)
		}
		if many := costs(); many != one || one > 5 {
			f.t.Errorf("a page of one takes %d queries, one of many %d", one, many)
		}
	})
}
