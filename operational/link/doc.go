// Package link publishes the state of one uplink: up or down, since when, and why. Everything that depends on the uplink
// listens here: the relay holds its clocks while it is down and sends at up, the ODMR customer calls at up.
//
// Sources say what the state is. AlwaysUp is for the site that has no trouble. Probe connects to the provider now and then.
// Manual is a switch. Services that use the link report what they saw of it (Evidence), so that a call that succeeded counts at
// once, and a call that failed makes the probe look at once, instead of at its next turn. Evidence is weighed by the source: a
// switch that was set down by hand stays down.
//
// Left out until their packages exist: kernel link and route events, the DHCP client's lease, PPP's network phase.
//
// Plane: operational; no RFC. One change: a Source reports, link.go compares it with the last state, and puts the new one into the
// channel of each watcher, in place of an older one that was not read yet.
package link
