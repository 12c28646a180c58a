//go:build dhcp

package dhcp

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// tracing is how strace is called for answers to read what it writes.
func tracing(file string) []string {
	return []string{"strace", "-f", "-qq", "-xx", "-y", "-s", "65536", "-e", "trace=pwrite64,fdatasync,fsync,sendmsg,sendto,sendmmsg", "-o", file}
}

// quoted are the strings of a call's arguments that -xx wrote in hexadecimal. No regular expression: these lines are long and many.
func quoted(arguments string) (all []string) {
	for i, s := range strings.Split(arguments, `"`) {
		if i%2 == 1 && strings.HasPrefix(s, `\x`) {
			all = append(all, s)
		}
	}
	return all
}

// stored is a write to a log of leases.
type stored struct {
	file    string
	octets  []byte
	durable bool // a sync of the file that began after it has returned
}

// answers reads what strace wrote. It returns how many messages of the kind that client knows were sent, and before how many of them a record that names
// the client was written to a log of leases and a sync of that file begun and returned with success. client returns the octets by which the record names
// who is answered; nil for a message of another kind.
func answers(t *testing.T, trace string, client func([]byte) []byte) (sent, durable int) {
	t.Helper()
	f, err := os.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var log []*stored
	writing, syncing := map[string]*stored{}, map[string][]*stored{} // what a process is about
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		pid, call, _ := strings.Cut(lines.Text(), " ")
		call = strings.TrimSpace(call)
		name, arguments, begins := strings.Cut(call, "(")
		if resumed, ok := strings.CutPrefix(call, "<... "); ok {
			name, _, _ = strings.Cut(resumed, " ")
			begins = false
		}
		ends := !strings.HasSuffix(call, "<unfinished ...>")
		var file string
		if _, after, ok := strings.Cut(arguments, "<"); begins && ok {
			name, _, _ := strings.Cut(after, ">")
			file = plain(t, name)
		}
		switch {
		case name == "pwrite64":
			if q := quoted(arguments); begins && len(q) > 0 && strings.Contains(file, "/leases") {
				writing[pid] = &stored{file: file, octets: octets(t, q[0])}
			}
			if w := writing[pid]; ends && w != nil {
				log = append(log, w)
				delete(writing, pid)
			}
		case strings.HasSuffix(name, "sync"):
			if begins {
				syncing[pid] = nil
				for _, w := range log {
					if w.file == file {
						syncing[pid] = append(syncing[pid], w)
					}
				}
			}
			if ends && strings.HasSuffix(call, " = 0") {
				for _, w := range syncing[pid] {
					w.durable = true
				}
			}
		case begins && strings.HasPrefix(name, "send"):
			for _, q := range quoted(arguments) {
				id := client(octets(t, q))
				if id == nil {
					continue
				}
				sent++
				for _, w := range log {
					if w.durable && bytes.Contains(w.octets, id) {
						durable++
						break
					}
				}
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return sent, durable
}

// octets reads \x01\x02.
func octets(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, `\x`, ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// plain is the name of a file, which strace -xx writes in hexadecimal too.
func plain(t *testing.T, name string) string {
	t.Helper()
	if strings.HasPrefix(name, `\x`) {
		return string(octets(t, name))
	}
	return name
}
