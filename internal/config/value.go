package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size. Its text form is a whole number with one of the units
// B, KiB, MiB or GiB.
type Bytes int64

// byteUnits are the units of Bytes, largest first.
func byteUnits() []struct {
	name string
	size Bytes
} {
	return []struct {
		name string
		size Bytes
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
}

// UnmarshalText implements encoding.TextUnmarshaler. A number without a unit
// is refused: nobody remembers which unit it would be.
func (b *Bytes) UnmarshalText(text []byte) error {
	for _, unit := range byteUnits() {
		digits, found := strings.CutSuffix(string(text), unit.name)
		if !found {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/int64(unit.size) {
			break
		}
		*b = Bytes(n) * unit.size
		return nil
	}
	return errors.New("it is not a size")
}

// MarshalText implements encoding.TextMarshaler.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String writes the size in the largest unit that keeps it whole.
func (b Bytes) String() string {
	for _, unit := range byteUnits() {
		if b >= unit.size && b%unit.size == 0 {
			return strconv.FormatInt(int64(b/unit.size), 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// valueError says in what way a text is not a value of the setting's type, and
// how such a value is written.
type valueError struct{ wrong, remedy string }

func (e *valueError) Error() string { return e.wrong }

// parse sets field from the texts of one setting: one text for a plain value,
// any number for a list.
func parse(field reflect.Value, texts []string) *valueError {
	if field.Kind() == reflect.Slice {
		return parseList(field, texts)
	}
	if len(texts) != 1 {
		return &valueError{"is a list, but takes one value", "give a single value"}
	}
	text := texts[0]
	if u, ok := field.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return &valueError{"is not a size", "write a whole number and its unit, such as 512KiB or 1MiB"}
		}
		return nil
	}
	switch field.Interface().(type) {
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return &valueError{"is not a duration", "write it with its unit, such as 30s or 1m30s"}
		}
		field.SetInt(int64(d))
	case int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return &valueError{"is not a whole number", "write digits only, such as 50"}
		}
		field.SetInt(int64(n))
	case float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return &valueError{"is not a number", "write it such as 50 or 0.5"}
		}
		field.SetFloat(f)
	case string:
		field.SetString(text)
	default:
		panic(fmt.Sprintf("config: a setting cannot have the type %s", field.Type()))
	}
	return nil
}

func parseList(field reflect.Value, texts []string) *valueError {
	var items []string
	for _, text := range texts {
		for item := range strings.SplitSeq(text, ",") {
			item = strings.TrimSpace(item)
			if item == "" {
				return &valueError{"has an empty entry", "separate entries by single commas"}
			}
			items = append(items, item)
		}
	}
	field.Set(reflect.ValueOf(items))
	return nil
}

// checkRange compares a value with the min and max of its setting.
func (s setting) checkRange(field reflect.Value) *valueError {
	if s.min == "" {
		return nil
	}
	limit := func(text string) reflect.Value {
		v := reflect.New(field.Type()).Elem()
		if err := parse(v, []string{text}); err != nil {
			panic(fmt.Sprintf("config: limit %q of %s %s", text, s.name, err))
		}
		return v
	}
	if number(field) < number(limit(s.min)) || number(field) > number(limit(s.max)) {
		return &valueError{"is out of range", fmt.Sprintf("choose a value from %s to %s", s.min, s.max)}
	}
	return nil
}

func number(v reflect.Value) float64 {
	if v.Kind() == reflect.Float64 {
		return v.Float()
	}
	return float64(v.Int())
}
