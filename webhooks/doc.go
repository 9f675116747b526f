// Package webhooks owns the public contract between Hookswitch and the applications that tell it what to do
// with a call: the request an application receives, the program it answers, what each instruction ended with,
// how a live call is changed, the events that follow, the causes a call can end for, and the signature on all of
// it. It also holds the client that asks one URL. How a program is executed is the edge's matter (edge/session);
// how TwiML becomes a program is webhooks/twiml's.
package webhooks
