package sim

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"bothy/lib/wal"
)

// Disk is a file system in memory that may fail, fill up and lose power. It keeps apart what programs see, as the page cache
// shows it, and what would survive a power cut: data that was synced, in files whose directory entry was synced. Its
// directories are there from the start. It is a wal.FS; safe for concurrent use.
type Disk struct {
	// Fail, if set, is asked before each operation; an error makes it fail. A failed Sync has lost what it should have
	// made durable: it is still seen, but no later Sync writes it (what Linux does after EIO).
	Fail func(Op) error
	// CrashAt is the number of the operation during which the power fails, counted from 1; 0 is never. That operation may or may not
	// have happened; it and all after it return ErrPower, reads too.
	CrashAt int
	// CrashIf, if set, is asked before each operation whether the power fails during it.
	CrashIf func(Op) bool
	// Capacity is how many octets fit, in whole blocks; 0 is no limit.
	Capacity int64
	// Thin makes Allocate reserve nothing: blocks are taken as they are written, as on a file system that copies on write.
	Thin bool

	mu      sync.Mutex
	seen    map[string]*inode
	durable map[string]*inode
	moves   []move // of directory entries, not yet synced
	locked  map[string]bool
	ops     int
	off     bool

	syncTime atomic.Int64 // of each file's sync
}

// ErrPower is what every call returns after the power failed.
var ErrPower = errors.New("sim: power failed")

// Op is one operation that changes something.
type Op struct {
	N    int    // from 1
	Call string // "create", "remove", "rename", "syncdir", "write", "sync", "truncate", "allocate"
	Name string // of the file or directory
}

// Fault fails the Nth operation of one kind; its Fail is for Disk.Fail.
type Fault struct {
	Call string // as Op.Call
	N    int    // from 1
	Err  error

	seen atomic.Int64
}

// Fail is Disk.Fail's.
func (f *Fault) Fail(op Op) error {
	if op.Call == f.Call && f.seen.Add(1) == int64(f.N) {
		return f.Err
	}
	return nil
}

// Happened reports whether there was an Nth operation.
func (f *Fault) Happened() bool { return f.seen.Load() >= int64(f.N) }

const (
	sectorSize = 512     // written whole or not at all
	blockSize  = 4 << 10 // space is taken in these
)

// inode is a file without its name.
type inode struct {
	seen    []byte
	durable []byte
	changes []change // made since the last sync
	blocks  map[int64]bool
}

// change is one write, or a change of size where data is nil.
type change struct {
	offset int64 // or the new size
	data   []byte
}

// move is a change of directory entries: from goes away, to comes to be; either may be empty.
type move struct {
	from, to string
	inode    *inode
}

// NewDisk returns an empty disk.
func NewDisk() *Disk {
	return &Disk{seen: make(map[string]*inode), durable: make(map[string]*inode), locked: make(map[string]bool)}
}

// Ops returns how many operations there were.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// begin counts an operation. crash says that the power fails during it. The caller holds mu.
func (d *Disk) begin(call, name string) (crash bool, err error) {
	if d.off {
		return false, ErrPower
	}
	d.ops++
	if d.ops == d.CrashAt || d.CrashIf != nil && d.CrashIf(Op{d.ops, call, name}) {
		d.off = true
		return true, nil
	}
	if d.Fail != nil {
		if err := d.Fail(Op{d.ops, call, name}); err != nil {
			return false, &fs.PathError{Op: call, Path: name, Err: err}
		}
	}
	return false, nil
}

// ended is the result of an operation that was begun and done.
func ended(crash bool, err error) error {
	if crash {
		return ErrPower
	}
	return err
}

// Create is wal.FS's.
func (d *Disk) Create(name string) (wal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen[name] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	crash, err := d.begin("create", name)
	if err != nil {
		return nil, err
	}
	n := &inode{blocks: make(map[int64]bool)}
	d.rename(move{to: name, inode: n})
	if crash {
		return nil, ErrPower
	}
	return &file{disk: d, name: name, inode: n}, nil
}

// Open is wal.FS's.
func (d *Disk) Open(name string) (wal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find("open", name)
	if err != nil {
		return nil, err
	}
	return &file{disk: d, name: name, inode: n}, nil
}

func (d *Disk) find(call, name string) (*inode, error) {
	if d.off {
		return nil, ErrPower
	}
	if n := d.seen[name]; n != nil {
		return n, nil
	}
	return nil, &fs.PathError{Op: call, Path: name, Err: fs.ErrNotExist}
}

// Remove is wal.FS's.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find("remove", name)
	if err != nil {
		return err
	}
	crash, err := d.begin("remove", name)
	if err != nil {
		return err
	}
	d.rename(move{from: name, inode: n})
	return ended(crash, nil)
}

// Rename is wal.FS's.
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find("rename", from)
	if err != nil {
		return err
	}
	crash, err := d.begin("rename", from)
	if err != nil {
		return err
	}
	d.rename(move{from, to, n})
	return ended(crash, nil)
}

func (d *Disk) rename(m move) {
	m.apply(d.seen)
	d.moves = append(d.moves, m)
}

func (m move) apply(names map[string]*inode) {
	delete(names, m.from)
	if m.to != "" {
		names[m.to] = m.inode
	}
}

// List is wal.FS's.
func (d *Disk) List(dir string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return nil, ErrPower
	}
	var names []string
	for name := range d.seen {
		if path.Dir(name) == path.Clean(dir) {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

// Mkdir is wal.FS's.
func (d *Disk) Mkdir(string) error { return nil }

// SyncDir is wal.FS's.
func (d *Disk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	crash, err := d.begin("syncdir", dir)
	if crash {
		return ErrPower
	}
	d.moves = slices.DeleteFunc(d.moves, func(m move) bool {
		here := path.Dir(m.from) == path.Clean(dir) || path.Dir(m.to) == path.Clean(dir)
		if here && err == nil {
			m.apply(d.durable)
		}
		return here
	})
	return err
}

// Free is wal.FS's.
func (d *Disk) Free(string) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return 0, ErrPower
	}
	return d.free(), nil
}

// Total is wal.FS's.
func (d *Disk) Total(string) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return cmp.Or(d.Capacity, 1<<40), nil
}

func (d *Disk) free() int64 {
	if d.Capacity == 0 {
		return 1 << 40
	}
	free := d.Capacity
	for _, n := range d.seen {
		free -= int64(len(n.blocks)) * blockSize
	}
	return max(free, 0)
}

// SetFail is for a disk in use.
func (d *Disk) SetFail(fail func(Op) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Fail = fail
}

// SetCrashIf is for a disk in use.
func (d *Disk) SetCrashIf(crash func(Op) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.CrashIf = crash
}

// SetSyncTime is how long each sync of a file takes from now on: a disk that is slow, or that retries.
func (d *Disk) SetSyncTime(t time.Duration) { d.syncTime.Store(int64(t)) }

// SetCapacity is for a disk in use.
func (d *Disk) SetCapacity(octets int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Capacity = octets
}

// Used returns the octets of all files, in whole blocks.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	var used int64
	for _, n := range d.seen {
		used += int64(len(n.blocks)) * blockSize
	}
	return used
}

// take gives an inode the blocks for octets from offset on, as far as there are any, and returns how many octets have their block.
func (d *Disk) take(n *inode, offset, octets int64) (int64, error) {
	free := d.free()
	for b := offset / blockSize; b*blockSize < offset+octets; b++ {
		if n.blocks[b] {
			continue
		}
		if free < blockSize {
			return max(0, b*blockSize-offset), syscall.ENOSPC
		}
		n.blocks[b] = true
		free -= blockSize
	}
	return octets, nil
}

// Lock is wal.FS's.
func (d *Disk) Lock(name string) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return nil, ErrPower
	}
	if d.locked[name] {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: syscall.EWOULDBLOCK}
	}
	d.locked[name] = true
	return unlocker{d, name}, nil
}

type unlocker struct {
	disk *Disk
	name string
}

func (u unlocker) Close() error {
	u.disk.mu.Lock()
	defer u.disk.mu.Unlock()
	delete(u.disk.locked, u.name)
	return nil
}
