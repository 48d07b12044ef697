package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	masked = "[redacted]" // what the API shows in place of a secret

	// notShown stands for a new value that may be a secret.
	notShown = "(not shown)"
)

// action is what a step does.
type action string

const (
	creates action = "create"
	updates action = "update"
	keeps   action = "unchanged"
)

// step is what must be done for one document.
type step struct {
	Kind    string   `json:"kind"`
	Name    string   `json:"name"`
	Action  action   `json:"action"`
	Changes []change `json:"changes,omitempty"`

	document document
	id       string
	revision int
	body     client.Patch
}

// change is one field that differs.
type change struct {
	Field string `json:"field"`
	Old   any    `json:"old"`
	New   any    `json:"new"`
}

// planner compares documents with what the server has.
type planner struct {
	api     *client.Client
	secrets bool // whether secrets, which the server does not show, are written again
}

func (p planner) plan(ctx context.Context, documents []document) ([]step, error) {
	steps := make([]step, 0, len(documents))
	var problems []*problem.Error
	for _, d := range documents {
		current, err := client.Get[map[string]any](ctx, p.api, client.Path(d.kind.path, d.name), nil)
		var one step
		var wrong *problem.Error
		switch {
		case problem.KindOf(err) == problem.KindNotFound:
			one, wrong = creation(d)
		case err != nil:
			return nil, err
		default:
			one, wrong = p.update(d, current)
		}
		steps = append(steps, one)
		if wrong != nil {
			problems = append(problems, wrong)
		}
	}
	return steps, problem.Join(problems...)
}

func creation(d document) (step, *problem.Error) {
	one := step{Kind: d.kind.name, Name: d.name, Action: creates, document: d, body: client.Patch{"name": d.name}}
	var missing []string
	for _, f := range d.kind.fields {
		value, given := d.fields[f.name]
		if f.required && !given {
			missing = append(missing, f.name)
		}
		if given && !empty(value) {
			one.body[f.name] = value
		}
	}
	if len(missing) > 0 {
		return one, problem.Invalid("", "%s: %s does not exist yet, and to make it %s must be given", d.where, d, strings.Join(missing, ", "))
	}
	return one, nil
}

// update finds the fields that differ. A field that the file leaves out stays.
func (p planner) update(d document, current map[string]any) (step, *problem.Error) {
	one := step{Kind: d.kind.name, Name: d.name, Action: keeps, document: d, body: client.Patch{}}
	one.id, _ = current["id"].(string)
	if revision, ok := current["revision"].(float64); ok {
		one.revision = int(revision)
	}
	for _, f := range d.kind.fields {
		wanted, given := d.fields[f.name]
		if !given {
			continue
		}
		changes := p.changes(f, wanted, current[f.name])
		if len(changes) == 0 {
			continue
		}
		if f.fixed {
			return one, problem.Invalid("", "%s: the %s of %s is %s and cannot become %s", d.where, f.name, d, asText(current[f.name]), asText(wanted)).
				Hint("delete it first: certctl %s delete %s", d.kind.path, d.name)
		}
		one.Action, one.Changes, one.body[f.name] = updates, append(one.Changes, changes...), wanted
	}
	// What a file describes is wanted, so that it does not stay in the archive.
	if current["status"] == "archived" {
		one.Action, one.Changes, one.body["archived"] = updates, append(one.Changes, change{"archived", true, false}), false
	}
	return one, nil
}

func (p planner) changes(f manifestField, wanted, current any) []change {
	if f.form == freeForm {
		return p.settings(f.name, wanted, current)
	}
	same := f.same
	if same == nil {
		same = func(w, c any) bool { return empty(w) && empty(c) || reflect.DeepEqual(w, c) }
	}
	if same(wanted, current) {
		return nil
	}
	return []change{{f.name, current, wanted}}
}

// settings compares settings one by one. What the server does not show may be
// a secret, and so it is not shown here, either.
func (p planner) settings(path string, wanted, current any) []change {
	w, isMap := wanted.(map[string]any)
	c, wasMap := current.(map[string]any)
	if isMap && (wasMap || current == nil) {
		var changes []change
		for _, name := range slices.Compact(slices.Sorted(slices.Values(append(keysOf(w), keysOf(c)...)))) {
			changes = append(changes, p.settings(path+"."+name, w[name], c[name])...)
		}
		return changes
	}
	switch {
	case reflect.DeepEqual(wanted, current), current == masked && wanted != nil && !p.secrets:
		return nil
	case wanted != nil && (current == masked || current == nil):
		return []change{{path, current, notShown}}
	default:
		return []change{{path, current, wanted}}
	}
}

// do makes a step so.
func (p planner) do(ctx context.Context, one step) error {
	var err error
	switch one.Action {
	case creates:
		_, err = client.Create[json.RawMessage](ctx, p.api, client.Path(one.document.kind.path), one.body)
	case updates:
		_, err = client.Update[json.RawMessage](ctx, p.api, client.Path(one.document.kind.path, one.id), one.revision, one.body)
	}
	return located(one.document, err)
}

// located says which document an error of the server is about.
func located(d document, err error) error {
	found, ok := problem.As(err)
	if !ok {
		return err
	}
	about := func(p problem.Error) *problem.Error {
		if p.Field != "" {
			p.Message = p.Field + ": " + p.Message
		}
		p.Field, p.Message = "", fmt.Sprintf("%s: %s: %s", d.where, d, p.Message)
		return &p
	}
	all := about(*found)
	all.More = nil
	for _, more := range found.More {
		all.More = append(all.More, about(*more))
	}
	requestID := ""
	var failed *client.Error
	if errors.As(err, &failed) {
		requestID = failed.RequestID
	}
	return &client.Error{Problem: all, RequestID: requestID}
}

// printPlan writes the steps and their sums for a person.
func (s *session) printPlan(steps []step) {
	counts := map[action]int{}
	for _, one := range steps {
		counts[one.Action]++
		switch one.Action {
		case creates:
			fmt.Fprintf(s.out, "%s %s\n", s.out.paint("+", good), one.document)
		case updates:
			fmt.Fprintf(s.out, "%s %s\n", s.out.paint("~", warn), one.document)
		default:
			fmt.Fprintln(s.out, s.out.paint("= "+one.document.String(), faint))
		}
		for _, c := range one.Changes {
			fmt.Fprintf(s.out, "    %s: %s -> %s\n", c.Field, brief(c.Old), brief(c.New))
		}
	}
	fmt.Fprintf(s.out, "\nPlan: %d to create, %d to update, %d unchanged.\n", counts[creates], counts[updates], counts[keeps])
}

// brief is a value on one line.
func brief(value any) string {
	switch v := value.(type) {
	case nil:
		return "none"
	case string:
		if v == "" {
			return "none"
		}
		return printable(v)
	case []any:
		if len(v) == 0 {
			return "none"
		}
		return printable(strings.Join(asTexts(v), ", "))
	default:
		raw, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		return printable(string(raw))
	}
}

// empty reports whether a value says nothing: the API leaves such fields out.
func empty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case bool:
		return !v
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	default:
		return false
	}
}

func asText(value any) string {
	text, _ := value.(string)
	return text
}

func asTexts(value any) []string {
	items, _ := value.([]any)
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = asText(item)
	}
	return texts
}

func keysOf(m map[string]any) []string { return slices.Collect(maps.Keys(m)) }
