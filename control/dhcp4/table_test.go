package dhcp4

import (
	"net/netip"
	"os"
	"strings"
	"testing"
)

// table3 is RFC 2131 §4.3.1, table 3, as testdata prints it, cut into cells.
type table3 struct {
	fields  map[string][3]string // DHCPOFFER, DHCPACK, DHCPNAK
	options map[string][3]string
}

// columns are where its columns begin, in octets.
var columns = map[bool][3]int{false: {11, 32, 52}, true: {26, 39, 58}}

func readTable3(t *testing.T) table3 {
	t.Helper()
	content, err := os.ReadFile("testdata/table3.txt")
	if err != nil {
		t.Fatal(err)
	}
	table := table3{map[string][3]string{}, map[string][3]string{}}
	isOption, name := false, ""
	for line := range strings.Lines(string(content)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "Option "):
			isOption, name = true, ""
			continue
		case line == "", strings.HasPrefix(line, "#"), strings.HasPrefix(line, "---"), strings.HasPrefix(line, "Field "), strings.Contains(line, "Table 3"):
			continue
		}
		at := columns[isOption]
		cell := func(from, to int) string { return strings.TrimSpace(line[min(from, len(line)):min(to, len(line))]) }
		into := table.fields
		if isOption {
			into = table.options
		}
		first := cell(0, at[0])
		if first != "" && line[0] != ' ' {
			name = first
			into[name] = [3]string{}
		} else if first != "" { // the name goes on
			cells := into[name]
			delete(into, name)
			name += " " + first
			into[name] = cells
		}
		cells := into[name]
		for i := range cells {
			end := 1 << 10
			if i < 2 {
				end = at[i+1]
			}
			cells[i] = strings.TrimSpace(cells[i] + " " + cell(at[i], end))
		}
		into[name] = cells
	}
	return table
}

// TestTable3: RFC 2131 §4.3.1: every field and option of every reply is as in table 3.
func TestTable3(t *testing.T) {
	table := readTable3(t)
	if len(table.fields) != 15 || len(table.options) != 13 {
		t.Fatalf("%d fields and %d options read: %v", len(table.fields), len(table.options), table)
	}
	// RFC 6842 §3: these two lines stand for the one of RFC 2131
	with, without := table.options["Client identifier (if sent by client)"], table.options["Client identifier (if not sent by client)"]
	cfg := oneSubnet()
	cfg.NextServer, cfg.ServerName, cfg.BootFile = netip.MustParseAddr("192.0.2.5"), "boothost", "kernel"
	cfg.Options = map[string]string{"vendor-class": "anacapa", "domain-name": "clinic.example"}
	for _, id := range []string{"", "\x00clinic"} {
		w := newWorld(t, cfg)
		c := client{mac: 1, id: id, flags: 0x8000}
		wishes := Option{ParameterRequestList, []byte{1, 3, 50, 51, 53, 54, 55, 57, 61, 82, 15}} // some it must not have
		size := Option{MaximumMessageSize, []byte{2, 64}}
		table.options["Client identifier"] = without
		if id != "" {
			table.options["Client identifier"] = with
		}
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
			checkFields(t, table, r.column, r.request, out.Reply)
			checkOptions(t, table, r.column, r.request, out.Reply)
		}
	}
}

// checkFields knows what each wording of the table asks for.
func checkFields(t *testing.T, table table3, column int, in, out *Packet) {
	t.Helper()
	address := func(a netip.Addr) string {
		if given(a) {
			return a.String()
		}
		return "0"
	}
	kind := in.Type()
	held := map[string]struct{ got, in string }{
		"'ciaddr'": {address(out.CIAddr), address(in.CIAddr)},
		"'yiaddr'": {address(out.YIAddr), ""},
		"'siaddr'": {address(out.SIAddr), ""},
		"'giaddr'": {address(out.GIAddr), address(in.GIAddr)},
		"'xid'":    {string(rune(out.XID)), string(rune(in.XID))},
		"'flags'":  {string(rune(out.Flags)), string(rune(in.Flags))},
		"'chaddr'": {string(out.CHAddr[:]), string(in.CHAddr[:])},
		"'hops'":   {string(rune('0' + out.Hops)), ""},
		"'secs'":   {string(rune('0' + out.Secs)), ""},
		"'sname'":  {text(out.SName[:]), ""},
		"'file'":   {text(out.File[:]), ""},
	}
	for field, cells := range table.fields {
		want, h := cells[column], held[field]
		good := false
		switch {
		case field == "'op'":
			good = want == "BOOTREPLY" && out.Op == BootReply
		case field == "'htype'" || field == "'hlen'":
			good = out.HType == in.HType && out.HLen == in.HLen
		case field == "'options'":
			good = want == "" || len(out.Options) > 0
		case want == "0":
			good = h.got == "0"
		case want == "(unused)":
			good = h.got == ""
		case strings.HasPrefix(want, field+" from"):
			good = h.got == h.in || strings.HasSuffix(want, "or 0") && h.got == "0"
		case want == "IP address offered to client":
			good = h.got == "192.0.2.100"
		case want == "IP address assigned to client": // RFC 2131 §4.3.5: should not be filled in for DHCPINFORM
			good = h.got == "192.0.2.100" || kind == Inform && h.got == "0"
		case want == "IP address of next bootstrap server":
			good = h.got == "192.0.2.5"
		case want == "Server host name or options":
			good = h.got == "boothost"
		case want == "Client boot file name or options":
			good = h.got == "kernel"
		}
		if !good {
			t.Errorf("%v to %v: %s is %q, the table says %q", out.Type(), kind, field, h.got, want)
		}
	}
}

// codes are the options of the table's lines.
var codes = map[string]Code{
	"Requested IP address": RequestedAddress, "IP address lease time": LeaseTime, "DHCP message type": MessageTypeOption,
	"Parameter request list": ParameterRequestList, "Message": Message, "Client identifier": ClientIdentifier,
	"Vendor class identifier": VendorClassIdentifier, "Server identifier": ServerIdentifier, "Maximum message size": MaximumMessageSize,
}

func checkOptions(t *testing.T, table table3, column int, in, out *Packet) {
	t.Helper()
	listed := map[Code]bool{}
	for line, cells := range table.options {
		want := cells[column]
		if strings.HasPrefix(want, "MUST (DHCPREQUEST)") {
			want = map[bool]string{true: "MUST NOT", false: "MUST"}[in.Type() == Inform]
		}
		code, ok := codes[line]
		listed[code] = true
		_, there := out.Get(code)
		switch {
		case line == "Use 'file'/'sname' fields" || line == "All others":
			continue // below, and by the encoder
		case strings.HasPrefix(line, "Client identifier ("):
			continue
		case !ok:
			t.Errorf("line %q is not known", line)
		case line == "DHCP message type":
			there = out.Type().String() == want
			want = "MUST"
			fallthrough
		default:
			// SHOULD (Message): there is nothing to say but in a DHCPNAK
			if want == "MUST" && !there || want == "MUST NOT" && there || want == "SHOULD" && column == 2 && !there || want == "" {
				t.Errorf("%v to %v: %s there: %v, the table says %q", out.Type(), in.Type(), line, there, want)
			}
		}
	}
	for _, o := range out.Options {
		if table.options["All others"][column] == "MUST NOT" && !listed[o.Code] {
			t.Errorf("%v has option %v", out.Type(), o.Code)
		}
	}
}
