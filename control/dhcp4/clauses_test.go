package dhcp4

import (
	"testing"

	"bothy/lib/conformance"
)

// TestClauses holds that the page has a row for each clause of the RFCs that are obeyed here, and that the tests it names are there.
func TestClauses(t *testing.T) {
	conformance.Clauses{
		Page: conformancePage, Mark: "clauses", Rows: "testdata/clauses.txt", Least: 90,
		Packages: map[string]string{"": ".", "dhcp": "../../test/dhcp", "bothy": "../.."},
	}.Check(t)
}
