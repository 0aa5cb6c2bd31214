package main

import "time"

// span is what the bulk clients moved in a time.
type span struct {
	took  time.Duration
	bytes []int64 // by client
}

// measure returns what is moved while f runs.
func (l *load) measure(f func()) span {
	began, s := time.Now(), span{bytes: make([]int64, len(l.moved))}
	for i := range l.moved {
		s.bytes[i] = -l.moved[i].Load()
	}
	f()
	for i := range l.moved {
		s.bytes[i] += l.moved[i].Load()
	}
	s.took = time.Since(began)
	return s
}

// measureAlone measures the bulk clients while nobody else is there.
func (l *load) measureAlone(when string) {
	l.doing("the transfers alone, %s", when)
	length := time.Duration(l.alone * float64(time.Second))
	wait(l.ctx, length/5)
	goodput, jain := l.measure(func() { wait(l.ctx, length) }).sum()
	l.figures["alone_"+when+"_MBps"], l.figures["alone_"+when+"_jain"] = goodput, jain
}

// sum adds the bulk clients up: MB/s and Jain's index of fairness.
func (s span) sum() (goodput, jain float64) {
	var sum, squares float64
	for _, n := range s.bytes {
		sum += float64(n)
		squares += float64(n) * float64(n)
	}
	if sum == 0 {
		return 0, 0
	}
	return sum / s.took.Seconds() / 1e6, sum * sum / (float64(len(s.bytes)) * squares)
}

// sum notes what was moved beside the crowd.
func (l *load) sum(s span) {
	l.figures["counted_s"] = s.took.Seconds()
	goodput, jain := s.sum()
	if goodput == 0 {
		return
	}
	l.figures["goodput_MBps"], l.figures["jain"] = goodput, jain
	l.figures["moved_bytes"] = goodput * 1e6 * s.took.Seconds()
	if alone := (l.figures["alone_before_MBps"] + l.figures["alone_after_MBps"]) / 2; alone > 0 {
		l.figures["of_alone"] = goodput / alone
	}
}
