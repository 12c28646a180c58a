// Package conformance makes the pages that say what tests show: each sentence of a test that cites a section, by RFC and section.
//
//	# RFC n §s: out of order gets 503 and changes nothing      in a transcript
//	// TestReset: RFC n §s: RSET forgets the transaction       before a test in Go
//
// Plane: lib; for tests only. The sentences are those of the tests themselves, so a page cannot promise what no test shows.
package conformance

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

// Source is tests to read: Go files and transcripts.
type Source struct {
	Pattern string // of filepath.Glob
	Link    string // from the page to the folder "testdata" of a transcript; "" for Go
	Name    string // before the names of tests, such as "queue."; may be empty
}

// Page is a page of requirements.
type Page struct {
	File    string // the page
	Head    string // what stands before the first table; "": the tables stand between the marks of Table in a page that says more
	Sources []Source
	RFCs    []int          // those it is about; none: all that are cited
	Least   map[int]int    // requirements that there must be of an RFC: fewer mean that the pattern or the tests are wrong
	Skip    *regexp.Regexp // tests that are for another page; nil: none
}

// requirement is a sentence of a test that says which section it shows.
type requirement struct {
	rfc     int
	section string // "" for the whole of a short RFC
	text    string
	where   string // the test
	link    string // to it; "" for one in Go
}

var (
	// cited is "RFC n §s, §t, RFC m §u deviation:", what stands before a requirement; with no section it is the whole RFC.
	cited   = regexp.MustCompile(`((?:RFC \d+(?: §[0-9A-Z][\w.]*)?|§[0-9A-Z][\w.]*)(?:(?:, | and )(?:RFC \d+ )?§[0-9A-Z][\w.]*)*)( deviation)?:`)
	section = regexp.MustCompile(`(?:RFC (\d+))?(?: ?§([0-9A-Z][\w.]*))?`)
)

// requirements takes a comment apart. A section without an RFC is one of the RFC named before it.
func requirements(comment, where, link string) (out []requirement) {
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
			out = append(out, requirement{rfc, strings.TrimRight(m[2], "."), text, where, link})
		}
	}
	return out
}

// transcript reads the comments of a transcript: lines that follow each other are one.
func (s Source) transcript(t *testing.T, file string) (out []requirement) {
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	slashed := filepath.ToSlash(file)
	name := strings.TrimSuffix(slashed[strings.LastIndex(slashed, "testdata/")+len("testdata/"):], ".txt")
	var comment []string
	for line := range strings.Lines(string(content) + "\n") {
		if text, ok := strings.CutPrefix(line, "#"); ok {
			comment = append(comment, strings.TrimSpace(text))
			continue
		}
		out = append(out, requirements(strings.Join(comment, " "), name, s.Link+"/"+name+".txt")...)
		comment = nil
	}
	return out
}

// tests reads the comments of the tests in Go.
func (s Source) tests(t *testing.T, file string, skip *regexp.Regexp) (out []requirement) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range parsed.Decls {
		f, ok := d.(*ast.FuncDecl)
		if ok && f.Doc != nil && strings.HasPrefix(f.Name.Name, "Test") && (skip == nil || !skip.MatchString(f.Name.Name)) {
			out = append(out, requirements(strings.Join(strings.Fields(f.Doc.Text()), " "), s.Name+f.Name.Name, "")...)
		}
	}
	return out
}

// Check holds that a page says what the tests show; under -update (a flag of the test's package) it writes the page.
func Check(t *testing.T, p Page) {
	t.Helper()
	all := map[int][]requirement{}
	for _, s := range p.Sources {
		files, err := filepath.Glob(s.Pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(s.Pattern, err)
		}
		for _, file := range files {
			var found []requirement
			if strings.HasSuffix(file, ".go") {
				found = s.tests(t, file, p.Skip)
			} else {
				found = s.transcript(t, file)
			}
			for _, r := range found {
				if r.rfc == 0 || r.text == "" {
					t.Errorf("%s: a requirement of no RFC, or an empty one: %+v", file, r)
				}
				if len(p.RFCs) == 0 || slices.Contains(p.RFCs, r.rfc) {
					all[r.rfc] = append(all[r.rfc], r)
				}
			}
		}
	}
	for rfc, least := range p.Least {
		if len(all[rfc]) < least {
			t.Errorf("%d requirements of RFC %d: the pattern or the tests are wrong", len(all[rfc]), rfc)
		}
	}
	if p.Head == "" {
		Embed(t, p.File, "", bytes.TrimPrefix(bytes.ReplaceAll(p.format(all), []byte("\n## "), []byte("\n### ")), []byte("\n")))
		return
	}
	current(t, p.File, p.format(all))
}

func (p Page) format(all map[int][]requirement) []byte {
	var out bytes.Buffer
	out.WriteString(p.Head)
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
			if r.link != "" {
				where = fmt.Sprintf("[%s](%s)", r.where, r.link)
			}
			fmt.Fprintf(&out, "| %s | %s | %s |\n", name, strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(r.text), where)
		}
	}
	return out.Bytes()
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
	if f := flag.Lookup("update"); f != nil {
		if update, ok := f.Value.(flag.Getter); ok && update.Get() == true {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is stale: run this test with -args -update and commit it (%v)", file, err)
	}
}
