package config

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// Addition is one table to add to a file, or keys to add to one that is there.
type Addition struct {
	Table  string // "relay"
	List   bool   // one more [[table]]
	Keys   []string
	Values Values // by key; strings, numbers, bools and []string
}

// Extend returns a file's text with additions, and leaves all else in it as it is: comments, order, spaces. A table that stands alone becomes
// the first of a list where one more comes to it. It does not look whether a key is there already; loading the result tells.
func Extend(text []byte, additions ...Addition) []byte {
	for _, a := range additions {
		text = a.into(text)
	}
	return text
}

func (a Addition) into(text []byte) []byte {
	var keys strings.Builder
	for _, k := range a.Keys {
		fmt.Fprintf(&keys, "%s = %s\n", k, literalOf(a.Values[k]))
	}
	header := regexp.MustCompile(`(?m)^[ \t]*\[[ \t]*` + regexp.QuoteMeta(a.Table) + `[ \t]*\][ \t]*(#.*)?\r?$`)
	at := header.FindIndex(text)
	switch {
	case at != nil && a.List:
		text = bytes.Join([][]byte{text[:at[0]], []byte("[[" + a.Table + "]]"), text[at[1]:]}, nil)
	case at != nil:
		return bytes.Join([][]byte{text[:at[1]], []byte("\n" + strings.TrimSuffix(keys.String(), "\n")), text[at[1]:]}, nil)
	}
	open, end := "[", "]"
	if a.List {
		open, end = "[[", "]]"
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	return append(text, "\n"+open+a.Table+end+"\n"+keys.String()...)
}

func literalOf(v any) string {
	switch v := v.(type) {
	case string:
		return quote(v)
	case []string:
		all := make([]string, len(v))
		for i, s := range v {
			all[i] = quote(s)
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	return fmt.Sprint(v)
}
