// Package metrics tells Prometheus what a server does: counters that its parts count, and what is read when somebody asks.
//
// Left out: what has no bound on its values as a label. There is no metric by peer, domain or message: the log and the queue say that; and one by
// customer only as long as they are few.
//
// Plane: management. One scrape: the handler calls State once, and writes it with the counters in the text format.
package metrics
