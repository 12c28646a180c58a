package authres

import (
	"testing"

	"bothy/lib/conformance"
)

// TestConformance holds that docs/authres.md says what the tests show.
func TestConformance(t *testing.T) {
	conformance.Check(t, conformance.Page{
		File: "../../docs/authres.md",
		Sources: []conformance.Source{
			{Pattern: "*_test.go", Name: "authres."},
			{Pattern: "../../test/authres_test.go", Name: "test."},
		},
		Least: map[int]int{6376: 8, 7208: 8, 8601: 5, 9989: 8},
	})
}
