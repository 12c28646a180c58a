package smtp

import (
	"bytes"
	"compress/flate"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"bothy/application/message"
	"bothy/lib/sim"
)

// deflating is a server that takes compressed messages, and its store.
func deflating() (*Server, *store) {
	st := new(store)
	srv := newServer(st)
	srv.Offer.Deflate = true
	return srv, st
}

// prose is a text of size octets that becomes much smaller, noise one that does not.
func prose(size int) string {
	return strings.Repeat("the quick brown fox jumps over the lazy dog\r\n", size/45+1)[:size/45*45]
}

func noise(size int) string {
	dice := rand.NewChaCha8([32]byte{1})
	raw := make([]byte, size)
	dice.Read(raw)
	for i, c := range raw {
		raw[i] = c | 0x80 // no lone CR and LF
	}
	return string(raw)
}

// TestDeflate: what is sent compressed arrives as it was, whatever its size, in fewer octets where that is possible, alone and among others.
func TestDeflate(t *testing.T) {
	for _, c := range []struct {
		name, text string
		most       float64 // of its octets on the wire
	}{
		{"empty", "", 0},
		{"line", "\r\n", 0},
		{"short", prose(300), 1.6},
		{"eager", prose(eagerSize), 0.1},
		{"just not eager", prose(eagerSize + 45), 0.1},
		{"chunks", prose(40 * chunkSize), 0.05},
		{"noise", noise(eagerSize), 1.05},
		{"long noise", noise(3*chunkSize + 1), 1.05},
		{"noise behind", prose(sampleSize) + noise(2*chunkSize), 0.95},
	} {
		for _, drop := range []string{"", "PIPELINING", "CHUNKING"} {
			t.Run(c.name+drop, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv, st := deflating()
					results := make([][]Reply, 3)
					err := over(sim.Path{}, srv, drop, func(client *Client) error {
						client.Deflate = true
						before := client.Conn.Conn.(*sim.End).Written()
						err := client.SendMany(t.Context(), outgoing([]string{prose(90), c.text, letter(2)}, results, "a", "b"), 10)
						sent := client.Conn.Conn.(*sim.End).Written() - before - 600
						if drop == "" && c.most > 0 && float64(sent) > c.most*float64(len(c.text)) {
							t.Errorf("%d octets for %d", sent, len(c.text))
						}
						return err
					})
					if err != nil || len(st.mails) != 3 {
						t.Fatalf("%d messages, %v: %v", len(st.mails), err, results)
					}
					for i, want := range []string{prose(90), c.text, letter(2)} {
						if got := st.text(t, i); strings.TrimSuffix(got, "\r\n") != strings.TrimSuffix(want, "\r\n") {
							t.Errorf("message %d came as %.80q (%d octets), want %.80q (%d)", i, got, len(got), want, len(want))
						}
					}
				})
			})
		}
	}
}

// TestDeflateBomb: a stream that would make a large message is stopped at the limit, and so is one whose chunks never end.
func TestDeflateBomb(t *testing.T) {
	var bomb bytes.Buffer
	z, _ := flate.NewWriter(&bomb, flate.BestCompression)
	for range 1000 {
		z.Write(make([]byte, 100_000))
	}
	z.Close()
	srv, st := deflating()
	srv.Limits.MessageSize = 1_000_000
	read := 0
	srv.Accept = acceptFunc(func(_ context.Context, _ *message.Envelope, body io.Reader) error {
		n, err := io.Copy(io.Discard, body)
		read = int(n)
		return err
	})
	said := "EHLO a.example\r\nMAIL FROM:<a@site.example> XDEFLATE\r\nRCPT TO:<keeper@light.example>\r\n" +
		fmt.Sprintf("BDAT %d LAST\r\n%s", bomb.Len(), bomb.String()) + "QUIT\r\n"
	conn := &script{in: strings.NewReader(said), n: 1 << 20}
	if err := srv.Serve(t.Context(), NewConn(conn)); err != nil {
		t.Error(err)
	}
	if out := conn.out.String(); !strings.Contains(out, "552 5.3.4") || !strings.Contains(out, "221 ") || len(st.mails) != 0 {
		t.Errorf("%s", out)
	}
	if read > 1_100_000 {
		t.Errorf("%d octets were made of %d", read, bomb.Len())
	}
}

type acceptFunc func(context.Context, *message.Envelope, io.Reader) error

func (f acceptFunc) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	return f(ctx, env, body)
}

// TestDeflateApart: the length of a message on the wire tells nothing of the one before it.
func TestDeflateApart(t *testing.T) {
	secret := noise(2000)
	length := func(before string) int {
		srv, _ := deflating()
		var sent int64
		synctest.Test(t, func(t *testing.T) {
			results := make([][]Reply, 2)
			if err := over(sim.Path{}, srv, "", func(client *Client) error {
				client.Deflate = true
				err := client.SendMany(t.Context(), outgoing([]string{before, prose(900) + secret}, results, "a"), 10)
				sent = client.Conn.Conn.(*sim.End).Written()
				return err
			}); err != nil {
				t.Fatal(err)
			}
		})
		return int(sent) - len(deflate([]byte(before)))
	}
	if a, b := length(prose(900)+secret), length(prose(900)+noise(2001)[1:]); a != b {
		t.Errorf("%d octets behind the same, %d behind another", a, b)
	}
}

// TestDeflateBroken: a body that fails ends the connection, and nothing of it is taken.
func TestDeflateBroken(t *testing.T) {
	for _, size := range []int64{10_000, 100_000} {
		synctest.Test(t, func(t *testing.T) {
			srv, st := deflating()
			err := over(sim.Path{}, srv, "", func(client *Client) error {
				client.Deflate = true
				_, err := client.Send(t.Context(), envelope(recipients("a")), strings.NewReader(prose(9000)), size)
				return err
			})
			if err == nil || len(st.mails) != 0 {
				t.Errorf("%v, %d messages", err, len(st.mails))
			}
		})
	}
}

// FuzzInflate: whatever comes as a stream, the text of a message that is taken has whole lines and is no larger than it may be.
func FuzzInflate(f *testing.F) {
	f.Add([]byte("\x03\x00"), 1)
	f.Add([]byte("\x00\x02\x00\xfd\xff\r\n\x03\x00"), 3)
	f.Add(deflate([]byte(prose(5000))), 7)
	f.Fuzz(func(t *testing.T, stream []byte, chunk int) {
		srv, st := deflating()
		srv.Limits.MessageSize = 64 << 10
		var said strings.Builder
		said.WriteString("EHLO a.example\r\nMAIL FROM:<a@site.example> XDEFLATE\r\nRCPT TO:<keeper@light.example>\r\n")
		chunk = max(1, min(chunk, 1<<10))
		for len(stream) > chunk {
			fmt.Fprintf(&said, "BDAT %d\r\n%s", chunk, stream[:chunk])
			stream = stream[chunk:]
		}
		fmt.Fprintf(&said, "BDAT %d LAST\r\n%s", len(stream), stream)
		conn := &script{in: strings.NewReader(said.String()), n: 1 << 20}
		_ = srv.Serve(t.Context(), NewConn(conn)) // it hangs up
		checkReplies(t, conn.out.Bytes())
		for _, m := range st.mails {
			if len(m.body) > 64<<10+300 || strings.Contains(strings.ReplaceAll(m.body, "\r\n", ""), "\n") {
				t.Errorf("%d octets, %.200q", len(m.body), m.body)
			}
		}
	})
}

func BenchmarkDeflate(b *testing.B) {
	text := []byte(prose(4096))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		deflate(text)
	}
}

// TestResumeDeflated: RFC 1845 §3: what is cut goes on from the octet of the message where it was cut, compressed anew.
func TestResumeDeflated(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 1))
	var b strings.Builder
	for b.Len() < 1_000_000 {
		fmt.Fprintf(&b, "line of words %d and numbers %x\r\n", dice.IntN(1000), dice.Uint64())
	}
	text := b.String()
	whole := int64(len(deflate([]byte(text))))
	synctest.Test(t, func(t *testing.T) {
		srv, m := keeping(t)
		srv.Offer.Deflate = true
		var sent int64
		for _, cut := range []int64{whole / 2, whole / 2, 40, 300, whole / 2, whole / 2, whole / 2, 1 << 40} {
			err := over(sim.Path{Cut: &sim.Cut{Side: sim.Dialer, After: cut, How: sim.Closed}}, srv, "", func(c *Client) error {
				c.Deflate = true
				_, err := c.Transfer(t.Context(), Outgoing{
					Envelope: envelope(recipients("a", "b")), Body: strings.NewReader(text), Size: int64(len(text)), TransID: TransID("site.example", "1"),
				})
				sent += c.Conn.Conn.(*sim.End).Written()
				return err
			})
			if cut < whole/2 && err == nil || cut == 1<<40 && err != nil {
				t.Fatal(err)
			}
		}
		if len(m.mails) != 1 || m.store.text(t, 0) != text {
			t.Fatalf("%d messages came", len(m.mails))
		}
		if sent > whole*26/10 { // from the beginning each time it would be 3.5
			t.Errorf("%d octets were sent, %d are needed", sent, whole)
		}
	})
	for range 2 { // what was accepted already is not taken twice
		srv, m := keeping(t)
		srv.Offer.Deflate = true
		for range 3 {
			if err := over(sim.Path{}, srv, "", func(c *Client) error {
				c.Deflate = true
				replies, err := c.Transfer(t.Context(), Outgoing{
					Envelope: envelope(recipients("a")), Body: strings.NewReader(text), Size: int64(len(text)), TransID: TransID("site.example", "2"),
				})
				if replies[0].Code != 250 {
					t.Errorf("%v", replies)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		if len(m.mails) != 1 {
			t.Errorf("%d messages came", len(m.mails))
		}
	}
}
