package conformance

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// Clauses is a table of what an RFC demands, clause by clause, with the tests that show how it is met, in a part of a page. Its rows are lines of a
// text file, behind lines that name the document:
//
//	RFC 9915
//	16.2 | MUST | server | drops a Solicit without a Client Identifier | TestValidation
//	19.1 | MUST | relay | puts what it has received into a Relay-forward | no: there is no relay agent for DHCPv6 here
//
// that is section, level, role, what the role must do in our words, and the tests; "no:" and the reason where it is not done. A test of another package has
// its name before it ("lease.TestStore").
type Clauses struct {
	Page     string            // the file with the marks
	Mark     string            // of the part; "" is "generated"
	Rows     string            // the file of the rows
	Packages map[string]string // folders of tests by the name before a Go test; "" is the package's own
	Least    int               // rows that there must be: fewer mean that the file is not what it was
}

var clauseLevel = regexp.MustCompile(`^(MUST|MUST NOT|SHOULD|SHOULD NOT|MAY|says)$`)

// Check holds that every test that a row names is there, and that the page has the table; it writes it where the flag update is set.
func (c Clauses) Check(t *testing.T) {
	t.Helper()
	content, err := os.ReadFile(c.Rows)
	if err != nil {
		t.Fatal(err)
	}
	table, rows, faults := c.format(string(content), goTests(t, c.Packages))
	for _, f := range faults {
		t.Error(f)
	}
	if rows < c.Least {
		t.Errorf("%s has %d rows, and should have %d", c.Rows, rows, c.Least)
	}
	Embed(t, c.Page, c.Mark, table)
}

// format makes the table of the rows, and says what is wrong with them.
func (c Clauses) format(content string, tests map[string]bool) (table []byte, rows int, faults []string) {
	var out bytes.Buffer
	document := false
	for line := range strings.Lines(content) {
		line = strings.TrimSpace(line)
		cells := strings.Split(line, "|")
		switch {
		case line == "" || line[0] == '#':
			continue
		case len(cells) == 1:
			if out.Len() > 0 {
				out.WriteByte('\n')
			}
			fmt.Fprintf(&out, "### %s\n\n| section | level | who | what | shown by |\n| --- | --- | --- | --- | --- |\n", line)
			document = true
			continue
		case len(cells) != 5 || !document:
			faults = append(faults, fmt.Sprintf("%s: %q: want section | level | who | what | tests, behind the name of a document", c.Rows, line))
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if !clauseLevel.MatchString(cells[1]) || cells[3] == "" {
			faults = append(faults, fmt.Sprintf("%s: %q: no level, or nothing that is wanted", c.Rows, line))
		}
		shown := cells[4]
		if reason, not := strings.CutPrefix(shown, "no:"); not {
			shown = "**not done**:" + reason
			if strings.TrimSpace(reason) == "" {
				faults = append(faults, fmt.Sprintf("%s: %q: without a reason", c.Rows, line))
			}
		} else {
			for _, name := range strings.Split(shown, ", ") {
				if !tests[name] {
					faults = append(faults, fmt.Sprintf("§%s %s: there is no test %q", cells[0], cells[3], name))
				}
			}
		}
		section := "§" + cells[0]
		if cells[0] == "-" {
			section = "all"
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %s |\n", section, cells[1], cells[2], strings.ReplaceAll(cells[3], "<", "&lt;"), shown)
		rows++
	}
	return out.Bytes(), rows, faults
}
