// Package hook runs an operator's program when a DHCP client of ours has learnt something.
//
// Plane: control. The program gets JSON on its standard input, nothing of our environment but PATH, and limited time. One runs at a time; of what
// changes meanwhile the next is told the newest.
package hook
