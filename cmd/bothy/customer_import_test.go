package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"bothy/application/join"
)

// inProvider is inSite where customers can call.
func inProvider(t *testing.T) {
	t.Helper()
	inSite(t)
	if err := os.WriteFile("bothy.toml", []byte("hostname = \"provider.example\"\ndata = \"data\"\n[odmr]\nlisten = [\"127.0.0.1:10366\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestImport: a file of customers is entered whole or not at all, and what is wrong has its line. What is listed reads back, here and at another provider.
func TestImport(t *testing.T) {
	inProvider(t)
	for name, text := range map[string]string{
		"sites.json": `{"domains": ["clinic.example"]}

{"account": "school", "domains": ["school.example", "lab.example"],
 "min_interval": "5m", "linger": "0s", "quota": {"messages": 100, "lifetime": "240h"}, "now": {"state": "away"}}
{"account": "ship", "domains": ["ship.example"], "password": "ahoy ahoy"}
`,
		"wrong.json": `[
  {"domains": ["harbour.example"]},
  {"domains": ["clinic.example"], "account": "other"},

  {"account": "harbour", "domains": ["harbour.example"]}
]`,
		"typo.json":  "\n" + `{"account": "a", "domain": ["a.example"]}` + "\n" + `{"account": "b", "domains": ["b.example"], "linger": "soon"}`,
		"case.json":  `{"Account": "school", "Domains": ["school.example"]}`, // else all that it does not name would be forgotten
		"cut.json":   `[{"domains": ["a.example"]},` + "\n" + `{"domains": ["b.example"]}`,
		"torn.json":  `{"domains": ["a.example"]}` + "\n" + `{"domains": ["b.exa`,
		"two.json":   `[{"domains": ["a.example"]}]` + "\n" + `[{"domains": ["b.example"]}]`,
		"empty.json": "\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const nothing = "nothing was changed"
	steps(t, []step{
		{args: "customer import sites.json --dry-run", err: "Customers to be added: 3, to be changed: 0, as they are: 0.\n"},
		{args: "customer list --json", out: "[]\n"},
	})
	r := bothy(t, "", "customer", "import", "sites.json")
	var answers []customerAnswer
	for line := range strings.Lines(r.out) {
		var a customerAnswer
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		answers = append(answers, a)
	}
	if r.code != 0 || len(answers) != 3 || r.err != "Customers added: 3, changed: 0, left as they are: 0.\n" {
		t.Fatalf("%d: %s%s", r.code, r.out, r.err)
	}
	token, err := join.Parse(strings.TrimPrefix(answers[0].Join, "bothy join "))
	if err != nil || token.Account != "clinic.example" || len(token.Secret) < 26 || token.Pin == "" {
		t.Errorf("%+v, %v", token, err)
	}
	if answers[2].Join != "" || answers[2].Password != "" {
		t.Errorf("a password that was given is printed: %+v", answers[2])
	}
	exported := bothy(t, "", "customer", "list", "--json").out
	if err := os.WriteFile("list.json", []byte(exported), 0o600); err != nil {
		t.Fatal(err)
	}
	steps(t, []step{
		{args: "customer import sites.json", err: "Customers added: 0, changed: 0, left as they are: 3.\n"},
		{args: "customer import list.json", err: "Customers added: 0, changed: 0, left as they are: 3.\n"},
		{args: "customer import wrong.json", code: 1, err: "wrong.json:3: domain clinic.example is already held for customer clinic.example\n" +
			"wrong.json:5: domain harbour.example is given to harbour.example and to harbour, at line 2 too\n" + nothing},
		{args: "customer import typo.json", code: 1, err: "typo.json:2: unknown field \"domain\"\ntypo.json:3: \"soon\" is no time"},
		{args: "customer import case.json", code: 1, err: "case.json:1: unknown field \""},
		{args: "customer import cut.json", code: 1, err: "cut.json:2: the array does not end"},
		{args: "customer import torn.json", code: 1, err: "torn.json:2: unexpected EOF"},
		{args: "customer import two.json", code: 1, err: "two.json:2: "},
		{args: "customer import empty.json", code: 1, err: "there is no customer"},
		{args: "customer import missing.json", code: 1, err: "missing.json"},
	})
	if r := bothy(t, "", "customer", "import", "sites.json", "--expires", "0s"); r.code != exitUsage || !strings.Contains(r.err, "no site could log in") {
		t.Errorf("%d: %s", r.code, r.err)
	}
	if after := bothy(t, "", "customer", "list", "--json").out; after != exported {
		t.Errorf("something was changed: %s", after)
	}
	steps(t, []step{{args: "customer import -", stdin: `{"account": "school", "quota": {"messages": 50}}`, err: "changed: 1"}})
	if out := bothy(t, "", "customer", "show", "school").out; !strings.Contains(out, "50 messages") || !strings.Contains(out, "school.example lab.example") || !strings.Contains(out, "mail waits for       10d") {
		t.Errorf("what was not named did not stay:\n%s", out)
	}

	inProvider(t) // another provider
	if err := os.WriteFile("list.json", []byte(exported), 0o600); err != nil {
		t.Fatal(err)
	}
	r = bothy(t, "", "customer", "import", "list.json", "--password")
	if r.code != 0 || strings.Count(r.out, `"password":`) != 3 || strings.Contains(r.out, `"join":`) {
		t.Errorf("%d: %s%s", r.code, r.out, r.err)
	}
	if again := bothy(t, "", "customer", "list", "--json").out; again != exported {
		t.Errorf("exported %s, imported and exported again %s", exported, again)
	}
}
