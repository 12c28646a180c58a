package test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bothy/application/join"
	"bothy/test/peer"
)

// provider is a running provider, and how it is reached.
type joinable struct {
	*server
	smtp, calls, submission string
}

// startProvider runs one with the name "localhost", whose customers call with TLS from the first octet; more goes on in its table of odmr.
func startProvider(t *testing.T, more string) *joinable {
	t.Helper()
	p := &joinable{smtp: peer.FreePort(t), calls: peer.FreePort(t), submission: peer.FreePort(t)}
	p.server = startServer(t, fmt.Sprintf("hostname = \"localhost\"\n[smtp]\nlisten = [%q]\n[submission]\nlisten = [%q]\n[relay]\ndns = [\"127.0.0.1:9\"]\n[odmr]\nlisten_tls = [%q]\n%s",
		p.smtp, p.submission, p.calls, more))
	peer.WaitPort(t, p.calls)
	return p
}

// invite makes a customer and returns the words of the line for its site.
func (p *joinable) invite(t *testing.T, args ...string) []string {
	t.Helper()
	var answer struct{ Join string }
	out := bothy(t, append([]string{"customer", "add", "--config", p.file, "--no-dns", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &answer); err != nil || !strings.HasPrefix(answer.Join, "bothy join bothy1-") {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.Fields(answer.Join)[1:]
}

// highPorts makes the site's first configuration one that needs no root and disturbs nobody: every port is the kernel's choice but POP3.
func highPorts(t *testing.T, file string) (pop string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pop = peer.FreePort(t)
	replaced := strings.NewReplacer(`[":587"]`, `["127.0.0.1:0"]`, `[":465"]`, `["127.0.0.1:0"]`, `[":110"]`, `["127.0.0.1:0"]`, `[":995"]`, fmt.Sprintf("[%q]", pop)).Replace(string(text))
	if err := os.WriteFile(file, []byte(replaced), 0o644); err != nil {
		t.Fatal(err)
	}
	return pop
}

// TestJoin: from an empty directory, one command at the provider and one at the site, and mail goes both ways.
func TestJoin(t *testing.T) {
	t.Parallel()
	peer.Need(t, "curl")
	p := startProvider(t, "[route.lan]\n\"elsewhere.example\" = \"127.0.0.1:9\"\n")
	line := p.invite(t, "clinic.example")

	dir := t.TempDir()
	file := filepath.Join(dir, "bothy.toml")
	join := append(line, "--config", file, "--data", filepath.Join(dir, "data"), "--person", "nurse", "--no-start", "--json")
	var result struct {
		Provider, Account, Person, Password, Password_File string
		Domains                                            []string
		Changed                                            bool
	}
	if out := bothy(t, append(join, "--dry-run")...); !strings.Contains(out, `"clinic.example"`) {
		t.Errorf("dry run: %s", out)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("the dry run has left %v", entries)
	}
	out := bothy(t, join...)
	if err := json.Unmarshal([]byte(out), &result); err != nil || result.Account != "clinic.example" || result.Person != "nurse@clinic.example" || !result.Changed {
		t.Fatalf("%v: %s", err, out)
	}
	if info, err := os.Stat(result.Password_File); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("%s: %v, %v", result.Password_File, info.Mode(), err)
	}
	// The same again, as after a reply that was lost.
	if again := bothy(t, join...); !strings.Contains(again, `"changed": false`) {
		t.Errorf("again: %s", again)
	}
	pop := highPorts(t, file)
	bothy(t, "config", "check", "--config", file)
	peer.Start(t, program, "serve", "--config", file)
	peer.WaitPort(t, pop)

	mx := dial(t, p.smtp)
	mx.say(t, "250", "EHLO a.example")
	mx.say(t, "250", "MAIL FROM:<aunt@elsewhere.example>")
	mx.say(t, "250", "RCPT TO:<nurse@clinic.example>")
	mx.say(t, "354", "DATA")
	mx.say(t, "250", "Subject: inward\r\n\r\nhello\r\n.")
	ca := filepath.Join(dir, "data", "tls", "ca.pem")
	peer.Eventually(t, waitDelivery, "mail for the nurse", func() bool {
		out, _ := peer.Run(t, "", "curl", "--silent", "--cacert", ca, "--user", "nurse@clinic.example:"+result.Password, "pop3s://"+pop+"/1")
		return strings.Contains(out, "Subject: inward")
	})
	if out, code := peer.Run(t, "From: nurse@clinic.example\nTo: aunt@elsewhere.example\nSubject: outward\n\nhello\n", program, "--config", file, "sendmail", "-f", "nurse@clinic.example", "-t"); code != 0 {
		t.Fatalf("sendmail: %d %s", code, out)
	}
	peer.Eventually(t, waitDelivery, "the nurse's mail at the provider", func() bool {
		return strings.Contains(bothy(t, "queue", "list", "--config", p.file), "aunt@elsewhere.example")
	})

	// The site shows its provider, the provider its customer, and a session is open.
	if out := bothy(t, "status", "--config", file); !strings.Contains(out, p.calls[strings.LastIndex(p.calls, ":"):]) {
		t.Errorf("status:\n%s", out)
	}
	peer.Eventually(t, waitDelivery, "a session that lingers", func() bool {
		out, code := peer.Run(t, "", program, "fetch", "--config", file)
		return code == 0 && strings.Contains(out, "A session is open")
	})

	if out := bothy(t, "customer", "list", "--config", p.file); !strings.Contains(out, "lingering, for") {
		t.Errorf("customer list:\n%s", out)
	}
	if out := bothy(t, "customer", "show", "--config", p.file, "clinic.example"); !strings.Contains(out, ", from 127.0.0.1:") || !strings.Contains(out, "from 127.0.0.1\n") {
		t.Errorf("customer show:\n%s", out)
	}

	// The key that was registered logs in: fewer round trips than a password.
	if log := p.log.String(); !strings.Contains(log, "mechanism=EXTERNAL") || strings.Count(log, "call granted") != strings.Count(log, "domains=[clinic.example] mechanism=EXTERNAL") {
		t.Errorf("the site's calls:\n%s", log)
	}

	// Neither side has the secrets in its log.
	for _, secret := range []string{line[1], result.Password} {
		if strings.Contains(p.log.String(), secret) {
			t.Error("the provider's log has a secret")
		}
	}
}

// TestJoinRefusals: an invitation that is no good says why, and leaves no configuration behind.
func TestJoinRefusals(t *testing.T) {
	t.Parallel()
	p, other := startProvider(t, ""), startProvider(t, "")
	line := p.invite(t, "clinic.example")
	typo := line[1][:60] + "x" + line[1][61:]
	if typo == line[1] {
		typo = line[1][:60] + "y" + line[1][61:]
	}
	run := func(token string, args ...string) (string, int) {
		dir := t.TempDir()
		file := filepath.Join(dir, "bothy.toml")
		out, code := peer.Run(t, "", program, append([]string{"join", token, "--config", file, "--data", filepath.Join(dir, "data"), "--no-start"}, args...)...)
		if _, err := os.Stat(file); code != 0 && err == nil {
			t.Errorf("a configuration was written:\n%s", out)
		}
		return out, code
	}
	refused := func(what, token string, code int, text string) {
		t.Helper()
		if out, got := run(token); got != code || !strings.Contains(out, text) {
			t.Errorf("%s: exit %d, want %d with %q:\n%s", what, got, code, text, out)
		}
	}
	refused("a typing error", typo, 2, "missing or wrong")
	refused("half of it", line[1][:len(line[1])/2], 2, "missing or wrong")
	refused("something else", "hello", 2, "no invitation")

	elsewhere := other.invite(t, "clinic.example")
	bothy(t, "customer", "remove", "--config", other.file, "clinic.example", "--account")
	refused("one that was removed", elsewhere[1], 5, "does not know")

	bothy(t, "customer", "invite", "--config", p.file, "clinic.example", "--revoke")
	refused("taken back", line[1], 5, "was revoked")

	again := strings.Fields(strings.Split(bothy(t, "customer", "invite", "--config", p.file, "clinic.example"), "bothy join ")[1])[0]
	if out, code := run(again); code != 0 {
		t.Fatalf("the second invitation: exit %d\n%s", code, out)
	}
	refused("used twice", again, 5, "was used on")

	byAddress := p.invite(t, "ship.example", "--host", "127.0.0.1") // the key is what counts
	refused("by its address", byAddress[1], 0, "Joined")

	// Another server stands at the provider's port: it is not spoken to. Then there is none.
	late := p.invite(t, "late.example")
	p.Process.Kill()
	<-p.done
	impostor := startServer(t, fmt.Sprintf("hostname = \"localhost\"\n[odmr]\nlisten_tls = [%q]\n", p.calls))
	peer.WaitPort(t, p.calls)
	refused("another key", late[1], 5, "not the provider that made this invitation")
	impostor.Process.Kill()
	<-impostor.done
	refused("nobody", late[1], 6, "not reached")
}

// TestJoinSecondProvider: a site that has a provider joins another: both are called, and what was written by hand stays.
func TestJoinSecondProvider(t *testing.T) {
	t.Parallel()
	first, second := startProvider(t, ""), startProvider(t, "")
	a, b := first.invite(t, "clinic.example"), second.invite(t, "clinic.example")
	dir := t.TempDir()
	file := filepath.Join(dir, "bothy.toml")
	bothy(t, append(a, "--config", file, "--data", filepath.Join(dir, "data"), "--no-start")...)
	pop := highPorts(t, file)
	text, _ := os.ReadFile(file)
	if err := os.WriteFile(file, append([]byte("# by hand\n"), text...), 0o644); err != nil {
		t.Fatal(err)
	}
	_, running := peer.Start(t, program, "serve", "--config", file)
	peer.WaitPort(t, pop)
	if out, code := peer.Run(t, "", program, append(b, "--config", file)...); code != 2 || !strings.Contains(out, "clinic.example is fetched from localhost:") {
		t.Errorf("not shared: exit %d\n%s", code, out)
	}
	out := bothy(t, append(b, "--config", file, "--share", "clinic.example")...)
	if !strings.Contains(out, "reads its configuration anew") || !strings.Contains(out, "outgoing mail goes on to") {
		t.Errorf("%s", out)
	}
	after, _ := os.ReadFile(file)
	if !strings.HasPrefix(string(after), "# by hand\n") || strings.Count(string(after), "\n[[fetch]]\n") != 2 {
		t.Errorf("the file is\n%s", after)
	}
	type provider struct{ Provider, Stage string }
	peer.Eventually(t, waitDelivery, "both providers lingering", func() bool {
		var status struct{ Providers []provider }
		if err := json.Unmarshal([]byte(bothy(t, "status", "--json", "--config", file)), &status); err != nil {
			t.Fatal(err)
		}
		return len(status.Providers) == 2 && status.Providers[0].Stage == "lingering" && status.Providers[1].Stage == "lingering"
	})
	for i, p := range []*joinable{first, second} {
		mx := dial(t, p.smtp)
		mx.say(t, "250", "EHLO a.example")
		mx.say(t, "250", "MAIL FROM:<aunt@elsewhere.example>")
		mx.say(t, "250", "RCPT TO:<postmaster@clinic.example>")
		mx.say(t, "354", "DATA")
		mx.say(t, "250", "Subject: %d\r\n\r\nhello\r\n.", i)
		peer.Eventually(t, waitDelivery, "its mail is gone from the provider", func() bool {
			return strings.Contains(bothy(t, "queue", "list", "--config", p.file), "Nothing waits.")
		})
	}
	if strings.Contains(running.String(), "panic") {
		t.Error(running.String())
	}
}

// TestCustomerDNS: what the DNS lacks is shown, and a DNS that does not answer keeps nobody.
func TestCustomerDNS(t *testing.T) {
	t.Parallel()
	records := map[string]string{
		"provider.example. A":   "provider.example. 60 A 192.0.2.1",
		"good.example. MX":      "good.example. 60 MX 10 Provider.example.",
		"good.example. TXT":     "good.example. 60 TXT \"v=spf1 mx -all\"",
		"astray.example. MX":    "astray.example. 60 MX 5 mail.elsewhere.example.",
		"provider.example. MX":  "",
		"provider.example. TXT": "",
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ns := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if strings.HasPrefix(q.Question[0].Name, "silent.") {
			return
		}
		answer := new(dns.Msg).SetReply(q)
		answer.RecursionAvailable = true
		if text := records[q.Question[0].Name+" "+dns.TypeToString[q.Question[0].Qtype]]; text != "" {
			rr, err := dns.NewRR(text)
			if err != nil {
				t.Error(err)
			}
			answer.Answer = append(answer.Answer, rr)
		}
		_ = w.WriteMsg(answer)
	})}
	go ns.ActivateAndServe()
	t.Cleanup(func() { ns.Shutdown() })
	dir := t.TempDir()
	file := filepath.Join(dir, "bothy.toml")
	config := fmt.Sprintf("hostname = \"provider.example\"\ndata = %q\n[odmr]\nlisten = [\":366\"]\n[relay]\ndns = [%q]\n", filepath.Join(dir, "data"), conn.LocalAddr())
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		domain     string
		says, omit []string
	}{
		{"good.example", nil, []string{"lacks", "Not known"}},
		{"astray.example", []string{"The DNS lacks:", "astray.example.  MX  10 provider.example.   ; its mail goes to mail.elsewhere.example", `astray.example.  TXT  "v=spf1 mx -all"`}, []string{"A or AAAA"}},
		{"silent.example", []string{"Not known whether the DNS has:", "silent.example.  MX"}, []string{"lacks"}},
	} {
		began := time.Now()
		out := bothy(t, "customer", "add", "--config", file, c.domain)
		if !strings.Contains(out, "bothy join bothy1-") || time.Since(began) > 30*time.Second {
			t.Errorf("%s after %v: %s", c.domain, time.Since(began), out)
		}
		for _, s := range c.says {
			if !strings.Contains(out, s) {
				t.Errorf("%s: %q is not in\n%s", c.domain, s, out)
			}
		}
		for _, s := range c.omit {
			if strings.Contains(out, s) {
				t.Errorf("%s: %q is in\n%s", c.domain, s, out)
			}
		}
	}
}

// TestInvitationSendsNothing: who has an invitation, which may be used up, writes to nobody with it, whatever customers and other accounts may.
func TestInvitationSendsNothing(t *testing.T) {
	t.Parallel()
	p := startProvider(t, "take_mail = true\n")
	config, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	anybody := strings.Replace(string(config), "[submission]\n", "[submission]\nany_sender = true\n", 1)
	if err := os.WriteFile(p.file, []byte(anybody), 0o600); err != nil {
		t.Fatal(err)
	}
	p.restart(t)
	peer.WaitPort(t, p.calls)
	token, err := join.Parse(p.invite(t, "clinic.example")[1])
	if err != nil {
		t.Fatal(err)
	}
	bothy(t, "customer", "invite", "--config", p.file, "--revoke", "clinic.example")
	s := p.handheld(t)
	s.hello(t)
	s.say(t, "235", "AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00join:"+token.ID+"\x00"+token.Secret)))
	for _, from := range []string{"<>", "<postmaster@localhost>", "<nurse@clinic.example>"} {
		s.say(t, "530", "MAIL FROM:%s", from)
	}
	s.say(t, "503", "RCPT TO:<postmaster>")
}
