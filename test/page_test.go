package test

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"bothy/test/peer"
)

// block is one example of a page: commands and, in a console, what they print.
type block struct {
	section string // its heading
	lines   []string
}

var example = regexp.MustCompile("(?ms)^(## [^\n]*)$|^```(?:sh|console)\n(.*?)^```")

// examples are the blocks of a page in which commands are typed.
func examples(t *testing.T, page string) (all []block) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	section := ""
	for _, m := range example.FindAllStringSubmatch(string(text), -1) {
		if m[1] != "" {
			section = m[1]
		} else {
			all = append(all, block{section, strings.Split(strings.TrimSpace(m[2]), "\n")})
		}
	}
	return all
}

// barrenDNS answers every question with nothing.
func barrenDNS(t *testing.T) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ns := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg).SetReply(q)
		answer.RecursionAvailable = true
		_ = w.WriteMsg(answer)
	})}
	go ns.ActivateAndServe()
	t.Cleanup(func() { ns.Shutdown() })
	return conn.LocalAddr().String()
}

// TestODMRPage: every command of docs/odmr.md works, in its order, and what the page shows of its answer is there: a provider, and a site that
// joins it with the line that the page's first command prints.
func TestODMRPage(t *testing.T) {
	t.Parallel()
	p := startProvider(t, "")
	text, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, strings.Replace(string(text), "127.0.0.1:9", barrenDNS(t), 1)) // what asks is the command, not the server
	dir := t.TempDir()
	site := filepath.Join(dir, "bothy.toml")
	sites := filepath.Join(dir, "sites.json") // which the page tells to write
	if err := os.WriteFile(sites, []byte("{\"domains\": [\"many.test.example\"]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	token, joined, ran := "", false, 0

	run := func(b block, args []string) string {
		t.Helper()
		file := p.file
		if strings.Contains(b.section, "CGNAT") && !slices.Contains(args, "customer") {
			file = site
		}
		if i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "bothy1-") }); i >= 0 {
			args[i] = token
			args = append(args, "--data", filepath.Join(dir, "data"), "--no-start")
		}
		if i := slices.Index(args, ">"); i >= 0 {
			args = args[:i]
		}
		if i := slices.Index(args, "sites.json"); i >= 0 {
			args[i] = sites
		}
		out, code := peer.RunEnv(t, []string{"BOTHY_CONFIG=" + file}, "", program, args...)
		if code != 0 && (args[0] != "fetch" || code != 3) {
			t.Errorf("bothy %s: exit %d\n%s", strings.Join(args, " "), code, out)
		}
		if _, rest, ok := strings.Cut(out, "bothy join "); ok {
			token = strings.Fields(rest)[0]
		}
		if args[0] == "join" && !joined {
			joined = true
			peer.WaitPort(t, highPortsServed(t, site))
		}
		ran++
		return out
	}
	ready := func(b block) { // the customers that the page speaks of are there, but for those that it is about to make
		for _, name := range []string{"clinic", "ship"} {
			_, _ = peer.Run(t, "", program, "customer", "remove", "--config", p.file, name, "--account")
			if !slices.ContainsFunc(b.lines, func(line string) bool { return strings.Contains(line, "customer add "+name) }) {
				bothy(t, "customer", "add", "--config", p.file, "--no-dns", "--password", name, name+".test.example")
			}
		}
	}
	for i, b := range examples(t, "../docs/odmr.md") {
		if i > 0 && strings.Contains(b.section, "provider") || strings.Contains(b.section, "works with") {
			if joined {
				bothy(t, "customer", "remove", "--config", p.file, "clinic.example", "--account") // the page's second part begins anew
				joined = false
			}
			ready(b)
		}
		out := ""
		for _, line := range b.lines {
			line = strings.ReplaceAll(line, "provider.example", "localhost") // as the test's is called
			command, typed := strings.CutPrefix(strings.TrimLeft(line, "#$ "), "bothy ")
			switch word := strings.Fields(line); {
			case typed && !strings.HasPrefix(line, "    "):
				out = run(b, strings.Fields(command))
			case len(word) > 0 && out != "" && word[0] != "started" && !strings.Contains(out, word[0]):
				t.Errorf("the page shows %q; the answer is\n%s", line, out)
			}
		}
	}
	if ran < 18 {
		t.Errorf("%d commands were found", ran)
	}
}

// highPortsServed starts a site that has joined, on ports of the kernel's choice but one, which it returns.
func highPortsServed(t *testing.T, file string) (pop string) {
	t.Helper()
	pop = highPorts(t, file)
	peer.Start(t, program, "serve", "--config", file)
	return pop
}
