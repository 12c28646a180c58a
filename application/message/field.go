package message

import (
	"strings"
	"time"
)

// foldWidth is where AppendField folds, in columns: RFC 5322 §2.1.1 wants at most 78, RFC 2047 §2 at most 76 where a line
// holds an encoded word.
const foldWidth = 76

// AppendField appends a field to b: name, colon, a space, value, CRLF; folded before white space where a line would be
// wider than 76 columns (RFC 5322 §2.2.3). A word longer than that stays whole. The value is unfolded text: a CR, LF or NUL
// in it becomes a space, so that no value can forge a field.
func AppendField(b []byte, name, value string) []byte {
	b = append(append(b, name...), ':', ' ')
	column := len(name) + len(": ")
	value = strings.Trim(value, " \t\r\n\x00")
	for start := 0; start < len(value); {
		word := value[start : start+wordLen(value[start:])]
		if column += len(word); column > foldWidth && start > 0 {
			b = append(b, "\r\n"...)
			column = len(word)
		}
		for i := range len(word) {
			c := word[i]
			if isForging(c) {
				c = ' '
			}
			b = append(b, c)
		}
		start += len(word)
	}
	return append(b, "\r\n"...)
}

// wordLen is the length of the white space s starts with and of the word behind it.
func wordLen(s string) int {
	i := 0
	for i < len(s) && isSpace(s[i]) {
		i++
	}
	for i < len(s) && !isSpace(s[i]) {
		i++
	}
	return i
}

func isSpace(c byte) bool   { return c == ' ' || c == '\t' || isForging(c) }
func isForging(c byte) bool { return c == '\r' || c == '\n' || c == 0 }

// AppendReturnPath appends the Return-Path field that final delivery puts at the top (RFC 5321 §4.4).
func AppendReturnPath(b []byte, reversePath Address) []byte {
	b = append(b, "Return-Path: <"...)
	b = reversePath.AppendTo(b)
	return append(b, ">\r\n"...)
}

// FormatDate writes t as a date-time, "Fri, 02 Jan 2026 15:04:05 +0100" (RFC 5322 §3.3), in t's own zone.
func FormatDate(t time.Time) string { return t.Format("Mon, 02 Jan 2006 15:04:05 -0700") }
