package pop3

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"bothy/application/sasl"
)

// The bounds of what a client sends, in octets without CRLF.
const (
	maxCommand  = 255 - len("\r\n") // RFC 2449 §4
	maxResponse = (sasl.MaxMessage + 2) / 3 * 4
)

// maxLine bounds what is sent: a response line with CRLF (RFC 1939 §3, RFC 2449 §3).
const maxLine = 512

// The response codes (RFC 2449 §8.1.2, RFC 3206 §4, §5).
const (
	codeInUse = "IN-USE"
	codeAuth  = "AUTH"
	codeTemp  = "SYS/TEMP"
	codePerm  = "SYS/PERM"
)

// refusal is a negative response (RFC 1939 §3): it travels as an error to where it is sent.
type refusal struct {
	code string // RFC 2449 §8, without brackets; "" for none
	text string
}

func (r refusal) Error() string {
	if r.code == "" {
		return "-ERR " + r.text
	}
	return "-ERR [" + r.code + "] " + r.text
}

func refuse(code, format string, args ...any) error {
	return refusal{code, fmt.Sprintf(format, args...)}
}

// The ways a line is wrong.
var (
	errLineLength = refusal{text: "line too long"}
	errLineEnd    = refusal{text: "a line ends with CRLF, and holds no other CR or LF"}
	errSyntax     = refusal{text: "syntax error"}
)

// readLine appends the next line to buf, without its CRLF, which only CRLF ends. A line that is longer than most octets or
// wrong in another way is read to its end, in bounded memory, and refused.
func readLine(r *bufio.Reader, buf []byte, most int) (line []byte, err error) {
	long := false
	for {
		piece, err := r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return buf, err
		}
		buf = append(buf, piece...)
		if bytes.HasSuffix(buf, []byte("\r\n")) {
			break
		}
		if len(buf) > most+1 {
			long = true
			buf = append(buf[:0], buf[len(buf)-1]) // it may be the CR
		}
	}
	line = buf[:len(buf)-2]
	switch {
	case long || len(line) > most:
		return buf, errLineLength
	case bytes.ContainsAny(line, "\r\n"):
		return buf, errLineEnd
	}
	return line, nil
}

// parseCommand parts a line into its keyword, in upper case, and what stands behind the SPACE (RFC 2449 §3). Octets beyond ASCII
// may stand in an argument: passwords have them. ok is false when it is no command at all.
func parseCommand(line []byte) (keyword, arg string, ok bool) {
	for _, c := range line {
		if c < ' ' || c == 0x7f {
			return "", "", false
		}
	}
	keyword, arg, _ = strings.Cut(string(line), " ")
	for i := range len(keyword) {
		if keyword[i] > 0x7e {
			return "", "", false
		}
	}
	return strings.ToUpper(keyword), arg, len(keyword) == 3 || len(keyword) == 4
}

// maxDigits bounds a number: anything longer is beyond what there is.
const maxDigits = 18

// parseNumber reads a number in base 10 (RFC 1939 §4): digits and nothing else.
func parseNumber(s string) (n int, ok bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	if s = strings.TrimLeft(s, "0"); len(s) > maxDigits {
		s = strings.Repeat("9", maxDigits)
	}
	n, _ = strconv.Atoi("0" + s)
	return n, true
}

// parseResponse decodes a client's base64, of which no octet may stand outside the alphabet (RFC 5034 §4).
func parseResponse(s string) ([]byte, error) {
	response, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") { // the decoder skips those
		return nil, fmt.Errorf("%w: not base64", sasl.ErrMalformed)
	}
	return response, nil
}

// bodyBuffer is how much of a message is in memory at once, in octets.
const bodyBuffer = 32 << 10

// writeMessage sends a message as the lines of a multi-line response, byte-stuffed and ended (RFC 1939 §3). With most >= 0
// it sends the header section, the blank line and that many lines of the body (RFC 1939 §7, TOP).
//
// A line ends with CRLF, but we stuff behind a lone LF too: many clients end lines there, and would take ".\r\n" behind it
// for the end of the message and the rest of it for our next responses.
func writeMessage(w *bufio.Writer, message io.Reader, most int) error {
	r := bufio.NewReaderSize(message, bodyBuffer)
	start, inBody := true, false
	last := [2]byte{'\r', '\n'} // no message, no line
	for {
		piece, err := r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			return err
		}
		if len(piece) == 0 || start && inBody && most == 0 {
			break
		}
		if start && piece[0] == '.' {
			w.WriteByte('.')
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
		ended := err == nil
		switch {
		case inBody && ended && most > 0:
			most--
		case !inBody && start && ended && len(bytes.TrimRight(piece, "\r\n")) == 0:
			inBody = true
		}
		start = ended
		if last[0] = last[1]; len(piece) > 1 {
			last[0] = piece[len(piece)-2]
		}
		last[1] = piece[len(piece)-1]
	}
	if string(last[:]) != "\r\n" {
		w.WriteString("\r\n")
	}
	_, err := w.WriteString(".\r\n")
	return err
}
