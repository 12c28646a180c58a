package dhcp6

import (
	"flag"
	"testing"

	"bothy/lib/conformance"
)

var _ = flag.Bool("update", false, "write the page")

const page = "../../docs/dhcp6-conformance.md"

// The page has what the tests show.
func TestConformance(t *testing.T) {
	conformance.Check(t, conformance.Page{
		File: page,
		Sources: []conformance.Source{
			{Pattern: "*_test.go"}, {Pattern: "../ra/*_test.go", Name: "ra."}, {Pattern: "../../test/dhcp/*6_test.go", Name: "dhcp."},
		},
		RFCs:  []int{4191, 4861, 8106, 8168, 9915},
		Least: map[int]int{4861: 8, 9915: 25},
	})
}
