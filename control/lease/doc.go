// Package lease remembers who holds which address, and still does after a power cut: what Wait confirmed is on disk.
//
//	RFC 2131 §3.1 (4)   the server commits the binding to persistent storage, then answers
//	RFC 2131 §3.3       times are relative, so the store has a clock of its own that never jumps
//	RFC 9915 §12        the same for DHCPv6: addresses and prefixes by DUID and IAID
//
// Left out: choosing an address, which is the server's; Pool helps it. Prefixes that overlap without being equal are not compared.
// One process has a store at a time, and there is no second machine.
//
// Plane: control. One lease: the server looks with Get and Client, decides, and calls Bind (store.go), which appends the whole row to the log
// of lib/wal (wire.go) and changes the index in the same moment; the server waits on the Pending before it answers. All who wait at
// one moment share one sync. Pool hears of each change by Watch. Run (serve.go) forgets rows nobody has asked for in a long
// time and moves what is live out of old segments. Open replays the log: of each address the last row counts.
//
// # The clock
//
// A lease's end is an instant of the store's own clock, Now. While the process runs, that clock advances as the machine's steady clock does: setting
// the time of day neither ends a lease early nor lengthens one. From one run to the next it advances with the time of day.
// Each record carries Now, and a clock record says how far the time of day is off it, whenever that changes:
//
//	C1  the time of day was set while the process ran     Now is untouched; the new difference is recorded with the next row
//	C2  it is later than the last record at Open          the downtime counts
//	C3  it is earlier (no battery, started in 1970)       the downtime is unknown and does not count; that is recorded. Leases
//	                                                      last longer than they were given for, never shorter
//	C4  after C3, set while the process runs              as C1
//	C5  after C3, right again at a later Open             the downtime does not count, from then on C2
//
// A machine that sleeps is C1: its steady clock stood still.
//
// # What a crash can leave
//
//	L1  row appended, not synced            as before it, or as L2: the client, told nothing, asks again
//	L2  row synced, answered or not         the lease holds
//	L3  row moved to a new segment, the     the later row counts, and it is the same or newer
//	    old segment not yet dropped
//	L4  forgotten, not synced               the row is back: an address is free later, never taken twice
//
// Only the oldest segment is dropped, when every row in it has a later one, or is forgotten by a later record; so nothing old
// comes back.
package lease
