// Package twiml owns the dialect of Twilio: it compiles TwiML documents into programs of the contract, and writes
// the contract's requests and events as the form parameters that TwiML applications read. It is pure: no network,
// no clock, no state. What a program does is the executor's matter (edge/session), which knows no dialect; asking
// a URL and signing are webhooks'.
//
// # What is run
//
// Names are case-sensitive. Attributes are Twilio's, with Twilio's defaults; deploy/docs/twiml.md has a row for each
// and is made from this package's tests. What is not in the table attributesOf is warned about and ignored, a wrong
// value of what is refuses the document.
//
//	element      becomes
//	Say          say; an empty one is left out with a warning; SSML: break emphasis lang p phoneme prosody s say-as sub w
//	Play, Pause  play, pause; digits: answer, send_digits
//	Gather       gather; action missing: this document; no input goes on unless actionOnEmptyResult; a hang-up is told
//	             to nobody
//	Record       record; action missing: this document; an empty recording goes on
//	Dial         dial; action missing: the next verb; text of 2–8 bare digits: an extension, else a number
//	  Number     number or extension as above; byoc: the trunk, and always a number; url: screen
//	  Sip        sip; headers are one set per Dial
//	  Client     client; its parameters are X- headers
//	  Queue      dequeue, alone in its Dial; url: screen, run on the caller who waited
//	  Conference conference, alone in its Dial; waitUrl: wait, heard once
//	Enqueue      enqueue that makes its queue; waitUrl: wait, again and again; action missing: the next verb, else told of
//	             a hang-up and of a live change too
//	Leave        leave
//	Refer        refer; the URI's headers stay in it
//	Start, Stop  recording, for each Recording in them
//	Sms, Message message, to who is on the line unless it names another
//	Redirect     redirect; empty: this document
//	Hangup       hangup
//	Reject       reject
//
// Known, and refused by name because this version does not run them: Stream, Transcription, and with them Connect.
// Refused by name for good: the list never. Read over, with a warning unless they say what is done anyhow: the
// attributes under unused.
//
// A loop of more than 1,000 is 1,000. Numbers, texts and lists outside the contract's bounds are refused. Templates
// ({{data.x}}) in texts and URLs mean what they mean in every program.
package twiml
