package codec

import (
	"fmt"
	"time"

	"github.com/klauspost/compress"
)

// Numbers that auto is tuned by.
const (
	sampleLen    = 64 << 10 // bytes of one sample
	maxSamples   = 4        // samples of a chunk or array, spread over it
	bytesASample = 1 << 20  // bytes of an array for each sample but one, so that small arrays pay little
	estimateStep = 4 << 10  // bytes of a plane that are estimated
	hopeless     = 0.05     // klauspost's estimate under which a plane does not compress
	minGain      = 1.05     // ratio under which a codec is not worth its container
	minSpeedup   = 1.05     // time saved under which chunks stay mappable
)

// Rates are what Decide weighs, in raw bytes a second of one goroutine but for
// Link. A zero value means unknown: [DefaultRates] stand in, and for Link a
// slow one.
type Rates struct {
	Link    float64 // bytes a second that the connection carries
	Workers int     // goroutines that encode, and that decode, at once; 0 means 1
	Encode  [Zstd + 1]float64
	Decode  [Zstd + 1]float64
}

// DefaultRates are rates of lz4 at level 5 and zstd at level 1 on one core of
// the machine in docs/benchmarks/codec.md, lowered to its slowest kind of data.
var DefaultRates = Rates{
	Encode: [Zstd + 1]float64{LZ4: 1.2e9, Zstd: 0.4e9},
	Decode: [Zstd + 1]float64{LZ4: 4e9, Zstd: 1e9},
}

// Decision is what auto settled on and why.
type Decision struct {
	Params Params
	Ratio  float64       // raw over encoded bytes of the sample; 1 for None
	Cost   time.Duration // what deciding took
	Why    string        // one sentence for the receipt, without a full stop
}

// trials are the settings that auto chooses from.
var trials = [...]Params{
	{Name: LZ4, Level: 5, Shuffle: ShuffleByte},
	{Name: LZ4, Level: 5, Shuffle: ShuffleNone},
	{Name: LZ4, Level: 5, Shuffle: ShuffleBit},
	{Name: Zstd, Level: 1, Shuffle: ShuffleByte},
	{Name: Zstd, Level: 1, Shuffle: ShuffleNone},
	{Name: Zstd, Level: 1, Shuffle: ShuffleBit},
}

// Decide chooses between no codec and one Blosc setting for all chunks of an
// array of typeSize bytes an element, by encoding samples. sample fills its
// argument with raw bytes of the array from the given offset, a multiple of
// typeSize, on; size is the array's size in bytes. An error of sample is
// returned as it is.
//
// It expects a chunk to take as long as the slowest of encoding, sending and
// decoding, which overlap, and prefers None, whose chunks can be mapped, unless
// a setting saves a twentieth of that. Rates that were measured change where
// that line lies and nothing else.
func Decide(size int64, typeSize int, rates Rates, sample func(dst []byte, offset int64) error) (Decision, error) {
	start := time.Now()
	typeSize, rates = max(typeSize, 1), rates.withDefaults()
	if rates.time(None, 1) < rates.bestTime()*minSpeedup {
		return Decision{
			Params: Params{TypeSize: typeSize}, Ratio: 1, Cost: time.Since(start),
			Why: fmt.Sprintf("the link carries %s, more than any codec would save", perSecond(rates.Link)),
		}, nil
	}
	samples, err := spread(size, typeSize, sample)
	if err != nil {
		return Decision{}, err
	}
	d := decide(samples, typeSize, rates)
	d.Cost = time.Since(start)
	return d, nil
}

// DecideBytes is Decide for an array in memory.
func DecideBytes(raw []byte, typeSize int, rates Rates) Decision {
	d, err := Decide(int64(len(raw)), typeSize, rates, func(dst []byte, offset int64) error {
		copy(dst, raw[offset:])
		return nil
	})
	if err != nil { // copying cannot fail
		panic(err)
	}
	return d
}

// spread reads up to maxSamples samples of whole elements, evenly spread.
func spread(size int64, typeSize int, sample func(dst []byte, offset int64) error) ([][]byte, error) {
	n := min(size, sampleLen)
	n -= n % int64(typeSize)
	if n == 0 {
		return nil, nil
	}
	count := min(int64(maxSamples), size/n, 1+size/bytesASample)
	samples := make([][]byte, count)
	for i := range samples {
		offset := int64(0)
		if count > 1 {
			offset = (size - n) / (count - 1) * int64(i)
		}
		samples[i] = make([]byte, n)
		if err := sample(samples[i], offset-offset%int64(typeSize)); err != nil {
			return nil, err
		}
	}
	return samples, nil
}

func decide(samples [][]byte, typeSize int, rates Rates) Decision {
	none := Decision{Params: Params{TypeSize: typeSize}, Ratio: 1}
	if len(samples) == 0 || len(samples[0]) < minStreamLen {
		none.Why = "too little data to gain from a codec"
		return none
	}
	if constant(samples, typeSize) {
		return Decision{
			Params: Params{Name: LZ4, Level: 5, Shuffle: ShuffleByte, TypeSize: typeSize},
			Ratio:  float64(sampleLen), Why: "every sampled element is the same",
		}
	}
	if !promising(samples, typeSize) {
		none.Why = "no byte of the sampled elements looks compressible"
		return none
	}
	plain := rates.time(None, 1)
	best, bestTime := none, plain/minSpeedup
	for _, p := range trials {
		p.TypeSize = typeSize
		if p.Shuffle == ShuffleByte && (typeSize == 1 || typeSize > MaxTypeSize) || p.Shuffle == ShuffleBit && typeSize > MaxTypeSize {
			continue
		}
		ratio := sampledRatio(samples, p)
		t := rates.time(p.Name, ratio)
		if ratio < minGain || t > bestTime || t == bestTime && ratio <= best.Ratio {
			continue
		}
		best, bestTime = Decision{Params: p, Ratio: ratio}, t
	}
	if best.Params.Name == None {
		best.Why = fmt.Sprintf("no codec saves a twentieth of the time at %s", perSecond(rates.Link))
		return best
	}
	best.Why = fmt.Sprintf("%v with %v shuffle shrinks the sample %.2f times and takes %.0f %% of the time at %s",
		best.Params.Name, best.Params.Shuffle, best.Ratio, 100*bestTime/plain, perSecond(rates.Link))
	return best
}

// withDefaults fills in what was not measured.
func (r Rates) withDefaults() Rates {
	r.Workers = max(r.Workers, 1)
	if r.Link <= 0 {
		r.Link = 1e6
	}
	for n := range r.Encode {
		if r.Encode[n] <= 0 {
			r.Encode[n] = DefaultRates.Encode[n]
		}
		if r.Decode[n] <= 0 {
			r.Decode[n] = DefaultRates.Decode[n]
		}
	}
	return r
}

// time is the seconds that a raw byte takes through encoding, link and
// decoding, which run at the same time.
func (r Rates) time(n Name, ratio float64) float64 {
	t := 1 / (r.Link * ratio)
	if n == None {
		return t
	}
	w := float64(r.Workers)
	return max(t, 1/(r.Encode[n]*w), 1/(r.Decode[n]*w))
}

// bestTime is the time of the fastest codec on data that vanishes.
func (r Rates) bestTime() float64 { return min(r.time(LZ4, 1e9), r.time(Zstd, 1e9)) }

// constant reports whether all elements of all samples are equal.
func constant(samples [][]byte, typeSize int) bool {
	first := samples[0]
	for _, s := range samples {
		if string(s[:typeSize]) != string(first[:typeSize]) || string(s[typeSize:]) != string(s[:len(s)-typeSize]) {
			return false
		}
	}
	return true
}

// promising reports whether any byte plane of the samples, or the samples as
// they are, look compressible. It looks at a part of each, so that noise costs
// little, and at all samples together: an estimate of so few bytes of noise is
// now and then over the line, the mean of several hardly ever.
func promising(samples [][]byte, typeSize int) bool {
	sum := 0.0
	for _, s := range samples {
		sum += compress.Estimate(s[:min(len(s), estimateStep)])
	}
	line := hopeless * float64(len(samples))
	if sum > line {
		return true
	}
	var plane [estimateStep]byte
	for j := 0; typeSize > 1 && j < min(typeSize, MaxTypeSize); j++ {
		sum = 0
		for _, s := range samples {
			n := min(len(s)/typeSize, estimateStep)
			for i := range n {
				plane[i] = s[i*typeSize+j]
			}
			sum += compress.Estimate(plane[:n])
		}
		if sum > line {
			return true
		}
	}
	return false
}

// sampledRatio encodes the samples with p.
func sampledRatio(samples [][]byte, p Params) float64 {
	raw, enc := 0, 0
	var out []byte
	for _, s := range samples {
		var err error
		if out, err = AppendEncode(out[:0], s, p); err != nil {
			return 1
		}
		raw, enc = raw+len(s), enc+len(out)
	}
	return float64(raw) / float64(enc)
}

// perSecond writes a rate in bytes a second for people.
func perSecond(rate float64) string {
	switch {
	case rate >= 1e9:
		return fmt.Sprintf("%.1f GB/s", rate/1e9)
	case rate >= 1e6:
		return fmt.Sprintf("%.0f MB/s", rate/1e6)
	}
	return fmt.Sprintf("%.0f kB/s", rate/1e3)
}
