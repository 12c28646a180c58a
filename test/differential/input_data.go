package differential

import (
	"fmt"
	"strings"
)

// smuggled is the message that nobody may receive.
const smuggled = "Subject: second\r\n\r\nsmuggled\r\n"

// endOfData is SMTP smuggling: whatever but CRLF.CRLF might end a text, with a second message behind it.
func endOfData() Kind {
	ends := []string{"\n", "\r", "\r\n", "\r\r\n", "\n\r", "\r\n\x00", "\x00\r\n", "\n\n", "\v", "\f", "\u0085", "\u2028"}
	const second = "MAIL FROM:<smuggler@evil.example>\r\nRCPT TO:<keeper@far.example>\r\nDATA\r\n" + smuggled + ".\r\n"
	smuggle := func(before, after string) Input {
		return data(show(before+"."+after), "Subject: first\r\n\r\nhello"+before+"."+after+second)
	}
	var lone, others, ended []Input
	for _, before := range ends {
		for _, after := range ends {
			switch both := before + "." + after; {
			case strings.HasSuffix(before, "\r\n") && strings.HasPrefix(after, "\r\n"):
				if before != "\r\n" {
					in := smuggle(before, after)
					in.Texts = append(in.Texts, smuggled)
					ended = append(ended, in)
				}
			case strings.ContainsAny(strings.ReplaceAll(both, "\r\n", ""), "\r\n"):
				lone = append(lone, smuggle(before, after))
			default:
				others = append(others, smuggle(before, after))
			}
		}
	}
	real := func(name, raw string) Input { // the second message is one
		in := data(name, raw)
		in.Steps[4].Send += second
		in.Texts = append(in.Texts, smuggled)
		return in
	}
	return Kind{"End of the data", []Rule{
		{"Ends with a lone CR or LF", "RFC 5321 §4.1.1.4: only CRLF.CRLF ends the text, and a server must not take LF.LF for it. RFC 5321 §2.3.8: " +
			"CR and LF do not stand alone. Where one does, the next server may see an end that we did not, so the message is refused (554 5.6.0) " +
			"after all of it was read, and none of it is obeyed as a command.", lone},
		{"Ends with other octets", "RFC 5321 §4.1.1.4: they are text, and RFC 5321 §4.5.2 has it delivered as it came.", others},
		{"The end itself", "RFC 5321 §4.1.1.4, RFC 2920 §3.1: what follows CRLF.CRLF is the next command, whichever segment it came in; a text " +
			"before it that is refused for a lone CR has ended all the same.", append(ended,
			real("CRLF.CRLF", "Subject: first\r\n\r\nhello\r\n.\r\n"),
			real("nothing but the end", ".\r\n"),
			real("CRLF, then the end", "\r\n.\r\n"),
			data("CRLF.CRLF twice", noteData+".\r\n"),
			data("spaces behind the end", noteData+"   \r\n"),
			data("an empty line behind the end", noteData+"\r\n"),
			Input{Name: "in five segments", Steps: append(append(steps(hello, mail, rcpt, "DATA\r\n"),
				parts(note[:len(note)-2], "\r", "\n", ".", "\r", "\n")...), steps(quit)...), Texts: []string{note}},
			Input{Name: "CR at the end of a segment, then LF.CRLF", Steps: append(append(steps(hello, mail, rcpt, "DATA\r\n"),
				parts("Subject: note\r\n\r\nhello\r", "\n.\r\n")...), steps(quit)...), Texts: []string{note}},
			Input{Name: "a lone LF after a segment, then .CRLF", Steps: append(append(steps(hello, mail, rcpt, "DATA\r\n"),
				parts("Subject: note\r\n\r\nhello\n", ".\r\n")...), steps(quit)...), Texts: []string{note}},
			Input{Name: "never", Steps: steps(hello, mail, rcpt, "DATA\r\n", note)},
			Input{Name: "never, and a dot", Steps: steps(hello, mail, rcpt, "DATA\r\n", note+".")},
			Input{Name: "never, and CRLF.CR", Steps: steps(hello, mail, rcpt, "DATA\r\n", note+".\r")},
		)},
	}}
}

// textLineEnds are lone CRs and LFs that no dot makes an end of.
func textLineEnds() Kind {
	text := []struct{ name, raw string }{
		{"LF in the body", "Subject: note\r\n\r\none\ntwo\r\n.\r\n"},
		{"LF in the header", "Subject: note\nFrom: aunt@elsewhere.example\r\n\r\nhello\r\n.\r\n"},
		{"LF ends the header", "Subject: note\n\nhello\r\n.\r\n"},
		{"LF everywhere, CRLF.CRLF at the end", "Subject: note\n\none\ntwo\r\n.\r\n"},
		{"LF everywhere", "Subject: note\n\none\ntwo\n.\n"},
		{"LF before CRLF", "Subject: note\r\n\r\none\n\r\n.\r\n"},
		{"LF first", "\nSubject: note\r\n\r\none\r\n.\r\n"},
		{"CR in the body", "Subject: note\r\n\r\none\rtwo\r\n.\r\n"},
		{"CR in the header", "Subject: note\rFrom: aunt@elsewhere.example\r\n\r\nhello\r\n.\r\n"},
		{"CR everywhere", "Subject: note\r\rone\rtwo\r\n.\r\n"},
		{"CR before CRLF", "Subject: note\r\n\r\none\r\r\n.\r\n"},
		{"two CRs before CRLF", "Subject: note\r\n\r\none\r\r\r\n.\r\n"},
		{"CR first", "\rSubject: note\r\n\r\none\r\n.\r\n"},
		{"CR, then the end", "Subject: note\r\n\r\none\r\n\r\r\n.\r\n"},
		{"CR between CRLF and the dot", "Subject: note\r\n\r\none\r\n\r.\r\n.\r\n"},
		{"LF CR", "Subject: note\r\n\r\none\n\rtwo\r\n.\r\n"},
		{"a dot behind a lone LF", "Subject: note\r\n\r\none\n.two\r\n.\r\n"},
		{"a dot behind a lone CR", "Subject: note\r\n\r\none\r.two\r\n.\r\n"},
		{"two dots behind a lone LF", "Subject: note\r\n\r\none\n..\ntwo\r\n.\r\n"},
	}
	inputs := make([]Input, len(text))
	for i, t := range text {
		inputs[i] = data(t.name, t.raw)
	}
	return Kind{"Line ends in the text", []Rule{{
		"A CR or LF that stands alone", "RFC 5321 §2.3.8: neither may be sent but as CRLF. Delivering it unchanged leaves the next server to " +
			"guess, and making it CRLF changes what was signed and can make a dot line of text; so it is refused, 554 5.6.0. A sender that does " +
			"this is broken or an attacker.", inputs,
	}}}
}

// dots are lines that begin with one (RFC 5321 §4.5.2).
func dots() Kind {
	lines := []string{"..", "...", "....", ".x", "..x", ". ", ".\t", ".\x00", "..\x00", " .", ".  .", ".QUIT", ".\u00e9", "\x00.", ".,"}
	inputs := each(lines, func(line string) Input {
		return data("the line "+show(line), "Subject: dots\r\n\r\nbefore\r\n"+line+"\r\nafter\r\n.\r\n")
	})
	inputs = append(inputs, each([]string{"..", "...", ".x"}, func(line string) Input {
		return data("last line "+show(line), "Subject: dots\r\n\r\nbefore\r\n"+line+"\r\n.\r\n")
	})...)
	inputs = append(inputs, each([]string{"..", ".Subject: dots", "..Subject: dots"}, func(line string) Input {
		return data("first line "+show(line), line+"\r\n\r\nhello\r\n.\r\n")
	})...)
	for _, size := range []int{510, 1022, 2046, 4094, 8190, 16382, 32766, 65534} {
		for _, by := range []int{-1, 0, 1, 2, 3} { // around the buffers that servers have
			n := size + by - len("Subject: dots\r\n\r\n")
			pad := strings.Repeat(strings.Repeat("x", 62)+"\r\n", n/64) + strings.Repeat("y", n%64)
			inputs = append(inputs, data(fmt.Sprintf("a dot line at octet %d", size+by), "Subject: dots\r\n\r\n"+pad+"\r\n..\r\n..after\r\n.\r\n"))
		}
	}
	return Kind{"Transparency dots", []Rule{{
		"Lines that begin with a dot", "RFC 5321 §4.5.2: one dot is removed from the front of each line that begins with one and is not the end; " +
			"nothing else is touched.", inputs,
	}}}
}

// octets are characters in a text that US-ASCII text should not have.
func octets() Kind {
	var controls, eighth []Input
	for c := range 0x20 {
		if c == '\r' || c == '\n' {
			continue
		}
		controls = append(controls, data(fmt.Sprintf("%#02x in the body", c), "Subject: octets\r\n\r\na"+string(rune(c))+"b\r\n.\r\n"))
	}
	controls = append(controls,
		data("0x7f in the body", "Subject: octets\r\n\r\na\x7fb\r\n.\r\n"),
		data("0x00 in the header", "Subject: oct\x00ets\r\n\r\nhello\r\n.\r\n"),
		data("0x00 in a field name", "Sub\x00ject: octets\r\n\r\nhello\r\n.\r\n"),
		data("0x07 in the header", "Subject: oct\aets\r\n\r\nhello\r\n.\r\n"),
		data("0x00 first", "\x00Subject: octets\r\n\r\nhello\r\n.\r\n"),
		data("0x00 a line", "Subject: octets\r\n\r\n\x00\r\n.\r\n"),
		data("1000 times 0x00", "Subject: octets\r\n\r\n"+strings.Repeat("\x00", 990)+"\r\n.\r\n"),
	)
	for _, s := range []string{
		"\x80", "\xff", "\xe9", "\u00e9", "\xc3", "\u20ac", "\xf0\x9f\x93\xa7", "\xed\xa0\x80", "\xc0\x8a",
		"\xc0\xae", "\x85", "\xa0", "\x8d\x8a", "\ufeff",
	} {
		eighth = append(eighth,
			data(show(s)+" in the body", "Subject: octets\r\n\r\na"+s+"b\r\n.\r\n"),
			data(show(s)+" in the header", "Subject: a"+s+"b\r\n\r\nhello\r\n.\r\n"))
	}
	body := func(name, parameters string) Input {
		in := data(name, "Subject: octets\r\n\r\nca\u00f1on\r\n.\r\n")
		in.Steps[1].Send = "MAIL FROM:<aunt@elsewhere.example>" + parameters + "\r\n"
		return in
	}
	helo := data("8-bit text after HELO", "Subject: octets\r\n\r\nca\u00f1on\r\n.\r\n")
	helo.Steps[0].Send = "HELO client.example\r\n"
	return Kind{"Octets in the text", []Rule{
		{"Controls", "RFC 5321 §4.5.2: characters of the text are delivered as received, controls too.", controls},
		{"Octets above 127", "RFC 5321 §2.4, §4.5.2 would have the eighth bit cleared, or the message refused, where 8BITMIME was not agreed on: " +
			"a documented deviation, for everybody's text would be destroyed. It is kept.", eighth},
		{"What the envelope says of them", "RFC 6152 §3: BODY=7BIT is a promise of the client's; that it was broken is no reason to lose mail. " +
			"OpenSMTPD has no SMTPUTF8 (RFC 6531).", []Input{
			body("8-bit text, BODY=8BITMIME", " BODY=8BITMIME"), body("8-bit text, BODY=7BIT", " BODY=7BIT"), body("8-bit text, SMTPUTF8",
				" SMTPUTF8 BODY=8BITMIME"), helo,
		}},
	}}
}

// headers are texts whose header section is odd: a relay does not look (RFC 5321 §6.4, §3.6.3).
func headers() Kind {
	text := []struct{ name, raw string }{
		{"no text at all", ".\r\n"},
		{"one empty line", "\r\n.\r\n"},
		{"two empty lines", "\r\n\r\n.\r\n"},
		{"no header, a body", "\r\nhello\r\n.\r\n"},
		{"a body without an empty line", "hello\r\n.\r\n"},
		{"a header without an empty line", "Subject: note\r\n.\r\n"},
		{"a folded line first", " folded\r\nSubject: note\r\n\r\nhello\r\n.\r\n"},
		{"a tab first", "\tfolded\r\n\r\nhello\r\n.\r\n"},
		{"a space alone in the first line", " \r\nSubject: note\r\n\r\nhello\r\n.\r\n"},
		{"a line without a colon", "Subject: note\r\nnot a field\r\nTo: keeper@far.example\r\n\r\nhello\r\n.\r\n"},
		{"a colon first", ": note\r\n\r\nhello\r\n.\r\n"},
		{"a space before the colon", "Subject : note\r\n\r\nhello\r\n.\r\n"},
		{"mbox's From line", "From aunt@elsewhere.example Thu Jan  1 00:00:00 1970\r\nSubject: note\r\n\r\nhello\r\n.\r\n"},
		{"mbox's From line, quoted", ">From aunt@elsewhere.example Thu Jan  1 00:00:00 1970\r\nSubject: note\r\n\r\nhello\r\n.\r\n"},
		{"From at the start of a body line", "Subject: note\r\n\r\nFrom here on\r\n.\r\n"},
		{"Bcc", "To: keeper@far.example\r\nBcc: secret@far.example\r\n\r\nhello\r\n.\r\n"},
		{"Resent-Bcc", "To: keeper@far.example\r\nResent-Bcc: secret@far.example\r\n\r\nhello\r\n.\r\n"},
		{"Return-Path", "Return-Path: <other@elsewhere.example>\r\nSubject: note\r\n\r\nhello\r\n.\r\n"},
		{"Delivered-To", "Delivered-To: keeper@far.example\r\nSubject: note\r\n\r\nhello\r\n.\r\n"},
		{"two Subjects, two Froms", "Subject: a\r\nSubject: b\r\nFrom: a@b.example\r\nFrom: c@d.example\r\n\r\nhello\r\n.\r\n"},
		{"no Date, no From", "Subject: note\r\n\r\nhello\r\n.\r\n"},
		{"an address without a domain", "From: aunt\r\nTo: keeper\r\n\r\nhello\r\n.\r\n"},
		{"an empty Message-ID", "Message-ID:\r\nSubject: note\r\n\r\nhello\r\n.\r\n"},
		{"Content-Length that lies", "Content-Length: 100000\r\nSubject: note\r\n\r\nhello\r\n.\r\n"},
		{"white space at the end of lines", "Subject: note  \r\n\t\r\n\r\nhello \t \r\n.\r\n"},
		{"empty lines at the end", "Subject: note\r\n\r\nhello\r\n\r\n\r\n\r\n.\r\n"},
	}
	inputs := make([]Input, len(text))
	for i, t := range text {
		inputs[i] = data(t.name, t.raw)
	}
	var hops []Input
	for _, n := range []int{24, 25, 30, 31, 49, 50, 51, 99, 100, 101, 150} {
		hops = append(hops, data(fmt.Sprintf("%d Received fields", n), strings.Repeat("Received: from a by b; Thu, 1 Jan 1970 00:00:00 +0000\r\n",
			n)+"\r\nhello\r\n.\r\n"))
	}
	hops = append(hops, data("150 Received fields in the body", "Subject: hops\r\n\r\n"+strings.Repeat("Received: from a by b\r\n", 150)+".\r\n"))
	return Kind{"Header sections", []Rule{
		{
			"Odd ones", "RFC 5321 §6.4, §3.6.3: a relay does not mend, refuse or complete a message for what its header section is; Bcc and " +
				"Return-Path are for the sender and for final delivery to remove (RFC 5321 §4.4, RFC 5322 §3.6.3). A text that begins with white " +
				"space would go on in the Received field before it (RFC 5322 §2.2.3), so an empty line parts them.",
			inputs,
		},
		{"Hops", "RFC 5321 §6.3: a large number, at least 100, of Received fields is a loop. More than 100 are refused at once, so that whoever " +
			"sent it knows; Exim accepts the message and bounces it from 30 on.", hops},
	}}
}
