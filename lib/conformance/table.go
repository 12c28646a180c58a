package conformance

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Table is the rows of a table of requirements, between two marks in a page: "<!-- conformance: generated -->" and "<!-- conformance: end -->".
//
// The rows are lines of a text file, their cells parted by "|":
//
//	4.3.2 | MUST | RCPT | 452 | too many recipients | server/recipients
//	4.3.2 | MAY  | MAIL | 455 | every parameter can be obeyed | never
//
// that is section, level, command, reply code, what we do, and the test. A line "RFC n" stands before the rows of each RFC. The test is a
// transcript, in which the command is sent and the code comes back; a Go test, of another package with its name before it ("relay.TestDANE");
// or "never": no transcript has the code in reply to the command.
type Table struct {
	Page        string            // the file with the marks
	Rows        string            // the file of the rows
	Transcripts string            // their folder
	Link        string            // to that from the page
	Never       *regexp.Regexp    // the transcripts that "never" is about
	Packages    map[string]string // folders of tests by the name before a Go test; "" is the package's own
}

// row is one line of the table.
type row struct{ rfc, section, level, command, code, does, test string }

// Check holds that every row is shown by a test that is there, and that the page has the table; it writes it where the flag update is set.
func (tb Table) Check(t *testing.T) {
	t.Helper()
	content, err := os.ReadFile(tb.Rows)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := parseRows(string(content))
	if err != nil {
		t.Fatalf("%s: %v", tb.Rows, err)
	}
	tests, dialogues := goTests(t, tb.Packages), tb.dialogues(t)
	for _, r := range rows {
		why := r.unshown(tests, dialogues)
		if r.test == "never" {
			why = tb.broken(r, dialogues)
		}
		if why != "" {
			t.Errorf("RFC %s §%s %s %s: %s", r.rfc, r.section, r.command, r.code, why)
		}
	}
	Embed(t, tb.Page, "", tb.format(rows))
}

func parseRows(content string) (rows []row, err error) {
	rfc := ""
	for n, line := range slices.Collect(strings.Lines(content)) {
		line = strings.TrimSpace(line)
		if number, ok := strings.CutPrefix(line, "RFC "); ok {
			if rfc = number; strings.Trim(number, "0123456789") != "" {
				return nil, fmt.Errorf("line %d: %q is no RFC", n+1, line)
			}
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		cells := strings.Split(line, "|")
		if len(cells) != 6 || rfc == "" {
			return nil, fmt.Errorf("line %d: %q: want section | level | command | code | what | test", n+1, line)
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, row{rfc, cells[0], cells[1], cells[2], cells[3], cells[4], cells[5]})
	}
	return rows, nil
}

// unshown says why a row's test does not show it; "" if it does.
func (r row) unshown(tests map[string]bool, dialogues map[string]string) string {
	text, isDialogue := dialogues[r.test]
	switch {
	case !isDialogue && !tests[r.test]:
		return "there is no test " + strconv.Quote(r.test)
	case !isDialogue:
	case r.command != "" && !says(text, "C: "+r.command):
		return r.test + " does not send it"
	case r.code != "" && !says(text, "S: "+r.code):
		return r.test + " has no such reply"
	}
	return ""
}

// broken names a transcript that has what is never to be; "" if none does.
func (tb Table) broken(r row, dialogues map[string]string) string {
	for name, text := range dialogues {
		if tb.Never.MatchString(name) && answers(text, r.command, r.code) {
			return "never, and there in " + name
		}
	}
	return ""
}

// says reports whether a line of a transcript begins with words, in any case.
func says(text, words string) bool {
	return strings.Contains(strings.ToUpper("\n"+text), strings.ToUpper("\n"+words))
}

// answers reports whether code comes right behind command.
func answers(text, command, code string) bool {
	before := ""
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "S: "+code) && strings.HasPrefix(strings.ToUpper(before), "C: "+command) {
			return true
		}
		before = line
	}
	return false
}

// goTests returns the names of the tests in Go of the packages, folders by the name that goes before.
func goTests(t *testing.T, packages map[string]string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for prefix, folder := range packages {
		files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no tests in %s: %v", folder, err)
		}
		if prefix != "" {
			prefix += "."
		}
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range parsed.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Test") {
					names[prefix+f.Name.Name] = true
				}
			}
		}
	}
	return names
}

// dialogues returns the transcripts by their names, "server/rcpt".
func (tb Table) dialogues(t *testing.T) map[string]string {
	files, err := filepath.Glob(filepath.Join(tb.Transcripts, "*", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatal(tb.Transcripts, err)
	}
	all := map[string]string{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := filepath.Rel(tb.Transcripts, strings.TrimSuffix(file, ".txt"))
		all[filepath.ToSlash(name)] = string(content)
	}
	return all
}

func (tb Table) format(rows []row) []byte {
	var b bytes.Buffer
	rfc := ""
	for _, r := range rows {
		if r.rfc != rfc {
			if rfc = r.rfc; b.Len() > 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "### RFC %s\n\n| section | level | command | code | what | shown by |\n| --- | --- | --- | --- | --- | --- |\n", rfc)
		}
		test := r.test
		if strings.Contains(test, "/") {
			test = fmt.Sprintf("[%s](%s/%s.txt)", test, tb.Link, test)
		}
		fmt.Fprintf(&b, "| §%s | %s | %s | %s | %s | %s |\n", r.section, r.level, r.command, r.code, strings.ReplaceAll(r.does, "<", "&lt;"), test)
	}
	return b.Bytes()
}

// Embed holds that a page has a table between its marks, "<!-- conformance: NAME -->" and "<!-- conformance: end -->"; with the flag update it writes it.
// A mark without a name is "generated".
func Embed(t *testing.T, page, mark string, table []byte) {
	t.Helper()
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := fmt.Sprintf("<!-- conformance: %s -->\n\n", cmp.Or(mark, "generated")), "\n<!-- conformance: end -->"
	head, rest, ok1 := strings.Cut(string(content), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no marks for %q", page, mark)
	}
	current(t, page, []byte(head+begin+string(table)+end+tail))
}
