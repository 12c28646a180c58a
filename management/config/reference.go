package config

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
)

// Docs writes the reference of v's type in Markdown: a table for each table of the file, every key with its type, default, bounds and
// meaning, and each cited section as a link.
func Docs(w io.Writer, v any) error {
	sv, err := structOf(v)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	docSection(&b, sv.Type(), "", "", "", false)
	_, err = w.Write(bytes.TrimLeft(b.Bytes(), "\n"))
	return err
}

// docSection documents one table; header is how it is written, "[smtp]" or "[[customer]]".
func docSection(b *bytes.Buffer, t reflect.Type, at, header, doc string, restart bool) {
	if header != "" {
		fmt.Fprintf(b, "\n## `%s`\n", header)
		if doc != "" {
			fmt.Fprintf(b, "\n%s\n", linked(doc))
		}
	}
	rows := 0
	for _, k := range keysOf(t) {
		if k.tables() {
			continue
		}
		if rows++; rows == 1 {
			b.WriteString("\n| Key | Type | Default | Allowed | Meaning |\n|---|---|---|---|---|\n")
		}
		def := ""
		if d := k.defaultText(); d != "" {
			def = "`" + d + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", k.name, cell(k.typeName()), cell(def), cell(k.bounded()), cell(linked(k.meaning(restart))))
	}
	for _, k := range keysOf(t) {
		if !k.tables() {
			continue
		}
		path := join(at, k.name)
		t := direct(k.typ)
		head := "[" + path + "]"
		switch shapeOf(t) {
		case series:
			t, head = direct(t.Elem()), "[["+path+"]]"
		case lookup:
			path += ".<name>"
			t, head = direct(t.Elem()), "["+path+"]"
		}
		docSection(b, t, path, head, k.doc, restart || k.restart)
	}
}

// meaning is the doc with what a reader must do or know besides.
func (k *key) meaning(restart bool) string {
	s := k.doc
	if k.required {
		s += " Required."
	}
	if k.secret {
		s += fmt.Sprintf(" A secret: `%s%s` names a file that holds it, `%s%s` an environment variable.", k.name, fileSuffix, k.name, envSuffix)
	}
	if restart || k.restart {
		s += " Needs a restart."
	}
	return strings.TrimSpace(s)
}

// typeName is the type in a word or two: "duration", "list of networks".
func (k *key) typeName() string {
	switch t := direct(k.typ); shapeOf(t) {
	case series:
		return "list: " + k.element().typeName()
	case lookup:
		return "table: " + k.element().typeName()
	}
	f := formOf(direct(k.typ))
	if k.bytes {
		f = k.form()
	}
	name := strings.TrimPrefix(strings.TrimPrefix(f.name, "a "), "an ")
	return strings.TrimSuffix(name, " in quotes")
}

func cell(s string) string { return strings.ReplaceAll(strings.ReplaceAll(s, "|", `\|`), "\n", " ") }

var (
	section1 = regexp.MustCompile(`§([0-9A-Za-z.]*[0-9A-Za-z])`)
	number   = regexp.MustCompile(`RFC (\d+)`)
)

// linked turns each "RFC n §s" of a text into a link; further sections after a comma belong to the same RFC.
func linked(s string) string {
	return citation.ReplaceAllStringFunc(s, func(c string) string {
		n := number.FindStringSubmatch(c)[1]
		base := "https://www.rfc-editor.org/rfc/rfc" + n
		sections := section1.FindAllStringSubmatch(c, -1)
		if len(sections) == 0 {
			return fmt.Sprintf("[RFC %s](%s)", n, base)
		}
		links := make([]string, len(sections))
		for i, m := range sections {
			label := "§" + m[1]
			if i == 0 {
				label = "RFC " + n + " " + label
			}
			links[i] = fmt.Sprintf("[%s](%s#%s)", label, base, anchor(m[1]))
		}
		return strings.Join(links, ", ")
	})
}

// anchor is how the RFC Editor's pages name a section: section-4.5, appendix-A.1.
func anchor(section string) string {
	if section[0] >= 'A' && section[0] <= 'Z' {
		return "appendix-" + section
	}
	return "section-" + section
}
