package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// house is a config with every kind of field.
type house struct {
	Hostname   string `doc:"Name in greetings (RFC 5321 §4.1.1.1)." required:"true" example:"mail.clinic.example"`
	Data       string `doc:"State directory." default:"/var/lib/bothy" reload:"restart"`
	Submission submission
	TLS        tlsFiles            `doc:"Certificates." reload:"restart"`
	Customer   []customer          `doc:"Who calls for mail (RFC 2645)."`
	Odmr       *uplink             `doc:"The provider to call; absent where there is none."`
	Routes     map[string]route    `doc:"Next hops by domain."`
	Aliases    map[string][]string `doc:"Lists by name."`
}

type submission struct {
	limits
	Listen   []netip.AddrPort `doc:"Where to listen." default:"127.0.0.1:2587, [::1]:2587" max:"4"`
	Networks []netip.Prefix   `doc:"Who may connect."`
	Bind     netip.Addr       `doc:"Source address."`
	Mode     string           `doc:"TLS on the port." default:"starttls" oneof:"starttls implicit off"`
	Ratio    float64          `doc:"Share." default:"0.5" min:"0" max:"1"`
	Verbose  bool             `doc:"Log more."`
	Level    level            `doc:"How much to log." default:"info"`
	Internal func()           `toml:"-"`
}

type limits struct {
	CommandTimeout time.Duration `doc:"Wait for a client's next command (RFC 5321 §4.5.3.2.7)." default:"5m" min:"5m" max:"1d"`
	MessageSize    int64         `doc:"Largest message (RFC 1870 §3; at least 64 KiB, RFC 5321 §4.5.3.1.7)." default:"50MB" unit:"bytes" min:"64KiB"`
	Recipients     uint16        `doc:"Most recipients (RFC 5321 §4.5.3.1.8)." default:"1000" min:"100"`
}

type tlsFiles struct {
	Certificate string `toml:"cert" doc:"PEM file."`
	Key         string `doc:"Password of the key." secret:"true" max:"20"`
}

func (t *tlsFiles) Check() error {
	if t.Certificate == "" && t.Key != "" {
		return errors.New("a key without a certificate")
	}
	return nil
}

type customer struct {
	Name        string        `required:"true" doc:"Account."`
	Domains     []string      `doc:"What it calls for." min:"1" example:"clinic.example"`
	MinInterval time.Duration `doc:"Between calls (RFC 2645 §5.2.1)."`
}

func (c *customer) CheckConfig(report func(key string, err error)) {
	for i, d := range c.Domains {
		if !strings.Contains(d, ".") {
			report(fmt.Sprintf("domains[%d]", i+1), errors.New("a domain has a dot (RFC 2645 §5.2.1)"))
		}
	}
}

type uplink struct {
	Provider string        `required:"true" doc:"Host and port." example:"provider.example:366"`
	Every    time.Duration `default:"10m" min:"1m" doc:"Time between calls."`
	Password string        `secret:"true" required:"true" doc:"Of the account."`
}

type route struct {
	Host string `required:"true" example:"relay.example"`
	Port int    `default:"25" min:"1" max:"65535"`
}

// level is text that reads and writes itself.
type level int

func (l *level) UnmarshalText(b []byte) error {
	switch string(b) {
	case "info":
		*l = 1
	case "debug":
		*l = 2
	default:
		return errors.New("no level")
	}
	return nil
}

func (l level) MarshalText() ([]byte, error) { return []byte([]string{"", "info", "debug"}[l]), nil }

func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

const full = `
hostname = "mail.clinic.example"

[submission]
command_timeout = "1d"
message_size = 70_000
recipients = 0x80
listen = ["192.0.2.1:587"]
networks = ["192.0.2.0/24", "2001:db8::/32"]
bind = "2001:db8::1"
mode = "implicit"
ratio = 1
verbose = true
level = "debug"

[[customer]]
name = "clinic"
domains = ["clinic.example"]
min_interval = "1d12h"

[[customer]]
name = "school"
domains = [
  "school.example", # the first
  "pupils.school.example",
]

[odmr]
provider = "provider.example:366"
password_file = "secret"

[routes."far.example"]
host = "relay.example"

[aliases]
staff = ["a@clinic.example"]
`

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret"), "hunter2\n", 0o600)
	var got house
	if err := Load(write(t, filepath.Join(dir, "bothy.toml"), full, 0o600), &got); err != nil {
		t.Fatal(err)
	}
	want := house{
		Hostname: "mail.clinic.example", Data: "/var/lib/bothy",
		Submission: submission{
			limits:   limits{24 * time.Hour, 70_000, 128},
			Listen:   []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:587")},
			Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
			Bind:     netip.MustParseAddr("2001:db8::1"), Mode: "implicit", Ratio: 1, Verbose: true, Level: 2,
		},
		Customer: []customer{
			{"clinic", []string{"clinic.example"}, 36 * time.Hour},
			{"school", []string{"school.example", "pupils.school.example"}, 0},
		},
		Odmr:    &uplink{"provider.example:366", 10 * time.Minute, "hunter2"},
		Routes:  map[string]route{"far.example": {"relay.example", 25}},
		Aliases: map[string][]string{"staff": {"a@clinic.example"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestListOfOne: a list of one table may be written as that table, and what is wrong in it is called as it is written.
func TestListOfOne(t *testing.T) {
	var got house
	if _, err := load("f", []byte("hostname = 'h'\n[customer]\nname = 'clinic'\ndomains = ['clinic.example']\n"), &got, secrets{}); err != nil {
		t.Fatal(err)
	}
	if want := []customer{{"clinic", []string{"clinic.example"}, 0}}; !reflect.DeepEqual(got.Customer, want) {
		t.Errorf("%+v", got.Customer)
	}
	_, err := load("f", []byte("hostname = 'h'\n[customer]\nname = 1\n"), &got, secrets{})
	if err == nil || !strings.Contains(err.Error(), "f:3:8: customer.name: wants text") {
		t.Error(err)
	}
}

func TestDefaults(t *testing.T) {
	var got house
	if _, err := load("bothy.toml", []byte("hostname = 'h'"), &got, secrets{}); err != nil {
		t.Fatal(err)
	}
	want := house{Hostname: "h", Data: "/var/lib/bothy", Submission: submission{
		limits: limits{5 * time.Minute, 50_000_000, 1000},
		Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:2587"), netip.MustParseAddrPort("[::1]:2587")},
		Mode:   "starttls", Ratio: 0.5, Level: 1,
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Each file in testdata/errors is wrong in some way; the errors beside it are what an operator reads.
func TestErrors(t *testing.T) {
	files, err := filepath.Glob("testdata/errors/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			before := house{Hostname: "untouched"}
			into := before
			s := secrets{
				file: func(name string, _ int64) ([]byte, os.FileMode, error) {
					if name == "empty" {
						return []byte("\n"), 0o600, nil
					}
					return nil, 0, errors.New("open " + name + ": no such file")
				},
				env: func(string) (string, bool) { return "", false },
			}
			_, err = load("bothy.toml", data, &into, s)
			if err == nil {
				t.Fatal("loaded")
			}
			if !reflect.DeepEqual(into, before) {
				t.Error("a config with errors changed what was there")
			}
			golden(t, strings.TrimSuffix(file, ".toml")+".want", err.Error()+"\n")
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		write(t, file, got, 0o644)
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n--- got\n%s--- want\n%s", file, got, want)
	}
}

func loaded(t *testing.T, text string) house {
	t.Helper()
	var h house
	s := secrets{
		file: func(string, int64) ([]byte, os.FileMode, error) { return []byte("hunter2"), 0o600, nil },
		env:  func(string) (string, bool) { return "hunter3", true },
	}
	if _, err := load("bothy.toml", []byte(text), &h, s); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return h
}

// What Print writes loads again to the same config, but for secrets.
func TestPrint(t *testing.T) {
	h := loaded(t, full)
	var b bytes.Buffer
	if err := Print(&b, h); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "hunter2") {
		t.Error("the secret is shown")
	}
	golden(t, "testdata/print.toml", b.String())
	again := loaded(t, b.String())
	if again.Odmr.Password != hidden {
		t.Errorf("password printed as %q", again.Odmr.Password)
	}
	again.Odmr.Password = h.Odmr.Password
	if !reflect.DeepEqual(again, h) {
		t.Errorf("got  %+v\nwant %+v", again, h)
	}
}

func TestDocs(t *testing.T) {
	var b bytes.Buffer
	if err := Docs(&b, house{}); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/reference.md", b.String())
}

func TestTemplate(t *testing.T) {
	values := Values{
		"hostname":                   "mail.clinic.example",
		"submission.listen":          []string{"127.0.0.1:587"},
		"submission.command_timeout": "10m",
		"odmr.provider":              "provider.example:366",
		"odmr.password_file":         "odmr.secret",
		"customer":                   []Values{{"name": "clinic", "domains": []string{"clinic.example"}}},
		"routes":                     map[string]Values{"far.example": {"host": "relay.example", "port": 2525}},
	}
	var b bytes.Buffer
	if err := Template(&b, house{}, values); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/template.toml", b.String())
	h := loaded(t, b.String())
	if h.Submission.CommandTimeout != 10*time.Minute || h.Odmr.Password != "hunter2" || h.Customer[0].Domains[0] != "clinic.example" ||
		h.Routes["far.example"].Port != 2525 || h.Submission.MessageSize != 50_000_000 {
		t.Errorf("got %+v", h)
	}
}

// Every key that a template shows as a comment works when the mark is taken away.
func TestTemplateUncommented(t *testing.T) {
	var b bytes.Buffer
	if err := Template(&b, house{}, nil); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "# ") {
			line = line[1:]
		}
		text.WriteString(strings.Replace(line, `name = ""`, `name = "x"`, 1))
	}
	h := loaded(t, strings.Replace(text.String(), `cert = ""`, `cert = "x"`, 1))
	if h.Hostname != "mail.clinic.example" || len(h.Customer) != 1 || h.Odmr == nil || h.Routes["name"].Port != 25 {
		t.Errorf("got %+v", h)
	}
}

func TestTemplateRefuses(t *testing.T) {
	for name, values := range map[string]Values{
		"unknown": {"hostnam": "x"},
		"below":   {"submission.command_timeout": "1s"},
		"kind":    {"submission.verbose": "perhaps"},
		"inner":   {"customer": []Values{{"nam": "x"}}},
		"address": {"submission.listen": []string{"nowhere"}},
	} {
		if err := Template(new(bytes.Buffer), house{}, values); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestDiff(t *testing.T) {
	a := loaded(t, full)
	b := loaded(t, strings.NewReplacer(
		`mode = "implicit"`, `mode = "off"`,
		`password_file = "secret"`, `password_env = "SECRET"`,
		`hostname =`, "data = '/srv'\nhostname =",
		`[routes."far.example"]`, `[routes."near.example"]`,
		`domains = ["clinic.example"]`, `domains = ["clinic.example", "b.example"]`,
	).Replace(full))
	b.TLS.Certificate = "new.pem"
	changes, err := Diff(a, &b)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, c := range changes {
		fmt.Fprintln(&text, c)
	}
	golden(t, "testdata/diff.txt", text.String())
	if same, err := Diff(a, a); err != nil || len(same) > 0 {
		t.Errorf("a config differs from itself: %v, %v", same, err)
	}
}

func TestWarnings(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret"), "hunter2\r\n", 0o644)
	file := write(t, filepath.Join(dir, "bothy.toml"), "hostname = 'h'\n[tls]\ncert = 'c'\nkey = 'abc'\n[odmr]\nprovider = 'p'\npassword_file = 'secret'", 0o644)
	var h house
	warnings, err := Check(file, &h)
	if err != nil {
		t.Fatal(err)
	}
	if h.Odmr.Password != "hunter2" {
		t.Errorf("password %q", h.Odmr.Password)
	}
	if got := strings.ReplaceAll(warnings.Error(), dir+"/", ""); got != "bothy.toml:4:7: tls.key: a secret in a file with mode 0644; chmod 640 it, or use key_file\n"+
		"bothy.toml:7:17: odmr.password_file: secret has mode 0644; chmod 640 it" {
		t.Errorf("warnings:\n%s", got)
	}
}

func TestVerify(t *testing.T) {
	if err := Verify(house{}); err != nil {
		t.Error(err)
	}
	for name, v := range map[string]any{
		"default": struct {
			A time.Duration `default:"5"`
		}{},
		"default below": struct {
			A int `default:"5" min:"6"`
		}{},
		"bound": struct {
			A int64 `unit:"bytes" max:"10XB"`
		}{},
		"type": struct{ A chan int }{},
		"any":  struct{ A any }{},
		"bytes": struct {
			A string `unit:"bytes"`
		}{},
		"secret": struct {
			A *string `secret:"true"`
		}{},
		"twice": struct {
			AB, Ab int `toml:"x"`
		}{},
		"sibling": struct {
			A     string `secret:"true"`
			AFile string
		}{},
		"nested": struct{ A [][]string }{},
		"map":    struct{ A map[int]string }{},
		"order": struct {
			A netip.Addr `min:"::1"`
		}{},
		"loop": loop{},
	} {
		if err := Verify(v); err == nil {
			t.Errorf("%s: no error", name)
		} else if testing.Verbose() {
			t.Logf("%s: %v", name, err)
		}
	}
}

type loop struct{ Next *loop }

func TestPeek(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "bothy.toml"), full, 0o600)
	var h house
	if err := Peek(file, &h); err != nil || h.Odmr.Password != hidden {
		t.Errorf("%v, password %q", err, h.Odmr.Password)
	}
	if err := Load(file, &h); err == nil {
		t.Error("loaded without the secret's file")
	}
}

// What Load finds wrong with files that the configuration names, Peek does not look at.
func TestCheckFiles(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "bothy.toml"), "ca = 'none.pem'\n", 0o600)
	var a authority
	if err := Peek(file, &a); err != nil {
		t.Error(err)
	}
	if err := Load(file, &a); err == nil || !strings.HasSuffix(err.Error(), ":1:6: ca: none") {
		t.Errorf("got %v", err)
	}
}

type authority struct{ CA string }

func (*authority) CheckFiles(report func(string, error)) { report("ca", errors.New("none")) }

// What a broken line was to say is not checked as if it were empty.
func TestCheckBroken(t *testing.T) {
	var r routes
	_, err := load("f", []byte("via = clinic.example\n"), &r, secrets{})
	if want := `f:1:7: via: not a value; text stands in quotes: via = "..."`; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// A type that reads itself has words of its own for what it does not know; those of oneof are better.
func TestOneofText(t *testing.T) {
	var v struct {
		Level level `oneof:"info debug"`
	}
	_, err := load("f", []byte("level = 'inof'\n"), &v, secrets{})
	if want := `f:1:9: level: wants one of "info", "debug", not "inof"; did you mean "info"?`; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// A check names the key it means; the error stands where that key does.
func TestCheckPlace(t *testing.T) {
	var r routes
	_, err := load("f", []byte("via.\"a.example\" = 'x'\n[[list]]\n[[list]]\nn = 1\n"), &r, secrets{})
	want := "f:1:19: via.\"a.example\": bad\nf:4:5: list[2].n: bad\nf:1:1: nowhere.at: bad"
	if err == nil || !sameLines(err.Error(), want) {
		t.Errorf("got\n%v", err)
	}
}

type routes struct {
	Via  map[string]string
	List []struct{ N int }
}

func (*routes) CheckConfig(report func(string, error)) {
	for _, key := range []string{`via."a.example"`, "list[2].n", "nowhere.at"} {
		report(key, errors.New("bad"))
	}
}

func sameLines(a, b string) bool {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

func TestMissingFile(t *testing.T) {
	if err := Load(filepath.Join(t.TempDir(), "none.toml"), &house{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
