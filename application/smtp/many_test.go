package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"bothy/application/message"
	"bothy/lib/sim"
)

// letter is a short message that can be told from others.
func letter(i int) string { return fmt.Sprintf("Subject: %d\r\n\r\n.\r\nhello %d\r\n", i, i) }

// outgoing makes messages of texts, each to its locals, and notes what becomes of them.
func outgoing(texts []string, results [][]Reply, locals ...string) iter.Seq[Outgoing] {
	return func(yield func(Outgoing) bool) {
		for i, text := range texts {
			m := Outgoing{
				Envelope: envelope(recipients(locals...)), Body: strings.NewReader(text), Size: int64(len(text)),
				Done: func(replies []Reply) { results[i] = slices.Clone(replies) },
			}
			if !yield(m) {
				return
			}
		}
	}
}

func letters(n int) (texts []string) {
	for i := range n {
		texts = append(texts, letter(i))
	}
	return texts
}

// over runs a client and a server on a simulated path.
func over(path sim.Path, srv *Server, drop string, run func(c *Client) error) error {
	near, far := sim.Pipe(path)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		_ = srv.Serve(context.Background(), NewConn(far))
	}()
	defer func() { near.Close(); <-done }()
	c := NewClient(NewConn(near), "site.example", Timeouts{})
	if err := c.Greet(context.Background()); err != nil {
		return err
	}
	for keyword := range strings.FieldsSeq(drop) {
		delete(c.keywords, keyword)
	}
	return run(c)
}

// On a link with a round trip of 600 ms a hundred messages take a few of them, not hundreds.
func TestManyOnLongLink(t *testing.T) {
	const rtt = 600 * time.Millisecond
	for _, c := range []struct {
		name, drop string
		texts      []string
		window     int
		most       time.Duration
	}{
		{"short", "", letters(100), 100, 5 * rtt},
		{"short, ten under way", "", letters(100), 10, 14 * rtt},
		{"short, one under way", "", letters(10), 1, 14 * rtt},
		{"DATA", "CHUNKING", letters(100), 100, 106 * rtt},
		{"DATA, one under way", "CHUNKING", letters(10), 1, 25 * rtt},
		{"long", "", slices.Repeat([]string{strings.Repeat("a line of text\r\n", 10_000)}, 10), 10, 40 * rtt}, // 160 KB; a window of 64 KiB
		{"lock step", "PIPELINING CHUNKING", letters(10), 100, 51 * rtt},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := &store{}
				results := make([][]Reply, len(c.texts))
				var took time.Duration
				err := over(sim.Path{Delay: rtt / 2}, newServer(st), c.drop, func(client *Client) error {
					begin := time.Now()
					err := client.SendMany(t.Context(), outgoing(c.texts, results, "a", "nobody"), c.window)
					took = time.Since(begin)
					return errors.Join(err, client.Quit(t.Context()))
				})
				if err != nil {
					t.Fatal(err)
				}
				for i, r := range results {
					if r[0].Code != 250 || r[1].Code != 550 || st.text(t, i) != c.texts[i] {
						t.Fatalf("message %d: %v", i, r)
					}
				}
				t.Logf("%d messages in %.1f round trips", len(c.texts), float64(took)/float64(rtt))
				if took > c.most {
					t.Errorf("%v, want at most %v", took, c.most)
				}
			})
		})
	}
}

// Wherever the connection ends, in whichever direction and way, a message that the client believes taken was taken whole, and every
// message that it took up is done with once.
func TestManyCutEverywhere(t *testing.T) {
	texts := letters(3)
	texts[1] = strings.Repeat("x", eagerSize) + "\r\n" // not in the flight of its envelope
	for _, drop := range []string{"", "CHUNKING"} {
		for _, side := range []sim.Side{sim.Dialer, sim.Listener} {
			for _, how := range []sim.How{sim.Reset, sim.Lost, sim.Closed} {
				for cut := int64(1); ; cut++ {
					if side == sim.Dialer && cut > 400 && cut < eagerSize-100 {
						cut = eagerSize - 100 // within the long one every place is like the other
					}
					st := &store{}
					results := make([][]Reply, len(texts))
					ended := false
					err := over(sim.Path{Cut: &sim.Cut{Side: side, After: cut, How: how}}, newServer(st), drop, func(c *Client) error {
						err := c.SendMany(t.Context(), outgoing(texts, results, "a"), 3)
						ended = err == nil
						return err
					})
					for i := range st.mails {
						if got := st.text(t, i); got != texts[i] {
							t.Fatalf("without %q, %v %v at %d: the server took %.50q", drop, side, how, cut, got)
						}
					}
					believed := 0
					for _, r := range results {
						if len(r) > 0 && r[0].Positive() {
							believed++
						}
					}
					if believed > len(st.mails) || ended && believed < len(texts) {
						t.Fatalf("without %q, %v %v at %d: %d believed, %d taken (%v)", drop, side, how, cut, believed, len(st.mails), err)
					}
					if ended {
						break
					}
				}
			}
		}
	}
}

// fussy refuses what says so, once it has read it.
type fussy struct{ store }

func (f *fussy) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	content, err := io.ReadAll(body)
	if err == nil && strings.Contains(string(content), "refuse me") {
		return Reply{554, [3]int{5, 7, 1}, "as you wish"}
	}
	if err != nil {
		return err
	}
	return f.store.Accept(ctx, env, strings.NewReader(string(content)))
}

// What becomes of one message is nothing to the next.
func TestManyRefusals(t *testing.T) {
	long := strings.Repeat("a line of text\r\n", 10_000)
	for i, drop := range []string{"", "", "CHUNKING", "CHUNKING", "PIPELINING", "CHUNKING PIPELINING"} {
		window := 2 + i%2*18
		t.Run(fmt.Sprintf("%d without %s", window, drop), func(t *testing.T) {
			var got []int
			messages := func(yield func(Outgoing) bool) {
				for _, m := range []struct{ from, to, text string }{
					{"a", "a", letter(0)},
					{"nobody", "a", letter(1)},
					{"a", "nobody", letter(2)},
					{"a", "b", "refuse me\r\n"},
					{"a", "a", letter(4)},
					{"a", "a", long},
					{"a", "nobody", long},
					{"busy", "a", long},
					{"a", "a", long + "refuse me\r\n"},
					{"a", "b", letter(9)},
					{"a", "bj\u00f8rn", letter(10)},
					{"a", "", letter(11)},
					{"a", "a", letter(12)},
				} {
					env := envelope(recipients(m.to))
					if env.ReversePath.Local = m.from; m.to == "" {
						env.Recipients = nil
					}
					text := m.text
					if !yield(Outgoing{Envelope: env, Body: strings.NewReader(text), Size: int64(len(text)), Done: func(replies []Reply) {
						got = append(got, 0)
						if len(replies) > 0 {
							got[len(got)-1] = replies[0].Code
						}
					}}) {
						return
					}
				}
			}
			st := &fussy{}
			err := over(sim.Path{}, newServer(st), drop, func(c *Client) error {
				return errors.Join(c.SendMany(t.Context(), messages, window), c.Noop(t.Context()), c.Quit(t.Context()))
			})
			if err != nil {
				t.Fatal(err)
			}
			if want := []int{250, 550, 550, 554, 250, 250, 550, 450, 554, 250, 553, 0, 250}; !equal(got, want) || len(st.mails) != 5 {
				t.Errorf("%v, want %v; %d taken", got, want, len(st.mails))
			}
		})
	}
}

// A message that cannot be read ends the connection within it; what stood before it is certain, if the connection has halves.
func TestManyBrokenBody(t *testing.T) {
	fault := errors.New("disk on fire")
	config := testTLS(t)
	for name, pipe := range map[string]func() (net.Conn, net.Conn){
		"halves":    func() (net.Conn, net.Conn) { a, b := sim.Pipe(sim.Path{Delay: 300 * time.Millisecond}); return a, b },
		"no halves": net.Pipe,
		"halves, TLS": func() (net.Conn, net.Conn) {
			a, b := sim.Pipe(sim.Path{Delay: 300 * time.Millisecond})
			return tls.Client(a, testTLSClient), tls.Server(b, config)
		},
	} {
		for _, drop := range []string{"", "CHUNKING"} {
			t.Run(name+" without "+drop, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					near, far := pipe()
					st := &store{}
					done := make(chan struct{})
					go func() {
						defer close(done)
						defer far.Close()
						_ = newServer(st).Serve(context.Background(), NewConn(far))
					}()
					c := NewClient(NewConn(near), "site.example", Timeouts{})
					if err := c.Greet(t.Context()); err != nil {
						t.Fatal(err)
					}
					delete(c.keywords, drop)
					results := make([][]Reply, 6)
					begin := time.Now()
					err := c.SendMany(t.Context(), func(yield func(Outgoing) bool) {
						i := 0
						for m := range outgoing(letters(6), results, "a") {
							if i == 4 {
								m.Body = io.MultiReader(strings.NewReader("Subject: x\r\n"), iotest.ErrReader(fault))
							}
							if i++; !yield(m) {
								return
							}
						}
					}, 6)
					if !errors.Is(err, fault) || time.Since(begin) > 10*time.Second {
						t.Errorf("after %v: %v", time.Since(begin), err)
					}
					near.Close()
					<-done
					if len(st.mails) > 4 {
						t.Errorf("the server took %q", st.mails[4].body)
					}
					for i, r := range results {
						if name != "no halves" && (i < 4) != (len(r) > 0 && r[0].Positive()) {
							t.Errorf("message %d: %v", i, r)
						}
						if i >= 4 && len(r) > 0 && r[0] != (Reply{}) {
							t.Errorf("message %d: %v", i, r)
						}
					}
					if err := c.Noop(t.Context()); err == nil {
						t.Error("the connection is of use still")
					}
				})
			})
		}
	}
}

// The end of ctx ends it at once; nothing more is taken up.
func TestManyContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("link down")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(5*time.Second, func() { cancel(why) })
		st := &store{}
		taken, done := 0, 0
		begin := time.Now()
		err := over(sim.Path{Delay: 300 * time.Millisecond}, newServer(st), "", func(c *Client) error {
			return c.SendMany(ctx, func(yield func(Outgoing) bool) {
				for {
					taken++
					text := letter(taken)
					if !yield(Outgoing{Envelope: envelope(recipients("a")), Body: strings.NewReader(text), Size: int64(len(text)), Done: func([]Reply) { done++ }}) {
						return
					}
				}
			}, 5)
		})
		if !errors.Is(err, why) || time.Since(begin) > 6*time.Second || taken != done || taken > len(st.mails)+5 {
			t.Errorf("after %v: %v; %d taken up, %d done, %d kept", time.Since(begin), err, taken, done, len(st.mails))
		}
	})
}
