package config

import (
	"reflect"
	"strings"

	"github.com/certctl-io/certctl/internal/secret"
)

// variablePrefix starts every environment variable that belongs to certctl.
const variablePrefix = "CERTCTL_"

// setting is one field of Server as its tags describe it.
type setting struct {
	index    int
	name     string // data-dir, as in --data-dir
	group    string
	help     string
	fallback string // default tag
	computed string
	enum     []string
	min, max string
	secret   bool
}

// key is the name in the YAML file, in messages and in docs.
func (s setting) key() string { return strings.ReplaceAll(s.name, "-", "_") }

// variable is the name of the environment variable.
func (s setting) variable() string { return variablePrefix + strings.ToUpper(s.key()) }

// flag is the name on the command line.
func (s setting) flag() string { return "--" + s.name }

// inFile reports whether the YAML file may hold the setting: the file cannot
// name another one.
func (s setting) inFile() bool { return s.name != "config" }

// settings reads the tags of Server, in the order of its fields.
func settings() []setting {
	t := reflect.TypeFor[Server]()
	list := make([]setting, 0, t.NumField())
	for i := range t.NumField() {
		field := t.Field(i)
		s := setting{
			index:    i,
			name:     field.Tag.Get("name"),
			group:    field.Tag.Get("group"),
			help:     field.Tag.Get("help"),
			fallback: field.Tag.Get("default"),
			computed: field.Tag.Get("computed"),
			min:      field.Tag.Get("min"),
			max:      field.Tag.Get("max"),
			secret:   field.Type == reflect.TypeFor[secret.String](),
		}
		if enum := field.Tag.Get("enum"); enum != "" {
			s.enum = strings.Split(enum, ",")
		}
		list = append(list, s)
	}
	return list
}
