package mailbox

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"

	"bothy/application/message"
)

// maxDirName is the longest folder name of an account, in octets; file systems allow 255.
const maxDirName = 200

// dirName makes an account's name the name of its folder: letters, digits and "@_-+" stand for themselves, so does a dot that
// is not the first octet; all else is percent-encoded. A name that gets too long ends in "~" and its SHA-256 instead. Two
// accounts never share a folder, and no account leaves its own.
func dirName(account string) string {
	const digits = "0123456789ABCDEF"
	var b []byte
	for i := range len(account) {
		switch c := account[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			c == '@', c == '_', c == '-', c == '+', c == '.' && i > 0:
			b = append(b, c)
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	if len(b) <= maxDirName {
		return string(b)
	}
	sum := sha256.Sum256([]byte(account))
	tail := "~" + hex.EncodeToString(sum[:])
	return string(b[:maxDirName-len(tail)]) + tail
}

// appendTrace appends the fields that final delivery puts on top: the return path (RFC 5321 §4.4), and each address that
// led to this account, so that whoever has several sees which one was written to.
func appendTrace(b []byte, env *message.Envelope) []byte {
	b = message.AppendReturnPath(b, env.ReversePath)
	for _, to := range env.Recipients {
		b = append(b, "Delivered-To: "...)
		b = append(to.Address.AppendTo(b), "\r\n"...)
	}
	return b
}

// chunk is how much of a body is in memory at once, in octets.
const chunk = 64 << 10

// copyMessage copies a message as final delivery wants it: without the Return-Path fields of its header section (RFC 5321
// §4.4: exactly one should be present, and the caller wrote it), and ending with CRLF, so that its size is what POP3 sends
// (RFC 1939 §11). Lines may have any length. It returns how many octets it read.
func copyMessage(ctx context.Context, w io.Writer, body io.Reader) (read int64, err error) {
	counted := &counter{ctx: ctx, r: body}
	r := bufio.NewReaderSize(counted, chunk)
	out := &tail{w: w}
	if err := copyHeader(out, r); err != nil {
		return counted.n, err
	}
	if _, err := io.Copy(out, r); err != nil {
		return counted.n, err
	}
	if string(out.last[:]) != "\r\n" {
		_, err = io.WriteString(w, "\r\n")
	}
	return counted.n, err
}

// copyHeader copies the header section and the blank line behind it, field by field.
func copyHeader(w io.Writer, r *bufio.Reader) error {
	start, dropping := true, false // at the start of a line; in a field that is left out
	for {
		line, err := r.ReadSlice('\n')
		blank := start && (string(line) == "\r\n" || string(line) == "\n")
		if start && len(line) > 0 && line[0] != ' ' && line[0] != '\t' { // else it goes on with the field before
			dropping = isReturnPath(line)
		}
		if !dropping {
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF) || blank:
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
		start = err == nil
	}
}

// isReturnPath reports whether a line begins a Return-Path field; blanks may stand before the colon (RFC 5322 §4.5).
func isReturnPath(line []byte) bool {
	name, _, ok := bytes.Cut(line, []byte(":"))
	return ok && bytes.EqualFold(bytes.TrimRight(name, " \t"), []byte("Return-Path"))
}

// counter counts what is read, and stops when ctx ends.
type counter struct {
	ctx context.Context
	r   io.Reader
	n   int64
}

func (c *counter) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// tail remembers the last two octets written.
type tail struct {
	w    io.Writer
	last [2]byte
}

func (t *tail) Write(p []byte) (int, error) {
	switch {
	case len(p) >= 2:
		copy(t.last[:], p[len(p)-2:])
	case len(p) == 1:
		t.last = [2]byte{t.last[1], p[0]}
	}
	return t.w.Write(p)
}
