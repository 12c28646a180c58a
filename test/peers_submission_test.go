package test

import (
	"strings"
	"testing"

	"bothy/test/peer"
)

// TestSwaksSubmits: what the site's submission ports take and refuse, as a client sees it. TestClientsSubmit has the mechanisms.
func TestSwaksSubmits(t *testing.T) {
	t.Parallel()
	peer.Need(t, "swaks")
	d := startDemo(t)
	nurse := d.ready.Accounts[0]
	for _, test := range []struct {
		name string
		args []string
		want int    // swaks's exit code: 0 sent, 23 MAIL refused, 28 AUTH failed, 35 not attempted
		text string // in what swaks prints
	}{
		{"PLAIN", []string{"--server", d.ready.Site.Submission, "--tls", "--auth", "PLAIN"}, 0, "250 2.0.0"},
		{"PLAIN, implicit TLS", []string{"--server", d.ready.Site.Submissions, "--tls-on-connect", "--auth", "PLAIN"}, 0, "250 2.0.0"},
		{"no login", []string{"--server", d.ready.Site.Submission, "--tls"}, 23, "530 5.7.0"},
		{"wrong password", []string{"--server", d.ready.Site.Submission, "--tls", "--auth", "PLAIN", "--auth-password", "wrong"}, 28, "535 5.7.8"},
		{"somebody else's name", []string{"--server", d.ready.Site.Submission, "--tls", "--auth", "PLAIN", "--from", "doctor@lab.clinic.example"}, 23, "550 5.7.1"},
		{"somebody else's From field", []string{"--server", d.ready.Site.Submission, "--tls", "--auth", "PLAIN", "--header", "From: doctor@lab.clinic.example"}, 26, "550 5.7.1"},
		{"no TLS", []string{"--server", d.ready.Site.Submission, "--auth", "PLAIN"}, 28, "did not advertise authentication"},
	} {
		t.Run(test.name, func(t *testing.T) {
			recipient := "aunt." + strings.ToLower(strings.Map(letters, test.name)) + "@elsewhere.example"
			args := []string{"--from", nurse.Address, "--to", recipient}
			if len(test.args) > 3 {
				args = append(args, "--auth-user", nurse.Address)
				if !strings.Contains(strings.Join(test.args, " "), "--auth-password") {
					args = append(args, "--auth-password", nurse.Password)
				}
			}
			out, code := peer.Run(t, "", "swaks", append(args, test.args...)...)
			if code != test.want || !strings.Contains(out, test.text) {
				t.Fatalf("exit %d, want %d with %q\n%s", code, test.want, test.text, out)
			}
			if code == 0 {
				d.relayedOut(t, recipient)
			}
		})
	}
}

func letters(r rune) rune {
	if strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", r) {
		return r
	}
	return -1
}

// TestCurlReads reads the maildrop with curl: POP3 with implicit TLS and with STLS, and each SASL mechanism curl knows.
func TestCurlReads(t *testing.T) {
	t.Parallel()
	peer.Need(t, "curl", "swaks")
	d := startDemo(t)
	nurse := d.ready.Accounts[0]
	out, code := peer.Run(t, "", "swaks", "--server", d.ready.Provider.SMTP, "--from", "aunt@elsewhere.example", "--to", nurse.Address,
		"--header", "Subject: for curl", "--body", ".a line that starts with a dot\n..two\nlast")
	if code != 0 {
		t.Fatal(out)
	}
	bothy(t, "fetch", "--config", d.ready.Configs["site"])
	var listed string
	peer.Eventually(t, waitDelivery, "the message in the maildrop", func() bool {
		listed = pop3(t, d, d.ready.Site.POP3S, 0, "")
		return strings.Count(listed, "\n") >= 3 // two of the journeys, and ours
	})
	last := strings.Fields(listed)[2*2]
	message := pop3(t, d, d.ready.Site.POP3S, 0, last)
	for _, want := range []string{"Return-Path: <aunt@elsewhere.example>", "Subject: for curl", "\n.a line that starts with a dot\r\n..two\r\nlast"} {
		if !strings.Contains(message, want) {
			t.Errorf("no %q in\n%s", want, message)
		}
	}
	for _, args := range [][]string{
		{"--ssl-reqd", "pop3://" + d.ready.Site.POP3 + "/" + last},
		{"--login-options", "AUTH=PLAIN", "pop3s://" + d.ready.Site.POP3S + "/" + last},
		{"--login-options", "AUTH=LOGIN", "pop3s://" + d.ready.Site.POP3S + "/" + last},
		{"-X", "DELE " + last, "--head", "pop3s://" + d.ready.Site.POP3S + "/"},
	} {
		out, code := peer.Run(t, "", "curl", append([]string{"--silent", "--show-error", "--cacert", d.ready.CA, "--user", nurse.Address + ":" + nurse.Password}, args...)...)
		if code != 0 {
			t.Errorf("curl %q: exit %d\n%s", args, code, out)
		}
	}
	if out, code := peer.Run(t, "", "curl", "--silent", "--show-error", "--cacert", d.ready.CA, "--user", nurse.Address+":wrong", "pop3s://"+d.ready.Site.POP3S+"/"); code != 67 {
		t.Errorf("a wrong password: exit %d, want 67 (login denied)\n%s", code, out)
	}
	if out := pop3(t, d, d.ready.Site.POP3S, 0, ""); strings.Count(out, "\n") != 2 {
		t.Errorf("after DELE there should be 2 messages:\n%s", out)
	}
}
