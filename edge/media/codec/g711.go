package codec

// Why tables this small: µ-law sees 14 bits of a sample and A-law 12 (G.711 tables 1 and 2, G.191 ulaw_compress and
// alaw_compress), so 16 KiB and 4 KiB give the same octets as one entry per 16-bit sample, and stay in the first-level
// cache next to the rest of the tick.
var (
	ulawDecode = decodeTable(ulawExpand)
	alawDecode = decodeTable(alawExpand)
	ulawEncode = ulawEncodeTable()
	alawEncode = alawEncodeTable()

	// Why decode and encode rather than G.711 tables 3 and 4: a relayed octet is then the same as one that went
	// through a mixer or a recording.
	ulawToAlaw = transcodeTable(ulawExpand, alawCompress)
	alawToUlaw = transcodeTable(alawExpand, ulawCompress)
)

const (
	ulawUnusedBits = 2
	alawUnusedBits = 4
)

// Encode writes one octet to dst for each sample in src and returns how many it wrote: the shorter of the two lengths.
// Samples are 16-bit signed, full scale. Without a codec it writes nothing and returns 0.
func (id ID) Encode(dst []byte, src []int16) int {
	n := min(len(dst), len(src))
	dst, src = dst[:n], src[:n]
	switch id {
	case PCMU:
		for i, s := range src {
			dst[i] = ulawEncode[uint16(s)>>ulawUnusedBits]
		}
	case PCMA:
		for i, s := range src {
			dst[i] = alawEncode[uint16(s)>>alawUnusedBits]
		}
	default:
		return 0
	}
	return n
}

// Decode writes one sample to dst for each octet in src and returns how many it wrote: the shorter of the two lengths.
// Without a codec it writes nothing and returns 0.
func (id ID) Decode(dst []int16, src []byte) int {
	n := min(len(dst), len(src))
	dst, src = dst[:n], src[:n]
	switch id {
	case PCMU:
		for i, b := range src {
			dst[i] = ulawDecode[b]
		}
	case PCMA:
		for i, b := range src {
			dst[i] = alawDecode[b]
		}
	default:
		return 0
	}
	return n
}

// Transcode rewrites src, encoded as from, into dst, encoded as to, and returns how many octets it wrote: the shorter of
// the two lengths. The slices may be the same. Without a codec on either side it writes nothing and returns 0.
func Transcode(dst, src []byte, from, to ID) int {
	if !from.Valid() || !to.Valid() {
		return 0
	}
	n := min(len(dst), len(src))
	dst, src = dst[:n], src[:n]
	switch from {
	case to:
		copy(dst, src)
	case PCMU:
		for i, b := range src {
			dst[i] = ulawToAlaw[b]
		}
	default:
		for i, b := range src {
			dst[i] = alawToUlaw[b]
		}
	}
	return n
}

func decodeTable(expand func(byte) int16) (table [256]int16) {
	for b := range table {
		table[b] = expand(byte(b))
	}
	return table
}

func ulawEncodeTable() (table [1 << (16 - ulawUnusedBits)]byte) {
	for i := range table {
		table[i] = ulawCompress(int16(uint16(i << ulawUnusedBits)))
	}
	return table
}

func alawEncodeTable() (table [1 << (16 - alawUnusedBits)]byte) {
	for i := range table {
		table[i] = alawCompress(int16(uint16(i << alawUnusedBits)))
	}
	return table
}

func transcodeTable(expand func(byte) int16, compress func(int16) byte) (table [256]byte) {
	for b := range table {
		table[b] = compress(expand(byte(b)))
	}
	return table
}

// magnitude is the distance from zero in the one's complement that G.711 counts in, so -1 and 0 are equally near.
func magnitude(s int16) int {
	if s < 0 {
		return int(^s)
	}
	return int(s)
}

// ulawCompress is G.711 table 2 as G.191 computes it: bias by 33 (of 14 bits), find the segment by the leading one, keep
// four bits behind it, send all inverted.
func ulawCompress(s int16) byte {
	const bias, limit = 33, 0x1FFF
	biased := min(magnitude(s)>>ulawUnusedBits+bias, limit)
	segment := 1
	for biased>>(segment+5) != 0 {
		segment++
	}
	code := byte(8-segment)<<4 | byte(0x0F-biased>>segment&0x0F)
	if s >= 0 {
		code |= 0x80
	}
	return code
}

func ulawExpand(b byte) int16 {
	exponent := int(^b >> 4 & 0x07)
	mantissa := int(^b & 0x0F)
	step := 8 << exponent
	level := 0x80<<exponent + step*mantissa + step/2 - 4*33
	if b&0x80 == 0 {
		level = -level
	}
	return int16(level)
}

// alawCompress is G.711 table 1 as G.191 computes it: exponent and mantissa of a 12-bit magnitude, even bits inverted.
func alawCompress(s int16) byte {
	mantissa, exponent := magnitude(s)>>alawUnusedBits, 0
	if mantissa > 15 {
		exponent = 1
		for mantissa > 31 {
			mantissa >>= 1
			exponent++
		}
		mantissa -= 16
	}
	code := byte(exponent<<4 | mantissa)
	if s >= 0 {
		code |= 0x80
	}
	return code ^ 0x55
}

func alawExpand(b byte) int16 {
	code := b ^ 0x55
	exponent := int(code >> 4 & 0x07)
	level := int(code & 0x0F)
	if exponent > 0 {
		level += 16
	}
	level = level<<4 + 8
	if exponent > 1 {
		level <<= exponent - 1
	}
	if b&0x80 == 0 {
		level = -level
	}
	return int16(level)
}
