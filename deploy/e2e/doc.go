// Package e2e proves the built binary from outside: SIPp, baresip and the telephone of hookswitch call place real calls
// over real sockets, applications answer over HTTP, and what is left is read by the REST API. Everything runs in both
// deployments: together (hookswitch up on SQLite, bus in memory and plain files) and apart (a control plane on PostgreSQL, Redis
// and S3, and an edge as a process of its own). What only virtual time can show, such as timers of half a minute, is left
// to edge/calltest.
package e2e
