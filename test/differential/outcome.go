package differential

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Outcome is what came of an input at one server.
type Outcome struct {
	Steps     [][]string // the codes of the replies to each step: the greeting first, and what came after the end last
	Closed    bool       // the server closed the connection
	Delivered []string   // messages, as Delivery.describe tells them
}

// String writes an outcome as it stands in a record: codes, steps parted by "/", and a line a message.
func (o Outcome) String() string {
	var b strings.Builder
	for i, codes := range o.Steps {
		if i > 0 {
			b.WriteString(" / ")
		}
		b.WriteString(joinCodes(codes))
	}
	if o.Closed {
		b.WriteString(" closed")
	}
	b.WriteByte('\n')
	for _, d := range o.Delivered {
		b.WriteString("\t" + d + "\n")
	}
	return b.String()
}

// joinCodes writes codes, equal ones that follow each other as "250*100"; none are "-".
func joinCodes(codes []string) string {
	if len(codes) == 0 {
		return "-"
	}
	var words []string
	for i := 0; i < len(codes); {
		n := 1
		for i+n < len(codes) && codes[i+n] == codes[i] {
			n++
		}
		if n > 3 {
			words = append(words, fmt.Sprintf("%s*%d", codes[i], n))
		} else {
			words = append(words, codes[i:i+n]...)
		}
		i += n
	}
	return strings.Join(words, " ")
}

func splitCodes(s string) (codes []string) {
	for word := range strings.FieldsSeq(s) {
		code, count, _ := strings.Cut(word, "*")
		n, err := strconv.Atoi(count)
		if err != nil {
			n = 1
		}
		for range n {
			if code != "-" {
				codes = append(codes, code)
			}
		}
	}
	return codes
}

// Record is the outcomes at one server, by the names of the inputs.
type Record map[string]*Outcome

// name of an input in records.
func recordName(k Kind, in Input) string { return k.Name + ": " + in.Name }

// readRecord reads what writeRecord wrote.
func readRecord(content []byte) Record {
	record := Record{}
	var o *Outcome
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "\t\t"):
			o.Delivered = append(o.Delivered, line[2:])
		case strings.HasPrefix(line, "\t"):
			codes, closed := strings.CutSuffix(line[1:], " closed")
			o.Closed = closed
			for s := range strings.SplitSeq(codes, " / ") {
				o.Steps = append(o.Steps, splitCodes(s))
			}
		case line != "" && line[0] != '#':
			o = &Outcome{}
			record[line] = o
		}
	}
	return record
}

// writeRecord returns a record as its file holds it, in the order of the inputs.
func writeRecord(server string, record Record) []byte {
	w := new(bytes.Buffer)
	fmt.Fprintf(w, "# What %s answers: written by go test ./test/differential -args -update\n", server)
	for _, k := range Kinds() {
		for _, r := range k.Rules {
			for _, in := range r.Inputs {
				if o := record[recordName(k, in)]; o != nil {
					fmt.Fprintf(w, "%s\n\t%s\n", recordName(k, in), strings.ReplaceAll(strings.TrimSuffix(o.String(), "\n"), "\n", "\n\t"))
				}
			}
		}
	}
	return w.Bytes()
}
