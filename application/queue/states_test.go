package queue

import (
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"bothy/lib/sim"
)

// The states of doc.go, one by one: the power fails there, and this is what is found.
func TestStates(t *testing.T) {
	at := func(call, within string) func(sim.Op) bool {
		return func(op sim.Op) bool { return op.Call == call && strings.Contains(op.Name, within) }
	}
	accept := func(size int, to ...string) func(*witness) error {
		return func(w *witness) error { _, err := w.accept(size, to...); return err }
	}
	settle := func(domain string) func(*witness) error {
		return func(w *witness) error { return w.settle(domain) }
	}
	flush := func(w *witness) error { _, err := w.accept(10, "other@z.example"); return err }
	nothing := func(*witness) error { return nil }
	const none, once = "", "one"
	for _, c := range []struct {
		state  string
		before []func(*witness) error
		crash  func(sim.Op) bool
		act    func(*witness) error // the power fails in it, or after it
		left   sim.Survival
		served string
		notice int
	}{
		{"S1", nil, at("write", bodyDir), accept(5000, "one@a.example"), sim.Cached, none, 0},
		{"S1", nil, at("sync", bodyDir), accept(5000, "one@a.example"), sim.Cached, none, 0},
		{"S2", nil, at("syncdir", bodyDir), accept(5000, "one@a.example"), sim.Cached, none, 0},
		{"S2", nil, at("write", logDir), accept(5000, "one@a.example"), sim.Synced, none, 0},
		{"S3", nil, at("sync", "01-"), accept(100, "one@a.example"), sim.Synced, none, 0},
		{"S3 as S4", []func(*witness) error{flush}, at("sync", "01-"), accept(100, "one@a.example"), sim.Cached, once, 0},
		{"S4", nil, nil, accept(100, "one@a.example"), sim.Synced, once, 0},
		{"S4 large", nil, nil, accept(5000, "one@a.example"), sim.Synced, once, 0},
		{
			"S5",
			[]func(*witness) error{accept(100, "one@a.example")},
			nil,
			func(w *witness) error { _, err := w.spool.Lease("kind/a.example", "x"); return err },
			sim.Synced, once, 0,
		},
		{"S6", []func(*witness) error{accept(100, "one@a.example")}, at("write", logDir), settle("a.example"), sim.Synced, once, 0},
		{"S6 over", []func(*witness) error{accept(100, "one@a.example"), settle("a.example")}, nil, flush, sim.Synced, none, 0},
		{"S7", []func(*witness) error{accept(100, "fail@a.example")}, at("sync", logDir), settle("a.example"), sim.Synced, "fail", 0},
		{"S7 as S8", []func(*witness) error{accept(100, "fail@a.example")}, at("sync", logDir), settle("a.example"), sim.Cached, none, 1},
		{"S8", []func(*witness) error{accept(100, "fail@a.example")}, nil, settle("a.example"), sim.Synced, none, 1},
		{"S9", []func(*witness) error{accept(5000, "one@a.example"), settle("a.example"), flush}, nil, nothing, sim.Synced, none, 0},
		{"S10", []func(*witness) error{accept(100, "one@a.example")}, at("rename", logDir), compactOnce, sim.Synced, once, 0},
		{"S11", []func(*witness) error{accept(100, "one@a.example")}, afterRename(), compactOnce, sim.Synced, once, 0},
		{"S11 dropped", []func(*witness) error{accept(100, "one@a.example")}, afterRename(), compactOnce, sim.Cached, once, 0},
		{"dropped", []func(*witness) error{accept(100, "one@a.example")}, nil, compactOnce, sim.Synced, once, 0},
	} {
		t.Run(c.state, func(t *testing.T) {
			w := newWitness(sim.NewDisk())
			if err := w.open(); err != nil {
				t.Fatal(err)
			}
			for _, step := range c.before {
				if err := step(w); err != nil {
					t.Fatal(err)
				}
			}
			if c.crash != nil {
				w.disk.SetCrashIf(c.crash)
			}
			if err := c.act(w); err != nil && c.crash == nil {
				t.Fatal(err)
			}
			w.disk = w.disk.PowerCut(c.left, 0) // before Close could write anything
			w.spool.Close()
			w.look(t, c.served, c.notice)
		})
	}
}

// compactOnce fills the first segment, so that it is no longer the last, and empties it.
func compactOnce(w *witness) error {
	for len(w.spool.log.Segments()) < 2 {
		if _, err := w.accept(600, "fill@d.example"); err != nil {
			return err
		}
	}
	return w.spool.compact()
}

// afterRename is true for the sync of the directory behind the rename of a segment.
func afterRename() func(sim.Op) bool {
	renamed := false
	return func(op sim.Op) bool {
		renamed = renamed || op.Call == "rename"
		return renamed && op.Call == "syncdir"
	}
}

// look opens what was left and compares who is served from a.example, how many notices wait, and which bodies have a file.
func (w *witness) look(t *testing.T, served string, notices int) {
	t.Helper()
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.spool.Close()
	var got []string
	apart := 0
	for {
		l, err := w.spool.Lease("kind/a.example", "look")
		if err != nil {
			t.Fatal(err)
		}
		if l == nil {
			break
		}
		if text, err := bodyOf(l); err != nil || text != w.bodies[l.Envelope.ID] {
			t.Errorf("%d octets, %v", len(text), err)
		}
		if l.entry.apart {
			apart++
		}
		for _, r := range l.Envelope.Recipients {
			got = append(got, r.Address.Local)
		}
	}
	if strings.Join(got, " ") != served {
		t.Errorf("served %v, want %q", got, served)
	}
	if _, all := w.spool.Waiting("kind/notice.example"); all != notices {
		t.Errorf("%d notices, want %d", all, notices)
	}
	if names, err := w.disk.List(path.Join("spool", bodyDir)); err != nil || len(names) != apart {
		t.Errorf("bodies %v, %v; %d wait", names, err, apart)
	}
}

// S12: the time since a pause that was not recorded counts, that since a recorded one does not.
func TestStatePause(t *testing.T) {
	for _, recorded := range []bool{false, true} {
		w := newWitness(sim.NewDisk())
		if err := w.open(); err != nil {
			t.Fatal(err)
		}
		id, err := w.accept(10, "one@a.example")
		if err != nil {
			t.Fatal(err)
		}
		w.disk.SetCrashIf(func(op sim.Op) bool { return !recorded && op.Call == "write" })
		w.spool.Pause("kind")
		if recorded {
			if _, err := w.accept(10, "other@z.example"); err != nil {
				t.Fatal(err)
			}
		}
		w.disk = w.disk.PowerCut(sim.Synced, 0)
		w.spool.Close()
		w.now = w.now.Add(time.Hour)
		if err := w.open(); err != nil {
			t.Fatal(err)
		}
		age := w.spool.index.clocks["kind"].age(w.spool.find(id).accepted, w.spool.now())
		if recorded != (age < time.Hour.Milliseconds()) {
			t.Errorf("recorded %v: age %v", recorded, time.Duration(age)*time.Millisecond)
		}
		w.spool.Close()
	}
}

// TestStatesAreShown holds that each state that doc.go numbers is in these tests, and in the page for operators.
func TestStatesAreShown(t *testing.T) {
	read := func(file string) string {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	tests, page := read("states_test.go"), read("../../docs/queue.md")
	states := regexp.MustCompile(`(?m)^//\t(S\d+) `).FindAllStringSubmatch(read("doc.go"), -1)
	if len(states) < 12 {
		t.Errorf("%d states: the pattern or doc.go is wrong", len(states))
	}
	for _, m := range states {
		whole := regexp.MustCompile(`["/ ]` + m[1] + `\b`)
		if !whole.MatchString(tests) || !whole.MatchString(page) {
			t.Errorf("%s is not in states_test.go, or not in docs/queue.md", m[1])
		}
	}
}
