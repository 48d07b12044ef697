package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	columnGap  = "  "
	leastWidth = 8   // a column is not cut below this many characters
	nothing    = "-" // stands for an empty value, so that columns can be counted
)

// writeTable writes aligned columns without borders. Only on a terminal are
// long values cut to its width: a script gets them whole.
func writeTable(s screen, titles []string, rows [][]string) {
	widths := make([]int, len(titles))
	for i, title := range titles {
		widths[i] = utf8.RuneCountInString(title)
	}
	for _, row := range rows {
		for i, value := range row {
			if value = printable(value); value == "" {
				value = nothing
			}
			row[i] = value
			widths[i] = max(widths[i], utf8.RuneCountInString(value))
		}
	}
	if s.width > 0 {
		shrink(widths, s.width-len(columnGap)*(len(widths)-1))
	}
	writeRow(s, widths, titles, nil)
	for _, row := range rows {
		writeRow(s, widths, row, titles)
	}
}

// shrink takes width from the widest columns until all fit.
func shrink(widths []int, available int) {
	total := 0
	for _, w := range widths {
		total += w
	}
	for ; total > available; total-- {
		widest := 0
		for i, w := range widths {
			if w > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= leastWidth {
			return
		}
		widths[widest]--
	}
}

// writeRow writes one line; values under a title that names a state get its
// colour.
func writeRow(s screen, widths []int, row, titles []string) {
	var b strings.Builder
	for i, value := range row {
		value = cut(value, widths[i])
		blanks := widths[i] - utf8.RuneCountInString(value)
		if titles != nil && (titles[i] == "STATUS" || titles[i] == "STATE") {
			value = s.paint(value, toneOf(value))
		}
		b.WriteString(value)
		if i < len(row)-1 {
			b.WriteString(strings.Repeat(" ", blanks) + columnGap)
		}
	}
	fmt.Fprintln(s, b.String())
}

// toneOf is the colour of a word for how something stands.
func toneOf(state string) tone {
	switch state {
	case "active", "done", "online", "enabled", "completed":
		return good
	case "pending", "signing", "issued", "running", "expiring", "unassigned", "retryable":
		return warn
	case "failed", "failing", "expired", "revoked", "rolled_back", "discarded":
		return bad
	case "archived", "cancelled", "superseded", "offline", "disabled", "used":
		return faint
	default:
		return plain
	}
}

// cut shortens a value to a width, with an ellipsis in place of what is gone.
func cut(value string, width int) string {
	if utf8.RuneCountInString(value) <= width {
		return value
	}
	return string([]rune(value)[:width-1]) + "…"
}

// article puts "a" or "an" before a word.
func article(word string) string {
	if strings.ContainsAny(word[:1], "aeiou") {
		return "an " + word
	}
	return "a " + word
}

// printable keeps a value on its line and keeps characters that steer the
// terminal or turn the order of others, which could come from an agent, away
// from it.
func printable(value string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return ' '
		}
		return r
	}, value)
}

// writeFields writes name and value pairs, the values aligned; pairs without a
// value are left out.
func writeFields(w io.Writer, fields [][2]string) {
	width := 0
	for _, f := range fields {
		if f[1] != "" {
			width = max(width, len(f[0]))
		}
	}
	for _, f := range fields {
		if f[1] != "" {
			fmt.Fprintf(w, "%-*s%s%s\n", width, f[0], columnGap, f[1])
		}
	}
}
