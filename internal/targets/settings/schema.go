package settings

import (
	"bytes"
	"encoding/json"
	"reflect"
)

// object is a JSON object whose members keep their order, so that a form shows
// fields as the struct declares them.
type object []member

type member struct {
	name  string
	value any
}

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(text)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Schema gives the JSON Schema (2020-12) of T. It panics for a struct that has
// none, which the conformance suite of the kinds finds.
func Schema[T any]() json.RawMessage {
	schema := append(object{{"$schema", "https://json-schema.org/draft/2020-12/schema"}}, schemaOf(reflect.TypeFor[T]())...)
	text, err := json.Marshal(schema)
	if err != nil {
		panic(err)
	}
	return text
}

func schemaOf(t reflect.Type) object {
	properties := object{}
	required := []string{}
	for _, f := range fieldsOf(t) {
		properties = append(properties, member{f.name, f.schema()})
		if f.required {
			required = append(required, f.name)
		}
	}
	return object{
		{"type", "object"},
		{"properties", properties},
		{"required", required},
		{"additionalProperties", false},
	}
}

func (f field) schema() object {
	var schema object
	zero := reflect.Zero(f.typ).Interface()
	inner, isGroup := f.group()
	switch v, isValue := zero.(value); {
	case isValue:
		schema = v.schema()
	case isGroup:
		schema = schemaOf(inner)
	case f.typ.Kind() == reflect.Map:
		schema = object{{"type", "object"}, {"additionalProperties", object{{"type", "string"}}}}
	default:
		schema = object{{"type", "string"}}
	}
	if f.title != "" {
		schema = append(schema, member{"title", f.title})
	}
	if f.help != "" {
		schema = append(schema, member{"description", f.help})
	}
	if f.example != "" {
		schema = append(schema, member{"examples", []any{literal(f.example)}})
	}
	if f.fallback != "" {
		schema = append(schema, member{"default", literal(f.fallback)})
	}
	if f.secret {
		schema = append(schema, member{"writeOnly", true})
	}
	return schema
}

// literal reads the value of a tag: JSON if it is JSON, else a text.
func literal(tag string) any {
	if json.Valid([]byte(tag)) {
		return json.RawMessage(tag)
	}
	return tag
}
