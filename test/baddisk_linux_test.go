package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bothy/test/peer"
)

// badDisk is a server whose data directory is on a disk that can fail, with one account, and mail that comes all the time.
type badDisk struct {
	*victim
	disk *disk
	mail *post
	box  *maildir
	busy sync.WaitGroup
	end  context.CancelFunc
}

func newBadDisk(t *testing.T, mib int64) *badDisk {
	t.Helper()
	d := newDisk(t, mib)
	listen := peer.FreePort(t)
	data := filepath.Join(d.dir, "data")
	x := &badDisk{disk: d, mail: newPost("keeper@light.example")}
	x.victim = newVictim(t, data, listen, fmt.Sprintf("hostname = \"mx.light.example\"\n[smtp]\nlisten = [%q]\n", listen))
	t.Cleanup(func() { // before the disk goes
		if x.Cmd != nil {
			x.kill()
		}
	})
	x.box = mailOf(data, "keeper@light.example")
	x.start(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("ahoy ahoy\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bothy(t, "account", "add", "--config", x.file, "--password-file", password, "keeper@light.example")
	return x
}

// load sends mail in several sessions until rest.
func (x *badDisk) load(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	x.end = end
	for range 8 {
		x.busy.Go(func() { x.mail.send(ctx, x.listen) })
	}
}

func (x *badDisk) rest() {
	x.end()
	x.busy.Wait()
}

// replug is what a person does with a disk that failed: stop, put it in again, start.
func (x *badDisk) replug(t *testing.T) {
	t.Helper()
	x.kill()
	x.disk.detach(t)
	if err := x.disk.attach(t); err != nil {
		t.Fatal(err)
	}
	x.start(t)
}

// lost waits until everything that got 250 is in the mailbox, and counts what is not.
func (x *badDisk) lost(t *testing.T, wait time.Duration) (n int) {
	t.Helper()
	for deadline := time.Now().Add(wait); ; time.Sleep(200 * time.Millisecond) {
		x.box.read(t)
		n = 0
		for token := range x.mail.promised() {
			if len(x.box.copies[token]) == 0 {
				n++
			}
		}
		if n == 0 || time.Now().After(deadline) {
			return n
		}
	}
}

// kept holds that nothing was lost, and nothing was delivered twice: the mailbox knows what it has.
func (x *badDisk) kept(t *testing.T) {
	t.Helper()
	if n := x.lost(t, time.Minute); n > 0 {
		t.Errorf("%d messages that got 250 are not in the mailbox", n)
	}
	for token, ids := range x.box.copies {
		if _, ok := x.mail.of(token); !ok || len(ids) > 1 {
			t.Errorf("%s: %d copies", token, len(ids))
		}
	}
}

// TestPowerCut cuts the power of a machine under load, again and again: from one moment on nothing reaches the disk any more, and what
// only memory had is gone, be it of the spool, of the mailboxes, of the directory or of the file system itself.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	x := newBadDisk(t, 256)
	rounds := often(3)
	for range rounds {
		before := len(x.mail.promised())
		x.load(t)
		peer.Eventually(t, waitDelivery, "mail to be accepted", func() bool { return len(x.mail.promised()) > before })
		time.Sleep(time.Duration(rand.IntN(900)) * time.Millisecond)
		x.disk.fail(t)
		x.rest()
		x.replug(t)
	}
	x.kept(t)
	if n := len(x.mail.promised()); n < rounds {
		t.Errorf("only %d messages were accepted", n)
	}
	shown(t, "cut %d times: accepted %d, lost %d", rounds, len(x.mail.promised()), x.lost(t, 0))
}

// TestFailingSync: the kernel tells once that a sync failed and would call the next one good, though the octets are gone. So nothing is
// accepted any more, and the process ends: only one that reads the disk anew knows what it holds. On a disk that is still bad a new one
// accepts nothing either.
func TestFailingSync(t *testing.T) {
	t.Parallel()
	x := newBadDisk(t, 256)
	rounds := often(1)
	for range rounds {
		before := len(x.mail.promised())
		x.load(t)
		peer.Eventually(t, waitDelivery, "mail to be accepted", func() bool { return len(x.mail.promised()) > before+20 })
		x.disk.fail(t)
		select {
		case <-x.ended:
		case <-time.After(time.Minute):
			t.Fatal("the process goes on")
		}
		if code := x.ProcessState.ExitCode(); code != 1 || !strings.Contains(x.log.String(), "the disk failed") {
			t.Errorf("exit %d", code)
		}
		time.Sleep(time.Second) // replies under way
		failed := len(x.mail.promised())
		x.try(t)
		time.Sleep(2 * time.Second)
		x.rest()
		if n := len(x.mail.promised()); n != failed {
			t.Errorf("%d messages accepted on a disk that fails", n-failed)
		}
		x.replug(t)
		if code := offer(t, x.listen, "keeper@light.example"); code != "250" {
			t.Errorf("%s after a restart on a disk that works", code)
		}
	}
	x.kept(t)
	shown(t, "failed %d times: accepted %d, lost %d", rounds, len(x.mail.promised()), x.lost(t, 0))
}

// TestStalledDisk freezes the file system for a while, as a disk that retries or a snapshot does: nobody gets a 250 meanwhile, nobody is
// refused, and then everything goes on.
func TestStalledDisk(t *testing.T) {
	t.Parallel()
	x := newBadDisk(t, 256)
	rounds := often(1)
	for range rounds {
		before := len(x.mail.promised())
		x.load(t)
		peer.Eventually(t, waitDelivery, "mail to be accepted", func() bool { return len(x.mail.promised()) > before+20 })
		x.disk.run(t, "fsfreeze", "--freeze", x.disk.dir)
		t.Cleanup(func() { x.disk.thaw() })
		time.Sleep(time.Second) // replies under way
		frozen := len(x.mail.promised())
		time.Sleep(time.Second)
		if n := len(x.mail.promised()); n != frozen {
			t.Errorf("%d messages accepted while nothing could be written", n-frozen)
		}
		x.disk.thaw()
		peer.Eventually(t, waitDelivery, "mail to be accepted again", func() bool { return len(x.mail.promised()) > frozen+20 })
		x.rest()
	}
	x.kept(t)
	shown(t, "stood still %d times: accepted %d, lost %d", rounds, len(x.mail.promised()), x.lost(t, 0))
}

// TestFullDiskInBody: the room runs out in the middle of a message. It gets 452 once all of it was read, leaves nothing behind, and finds
// its place when there is some.
func TestFullDiskInBody(t *testing.T) {
	t.Parallel()
	x := newBadDisk(t, 96)
	filler := filepath.Join(x.disk.dir, "filler")
	for _, verb := range []string{"DATA", "BDAT"} {
		for _, room := range []bool{false, true} {
			c := dial(t, x.listen)
			c.SetDeadline(time.Now().Add(time.Minute))
			c.say(t, "250", "EHLO a.example")
			c.say(t, "250", "MAIL FROM:<>")
			c.say(t, "250", "RCPT TO:<keeper@light.example>")
			half := "Subject: token-000000\r\n\r\n" + strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n", 5<<14) // 5 MiB
			want := "452"                                                                                                                         // RFC 3463 §3.4: 4.3.1
			if room {
				want = "250"
			}
			if verb == "DATA" {
				c.say(t, "354", "DATA")
				fmt.Fprint(c, half)
				if !room {
					fill(t, filler)
				}
				c.say(t, want, "%s.", strings.ReplaceAll(half, "\r\n.", "\r\n.."))
			} else {
				c.say(t, "250", "BDAT %d\r\n%s", len(half), half[:len(half)-2]) // say ends it with CRLF
				if !room {
					fill(t, filler)
				}
				c.say(t, want, "BDAT %d LAST\r\n%s", len(half), half[:len(half)-2])
			}
			os.Remove(filler)
			c.say(t, "250", "NOOP")
			peer.Eventually(t, waitDelivery, "no body to be left", func() bool {
				names, err := os.ReadDir(filepath.Join(x.data, "spool", "bodies"))
				return err == nil && len(names) == 0
			})
		}
	}
	peer.Eventually(t, waitDelivery, "both messages", func() bool { x.box.read(t); return len(x.box.copies["token-000000"]) == 2 })
	shown(t, "refused with 452 and taken once there was room, by DATA and by BDAT")
}
