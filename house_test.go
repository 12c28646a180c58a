package site

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bothy/management/config"
)

var update = flag.Bool("update", false, "rewrite generated files (RFCS.md, docs/config.md, CHANGELOG.md)")

// planes are the floors of the house, the upper first (RFC 7426 §3). "." is this package. An import goes down, never up and never
// to another plane of the same floor.
var planes = [][]string{
	{"test", "bench"}, // may import everything
	{"cmd"},
	{"."},
	{"application"},
	{"control", "management"},
	{"forwarding", "operational"},
	{"lib"},
}

// onlyTests may be imported by tests alone: what they simulate must never run at a site, `bothy try` apart.
var onlyTests = map[string][]string{
	"bothy/lib/sim":                     {"cmd"},
	"bothy/lib/transcript":              nil,
	"bothy/lib/conformance":             nil,
	"bothy/application/queue/queuetest": nil,
}

func plane(path string) (name string, floor int) {
	rel := strings.TrimPrefix(strings.TrimPrefix(path, "bothy"), "/")
	name, _, _ = strings.Cut(rel, "/")
	name = cmp.Or(name, ".")
	for floor, names := range planes {
		if slices.Contains(names, name) {
			return name, floor
		}
	}
	return name, -1
}

func TestImportsGoDown(t *testing.T) {
	sourceFiles(t, func(file string, content []byte) {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, content, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			return
		}
		mine, from := plane(filepath.Join("bothy", filepath.Dir(file)))
		if from < 0 {
			t.Errorf("%s stands in no plane", file)
		}
		isTest := strings.HasSuffix(file, "_test.go") || strings.HasSuffix(parsed.Name.Name, "test")
		for _, spec := range parsed.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			if path != "bothy" && !strings.HasPrefix(path, "bothy/") {
				if mine == "lib" && !isTest && strings.Contains(strings.Split(path, "/")[0], ".") && !strings.HasPrefix(path, "golang.org/x/sys/") {
					t.Errorf("%s imports %s: lib uses the standard library only", file, path)
				}
				continue
			}
			to, floor := plane(path)
			if who, ok := onlyTests[path]; ok && (isTest || slices.Contains(who, mine) || from == 0) {
				continue
			}
			switch {
			case to == mine:
			case floor <= from && from != 0:
				t.Errorf("%s imports %s: up or sideways", file, path)
			case onlyTests[path] != nil || strings.HasSuffix(path, "test") || path == "bothy/lib/transcript":
				t.Errorf("%s imports %s: for tests only", file, path)
			}
		}
	})
}

// TestModules holds that every module the program is built from has its line in adr/.
func TestModules(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./cmd/bothy").Output()
	if err != nil {
		t.Fatal(err)
	}
	var decisions strings.Builder
	files, _ := filepath.Glob("adr/*.md")
	for _, f := range files {
		content, _ := os.ReadFile(f)
		decisions.Write(content)
	}
	modules := strings.Fields(string(out))
	slices.Sort(modules)
	for _, m := range slices.Compact(modules) {
		if m != "bothy" && !strings.Contains(decisions.String(), "`"+m+"`") {
			t.Errorf("module %s has no line in adr/", m)
		}
	}
}

// TestRFCIndex holds that RFCS.md lists what the code cites.
func TestRFCIndex(t *testing.T) {
	// "RFC 5321 §4.1.2" and the rest of a list: "RFC 5321 §4.1.2, §4.5"
	citation := regexp.MustCompile(`RFC (\d+)((?:,? (?:and )?§[0-9A-Z][0-9A-Za-z.]*[0-9A-Za-z]|,? (?:and )?§[0-9A-Z])+)`)
	section := regexp.MustCompile(`§([0-9A-Z](?:[0-9A-Za-z.]*[0-9A-Za-z])?)`)
	index := map[int]map[string]map[string]bool{} // RFC, section, package
	count := 0
	sourceFiles(t, func(file string, content []byte) {
		if name, _ := plane(filepath.Join("bothy", filepath.Dir(file))); name == "test" || name == "bench" || strings.HasSuffix(file, "_test.go") {
			return // they ask for it, they do not obey
		}
		for _, m := range citation.FindAllStringSubmatch(string(content), -1) {
			rfc, _ := strconv.Atoi(m[1])
			for _, s := range section.FindAllStringSubmatch(m[2], -1) {
				if index[rfc] == nil {
					index[rfc] = map[string]map[string]bool{}
				}
				if index[rfc][s[1]] == nil {
					index[rfc][s[1]] = map[string]bool{}
				}
				index[rfc][s[1]][file] = true
				count++
			}
		}
	})
	var out bytes.Buffer
	fmt.Fprintf(&out, "# What the code cites\n\nGenerated from the lines that cite a section (`RFC n §s`); `make generate` writes it anew and a test fails when it is stale.\n")
	for _, rfc := range slices.Sorted(maps.Keys(index)) {
		fmt.Fprintf(&out, "\n## RFC %d\n\n| section | where |\n| --- | --- |\n", rfc)
		for _, s := range slices.SortedFunc(maps.Keys(index[rfc]), bySection) {
			fmt.Fprintf(&out, "| §%s | %s |\n", s, strings.Join(slices.Sorted(maps.Keys(index[rfc][s])), ", "))
		}
	}
	if count < 50 {
		t.Errorf("only %d citations found: the pattern or the code is wrong", count)
	}
	fresh(t, "RFCS.md", out.Bytes())
}

func bySection(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	return slices.CompareFunc(as, bs, func(x, y string) int {
		xn, xerr := strconv.Atoi(x)
		yn, yerr := strconv.Atoi(y)
		if xerr == nil && yerr == nil {
			return cmp.Compare(xn, yn)
		}
		return cmp.Compare(x, y)
	})
}

// TestChangelog holds that CHANGELOG.md is what changelog/ says, newest first.
func TestChangelog(t *testing.T) {
	files, err := filepath.Glob("changelog/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal("changelog/ is empty", err)
	}
	slices.Sort(files)
	slices.Reverse(files)
	var out bytes.Buffer
	fmt.Fprintf(&out, "# Changes\n\nBuilt from `changelog/` by `make generate`.\n")
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "\n%s", content)
	}
	fresh(t, "CHANGELOG.md", out.Bytes())
}

// TestConfigReference holds that docs/config.md is what the configuration structs say.
func TestConfigReference(t *testing.T) {
	if err := config.Verify(&Config{}); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	out.WriteString("# Configuration\n\nGenerated from the configuration structs: `bothy config docs` prints it, `make generate` writes it. A first file with all of this as comments\ncomes from `bothy init`; `bothy config check` says what is wrong with yours, by file and line.\n\n")
	if err := config.Docs(&out, &Config{}); err != nil {
		t.Fatal(err)
	}
	fresh(t, "docs/config.md", out.Bytes())
}

// TestPackagesSayWhatTheyAre holds that every package has a doc.go that names its plane and what it obeys.
func TestPackagesSayWhatTheyAre(t *testing.T) {
	dirs := map[string]bool{}
	sourceFiles(t, func(file string, _ []byte) {
		if !strings.HasSuffix(file, "_test.go") {
			dirs[filepath.Dir(file)] = true
		}
	})
	for dir := range dirs {
		name, _ := plane(filepath.Join("bothy", dir))
		if !slices.Contains([]string{"application", "control", "management", "forwarding", "operational"}, name) {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, "doc.go"))
		if err != nil {
			t.Errorf("%s has no doc.go", dir)
			continue
		}
		if !strings.HasSuffix(filepath.Base(dir), "test") && !bytes.Contains(content, []byte("Plane: "+name)) {
			t.Errorf("%s/doc.go does not say %q", dir, "Plane: "+name)
		}
	}
}

// sourceFiles calls f for every Go file of the module.
func sourceFiles(t *testing.T, f func(file string, content []byte)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "bin" || path != "." && strings.HasPrefix(d.Name(), ".")) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || d.IsDir() {
			return nil
		}
		content, err := os.ReadFile(path)
		if err == nil {
			f(filepath.ToSlash(path), content)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fresh compares a generated file with what it should be, or writes it under -update.
func fresh(t *testing.T, file string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is stale: run `make generate` and commit it (%v)", file, err)
	}
}

// TestMachinesAreGivenTheTime: what decides takes the time as an argument, and what parses and formats has none.
func TestMachinesAreGivenTheTime(t *testing.T) {
	kind := regexp.MustCompile(`/(machine|wire)(_\w+)?\.go$`)
	clock := regexp.MustCompile(`\btime\.(Now|Since|Until|Sleep|After|AfterFunc|Tick|NewTimer|NewTicker)\(`)
	sourceFiles(t, func(file string, content []byte) {
		if !kind.MatchString(file) || strings.HasSuffix(file, "_test.go") || file == "application/sasl/machine_cram.go" { // its challenge is unique by the time
			return
		}
		if m := clock.Find(content); m != nil {
			t.Errorf("%s calls %s)", file, m)
		}
	})
}
