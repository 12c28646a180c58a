package dhcp4

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"bothy/lib/conformance"
)

// line is a line of a table of RFC 2131: the name of a field or an option, and its cells.
type line struct {
	name  string
	cells []string
}

// dashes is what stands below the heads of columns, and says where they begin.
var dashes = regexp.MustCompile(`-+`)

// printed reads a table as the RFC prints it: fields, then options, each behind a line of dashes.
func printed(t *testing.T, file string) (sections [][]line) {
	t.Helper()
	content, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var at [][]int
	for text := range strings.Lines(string(content)) {
		text = strings.TrimRight(text, "\n")
		switch {
		case strings.HasPrefix(text, "-----"):
			at = dashes.FindAllStringIndex(text, -1)
			sections = append(sections, nil)
			continue
		case strings.HasPrefix(text, "Option "), strings.HasPrefix(text, "Field "):
			at = nil // a head, of one line or two
		}
		if at == nil || strings.TrimSpace(text) == "" || text[0] == '#' || strings.Contains(text, "Table ") {
			continue
		}
		now := &sections[len(sections)-1]
		if text[0] != ' ' {
			*now = append(*now, line{cells: make([]string, len(at)-1)})
		}
		l := &(*now)[len(*now)-1]
		if name, all, wide := strings.Cut(text, "   ("); wide && text[0] == '\'' && !strings.Contains(strings.TrimSpace(name), " ") { // one cell over all columns
			l.name = strings.TrimSpace(name)
			for i := range l.cells {
				l.cells[i] = "(" + all
			}
			continue
		}
		to := 0
		for i := range at {
			from := max(min(at[i][0], len(text)), to)
			if to = len(text); i+1 < len(at) {
				to = max(min(at[i+1][0], len(text)), from)
			}
			for to > from && to < len(text) && text[to-1] != ' ' && text[to] != ' ' { // a word that is too long for its column
				to++
			}
			cell := &l.name
			if i > 0 {
				cell = &l.cells[i-1]
			}
			*cell = strings.TrimSpace(*cell + " " + strings.TrimSpace(text[from:to]))
		}
	}
	return sections
}

// sheet is what was seen in our messages, cell by cell, beside what the RFC's table says.
type sheet struct {
	columns []string
	rows    []string
	says    map[string][]string
	seen    map[string][][]string
}

func newSheet(columns []string, lines ...[]line) *sheet {
	s := &sheet{columns: columns, says: map[string][]string{}, seen: map[string][][]string{}}
	for _, l := range slices.Concat(lines...) {
		s.rows = append(s.rows, l.name)
		s.says[l.name], s.seen[l.name] = l.cells, make([][]string, len(columns))
	}
	return s
}

// see notes what a cell is in one of our messages.
func (s *sheet) see(row string, column int, is string) {
	if seen := &s.seen[row][column]; !slices.Contains(*seen, is) {
		*seen = append(*seen, is)
	}
}

// embed puts the sheet into the page; a cell that nobody has looked at is a fault.
func (s *sheet) embed(t *testing.T, mark string) {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "| | %s |\n|%s\n", strings.Join(s.columns, " | "), strings.Repeat(" --- |", 1+len(s.columns)))
	for _, row := range s.rows {
		fmt.Fprintf(&b, "| %s |", row)
		for i := range s.columns {
			if len(s.seen[row][i]) == 0 {
				t.Errorf("%s: nobody has looked at %s of %s", mark, row, s.columns[i])
			}
			says := s.says[row][min(i, len(s.says[row])-1)]
			if says != "" {
				says = "*" + says + "*: "
			}
			fmt.Fprintf(&b, " %s%s |", says, strings.Join(s.seen[row][i], "; "))
		}
		b.WriteByte('\n')
	}
	conformance.Embed(t, conformancePage, mark, b.Bytes())
}

// there says whether something is in a message.
func there(is bool) string {
	if is {
		return "there"
	}
	return "not there"
}
