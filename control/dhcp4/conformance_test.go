package dhcp4

import (
	"flag"
	"testing"

	"bothy/lib/conformance"
)

var _ = flag.Bool("update", false, "write docs/dhcp4-conformance.md anew")

// conformancePage has what the tests show.
const conformancePage = "../../docs/dhcp4-conformance.md"

// TestConformance holds that docs/dhcp4-conformance.md says what the tests show.
func TestConformance(t *testing.T) {
	conformance.Check(t, conformance.Page{
		File: conformancePage,
		Sources: []conformance.Source{
			{Pattern: "*_test.go", Name: "dhcp4."},
			{Pattern: "../../test/dhcp/*_test.go", Name: "dhcp."},
		},
		RFCs:  []int{951, 1534, 1542, 2131, 3046, 3396, 3442, 6842},
		Least: map[int]int{2131: 20, 3046: 4},
	})
}
