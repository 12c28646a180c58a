package differential

import "strings"

// long is a name of n octets.
func long(n int) string { return strings.Repeat("k", n) }

// domainOf is a domain of n octets with the ending given, in labels of at most 63.
func domainOf(n int, ending string) string {
	n -= len(ending)
	var b strings.Builder
	for n > 64 {
		b.WriteString(long(min(63, n-2)) + ".")
		n -= min(63, n-2) + 1
	}
	return b.String() + long(n) + ending
}

// reversePaths are arguments of MAIL.
func reversePaths() Kind {
	mailing := func(arg string) Input {
		return script(show(arg), hello, "MAIL "+arg+"\r\n", rcpt, "DATA\r\n", noteData)
	}
	utf8 := func(arg string) Input { return mailing(arg + " SMTPUTF8") }
	from := func(path string) Input { return mailing("FROM:" + path) }
	return Kind{"MAIL", []Rule{
		{"How it is written", "RFC 5321 §3.3, §4.1.1.2: no space before or behind the colon. Behind it we take spaces, a documented deviation for " +
			"old devices; all else is 501, and brackets must be there (§4.1.2): what is read with goodwill here may be read otherwise at the next " +
			"server.", each([]string{
			"FROM:<aunt@elsewhere.example>", "from:<aunt@elsewhere.example>", "FROM: <aunt@elsewhere.example>", "FROM:   <aunt@elsewhere.example>",
			"FROM:\t<aunt@elsewhere.example>", "FROM :<aunt@elsewhere.example>", "FROM <aunt@elsewhere.example>", "FROM=<aunt@elsewhere.example>",
			"FROM", "FROM:", "", "TO:<aunt@elsewhere.example>",
			"FROM:aunt@elsewhere.example", "FROM: aunt@elsewhere.example", "FROM:<aunt@elsewhere.example", "FROM:aunt@elsewhere.example>",
			"FROM:<<aunt@elsewhere.example>>", "FROM:<aunt@elsewhere.example>>", "FROM:< aunt@elsewhere.example>", "FROM:<aunt@elsewhere.example >",
			"FROM:<aunt@elsewhere.example><b@c.example>", "FROM:<aunt@elsewhere.example>,<b@c.example>",
			"FROM:Aunt <aunt@elsewhere.example>", "FROM:\"Aunt\" <aunt@elsewhere.example>", "FROM:<Aunt <aunt@elsewhere.example>>",
			"FROM:(Aunt)<aunt@elsewhere.example>", "FROM:<aunt(Aunt)@elsewhere.example>", "FROM:<aunt@elsewhere.example> (Aunt)",
			"FROM:<aunt@elsewhere.example>;", "FROM:aunt@elsewhere.example SIZE=1", "FROM:[aunt@elsewhere.example]",
			"FROM:&lt;aunt@elsewhere.example&gt;",
		}, mailing)},
		{"The null path", "RFC 5321 §4.5.5, §4.1.2: it is `<>` and nothing else.", each([]string{
			"FROM:<>", "FROM: <>", "FROM:< >",
			"FROM:<\"\">", "FROM:<@>", "FROM:<><>", "FROM:<> SIZE=10", "FROM:<\"\"@>",
		}, mailing)},
		{
			"Mailboxes", "RFC 5321 §4.1.2: the grammar of Mailbox, word by word; what is not one could not be answered, and would be passed on as " +
				"our word; nothing is completed with our own name. `<postmaster>` has no domain, which §4.1.1.3 allows to recipients alone.",
			each([]string{
				"<aunt>", "<postmaster>", "<aunt@>", "<@elsewhere.example>", "<aunt@@elsewhere.example>", "<aunt@b@elsewhere.example>",
				"<.aunt@elsewhere.example>", "<aunt.@elsewhere.example>", "<a..unt@elsewhere.example>", "<aunt,b@elsewhere.example>",
				"<aunt b@elsewhere.example>", "<aunt@elsewhere example>", "<aunt\\@b@elsewhere.example>", "<aunt;b@elsewhere.example>",
				"<a[b]@elsewhere.example>", "<a\tb@elsewhere.example>", "<a\x01b@elsewhere.example>", "<a\x7fb@elsewhere.example>",
				"<a:b@elsewhere.example>",
				"<!#$%&'*+-/=?^_`{|}~@elsewhere.example>", "<a+b@elsewhere.example>", "<a=b@elsewhere.example>", "<1@elsewhere.example>",
				"<-@elsewhere.example>", "<a%b@elsewhere.example>", "<b.example!a@elsewhere.example>", "<SRS0=x=y=b.example=a@elsewhere.example>",
				"<AUNT@ELSEWHERE.EXAMPLE>",
			}, from),
		},
		{"Quoted strings", "RFC 5321 §4.1.2: a local part may be one. It is passed on with quotes and backslashes only where it needs them, as " +
			"§4.1.2 advises. Strings with quotes in the middle are obsolete syntax (RFC 5322 §4.4) and none of SMTP's. OpenSMTPD takes no quoted " +
			"string.", each([]string{
			`<"aunt"@elsewhere.example>`, `<"aunt b"@elsewhere.example>`, `<"aunt\"b"@elsewhere.example>`, `<"aunt\\b"@elsewhere.example>`,
			`<"aunt@b"@elsewhere.example>`, `<"aunt>b"@elsewhere.example>`, `<"aunt<b"@elsewhere.example>`, `<""@elsewhere.example>`,
			`<" "@elsewhere.example>`, `<"aunt@elsewhere.example>`, `<aunt"@elsewhere.example>`, `<"aunt"b@elsewhere.example>`,
			`<a."b".c@elsewhere.example>`, `<"a"."b"@elsewhere.example>`, `<"a..b"@elsewhere.example>`, `<".a"@elsewhere.example>`,
			`<"\a"@elsewhere.example>`, `<"a\` + "\x01" + `"@elsewhere.example>`, `<"a` + "\t" + `b"@elsewhere.example>`,
			`<"a@b.example> <c"@elsewhere.example>`,
		}, from)},
		{
			"Domains", "RFC 5321 §4.1.2, §2.3.5: letters, digits, hyphens inside, dots between; no dot at the end, no underscore, labels of 63 " +
				"octets at most. A name of digits alone is within the grammar. Domains are passed on in lower case, which §2.4 says is the same.",
			each([]string{
				"<aunt@elsewhere>", "<aunt@elsewhere.example.>", "<aunt@.elsewhere.example>", "<aunt@elsewhere..example>", "<aunt@-elsewhere.example>",
				"<aunt@elsewhere-.example>", "<aunt@else_where.example>", "<aunt@_elsewhere.example>", "<aunt@else where.example>",
				"<aunt@xn--elsewhere-.example>", "<aunt@1.example>", "<aunt@1.2>", "<aunt@127.0.0.1>", "<aunt@*.example>",
				"<aunt@elsewhere.example:25>", "<aunt@elsewhere.example/x>", "<aunt@" + long(63) + ".example>", "<aunt@" + long(64) + ".example>",
			}, from),
		},
		{
			"Address literals", "RFC 5321 §4.1.3: IPv4, or IPv6 with its tag; no other tag is registered. Exim has to be told to allow them.",
			each([]string{
				"<aunt@[192.0.2.1]>", "<aunt@[192.0.2]>", "<aunt@[192.0.2.256]>", "<aunt@[192.0.2.01]>", "<aunt@[IPv6:2001:db8::1]>",
				"<aunt@[ipv6:2001:db8::1]>", "<aunt@[2001:db8::1]>", "<aunt@[IPv6:::ffff:192.0.2.1]>", "<aunt@[IPv6:2001:db8::g]>",
				"<aunt@[IPv6:fe80::1%eth0]>", "<aunt@[]>", "<aunt@[192.0.2.1>", "<aunt@192.0.2.1]>", "<aunt@[x-tag:y]>",
				"<aunt@[elsewhere.example]>", "<aunt@[[192.0.2.1]]>",
			}, from),
		},
		{"Source routes", "RFC 5321 §4.1.1.3, §C: read by its grammar, and forgotten. Exim reads none from clients.", each([]string{
			"<@a.example:aunt@elsewhere.example>", "<@a.example,@b.example:aunt@elsewhere.example>", "<@a.example, @b.example:aunt@elsewhere.example>",
			"<@a.example:>", "<@a.example:aunt>", "<@a.example aunt@elsewhere.example>", "<@:aunt@elsewhere.example>",
			"<a.example:aunt@elsewhere.example>", "<@[192.0.2.1]:aunt@elsewhere.example>", "<@a.example,b.example:aunt@elsewhere.example>",
		}, from)},
		{"Beyond ASCII, without SMTPUTF8", "RFC 6531 §3.5: 550 or 553, with 5.6.7; what is not UTF-8 is no address at all, 501. Postfix and Exim " +
			"pass on what the next server need not take.", each([]string{
			"<t\u00e4nt@elsewhere.example>", "<aunt@\u00e4lsewhere.example>",
			"<t\xe4nt@elsewhere.example>", "<\"t\u00e4nt\"@elsewhere.example>",
		}, from)},
		{"Beyond ASCII, with SMTPUTF8", "RFC 6531 §3.3: UTF-8, and domains of U-labels, whose dot is the ASCII one. C1 controls are left out " +
			"(RFC 6532 §3.1). OpenSMTPD does not have it.", each([]string{
			"FROM:<t\u00e4nt@elsewhere.example>", "FROM:<aunt@\u00e4lsewhere.example>",
			"FROM:<t\xe4nt@elsewhere.example>", "FROM:<t\u0001\u00e4nt@elsewhere.example>", "FROM:<t\u0085nt@elsewhere.example>",
			"FROM:<aunt@\uff0eexample>", "FROM:<aunt@a\u3002example>", "FROM:<\"t\u00e4 nt\"@elsewhere.example>", "FROM:<\u202eaunt@elsewhere.example>",
		}, utf8)},
		{"Lengths", "RFC 5321 §4.5.3.1.1, §4.5.3.1.2, §4.5.3.1.3: domain 255, path 256 octets; above, 501 with §4.5.3.1.9. A local part may be " +
			"longer than 64: the return addresses of lists and forwarders are, and limits are to be avoided (§4.5.3.1).", each([]string{
			"<" + long(64) + "@elsewhere.example>", "<" + long(65) + "@elsewhere.example>", "<" + long(128) + "@elsewhere.example>",
			"<" + long(1000) + "@elsewhere.example>", "<\"" + long(62) + "\"@elsewhere.example>", "<\"" + long(63) + "\"@elsewhere.example>",
			"<a@" + domainOf(252, ".example") + ">", "<a@" + domainOf(253, ".example") + ">", "<a@" + domainOf(254, ".example") + ">",
			"<a@" + domainOf(255, ".example") + ">", "<" + long(64) + "@" + domainOf(189, ".example") + ">", "<" + long(64) + "@" + domainOf(190, ".example") + ">",
			"<@" + domainOf(250, ".example") + ":aunt@elsewhere.example>",
		}, from)},
	}}
}

// forwardPaths are arguments of RCPT: what may not be relayed must not be, however it is written.
func forwardPaths() Kind {
	receiving := func(arg string) Input {
		return script(show(arg), hello, mail, "RCPT "+arg+"\r\n", "DATA\r\n", noteData)
	}
	to := func(path string) Input { return receiving("TO:" + path) }
	utf8 := func(path string) Input {
		return script(show(path)+" SMTPUTF8", hello, "MAIL FROM:<aunt@elsewhere.example> SMTPUTF8\r\n", "RCPT TO:"+path+"\r\n", "DATA\r\n", noteData)
	}
	ask := func(path string) Input { return script(show(path), hello, mail, "RCPT TO:"+path+"\r\n") } // theirs, not the next hop's
	return Kind{"RCPT", []Rule{
		{"How it is written", "RFC 5321 §3.3, §4.1.1.3: as with MAIL.", each([]string{
			"TO:<keeper@far.example>", "to:<keeper@far.example>", "TO: <keeper@far.example>", "TO:\t<keeper@far.example>",
			"TO :<keeper@far.example>", "TO <keeper@far.example>", "TO", "TO:", "", "FROM:<keeper@far.example>", "TO:keeper@far.example",
			"TO:<keeper@far.example", "TO:keeper@far.example>", "TO:<<keeper@far.example>>", "TO:<keeper@far.example>>",
			"TO:< keeper@far.example >", "TO:<keeper@far.example><b@far.example>", "TO:<keeper@far.example>,<victim@evil.example>",
			"TO:<keeper@far.example,victim@evil.example>", "TO:<keeper@far.example> <victim@evil.example>", "TO:Keeper <keeper@far.example>",
			"TO:<keeper@far.example> (Keeper)", "TO:<(x)keeper@far.example>",
		}, receiving)},
		{"Relaying asked for in a local part", "RFC 5321 §3.6.2, §7.9: what the domain's own server may read as a route to somewhere else is not " +
			"passed to it: 550 5.7.1, as Postfix and Exim have it. A subdomain of the domain is another domain, and nothing is completed with our " +
			"own name.", each([]string{
			"<victim%evil.example@far.example>", "<victim@evil.example@far.example>", "<evil.example!victim@far.example>",
			"<\"victim@evil.example\"@far.example>", "<\"victim%evil.example\"@far.example>", "<victim%evil.example%far.example@far.example>",
			"<@far.example:victim@evil.example>", "<@evil.example:keeper@far.example>", "<@far.example,@evil.example:keeper@far.example>",
			"<@evil.example:victim%far.example@far.example>", "<victim@evil.example>", "<keeper@sub.far.example>", "<keeper@notfar.example>",
			"<keeper@far.example.evil.example>", "<keeper@evil.example@far.example>", "<victim%evil.example>", "<far.example!victim@evil.example>",
			"<victim\\@evil.example@far.example>", "<\"victim\\@evil.example\"@far.example>", "<victim@[127.0.0.1]>",
			"<victim%evil.example@[127.0.0.1]>", "<keeper@far.example@[127.0.0.1]>", "<victim@localhost>", "<victim@>",
			"<victim>", "<>", "<\"\"@far.example>", "<\"keeper@far.example\"@evil.example>", "<\"keeper@far.example> x\"@evil.example>",
			"<keeper@far.example:evil.example>", "<keeper@evil.example,far.example>", "<keeper@evil.example/far.example>",
		}, to)},
		{"Mailboxes", "RFC 5321 §4.1.2, as with MAIL; which names exist in the domain its own server knows. Names are never taken for files or " +
			"programs here, so none is dangerous.", each([]string{
			"<KEEPER@FAR.EXAMPLE>", "<keeper@far.example.>", "<keeper@far..example>", "<keeper@.far.example>", "<.keeper@far.example>",
			"<keeper.@far.example>", "<kee..per@far.example>", "<kee per@far.example>", "<kee,per@far.example>", "<kee;per@far.example>",
			"<kee:per@far.example>", "<kee\tper@far.example>", "<kee\x01per@far.example>", "<kee\x7fper@far.example>",
			"<kee(x)per@far.example>", "<kee[x]@far.example>", "<k\\eeper@far.example>", "<@far.example>", "<#$&'*+-=?^_`{}~@far.example>",
			"<keeper+tag@far.example>", "<|cat@far.example>", "<\"|cat /etc/passwd\"@far.example>", "</etc/passwd@far.example>",
			"<../../etc/passwd@far.example>", "<-oQ/tmp@far.example>", "<--help@far.example>", "<$(id)@far.example>",
			"<`id`@far.example>", "<${run{/bin/id}}@far.example>", "<:include:/etc/passwd@far.example>", "<\"keeper\"@far.example>",
			"<\"kee per\"@far.example>", "<\"kee\\\"per\"@far.example>", "<\"kee>per\"@far.example>", "<\"kee\tper\"@far.example>",
			"<kee\"per\"@far.example>", "<\"keeper@far.example>", "<=?utf-8?q?keeper?=@far.example>",
		}, to)},
		{"Beyond ASCII, without SMTPUTF8", "RFC 6531 §3.5: 553 5.6.7; what is not UTF-8 is no address, 501. Postfix and Exim pass on what the " +
			"next server need not take.", each([]string{
			"<k\u00e9\u00e9per@far.example>", "<k\xe9per@far.example>", "<keeper@f\u00e4r.example>",
			"<keeper@far.example\u00a0>",
		}, to)},
		{
			"Beyond ASCII, with SMTPUTF8", "RFC 6531 §3.3: a domain is compared as its A-labels (RFC 5891 §4.4), and is one: full-width letters and dots are for who " +
				"types them to map (RFC 5895), 501. OpenSMTPD has no SMTPUTF8.",
			each([]string{
				"<k\u00e9\u00e9per@far.example>", "<k\xe9per@far.example>", "<keeper@\uff46ar.example>", "<keeper@far\u3002example>",
				"<keeper@f\u00e4r.example>",
			}, utf8),
		},
		{
			"Postmaster", "RFC 5321 §4.5.1, §4.1.1.3: `<postmaster>` is taken without a domain, in any case; no other name is.",
			each([]string{"<postmaster>", "<Postmaster>", "<POSTMASTER>", "<\"postmaster\">", "<postmaster@>", "<abuse>"}, ask),
		},
		{"Lengths", "RFC 5321 §4.5.3.1.1, §4.5.3.1.2, §4.5.3.1.3: as with MAIL.", each([]string{
			"<" + long(64) + "@far.example>", "<" + long(65) + "@far.example>", "<" + long(200) + "@far.example>", "<" + long(1000) + "@far.example>",
			"<\"" + long(62) + "\"@far.example>", "<\"" + long(63) + "\"@far.example>", "<@" + domainOf(240, ".example") + ":keeper@far.example>",
			"<@" + domainOf(255, ".example") + ":keeper@far.example>", "<" + strings.Repeat("@a.example,", 50) + "@b.example:keeper@far.example>",
		}, to)},
	}}
}
