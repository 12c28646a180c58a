package differential

import "strings"

// sequence is every command in every state.
func sequence() Kind {
	before := []struct {
		name  string
		lines []string
	}{
		{"first of all", nil},
		{"after HELO", []string{"HELO client.example\r\n"}},
		{"after EHLO", []string{hello}},
		{"after MAIL", []string{hello, mail}},
		{"after RCPT", []string{hello, mail, rcpt}},
	}
	commands := []string{
		"HELO client.example", "MAIL FROM:<other@elsewhere.example>", "RCPT TO:<other@far.example>", "DATA",
		"RSET", "NOOP", "VRFY keeper", "EXPN staff", "HELP", "STARTTLS", "AUTH PLAIN =", "BDAT 0 LAST", "BDAT 0", "TURN",
		"ETRN far.example", "ATRN far.example", "SEND FROM:<aunt@elsewhere.example>", "SOML FROM:<aunt@elsewhere.example>",
		"SAML FROM:<aunt@elsewhere.example>", "XYZZY", "EHLO other.example",
	}
	var rules []Rule
	for _, b := range before {
		var inputs []Input
		for _, c := range commands {
			in := Input{Name: c + " " + b.name, Steps: steps(append(append([]string{}, b.lines...), c+"\r\n")...), Texts: []string{note, "\r\n", ""}}
			switch c {
			case "DATA":
				in.Steps = append(in.Steps, steps("DATA\r\n", noteData)[1:]...)
			case "STARTTLS":
				inputs = append(inputs, in) // TLS would come now
				continue
			}
			in.Steps = append(in.Steps, steps("NOOP\r\n", "RCPT TO:<last@far.example>\r\n", quit)...)
			inputs = append(inputs, in)
		}
		rules = append(rules, Rule{strings.ToUpper(b.name[:1]) + b.name[1:], "RFC 5321 §4.1.4, §4.3.2: out of sequence is 503 and changes " +
			"nothing; what we do not implement is 502, what we do not know 500; EXPN is not offered (§7.3). STARTTLS and AUTH are not for " +
			"transactions (RFC 3207 §4, RFC 4954 §4). ETRN is for those it is configured for, others get 459 (RFC 1985 §5).", inputs})
	}
	rules[0].Inputs = append(rules[0].Inputs, Input{
		Name:  "EHLO before the greeting",
		Early: true, Steps: steps(hello, mail, quit),
	}, Input{
		Name:  "all before the greeting",
		Early: true, Steps: steps(hello + mail + rcpt + quit),
	})
	rules[4].Inputs = append(rules[4].Inputs,
		script("a second transaction", hello, mail, rcpt, "DATA\r\n", noteData, mail, rcpt, "RSET\r\n", "DATA\r\n", noteData),
		script("DATA twice", hello, mail, rcpt, "DATA\r\n", noteData, "DATA\r\n", noteData),
		script("RCPT after the message", hello, mail, rcpt, "DATA\r\n", noteData, rcpt),
	)
	return Kind{"Sequence", rules}
}

// arguments are commands with too much or too little behind them.
func arguments() Kind {
	return Kind{"Arguments", []Rule{
		{"Where there is none", "RFC 5321 §4.1.1, §4.3.2: 501 for an argument to DATA, RSET, QUIT and STARTTLS, as the table says; that a client " +
			"who says QUIT x means to go is true, and it will.", []Input{
			script("DATA x", hello, mail, rcpt, "DATA x\r\n", "NOOP\r\n"), script("RSET x", hello, mail, "RSET x\r\n",
				rcpt), script("QUIT x", hello, "QUIT x\r\n", "NOOP\r\n"), script("STARTTLS x", hello, "STARTTLS x\r\n", "NOOP\r\n"),
			script("DATA <", hello, mail, rcpt, "DATA <x>\r\n", "NOOP\r\n"), script("DATA with SIZE",
				hello, mail, rcpt, "DATA SIZE=10\r\n", "NOOP\r\n"), script("RSET with 600 octets", hello, "RSET "+strings.Repeat("x",
				600)+"\r\n"),
		}},
		{"Where there may be one", "RFC 5321 §4.1.1.8, §4.1.1.9: HELP and NOOP take a string, and HELP is answered.", []Input{
			script("NOOP x", hello, "NOOP x\r\n"), script("NOOP with many words", hello, "NOOP x y z \"q\r\n"), script("HELP",
				hello, "HELP\r\n"), script("HELP MAIL", hello, "HELP MAIL\r\n"), script("HELP with many words", hello, "HELP x y z\r\n"),
		}},
		{"Where there must be one", "RFC 5321 §4.1.1.6, §4.3.2: 501 without. VRFY says 252 of everything, so that nobody learns anything by it " +
			"(§3.5.3, §7.3). BDAT without a size ends the session, as with Postfix: nobody knows what follows (RFC 3030 §2).", []Input{
			script("VRFY", hello, "VRFY\r\n"), script("VRFY keeper", hello, "VRFY keeper\r\n"), script("VRFY <keeper@far.example>",
				hello, "VRFY <keeper@far.example>\r\n"), script("VRFY keeper@far.example", hello, "VRFY keeper@far.example\r\n"),
			script("VRFY nobody@evil.example", hello, "VRFY nobody@evil.example\r\n"), script("VRFY postmaster",
				hello, "VRFY postmaster\r\n"), script("VRFY <<>>", hello, "VRFY <<>>\r\n"), script("VRFY in UTF-8",
				hello, "VRFY k\u00e9per SMTPUTF8\r\n"), script("EXPN", hello, "EXPN\r\n"), script("MAIL", hello, "MAIL\r\n",
				rcpt), script("RCPT", hello, mail, "RCPT\r\n"), script("ETRN", hello, "ETRN\r\n"), script("ETRN @far.example",
				hello, "ETRN @far.example\r\n"), script("ETRN #", hello, "ETRN #x\r\n"), script("BDAT",
				hello, mail, rcpt, "BDAT\r\n", "NOOP\r\n"), script("AUTH", hello, "AUTH\r\n"),
		}},
		{
			"Verbs", "RFC 5321 §2.4, §4.1.1: in any case, in full, and with a space behind. Postfix hangs up at words it takes for another protocol.",
			[]Input{
				script("mail from:<>", hello, "mail from:<>\r\n", "rcpt to:<keeper@far.example>\r\n", "data\r\n",
					noteData), script("MaIl FrOm:<>", hello, "MaIl FrOm:<>\r\n", rcpt), script("MAILFROM:<>", hello, "MAILFROM:<>\r\n",
					rcpt), script("MAIL\\tFROM:<>", hello, "MAIL\tFROM:<>\r\n", rcpt), script("MAIL  FROM:<>", hello, "MAIL  FROM:<>\r\n",
					rcpt), script("MAIL FROM: and no more", hello, "MAIL FROM:\r\n", rcpt), script("RCPTTO:<>",
					hello, mail, "RCPTTO:<keeper@far.example>\r\n"), script("MAI", hello, "MAI FROM:<>\r\n"), script("MAILX",
					hello, "MAILX FROM:<>\r\n"), script("DATAX", hello, mail, rcpt, "DATAX\r\n"), script("NOOP.", hello, "NOOP.\r\n"),
				script("NOOP;RSET", hello, "NOOP;RSET\r\n"), script("\"NOOP\"", hello, "\"NOOP\"\r\n"), script("QUI T",
					hello, "QUI T\r\n"), script(".", hello, ".\r\n"),
			},
		},
	}}
}

// pipelining is commands sent before the replies to others (RFC 2920).
func pipelining() Kind {
	in := func(name string, texts []string, send ...string) Input {
		return Input{Name: name, Steps: steps(send...), Texts: texts}
	}
	one, two := []string{note}, []string{note, note}
	return Kind{"Pipelining", []Rule{
		{"In groups", "RFC 2920 §3.1, §3.2: RSET, MAIL, RCPT and NOOP anywhere in a group, DATA, EHLO, VRFY and QUIT at its end; each is answered " +
			"in order. Exim allows no more than 10 NOOPs, we 100 commands in a row that bring no mail. OpenSMTPD 6.8 has no PIPELINING: 500, and " +
			"it closes.", []Input{
			in("MAIL RCPT DATA", one, hello, mail+rcpt+"DATA\r\n", noteData, quit),
			in("MAIL RCPT RCPT RSET MAIL RCPT DATA", one, hello, mail+rcpt+rcpt+"RSET\r\n"+mail+rcpt+"DATA\r\n", noteData, quit),
			in("one refused in the middle", one, hello, mail+rcpt+"RCPT TO:<victim@evil.example>\r\n"+rcpt+"DATA\r\n", noteData, quit),
			in("all refused, DATA", one, hello, mail+"RCPT TO:<victim@evil.example>\r\nDATA\r\n", ".\r\n", quit),
			in("MAIL refused, RCPT, DATA", one, hello, "MAIL FROM:<bad\r\n"+rcpt+"DATA\r\n", quit),
			in("the end of a text and the next group", two, hello, mail+rcpt+"DATA\r\n", noteData+mail+rcpt+"DATA\r\n", noteData+quit),
			in("NOOPs", nil, hello, strings.Repeat("NOOP\r\n", 50)+quit),
			in("500 NOOPs", nil, hello, strings.Repeat("NOOP\r\n", 500)+quit),
			in("RSET QUIT", nil, hello, mail+rcpt+"RSET\r\n"+quit),
			in("in single octets", one, hello, mail+rcpt+"DATA\r\n", noteData, quit),
			{Name: "a group cut inside a command", Steps: append(append(steps(hello), parts(mail+"RCPT TO:<kee", "per@far.example>\r\nDA",
				"TA\r\n")...), steps(noteData, quit)...), Texts: one},
		}},
		{
			"Where the group must have ended", "RFC 2920 §3.1: DATA, EHLO and QUIT end a group. Robustly: what came early is taken in order, for " +
				"nothing is changed by when it came; behind QUIT nothing is obeyed. In clear text a command behind STARTTLS is an attack: see there.",
			[]Input{
				in("EHLO MAIL RCPT DATA at once", one, hello+mail+rcpt+"DATA\r\n", noteData, quit),
				in("all at once, the text too", one, hello+mail+rcpt+"DATA\r\n"+noteData+quit),
				in("DATA and the text at once", one, hello, mail, rcpt, "DATA\r\n"+noteData, quit),
				in("DATA and half of the text", one, hello, mail, rcpt, "DATA\r\nSubject: note\r\n\r\nhel", "lo\r\n.\r\n", quit),
				in("DATA and text, all recipients refused", nil, hello, mail+"RCPT TO:<victim@evil.example>\r\nDATA\r\n"+noteData, quit),
				in("HELO, then a group", one, "HELO client.example\r\n", mail+rcpt+"DATA\r\n", noteData, quit),
				in("VRFY in the middle", nil, hello, "VRFY keeper\r\n"+mail+rcpt+"NOOP\r\n", quit),
				in("NOOP in the middle", one, hello, mail+"NOOP\r\n"+rcpt+"NOOP\r\nDATA\r\n", noteData, quit),
				in("QUIT MAIL RCPT", nil, hello, quit+mail+rcpt),
				in("QUIT behind the text", one, hello, mail+rcpt+"DATA\r\n", noteData+quit),
				in("QUIT behind QUIT", nil, hello, quit+quit),
				in("half a command at the end", nil, hello, mail+"RCPT TO:<keeper"),
				{Name: "all before the greeting, the text too", Early: true, Steps: steps(hello + mail + rcpt + "DATA\r\n" + noteData + quit), Texts: one},
			},
		},
	}}
}
