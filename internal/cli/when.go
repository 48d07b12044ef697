package cli

import (
	"fmt"
	"time"
)

const day = 24 * time.Hour

// relative says a time from where now stands: "in 59 days", "3m ago".
func relative(t, now time.Time) string {
	d := t.Sub(now)
	if d.Abs() < time.Second {
		return "now"
	}
	if d > 0 {
		return "in " + span(d)
	}
	return span(-d) + " ago"
}

// span is about how long a duration is, in the one unit that matters.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d.Round(time.Minute) < time.Hour:
		return fmt.Sprintf("%dm", d.Round(time.Minute)/time.Minute)
	case d.Round(time.Hour) < 2*day:
		return fmt.Sprintf("%dh", d.Round(time.Hour)/time.Hour)
	case d < 2*365*day:
		return fmt.Sprintf("%d days", d.Round(day)/day)
	default:
		return fmt.Sprintf("%d years", d/(365*day))
	}
}

// took is a measured duration: "12 ms", "1.4 s", "3m5s".
func took(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}

// stamp is a time in full: UTC, RFC 3339.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// stampOf is a time in full and from where now stands.
func stampOf(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	return fmt.Sprintf("%s (%s)", stamp(*t), relative(*t, now))
}
