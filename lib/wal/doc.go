// Package wal is an append-only log of records in segments: what Append said is there after Wait returned nil is there
// after a power cut. The mail spool and the DHCP leases stand on it. It has no plane; standard library only.
//
// # One record's way
//
//	Append   gives it a position and copies it behind its group, under a short lock
//	Wait     writes its group where nobody writes just now, else sleeps on it
//	commit   one write and one fdatasync for whatever has gathered meanwhile, then wakes all who wait for it, and the committer for what came
//	         meanwhile; the committer also writes what nobody waits for
//	Open     replays every record in order, or only its head where that was put aside (Heads); Read fetches one by its position; Drop forgets a whole segment
//
// A lone writer is committed at once. Where Expect has announced more records than are here, a group waits for them (gather.go), for Hold
// at the latest, so that a disk whose syncs are quick is not asked for one by every record. A record nobody waits for is written with the
// next group, after Linger at the latest.
//
// # On disk
//
// Dir holds `lock`, for a moment `spare` (a dropped segment on its way to be written again) and the segments, files of one size
// named `00000007-5e21a7d0.log`: number and salt. A segment is allocated and zeroed before it is used, so that fdatasync has
// no size and no block map to write: on ext4 that is nearly twice as fast. Records stand on 8-octet boundaries:
//
//	length u32 | group u32 | crc32c of the payload u32 | crc32c of these 12 octets xor salt, number and offset u32 | payload
//
// all little-endian. The last check binds a record to one place in one life of one file, so no octets left over from an
// earlier use, be it of a spare or of a disk block, pass as a record. A record of length 0 seals a segment: nothing follows.
//
// group is the offset at which the record's group begins. A group is written only when everything before it is durable, so a
// record vouches for all that stands before its group: that is how a torn tail is told from damage.
//
// # What replay finds
//
//	R1  a record whose checks hold                                        it is replayed
//	R2  a bad place, and a later record that vouches for it               damage: reported, set aside in damaged/, skipped
//	R3  a bad place in the last written segment, nothing vouches for it   a torn group, never acknowledged: cut
//	R4  a bad place in an older segment, nothing vouches for it           damage up to the segment's end (its seal is lost)
//	R5  behind the last written segment, segments without any record      allocated ahead: removed
//
// # What a crash can leave
//
//	W1  a segment being created, allocated or zeroed       R5
//	W2  `spare` renamed to its new number, not yet used    R5: its old records carry another number
//	W3  part of a group written, not synced                R3, or R1 for a record that is whole: nobody was told of it
//	W4  the tail cut in memory, seal not yet written       R3 again
//	W5  seal written, file not yet truncated               R1: nothing behind a seal is read
//	W6  Drop's rename or remove not yet synced             the segment is replayed; the next Drop waits for this one's sync
//	W7  heads of a segment written in part, or left over    worth nothing: its segment is read, or there is none
//
// After Open nothing is written into an old segment, so what was cut cannot come back.
//
// # When the disk fails
//
// A failed write or sync kills the log: every later Append and Wait returns the same error, the sync is never tried again,
// because the kernel may have dropped the pages and called them clean. A full disk is no failure. The next segment
// is allocated when half of one is written; when it cannot be, Append answers ErrFull before anything is written, and tries again at the next call.
// Where a write finds no room all the same (a file system that copies on write), the group is taken back by truncation and
// everybody in it gets ErrFull.
//
// A sector already synced is assumed to survive a torn write of its unsynced rest.
package wal
