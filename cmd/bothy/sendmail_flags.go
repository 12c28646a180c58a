package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"bothy/application/message"
)

// sendmailOptions are what the arguments say.
type sendmailOptions struct {
	mode       byte // 'm' to send, 's' to speak SMTP, 'p' to list the queue, 'q' to run it, 'i' for nothing
	fromHeader bool // -t
	ignoreDots bool // -i
	sender     *string
	fullName   string
	config     string
	notify     message.Notify
	env        message.Envelope // Body, Return and EnvelopeID
	recipients []string

	server       string // --server
	passwordFile string // --password-file
	json         bool   // --json
	track        bool   // --track
}

// valued are the flags that take a value, in the same argument or the next.
const valued = "fFrBNRVCXALOhpeodbq"

// inline are those of them whose value stands in the same argument always: -oi, -bs, -q30m, -em, -d0.1.
const inline = "obqedA"

// parseSendmail reads arguments as sendmail does: flags may stand together (-ti), and a value may stand behind its flag.
func parseSendmail(args []string) (sendmailOptions, error) {
	o := sendmailOptions{mode: 'm'}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			o.recipients = append(o.recipients, args...)
			break
		}
		if long, ok := strings.CutPrefix(arg, "--"); ok {
			var err error
			if args, err = o.setLong(long, args); err != nil {
				return o, err
			}
			continue
		}
		if len(arg) < 2 || arg[0] != '-' {
			o.recipients = append(o.recipients, arg)
			continue
		}
		for i := 1; i < len(arg); i++ {
			flag := arg[i]
			if strings.IndexByte(valued, flag) < 0 {
				if err := o.set(flag, ""); err != nil {
					return o, err
				}
				continue
			}
			value := arg[i+1:]
			if value == "" && strings.IndexByte(inline, flag) < 0 {
				if len(args) == 0 {
					return o, fmt.Errorf("-%c needs a value", flag)
				}
				value, args = args[0], args[1:]
			}
			if err := o.set(flag, value); err != nil {
				return o, err
			}
			break
		}
	}
	return o, nil
}

func (o *sendmailOptions) set(flag byte, value string) error {
	switch flag {
	case 't':
		o.fromHeader = true
	case 'i':
		o.ignoreDots = true
	case 'o':
		o.ignoreDots = o.ignoreDots || value == "i"
	case 'f', 'r':
		o.sender = &value
	case 'F':
		o.fullName = value
	case 'C':
		o.config = value
	case 'b':
		return o.setMode(value)
	case 'B':
		return o.setBody(value)
	case 'N':
		return o.setNotify(value)
	case 'R':
		return o.setReturn(value)
	case 'V':
		o.env.EnvelopeID = value
	case 'q':
		o.mode = 'q'
	}
	return nil // the rest means nothing here
}

// setLong takes a flag of ours and returns the arguments behind it.
func (o *sendmailOptions) setLong(flag string, args []string) ([]string, error) {
	name, value, given := strings.Cut(flag, "=")
	switch {
	case name == "json" && !given:
		o.json = true
		return args, nil
	case name == "track" && !given:
		o.track = true
		return args, nil
	}
	target, known := map[string]*string{"server": &o.server, "password-file": &o.passwordFile}[name]
	switch {
	case !known:
		return args, fmt.Errorf("--%s is not known: --server, --password-file, --track and --json are", flag)
	case given:
	case len(args) == 0:
		return args, fmt.Errorf("--%s needs a value", name)
	default:
		value, args = args[0], args[1:]
	}
	*target = value
	return args, nil
}

func (o *sendmailOptions) setMode(value string) error {
	switch value {
	case "m", "s", "p", "i":
		o.mode = value[0]
		return nil
	}
	return fmt.Errorf("-b%s is not known: -bm, -bs, -bp and -bi are", value)
}

func (o *sendmailOptions) setBody(value string) error {
	switch strings.ToUpper(value) {
	case "7BIT":
		o.env.Body = message.Body7Bit
	case "8BITMIME":
		o.env.Body = message.Body8Bit
	default:
		return fmt.Errorf("-B %s is neither 7BIT nor 8BITMIME", value)
	}
	return nil
}

func (o *sendmailOptions) setReturn(value string) error {
	switch strings.ToLower(value) {
	case "full":
		o.env.Return = message.ReturnFull
	case "hdrs":
		o.env.Return = message.ReturnHeaders
	default:
		return fmt.Errorf("-R %s is neither full nor hdrs", value)
	}
	return nil
}

func (o *sendmailOptions) setNotify(value string) error {
	if strings.EqualFold(value, "never") {
		o.notify = message.NotifyNever
		return nil
	}
	events := map[string]message.Notify{"success": message.NotifySuccess, "failure": message.NotifyFailure, "delay": message.NotifyDelay}
	for name := range strings.SplitSeq(value, ",") {
		event, ok := events[strings.ToLower(name)]
		if !ok {
			return fmt.Errorf("-N %s is neither never nor some of success,failure,delay", value)
		}
		o.notify |= event
	}
	return nil
}

// from is the reverse-path: what -f says, else whoever runs this.
func (o *sendmailOptions) from(hostname string) (message.Address, error) {
	if o.sender == nil {
		return localAddress(hostname), nil
	}
	if s := strings.TrimSpace(*o.sender); s == "" || s == "<>" {
		return message.Address{}, nil
	}
	addresses, err := parseRecipients(*o.sender, hostname)
	if err == nil && len(addresses) != 1 {
		err = errors.New("not one address")
	}
	if err != nil {
		return message.Address{}, fmt.Errorf("-f %q: %w", *o.sender, err)
	}
	return addresses[0], nil
}

// maxLine is how much of a line is looked at as one; a longer one passes in pieces.
const maxLine = 64 << 10

// lines is a message with LF made CRLF, up to its end or, if dotEnds, to a line with a single dot.
type lines struct {
	in       *bufio.Reader
	dotEnds  bool
	eightBit bool // seen so far
	out      []byte
	inLine   bool // the last piece did not end its line
	cr       bool // and ended in a CR, which may be half of the end
	ended    bool
}

func newLines(in io.Reader, dotEnds bool) *lines {
	return &lines{in: bufio.NewReaderSize(in, maxLine), dotEnds: dotEnds}
}

func (l *lines) Read(p []byte) (int, error) {
	for len(l.out) == 0 {
		if l.ended {
			return 0, io.EOF
		}
		piece, err := l.in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF:
			l.ended = true
		case err != nil:
			return 0, err
		}
		l.take(piece)
	}
	n := copy(p, l.out)
	l.out = l.out[n:]
	return n, nil
}

// take adds one line, or a piece of a long one.
func (l *lines) take(piece []byte) {
	begins, complete := !l.inLine, bytes.HasSuffix(piece, []byte("\n"))
	if len(piece) > 0 {
		l.inLine = !complete
	}
	text := bytes.TrimSuffix(piece, []byte("\n"))
	l.out = l.out[:0]
	if l.cr && len(text) > 0 {
		l.out = append(l.out, '\r')
	}
	l.cr = !complete && !l.ended && bytes.HasSuffix(text, []byte("\r"))
	if begins && l.dotEnds && bytes.Equal(bytes.TrimSuffix(text, []byte("\r")), []byte(".")) {
		l.ended = true
		return
	}
	if complete || l.cr || l.ended {
		text = bytes.TrimSuffix(text, []byte("\r"))
	}
	for _, c := range text {
		l.eightBit = l.eightBit || c >= 0x80
	}
	l.out = append(l.out, text...)
	if complete || l.ended && l.inLine { // a last line without an end gets one
		l.out = append(l.out, "\r\n"...)
	}
}
