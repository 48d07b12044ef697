package targets

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Of a command's output, the beginning and the end are kept, together at most
// maxOutput bytes. As much again is collected on both sides of the cut, so that
// a secret that lies across it is still recognised whole.
const (
	maxOutput     = 8 << 10
	collectedSide = maxOutput
)

// boundedOutput collects the beginning and the end of what is written to it.
type boundedOutput struct {
	head, tail []byte
	cut        bool // something between them is lost
}

// Write never fails and keeps a bounded part.
func (b *boundedOutput) Write(p []byte) (int, error) {
	n := len(p)
	room := min(collectedSide-len(b.head), len(p))
	b.head = append(b.head, p[:room]...)
	b.tail = append(b.tail, p[room:]...)
	if over := len(b.tail) - collectedSide; over > 0 {
		b.cut = true
		b.tail = slices.Delete(b.tail, 0, over)
	}
	return n, nil
}

// text gives the output as it may be stored and shown: without secrets, valid
// UTF-8 of characters that are seen, cut to maxOutput.
func (b *boundedOutput) text(r redactor) string {
	head, tail := r.clean(b.head), r.clean(b.tail)
	if !b.cut {
		whole := r.clean(append(slices.Clone(b.head), b.tail...))
		if len(whole) <= maxOutput {
			return whole
		}
		head, tail = whole, whole
	}
	const side = maxOutput / 2
	head, tail = head[:min(side, len(head))], tail[max(0, len(tail)-side):]
	return strings.ToValidUTF8(head+"\n[... left out ...]\n"+tail, "")
}

// redactor takes secrets out of text.
type redactor struct{ secrets [][]byte }

// minSecretLine is the length from which a line of a secret file is looked for
// by itself: shorter ones, such as the last line of a PEM block, occur by chance.
const minSecretLine = 16

// newRedactor knows the secrets of a plan: its Redact values and the lines of
// the private keys in its secret files.
func newRedactor(plan Plan) redactor {
	var r redactor
	for _, value := range plan.Redact {
		if !value.Empty() {
			r.secrets = append(r.secrets, []byte(value.Reveal()))
		}
	}
	for _, file := range plan.Files {
		if file.Secret {
			r.secrets = append(r.secrets, secretLines(file.Data)...)
		}
	}
	r.sort()
	return r
}

// hide adds the private keys in files of the previous set, which commands read
// on the way back.
func (r *redactor) hide(content []byte) {
	r.secrets = append(r.secrets, secretLines(content)...)
	r.sort()
}

// sort puts the longest first: a short secret inside a long one must not break
// it apart.
func (r *redactor) sort() {
	slices.SortStableFunc(r.secrets, func(a, b []byte) int { return len(b) - len(a) })
}

// secretLines gives the lines of the private key blocks of a PEM file.
func secretLines(data []byte) [][]byte {
	var lines [][]byte
	private := false
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		switch {
		case bytes.HasPrefix(line, []byte("-----")):
			private = bytes.Contains(line, []byte("BEGIN")) && bytes.Contains(line, []byte("PRIVATE KEY"))
		case private && len(line) >= minSecretLine:
			lines = append(lines, line)
		}
	}
	return lines
}

func (r redactor) clean(output []byte) string {
	for _, value := range r.secrets {
		output = bytes.ReplaceAll(output, value, []byte(Masked))
	}
	return strings.Map(func(c rune) rune {
		if c != '\n' && c != '\t' && !unicode.IsGraphic(c) {
			return -1
		}
		return c
	}, strings.ToValidUTF8(string(output), "\uFFFD"))
}

// alarm is how nginx and HAProxy mark the line that says what is wrong.
var alarm = regexp.MustCompile(`(?m)^.*\[(?:emerg|alert|crit|ALERT)\].*$`)

// summary gives what matters of an output on one line, for a sentence: the
// first line that is marked as the fault, else the end. The step keeps all.
func summary(output string) string {
	const most = 600
	if marked := alarm.FindString(output); marked != "" {
		output = marked
	}
	line := strings.Join(strings.Fields(output), " ")
	if len(line) > most {
		line = "..." + strings.ToValidUTF8(line[len(line)-most:], "")
	}
	return line
}
