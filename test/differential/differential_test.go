package differential

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/idna"
)

var (
	update = flag.Bool("update", false, "record what our server answers (with -peers: what all do) and write docs/differences.md")
	only   = flag.String("only", "", "play the inputs whose names this regular expression finds, and no others")
	peers  = flag.Bool("peers", false, "play the inputs to Postfix, Exim and OpenSMTPD too; needs root, Debian and the script mta")
)

// TestNames: an input is known by its name in the records.
func TestNames(t *testing.T) {
	names := map[string]bool{}
	for _, k := range Kinds() {
		for _, r := range k.Rules {
			if r.Why == "" || !strings.Contains(r.Why, "RFC ") {
				t.Errorf("%s, %s: no reason", k.Name, r.Name)
			}
			for _, in := range r.Inputs {
				name := recordName(k, in)
				if names[name] || strings.ContainsAny(name, "\n\t") {
					t.Errorf("%q: twice, or not a line", name)
				}
				names[name] = true
			}
		}
	}
	if len(names) < 500 {
		t.Errorf("%d inputs, want at least 500", len(names))
	}
}

// TestBothy plays every input to `bothy serve`.
func TestBothy(t *testing.T) {
	program := filepath.Join(t.TempDir(), "bothy")
	if out, err := exec.Command("go", "build", "-race", "-o", program, "bothy/cmd/bothy").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := StartBothy(t, program)
	pace := Pace{Reply: 10 * time.Second, First: 3 * time.Second, Quiet: 30 * time.Millisecond}
	if *update { // nobody knows how much is to come
		pace.Quiet = 500 * time.Millisecond
	}
	results := Run(t, s, regexp.MustCompile(*only), recorded(t, s.Name), pace)
	for _, r := range results {
		holds(t, r)
	}
	last := Input{Steps: steps(hello, mail, quit)}
	if p, err := last.Play(s.Border, nil, pace); err != nil || p.String() != "220 / 250 / 250 / 221 closed\n" {
		t.Errorf("after all inputs: %v, %v", p, err)
	}
	settle(t, s.Name, results)
}

// holds is what must be true of our server whatever the input.
func holds(t *testing.T, r *Result) {
	fail := func(format string, args ...any) {
		t.Errorf("%s: %s", recordName(r.Kind, r.Input), fmt.Sprintf(format, args...))
	}
	for _, f := range r.faults { // RFC 5321 §4.2.1, §4.5.3.1.5
		fail("a reply %s", f)
	}
	for _, reply := range r.replies {
		for _, line := range reply.lines { // RFC 2034 §4
			if m := enhanced.FindStringSubmatch(line); m != nil && m[1] != line[:1] {
				fail("the enhanced code does not agree: %q", line)
			}
		}
	}
	texts := r.Input.Texts
	for _, d := range r.Deliveries {
		// RFC 5321 §4.5.2: delivered as it was sent, and nothing that was no message.
		for len(texts) > 0 && texts[0] != d.Text && !apart(texts[0], d.Text) {
			texts = texts[1:]
		}
		if len(texts) == 0 {
			fail("delivered what was not sent as a message, or twice: %.200q", d.Text)
			continue
		}
		texts = texts[1:]
		for _, to := range d.To { // RFC 5321 §3.6.2: no relay, and no route to anywhere behind it
			local, domain, _ := strings.Cut(to, "@")
			if ascii, err := idna.Lookup.ToASCII(domain); err == nil {
				to = local + "@" + ascii
			}
			if !allowed.MatchString(to) {
				fail("mail for <%s> was passed on", to)
			}
		}
	}
}

// apart reports whether a text that would have gone on in our Received field was parted from it.
func apart(sent, delivered string) bool {
	return strings.ContainsAny(sent[:min(1, len(sent))], " \t") && delivered == "\r\n"+sent
}

var (
	enhanced = regexp.MustCompile(`^[2-5][0-9][0-9][ -]([0-9])\.[0-9]{1,3}\.[0-9]{1,3} `)
	allowed  = regexp.MustCompile(`^(?:"(?:[^"\\%!@]|\\.)*"|[^"@%!:,<> \x00-\x1f\x7f]+)@(?:far|bin)\.example$`)
)

// TestPeers plays every input to the others.
func TestPeers(t *testing.T) {
	if !*peers {
		t.Skip("the other servers are played with: -args -peers")
	}
	for _, one := range []struct {
		name  string
		start func(testing.TB) *Server
	}{{"Postfix", StartPostfix}, {"Exim", StartExim}, {"OpenSMTPD", StartOpenSMTPD}} {
		t.Run(one.name, func(t *testing.T) {
			s := one.start(t)
			results := Run(t, s, regexp.MustCompile(*only), recorded(t, s.Name), Pace{Reply: 30 * time.Second, First: 6 * time.Second, Quiet: 300 * time.Millisecond})
			settle(t, s.Name, results)
		})
	}
}

// TestDifferences holds that docs/differences.md is what the records say.
func TestDifferences(t *testing.T) {
	var records []Record
	for _, name := range []string{"Bothy", "Postfix", "Exim", "OpenSMTPD"} {
		content, err := os.ReadFile(recordFile(name))
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, readRecord(content))
	}
	var page bytes.Buffer
	writeDifferences(&page, records)
	const file = "../../docs/differences.md"
	if *update {
		if err := os.WriteFile(file, page.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if content, err := os.ReadFile(file); err != nil || !bytes.Equal(content, page.Bytes()) {
		t.Errorf("docs/differences.md is stale: go test ./test/differential -args -update (%v)", err)
	}
}

func recordFile(server string) string {
	return filepath.Join("testdata", strings.ToLower(server)+".txt")
}

// recorded is what the server said last time; nil when it is to be recorded anew.
func recorded(t *testing.T, server string) Record {
	t.Helper()
	if *update {
		return nil
	}
	content, err := os.ReadFile(recordFile(server))
	if err != nil {
		t.Fatal(err)
	}
	return readRecord(content)
}

// settle compares results with the record, or writes it.
func settle(t *testing.T, server string, results []*Result) {
	t.Helper()
	if *update {
		content, _ := os.ReadFile(recordFile(server)) // there may be none yet
		got := readRecord(content)
		for _, r := range results {
			got[recordName(r.Kind, r.Input)] = &r.Outcome
		}
		content = writeRecord(server, got)
		if err := os.WriteFile(recordFile(server), content, 0o644); err != nil {
			t.Fatal(err)
		}
		back := readRecord(content)
		for _, r := range results {
			if d := compare(back[recordName(r.Kind, r.Input)], &r.Outcome); d != "" {
				t.Errorf("%s does not read back: %s", recordName(r.Kind, r.Input), d)
			}
		}
		return
	}
	want := recorded(t, server)
	for _, r := range results {
		if d := compare(want[recordName(r.Kind, r.Input)], &r.Outcome); d != "" {
			t.Errorf("%s: %s%s", recordName(r.Kind, r.Input), d, quoted(r))
		}
	}
}

// quoted is what the server said, for a failure.
func quoted(r *Result) string {
	var b strings.Builder
	for _, reply := range r.replies {
		fmt.Fprintf(&b, "S: %s\n", strings.Join(reply.lines, " | "))
	}
	return b.String()
}
