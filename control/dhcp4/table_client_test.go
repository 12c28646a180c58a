package dhcp4

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// ourMessages are what our client sends, by where it is: the states of RFC 2131, and DECLINE, RELEASE and INFORM.
func ourMessages(t *testing.T) map[string]*Sent {
	t.Helper()
	all := map[string]*Sent{}
	names := map[ClientState]string{Selecting: "DISCOVER", Requesting: "SELECTING", Rebooting: "INIT-REBOOT", Renewing: "RENEWING", Rebinding: "REBINDING"}
	p := newPair(t, clientConfig(), 1)
	p.until("bound", time.Minute, p.is(Bound))
	p.c = NewClient(p.options(), p.c.Binding(), p.now)
	p.until("bound again", time.Minute, p.is(Bound))
	p.dead = true
	p.until("over", 2*time.Hour, p.is(Selecting))
	p.dead = false
	p.until("bound anew", 10*time.Minute, p.is(Bound))
	for _, h := range p.said {
		if name := names[h.state]; all[name] == nil {
			all[name] = h.sent
		}
	}
	all["RELEASE"] = p.c.Release(p.now)
	p = newPair(t, clientConfig(), 2)
	p.used = func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.100") }
	p.until("declined", time.Minute, func() bool {
		i := slices.IndexFunc(p.said, func(h heard) bool { return h.kind == Decline })
		if i >= 0 {
			all["DECLINE"] = p.said[i].sent
		}
		return i >= 0
	})
	all["INFORM"], _ = NewClient(p.options(), Binding{}, p.now).ask(netip.MustParseAddr("192.0.2.77"))
	for name, m := range all {
		if m == nil {
			t.Fatalf("no %s", name)
		}
	}
	if len(all) != 8 {
		t.Fatalf("%v", all)
	}
	return all
}

// TestTable4: RFC 2131 §4.3.6: what distinguishes the DHCPREQUESTs of our client by its state is as in table 4.
func TestTable4(t *testing.T) {
	content, err := os.ReadFile("testdata/table4.txt")
	if err != nil {
		t.Fatal(err)
	}
	var lines []line
	var columns []string
	for text := range strings.Lines(string(content)) {
		cells := strings.Split(strings.TrimSpace(text), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case len(cells) != 5:
		case cells[0] == "":
			columns = cells[1:]
		default:
			lines = append(lines, line{cells[0], cells[1:]})
		}
	}
	if len(lines) != 4 || len(columns) != 4 {
		t.Fatalf("%v", lines)
	}
	s, ours := newSheet(columns, lines), ourMessages(t)
	for i, state := range columns {
		m := ours[state]
		server, hasServer := m.Packet.Addr(ServerIdentifier)
		requested, hasRequested := m.Packet.Addr(RequestedAddress)
		seen := map[string]string{"broad/unicast": "broadcast", "server-ip": there(hasServer), "requested-ip": there(hasRequested), "ciaddr": "zero"}
		if m.To.IsValid() {
			seen["broad/unicast"] = "unicast"
		}
		if given(m.Packet.CIAddr) {
			seen["ciaddr"] = "IP address"
		}
		for _, l := range lines {
			want := map[string]string{"MUST": "there", "MUST NOT": "not there"}[l.cells[i]]
			if want == "" {
				want = l.cells[i]
			}
			s.see(l.name, i, seen[l.name])
			if seen[l.name] != want {
				t.Errorf("%s: %s is %s, the table says %s", state, l.name, seen[l.name], l.cells[i])
			}
		}
		address := netip.MustParseAddr("192.0.2.100")
		if hasServer && server.String() != "192.0.2.1" || hasRequested && requested != address || given(m.Packet.CIAddr) && m.Packet.CIAddr != address {
			t.Errorf("%s: %+v", state, m.Packet)
		}
	}
	s.embed(t, "table 4")
}

// column is what stands in one column of table 5.
var columns5 = [][]string{{"DISCOVER", "INFORM"}, {"SELECTING", "INIT-REBOOT", "RENEWING", "REBINDING"}, {"DECLINE", "RELEASE"}}

// conditions are a cell's words and when they count: "MUST (in SELECTING or INIT-REBOOT)".
var conditions = regexp.MustCompile(`(MUST NOT|MUST|SHOULD NOT|SHOULD|MAY)(?: \(([^)]*)\))?`)

// wanted5 is what a cell asks of one message.
func wanted5(cell, message string) string {
	for _, m := range conditions.FindAllStringSubmatch(cell, -1) {
		names := map[string][]string{"REBINDING": {"REBINDING", "BOUND"}}[message] // table 5 says BOUND where table 4 says REBINDING
		for _, name := range append(names, message) {
			if m[2] == "" || strings.Contains(m[2], name) {
				return m[1]
			}
		}
	}
	return ""
}

// TestTable5: RFC 2131 §4.4.1: every field and option of our client's messages is as in table 5; RFC 2131 §3.1: a DHCPREQUEST has the secs of its DHCPDISCOVER; RFC 2131 §4.4.3:
// a DHCPINFORM asks for nothing about a lease.
func TestTable5(t *testing.T) {
	sections := printed(t, "table5.txt")
	if len(sections) != 2 || len(sections[0]) != 15 || len(sections[1]) != 12 {
		t.Fatalf("%v", sections)
	}
	s, ours := newSheet([]string{"DHCPDISCOVER, DHCPINFORM", "DHCPREQUEST", "DHCPDECLINE, DHCPRELEASE"}, sections...), ourMessages(t)
	for column, messages := range columns5 {
		for _, name := range messages {
			p := ours[name].Packet
			for _, l := range sections[0] {
				seen, good := field5(name, l, ours)
				s.see(l.name, column, seen)
				if !good {
					t.Errorf("%s: %s is %s, the table says %q", name, l.name, seen, l.cells[column])
				}
			}
			for _, l := range sections[1] {
				_, is := p.Get(codes[l.name])
				want, seen := wanted5(l.cells[column], name), there(is)
				switch l.name {
				case "DHCP message type":
					if seen = p.Type().String(); !strings.Contains(l.cells[column], seen) {
						t.Errorf("%s is a %s", name, seen)
					}
					want = "MAY"
				case "Use 'file'/'sname' fields", "Site-specific":
					is, seen = false, "not there"
				case "All others":
					is = slices.ContainsFunc(p.Options, func(o Option) bool { return o.Code == HostName })
					seen = there(is)
				}
				if is == strings.HasSuffix(want, "NOT") && want != "MAY" || want == "" {
					t.Errorf("%s: %s is %s, the table says %q", name, l.name, seen, want)
				}
				if len(conditions.FindAllString(l.cells[column], -1)) > 1 {
					seen = name + ": " + seen
				}
				s.see(l.name, column, seen)
			}
		}
	}
	if list, _ := ours["INFORM"].Packet.Get(ParameterRequestList); slices.Contains(list, byte(LeaseTime)) || slices.Contains(list, byte(RenewalTime)) || len(list) == 0 {
		t.Errorf("a DHCPINFORM asks for %v", list)
	}
	s.embed(t, "table 5")
}

// field5 is what a field of one of our messages is, and whether table 5 lets it be so.
func field5(name string, l line, ours map[string]*Sent) (seen string, good bool) {
	p := ours[name].Packet
	first := ours["DISCOVER"].Packet
	switch l.name {
	case "'op'":
		return "BOOTREQUEST", p.Op == BootRequest
	case "'htype'":
		return "1", p.HType == ethernet
	case "'hlen'":
		return "6", p.HLen == ethernetSize
	case "'hops'":
		return fmt.Sprint(p.Hops), p.Hops == 0
	case "'xid'":
		if name == "SELECTING" {
			return name + ": that of the DHCPOFFER", p.XID == first.XID
		}
		return "at random", p.XID != 0
	case "'secs'":
		switch name {
		case "SELECTING":
			return name + ": that of the DHCPDISCOVER (§3.1)", p.Secs == first.Secs
		case "DECLINE", "RELEASE", "INFORM":
			return "0", p.Secs == 0
		}
		return "seconds since the beginning", p.Secs <= 3600
	case "'flags'":
		return "0", p.Flags == 0 // our client takes unicast unless it is configured otherwise
	case "'ciaddr'":
		own := map[string]string{"INFORM": "192.0.2.77", "RENEWING": "192.0.2.100", "REBINDING": "192.0.2.100", "RELEASE": "192.0.2.100"}[name]
		if own == "" {
			return name + ": 0", !given(p.CIAddr)
		}
		return name + ": its address", addressText(p.CIAddr) == own
	case "'yiaddr'":
		return addressText(p.YIAddr), !given(p.YIAddr)
	case "'siaddr'":
		return addressText(p.SIAddr), !given(p.SIAddr)
	case "'giaddr'":
		return addressText(p.GIAddr), !given(p.GIAddr)
	case "'chaddr'":
		return "its hardware address", p.CHAddr == [16]byte{2, 0, 0, 0, 0, 7}
	case "'sname'":
		return "unused", p.SName == [snameSize]byte{}
	case "'file'":
		return "unused", p.File == [fileSize]byte{}
	}
	return "the options below", len(p.Options) > 0 // for DHCPDECLINE too: the table's own second half wants them
}
