package dsn

import (
	"testing"

	"bothy/lib/conformance"
)

// TestConformance holds that docs/dsn.md says what the tests show.
func TestConformance(t *testing.T) {
	conformance.Check(t, conformance.Page{
		File: "../../docs/dsn.md",
		Head: "# Delivery status notifications: what the tests show\n\n" +
			"Who asks, by NOTIFY, RET, ENVID and ORCPT, is told what became of a message, at each hop and across it; who does not ask is told of\n" +
			"failures and long delays. [The queue](queue.md) says when, [authres](authres.md) to whom no notice goes. Each row is a sentence of a test\n" +
			"with the section it cites. A test writes this page (`go test ./application/dsn -run TestConformance -args -update`) and fails when it is stale.\n",
		Sources: []conformance.Source{
			{Pattern: "*_test.go", Name: "dsn."},
			{Pattern: "../queue/*_test.go", Name: "queue."},
			{Pattern: "../relay/*_test.go", Name: "relay."},
			{Pattern: "../mailbox/*_test.go", Name: "mailbox."},
			{Pattern: "../message/*_test.go", Name: "message."},
			{Pattern: "../odmr/*_test.go", Name: "odmr."},
			{Pattern: "../submission/*_test.go", Name: "submission."},
			{Pattern: "../smtp/*_test.go", Name: "smtp."},
			{Pattern: "../smtp/testdata/*/*.txt", Link: "../application/smtp/testdata"},
			{Pattern: "../../test/*_test.go", Name: "test."},
		},
		RFCs:  []int{3461, 3462, 3464, 3834, 6522, 6533},
		Least: map[int]int{3461: 20, 3464: 10},
	})
}
