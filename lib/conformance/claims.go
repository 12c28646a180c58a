package conformance

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// Claims is a table of what is held beyond the letter of an RFC, with the tests that show it, between the marks of Table in a page. Its rows
// are lines of a text file, what is held and its tests, behind headings:
//
//	Spool
//	a sync that fails is never tried again | TestFailingSync, wal.TestDead
type Claims struct {
	Page     string            // the file with the marks
	Rows     string            // the file of the rows
	Packages map[string]string // folders of tests by the name before a Go test; "" is the package's own
}

// Check holds that every test that a row names is there, and that the page has the table; it writes it where the flag update is set.
func (c Claims) Check(t *testing.T) {
	t.Helper()
	content, err := os.ReadFile(c.Rows)
	if err != nil {
		t.Fatal(err)
	}
	tests := goTests(t, c.Packages)
	var out bytes.Buffer
	rows := 0
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		held, shown, isRow := strings.Cut(line, "|")
		switch held, shown = strings.TrimSpace(held), strings.TrimSpace(shown); {
		case line == "" || line[0] == '#':
		case !isRow:
			if out.Len() > 0 {
				out.WriteByte('\n')
			}
			fmt.Fprintf(&out, "### %s\n\n| what is held | shown by |\n| --- | --- |\n", line)
			rows = 0
		default:
			for _, name := range strings.Split(shown, ", ") {
				if !tests[name] {
					t.Errorf("%s: there is no test %q", held, name)
				}
			}
			fmt.Fprintf(&out, "| %s | %s |\n", held, shown)
			rows++
		}
	}
	if rows == 0 {
		t.Errorf("%s has no row at its end", c.Rows)
	}
	Embed(t, c.Page, "", out.Bytes())
}
