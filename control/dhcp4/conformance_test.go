package dhcp4

import (
	"flag"
	"testing"

	"bothy/lib/conformance"
)

var _ = flag.Bool("update", false, "write docs/dhcp4-conformance.md anew")

// TestConformance holds that docs/dhcp4-conformance.md says what the tests show.
func TestConformance(t *testing.T) {
	conformance.Check(t, conformance.Page{
		File: "../../docs/dhcp4-conformance.md",
		Head: "# DHCPv4: what the tests show\n\n" +
			"Each row is a sentence of a test with the section it cites. A test writes this page (`go test ./control/dhcp4 -run TestConformance -args\n" +
			"-update`) and fails when it is stale. Those named dhcp. run with other people's clients, servers and relay agents (`make test-dhcp`).\n",
		Sources: []conformance.Source{
			{Pattern: "*_test.go", Name: "dhcp4."},
			{Pattern: "../../test/dhcp/*_test.go", Name: "dhcp."},
		},
		RFCs:  []int{951, 1534, 1542, 2131, 3046, 3396, 3442, 6842},
		Least: map[int]int{2131: 20, 3046: 4},
	})
}
