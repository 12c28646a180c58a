package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// hidden stands for a secret wherever a config is shown.
const hidden = "(hidden)"

// Print writes v, a struct or a pointer to one, as TOML: every key with the value that holds, secrets hidden, and a comment
// behind those that are at their default. What it writes loads again, but for the secrets.
func Print(w io.Writer, v any) error {
	sv, err := structOf(v)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	printSection(&b, sv, "")
	_, err = w.Write(bytes.TrimLeft(b.Bytes(), "\n"))
	return err
}

// structOf is the struct in v, after its tags were verified.
func structOf(v any) (reflect.Value, error) {
	sv := reflect.ValueOf(v)
	if sv.Kind() == reflect.Pointer {
		sv = sv.Elem()
	}
	if sv.Kind() != reflect.Struct {
		return sv, errors.New("config: not a struct")
	}
	_, err := schemaOf(sv.Type())
	return sv, err
}

func printSection(b *bytes.Buffer, v reflect.Value, at string) {
	for k, fv := range fields(v) {
		if k.tables() || fv.Kind() == reflect.Pointer && fv.IsNil() {
			continue
		}
		fmt.Fprintf(b, "%s = %s", k.name, k.shownText(fv))
		if d := reflect.New(k.typ).Elem(); k.setDefault(d) == nil && k.text(d) == k.text(fv) {
			b.WriteString(" # default")
		}
		b.WriteByte('\n')
	}
	for k, fv := range fields(v) {
		if k.tables() {
			printTables(b, k, fv, join(at, k.name))
		}
	}
}

func printTables(b *bytes.Buffer, k *key, v reflect.Value, at string) {
	if v = indirect(v); !v.IsValid() {
		return
	}
	switch shapeOf(v.Type()) {
	case series:
		for i := range v.Len() {
			fmt.Fprintf(b, "\n[[%s]]\n", at)
			printSection(b, indirect(v.Index(i)), at)
		}
	case lookup:
		for _, name := range sortedKeys(v) {
			item := v.MapIndex(reflect.ValueOf(name).Convert(v.Type().Key()))
			printTables(b, k.element(), item, join(at, name))
		}
	default:
		fmt.Fprintf(b, "\n[%s]\n", at)
		printSection(b, v, at)
	}
}

// fields yields the keys of a struct with their values.
func fields(v reflect.Value) func(yield func(*key, reflect.Value) bool) {
	return func(yield func(*key, reflect.Value) bool) {
		for _, k := range keysOf(v.Type()) {
			if !yield(k, v.FieldByIndex(k.index)) {
				return
			}
		}
	}
}

// indirect follows a pointer; of a nil one it returns the invalid Value.
func indirect(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Pointer {
		return v.Elem()
	}
	return v
}

func sortedKeys(v reflect.Value) []string {
	names := make([]string, 0, v.Len())
	for _, name := range v.MapKeys() {
		names = append(names, name.String())
	}
	slices.Sort(names)
	return names
}

// shownText is the value as TOML with a secret hidden.
func (k *key) shownText(v reflect.Value) string {
	if k.secret && v.String() != "" {
		return quote(hidden)
	}
	return k.text(v)
}

// bounded tells the bounds in words: "at least 5m", "1 to 100", "plain, tls"; empty when there are none.
func (k *key) bounded() string {
	unit := ""
	switch t := direct(k.typ); {
	case shapeOf(t) != scalar && k.min == "1" && k.max == "":
		unit = " entry"
	case shapeOf(t) != scalar:
		unit = " entries"
	case t.Kind() == reflect.String:
		unit = " characters"
	}
	switch {
	case len(k.oneof) > 0:
		return strings.Join(k.oneof, ", ")
	case k.min != "" && k.max != "":
		return k.min + " to " + k.max + unit
	case k.min != "":
		return "at least " + k.min + unit
	case k.max != "":
		return "at most " + k.max + unit
	}
	return ""
}

// defaultText is the default as TOML; empty when the tag gives none.
func (k *key) defaultText() string {
	if !k.hasDef {
		return ""
	}
	v := reflect.New(k.typ).Elem()
	_ = k.setDefault(v) // schemaOf has tried it
	return k.text(v)
}
