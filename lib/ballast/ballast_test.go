package ballast

import (
	"testing"

	"bothy/lib/sim"
)

func TestBallast(t *testing.T) {
	const size = 64 << 10
	disk := sim.NewDisk()
	b := Ballast{disk, "data/ballast", size}
	disk.SetCapacity(2*size - 1)
	if b.Hold() || disk.Used() != 0 || b.Drop() {
		t.Error("made without the room for it")
	}
	disk.SetCapacity(2 * size)
	if !b.Hold() || disk.Used() != size {
		t.Errorf("not made: %d octets used", disk.Used())
	}
	disk.SetCapacity(disk.Used()) // full: what is there is there
	if !b.Hold() {
		t.Error("not there")
	}
	for left := int64(size); left > 0; {
		left -= size / pieces
		if !b.Drop() || disk.Used() != left || b.Hold() {
			t.Errorf("%d octets used, want %d", disk.Used(), left)
		}
	}
	if b.Drop() {
		t.Error("nothing was dropped")
	}
	if b.Hold() {
		t.Error("made again on a full disk")
	}
	disk.SetCapacity(3 * size)
	if !b.Hold() || disk.Used() != size {
		t.Error("not made again when there was room")
	}
	f, err := disk.Open(b.File) // a crash may leave half of it
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(1); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if !b.Hold() || disk.Used() != size {
		t.Error("not made whole")
	}
}
