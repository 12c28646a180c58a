package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestDocs holds that every command line that the manual shows is one that there is.
func TestDocs(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	if _, err := os.Stat("../../README.md"); err == nil {
		files = append(files, "../../README.md")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range calls(string(text)) {
			if err := c.parses(); err != nil {
				t.Errorf("%s: bothy %s: %v", filepath.Base(file), c.line, err)
			}
		}
	}
}

// TestDocLinks holds that what the manual points to is there, files and headings.
func TestDocLinks(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	link, heading := regexp.MustCompile(`\]\(([a-z./]*\.md)?(?:#([^)]*))?\)`), regexp.MustCompile(`(?m)^#+ (.*)$`)
	gone := regexp.MustCompile(`[^\w\- ]`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			target := file
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(file), m[1])
			}
			there, err := os.ReadFile(target)
			if err != nil {
				t.Errorf("%s: %v", filepath.Base(file), err)
			}
			found := m[2] == ""
			for _, h := range heading.FindAllStringSubmatch(string(there), -1) {
				anchor := strings.ReplaceAll(gone.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")
				found = found || anchor == m[2]
			}
			if !found {
				t.Errorf("%s: %s has no heading for #%s", filepath.Base(file), filepath.Base(target), m[2])
			}
		}
	}
}

// TestDocIndex holds that every page is named where a newcomer begins.
func TestDocIndex(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	start, err := os.ReadFile("../../docs/start.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := filepath.Base(file); name != "start.md" && !strings.Contains(string(start), "]("+name+")") {
			t.Errorf("docs/start.md does not name %s", name)
		}
	}
}

// shown is one use of bothy in a text.
type shown struct {
	line    string
	mention bool // within a sentence, where arguments may be missing
}

// What a text shows to be typed: fenced blocks, indented lines, and spans between backquotes.
var (
	fenced = regexp.MustCompile("(?ms)^```(?:sh|console|)\n(.*?)^```")
	spans  = regexp.MustCompile("`([^`\n]+)`")
	shell  = regexp.MustCompile(`\|\|?|&&|;|[<$]\(|\)`) // what parts commands
)

// calls are the uses of bothy that a text shows.
func calls(text string) (all []shown) {
	add := func(line string, mention bool) {
		for _, part := range shell.Split(line, -1) {
			part = strings.TrimLeft(part, "$# ")
			if rest, ok := strings.CutPrefix(strings.TrimPrefix(part, "sudo "), "bothy "); ok {
				all = append(all, shown{strings.TrimSpace(rest), mention})
			}
		}
	}
	for _, block := range fenced.FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(strings.ReplaceAll(block[1], "\\\n", " ")) {
			add(line, false)
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "    ") {
			add(line, false)
		}
	}
	for _, span := range spans.FindAllStringSubmatch(text, -1) {
		add(span[1], true)
	}
	return all
}

// aside is what a shell takes for itself.
var aside = regexp.MustCompile(`\s+(?:\d?[<>]|#\s).*$`)

// parses reports why a call is none that there is.
func (c shown) parses() error {
	args := strings.Fields(aside.ReplaceAllString(c.line, ""))
	for i, a := range args {
		args[i] = strings.Trim(a, `"'`)
	}
	parser, err := kong.New(new(cli), kong.Name("bothy"))
	if err != nil {
		return err
	}
	if c.mention {
		trace, err := kong.Trace(parser, shield(args))
		if err == nil {
			err = trace.Error
		}
		return err
	}
	_, err = parser.Parse(shield(args))
	return err
}

func TestCalls(t *testing.T) {
	for text, good := range map[string]bool{
		"see `bothy init`, `bothy queue` and `bothy queue show`": true,
		"see `bothy quue`":         false,
		"see `bothy fetch --loud`": false,
		"```sh\nsudo bothy queue list --kind mx | wc -l   # how many\n```":               true,
		"```sh\nbothy queue show\n```":                                                   false,
		"```toml\nbothy queue show\n```":                                                 true,
		"```\nbothy init --role site \\\n  --domain a.example --provider b.example\n```": true,
		"    x | bothy sendmail -t < in.eml && bothy status":                             true,
		"    x | bothy sendmail -t < in.eml && bothy status --jsno":                      false,
	} {
		if len(calls(text)) == 0 && !strings.Contains(text, "toml") {
			t.Errorf("%q: no call seen", text)
		}
		seen := true
		for _, c := range calls(text) {
			seen = seen && c.parses() == nil
		}
		if seen != good {
			t.Errorf("%q: parses %v", text, seen)
		}
	}
}
