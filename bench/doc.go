// Package bench measures the whole program side by side with a peer in the same run: `make bench`. Nothing here is a test, and no
// test measures time.
package bench
