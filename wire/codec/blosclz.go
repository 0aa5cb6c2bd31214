package codec

import "errors"

var errBloscLZ = errors.New("truncated, too long or out of its window")

// bloscLZFar is the distance from which a match has a 16 bit extension.
const bloscLZFar = 8191

// decodeBloscLZ decodes a BloscLZ stream, a variant of FastLZ, into dst and
// returns how many bytes it made. A control byte under 32 is followed by one
// literal more than its value. Any other is a match: three bits of length and
// five of distance; length 7 is extended by bytes until one is not 255, then
// comes the low byte of the distance; the farthest distance is followed by a
// big-endian extension of two bytes.
func decodeBloscLZ(dst, src []byte) (int, error) {
	if len(src) == 0 {
		return 0, errBloscLZ
	}
	at, ip := 0, 1
	for ctrl := int(src[0] & 31); ; {
		if ctrl < 32 {
			n := ctrl + 1
			if n > len(dst)-at || n > len(src)-ip {
				return at, errBloscLZ
			}
			copy(dst[at:at+n], src[ip:])
			at, ip = at+n, ip+n
		} else {
			n, dist, next := bloscLZMatch(ctrl, src, ip)
			if next == 0 || n > len(dst)-at || dist > at {
				return at, errBloscLZ
			}
			ip = next
			copyMatch(dst, at, dist, n)
			at += n
		}
		if ip >= len(src) {
			return at, nil
		}
		ctrl = int(src[ip])
		ip++
	}
}

// bloscLZMatch returns length and distance of the match whose control byte is
// ctrl, and the offset behind it, 0 if src ends before.
func bloscLZMatch(ctrl int, src []byte, ip int) (n, dist, next int) {
	n, high := ctrl>>5+2, ctrl&31<<8
	if ctrl>>5 == 7 {
		for more := byte(255); more == 255; ip++ {
			if ip >= len(src) {
				return 0, 0, 0
			}
			more = src[ip]
			n += int(more)
		}
	}
	if ip >= len(src) {
		return 0, 0, 0
	}
	low := int(src[ip])
	ip++
	if low != 255 || high != 31<<8 {
		return n, high + low + 1, ip
	}
	if len(src)-ip < 2 {
		return 0, 0, 0
	}
	return n, int(src[ip])<<8 + int(src[ip+1]) + bloscLZFar + 1, ip + 2
}

// copyMatch copies n bytes from dist before dst[at] to there; they may overlap.
func copyMatch(dst []byte, at, dist, n int) {
	for n > dist {
		copy(dst[at:at+dist], dst[at-dist:at])
		at, n, dist = at+dist, n-dist, 2*dist
	}
	copy(dst[at:at+n], dst[at-dist:])
}
