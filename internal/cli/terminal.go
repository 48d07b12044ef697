package cli

import (
	"io"
	"os"

	"golang.org/x/term"
)

// tone is the colour of a word. The word alone says the same.
type tone int

const (
	plain tone = iota
	good
	warn
	bad
	faint
)

// screen is where a command writes. A pipe has no width and no colour.
type screen struct {
	io.Writer
	tty    bool
	width  int
	colour bool
}

func newScreen(w io.Writer, noColour bool) screen {
	s := screen{Writer: w}
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return s
	}
	s.tty = true
	s.colour = !noColour && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
		s.width = width
	}
	return s
}

// paint gives the text its colour when the screen has any.
func (s screen) paint(text string, t tone) string {
	if !s.colour || t == plain || text == "" {
		return text
	}
	code := map[tone]string{good: "32", warn: "33", bad: "31", faint: "2"}[t]
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// isTerminal reports whether a person can be asked through r.
func isTerminal(r io.Reader) bool {
	file, ok := r.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
