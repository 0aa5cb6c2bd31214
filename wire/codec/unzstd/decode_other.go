//go:build !amd64 || purego

package unzstd

func (h *huffman) four(dst, src []byte, quarter int, s *fourStreams) int {
	return h.fourGo(dst, src, quarter, s)
}

func (l *loop) fast(dst, src, lit []byte) bool { return l.sequencesGo(dst, src, lit) }
