package differential

import "fmt"

// parameters are those of MAIL and RCPT (RFC 5321 §4.1.1.11).
func parameters() Kind {
	mailing := func(p string) Input {
		return script("MAIL"+show(p), hello, "MAIL FROM:<aunt@elsewhere.example>"+p+"\r\n", rcpt, "DATA\r\n", noteData)
	}
	receiving := func(p string) Input {
		return script("RCPT"+show(p), hello, mail, "RCPT TO:<keeper@far.example>"+p+"\r\n", "DATA\r\n", noteData)
	}
	helo := func(p string) Input {
		return script("HELO, MAIL"+show(p), "HELO client.example\r\n", "MAIL FROM:<aunt@elsewhere.example>"+p+"\r\n", rcpt, "DATA\r\n", noteData)
	}
	return Kind{"Parameters", []Rule{
		{"SIZE", "RFC 1870 §4, §6.1: 1 to 20 digits, once; above the limit 552, whatever the number. OpenSMTPD takes the parameter and does not " +
			"look at it.", each([]string{
			" SIZE=0", " SIZE=1", " size=10", fmt.Sprintf(" SIZE=%d", messageSize), fmt.Sprintf(" SIZE=%d",
				messageSize+1), " SIZE=2147483647", " SIZE=2147483648", " SIZE=4294967296", " SIZE=9223372036854775807",
			" SIZE=9223372036854775808", " SIZE=18446744073709551616", " SIZE=99999999999999999999", " SIZE=100000000000000000000",
			" SIZE=00000000000000000010", " SIZE=-1", " SIZE=+1", " SIZE=", " SIZE", " SIZE=ten", " SIZE=0x10", " SIZE=1.5",
			" SIZE=10 SIZE=20",
		}, mailing)},
		{"BODY and SMTPUTF8", "RFC 6152 §3, RFC 6531 §3.4: the values there are; a keyword that takes none gets none, and one given twice says " +
			"nothing: 501.", each([]string{
			" BODY=7BIT", " BODY=8BITMIME", " body=8bitmime", " BODY=9BIT", " BODY=", " BODY", " BODY=7BIT BODY=8BITMIME",
			" SMTPUTF8", " SMTPUTF8=", " SMTPUTF8=1", " SMTPUTF8 SMTPUTF8",
		}, mailing)},
		{
			"AUTH", "RFC 4954 §5: xtext of a mailbox, or `<>`, once; read though AUTH was not offered, and not believed.",
			each([]string{
				" AUTH=<>", " AUTH=aunt@elsewhere.example", " AUTH=aunt+2Bx@elsewhere.example", " AUTH=", " AUTH",
				" AUTH=+zz", " AUTH=<> AUTH=<>",
			}, mailing),
		},
		{"How they are written", "RFC 5321 §4.1.1, §4.1.2: a space before each, then keyword=value; bad syntax is 501, one not known is 555 " +
			"(§4.1.1.11). A tab is no space.", each([]string{
			"SIZE=10", "  SIZE=10", "\tSIZE=10", " SIZE=10  BODY=7BIT", " SIZE=10\tBODY=7BIT", " SIZE = 10", " SIZE=10 ",
			" =10", " -X=1", " X_Y=1", " X", " X=1", " X=a=b", " X-UNKNOWN=1", " SIZE=10,BODY=7BIT", " SIZE=10;", " <other@elsewhere.example>",
			" caf\u00e9=1", " X=caf\u00e9", " 1=1",
		}, mailing)},
		{"Of other extensions, with MAIL", "RFC 5321 §4.1.1.11: 555 for those that are not offered, 501 for bad values of those that are " +
			"(RFC 3461 §4.3, §4.4). A message that its sender wants back after a minute (RFC 2852 §4.1.4.1) is not handed to a next hop that would " +
			"not know of it: it goes back.", each([]string{
			" BODY=BINARYMIME", " RET=HDRS", " RET=FULL", " RET=BOTH", " RET=HDRS RET=FULL",
			" ENVID=x", " ENVID=", " ENVID=a+2Bb", " ENVID=a+b", " REQUIRETLS", " REQUIRETLS=1", " MT-PRIORITY=4", " MT-PRIORITY=10",
			" BY=60;R", " BY=0;R", " BY=60;X", " HOLDFOR=60", " TRANSID=<x@y>", " CONPERM", " MTRK=x",
		}, mailing)},
		{"Of RCPT", "RFC 5321 §4.1.1.11, RFC 3461 §4.1, §4.2: 555 for those that are not offered, 501 for bad values. Exim does not offer DSN " +
			"unless told to.", each([]string{
			" NOTIFY=NEVER", " NOTIFY=SUCCESS,FAILURE,DELAY", " NOTIFY=NEVER,SUCCESS", " NOTIFY=",
			" NOTIFY=ALWAYS", " NOTIFY=FAILURE NOTIFY=DELAY", " ORCPT=rfc822;keeper@far.example", " ORCPT=keeper@far.example",
			" ORCPT=rfc822;keeper+40far.example", " ORCPT=rfc822;k+zz@far.example", " ORCPT=utf-8;k\\x{E9}per@far.example",
			" SIZE=10", " BODY=7BIT", " RRVS=2014-04-03T23:01:00Z", " X=1", " ", "X=1",
		}, receiving)},
		{
			"After HELO", "RFC 5321 §2.2.1: no extension was agreed on, so no parameter is known: 555. Postfix and OpenSMTPD take them all the same.",
			each([]string{" SIZE=10", " BODY=8BITMIME", " AUTH=<>", " SMTPUTF8", " RET=HDRS"}, helo),
		},
	}}
}

// names are arguments of EHLO and HELO.
func names() Kind {
	args := []string{
		"", " ", " client.example", " CLIENT.EXAMPLE", " client", " localhost", " client.example.", " .client.example",
		" client..example", " -client.example", " client-.example", " my_printer", " CAM-", " *", " client.example extra words",
		" client example", " client.example\tx", "  client.example", " [127.0.0.1]", " [127.0.0.2]", " [127.0.0.1] more",
		" [127.0.0.256]", " [127.0.0.1", " 127.0.0.1", " [IPv6:::1]", " [::1]", " [IPv6:zz]", " []", " [client.example]",
		" cl\u00efent.example", " cl\xefent.example", " xn--clent-eta.example", " client.example\x00", " cli\x01ent.example",
		" <client.example>", " client.example (x)", " client.example; x", " client.example id x", " a@b.example", " \"client\"",
		" $(id)", " mx.bothy.example", " " + long(63) + ".example", " " + long(64) + ".example", " " + domainOf(255, ".example"),
		" " + domainOf(256, ".example"), " " + domainOf(500, ".example"),
	}
	var ehlo, helo []Input
	for _, arg := range args {
		ehlo = append(ehlo, script("EHLO"+show(arg), "EHLO"+arg+"\r\n", mail, rcpt))
		helo = append(helo, script("HELO"+show(arg), "HELO"+arg+"\r\n", mail, rcpt))
	}
	again := []Input{
		script("EHLO twice", hello, hello, mail, rcpt), script("HELO, then EHLO", "HELO client.example\r\n",
			hello, mail, rcpt), script("EHLO in a transaction", hello, mail, rcpt, hello, "DATA\r\n", mail),
		script("HELO in a transaction", hello, mail, "HELO client.example\r\n", rcpt), script("bad EHLO in a transaction",
			hello, mail, "EHLO ..\r\n", rcpt, "DATA\r\n", noteData), script("ehlo in lower case", "ehlo client.example\r\n",
			mail), script("MAIL without EHLO", mail, rcpt, "DATA\r\n", noteData),
	}
	return Kind{"EHLO and HELO", []Rule{
		{"Their argument", "RFC 5321 §4.1.1.1: a domain or an address literal. What is neither is taken all the same where a Received field can " +
			"repeat it, a documented deviation for printers and cameras; 501 for the rest. That it is not the client's own name " +
			"is no reason to refuse (§4.1.4).", append(ehlo, helo...)},
		{"When they come", "RFC 5321 §4.1.4: either may come at any time and ends a transaction; one that is refused changes nothing. Mail needs " +
			"one of them first. OpenSMTPD takes only one a session.", again},
	}}
}
