// Package durable writes small files that are there whole or not at all, whatever is cut short.
//
// Plane: lib.
package durable
