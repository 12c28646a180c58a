package dhcp4

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// The UDP ports. RFC 2131 §4.1.
const (
	ServerPort = 67
	ClientPort = 68
)

var limited = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// begin makes m.reply a reply to c of the given type: the fields of RFC 2131 §4.3.1, table 3, that do not depend on an address.
func (m *machine) begin(c *asker, kind MessageType) *Packet {
	in := c.Packet
	m.scratch = m.scratch[:0]
	m.reply = Packet{
		Op: BootReply, HType: in.HType, HLen: in.HLen, XID: in.XID, Flags: in.Flags, GIAddr: in.GIAddr, CHAddr: in.CHAddr,
		Options: m.reply.Options[:0],
	}
	if kind != 0 {
		m.put(MessageTypeOption, byte(kind))
		m.putAddrs(ServerIdentifier, c.server)
	}
	return &m.reply
}

// end adds what every reply echoes.
func (m *machine) end(c *asker) {
	if id, ok := c.Packet.Get(ClientIdentifier); ok {
		m.reply.Options = append(m.reply.Options, Option{ClientIdentifier, id}) // RFC 6842 §3
	}
	if relay, ok := c.Packet.Get(RelayAgentInformation); ok {
		m.reply.Options = append(m.reply.Options, Option{RelayAgentInformation, relay}) // RFC 3046 §2.2
	}
}

// put adds an option, keeping its value in scratch.
func (m *machine) put(code Code, value ...byte) {
	start := len(m.scratch)
	m.scratch = append(m.scratch, value...)
	m.reply.Options = append(m.reply.Options, Option{code, m.scratch[start:len(m.scratch):len(m.scratch)]})
}

func (m *machine) putSeconds(code Code, d time.Duration) {
	n := seconds(d)
	m.put(code, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func (m *machine) putAddrs(code Code, all ...netip.Addr) {
	start := len(m.scratch)
	for _, a := range all {
		m.scratch = appendAddr(m.scratch, a)
	}
	m.reply.Options = append(m.reply.Options, Option{code, m.scratch[start:len(m.scratch):len(m.scratch)]})
}

// refuse makes a DHCPNAK. RFC 2131 §4.3.2, table 3.
func (m *machine) refuse(c *asker, why string) Outcome {
	p := m.begin(c, Nak)
	if given(p.GIAddr) {
		p.Flags |= broadcastFlag // RFC 2131 §4.3.2: the relay must broadcast it
	}
	m.reply.Options = append(m.reply.Options, Option{Message, []byte(why)})
	m.end(c)
	return Outcome{Reply: p, Limit: replyLimit(c.Packet), To: m.destination(c, Nak), Note: "refused: " + why}
}

// answer makes the reply that gives a client its address, for a time, and all that it should know. Without an address it is that to a
// DHCPINFORM, and of type 0 a BOOTREPLY.
func (m *machine) answer(c *asker, kind MessageType, a netip.Addr, term time.Duration) Outcome {
	p := m.begin(c, kind)
	p.YIAddr = a
	if kind != Offer {
		p.CIAddr = c.Packet.CIAddr // RFC 2131 §4.3.1, table 3; RFC 1542 §5.3
	}
	s := c.on[0]
	if other := c.subnet(a); other != nil {
		s = other
	}
	layers := m.layers(c, s)
	p.SIAddr = layers.nextServer()
	copy(p.SName[:], layers.serverName())
	copy(p.File[:], layers.bootFile())
	out := Outcome{Reply: p, Limit: replyLimit(c.Packet), To: m.destination(c, kind)}
	if kind == 0 {
		out.Limit = minSize // RFC 1534 §2, RFC 951 §3
		if p.Plain = c.Packet.Plain; p.Plain {
			return out
		}
	} else if a.IsValid() {
		m.putSeconds(LeaseTime, term)
		m.times(c.Packet.XID, term)
		if _, ok := c.Packet.Get(RapidCommit); ok && c.kind == Discover && kind == Ack {
			m.put(RapidCommit) // RFC 4039 §4
		}
	}
	m.reply.Options = append(m.reply.Options, Option{SubnetMask, s.mask}) // RFC 2132 §3.3: before the router
	wanted, _ := c.Packet.Get(ParameterRequestList)
	m.parameters(c, &layers, s, wanted)
	m.end(c)
	return out
}

// times adds T1 and T2, a little before half and seven eighths of the lease, so that clients do not all come at one moment. RFC 2131 §4.4.5.
func (m *machine) times(dice uint32, term time.Duration) {
	if seconds(term) == infinity {
		return
	}
	fuzz := term / 16 * time.Duration(dice%256) / 256
	m.putSeconds(RenewalTime, term/2-fuzz)
	m.putSeconds(RebindingTime, term*7/8-fuzz)
}

// layers are what the configuration says to a client, the most specific first: host, class, subnet, all.
type layers [4]*settings

func (m *machine) layers(c *asker, s *subnet) layers {
	l := layers{2: &s.settings, 3: &m.plan.common}
	if c.known != nil {
		l[0] = &c.known.settings
	}
	if c.class != nil {
		l[1] = &c.class.settings
	}
	return l
}

func (l *layers) nextServer() (a netip.Addr) {
	for _, s := range l {
		if s != nil && s.nextServer.IsValid() {
			return s.nextServer
		}
	}
	return a
}

func (l layers) serverName() string {
	for _, s := range l {
		if s != nil && s.serverName != "" {
			return s.serverName
		}
	}
	return ""
}

func (l *layers) bootFile() string {
	for _, s := range l {
		if s != nil && s.bootFile != "" {
			return s.bootFile
		}
	}
	return ""
}

func (l *layers) option(code Code) ([]byte, bool) {
	for _, s := range l {
		if s == nil {
			continue
		}
		for _, o := range s.options {
			if o.Code == code {
				return o.Value, true
			}
		}
	}
	return nil, false
}

// parameters adds what the client asked for, in its order, and then what else is configured, as RFC 2131 §4.3.1 orders. What does not fit is left out
// from the end.
func (m *machine) parameters(c *asker, l *layers, s *subnet, wanted []byte) {
	for _, b := range wanted {
		m.parameter(c, l, s, Code(b), true)
	}
	for _, layer := range l {
		if layer == nil {
			continue
		}
		for _, o := range layer.options {
			m.parameter(c, l, s, o.Code, false)
		}
	}
	m.parameter(c, l, s, SMTPServer, false)
	m.parameter(c, l, s, POP3Server, false)
}

// parameter adds one option, if there is a value and it is not there yet.
func (m *machine) parameter(c *asker, l *layers, s *subnet, code Code, asked bool) {
	if _, there := m.reply.find(code); there { // RFC 2131 §4.3.1: only once
		return
	}
	if value, ok := l.option(code); ok {
		m.reply.Options = append(m.reply.Options, Option{code, value})
		return
	}
	switch {
	case code == SMTPServer:
		m.mailServers(c, code, m.mail.SMTP)
	case code == POP3Server:
		m.mailServers(c, code, m.mail.POP3)
	case code == BroadcastAddress && asked:
		m.reply.Options = append(m.reply.Options, Option{code, s.broadcast})
	case asked:
		if value, ok := hostRequirements[code]; ok {
			m.put(code, value...)
		}
	}
}

// mailServers adds the site's own servers. RFC 2132 §8.14, §8.15.
func (m *machine) mailServers(c *asker, code Code, servers []netip.Addr) {
	if !m.plan.MailServers || len(servers) == 0 {
		return
	}
	start := len(m.scratch)
	for _, a := range servers {
		if a.IsUnspecified() {
			a = c.server
		}
		m.scratch = appendAddr(m.scratch, a)
	}
	m.reply.Options = append(m.reply.Options, Option{code, m.scratch[start:len(m.scratch):len(m.scratch)]})
}

// hostRequirements are the values that hosts have anyway, for clients that ask: RFC 2131 §4.3.1 and appendix A.
var hostRequirements = map[Code][]byte{
	19: {0},       // no router: RFC 1122 §3.1
	20: {0},       // RFC 1122 §3.3.5
	22: {2, 0x40}, // 576: RFC 1122 §3.3.2
	27: {0},       // RFC 1122 §3.3.3
	29: {0},       // RFC 1122 §3.2.2.9
	30: {0},       // RFC 1122 §3.2.2.9
	34: {0},       // RFC 1122 §2.3.1
	36: {0},       // RFC 1122 §2.3.3
	39: {0},       // RFC 1122 §4.2.3.6
}

// replyLimit is how many octets of UDP payload a client takes. RFC 2132 §9.10: its option counts the whole datagram and is 576 at least.
func replyLimit(p *Packet) int {
	v, ok := p.Get(MaximumMessageSize)
	if !ok || len(v) != 2 {
		return DefaultSize
	}
	return min(max(int(binary.BigEndian.Uint16(v))-headersSize, DefaultSize), MaxSize)
}

// destination is where a reply of a type goes. RFC 2131 §4.1, for BOOTP RFC 1542 §5.4.
func (m *machine) destination(c *asker, kind MessageType) Destination {
	to := Destination{Link: c.Link, Source: c.server}
	p := c.Packet
	switch {
	case (kind == 0 || c.kind == Inform) && given(p.CIAddr): // RFC 2131 §4.3.5: directly
		to.AddrPort = netip.AddrPortFrom(p.CIAddr, ClientPort)
	case given(p.GIAddr):
		to.AddrPort = netip.AddrPortFrom(p.GIAddr, ServerPort)
	case kind == Nak: // RFC 2131 §4.1: in all cases
		to.AddrPort = netip.AddrPortFrom(limited, ClientPort)
	case given(p.CIAddr):
		to.AddrPort = netip.AddrPortFrom(p.CIAddr, ClientPort)
	case c.kind == Inform && given(c.Source): // it forgot its address in ciaddr, and sends from it
		to.AddrPort = netip.AddrPortFrom(c.Source, ClientPort)
	case p.Broadcast() || !given(m.reply.YIAddr) || p.HType != ethernet || p.HLen != ethernetSize:
		to.AddrPort = netip.AddrPortFrom(limited, ClientPort)
	default:
		to.AddrPort, to.Hardware = netip.AddrPortFrom(m.reply.YIAddr, ClientPort), true
	}
	return to
}

const (
	ethernet     = 1 // RFC 1700, "Hardware Type"
	ethernetSize = 6
)
