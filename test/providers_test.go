package test

import (
	"bufio"
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bothy/test/peer"
)

// standing is what `bothy status --json` says of one provider.
type standing struct {
	Provider, Outcome, Error string
	Failures                 int
	Last                     time.Time `json:"last_call"`
	Next                     time.Time `json:"next_call"`
}

// slack is how late a busy machine may note that a call has ended.
const slack = 2 * time.Second

// standings are those of a site, by provider.
func standings(t *testing.T, file string) map[string]standing {
	t.Helper()
	var status struct{ Providers []standing }
	if err := json.Unmarshal([]byte(bothy(t, "status", "--json", "--config", file)), &status); err != nil {
		t.Fatal(err)
	}
	all := map[string]standing{}
	for _, p := range status.Providers {
		all[p.Provider] = p
	}
	return all
}

// plainProvider runs one whose customers call in clear, with the account "clinic".
func plainProvider(t *testing.T, domain string, more ...string) *joinable {
	t.Helper()
	p := &joinable{smtp: peer.FreePort(t), calls: peer.FreePort(t)}
	p.server = startServer(t, fmt.Sprintf("hostname = \"provider.example\"\n[smtp]\nlisten = [%q]\n[odmr]\nlisten = [%q]\n", p.smtp, p.calls))
	peer.WaitPort(t, p.calls)
	bothy(t, append([]string{"customer", "add", "--config", p.file, "--no-dns", "--password-file", secretFile(t), "clinic", domain}, more...)...)
	return p
}

// secretFile holds the password of every account of these tests.
func secretFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("ahoy ahoy\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// fetches is the table of a provider that is called in clear.
func fetches(provider, domain, interval string) string {
	return fmt.Sprintf("[[fetch]]\nprovider = %q\ntls = \"none\"\nusername = \"clinic\"\npassword = \"ahoy ahoy\"\ndomains = [%q]\ninterval = %q\n", provider, domain, interval)
}

// receive brings a message to the provider, from outside.
func (p *joinable) receive(t *testing.T, subject, to string) {
	t.Helper()
	mx := dial(t, p.smtp)
	mx.say(t, "250", "EHLO a.example")
	mx.say(t, "250", "MAIL FROM:<aunt@elsewhere.example>")
	mx.say(t, "250", "RCPT TO:<%s>", to)
	mx.say(t, "354", "DATA")
	mx.say(t, "250", "Subject: %s\r\n\r\nhello\r\n.", subject)
	mx.say(t, "221", "QUIT")
}

// empty waits until nothing waits at the provider: the site has it all.
func (p *joinable) empty(t *testing.T) {
	t.Helper()
	peer.Eventually(t, waitDelivery, "an empty queue at "+p.calls, func() bool {
		out, code := peer.Run(t, "", program, "queue", "list", "--config", p.file)
		return code == 0 && strings.Contains(out, "Nothing waits.")
	})
}

// TestMinInterval: RFC 2645 §5.2.1: who calls again too soon hears 450 and the seconds, on the line and from bothy fetch, whose exit code is 4; the site's
// own schedule comes back when they are over, and not before, whatever its interval says.
func TestMinInterval(t *testing.T) {
	t.Parallel()
	const seconds = 10
	p := plainProvider(t, "clinic.example", "--min-interval", fmt.Sprintf("%ds", seconds))
	bothy(t, "customer", "add", "--config", p.file, "--no-dns", "--password-file", secretFile(t), "--min-interval", "1h", "--cram", "school", "school.example")

	// By hand: the first is answered, the next one not, in the same session or another; a refused one does not begin the interval anew.
	wish := regexp.MustCompile(`^450 4\.7\.0 ATRN refused: call again in (\d+) seconds\r\n$`)
	first := dial(t, p.calls)
	first.say(t, "250", "EHLO mail.school.example")
	first.cram(t, "school")
	first.say(t, "453", "ATRN school.example")
	left := func(line string) int {
		t.Helper()
		m := wish.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%q does not say when", line)
		}
		n, _ := strconv.Atoi(m[1])
		return n
	}
	early := left(first.say(t, "450", "ATRN"))
	first.say(t, "221", "QUIT")
	second := dial(t, p.calls)
	second.say(t, "250", "EHLO mail.school.example")
	second.cram(t, "school")
	if late := left(second.say(t, "450", "ATRN school.example")); early > 3600 || early < 3500 || late > early {
		t.Errorf("an interval of 3600 seconds has %d left, then %d", early, late)
	}

	site := startServer(t, "hostname = \"mail.clinic.example\"\n"+fetches(p.calls, "clinic.example", "1h"))
	peer.Eventually(t, waitDelivery, "the account", func() bool {
		_, code := peer.Run(t, "", program, "account", "add", "--config", site.file, "--password-file", secretFile(t), "nurse@clinic.example")
		return code == 0
	})
	byHand, told := 0, 0 // calls that were refused, and the seconds that the last one heard
	peer.Eventually(t, 2*waitDelivery, "two calls one behind the other", func() bool {
		out, code := peer.Run(t, "", program, "fetch", "--config", site.file)
		if code == 3 {
			return false
		}
		m := regexp.MustCompile(`450 4\.7\.0 ATRN refused: call again in (\d+) seconds`).FindStringSubmatch(out)
		if code != 4 || m == nil || !strings.Contains(out, "The call failed: later") {
			t.Fatalf("fetch: exit %d, want 4 and the seconds\n%s", code, out)
		}
		byHand++
		told, _ = strconv.Atoi(m[1])
		return told > seconds/2 // else the next one may come before it is looked at
	})
	s := standings(t, site.file)[p.calls]
	soonest, latest := time.Duration(told)*time.Second*9/10, time.Duration(told+1)*time.Second*11/10
	if wait := s.Next.Sub(s.Last); s.Outcome != "later" || s.Failures == 0 || wait < soonest || wait > latest+slack {
		t.Errorf("the next call is %v after the last, want %v to %v: %+v", wait, soonest, latest, s)
	}
	if out := bothy(t, "status", "--config", site.file); !strings.Contains(out, ": the provider asks to call later: 450 4.7.0 ATRN refused: call again in ") {
		t.Errorf("status:\n%s", out)
	}
	p.receive(t, "after a while", "nurse@clinic.example")
	p.empty(t) // the schedule has called again by itself, of an hour's interval
	peer.Eventually(t, waitDelivery, "the end of that call", func() bool { return standings(t, site.file)[p.calls].Outcome == "fetched" })
	if n := len(regexp.MustCompile(`account=clinic .*reply="450`).FindAllString(p.log.String(), -1)); n != byHand {
		t.Errorf("the provider has refused %d calls of the site, want the %d that were made by hand", n, byHand)
	}
}

// cram logs in with CRAM-MD5 (RFC 2195).
func (s *session) cram(t *testing.T, account string) {
	t.Helper()
	line := s.say(t, "334", "AUTH CRAM-MD5")
	challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line[4:]))
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(md5.New, []byte("ahoy ahoy"))
	mac.Write(challenge)
	s.say(t, "235", "%s", base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s %x", account, mac.Sum(nil))))
}

// staged is a provider that takes any login and answers ATRN as it is told.
func staged(t *testing.T, reply string) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	answers := map[string]string{"EHLO": "250-staged.example\r\n250-AUTH CRAM-MD5\r\n250 ATRN", "AUTH": "334 PDFAc3RhZ2VkLmV4YW1wbGU+", "ATRN": reply, "QUIT": "221 bye"}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprint(conn, "220 staged.example ESMTP\r\n")
				for r := bufio.NewScanner(conn); r.Scan(); {
					verb, _, _ := strings.Cut(r.Text(), " ")
					answer, known := answers[verb]
					if !known { // the response to the challenge
						answer = "235 welcome"
					}
					fmt.Fprint(conn, answer+"\r\n")
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// TestSeveralProviders: what one provider brings waits for no other. One that is down, one that wants to be called later, one that is in trouble and one
// without mail are told apart, each with its own time of the next call; and when the first is back, so is its mail.
func TestSeveralProviders(t *testing.T) {
	t.Parallel()
	living, down := plainProvider(t, "clinic.example"), plainProvider(t, "ward.example")
	down.receive(t, "from the one that was down", "nurse@ward.example")
	down.Process.Kill()
	<-down.done
	busy, troubled, idle := staged(t, "450 4.7.0 ATRN refused: call again in 500 seconds"), staged(t, "451 4.3.0 Unable to process ATRN request now"), staged(t, "453 4.3.2 You have no mail")
	living.receive(t, "from the living", "nurse@clinic.example")

	// The accounts are there before the first call.
	site := startServer(t, "hostname = \"mail.clinic.example\"\n")
	for _, a := range []string{"nurse@clinic.example", "nurse@ward.example"} {
		peer.Eventually(t, waitDelivery, "the account "+a, func() bool {
			_, code := peer.Run(t, "", program, "account", "add", "--config", site.file, "--password-file", secretFile(t), a)
			return code == 0
		})
	}
	config, err := os.ReadFile(site.file)
	if err != nil {
		t.Fatal(err)
	}
	site.write(t, string(config)+fetches(down.calls, "ward.example", "10s")+fetches(busy, "busy.example", "10m")+fetches(troubled, "troubled.example", "10m")+
		fetches(idle, "idle.example", "10m")+fetches(living.calls, "clinic.example", "10m"))
	began := time.Now()
	site.Process.Signal(syscall.SIGHUP)
	living.empty(t)
	t.Logf("the mail of the living provider came within %v", time.Since(began).Round(time.Millisecond))

	all := standings(t, site.file)
	peer.Eventually(t, waitDelivery, "the end of every first call", func() bool {
		all = standings(t, site.file)
		for _, s := range all {
			if s.Next.IsZero() {
				return false
			}
		}
		return len(all) == 5
	})
	for _, want := range []struct {
		provider, outcome, text string
		failures                int
		soonest, latest         time.Duration // of the next call
	}{
		{living.calls, "fetched", "", 0, 9 * time.Minute, 11 * time.Minute},
		{down.calls, "unreachable", "connection refused", 1, 5 * time.Second, 11 * time.Second},
		{busy, "later", "450 4.7.0", 1, 450 * time.Second, 552 * time.Second},
		{troubled, "unable", "451 4.3.0", 1, 30 * time.Second, 90 * time.Second},
		{idle, "no mail", "", 0, 9 * time.Minute, 11 * time.Minute},
	} {
		s := all[want.provider]
		wait := s.Next.Sub(s.Last)
		known := s.Outcome == want.outcome && strings.Contains(s.Error, want.text) && (want.text != "" || s.Error == "")
		if count := s.Failures == want.failures || want.failures > 0 && s.Failures > want.failures && want.provider == down.calls; !known || !count || wait < want.soonest || wait > want.latest+slack {
			t.Errorf("next in %v, want %v to %v, %q: %+v", wait, want.soonest, want.latest, want.outcome, s)
		}
	}
	out, code := peer.Run(t, "", program, "fetch", "--config", site.file)
	for _, line := range []string{
		down.calls + ": The call failed: unreachable", busy + ": The call failed: later", troubled + ": The call failed: unable",
		idle + ": There was no mail.", living.calls + ": There was no mail.",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("fetch does not say %q:\n%s", line, out)
		}
	}
	if code != 4 && code != 6 && code != 7 { // the first that failed counts
		t.Errorf("fetch: exit %d", code)
	}
	text := bothy(t, "status", "--config", site.file)
	for _, words := range []string{`unreachable, \d+ times: `, `later, 2 times: `, `unable, [23] times: `, `no mail`} {
		if !regexp.MustCompile(words).MatchString(text) {
			t.Errorf("status does not say %q:\n%s", words, text)
		}
	}

	peer.Start(t, program, "serve", "--config", down.file) // it is back
	down.empty(t)
	peer.Eventually(t, waitDelivery, "its call in the status", func() bool {
		s := standings(t, site.file)[down.calls]
		return s.Outcome == "fetched" && s.Failures == 0
	})
}
