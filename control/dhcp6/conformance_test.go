package dhcp6

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"bothy/lib/conformance"
)

var _ = flag.Bool("update", false, "write the page")

const page = "../../docs/dhcp6.md"

// The page has what the tests show.
func TestConformance(t *testing.T) {
	conformance.Check(t, conformance.Page{
		File: page,
		Sources: []conformance.Source{
			{Pattern: "*_test.go"}, {Pattern: "../ra/*_test.go", Name: "ra."}, {Pattern: "../../test/dhcp/*6_test.go", Name: "test/dhcp."},
		},
		RFCs:  []int{4191, 4861, 8106, 8168, 9915},
		Least: map[int]int{4861: 8, 9915: 25},
	})
}

// Each test that the page names is there.
func TestPage(t *testing.T) {
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, pattern := range []string{"*_test.go", "../ra/*_test.go", "../../test/dhcp/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range parsed.Decls {
				if f, ok := d.(*ast.FuncDecl); ok {
					there[f.Name.Name] = true
				}
			}
		}
	}
	named := regexp.MustCompile(`\bTest[A-Z]\w*`).FindAllString(string(content), -1)
	for _, name := range named {
		if !there[name] {
			t.Errorf("there is no %s", name)
		}
	}
	if len(named) < 20 {
		t.Errorf("%d tests named", len(named))
	}
}
