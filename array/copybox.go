package array

// Box is a dense array in memory: its shape and the order of its axes.
type Box struct {
	Shape Shape
	Order Order // nil: C
	Data  []byte
}

// CopyRegion copies count elements per axis of itemSize bytes from one array to
// another, from and to the given places. It panics when they do not fit.
func CopyRegion(dst Box, to Shape, src Box, from Shape, count Shape, itemSize int) {
	if itemSize == 0 || (Region{Start: from, Count: count}).Elements() == 0 {
		return
	}
	b := box{counts: count}
	b.dstStrides = Grid{shape: dst.Shape}.strides(dst.Order.resolved(len(count)), itemSize)
	b.srcStrides = Grid{shape: src.Shape}.strides(src.Order.resolved(len(count)), itemSize)
	off, at := 0, 0
	for axis := range count {
		off += to[axis] * b.dstStrides[axis]
		at += from[axis] * b.srcStrides[axis]
	}
	b.copy(0, dst.Data, src.Data, off, at, itemSize)
}
