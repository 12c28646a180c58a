// Package transcript plays dialogues that are written down as text files: one side is sent, the other must come back.
// It knows no protocol; SMTP, POP3, ODMR and whatever speaks in lines are tested with it. Standard library only.
//
// A file is read line by line:
//
//	# a comment; it says which section the dialogue obeys
//	C: EHLO site.example          sent, with CRLF
//	C> half a li                  sent as it is, without CRLF
//	S: 250-light.example          must come back, with CRLF
//	S: 250 queued as ${any}       ${any} stands for any text
//	S: EOF                        the other side must have closed
//	C: EOF                        the tester closes (half, where the connection can)
//	TESTER: S                     from here the tester speaks as S; C when not said
//	TLS: start                    both sides begin TLS; see WithTLS
//
// The letters are the parties, not their roles: any capital letter will do, the tester speaks one of them and every
// other one is the program under test. So the dialogue of RFC 2645 §6 is played as printed, with P: and C:, though its
// roles turn, and a client is tested by a tester that is S.
//
// Lines the tester sends one after another are one write, which is how a pipelined group is written down; a blank line
// between them parts the writes. Escapes work on both sides: \r \n \t \\ \$ \xHH, and ${repeat 600 a} for long things
// (the text may hold escapes too). A line that comes back ends with CRLF and nothing else, so a lone CR or LF in it
// shows as \r or \n.
//
// With -update the lines that come back are written into the file; a line whose ${any} still fits is left alone. A golden
// file freezes mistakes as well as rules: who reviews one opens the section that it cites.
package transcript
