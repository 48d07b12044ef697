// Package settings turns the settings of a kind of target, declared once as a
// struct, into everything that is needed of them: reading with checks that name
// the field, the JSON Schema for forms, and the list of secrets.
//
//	type settings struct {
//		Certificate settings.Path `json:"certificate" required:"true" title:"Certificate" help:"Gets the chain, leaf first."`
//		Password    string        `json:"password" secret:"true"`
//	}
//
// The tags are json (the name), required, secret, title, help, example and
// default; the last three are for the reader only. Types that check themselves,
// such as Path and Command, stand in this package.
package settings

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/certctl-io/certctl/internal/problem"
)

// value is a type of setting that knows what it may be.
type value interface {
	// check tells what is wrong with a value that was set.
	check(field string) *problem.Error
	// schema gives the JSON Schema keywords of the type.
	schema() object
}

// field is one setting as its struct declares it.
type field struct {
	name             string
	index            []int
	typ              reflect.Type
	title, help      string
	example          string
	fallback         string
	required, secret bool
}

// fieldsOf lists the settings of a struct in their order. Embedded structs
// count as if their fields were written out.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields = append(fields, field{
			name: name, index: f.Index, typ: f.Type,
			title: f.Tag.Get("title"), help: f.Tag.Get("help"), example: f.Tag.Get("example"), fallback: f.Tag.Get("default"),
			required: f.Tag.Get("required") == "true", secret: f.Tag.Get("secret") == "true",
		})
	}
	return fields
}

// group gives the struct type of a setting that has settings of its own.
func (f field) group() (reflect.Type, bool) {
	t := f.typ
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t, t.Kind() == reflect.Struct
}

// Decode reads settings into T. All problems are reported at once: unknown
// settings, missing ones, wrong types, and values that cannot be.
func Decode[T any](raw json.RawMessage) (T, error) {
	var into T
	if len(bytes.TrimSpace(raw)) == 0 {
		raw = json.RawMessage("{}")
	}
	problems := decodeObject("settings", raw, reflect.ValueOf(&into).Elem())
	return into, problem.Join(problems...)
}

func decodeObject(path string, raw json.RawMessage, into reflect.Value) []*problem.Error {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(raw, &given); err != nil || given == nil {
		return []*problem.Error{problem.Invalid(path, "must be an object").Hint(`write it as {"name": value, ...}`)}
	}
	fields := fieldsOf(into.Type())
	var names []string
	var problems []*problem.Error
	for _, f := range fields {
		names = append(names, f.name)
		problems = append(problems, decodeField(path+"."+f.name, f, given[f.name], into.FieldByIndex(f.index))...)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(names, name) {
			problems = append(problems, problem.Invalid(path+"."+name, "there is no such setting").Hint("there are %s", strings.Join(names, ", ")))
		}
	}
	return problems
}

// decodeField reads one setting. null, "" and [] are as good as leaving it out,
// as that is what forms send for a field that was not filled in.
func decodeField(path string, f field, raw json.RawMessage, into reflect.Value) []*problem.Error {
	if t, ok := f.group(); ok && isSet(raw) {
		if into.Kind() == reflect.Pointer {
			into.Set(reflect.New(t))
			into = into.Elem()
		}
		return decodeObject(path, raw, into)
	}
	if !isSet(raw) {
		if f.required {
			return []*problem.Error{problem.Invalid(path, "is missing").Hint("%s", f.remedy())}
		}
		return nil
	}
	if err := json.Unmarshal(raw, into.Addr().Interface()); err != nil {
		return []*problem.Error{problem.Invalid(path, "must be %s", describe(f.typ)).Hint("%s", f.remedy())}
	}
	if v, ok := into.Interface().(value); ok {
		if p := v.check(path); p != nil {
			return []*problem.Error{p}
		}
	}
	return nil
}

func isSet(raw json.RawMessage) bool {
	switch string(bytes.TrimSpace(raw)) {
	case "", "null", `""`, "[]":
		return false
	}
	return true
}

func (f field) remedy() string {
	if f.example != "" {
		return fmt.Sprintf("%s For example: %s", f.help, f.example)
	}
	return f.help
}

func describe(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return "a list of texts"
	case reflect.Map:
		return "an object of texts"
	default:
		return "a text"
	}
}

// Secrets lists the settings of T that are secret, in path form.
func Secrets[T any]() []string { return secretsOf("", reflect.TypeFor[T]()) }

func secretsOf(prefix string, t reflect.Type) []string {
	var paths []string
	for _, f := range fieldsOf(t) {
		if f.secret {
			paths = append(paths, prefix+f.name)
		}
		if inner, ok := f.group(); ok {
			paths = append(paths, secretsOf(prefix+f.name+".", inner)...)
		}
	}
	return paths
}
