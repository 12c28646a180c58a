package wal

import (
	"errors"
	"fmt"
	"io"
	"syscall"
)

// FS is what the log needs of a file system; OS is the real one, sim.Disk one that fails on purpose. Names are slash
// paths. Missing files are fs.ErrNotExist, a full disk is syscall.ENOSPC. Safe for concurrent use.
type FS interface {
	// Create makes a new file for reading and writing; an existing one is fs.ErrExist.
	Create(name string) (File, error)
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	Remove(name string) error
	Rename(from, to string) error
	// List returns the names of the files in dir, sorted.
	List(dir string) ([]string, error)
	// Mkdir makes dir and its parents, durably, where they are missing.
	Mkdir(dir string) error
	// SyncDir makes the creations, renames and removals in dir durable.
	SyncDir(dir string) error
	// Free returns the octets that may still be written where dir is.
	Free(dir string) (int64, error)
	// Total returns the octets that the file system of dir has, free or not.
	Total(dir string) (int64, error)
	// Lock creates name if needed and locks it against every other process until the Closer is closed or the process ends.
	Lock(name string) (io.Closer, error)
}

// File is an open file. Its methods are safe for concurrent use.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes the data, and the size where it changed, durable (fdatasync).
	Sync() error
	Truncate(size int64) error
	// Allocate makes the file size octets long and reserves its blocks, so that writing there needs no room and changes no
	// metadata. The added octets are zero, or old data of this file.
	Allocate(size int64) error
	Size() (int64, error)
}

// ErrFull says that there is no room for the record now. It was not written; the log is alive.
var ErrFull = errors.New("wal: no room")

// ErrClosed says that the log was closed.
var ErrClosed = errors.New("wal: closed")

// ErrGone says that the segment of a position was dropped.
var ErrGone = errors.New("wal: segment dropped")

// ErrDamaged says that what stands at a position is not the record that was written there.
var ErrDamaged = errors.New("wal: damaged record")

// ErrTooLarge says that a record does not fit into a segment.
var ErrTooLarge = errors.New("wal: record larger than a segment")

// full reports whether err is for want of room.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// asFull marks err with ErrFull where it is for want of room.
func asFull(err error) error {
	if full(err) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// IsFull reports whether an error of the log or of an FS is for want of room.
func IsFull(err error) bool { return errors.Is(err, ErrFull) || full(err) }
