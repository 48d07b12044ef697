package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/client"
)

// resource says how the objects of a type are found and shown.
type resource[T any] struct {
	name   string // as a person says it: "certificate"
	path   string // in the API: "certificates"
	ref    func(T) string
	titles []string
	wide   []string // further titles with -o wide
	row    func(v T, now time.Time) []string
}

// get prints one object. JSON and YAML are what the server said, not what this
// program knows of it.
func (r resource[T]) get(s *session, ref string) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	raw, err := client.Get[json.RawMessage](s.ctx, api, client.Path(r.path, ref), nil)
	if err != nil {
		return err
	}
	return r.printOne(s, raw)
}

// report prints an object that a command has made or changed: the sentence for
// people, the object for scripts.
func (r resource[T]) report(s *session, object T, sentence string, args ...any) error {
	if s.forPeople() {
		fmt.Fprintf(s.out, sentence+"\n", args...)
		return nil
	}
	raw, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("encode the %s: %w", r.name, err)
	}
	return r.printOne(s, raw)
}

// show prints objects that this program made itself.
func (r resource[T]) show(s *session, objects []T) error {
	items := make([]json.RawMessage, len(objects))
	for i, object := range objects {
		raw, err := json.Marshal(object)
		if err != nil {
			return fmt.Errorf("encode the %s: %w", r.name, err)
		}
		items[i] = raw
	}
	return r.printAll(s, items)
}

func (r resource[T]) printOne(s *session, raw json.RawMessage) error {
	if s.Output == "json" || s.Output == "yaml" {
		return s.printRaw(raw)
	}
	return r.printAll(s, []json.RawMessage{raw})
}

// list prints the objects of a list up to a limit, and says so when there are
// more.
func (r resource[T]) list(s *session, l listing, path string, query url.Values) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	items, more, err := l.collect(client.List[json.RawMessage](s.ctx, api, path, l.query(query)))
	if err != nil {
		return err
	}
	if err := r.printAll(s, items); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(s.err, "there are more than %d: see them with --all or a higher --limit\n", l.Limit)
	}
	return nil
}

func (r resource[T]) printAll(s *session, items []json.RawMessage) error {
	if s.Output == "json" || s.Output == "yaml" {
		raw, err := json.Marshal(items)
		if err != nil {
			return fmt.Errorf("encode the %s: %w", r.path, err)
		}
		return s.printRaw(raw)
	}
	objects := make([]T, len(items))
	for i, item := range items {
		if err := json.Unmarshal(item, &objects[i]); err != nil {
			return fmt.Errorf("read the %s: %w", r.name, err)
		}
	}
	if s.Output == "name" {
		for _, object := range objects {
			fmt.Fprintln(s.out, r.ref(object))
		}
		return nil
	}
	if len(objects) == 0 {
		fmt.Fprintf(s.err, "no %s\n", strings.ReplaceAll(r.path, "-", " "))
		return nil
	}
	r.table(s, objects)
	return nil
}

func (r resource[T]) table(s *session, objects []T) {
	titles := r.titles
	if s.Output == "wide" {
		titles = slices.Concat(r.titles, r.wide)
	}
	rows := make([][]string, len(objects))
	for i, object := range objects {
		rows[i] = r.row(object, s.now())[:len(titles)]
	}
	writeTable(s.out, titles, rows)
}

// printRaw writes an object as JSON or YAML.
func (s *session) printRaw(raw json.RawMessage) error {
	out := &bytes.Buffer{}
	if s.Output == "yaml" {
		text, err := yamlOf(raw)
		if err != nil {
			return err
		}
		out.Write(text)
	} else {
		if err := json.Indent(out, raw, "", "  "); err != nil {
			return fmt.Errorf("read JSON: %w", err)
		}
		out.WriteByte('\n')
	}
	_, err := s.out.Write(out.Bytes())
	return err
}

// listing is how much of a list is wanted, and in which order.
type listing struct {
	Limit int    `default:"50" placeholder:"N" help:"Print at most this many."`
	All   bool   `help:"Print all."`
	Sort  string `placeholder:"FIELD" help:"Order by this field; with a minus before it, descending."`
}

const largestPage = 500

// query adds the order and a page size that fetches no more than is printed
// and one, which tells whether there are more.
func (l listing) query(q url.Values) url.Values {
	if q == nil {
		q = url.Values{}
	}
	if l.Sort != "" {
		q.Set("sort", l.Sort)
	}
	if !l.All && l.Limit < largestPage {
		q.Set("limit", fmt.Sprint(l.Limit+1))
	}
	return q
}

func (l listing) collect(all iter.Seq2[json.RawMessage, error]) (items []json.RawMessage, more bool, err error) {
	items = []json.RawMessage{}
	for item, err := range all {
		if err != nil {
			return nil, false, err
		}
		if !l.All && len(items) == l.Limit {
			return items, true, nil
		}
		items = append(items, item)
	}
	return items, false, nil
}
