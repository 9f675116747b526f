package sdp

import "strings"

// Descriptions as phones, browsers, carriers and test tools send them, with addresses from the documentation ranges.
const (
	sippOffer = `v=0
o=user1 53655765 2353687637 IN IP4 192.0.2.10
s=-
c=IN IP4 192.0.2.10
t=0 0
m=audio 6000 RTP/AVP 8 101
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-11,16
`

	baresipOffer = `v=0
o=- 3897364723 188275129 IN IP4 192.0.2.20
s=-
c=IN IP4 192.0.2.20
t=0 0
a=tool:baresip 1.0.0
m=audio 16452 RTP/AVP 96 97 0 8 101
b=AS:125
a=rtpmap:96 opus/48000/2
a=fmtp:96 stereo=1;sprop-stereo=1
a=rtpmap:97 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=rtcp:16453
a=sendrecv
a=label:1
a=rtcp-rsize
a=ssrc:2731928310 cname:sip:1001@192.0.2.20
a=ptime:20
`

	linphoneOffer = `v=0
o=alice 1235 2044 IN IP4 192.0.2.30
s=Talk
c=IN IP4 192.0.2.30
t=0 0
a=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt,TTL voip-metrics
a=record:off
m=audio 7078 RTP/AVPF 96 97 98 0 8 18 101 99 100
a=rtpmap:96 opus/48000/2
a=fmtp:96 useinbandfec=1
a=rtpmap:97 speex/16000
a=fmtp:97 vbr=on
a=rtpmap:98 speex/8000
a=fmtp:98 vbr=on
a=fmtp:18 annexb=yes
a=rtpmap:101 telephone-event/48000
a=rtpmap:99 telephone-event/16000
a=rtpmap:100 telephone-event/8000
a=rtcp-fb:* trr-int 1000
a=rtcp-fb:* ccm tmmbr
m=video 9078 RTP/AVPF 96
a=rtpmap:96 VP8/90000
`

	chromiumOffer = `v=0
o=- 7614219274584779017 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
a=extmap-allow-mixed
a=msid-semantic: WMS 3bc3b8b3-1e0c-4cd3-a0ba-cf6a6c5b3b35
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:4ZcD
a=ice-pwd:2/1muCWoOi3uLifh0NuRHlM1
a=ice-options:trickle
a=fingerprint:sha-256 19:E2:1C:3B:4B:9F:81:E6:B8:5C:F4:A5:A8:D8:73:04:BB:05:2F:70:9F:04:A9:0E:05:E9:26:33:E8:70:88:A2
a=setup:actpass
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=sendrecv
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:13 CN/8000
a=rtpmap:110 telephone-event/48000
a=rtpmap:126 telephone-event/8000
a=ssrc:3570614608 cname:4TOk42mSjXCkVIa6
`

	// A Chinese carrier's IMS: wide- and narrow-band AMR first, preconditions, several telephone events, bandwidths.
	imsOffer = `v=0
o=HuaweiATS9900 1075643265 1075643265 IN IP4 198.51.100.9
s=Sip Call
c=IN IP4 198.51.100.9
t=0 0
m=audio 31872 RTP/AVP 104 102 8 0 18 105 100
b=AS:80
b=RS:600
b=RR:2000
a=rtpmap:104 AMR-WB/16000/1
a=fmtp:104 mode-change-capability=2;max-red=0
a=rtpmap:102 AMR/8000/1
a=fmtp:102 mode-set=0,2,4,7;octet-align=1
a=rtpmap:8 PCMA/8000/1
a=rtpmap:0 PCMU/8000/1
a=rtpmap:18 G729/8000/1
a=fmtp:18 annexb=no
a=rtpmap:105 telephone-event/16000
a=fmtp:105 0-15
a=rtpmap:100 telephone-event/8000
a=fmtp:100 0-15
a=maxptime:40
a=ptime:20
a=curr:qos local none
a=curr:qos remote none
a=des:qos optional local sendrecv
a=des:qos optional remote sendrecv
a=sendrecv
`

	zteOffer = `v=0
o=ZTE 2890844526 2890844527 IN IP6 2001:db8:1::9
s=phone-call
c=IN IP6 2001:db8:1::9
t=0 0
m=audio 50000/1 RTP/AVP 8 97
a=rtpmap:8 PCMA/8000
a=rtpmap:97 telephone-event/8000
a=fmtp:97 0-15
a=ptime:20
a=rtcp:50001 IN IP6 2001:db8:1::9
a=3gOoBTC
`

	// RFC 4475 §3.1.1.1, "A Short Tortuous INVITE".
	tortuousOffer = `v=0
o=mhandley 29739 7272939 IN IP4 192.0.2.3
s=-
c=IN IP4 192.0.2.4
t=0 0
m=audio 49217 RTP/AVP 0 12
m=video 3227 RTP/AVP 31
a=rtpmap:31 LPC
`

	// RFC 3264 §10.1.
	rfc3264Offer = `v=0
o=alice 2890844526 2890844526 IN IP4 host.anywhere.com
s=
c=IN IP4 192.0.2.40
t=0 0
m=audio 49170 RTP/AVP 0
a=rtpmap:0 PCMU/8000
m=video 51372 RTP/AVP 31
a=rtpmap:31 H261/90000
m=video 53000 RTP/AVP 32
a=rtpmap:32 MPV/90000
`

	srtpThenPlainOffer = `v=0
o=- 20518 1 IN IP4 192.0.2.50
s=-
c=IN IP4 192.0.2.50
t=0 0
m=audio 20000 RTP/SAVP 0 8
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c29tZSBrZXkgdGhhdCBpcyBub3QgYSBrZXkgYXQgYWxs
m=audio 20002 RTP/AVP 0 8
`

	faxOffer = `v=0
o=- 1 2 IN IP4 192.0.2.60
s=-
c=IN IP4 192.0.2.60
t=0 0
m=image 30000 udptl t38
a=T38FaxVersion:0
`
)

// everySample is all of them by name.
func everySample() map[string]string {
	return map[string]string{
		"SIPp": sippOffer, "baresip": baresipOffer, "linphone": linphoneOffer, "Chromium": chromiumOffer, "IMS": imsOffer,
		"ZTE": zteOffer, "RFC 4475": tortuousOffer, "RFC 3264": rfc3264Offer, "SRTP and plain": srtpThenPlainOffer, "fax": faxOffer,
	}
}

// wire turns the line ends above into those of the network.
func wire(text string) []byte { return []byte(strings.ReplaceAll(text, "\n", "\r\n")) }
