package message

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestID(t *testing.T) {
	now := time.UnixMilli(1_767_225_600_123)
	id := NewID(now)
	if got := id.Time(); !got.Equal(now) {
		t.Errorf("Time() = %v, want %v", got, now)
	}
	s := id.String()
	if len(s) != idLen || strings.Trim(s, "0123456789abcdefghijklmnopqrstuv") != "" {
		t.Errorf("String() = %q", s)
	}
	if back, err := ParseID(s); err != nil || back != id {
		t.Errorf("ParseID(%q) = %v, %v", s, back, err)
	}
	if NewID(now) == id {
		t.Error("two IDs of one moment are the same")
	}
}

func TestIDSorts(t *testing.T) {
	ids := []ID{{}, {5: 1}, {0: 1}, {0: 0x7f, 11: 1}, {0: 0x7f, 11: 2}, {0: 0xff, 11: 0xff}}
	for i := 1; i < len(ids); i++ {
		a, b := ids[i-1], ids[i]
		if bytes.Compare(a[:], b[:]) >= 0 || a.String() >= b.String() {
			t.Errorf("%s does not sort before %s", a, b)
		}
	}
}

func TestParseIDRefuses(t *testing.T) {
	good := ID{1, 2, 3}.String()
	for _, s := range []string{
		"", good[1:], good + "0", strings.ToUpper(ID{0xff, 0xff}.String()),
		good[:19] + "1", // bits beyond the 96th
		good[:19] + "w", good[:19] + "\n", good[:19] + "=",
	} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("ParseID(%q) = %v", s, id)
		}
	}
}

func TestIDText(t *testing.T) {
	type row struct{ ID ID }
	want := row{NewID(time.UnixMilli(1))}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got row
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Errorf("%s: %v, %v", text, got, err)
	}
}

func BenchmarkNewID(b *testing.B) {
	now := time.UnixMilli(1)
	b.ReportAllocs()
	for b.Loop() {
		NewID(now)
	}
}
