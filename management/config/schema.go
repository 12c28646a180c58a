package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
)

// key is one field of a struct, as the file sees it.
type key struct {
	name     string
	index    []int // for reflect.Value.FieldByIndex
	typ      reflect.Type
	doc      string
	def      string
	hasDef   bool
	min, max string
	oneof    []string
	example  string
	bytes    bool
	secret   bool
	required bool
	restart  bool
}

// shape says how a type is written.
type shape uint8

const (
	scalar  shape = iota
	section       // a struct: a table
	series        // a slice
	lookup        // a map by string
)

var (
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	durationType    = reflect.TypeFor[time.Duration]()
)

// shapeOf looks through pointers.
func shapeOf(t reflect.Type) shape {
	t = direct(t)
	switch {
	case reflect.PointerTo(t).Implements(textUnmarshaler):
		return scalar
	case t.Kind() == reflect.Struct:
		return section
	case t.Kind() == reflect.Slice:
		return series
	case t.Kind() == reflect.Map:
		return lookup
	}
	return scalar
}

func direct(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// tables reports whether the key holds tables ([x], [[x]], [x.name]) rather than a value behind "=".
func (k *key) tables() bool {
	switch t := direct(k.typ); shapeOf(t) {
	case section:
		return true
	case series, lookup:
		return shapeOf(t.Elem()) == section
	default:
		return false
	}
}

// element is the key as each element of its list or map is written.
func (k *key) element() *key {
	e := *k
	e.typ, e.def, e.hasDef, e.min, e.max, e.required = direct(k.typ).Elem(), "", false, "", "", false
	return &e
}

// maxDepth bounds how deep structs nest; a struct that holds itself has no end.
const maxDepth = 16

// schemaOf lists the keys of a struct type, those of embedded structs among them, and checks all tags below it: a tag that makes no
// sense is an error of the program, not of the file, and is the same whatever the file says.
func schemaOf(t reflect.Type) ([]*key, error) {
	var errs []error
	verify(t, t.String(), 0, &errs)
	return keysOf(t), errors.Join(errs...)
}

func verify(t reflect.Type, name string, depth int, errs *[]error) {
	if depth > maxDepth {
		*errs = append(*errs, fmt.Errorf("config: %s: nested too deep", name))
		return
	}
	seen := map[string]bool{}
	for _, k := range keysOf(t) {
		at := name + "." + k.name
		for _, n := range k.names() {
			if seen[n] {
				*errs = append(*errs, fmt.Errorf("config: %s: two fields for one key", at))
			}
			seen[n] = true
		}
		if err := k.verify(); err != nil {
			*errs = append(*errs, fmt.Errorf("config: %s: %w", at, err))
			continue
		}
		inner := direct(k.typ)
		if s := shapeOf(inner); s == series || s == lookup {
			inner = direct(inner.Elem())
		}
		if shapeOf(inner) == section {
			verify(inner, at, depth+1, errs)
		}
	}
}

// verify checks that the type can be written in a file and that the tags are written as its values are.
func (k *key) verify() error {
	t := direct(k.typ)
	switch s := shapeOf(t); {
	case s == lookup && t.Key().Kind() != reflect.String:
		return errors.New("a map is by string")
	case s == series, s == lookup:
		e := k.element()
		if inner := shapeOf(e.typ); inner == lookup || inner == series && (s == series || shapeOf(direct(e.typ).Elem()) != scalar) {
			return fmt.Errorf("%s is nested too deep", t) // maps of lists are as deep as it goes
		} else if err := e.verify(); err != nil {
			return err
		}
	case s == section && (k.hasDef || k.min != "" || k.max != "" || len(k.oneof) > 0):
		return errors.New("a struct has no default and no bounds")
	case s == scalar && !plain(t):
		return fmt.Errorf("%s cannot be written in a file", t)
	}
	if k.typ.Kind() == reflect.Pointer && (shapeOf(t) == series || shapeOf(t) == lookup || t.Kind() == reflect.Pointer) {
		return fmt.Errorf("%s: only structs and scalars may be pointers", k.typ)
	}
	if k.secret && k.typ.Kind() != reflect.String {
		return errors.New("a secret is a string")
	}
	if k.bytes && !isInt(leaf(t)) {
		return errors.New(`unit:"bytes" is for integers`)
	}
	v := reflect.New(t).Elem()
	if err := k.setDefault(v); err != nil {
		return fmt.Errorf("default: %w", err)
	}
	if err := k.bounds(reflect.New(t).Elem(), true); err != nil {
		return err
	}
	for _, text := range append(slices.Clone(k.oneof), k.example) {
		if err := k.try(text); err != nil {
			return fmt.Errorf("%q: %w", text, err)
		}
	}
	if k.hasDef {
		if err := k.bounds(v, false); err != nil {
			return fmt.Errorf("default: %w", err)
		}
	}
	return nil
}

// try reports whether text can be a value of the key, or of its list.
func (k *key) try(text string) error {
	t := leaf(k.typ)
	if text == "" || shapeOf(t) != scalar {
		return nil
	}
	return k.setText(reflect.New(t).Elem(), text)
}

// leaf is what a list or map holds in the end.
func leaf(t reflect.Type) reflect.Type {
	for shapeOf(t) == series || shapeOf(t) == lookup {
		t = direct(direct(t).Elem())
	}
	return t
}

func isInt(t reflect.Type) bool { return t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64 }

func plain(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64:
		return true
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	}
	return isInt(t) || reflect.PointerTo(t).Implements(textUnmarshaler)
}

// keysOf lists a struct's keys in the order of its fields.
func keysOf(t reflect.Type) []*key {
	var keys []*key
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("toml")
		if f.Anonymous && name == "" && shapeOf(f.Type) == section && f.Type.Kind() == reflect.Struct {
			for _, k := range keysOf(f.Type) {
				k.index = append([]int{i}, k.index...)
				keys = append(keys, k)
			}
			continue
		}
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = snake(f.Name)
		}
		def, hasDef := f.Tag.Lookup("default")
		keys = append(keys, &key{
			name: name, index: []int{i}, typ: f.Type, doc: f.Tag.Get("doc"), def: def, hasDef: hasDef,
			min: f.Tag.Get("min"), max: f.Tag.Get("max"), oneof: strings.Fields(f.Tag.Get("oneof")), example: f.Tag.Get("example"),
			bytes: f.Tag.Get("unit") == "bytes", secret: f.Tag.Get("secret") == "true",
			required: f.Tag.Get("required") == "true", restart: f.Tag.Get("reload") == "restart",
		})
	}
	return keys
}

// The keys that may stand for a secret x: the file or the environment variable it is in.
const (
	fileSuffix = "_file"
	envSuffix  = "_env"
)

// names are the keys by which the file may give k.
func (k *key) names() []string {
	if k.secret {
		return []string{k.name, k.name + fileSuffix, k.name + envSuffix}
	}
	return []string{k.name}
}

// snake turns CommandTimeout into command_timeout, RequireTLS into require_tls and POP3Listen into pop3_listen.
func snake(name string) string {
	var b strings.Builder
	rs := []rune(name)
	for i, r := range rs {
		if i > 0 && unicode.IsUpper(r) && (!unicode.IsUpper(rs[i-1]) || i+1 < len(rs) && unicode.IsLower(rs[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// citation matches the RFC sections a doc names; a list of sections behind one number belongs to it.
var citation = regexp.MustCompile(`RFC \d+(?: §[0-9A-Za-z.]*[0-9A-Za-z](?:, §[0-9A-Za-z.]*[0-9A-Za-z])*)?`)

// source is " (RFC 5321 §4.5.3.2.7)": what the doc cites, or nothing.
func (k *key) source() string {
	all := citation.FindAllString(k.doc, -1)
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	return " (" + strings.Join(slices.Compact(all), ", ") + ")"
}
