package transfer

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	"ndferry/client"
	"ndferry/internal/bench"
)

// Round is what one put and get of an array measured.
type Round struct {
	Put    float64 `json:"put"` // seconds until the receipt
	Get    float64 `json:"get"` // seconds until the last chunk is checked
	CPU    float64 `json:"cpu"` // seconds of this process in both
	Ratio  float64 `json:"ratio"`
	Exact  float64 `json:"exact"` // 1: every bit came back
	Peak   float64 `json:"peak"`  // bytes of this process
	Cycles float64 `json:"cycles"`
}

// Values is the round as the runner takes it.
func (r Round) Values() map[string]float64 {
	return map[string]float64{"put": r.Put, "get": r.Get, "cpu": r.CPU, "ratio": r.Ratio, "exact": r.Exact, "peak": r.Peak, "cycles": r.Cycles}
}

// warmups before what is measured: the second finds the memory of what the first has replaced.
const warmups = 2

// Measure connects to a server and puts and gets the array rounds times, after a warm-up, over put.Streams connections. each is called after every round. The array
// is removed at the end.
func Measure(ctx context.Context, addr string, a client.Array, put client.PutOptions, rounds int, each func(Round)) (err error) {
	c, err := client.Dial(ctx, addr, client.Config{})
	if err != nil {
		return err
	}
	defer c.Close()
	id := make([]byte, 6)
	rand.Read(id)
	name := "bench/transfer-" + hex.EncodeToString(id)
	defer func() {
		if c.Err() == nil {
			err = errors.Join(err, ignoreMissing(c.Delete(ctx, name)))
		}
	}()
	into := make([]byte, len(a.Data))
	for i := range warmups + rounds {
		for j := range into {
			into[j] = 0xA5 // what does not come does not compare
		}
		put.ID = [16]byte{}
		before, _ := bench.SelfUsage()
		start := time.Now()
		receipt, err := c.Put(ctx, name, a, put)
		if err != nil {
			return err
		}
		middle := time.Now()
		if _, err := c.Get(ctx, name, client.GetOptions{Into: into, Streams: put.Streams}); err != nil {
			return err
		}
		end := time.Now()
		after, peak := bench.SelfUsage()
		if i < warmups {
			continue
		}
		r := Round{Put: middle.Sub(start).Seconds(), Get: end.Sub(middle).Seconds(), CPU: after - before, Ratio: 1, Peak: float64(peak), Cycles: float64(i + 1)}
		if receipt.StoredBytes > 0 {
			r.Ratio = float64(receipt.Bytes) / float64(receipt.StoredBytes)
		}
		if bytes.Equal(into, a.Data) {
			r.Exact = 1
		}
		each(r)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, client.ErrNotFound) {
		return nil
	}
	return err
}
