package smtp

import (
	"regexp"
	"testing"

	"bothy/lib/conformance"
)

// TestConformance holds that docs/smtp-conformance.md says what the tests show, and that each row of the table in docs/smtp.md is shown.
func TestConformance(t *testing.T) {
	conformance.Check(t, conformance.Page{
		File: "../../docs/smtp-conformance.md",
		Head: "# SMTP: what the tests show\n\n" +
			"Each row is a sentence of a test of `application/smtp` with the section it cites: a dialogue in `testdata/server` or `testdata/client`,\n" +
			"which is played against the program as it is printed there, or a test in Go. A test writes this page (`go test ./application/smtp -run\n" +
			"TestConformance -args -update`) and fails when it is stale. \"(deviation)\" marks where we knowingly do otherwise.\n",
		Sources: []conformance.Source{
			{Pattern: "testdata/*/*.txt", Link: "../application/smtp/testdata"},
			{Pattern: "*_test.go"},
		},
		Least: map[int]int{5321: 50},
	})
	conformance.Table{
		Page: "../../docs/smtp.md", Rows: "testdata/conformance.txt", Transcripts: "testdata", Link: "../application/smtp/testdata",
		Never: regexp.MustCompile(`^server/[^h]|^server/hello`), // held is not all of SMTP, and a client's peers are not us
		Packages: map[string]string{
			"": ".", "relay": "../relay", "dane": "../relay/dane", "mtasts": "../relay/mtasts", "queue": "../queue", "dsn": "../dsn", "message": "../message", "mailbox": "../mailbox", "authres": "../authres",
			"odmr": "../odmr", "route": "../route", "test": "../../test",
		},
	}.Check(t)
}
