package conformance

import (
	"strings"
	"testing"
)

func TestClauses(t *testing.T) {
	tests := map[string]bool{"TestA": true, "x.TestB": true}
	c := Clauses{Rows: "rows"}
	table, rows, faults := c.format("# why\nRFC 1\n1.2 | MUST | server | obeys | TestA, x.TestB\n\nRFC 2\n- | SHOULD NOT | client | lies <twice> | no: it is honest\n", tests)
	want := "### RFC 1\n\n| section | level | who | what | shown by |\n| --- | --- | --- | --- | --- |\n| §1.2 | MUST | server | obeys | TestA, x.TestB |\n" +
		"\n### RFC 2\n\n| section | level | who | what | shown by |\n| --- | --- | --- | --- | --- |\n| all | SHOULD NOT | client | lies &lt;twice> | **not done**: it is honest |\n"
	if string(table) != want || rows != 2 || len(faults) != 0 {
		t.Errorf("%s%d rows, %q", table, rows, faults)
	}
	for row, fault := range map[string]string{
		"1 | MUST | server | obeys | TestC": "no test",
		"1 | MUST | server | obeys | no:":   "without a reason",
		"1 | must | server | obeys | TestA": "no level",
		"1 | MUST | server |  | TestA":      "nothing that is wanted",
		"1 | MUST | server | TestA":         "want section",
		"1 | MUST | server | a | b | TestA": "want section",
	} {
		if _, _, faults := c.format("RFC 1\n"+row, tests); len(faults) != 1 || !strings.Contains(faults[0], fault) {
			t.Errorf("%s: %q", row, faults)
		}
	}
	if _, _, faults := c.format("1 | MUST | server | obeys | TestA", tests); len(faults) != 1 {
		t.Error("a row of no document is taken")
	}
}
