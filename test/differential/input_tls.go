package differential

import "strings"

// startTLS is STARTTLS (RFC 3207).
func startTLS() Kind {
	begin := Step{TLS: true}
	in := func(name string, s ...Step) Input { return Input{Name: name, Steps: s, Texts: []string{note}} }
	send := func(s string) Step { return Step{Send: s} }
	start := send("STARTTLS\r\n")
	return Kind{"STARTTLS", []Rule{
		{
			"Behind it", "RFC 3207 §4, §4.2: nothing may be sent behind STARTTLS. What is there was put there by somebody on the way: it gets 503 " +
				"and the connection is closed, so that it is never obeyed as if it had been encrypted. Postfix and Exim forget it.",
			[]Input{
				in("NOOP in the same segment", send(hello), send("STARTTLS\r\nNOOP\r\n"), begin, send(hello), send(quit)),
				in("EHLO and MAIL in the same segment", send(hello), send("STARTTLS\r\n"+hello+mail+rcpt), begin, send("NOOP\r\n"), send(quit)),
				in("half a command in the same segment", send(hello), send("STARTTLS\r\nRS"), begin, send("ET\r\n"), send(quit)),
				in("in a group", send(hello), send("NOOP\r\nSTARTTLS\r\n"), begin, send(hello), send(quit)),
				in("in a group with EHLO", send(hello+"STARTTLS\r\n"), begin, send(hello), send(quit)),
			},
		},
		{"After it", "RFC 3207 §4.2: all that was said before is forgotten, the name too: 503 until EHLO comes again.", []Input{
			in("EHLO and a message", send(hello), start, begin, send(hello), send(mail), send(rcpt), send("DATA\r\n"), send(noteData), send(quit)),
			in("MAIL without EHLO", send(hello), start, begin, send(mail), send(hello), send(mail), send(quit)),
			in("STARTTLS again", send(hello), start, begin, send(hello), start, send("NOOP\r\n"), send(quit)),
			in("STARTTLS again, without EHLO", send(hello), start, begin, start, send("NOOP\r\n"), send(quit)),
		}},
		{"Instead of TLS", "RFC 3207 §4: after 220 TLS must follow; the connection is closed when it does not.", []Input{
			in("EHLO in clear", send(hello), start, send(hello), send(mail)),
			in("garbage", send(hello), start, send("\x16\x03\x01\xff\xff\x01")),
			in("nothing", send(hello), start),
		}},
		{"When it may come", "RFC 3207 §4: after EHLO or HELO, outside a transaction (§4.2 and RFC 5321 §4.1.4: 503 elsewhere).", []Input{
			in("after HELO", send("HELO client.example\r\n"), start, begin, send(hello), send(quit)),
			in("before EHLO", start, begin, send(hello), send(quit)),
			in("in a transaction", send(hello), send(mail), start, send(rcpt), send(quit)),
			in("after RSET", send(hello), send(mail), send("RSET\r\n"), start, begin, send(mail), send(quit)),
			in("in lower case", send(hello), send("starttls\r\n"), begin, send(hello), send(quit)),
		}},
	}}
}

// auth is AUTH (RFC 4954), on the submission port, behind TLS.
func auth() Kind {
	good, bad := plain("", account, password), plain("", account, "wrong")
	in := func(name string, lines ...string) Input {
		s := append(steps(hello, "STARTTLS\r\n"), Step{TLS: true})
		return Input{Name: name, Login: true, Steps: append(append(append(s, steps(hello)...), steps(lines...)...), steps(quit)...)}
	}
	return Kind{"AUTH", []Rule{
		{
			"In clear", "RFC 4954 §4: in clear no mechanism is offered that shows the password; 530 says why, which 503 does not. Whoever has not " +
				"logged in submits nothing (RFC 6409 §4.3); the other three run with their border's rules, so their 250 to MAIL means nothing.",
			[]Input{
				{Name: "PLAIN without TLS", Login: true, Steps: steps(hello, "AUTH PLAIN "+good+"\r\n", quit)},
				{Name: "PLAIN without TLS, no initial response", Login: true, Steps: steps(hello, "AUTH PLAIN\r\n", "*\r\n", quit)},
				{Name: "MAIL in clear", Login: true, Steps: steps(hello, mail, quit)},
				{Name: "an unknown mechanism in clear", Login: true, Steps: steps(hello, "AUTH XYZZY\r\n", quit)},
			},
		},
		{"Exchanges", "RFC 4954 §4: with an initial response or after 334; \"*\" cancels with 501, what is not base64 or not the mechanism's is " +
			"501 and not 535, 504 is a mechanism that is not there, and 503 comes after success, after HELO and in a transaction. The third " +
			"failure closes the session (§9).", []Input{
			in("PLAIN, initial response", "AUTH PLAIN "+good+"\r\n"),
			in("PLAIN, after 334", "AUTH PLAIN\r\n", good+"\r\n"),
			in("plain in lower case", "auth plain "+good+"\r\n"),
			in("cancelled", "AUTH PLAIN\r\n", "*\r\n", "NOOP\r\n"),
			in("twice", "AUTH PLAIN "+good+"\r\n", "AUTH PLAIN "+good+"\r\n"),
			in("wrong password", "AUTH PLAIN "+bad+"\r\n"),
			in("wrong password, three times", "AUTH PLAIN "+bad+"\r\n", "AUTH PLAIN "+bad+"\r\n", "AUTH PLAIN "+bad+"\r\n", "NOOP\r\n"),
			in("empty response", "AUTH PLAIN =\r\n"),
			in("empty line after 334", "AUTH PLAIN\r\n", "\r\n"),
			in("\"=\" after 334", "AUTH PLAIN\r\n", "=\r\n"),
			in("no base64", "AUTH PLAIN !!!!\r\n"),
			in("base64 without padding", "AUTH PLAIN AGFiYw\r\n"),
			in("base64 with bits behind its end", "AUTH PLAIN AGFiYx==\r\n"),
			in("base64 with a space behind", "AUTH PLAIN "+good+" \r\n"),
			in("base64 and more", "AUTH PLAIN "+good+" x\r\n"),
			in("two spaces", "AUTH PLAIN  "+good+"\r\n"),
			in("no NUL in it", "AUTH PLAIN YWJj\r\n"),
			in("three NULs in it", "AUTH PLAIN "+plain("", "a\x00b", "c")+"\r\n"),
			in("another's name to act as", "AUTH PLAIN "+plain("other@light.example", account, password)+"\r\n"),
			in("one's own name to act as", "AUTH PLAIN "+plain(account, account, password)+"\r\n"),
			in("an empty password", "AUTH PLAIN "+plain("", account, "")+"\r\n"),
			in("a line of 12288 octets", "AUTH PLAIN\r\n", strings.Repeat("A", 12286)+"\r\n", "NOOP\r\n"),
			in("a line of 12300 octets", "AUTH PLAIN\r\n", strings.Repeat("A", 12298)+"\r\n", "NOOP\r\n"),
			in("a command in place of a response", "AUTH PLAIN\r\n", mail, "NOOP\r\n"),
			in("pipelined with MAIL", "AUTH PLAIN "+good+"\r\nNOOP\r\n"),
			in("no mechanism", "AUTH\r\n"),
			in("an unknown mechanism", "AUTH XYZZY\r\n"),
			in("a mechanism of 100 letters", "AUTH "+strings.Repeat("X", 100)+"\r\n"),
			in("in a transaction", "AUTH PLAIN "+good+"\r\n", "MAIL FROM:<"+account+">\r\n", "AUTH PLAIN "+good+"\r\n"),
			in("EHLO after it keeps the login", "AUTH PLAIN "+good+"\r\n", hello, "MAIL FROM:<"+account+">\r\n"),
			in("after HELO", "HELO client.example\r\n", "AUTH PLAIN "+good+"\r\n"),
			in("MAIL without a login", mail),
		}},
	}}
}
