package site

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// readBindings are the files that read what our DHCP clients have learnt: to show it, count it, and know that the link is up.
var readBindings = []string{"dhcp.go", "admin_leases.go", "metrics_dhcp.go", "cmd/bothy/mail.go"}

// TestLearntIsNeverObeyed holds that no credentials go to an address learnt by DHCP: what sends mail or logs in knows nothing of DHCP's clients, and
// whoever reads what they have learnt has no part in that. Servers are reached by configured names, and TLS proves those.
func TestLearntIsNeverObeyed(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./application/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(out)) {
		if name == "bothy/control/dhcp4" || name == "bothy/control/dhcp6" {
			t.Errorf("what sends mail is built from %s", name)
		}
	}
	read := map[string]bool{}
	sourceFiles(t, func(file string, content []byte) {
		if name, _ := plane(path.Join("bothy", path.Dir(file))); strings.HasSuffix(file, "_test.go") || name != "." && name != "cmd" {
			return
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, content, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Binding" { // dhcp4.Binding, client.Binding()
				read[file] = true
			}
			return true
		})
	})
	for file := range read {
		if !slices.Contains(readBindings, file) {
			t.Errorf("%s reads what DHCP has learnt: may it?", file)
		}
	}
	if len(read) != len(readBindings) {
		t.Errorf("only %v read it: the list is stale", read)
	}
}
