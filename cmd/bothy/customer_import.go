package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"bothy/application/directory"
	"bothy/application/join"
	"bothy/application/sasl"
)

// customerImportCmd adds and changes customers.
type customerImportCmd struct {
	File     string `arg:"" help:"The customers as JSON; - is standard input."`
	DryRun   bool   `help:"Say what would be done, and what is wrong, and change nothing."`
	Password bool   `help:"Make passwords in place of invitations, for other software than Bothy. Takes some ms for each."`
	inviteFlags
}

func (customerImportCmd) Help() string {
	return `Reads customers as "bothy customer list --json" prints them: one JSON object for each, one behind the other or in an array. Most are one line:

    {"domains": ["clinic.example"]}
    {"account": "school", "domains": ["school.example", "lab.school.example"], "linger": "40m", "quota": {"octets": 500000000}}

The members are account (else it is called as the first domain), domains, min_interval, empty_turns, linger, long_poll, keep_large, host,
budget, largest, quota (octets, messages, lifetime, warn) and last_contact; times are written like "5m". password gives a new account one that
there is. "now" is not looked at. A customer that is there is changed: what an object does not name stays as it is. Customers that are not in
the file stay.

All is done or nothing: what is wrong is shown with file and line. The same file once more changes nothing.

For each new account one line of JSON is printed: its name, its domains, and the line to run at the site ("join"), or its password. They cannot
be had again; "bothy customer invite" makes others.

Examples:

    bothy customer import sites.json --dry-run
    bothy customer import sites.json > lines.json
    bothy customer list --json > customers.json`
}

func (c *customerImportCmd) Run(ctx context.Context, g *globals, std stdio) error {
	cfg, err := g.load()
	if err != nil {
		return err
	}
	name, text, err := c.read(std)
	if err != nil {
		return err
	}
	var whom join.Token
	if !c.Password && c.Expires == 0 {
		return exit{exitUsage, errors.New("--expires 0: no site could log in")}
	}
	if !c.Password && !c.DryRun {
		if whom, err = c.token(cfg); err != nil {
			return err
		}
	}
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		list, err := c.parse(ctx, d, name, text)
		if err != nil {
			return err
		}
		o := directory.ImportOptions{DryRun: c.DryRun, Now: time.Now(), Progress: (&counter{w: std.err, what: "logins made"}).tell}
		entered, err := d.Import(ctx, list.entries, o)
		if err != nil {
			return list.explain(err)
		}
		answers := json.NewEncoder(std.out)
		answers.SetEscapeHTML(false)
		count := map[directory.Change]int{}
		for i, e := range entered {
			count[e.Change]++
			if !e.Fresh || c.DryRun {
				continue
			}
			answer := customerAnswer{Account: e.Account, Domains: e.Domains}
			if list.made[i] {
				answer.Password = list.entries[i].Password
			}
			if e.Secret != "" {
				answer.Join, answer.Expires = line(whom, e.Invitation, e.Secret, e.Domains), e.Invitation.Expires
			}
			if err := answers.Encode(answer); err != nil {
				return fmt.Errorf("the customers are there, but not all of their lines were printed: `bothy customer invite` makes others: %w", err)
			}
		}
		verbs := [3]string{"added", "changed", "left as they are"}
		if c.DryRun {
			verbs = [3]string{"to be added", "to be changed", "as they are"}
		}
		_, err = fmt.Fprintf(std.err, "Customers %s: %d, %s: %d, %s: %d.\n",
			verbs[0], count[directory.Added], verbs[1], count[directory.Changed], verbs[2], count[directory.Unchanged])
		return err
	})
}

// maxImport bounds a file, in octets: some millions of customers.
const maxImport = 1 << 30

// read returns the whole input, and what to call it.
func (c *customerImportCmd) read(std stdio) (name string, text []byte, err error) {
	in := std.in
	name = "standard input"
	if c.File != "-" {
		file, err := os.Open(c.File)
		if err != nil {
			return "", nil, err
		}
		defer file.Close()
		in, name = file, c.File
	}
	text, err = io.ReadAll(io.LimitReader(in, maxImport+1))
	if err == nil && len(text) > maxImport {
		err = fmt.Errorf("%s: larger than %s: make several files of it", name, octets(maxImport))
	}
	return name, text, err
}

// customerFile is a file of customers.
type customerFile struct {
	name    string
	entries []directory.Entry
	made    []bool // the password was made here
	lines   []int  // where each begins
}

// parse reads customers. What an object does not name is as it is with the customer that there is.
func (c *customerImportCmd) parse(ctx context.Context, d *directory.Directory, name string, text []byte) (*customerFile, error) {
	list := &customerFile{name: name}
	dec := json.NewDecoder(bytes.NewReader(text))
	isArray := bytes.HasPrefix(bytes.TrimLeft(text, blank), []byte("["))
	if isArray {
		_, _ = dec.Token() // it is there
	}
	var errs []error
	number, at := 1, 0
	next := func() { // line and offset of what comes now
		start := int(dec.InputOffset())
		start += len(text[start:]) - len(bytes.TrimLeft(text[start:], blank+","))
		number += bytes.Count(text[at:start], []byte("\n"))
		at = start
	}
	for dec.More() {
		next()
		var members map[string]json.RawMessage
		if err := dec.Decode(&members); err != nil {
			return nil, errors.Join(append(errs, list.at(number, err))...)
		}
		e, made, err := c.entry(ctx, d, members)
		if err != nil {
			if errs = append(errs, list.at(number, err)); len(errs) >= maxFileErrors {
				break
			}
		}
		list.entries, list.made, list.lines = append(list.entries, e), append(list.made, made), append(list.lines, number)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if isArray {
		_, _ = dec.Token() // its end, or what stands in its place is left
	}
	next()
	switch rest := bytes.TrimRight(text[at:], blank); {
	case isArray && text[max(int(dec.InputOffset())-1, 0)] != ']':
		return nil, list.at(number, errors.New("the array does not end: is the file whole?"))
	case len(rest) > 0:
		return nil, list.at(number, fmt.Errorf("%.20q where a customer was to begin", rest))
	case len(list.entries) == 0:
		return nil, list.at(number, errors.New("there is no customer"))
	}
	return list, nil
}

const blank = " \t\r\n" // RFC 8259 §2

// maxFileErrors are as many as anybody reads.
const maxFileErrors = 100

func (c *customerImportCmd) entry(ctx context.Context, d *directory.Directory, members map[string]json.RawMessage) (e directory.Entry, made bool, err error) {
	var who struct {
		account, password string
		domains           []string
	}
	for name, to := range map[string]any{"account": &who.account, "domains": &who.domains, "password": &who.password} {
		if text, ok := members[name]; ok && err == nil {
			if err = json.Unmarshal(text, to); err != nil {
				return e, false, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	for name := range members { // another case is not looked at above, and would do for json.Unmarshal below
		if name != strings.ToLower(name) {
			return e, false, fmt.Errorf("unknown field %q", name)
		}
	}
	delete(members, "password")
	delete(members, "now")
	if who.account == "" && len(who.domains) > 0 {
		who.account = who.domains[0]
	}
	if prepared, err := sasl.Prepare(who.account); err == nil {
		who.account = prepared // as the directory has it
	}
	before, err := d.Customer(ctx, who.account)
	e.Was = &before
	switch {
	case err == nil:
		e.Customer = before
	case who.password != "":
		e.Password = who.password
	case c.Password:
		e.Password, made = rand.Text(), true // 26 characters, 130 bits
	default:
		e.Invite, e.Linger = c.Expires, lingers
	}
	text, err := json.Marshal(members)
	if err == nil {
		err = json.Unmarshal(text, &e.Customer)
	}
	e.Account = cmp.Or(e.Account, who.account)
	return e, made, err
}

// at is an error with its place.
func (l *customerFile) at(line int, err error) error {
	return fmt.Errorf("%s:%d: %s", l.name, line, strings.TrimPrefix(err.Error(), "json: "))
}

// explain gives what is wrong with entries their places.
func (l *customerFile) explain(err error) error {
	all, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	errs := slices.Clone(all.Unwrap())
	for i, err := range errs {
		if e, ok := errors.AsType[*directory.EntryError](err); ok {
			errs[i] = l.at(l.lines[e.Entry], e.Err)
			if e.With >= 0 {
				errs[i] = fmt.Errorf("%w, at line %d too", errs[i], l.lines[e.With])
			}
		}
	}
	return errors.Join(append(errs, errors.New("nothing was changed"))...)
}

// counter tells who waits how far something is, once a second.
type counter struct {
	w    io.Writer
	what string

	mu   sync.Mutex
	last time.Time
}

func (p *counter) tell(done, of int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.last.IsZero() {
		p.last = now
	}
	if now.Sub(p.last) >= time.Second {
		p.last = now
		fmt.Fprintf(p.w, "%d of %d %s\n", done, of, p.what)
	}
}
