package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bothy/application/smtp"
	"bothy/test/peer"
)

// nameserver is a DNS server on loopback whose answers are octets: it may say what no library would.
func nameserver(t *testing.T, answer func(query *dns.Msg, tcp bool) [][]byte) (address string) {
	t.Helper()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", udp.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close(); tcp.Close() })
	go func() {
		for packet := make([]byte, 4096); ; {
			n, from, err := udp.ReadFrom(packet)
			if err != nil {
				return
			}
			if query := new(dns.Msg); query.Unpack(packet[:n]) == nil {
				for _, reply := range answer(query, false) {
					udp.WriteTo(reply, from)
				}
			}
		}
	}()
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(10 * time.Second))
				c := &dns.Conn{Conn: conn}
				query, err := c.ReadMsg()
				if err != nil {
					return
				}
				for _, reply := range answer(query, true) {
					c.Write(reply)
				}
			}()
		}
	}()
	return udp.LocalAddr().String()
}

type liar struct {
	answer func(query, reply *dns.Msg, tcp bool) [][]byte
	says   string
}

// liars are names whose DNS is out of order, and what the operator reads of the mail for them.
var liars = map[string]liar{
	"silent.example":   {func(_, _ *dns.Msg, _ bool) [][]byte { return nil }, timeout},
	"servfail.example": {coded(dns.RcodeServerFailure), "SERVFAIL"},
	"refused.example":  {coded(dns.RcodeRefused), "REFUSED"},
	"notimp.example":   {coded(dns.RcodeNotImplemented), "NOTIMP"},
	"unproven.example": {coded(dns.RcodeNameError), "without proof"}, // as a router says whose uplink is gone
	"forged.example": {func(query, reply *dns.Msg, _ bool) [][]byte {
		reply.Rcode = dns.RcodeNameError
		reply.Ns = append(reply.Ns, record("other.test. 60 IN SOA ns.other.test. r.other.test. 1 2 3 4 5"))
		return pack(reply)
	}, "without proof"},
	"loop.example": {func(query, reply *dns.Msg, _ bool) [][]byte {
		reply.Answer = append(reply.Answer, record("loop.example. 60 IN CNAME b.loop.example."), record("b.loop.example. 60 IN CNAME loop.example."))
		return pack(reply)
	}, "CNAMEs"},
	"self.example": {func(query, reply *dns.Msg, _ bool) [][]byte {
		reply.Answer = append(reply.Answer, record("self.example. 60 IN CNAME self.example."))
		return pack(reply)
	}, "CNAMEs"},
	"chain.example": {func(query, reply *dns.Msg, _ bool) [][]byte { // each leads to one name more
		name := query.Question[0].Name
		reply.Answer = append(reply.Answer, record(name+" 60 IN CNAME x."+name))
		return pack(reply)
	}, "CNAMEs"},
	"otherid.example": {func(_, reply *dns.Msg, _ bool) [][]byte {
		reply.Id++
		return pack(reply)
	}, timeout},
	"otherquestion.example": {func(query, reply *dns.Msg, _ bool) [][]byte {
		reply.Question[0].Name = "elsewhere.example."
		reply.Answer = append(reply.Answer, record("elsewhere.example. 60 IN MX 0 ."))
		return pack(reply)
	}, "another question"},
	"query.example": {func(query, _ *dns.Msg, _ bool) [][]byte { return pack(query) }, "another question"}, // no answer at all
	"garbage.example": {func(query, _ *dns.Msg, _ bool) [][]byte {
		return [][]byte{{byte(query.Id >> 8), byte(query.Id), 0x81, 0x80, 0, 1, 0xff, 0xff, 0, 0, 0, 0, 0xc0, 0x0c}}
	}, ""},
	"pointers.example": {func(query, _ *dns.Msg, _ bool) [][]byte { // a compressed name that points at itself
		return [][]byte{{byte(query.Id >> 8), byte(query.Id), 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 0xc0, 0x0c, 0, 15, 0, 1, 0xc0, 0x12}}
	}, ""},
	"cutoff.example": {func(_, reply *dns.Msg, tcp bool) [][]byte { // truncated, and nobody there over TCP
		if tcp {
			return nil
		}
		reply.Truncated = true
		return pack(reply)
	}, ""},
	"huge.example": {func(query, reply *dns.Msg, tcp bool) [][]byte {
		if query.Question[0].Qtype != dns.TypeMX {
			reply.Rcode = dns.RcodeServerFailure
			return pack(reply)
		}
		if !tcp {
			reply.Truncated = true
			return pack(reply)
		}
		for i := range 1500 {
			reply.Answer = append(reply.Answer, record(fmt.Sprintf("huge.example. 60 IN MX %d mx%d.huge.example.", i, i)))
		}
		return pack(reply)
	}, "SERVFAIL"},
	"mx.example": { // the exchanger's own name has trouble
		func(query, reply *dns.Msg, _ bool) [][]byte {
			if query.Question[0].Qtype != dns.TypeMX {
				return nil
			}
			reply.Answer = append(reply.Answer, record("mx.example. 60 IN MX 10 a.mx.example."))
			return pack(reply)
		}, timeout},

	"gone.example": {func(_, reply *dns.Msg, _ bool) [][]byte { // RFC 2308 §2.1
		reply.Rcode = dns.RcodeNameError
		reply.Ns = append(reply.Ns, record("example. 60 IN SOA ns.example. r.example. 1 2 3 4 5"))
		return pack(reply)
	}, gone},
	"null.example": {func(query, reply *dns.Msg, _ bool) [][]byte { // RFC 7505 §3
		reply.Answer = append(reply.Answer, record("null.example. 60 IN MX 0 ."))
		return pack(reply)
	}, gone},
}

const (
	gone    = "given up"    // the two answers that are reason enough
	timeout = "i/o timeout" // ten seconds for a lookup, and a second one later
)

func coded(rcode int) func(_, reply *dns.Msg, _ bool) [][]byte {
	return func(_, reply *dns.Msg, _ bool) [][]byte {
		reply.Rcode = rcode
		return pack(reply)
	}
}

func record(s string) dns.RR {
	rr, err := dns.NewRR(s)
	if err != nil {
		panic(err)
	}
	return rr
}

func pack(m *dns.Msg) [][]byte {
	m.Compress = true
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return [][]byte{b}
}

// TestBadDNS: whatever the DNS does, mail waits, and the queue says why; only what a zone says of itself is a reason to give it up. Without
// -rounds it leaves out those that nobody answers.
func TestBadDNS(t *testing.T) {
	t.Parallel()
	listen := peer.FreePort(t)
	liars := maps.Clone(liars)
	maps.DeleteFunc(liars, func(_ string, l liar) bool { return l.says == timeout && *rounds == 0 })
	server := nameserver(t, func(query *dns.Msg, tcp bool) [][]byte {
		reply := new(dns.Msg).SetReply(query)
		reply.RecursionAvailable = true
		for name, liar := range liars {
			if asked := strings.TrimSuffix(query.Question[0].Name, "."); asked == name || strings.HasSuffix(asked, "."+name) {
				return liar.answer(query, reply, tcp)
			}
		}
		reply.Rcode = dns.RcodeNameError
		reply.Ns = append(reply.Ns, record("example. 60 IN SOA ns.example. r.example. 1 2 3 4 5"))
		return pack(reply)
	})
	s := startServer(t, fmt.Sprintf("hostname = \"mx.light.example\"\n[smtp]\nlisten = [%q]\n[route]\nrelay_from = [\"127.0.0.0/8\"]\n[relay]\ndns = [%q]\nmta_sts = \"off\"\n", listen, server))
	peer.WaitPort(t, listen)
	for name := range liars {
		if code := offer(t, listen, "bob@"+name); code != "250" {
			t.Fatalf("%s: %s", name, code)
		}
	}
	waiting := func() map[string]string {
		var list struct {
			Items []struct {
				Recipients []struct {
					Address   string
					LastReply smtp.Reply `json:"last_reply"`
				}
			}
		}
		out := bothy(t, "queue", "list", "--config", s.file, "--json")
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		reasons := map[string]string{}
		for _, item := range list.Items {
			for _, r := range item.Recipients {
				_, domain, _ := strings.Cut(r.Address, "@")
				reasons[domain] = ""
				if r.LastReply.Code != 0 {
					reasons[domain] = r.LastReply.Error()
				}
			}
		}
		return reasons
	}
	var reasons map[string]string
	tried := func() bool {
		reasons = waiting()
		for name, liar := range liars {
			if reason, waits := reasons[name]; waits && (reason == "" || liar.says == gone) {
				return false
			}
		}
		return true
	}
	for deadline := time.Now().Add(90 * time.Second); !tried() && time.Now().Before(deadline); {
		time.Sleep(time.Second) // a lookup that nobody answers takes ten
	}
	shown(t, "%d kinds of trouble, and nothing given up for one", len(liars)-2)
	for name, liar := range liars {
		reason, waits := reasons[name]
		switch {
		case waits == (liar.says == gone):
			t.Errorf("%s: waits %v, %q", name, waits, reason)
		case waits && (!strings.HasPrefix(reason, "451 4.4.3 DNS did not") || !strings.Contains(reason, liar.says)):
			t.Errorf("%s: the operator reads %q", name, reason)
		}
	}
}
