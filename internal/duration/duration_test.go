package duration_test

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/problem"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"90d":    90 * duration.Day,
		"2w":     14 * duration.Day,
		"12h":    12 * time.Hour,
		"720h":   30 * duration.Day,
		"1d12h":  36 * time.Hour,
		"1w1d1h": 8*duration.Day + time.Hour,
		"5m30s":  330 * time.Second,
		"0s":     0,
	} {
		got, err := duration.Parse(text)
		if err != nil || got.Std() != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "90", "d", "90x", "-1d", "+1d", "1.5h", "1h1d", "1d1d", "90d ", " 90d", "1 d", "36526d", "99999999999999999999d", "5m99999999999w"} {
		if got, err := duration.Parse(text); problem.KindOf(err) != problem.KindInvalid {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}

func TestString(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]time.Duration{
		"90d":    90 * duration.Day,
		"1d12h":  36 * time.Hour,
		"0s":     time.Millisecond,
		"1h1s":   time.Hour + time.Second + time.Nanosecond,
		"-1d":    -duration.Day,
		"13d59m": 13*duration.Day + 59*time.Minute,
	} {
		if got := duration.Duration(d).String(); got != want {
			t.Errorf("%s: %q", want, got)
		}
	}
}

func TestJSONRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := duration.Duration(rapid.Int64Range(0, 36525*86400).Draw(t, "seconds") * int64(time.Second))
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got duration.Duration
		if err := json.Unmarshal(text, &got); err != nil || got != want {
			t.Fatalf("%s: %s, %v", text, got, err)
		}
	})
}
