package checkpoint_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/checkpoint"
	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/smtp"
	"bothy/lib/sim"
	"bothy/lib/wal"
)

// mailboxes routes everything to one lane.
type mailboxes struct{}

func (mailboxes) Lane(*message.Envelope, *message.Recipient) queue.Lane {
	return "mailbox/clinic.example"
}

// host is a server with its spool and what it keeps, on one disk.
type host struct {
	disk   *sim.Disk
	spool  *queue.Spool
	server *smtp.Server
}

// start opens what is on disk, as a program does that starts.
func start(t *testing.T, disk *sim.Disk) *host {
	t.Helper()
	h := &host{disk: disk}
	var err error
	h.spool, err = queue.Open(context.Background(), queue.Options{
		Dir: "spool", FS: disk, Router: mailboxes{}, Config: queue.Config{SegmentSize: wal.MinSegmentSize, InlineBody: 4 << 10, FreeSpace: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	checkpoints, err := checkpoint.Open(checkpoint.Options{Dir: "partial", FS: disk, Accepted: h.spool.Transaction})
	if err != nil {
		t.Fatal(err)
	}
	h.server = &smtp.Server{Hostname: "provider.example", Accept: h.spool, Checkpoints: checkpoints, PeerName: "site"}
	return h
}

// session is one connection over path, on which the client sends mail until something breaks.
func (h *host) session(path sim.Path, mail ...smtp.Outgoing) (written, heard int64, err error) {
	near, far := sim.Pipe(path)
	served := make(chan struct{})
	go func() {
		defer close(served)
		defer far.Close()
		_ = h.server.Serve(context.Background(), smtp.NewConn(far)) // how it ends is the cut's doing
	}()
	c := smtp.NewClient(smtp.NewConn(near), "site.example", smtp.Timeouts{})
	if err = c.Greet(context.Background()); err == nil {
		err = c.SendMany(context.Background(), func(yield func(smtp.Outgoing) bool) {
			for _, m := range mail {
				if !yield(m) {
					return
				}
			}
		}, 10)
	}
	if err == nil {
		_ = c.Quit(context.Background())
	}
	near.Close()
	<-served
	return near.Written(), far.Written(), err
}

// sender has mail, and knows what became of it.
type sender struct {
	texts []string
	taken []bool
}

// outgoing is what is still to be sent.
func (s *sender) outgoing() (all []smtp.Outgoing) {
	for i, text := range s.texts {
		if s.taken[i] {
			continue
		}
		all = append(all, smtp.Outgoing{
			Envelope: &message.Envelope{
				ReversePath: message.Address{Local: "a", Domain: "site.example"},
				Recipients:  []message.Recipient{{Address: message.Address{Local: fmt.Sprint("b", i), Domain: "clinic.example"}}},
			},
			Body: strings.NewReader(text), Size: int64(len(text)), TransID: smtp.TransID("site.example", fmt.Sprint(i)),
			Done: func(replies []smtp.Reply) { s.taken[i] = replies[0].Code == 250 },
		})
	}
	return all
}

// texts are a short message, one that is kept in part, and another short one.
func texts() []string {
	return []string{
		"Subject: one\r\n\r\n.\r\n", "Subject: two\r\n\r\n" + strings.Repeat(".a line of text\r\n", 3000) + "and no end", "Subject: three\r\n\r\n\r\n",
	}
}

// check holds that each message is there once, whole.
func (h *host) check(t *testing.T, want []string) {
	t.Helper()
	count := map[string]int{}
	for {
		l, err := h.spool.Lease("mailbox/clinic.example", "test")
		if err != nil {
			t.Fatal(err)
		}
		if l == nil {
			break
		}
		body, err := l.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		body.Close()
		_, text2, _ := strings.Cut(string(text), "Subject: ")
		count["Subject: "+text2]++
		if err := l.Settle([]queue.Verdict{{Done: true}}); err != nil {
			t.Fatal(err)
		}
	}
	for i, text := range want {
		if count[text] != 1 {
			t.Errorf("message %d came %d times", i, count[text])
		}
	}
	if len(count) != len(want) {
		t.Errorf("%d messages came, want %d", len(count), len(want))
	}
}

// TestCutAtEveryOctet breaks a session after each octet of the commands and replies, and many of the text, in each manner; every time the next
// session goes on, with the same server or one that was killed and started again. Each message comes once, never twice, whatever was lost.
func TestCutAtEveryOctet(t *testing.T) {
	var to [2]int64
	synctest.Test(t, func(t *testing.T) {
		h, s := start(t, sim.NewDisk()), &sender{texts(), make([]bool, 3)}
		var err error
		if to[sim.Dialer], to[sim.Listener], err = h.session(sim.Path{}, s.outgoing()...); err != nil {
			t.Fatal(err)
		}
		h.check(t, s.texts)
		h.spool.Close()
	})
	for _, how := range []sim.How{sim.Reset, sim.Lost, sim.Closed, sim.Silent} {
		for _, side := range []sim.Side{sim.Dialer, sim.Listener} {
			for _, killed := range []bool{false, true} {
				if killed && how != sim.Lost && how != sim.Reset {
					continue
				}
				t.Run(fmt.Sprintf("%v-%v-%t", side, how, killed), func(t *testing.T) {
					t.Parallel()
					for after := int64(0); after <= to[side]; after += stride(after, to[side], how) {
						cutOnce(t, sim.Cut{Side: side, After: after, How: how}, killed)
						if t.Failed() {
							t.Fatalf("cut after %d of %d octets", after, to[side])
						}
					}
				})
			}
		}
	}
}

// stride is 1 near the ends, where the commands are, and long in the text.
func stride(after, all int64, how sim.How) int64 {
	step := int64(1)
	if how != sim.Lost {
		step = 13
	}
	if after > 700 && after < all-700 {
		return 4999
	}
	return step
}

func cutOnce(t *testing.T, cut sim.Cut, killed bool) {
	synctest.Test(t, func(t *testing.T) {
		h, s := start(t, sim.NewDisk()), &sender{texts(), make([]bool, 3)}
		path := sim.Path{Cut: &cut}
		if cut.How == sim.Lost {
			path.Delay = 300 * time.Millisecond
		}
		_, _, err := h.session(path, s.outgoing()...)
		for try := 0; err != nil || len(s.outgoing()) > 0; try++ {
			if try == 3 {
				t.Fatalf("mail is left after whole sessions: %v", err)
			}
			if killed {
				disk := h.disk.PowerCut(sim.Synced, uint64(cut.After))
				h.spool.Close()
				h = start(t, disk)
			}
			_, _, err = h.session(sim.Path{}, s.outgoing()...)
		}
		h.check(t, s.texts)
		h.spool.Close()
	})
}

// TestKilledAtEveryStep cuts the server's power at each step that it takes on its disk while mail comes, and lets the client come back. Each message
// comes once: not twice where the message was on disk and the reply was not said, and not less.
func TestKilledAtEveryStep(t *testing.T) {
	for _, survival := range []sim.Survival{sim.Synced, sim.Cached, sim.Torn} {
		t.Run(fmt.Sprint(survival), func(t *testing.T) {
			t.Parallel()
			for crash := 1; ; crash++ {
				n := 0
				synctest.Test(t, func(t *testing.T) {
					disk := sim.NewDisk()
					h, s := start(t, disk), &sender{texts(), make([]bool, 3)}
					disk.SetCrashIf(func(sim.Op) bool { n++; return n == crash })
					// The client is cut off in the middle first, so that a part is kept and taken up.
					_, _, _ = h.session(sim.Path{Cut: &sim.Cut{Side: sim.Dialer, After: 45_000, How: sim.Reset}}, s.outgoing()...)
					_, _, _ = h.session(sim.Path{Cut: &sim.Cut{Side: sim.Listener, After: 300, How: sim.Reset}}, s.outgoing()...)
					_, _, _ = h.session(sim.Path{}, s.outgoing()...)
					disk = disk.PowerCut(survival, uint64(crash))
					h.spool.Close()
					h = start(t, disk)
					for range 3 {
						if _, _, err := h.session(sim.Path{}, s.outgoing()...); err != nil {
							t.Fatal(err)
						}
					}
					h.check(t, s.texts)
					h.spool.Close()
				})
				if t.Failed() {
					t.Fatalf("crash at step %d", crash)
				}
				if n < crash {
					return
				}
			}
		})
	}
}
