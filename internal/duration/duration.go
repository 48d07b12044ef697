// Package duration is how certctl writes spans of time that people set: Go's
// form with days and weeks, as lifetimes are rarely thought of in hours.
//
//	90d   2w   12h   1d12h   30m
//
// A day is 24 hours: certificates do not know daylight saving.
package duration

import (
	"strconv"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/problem"
)

// Units beyond those of package time.
const (
	Day  = 24 * time.Hour
	Week = 7 * Day
)

// Duration is a time.Duration that reads and writes itself in this form.
type Duration time.Duration

// Parse reads a duration: whole numbers with the units w, d, h, m, s, each at
// most once and in this order.
func Parse(text string) (Duration, error) {
	rest, total := text, time.Duration(0)
	for _, u := range units {
		digits := rest[:leadingDigits(rest)]
		after, found := strings.CutPrefix(rest[len(digits):], u.name)
		if digits == "" || !found {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n > int64((maxDuration-total)/u.length) {
			return 0, problem.Invalid("", "%q is too long a duration", text).Hint("the longest is %s", Duration(maxDuration))
		}
		total += time.Duration(n) * u.length
		rest = after
	}
	if text == "" || rest != "" {
		return 0, problem.Invalid("", "%q is not a duration", text).
			Hint("write it as in 90d, 2w, 12h or 1d12h, with the units w, d, h, m, s")
	}
	return Duration(total), nil
}

// maxDuration is a hundred years: longer than any certificate, and far from
// where 64 bits of nanoseconds end.
const maxDuration = 36525 * Day

var units = []struct {
	name   string
	length time.Duration
}{{"w", Week}, {"d", Day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}

func leadingDigits(s string) int {
	for i, r := range s {
		if r < '0' || r > '9' {
			return i
		}
	}
	return len(s)
}

// String writes the duration with the largest units that fit, in days rather
// than weeks: "90d", "1d12h". What is below a second is cut off.
func (d Duration) String() string {
	if d < 0 {
		return "-" + (-d).String()
	}
	var b strings.Builder
	rest := time.Duration(d).Truncate(time.Second)
	for _, u := range units[1:] {
		if n := rest / u.length; n > 0 {
			b.WriteString(strconv.FormatInt(int64(n), 10) + u.name)
			rest %= u.length
		}
	}
	if b.Len() == 0 {
		return "0s"
	}
	return b.String()
}

// Std gives the duration as package time has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Seconds gives the duration in whole seconds.
func (d Duration) Seconds() int64 { return int64(time.Duration(d) / time.Second) }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	*d = parsed
	return err
}
