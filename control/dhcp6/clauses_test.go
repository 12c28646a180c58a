package dhcp6

import (
	"testing"

	"bothy/lib/conformance"
)

// TestClauses holds that the page has a row for each clause of the draft and of RFC 9915 that is about what we are, and that the tests it names are there.
func TestClauses(t *testing.T) {
	conformance.Clauses{
		Page: page, Mark: "clauses", Rows: "testdata/clauses.txt", Least: 120,
		Packages: map[string]string{"": ".", "ra": "../ra", "dhcp": "../../test/dhcp", "bothy": "../.."},
	}.Check(t)
}
