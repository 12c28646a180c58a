package differential

import (
	"fmt"
	"strings"
)

// commandLineEnds are ends of command lines.
func commandLineEnds() Kind {
	after := func(name, raw string) Input {
		return Input{Name: name, Steps: steps(hello, raw, "NOOP\r\n", quit)}
	}
	lone := each([]string{
		"NOOP\n", "NOOP\r", "NOOP\r\r\n", "NOOP\n\r\n", "NOOP\n\r", "NO\nOP\r\n", "NO\rOP\r\n", "\nNOOP\r\n",
		"\rNOOP\r\n", "NOOP\nNOOP\r\n", "NOOP\rNOOP\r\n", "NOOP\r\nNOOP\n", "\n", "\r", "NOOP x\ny\r\n",
	}, func(raw string) Input { return after(show(raw), raw) })
	lone = append(lone,
		Input{
			Name: "a transaction in LF", Steps: steps("EHLO client.example\n", "MAIL FROM:<aunt@elsewhere.example>\n",
				"RCPT TO:<keeper@far.example>\n", "DATA\n", "Subject: note\n\nhello\n.\n", "QUIT\n"),
			Texts: []string{note},
		},
		Input{Name: "commands in LF, the text in CRLF", Steps: steps("EHLO client.example\n", "MAIL FROM:<aunt@elsewhere.example>\n",
			"RCPT TO:<keeper@far.example>\n", "DATA\n", noteData, "QUIT\n"), Texts: []string{note}},
		Input{Name: "MAIL LF RCPT CRLF", Steps: steps(hello, "MAIL FROM:<aunt@elsewhere.example>\nRCPT TO:<keeper@far.example>\r\n",
			"DATA\r\n", noteData, quit), Texts: []string{note}},
		Input{Name: "MAIL CR RCPT CRLF", Steps: steps(hello, "MAIL FROM:<aunt@elsewhere.example>\rRCPT TO:<keeper@far.example>\r\n",
			"DATA\r\n", noteData, quit), Texts: []string{note}},
		Input{Name: "DATA LF, then CRLF", Steps: steps(hello, mail, rcpt, "DATA\n", "\r\n", noteData, quit), Texts: []string{note, "\r\n" + note}},
		Input{Name: "LF inside a path", Steps: steps(hello, mail, "RCPT TO:<keeper\n@far.example>\r\n", quit)},
		Input{Name: "LF inside a quoted string", Steps: steps(hello, mail, "RCPT TO:<\"kee\nper\"@far.example>\r\n", quit)},
	)
	empty := each([]string{"\r\n", "\r\n\r\n\r\n", " \r\n", "\t\r\n"}, func(raw string) Input { return after(show(raw), raw) })
	white := each([]string{
		"NOOP \r\n", "NOOP   \r\n", "NOOP\t\r\n", "NOOP\t \t\r\n", "NOOP\v\r\n", "NOOP\f\r\n", "RSET \r\n",
		"RSET\t\r\n", "RSET     \r\n", " RSET\r\n", "\tRSET\r\n", "RSET\u00a0\r\n",
	}, func(raw string) Input { return after(show(raw), raw) })
	white = append(white,
		script("white space behind all", "EHLO client.example \r\n", "MAIL FROM:<aunt@elsewhere.example> \r\n", "RCPT TO:<keeper@far.example> \t\r\n",
			"DATA \r\n", noteData),
	)
	return Kind{"Ends of command lines", []Rule{
		{
			"A CR or LF that stands alone", "RFC 5321 §2.3.8, §4.1.1: only CRLF ends a command, so a line with a lone CR or LF goes on to its CRLF " +
				"and gets 500. The others end it at LF: two servers that count commands differently are what smuggling lives on.",
			lone,
		},
		{"Empty lines", "RFC 5321 §4.2.4, §4.3.2: not a command that we know, 500 for each. OpenSMTPD closes the session, for to it all that " +
			"comes in one segment is pipelining.", empty},
		{"White space at either end", "RFC 5321 §4.1.1: receivers should bear white space before the CRLF. In front of the verb the grammar has " +
			"none.", white},
	}}
}

// commandOctets are octets that no command has.
func commandOctets() Kind {
	var nul []Input
	for _, raw := range []string{
		"NO\x00OP\r\n", "\x00NOOP\r\n", "NOOP\x00\r\n", "NOOP \x00\r\n", "NOOP\r\x00\n", "\x00\r\n",
		"RSET\x00x\r\n", "QUIT\x00\r\n", "NOOP \x01\r\n", "NOOP \x7f\r\n", "NOOP \x1b[2J\r\n", "NOOP caf\u00e9\r\n", "NOOP \xe9\r\n",
		"N\xd0\x9eOP\r\n", "\ufeffNOOP\r\n", "\x80\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", "\xff\xf4\xff\xfd\x06\r\n",
		"NOO\bOP\r\n",
	} {
		nul = append(nul, Input{Name: show(raw), Steps: steps(hello, raw, "NOOP\r\n", quit)})
	}
	nul = append(nul,
		Input{Name: "NUL behind the path of MAIL", Steps: steps(hello, "MAIL FROM:<aunt@elsewhere.example>\x00\r\n",
			rcpt, "DATA\r\n", noteData, quit), Texts: []string{note}},
		Input{Name: "NUL behind the path of RCPT", Steps: steps(hello, mail, "RCPT TO:<keeper@far.example>\x00@evil.example\r\n",
			"DATA\r\n", noteData, quit), Texts: []string{note}},
		Input{Name: "NUL in the path of RCPT", Steps: steps(hello, mail, "RCPT TO:<keeper@far.example\x00.evil.example>\r\n",
			"DATA\r\n", noteData, quit), Texts: []string{note}},
		Input{Name: "NUL behind DATA", Steps: steps(hello, mail, rcpt, "DATA\x00\r\n", noteData, quit), Texts: []string{note}},
	)
	return Kind{"Octets in commands", []Rule{
		{"Controls and octets above 127", "RFC 5321 §4.1.1, §2.4: a verb is letters, 500 for all else; what follows NOOP is ignored (§4.1.1.9). A " +
			"NUL is nowhere in the grammar and gets 500: the others read no further than it, or take it for a space, and obey what stands in " +
			"front.", nul},
		{"Other protocols", "RFC 5321 §3.8, §4.2.4: a client that begins with HTTP or TLS gets 421 and the connection is closed, as Postfix does at GET, " +
			"POST and CONNECT, which keeps a web page from speaking SMTP through a browser; other words are 500, and after too many of them 421.", each([]string{
			"GET / HTTP/1.1\r\nHost: mx.example\r\n\r\n", "POST / HTTP/1.1\r\nHost: mx.example\r\nContent-Length: 60\r\n\r\nEHLO x.example\r\nMAIL FROM:<>\r\nRCPT TO:<keeper@far.example>\r\n",
			"CONNECT mx.example:25 HTTP/1.0\r\n\r\n", "USER nurse\r\nPASS x\r\n", "LHLO client.example\r\n", "\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03",
			"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n", "XCLIENT ADDR=192.0.2.1\r\n", "XFORWARD ADDR=192.0.2.1\r\n", "XXXX\r\n",
		}, func(raw string) Input { return Input{Name: show(raw), Steps: steps(raw)} })},
	}}
}

// lengths are lines at and around every limit (RFC 5321 §4.5.3.1).
func lengths() Kind {
	var commands, texts, sizes, refused []Input
	for _, n := range []int{509, 510, 511, 512, 513, 998, 999, 1000, 1001, 1024, 2046, 2047, 2048, 2049, 4096, 8192, 12288, 12290, 12291, 16384, 65536, 1 << 20} {
		line := "NOOP " + strings.Repeat("x", n-len("NOOP \r\n")) + "\r\n"
		commands = append(commands, Input{Name: fmt.Sprintf("NOOP, %d octets", n), Steps: steps(hello, line, "NOOP\r\n", quit)})
	}
	for _, n := range []int{513, 2049, 12291} {
		commands = append(commands,
			Input{Name: fmt.Sprintf("MAIL with spaces, %d octets", n), Steps: steps(hello, "MAIL FROM:<aunt@elsewhere.example>"+strings.Repeat(" ",
				n-36)+"\r\n", rcpt, quit)},
			Input{Name: fmt.Sprintf("a verb of %d octets", n), Steps: steps(hello, strings.Repeat("V", n-2)+"\r\n", "NOOP\r\n", quit)},
			Input{Name: fmt.Sprintf("%d octets, a command at the end", n), Steps: steps(hello, "NOOP "+strings.Repeat("x",
				n-5-12)+"\rRSET\nRSET\r\n", "NOOP\r\n", quit)})
	}
	for _, n := range []int{78, 80, 997, 998, 999, 1000, 1001, 1002, 2045, 2046, 2047, 2048, 2049, 4094, 4096, 8190, 8191, 8192, 8193, 16384, 32766, 32768, 32769, 65536, 90000} {
		texts = append(texts, data(fmt.Sprintf("%d octets and CRLF in the body", n), "Subject: lengths\r\n\r\n"+strings.Repeat("x", n)+"\r\n.\r\n"))
	}
	for _, n := range []int{998, 999, 2048, 4096, 65536} {
		texts = append(texts, data(fmt.Sprintf("%d octets and CRLF in the header", n), "Subject: "+strings.Repeat("x", n-9)+"\r\n\r\nhello\r\n.\r\n"))
		texts = append(texts, data(fmt.Sprintf("a dot doubled, %d octets and CRLF", n), "Subject: lengths\r\n\r\n."+strings.Repeat(".",
			n)+"\r\n.\r\n"))
		texts = append(texts, data(fmt.Sprintf("%d octets, the last a dot, and CRLF", n), "Subject: lengths\r\n\r\n"+strings.Repeat("x",
			n-1)+".\r\n.\r\n"))
	}
	head := "Subject: lengths\r\n\r\n"
	lines := func(total int) string { // a text of so many octets, the last line longer than the others
		n := total - len(head)
		return head + strings.TrimSuffix(strings.Repeat(strings.Repeat("x", 62)+"\r\n", n/64), "\r\n") + strings.Repeat("x", n%64) + "\r\n"
	}
	for _, n := range []int{64 << 10, messageSize - 1024, messageSize - 1, messageSize, messageSize + 1, messageSize + 1024, 3 * messageSize} {
		in := data(fmt.Sprintf("a text of %d octets", n), lines(n)+".\r\n")
		if n > messageSize {
			refused = append(refused, in)
		} else {
			sizes = append(sizes, in)
		}
	}
	return Kind{"Lengths", []Rule{
		{"Command lines", "RFC 5321 §4.5.3.1.4 asks for 512 octets and more for extensions; RFC 4954 §4 needs 12288. Longer lines are read to " +
			"their end and get 500 once (§4.5.3.1.9). OpenSMTPD takes no argument of NOOP at all.", commands},
		{
			"Text lines", "RFC 5321 §4.5.3.1.6, §4.5.3.1: at least 1000 octets must be taken, and limits are to be avoided. No text line is too long " +
				"for us, and none is folded, which would break signatures, as Postfix does it. OpenSMTPD drops those that do not fit its buffer.",
			texts,
		},
		{"Messages within the limit", "RFC 1870 §3: the limit is 100000 octets at each server, and counts the text as the client sent it, with " +
			"its CRLFs and without our Received field. Postfix counts its own fields too.", sizes},
		{"Messages above it", "RFC 1870 §6.3: 552, after the text was read. Exim and OpenSMTPD count each line end as one octet.", refused},
	}}
}

// recipients are many of them (RFC 5321 §4.5.3.1.8).
func recipients() Kind {
	many := func(n int) Input {
		var s []string
		for i := 0; i < n; i += 100 {
			var group strings.Builder
			for j := i; j < min(i+100, n); j++ {
				fmt.Fprintf(&group, "RCPT TO:<keeper%d@far.example>\r\n", j)
			}
			s = append(s, group.String())
		}
		return Input{Name: fmt.Sprintf("%d", n), Steps: steps(append(append([]string{hello, mail}, s...), "DATA\r\n",
			noteData, quit)...), Texts: []string{note}}
	}
	var inputs []Input
	for _, n := range []int{2, 99, 100, 101, 999, 1000, 1001, 1100} {
		inputs = append(inputs, many(n))
	}
	return Kind{"Recipients", []Rule{
		{"Many", "RFC 5321 §4.5.3.1.8, §4.5.3.1.10: at least 100; we take 1000, then 452, and those before it get their mail. They are sent in " +
			"groups of 100 (RFC 2920 §3.1); OpenSMTPD 6.8 has no PIPELINING and closes the session.", inputs},
		{"The same twice", "RFC 5321 §3.3 does not speak of it: each gets 250, and one copy goes out.", []Input{
			script("twice", hello, mail, rcpt, rcpt, "DATA\r\n", noteData),
			script("in other case", hello, mail, rcpt, "RCPT TO:<keeper@FAR.example>\r\n", "RCPT TO:<Keeper@far.example>\r\n", "DATA\r\n", noteData),
			script("quoted and not", hello, mail, rcpt, "RCPT TO:<\"keeper\"@far.example>\r\n", "DATA\r\n", noteData),
		}},
		{
			"Some refused", "RFC 5321 §3.3: the others get their mail; without any, DATA is refused (554). A relay that is denied is denied for " +
				"good, 550 (§3.6.2); Debian's Postfix says 454. The 50th refusal closes the session (`smtp.limits.errors`), Postfix's 20th.",
			[]Input{
				script("one of two", hello, mail, rcpt, "RCPT TO:<victim@evil.example>\r\n", "DATA\r\n", noteData),
				script("the first of two", hello, mail, "RCPT TO:<victim@evil.example>\r\n", rcpt, "DATA\r\n", noteData),
				script("all", hello, mail, "RCPT TO:<victim@evil.example>\r\n", "DATA\r\n", noteData),
				script("20 of them", append(append([]string{hello, mail}, repeat("RCPT TO:<victim@evil.example>\r\n", 20)...), "NOOP\r\n")...),
				script("60 of them", append(append([]string{hello, mail}, repeat("RCPT TO:<victim@evil.example>\r\n", 60)...), "NOOP\r\n")...),
			},
		},
	}}
}

func repeat(s string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}
