// Package wire is the ndferry protocol (spec/WIRE.md) as pure bytes: frames, messages, limits and checksums. It opens no
// socket and starts no goroutine, so the same code serves a blocking client, the server's loop, a test and a fuzzer.
//
//	offset 0     4      5      6         8        12       16      24    28
//	       +-----+------+------+---------+--------+--------+-------+-----+-----+
//	       |magic| kind |flags | handles | stream | length | index | raw | crc |  32 bytes, little-endian
//	       +-----+------+------+---------+--------+--------+-------+-----+-----+
//	       | payload: length bytes                                             |
//	       +--------------------+----------------------------------------------+
//	       | CRC32C of payload  | status |  8 bytes, only when length is not 0
//	       +--------------------+--------+
//
// A reader takes the header, asks [Header.Check] whether the length may be believed, reads the payload straight to where
// it belongs, in pieces that it adds to a checksum with [Update] while they are in the cache, and then compares the trailer.
// [Decoder] does the same over a buffer, for those who have one.
package wire
