// Package site turns a configuration into a running Bothy and stops it cleanly. It is the only package that knows more than
// one service: it opens the stores, builds each service from its own Config, connects events (link up, lane due) to those who
// listen, and holds the ports.
//
// keep.go runs the parts and converges to a new configuration, listen.go holds the ports, certificate.go the TLS certificate,
// admin.go answers the command line over the local socket.
package site
