package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
)

// A record is its kind, fields, a zero octet, and what remains. A field is tag, length, value; tag and length are unsigned
// varints, tags begin at 1. A reader skips the tags it does not know, so a field can be added for which that is
// right; a change that an old reader must not skip gets a new kind, which it refuses.

// The kinds of record.
const (
	kindMessage = 'M' // a message: new, or moved with the state of its recipients; the rest is its body, or what stands before the one in a file
	kindUpdate  = 'U' // what became of recipients, and perhaps a notice; the rest is the notice's body
	kindClock   = 'C' // when the clocks of kinds of lane stood still
	kindAsked   = 'T' // transactions that their clients may still ask for, and whose messages have no record any more
)

// Tags of a kindMessage.
const (
	tagEnd = iota
	tagID
	tagAccepted
	tagReverseLocal
	tagReverseDomain
	tagBodyType
	tagUTF8
	tagDeclared
	tagReturn
	tagEnvelopeID
	tagSubmitter
	tagAccount
	tagSize
	tagApart
	tagRecipient
	tagPriority // plus priorityBase
	tagRequireTLS
	tagDeliverBy // seconds since 1970
	tagDeliverReturn
	tagDeliverTrace
	tagHoldUntil // seconds since 1970
	tagHoldFor   // seconds
	tagUnverified
	tagSolicit
	tagTLSOptional
	tagTransaction
	tagCertifier
	tagTrackUntil // seconds since 1970
)

const priorityBase = 10 // makes a priority of RFC 6710 §5 positive

// Tags within a tagRecipient, and within a tagChange of a kindUpdate.
const (
	tagNumber = iota + 1
	tagLocal
	tagDomain
	tagNotify
	tagOriginal
	tagAttempts
	tagWhen
	tagHold
	tagLastTry
	tagCode
	tagEnhanced
	tagText
	tagRemote
	tagMessage // of a tagChange: the message it is about
	tagOutcome
	tagTold
)

// Tags of a kindUpdate.
const (
	tagChange = iota + 1
	tagNotice // the fields of a kindMessage
)

// The tag of a kindClock.
const tagSpan = 1

// Tags within a tagSpan.
const (
	tagKind = iota + 1
	tagFrom
	tagTo
)

// maxReplyText bounds the text kept of a reply, in octets.
const maxReplyText = 512

var errRecord = errors.New("queue: not a record of this version")

// record is a kindMessage without its body.
type record struct {
	message.Envelope
	accepted int64 // milliseconds since 1970
	size     int64 // octets of the body
	apart    bool  // the body has a file of its own
	fresh    bool  // that file was written just now
	states   []waiting
}

// waiting is the state of one recipient of a record, at the same index as the recipient.
type waiting struct {
	number   uint32 // its index when the message was accepted
	attempts uint16
	when     int64 // milliseconds since 1970 of the next try; 0 when due
	hold     bool
	told     bool
	last
}

// last is what the last try of a recipient met.
type last struct {
	at     int64 // milliseconds since 1970; 0 when never tried
	reply  smtp.Reply
	remote string
}

// outcome is what a change does to a recipient.
type outcome uint8

const (
	outcomeGone outcome = iota + 1 // delivered, failed with its notice, or deleted
	outcomeDeferred
	outcomeHeld
	outcomeFreed    // no longer held
	outcomeTold     // its sender knows that it waits
	outcomeExpanded // its sender knows that it stands for several
)

// change is one outcome of some recipients of a message. All but numbers and outcome is for outcomeDeferred.
type change struct {
	id       message.ID
	numbers  []uint32
	outcome  outcome
	attempts uint16
	when     int64
	last
}

// span is a time during which the clock of a kind of lane stood still, in milliseconds since 1970; to is 0 while it still does.
type span struct {
	kind     string
	from, to int64
}

func appendUint(b []byte, tag int, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(tag))
	var n [binary.MaxVarintLen64]byte
	k := binary.PutUvarint(n[:], v)
	b = append(b, byte(k))
	return append(b, n[:k]...)
}

func appendString(b []byte, tag int, s string) []byte {
	if s == "" {
		return b
	}
	b = binary.AppendUvarint(b, uint64(tag))
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendBool(b []byte, tag int, v bool) []byte {
	if !v {
		return b
	}
	return appendUint(b, tag, 1)
}

// appendNested adds a field whose value add writes.
func appendNested(b []byte, tag int, add func([]byte) []byte) []byte {
	b = binary.AppendUvarint(b, uint64(tag))
	start := len(b)
	b = add(b)
	n := len(b) - start
	var length [binary.MaxVarintLen64]byte
	k := binary.PutUvarint(length[:], uint64(n))
	b = append(b, length[:k]...)
	copy(b[start+k:], b[start:start+n])
	copy(b[start:], length[:k])
	return b
}

// appendTo adds the record; the body follows.
func (r *record) appendTo(b []byte) []byte {
	return append(r.appendFields(append(b, kindMessage)), tagEnd)
}

func (r *record) appendFields(b []byte) []byte {
	b = appendString(b, tagID, string(r.ID[:]))
	b = appendUint(b, tagAccepted, uint64(r.accepted))
	b = appendString(b, tagReverseLocal, r.ReversePath.Local)
	b = appendString(b, tagReverseDomain, r.ReversePath.Domain)
	b = appendUint(b, tagBodyType, uint64(r.Body))
	b = appendBool(b, tagUTF8, r.UTF8)
	b = appendUint(b, tagDeclared, uint64(r.Size))
	b = appendUint(b, tagReturn, uint64(r.Return))
	b = appendString(b, tagEnvelopeID, r.EnvelopeID)
	b = appendString(b, tagSubmitter, r.Submitter)
	b = appendString(b, tagAccount, r.Account)
	b = appendUint(b, tagSize, uint64(r.size))
	b = appendBool(b, tagApart, r.apart)
	b = appendBool(b, tagUnverified, r.Unverified)
	b = r.appendWishes(b)
	for i := range r.Recipients {
		to, w := &r.Recipients[i], waiting{number: uint32(i)}
		if r.states != nil {
			w = r.states[i]
		}
		b = appendNested(b, tagRecipient, func(b []byte) []byte { return w.appendTo(b, to) })
	}
	return b
}

// appendWishes adds what the sender asked for beyond delivery; most ask for nothing.
func (r *record) appendWishes(b []byte) []byte {
	if r.Priority != 0 {
		b = appendUint(b, tagPriority, uint64(r.Priority+priorityBase))
	}
	b = appendBool(b, tagRequireTLS, r.RequireTLS)
	b = appendUint(b, tagDeliverBy, seconds(r.DeliverBy.At))
	b = appendBool(b, tagDeliverReturn, r.DeliverBy.Return)
	b = appendBool(b, tagDeliverTrace, r.DeliverBy.Trace)
	b = appendUint(b, tagHoldUntil, seconds(r.HoldUntil))
	b = appendUint(b, tagHoldFor, uint64(max(r.HoldFor, 0)/time.Second))
	b = appendString(b, tagSolicit, r.Solicit)
	b = appendBool(b, tagTLSOptional, r.TLSOptional)
	if !r.Transaction.Key.IsZero() {
		b = appendNested(b, tagTransaction, func(b []byte) []byte { return appendTransaction(b, &r.Transaction) })
	}
	b = appendString(b, tagCertifier, r.Tracking.Certifier)
	return appendUint(b, tagTrackUntil, seconds(r.Tracking.Until))
}

// seconds is t since 1970; 0 for the zero time, 1 for any before.
func seconds(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(max(t.Unix(), 1))
}

func (w *waiting) appendTo(b []byte, to *message.Recipient) []byte {
	b = appendUint(b, tagNumber, uint64(w.number))
	b = appendString(b, tagLocal, to.Address.Local)
	b = appendString(b, tagDomain, to.Address.Domain)
	b = appendUint(b, tagNotify, uint64(to.Notify))
	b = appendString(b, tagOriginal, to.Original)
	b = appendUint(b, tagAttempts, uint64(w.attempts))
	b = appendUint(b, tagWhen, uint64(w.when))
	b = appendBool(b, tagHold, w.hold)
	b = appendBool(b, tagTold, w.told)
	return w.last.appendTo(b)
}

func (l *last) appendTo(b []byte) []byte {
	b = appendUint(b, tagLastTry, uint64(l.at))
	b = appendUint(b, tagCode, uint64(l.reply.Code))
	if e := l.reply.Enhanced; e != ([3]int{}) {
		b = appendUint(b, tagEnhanced, uint64(e[0]&0xf)<<32|uint64(e[1]&math.MaxUint16)<<16|uint64(e[2]&math.MaxUint16))
	}
	b = appendString(b, tagText, l.reply.Text[:min(len(l.reply.Text), maxReplyText)])
	return appendString(b, tagRemote, l.remote[:min(len(l.remote), maxReplyText)])
}

// appendUpdate adds a kindUpdate; the notice's body follows. notice may be nil.
func appendUpdate(b []byte, changes []change, notice *record) []byte {
	b = append(b, kindUpdate)
	for i := range changes {
		b = appendNested(b, tagChange, changes[i].appendTo)
	}
	if notice != nil {
		b = appendNested(b, tagNotice, notice.appendFields)
	}
	return append(b, tagEnd)
}

func (c *change) appendTo(b []byte) []byte {
	b = appendString(b, tagMessage, string(c.id[:]))
	b = appendUint(b, tagOutcome, uint64(c.outcome))
	b = appendNested(b, tagNumber, func(b []byte) []byte {
		for _, n := range c.numbers {
			b = binary.AppendUvarint(b, uint64(n))
		}
		return b
	})
	b = appendUint(b, tagAttempts, uint64(c.attempts))
	b = appendUint(b, tagWhen, uint64(c.when))
	return c.last.appendTo(b)
}

// appendClock adds a kindClock.
func appendClock(b []byte, spans ...span) []byte {
	b = append(b, kindClock)
	for _, s := range spans {
		b = appendNested(b, tagSpan, func(b []byte) []byte {
			b = appendString(b, tagKind, s.kind)
			b = appendUint(b, tagFrom, uint64(s.from))
			return appendUint(b, tagTo, uint64(s.to))
		})
	}
	return append(b, tagEnd)
}

// field is one field as it was read; value shares the record's memory.
type field struct {
	tag   uint64
	value []byte
}

// uint reads the value as a number; anything longer or larger than max is wrong.
func (f field) uint(max uint64) (uint64, error) {
	v, n := binary.Uvarint(f.value)
	if n <= 0 || n != len(f.value) || v > max {
		return 0, fmt.Errorf("%w: number in field %d", errRecord, f.tag)
	}
	return v, nil
}

// parseFields gives the fields of b to fn and returns what follows their end. Where ended is false the fields fill b.
func parseFields(b []byte, ended bool, fn func(field) error) (rest []byte, err error) {
	for {
		if !ended && len(b) == 0 {
			return nil, nil
		}
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, fmt.Errorf("%w: tag", errRecord)
		}
		b = b[n:]
		if tag == tagEnd {
			if !ended {
				return nil, fmt.Errorf("%w: end within a field", errRecord)
			}
			return b, nil
		}
		length, n := binary.Uvarint(b)
		if n <= 0 || length > uint64(len(b)-n) {
			return nil, fmt.Errorf("%w: length of field %d", errRecord, tag)
		}
		if err := fn(field{tag, b[n : n+int(length)]}); err != nil {
			return nil, err
		}
		b = b[n+int(length):]
	}
}

// parseMessage reads the message that a record holds, be it a message of its own or a notice, and returns its body.
func parseMessage(b []byte) (r *record, body []byte, err error) {
	if len(b) > 0 && b[0] == kindMessage {
		r = new(record)
		body, err = r.parse(b)
		return r, body, err
	}
	_, r, body, err = parseUpdate(b)
	if err == nil && r == nil {
		err = fmt.Errorf("%w: no message", errRecord)
	}
	return r, body, err
}

// parse reads a kindMessage into r and returns its body. The recipients take the place of those that were in r.
func (r *record) parse(b []byte) (body []byte, err error) {
	*r = record{Envelope: message.Envelope{Recipients: r.Recipients[:0]}, states: r.states[:0]}
	return parseFields(b[1:], true, r.set)
}

func (r *record) set(f field) (err error) {
	var v uint64
	switch f.tag {
	case tagID:
		r.ID, err = f.id()
	case tagAccepted:
		v, err = f.uint(math.MaxInt64)
		r.accepted = int64(v)
	case tagReverseLocal:
		r.ReversePath.Local = string(f.value)
	case tagReverseDomain:
		r.ReversePath.Domain = string(f.value)
	case tagBodyType:
		v, err = f.uint(math.MaxUint8)
		r.Body = message.BodyType(v)
	case tagUTF8:
		v, err = f.uint(1)
		r.UTF8 = v != 0
	case tagDeclared:
		v, err = f.uint(math.MaxInt64)
		r.Size = int64(v)
	case tagReturn:
		v, err = f.uint(math.MaxUint8)
		r.Return = message.Return(v)
	case tagEnvelopeID:
		r.EnvelopeID = string(f.value)
	case tagSubmitter:
		r.Submitter = string(f.value)
	case tagAccount:
		r.Account = string(f.value)
	case tagSize:
		v, err = f.uint(math.MaxInt64)
		r.size = int64(v)
	case tagApart:
		v, err = f.uint(1)
		r.apart = v != 0
	case tagUnverified:
		v, err = f.uint(1)
		r.Unverified = v != 0
	case tagRecipient:
		err = r.addRecipient(f.value)
	default:
		err = r.setWish(f)
	}
	return err
}

func (r *record) setWish(f field) (err error) {
	var v uint64
	switch f.tag {
	case tagPriority:
		v, err = f.uint(2*priorityBase - 1)
		r.Priority = int8(v) - priorityBase
	case tagRequireTLS:
		v, err = f.uint(1)
		r.RequireTLS = v != 0
	case tagDeliverBy:
		v, err = f.uint(math.MaxInt64)
		r.DeliverBy.At = time.Unix(int64(v), 0).UTC()
	case tagDeliverReturn:
		v, err = f.uint(1)
		r.DeliverBy.Return = v != 0
	case tagDeliverTrace:
		v, err = f.uint(1)
		r.DeliverBy.Trace = v != 0
	case tagHoldUntil:
		v, err = f.uint(math.MaxInt64)
		r.HoldUntil = time.Unix(int64(v), 0).UTC()
	case tagHoldFor:
		v, err = f.uint(math.MaxInt64 / uint64(time.Second))
		r.HoldFor = time.Duration(v) * time.Second
	case tagSolicit:
		r.Solicit = string(f.value)
	case tagTLSOptional:
		v, err = f.uint(1)
		r.TLSOptional = v != 0
	case tagTransaction:
		r.Transaction, err = parseTransaction(f.value)
	case tagCertifier:
		r.Tracking.Certifier = string(f.value)
	case tagTrackUntil:
		v, err = f.uint(math.MaxInt64)
		r.Tracking.Until = time.Unix(int64(v), 0).UTC()
	}
	return err
}

func (l *last) set(f field) (err error) {
	var v uint64
	switch f.tag {
	case tagLastTry:
		v, err = f.uint(math.MaxInt64)
		l.at = int64(v)
	case tagCode:
		v, err = f.uint(599)
		l.reply.Code = int(v)
	case tagEnhanced:
		v, err = f.uint(0xf<<32 | math.MaxUint32)
		l.reply.Enhanced = [3]int{int(v >> 32), int(v >> 16 & math.MaxUint16), int(v & math.MaxUint16)}
	case tagText:
		l.reply.Text = string(f.value)
	case tagRemote:
		l.remote = string(f.value)
	}
	return err
}

// id reads the value as a message.ID.
func (f field) id() (id message.ID, err error) {
	if copy(id[:], f.value) != len(id) || len(f.value) != len(id) {
		err = fmt.Errorf("%w: message id", errRecord)
	}
	return id, err
}

// parseUpdate reads a kindUpdate; notice is nil when it holds none.
func parseUpdate(b []byte) (changes []change, notice *record, body []byte, err error) {
	if len(b) == 0 || b[0] != kindUpdate {
		return nil, nil, nil, errRecord
	}
	body, err = parseFields(b[1:], true, func(f field) error {
		switch f.tag {
		case tagChange:
			c, err := parseChange(f.value)
			changes = append(changes, c)
			return err
		case tagNotice:
			notice = new(record)
			_, err := parseFields(f.value, false, notice.set)
			return err
		}
		return nil
	})
	return changes, notice, body, err
}

func parseChange(b []byte) (c change, err error) {
	_, err = parseFields(b, false, func(f field) (err error) {
		var v uint64
		switch f.tag {
		case tagMessage:
			c.id, err = f.id()
		case tagOutcome:
			v, err = f.uint(math.MaxUint8)
			c.outcome = outcome(v)
		case tagNumber:
			for b := f.value; len(b) > 0; {
				number, n := binary.Uvarint(b)
				if n <= 0 || number > math.MaxUint32 {
					return fmt.Errorf("%w: recipient numbers", errRecord)
				}
				c.numbers, b = append(c.numbers, uint32(number)), b[n:]
			}
		case tagAttempts:
			v, err = f.uint(math.MaxUint16)
			c.attempts = uint16(v)
		case tagWhen:
			v, err = f.uint(math.MaxInt64)
			c.when = int64(v)
		default:
			err = c.last.set(f)
		}
		return err
	})
	return c, err
}

// parseClock reads a kindClock.
func parseClock(b []byte) (spans []span, err error) {
	if len(b) == 0 || b[0] != kindClock {
		return nil, errRecord
	}
	_, err = parseFields(b[1:], true, func(f field) error {
		if f.tag != tagSpan {
			return nil
		}
		var s span
		_, err := parseFields(f.value, false, func(f field) (err error) {
			var v uint64
			switch f.tag {
			case tagKind:
				s.kind = string(f.value)
			case tagFrom:
				v, err = f.uint(math.MaxInt64)
				s.from = int64(v)
			case tagTo:
				v, err = f.uint(math.MaxInt64)
				s.to = int64(v)
			}
			return err
		})
		spans = append(spans, s)
		return err
	})
	return spans, err
}
