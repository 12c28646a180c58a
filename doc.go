// Package site turns a configuration into a running Bothy and stops it cleanly. It is the only package that knows more than
// one service: it opens the stores, builds each service from its own Config, connects events (link up, lane due) to those who
// listen, and holds the ports.
//
// site.go opens and closes the stores; compose.go makes the services of one configuration, border.go, local.go and dhcp.go the larger
// ones; keep.go runs the parts and converges to a new configuration; listen.go holds the ports, certificate.go the TLS certificate;
// event.go and metrics.go tell who watches; admin.go and its like answer the command line over the local socket.
package site
