package config

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// Values are keys of a template that get a value: strings as in a tag ("5m", "50MB"), numbers, bools, []string. A table's values
// stand under its dotted path ("smtp.listen"), a list of tables is []Values and a map of tables map[string]Values under its own.
type Values map[string]any

// Template writes a first config file for v's type: every key with its doc, those in values with their value, all others as a comment
// that shows the default. The file loads when values holds whatever is required.
func Template(w io.Writer, v any, values Values) error {
	sv, err := structOf(v)
	if err != nil {
		return err
	}
	t := template{values: values, used: map[string]bool{}}
	t.section(sv.Type(), "", false)
	for name := range values {
		if !t.used[name] {
			t.errs = append(t.errs, &Error{File: "template", Key: name, Text: "unknown key"})
		}
	}
	if len(t.errs) > 0 {
		slices.SortFunc(t.errs, func(a, b *Error) int { return strings.Compare(a.Key, b.Key) })
		return t.errs
	}
	_, err = w.Write(bytes.TrimLeft(t.b.Bytes(), "\n"))
	return err
}

type template struct {
	b      bytes.Buffer
	values Values
	used   map[string]bool
	errs   Errors
}

// section writes the keys of one table. In one that is absent as a whole everything is a comment.
func (t *template) section(typ reflect.Type, at string, absent bool) {
	first := true
	for _, k := range keysOf(typ) {
		if k.tables() {
			continue
		}
		if !first {
			t.b.WriteByte('\n')
		}
		first = false
		t.key(k, join(at, k.name), absent)
	}
	for _, k := range keysOf(typ) {
		if k.tables() {
			t.tables(k, join(at, k.name), absent)
		}
	}
}

func (t *template) key(k *key, at string, absent bool) {
	t.comment(k.doc)
	t.comment(k.facts())
	given := false
	for _, name := range k.names() {
		path := at[:len(at)-len(k.name)] + name
		value, ok := t.values[path]
		if !ok {
			continue
		}
		t.used[path], given = true, true
		text, err := k.given(name, value)
		if err != nil {
			t.errs = append(t.errs, &Error{File: "template", Key: path, Text: err.Error()})
		}
		fmt.Fprintf(&t.b, "%s = %s\n", name, text)
	}
	switch {
	case given:
	case k.secret:
		fmt.Fprintf(&t.b, "#%s = %s\n", k.name+fileSuffix, quote(k.name+".secret"))
	case !k.hasDef && k.sample() != k.text(reflect.New(direct(k.typ)).Elem()):
		fmt.Fprintf(&t.b, "# Not set; for example:\n#%s = %s\n", k.name, k.sample())
	default:
		fmt.Fprintf(&t.b, "#%s = %s\n", k.name, k.sample())
	}
}

// tables writes the tables of one key: those given, else the one that is always there, else one as a comment.
func (t *template) tables(k *key, at string, absent bool) {
	typ := direct(k.typ)
	switch shapeOf(typ) {
	case series:
		t.head(k)
		items, _ := t.values[at].([]Values)
		t.used[at] = true
		for _, item := range items {
			t.inner(direct(typ.Elem()), "[["+at+"]]", at, item)
		}
		if len(items) == 0 {
			fmt.Fprintf(&t.b, "#[[%s]]\n", at)
			t.section(direct(typ.Elem()), at, true)
		}
	case lookup:
		t.head(k)
		items, _ := t.values[at].(map[string]Values)
		t.used[at] = true
		for _, name := range sortedKeys(reflect.ValueOf(items)) {
			t.inner(direct(typ.Elem()), "["+join(at, name)+"]", join(at, name), items[name])
		}
		if len(items) == 0 {
			fmt.Fprintf(&t.b, "#[%s]\n", join(at, "name"))
			t.section(direct(typ.Elem()), join(at, "name"), true)
		}
	default:
		t.head(k)
		absent = absent || k.typ.Kind() == reflect.Pointer && !t.below(at)
		mark := ""
		if absent {
			mark = "#"
		}
		fmt.Fprintf(&t.b, "%s[%s]\n", mark, at)
		t.section(typ, at, absent)
	}
}

func (t *template) head(k *key) {
	t.b.WriteByte('\n')
	t.comment(k.doc)
}

// inner writes one given table of a list or map.
func (t *template) inner(typ reflect.Type, header, at string, values Values) {
	in := template{values: Values{}, used: map[string]bool{}}
	for name, v := range values {
		in.values[at+"."+name] = v
	}
	fmt.Fprintf(&in.b, "%s\n", header)
	in.section(typ, at, false)
	for name := range in.values {
		if !in.used[name] {
			t.errs = append(t.errs, &Error{File: "template", Key: name, Text: "unknown key"})
		}
	}
	t.errs = append(t.errs, in.errs...)
	t.b.Write(in.b.Bytes())
}

// below reports whether a value is given anywhere below the table.
func (t *template) below(at string) bool {
	for name := range t.values {
		if strings.HasPrefix(name, at+".") {
			return true
		}
	}
	return false
}

// facts are the bounds and whatever else is not in the doc.
func (k *key) facts() string {
	var facts []string
	if b := k.bounded(); b != "" {
		if len(k.oneof) > 0 {
			b = "one of " + b
		}
		facts = append(facts, strings.ToUpper(b[:1])+b[1:]+".")
	}
	if k.required {
		facts = append(facts, "Required.")
	}
	if k.secret {
		facts = append(facts, fmt.Sprintf("A secret: give %s, %s or %s.", k.name+fileSuffix, k.name+envSuffix, k.name))
	}
	if k.restart {
		facts = append(facts, "Needs a restart.")
	}
	return strings.Join(facts, " ")
}

// sample is what stands behind a key that is a comment: the default, else something that could stand there.
func (k *key) sample() string {
	if d := k.defaultText(); d != "" {
		return d
	}
	v, text := reflect.New(direct(k.typ)).Elem(), ""
	switch shapeOf(k.typ) {
	case series:
		if k.example != "" {
			return "[" + k.element().form().example + "]"
		}
	case scalar:
		switch {
		case len(k.oneof) > 0:
			text = k.oneof[0]
		case k.example != "":
			text = k.example
		case v.Kind() != reflect.String:
			text = k.min
		}
	}
	if text != "" {
		_ = k.setText(v, text) // schemaOf has tried them
	}
	return k.text(v)
}

// given is a value of Values as TOML, checked as if it stood in a file.
func (k *key) given(name string, value any) (string, error) {
	if name != k.name {
		return quote(fmt.Sprint(value)), nil // the file or variable of a secret
	}
	v := reflect.New(k.typ).Elem()
	if list, ok := value.([]string); ok && shapeOf(k.typ) == series {
		v.Set(reflect.MakeSlice(k.typ, len(list), len(list)))
		for i, item := range list {
			if err := k.element().setText(v.Index(i), item); err != nil {
				return "", fmt.Errorf("%q: wants %s", item, k.wants())
			}
		}
	} else if shapeOf(k.typ) != scalar {
		return "", fmt.Errorf("wants %s", k.wants())
	} else if err := k.setText(v, fmt.Sprint(value)); err != nil {
		return "", fmt.Errorf("wants %s", k.wants())
	}
	if err := k.bounds(v, false); err != nil {
		return "", err
	}
	return k.text(v), nil
}

// comment writes text as comment lines of at most 100 characters.
func (t *template) comment(text string) {
	const width = 98
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			fmt.Fprintf(&t.b, "# %s\n", line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	if line != "" {
		fmt.Fprintf(&t.b, "# %s\n", line)
	}
}
