package message

// ID names one accepted message for its whole life: 48 bits of milliseconds since 1970 and 48 random bits, so that
// IDs sort by time and two servers do not collide.
type ID [12]byte
