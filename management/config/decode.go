package config

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// decoder lays a document upon a struct.
type decoder struct {
	root     []*key // of the whole struct, to find what stands in the wrong table
	dir      string // where secret files with a relative name are
	broken   bool   // parts of the file were not read: do not complain of what is absent
	secrets  secrets
	errs     Errors
	warnings Errors
}

func (d *decoder) fail(at position, key, what, hint string) {
	d.errs = append(d.errs, &Error{Line: at.line, Column: at.column, Key: key, Text: what, Hint: hint})
}

// section fills the struct v from the table n; a nil n gives defaults.
func (d *decoder) section(v reflect.Value, n *node, at string) {
	errs := len(d.errs)
	keys := keysOf(v.Type())
	for _, k := range keys {
		d.key(k, v.FieldByIndex(k.index), n, join(at, k.name))
	}
	if n != nil {
		d.unknown(keys, n, at)
	}
	if len(d.errs) == errs && !d.broken {
		d.check(v, n, at)
	}
}

// key fills one field from the table n it may stand in.
func (d *decoder) key(k *key, v reflect.Value, n *node, at string) {
	child := n.child(k.name)
	switch {
	case k.secret:
		d.secret(k, v, n, at)
	case child != nil:
		d.value(k, v, child, at)
	case k.typ.Kind() == reflect.Struct && shapeOf(k.typ) == section:
		d.section(v, nil, at)
	default:
		_ = k.setDefault(v) // schemaOf has tried it
		d.absent(k, n, at)
	}
}

func (d *decoder) absent(k *key, n *node, at string) {
	if !k.required || d.broken {
		return
	}
	where := position{1, 1}
	if n != nil {
		where = n.key
	}
	hint := ""
	if !k.tables() {
		hint = "give " + k.wants()
	}
	d.fail(where, at, "required", hint)
}

// wants says how the key's value is written.
func (k *key) wants() string {
	f := k.form()
	switch shapeOf(k.typ) {
	case section:
		return "a table"
	case series:
		e := k.element()
		if shapeOf(e.typ) == section {
			return "a list of tables"
		}
		f = e.form()
		example, _, _ := strings.Cut(f.example, " or ")
		if example == "" || f.name == "one of" {
			return "a list of " + strings.TrimPrefix(f.String(), "one of ")
		}
		return "a list such as [" + example + "]"
	case lookup:
		return "a table, in it " + k.element().wants() + " for each name"
	}
	return f.String()
}

// value fills v, of any shape, from n.
func (d *decoder) value(k *key, v reflect.Value, n *node, at string) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch shapeOf(v.Type()) {
	case section:
		if n.kind != table {
			hint := "write [" + at + "] on a line of its own and its keys below"
			if strings.HasSuffix(at, "]") { // an element of a list
				hint = ""
			}
			d.fail(n.at, at, "wants a table, not "+k.shown(n), hint)
			return
		}
		d.section(v, n, at)
	case series:
		d.list(k, v, n, at)
	case lookup:
		d.lookup(k, v, n, at)
	default:
		d.scalar(k, v, n, at)
	}
}

// list fills a list. [x] in place of [[x]] is a list of one table.
func (d *decoder) list(k *key, v reflect.Value, n *node, at string) {
	e := k.element()
	if n.kind == table && shapeOf(e.typ) == section {
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		d.value(e, v.Index(0), n, at)
		d.bounds(k, v, n, at)
		return
	}
	if n.kind != list {
		d.notList(k, n, at)
		return
	}
	s := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		d.value(e, s.Index(i), item, fmt.Sprintf("%s[%d]", at, i+1))
	}
	v.Set(s)
	d.bounds(k, v, n, at)
}

func (d *decoder) notList(k *key, n *node, at string) {
	hint := ""
	if e := k.element(); shapeOf(e.typ) != section && slices.Contains(e.form().kinds, n.kind) {
		hint = "put it in brackets: [" + n.literal() + "]"
	}
	d.fail(n.at, at, "wants "+k.wants()+", not "+k.shown(n), hint)
}

func (d *decoder) lookup(k *key, v reflect.Value, n *node, at string) {
	if n.kind != table {
		d.fail(n.at, at, "wants "+k.wants()+", not "+k.shown(n), "")
		return
	}
	e := k.element()
	m := reflect.MakeMapWithSize(v.Type(), len(n.names))
	for _, name := range n.names {
		item := reflect.New(e.typ).Elem()
		d.value(e, item, n.fields[name], join(at, name))
		m.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), item)
	}
	v.Set(m)
	d.bounds(k, v, n, at)
}

func (d *decoder) scalar(k *key, v reflect.Value, n *node, at string) {
	f := k.form()
	if !slices.Contains(f.kinds, n.kind) {
		hint := ""
		if n.kind == text && len(f.kinds) == 1 && k.setText(v, n.value) == nil {
			hint = "write it without quotes: " + n.value
		}
		d.fail(n.at, at, "wants "+f.String()+", not "+k.shown(n), hint)
		return
	}
	if err := k.setText(v, n.value); err != nil {
		if len(k.oneof) > 0 {
			d.notOneOf(k, n, at)
			return
		}
		what := fmt.Sprintf("wants %s, not %s", f, k.shown(n))
		if err != errForm {
			what = fmt.Sprintf("%s: %v", k.shown(n), err)
		}
		d.fail(n.at, at, what, "")
		return
	}
	if k.required && n.kind == text && n.value == "" {
		d.fail(n.at, at, "required", "give "+k.wants())
		return
	}
	d.bounds(k, v, n, at)
}

// bounds reports a value beyond its bounds, with the section that sets them.
func (d *decoder) bounds(k *key, v reflect.Value, n *node, at string) {
	err := k.bounds(v, false)
	if err == nil {
		return
	}
	if len(k.oneof) > 0 && shapeOf(k.typ) == scalar {
		d.notOneOf(k, n, at)
		return
	}
	what := k.measured(v, n) + " is " + err.Error()
	if k.min != "" || k.max != "" {
		what += k.source()
	}
	d.fail(n.at, at, what, "")
}

func (d *decoder) notOneOf(k *key, n *node, at string) {
	hint := ""
	if near := closest(n.value, k.oneof); near != "" && !k.secret {
		hint = "did you mean " + quote(near) + "?"
	}
	d.fail(n.at, at, "wants "+k.form().String()+", not "+k.shown(n), hint)
}

// measured names what a bound was compared with.
func (k *key) measured(v reflect.Value, n *node) string {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return "the number of entries, " + strconv.Itoa(v.Len()) + ","
	case reflect.String:
		return "its length"
	}
	return n.literal()
}

// unknown reports the keys of n that no field has.
func (d *decoder) unknown(keys []*key, n *node, at string) {
	var names []string
	for _, k := range keys {
		names = append(names, k.names()...)
	}
	for _, name := range n.names {
		if slices.Contains(names, name) {
			continue
		}
		hint := ""
		if near := closest(name, names); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		} else if other := elsewhere(d.root, name, "", at); other != "" {
			hint = fmt.Sprintf("there is %q", other)
		} else if len(names) <= 8 {
			hint = "known here: " + strings.Join(names, ", ")
		}
		d.fail(n.fields[name].key, join(at, name), "unknown key", hint)
	}
}

// elsewhere looks for a key of that name in another table and returns its path.
func elsewhere(keys []*key, name, at, not string) string {
	for _, k := range keys {
		if k.name == name && at != not {
			return join(at, name)
		}
		if shapeOf(k.typ) == section {
			if p := elsewhere(keysOf(direct(k.typ)), name, join(at, k.name), not); p != "" {
				return p
			}
		}
	}
	return ""
}

// child is a table's value of that name; nil when it, or the table, is not there.
func (n *node) child(name string) *node {
	if n == nil {
		return nil
	}
	return n.fields[name]
}

// literal is a value as TOML, cut short when it is long.
func (n *node) literal() string {
	const most = 60
	s := n.value
	if rs := []rune(s); len(rs) > most {
		s = string(rs[:most]) + "…"
	}
	if n.kind == text {
		return quote(s)
	}
	return s
}

// shown names a value in an error; a secret is not repeated.
func (k *key) shown(n *node) string {
	words := [...]string{text: "text", integer: "a whole number", float: "a number", boolean: "true or false", date: "a date", list: "a list", table: "a table"}
	if k.secret || n.kind == list || n.kind == table {
		return words[n.kind]
	}
	if n.kind == date {
		return "the date " + n.literal()
	}
	return n.literal()
}

// check asks the struct itself, if it has something to say; of the files that it names only where secrets are read too.
func (d *decoder) check(v reflect.Value, n *node, at string) {
	here := position{1, 1}
	if n != nil {
		here = n.key
	}
	report := func(key string, err error) {
		where, full := here, at
		if key != "" {
			full = strings.TrimPrefix(at+"."+key, ".")
		}
		if found := n.find(key); found != nil {
			where = found.at
		}
		d.fail(where, full, err.Error(), "")
	}
	switch c := v.Addr().Interface().(type) {
	case interface {
		CheckConfig(report func(key string, err error))
	}:
		c.CheckConfig(report)
	case interface{ Check() error }:
		if err := c.Check(); err != nil {
			d.fail(here, at, err.Error(), "")
		}
	}
	if c, ok := v.Addr().Interface().(interface {
		CheckFiles(report func(key string, err error))
	}); ok && !d.secrets.peek {
		c.CheckFiles(report)
	}
}

// step matches one piece of a path that a check reports: name, "quoted name", each with or without [index].
var step = regexp.MustCompile(`^\.?("[^"]*"|[^.\["]+)(?:\[(\d+)\])?`)

// find walks a path such as `customer[2].domains` or `via."a.example"` as far as the file goes; nil when not even its first key is
// there.
func (n *node) find(path string) *node {
	var found *node
	for m := step.FindStringSubmatch(path); m != nil; m = step.FindStringSubmatch(path) {
		path = path[len(m[0]):]
		if n = n.child(strings.Trim(m[1], `"`)); n == nil {
			return found
		}
		if i, err := strconv.Atoi(m[2]); err == nil && i >= 1 && i <= len(n.items) {
			n = n.items[i-1]
		}
		found = n
	}
	return found
}
