package wal

import (
	"cmp"
	"errors"
	"path"
	"slices"
	"strings"
)

// recover replays what is in the directory and leaves every segment complete.
func (l *Log) recover(replay func(Position, []byte) error) error {
	found, err := l.list()
	for _, s := range found {
		l.segments[s.number] = s // so that a failure closes it
	}
	if err != nil {
		return err
	}
	for len(found) > 0 {
		last := found[len(found)-1]
		if last.hasRecord() {
			break
		}
		delete(l.segments, last.number)
		l.discard(last) // R5
		found = found[:len(found)-1]
	}
	for i, s := range found {
		if i < len(found)-1 { // the last may have grown a tail that was never acknowledged
			switch done, err := l.replayHeads(s); {
			case err != nil:
				return err
			case done:
				continue
			}
		}
		t, err := s.scan(replay, func(from, to int64) { l.damaged(s, from, to) })
		switch {
		case err != nil:
			return err
		case t.sealed:
		case i < len(found)-1:
			l.damaged(s, t.end, s.size) // R4
		default:
			if err := s.seal(t.end); err != nil && !full(err) { // R3
				return err
			}
		}
	}
	return nil
}

// list opens the segments of the directory, in order, and removes the spare.
func (l *Log) list() ([]*segment, error) {
	names, err := l.o.FS.List(l.o.Dir)
	if err != nil {
		return nil, err
	}
	var found []*segment
	heads := map[string]bool{}
	for _, name := range names {
		id, ok := parseIdentity(name)
		if name == spareName {
			if err := l.o.FS.Remove(path.Join(l.o.Dir, name)); err != nil {
				return found, err
			}
		}
		if strings.HasSuffix(name, headsSuffix) {
			heads[path.Join(l.o.Dir, name)] = true
		}
		if !ok {
			continue
		}
		s := &segment{identity: id}
		if s.file, err = l.o.FS.Open(l.path(id)); err != nil {
			return found, err
		}
		found = append(found, s)
		if s.size, err = s.file.Size(); err != nil {
			return found, err
		}
		s.size = min(s.size, MaxSegmentSize)
		l.highest = max(l.highest, id.number)
	}
	for _, s := range found {
		delete(heads, l.headsPath(s.identity))
	}
	for name := range heads {
		l.o.FS.Remove(name) // of a segment that was dropped
	}
	slices.SortFunc(found, func(a, b *segment) int { return cmp.Compare(a.number, b.number) })
	return found, nil
}

// hasRecord reports whether anything was ever acknowledged in the segment, or may have been.
func (s *segment) hasRecord() bool {
	stop := errors.New("one is enough")
	_, err := s.scan(func(Position, []byte) error { return stop }, func(int64, int64) {})
	return err != nil
}

// damaged sets a stretch of a segment aside and reports it. The error is that it could not be set aside.
func (l *Log) damaged(s *segment, from, to int64) error {
	d := Damage{Position: Position{s.number, uint32(from)}, Length: to - from}
	d.File, d.Known, d.Err = s.setAside(l.o.FS, l.o.Dir, from, to)
	l.o.Damaged(d)
	return d.Err
}
