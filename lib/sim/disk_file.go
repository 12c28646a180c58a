package sim

import (
	"io"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"
)

// file is an open file; it outlives its name.
type file struct {
	disk   *Disk
	name   string
	inode  *inode
	closed atomic.Bool
}

func (f *file) ReadAt(p []byte, offset int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.usable("read"); err != nil {
		return 0, err
	}
	if offset >= int64(len(f.inode.seen)) {
		return 0, io.EOF
	}
	n := copy(p, f.inode.seen[offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, offset int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.usable("write"); err != nil {
		return 0, err
	}
	crash, err := f.disk.begin("write", f.name)
	if err != nil {
		return 0, err
	}
	n, err := f.disk.take(f.inode, offset, int64(len(p)))
	if n > 0 {
		f.inode.change(change{offset, slices.Clone(p[:n])})
	}
	return int(n), ended(crash, err)
}

func (f *file) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.usable("truncate"); err != nil {
		return err
	}
	crash, err := f.disk.begin("truncate", f.name)
	if err != nil {
		return err
	}
	f.inode.change(change{offset: size})
	for b := range f.inode.blocks {
		if b*blockSize >= size {
			delete(f.inode.blocks, b)
		}
	}
	return ended(crash, nil)
}

func (f *file) Allocate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.usable("allocate"); err != nil {
		return err
	}
	crash, err := f.disk.begin("allocate", f.name)
	if err != nil {
		return err
	}
	if !f.disk.Thin {
		if _, err := f.disk.take(f.inode, 0, size); err != nil {
			return ended(crash, err)
		}
	}
	if size > int64(len(f.inode.seen)) {
		f.inode.change(change{offset: size})
	}
	return ended(crash, nil)
}

func (f *file) Sync() error {
	time.Sleep(time.Duration(f.disk.syncTime.Load()))
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.usable("sync"); err != nil {
		return err
	}
	crash, err := f.disk.begin("sync", f.name)
	if crash {
		return ErrPower
	}
	n := f.inode
	if err == nil {
		for _, c := range n.changes {
			n.durable = c.apply(n.durable)
		}
	}
	n.changes = nil
	return err
}

func (f *file) Size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.usable("stat"); err != nil {
		return 0, err
	}
	return int64(len(f.inode.seen)), nil
}

func (f *file) Close() error {
	f.closed.Store(true)
	return nil
}

// usable reports why nothing can be done with the file. The caller holds the disk's mu.
func (f *file) usable(call string) error {
	switch {
	case f.closed.Load():
		return &fs.PathError{Op: call, Path: f.name, Err: fs.ErrClosed}
	case f.disk.off:
		return ErrPower
	}
	return nil
}

func (n *inode) change(c change) {
	n.seen = c.apply(n.seen)
	n.changes = append(n.changes, c)
}

// apply does a change to a file's octets.
func (c change) apply(b []byte) []byte {
	if c.data == nil {
		return resize(b, c.offset)
	}
	b = resize(b, max(int64(len(b)), c.offset+int64(len(c.data))))
	copy(b[c.offset:], c.data)
	return b
}

func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}
