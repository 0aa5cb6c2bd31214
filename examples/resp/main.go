// Command resp is a server of the Redis protocol that knows PING, enough for
//
//	redis-benchmark -p 6380 -t ping_inline,ping_mbulk -P 16
//
// It shows a protocol of one's own on evloop: Data parses what is complete
// and returns how much that was, and all replies of a turn leave in one call.
// The protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
package main

import (
	"bytes"
	"context"
	"flag"
	"log"
	"strconv"

	"ndferry/evloop"
)

type resp struct{ evloop.Base }

// Data answers every complete command.
func (resp) Data(c *evloop.Conn, b []byte) (used int) {
	for used < len(b) {
		name, n, ok := command(b[used:])
		if !ok {
			_, _ = c.Write([]byte("-ERR Protocol error\r\n"))
			c.Close()
			return len(b)
		}
		if n == 0 {
			break
		}
		used += n
		reply := "-ERR unknown command\r\n"
		if bytes.EqualFold(name, []byte("PING")) {
			reply = "+PONG\r\n"
		}
		if _, err := c.Write([]byte(reply)); err != nil {
			break
		}
	}
	return used
}

// command cuts the first command off b: its name, and its length, 0 if it is
// not complete.
func command(b []byte) (name []byte, n int, ok bool) {
	line, n := line(b)
	if n == 0 || len(line) == 0 || line[0] != '*' { // inline: words on a line
		name, _, _ = bytes.Cut(line, []byte(" "))
		return name, n, n > 0 || len(b) < 64<<10
	}
	args, err := strconv.Atoi(string(line[1:]))
	if err != nil || args < 1 || args > 1024 {
		return nil, 0, false
	}
	for i := range args {
		arg, k, ok := bulk(b[n:])
		if k == 0 {
			return nil, 0, ok
		}
		if n += k; i == 0 {
			name = arg
		}
	}
	return name, n, true
}

// bulk cuts "$LENGTH\r\n...\r\n" off b.
func bulk(b []byte) (arg []byte, n int, ok bool) {
	head, n := line(b)
	if n == 0 {
		return nil, 0, len(b) < 32
	}
	size, err := strconv.Atoi(string(bytes.TrimPrefix(head, []byte{'$'})))
	if len(head) == 0 || head[0] != '$' || err != nil || size < 0 || size > 512<<10 {
		return nil, 0, false
	}
	if len(b) < n+size+2 {
		return nil, 0, true
	}
	return b[n : n+size], n + size + 2, true
}

// line returns the first line of b without its ending, and its whole length.
func line(b []byte) ([]byte, int) {
	i := bytes.IndexByte(b, '\n')
	return bytes.TrimSuffix(b[:max(i, 0)], []byte("\r")), i + 1
}

func main() {
	listen := flag.String("listen", "127.0.0.1:6380", "where to listen")
	flag.Parse()
	loop, err := evloop.New(evloop.Config{})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := loop.Listen("tcp", *listen, func() evloop.Handler { return resp{} }); err != nil {
		log.Fatal(err)
	}
	log.Fatal(loop.Run(context.Background()))
}
