package smtp

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// requirement is a sentence of a test that says which section it shows.
type requirement struct {
	rfc     int
	section string // "" for the whole of a short RFC
	text    string
	where   string
}

var (
	// cited is "RFC 5321 §4.1.4, §4.2, RFC 2034 §4 deviation:", what stands before a requirement; with no section it is the whole RFC.
	cited   = regexp.MustCompile(`((?:RFC \d+(?: §[0-9A-Z][\w.]*)?|§[0-9A-Z][\w.]*)(?:(?:, | and )(?:RFC \d+ )?§[0-9A-Z][\w.]*)*)( deviation)?:`)
	section = regexp.MustCompile(`(?:RFC (\d+))?(?: ?§([0-9A-Z][\w.]*))?`)
)

// requirements takes a comment apart. A section without an RFC is one of the RFC named before it.
func requirements(comment, where string) (out []requirement) {
	heads := cited.FindAllStringSubmatchIndex(comment, -1)
	rfc := 0
	for i, head := range heads {
		end := len(comment)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		text := strings.Trim(comment[head[1]:end], " ;,.")
		if head[4] >= 0 {
			text = "(deviation) " + text
		}
		for _, m := range section.FindAllStringSubmatch(comment[head[2]:head[3]], -1) {
			if m[0] == "" {
				continue
			}
			if m[1] != "" {
				rfc, _ = strconv.Atoi(m[1])
			}
			out = append(out, requirement{rfc, strings.TrimRight(m[2], "."), text, where})
		}
	}
	return out
}

// transcriptRequirements reads the comments of a transcript: lines that follow each other are one.
func transcriptRequirements(t *testing.T, file string) (out []requirement) {
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	where := strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(file), "testdata/"), ".txt")
	var comment []string
	for line := range strings.Lines(string(content) + "\n") {
		if text, ok := strings.CutPrefix(line, "#"); ok {
			comment = append(comment, strings.TrimSpace(text))
			continue
		}
		out = append(out, requirements(strings.Join(comment, " "), where)...)
		comment = nil
	}
	return out
}

// testRequirements reads the comments of the tests in Go.
func testRequirements(t *testing.T, file string) (out []requirement) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range parsed.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Doc != nil && strings.HasPrefix(f.Name.Name, "Test") {
			out = append(out, requirements(strings.Join(strings.Fields(f.Doc.Text()), " "), f.Name.Name)...)
		}
	}
	return out
}

// TestConformance holds that docs/smtp-conformance.md says what the tests show.
func TestConformance(t *testing.T) {
	all := map[int][]requirement{}
	for _, pattern := range []string{"testdata/*/*.txt", "*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, file := range files {
			read := transcriptRequirements
			if strings.HasSuffix(file, ".go") {
				read = testRequirements
			}
			for _, r := range read(t, file) {
				if r.rfc == 0 || r.text == "" {
					t.Errorf("%s: a requirement of no RFC, or an empty one: %+v", file, r)
				}
				all[r.rfc] = append(all[r.rfc], r)
			}
		}
	}
	if len(all) < 15 || len(all[5321]) < 50 {
		t.Errorf("%d RFCs, %d requirements of RFC 5321: the pattern or the tests are wrong", len(all), len(all[5321]))
	}
	var out bytes.Buffer
	out.WriteString("# SMTP: what the tests show\n\n" +
		"Each row is a sentence of a test of `application/smtp` with the section it cites: a dialogue in `testdata/server` or `testdata/client`,\n" +
		"which is played against the program as it is printed there, or a test in Go. A test writes this page (`go test ./application/smtp -run\n" +
		"TestConformance -args -update`) and fails when it is stale. \"(deviation)\" marks where we knowingly do otherwise.\n")
	for _, rfc := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&out, "\n## RFC %d\n\n| section | requirement | shown by |\n| --- | --- | --- |\n", rfc)
		slices.SortStableFunc(all[rfc], func(a, b requirement) int {
			return cmp.Or(bySection(a.section, b.section), cmp.Compare(a.where, b.where))
		})
		for _, r := range all[rfc] {
			name := "all"
			if r.section != "" {
				name = "§" + r.section
			}
			where := r.where
			if strings.Contains(where, "/") {
				where = fmt.Sprintf("[%s](../application/smtp/testdata/%s.txt)", where, where)
			}
			fmt.Fprintf(&out, "| %s | %s | %s |\n", name, strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(r.text), where)
		}
	}
	current(t, "../../docs/smtp-conformance.md", out.Bytes())
}

// bySection orders 4.2 before 4.10, and appendices behind.
func bySection(a, b string) int {
	return slices.CompareFunc(strings.Split(a, "."), strings.Split(b, "."), func(x, y string) int {
		m, err := strconv.Atoi(x)
		n, err2 := strconv.Atoi(y)
		if err != nil || err2 != nil {
			return cmp.Compare(x, y)
		}
		return cmp.Compare(m, n)
	})
}

// current compares a generated file with what it should be, or writes it under -update.
func current(t *testing.T, file string, want []byte) {
	t.Helper()
	if update, ok := flag.Lookup("update").Value.(flag.Getter); ok && update.Get() == true {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is stale: run this test with -args -update and commit it (%v)", file, err)
	}
}
