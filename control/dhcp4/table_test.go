package dhcp4

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// TestTable3: RFC 2131 §4.3.1: every field and option of every reply is as in table 3; RFC 6842 §3: with the client identifier that the client sent.
func TestTable3(t *testing.T) {
	sections := printed(t, "table3.txt")
	if len(sections) != 2 || len(sections[0]) != 15 || len(sections[1]) != 13 {
		t.Fatalf("%v", sections)
	}
	s := newSheet([]string{"DHCPOFFER", "DHCPACK", "DHCPNAK"}, sections...)
	cfg := oneSubnet()
	cfg.NextServer, cfg.ServerName, cfg.BootFile = netip.MustParseAddr("192.0.2.5"), "boothost", "kernel"
	cfg.Options = map[string]string{"vendor-class": "anacapa", "domain-name": "clinic.example"}
	for _, id := range []string{"", "\x00clinic"} {
		w := newWorld(t, cfg)
		c := client{mac: 1, id: id, flags: 0x8000}
		wishes := Option{ParameterRequestList, []byte{1, 3, 50, 51, 53, 54, 55, 57, 61, 82, 15}} // some it must not have
		size := Option{MaximumMessageSize, []byte{2, 64}}
		inform := c
		inform.direct = true
		for _, r := range []struct {
			column  int
			request *Packet
		}{
			{0, c.packet(Discover, "192.0.2.77", wishes, size)}, // it must not have a ciaddr, and that is not echoed
			{1, c.packet(Request, "", wishes, size, addrOption(RequestedAddress, "192.0.2.100"), addrOption(ServerIdentifier, "192.0.2.1"))},
			{1, c.packet(Request, "192.0.2.100", wishes, size)},
			{1, inform.packet(Inform, "192.0.2.77", wishes, size)},
			{2, c.packet(Request, "", wishes, size, addrOption(RequestedAddress, "198.51.100.1"))},
			{2, c.packet(Request, "198.51.100.1", wishes, size)},
		} {
			out := w.send(c, r.request)
			if out.Reply == nil {
				t.Fatal(out.Why)
			}
			checkFields(t, s, sections[0], r.column, r.request, out.Reply)
			checkOptions(t, s, sections[1], r.column, r.request, out)
		}
	}
	s.embed(t, "table 3")
}

// checkFields knows what each wording of table 3 asks for.
func checkFields(t *testing.T, s *sheet, lines []line, column int, in, out *Packet) {
	t.Helper()
	kind := in.Type()
	number := func(n uint32) string { return fmt.Sprint(n) }
	held := map[string]struct{ got, in string }{
		"'op'": {got: "BOOTREPLY"}, "'htype'": {number(uint32(out.HType)), number(uint32(in.HType))}, "'hlen'": {number(uint32(out.HLen)), number(uint32(in.HLen))},
		"'ciaddr'": {addressText(out.CIAddr), addressText(in.CIAddr)},
		"'yiaddr'": {got: addressText(out.YIAddr)},
		"'siaddr'": {got: addressText(out.SIAddr)},
		"'giaddr'": {addressText(out.GIAddr), addressText(in.GIAddr)},
		"'xid'":    {number(out.XID), number(in.XID)},
		"'flags'":  {number(uint32(out.Flags)), number(uint32(in.Flags))},
		"'chaddr'": {fmt.Sprintf("%x", out.CHAddr), fmt.Sprintf("%x", in.CHAddr)},
		"'hops'":   {got: number(uint32(out.Hops))},
		"'secs'":   {got: number(uint32(out.Secs))},
		"'sname'":  {got: text(out.SName[:])},
		"'file'":   {got: text(out.File[:])},
	}
	for _, l := range lines {
		want, h := l.cells[column], held[l.name]
		good, seen := false, h.got
		switch {
		case l.name == "'op'":
			good = want == "BOOTREPLY" && out.Op == BootReply
		case l.name == "'htype'" || l.name == "'hlen'":
			good, seen = h.got == h.in, "the client's"
		case l.name == "'options'":
			good, seen = want == "" || len(out.Options) > 0, "there"
		case want == "0":
			good = h.got == "0"
		case want == "(unused)":
			good, seen = h.got == "", "empty"
		case strings.HasPrefix(want, l.name+" from"):
			if good = h.got == h.in || strings.HasSuffix(want, "or 0") && h.got == "0"; h.got == h.in {
				seen = "the client's"
			}
		case want == "IP address offered to client":
			good = h.got == "192.0.2.100"
		case want == "IP address assigned to client": // RFC 2131 §4.3.5: should not be filled in for DHCPINFORM
			if good = h.got == "192.0.2.100"; kind == Inform {
				good, seen = h.got == "0", "0 for DHCPINFORM (§4.3.5)"
			}
		case want == "IP address of next bootstrap server":
			good = h.got == "192.0.2.5"
		case want == "Server host name or options":
			good = h.got == "boothost"
		case want == "Client boot file name or options":
			good = h.got == "kernel"
		}
		s.see(l.name, column, seen)
		if !good {
			t.Errorf("%v to %v: %s is %q, the table says %q", out.Type(), kind, l.name, h.got, want)
		}
	}
}

func addressText(a netip.Addr) string {
	if given(a) {
		return a.String()
	}
	return "0"
}

// codes are the options of the tables' lines.
var codes = map[string]Code{
	"Requested IP address": RequestedAddress, "IP address lease time": LeaseTime, "DHCP message type": MessageTypeOption,
	"Parameter request list": ParameterRequestList, "Message": Message, "Client identifier": ClientIdentifier,
	"Client identifier (if sent by client)": ClientIdentifier, "Client identifier (if not sent by client)": ClientIdentifier,
	"Vendor class identifier": VendorClassIdentifier, "Server identifier": ServerIdentifier, "Maximum message size": MaximumMessageSize,
}

func checkOptions(t *testing.T, s *sheet, lines []line, column int, in *Packet, answer Outcome) {
	t.Helper()
	out := answer.Reply
	_, named := in.Get(ClientIdentifier)
	_, repeated := out.Get(ClientIdentifier)
	others := 0
	for _, o := range out.Options {
		known := false
		for _, code := range codes {
			known = known || code == o.Code
		}
		if !known {
			others++
		}
	}
	for _, l := range lines {
		want := l.cells[column]
		if strings.HasPrefix(want, "MUST (DHCPREQUEST)") {
			want = map[bool]string{true: "MUST NOT", false: "MUST"}[in.Type() == Inform]
		}
		_, is := out.Get(codes[l.name])
		seen, good := there(is), true
		switch l.name {
		case "Client identifier": // RFC 6842 §3: the two lines at the end stand for this one
			seen, want = "see below", "MAY"
		case "Client identifier (if sent by client)", "Client identifier (if not sent by client)":
			if named != (l.name == "Client identifier (if sent by client)") {
				continue
			}
			good = repeated == named
		case "DHCP message type":
			seen, want, good = out.Type().String(), "MAY", out.Type().String() == want
		case "Use 'file'/'sname' fields": // the smallest packet that a reply of many options goes into
			b, _ := out.AppendTo(nil, minSize, column < 2)
			var small Packet
			if err := small.Parse(b); err != nil {
				t.Fatal(err)
			}
			is = small.File == [fileSize]byte{} && out.File != [fileSize]byte{}
			seen = map[bool]string{true: "when the options field is full and they are empty", false: "not there"}[column < 2]
		case "All others":
			is = others > 0
			seen = there(is)
		}
		// SHOULD (Message): there is nothing to say but in a DHCPNAK
		if !good || want == "MUST" && !is || want == "MUST NOT" && is || want == "SHOULD" && column == 2 && !is || want == "" {
			t.Errorf("%v to %v: %s there: %v, the table says %q", out.Type(), in.Type(), l.name, is, want)
		}
		if seen != "" && l.name == "IP address lease time" && column == 1 {
			seen += map[bool]string{true: " for DHCPINFORM", false: " for DHCPREQUEST"}[in.Type() == Inform]
		}
		s.see(l.name, column, seen)
	}
}
