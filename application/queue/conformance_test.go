package queue

import (
	"flag"
	"testing"

	"bothy/lib/conformance"
)

var _ = flag.Bool("update", false, "write the table in docs/queue.md")

// TestConformance holds that what docs/queue.md promises is shown by tests that are there.
func TestConformance(t *testing.T) {
	conformance.Claims{
		Page: "../../docs/queue.md", Rows: "testdata/claims.txt",
		Packages: map[string]string{
			"": ".", "wal": "../../lib/wal", "relay": "../relay", "odmr": "../odmr", "smtp": "../smtp", "test": "../../test", "bothy": "../..",
		},
	}.Check(t)
}
