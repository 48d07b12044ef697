package fleet

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func at(offset time.Duration) *time.Time {
	t := noon.Add(offset)
	return &t
}

func TestStatusOfAnAgent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		agent Agent
		want  Status
	}{
		{"joined only", Agent{}, NeverSeen},
		{"seen just now", Agent{LastSeenAt: at(0)}, Online},
		{"two polls ago", Agent{LastSeenAt: at(-OfflineAfter + time.Second)}, Online},
		{"silent", Agent{LastSeenAt: at(-OfflineAfter)}, Offline},
		{"revoked while online", Agent{LastSeenAt: at(0), RevokedAt: at(0)}, Revoked},
	} {
		if got := test.agent.Status(noon); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestStateOfAToken(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		token EnrolmentToken
		want  TokenState
	}{
		{"without bounds", EnrolmentToken{Uses: 1000}, TokenActive},
		{"one use left", EnrolmentToken{MaxUses: 2, Uses: 1}, TokenActive},
		{"used by all", EnrolmentToken{MaxUses: 2, Uses: 2}, TokenUsedUp},
		{"last moment", EnrolmentToken{ExpiresAt: at(time.Nanosecond)}, TokenActive},
		{"expired and used up", EnrolmentToken{ExpiresAt: at(0), MaxUses: 1, Uses: 1}, TokenExpired},
		{"revoked and expired", EnrolmentToken{RevokedAt: at(0), ExpiresAt: at(-1)}, TokenRevoked},
	} {
		if got := test.token.State(noon); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestNamesAndLabelsOfAgents(t *testing.T) {
	t.Parallel()
	for name, good := range map[string]bool{
		"web-1.example.com": true, "WEB_1": true, "a": true,
		"": false, "-web": false, "web 1": false, "web/1": false, "wéb": false, strings.Repeat("a", 254): false,
		"agt_0197f3a20000700080000000000000aa": false, "agt_1": true,
	} {
		if err := checkName(name); (err == nil) != good {
			t.Errorf("name %q: %v", name, err)
		}
	}
	for _, test := range []struct {
		key, value string
		good       bool
	}{
		{"env", "prod", true},
		{"example.com/zone", "", true},
		{"", "x", false},
		{"env=", "x", false},
		{strings.Repeat("k", 64), "x", false},
		{"env", strings.Repeat("v", 254), false},
		{"env", "two\nlines", false},
		{"env", "prod\u202e", false},
	} {
		if err := checkLabels(map[string]string{test.key: test.value}); (err == nil) != test.good {
			t.Errorf("label %q=%q: %v", test.key, test.value, err)
		}
	}
	if got := clip("1.2\n\x003" + strings.Repeat("é", 200)); !strings.HasPrefix(got, "1.23é") || len([]rune(got)) != maxWords {
		t.Errorf("clipped to %q", got)
	}
}

func TestDeliverablePicksOneTaskOfEachLane(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		tasks []Task
		limit int
		want  string
		next  time.Time
	}{
		{"none", nil, 9, "", time.Time{}},
		{"one of each lane, oldest first", []Task{{ID: "1", Lane: "a"}, {ID: "2", Lane: "a"}, {ID: "3", Lane: "b"}}, 9, "1 3", time.Time{}},
		{"a leased one holds its lane", []Task{{ID: "1", Lane: "a"}, {ID: "2", Lane: "a", LeasedUntil: at(3)}, {ID: "3", Lane: "b"}}, 9, "3", noon.Add(3)},
		{"a lease that ended", []Task{{ID: "1", Lane: "a", LeasedUntil: at(0)}}, 9, "1", time.Time{}},
		{"a delayed one lets others of its lane pass", []Task{{ID: "1", Lane: "a", NotBefore: *at(5)}, {ID: "2", Lane: "a"}}, 9, "2", noon.Add(5)},
		{"the earliest moment", []Task{{ID: "1", Lane: "a", NotBefore: *at(5)}, {ID: "2", Lane: "b", LeasedUntil: at(3)}}, 9, "", noon.Add(3)},
		{"no more than the limit", []Task{{ID: "1", Lane: "a"}, {ID: "2", Lane: "b"}, {ID: "3", Lane: "c"}}, 2, "1 2", time.Time{}},
	} {
		deliver, next := deliverable(test.tasks, noon, test.limit)
		ids := []string{}
		for task := range slices.Values(deliver) {
			ids = append(ids, task.ID)
		}
		if got := strings.Join(ids, " "); got != test.want || !next.Equal(test.next) {
			t.Errorf("%s: %q, look again at %s; want %q at %s", test.name, got, next, test.want, test.next)
		}
	}
}
