package differential

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// servers are those of the table, ours first.
var servers = []string{"Bothy", "Postfix", "Exim", "OpenSMTPD"}

const pageHead = `# How we differ from Postfix, Exim and OpenSMTPD

Generated: the same odd inputs are played to Bothy and to Debian's Postfix, Exim and OpenSMTPD (` + "`test/differential`" + `), each the border of one domain with a
next hop of ours behind it. A row stands for all inputs that the four answer in the same way; what all four do alike is not shown. A test plays every input to Bothy
and compares.

In the cells: the codes of the replies from where the four first differ, a step of the client's each ("–": no reply), then what the next hop received. "=" is: as Bothy.
Postfix and OpenSMTPD have their default checks, Exim those of its shipped configuration (routes in local parts, lines above 998 octets). All have a limit of 100,000
octets a message. Refusals that only follow from an earlier one are left out, and the 250s of a message that arrived. The fields Date and Message-ID that OpenSMTPD
adds to every message without them are shown under "Header sections" alone. Debian 12's OpenSMTPD 6.8 fails in every TLS handshake with its OpenSSL 3, so what comes behind STARTTLS cannot be compared with it.

`

// writeDifferences writes docs/differences.md; records are in the order of servers.
func writeDifferences(w io.Writer, records []Record) {
	io.WriteString(w, pageHead)
	var body strings.Builder
	total, codeOnly := 0, newCodes()
	counts := make([]struct{ same, codes, differ, without int }, len(servers))
	rows := 0
	for _, k := range Kinds() {
		var chapter strings.Builder
		var agreed []string
		for _, r := range k.Rules {
			table := new(table)
			for _, in := range r.Inputs {
				four := outcomes(records, k, in)
				if four == nil {
					continue
				}
				total++
				shown := false
				for i := range servers[1:] {
					switch {
					case withoutTLS(four[i+1]):
						counts[i+1].without++
					case four[0].String() == four[i+1].String():
						counts[i+1].same++
					case alike(four[0], four[i+1]):
						counts[i+1].codes++
					default:
						counts[i+1].differ++
						shown = true
					}
				}
				if shown {
					table.add(in.Name, cells(four))
				} else {
					codeOnly.add(four)
				}
			}
			if len(table.rows) == 0 {
				agreed = append(agreed, r.Name)
				continue
			}
			rows += len(table.rows)
			fmt.Fprintf(&chapter, "### %s\n\n%s\n\n", r.Name, r.Why)
			table.write(&chapter)
		}
		if chapter.Len() > 0 {
			fmt.Fprintf(&body, "## %s\n\n", k.Name)
			if len(agreed) > 0 {
				fmt.Fprintf(&body, "No difference but in codes: %s.\n\n", strings.Join(agreed, "; "))
			}
			body.WriteString(chapter.String())
		}
	}
	fmt.Fprintf(w, "%d inputs, %d rows.\n\n| | as Bothy | another code, same meaning | otherwise | not comparable |\n|---|---|---|---|---|\n", total, rows)
	for i, c := range counts[1:] {
		fmt.Fprintf(w, "| %s | %d | %d | %d | %d |\n", servers[i+1], c.same, c.codes, c.differ, c.without)
	}
	fmt.Fprintf(w, "\n%s", body.String())
	fmt.Fprintf(w, "## Other codes for the same refusal\n\nRFC 5321 §4.2.1: a client goes by the first digit. Ours are those of RFC 5321 §4.3.2 and of the extension's RFC.\n\n")
	codeOnly.write(w)
}

// outcomes are those of an input, in the order of servers; nil if one is not recorded.
func outcomes(records []Record, k Kind, in Input) []*Outcome {
	four := make([]*Outcome, len(records))
	for i, record := range records {
		o := record[recordName(k, in)]
		if o == nil {
			return nil
		}
		plain := *o
		plain.Delivered = slices.Clone(o.Delivered)
		for j, d := range plain.Delivered {
			if k.Name != headers().Name {
				d, _, _ = strings.Cut(d, addedMark)
			}
			// An envelope that is what the input says needs no words.
			if envelope, text, ok := strings.Cut(d, ">: "); ok && strings.Contains(in.Name, "<") {
				given := strings.Replace(usual, "<keeper@far.example>", "<"+path(in.Name)+">", 1)
				if k.Name == reversePaths().Name {
					given = strings.Replace(usual, "<aunt@elsewhere.example>", "<"+path(in.Name)+">", 1)
				}
				if envelope+">" == given {
					d = text
				}
			}
			plain.Delivered[j] = strings.NewReplacer("<aunt@elsewhere.example> to ", "to ", "> to <keeper@far.example>", ">").Replace(d)
		}
		four[i] = &plain
	}
	return four
}

// alike reports whether two outcomes differ in no more than codes of the same first digit.
func alike(a, b *Outcome) bool {
	same := func(x, y []string) bool {
		return slices.EqualFunc(x, y, func(c, d string) bool { return c[0] == d[0] })
	}
	return a.Closed == b.Closed && slices.Equal(a.Delivered, b.Delivered) && slices.EqualFunc(a.Steps, b.Steps, same)
}

// cells are the outcomes of the four without the steps at the beginning and the end that they have in common.
func cells(four []*Outcome) []string {
	common := func(at func(o *Outcome, n int) string) (n int) {
		for ; ; n++ {
			first := at(four[0], n)
			if first == "" || slices.ContainsFunc(four, func(o *Outcome) bool { return at(o, n) != first }) {
				return n
			}
		}
	}
	step := func(o *Outcome, n int) string {
		if withoutTLS(o) {
			o = four[0]
		}
		if n < 0 || n >= len(o.Steps) {
			return ""
		}
		return joinCodes(o.Steps[n])
	}
	front := common(step)
	equal := !slices.ContainsFunc(four, func(o *Outcome) bool { return !withoutTLS(o) && len(o.Steps) != len(four[0].Steps) })
	back := 0
	if equal {
		back = common(func(o *Outcome, n int) string { return step(o, len(four[0].Steps)-1-n) })
	}
	closed := slices.ContainsFunc(four, func(o *Outcome) bool { return !withoutTLS(o) && o.Closed != four[0].Closed })
	texts := make([]string, len(four))
	for i, o := range four {
		if withoutTLS(o) {
			texts[i] = "no TLS"
			continue
		}
		text := told(o, front, back)
		if closed && o.Closed {
			text += " closed"
		}
		if len(o.Delivered) > 0 {
			text += "; " + strings.Join(o.Delivered, "; ")
		}
		texts[i] = strings.TrimSpace(strings.TrimPrefix(text, "; "))
		if texts[i] == "" {
			texts[i] = "–"
		}
	}
	return texts
}

// withoutTLS reports whether the handshake failed: Debian's OpenSMTPD makes none with OpenSSL 3.
func withoutTLS(o *Outcome) bool {
	return slices.ContainsFunc(o.Steps, func(codes []string) bool { return slices.Contains(codes, "no-TLS") })
}

// told is the steps of an outcome but for so many at both ends. What only follows from what is told before it is left out: the 503s
// behind a refusal, and the good replies that a delivered message must have had.
func told(o *Outcome, front, back int) string {
	var words []string
	good := len(o.Delivered) > 0
	for _, codes := range o.Steps[min(front, len(o.Steps)):max(front, len(o.Steps)-back)] {
		word := strings.ReplaceAll(joinCodes(codes), "-", "–")
		if len(codes) == 0 {
			word = "–"
		}
		good = good && len(codes) == 1 && (word[0] == '2' || word[0] == '3')
		words = append(words, word)
	}
	if good {
		words = words[:min(1, len(words))]
	}
	for len(words) > 1 && slices.Contains([]string{"503", "–", "554"}, words[len(words)-1]) && !slices.Contains([]string{"–", "250"}, words[0]) {
		words = words[:len(words)-1]
	}
	for i := 0; i < len(words); i++ { // the same again and again is told once
		n := 1
		for i+n < len(words) && words[i+n] == words[i] {
			n++
		}
		if n > 3 {
			words[i] = fmt.Sprintf("%s ×%d", words[i], n)
			words = slices.Delete(words, i+1, i+n)
		}
	}
	return strings.Join(words, " / ")
}

// table is rows of inputs with the same cells.
type table struct{ rows []*row }

type row struct {
	inputs []string
	cells  []string
}

func (t *table) add(input string, cells []string) {
	for _, r := range t.rows {
		if slices.Equal(r.cells, cells) {
			r.inputs = append(r.inputs, input)
			return
		}
	}
	t.rows = append(t.rows, &row{[]string{input}, cells})
}

// shownInputs is how many inputs a row names.
const shownInputs = 6

func (t *table) write(w io.Writer) {
	fmt.Fprintf(w, "| input | %s |\n|---|---|---|---|---|\n", strings.Join(servers, " | "))
	for _, r := range t.rows {
		var names []string
		for _, in := range r.inputs[:min(shownInputs, len(r.inputs))] {
			names = append(names, code(in))
		}
		if more := len(r.inputs) - shownInputs; more > 0 {
			names = append(names, fmt.Sprintf("and %d more", more))
		}
		shown := slices.Clone(r.cells)
		for i := range shown {
			if i > 0 && shown[i] == r.cells[0] {
				shown[i] = "="
			} else {
				shown[i] = cell(shown[i])
			}
		}
		fmt.Fprintf(w, "| %s | %s |\n", strings.Join(names, "<br>"), strings.Join(shown, " | "))
	}
	io.WriteString(w, "\n")
}

// code is literal text in a table.
func code(s string) string {
	s = strings.ReplaceAll(s, "|", `\|`)
	if strings.Contains(s, "`") {
		return "`` " + s + " ``"
	}
	return "`" + s + "`"
}

// cell is text in a table, its angle brackets shown.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;", "*", `\*`, "`", "\\`", "_", `\_`).Replace(s)
}

// codes counts refusals that differ in their code alone.
type codes struct {
	order []string
	count map[string]int
}

func newCodes() *codes { return &codes{count: map[string]int{}} }

func (c *codes) add(four []*Outcome) {
	for step := range four[0].Steps {
		var line []string
		for _, o := range four {
			line = append(line, joinCodes(o.Steps[step]))
		}
		if slices.ContainsFunc(line, func(s string) bool { return s != line[0] }) {
			key := strings.Join(line, " | ")
			if c.count[key]++; c.count[key] == 1 {
				c.order = append(c.order, key)
			}
			return // what follows is the consequence
		}
	}
}

func (c *codes) write(w io.Writer) {
	slices.SortStableFunc(c.order, func(a, b string) int { return c.count[b] - c.count[a] })
	fmt.Fprintf(w, "| inputs | %s |\n|---|---|---|---|---|\n", strings.Join(servers, " | "))
	for _, key := range c.order {
		fmt.Fprintf(w, "| %d | %s |\n", c.count[key], strings.ReplaceAll(key, "*", `\*`))
	}
}
