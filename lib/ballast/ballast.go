// Package ballast keeps a little room on a disk that others may fill: a file that is of no use but to be thrown off, so that what must be
// written to start, to be administered or to delete something finds its place.
//
// Plane: lib. [Ballast.Hold] has the file there, [Ballast.Drop] gives its room away. Whoever dropped it and what he does then are small;
// whoever brings more to the disk (a delivery) asks Hold first and stays away while there is no ballast, so that he never eats it.
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

// Hold makes the file where it is missing, and reports whether it is there. It is made when twice its size is free: what makes it must
// not fill the disk.
func (b Ballast) Hold() bool {
	f, err := b.FS.Open(b.File)
	if err == nil {
		defer f.Close()
		size, err := f.Size()
		return err == nil && (size >= b.Size || b.fill(f))
	}
	if !errors.Is(err, fs.ErrNotExist) || !b.fits() {
		return false
	}
	if f, err = b.FS.Create(b.File); err != nil {
		return errors.Is(err, fs.ErrExist) // by another one just now
	}
	defer f.Close()
	return b.fill(f)
}

// fill gives the file its size. Where the room is gone meanwhile, nothing is left of it.
func (b Ballast) fill(f wal.File) bool {
	if !b.fits() {
		return false
	}
	if err := f.Allocate(b.Size); err != nil {
		b.FS.Remove(b.File)
		return false
	}
	return true
}

func (b Ballast) fits() bool {
	free, err := b.FS.Free(path.Dir(b.File))
	return err == nil && free >= 2*b.Size
}

// Drop removes the file, and reports whether that made room.
func (b Ballast) Drop() bool { return b.FS.Remove(b.File) == nil }
