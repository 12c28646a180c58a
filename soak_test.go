package site

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSoak holds that test/soak runs tests that are there, and every test that has a full count behind its sample.
func TestSoak(t *testing.T) {
	script, err := os.ReadFile("test/soak")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(script), "<<'TABLE'\n")
	table, _, ok := strings.Cut(table, "\nTABLE\n")
	if !ok {
		t.Fatal("test/soak has no table")
	}
	run := map[string][]string{} // tests by package
	for line := range strings.Lines(table) {
		part := strings.Split(line, "|")
		if len(part) != 6 {
			t.Fatalf("test/soak: %q", line)
		}
		run[part[2]] = append(run[part[2]], strings.Split(part[3], ",")...)
	}
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	samples := regexp.MustCompile(`\b(sim\.Seeds|often)\(`)
	there := map[string][]string{}
	sourceFiles(t, func(path string, content []byte) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		folder := filepath.Dir(path)
		found := function.FindAllSubmatchIndex(content, -1)
		for i, at := range found {
			end := len(content)
			if i+1 < len(found) {
				end = found[i+1][0]
			}
			name := string(content[at[2]:at[3]])
			there[folder] = append(there[folder], name)
			body, _, _ := strings.Cut(string(content[at[0]:end]), "\n}\n")
			if samples.MatchString(body) && folder != "lib/sim" && !slices.Contains(run[folder], name) {
				t.Errorf("%s: %s has a full count, and test/soak does not run it", path, name)
			}
		}
	})
	for folder, tests := range run {
		for _, name := range tests {
			if !slices.Contains(there[folder], name) {
				t.Errorf("test/soak: there is no %s in %s", name, folder)
			}
		}
	}
}
