package queue

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
)

// randomRecord makes a record in which any field may be set.
func randomRecord(dice *rand.Rand) *record {
	text := func(n int) string {
		if dice.IntN(2) == 0 {
			return ""
		}
		b := make([]byte, dice.IntN(n)+1)
		for i := range b {
			b[i] = byte(dice.Uint32())
		}
		return string(b)
	}
	number := func(limit int64) int64 { return dice.Int64N(limit) >> dice.IntN(62) }
	r := &record{accepted: number(math.MaxInt64), size: number(math.MaxInt64), apart: dice.IntN(2) == 0}
	binary.BigEndian.PutUint64(r.ID[:], dice.Uint64())
	r.ReversePath = message.Address{Local: text(64), Domain: text(255)}
	r.Body, r.UTF8, r.Return = message.BodyType(dice.IntN(3)), dice.IntN(2) == 0, message.Return(dice.IntN(3))
	r.Envelope.Size = number(math.MaxInt64)
	r.EnvelopeID, r.Submitter, r.Account, r.Unverified = text(100), text(300), text(30), dice.IntN(2) == 0
	moment := func() time.Time {
		if dice.IntN(2) == 0 {
			return time.Time{}
		}
		return time.Unix(1+dice.Int64N(1<<40), 0).UTC()
	}
	r.Priority, r.RequireTLS = int8(dice.IntN(19)-9), dice.IntN(2) == 0
	r.DeliverBy = message.Deadline{At: moment(), Return: dice.IntN(2) == 0, Trace: dice.IntN(2) == 0}
	r.Solicit, r.TLSOptional = text(1000), dice.IntN(2) == 0
	r.HoldUntil, r.HoldFor = moment(), time.Duration(dice.IntN(1_000_000_000))*time.Second
	r.Tracking = message.Tracking{Certifier: text(20), Until: moment()}
	if dice.IntN(2) == 0 {
		r.Transaction = message.Transaction{Key: message.NewTransactionKey(text(80)), Size: number(math.MaxInt64)}
		for range dice.IntN(5) {
			r.Transaction.To = append(r.Transaction.To, dice.Uint64())
		}
	}
	var n uint32
	for range dice.IntN(20) {
		r.Recipients = append(r.Recipients, message.Recipient{
			Address: message.Address{Local: text(64), Domain: text(255)}, Notify: message.Notify(dice.IntN(16)), Original: text(500),
		})
		r.states = append(r.states, waiting{
			number: n, attempts: uint16(dice.Uint32()), when: number(math.MaxInt64), hold: dice.IntN(2) == 0, last: randomLast(dice, text(maxReplyText)),
		})
		n += 1 + dice.Uint32N(1000)
	}
	return r
}

func randomLast(dice *rand.Rand, text string) last {
	return last{at: dice.Int64(), remote: "mx.example", reply: smtp.Reply{
		Code: dice.IntN(600), Enhanced: [3]int{dice.IntN(6), dice.IntN(1000), dice.IntN(1000)}, Text: text,
	}}
}

func TestRecordRoundTrip(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		want := randomRecord(dice)
		b := want.appendTo(nil)
		fields := len(b)
		b = append(b, "the body"...)
		got, body, err := parseMessage(b)
		if err != nil || !reflect.DeepEqual(got, want) || string(body) != "the body" {
			t.Fatalf("%v\ngot  %+v, body %q\nwant %+v", err, got, body, want)
		}
		cut := dice.IntN(fields)
		if _, _, err := parseMessage(b[:cut]); err == nil {
			t.Fatalf("a record cut at %d of %d octets was read", cut, fields)
		}
	}
}

func TestUpdateRoundTrip(t *testing.T) {
	dice := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		var want []change
		for range dice.IntN(5) {
			c := change{outcome: outcome(1 + dice.IntN(4)), attempts: uint16(dice.Uint32()), when: dice.Int64(), last: randomLast(dice, "later")}
			for range 1 + dice.IntN(50) {
				c.numbers = append(c.numbers, dice.Uint32()>>dice.IntN(32))
			}
			want = append(want, c)
		}
		var notice *record
		if dice.IntN(2) == 0 {
			notice = randomRecord(dice)
		}
		b := append(appendUpdate(nil, want, notice), "To: you"...)
		got, gotNotice, body, err := parseUpdate(b)
		if err != nil || !reflect.DeepEqual(got, want) || !reflect.DeepEqual(gotNotice, notice) || string(body) != "To: you" {
			t.Fatalf("%v\ngot  %+v %+v\nwant %+v %+v", err, got, gotNotice, want, notice)
		}
	}
}

func TestClockRoundTrip(t *testing.T) {
	want := []span{{"odmr", 1, 2}, {"mx", 5, 0}, {"smarthost", math.MaxInt64 - 1, math.MaxInt64}}
	got, err := parseClock(appendClock(nil, want...))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v %v", got, err)
	}
}

// A field that a later version adds does not keep this one from reading the record; a kind it does not know does.
func TestUnknownField(t *testing.T) {
	r := &record{accepted: 7, size: 4, states: []waiting{{}}}
	r.Recipients = []message.Recipient{{Address: message.Address{Local: "one", Domain: "x.example"}}}
	b := r.appendFields([]byte{kindMessage})
	b = appendString(b, 77, "something new")
	b = append(append(b, tagEnd), "body"...)
	got, body, err := parseMessage(b)
	if err != nil || !reflect.DeepEqual(got, r) || string(body) != "body" {
		t.Fatalf("%+v %q %v", got, body, err)
	}
	b[0] = 'X'
	if _, _, err := parseMessage(b); err == nil {
		t.Fatal("an unknown kind was read")
	}
}

// What is kept of a reply is bounded, whatever the peer says.
func TestReplyBound(t *testing.T) {
	l := last{at: 1, reply: smtp.Reply{Code: 450, Text: strings.Repeat("x", 10_000)}, remote: strings.Repeat("y", 10_000)}
	if n := len(l.appendTo(nil)); n > 2*maxReplyText+32 {
		t.Errorf("%d octets", n)
	}
}

func FuzzRecord(f *testing.F) {
	dice := rand.New(rand.NewPCG(5, 6))
	for range 5 {
		r := randomRecord(dice)
		f.Add(r.appendTo(nil))
		f.Add(appendUpdate(nil, []change{{numbers: []uint32{1, 2}, outcome: outcomeDeferred, last: randomLast(dice, "x")}}, r))
	}
	f.Add(appendClock(nil, span{"odmr", 1, 2}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, body, err := parseMessage(b); err == nil && len(b) > 0 && b[0] == kindMessage {
			again, body2, err := parseMessage(append(r.appendTo(nil), body...))
			if err != nil || !equalRecords(r, again) || !bytes.Equal(body, body2) {
				t.Fatalf("%+v\nbecame %+v, %v", r, again, err)
			}
		}
		if changes, _, _, err := parseUpdate(b); err == nil {
			again, _, _, err := parseUpdate(appendUpdate(nil, changes, nil))
			if err != nil || len(again) != len(changes) {
				t.Fatalf("%+v\nbecame %+v, %v", changes, again, err)
			}
		}
		if spans, err := parseClock(b); err == nil {
			if again, err := parseClock(appendClock(nil, spans...)); err != nil || !reflect.DeepEqual(again, spans) {
				t.Fatalf("%v became %v, %v", spans, again, err)
			}
		}
	})
}

// equalRecords compares what is kept: of a reply only so much text is.
func equalRecords(a, b *record) bool {
	for i := range a.states {
		l := &a.states[i].last
		l.reply.Text = l.reply.Text[:min(len(l.reply.Text), maxReplyText)]
		l.remote = l.remote[:min(len(l.remote), maxReplyText)]
	}
	return reflect.DeepEqual(a, b)
}

func TestAskedRoundTrip(t *testing.T) {
	want := []*asked{
		{Transaction: message.Transaction{Key: message.NewTransactionKey("a", "b"), Size: 20_000_000, To: []uint64{1, math.MaxUint64}}, id: message.ID{1}, at: 5},
		{Transaction: message.Transaction{Key: message.NewTransactionKey("ab")}, id: message.ID{2}, at: math.MaxInt64},
	}
	b := appendAsked(nil, want)
	got, err := parseAsked(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v\ngot  %+v\nwant %+v", err, got, want)
	}
	for cut := range b {
		if _, err := parseAsked(b[:cut]); err == nil {
			t.Fatalf("a record cut at %d of %d octets was read", cut, len(b))
		}
	}
}
