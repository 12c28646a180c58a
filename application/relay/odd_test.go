package relay

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// odd is a server that is like any other until one step of the dialogue.
type odd struct {
	offers string // its reply to EHLO
	step   int    // at which it is odd: 0 is the greeting, 5 the reply to the text; -1 at all of them
	do     oddity
	mended atomic.Bool // from now on it is like any other
	got    atomic.Int32
	most   atomic.Int64 // octets of a reply of its that the client took
}

// oddity is what it does in place of its reply; more says that the session goes on. It may be odd before it has read its line.
type oddity struct {
	name  string
	early func(conn net.Conn)
	late  func(conn net.Conn, reply string) (more bool)
	took  bool // nevertheless the message passes
}

const flood = 10 << 20

var oddities = []oddity{
	{name: "stops reading", early: func(net.Conn) { time.Sleep(time.Hour) }},
	{name: "says nothing", late: func(conn net.Conn, _ string) bool { io.Copy(io.Discard, conn); return false }},
	{name: "an octet a minute", late: func(conn net.Conn, reply string) bool {
		for _, octet := range []byte(strings.Replace(reply, " ", " so slowly ", 1)) {
			time.Sleep(time.Minute)
			if _, err := conn.Write([]byte{octet}); err != nil {
				return false
			}
		}
		return true
	}},
	{name: "closes", late: func(net.Conn, string) bool { return false }},
	{name: "vanishes", late: func(conn net.Conn, _ string) bool { conn.(interface{ Vanish() }).Vanish(); return false }},
	{name: "closes its half", late: func(conn net.Conn, _ string) bool {
		conn.(interface{ CloseWrite() error }).CloseWrite()
		io.Copy(io.Discard, conn)
		return false
	}},
	{name: "closes within a code", late: func(conn net.Conn, reply string) bool { io.WriteString(conn, reply[:2]); return false }},
	{name: "closes within a line", late: func(conn net.Conn, reply string) bool {
		io.WriteString(conn, strings.TrimSuffix(reply, "\r\n"))
		return false
	}},
	{name: "closes within a reply", late: func(conn net.Conn, reply string) bool {
		io.WriteString(conn, reply[:3]+"-there is more\r\n")
		return false
	}},
	{name: "421", late: func(conn net.Conn, _ string) bool { io.WriteString(conn, "421 4.3.2 going down\r\n"); return false }},
	{name: "421 and goes on", late: func(conn net.Conn, _ string) bool { io.WriteString(conn, "421 4.3.2 going down\r\n"); return true }},
	{name: "is no mail server", late: func(conn net.Conn, _ string) bool { io.WriteString(conn, "SSH-2.0-OpenSSH_9.2\r\n"); return true }},
	{name: "speaks TLS", late: func(conn net.Conn, _ string) bool {
		conn.Write([]byte{22, 3, 1, 0, 4, 1, 0, 0, 0, '\r', '\n'})
		return true
	}},
	{name: "changes its mind", late: func(conn net.Conn, reply string) bool {
		io.WriteString(conn, reply[:3]+"-yes\r\n550 no\r\n")
		return true
	}},
	{name: "a code of its own", late: func(conn net.Conn, _ string) bool { io.WriteString(conn, "999 beyond\r\n"); return true }},
	{name: "an empty line", late: func(conn net.Conn, _ string) bool { io.WriteString(conn, "\r\n"); return true }},
	{name: "ends lines with LF", late: func(conn net.Conn, reply string) bool {
		io.WriteString(conn, strings.ReplaceAll(reply, "\r\n", "\n"))
		io.Copy(io.Discard, conn)
		return false
	}},
	{name: "10 MB in lines", late: func(conn net.Conn, reply string) bool {
		return flooded(conn, strings.Repeat(reply[:3]+"-"+strings.Repeat("x", 500)+"\r\n", 20)) && say(conn, reply)
	}},
	{name: "10 MB in a line", late: func(conn net.Conn, reply string) bool {
		return say(conn, reply[:4]) && flooded(conn, strings.Repeat("x", 10_000)) && say(conn, "\r\n")
	}},
	{name: "10 MB of NUL", late: func(conn net.Conn, reply string) bool { return flooded(conn, strings.Repeat("\x00", 10_000)) }},

	{name: "two lines", took: true, late: func(conn net.Conn, reply string) bool {
		return say(conn, reply[:3]+"-first\r\n"+reply)
	}},
	{name: "answers before it is asked", late: func(conn net.Conn, reply string) bool {
		say(conn, reply+strings.Repeat("250 2.0.0 ok\r\n", 3)+"354 go\r\n250 2.0.0 ok\r\n")
		io.Copy(io.Discard, conn)
		return false
	}},
	{name: "answers twice", late: func(conn net.Conn, reply string) bool { return say(conn, reply+"250 2.0.0 ok\r\n") }},
	{name: "no text", took: true, late: func(conn net.Conn, reply string) bool {
		if strings.HasPrefix(reply, "250-") {
			return say(conn, reply)
		}
		return say(conn, reply[:3]+"\r\n")
	}},
	{name: "512 octets a line", took: true, late: long(512)},
	{name: "5000 octets a line", took: true, late: long(5000)},
	{name: "octet by octet", took: true, late: func(conn net.Conn, reply string) bool {
		for i := range len(reply) {
			time.Sleep(time.Second)
			if !say(conn, reply[i:i+1]) {
				return false
			}
		}
		return true
	}},
}

func say(conn net.Conn, s string) bool {
	_, err := io.WriteString(conn, s)
	return err == nil
}

// flooded writes s again and again.
func flooded(conn net.Conn, s string) bool {
	for range flood / len(s) {
		if !say(conn, s) {
			return false
		}
	}
	return true
}

// long puts a line of n octets before the reply.
func long(n int) func(net.Conn, string) bool {
	return func(conn net.Conn, reply string) bool {
		return say(conn, reply[:3]+"-"+strings.Repeat("x", n-6)+"\r\n"+reply)
	}
}

func (o *odd) serve(conn net.Conn) {
	r := bufio.NewReader(conn)
	now := func(step int) bool { return !o.mended.Load() && (o.step == step || o.step < 0) }
	answer := func(step int, reply string) bool {
		if !now(step) || o.do.late == nil {
			return say(conn, reply)
		}
		before := written(conn)
		more := o.do.late(conn, reply)
		o.most.Store(max(o.most.Load(), written(conn)-before))
		return more
	}
	begin := func(step int) {
		if now(step) && o.do.early != nil {
			o.do.early(conn)
		}
	}
	begin(0)
	if !answer(0, "220 mx.far.example\r\n") {
		return
	}
	for step := 1; ; step = min(step+1, 5) {
		begin(step)
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		reply := "250 2.0.0 ok\r\n"
		switch strings.ToUpper(verb) {
		case "EHLO":
			step, reply = 1, o.offers
		case "HELO":
			step = 1
		case "MAIL":
			step = 2
		case "RCPT":
			step = 3
		case "DATA":
			if step = 4; !answer(4, "354 go\r\n") {
				return
			}
			step = 5
			begin(5)
			for line != ".\r\n" {
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
			}
			o.got.Add(1)
		case "BDAT":
			step = 5
			size, _ := strconv.Atoi(strings.Fields(line)[1])
			if _, err := r.Discard(size); err != nil {
				return
			}
			o.got.Add(1)
		case "QUIT":
			say(conn, "221 bye\r\n")
			return
		}
		if !answer(step, reply) {
			return
		}
	}
}

func written(conn net.Conn) int64 { return conn.(interface{ Written() int64 }).Written() }

// TestOddPeers sends to servers that are odd in every step of the dialogue. Whatever they do, no message is given up for it, no try takes
// long, a reply of theirs takes little memory, others are served meanwhile, and when they have come to their senses they get their mail.
func TestOddPeers(t *testing.T) {
	offers := map[string]string{"plain": "250 mx.far.example\r\n", "all": "250-mx.far.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 8BITMIME\r\n"}
	for _, do := range oddities {
		t.Run(do.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := &internet{servers: map[string]func(net.Conn){}, errs: map[string]error{}}
				world := Static{Exchangers: map[string][]MX{}, Addresses: map[string][]netip.Addr{}}
				add := func(domain string, serve func(net.Conn)) {
					ip := netip.AddrFrom4([4]byte{192, 0, 2, byte(len(n.servers) + 1)})
					world.Exchangers[domain] = []MX{{10, "mx." + domain}}
					world.Addresses["mx."+domain] = []netip.Addr{ip}
					n.servers[netip.AddrPortFrom(ip, 25).String()] = serve
				}
				sane := newRemote(nil)
				add("sane.example", sane.serve)
				var servers []*odd
				var domains []string
				for _, name := range []string{"plain", "all"} {
					for step := -1; step <= 5; step++ {
						if name == "all" && step == 4 {
							continue // BDAT has no step of its own before the text
						}
						o := &odd{offers: offers[name], step: step, do: do}
						domain := fmt.Sprintf("%s-%d.example", name, step+1)
						add(domain, o.serve)
						servers, domains = append(servers, o), append(domains, domain)
					}
				}
				g := newRig(t, n, Options{Resolver: world}, plainConfig)
				defer g.stop()
				long := strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n", 4000) // more than fits into a pipe
				texts := map[bool]string{false: "hello", true: long}
				for _, domain := range domains {
					g.accept(texts[strings.HasPrefix(domain, "all")], "bob@"+domain)
				}
				g.accept("hello", "bob@sane.example")
				pass(time.Minute)
				if got := sane.taken(); got != "hello bob" {
					t.Errorf("another server got %q meanwhile", got)
				}
				pass(6 * time.Hour)

				if got := g.failures(); got != "" {
					t.Errorf("given up: %s", got)
				}
				g.mu.Lock()
				sent := slices.Clone(g.sent)
				g.mu.Unlock()
				for i, domain := range domains {
					tries, passed := 0, false
					for _, line := range sent {
						if strings.HasPrefix(line, domain+" ") {
							tries, passed = tries+1, passed || strings.HasSuffix(line, " 250")
						}
					}
					if passed && servers[i].got.Load() == 0 {
						t.Errorf("%s: taken for sent, and it is not there", domain)
					}
					if do.took && !passed {
						t.Errorf("%s: it did not pass: %s", domain, g.lastReply())
					}
					if !passed && (tries < 5 || tries > 20) {
						t.Errorf("%s: %d tries in six hours", domain, tries)
					}
					if most := servers[i].most.Load(); most > 2<<20 {
						t.Errorf("%s: %d octets of a reply were taken", domain, most)
					}
					servers[i].mended.Store(true)
				}
				pass(9 * time.Hour)
				for i, domain := range domains {
					if servers[i].got.Load() == 0 {
						t.Errorf("%s: the message is not there", domain)
					}
				}
				if st := g.queue.Stats(); st.Waiting != 0 {
					t.Errorf("%d are still waiting", st.Waiting)
				}
			})
		})
	}
}
