// Package tally counts the messages of a service: by type those taken and sent, by reason those dropped.
//
// Plane: control.
package tally
