// Package twiml owns the dialect of Twilio: it compiles TwiML documents into programs of the contract, and writes
// the contract's requests and events as the form parameters that TwiML applications read. It is pure: no network,
// no clock, no state. What a program does is the executor's matter (edge/session), which knows no dialect; asking
// a URL and signing are webhooks'.
//
// # What is run
//
// Names are case-sensitive. Attributes are Twilio's, with Twilio's defaults; those not named here are warned about
// and ignored, a wrong value of one that is named refuses the document.
//
//	element   attributes                                         becomes
//	Say       voice language loop; SSML: break emphasis lang p   say; an empty one is left out with a warning
//	          phoneme prosody s say-as sub w
//	Play      loop digits; text: URL                             play; digits: answer, send_digits
//	Pause     length                                             pause
//	Gather    input (dtmf; "dtmf speech" hears keys only, with   gather; action missing: this document;
//	          a warning; speech refused) action method timeout   no input goes on unless actionOnEmptyResult;
//	          finishOnKey numDigits actionOnEmptyResult bargeIn; a hang-up is told to nobody
//	          in it Say Play Pause
//	Record    action method timeout finishOnKey (a set of keys)  record; action missing: this document;
//	          maxLength playBeep trim recordingStatusCallback    an empty recording goes on
//	Dial      action method timeout timeLimit callerId           dial; action missing: the next verb; text of 2–8
//	          hangupOnStar answerOnBridge record ringTone        bare digits: an extension, else a number
//	          sequential; text or up to ten of:
//	  Number  url method byoc                                    number or extension as above; byoc: the trunk,
//	                                                             and always a number; url: screen
//	  Sip     url method username password; URI?X-Name=value     sip; headers are one set per Dial
//	Redirect  method; text: URL, empty: this document            redirect
//	Hangup                                                       hangup
//	Reject    reason                                             reject
//
// Known, and refused by name because this version does not run them: Enqueue, Leave, Refer, Connect, Start, Stop,
// Sms; in Dial: Client, Conference, Queue; sendDigits of Number. Refused by name for good: Pay, VirtualAgent,
// Conversation, ConversationRelay, Room, Sim, AiSession, Assistant, Autopilot, Siprec, WhatsApp, Application, Echo.
// Known and without effect, with a warning: transcription and status callbacks of Dial and its nouns, answering
// machine detection, referUrl, callReason, recordingTrack, and trim of Dial.
//
// A loop of more than 1,000 is 1,000. Numbers, texts and lists outside the contract's bounds are refused. Templates
// ({{data.x}}) in texts and URLs mean what they mean in every program.
package twiml
