package smtp

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/message"
	"bothy/lib/sim"
)

// TestManyFillsLink: the link carries text all the time, whatever the size of the messages: no round trip is waited for between them.
func TestManyFillsLink(t *testing.T) {
	const delay, rate = 50 * time.Millisecond, 10_000_000 / 8
	for _, c := range []struct {
		name        string
		count, size int
		named       bool
	}{
		{"small", 400, 10_000, false},
		{"no longer short", 100, 40_000, false},
		{"medium", 60, 200_000, false},
		{"large", 16, 1_000_000, false},
		{"medium, with names", 60, 200_000, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, _ := keeping(t)
				text := strings.Repeat(strings.Repeat("x", 98)+"\r\n", c.size/100)
				results := make([][]Reply, c.count)
				var took time.Duration
				err := over(sim.Path{Delay: delay, Rate: rate}, srv, "", func(client *Client) error {
					begin := time.Now()
					err := client.SendMany(t.Context(), func(yield func(Outgoing) bool) {
						i := 0
						for m := range outgoing(slices.Repeat([]string{text}, c.count), results, "a") {
							if i++; c.named {
								m.TransID = TransID("site.example", fmt.Sprint(i))
							}
							if !yield(m) {
								return
							}
						}
					}, 64)
					took = time.Since(begin)
					return err
				})
				if err != nil || results[c.count-1][0].Code != 250 {
					t.Fatal(err, results[c.count-1])
				}
				of := float64(c.count*len(text)) / rate / took.Seconds()
				if t.Logf("%.1f %% of the link", 100*of); of < 0.94 {
					t.Errorf("%v: %.3f of the link is text", took, of)
				}
			})
		})
	}
}

// TestPace: as much goes ahead as fills a round trip, in bounds; 64 KiB where that is not known.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		trip   time.Duration
		octets int64
		took   time.Duration
		want   int64
	}{
		{0, 0, 0, chunkSize},
		{time.Second, 0, 0, chunkSize},
		{0, 1_250_000, time.Second, chunkSize},
		{time.Second, 1_250_000, 0, chunkSize},
		{100 * time.Millisecond, 1_250_000, time.Second, 156_250},
		{600 * time.Millisecond, 320_000, 10 * time.Second, leastAhead},
		{time.Second, paceSample - 1, time.Second, chunkSize},
		{time.Hour, 1 << 40, time.Nanosecond, mostAhead},
	} {
		p, now := pace{trip: c.trip}, time.Now()
		p.begin(now)
		if p.heard(c.octets, now.Add(c.took)); p.ahead() != c.want {
			t.Errorf("%+v: %d, want %d", c, p.ahead(), c.want)
		}
	}
}

// dicey decides by seed and name, so that what becomes of a message does not depend on how it is sent.
type dicey struct {
	memory
	seed uint64
}

func (d *dicey) dice(what string, sides uint64) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, d.seed, what)
	return rand.New(rand.NewPCG(h.Sum64(), d.seed)).Uint64N(sides)
}

func (d *dicey) Mail(_ context.Context, _ *Session, env *message.Envelope) error {
	return [...]error{Reply{451, [3]int{4, 3, 0}, "later"}, Reply{550, [3]int{5, 7, 1}, "not you"}, nil, nil, nil, nil, nil, nil}[d.dice("mail "+env.ReversePath.Local, 8)]
}

func (d *dicey) Rcpt(_ context.Context, _ *Session, env *message.Envelope, to *message.Recipient) error {
	what := d.dice("rcpt "+env.ReversePath.Local+to.Address.Local, 6)
	return [...]error{Reply{550, [3]int{5, 1, 1}, "who?"}, Reply{450, [3]int{4, 2, 1}, "busy"}, nil, nil, nil, nil}[what]
}

func (d *dicey) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	switch d.dice("text "+env.ReversePath.Local, 8) {
	case 0:
		return Reply{451, [3]int{4, 3, 0}, "not now"} // before it has read any
	case 1:
		if _, err := io.CopyN(io.Discard, body, int64(d.dice("octets", 200_000))); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		return Reply{452, [3]int{4, 3, 1}, "full"}
	case 2:
		if _, err := io.Copy(io.Discard, body); err != nil {
			return err
		}
		return Reply{554, [3]int{5, 6, 0}, "no"}
	}
	return d.memory.Accept(ctx, env, body)
}

// mails are messages of all sizes, some to several.
func (d *dicey) mails(results [][]Reply, named bool) iter.Seq[Outgoing] {
	return func(yield func(Outgoing) bool) {
		for i := range results {
			name := fmt.Sprint(i)
			size := []uint64{200, eagerSize, chunkSize, 3 * chunkSize}[d.dice("kind "+name, 4)]
			size += d.dice("size "+name, 3*blockSize) - min(size, blockSize)
			text := letterOf(int(size))
			env := envelope(recipients([]string{"a", "b", "c"}[:1+d.dice("to "+name, 3)]...))
			env.ReversePath.Local = name
			m := Outgoing{Envelope: env, Body: strings.NewReader(text), Size: int64(len(text)), Done: func(replies []Reply) {
				for _, r := range replies {
					results[i] = append(results[i], Reply{r.Code, r.Enhanced, ""}) // a text may name the message
				}
			}}
			if named {
				m.TransID, m.Tried = TransID("site.example", name), d.dice("tried "+name, 2) == 0
			}
			if !yield(m) {
				return
			}
		}
	}
}

// TestManyAgainstDice: what becomes of each message when all are sent ahead of their replies is what becomes of it when each command waits for the
// reply to the one before, whatever the peer refuses: MAIL, one recipient or all, a chunk in the middle, or the text. The same are taken, whole.
func TestManyAgainstDice(t *testing.T) {
	sim.Seeds(t, 25, func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) {
			const count = 10
			try := func(path sim.Path, drop string, named, packed bool) (results [][]Reply, taken []string) {
				results = make([][]Reply, count)
				srv, _ := keeping(t)
				d := &dicey{seed: seed}
				srv.Accept, srv.Policy, srv.Limits.Errors, srv.Offer.Deflate = d, d, 1000, packed
				err := over(path, srv, drop, func(c *Client) error {
					c.Deflate = packed
					return errors.Join(c.SendMany(t.Context(), d.mails(results, named), 64), c.Noop(t.Context()), c.Quit(t.Context()))
				})
				if err != nil {
					t.Fatalf("without %q, named %t, packed %t: %v", drop, named, packed, err)
				}
				for i, m := range d.store.mails {
					taken = append(taken, m.env.ReversePath.Local+" "+fmt.Sprint(len(m.env.Recipients))+" "+d.store.text(t, i))
				}
				return results, taken
			}
			long := sim.Path{Delay: time.Duration(seed%7) * 20 * time.Millisecond, Rate: int64(seed%3) * 500_000}
			want, taken := try(sim.Path{}, "PIPELINING CHUNKING", false, false)
			for _, drop := range []string{"", "CHUNKING"} {
				for _, named := range []bool{false, true} {
					got, took := try(long, drop, named, seed%2 == 0)
					if fmt.Sprint(got) != fmt.Sprint(want) || !slices.Equal(took, taken) {
						t.Fatalf("without %q, named %t: %v, want %v; %d taken, want %d", drop, named, got, want, len(took), len(taken))
					}
				}
			}
		})
	})
}
