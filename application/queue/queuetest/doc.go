// Package queuetest opens spools for tests and holds the suite that every queue.Store must pass.
//
// Plane: application.
package queuetest
