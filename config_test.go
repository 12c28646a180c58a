package site

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bothy/application/sasl"
	"bothy/management/config"
)

// Each file is one that cannot work; its only error starts as the line below it says, behind the file's name.
func TestConfigFaults(t *testing.T) {
	dir := t.TempDir()
	const host = "hostname = 'mail.clinic.example'\n"
	for file, want := range map[string]string{
		"hostname = 'clinic'":                                        `1:12: hostname: "clinic" is not fully qualified`,
		"hostname = 'mail_x y'":                                      `1:12: hostname: "mail_x y" is not a domain name`,
		"hostname = mail.clinic.example":                             `1:12: hostname: not a value; text stands in quotes`,
		host + "data = ''":                                           `2:8: data: names no directory`,
		host + "log_level = 'inof'":                                  `2:13: log_level: wants one of "debug", "info", "warn", "error", not "inof"; did you mean "info"?`,
		host + "log_level = 'INFO+1'":                                `2:13: log_level: wants one of "debug", "info", "warn", "error", not "INFO+1"`,
		host + "smtp.listen = ['25']":                                `2:16: smtp.listen[1]: "25" is not host:port or :port`,
		host + "pop3.listen_tls = [':']":                             `2:20: pop3.listen_tls[1]: ":" is not host:port`,
		host + "odmr.listen = [':366x']":                             `2:16: odmr.listen[1]: ":366x": the port is neither`,
		host + "odmr.listen_tls = ['::1']":                           `2:20: odmr.listen_tls[1]: "::1" is not host:port`,
		host + "submission.listen = [':587', '127.0.0.1:99999']":     `2:30: submission.listen[2]: "127.0.0.1:99999": the port is neither`,
		host + "submission.listen_tls = ['127.0.0.256:465']":         `2:26: submission.listen_tls[1]: "127.0.0.256:465": the host is neither`,
		host + "smtp.listen = ['a b:25']":                            `2:16: smtp.listen[1]: "a b:25": the host is neither`,
		host + "smtp.listen = [':25']\npop3.listen = [':25']":        `3:16: pop3.listen[1]: :25 is listened on twice, also for smtp.listen`,
		host + "tls.key = 'key.pem'":                                 `2:11: tls.key: certificate and key go together`,
		host + "tls.certificate = 'none'\ntls.key = 'none'":          `2:19: tls.certificate: open none: no such file`,
		host + "fetch.ca_file = 'none'":                              `2:17: fetch.ca_file: open none: no such file`,
		host + "fetch.ca_file = '/dev/null'":                         `2:17: fetch.ca_file: no certificate in /dev/null`,
		host + "fetch.provider = 'p.example:odrm'":                   `2:18: fetch.provider: "p.example:odrm": the port is neither`,
		host + "route.smarthost = 'p.example:smtpx'":                 `2:19: route.smarthost: "p.example:smtpx": the port is neither`,
		host + "fetch.send = true\nfetch.provider = 'p.example:366'": `2:14: fetch[1].send: p.example:366 is not the host of route.smarthost`,
		host + "route.smarthost = 'p.example:587'\nfetch.tls = 'none'\nfetch.provider = 'P.example:366'\nfetch.send = true":                                                                           `5:14: fetch[1].send: the call is in clear (tls)`,
		host + "fetch.send = true\nfetch.provider = 'p.example:366'\nfetch.username = 'ward'\nfetch.password = 'x'\nroute.smarthost = 'p.example:587'\nrelay = {username = 'clinic', password = 'x'}": `2:14: fetch[1].send: the call logs in as "ward", and mail for the smarthost goes as "clinic"`,
		host + "submission.mechanisms = ['PLIAN']": `2:26: submission.mechanisms[1]: wants one of "EXTERNAL"`,
	} {
		name := filepath.Join(dir, "bothy.toml")
		if err := os.WriteFile(name, []byte(file+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := config.Load(name, new(Config))
		if err == nil {
			t.Errorf("%s: no error", file)
		} else if text := err.Error(); !strings.HasPrefix(text, name+":"+want) || strings.Contains(text, "\n") {
			t.Errorf("%s:\n%s\nwant %s", file, text, want)
		}
	}
}

// What the checks must not refuse.
func TestConfigGood(t *testing.T) {
	dir := t.TempDir()
	cert, key, err := ownCertificate(dir, "mail.clinic.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{
		"hostname = 'localhost'",
		"hostname = 'mail.clinic.example'\nsmtp.listen = [':25', '[::]:smtp', '[fe80::1%eth0]:25', 'mail.clinic.example:25', '127.0.0.1:0']\npop3.listen = ['127.0.0.1:0']",
		"hostname = 'mail.clinic.example'\nroute.smarthost = 'a.example:587'\nroute.smarthost_fallback = ['P.example:465']\nfetch.provider = 'p.example:366'\nfetch.send = true",
		"hostname = 'mail.clinic.example'\nlog_level = 'warn'\nsubmission.mechanisms = ['CRAM-MD5', 'PLAIN']",
		"hostname = 'mail.clinic.example'\ntls = {certificate = '" + cert + "', key = '" + key + "'}\nfetch.ca_file = '" + ownCA(dir) + "'",
	} {
		name := filepath.Join(dir, "bothy.toml")
		if err := os.WriteFile(name, []byte(file+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := config.Load(name, new(Config)); err != nil {
			t.Errorf("%s:\n%v", file, err)
		}
	}

	// The tag of submission.mechanisms names the mechanisms that there are.
	name := filepath.Join(dir, "all.toml")
	text := "hostname = 'localhost'\nsubmission.mechanisms = ['" + strings.Join(sasl.All(), "', '") + "']\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var cfg Config
	if err := config.Load(name, &cfg); err != nil || !slices.Equal(cfg.Submission.Mechanisms, sasl.All()) {
		t.Errorf("%v: %v", cfg.Submission.Mechanisms, err)
	}
}

// TestSubmissionAt25: RFC 6409 §3.1: a site may make port 25 one for submission.
func TestSubmissionAt25(t *testing.T) {
	cfg := Config{Hostname: "mail.clinic.example", Data: "data"}
	cfg.Submission.Listen = []string{":25"}
	cfg.CheckConfig(func(key string, err error) { t.Error(key, err) })
	if !slices.Contains(cfg.ports(), port{service: "submission", network: "tcp", address: ":25"}) {
		t.Errorf("%+v", cfg.ports())
	}
	cfg.SMTP.Listen = []string{":25"}
	var keys []string
	cfg.CheckConfig(func(key string, err error) { keys = append(keys, key) })
	if len(keys) != 1 {
		t.Errorf("two services at one address: %q", keys)
	}
}
