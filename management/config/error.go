package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing wrong at one place of a file.
type Error struct {
	File         string
	Line, Column int    // from 1; columns count characters. 0 when the place is not in the file
	Key          string // "submission.listen"; empty when the fault has none
	Text         string // what is wrong
	Hint         string // what would mend it; may be empty
}

// Error gives "bothy.toml:12:3: submission.lisen: unknown key; did you mean "listen"?", which editors can jump to.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	if e.Key != "" {
		b.WriteString(": " + e.Key)
	}
	b.WriteString(": " + e.Text)
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Errors are all that is wrong with a file, in its order.
type Errors []*Error

// Error gives one line for each.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find each.
func (es Errors) Unwrap() []error {
	errs := make([]error, len(es))
	for i, e := range es {
		errs[i] = e
	}
	return errs
}

// maxErrors bounds how many are told: who has more than these starts again from a template.
const maxErrors = 50

// inFile names the file in each error, orders them by place and cuts the list at maxErrors.
func (es Errors) inFile(file string) Errors {
	slices.SortStableFunc(es, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if more := len(es) - maxErrors; more > 0 {
		es = append(es[:maxErrors:maxErrors], &Error{Text: fmt.Sprintf("and %d more errors", more)})
	}
	for _, e := range es {
		e.File = file
	}
	return es
}

// closest returns the candidate that name is most likely a slip of: fewest insertions, deletions, replacements and swaps of
// neighbours, at most a third of its length. Empty when none is near.
func closest(name string, candidates []string) string {
	best, least := "", max(1, len(name)/3)+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(name), c); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance is the optimal string alignment distance of a and b, octet by octet.
func distance(a, b string) int {
	const longest = 64 // keys are short; what is longer is no slip of one
	if len(a) > longest || len(b) > longest {
		return longest
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
