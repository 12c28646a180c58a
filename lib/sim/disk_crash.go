package sim

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Survival says what a power cut leaves of what was not synced.
type Survival uint8

const (
	// Synced leaves nothing of it.
	Synced Survival = iota
	// Cached leaves all of it: only the process died.
	Cached
	// Torn leaves what the dice say: of each write all, nothing, a beginning or any of its sectors; of the directory entries any.
	Torn
)

// PowerCut returns the disk as it is found when the power comes back; it has no faults. The old disk only returns ErrPower from now on.
func (d *Disk) PowerCut(s Survival, seed uint64) *Disk {
	d.mu.Lock()
	d.off = true
	d.mu.Unlock()
	return d.Afterwards(s, seed)
}

// Afterwards returns what PowerCut would, and leaves the power on.
func (d *Disk) Afterwards(s Survival, seed uint64) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	dice := rand.New(rand.NewPCG(seed, 1))
	names := maps.Clone(d.durable)
	switch s {
	case Cached:
		names = d.seen
	case Torn:
		for _, m := range d.moves {
			if dice.IntN(2) == 0 {
				m.apply(names)
			}
		}
	}
	after := NewDisk()
	after.Capacity, after.Thin = d.Capacity, d.Thin
	for _, name := range slices.Sorted(maps.Keys(names)) { // in order: the dice must fall the same way every time
		n := names[name].survive(s, dice)
		after.seen[name], after.durable[name] = n, n
	}
	return after
}

// survive returns what is left of a file.
func (n *inode) survive(s Survival, dice *rand.Rand) *inode {
	left := slices.Clone(n.durable)
	switch s {
	case Cached:
		left = slices.Clone(n.seen)
	case Torn:
		for _, c := range n.changes {
			for _, part := range c.tear(dice) {
				left = part.apply(left)
			}
		}
	}
	after := &inode{seen: left, durable: slices.Clone(left), blocks: make(map[int64]bool)}
	for b := int64(0); b*blockSize < int64(len(left)); b++ {
		after.blocks[b] = true
	}
	return after
}

// tear returns the parts of a change that reach the disk.
func (c change) tear(dice *rand.Rand) []change {
	fate := dice.IntN(4)
	switch {
	case fate == 0:
		return nil
	case fate == 1 || c.data == nil:
		return []change{c}
	}
	var parts []change
	beginning := dice.IntN(len(c.data)/sectorSize + 1)
	for i, from := 0, int64(0); from < int64(len(c.data)); i++ { // sectors of the disk, not of the write
		to := min((c.offset+from)/sectorSize*sectorSize+sectorSize-c.offset, int64(len(c.data)))
		if fate == 2 && i < beginning || fate == 3 && dice.IntN(2) == 0 {
			parts = append(parts, change{c.offset + from, c.data[from:to]})
		}
		from = to
	}
	return parts
}
