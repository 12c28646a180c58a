package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	site "bothy"
)

// teller shows the demo: in prose to a person, in JSON to a script.
type teller interface {
	ready(d *demo)
	chapter(title string)
	hop(at string, e site.Event)
	note(at string, when time.Time, text string)
	done(d *demo, stays bool)
}

// prose writes for a person. Times are milliseconds since the chapter began.
type prose struct {
	mu    sync.Mutex
	out   io.Writer
	start time.Time
}

func (p *prose) ready(d *demo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "A provider (%s) and a site (%s) run in this process, ready after %d ms.\n", providerHost, siteHost, time.Since(p.start).Milliseconds())
	fmt.Fprintf(p.out, "The site reaches the provider over one line that we can cut; the Internet is a stand-in at %s.\n", d.outside.address())
}

func (p *prose) chapter(title string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "\n%s\n", title)
	p.start = time.Now()
}

func (p *prose) hop(at string, e site.Event) {
	text := string(e.What)
	switch {
	case e.What == site.Received && e.Text == "":
		text += " a notice"
	case e.What == site.Received:
		text += " from " + e.Text
	case e.What == site.OnDisk:
		text += ", synced: 250"
	case e.What == site.Called:
		text += " the provider: ATRN"
	case e.What == site.Turned:
		text += " the connection round for " + e.Recipient
	case e.What == site.Relayed:
		text += " " + e.Recipient + ": " + e.Text
	case e.What == site.LinkUp || e.What == site.LinkDown:
		text += ": " + e.Text
	case e.Lane != "":
		text += " " + e.Recipient + " -> " + string(e.Lane)
	case e.Recipient != "":
		text += " to " + e.Recipient
	}
	p.note(at, e.At, text)
}

func (p *prose) note(at string, when time.Time, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "%7d ms  %-9s %s\n", max(0, when.Sub(p.start).Milliseconds()), at, text)
}

func (p *prose) done(d *demo, stays bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !stays {
		fmt.Fprintf(p.out, "\nEvery message arrived.\n")
		return
	}
	s, prov, ca := d.site.listen, d.provider.listen, d.caFile()
	fmt.Fprintf(p.out, "\nEvery message arrived. Now it is yours, until Ctrl-C. In another terminal:\n")
	for _, line := range []struct{ what, command string }{
		{"send outward from the site", fmt.Sprintf("swaks --server %s --tls --auth-user %s --auth-password %s --from %s --to %s", s["submission"][0], nurse, d.accounts[0].Password, nurse, outsider)},
		{"send inward from the Internet", fmt.Sprintf("swaks --server %s --from %s --to %s", prov["smtp"][0], outsider, nurse)},
		{"have the site call now", fmt.Sprintf("bin/bothy fetch --config %s", d.site.config)},
		{"read the nurse's mail", fmt.Sprintf("curl --cacert %s --user %s:%s pop3s://%s/1", ca, nurse, d.accounts[0].Password, s["pop3s"][0])},
		{"what waits, and why", fmt.Sprintf("bin/bothy queue list --config %s", d.provider.config)},
		{"a second customer waits for whoever calls", fmt.Sprintf("swaks --server %s --from %s --to mate@%s", prov["smtp"][0], outsider, d.ships[1].Domains[0])},
	} {
		fmt.Fprintf(p.out, "\n  %s:\n    %s\n", line.what, line.command)
	}
	fmt.Fprintf(p.out, "\n  its mail called for with fetchmail, which hands it to the Internet's stand-in here, and to any SMTP server you name instead:\n")
	fmt.Fprintf(p.out, "    (umask 077; cat > %[1]s <<'END'\n%[2]sEND\n    fetchmail -v --nodetach --nosyslog -f %[1]s)\n", filepath.Join(d.dir, "fetchmailrc"), fetchmailrc(d))
	fmt.Fprintf(p.out, "\n  the CA of both servers' certificates: %s\n", ca)
}

// fetchmailrc is what makes fetchmail the demo's second customer.
func fetchmailrc(d *demo) string {
	_, port, _ := strings.Cut(d.provider.listen["odmr"][0], ":")
	ship := d.ships[1]
	return fmt.Sprintf("poll 127.0.0.1 with proto ODMR service %s timeout 60\n  user %q password %q\n  fetchdomains %s\n  smtphost %q\n",
		port, ship.Account, ship.Password, strings.Join(ship.Domains, ","), strings.Replace(d.outside.address(), ":", "/", 1))
}

// jsonLines writes for a script: an object a line, "event" its first member, the first line "ready".
type jsonLines struct {
	mu    sync.Mutex
	out   io.Writer
	begun bool
	early []any // what happened before everything was ready
}

// services of one half, host:port each.
type services struct {
	SMTP        string `json:"smtp"`
	Submission  string `json:"submission"`
	Submissions string `json:"submissions"`
	ODMR        string `json:"odmr"`
	ODMRS       string `json:"odmrs"`
	POP3        string `json:"pop3"`
	POP3S       string `json:"pop3s"`
}

func servicesOf(h *half) services {
	p := h.listen
	return services{
		SMTP: p["smtp"][0], Submission: p["submission"][0], Submissions: p["submissions"][0],
		ODMR: p["odmr"][0], ODMRS: p["odmrs"][0], POP3: p["pop3"][0], POP3S: p["pop3s"][0],
	}
}

func (j *jsonLines) print(v any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.begun {
		j.early = append(j.early, v)
		return
	}
	json.NewEncoder(j.out).Encode(v)
}

// begin writes the first line and then what was early.
func (j *jsonLines) begin(v any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	lines := json.NewEncoder(j.out)
	for _, v := range append([]any{v}, j.early...) {
		lines.Encode(v)
	}
	j.begun, j.early = true, nil
}

func (j *jsonLines) ready(d *demo) {
	j.begin(struct {
		Event     string            `json:"event"`
		CA        string            `json:"ca"`
		Provider  services          `json:"provider"`
		Site      services          `json:"site"`
		Accounts  []login           `json:"accounts"`
		Customers []customerLogin   `json:"customers"`
		Outside   string            `json:"outside"`
		Configs   map[string]string `json:"configs"`
	}{
		"ready", d.caFile(), servicesOf(d.provider), servicesOf(d.site), d.accounts, d.ships, d.outside.address(),
		map[string]string{"provider": d.provider.config, "site": d.site.config},
	})
}

func (j *jsonLines) chapter(title string) {
	j.print(struct {
		Event string `json:"event"`
		Title string `json:"title"`
	}{"chapter", title})
}

func (j *jsonLines) hop(at string, e site.Event) {
	j.print(struct {
		Name  string `json:"event"`
		Where string `json:"where"`
		site.Event
	}{"hop", at, e})
}

func (j *jsonLines) note(at string, when time.Time, text string) {
	j.print(struct {
		Event string    `json:"event"`
		Where string    `json:"where"`
		At    time.Time `json:"at"`
		Text  string    `json:"text"`
	}{"note", at, when, text})
}

func (j *jsonLines) done(*demo, bool) {
	j.print(struct {
		Event string `json:"event"`
	}{"done"})
}
