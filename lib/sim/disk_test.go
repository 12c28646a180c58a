package sim

import (
	"bytes"
	"slices"
	"testing"
)

// A power cut may leave what was written later and not what was written before, in one file and between files, and of one write the
// ends and not the middle; over many seeds all of that happens. What was synced is always there.
func TestPowerCutReorders(t *testing.T) {
	happened := map[string]bool{}
	for seed := range uint64(500) {
		d := NewDisk()
		kept, err := d.Create("d/kept")
		if err != nil {
			t.Fatal(err)
		}
		first, second := bytes.Repeat([]byte("1"), 3*sectorSize), bytes.Repeat([]byte("2"), 3*sectorSize)
		write := func(f interface {
			WriteAt([]byte, int64) (int, error)
		}, b []byte, at int,
		) {
			if _, err := f.WriteAt(b, int64(at)); err != nil {
				t.Fatal(err)
			}
		}
		write(kept, []byte("synced"), 0)
		if err := kept.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := d.SyncDir("d"); err != nil {
			t.Fatal(err)
		}
		write(kept, first, 4*sectorSize)
		write(kept, second, 8*sectorSize)
		for _, name := range []string{"d/a", "d/b"} {
			if _, err := d.Create(name); err != nil {
				t.Fatal(err)
			}
		}

		after := d.PowerCut(Torn, seed)
		found := after.seen["d/kept"].seen
		if !bytes.HasPrefix(found, []byte("synced")) {
			t.Fatalf("seed %d: what was synced is gone", seed)
		}
		found = append(found, make([]byte, 11*sectorSize)...)[:11*sectorSize]
		one, two := found[4*sectorSize:7*sectorSize], found[8*sectorSize:]
		a, b := after.seen["d/a"] != nil, after.seen["d/b"] != nil
		middle := one[sectorSize : 2*sectorSize]
		for what, so := range map[string]bool{
			"nothing":           !slices.Contains(one, '1') && !slices.Contains(two, '2'),
			"all":               bytes.Equal(one, first) && bytes.Equal(two, second),
			"the later write":   !slices.Contains(one, '1') && bytes.Equal(two, second),
			"the earlier write": bytes.Equal(one, first) && !slices.Contains(two, '2'),
			"a beginning":       one[0] == '1' && one[3*sectorSize-1] != '1',
			"a hole":            one[0] == '1' && one[3*sectorSize-1] == '1' && !slices.Contains(middle, '1'),
			"the later name":    !a && b,
			"the earlier name":  a && !b,
			"half a sector":     bytes.Count(one, []byte("1"))%sectorSize != 0,
		} {
			happened[what] = happened[what] || so
		}
	}
	if happened["half a sector"] {
		t.Error("a sector was torn")
	}
	delete(happened, "half a sector")
	for what, so := range happened {
		if !so {
			t.Errorf("never left: %s", what)
		}
	}
}
