package differential

import (
	"fmt"
	"strings"
)

// bdat is CHUNKING (RFC 3030 §2).
func bdat() Kind {
	chunk := func(text string, last string) string { return fmt.Sprintf("BDAT %d%s\r\n%s", len(text), last, text) }
	in := func(name string, texts []string, send ...string) Input {
		return Input{Name: name, Steps: steps(append([]string{hello, mail, rcpt}, send...)...), Texts: texts}
	}
	whole := func(name, text string) Input { return in(name, []string{text}, chunk(text, " LAST"), quit) }
	one := []string{note}
	form := "Subject: first\r\n\r\nhello%s.%sMAIL FROM:<smuggler@evil.example>\r\nRCPT TO:<keeper@far.example>\r\nDATA\r\nSubject: second\r\n\r\nsmuggled\r\n"
	var ends []Input
	for _, before := range []string{"\r\n", "\n", "\r", "\r\r\n"} {
		for _, after := range []string{"\r\n", "\n", "\r"} {
			text := fmt.Sprintf(form, before, after)
			ends = append(ends, whole(show(before+"."+after), text))
		}
	}
	bad := each([]string{
		"", " ", " x", " -1", " +5", " 0x5", " 5.0", " 05", " 00000000000000000000000005", " 5 LAST LAST",
		" 5 LASTX", " 5 FIRST", " 5  LAST", " LAST", " 5,LAST", " 5\tLAST", " 5 last", " 5 LAST ",
	}, func(arg string) Input {
		return in("BDAT"+show(arg)+", five octets", []string{"abc\r\n"}, "BDAT"+arg+"\r\n", "abc\r\n", "NOOP\r\n", "RSET\r\n", quit)
	})
	huge := each([]string{
		"2147483648", "4294967301", "9223372036854775807", "9223372036854775808", "18446744073709551621",
		"99999999999999999999999999",
	}, func(n string) Input {
		return in("BDAT "+n+" LAST", nil, "BDAT "+n+" LAST\r\n", "hello\r\n")
	})
	return Kind{"BDAT", []Rule{
		{"Chunks", "RFC 3030 §2: any number of chunks, answered one by one; octets are counted and not looked at for dots. To a next hop without " +
			"CHUNKING they go stuffed (RFC 5321 §4.5.2). OpenSMTPD has no BDAT. Postfix and Exim take no empty chunk before the last; the grammar " +
			"has it.", []Input{
			whole("one chunk, LAST", note),
			in("two chunks", one, chunk(note[:7], ""), chunk(note[7:], " LAST"), quit),
			in("two chunks, a CRLF cut", one, chunk(note[:14], ""), chunk(note[14:], " LAST"), quit),
			in("an empty last chunk", one, chunk(note, ""), "BDAT 0 LAST\r\n", quit),
			in("empty chunks", one, "BDAT 0\r\n", "BDAT 0\r\n", chunk(note, ""), "BDAT 0\r\n", "BDAT 0 LAST\r\n", quit),
			in("nothing but an empty chunk", []string{"", "\r\n"}, "BDAT 0 LAST\r\n", quit),
			whole("dots", "Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n"),
			whole("a text that is a dot", ".\r\n"),
			in("a dot split from its line", []string{"Subject: dots\r\n\r\n.\r\nx\r\n"}, chunk("Subject: dots\r\n\r\n.",
				""), chunk("\r\nx\r\n", " LAST"), quit),
			in("no CRLF at the end", one, chunk("Subject: note\r\n\r\nhello", " LAST"), quit), // DATA needs one (RFC 5321 §4.1.1.4)
			whole("8-bit octets", "Subject: note\r\n\r\nca\u00f1on\xff\r\n"),
			whole("NUL", "Subject: note\r\n\r\na\x00b\r\n"),
			whole("a long line", "Subject: note\r\n\r\n"+strings.Repeat("x", 5000)+"\r\n"),
			in("100 chunks", []string{note + strings.Repeat("line\r\n", 99)}, append(append([]string{chunk(note, "")}, repeat(chunk("line\r\n",
				""), 99)...), "BDAT 0 LAST\r\n", quit)...),
			in("the size first, the octets later", one, fmt.Sprintf("BDAT %d LAST\r\n", len(note)), note, quit),
			{Name: "pipelined with all", Steps: steps(hello, mail+rcpt+chunk(note[:9], "")+chunk(note[9:], " LAST")+quit), Texts: one},
			{Name: "two messages at once", Steps: steps(hello, mail+rcpt+chunk(note, " LAST")+mail+rcpt+chunk(note, " LAST")+quit), Texts: []string{note, note}},
			{Name: "a chunk in segments", Steps: append(append(steps(hello, mail, rcpt), parts("BD", "AT 24 LA", "ST\r",
				"\nSubject: ", "note\r\n\r", "\nhello\r\n")...), steps(quit)...), Texts: one},
		}},
		{"Smuggling in a chunk", "RFC 3030 §2, RFC 5321 §2.3.8: CRLF.CRLF in a chunk is text, and leaves us stuffed. A lone CR or LF needs " +
			"BINARYMIME (RFC 3030 §3) and is refused without.", ends},
		{"Line ends", "RFC 5321 §2.3.8, RFC 3030 §3: as with DATA.", []Input{
			whole("LF in the body", "Subject: note\r\n\r\na\nb\r\n"), whole("CR in the body", "Subject: note\r\n\r\na\rb\r\n"),
			whole("LF everywhere", "Subject: note\n\na\nb\n"), whole("CR at the very end", "Subject: note\r\n\r\na\r"),
			whole("LF at the very end", "Subject: note\r\n\r\na\n"),
			in("CR and LF in two chunks", []string{"Subject: note\r\n\r\na\r\nb\r\n"}, chunk("Subject: note\r\n\r\na\r",
				""), chunk("\nb\r\n", " LAST"), quit),
			in("CR in one chunk, no LF in the next", []string{"Subject: note\r\n\r\na\rb\r\n"}, chunk("Subject: note\r\n\r\na\r",
				""), chunk("b\r\n", " LAST"), quit),
		}},
		{
			"Its argument", "RFC 3030 §2: chunk-size is digits, then LAST. Where it cannot be read nobody knows how much is text: 501, and the " +
				"connection is closed, as Postfix does. Where it can, and something else is wrong, 501 comes after the octets. Exim reads what number it can.",
			bad,
		},
		{
			"Sizes beyond all", "RFC 1870 §6.1: a chunk that makes the message larger than the limit is refused; its octets still belong to it " +
				"(RFC 3030 §2). A number beyond 63 bits is not understood, 501, and the connection is closed. Exim keeps 32 bits of it, and so takes 4294967301 for 5.",
			huge,
		},
		{"Above the limit", "RFC 1870 §6.3, RFC 3030 §2: 552 when the octets were read, and the chunks behind it are refused.", []Input{
			in("one chunk", nil, chunk("Subject: note\r\n\r\n"+strings.Repeat(strings.Repeat("x", 62)+"\r\n", 1600), " LAST"), quit),
			in("the second of three", nil, chunk("Subject: note\r\n\r\n"+strings.Repeat(strings.Repeat("x", 62)+"\r\n",
				1500), ""), chunk(strings.Repeat(strings.Repeat("x", 62)+"\r\n", 100), ""), chunk("end\r\n", " LAST"),
				quit),
		}},
		{
			"Out of sequence", "RFC 3030 §2, RFC 5321 §4.1.4: 503 for DATA between chunks, and for BDAT without recipients, whose octets are read " +
				"all the same. RSET and EHLO forget the chunks; what is refused changes nothing, so the chunks behind it are taken.",
			[]Input{
				{Name: "BDAT without MAIL", Steps: steps(hello, chunk(note, " LAST"), quit)},
				{Name: "BDAT without EHLO", Steps: steps(chunk(note, " LAST"), quit)},
				{Name: "BDAT without RCPT", Steps: steps(hello, mail, chunk(note, " LAST"), quit)},
				{Name: "BDAT after HELO", Steps: steps("HELO client.example\r\n", mail, rcpt, chunk(note, " LAST"), quit), Texts: one},
				{Name: "BDAT, all recipients refused, a QUIT in it", Steps: steps(hello, mail+"RCPT TO:<victim@evil.example>\r\n"+chunk("QUIT\r\nRSET\r\n",
					" LAST"), "NOOP\r\n", quit)},
				in("BDAT, DATA", nil, chunk(note, ""), "DATA\r\n", noteData, "RSET\r\n", quit),
				in("BDAT, MAIL", []string{note + "end\r\n"}, chunk(note, ""), mail, chunk("end\r\n", " LAST"), quit),
				in("BDAT, RCPT", []string{note + "end\r\n"}, chunk(note, ""), rcpt, chunk("end\r\n", " LAST"), quit),
				in("BDAT, NOOP, BDAT LAST", one, chunk(note, ""), "NOOP\r\n", "BDAT 0 LAST\r\n", quit),
				in("BDAT, RSET, BDAT LAST", nil, chunk(note, ""), "RSET\r\n", "BDAT 0 LAST\r\n", quit),
				in("BDAT, EHLO, BDAT LAST", nil, chunk(note, ""), hello, "BDAT 0 LAST\r\n", quit),
				in("BDAT, QUIT", nil, chunk(note, ""), quit),
				in("BDAT, the end of the connection", nil, chunk(note, "")),
				in("half a chunk, the end of the connection", nil, "BDAT 1000 LAST\r\n"+note),
				in("BDAT LAST, BDAT LAST", one, chunk(note, " LAST"), "BDAT 0 LAST\r\n", quit),
				in("DATA, then BDAT as its text", []string{"BDAT 5 LAST\r\nhello\r\n"}, "DATA\r\n", "BDAT 5 LAST\r\nhello\r\n.\r\n", quit),
				in("BDAT, an unknown command, BDAT LAST", one, chunk(note, ""), "XYZZY\r\n", "BDAT 0 LAST\r\n", quit),
				in("BDAT, VRFY, BDAT LAST", one, chunk(note, ""), "VRFY keeper\r\n", "BDAT 0 LAST\r\n", quit),
			},
		},
		{"BINARYMIME", "RFC 3030 §3: offered, and only with BDAT; to a next hop without it a message goes encoded, or back.", []Input{
			{Name: "BODY=BINARYMIME, BDAT", Steps: steps(hello, "MAIL FROM:<aunt@elsewhere.example> BODY=BINARYMIME\r\n",
				"RCPT TO:<keeper@bin.example>\r\n", chunk("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\nMIME-Version: 1.0\r\n\r\na\rb\nc\x00d\r\n",
					" LAST"), quit), Texts: []string{"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\nMIME-Version: 1.0\r\n\r\na\rb\nc\x00d\r\n"}},
			{Name: "BODY=BINARYMIME, DATA", Steps: steps(hello, "MAIL FROM:<aunt@elsewhere.example> BODY=BINARYMIME\r\n",
				"RCPT TO:<keeper@bin.example>\r\n", "DATA\r\n", noteData, quit), Texts: one},
		}},
	}}
}
