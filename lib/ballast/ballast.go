// Package ballast keeps a little room on a disk that others may fill: a file that is of no use but to be thrown off, so that what must be
// written to start, to be administered or to delete something finds its place.
//
// Plane: lib. [Ballast.Hold] has the file there, [Ballast.Drop] gives some of its room away. Whoever dropped it and what he does then are small;
// whoever brings more to the disk (a delivery) asks Hold first and stays away while it is not whole, so that he never eats it.
//
// Left out: file systems that compress, where a file of zeros weighs nothing.
package ballast

import (
	"errors"
	"io/fs"
	"path"

	"bothy/lib/wal"
)

// Ballast is one such file. Nothing is remembered beside it, so that several processes may share one. Safe for concurrent use.
type Ballast struct {
	FS   wal.FS
	File string
	Size int64 // octets
}

// pieces is how often Drop finds something: who filled the disk may fill it again.
const pieces = 8

// Hold makes the file whole, and reports whether it is. It is done when twice its size is free: what makes it must not fill the disk.
func (b Ballast) Hold() bool {
	f, err := b.FS.Open(b.File)
	if errors.Is(err, fs.ErrNotExist) && b.fits() {
		f, err = b.FS.Create(b.File)
	}
	if err != nil {
		return false
	}
	defer f.Close()
	size, err := f.Size()
	switch {
	case err != nil:
		return false
	case size >= b.Size:
		return true
	case !b.fits():
		return false
	}
	if err := f.Allocate(b.Size); err != nil {
		f.Truncate(size)
		return false
	}
	return true
}

func (b Ballast) fits() bool {
	free, err := b.FS.Free(path.Dir(b.File))
	return err == nil && free >= 2*b.Size
}

// Drop gives a piece of the file away, and reports whether there was one.
func (b Ballast) Drop() bool {
	f, err := b.FS.Open(b.File)
	if err != nil {
		return false
	}
	defer f.Close()
	size, err := f.Size()
	return err == nil && size > 0 && f.Truncate(max(0, size-b.Size/pieces)) == nil
}
