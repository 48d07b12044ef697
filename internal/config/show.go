package config

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"

	"github.com/certctl-io/certctl/internal/secret"
)

// Value is one setting as it may be shown: a secret is masked.
type Value struct {
	Name     string `json:"name"` // as in the YAML file
	Variable string `json:"variable"`
	Value    any    `json:"value"`
	Origin   Origin `json:"origin"`
}

// Values lists all settings in the order of the documentation.
func (e *Effective) Values() []Value {
	var values []Value
	fields := reflect.ValueOf(e.Server)
	for _, s := range settings() {
		values = append(values, Value{s.key(), s.variable(), shown(fields.Field(s.index).Interface()), e.origins[s.name]})
	}
	return values
}

// shown gives a value that JSON and people read the way it is written in a
// configuration.
func shown(value any) any {
	switch v := value.(type) {
	case secret.String:
		return v.String()
	case fmt.Stringer: // durations and sizes
		return v.String()
	default:
		return v
	}
}

// WriteTable prints the settings for a person.
func (e *Effective) WriteTable(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "SETTING\tVALUE\tORIGIN") // a failed write shows in Flush
	for _, v := range e.Values() {
		text := fmt.Sprint(v.Value)
		if list, ok := v.Value.([]string); ok {
			text = strings.Join(list, ",")
		}
		if text == "" {
			text = "-"
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", v.Name, text, v.Origin)
	}
	return table.Flush()
}

// WriteJSON prints the settings for a program.
func (e *Effective) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(e.Values())
}
