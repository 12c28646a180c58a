package config

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// position is a place in a file, both from 1; columns count characters.
type position struct{ line, column int }

// kind says what a node is.
type kind uint8

const (
	text kind = iota
	integer
	float
	boolean
	date
	list
	table
)

// origin says how a table came to be, which decides who may still add to it.
type origin uint8

const (
	implied origin = iota // [a.b] implies a: [a] may still come, and so may [a.c]
	headed                // [a]: only further tables below it may come
	dotted                // a.b = 1: only further dotted keys beside it may come
	closed                // a = {...} or a = [...]: nothing may come
)

// node is one value of a document.
type node struct {
	kind   kind
	key    position // where its key or header stands
	at     position // where the value itself starts
	value  string   // of text its characters, of other scalars what is written
	items  []*node  // of a list
	names  []string // of a table, in order
	fields map[string]*node
	origin origin // of a table, or of a list of tables
}

func newTable(at position, o origin) *node {
	return &node{kind: table, key: at, at: at, fields: map[string]*node{}, origin: o}
}

func (n *node) add(name string, child *node) {
	n.names = append(n.names, name)
	n.fields[name] = child
}

// document reads one file.
type document struct {
	data   []byte
	starts []int // offset of each line
	parser unstable.Parser
	base   int // offset in data of what the parser was last given
	root   *node
	under  string // path of the last header
	errs   Errors
	broken bool // something could not be read: what is absent may be there
}

// parse returns the tree of a TOML document and what is wrong with it; the tree holds what could be read all the same.
func parse(data []byte) *document {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // some editors put it there
	d := &document{data: slices.Clip(data), starts: []int{0}}
	for i, c := range data {
		if c == '\n' {
			d.starts = append(d.starts, i+1)
		}
	}
	d.root = newTable(position{1, 1}, headed)
	if !utf8.Valid(data) {
		d.fail(d.position(validPrefix(data)), "", "not UTF-8", "save the file as UTF-8")
		d.broken = true
		return d
	}
	d.read()
	if len(d.errs) == 0 {
		d.confirm()
	}
	return d
}

// confirm has go-toml's own decoder read the document too: what it refuses is no TOML, whatever we made of it.
func (d *document) confirm() {
	var all map[string]any
	err := toml.Unmarshal(d.data, &all)
	if err == nil {
		return
	}
	at := position{1, 1}
	if de, ok := errors.AsType[*toml.DecodeError](err); ok {
		at.line, at.column = de.Position()
	}
	d.fail(at, "", strings.TrimPrefix(err.Error(), "toml: "), "")
}

func validPrefix(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(data)
}

func (d *document) fail(at position, key, what, hint string) {
	d.errs = append(d.errs, &Error{Line: at.line, Column: at.column, Key: key, Text: what, Hint: hint})
}

func (d *document) position(offset int) position {
	line := sort.SearchInts(d.starts, offset+1) // the first line that starts behind offset, counted from 0
	start := d.starts[line-1]
	return position{line, 1 + utf8.RuneCount(d.data[start:offset])}
}

func (d *document) place(r unstable.Range) position { return d.position(d.base + int(r.Offset)) }

// read builds the tree. After a line that is no TOML it goes on with the next one where that line stood alone, so that one slip
// does not hide the others.
func (d *document) read() {
	current := d.root
	for more := true; more; more = d.skip() {
		d.parser.Reset(d.data[d.base:])
		for d.parser.NextExpression() {
			e := d.parser.Expression()
			switch e.Kind {
			case unstable.Table, unstable.ArrayTable:
				current = d.header(e)
			case unstable.KeyValue:
				d.assign(current, e)
			}
		}
	}
}

// assignment matches a line that holds a key and a bare value; the key is captured.
var assignment = regexp.MustCompile(`^\s*([A-Za-z0-9_.-]+)\s*=\s*([^\s\[{"'].*)?\s*$`)

// skip reports the parser's error, if there is one, and whether reading can go on behind its line. It never repeats the line, which
// may hold a secret.
func (d *document) skip() bool {
	err := d.parser.Error()
	if err == nil {
		return false
	}
	d.broken = true
	offset := len(d.data)
	if pe, ok := errors.AsType[*unstable.ParserError](err); ok {
		offset = d.base + int(d.parser.Range(pe.Highlight).Offset)
	}
	at := d.position(offset)
	start, end := d.starts[at.line-1], len(d.data)
	if at.line < len(d.starts) {
		end = d.starts[at.line]
	}
	m := assignment.FindSubmatch(d.data[start:end])
	if m == nil || start < d.base {
		d.fail(at, "", err.Error(), "")
		return false
	}
	key := strings.TrimPrefix(d.under+"."+string(m[1]), ".")
	d.fail(at, key, "not a value", fmt.Sprintf(`text stands in quotes: %s = "..."`, m[1]))
	d.base = end
	return end < len(d.data)
}

// header finds or makes the table of a [header] or [[header]].
func (d *document) header(e *unstable.Node) *node {
	parts := d.keyParts(e.Key())
	d.under = path(parts)
	here := d.root
	for i, p := range parts[:len(parts)-1] {
		next := here.fields[p.name]
		if next == nil {
			next = newTable(p.at, implied)
			here.add(p.name, next)
		}
		if next = next.last(); next == nil {
			d.fail(p.at, path(parts[:i+1]), "is a value and can hold no keys", "")
			return newTable(p.at, headed) // what follows is read, and forgotten
		}
		here = next
	}
	last := parts[len(parts)-1]
	if e.Kind == unstable.ArrayTable {
		return d.element(here, parts)
	}
	old := here.fields[last.name]
	switch {
	case old == nil:
		old = newTable(last.at, headed)
		here.add(last.name, old)
	case old.kind == table && old.origin == implied:
		old.key, old.at, old.origin = last.at, last.at, headed
	default:
		d.twice(last.at, path(parts), old)
		return newTable(last.at, headed)
	}
	return old
}

// element adds a table to the list that a [[header]] names.
func (d *document) element(here *node, parts []part) *node {
	last := parts[len(parts)-1]
	item := newTable(last.at, headed)
	l := here.fields[last.name]
	if l == nil {
		l = &node{kind: list, key: last.at, at: last.at, origin: headed}
		here.add(last.name, l)
	}
	if l.kind != list || l.origin == closed {
		d.twice(last.at, path(parts), l)
		return item
	}
	l.items = append(l.items, item)
	return item
}

// last is the table that a header's part leads into: n itself, or the newest of a list; nil when there is none.
func (n *node) last() *node {
	if n.kind == list && n.origin == headed {
		n = n.items[len(n.items)-1]
	}
	if n.kind != table || n.origin == closed {
		return nil
	}
	return n
}

// assign adds one key and its value to a table.
func (d *document) assign(here *node, e *unstable.Node) {
	parts := d.keyParts(e.Key())
	for i, p := range parts[:len(parts)-1] {
		next := here.fields[p.name]
		if next == nil {
			next = newTable(p.at, dotted)
			here.add(p.name, next)
		} else if next.kind != table || next.origin != dotted {
			d.twice(p.at, path(parts[:i+1]), next)
			return
		}
		here = next
	}
	last := parts[len(parts)-1]
	if old := here.fields[last.name]; old != nil {
		d.twice(last.at, path(parts), old)
		return
	}
	n := d.value(e.Value(), last.at)
	n.key = last.at
	here.add(last.name, n)
}

func (d *document) twice(at position, key string, old *node) {
	d.fail(at, key, "given twice", fmt.Sprintf("it stands already in line %d", old.key.line))
}

// value copies a value out of the parser; near is where to say it stands if the parser does not know.
func (d *document) value(e *unstable.Node, near position) *node {
	n := &node{at: near, value: string(e.Data), origin: closed}
	if e.Raw.Length > 0 {
		n.at = d.place(e.Raw)
	}
	n.key = n.at
	switch e.Kind {
	case unstable.String:
		n.kind = text
	case unstable.Integer:
		n.kind = integer
	case unstable.Float:
		n.kind = float
	case unstable.Bool:
		n.kind = boolean
	case unstable.Array:
		n.kind = list
		for it := e.Children(); it.Next(); {
			n.items = append(n.items, d.value(it.Node(), n.at))
		}
	case unstable.InlineTable:
		n.kind, n.fields = table, map[string]*node{}
		for it := e.Children(); it.Next(); {
			d.assign(n, it.Node())
		}
	default:
		n.kind = date
	}
	return n
}

// part is one piece of a dotted key.
type part struct {
	name string
	at   position
}

func (d *document) keyParts(it unstable.Iterator) []part {
	var parts []part
	for it.Next() {
		k := it.Node()
		parts = append(parts, part{string(k.Data), d.place(k.Raw)})
	}
	return parts
}

func path(parts []part) string {
	var p string
	for _, k := range parts {
		p = join(p, k.name)
	}
	return p
}

// join appends a key to a dotted path, in quotes where TOML wants them.
func join(path, key string) string {
	if !bareKey.MatchString(key) {
		key = quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// quote writes s as a basic string of TOML.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
